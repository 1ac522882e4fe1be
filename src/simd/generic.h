/* vec_* in plain C, for the dtype chosen by CYMLP_DOUBLE: what every ISA's header must offer.
 * Included once per dtype: no include guard.
 *
 * A vec is 16 bytes of lanes, which compilers turn into the registers that every x86-64 and
 * AArch64 machine has.
 *
 *     vec_fma(a, b, c)              a * b + c, with a rounding in between unless FUSED is 1
 *     vec_max(a, b), vec_min(a, b)  b where either is NaN
 *     vec_round(a)                  to the nearest integer, |a| < 2^22 (float) or 2^51 (double)
 *     vec_copysign(a, b)            |a| with the sign of b
 *     vec_if_less(a, b, yes, no)    yes where a < b, else no
 *     vec_lane(v, l)                lane l of v in all lanes
 *     vec_nonzero(a)                a bit per lane: 1 where it is not 0
 *     vec_pow2(n)                   2^n for integers n of the normal exponent range; one below it
 *                                   0, one above it infinity
 *     vec_exponent(x)               floor(log2 x) for normal x > 0; anything for a NaN
 *     vec_sum(v), vec_largest(v)    of all lanes, halves first; one of them where any is NaN
 *     vec_sums(v)                   vec_sum of each of LANES vectors, whose array may change; if an
 *                                   ISA has none, elementary.inc.h transposes
 *     vec_load_some(p, count, fill), vec_store_some(p, count, v)
 *                                   the first count <= LANES lanes, nothing else is touched
 *     vec_transpose(square)         in place, of LANES vectors
 *     vec_quotient(a, b)            a / b within 1.5 ulp for a normal b with 0 < b <= 2^100, 0 for
 *                                   an infinite one, NaN for a NaN; or a / b itself, where the
 *                                   divider is the faster way
 */

#define TILE_ROWS 4
#define PANEL_VECS 2
#define FOR_EACH_TILE TILES_4_BY_2
#define BLOCK_ROWS 48
#define FUSED 0
#define RUN_VECS 6
#define FOR_EACH_RUN RUNS_OF_6_BY_2
#define LANES (16 / (int)sizeof(REAL))

#ifdef __GNUC__
typedef REAL NAME(lanes) __attribute__((vector_size(16)));
#define LANE_AT(v, l) (v)[l]
#else
typedef struct {
    REAL lane[LANES];
} NAME(lanes);
#define LANE_AT(v, l) (v).lane[l]
#endif
#define LANE(v) LANE_AT(v, l)
#define vec NAME(lanes)

/* Adding 1.5 * 2^(mantissa bits) leaves no bits for a fraction. */
#define ROUND_SHIFT (CYMLP_DOUBLE ? 6755399441055744.0 : 12582912.0)

#define GENERIC_MAP(name, arguments, expression) \
    static inline vec NAME(name) arguments {     \
        vec out;                                 \
        for (int l = 0; l < LANES; l++) {        \
            LANE(out) = (expression);            \
        }                                        \
        return out;                              \
    }

/* Element by element, compilers do not find the registers again: where vectors have operators, the
 * matrix products are twice as fast with them. */
#ifdef __GNUC__
#define GENERIC_OPERATOR(name, operator) \
    static inline vec NAME(name)(vec a, vec b) { return a operator b; }
#else
#define GENERIC_OPERATOR(name, operator) GENERIC_MAP(name, (vec a, vec b), LANE(a) operator LANE(b))
#endif

GENERIC_OPERATOR(vec_add, +)
GENERIC_OPERATOR(vec_sub, -)
GENERIC_OPERATOR(vec_mul, *)
GENERIC_OPERATOR(vec_div, /)

static inline vec NAME(vec_fma)(vec a, vec b, vec c) {
    return NAME(vec_add)(NAME(vec_mul)(a, b), c);
}

static inline vec NAME(vec_load)(const REAL *p) {
    vec out;
    memcpy(&out, p, sizeof out);
    return out;
}

static inline void NAME(vec_store)(REAL *p, vec v) { memcpy(p, &v, sizeof v); }

#ifdef __GNUC__
static inline vec NAME(vec_set1)(REAL x) { return x - (vec){0}; } /* x - 0 is x, signs included */
#else
GENERIC_MAP(vec_set1, (REAL x), x)
#endif
GENERIC_MAP(vec_max, (vec a, vec b), LANE(a) > LANE(b) ? LANE(a) : LANE(b))
GENERIC_MAP(vec_min, (vec a, vec b), LANE(a) < LANE(b) ? LANE(a) : LANE(b))
GENERIC_MAP(vec_if_less, (vec a, vec b, vec yes, vec no), LANE(a) < LANE(b) ? LANE(yes) : LANE(no))
GENERIC_MAP(vec_round, (vec a), (LANE(a) + (REAL)ROUND_SHIFT) - (REAL)ROUND_SHIFT)
GENERIC_MAP(vec_load_some, (const REAL *p, size_t count, REAL fill),
            (size_t)l < count ? p[l] : fill)

#if CYMLP_DOUBLE
#define BITS uint64_t
#define MANTISSA_BITS 52
#define BIAS 1023
#else
#define BITS uint32_t
#define MANTISSA_BITS 23
#define BIAS 127
#endif

