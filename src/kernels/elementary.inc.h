/* exp, log, sigmoid, tanh and their kin of a vector: a NaN stays a NaN, no finite input gives one.
 *
 * Polynomials are minimax, found by Remez's algorithm in 50 digits: their relative error is
 * for exp(r) - 1 1.4e-8 (float) and 2.2e-17 (double), for log1p 4.6e-9 and 1.4e-18, for
 * Mills's ratio 6.7e-9 and 9.8e-19. */

/* n elements from offset j on, LANES at a time; `some` says how many of them remain. */
#define FOR_EACH_VEC(j, some, n) \
    for (size_t j = 0, some; j < (n) && (some = (n) - j < LANES ? (n) - j : LANES, 1); j += LANES)

static FORCE_INLINE vec NAME(load_up_to)(const REAL *p, size_t count, REAL fill) {
    return count == LANES ? vec_load(p) : vec_load_some(p, count, fill);
}

static FORCE_INLINE void NAME(store_up_to)(REAL *p, size_t count, vec v) {
    if (count == LANES) {
        vec_store(p, v);
    } else {
        vec_store_some(p, count, v);
    }
}

#ifndef vec_sums
static FORCE_INLINE vec NAME(vec_sums)(vec v[LANES]) {
    vec_transpose(v);
    UNROLL
    for (int half = LANES / 2; half > 0; half /= 2) {
        UNROLL
        for (int l = 0; l < half; l++) {
            v[l] = vec_add(v[l], v[l + half]);
        }
    }
    return v[0];
}
#define vec_sums(v) NAME(vec_sums)(v)
#endif

/* The total over n elements of TERM(sum, j, some), a vector's at offset j and a sum before it. Each
 * of four neighbours has a sum of its own, which need not wait for theirs. */
#define ROW_SUM(total, n, TERM)                                                            \
    do {                                                                                   \
        vec sum_of[4] = {vec_zero(), vec_zero(), vec_zero(), vec_zero()};                  \
        const size_t whole = (n) - (n) % (4 * LANES);                                      \
        for (size_t j = 0; j < whole; j += 4 * LANES) {                                    \
            UNROLL                                                                         \
            for (size_t v = 0; v < 4; v++) {                                               \
                sum_of[v] = TERM(sum_of[v], j + v * LANES, LANES);                         \
            }                                                                              \
        }                                                                                  \
        FOR_EACH_VEC(j, some, (n) - whole) {                                               \
            sum_of[0] = TERM(sum_of[0], whole + j, some);                                  \
        }                                                                                  \
        sum_of[0] = vec_add(vec_add(sum_of[0], sum_of[1]), vec_add(sum_of[2], sum_of[3])); \
        (total) = vec_sum(sum_of[0]);                                                      \
    } while (0)

/* log 2 in two parts (W. J. Cody and W. Waite, Software manual for the elementary functions, 1980):
 * the first has so few bits that its product with any exponent is exact. */
#define LOG2_HIGH ((REAL)6.93145751953125e-1)
#define LOG2_LOW ((REAL)1.42860682030941723212e-6)

/* The polynomial with n coefficients c, the constant one first. */
static FORCE_INLINE vec NAME(vec_polynomial)(vec x, const REAL *c, int n) {
    vec p = vec_set1(c[n - 1]);
    for (int i = n - 2; i >= 0; i--) {
        p = vec_fma(p, x, vec_set1(c[i]));
    }
    return p;
}

/* The n of x = n log 2 + r with 0 <= r < log 2. */
static FORCE_INLINE vec NAME(vec_binade)(vec x) {
    return vec_round(vec_fma(x, vec_set1((REAL)1.44269504088896341), vec_set1((REAL)-0.5)));
}

