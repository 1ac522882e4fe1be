/* One row through a dense layer, and the check of rows that come from outside.
 *
 * A register tile of one row has two accumulators, and each addition waits for the one before: most
 * of the time nothing is computed. Several panels side by side fill that time. Each output is still
 * one sum in ascending order from start to end, so that a row alone gives what it gives in a
 * batch, bit for bit. */

#define MOST_PANELS 4

/* n_panels panels of n_vecs vectors each. */
static FORCE_INLINE void NAME(dense_panels)(const int n_panels, const int n_vecs, size_t n_columns,
                                            size_t n_inputs, const REAL *x__i, const REAL *w__pip,
                                            const REAL *bias__o, int relu, REAL *y__o) {
    const size_t width = (size_t)n_vecs * LANES;
    vec sum[MOST_PANELS][PANEL_VECS];
    UNROLL
    for (int p = 0; p < n_panels; p++) {
        UNROLL
        for (int v = 0; v < n_vecs; v++) {
            const size_t o = (size_t)(p * n_vecs + v) * LANES;
            sum[p][v] = bias__o ? vec_load(bias__o + o) : vec_zero();
        }
    }
    for (size_t i = 0; i < n_inputs; i++) {
        const vec xi = vec_set1(x__i[i]);
        UNROLL
        for (int p = 0; p < n_panels; p++) {
            const REAL *w = w__pip + ((size_t)p * n_inputs + i) * width;
            UNROLL
            for (int v = 0; v < n_vecs; v++) {
                sum[p][v] = vec_fma(xi, vec_load(w + v * LANES), sum[p][v]);
            }
        }
    }
    UNROLL
    for (int p = 0; p < n_panels; p++) {
        UNROLL
        for (int v = 0; v < n_vecs; v++) {
            const int o = p * n_vecs + v;
            if (relu) {
                sum[p][v] = vec_max(vec_zero(), sum[p][v]); /* this order keeps a NaN */
            }
            NAME(store_up_to)(y__o + o * LANES, NAME(columns_left)(n_columns, o), sum[p][v]);
        }
    }
}

static void NAME(dense_row)(size_t n_units, size_t n_columns, size_t n_inputs, const void *x__i,
                            const void *w__pip, const void *bias__o, int relu, void *y__o) {
    const size_t n_vecs = (n_units + LANES - 1) / LANES;
    const size_t n_panels = (n_vecs + PANEL_VECS - 1) / PANEL_VECS;
    size_t n_here;
    for (size_t p = 0; p < n_panels; p += n_here) {
        const size_t first = n_vecs * p / n_panels;
        const size_t vecs = n_vecs * (p + 1) / n_panels - first;
        const REAL *x = (const REAL *)x__i;
        const REAL *w = (const REAL *)w__pip + first * LANES * n_inputs;
        const REAL *bias = bias__o ? (const REAL *)bias__o + first * LANES : NULL;
        REAL *y = (REAL *)y__o + first * LANES;
        n_here = 1; /* as many panels of the same width as follow each other: 1, 2 or 4 */
        while (n_here < MOST_PANELS && p + 2 * n_here <= n_panels &&
               n_vecs * (p + 2 * n_here) / n_panels - first == 2 * n_here * vecs) {
            n_here *= 2;
        }
        switch (4 * n_here + vecs) {
#define CASE(PANELS, VECS)                                                                      \
    case 4 * PANELS + VECS:                                                                     \
        NAME(dense_panels)(PANELS, VECS, n_columns - first * LANES, n_inputs, x, w, bias, relu, \
                           y);                                                                  \
        break;
            CASE(1, 1)
            CASE(2, 1) CASE(4, 1) CASE(1, 2) CASE(2, 2) CASE(4, 2)
#if PANEL_VECS > 2
                CASE(1, 3) CASE(2, 3) CASE(4, 3)
#endif
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
    return NAME(vec_sum)(vec_add(vec_add(sum0, sum1), vec_add(sum2, sum3))) == 0;
}

#undef MOST_PANELS
