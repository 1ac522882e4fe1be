/* vec_* on 512-bit AVX-512 registers (F, DQ, BW, VL), for the dtype chosen by CYMLP_DOUBLE.
 * Included once per dtype: no include guard. See generic.h for the meaning of each operation. */

#define TILE_ROWS 8
#define PANEL_VECS 3
#define FOR_EACH_TILE TILES_8_BY_3
#define BLOCK_ROWS 64
#define FUSED 1
#define RUN_VECS 9
#define FOR_EACH_RUN RUNS_OF_9_BY_3

#if CYMLP_DOUBLE

#define LANES 8
#define vec __m512d
#define vec_zero() _mm512_setzero_pd()
#define vec_set1(x) _mm512_set1_pd(x)
#define vec_load(p) _mm512_loadu_pd(p)
#define vec_store(p, v) _mm512_storeu_pd(p, v)
#define vec_add(a, b) _mm512_add_pd(a, b)
#define vec_sub(a, b) _mm512_sub_pd(a, b)
#define vec_mul(a, b) _mm512_mul_pd(a, b)
#define vec_div(a, b) _mm512_div_pd(a, b)
#define vec_fma(a, b, c) _mm512_fmadd_pd(a, b, c)
#define vec_max(a, b) _mm512_max_pd(a, b)
#define vec_min(a, b) _mm512_min_pd(a, b)
#define vec_sqrt(a) _mm512_sqrt_pd(a)
#define vec_round(a) _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vec_abs(a) _mm512_abs_pd(a)
#define vec_copysign(a, b) \
    _mm512_or_pd(_mm512_andnot_pd(_mm512_set1_pd(-0.0), a), _mm512_and_pd(_mm512_set1_pd(-0.0), b))
#define vec_if_less(a, b, yes, no) \
    _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ), no, yes)
#define vec_load_some(p, count, fill) \
    _mm512_mask_loadu_pd(_mm512_set1_pd(fill), (__mmask8)((1u << (count)) - 1), p)
#define vec_store_some(p, count, v) _mm512_mask_storeu_pd(p, (__mmask8)((1u << (count)) - 1), v)

/* GCC 12 extends a mask in a mask register, and may store no more than its 16 bits: it is moved
 * first. */
static FORCE_INLINE unsigned NAME(vec_nonzero)(vec a) {
    unsigned bits = _mm512_cmp_pd_mask(a, vec_zero(), _CMP_NEQ_UQ);
    SETTLE(bits);
    return bits;
}

static inline vec NAME(vec_lane)(vec v, size_t lane) {
    return _mm512_permutexvar_pd(_mm512_set1_epi64((long long)lane), v);
}

/* The low bits of 1.5 * 2^52 + m are m, for small integers m. */
static inline vec NAME(vec_pow2)(vec n) {
    const vec biased = vec_add(n, vec_set1(0x1.8p52 + 1023));
    return _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(biased), 52));
}

static inline vec NAME(vec_exponent)(vec x) {
    const __m512i biased = _mm512_srli_epi64(_mm512_castpd_si512(x), 52);
    const vec shifted = _mm512_or_pd(_mm512_castsi512_pd(biased), vec_set1(0x1p52));
    return vec_sub(shifted, vec_set1(0x1p52 + 1023));
}

/* Of two halves, again of two halves. */
#define HALVES(operation, v)                                                                       \
    const __m256d quarters =                                                                       \
        _mm256##operation##_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));           \
    __m128d half =                                                                                 \
        _mm##operation##_pd(_mm256_castpd256_pd128(quarters), _mm256_extractf128_pd(quarters, 1)); \
    half = _mm##operation##_sd(half, _mm_unpackhi_pd(half, half));                                 \
    return _mm_cvtsd_f64(half)

static inline REAL NAME(vec_sum)(vec v) { HALVES(_add, v); }

static inline REAL NAME(vec_largest)(vec v) { HALVES(_max, v); }

#undef HALVES

#define vec_quotient(a, b) vec_div(a, b)

