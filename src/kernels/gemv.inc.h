/* One row through a dense layer, and the check of rows that come from outside.
 *
 * A register tile of one row has two accumulators, and each addition waits for the one before: most
 * of the time nothing is computed. Several panels side by side fill that time. Each output is still
 * one sum in ascending order from start to end, so that a row alone gives what it gives in a
 * batch, bit for bit. */

static FORCE_INLINE void NAME(dense_panels)(const int n_panels, size_t n_columns, size_t n_inputs,
                                            const REAL *x__i, const REAL *w__ip,
                                            const REAL *bias__p, int relu, REAL *y__o) {
    vec sum[4][2];
    for (int p = 0; p < n_panels; p++) {
        sum[p][0] = bias__p ? vec_load(bias__p + p * PANEL) : vec_zero();
        sum[p][1] = bias__p ? vec_load(bias__p + p * PANEL + LANES) : vec_zero();
    }
    for (size_t i = 0; i < n_inputs; i++) {
        const vec xi = vec_set1(x__i[i]);
        for (int p = 0; p < n_panels; p++) {
            const REAL *w = w__ip + ((size_t)p * n_inputs + i) * PANEL;
            sum[p][0] = vec_fma(xi, vec_load(w), sum[p][0]);
            sum[p][1] = vec_fma(xi, vec_load(w + LANES), sum[p][1]);
        }
    }
    for (int p = 0; p < n_panels; p++) {
        REAL *y = y__o + p * PANEL;
        const size_t left = n_columns - (size_t)p * PANEL;
        if (relu) {
            sum[p][0] = vec_max(vec_zero(), sum[p][0]); /* this order keeps a NaN */
            sum[p][1] = vec_max(vec_zero(), sum[p][1]);
        }
        if (left >= PANEL) {
            vec_store(y, sum[p][0]);
            vec_store(y + LANES, sum[p][1]);
        } else if (left >= LANES) {
            vec_store(y, sum[p][0]);
            vec_store_some(y + LANES, left - LANES, sum[p][1]);
        } else {
            vec_store_some(y, left, sum[p][0]);
        }
    }
}

static void NAME(dense_row)(size_t n_columns, size_t n_inputs, const void *x__i, const void *w__pip,
                            const void *bias__o, int relu, void *y__o) {
    const REAL *x = (const REAL *)x__i;
    const size_t n_panels = (n_columns + PANEL - 1) / PANEL;
    size_t p = 0;
    while (p < n_panels) {
        const REAL *w = (const REAL *)w__pip + p * n_inputs * PANEL;
        const REAL *bias = bias__o ? (const REAL *)bias__o + p * PANEL : NULL;
        REAL *y = (REAL *)y__o + p * PANEL;
        const size_t left = n_columns - p * PANEL;
        if (n_panels - p >= 4) {
            NAME(dense_panels)(4, left, n_inputs, x, w, bias, relu, y);
            p += 4;
        } else if (n_panels - p >= 2) {
            NAME(dense_panels)(2, left, n_inputs, x, w, bias, relu, y);
            p += 2;
        } else {
            NAME(dense_panels)(1, left, n_inputs, x, w, bias, relu, y);
            p += 1;
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
