/* A random order of n samples, by counter. */
#ifndef CYMLP_SHUFFLE_H
#define CYMLP_SHUFFLE_H

#include "philox.h"

#include <stddef.h>
#include <stdint.h>

static inline void cymlp_swap(int64_t *order__n, size_t i, size_t j) {
    const int64_t swapped = order__n[i];
    order__n[i] = order__n[j];
    order__n[j] = swapped;
}

/* Fisher and Yates's shuffle of 0 ... n - 1. An index below m is the high half of m times a number
 * (D. Lemire, Fast random integer generation in an interval, ACM TOMACS 29, 2019): no index is more
 * likely than another by more than one part in 2^32 / m where m is at most 2^16, and a number is
 * good for two indices, or in 2^64 / m. */
static inline void cymlp_shuffle(size_t n, uint64_t key0, uint64_t key1, int64_t *order__n) {
    enum { AT_ONCE = 4 }; /* numbers of one counter wait for each other, those of several do not */
    const size_t few = (size_t)1 << 16;
    const uint64_t key[] = {key0, key1};
    uint64_t counter[4] = {0};
    size_t left = n;
    for (size_t i = 0; i < n; i++) {
        order__n[i] = (int64_t)i;
    }
    while (left > 1) {
        uint64_t random[4 * AT_ONCE];
        for (size_t c = 0; c < AT_ONCE; c++) {
            counter[0]++;
            cymlp_philox(counter, key, random + 4 * c);
        }
        for (size_t r = 0; r < 4 * AT_ONCE && left > 1; r++) {
            if (left > few) {
                uint64_t chosen;
                (void)cymlp_multiply(random[r], left, &chosen);
                cymlp_swap(order__n, (size_t)chosen, --left);
                continue;
            }
            for (int half = 0; half < 2 && left > 1; half++) {
                const uint64_t number = random[r] >> 32 * half & 0xffffffffu;
                const size_t chosen = (size_t)(number * left >> 32);
                cymlp_swap(order__n, chosen, --left);
            }
        }
    }
}

#endif
