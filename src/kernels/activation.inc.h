/* Activations of rows, in place, and their derivatives in terms of their own output.
 *
 * A row's columns are contiguous; columns from n_units on are neither read nor written. */

#define ACTIVATION(NAME_OF_FORWARD, EXPRESSION)                                   \
    static void NAME(NAME_OF_FORWARD)(size_t n_rows, size_t n_units, void *z__bo, \
                                      size_t z_stride) {                          \
        for (size_t b = 0; b < n_rows; b++) {                                     \
            REAL *row = (REAL *)z__bo + b * z_stride;                             \
            FOR_EACH_VEC(o, some, n_units) {                                      \
                const vec z = NAME(load_up_to)(row + o, some, 0);                 \
                NAME(store_up_to)(row + o, some, EXPRESSION);                     \
            }                                                                     \
        }                                                                         \
    }

#define ACTIVATION_BACKWARD(NAME_OF_BACKWARD, EXPRESSION)                                \
    static void NAME(NAME_OF_BACKWARD)(size_t n_rows, size_t n_units, const void *y__bo, \
                                       size_t y_stride, void *d__bo, size_t d_stride) {  \
        for (size_t b = 0; b < n_rows; b++) {                                            \
            const REAL *y_row = (const REAL *)y__bo + b * y_stride;                      \
            REAL *d_row = (REAL *)d__bo + b * d_stride;                                  \
            FOR_EACH_VEC(o, some, n_units) {                                             \
                const vec y = NAME(load_up_to)(y_row + o, some, 0);                      \
                const vec d = NAME(load_up_to)(d_row + o, some, 0);                      \
                NAME(store_up_to)(d_row + o, some, EXPRESSION);                          \
            }                                                                            \
        }                                                                                \
    }

static void NAME(identity)(size_t n_rows, size_t n_units, void *z__bo, size_t z_stride) {
    (void)n_rows, (void)n_units, (void)z__bo, (void)z_stride;
}

static void NAME(identity_backward)(size_t n_rows, size_t n_units, const void *y__bo,
                                    size_t y_stride, void *d__bo, size_t d_stride) {
    (void)n_rows, (void)n_units, (void)y__bo, (void)y_stride, (void)d__bo, (void)d_stride;
}

ACTIVATION(relu, vec_max(vec_zero(), z))
ACTIVATION_BACKWARD(relu_backward, vec_if_less(vec_zero(), y, d, vec_zero()))

ACTIVATION(sigmoid, NAME(vec_sigmoid)(z))
ACTIVATION_BACKWARD(sigmoid_backward, vec_mul(d, vec_mul(y, vec_sub(vec_set1(1), y))))

ACTIVATION(tanh, NAME(vec_tanh)(z))
ACTIVATION_BACKWARD(tanh_backward,
                    vec_mul(d, vec_mul(vec_sub(vec_set1(1), y), vec_add(vec_set1(1), y))))

#undef ACTIVATION
#undef ACTIVATION_BACKWARD

/* y = exp(z - max z); returns the sum of y, and max z in *largest. */
static FORCE_INLINE REAL NAME(exp_row)(size_t n_units, const REAL *z, REAL *y, REAL *largest) {
    vec high = vec_set1(-INFINITY), total = vec_zero();
    FOR_EACH_VEC(o, some, n_units) {
        high = vec_max(high, NAME(load_up_to)(z + o, some, -INFINITY));
    }
    *largest = vec_largest(high);
    high = vec_set1(*largest);
    FOR_EACH_VEC(o, some, n_units) {
        const vec e = NAME(vec_exp)(vec_sub(NAME(load_up_to)(z + o, some, -INFINITY), high));
        NAME(store_up_to)(y + o, some, e);
        total = vec_add(total, e);
    }
    return vec_sum(total);
}

static void NAME(softmax)(size_t n_rows, size_t n_units, void *z__bo, size_t z_stride) {
    for (size_t b = 0; b < n_rows; b++) {
        REAL *row = (REAL *)z__bo + b * z_stride, largest;
        const vec sum = vec_set1(NAME(exp_row)(n_units, row, row, &largest));
        FOR_EACH_VEC(o, some, n_units) {
            NAME(store_up_to)(row + o, some, vec_div(NAME(load_up_to)(row + o, some, 0), sum));
        }
    }
}

/* The whole Jacobian: dL/dz_j = y_j (dL/dy_j - sum_k y_k dL/dy_k). */
static void NAME(softmax_backward)(size_t n_rows, size_t n_units, const void *y__bo,
                                   size_t y_stride, void *d__bo, size_t d_stride) {
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *y_row = (const REAL *)y__bo + b * y_stride;
        REAL *d_row = (REAL *)d__bo + b * d_stride;
        vec total = vec_zero();
        FOR_EACH_VEC(o, some, n_units) {
            total = vec_fma(NAME(load_up_to)(y_row + o, some, 0),
                            NAME(load_up_to)(d_row + o, some, 0), total);
        }
        const vec dot = vec_set1(vec_sum(total));
        FOR_EACH_VEC(o, some, n_units) {
            const vec y = NAME(load_up_to)(y_row + o, some, 0);
            const vec d = NAME(load_up_to)(d_row + o, some, 0);
            NAME(store_up_to)(d_row + o, some, vec_mul(y, vec_sub(d, dot)));
        }
    }
}
