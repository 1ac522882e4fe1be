/* A random order of n samples, by counter. */
#ifndef CYMLP_SHUFFLE_H
#define CYMLP_SHUFFLE_H

#include "philox.h"

#include <stddef.h>
#include <stdint.h>

/* Fisher and Yates's shuffle of 0 ... n - 1. An index below m is the high half of m times a number
 * (D. Lemire, Fast random integer generation in an interval, ACM TOMACS 29, 2019): no index is more
 * likely than another by more than one part in 2^64 / m. */
static inline void cymlp_shuffle(size_t n, uint64_t key0, uint64_t key1, int64_t *order__n) {
    const uint64_t key[] = {key0, key1};
    uint64_t random[4];
    for (size_t i = 0; i < n; i++) {
        order__n[i] = (int64_t)i;
    }
    for (size_t done = 0; done + 1 < n; done++) {
        const size_t last = n - 1 - done;
        if (done % 4 == 0) {
            const uint64_t counter[4] = {done / 4 + 1};
            cymlp_philox(counter, key, random);
        }
        uint64_t chosen;
        (void)cymlp_multiply(random[done % 4], last + 1, &chosen);
        const int64_t swapped = order__n[chosen];
        order__n[chosen] = order__n[last];
        order__n[last] = swapped;
    }
}

#endif
