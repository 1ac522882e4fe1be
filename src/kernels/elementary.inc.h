/* exp, log, sigmoid and tanh of a vector: a NaN stays a NaN, no finite input gives one.
 *
 * Polynomials are minimax, found by Remez's algorithm in 50 digits: their relative error is
 * for exp(r) - 1 1.4e-8 (float) and 2.2e-17 (double), for log1p 4.6e-9 and 1.4e-18. */

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

/* exp(x) = 2^n exp(r), x = n log 2 + r and 0 <= r < log 2. Since 1 <= exp(r) < 2, the power of two
 * is a normal number where the result is; for smaller results it is 0, for larger ones infinity.
 * x may lie one binade beyond either end, no further. */
static FORCE_INLINE vec NAME(vec_exp_within)(vec x) {
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
    const vec n = vec_round(vec_fma(x, vec_set1((REAL)1.44269504088896341), vec_set1((REAL)-0.5)));
    /* r = high + low; only terms of second order see the rounding of that sum. */
    const vec high = vec_fma(n, vec_set1(-LOG2_HIGH), x), low = vec_mul(n, vec_set1(-LOG2_LOW));
    const vec r = vec_add(high, low);
    const vec p = NAME(vec_polynomial)(r, c, sizeof c / sizeof *c);
    const vec above_1 = vec_add(high, vec_fma(p, vec_mul(r, r), low)), scale = vec_pow2(n);
    return vec_fma(scale, above_1, scale);
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

/* log(x) for EPSILON <= x. */
static FORCE_INLINE vec NAME(vec_log)(vec x) {
    const vec n = vec_exponent(vec_mul(x, vec_set1((REAL)1.41421356237309505)));
    /* x / 2^n lies around 1; in two factors, since 2^-n may be no normal number. */
    const vec part = vec_mul(x, vec_pow2(vec_sub(vec_set1(2), n)));
    const vec f = vec_fma(part, vec_set1((REAL)0.25), vec_set1(-1));
    const vec high = vec_mul(n, vec_set1(LOG2_HIGH));
    return vec_add(high, vec_fma(n, vec_set1(LOG2_LOW), NAME(vec_log1p)(f)));
}
