/* Losses of rows with their derivatives, and the accuracy metric.
 *
 * A row's terms are computed and summed in the element type, and its loss is as accurate as that
 * allows. Where probabilities or means are divided by or have their logarithm taken, they are
 * bounded from below by the dtype's epsilon, in the value and in the derivative. No finite output
 * with a valid target gives a NaN: what overflows in between is taken as the largest number. */

static const REAL NAME(one_at_middle)[2 * LANES] = {[LANES] = 1};
static const REAL NAME(zeros)[LANES] = {0};

/* The targets of a row's columns from o on. A label's ones and zeros are a window of the above. */
static FORCE_INLINE vec NAME(load_target)(cymlp_targets targets, size_t b, size_t o, size_t some) {
    if (targets.labels__b) {
        const size_t distance = (size_t)targets.labels__b[b] - o; /* huge, where it was passed */
        return vec_load(NAME(one_at_middle) + LANES - (distance < LANES ? distance : LANES));
    }
    return NAME(load_up_to)((const REAL *)targets.values__b_o[b] + o, some, 0);
}

/* With squares in double: for rows too short for vectors, or squares beyond the element type's
 * range. */
static double NAME(squared_error_row)(size_t n_units, const REAL *y, cymlp_targets targets,
                                      size_t b, double scale, REAL *delta) {
    double sum = 0;
    for (size_t o = 0; o < n_units; o++) {
        const REAL t = targets.labels__b ? (REAL)((size_t)targets.labels__b[b] == o)
                                         : ((const REAL *)targets.values__b_o[b])[o];
        const double error = (double)(y[o] - t);
        sum += error * error;
        delta[o] = (REAL)(scale * error);
    }
    return sum;
}

#define TOO_FEW_SQUARES 4

