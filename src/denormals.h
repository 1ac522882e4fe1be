/* Flush denormal numbers to zero for the length of a call, in the calling thread only.
 *
 * The moments of an optimizer decay through the denormal range, where x86 is a hundred times
 * slower.
 */
#ifndef CYMLP_DENORMALS_H
#define CYMLP_DENORMALS_H

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>

static inline uint64_t cymlp_flush_denormals(void) {
    const unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x0040;
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | flush_to_zero | denormals_are_zero);
    return before;
}

static inline void cymlp_restore_denormals(uint64_t before) { _mm_setcsr((unsigned)before); }

#elif defined(__aarch64__) && defined(__GNUC__)

static inline uint64_t cymlp_flush_denormals(void) {
    const uint64_t flush_to_zero = (uint64_t)1 << 24;
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | flush_to_zero));
    return before;
}

static inline void cymlp_restore_denormals(uint64_t before) {
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
}

#else

static inline uint64_t cymlp_flush_denormals(void) { return 0; }

static inline void cymlp_restore_denormals(uint64_t before) { (void)before; }

#endif
#endif