/* The sums of both halves of two vectors side by side, then of all quarters, then of all lanes. */
static FORCE_INLINE vec NAME(vec_sums)(vec v[LANES]) {
    vec fours[2];
    UNROLL
    for (int k = 0; k < 2; k++) {
        vec twos[2];
        UNROLL
        for (int l = 0; l < 2; l++) {
            const vec a = v[4 * l + k], b = v[4 * l + k + 2];
            twos[l] = vec_add(_mm512_shuffle_f64x2(a, b, 0x44), _mm512_shuffle_f64x2(a, b, 0xee));
        }
        fours[k] = vec_add(_mm512_shuffle_f64x2(twos[0], twos[1], 0x88),
                           _mm512_shuffle_f64x2(twos[0], twos[1], 0xdd));
    }
    return vec_add(_mm512_unpacklo_pd(fours[0], fours[1]), _mm512_unpackhi_pd(fours[0], fours[1]));
}

/* Pairs of rows, then quarters of them, then the halves. */
static FORCE_INLINE void NAME(vec_transpose)(vec v[LANES]) {
    vec pairs[LANES];
    UNROLL
    for (int k = 0; k < LANES; k += 2) {
        pairs[k] = _mm512_unpacklo_pd(v[k], v[k + 1]);
        pairs[k + 1] = _mm512_unpackhi_pd(v[k], v[k + 1]);
    }
    UNROLL
    for (int k = 0; k < 2; k++) {
        const vec a = _mm512_shuffle_f64x2(pairs[k], pairs[k + 2], 0x88);
        const vec b = _mm512_shuffle_f64x2(pairs[k], pairs[k + 2], 0xdd);
        const vec c = _mm512_shuffle_f64x2(pairs[k + 4], pairs[k + 6], 0x88);
        const vec d = _mm512_shuffle_f64x2(pairs[k + 4], pairs[k + 6], 0xdd);
        v[k] = _mm512_shuffle_f64x2(a, c, 0x88);
        v[k + 2] = _mm512_shuffle_f64x2(b, d, 0x88);
        v[k + 4] = _mm512_shuffle_f64x2(a, c, 0xdd);
        v[k + 6] = _mm512_shuffle_f64x2(b, d, 0xdd);
    }
}

#else

#define LANES 16
#define vec __m512
#define vec_zero() _mm512_setzero_ps()
#define vec_set1(x) _mm512_set1_ps(x)
#define vec_load(p) _mm512_loadu_ps(p)
#define vec_store(p, v) _mm512_storeu_ps(p, v)
#define vec_add(a, b) _mm512_add_ps(a, b)
#define vec_sub(a, b) _mm512_sub_ps(a, b)
#define vec_mul(a, b) _mm512_mul_ps(a, b)
#define vec_div(a, b) _mm512_div_ps(a, b)
#define vec_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vec_max(a, b) _mm512_max_ps(a, b)
#define vec_min(a, b) _mm512_min_ps(a, b)
#define vec_sqrt(a) _mm512_sqrt_ps(a)
#define vec_round(a) _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vec_abs(a) _mm512_abs_ps(a)
#define vec_copysign(a, b)                                   \
    _mm512_or_ps(_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a), \
                 _mm512_and_ps(_mm512_set1_ps(-0.0f), b))
#define vec_if_less(a, b, yes, no) \
    _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes)
#define vec_load_some(p, count, fill) \
    _mm512_mask_loadu_ps(_mm512_set1_ps(fill), (__mmask16)((1u << (count)) - 1), p)
#define vec_store_some(p, count, v) _mm512_mask_storeu_ps(p, (__mmask16)((1u << (count)) - 1), v)

static FORCE_INLINE unsigned NAME(vec_nonzero)(vec a) {
    unsigned bits = _mm512_cmp_ps_mask(a, vec_zero(), _CMP_NEQ_UQ);
    SETTLE(bits);
    return bits;
}

static inline vec NAME(vec_lane)(vec v, size_t lane) {
    return _mm512_permutexvar_ps(_mm512_set1_epi32((int)lane), v);
}

static inline vec NAME(vec_pow2)(vec n) {
    const vec biased = vec_add(n, vec_set1(0x1.8p23f + 127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(biased), 23));
}

static inline vec NAME(vec_exponent)(vec x) {
    const __m512i biased = _mm512_srli_epi32(_mm512_castps_si512(x), 23);
    const vec shifted = _mm512_or_ps(_mm512_castsi512_ps(biased), vec_set1(0x1p23f));
    return vec_sub(shifted, vec_set1(0x1p23f + 127));
}

#define HALVES(operation, v)                                                                       \
    const __m256 quarters =                                                                        \
        _mm256##operation##_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));           \
    __m128 half =                                                                                  \
        _mm##operation##_ps(_mm256_castps256_ps128(quarters), _mm256_extractf128_ps(quarters, 1)); \
    half = _mm##operation##_ps(half, _mm_movehl_ps(half, half));                                   \
    half = _mm##operation##_ss(half, _mm_movehdup_ps(half));                                       \
    return _mm_cvtss_f32(half)