static void NAME(squared_error)(size_t n_rows, size_t n_units, const cymlp_loss_settings *settings,
                                const void *out__bo, size_t out_stride, cymlp_targets targets,
                                const double *scale__b, double *loss__b, void *delta__bo,
                                size_t delta_stride) {
    (void)settings;
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *y = (const REAL *)out__bo + b * out_stride;
        REAL *delta = (REAL *)delta__bo + b * delta_stride;
        double sum = (double)INFINITY;
        if (n_units >= TOO_FEW_SQUARES) {
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

/* Losses whose terms are each of one output alone. */

/* As numbers, 1 for the first `some` lanes and 0 for those behind a row's end. */
static FORCE_INLINE vec NAME(live)(size_t some) {
    return vec_sub(vec_set1(1), NAME(load_up_to)(NAME(zeros), some, 1));
}

/* Few outputs leave most of a vector empty: rows are then taken side by side. Gathers n_rows of
 * them into vectors' lanes, and fills up the rest with what gives finite terms. */
static FORCE_INLINE void NAME(gather_rows)(size_t n_rows, size_t n_units, const REAL *out__bo,
                                           size_t out_stride, cymlp_targets targets, size_t first,
                                           const REAL *unit__o, const double *scale__b, REAL *y__l,
                                           REAL *t__l, REAL *unit__l, REAL *scale__l) {
    size_t l = 0;
    for (size_t b = first; b < first + n_rows; b++) {
        for (size_t o = 0; o < n_units; o++, l++) {
            y__l[l] = out__bo[b * out_stride + o];
            t__l[l] = targets.labels__b ? (REAL)((size_t)targets.labels__b[b] == o)
                                        : ((const REAL *)targets.values__b_o[b])[o];
            unit__l[l] = unit__o ? unit__o[o] : 1;
            scale__l[l] = (REAL)scale__b[b];
        }
    }
    for (; l < LANES; l++) {
        y__l[l] = unit__l[l] = 1;
        t__l[l] = scale__l[l] = 0;
    }
}

static FORCE_INLINE void NAME(scatter_rows)(size_t n_rows, size_t n_units, const REAL *value__l,
                                            const REAL *delta__l, double *loss__b, REAL *delta__bo,
                                            size_t delta_stride) {
    for (size_t b = 0, l = 0; b < n_rows; b++) {
        REAL sum = 0;
        for (size_t o = 0; o < n_units; o++, l++) {
            sum += value__l[l];
            delta__bo[b * delta_stride + o] = delta__l[l];
        }
        loss__b[b] = (double)sum;
    }
}

/* What a term is told beside its output and target. */
typedef struct NAME(told) {
    vec unit; /* what the settings say of each output, 1 where they say nothing */
    size_t n_units;
    cymlp_loss_settings settings;
} NAME(told);

/* The loss of outputs y with targets t, and in *slope dL/dy. */
typedef vec NAME(term)(vec y, vec t, const NAME(told) * told, vec *slope);

#define TERM(NAME_OF_TERM) \
    static vec NAME_OF_TERM(vec y, vec t, const NAME(told) * told, vec * slope)

/* Sums up terms. There is one such loop for all losses: their terms are long enough for a call, and
 * a loop for each would be half of all the kernels' code. */
static NO_INLINE void NAME(sum_terms)(NAME(term) * term, size_t n_rows, size_t n_units,
                                      const cymlp_loss_settings *settings, const void *out__bo,
                                      size_t out_stride, cymlp_targets targets,
                                      const double *scale__b, double *loss__b, void *delta__bo,
                                      size_t delta_stride) {
    const REAL *unit__o = (const REAL *)settings->unit__o;
    const size_t side_by_side = LANES / n_units;
    NAME(told) told = {vec_set1(1), n_units, *settings};
    vec slope;
    for (size_t b = 0; side_by_side > 1 && b < n_rows; b += side_by_side) {
        const size_t rows = n_rows - b < side_by_side ? n_rows - b : side_by_side;
        REAL y__l[LANES], t__l[LANES], unit__l[LANES], scale__l[LANES], value__l[LANES];
        NAME(gather_rows)(rows, n_units, (const REAL *)out__bo, out_stride, targets, b, unit__o,
                          scale__b, y__l, t__l, unit__l, scale__l);
        told.unit = vec_load(unit__l);
        vec_store(value__l, term(vec_load(y__l), vec_load(t__l), &told, &slope));
        vec_store(y__l, vec_mul(vec_load(scale__l), slope));
        NAME(scatter_rows)(rows, n_units, value__l, y__l, loss__b + b,
                           (REAL *)delta__bo + b * delta_stride, delta_stride);
    }
    for (size_t b = 0; side_by_side <= 1 && b < n_rows; b++) {
        const REAL *y = (const REAL *)out__bo + b * out_stride;
        REAL *delta = (REAL *)delta__bo + b * delta_stride;
        const vec scale = vec_set1((REAL)scale__b[b]);
        vec sum = vec_zero();
        FOR_EACH_VEC(o, some, n_units) {
            told.unit = unit__o ? vec_load(unit__o + o) : vec_set1(1);
            const vec value = term(NAME(load_up_to)(y + o, some, 1),
                                   NAME(load_target)(targets, b, o, some), &told, &slope);
            sum = vec_fma(NAME(live)(some), value, sum);
            NAME(store_up_to)(delta + o, some, vec_mul(scale, slope));
        }
        loss__b[b] = (double)vec_sum(sum);
    }
}

/* The kernel of a loss that is the sum of its terms. */
#define LOSS(NAME_OF_LOSS, NAME_OF_TERM)                                                         \
    static void NAME_OF_LOSS(size_t n_rows, size_t n_units, const cymlp_loss_settings *settings, \
                             const void *out__bo, size_t out_stride, cymlp_targets targets,      \
                             const double *scale__b, double *loss__b, void *delta__bo,           \
                             size_t delta_stride) {                                              \
        NAME(sum_terms)(NAME_OF_TERM, n_rows, n_units, settings, out__bo, out_stride, targets,   \
                        scale__b, loss__b, delta__bo, delta_stride);                             \
    }

static FORCE_INLINE vec NAME(negative)(vec x) { return vec_sub(vec_zero(), x); }

#define PARAMETER(settings) vec_set1((REAL)(settings)->parameter)

/* The derivative of |e| is taken as 0 at 0. */
TERM(NAME(absolute_error_term)) {
    (void)told;
    const vec e = vec_sub(y, t);
    const vec size = vec_abs(e);
    *slope = vec_if_less(vec_zero(), size, vec_copysign(vec_set1(1), e), e);
    return size;
}
LOSS(NAME(absolute_error), NAME(absolute_error_term))

/* With c = e within [-delta, delta]: c (e - c / 2) is e^2 / 2 inside, delta (|e| - delta / 2)
 * outside, and its derivative c. */
TERM(NAME(huber_term)) {
    const vec e = vec_sub(y, t);
    const vec c =
        vec_max(NAME(negative)(PARAMETER(&told->settings)), vec_min(PARAMETER(&told->settings), e));
    *slope = c;
    return vec_mul(c, vec_sub(e, vec_mul(vec_set1((REAL)0.5), c)));
}
LOSS(NAME(huber), NAME(huber_term))

/* With h = tanh e: log cosh e = -log(1 - h^2) / 2 near zero, and beyond
 * |e| - log 2 + log(1 + exp(-2|e|)), where exp(-2|e|) = (1 - |h|) / (1 + |h|). */
TERM(NAME(log_cosh_term)) {
    (void)told;
    const vec e = vec_sub(y, t);
    const vec h = NAME(vec_tanh)(e);
    const vec size = vec_abs(h);
    const vec one = vec_set1(1);
    const vec half = vec_set1((REAL)0.5);
    const vec decay = vec_div(vec_sub(one, size), vec_add(one, size));
    const vec near_zero = NAME(negative)(vec_mul(h, h));
    const vec log = NAME(vec_log1p)(vec_if_less(size, half, near_zero, decay));
    const vec beyond = vec_sub(vec_abs(e), vec_sub(vec_set1((REAL)0.693147180559945309), log));
    *slope = h;
    return vec_if_less(size, half, NAME(negative)(vec_mul(half, log)), beyond);
}
LOSS(NAME(log_cosh), NAME(log_cosh_term))

/* unit: the level. */
TERM(NAME(quantile_term)) {
    const vec e = vec_sub(t, y);
    const vec other = vec_sub(told->unit, vec_set1(1));
    *slope = vec_if_less(vec_zero(), e, NAME(negative)(told->unit),
                         vec_if_less(e, vec_zero(), NAME(negative)(other), e));
    return vec_max(vec_mul(told->unit, e), vec_mul(other, e));
}
LOSS(NAME(quantile), NAME(quantile_term))

TERM(NAME(poisson_term)) {
    (void)told;
    const vec m = vec_max(vec_set1(EPSILON), y);
    *slope = vec_sub(vec_set1(1), vec_div(t, m));
    return vec_sub(m, vec_mul(t, NAME(vec_log)(m)));
}
LOSS(NAME(poisson), NAME(poisson_term))

TERM(NAME(gamma_term)) {
    (void)told;
    const vec m = vec_max(vec_set1(EPSILON), y);
    const vec r = vec_div(t, m);
    *slope = vec_div(vec_sub(vec_set1(1), r), m);
    return vec_add(r, NAME(vec_log)(m));
}
LOSS(NAME(gamma), NAME(gamma_term))

static FORCE_INLINE vec NAME(finite_exp)(vec x) {
    return vec_min(vec_set1(LARGEST), NAME(vec_exp)(x));
}

/* The two parts of Tweedie's loss and of its derivative by z = log m: t m^(1 - p) and m^(2 - p). */
static FORCE_INLINE vec NAME(tweedie_parts)(vec z, vec t, double power, vec *of_target) {
    const vec decay = NAME(finite_exp)(vec_mul(vec_set1((REAL)(1 - power)), z));
    *of_target = vec_min(vec_set1(LARGEST), vec_mul(t, decay));
    return NAME(finite_exp)(vec_mul(vec_set1((REAL)(2 - power)), z));
}

static FORCE_INLINE vec NAME(tweedie_value)(vec part, vec of_target, double power) {
    return vec_fma(of_target, vec_set1((REAL)(1 / (power - 1))),
                   vec_mul(part, vec_set1((REAL)(1 / (2 - power)))));
}

TERM(NAME(tweedie_term)) {
    const double power = told->settings.parameter;
    vec of_target;
    const vec m = vec_max(vec_set1(EPSILON), y);
    const vec part = NAME(tweedie_parts)(NAME(vec_log)(m), t, power, &of_target);
    *slope = vec_div(vec_sub(part, of_target), m);
    return NAME(tweedie_value)(part, of_target, power);
}
LOSS(NAME(tweedie), NAME(tweedie_term))

/* The same three of z = log m. */

TERM(NAME(exponential_poisson_term)) {
    (void)told;
    const vec m = NAME(vec_exp)(y);
    const vec largest = vec_set1(LARGEST);
    *slope = vec_sub(vec_min(largest, m), t);
    return vec_sub(m, vec_min(largest, vec_mul(t, y)));
}
LOSS(NAME(exponential_poisson), NAME(exponential_poisson_term))

/* Half of the largest number keeps the sum of the two from cancelling. */
TERM(NAME(exponential_gamma_term)) {
    (void)told;
    const vec decay = NAME(finite_exp)(NAME(negative)(y));
    const vec r = vec_min(vec_set1(LARGEST), vec_mul(t, decay));
    *slope = vec_sub(vec_set1(1), r);
    return vec_add(r, vec_max(vec_set1(-LARGEST / 2), y));
}
LOSS(NAME(exponential_gamma), NAME(exponential_gamma_term))

TERM(NAME(exponential_tweedie_term)) {
    const double power = told->settings.parameter;
    vec of_target;
    const vec part = NAME(tweedie_parts)(y, t, power, &of_target);
    *slope = vec_sub(part, of_target);
    return NAME(tweedie_value)(part, of_target, power);
}
LOSS(NAME(exponential_tweedie), NAME(exponential_tweedie_term))

/* Targets that are moved towards those of n_classes equally likely classes, by the settings. */
static FORCE_INLINE vec NAME(smoothed)(vec t, size_t n_classes,
                                       const cymlp_loss_settings *settings) {
    return vec_fma(vec_set1((REAL)(1 - settings->smoothing)), t,
                   vec_set1((REAL)(settings->smoothing / (double)n_classes)));
}

/* unit: the class's weight. */
TERM(NAME(cross_entropy_term)) {
    const vec w = vec_mul(told->unit, NAME(smoothed)(t, told->n_units, &told->settings));
    const vec p = vec_max(vec_set1(EPSILON), y);
    *slope = NAME(negative)(vec_div(w, p));
    return NAME(negative)(vec_mul(w, NAME(vec_log)(p)));
}
LOSS(NAME(cross_entropy), NAME(cross_entropy_term))

TERM(NAME(binary_cross_entropy_term)) {
    const vec one = vec_set1(1);
    const vec epsilon = vec_set1(EPSILON);
    const vec yes = NAME(smoothed)(t, 2, &told->settings);
    const vec no = vec_sub(one, yes);
    const vec p = vec_max(epsilon, y);
    const vec q = vec_max(epsilon, vec_sub(one, y));
    const vec of_no = vec_mul(no, NAME(vec_log)(q));
    *slope = vec_sub(vec_div(no, q), vec_div(yes, p));
    return NAME(negative)(vec_fma(yes, NAME(vec_log)(p), of_no));
}
LOSS(NAME(binary_cross_entropy), NAME(binary_cross_entropy_term))

/* With p = sigmoid(z): -t log p - (1 - t) log(1 - p) = max(z, 0) - z t + log(1 + exp(-|z|)),
 * and dL/dz = p - t. */
TERM(NAME(sigmoid_binary_cross_entropy_term)) {
    const vec yes = NAME(smoothed)(t, 2, &told->settings);
    const vec e = NAME(vec_decay)(y);
    const vec linear = vec_sub(vec_max(vec_zero(), y), vec_mul(y, yes));
    *slope = vec_sub(NAME(vec_sigmoid_of_decay)(y, e), yes);
    return vec_add(linear, NAME(vec_log1p)(e));
}
LOSS(NAME(sigmoid_binary_cross_entropy), NAME(sigmoid_binary_cross_entropy_term))

/* The derivative at the kink is taken as 0. */
TERM(NAME(hinge_term)) {
    (void)told;
    const vec one = vec_set1(1);
    const vec sign = vec_if_less(vec_zero(), t, one, vec_set1(-1));
    const vec missing = vec_sub(one, vec_mul(sign, y));
    *slope = vec_if_less(vec_zero(), missing, NAME(negative)(sign),
                         vec_if_less(missing, vec_zero(), vec_zero(), missing));
    return vec_max(vec_zero(), missing);
}
LOSS(NAME(hinge), NAME(hinge_term))

/* log(x), for any x of at least 0 that something as small is multiplied with. */
static FORCE_INLINE vec NAME(log_or_so)(vec x) {
    return NAME(vec_log)(vec_max(vec_set1(8 * TINY), x));
}

TERM(NAME(kl_divergence_term)) {
    (void)told;
    const vec p = vec_max(vec_set1(EPSILON), y);
    *slope = NAME(negative)(vec_div(t, p));
    return vec_mul(t, vec_sub(NAME(log_or_so)(t), NAME(vec_log)(p)));
}
LOSS(NAME(kl_divergence), NAME(kl_divergence_term))

/* The weight of ones is alpha, that of zeros 1 - alpha, and u the probability of what is not so:
 * the factor in front of an output's cross-entropy. */
static FORCE_INLINE vec NAME(focus)(vec t, vec u, const cymlp_loss_settings *settings) {
    const vec alpha = vec_set1((REAL)settings->smoothing);
    const vec other = vec_set1((REAL)(1 - settings->smoothing));
    const vec share = vec_fma(alpha, t, vec_mul(other, vec_sub(vec_set1(1), t)));
    const vec power = settings->parameter == 2
                          ? vec_mul(u, u)
                          : NAME(vec_exp)(vec_mul(PARAMETER(settings), NAME(log_or_so)(u)));
    return vec_mul(share, power);
}

/* With c the cross-entropy and u' = 1 - 2t: d(u^g c) = u^g (g u' c / u + c'). */
TERM(NAME(focal_term)) {
    const vec one = vec_set1(1);
    const vec epsilon = vec_set1(EPSILON);
    const vec rest = vec_sub(one, t);
    const vec p = vec_min(one, vec_max(epsilon, y));
    const vec q = vec_min(one, vec_max(epsilon, vec_sub(one, y)));
    const vec u = vec_fma(t, q, vec_mul(rest, p));
    const vec of_rest = vec_mul(rest, NAME(vec_log)(q));
    const vec c = NAME(negative)(vec_fma(t, NAME(vec_log)(p), of_rest));
    const vec focus = NAME(focus)(t, u, &told->settings);
    const vec steeper =
        vec_mul(vec_mul(PARAMETER(&told->settings), vec_sub(rest, t)), vec_div(c, u));
    *slope = vec_mul(focus, vec_add(steeper, vec_sub(vec_div(rest, q), vec_div(t, p))));
    return vec_mul(focus, c);
}
LOSS(NAME(focal), NAME(focal_term))

/* With p = sigmoid(z), q = 1 - p: dp/dz = p q, and p q / u is at most 1. */
TERM(NAME(sigmoid_focal_term)) {
    const vec rest = vec_sub(vec_set1(1), t);
    const vec e = NAME(vec_decay)(y);
    const vec p = NAME(vec_sigmoid_of_decay)(y, e);
    const vec q = NAME(vec_sigmoid_of_decay)(NAME(negative)(y), e);
    const vec u = vec_fma(t, q, vec_mul(rest, p));
    const vec linear = vec_sub(vec_max(vec_zero(), y), vec_mul(y, t));
    const vec c = vec_add(linear, NAME(vec_log1p)(e));
    const vec focus = NAME(focus)(t, u, &told->settings);
    const vec r = vec_div(vec_mul(p, q), vec_max(vec_set1(TINY), u));
    const vec steeper =
        vec_mul(vec_mul(PARAMETER(&told->settings), vec_sub(rest, t)), vec_mul(r, c));
    const vec error = vec_sub(vec_mul(rest, p), vec_mul(t, q));
    *slope = vec_mul(focus, vec_add(steeper, error));
    return vec_mul(focus, c);
}
LOSS(NAME(sigmoid_focal), NAME(sigmoid_focal_term))

/* The terms of the losses that have them. */
static NAME(term) *const NAME(terms)[CYMLP_N_LOSSES] = {
    [CYMLP_ABSOLUTE_ERROR] = NAME(absolute_error_term),
    [CYMLP_HUBER] = NAME(huber_term),
    [CYMLP_LOG_COSH] = NAME(log_cosh_term),
    [CYMLP_QUANTILE] = NAME(quantile_term),
    [CYMLP_POISSON] = NAME(poisson_term),
    [CYMLP_GAMMA] = NAME(gamma_term),
    [CYMLP_TWEEDIE] = NAME(tweedie_term),
    [CYMLP_CROSS_ENTROPY] = NAME(cross_entropy_term),
    [CYMLP_BINARY_CROSS_ENTROPY] = NAME(binary_cross_entropy_term),
    [CYMLP_HINGE] = NAME(hinge_term),
    [CYMLP_KL_DIVERGENCE] = NAME(kl_divergence_term),
    [CYMLP_FOCAL] = NAME(focal_term),
    [CYMLP_SIGMOID_BINARY_CROSS_ENTROPY] = NAME(sigmoid_binary_cross_entropy_term),
    [CYMLP_SIGMOID_FOCAL] = NAME(sigmoid_focal_term),
    [CYMLP_EXPONENTIAL_POISSON] = NAME(exponential_poisson_term),
    [CYMLP_EXPONENTIAL_GAMMA] = NAME(exponential_gamma_term),
    [CYMLP_EXPONENTIAL_TWEEDIE] = NAME(exponential_tweedie_term),
};

#undef LOSS
#undef TERM
#undef PARAMETER

/* The targets of some columns for the loss of a softmax, 0 behind a row's end. */
static FORCE_INLINE vec NAME(softmax_target)(const int bare, cymlp_targets targets, size_t b,
                                             size_t o, size_t some, size_t n_units,
                                             const cymlp_loss_settings *settings,
                                             const REAL *unit__o) {
    const vec t = NAME(load_target)(targets, b, o, some);
    if (bare) {
        return t;
    }
    const vec unit = unit__o ? vec_load(unit__o + o) : vec_set1(1);
    return vec_mul(NAME(live)(some), vec_mul(unit, NAME(smoothed)(t, n_units, settings)));
}

/* softmax_rows for labels alone and at most a vector of units, bit for bit: some rows, of which
 * each unit's deltas are one vector. */
static FORCE_INLINE void NAME(softmax_square)(size_t n_rows, size_t n_units, const REAL *z__lo,
                                              size_t z_stride, const int32_t *labels__l,
                                              const double *scale__l, double *loss__l,
                                              REAL *delta__lo, size_t delta_stride) {
    vec square[LANES], largest, of_label = vec_zero();
    REAL label__l[LANES] = {0}, real_scale__l[LANES] = {0};
    REAL log__l[LANES], largest__l[LANES], of_label__l[LANES];
    for (size_t l = 0; l < n_rows; l++) {
        label__l[l] = (REAL)labels__l[l];
        real_scale__l[l] = (REAL)scale__l[l];
    }
    const vec label = vec_load(label__l), scale = vec_load(real_scale__l);
#define IF_LABEL(o, yes, no) \
    vec_if_less(vec_abs(vec_sub(label, vec_set1((REAL)(o)))), vec_set1((REAL)0.5), yes, no)
    NAME(load_columns)(n_rows, n_units, z__lo, z_stride, square);
    for (size_t o = 0; o < n_units; o++) {
        of_label = IF_LABEL(o, square[o], of_label);
    }
    const vec sum = NAME(exp_columns)(n_units, square, &largest);
    vec_store(log__l, NAME(vec_log)(sum));
    vec_store(largest__l, largest);
    vec_store(of_label__l, of_label);
    for (size_t l = 0; l < n_rows; l++) {
        loss__l[l] = (double)log__l[l] + ((double)largest__l[l] - (double)of_label__l[l]);
    }
    const vec share = vec_div(scale, sum), minus = vec_sub(vec_zero(), scale);
    for (size_t o = 0; o < n_units; o++) {
        square[o] = vec_fma(share, square[o], IF_LABEL(o, minus, vec_zero()));
    }
#undef IF_LABEL
    NAME(store_columns)(n_rows, n_units, square, delta__lo, delta_stride);
}

/* With p = softmax(z): -sum t log p = sum t (log sum exp z - z), and dL/dz = p sum(t) - t.
 *
 * Some rows at once, so that their logarithms fill vectors. The targets are smoothed and weighted
 * unless they are bare. */
static FORCE_INLINE void NAME(softmax_rows)(const int bare, size_t n_rows, size_t n_units,
                                            const cymlp_loss_settings *settings,
                                            const void *out__bo, size_t out_stride,
                                            cymlp_targets targets, const double *scale__b,
                                            double *loss__b, void *delta__bo, size_t delta_stride) {
    const vec furthest = vec_set1(LARGEST);
    const REAL *unit__o = (const REAL *)settings->unit__o;
    size_t first = 0;
    if (bare && targets.labels__b && n_units <= LANES) {
        for (size_t rows; (rows = n_rows - first) >= ENOUGH_ROWS; first += rows) {
            const REAL *z = (const REAL *)out__bo + first * out_stride;
            REAL *delta = (REAL *)delta__bo + first * delta_stride;
            if (rows < LANES) {
                NAME(softmax_square)(rows, n_units, z, out_stride, targets.labels__b + first,
                                     scale__b + first, loss__b + first, delta, delta_stride);
            } else { /* a number that is constant: loops become vectors */
                rows = LANES;
                NAME(softmax_square)(LANES, n_units, z, out_stride, targets.labels__b + first,
                                     scale__b + first, loss__b + first, delta, delta_stride);
            }
        }
    }
    for (; first < n_rows; first += EXP_ROWS) {
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
            if (bare && targets.labels__b) {
                const double behind = (double)largest__b[l] - (double)z[targets.labels__b[b]];
                loss__b[b] = (double)log__b[l] + behind;
            } else {
                const vec largest = vec_set1(largest__b[l]);
                vec sum = vec_zero(), totals = vec_zero();
                FOR_EACH_VEC(o, some, n_units) {
                    const vec t =
                        NAME(softmax_target)(bare, targets, b, o, some, n_units, settings, unit__o);
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
                const vec t = vec_mul(minus, NAME(softmax_target)(bare, targets, b, o, some,
                                                                  n_units, settings, unit__o));
                NAME(store_up_to)(delta + o, some,
                                  vec_fma(share, NAME(load_up_to)(delta + o, some, 0), t));
            }
        }
    }
}

static NO_INLINE void NAME(softmax_of_bare)(size_t n_rows, size_t n_units,
                                            const cymlp_loss_settings *settings,
                                            const void *out__bo, size_t out_stride,
                                            cymlp_targets targets, const double *scale__b,
                                            double *loss__b, void *delta__bo, size_t delta_stride) {
    NAME(softmax_rows)(1, n_rows, n_units, settings, out__bo, out_stride, targets, scale__b,
                       loss__b, delta__bo, delta_stride);
}

static void NAME(softmax_cross_entropy)(size_t n_rows, size_t n_units,
                                        const cymlp_loss_settings *settings, const void *out__bo,
                                        size_t out_stride, cymlp_targets targets,
                                        const double *scale__b, double *loss__b, void *delta__bo,
                                        size_t delta_stride) {
    if (settings->smoothing == 0 && !settings->unit__o) {
        NAME(softmax_of_bare)(n_rows, n_units, settings, out__bo, out_stride, targets, scale__b,
                              loss__b, delta__bo, delta_stride);
    } else {
        NAME(softmax_rows)(0, n_rows, n_units, settings, out__bo, out_stride, targets, scale__b,
                           loss__b, delta__bo, delta_stride);
    }
}

/* The cross-entropy less the entropy of the targets, which has no slope. */
static void NAME(softmax_kl_divergence)(size_t n_rows, size_t n_units,
                                        const cymlp_loss_settings *settings, const void *out__bo,
                                        size_t out_stride, cymlp_targets targets,
                                        const double *scale__b, double *loss__b, void *delta__bo,
                                        size_t delta_stride) {
    NAME(softmax_of_bare)(n_rows, n_units, settings, out__bo, out_stride, targets, scale__b,
                          loss__b, delta__bo, delta_stride);
    for (size_t b = 0; targets.values__b_o && b < n_rows; b++) {
        vec sum = vec_zero();
        FOR_EACH_VEC(o, some, n_units) {
            const vec t = NAME(load_target)(targets, b, o, some);
            sum = vec_fma(t, NAME(log_or_so)(t), sum);
        }
        loss__b[b] += (double)vec_sum(sum);
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
