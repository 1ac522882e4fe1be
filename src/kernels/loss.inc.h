/* Losses of rows with their derivatives, and the accuracy metric.
 *
 * Values are summed in double. Where probabilities come in, they are bounded from below by the
 * dtype's epsilon, in the value and in the derivative. */

static FORCE_INLINE double NAME(target)(cymlp_targets targets, size_t b, size_t o) {
    return targets.labels__b ? (double)((size_t)targets.labels__b[b] == o)
                             : (double)((const REAL *)targets.values__b_o[b])[o];
}

static void NAME(squared_error)(size_t n_rows, size_t n_units, const void *out__bo,
                                size_t out_stride, cymlp_targets targets, const double *scale__b,
                                double *loss__b, void *delta__bo, size_t delta_stride) {
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *y = (const REAL *)out__bo + b * out_stride;
        REAL *delta = (REAL *)delta__bo + b * delta_stride;
        double sum = 0;
        for (size_t o = 0; o < n_units; o++) {
            const double error = (double)y[o] - NAME(target)(targets, b, o);
            sum += error * error;
            delta[o] = (REAL)(scale__b[b] * error);
        }
        loss__b[b] = 0.5 * sum;
    }
}

static FORCE_INLINE double NAME(at_least_epsilon)(double p) {
    return p < (double)EPSILON ? (double)EPSILON : p;
}

static void NAME(cross_entropy)(size_t n_rows, size_t n_units, const void *out__bo,
                                size_t out_stride, cymlp_targets targets, const double *scale__b,
                                double *loss__b, void *delta__bo, size_t delta_stride) {
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *y = (const REAL *)out__bo + b * out_stride;
        REAL *delta = (REAL *)delta__bo + b * delta_stride;
        double sum = 0;
        for (size_t o = 0; o < n_units; o++) {
            const double t = NAME(target)(targets, b, o);
            const double p = NAME(at_least_epsilon)((double)y[o]);
            sum -= t != 0 ? t * log(p) : 0;
            delta[o] = (REAL)(-scale__b[b] * t / p);
        }
        loss__b[b] = sum;
    }
}

static void NAME(binary_cross_entropy)(size_t n_rows, size_t n_units, const void *out__bo,
                                       size_t out_stride, cymlp_targets targets,
                                       const double *scale__b, double *loss__b, void *delta__bo,
                                       size_t delta_stride) {
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *y = (const REAL *)out__bo + b * out_stride;
        REAL *delta = (REAL *)delta__bo + b * delta_stride;
        double sum = 0;
        for (size_t o = 0; o < n_units; o++) {
            const double t = NAME(target)(targets, b, o);
            const double p = NAME(at_least_epsilon)((double)y[o]);
            const double q = NAME(at_least_epsilon)(1 - (double)y[o]);
            sum -= t * log(p) + (1 - t) * log(q);
            delta[o] = (REAL)(scale__b[b] * ((1 - t) / q - t / p));
        }
        loss__b[b] = sum;
    }
}

/* With p = softmax(z): -sum t log p = sum t (log sum exp z - z), and dL/dz = p sum(t) - t. */
static void NAME(softmax_cross_entropy)(size_t n_rows, size_t n_units, const void *out__bo,
                                        size_t out_stride, cymlp_targets targets,
                                        const double *scale__b, double *loss__b, void *delta__bo,
                                        size_t delta_stride) {
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *z = (const REAL *)out__bo + b * out_stride;
        REAL *delta = (REAL *)delta__bo + b * delta_stride;
        const REAL scale = (REAL)scale__b[b];
        const double log_sum = NAME(softmax_row)(n_units, z, delta);
        if (targets.labels__b) {
            const size_t label = (size_t)targets.labels__b[b];
            loss__b[b] = log_sum - (double)z[label];
            delta[label] -= 1;
            FOR_EACH_VEC(o, some, n_units) {
                NAME(store_up_to)(delta + o, some,
                                  vec_mul(NAME(load_up_to)(delta + o, some, 0), vec_set1(scale)));
            }
        } else {
            const REAL *t = (const REAL *)targets.values__b_o[b];
            double loss = 0, total = 0;
            for (size_t o = 0; o < n_units; o++) {
                loss += t[o] != 0 ? (double)t[o] * (log_sum - (double)z[o]) : 0;
                total += (double)t[o];
            }
            for (size_t o = 0; o < n_units; o++) {
                delta[o] = scale * (delta[o] * (REAL)total - t[o]);
            }
            loss__b[b] = loss;
        }
    }
}

/* With p = sigmoid(z): -t log p - (1 - t) log(1 - p) = max(z, 0) - z t + log(1 + exp(-|z|)),
 * and dL/dz = p - t. */
static void NAME(sigmoid_binary_cross_entropy)(size_t n_rows, size_t n_units, const void *out__bo,
                                               size_t out_stride, cymlp_targets targets,
                                               const double *scale__b, double *loss__b,
                                               void *delta__bo, size_t delta_stride) {
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *z = (const REAL *)out__bo + b * out_stride;
        REAL *delta = (REAL *)delta__bo + b * delta_stride;
        double sum = 0;
        FOR_EACH_VEC(o, some, n_units) {
            NAME(store_up_to)(delta + o, some, NAME(vec_sigmoid)(NAME(load_up_to)(z + o, some, 0)));
        }
        for (size_t o = 0; o < n_units; o++) {
            const double t = NAME(target)(targets, b, o), x = (double)z[o];
            sum += (x > 0 ? x : 0) - x * t + log1p(exp(-fabs(x)));
            delta[o] = (REAL)(scale__b[b] * ((double)delta[o] - t));
        }
        loss__b[b] = sum;
    }
}

static void NAME(accuracy)(size_t n_rows, size_t n_units, const void *out__bo, size_t out_stride,
                           cymlp_targets targets, double threshold, double *hit__b) {
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *out = (const REAL *)out__bo + b * out_stride;
        size_t best = 0, best_target = 0;
        if (n_units == 1 && !targets.labels__b) {
            best = (double)out[0] > threshold;
            best_target = NAME(target)(targets, b, 0) > 0.5;
        } else {
            for (size_t o = 1; o < n_units; o++) {
                best = out[o] > out[best] ? o : best;
            }
            if (targets.labels__b) {
                best_target = (size_t)targets.labels__b[b];
            } else {
                const REAL *t = (const REAL *)targets.values__b_o[b];
                for (size_t o = 1; o < n_units; o++) {
                    best_target = t[o] > t[best_target] ? o : best_target;
                }
            }
        }
        const REAL winner = out[n_units == 1 ? 0 : best];
        hit__b[b] = best == best_target && winner == winner; /* a NaN is right about nothing */
    }
}