static inline REAL NAME(vec_sum)(vec v) { HALVES(_add, v); }

static inline REAL NAME(vec_largest)(vec v) { HALVES(_max, v); }

#undef HALVES

/* A reciprocal of 14 bits, and one of Newton's steps for the quotient. The bound is for infinity,
 * whose reciprocal is zero. */
static FORCE_INLINE vec NAME(vec_quotient)(vec a, vec b) {
    const vec r = _mm512_rcp14_ps(b), q = vec_mul(a, r);
    return _mm512_fmadd_ps(r, _mm512_fnmadd_ps(vec_min(vec_set1(0x1p100f), b), q, a), q);
}
#define vec_quotient(a, b) NAME(vec_quotient)(a, b)

/* The sums of both halves of two vectors side by side, then of all quarters, then of all pairs of
 * lanes, then of all lanes. */
static FORCE_INLINE vec NAME(vec_sums)(vec v[LANES]) {
    vec eights[2];
    UNROLL
    for (int j = 0; j < 2; j++) {
        vec fours[2];
        UNROLL
        for (int k = 0; k < 2; k++) {
            vec twos[2];
            UNROLL
            for (int l = 0; l < 2; l++) {
                const vec a = v[8 * l + 2 * j + k], b = v[8 * l + 2 * j + k + 4];
                twos[l] =
                    vec_add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
            }
            fours[k] = vec_add(_mm512_shuffle_f32x4(twos[0], twos[1], 0x88),
                               _mm512_shuffle_f32x4(twos[0], twos[1], 0xdd));
        }
        const __m512d a = _mm512_castps_pd(fours[0]), b = _mm512_castps_pd(fours[1]);
        eights[j] = vec_add(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                            _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    return vec_add(_mm512_shuffle_ps(eights[0], eights[1], _MM_SHUFFLE(2, 0, 2, 0)),
                   _mm512_shuffle_ps(eights[0], eights[1], _MM_SHUFFLE(3, 1, 3, 1)));
}

/* Pairs of rows, then pairs of pairs, then quarters, then the halves. */
static FORCE_INLINE void NAME(vec_transpose)(vec v[LANES]) {
    vec fours[LANES];
    UNROLL
    for (int k = 0; k < LANES; k += 4) {
        const vec a = _mm512_unpacklo_ps(v[k], v[k + 1]), b = _mm512_unpackhi_ps(v[k], v[k + 1]);
        const vec c = _mm512_unpacklo_ps(v[k + 2], v[k + 3]);
        const vec d = _mm512_unpackhi_ps(v[k + 2], v[k + 3]);
        fours[k] = _mm512_shuffle_ps(a, c, _MM_SHUFFLE(1, 0, 1, 0));
        fours[k + 1] = _mm512_shuffle_ps(a, c, _MM_SHUFFLE(3, 2, 3, 2));
        fours[k + 2] = _mm512_shuffle_ps(b, d, _MM_SHUFFLE(1, 0, 1, 0));
        fours[k + 3] = _mm512_shuffle_ps(b, d, _MM_SHUFFLE(3, 2, 3, 2));
    }
    UNROLL
    for (int k = 0; k < 4; k++) {
        const vec a = _mm512_shuffle_f32x4(fours[k], fours[k + 4], 0x88);
        const vec b = _mm512_shuffle_f32x4(fours[k], fours[k + 4], 0xdd);
        const vec c = _mm512_shuffle_f32x4(fours[k + 8], fours[k + 12], 0x88);
        const vec d = _mm512_shuffle_f32x4(fours[k + 8], fours[k + 12], 0xdd);
        v[k] = _mm512_shuffle_f32x4(a, c, 0x88);
        v[k + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        v[k + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        v[k + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

#endif

#define vec_transpose(square) NAME(vec_transpose)(square)
#define vec_lane(v, l) NAME(vec_lane)(v, l)
#define vec_pow2(n) NAME(vec_pow2)(n)
#define vec_exponent(x) NAME(vec_exponent)(x)
#define vec_nonzero(a) NAME(vec_nonzero)(a)
#define vec_sum(v) NAME(vec_sum)(v)
#define vec_sums(v) NAME(vec_sums)(v)
#define vec_largest(v) NAME(vec_largest)(v)
