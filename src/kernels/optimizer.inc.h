/* Optimizer steps on n parameters, given their gradient.
 *
 * Called through the table with a gradient tile in memory: inlined into the tile's function their
 * constants would push its accumulators out of the registers. The gradient of a single row has no
 * accumulators, and is used up as it is computed. */

#define LOAD(p) NAME(load_up_to)((p) + j, some, 0)
#define STORE(p, v) NAME(store_up_to)((p) + j, some, v)

/* 0 of 0, and a NaN of a NaN. */
static FORCE_INLINE vec NAME(sign)(vec x) {
    const vec below = vec_if_less(x, vec_zero(), vec_set1(-1), x);
    return vec_if_less(vec_zero(), x, vec_set1(1), below);
}

static void NAME(store_gradient)(size_t n, const void *g__n, void *w__n,
                                 void *const slots__n[CYMLP_N_SLOTS], const cymlp_step *step) {
    const vec l2 = vec_set1((REAL)step->l2), l1 = vec_set1((REAL)step->l1);
    const int has_l1 = step->l1 != 0;
    REAL *gradient = (REAL *)slots__n[0];
    FOR_EACH_VEC(j, some, n) {
        const vec w = LOAD((const REAL *)w__n);
        const vec g = vec_fma(l2, w, LOAD((const REAL *)g__n));
        STORE(gradient, has_l1 ? vec_fma(l1, NAME(sign)(w), g) : g);
    }
}

static void NAME(accumulate_gradient)(size_t n, const void *g__n, void *w__n,
                                      void *const slots__n[CYMLP_N_SLOTS], const cymlp_step *step) {
    REAL *sum = (REAL *)slots__n[0];
    (void)w__n, (void)step;
    FOR_EACH_VEC(j, some, n) {
        STORE(sum, vec_add(LOAD(sum), LOAD((const REAL *)g__n)));
    }
}

/* The scalars of a step, as vectors. */
typedef struct {
    int is_penalized; /* one multiply-add in ten of Adam's would add zeros */
    int decays;       /* beside the gradient; only where is_penalized */
    vec l2, kept, rate, momentum, beta_1, beta_2, rest_2, size, g_size, root_scale, epsilon;
    vec eta_minus, eta_plus, smallest_step, largest_step;
} NAME(factors);

static FORCE_INLINE NAME(factors) NAME(factors_of)(const cymlp_step *step) {
    NAME(factors) f;
    const double l2 = step->l2 + step->weight_decay;
    f.is_penalized = l2 + step->decoupled_decay > 0;
    f.decays = 0;
    f.l2 = f.kept = vec_zero();
    if (f.is_penalized) { /* a step of a small network takes less than a hundred operations */
        f.decays = step->decoupled_decay > 0;
        f.l2 = vec_set1((REAL)l2);
        f.kept = vec_set1((REAL)(1 - step->learning_rate * step->decoupled_decay));
    }
    f.rate = vec_set1((REAL)step->learning_rate);
    f.momentum = vec_set1((REAL)step->momentum);
    f.beta_1 = vec_set1((REAL)step->beta_1);
    f.beta_2 = vec_set1((REAL)step->beta_2);
    f.rest_2 = vec_set1((REAL)(1 - step->beta_2));
    f.size = vec_set1((REAL)(step->learning_rate * step->m_scale));
    f.g_size = vec_set1((REAL)(step->learning_rate * step->g_scale));
    f.root_scale = vec_set1((REAL)step->v_root_scale);
    f.epsilon = vec_set1((REAL)step->epsilon);
    f.eta_minus = vec_set1((REAL)step->eta_minus);
    f.eta_plus = vec_set1((REAL)step->eta_plus);
    f.smallest_step = vec_set1((REAL)step->smallest_step);
    f.largest_step = vec_set1((REAL)step->largest_step);
    return f;
}

/* decay a + (1 - decay) x */
static FORCE_INLINE vec NAME(averaged)(vec decay, vec a, vec x) {
    return vec_fma(decay, vec_sub(a, x), x);
}

/* decay v + (1 - decay) g^2 */
static FORCE_INLINE vec NAME(averaged_square)(const NAME(factors) * f, vec v, vec g) {
    return vec_fma(f->beta_2, v, vec_mul(f->rest_2, vec_mul(g, g)));
}

