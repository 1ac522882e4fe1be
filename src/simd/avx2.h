/* vec_* on 256-bit AVX2 + FMA registers, for the dtype chosen by CYMLP_DOUBLE.
 * Included once per dtype: no include guard. See generic.h for the meaning of each operation. */

#define TILE_ROWS 6
#define PANEL_VECS 2
#define FOR_EACH_TILE TILES_6_BY_2
#define BLOCK_ROWS 48
#define FUSED 1
#define RUN_VECS 10
#define FOR_EACH_RUN RUNS_OF_10_BY_2

#if CYMLP_DOUBLE

#define LANES 4
#define vec __m256d
#define vec_zero() _mm256_setzero_pd()
#define vec_set1(x) _mm256_set1_pd(x)
#define vec_load(p) _mm256_loadu_pd(p)
#define vec_store(p, v) _mm256_storeu_pd(p, v)
#define vec_add(a, b) _mm256_add_pd(a, b)
#define vec_sub(a, b) _mm256_sub_pd(a, b)
#define vec_mul(a, b) _mm256_mul_pd(a, b)
#define vec_div(a, b) _mm256_div_pd(a, b)
#define vec_fma(a, b, c) _mm256_fmadd_pd(a, b, c)
#define vec_max(a, b) _mm256_max_pd(a, b)
#define vec_min(a, b) _mm256_min_pd(a, b)
#define vec_sqrt(a) _mm256_sqrt_pd(a)
#define vec_round(a) _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vec_abs(a) _mm256_andnot_pd(_mm256_set1_pd(-0.0), a)
#define vec_copysign(a, b) \
    _mm256_or_pd(_mm256_andnot_pd(_mm256_set1_pd(-0.0), a), _mm256_and_pd(_mm256_set1_pd(-0.0), b))
#define vec_if_less(a, b, yes, no) _mm256_blendv_pd(no, yes, _mm256_cmp_pd(a, b, _CMP_LT_OQ))

/* Of the two halves of a double. */
static inline vec NAME(vec_lane)(vec v, size_t lane) {
    const __m256i halves = _mm256_setr_epi32(0, 1, 0, 1, 0, 1, 0, 1);
    const __m256i first = _mm256_set1_epi32((int)(2 * lane));
    return _mm256_castps_pd(
        _mm256_permutevar8x32_ps(_mm256_castpd_ps(v), _mm256_add_epi32(first, halves)));
}

#define vec_nonzero(a) \
    (unsigned)_mm256_movemask_pd(_mm256_cmp_pd(a, _mm256_setzero_pd(), _CMP_NEQ_UQ))

/* The low bits of 1.5 * 2^52 + m are m, for small integers m. */
static inline vec NAME(vec_pow2)(vec n) {
    const __m256d biased = _mm256_add_pd(n, _mm256_set1_pd(0x1.8p52 + 1023));
    return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(biased), 52));
}

static inline vec NAME(vec_exponent)(vec x) {
    const __m256i biased = _mm256_srli_epi64(_mm256_castpd_si256(x), 52);
    const __m256d shifted = _mm256_or_pd(_mm256_castsi256_pd(biased), _mm256_set1_pd(0x1p52));
    return _mm256_sub_pd(shifted, _mm256_set1_pd(0x1p52 + 1023));
}

/* Of two halves, again of two halves. */
#define HALVES(operation, v)                                                               \
    __m128d half = operation##_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1)); \
    half = operation##_sd(half, _mm_unpackhi_pd(half, half));                              \
    return _mm_cvtsd_f64(half)

static inline REAL NAME(vec_sum)(vec v) { HALVES(_mm_add, v); }

static inline REAL NAME(vec_largest)(vec v) { HALVES(_mm_max, v); }

#undef HALVES

static inline __m256i NAME(lane_mask)(size_t count) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)count), _mm256_setr_epi64x(0, 1, 2, 3));
}

