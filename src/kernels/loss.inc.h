/* Losses of rows with their derivatives, and the accuracy metric.
 *
 * A row's terms are computed and summed in the element type, and its loss is as accurate as that
 * allows. Where probabilities come in, they are bounded from below by the dtype's epsilon, in the
 * value and in the derivative. The lanes behind a row's end are filled with what costs nothing. */

static const REAL NAME(one_at_middle)[2 * LANES] = {[LANES] = 1};

/* The targets of a row's columns from o on. A label's ones and zeros are a window of the above. */
static FORCE_INLINE vec NAME(load_target)(cymlp_targets targets, size_t b, size_t o, size_t some) {
    if (targets.labels__b) {
        const size_t distance = (size_t)targets.labels__b[b] - o; /* huge, where it was passed */
        return vec_load(NAME(one_at_middle) + LANES - (distance < LANES ? distance : LANES));
    }
    return NAME(load_up_to)((const REAL *)targets.values__b_o[b] + o, some, 0);
}

/* In double: for rows too short for vectors, or with squares beyond the element type's range. */
static double NAME(squared_error_row)(size_t n_units, const REAL *y, cymlp_targets targets,
                                      size_t b, double scale, REAL *delta) {
    double sum = 0;
    for (size_t o = 0; o < n_units; o++) {
        const double t = targets.labels__b ? (double)((size_t)targets.labels__b[b] == o)
                                           : (double)((const REAL *)targets.values__b_o[b])[o];
        const double error = (double)y[o] - t;
        sum += error * error;
        delta[o] = (REAL)(scale * error);
    }
    return sum;
}

static void NAME(squared_error)(size_t n_rows, size_t n_units, const cymlp_loss_settings *settings,
                                const void *out__bo, size_t out_stride, cymlp_targets targets,
                                const double *scale__b, double *loss__b, void *delta__bo,
                                size_t delta_stride) {
    (void)settings;
    const size_t too_few = 4;
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *y = (const REAL *)out__bo + b * out_stride;
        REAL *delta = (REAL *)delta__bo + b * delta_stride;
        double sum = (double)INFINITY;
        if (n_units >= too_few) {
            const vec scale = vec_set1((REAL)scale__b[b]);
            vec squares = vec_zero();
            FOR_EACH_VEC(o, some, n_units) {
                const vec error = vec_sub(NAME(load_up_to)(y + o, some, 0),
                                          NAME(load_target)(targets, b, o, some));
                squares = vec_fma(error, error, squares);
                NAME(store_up_to)(delta + o, some, vec_mul(scale, error));
            }
            sum = (double)vec_sum(squares);
        }
        if (sum == (double)INFINITY) {
            sum = NAME(squared_error_row)(n_units, y, targets, b, scale__b[b], delta);
        }
        loss__b[b] = 0.5 * sum;
    }
}

static void NAME(cross_entropy)(size_t n_rows, size_t n_units, const cymlp_loss_settings *settings,
                                const void *out__bo, size_t out_stride, cymlp_targets targets,
                                const double *scale__b, double *loss__b, void *delta__bo,
                                size_t delta_stride) {
    (void)settings;
    const vec epsilon = vec_set1(EPSILON);
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *y = (const REAL *)out__bo + b * out_stride;
        REAL *delta = (REAL *)delta__bo + b * delta_stride;
        const vec scale = vec_set1(-(REAL)scale__b[b]);
        vec sum = vec_zero();
        FOR_EACH_VEC(o, some, n_units) {
            const vec t = NAME(load_target)(targets, b, o, some);
            const vec p = vec_max(epsilon, NAME(load_up_to)(y + o, some, 1));
            sum = vec_fma(t, NAME(vec_log)(p), sum);
            NAME(store_up_to)(delta + o, some, vec_div(vec_mul(scale, t), p));
        }
        loss__b[b] = 0 - (double)vec_sum(sum);
    }
}

static void NAME(binary_cross_entropy)(size_t n_rows, size_t n_units,
                                       const cymlp_loss_settings *settings, const void *out__bo,
                                       size_t out_stride, cymlp_targets targets,
                                       const double *scale__b, double *loss__b, void *delta__bo,
                                       size_t delta_stride) {
    (void)settings;
    const vec epsilon = vec_set1(EPSILON), one = vec_set1(1);
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *y = (const REAL *)out__bo + b * out_stride;
        REAL *delta = (REAL *)delta__bo + b * delta_stride;
        const vec scale = vec_set1((REAL)scale__b[b]);
        vec sum = vec_zero();
        FOR_EACH_VEC(o, some, n_units) {
            const vec t = NAME(load_target)(targets, b, o, some), rest = vec_sub(one, t);
            const vec out = NAME(load_up_to)(y + o, some, 0);
            const vec p = vec_max(epsilon, out), q = vec_max(epsilon, vec_sub(one, out));
            sum = vec_fma(t, NAME(vec_log)(p), vec_fma(rest, NAME(vec_log)(q), sum));
            const vec slope = vec_sub(vec_div(rest, q), vec_div(t, p));
            NAME(store_up_to)(delta + o, some, vec_mul(scale, slope));
        }
        loss__b[b] = 0 - (double)vec_sum(sum);
    }
}

/* With p = softmax(z): -sum t log p = sum t (log sum exp z - z), and dL/dz = p sum(t) - t.
 *
 * Some rows at once, so that their logarithms fill vectors. */