/* Moves the parameters from w + j on by their gradient g; `some` says how many of them remain.
 *
 * Adam: D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, 2015, algorithm 1.
 * AMSGrad: S. J. Reddi et al., On the convergence of Adam and beyond, 2018, with the corrections.
 * NAdam: T. Dozat, Incorporating Nesterov momentum into Adam, 2016.
 * RMSprop: G. Hinton, lecture 6e, 2012; centered: A. Graves, Generating sequences, 2013, eq. 40.
 * Adagrad: J. Duchi et al., Adaptive subgradient methods, 2011. Adadelta: M. D. Zeiler, 2012.
 * Lion: X. Chen et al., Symbolic discovery of optimization algorithms, 2023.
 * Rprop: M. Riedmiller and H. Braun, 1993, as C. Igel and M. Huesken's iRprop-, 2000. */
static FORCE_INLINE void NAME(move)(const enum cymlp_optimizer optimizer, NAME(factors) f, vec g,
                                    REAL *w__, REAL *const slot[CYMLP_N_SLOTS], size_t j,
                                    size_t some) {
    vec w = LOAD(w__), way;
    if (f.is_penalized) {
        g = vec_fma(f.l2, w, g);
        w = f.decays ? vec_mul(f.kept, w) : w;
    }
    switch (optimizer) {
    case CYMLP_SGD:
        way = vec_mul(f.rate, g);
        break;
    case CYMLP_MOMENTUM:
    case CYMLP_NESTEROV: { /* v = momentum v + g; w -= rate v or rate (g + momentum v) */
        const vec v = vec_fma(f.momentum, LOAD(slot[0]), g);
        STORE(slot[0], v);
        way = vec_mul(f.rate, optimizer == CYMLP_NESTEROV ? vec_fma(f.momentum, v, g) : v);
        break;
    }
    case CYMLP_ADAM:
    case CYMLP_AMSGRAD:
    case CYMLP_NADAM: {
        const vec m = NAME(averaged)(f.beta_1, LOAD(slot[0]), g);
        const vec v = NAME(averaged_square)(&f, LOAD(slot[1]), g);
        vec largest = v, up = vec_mul(f.size, m);
        STORE(slot[0], m);
        STORE(slot[1], v);
        if (optimizer == CYMLP_AMSGRAD) {
            largest = vec_max(LOAD(slot[2]), v);
            STORE(slot[2], largest);
        }
        if (optimizer == CYMLP_NADAM) {
            up = vec_fma(f.g_size, g, up);
        }
        way = vec_quotient(up, vec_fma(vec_sqrt(largest), f.root_scale, f.epsilon));
        break;
    }
    case CYMLP_RMSPROP:
    case CYMLP_RMSPROP_MOMENTUM:
    case CYMLP_CENTERED_RMSPROP:
    case CYMLP_CENTERED_RMSPROP_MOMENTUM: {
        const int has_momentum =
            optimizer == CYMLP_RMSPROP_MOMENTUM || optimizer == CYMLP_CENTERED_RMSPROP_MOMENTUM;
        const int is_centered =
            optimizer == CYMLP_CENTERED_RMSPROP || optimizer == CYMLP_CENTERED_RMSPROP_MOMENTUM;
        REAL *const mean__ = slot[1], *const velocity__ = slot[is_centered ? 2 : 1];
        const vec v = NAME(averaged_square)(&f, LOAD(slot[0]), g);
        vec variance = v;
        STORE(slot[0], v);
        if (is_centered) { /* rounding may make it negative, and infinity - infinity is a NaN */
            const vec mean = NAME(averaged)(f.beta_2, LOAD(mean__), g);
            STORE(mean__, mean);
            variance = vec_max(vec_zero(), vec_sub(v, vec_mul(mean, mean)));
            variance = vec_if_less(v, vec_set1((REAL)INFINITY), variance, v);
        }
        way = vec_quotient(has_momentum ? g : vec_mul(f.rate, g),
                           vec_add(vec_sqrt(variance), f.epsilon));
        if (has_momentum) {
            way = vec_fma(f.momentum, LOAD(velocity__), way);
            STORE(velocity__, way);
            way = vec_mul(f.rate, way);
        }
        break;
    }
    case CYMLP_ADAGRAD: {
        const vec v = vec_fma(g, g, LOAD(slot[0]));
        STORE(slot[0], v);
        way = vec_quotient(vec_mul(f.rate, g), vec_add(vec_sqrt(v), f.epsilon));
        break;
    }
    case CYMLP_ADADELTA: {
        const vec v = NAME(averaged_square)(&f, LOAD(slot[0]), g), before = LOAD(slot[1]);
        const vec root = vec_sqrt(vec_add(v, f.epsilon));
        STORE(slot[0], v);
        way = vec_quotient(vec_mul(vec_sqrt(vec_add(before, f.epsilon)), g), root);
        STORE(slot[1], NAME(averaged_square)(&f, before, way));
        way = vec_mul(f.rate, way);
        break;
    }
    case CYMLP_LION: {
        const vec m = LOAD(slot[0]);
        STORE(slot[0], NAME(averaged)(f.beta_2, m, g));
        way = vec_mul(f.rate, NAME(sign)(NAME(averaged)(f.beta_1, m, g)));
        break;
    }
    default: { /* Rprop; the product with the sign alone neither overflows nor vanishes */
        const vec turn = vec_mul(NAME(sign)(g), LOAD(slot[0])), zero = vec_zero();
        const vec grown = vec_if_less(zero, turn, f.eta_plus, vec_set1(1));
        vec size = vec_mul(LOAD(slot[1]), vec_if_less(turn, zero, f.eta_minus, grown));
        size = vec_max(f.smallest_step, vec_min(f.largest_step, size));
        g = vec_if_less(turn, zero, zero, g);
        STORE(slot[0], g);
        STORE(slot[1], size);
        way = vec_mul(NAME(sign)(g), size);
    }
    }
    STORE(w__, vec_sub(w, way));
}

