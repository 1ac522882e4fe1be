/* One row through a dense layer, and the check of rows that come from outside.
 *
 * A register tile of one row has two accumulators, and each addition waits for the one before: most
 * of the time nothing is computed. A run of panels side by side fills that time. Each output is
 * still one sum in ascending order from start to end, so that a row alone gives what it gives in a
 * batch, bit for bit. */

/* How many of n_columns columns are in vector v of a panel. */
static FORCE_INLINE size_t NAME(columns_left)(size_t n_columns, int v) {
    const size_t before = (size_t)(v * LANES);
    return n_columns >= before + LANES ? LANES : (n_columns > before ? n_columns - before : 0);
}

/* The case of a run in a switch. */
#define RUN(n_full, n_lesser, lesser_vecs) (16 * (n_full) + 4 * (n_lesser) + (lesser_vecs))
#define RUN_OF(panels) RUN((panels).n_full, (panels).n_lesser, (panels).lesser_vecs)

/* Adds x times the vectors of one row of some panels, of n_vecs each. A function of its own: GCC
 * gives the pragma of a loop that ends another loop's body to that one. */
static FORCE_INLINE void NAME(add_scaled)(const int n_panels, const int n_vecs, vec x,
                                          const REAL *from, size_t panel_size, vec *sum) {
    UNROLL
    for (int p = 0; p < n_panels; p++) {
        const REAL *panel = from + (size_t)p * panel_size;
        UNROLL
        for (int v = 0; v < n_vecs; v++) {
            sum[p * n_vecs + v] = vec_fma(x, vec_load(panel + v * LANES), sum[p * n_vecs + v]);
        }
    }
}

/* The sums of n_vecs vectors of outputs, as they begin: from a bias, say, or NULL for zeros. */
static FORCE_INLINE void NAME(begin_sums)(const int n_vecs, const REAL *start__o, vec *sum) {
    UNROLL
    for (int v = 0; v < n_vecs; v++) {
        sum[v] = start__o ? vec_load(start__o + v * LANES) : vec_zero();
    }
}

/* As they end, of which n_columns columns are stored. */
static FORCE_INLINE void NAME(end_sums)(const int n_vecs, size_t n_columns, int relu, vec *sum,
                                        REAL *y__o) {
    UNROLL
    for (int v = 0; v < n_vecs; v++) {
        if (relu) {
            sum[v] = vec_max(vec_zero(), sum[v]); /* this order keeps a NaN */
        }
        NAME(store_up_to)(y__o + v * LANES, NAME(columns_left)(n_columns, v), sum[v]);
    }
}

/* Four panels side by side are read a few rows of each at a time: with one, it took the hardware
 * longer to see where they go on. (Three panels, and five of AVX2, are faster row by row.) */
#define ROWS_AT_ONCE 4

static FORCE_INLINE void NAME(add_rows_of)(const int n_panels, const int n_vecs, const REAL *x,
                                           const REAL *from, size_t panel_size, vec *sum) {
    vec xi[ROWS_AT_ONCE];
    UNROLL
    for (int r = 0; r < ROWS_AT_ONCE; r++) {
        xi[r] = vec_set1(x[r]);
    }
    UNROLL
    for (int p = 0; p < n_panels; p++) {
        UNROLL
        for (int r = 0; r < ROWS_AT_ONCE; r++) {
            NAME(add_scaled)(1, n_vecs, xi[r], from + (size_t)p * panel_size + r * n_vecs * LANES,
                             0, sum + p * n_vecs);
        }
    }
}

static FORCE_INLINE void NAME(row_run)(const int n_full, const int n_lesser, const int lesser_vecs,
                                       size_t n_columns, size_t n_inputs, const REAL *x__i,
                                       const REAL *w__pip, const REAL *bias__o, int relu,
                                       REAL *y__o) {
    const int n_in_full = n_full * PANEL_VECS, n_vecs = n_in_full + n_lesser * lesser_vecs;
    const size_t full = n_inputs * PANEL_VECS * LANES;
    const size_t lesser = n_inputs * (size_t)lesser_vecs * LANES;
    const REAL *w_lesser = w__pip + (size_t)n_full * full;
    vec sum[RUN_VECS];
    NAME(begin_sums)(n_vecs, bias__o, sum);
    size_t i = 0;
    if (n_lesser == 4) {
        for (; i + ROWS_AT_ONCE <= n_inputs; i += ROWS_AT_ONCE) {
            NAME(add_rows_of)(n_lesser, lesser_vecs, x__i + i, w_lesser, lesser, sum);
            w_lesser += ROWS_AT_ONCE * lesser_vecs * LANES;
        }
    }
    for (; i < n_inputs; i++) {
        const vec xi = vec_set1(x__i[i]);
        NAME(add_scaled)(n_full, PANEL_VECS, xi, w__pip, full, sum);
        NAME(add_scaled)(n_lesser, lesser_vecs, xi, w_lesser, lesser, sum + n_in_full);
        w__pip += PANEL_VECS * LANES;
        w_lesser += lesser_vecs * LANES;
    }
    NAME(end_sums)(n_vecs, n_columns, relu, sum, y__o);
}

#undef ROWS_AT_ONCE

static void NAME(dense_row)(size_t n_units, size_t n_columns, size_t n_inputs, const void *x__i,
                            const void *w__pip, const void *bias__o, int relu, void *y__o) {
    cymlp_panels run, left = cymlp_panels_of((n_units + LANES - 1) / LANES, PANEL_VECS);
    for (size_t first = 0; cymlp_vecs_of(left, PANEL_VECS);
         first += cymlp_vecs_of(run, PANEL_VECS), left = cymlp_without(left, run)) {
        run = cymlp_run_of(left, PANEL_VECS, RUN_VECS);
        const REAL *w = (const REAL *)w__pip + first * LANES * n_inputs;
        const REAL *bias = bias__o ? (const REAL *)bias__o + first * LANES : NULL;
        REAL *y = (REAL *)y__o + first * LANES;
        switch (RUN_OF(run)) {
#define CASE(FULL, LESSER, VECS)                                                                   \
    case RUN(FULL, LESSER, VECS):                                                                  \
        NAME(row_run)(FULL, LESSER, VECS, n_columns - first * LANES, n_inputs, (const REAL *)x__i, \
                      w, bias, relu, y);                                                           \
        break;
            FOR_EACH_RUN(CASE)
#undef CASE
        }
    }
}

/* Zero times a finite number is zero; times anything else, and added to anything, it is NaN. */
static int NAME(all_finite)(size_t n, const void *x__n) {
    const REAL *x = (const REAL *)x__n;
    const vec zero = vec_zero();
    vec sum0 = zero, sum1 = zero, sum2 = zero, sum3 = zero;
    size_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES) {
        sum0 = vec_fma(zero, vec_load(x + j), sum0);
        sum1 = vec_fma(zero, vec_load(x + j + LANES), sum1);
        sum2 = vec_fma(zero, vec_load(x + j + 2 * LANES), sum2);
        sum3 = vec_fma(zero, vec_load(x + j + 3 * LANES), sum3);
    }
    for (; j < n; j += LANES) {
        const size_t some = n - j < LANES ? n - j : LANES;
        sum0 = vec_fma(zero, NAME(load_up_to)(x + j, some, 0), sum0);
    }
    return vec_sum(vec_add(vec_add(sum0, sum1), vec_add(sum2, sum3))) == 0;
}
