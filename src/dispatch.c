/* CPU detection: which of the kernel tables this machine can run. */
#include "kernels.h"

#ifdef CYMLP_X86_64
#ifdef _MSC_VER
#include <intrin.h>

static void cpuid(uint32_t leaf, uint32_t registers[4]) {
    __cpuidex((int *)registers, (int)leaf, 0);
}

static uint64_t enabled_state(void) { return _xgetbv(0); }
#else
#include <cpuid.h>

static void cpuid(uint32_t leaf, uint32_t registers[4]) {
    if (!__get_cpuid_count(leaf, 0, &registers[0], &registers[1], &registers[2], &registers[3])) {
        registers[0] = registers[1] = registers[2] = registers[3] = 0;
    }
}

/* The instruction itself: the intrinsic would need a compiler flag for the whole file. */
static uint64_t enabled_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}
#endif

static int has_avx2_and_fma(void) {
    enum { EAX, EBX, ECX, EDX };
    const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28; /* leaf 1, ECX */
    const uint32_t avx2 = 1u << 5;                                     /* leaf 7, EBX */
    const uint64_t xmm_and_ymm = 6; /* saved by the operating system at a context switch */
    uint32_t registers[4];

    cpuid(0, registers);
    if (registers[EAX] < 7) {
        return 0;
    }
    cpuid(1, registers);
    if ((registers[ECX] & (fma | osxsave | avx)) != (fma | osxsave | avx)) {
        return 0;
    }
    if ((enabled_state() & xmm_and_ymm) != xmm_and_ymm) {
        return 0;
    }
    cpuid(7, registers);
    return (registers[EBX] & avx2) != 0;
}
#endif

void cymlp_detect_isas(cymlp_isa isas[CYMLP_N_ISAS]) {
    isas[0].name = "generic";
    isas[0].tables = cymlp_generic_tables;
    isas[1].name = "avx2";
    isas[1].tables = NULL;
#ifdef CYMLP_X86_64
    if (has_avx2_and_fma()) {
        isas[1].tables = cymlp_avx2_tables;
    }
#endif
}