static FORCE_INLINE int NAME(is_shaped)(const cymlp_step *step) {
    return step->l1 > 0 || step->clip_value < INFINITY || !(step->gradient_scale >= 1);
}

/* One step with gradients that are penalized, scaled and clipped before: a stretch of them at a
 * time, in the first-level cache. Apart from the optimizers, so that their loops stay what they
 * are. */
static void NAME(update_shaped)(cymlp_update *update, size_t n, const void *g__n, void *w__n,
                                void *const slots__n[CYMLP_N_SLOTS], const cymlp_step *step) {
    enum { STRETCH = 32 * LANES };
    REAL shaped[STRETCH];
    void *slot[CYMLP_N_SLOTS];
    const vec l2 = vec_set1((REAL)step->l2), l1 = vec_set1((REAL)step->l1);
    const vec scale = vec_set1((REAL)step->gradient_scale);
    const vec most = vec_set1((REAL)step->clip_value), least = vec_set1((REAL)-step->clip_value);
    cymlp_step plain = *step;
    plain.l2 = plain.l1 = 0;
    plain.gradient_scale = 1;
    plain.clip_value = INFINITY;
    for (size_t first = 0; first < n; first += STRETCH) {
        const size_t count = n - first < STRETCH ? n - first : STRETCH;
        REAL *w = (REAL *)w__n + first;
        FOR_EACH_VEC(j, some, count) {
            const vec weight = LOAD(w);
            vec g = vec_fma(l2, weight, LOAD((const REAL *)g__n + first));
            g = vec_mul(scale, vec_fma(l1, NAME(sign)(weight), g));
            STORE(shaped, vec_max(least, vec_min(most, g)));
        }
        for (int s = 0; s < CYMLP_N_SLOTS; s++) {
            slot[s] = slots__n[s] ? (REAL *)slots__n[s] + first : NULL;
        }
        update(count, shaped, w, slot, &plain);
    }
}

/* By a gradient in memory. Without a penalty nothing in the loop asks for one. */
#define OPTIMIZER(NAME_OF_IT, CODE)                                                             \
    static void NAME(NAME_OF_IT)(size_t n, const void *g__n, void *w__n,                        \
                                 void *const slots__n[CYMLP_N_SLOTS], const cymlp_step *step) { \
        if (NAME(is_shaped)(step)) {                                                            \
            NAME(update_shaped)(NAME(NAME_OF_IT), n, g__n, w__n, slots__n, step);               \
            return;                                                                             \
        }                                                                                       \
        const NAME(factors) f = NAME(factors_of)(step);                                         \
        REAL *const slot[] = {slots__n[0], slots__n[1], slots__n[2]};                           \
        const REAL *g = (const REAL *)g__n;                                                     \
        const size_t rest = n % LANES;                                                          \
        if (rest) {                                                                             \
            NAME(move)(CODE, f, vec_load_some(g + n - rest, rest, 0), (REAL *)w__n, slot,       \
                       n - rest, rest);                                                         \
        }                                                                                       \
        if (f.is_penalized) {                                                                   \
            for (size_t j = 0; j < n - rest; j += LANES) {                                      \
                NAME(move)(CODE, f, vec_load(g + j), (REAL *)w__n, slot, j, LANES);             \
            }                                                                                   \
            return;                                                                             \
        }                                                                                       \
        for (size_t j = 0; j < n - rest; j += LANES) {                                          \
            NAME(move)(CODE, f, vec_load(g + j), (REAL *)w__n, slot, j, LANES);                 \
        }                                                                                       \
    }

