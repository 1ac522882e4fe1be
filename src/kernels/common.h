/* What every kernel body needs from the C library and the compiler. */
#ifndef CYMLP_KERNELS_COMMON_H
#define CYMLP_KERNELS_COMMON_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef _MSC_VER
#define FORCE_INLINE __forceinline
#else
#define FORCE_INLINE inline __attribute__((always_inline))
#endif

#endif
