/* What the C tests of the kernels share.
 *
 * They are built from all sources of src/ with -DCYMLP_EXPOSE='"PATH/expose.inc.h"', which adds to
 * every (dtype, ISA) a struct of functions over arrays that production code has no table for. */
#ifndef CYMLP_CHECK_H
#define CYMLP_CHECK_H

#include <stdio.h>
#include <string.h>

#include "kernels.h"

typedef void check_map(size_t n, const void *x__n, void *y__n); /* n: a multiple of 16 */

typedef struct check_functions {
    const char *isa;
    check_map *exp, *sigmoid, *tanh, *log, *log1p;
} check_functions;

/* One per ISA that this build has, under the names that table.inc.h gave them. */
#define CHECK_DECLARE(isa) extern const check_functions exposed_f32_##isa, exposed_f64_##isa
CHECK_DECLARE(generic);
#ifdef CYMLP_X86_64
CHECK_DECLARE(avx2);
CHECK_DECLARE(avx512);
#endif
#ifdef CYMLP_AARCH64
CHECK_DECLARE(neon);
#endif

static const check_functions *const check_all[][CYMLP_N_DTYPES] = {
    {&exposed_f32_generic, &exposed_f64_generic},
#ifdef CYMLP_X86_64
    {&exposed_f32_avx2, &exposed_f64_avx2},
    {&exposed_f32_avx512, &exposed_f64_avx512},
#endif
#ifdef CYMLP_AARCH64
    {&exposed_f32_neon, &exposed_f64_neon},
#endif
};

enum { CHECK_N_ISAS = sizeof check_all / sizeof *check_all };

/* The functions by dtype, or NULL where this CPU cannot run them. */
static inline const check_functions *const *check_isa(const char *name) {
    cymlp_isa isas[CYMLP_N_ISAS];
    cymlp_detect_isas(isas);
    for (int i = 0; i < CYMLP_N_ISAS; i++) {
        for (int k = 0; k < CHECK_N_ISAS; k++) {
            if (isas[i].tables && !strcmp(isas[i].name, name) &&
                !strcmp(check_all[k][0]->isa, name)) {
                return check_all[k];
            }
        }
    }
    return NULL;
}

extern int check_failures; /* each test defines it */

/* Counts and prints a failure; the rest is printf's. */
#define CHECK(condition, ...)                                      \
    do {                                                           \
        if (!(condition)) {                                        \
            check_failures++;                                      \
            fprintf(stderr, "%s:%d: FAILED ", __FILE__, __LINE__); \
            fprintf(stderr, __VA_ARGS__);                          \
            fputc('\n', stderr);                                   \
        }                                                          \
    } while (0)

#endif