/* By x^T delta, the gradient of a single row, for some rows of a panel of parameters; a gradient
 * that is neither clipped nor of an L1 penalty. */
#define OUTER_ROWS(CODE)                                                               \
    for (size_t i = 0; i < n_rows; i++) {                                              \
        const vec xi = vec_set1(x__i[i]);                                              \
        for (size_t p = 0; p < width; p += LANES) {                                    \
            NAME(move)(CODE, f, vec_mul(xi, vec_load(delta__p + p)), w__ip, slots__ip, \
                       i * width + p, LANES);                                          \
        }                                                                              \
    }
#define OUTER(NAME_OF_IT, CODE)                                                           \
    static void NAME(NAME_OF_IT##_outer)(                                                 \
        size_t n_rows, size_t width, const REAL *x__i, const REAL *delta__p, REAL *w__ip, \
        REAL *const slots__ip[CYMLP_N_SLOTS], const cymlp_step *step) {                   \
        const NAME(factors) f = NAME(factors_of)(step);                                   \
        if (f.is_penalized) {                                                             \
            OUTER_ROWS(CODE)                                                              \
        } else {                                                                          \
            OUTER_ROWS(CODE)                                                              \
        }                                                                                 \
    }

OPTIMIZER(sgd, CYMLP_SGD)
OPTIMIZER(momentum, CYMLP_MOMENTUM)
OPTIMIZER(nesterov, CYMLP_NESTEROV)
OPTIMIZER(adam, CYMLP_ADAM)
OPTIMIZER(amsgrad, CYMLP_AMSGRAD)
OPTIMIZER(nadam, CYMLP_NADAM)
OPTIMIZER(rmsprop, CYMLP_RMSPROP)
OPTIMIZER(rmsprop_momentum, CYMLP_RMSPROP_MOMENTUM)
OPTIMIZER(centered_rmsprop, CYMLP_CENTERED_RMSPROP)
OPTIMIZER(centered_rmsprop_momentum, CYMLP_CENTERED_RMSPROP_MOMENTUM)
OPTIMIZER(adagrad, CYMLP_ADAGRAD)
OPTIMIZER(adadelta, CYMLP_ADADELTA)
OPTIMIZER(lion, CYMLP_LION)
OPTIMIZER(rprop, CYMLP_RPROP)

OUTER(sgd, CYMLP_SGD)
OUTER(momentum, CYMLP_MOMENTUM)
OUTER(nesterov, CYMLP_NESTEROV)
OUTER(adam, CYMLP_ADAM)

#undef OPTIMIZER
#undef OUTER
#undef OUTER_ROWS

static void NAME(move_average)(size_t n, double decay, const void *w__n, void *average__n) {
    const vec kept = vec_set1((REAL)decay);
    REAL *average = (REAL *)average__n;
    FOR_EACH_VEC(j, some, n) {
        STORE(average, NAME(averaged)(kept, LOAD(average), LOAD((const REAL *)w__n)));
    }
}

static FORCE_INLINE vec NAME(norm_term)(const int squared, vec w) {
    return squared ? vec_mul(w, w) : vec_abs(w);
}

/* Each addition to the sum waits for the one before, so it gets four vectors at once. */
static FORCE_INLINE double NAME(sum_norm)(const int squared, size_t n, const REAL *w__n) {
    double sum = 0;
    size_t j = 0;
    for (; n - j >= 4 * LANES; j += 4 * LANES) {
        const vec a = NAME(norm_term)(squared, vec_load(w__n + j));
        const vec b = NAME(norm_term)(squared, vec_load(w__n + j + LANES));
        const vec c = NAME(norm_term)(squared, vec_load(w__n + j + 2 * LANES));
        const vec d = NAME(norm_term)(squared, vec_load(w__n + j + 3 * LANES));
        sum += (double)vec_sum(vec_add(vec_add(a, b), vec_add(c, d)));
    }
    for (; j < n; j += LANES) {
        const size_t some = n - j < LANES ? n - j : LANES;
        sum += (double)vec_sum(NAME(norm_term)(squared, LOAD(w__n)));
    }
    return sum;
}

static double NAME(sum_of_squares)(size_t n, const void *w__n) {
    return NAME(sum_norm)(1, n, (const REAL *)w__n);
}

static double NAME(sum_of_abs)(size_t n, const void *w__n) {
    return NAME(sum_norm)(0, n, (const REAL *)w__n);
}

#undef LOAD
#undef STORE
