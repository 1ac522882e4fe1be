/* Elements of users' types on their way into the network: x = REAL(element) * REAL(scale).
 *
 * They may stand anywhere, unaligned, at any distance, in either byte order: a file that is mapped
 * into memory is read where it stands. */

#define CONVERT(TYPE, VALUE)                                                   \
    if (stride == (ptrdiff_t)sizeof(TYPE) && !swapped) {                       \
        for (size_t j = 0; j < n; j++) {                                       \
            TYPE e;                                                            \
            memcpy(&e, from + j * sizeof e, sizeof e);                         \
            x[j] = (REAL)(VALUE) * by;                                         \
        }                                                                      \
    } else {                                                                   \
        for (size_t j = 0; j < n; j++) {                                       \
            TYPE e;                                                            \
            copy_element(&e, from + (ptrdiff_t)j * stride, sizeof e, swapped); \
            x[j] = (REAL)(VALUE) * by;                                         \
        }                                                                      \
    }                                                                          \
    break;

static void NAME(convert)(size_t n, int element, int swapped, const void *elements,
                          ptrdiff_t stride, double scale, void *x__n) {
    const char *from = (const char *)elements;
    const REAL by = (REAL)scale;
    REAL *x = (REAL *)x__n;
    switch (element) {
    case CYMLP_UINT8:
        CONVERT(uint8_t, e)
    case CYMLP_INT8:
        CONVERT(int8_t, e)
    case CYMLP_UINT16:
        CONVERT(uint16_t, e)
    case CYMLP_INT16:
        CONVERT(int16_t, e)
    case CYMLP_UINT32:
        CONVERT(uint32_t, e)
    case CYMLP_INT32:
        CONVERT(int32_t, e)
    case CYMLP_UINT64:
        CONVERT(uint64_t, e)
    case CYMLP_INT64:
        CONVERT(int64_t, e)
    case CYMLP_HALF:
        CONVERT(uint16_t, half_value(e))
    case CYMLP_SINGLE:
        CONVERT(float, e)
    case CYMLP_WIDE:
        CONVERT(double, e)
    case CYMLP_LONG_DOUBLE:
        CONVERT(long double, e)
    }
}

#undef CONVERT
