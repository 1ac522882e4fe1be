/* vec_* on the 128-bit NEON registers of AArch64, for the dtype chosen by CYMLP_DOUBLE.
 * Included once per dtype: no include guard. See generic.h for the meaning of each operation. */

#define TILE_ROWS 8
#define PANEL_VECS 3
#define FOR_EACH_TILE TILES_8_BY_3
#define BLOCK_ROWS 64
#define FUSED 1
#define RUN_VECS 9
#define FOR_EACH_RUN RUNS_OF_9_BY_3

#if CYMLP_DOUBLE

#define LANES 2
#define vec float64x2_t
#define vec_zero() vdupq_n_f64(0)
#define vec_set1(x) vdupq_n_f64(x)
#define vec_load(p) vld1q_f64(p)
#define vec_store(p, v) vst1q_f64(p, v)
#define vec_add(a, b) vaddq_f64(a, b)
#define vec_sub(a, b) vsubq_f64(a, b)
#define vec_mul(a, b) vmulq_f64(a, b)
#define vec_div(a, b) vdivq_f64(a, b)
#define vec_fma(a, b, c) vfmaq_f64(c, a, b)
#define vec_sqrt(a) vsqrtq_f64(a)
#define vec_round(a) vrndnq_f64(a)
#define vec_abs(a) vabsq_f64(a)
#define vec_copysign(a, b) vbslq_f64(vdupq_n_u64((uint64_t)1 << 63), b, a)
#define vec_if_less(a, b, yes, no) vbslq_f64(vcltq_f64(a, b), yes, no)
#define vec_sum(v) vaddvq_f64(v)
#define vec_largest(v) vmaxvq_f64(v)

/* The instructions for these give a NaN where any is. */
static inline vec NAME(vec_max)(vec a, vec b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }

static inline vec NAME(vec_min)(vec a, vec b) { return vbslq_f64(vcltq_f64(a, b), a, b); }

/* The low bits of 1.5 * 2^52 + m are m, for small integers m. */
static inline vec NAME(vec_pow2)(vec n) {
    const vec biased = vec_add(n, vec_set1(0x1.8p52 + 1023));
    return vreinterpretq_f64_u64(vshlq_n_u64(vreinterpretq_u64_f64(biased), 52));
}

static inline vec NAME(vec_exponent)(vec x) {
    const uint64x2_t biased = vshrq_n_u64(vreinterpretq_u64_f64(x), 52);
    return vec_sub(vcvtq_f64_u64(biased), vec_set1(1023));
}

static inline vec NAME(vec_lane)(vec v, size_t lane) {
    return lane ? vdupq_laneq_f64(v, 1) : vdupq_laneq_f64(v, 0);
}

static inline unsigned NAME(vec_nonzero)(vec a) {
    static const uint64_t bit[LANES] = {1, 2};
    return (unsigned)vaddvq_u64(vbicq_u64(vld1q_u64(bit), vceqzq_f64(a)));
}

static inline vec NAME(vec_load_some)(const REAL *p, size_t count, REAL fill) {
    vec v = vec_set1(fill);
    v = count > 0 ? vld1q_lane_f64(p, v, 0) : v;
    return count > 1 ? vld1q_lane_f64(p + 1, v, 1) : v;
}

static inline void NAME(vec_store_some)(REAL *p, size_t count, vec v) {
    if (count > 0) {
        vst1q_lane_f64(p, v, 0);
    }
    if (count > 1) {
        vst1q_lane_f64(p + 1, v, 1);
    }
}

static FORCE_INLINE void NAME(vec_transpose)(vec v[LANES]) {
    const vec a = v[0];
    v[0] = vtrn1q_f64(a, v[1]);
    v[1] = vtrn2q_f64(a, v[1]);
}

#else

