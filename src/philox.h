/* Random numbers by counter. */
#ifndef CYMLP_PHILOX_H
#define CYMLP_PHILOX_H

#include <stdint.h>

#ifdef _MSC_VER
#include <intrin.h>
#endif

/* The low half of a product, and its high half. */
static inline uint64_t cymlp_multiply(uint64_t a, uint64_t b, uint64_t *high) {
#ifdef _MSC_VER
    *high = __umulh(a, b);
    return a * b;
#else
    __extension__ typedef unsigned __int128 wide;
    const wide product = (wide)a * b;
    *high = (uint64_t)(product >> 64);
    return (uint64_t)product;
#endif
}

/* Four numbers of a stream: Philox4x64-10 (J. K. Salmon et al., Parallel random numbers: as easy as
 * 1, 2, 3, SC 2011), number for number as numpy.random.Philox gives them for this key where its
 * counter is this one less 1. */
static inline void cymlp_philox(const uint64_t counter[4], const uint64_t key[2], uint64_t out[4]) {
    uint64_t a = counter[0], b = counter[1], c = counter[2], d = counter[3];
    uint64_t key0 = key[0], key1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t high0, high1;
        const uint64_t low0 = cymlp_multiply(0xd2e7470ee14c6c93u, a, &high0);
        const uint64_t low1 = cymlp_multiply(0xca5a826395121157u, c, &high1);
        a = high1 ^ b ^ key0;
        b = low1;
        c = high0 ^ d ^ key1;
        d = low0;
        key0 += 0x9e3779b97f4a7c15u;
        key1 += 0xbb67ae8584caa73bu;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

#endif