#if CYMLP_DOUBLE
GENERIC_MAP(vec_sqrt, (vec a), sqrt(LANE(a)))
GENERIC_MAP(vec_abs, (vec a), fabs(LANE(a)))
GENERIC_MAP(vec_copysign, (vec a, vec b), copysign(LANE(a), LANE(b)))
#else
GENERIC_MAP(vec_sqrt, (vec a), sqrtf(LANE(a)))
GENERIC_MAP(vec_abs, (vec a), fabsf(LANE(a)))
GENERIC_MAP(vec_copysign, (vec a, vec b), copysignf(LANE(a), LANE(b)))
#endif

/* Adding 2^(mantissa bits) to a small integer moves its bits to the end of the mantissa. */
static inline vec NAME(vec_pow2)(vec n) {
    vec out;
    for (int l = 0; l < LANES; l++) {
        const REAL biased = LANE(n) + (REAL)(ROUND_SHIFT + BIAS);
        BITS bits;
        memcpy(&bits, &biased, sizeof bits);
        bits <<= MANTISSA_BITS;
        memcpy((char *)&out + l * sizeof bits, &bits, sizeof bits);
    }
    return out;
}

static inline vec NAME(vec_exponent)(vec x) {
    vec out;
    for (int l = 0; l < LANES; l++) {
        BITS bits;
        memcpy(&bits, (const char *)&x + l * sizeof bits, sizeof bits);
        LANE(out) = (REAL)(int)(bits >> MANTISSA_BITS) - BIAS;
    }
    return out;
}

#define GENERIC_HALVES(name, expression)                    \
    static inline REAL NAME(name)(vec v) {                  \
        REAL lane[LANES];                                   \
        memcpy(lane, &v, sizeof lane);                      \
        for (int half = LANES / 2; half > 0; half /= 2) {   \
            for (int l = 0; l < half; l++) {                \
                const REAL a = lane[l], b = lane[l + half]; \
                lane[l] = (expression);                     \
            }                                               \
        }                                                   \
        return lane[0];                                     \
    }

GENERIC_HALVES(vec_sum, a + b)
GENERIC_HALVES(vec_largest, a > b ? a : b)

static inline void NAME(vec_store_some)(REAL *p, size_t count, vec v) {
    for (int l = 0; l < LANES; l++) {
        if ((size_t)l < count) {
            p[l] = LANE(v);
        }
    }
}

static inline vec NAME(vec_lane)(vec v, size_t lane) { return NAME(vec_set1)(LANE_AT(v, lane)); }

static inline unsigned NAME(vec_nonzero)(vec a) {
    unsigned bits = 0;
    for (int l = 0; l < LANES; l++) {
        bits |= (unsigned)(LANE(a) != 0) << l;
    }
    return bits;
}

static inline void NAME(vec_transpose)(vec square[LANES]) {
    for (int k = 0; k < LANES; k++) {
        for (int l = 0; l < k; l++) {
            const REAL swapped = LANE_AT(square[k], l);
            LANE_AT(square[k], l) = LANE_AT(square[l], k);
            LANE_AT(square[l], k) = swapped;
        }
    }
}

#undef GENERIC_MAP
#undef GENERIC_OPERATOR
#undef LANE
#undef LANE_AT
#undef ROUND_SHIFT
#undef BITS
#undef MANTISSA_BITS
#undef BIAS
#undef GENERIC_HALVES

#define vec_zero() NAME(vec_set1)(0)
#define vec_set1(x) NAME(vec_set1)(x)
#define vec_load(p) NAME(vec_load)(p)
#define vec_load_some(p, count, fill) NAME(vec_load_some)(p, count, fill)
#define vec_store(p, v) NAME(vec_store)(p, v)
#define vec_store_some(p, count, v) NAME(vec_store_some)(p, count, v)
#define vec_add(a, b) NAME(vec_add)(a, b)
#define vec_sub(a, b) NAME(vec_sub)(a, b)
#define vec_mul(a, b) NAME(vec_mul)(a, b)
#define vec_div(a, b) NAME(vec_div)(a, b)
#define vec_fma(a, b, c) NAME(vec_fma)(a, b, c)
#define vec_max(a, b) NAME(vec_max)(a, b)
#define vec_min(a, b) NAME(vec_min)(a, b)
#define vec_sqrt(a) NAME(vec_sqrt)(a)
#define vec_round(a) NAME(vec_round)(a)
#define vec_abs(a) NAME(vec_abs)(a)
#define vec_copysign(a, b) NAME(vec_copysign)(a, b)
#define vec_if_less(a, b, yes, no) NAME(vec_if_less)(a, b, yes, no)
#define vec_pow2(n) NAME(vec_pow2)(n)
#define vec_lane(v, l) NAME(vec_lane)(v, l)
#define vec_nonzero(a) NAME(vec_nonzero)(a)
#define vec_transpose(square) NAME(vec_transpose)(square)
#define vec_quotient(a, b) vec_div(a, b)
#define vec_exponent(x) NAME(vec_exponent)(x)
#define vec_sum(v) NAME(vec_sum)(v)
#define vec_largest(v) NAME(vec_largest)(v)
