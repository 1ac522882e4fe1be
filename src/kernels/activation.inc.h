/* Activations of rows and their derivatives, in terms of their own output where that tells it.
 *
 * A row's columns are contiguous; columns from n_units on are neither read nor written. */

/* The activations of a few operations, of a vector; `a` is their parameter. */
static FORCE_INLINE vec NAME(simple)(enum cymlp_activation activation, vec a, vec z) {
    switch (activation) {
    case CYMLP_RELU:
        return vec_max(vec_zero(), z);
    case CYMLP_SIGMOID:
        return NAME(vec_sigmoid)(z);
    case CYMLP_TANH:
        return NAME(vec_tanh)(z);
    case CYMLP_LEAKY_RELU:
        return vec_if_less(z, vec_zero(), vec_mul(a, z), z);
    default:
        return z;
    }
}

/* The derivative by z of what has the derivative d by y. */
static FORCE_INLINE vec NAME(simple_backward)(enum cymlp_activation activation, vec a, vec y,
                                              vec d) {
    const vec one = vec_set1(1);
    switch (activation) {
    case CYMLP_RELU:
        return vec_if_less(vec_zero(), y, d, vec_zero());
    case CYMLP_SIGMOID:
        return vec_mul(d, vec_mul(y, vec_sub(one, y)));
    case CYMLP_TANH:
        return vec_mul(d, vec_mul(vec_sub(one, y), vec_add(one, y)));
    case CYMLP_LEAKY_RELU:
        return vec_if_less(vec_zero(), y, d, vec_mul(a, d));
    default:
        return d;
    }
}

static FORCE_INLINE int NAME(is_simple)(enum cymlp_activation activation) {
    return activation <= CYMLP_TANH || activation == CYMLP_LEAKY_RELU;
}

/* In an expression, `a` is the activation's parameter. */
#define ACTIVATION(NAME_OF_FORWARD, EXPRESSION)                                        \
    static void NAME(NAME_OF_FORWARD)(size_t n_rows, size_t n_units, double alpha,     \
                                      const void *z__bo, size_t z_stride, void *y__bo, \
                                      size_t y_stride) {                               \
        const vec a = vec_set1((REAL)alpha);                                           \
        (void)a;                                                                       \
        for (size_t b = 0; b < n_rows; b++) {                                          \
            const REAL *z_row = (const REAL *)z__bo + b * z_stride;                    \
            REAL *y_row = (REAL *)y__bo + b * y_stride;                                \
            FOR_EACH_VEC(o, some, n_units) {                                           \
                const vec z = NAME(load_up_to)(z_row + o, some, 0);                    \
                NAME(store_up_to)(y_row + o, some, EXPRESSION);                        \
            }                                                                          \
        }                                                                              \
    }

/* KEPT is what the expression calls what is kept: y or, where cymlp_keeps_z says so, z. */
#define ACTIVATION_BACKWARD(NAME_OF_BACKWARD, KEPT, EXPRESSION)                               \
    static void NAME(NAME_OF_BACKWARD)(size_t n_rows, size_t n_units, double alpha,           \
                                       const void *kept__bo, size_t kept_stride, void *d__bo, \
                                       size_t d_stride) {                                     \
        const vec a = vec_set1((REAL)alpha);                                                  \
        (void)a;                                                                              \
        for (size_t b = 0; b < n_rows; b++) {                                                 \
            const REAL *kept_row = (const REAL *)kept__bo + b * kept_stride;                  \
            REAL *d_row = (REAL *)d__bo + b * d_stride;                                       \
            FOR_EACH_VEC(o, some, n_units) {                                                  \
                const vec KEPT = NAME(load_up_to)(kept_row + o, some, 0);                     \
                const vec d = NAME(load_up_to)(d_row + o, some, 0);                           \
                NAME(store_up_to)(d_row + o, some, EXPRESSION);                               \
            }                                                                                 \
        }                                                                                     \
    }

static void NAME(identity)(size_t n_rows, size_t n_units, double alpha, const void *z__bo,
                           size_t z_stride, void *y__bo, size_t y_stride) {
    (void)alpha;
    if (z__bo == y__bo) {
        return;
    }
    for (size_t b = 0; b < n_rows; b++) {
        memcpy((REAL *)y__bo + b * y_stride, (const REAL *)z__bo + b * z_stride,
               n_units * sizeof(REAL));
    }
}

static void NAME(identity_backward)(size_t n_rows, size_t n_units, double alpha, const void *y__bo,
                                    size_t y_stride, void *d__bo, size_t d_stride) {
    (void)n_rows, (void)n_units, (void)alpha, (void)y__bo, (void)y_stride, (void)d__bo;
    (void)d_stride;
}

ACTIVATION(relu, NAME(simple)(CYMLP_RELU, a, z))
ACTIVATION_BACKWARD(relu_backward, y, NAME(simple_backward)(CYMLP_RELU, a, y, d))

