/* Optimizer steps on n parameters, given their gradient.
 *
 * Called through the table with a gradient tile in memory: inlined into the tile's function their
 * constants would push its accumulators out of the registers. The gradient of a single row has no
 * accumulators, and is used up as it is computed. */

#define LOAD(p) NAME(load_up_to)((p) + j, some, 0)
#define STORE(p, v) NAME(store_up_to)((p) + j, some, v)

static void NAME(store_gradient)(size_t n, const void *g__n, void *w__n,
                                 void *const slots__n[CYMLP_N_SLOTS], const cymlp_step *step) {
    const vec l2 = vec_set1((REAL)step->l2);
    REAL *gradient = (REAL *)slots__n[0];
    FOR_EACH_VEC(j, some, n) {
        STORE(gradient, vec_fma(l2, LOAD((const REAL *)w__n), LOAD((const REAL *)g__n)));
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
    vec l2, rate, momentum, beta_1, beta_2, rest_2, size, root_scale, epsilon;
} NAME(factors);

static FORCE_INLINE NAME(factors) NAME(factors_of)(const cymlp_step *step) {
    NAME(factors) f;
    f.is_penalized = step->l2 != 0;
    f.l2 = vec_set1((REAL)step->l2);
    f.rate = vec_set1((REAL)step->learning_rate);
    f.momentum = vec_set1((REAL)step->momentum);
    f.beta_1 = vec_set1((REAL)step->beta_1);
    f.beta_2 = vec_set1((REAL)step->beta_2);
    f.rest_2 = vec_set1((REAL)(1 - step->beta_2));
    f.size = vec_set1((REAL)(step->learning_rate * step->m_scale));
    f.root_scale = vec_set1((REAL)step->v_root_scale);
    f.epsilon = vec_set1((REAL)step->epsilon);
    return f;
}

/* Moves the parameters from w + j on by their gradient g; `some` says how many of them remain.
 *
 * Adam: D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, 2015, algorithm 1. */
static FORCE_INLINE void NAME(move)(const enum cymlp_optimizer optimizer, NAME(factors) f, vec g,
                                    REAL *w__, REAL *const slot[CYMLP_N_SLOTS], size_t j,
                                    size_t some) {
    const vec w = LOAD(w__);
    vec way;
    g = f.is_penalized ? vec_fma(f.l2, w, g) : g;
    if (optimizer == CYMLP_SGD) {
        way = vec_mul(f.rate, g);
    } else if (optimizer == CYMLP_ADAM) {
        const vec m = vec_fma(f.beta_1, vec_sub(LOAD(slot[0]), g), g);
        const vec v = vec_fma(f.beta_2, LOAD(slot[1]), vec_mul(f.rest_2, vec_mul(g, g)));
        STORE(slot[0], m);
        STORE(slot[1], v);
        way = vec_quotient(vec_mul(f.size, m), vec_fma(vec_sqrt(v), f.root_scale, f.epsilon));
    } else { /* v = momentum v + g; w -= rate v or rate (g + momentum v) */
        const vec v = vec_fma(f.momentum, LOAD(slot[0]), g);
        STORE(slot[0], v);
        way = vec_mul(f.rate, optimizer == CYMLP_NESTEROV ? vec_fma(f.momentum, v, g) : v);
    }
    STORE(w__, vec_sub(w, way));
}

/* By a gradient in memory, and by x^T delta, the gradient of a single row, for some rows of a panel
 * of parameters. */
#define OPTIMIZER(NAME_OF_IT, CODE)                                                             \
    static void NAME(NAME_OF_IT)(size_t n, const void *g__n, void *w__n,                        \
                                 void *const slots__n[CYMLP_N_SLOTS], const cymlp_step *step) { \
        const NAME(factors) f = NAME(factors_of)(step);                                         \
        REAL *const slot[] = {slots__n[0], slots__n[1], slots__n[2]};                           \
        FOR_EACH_VEC(j, some, n) {                                                              \
            NAME(move)(CODE, f, LOAD((const REAL *)g__n), (REAL *)w__n, slot, j, some);         \
        }                                                                                       \
    }                                                                                           \
    static void NAME(NAME_OF_IT##_outer)(                                                       \
        size_t n_rows, size_t width, const REAL *x__i, const REAL *delta__p, REAL *w__ip,       \
        REAL *const slots__ip[CYMLP_N_SLOTS], const cymlp_step *step) {                         \
        const NAME(factors) f = NAME(factors_of)(step);                                         \
        for (size_t i = 0; i < n_rows; i++) {                                                   \
            const vec xi = vec_set1(x__i[i]);                                                   \
            for (size_t p = 0; p < width; p += LANES) {                                         \
                NAME(move)(CODE, f, vec_mul(xi, vec_load(delta__p + p)), w__ip, slots__ip,      \
                           i * width + p, LANES);                                               \
            }                                                                                   \
        }                                                                                       \
    }

OPTIMIZER(sgd, CYMLP_SGD)
OPTIMIZER(momentum, CYMLP_MOMENTUM)
OPTIMIZER(nesterov, CYMLP_NESTEROV)
OPTIMIZER(adam, CYMLP_ADAM)

#undef OPTIMIZER

static double NAME(sum_of_squares)(size_t n, const void *w__n) {
    double sum = 0;
    FOR_EACH_VEC(j, some, n) {
        const vec w = LOAD((const REAL *)w__n);
        sum += (double)vec_sum(vec_mul(w, w));
    }
    return sum;
}

#undef LOAD
#undef STORE
