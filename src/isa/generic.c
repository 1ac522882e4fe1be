/* The kernels in plain C, for every machine. */
#include "../kernels.h"
#include "../kernels/common.h"

#define ISA_NAME "generic"

#define CYMLP_DOUBLE 0
#define REAL float
#define NAME(x) x##_f32_generic
#include "../simd/generic.h"
#include "../kernels/table.inc.h"

#define CYMLP_DOUBLE 1
#define REAL double
#define NAME(x) x##_f64_generic
#include "../simd/generic.h"
#include "../kernels/table.inc.h"

const cymlp_kernels *const cymlp_generic_tables[CYMLP_N_DTYPES] = {&table_f32_generic,
                                                                   &table_f64_generic};