#define LANES 4
#define vec float32x4_t
#define vec_zero() vdupq_n_f32(0)
#define vec_set1(x) vdupq_n_f32(x)
#define vec_load(p) vld1q_f32(p)
#define vec_store(p, v) vst1q_f32(p, v)
#define vec_add(a, b) vaddq_f32(a, b)
#define vec_sub(a, b) vsubq_f32(a, b)
#define vec_mul(a, b) vmulq_f32(a, b)
#define vec_div(a, b) vdivq_f32(a, b)
#define vec_fma(a, b, c) vfmaq_f32(c, a, b)
#define vec_sqrt(a) vsqrtq_f32(a)
#define vec_round(a) vrndnq_f32(a)
#define vec_abs(a) vabsq_f32(a)
#define vec_copysign(a, b) vbslq_f32(vdupq_n_u32((uint32_t)1 << 31), b, a)
#define vec_if_less(a, b, yes, no) vbslq_f32(vcltq_f32(a, b), yes, no)
#define vec_sum(v) vpadds_f32(vadd_f32(vget_low_f32(v), vget_high_f32(v)))
#define vec_largest(v) vmaxvq_f32(v)

/* The instructions for these give a NaN where any is. */
static inline vec NAME(vec_max)(vec a, vec b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }

static inline vec NAME(vec_min)(vec a, vec b) { return vbslq_f32(vcltq_f32(a, b), a, b); }

/* The low bits of 1.5 * 2^23 + m are m, for small integers m. */
static inline vec NAME(vec_pow2)(vec n) {
    const vec biased = vec_add(n, vec_set1(0x1.8p23f + 127));
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(biased), 23));
}

static inline vec NAME(vec_exponent)(vec x) {
    const uint32x4_t biased = vshrq_n_u32(vreinterpretq_u32_f32(x), 23);
    return vec_sub(vcvtq_f32_u32(biased), vec_set1(127));
}

/* By the numbers of its four bytes. */
static inline vec NAME(vec_lane)(vec v, size_t lane) {
    const uint32x4_t bytes = vdupq_n_u32(0x03020100u + 0x04040404u * (uint32_t)lane);
    return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(v), vreinterpretq_u8_u32(bytes)));
}

static inline unsigned NAME(vec_nonzero)(vec a) {
    static const uint32_t bit[LANES] = {1, 2, 4, 8};
    return vaddvq_u32(vbicq_u32(vld1q_u32(bit), vceqzq_f32(a)));
}

static inline vec NAME(vec_load_some)(const REAL *p, size_t count, REAL fill) {
    vec v = vec_set1(fill);
    v = count > 0 ? vld1q_lane_f32(p, v, 0) : v;
    v = count > 1 ? vld1q_lane_f32(p + 1, v, 1) : v;
    v = count > 2 ? vld1q_lane_f32(p + 2, v, 2) : v;
    return count > 3 ? vld1q_lane_f32(p + 3, v, 3) : v;
}

static inline void NAME(vec_store_some)(REAL *p, size_t count, vec v) {
    if (count > 0) {
        vst1q_lane_f32(p, v, 0);
    }
    if (count > 1) {
        vst1q_lane_f32(p + 1, v, 1);
    }
    if (count > 2) {
        vst1q_lane_f32(p + 2, v, 2);
    }
    if (count > 3) {
        vst1q_lane_f32(p + 3, v, 3);
    }
}

/* Pairs of rows, then pairs of pairs. */
static FORCE_INLINE void NAME(vec_transpose)(vec v[LANES]) {
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(v[0], v[1]));
    const float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(v[0], v[1]));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(v[2], v[3]));
    const float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(v[2], v[3]));
    v[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    v[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    v[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    v[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

#endif

#define vec_max(a, b) NAME(vec_max)(a, b)
#define vec_min(a, b) NAME(vec_min)(a, b)
#define vec_pow2(n) NAME(vec_pow2)(n)
#define vec_exponent(x) NAME(vec_exponent)(x)
#define vec_nonzero(a) NAME(vec_nonzero)(a)
#define vec_load_some(p, count, fill) NAME(vec_load_some)(p, count, fill)
#define vec_store_some(p, count, v) NAME(vec_store_some)(p, count, v)
#define vec_transpose(square) NAME(vec_transpose)(square)
#define vec_lane(v, l) NAME(vec_lane)(v, l)
#define vec_quotient(a, b) vec_div(a, b)
