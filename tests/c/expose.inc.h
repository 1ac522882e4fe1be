/* Included by every kernel table of a test's build: its vector functions over arrays. */
#include "check.h"

#define EXPOSE(FUNCTION)                                                          \
    static void NAME(expose_##FUNCTION)(size_t n, const void *x__n, void *y__n) { \
        for (size_t j = 0; j < n; j += LANES) {                                   \
            const vec x = vec_load((const REAL *)x__n + j);                       \
            vec_store((REAL *)y__n + j, NAME(vec_##FUNCTION)(x));                 \
        }                                                                         \
    }

EXPOSE(exp)
EXPOSE(sigmoid)
EXPOSE(tanh)
EXPOSE(log)
EXPOSE(log1p)

#undef EXPOSE

extern const check_functions NAME(exposed);
const check_functions NAME(exposed) = {
    ISA_NAME,          NAME(expose_exp), NAME(expose_sigmoid),
    NAME(expose_tanh), NAME(expose_log), NAME(expose_log1p),
};
