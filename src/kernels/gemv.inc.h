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

/* A run of panels passes at once: MOST_FULL whole ones and one of any width. */
#define MOST_VECS ((MOST_FULL + 1) * PANEL_VECS)

/* The case of a run in a switch: its whole panels and the vectors of the last one. */
#define RUN(n_full, n_last) (4 * (n_full) + (n_last))

static FORCE_INLINE void NAME(row_run)(const int n_full, const int n_last, size_t n_columns,
                                       size_t n_inputs, const REAL *x__i, const REAL *w__pip,
                                       const REAL *bias__o, int relu, REAL *y__o) {
    const int n_vecs = n_full * PANEL_VECS + n_last;
    const size_t panel_size = n_inputs * PANEL_VECS * LANES;
    const REAL *w_last = w__pip + (size_t)n_full * panel_size;
    vec sum[MOST_VECS];
    UNROLL
    for (int v = 0; v < n_vecs; v++) {
        sum[v] = bias__o ? vec_load(bias__o + v * LANES) : vec_zero();
    }
    for (size_t i = 0; i < n_inputs; i++) {
        const vec xi = vec_set1(x__i[i]);
        UNROLL
        for (int v = 0; v < n_full * PANEL_VECS; v++) {
            const REAL *w = w__pip + (size_t)(v / PANEL_VECS) * panel_size;
            sum[v] = vec_fma(xi, vec_load(w + v % PANEL_VECS * LANES), sum[v]);
        }
        UNROLL
        for (int v = 0; v < n_last; v++) {
            const int last = n_full * PANEL_VECS + v;
            sum[last] = vec_fma(xi, vec_load(w_last + v * LANES), sum[last]);
        }
        w__pip += PANEL_VECS * LANES;
        w_last += n_last * LANES;
    }
    UNROLL
    for (int v = 0; v < n_vecs; v++) {
        if (relu) {
            sum[v] = vec_max(vec_zero(), sum[v]); /* this order keeps a NaN */
        }
        NAME(store_up_to)(y__o + v * LANES, NAME(columns_left)(n_columns, v), sum[v]);
    }
}

static void NAME(dense_row)(size_t n_units, size_t n_columns, size_t n_inputs, const void *x__i,
                            const void *w__pip, const void *bias__o, int relu, void *y__o) {
    const size_t n_vecs = (n_units + LANES - 1) / LANES;
    for (size_t first = 0; first < n_vecs; first += MOST_VECS) {
        const size_t n_run = n_vecs - first < MOST_VECS ? n_vecs - first : MOST_VECS;
        const size_t n_full = (n_run - 1) / PANEL_VECS;
        const REAL *w = (const REAL *)w__pip + first * LANES * n_inputs;
        const REAL *bias = bias__o ? (const REAL *)bias__o + first * LANES : NULL;
        REAL *y = (REAL *)y__o + first * LANES;
        switch (RUN(n_full, n_run - n_full * PANEL_VECS)) {
#define CASE(FULL, LAST)                                                                      \
    case RUN(FULL, LAST):                                                                     \
        NAME(row_run)(FULL, LAST, n_columns - first * LANES, n_inputs, (const REAL *)x__i, w, \
                      bias, relu, y);                                                         \
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
