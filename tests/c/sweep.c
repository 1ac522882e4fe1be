/* exp, sigmoid and tanh of all 2^32 float32 numbers, for each ISA that this machine runs.
 *
 *     sweep            all of them
 *     sweep STRIDE     every STRIDE-th block of 4096 numbers (a quick look; under an emulator)
 *
 * A result may be at most 2 ulp off the correctly rounded value wherever that is a normal number;
 * where it is not, at most one smallest normal number off. A NaN comes from a NaN and from nothing
 * else. The reference is this machine's last ISA's float64 kernel, which is held against the C
 * library's long double first. Prints a line for each function: ISA, name, the largest error in
 * ulp and where it is. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { BLOCK = 4096, SAMPLES = 1 << 21 };
#define N_BLOCKS ((uint32_t)(((uint64_t)1 << 32) / BLOCK))
#define MAX_ULP 2.0

int check_failures;

static long double exact_sigmoid(long double x) { return 1 / (1 + expl(-x)); }

static const struct tested {
    const char *name;
    size_t offset; /* of its check_map in check_functions */
    long double (*exact)(long double);
    /* What every argument <= low, every one >= high, and 0 must give, and up to which size all give
     * the same as 0 (tanh: themselves), for those are correctly rounded. Saves their references. */
    float low, high, at_low, at_high, small, at_zero;
} tested[] = {
    {"exp", offsetof(check_functions, exp), expl, -104, 89, 0, INFINITY, 0x1p-25f, 1},
    {"sigmoid", offsetof(check_functions, sigmoid), exact_sigmoid, -104, 18, 0, 1, 0x1p-24f, 0.5f},
    {"tanh", offsetof(check_functions, tanh), tanhl, -10, 10, -1, 1, 0x1p-13f, 0},
};

enum { N_TESTED = sizeof tested / sizeof *tested };

static check_map *map_of(const check_functions *functions, const struct tested *f) {
    check_map *map;
    memcpy(&map, (const char *)functions + f->offset, sizeof map);
    return map;
}

/* What the reference is worth: within a thousandth of a float32 ulp of the C library. */
static void check_reference(const check_functions *functions, const struct tested *f) {
    double x[16], y[16], worst = 0;
    for (uint32_t first = 0; first < SAMPLES; first += 16) {
        for (int l = 0; l < 16; l++) {
            const uint32_t bits = (first + l) * (uint32_t)(((uint64_t)1 << 32) / SAMPLES) + 1111;
            float value;
            memcpy(&value, &bits, sizeof value);
            x[l] = isnan(value) ? 0 : (double)value;
        }
        map_of(functions, f)(16, x, y);
        for (int l = 0; l < 16; l++) {
            const long double exact = f->exact(x[l]);
            if (exact >= FLT_MIN || exact <= -FLT_MIN) {
                const double error = isinf(y[l]) && exact > FLT_MAX
                                         ? 0
                                         : (double)fabsl(((long double)y[l] - exact) / exact);
                worst = error > worst ? error : worst;
            }
        }
    }
    CHECK(worst < 4 * DBL_EPSILON, "reference of %s: %g", f->name, worst);
}

/* Whether a block, all numbers of one sign and exponent, lies where results are known, and has
 * them. */
static int is_known(const struct tested *f, const float *x__n, const float *y__n) {
    const float least = fabsf(x__n[0]), most = fabsf(x__n[BLOCK - 1]);
    const int negative = x__n[BLOCK - 1] < 0; /* the first may be a zero */
    int wrong = 0;
    if (most < f->small && f->at_zero == 0) {
        return !memcmp(x__n, y__n, BLOCK * sizeof *x__n);
    }
    const float expected = most < f->small ? f->at_zero : negative ? f->at_low : f->at_high;
    if (most < f->small || (most < INFINITY && least >= (negative ? -f->low : f->high))) {
        for (int j = 0; j < BLOCK; j++) {
            wrong |= y__n[j] != expected;
        }
        return !wrong;
    }
    return 0;
}