/* exp(r) - 1 with r = x - n LOG2_HIGH + low, where low is small: -n LOG2_LOW and what x lacks. */
static FORCE_INLINE vec NAME(vec_exp_above_1)(vec x, vec n, vec low) {
#if CYMLP_DOUBLE
    static const REAL c[] = {
        0.49999999999999511312,   0.16666666666701675104,   0.041666666658020503877,
        0.0083333334386553810814, 0.0013888881544727801864, 0.00019841585326756782248,
        2.4792965450789134487e-5, 2.7707214257437793496e-6, 2.5961518276885293074e-7,
        3.4372979943103187246e-8,
    };
#else
    static const REAL c[] = {
        0.5000009201031761268f,    0.1666473966855746709f,    0.041795947151922305495f,
        0.0079608869271571683175f, 0.0018613227699249832759f,
    };
#endif
    /* Only terms of second order see the rounding of r. */
    const vec high = vec_fma(n, vec_set1(-LOG2_HIGH), x), r = vec_add(high, low);
    const vec p = NAME(vec_polynomial)(r, c, sizeof c / sizeof *c);
    return vec_add(high, vec_fma(p, vec_mul(r, r), low));
}

/* exp(x) = 2^n exp(r). Since 1 <= exp(r) < 2, the power of two is a normal number where the result
 * is; for smaller results it is 0, for larger ones infinity. x may lie one binade beyond either
 * end, no further. */
static FORCE_INLINE vec NAME(vec_exp_within)(vec x) {
    const vec n = NAME(vec_binade)(x), scale = vec_pow2(n);
    return vec_fma(scale, NAME(vec_exp_above_1)(x, n, vec_mul(n, vec_set1(-LOG2_LOW))), scale);
}

/* An argument of the first binade whose exp is taken as zero. */
#define LOWEST (-(REAL)(CYMLP_DOUBLE ? 709 : 88))

/* Zero instead of any denormal result. */
static FORCE_INLINE vec NAME(vec_exp)(vec x) {
    const REAL highest = CYMLP_DOUBLE ? 710 : 89;                 /* infinity */
    x = vec_min(vec_set1(highest), vec_max(vec_set1(LOWEST), x)); /* keeps a NaN */
    return NAME(vec_exp_within)(x);
}

/* exp(-|x|) */
static FORCE_INLINE vec NAME(vec_decay)(vec x) {
    x = vec_max(vec_set1(LOWEST), vec_sub(vec_zero(), vec_abs(x)));
    return NAME(vec_exp_within)(x);
}

/* 1 / (1 + exp(-x)), given e = exp(-|x|), as b - b e / (1 + e), where b is 1 or, for a negative x,
 * e: of the errors of a sum and a quotient, small results see but a small part. */
static FORCE_INLINE vec NAME(vec_sigmoid_of_decay)(vec x, vec e) {
    const vec b = vec_if_less(x, vec_zero(), e, vec_set1(1));
    return vec_fma(b, vec_div(e, vec_sub(vec_set1(-1), e)), b);
}

static FORCE_INLINE vec NAME(vec_sigmoid)(vec x) {
    return NAME(vec_sigmoid_of_decay)(x, NAME(vec_decay)(x));
}

/* 1 - exp(-x) for x >= 0, as q / (1 + q) with q = exp(x) - 1: nothing cancels. */
static FORCE_INLINE vec NAME(vec_rise)(vec x) {
    x = vec_min(vec_set1(44), x); /* where the bound counts, the result has long been 1 */
    const vec n = NAME(vec_binade)(x), scale = vec_pow2(n), one = vec_set1(1);
    const vec above_1 = NAME(vec_exp_above_1)(x, n, vec_mul(n, vec_set1(-LOG2_LOW)));
    const vec q = vec_fma(scale, above_1, vec_sub(scale, one));
    return vec_div(q, vec_add(one, q));
}

/* 2^16 exp(-size) for size >= 0: a normal number wherever size exp(-size) is one. */
static FORCE_INLINE vec NAME(vec_raised_decay)(vec size) {
    const vec x = vec_max(vec_set1(LOWEST - 11), vec_sub(vec_zero(), size));
    const vec n = NAME(vec_binade)(x), scale = vec_pow2(vec_add(n, vec_set1(16)));
    return vec_fma(scale, NAME(vec_exp_above_1)(x, n, vec_mul(n, vec_set1(-LOG2_LOW))), scale);
}

