/* What the machine can do at most: multiply-adds in registers, and copying memory.
 *
 * WIDTH is the size of a vector in bytes. Compiled by machine.py for every width that the CPU has,
 * with contraction on, so that a * x + y is one instruction.
 */
#include <stddef.h>
#include <string.h>

#if (WIDTH == 64 && !defined(__AVX512F__)) || (WIDTH == 32 && !defined(__AVX2__))
#error "this CPU has no vectors of that width"
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Enough independent sums to hide the latency of an addition, few enough to stay in registers. */
#define SUMS 12
typedef float vec __attribute__((vector_size(WIDTH)));

/* Run `rounds` rounds of SUMS multiply-adds; return something that depends on all of them. */
float fma_rounds(long rounds, float factor) {
    const vec x = (vec){0} + factor, y = (vec){0} + 0.001f;
    vec sums[SUMS];
    for (int i = 0; i < SUMS; i++)
        sums[i] = (vec){0} + (float)i;
    for (long k = 0; k < rounds; k++) {
#pragma GCC unroll 12
        for (int i = 0; i < SUMS; i++)
            sums[i] = sums[i] * x + y;
    }
    vec total = sums[0];
    for (int i = 1; i < SUMS; i++)
        total += sums[i];
    float result = 0;
    for (size_t i = 0; i < WIDTH / sizeof(float); i++)
        result += total[i];
    return result;
}

double flops_per_round(void) { return 2.0 * SUMS * (WIDTH / sizeof(float)); }

/* Copy `bytes` bytes past the caches where the CPU can; both ends aligned to WIDTH. */
void copy(char *to, const char *from, size_t bytes) {
#if WIDTH == 64
    for (size_t i = 0; i < bytes; i += WIDTH)
        _mm512_stream_si512((void *)(to + i), _mm512_load_si512((const void *)(from + i)));
#elif WIDTH == 32
    for (size_t i = 0; i < bytes; i += WIDTH)
        _mm256_stream_si256((void *)(to + i), _mm256_load_si256((const void *)(from + i)));
#else
    memcpy(to, from, bytes);
#endif
}