/* The largest error of a block in ulp, and where it is. */
static double check_block(const float *x__n, const float *y__n, const double *exact__n, int *at) {
    static _Thread_local double error__n[BLOCK];
    double worst = 0;
    for (int j = 0; j < BLOCK; j++) {
        uint64_t bits;
        double per_binade;
        memcpy(&bits, &exact__n[j], sizeof bits);
        bits = ((uint64_t)2046 << 52) - (bits & (uint64_t)0x7ff << 52);
        memcpy(&per_binade, &bits, sizeof bits); /* -infinity for what is not finite */
        error__n[j] = fabs(((double)y__n[j] - exact__n[j]) * per_binade) * 0x1p23;
    }
    for (int j = 0; j < BLOCK; j++) {
        double error = error__n[j];
        if (!(error <= worst)) { /* or a NaN, and all that is not finite or normal */
            const double exact = exact__n[j], y = (double)y__n[j];
            if (isnan(x__n[j]) || isnan(y)) {
                error = isnan(x__n[j]) && isnan(y) ? 0 : INFINITY;
            } else if (fabs(exact) < (double)FLT_MIN) {
                error = fabs(y - exact) <= (double)FLT_MIN ? 0 : INFINITY;
            } else if (exact > (double)FLT_MAX * (1 + (double)FLT_EPSILON / 4)) { /* to infinity */
                error = y > (double)FLT_MAX ? 0 : INFINITY;
            }
            if (error > worst) {
                worst = error;
                *at = j;
            }
        }
    }
    return worst;
}

static void sweep(const check_functions *functions, const check_functions *wide,
                  const struct tested *f, uint32_t stride) {
    check_map *const map = map_of(functions, f), *const reference = map_of(wide, f);
    double worst = -1;
    float worst_x = 0, worst_y = 0;
#pragma omp parallel
    {
        static _Thread_local float x[BLOCK], y[BLOCK];
        static _Thread_local double wide_x[BLOCK], exact[BLOCK];
        double my_worst = -1;
        float my_x = 0, my_y = 0;
#pragma omp for schedule(dynamic, 64)
        for (uint32_t block = 0; block < N_BLOCKS; block += stride) {
            int at = 0;
            for (uint32_t j = 0; j < BLOCK; j++) {
                const uint32_t bits = block * BLOCK + j;
                memcpy(&x[j], &bits, sizeof bits);
            }
            map(BLOCK, x, y);
            if (is_known(f, x, y)) {
                continue;
            }
            for (int j = 0; j < BLOCK; j++) {
                wide_x[j] = (double)x[j];
            }
            reference(BLOCK, wide_x, exact);
            const double error = check_block(x, y, exact, &at);
            if (error > my_worst) {
                my_worst = error;
                my_x = x[at];
                my_y = y[at];
            }
        }
#pragma omp critical
        if (my_worst > worst) {
            worst = my_worst;
            worst_x = my_x;
            worst_y = my_y;
        }
    }
    printf("%s %s: %.3f ulp at %a\n", functions->isa, f->name, worst, (double)worst_x);
    fflush(stdout);
    CHECK(worst <= MAX_ULP, "%s of %a is %a", f->name, (double)worst_x, (double)worst_y);
}

int main(int argc, char **argv) {
    const long stride = argc > 1 ? strtol(argv[1], NULL, 10) : 1;
    if (argc > 2 || stride < 1 || stride > 1000000) {
        fprintf(stderr, "usage: %s [STRIDE], got %s\n", argv[0], argc > 1 ? argv[1] : "");
        return 2;
    }
    const check_functions *wide = NULL;
    for (int i = 0; i < CHECK_N_ISAS; i++) {
        const check_functions *const *functions = check_isa(check_all[i][0]->isa);
        wide = functions ? functions[CYMLP_FLOAT64] : wide;
    }
    for (int k = 0; k < N_TESTED; k++) {
        check_reference(wide, &tested[k]);
    }
    for (int i = 0; i < CHECK_N_ISAS; i++) {
        const check_functions *const *functions = check_isa(check_all[i][0]->isa);
        if (!functions) {
            printf("%s: not on this machine\n", check_all[i][0]->isa);
        }
        for (int k = 0; functions && k < N_TESTED; k++) {
            sweep(functions[CYMLP_FLOAT32], wide, &tested[k], (uint32_t)stride);
        }
    }
    return check_failures > 0;
}