/* z where it is positive, z exp(-|z|) where it is not. */
static FORCE_INLINE vec NAME(vec_lowered)(vec z, vec raised_decay, vec lower) {
    return vec_if_less(z, vec_zero(), vec_mul(lower, vec_mul(z, raised_decay)), z);
}

/* z / (1 + exp(-v)), where v has the sign of z and this size; as in vec_sigmoid_of_decay. */
static FORCE_INLINE vec NAME(vec_gated)(vec z, vec size) {
    const vec raised = NAME(vec_raised_decay)(size), lower = vec_set1((REAL)0x1p-16);
    const vec e = vec_mul(lower, raised), t = NAME(vec_lowered)(z, raised, lower);
    return vec_fma(t, vec_div(e, vec_sub(vec_set1(-1), e)), t);
}

/* Its derivative by z, given z v'(z). */
static FORCE_INLINE vec NAME(vec_gated_slope)(vec z, vec size, vec z_slope) {
    const vec e = NAME(vec_decay)(size), one = vec_set1(1), sum = vec_add(one, e);
    const vec b = vec_if_less(z, vec_zero(), e, one);
    return vec_div(vec_fma(z_slope, e, vec_mul(b, sum)), vec_mul(sum, sum));
}

#define LINEAR ((REAL)1.59576912160573071176)
#define CUBIC ((REAL)0.0713548162726002487764)

/* In gelu_tanh v = 2 sqrt(2 / pi) (z + 0.044715 z^3). Where the bound counts, exp(-v) is zero. */
static FORCE_INLINE vec NAME(vec_cubic)(vec z, REAL cubic) {
    const vec x = vec_min(vec_set1(22), vec_abs(z));
    return vec_mul(x, vec_fma(vec_set1(cubic), vec_mul(x, x), vec_set1(LINEAR)));
}

static FORCE_INLINE vec NAME(vec_gelu_tanh)(vec z) {
    return NAME(vec_gated)(z, NAME(vec_cubic)(z, CUBIC));
}

static FORCE_INLINE vec NAME(vec_gelu_tanh_slope)(vec z) {
    const vec z_slope = vec_copysign(NAME(vec_cubic)(z, 3 * CUBIC), z);
    return NAME(vec_gated_slope)(z, NAME(vec_cubic)(z, CUBIC), z_slope);
}

/* z tanh(log(1 + exp(z))) = z b n / (n + rest), polynomials in e = exp(-|z|). */
static FORCE_INLINE vec NAME(vec_mish)(vec z) {
    const vec raised = NAME(vec_raised_decay)(vec_abs(z)), lower = vec_set1((REAL)0x1p-16);
    const vec e = vec_mul(lower, raised), t = NAME(vec_lowered)(z, raised, lower); /* z b */
    const vec b = vec_if_less(z, vec_zero(), e, vec_set1(1));
    const vec c = vec_if_less(z, vec_zero(), vec_set1(1), e);
    const vec n = vec_fma(vec_set1(2), c, b), rest = vec_mul(e, vec_add(e, c));
    return vec_sub(t, vec_mul(t, vec_div(rest, vec_add(n, rest))));
}

/* Its derivative, b n / d + 4 z e (1 + e) c / d^2 with d = n + rest. */
static FORCE_INLINE vec NAME(vec_mish_slope)(vec z) {
    const vec e = NAME(vec_decay)(z), one = vec_set1(1);
    const vec b = vec_if_less(z, vec_zero(), e, one), c = vec_if_less(z, vec_zero(), one, e);
    const vec n = vec_fma(vec_set1(2), c, b), d = vec_fma(e, vec_add(e, c), n);
    const vec k = vec_mul(vec_mul(vec_set1(4), e), vec_mul(c, vec_add(one, e)));
    return vec_div(vec_fma(z, k, vec_mul(vec_mul(b, n), d)), vec_mul(d, d));
}

/* Where exp(-x^2 / 2) is below the normal range, and for vec_exp_within not too far. */
#define FURTHEST ((REAL)(CYMLP_DOUBLE ? 37.65 : 13.26))

/* exp(-x^2 / 2) for 0 <= x <= FURTHEST. Half the bits of x have an exact square (W. J. Cody,
 * "Rational Chebyshev approximations for the error function", 1969). */
