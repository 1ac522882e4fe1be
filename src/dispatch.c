/* CPU detection: which of the kernel tables this machine can run. */
#include "kernels.h"

#include <string.h>

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

/* What the CPU offers and the operating system saves at a context switch. */
static void detect_x86_64(int *avx2, int *avx512) {
    enum { EAX, EBX, ECX, EDX };
    const uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28;     /* leaf 1, ECX */
    const uint32_t has_avx2 = 1u << 5;                                     /* leaf 7, EBX */
    const uint32_t f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* leaf 7, EBX */
    const uint32_t vbmi2 = 1u << 6;                                        /* leaf 7, ECX */
    const uint64_t ymm_state = 0x06, zmm_state = 0xe6;
    uint32_t registers[4];
    uint64_t saved;

    *avx2 = *avx512 = 0;
    cpuid(0, registers);
    if (registers[EAX] < 7) {
        return;
    }
    cpuid(1, registers);
    if ((registers[ECX] & (fma | osxsave | avx)) != (fma | osxsave | avx)) {
        return;
    }
    saved = enabled_state();
    cpuid(7, registers);
    *avx2 = (registers[EBX] & has_avx2) && (saved & ymm_state) == ymm_state;
    /* No kernel uses VBMI2: it came with Ice Lake and Zen 4, the first CPUs whose clock does not
     * fall far under 512-bit arithmetic. */
    *avx512 = *avx2 && (registers[EBX] & f_dq_bw_vl) == f_dq_bw_vl && (registers[ECX] & vbmi2) &&
              (saved & zmm_state) == zmm_state;
}
#endif

void cymlp_detect_isas(cymlp_isa isas[CYMLP_N_ISAS]) {
    const cymlp_isa none[CYMLP_N_ISAS] = {
        {"generic", cymlp_generic_tables}, {"avx2", NULL}, {"avx512", NULL}, {"neon", NULL}};
    memcpy(isas, none, sizeof none);
#ifdef CYMLP_X86_64
    int avx2, avx512;
    detect_x86_64(&avx2, &avx512);
    isas[1].tables = avx2 ? cymlp_avx2_tables : NULL;
    isas[2].tables = avx512 ? cymlp_avx512_tables : NULL;
#endif
#ifdef CYMLP_AARCH64
    isas[3].tables = cymlp_neon_tables; /* every AArch64 CPU has it */
#endif
}