static void NAME(softmax_cross_entropy)(size_t n_rows, size_t n_units,
                                        const cymlp_loss_settings *settings, const void *out__bo,
                                        size_t out_stride, cymlp_targets targets,
                                        const double *scale__b, double *loss__b, void *delta__bo,
                                        size_t delta_stride) {
    (void)settings;
    const vec furthest = vec_set1(LARGEST);
    for (size_t first = 0; first < n_rows; first += EXP_ROWS) {
        const size_t rows = n_rows - first < EXP_ROWS ? n_rows - first : EXP_ROWS;
        REAL sum__b[EXP_ROWS], log__b[EXP_ROWS], largest__b[EXP_ROWS];
        NAME(exp_rows)(rows, n_units, (const REAL *)out__bo + first * out_stride, out_stride,
                       (REAL *)delta__bo + first * delta_stride, delta_stride, sum__b, largest__b);
        for (size_t l = rows; l < EXP_ROWS; l++) {
            sum__b[l] = 1;
        }
        for (size_t l = 0; l < rows; l += LANES) {
            vec_store(log__b + l, NAME(vec_log)(vec_load(sum__b + l)));
        }
        for (size_t l = 0; l < rows; l++) {
            const size_t b = first + l;
            const REAL *z = (const REAL *)out__bo + b * out_stride;
            REAL *delta = (REAL *)delta__bo + b * delta_stride;
            const REAL scale = (REAL)scale__b[b];
            REAL total = 1; /* of the targets */
            if (targets.labels__b) {
                const double behind = (double)largest__b[l] - (double)z[targets.labels__b[b]];
                loss__b[b] = (double)log__b[l] + behind;
            } else {
                const vec largest = vec_set1(largest__b[l]);
                vec sum = vec_zero(), totals = vec_zero();
                FOR_EACH_VEC(o, some, n_units) {
                    const vec t = NAME(load_target)(targets, b, o, some);
                    /* Finite, since t may be zero. */
                    const vec behind = vec_min(
                        furthest, vec_sub(largest, NAME(load_up_to)(z + o, some, largest__b[l])));
                    sum = vec_fma(t, behind, sum);
                    totals = vec_add(totals, t);
                }
                total = vec_sum(totals);
                loss__b[b] = (double)total * (double)log__b[l] + (double)vec_sum(sum);
            }
            const vec share = vec_set1(scale * total / sum__b[l]), minus = vec_set1(-scale);
            FOR_EACH_VEC(o, some, n_units) {
                const vec t = vec_mul(minus, NAME(load_target)(targets, b, o, some));
                NAME(store_up_to)(delta + o, some,
                                  vec_fma(share, NAME(load_up_to)(delta + o, some, 0), t));
            }
        }
    }
}

/* With p = sigmoid(z): -t log p - (1 - t) log(1 - p) = max(z, 0) - z t + log(1 + exp(-|z|)),
 * and dL/dz = p - t. */
static void NAME(sigmoid_binary_cross_entropy)(size_t n_rows, size_t n_units,
                                               const cymlp_loss_settings *settings,
                                               const void *out__bo, size_t out_stride,
                                               cymlp_targets targets, const double *scale__b,
                                               double *loss__b, void *delta__bo,
                                               size_t delta_stride) {
    (void)settings;
    const REAL sure = -1000; /* exp(-1000) is zero */
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *z = (const REAL *)out__bo + b * out_stride;
        REAL *delta = (REAL *)delta__bo + b * delta_stride;
        const vec scale = vec_set1((REAL)scale__b[b]);
        vec sum = vec_zero();
        FOR_EACH_VEC(o, some, n_units) {
            const vec t = NAME(load_target)(targets, b, o, some);
            const vec x = NAME(load_up_to)(z + o, some, sure);
            const vec e = NAME(vec_decay)(x);
            const vec linear = vec_sub(vec_max(vec_zero(), x), vec_mul(x, t));
            sum = vec_add(sum, vec_add(linear, NAME(vec_log1p)(e)));
            const vec error = vec_sub(NAME(vec_sigmoid_of_decay)(x, e), t);
            NAME(store_up_to)(delta + o, some, vec_mul(scale, error));
        }
        loss__b[b] = (double)vec_sum(sum);
    }
}

static void NAME(accuracy)(size_t n_rows, size_t n_units, const void *out__bo, size_t out_stride,
                           cymlp_targets targets, double threshold, double *hit__b) {
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *out = (const REAL *)out__bo + b * out_stride;
        const REAL *t = targets.labels__b ? NULL : (const REAL *)targets.values__b_o[b];
        size_t best = 0;
        int hit = out[0] == out[0]; /* a NaN is right about nothing */
        if (n_units == 1 && t) {
            hit &= ((double)out[0] > threshold) == ((double)t[0] > 0.5);
        } else {
            if (t) {
                for (size_t o = 1; o < n_units; o++) {
                    best = t[o] > t[best] ? o : best;
                }
            } else {
                best = (size_t)targets.labels__b[b];
            }
            /* No branch, which would be as hard to predict as the label. The first wins a tie. */
            const REAL winner = out[best];
            hit &= winner == winner;
            for (size_t o = 0; o < n_units; o++) {
                hit &= !((out[o] > winner) | ((out[o] == winner) & (o < best)));
            }
        }
        hit__b[b] = hit;
    }
}
