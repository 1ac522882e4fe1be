/* The kernels for AArch64, all of whose CPUs have NEON with fused multiply-add. */
#include "../kernels.h"
#include "../kernels/common.h"

#ifdef CYMLP_AARCH64
#include <arm_neon.h>

#define ISA_NAME "neon"

#define CYMLP_DOUBLE 0
#define REAL float
#define NAME(x) x##_f32_neon
#include "../simd/neon.h"
#include "../kernels/table.inc.h"

#define CYMLP_DOUBLE 1
#define REAL double
#define NAME(x) x##_f64_neon
#include "../simd/neon.h"
#include "../kernels/table.inc.h"

const cymlp_kernels *const cymlp_neon_tables[CYMLP_N_DTYPES] = {&table_f32_neon, &table_f64_neon};
#else
typedef int cymlp_no_neon_here; /* ISO C wants a declaration in every file */
#endif