ACTIVATION(sigmoid, NAME(simple)(CYMLP_SIGMOID, a, z))
ACTIVATION_BACKWARD(sigmoid_backward, y, NAME(simple_backward)(CYMLP_SIGMOID, a, y, d))

ACTIVATION(tanh, NAME(simple)(CYMLP_TANH, a, z))
ACTIVATION_BACKWARD(tanh_backward, y, NAME(simple_backward)(CYMLP_TANH, a, y, d))

ACTIVATION(leaky_relu, NAME(simple)(CYMLP_LEAKY_RELU, a, z))
ACTIVATION_BACKWARD(leaky_relu_backward, y, NAME(simple_backward)(CYMLP_LEAKY_RELU, a, y, d))

/* Below zero f(z) = a (exp(z) - 1), so that f'(z) = y + a. */
ACTIVATION(elu, vec_if_less(z, vec_zero(),
                            vec_mul(vec_sub(vec_zero(), a), NAME(vec_rise)(vec_abs(z))), z))
ACTIVATION_BACKWARD(elu_backward, y, vec_if_less(vec_zero(), y, d, vec_mul(d, vec_add(y, a))))

#define SELU_SCALE vec_set1((REAL)1.05070098735548049342)
#define SELU_DEPTH ((REAL)1.75809934084737685994) /* scale * alpha */
ACTIVATION(selu,
           vec_if_less(z, vec_zero(), vec_mul(vec_set1(-SELU_DEPTH), NAME(vec_rise)(vec_abs(z))),
                       vec_mul(SELU_SCALE, z)))
ACTIVATION_BACKWARD(selu_backward, y,
                    vec_mul(d, vec_if_less(vec_zero(), y, SELU_SCALE,
                                           vec_add(y, vec_set1(SELU_DEPTH)))))
#undef SELU_SCALE
#undef SELU_DEPTH

ACTIVATION(gelu, NAME(vec_gelu)(z))
ACTIVATION_BACKWARD(gelu_backward, z, vec_mul(d, NAME(vec_gelu_slope)(z)))

ACTIVATION(gelu_tanh, NAME(vec_gelu_tanh)(z))
ACTIVATION_BACKWARD(gelu_tanh_backward, z, vec_mul(d, NAME(vec_gelu_tanh_slope)(z)))

ACTIVATION(silu, NAME(vec_gated)(z, vec_abs(z)))
ACTIVATION_BACKWARD(silu_backward, z, vec_mul(d, NAME(vec_gated_slope)(z, vec_abs(z), z)))

ACTIVATION(mish, NAME(vec_mish)(z))
ACTIVATION_BACKWARD(mish_backward, z, vec_mul(d, NAME(vec_mish_slope)(z)))

/* f'(z) = sigmoid(z) = 1 - exp(-y) */
ACTIVATION(softplus, NAME(vec_softplus)(z))
ACTIVATION_BACKWARD(softplus_backward, y, vec_mul(d, NAME(vec_rise)(y)))

ACTIVATION(softsign, vec_div(z, vec_add(vec_set1(1), vec_abs(z))))
ACTIVATION_BACKWARD(softsign_backward, y,
                    vec_mul(d, vec_mul(vec_sub(vec_set1(1), vec_abs(y)),
                                       vec_sub(vec_set1(1), vec_abs(y)))))

#define SIXTH vec_set1((REAL)(1.0 / 6))
ACTIVATION(hard_sigmoid,
           vec_mul(SIXTH, vec_min(vec_set1(6), vec_max(vec_zero(), vec_add(z, vec_set1(3))))))
ACTIVATION_BACKWARD(hard_sigmoid_backward, y,
                    vec_if_less(vec_zero(), y,
                                vec_if_less(y, vec_set1(1), vec_mul(SIXTH, d), vec_zero()),
                                vec_zero()))
#undef SIXTH

ACTIVATION(exponential, NAME(vec_exp)(z))
ACTIVATION_BACKWARD(exponential_backward, y, vec_mul(d, y))

#undef ACTIVATION
#undef ACTIVATION_BACKWARD

/* Rows that are taken at once, whole squares of them, and those of a square that are worth turning
 * it: of two lanes it never is. */
#define EXP_ROWS 16
#define ENOUGH_ROWS (LANES > 2 ? LANES / 4 + 1 : EXP_ROWS + 1)

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

/* Some rows of at most a vector of units, a column in a vector; and back. */
static FORCE_INLINE void NAME(load_columns)(size_t n_rows, size_t n_units, const REAL *z__lo,
                                            size_t z_stride, vec square__o[LANES]) {
    UNROLL
    for (size_t l = 0; l < LANES; l++) {
        square__o[l] =
            l < n_rows ? NAME(load_up_to)(z__lo + l * z_stride, n_units, -INFINITY) : vec_zero();
    }
    vec_transpose(square__o);
}

static FORCE_INLINE void NAME(store_columns)(size_t n_rows, size_t n_units, vec square__o[LANES],
                                             REAL *y__lo, size_t y_stride) {
    vec_transpose(square__o);
    for (size_t l = 0; l < n_rows; l++) {
        NAME(store_up_to)(y__lo + l * y_stride, n_units, square__o[l]);
    }
}

