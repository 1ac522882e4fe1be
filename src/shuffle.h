/* A random order of n samples, by counter. */
#ifndef CYMLP_SHUFFLE_H
#define CYMLP_SHUFFLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef _MSC_VER
#include <intrin.h>
#endif

/* The high half of a product; its low half is a * b. */
static inline uint64_t cymlp_multiply_high(uint64_t a, uint64_t b) {
#ifdef _MSC_VER
    return __umulh(a, b);
#else
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)a * b >> 64);
#endif
}

/* Four numbers of a stream: Philox4x64-10 (J. K. Salmon et al., Parallel random numbers: as easy as
 * 1, 2, 3, SC 2011), number for number as numpy.random.Philox gives them for a key, whose first
 * block has the counter 1. */
static inline void cymlp_philox(uint64_t counter, uint64_t key0, uint64_t key1, uint64_t out[4]) {
    uint64_t a = counter, b = 0, c = 0, d = 0;
    for (int round = 0; round < 10; round++) {
        const uint64_t m0 = 0xd2e7470ee14c6c93u, m1 = 0xca5a826395121157u;
        const uint64_t high0 = cymlp_multiply_high(m0, a), low0 = m0 * a;
        const uint64_t high1 = cymlp_multiply_high(m1, c), low1 = m1 * c;
        a = high1 ^ b ^ key0;
        b = low1;
        c = high0 ^ d ^ key1;
        d = low0;
        key0 += 0x9e3779b97f4a7c15u;
        key1 += 0xbb67ae8584caa73bu;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

/* Fisher and Yates's shuffle of 0 ... n - 1. An index below m is the high half of m times a number
 * (D. Lemire, Fast random integer generation in an interval, ACM TOMACS 29, 2019): no index is more
 * likely than another by more than one part in 2^64 / m. */
static inline void cymlp_shuffle(size_t n, uint64_t key0, uint64_t key1, int64_t *order__n) {
    uint64_t random[4];
    for (size_t i = 0; i < n; i++) {
        order__n[i] = (int64_t)i;
    }
    for (size_t done = 0; done + 1 < n; done++) {
        const size_t last = n - 1 - done;
        if (done % 4 == 0) {
            cymlp_philox(done / 4 + 1, key0, key1, random);
        }
        const size_t chosen = (size_t)cymlp_multiply_high(random[done % 4], last + 1);
        const int64_t swapped = order__n[chosen];
        order__n[chosen] = order__n[last];
        order__n[last] = swapped;
    }
}

#endif