static inline vec NAME(vec_load_some)(const REAL *p, size_t count, REAL fill) {
    const __m256i mask = NAME(lane_mask)(count);
    return _mm256_blendv_pd(vec_set1(fill), _mm256_maskload_pd(p, mask), _mm256_castsi256_pd(mask));
}

/* The sums of both halves of two vectors side by side, then of all lanes. */
static FORCE_INLINE vec NAME(vec_sums)(vec v[LANES]) {
    vec twos[2];
    UNROLL
    for (int k = 0; k < 2; k++) {
        const vec a = v[k], b = v[k + 2];
        twos[k] = vec_add(_mm256_permute2f128_pd(a, b, 0x20), _mm256_permute2f128_pd(a, b, 0x31));
    }
    return vec_add(_mm256_unpacklo_pd(twos[0], twos[1]), _mm256_unpackhi_pd(twos[0], twos[1]));
}

/* In pieces: a masked store is microcode on AMD's CPUs, and holds up the load that follows it. */
static inline void NAME(vec_store_some)(REAL *p, size_t count, vec v) {
    __m128d left = _mm256_castpd256_pd128(v);
    if (count & 2) {
        _mm_storeu_pd(p, left);
        left = _mm256_extractf128_pd(v, 1);
        p += 2;
    }
    if (count & 1) {
        _mm_store_sd(p, left);
    }
}

static FORCE_INLINE void NAME(vec_transpose)(vec v[LANES]) {
    const vec a = _mm256_unpacklo_pd(v[0], v[1]), b = _mm256_unpackhi_pd(v[0], v[1]);
    const vec c = _mm256_unpacklo_pd(v[2], v[3]), d = _mm256_unpackhi_pd(v[2], v[3]);
    v[0] = _mm256_permute2f128_pd(a, c, 0x20);
    v[1] = _mm256_permute2f128_pd(b, d, 0x20);
    v[2] = _mm256_permute2f128_pd(a, c, 0x31);
    v[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

#else

#define LANES 8
#define vec __m256
#define vec_zero() _mm256_setzero_ps()
#define vec_set1(x) _mm256_set1_ps(x)
#define vec_load(p) _mm256_loadu_ps(p)
#define vec_store(p, v) _mm256_storeu_ps(p, v)
#define vec_add(a, b) _mm256_add_ps(a, b)
#define vec_sub(a, b) _mm256_sub_ps(a, b)
#define vec_mul(a, b) _mm256_mul_ps(a, b)
#define vec_div(a, b) _mm256_div_ps(a, b)
#define vec_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vec_max(a, b) _mm256_max_ps(a, b)
#define vec_min(a, b) _mm256_min_ps(a, b)
#define vec_sqrt(a) _mm256_sqrt_ps(a)
#define vec_round(a) _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vec_abs(a) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a)
#define vec_copysign(a, b)                                   \
    _mm256_or_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a), \
                 _mm256_and_ps(_mm256_set1_ps(-0.0f), b))
#define vec_if_less(a, b, yes, no) _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ))

static inline vec NAME(vec_lane)(vec v, size_t lane) {
    return _mm256_permutevar8x32_ps(v, _mm256_set1_epi32((int)lane));
}

#define vec_nonzero(a) \
    (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_UQ))

static inline vec NAME(vec_pow2)(vec n) {
    const __m256 biased = _mm256_add_ps(n, _mm256_set1_ps(0x1.8p23f + 127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(biased), 23));
}

static inline vec NAME(vec_exponent)(vec x) {
    const __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(x), 23);
    const __m256 shifted = _mm256_or_ps(_mm256_castsi256_ps(biased), _mm256_set1_ps(0x1p23f));
    return _mm256_sub_ps(shifted, _mm256_set1_ps(0x1p23f + 127));
}

#define HALVES(operation, v)                                                              \
    __m128 half = operation##_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); \
    half = operation##_ps(half, _mm_movehl_ps(half, half));                               \
    half = operation##_ss(half, _mm_movehdup_ps(half));                                   \
    return _mm_cvtss_f32(half)

static inline REAL NAME(vec_sum)(vec v) { HALVES(_mm_add, v); }