/* exp_row for all rows of some columns at once, bit for bit: the maximum and the sum of a row need
 * no exchange between lanes, and few units need few exponentials. Returns the sums. */
static FORCE_INLINE vec NAME(exp_columns)(size_t n_units, vec square__o[LANES], vec *largest) {
    vec total[LANES], high = vec_set1(-INFINITY);
    size_t n_terms = 1; /* the power of two that n_units is not above */
    while (n_terms < n_units) {
        n_terms *= 2;
    }
    for (size_t o = 0; o < n_units; o++) {
        high = vec_max(high, square__o[o]);
    }
    for (size_t o = 0; o < n_units; o++) {
        square__o[o] = total[o] = NAME(vec_exp)(vec_sub(square__o[o], high));
    }
    for (size_t o = n_units; o < n_terms; o++) {
        total[o] = vec_zero();
    }
    UNROLL
    for (int half = LANES / 2; half > 0; half /= 2) { /* as vec_sum adds, but for zeros */
        if ((size_t)half >= n_terms) {
            continue;
        }
        UNROLL
        for (int o = 0; o < half; o++) {
            total[o] = vec_add(total[o], total[o + half]);
        }
    }
    *largest = high;
    return total[0];
}

static FORCE_INLINE void NAME(exp_square)(size_t n_rows, size_t n_units, const REAL *z__lo,
                                          size_t z_stride, REAL *y__lo, size_t y_stride,
                                          REAL *sum__l, REAL *largest__l) {
    vec square[LANES], largest;
    NAME(load_columns)(n_rows, n_units, z__lo, z_stride, square);
    vec_store(sum__l, NAME(exp_columns)(n_units, square, &largest));
    vec_store(largest__l, largest);
    NAME(store_columns)(n_rows, n_units, square, y__lo, y_stride);
}

/* exp_row for some rows, at most EXP_ROWS; sum__b and largest__b have room for so many. */
static FORCE_INLINE void NAME(exp_rows)(size_t n_rows, size_t n_units, const REAL *z__bo,
                                        size_t z_stride, REAL *y__bo, size_t y_stride, REAL *sum__b,
                                        REAL *largest__b) {
    size_t b = 0;
    if (n_units <= LANES) {
        for (size_t left; (left = n_rows - b) >= ENOUGH_ROWS; b += left < LANES ? left : LANES) {
            NAME(exp_square)(left < LANES ? left : LANES, n_units, z__bo + b * z_stride, z_stride,
                             y__bo + b * y_stride, y_stride, sum__b + b, largest__b + b);
        }
    }
    for (; b < n_rows; b++) {
        sum__b[b] =
            NAME(exp_row)(n_units, z__bo + b * z_stride, y__bo + b * y_stride, &largest__b[b]);
    }
}

static void NAME(softmax)(size_t n_rows, size_t n_units, double alpha, const void *z__bo,
                          size_t z_stride, void *y__bo, size_t y_stride) {
    (void)alpha;
    for (size_t first = 0; first < n_rows; first += EXP_ROWS) {
        const size_t rows = n_rows - first < EXP_ROWS ? n_rows - first : EXP_ROWS;
        REAL *y = (REAL *)y__bo + first * y_stride, sum__b[EXP_ROWS], largest__b[EXP_ROWS];
        NAME(exp_rows)(rows, n_units, (const REAL *)z__bo + first * z_stride, z_stride, y, y_stride,
                       sum__b, largest__b);
        for (size_t b = 0; b < rows; b++, y += y_stride) {
            const vec sum = vec_set1(sum__b[b]);
            FOR_EACH_VEC(o, some, n_units) {
                NAME(store_up_to)(y + o, some, vec_div(NAME(load_up_to)(y + o, some, 0), sum));
            }
        }
    }
}

/* The whole Jacobian: dL/dz_j = y_j (dL/dy_j - sum_k y_k dL/dy_k). */
static void NAME(softmax_backward)(size_t n_rows, size_t n_units, double alpha, const void *y__bo,
                                   size_t y_stride, void *d__bo, size_t d_stride) {
    (void)alpha;
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *y_row = (const REAL *)y__bo + b * y_stride;
        REAL *d_row = (REAL *)d__bo + b * d_stride;
        REAL total;
#define TERM(sum, o, some) \
    vec_fma(NAME(load_up_to)(y_row + (o), some, 0), NAME(load_up_to)(d_row + (o), some, 0), sum)
        ROW_SUM(total, n_units, TERM);
#undef TERM
        const vec dot = vec_set1(total);
        FOR_EACH_VEC(o, some, n_units) {
            const vec y = NAME(load_up_to)(y_row + o, some, 0);
            const vec d = NAME(load_up_to)(d_row + o, some, 0);
            NAME(store_up_to)(d_row + o, some, vec_mul(y, vec_sub(d, dot)));
        }
    }
}
