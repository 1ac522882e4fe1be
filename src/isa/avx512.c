/* The kernels for x86-64 with AVX-512: Ice Lake, Zen 4 and later.
 *
 * The pragmas raise the target of this file's functions alone; every function here is static, so
 * that no other file can come to call one on a machine without AVX-512. */
#include "../kernels.h"
#include "../kernels/common.h"

#ifdef CYMLP_X86_64
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,prfchw,avx512f,avx512dq,avx512bw,avx512vl"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,prfchw,avx512f,avx512dq,avx512bw,avx512vl")
#endif

#define ISA_NAME "avx512"

#define CYMLP_DOUBLE 0
#define REAL float
#define NAME(x) x##_f32_avx512
#include "../simd/avx512.h"
#include "../kernels/table.inc.h"

#define CYMLP_DOUBLE 1
#define REAL double
#define NAME(x) x##_f64_avx512
#include "../simd/avx512.h"
#include "../kernels/table.inc.h"

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

const cymlp_kernels *const cymlp_avx512_tables[CYMLP_N_DTYPES] = {&table_f32_avx512,
                                                                  &table_f64_avx512};
#else
typedef int cymlp_no_avx512_here; /* ISO C wants a declaration in every file */
#endif
