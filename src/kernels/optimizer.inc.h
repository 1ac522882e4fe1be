/* Optimizer steps on n parameters, given their gradient.
 *
 * Called through the table with a gradient tile in memory: inlined into the tile's function their
 * constants would push its accumulators out of the registers. */

#define LOAD_PARAMETERS                                                                  \
    const REAL *g__ = (const REAL *)g__n;                                                \
    REAL *w__ = (REAL *)w__n, *slot0 = (REAL *)slot0__n, *slot1 = (REAL *)slot1__n;      \
    const vec l2 = vec_set1((REAL)step->l2), rate = vec_set1((REAL)step->learning_rate); \
    const vec momentum = vec_set1((REAL)step->momentum);                                 \
    (void)slot0, (void)slot1, (void)rate, (void)momentum

#define LOAD(p) NAME(load_up_to)((p) + j, some, 0)
#define STORE(p, v) NAME(store_up_to)((p) + j, some, v)

static void NAME(store_gradient)(size_t n, const void *g__n, void *w__n, void *slot0__n,
                                 void *slot1__n, const cymlp_step *step) {
    LOAD_PARAMETERS;
    FOR_EACH_VEC(j, some, n) {
        STORE(slot0, vec_fma(l2, LOAD(w__), LOAD(g__)));
    }
}

static void NAME(accumulate_gradient)(size_t n, const void *g__n, void *w__n, void *slot0__n,
                                      void *slot1__n, const cymlp_step *step) {
    REAL *sum = (REAL *)slot0__n;
    (void)w__n, (void)slot1__n, (void)step;
    FOR_EACH_VEC(j, some, n) {
        STORE(sum, vec_add(LOAD(sum), LOAD((const REAL *)g__n)));
    }
}

static void NAME(sgd)(size_t n, const void *g__n, void *w__n, void *slot0__n, void *slot1__n,
                      const cymlp_step *step) {
    LOAD_PARAMETERS;
    FOR_EACH_VEC(j, some, n) {
        const vec w = LOAD(w__);
        const vec g = vec_fma(l2, w, LOAD(g__));
        STORE(w__, vec_sub(w, vec_mul(rate, g)));
    }
}

/* v = momentum v + g; w -= rate v */
static void NAME(momentum)(size_t n, const void *g__n, void *w__n, void *slot0__n, void *slot1__n,
                           const cymlp_step *step) {
    LOAD_PARAMETERS;
    FOR_EACH_VEC(j, some, n) {
        const vec w = LOAD(w__);
        const vec g = vec_fma(l2, w, LOAD(g__));
        const vec v = vec_fma(momentum, LOAD(slot0), g);
        STORE(slot0, v);
        STORE(w__, vec_sub(w, vec_mul(rate, v)));
    }
}

/* v = momentum v + g; w -= rate (g + momentum v) */
static void NAME(nesterov)(size_t n, const void *g__n, void *w__n, void *slot0__n, void *slot1__n,
                           const cymlp_step *step) {
    LOAD_PARAMETERS;
    FOR_EACH_VEC(j, some, n) {
        const vec w = LOAD(w__);
        const vec g = vec_fma(l2, w, LOAD(g__));
        const vec v = vec_fma(momentum, LOAD(slot0), g);
        STORE(slot0, v);
        STORE(w__, vec_sub(w, vec_mul(rate, vec_fma(momentum, v, g))));
    }
}

/* D. P. Kingma and J. Ba, Adam: a method for stochastic optimization, 2015, algorithm 1. */
static void NAME(adam)(size_t n, const void *g__n, void *w__n, void *slot0__n, void *slot1__n,
                       const cymlp_step *step) {
    LOAD_PARAMETERS;
    const vec beta_1 = vec_set1((REAL)step->beta_1), beta_2 = vec_set1((REAL)step->beta_2);
    const vec rest_2 = vec_set1((REAL)(1 - step->beta_2));
    const vec size = vec_set1((REAL)(step->learning_rate * step->m_scale));
    const vec root_scale = vec_set1((REAL)step->v_root_scale);
    const vec epsilon = vec_set1((REAL)step->epsilon);
    FOR_EACH_VEC(j, some, n) {
        const vec w = LOAD(w__);
        const vec g = vec_fma(l2, w, LOAD(g__));
        const vec m = vec_fma(beta_1, vec_sub(LOAD(slot0), g), g);
        const vec v = vec_fma(beta_2, LOAD(slot1), vec_mul(rest_2, vec_mul(g, g)));
        STORE(slot0, m);
        STORE(slot1, v);
        const vec root = vec_fma(vec_sqrt(v), root_scale, epsilon);
        STORE(w__, vec_sub(w, vec_quotient(vec_mul(size, m), root)));
    }
}

static double NAME(sum_of_squares)(size_t n, const void *w__n) {
    double sum = 0;
    FOR_EACH_VEC(j, some, n) {
        const vec w = LOAD((const REAL *)w__n);
        sum += (double)vec_sum(vec_mul(w, w));
    }
    return sum;
}

#undef LOAD_PARAMETERS
#undef LOAD
#undef STORE
