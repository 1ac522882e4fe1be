/* exp, sigmoid and tanh of a vector, finite for every finite input but exp's true overflow.
 *
 * Coefficients: S. L. Moshier, Cephes Mathematical Library (expf, exp, tanhf, tanh). */

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

static FORCE_INLINE REAL NAME(vec_sum)(vec v) {
    REAL lane[LANES], sum = 0;
    vec_store(lane, v);
    for (int l = 0; l < LANES; l++) {
        sum += lane[l];
    }
    return sum;
}

/* exp(x) = 2^n exp(r), x = n log 2 + r, |r| <= log(2) / 2. The scale is applied in two halves,
 * since n reaches beyond the exponents of normal numbers on both sides. */
static FORCE_INLINE vec NAME(vec_exp)(vec x) {
#if CYMLP_DOUBLE
    const REAL lowest = -746.0, highest = 710.0;
    const REAL log2_high = 6.93145751953125e-1, log2_low = 1.42860682030941723212e-6;
#else
    const REAL lowest = -104.0f, highest = 89.0f;
    const REAL log2_high = 0.693359375f, log2_low = -2.12194440e-4f;
#endif
    x = vec_min(vec_set1(highest), vec_max(vec_set1(lowest), x)); /* this order keeps a NaN */
    const vec n = vec_round(vec_mul(x, vec_set1((REAL)1.44269504088896341)));
    vec r = vec_fma(n, vec_set1(-log2_high), x);
    r = vec_fma(n, vec_set1(-log2_low), r);
    const vec rr = vec_mul(r, r);
#if CYMLP_DOUBLE
    vec p = vec_set1(1.26177193074810590878e-4);
    p = vec_fma(p, rr, vec_set1(3.02994407707441961300e-2));
    p = vec_fma(p, rr, vec_set1(9.99999999999999999910e-1));
    p = vec_mul(p, r);
    vec q = vec_set1(3.00198505138664455042e-6);
    q = vec_fma(q, rr, vec_set1(2.52448340349684104192e-3));
    q = vec_fma(q, rr, vec_set1(2.27265548208155028766e-1));
    q = vec_fma(q, rr, vec_set1(2.0));
    const vec y = vec_fma(vec_set1(2.0), vec_div(p, vec_sub(q, p)), vec_set1(1.0));
#else
    vec p = vec_set1(1.9875691500e-4f);
    p = vec_fma(p, r, vec_set1(1.3981999507e-3f));
    p = vec_fma(p, r, vec_set1(8.3334519073e-3f));
    p = vec_fma(p, r, vec_set1(4.1665795894e-2f));
    p = vec_fma(p, r, vec_set1(1.6666665459e-1f));
    p = vec_fma(p, r, vec_set1(5.0000001201e-1f));
    const vec y = vec_add(vec_fma(p, rr, r), vec_set1(1.0f));
#endif
    const vec half = vec_round(vec_mul(n, vec_set1((REAL)0.5)));
    return vec_mul(vec_mul(y, vec_pow2(half)), vec_pow2(vec_sub(n, half)));
}

/* Only exponentials of negative numbers: nothing overflows and small results keep their digits. */
static FORCE_INLINE vec NAME(vec_sigmoid)(vec x) {
    const vec one = vec_set1(1);
    const vec e = NAME(vec_exp)(vec_sub(vec_zero(), vec_abs(x)));
    const vec s = vec_div(one, vec_add(one, e));
    return vec_if_less(x, vec_zero(), vec_mul(e, s), s);
}

/* A polynomial near zero, 1 - 2 / (exp(2|x|) + 1) with the sign of x beyond. */
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
    const vec e = NAME(vec_exp)(vec_mul(two, size));
    const vec beyond = vec_sub(one, vec_div(two, vec_add(e, one)));
    return vec_if_less(size, vec_set1((REAL)0.625), near_zero, vec_copysign(beyond, x));
}