static FORCE_INLINE vec NAME(vec_bell)(vec x) {
    const vec minus_half = vec_set1((REAL)-0.5);
#if FUSED
    const vec half = vec_mul(minus_half, x), high = vec_mul(half, x);
    const vec rest = vec_fma(half, x, vec_sub(vec_zero(), high)); /* exact */
    const vec n = NAME(vec_binade)(high), scale = vec_pow2(n);
#else
    /* A number next to this one is a multiple of 2^-20 (double) or 2^-8. */
    const vec shift = vec_set1((REAL)(CYMLP_DOUBLE ? 0x1.8p32 : 0x1.8p15));
    const vec coarse = vec_sub(vec_add(x, shift), shift), half = vec_mul(minus_half, coarse);
    const vec high = vec_mul(half, coarse);
    const vec rest = vec_mul(vec_sub(x, coarse), vec_fma(minus_half, x, half));
    const vec n = NAME(vec_binade)(vec_add(high, rest)), scale = vec_pow2(n);
#endif
    const vec low = vec_fma(n, vec_set1(-LOG2_LOW), rest);
    return vec_fma(scale, NAME(vec_exp_above_1)(high, n, low), scale);
}

/* The upper tail of the normal distribution over exp(-x^2 / 2), for 0 <= x <= FURTHEST: Mills's
 * ratio over the root of 2 pi. It is (1 + x p / q) / (2 + x sqrt(2 pi)), where the quotient is
 * small, so that the errors of p and q count little. All terms are positive. */
static FORCE_INLINE vec NAME(vec_mills)(vec x) {
#if CYMLP_DOUBLE
    static const REAL p_of[] = {
        0.4554295765126350686084,   0.6329213013289075964454,    0.4366361897942878601363,
        0.1923873831080847265492,   0.05911541096190537128831,   0.01308468337540249210549,
        0.002085948980153815234569, 0.0002317569366522111685669, 0.0000164137737332777297127,
        5.737308244515631218922e-7,
    };
    static const REAL q_of[] = {
        1,
        2.487588333643250960099,
        2.897780197613056293559,
        2.091099977233843655003,
        1.041268755769845393222,
        0.3768101809613655499876,
        0.1014855302188846545344,
        0.02043420842608203374256,
        0.003031792129732733550103,
        0.0003180955102052371284612,
        0.00002147282893773282661528,
        7.1906495330116292331e-7,
    };
#else
    static const REAL p_of[] = {
        0.4554299949182714269169f,
        0.2916283709125055267899f,
        0.08499851066073655655229f,
        0.0112284510057439474405f,
    };
    static const REAL q_of[] = {
        1,
        1.738218045243239713563f,
        1.302872206808839067868f,
        0.5361257117102799695468f,
        0.1241185278088345963678f,
        0.01407386139955891898722f,
    };
#endif
    const vec p = NAME(vec_polynomial)(x, p_of, sizeof p_of / sizeof *p_of);
    const vec q = NAME(vec_polynomial)(x, q_of, sizeof q_of / sizeof *q_of);
    const vec base = vec_fma(x, vec_set1((REAL)2.50662827463100050242), vec_set1(2));
    return vec_div(vec_fma(x, p, q), vec_mul(q, base));
}

/* z Phi(z) with the normal distribution function Phi: max(z, 0) - |z| Phi(-|z|). */
static FORCE_INLINE vec NAME(vec_gelu)(vec z) {
    const vec x = vec_min(vec_set1(FURTHEST), vec_abs(z));
    const vec tail = vec_mul(vec_mul(x, NAME(vec_mills)(x)), NAME(vec_bell)(x));
    return vec_sub(vec_max(vec_zero(), z), tail);
}

/* Its derivative, Phi(z) + z phi(z). */
static FORCE_INLINE vec NAME(vec_gelu_slope)(vec z) {
    const vec x = vec_min(vec_set1(FURTHEST), vec_abs(z));
    const vec density = vec_set1((REAL)-0.398942280401432677940); /* -phi(0) */
    const vec left = vec_mul(NAME(vec_bell)(x), vec_fma(density, x, NAME(vec_mills)(x)));
    return vec_if_less(z, vec_zero(), left, vec_sub(vec_set1(1), left));
}

