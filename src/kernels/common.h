/* What every kernel body needs from the C library and the compiler. */
#ifndef CYMLP_KERNELS_COMMON_H
#define CYMLP_KERNELS_COMMON_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../philox.h"

#ifdef _MSC_VER
#include <intrin.h>
#endif

#ifdef _MSC_VER
#define FORCE_INLINE __forceinline
#else
#define FORCE_INLINE inline __attribute__((always_inline))
#endif

/* One copy for all callers, however few they are. */
#if defined(_MSC_VER)
#define NO_INLINE __declspec(noinline)
#elif defined(__clang__)
#define NO_INLINE __attribute__((noinline))
#else
#define NO_INLINE __attribute__((noinline, noclone))
#endif

/* Before a loop of constant length whose variables must all end up in registers. Clang's plain
 * "unroll" may come after the pass that puts arrays there. UNROLL_BY_8 is for loops of any length.
 */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define UNROLL_BY_8 _Pragma("clang loop unroll_count(8)")
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_BY_8 _Pragma("GCC unroll 8")
#else
#define UNROLL
#define UNROLL_BY_8
#endif

/* Asks for a cache line that will be read soon; any address will do. PREFETCH_FAR leaves the
 * first-level cache to others. */
#ifdef __GNUC__
#define PREFETCH(p) __builtin_prefetch(p)
#define PREFETCH_TO_WRITE(p) __builtin_prefetch(p, 1)
#define PREFETCH_FAR(p) __builtin_prefetch(p, 0, 2)
#else
#define PREFETCH(p) ((void)(p))
#define PREFETCH_TO_WRITE(p) ((void)(p))
#define PREFETCH_FAR(p) ((void)(p))
#endif

/* Has the compiler work a number or an address out here, in a register. In front of a loop it would
 * prepare one for each offset that is added later, more than there are registers. */
#ifdef __GNUC__
#define SETTLE(p) __asm__("" : "+r"(p))
#else
#define SETTLE(p) ((void)(p))
#endif

/* X(rows, vectors) for every shape of a register tile up to the largest one of an ISA. */
#define TILES_4_BY(X, VECS) X(1, VECS) X(2, VECS) X(3, VECS) X(4, VECS)
#define TILES_6_BY(X, VECS) TILES_4_BY(X, VECS) X(5, VECS) X(6, VECS)
#define TILES_8_BY(X, VECS) TILES_6_BY(X, VECS) X(7, VECS) X(8, VECS)
#define TILES_4_BY_2(X) TILES_4_BY(X, 1) TILES_4_BY(X, 2)
#define TILES_6_BY_2(X) TILES_6_BY(X, 1) TILES_6_BY(X, 2)
#define TILES_8_BY_3(X) TILES_8_BY(X, 1) TILES_8_BY(X, 2) TILES_8_BY(X, 3)

/* X(n_full, n_lesser, lesser_vecs) for every run of panels that passes at once. */
#define RUNS_WITH(X, FULL) X(FULL, 1, 1) X(FULL + 1, 0, 0)
#define RUNS_OF_6_BY_2(X) RUNS_WITH(X, 0) RUNS_WITH(X, 1) RUNS_WITH(X, 2)
#define RUNS_OF_10_BY_2(X) RUNS_OF_6_BY_2(X) RUNS_WITH(X, 3) RUNS_WITH(X, 4)
#define RUNS_FROM_3_BY_3(X) X(1, 0, 0) X(1, 1, 2) X(1, 2, 2) X(2, 0, 0) X(2, 1, 2) X(3, 0, 0)
#define RUNS_OF_9_BY_3(X) X(0, 1, 1) X(0, 1, 2) X(0, 2, 2) X(0, 3, 2) X(0, 4, 2) RUNS_FROM_3_BY_3(X)

/* Copies an element from anywhere, its bytes in reverse if they are swapped. */
static inline void copy_element(void *to, const char *from, size_t size, int swapped) {
    if (!swapped) {
        memcpy(to, from, size);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        ((char *)to)[i] = from[size - 1 - i];
    }
}

/* The number that the bits of an IEEE 754 binary16 stand for. Its denormal numbers are found as the
 * difference of two normal ones, since denormal operands may be flushed. */
static inline float half_value(uint16_t half) {
    const uint32_t rebias = (127u - 15u) << 23, least = rebias + (1u << 23);
    const uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13, raised = magnitude + least;
    const uint32_t special = magnitude >= (0x7c00u << 13) ? rebias : 0; /* infinite or NaN */
    uint32_t bits, denormal_bits;
    float value, base;
    memcpy(&value, &raised, sizeof value);
    memcpy(&base, &least, sizeof base);
    value -= base;
    memcpy(&denormal_bits, &value, sizeof value);
    bits = magnitude < (0x0400u << 13) ? denormal_bits : magnitude + rebias + special;
    bits |= (uint32_t)(half >> 15) << 31;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Of a word that is not 0. */
static inline int lowest_bit(uint64_t word) {
#ifdef _MSC_VER
    unsigned long index;
    _BitScanForward64(&index, word);
    return (int)index;
#else
    return __builtin_ctzll(word);
#endif
}

static inline int count_bits(uint64_t word) {
#ifdef __GNUC__
    return __builtin_popcountll(word);
#else
    word -= (word >> 1) & 0x5555555555555555u;
    word = (word & 0x3333333333333333u) + ((word >> 2) & 0x3333333333333333u);
    word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int)((word * 0x0101010101010101u) >> 56);
#endif
}

#endif
