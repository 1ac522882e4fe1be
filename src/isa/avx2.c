/* The kernels for x86-64 with AVX2 and FMA: Haswell, Zen and later.
 *
 * The pragmas raise the target of this file's functions alone; every function here is static, so
 * that no other file can come to call one on a machine without AVX2. */
#include "../kernels.h"
#include "../kernels/common.h"

#ifdef CYMLP_X86_64
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,prfchw"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,prfchw")
#endif

#define ISA_NAME "avx2"

#define CYMLP_DOUBLE 0
#define REAL float
#define NAME(x) x##_f32_avx2
#include "../simd/avx2.h"
#include "../kernels/table.inc.h"

#define CYMLP_DOUBLE 1
#define REAL double
#define NAME(x) x##_f64_avx2
#include "../simd/avx2.h"
#include "../kernels/table.inc.h"

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

const cymlp_kernels *const cymlp_avx2_tables[CYMLP_N_DTYPES] = {&table_f32_avx2, &table_f64_avx2};
#else
typedef int cymlp_no_avx2_here; /* ISO C wants a declaration in every file */
#endif