/* A polynomial near zero (S. L. Moshier, Cephes Mathematical Library: tanhf, tanh), beyond it
 * 1 - 2 / (exp(2|x|) + 1) with the sign of x. */
static FORCE_INLINE vec NAME(vec_tanh)(vec x) {
    const vec one = vec_set1(1), two = vec_set1(2);
    const vec xx = vec_mul(x, x), size = vec_abs(x);
#if CYMLP_DOUBLE
    vec p = vec_set1(-9.64399179425052238628e-1);
    p = vec_fma(p, xx, vec_set1(-9.92877231001918586564e1));
    p = vec_fma(p, xx, vec_set1(-1.61468768441708447952e3));
    vec q = vec_add(xx, vec_set1(1.12811678491632931402e2));
    q = vec_fma(q, xx, vec_set1(2.23548839060100448583e3));
    q = vec_fma(q, xx, vec_set1(4.84406305325125486048e3));
    const vec near_zero = vec_fma(vec_mul(x, xx), vec_div(p, q), x);
#else
    vec p = vec_set1(-5.70498872745e-3f);
    p = vec_fma(p, xx, vec_set1(2.06390887954e-2f));
    p = vec_fma(p, xx, vec_set1(-5.37397155531e-2f));
    p = vec_fma(p, xx, vec_set1(1.33314422036e-1f));
    p = vec_fma(p, xx, vec_set1(-3.33332819422e-1f));
    const vec near_zero = vec_fma(vec_mul(x, xx), p, x);
#endif
    /* Where the bound counts, the result has long been 1. */
    const vec e = NAME(vec_exp_within)(vec_min(vec_set1(44), vec_mul(two, size)));
    const vec beyond = vec_sub(one, vec_div(two, vec_add(e, one)));
    return vec_if_less(size, vec_set1((REAL)0.625), near_zero, vec_copysign(beyond, x));
}

/* log(1 + f) for -0.3 <= f <= 1. With s = f / (2 + f) it is 2 atanh(s) = 2 s + s^3 P(s^2), where
 * 2 s = f - s f: written so, the rounding of s counts little where f is small. */
static FORCE_INLINE vec NAME(vec_log1p)(vec f) {
#if CYMLP_DOUBLE
    static const REAL c[] = {
        0.66666666666666303725, 0.40000000000157262964, 0.28571428547851909965,
        0.22222223969830694205, 0.18181743921997587506, 0.15386559976040053904,
        0.13300972989000027049, 0.12106090341426514502, 0.083400859534361862175,
        0.17018600572241888044,
    };
#else
    static const REAL c[] = {
        0.66666413124619977185f,
        0.40021699386799228596f,
        0.27999136931646246729f,
        0.28024475707884096611f,
    };
#endif
    const vec s = vec_div(f, vec_add(f, vec_set1(2)));
    const vec z = vec_mul(s, s);
    const vec p = vec_mul(z, NAME(vec_polynomial)(z, c, sizeof c / sizeof *c));
    return vec_sub(f, vec_mul(s, vec_sub(f, p)));
}

/* log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)) */
static FORCE_INLINE vec NAME(vec_softplus)(vec x) {
    return vec_add(vec_max(vec_zero(), x), NAME(vec_log1p)(NAME(vec_decay)(x)));
}

/* log(x) for EPSILON <= x. */
static FORCE_INLINE vec NAME(vec_log)(vec x) {
    const vec n = vec_exponent(vec_mul(x, vec_set1((REAL)1.41421356237309505)));
    /* x / 2^n lies around 1; in two factors, since 2^-n may be no normal number. */
    const vec part = vec_mul(x, vec_pow2(vec_sub(vec_set1(2), n)));
    const vec f = vec_fma(part, vec_set1((REAL)0.25), vec_set1(-1));
    const vec high = vec_mul(n, vec_set1(LOG2_HIGH));
    return vec_add(high, vec_fma(n, vec_set1(LOG2_LOW), NAME(vec_log1p)(f)));
}