static inline REAL NAME(vec_largest)(vec v) { HALVES(_mm_max, v); }

#undef HALVES

static inline __m256i NAME(lane_mask)(size_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vec NAME(vec_load_some)(const REAL *p, size_t count, REAL fill) {
    const __m256i mask = NAME(lane_mask)(count);
    return _mm256_blendv_ps(vec_set1(fill), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
}

/* In pieces, as with doubles. */
static inline void NAME(vec_store_some)(REAL *p, size_t count, vec v) {
    __m128 left = _mm256_castps256_ps128(v);
    if (count & 4) {
        _mm_storeu_ps(p, left);
        left = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if (count & 2) {
        _mm_storel_pi((__m64 *)p, left);
        left = _mm_movehl_ps(left, left);
        p += 2;
    }
    if (count & 1) {
        _mm_store_ss(p, left);
    }
}

/* The sums of both halves of two vectors side by side, then of all pairs of lanes, then of all
 * lanes. */
static FORCE_INLINE vec NAME(vec_sums)(vec v[LANES]) {
    vec fours[2];
    UNROLL
    for (int j = 0; j < 2; j++) {
        __m256d twos[2];
        UNROLL
        for (int k = 0; k < 2; k++) {
            const vec a = v[2 * j + k], b = v[2 * j + k + 4];
            twos[k] = _mm256_castps_pd(
                vec_add(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31)));
        }
        fours[j] = vec_add(_mm256_castpd_ps(_mm256_unpacklo_pd(twos[0], twos[1])),
                           _mm256_castpd_ps(_mm256_unpackhi_pd(twos[0], twos[1])));
    }
    return vec_add(_mm256_shuffle_ps(fours[0], fours[1], _MM_SHUFFLE(2, 0, 2, 0)),
                   _mm256_shuffle_ps(fours[0], fours[1], _MM_SHUFFLE(3, 1, 3, 1)));
}

/* Pairs of rows, then pairs of pairs, then the halves. */
static FORCE_INLINE void NAME(vec_transpose)(vec v[LANES]) {
    vec pairs[LANES];
    UNROLL
    for (int k = 0; k < LANES; k += 4) {
        const vec a = _mm256_unpacklo_ps(v[k], v[k + 1]), b = _mm256_unpackhi_ps(v[k], v[k + 1]);
        const vec c = _mm256_unpacklo_ps(v[k + 2], v[k + 3]);
        const vec d = _mm256_unpackhi_ps(v[k + 2], v[k + 3]);
        pairs[k] = _mm256_shuffle_ps(a, c, _MM_SHUFFLE(1, 0, 1, 0));
        pairs[k + 1] = _mm256_shuffle_ps(a, c, _MM_SHUFFLE(3, 2, 3, 2));
        pairs[k + 2] = _mm256_shuffle_ps(b, d, _MM_SHUFFLE(1, 0, 1, 0));
        pairs[k + 3] = _mm256_shuffle_ps(b, d, _MM_SHUFFLE(3, 2, 3, 2));
    }
    UNROLL
    for (int k = 0; k < 4; k++) {
        v[k] = _mm256_permute2f128_ps(pairs[k], pairs[k + 4], 0x20);
        v[k + 4] = _mm256_permute2f128_ps(pairs[k], pairs[k + 4], 0x31);
    }
}

#endif

#define vec_pow2(n) NAME(vec_pow2)(n)
#define vec_exponent(x) NAME(vec_exponent)(x)
#define vec_sum(v) NAME(vec_sum)(v)
#define vec_sums(v) NAME(vec_sums)(v)
#define vec_largest(v) NAME(vec_largest)(v)
#define vec_load_some(p, count, fill) NAME(vec_load_some)(p, count, fill)
#define vec_store_some(p, count, v) NAME(vec_store_some)(p, count, v)
#define vec_transpose(square) NAME(vec_transpose)(square)
#define vec_lane(v, l) NAME(vec_lane)(v, l)
#define vec_quotient(a, b) vec_div(a, b)
