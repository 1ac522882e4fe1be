/* Matrix products on register tiles: the dense layer forward and backward, and its gradient.
 *
 * A register tile is TILE_ROWS rows by one panel of two vectors. Each of its elements is one sum,
 * taken in ascending order from start to end, so that a result does not depend on how the caller
 * cuts a matrix into tiles. The functions for a fixed number of rows are inlined with that number
 * as a constant: the accumulators then stay in registers. */

#define PANEL (2 * LANES)

static FORCE_INLINE void NAME(dense_rows)(const int n_rows, size_t n_columns, size_t n_inputs,
                                          const void *const *x_rows__b_i, const REAL *w__ip,
                                          const REAL *bias__p, int relu, REAL *y__bo,
                                          size_t y_stride) {
    const REAL *x[TILE_ROWS];
    vec sum[TILE_ROWS][2];
    for (int r = 0; r < n_rows; r++) {
        x[r] = (const REAL *)x_rows__b_i[r];
        sum[r][0] = bias__p ? vec_load(bias__p) : vec_zero();
        sum[r][1] = bias__p ? vec_load(bias__p + LANES) : vec_zero();
    }
    for (size_t i = 0; i < n_inputs; i++) {
        const vec w0 = vec_load(w__ip + i * PANEL);
        const vec w1 = vec_load(w__ip + i * PANEL + LANES);
        for (int r = 0; r < n_rows; r++) {
            const vec xi = vec_set1(x[r][i]);
            sum[r][0] = vec_fma(xi, w0, sum[r][0]);
            sum[r][1] = vec_fma(xi, w1, sum[r][1]);
        }
    }
    for (int r = 0; r < n_rows; r++) {
        REAL *y = y__bo + (size_t)r * y_stride;
        if (relu) {
            sum[r][0] = vec_max(vec_zero(), sum[r][0]); /* this order keeps a NaN */
            sum[r][1] = vec_max(vec_zero(), sum[r][1]);
        }
        if (n_columns == PANEL) {
            vec_store(y, sum[r][0]);
            vec_store(y + LANES, sum[r][1]);
        } else if (n_columns >= LANES) {
            vec_store(y, sum[r][0]);
            vec_store_some(y + LANES, n_columns - LANES, sum[r][1]);
        } else {
            vec_store_some(y, n_columns, sum[r][0]);
        }
    }
}

static void NAME(dense_tile)(size_t n_rows, size_t n_columns, size_t n_inputs,
                             const void *const *x_rows__b_i, const void *w__ip, const void *bias__p,
                             int relu, void *y__bo, size_t y_stride) {
    switch (n_rows) {
#define CASE(ROWS)                                                                    \
    case ROWS:                                                                        \
        NAME(dense_rows)(ROWS, n_columns, n_inputs, x_rows__b_i, (const REAL *)w__ip, \
                         (const REAL *)bias__p, relu, (REAL *)y__bo, y_stride);       \
        break;
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
#if TILE_ROWS > 4
        CASE(5)
        CASE(6)
#endif
#undef CASE
    }
}

static void NAME(pack_block)(size_t n_rows, size_t n_columns, const void *const *x_rows__b_i,
                             size_t first_column, void *strips__sbt) {
    const size_t strip = n_rows * TILE_ROWS;
    const size_t n_whole = n_columns / TILE_ROWS;
    const size_t n_left = n_columns % TILE_ROWS;
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *x = (const REAL *)x_rows__b_i[b] + first_column;
        REAL *out = (REAL *)strips__sbt + b * TILE_ROWS;
        for (size_t s = 0; s < n_whole; s++) {
            for (size_t t = 0; t < TILE_ROWS; t++) {
                out[s * strip + t] = x[s * TILE_ROWS + t];
            }
        }
        if (n_left) {
            for (size_t t = 0; t < TILE_ROWS; t++) {
                out[n_whole * strip + t] = t < n_left ? x[n_whole * TILE_ROWS + t] : 0;
            }
        }
    }
}

static void NAME(gradient_tile)(size_t n_rows, const void *strip__bt, const void *delta__bp,
                                size_t delta_stride, void *g__tp) {
    const REAL *x = (const REAL *)strip__bt;
    const REAL *delta = (const REAL *)delta__bp;
    REAL *g = (REAL *)g__tp;
    vec sum[TILE_ROWS][2];
    for (int t = 0; t < TILE_ROWS; t++) {
        sum[t][0] = vec_zero();
        sum[t][1] = vec_zero();
    }
    for (size_t b = 0; b < n_rows; b++) {
        const vec d0 = vec_load(delta);
        const vec d1 = vec_load(delta + LANES);
        for (int t = 0; t < TILE_ROWS; t++) {
            const vec xt = vec_set1(x[t]);
            sum[t][0] = vec_fma(xt, d0, sum[t][0]);
            sum[t][1] = vec_fma(xt, d1, sum[t][1]);
        }
        x += TILE_ROWS;
        delta += delta_stride;
    }
    for (int t = 0; t < TILE_ROWS; t++) {
        vec_store(g + t * PANEL, sum[t][0]);
        vec_store(g + t * PANEL + LANES, sum[t][1]);
    }
}

static void NAME(column_sum)(size_t n_rows, const void *delta__bp, size_t delta_stride,
                             void *sum__p) {
    const REAL *delta = (const REAL *)delta__bp;
    vec sum0 = vec_zero(), sum1 = vec_zero();
    for (size_t b = 0; b < n_rows; b++) {
        sum0 = vec_add(sum0, vec_load(delta + b * delta_stride));
        sum1 = vec_add(sum1, vec_load(delta + b * delta_stride + LANES));
    }
    vec_store((REAL *)sum__p, sum0);
    vec_store((REAL *)sum__p + LANES, sum1);
}

static void NAME(transpose_tile)(size_t n_rows, size_t n_columns, const void *src__pp,
                                 void *dst__pp) {
    const REAL *src = (const REAL *)src__pp;
    REAL *dst = (REAL *)dst__pp;
    if (n_rows == PANEL && n_columns == PANEL) { /* constants here: the compiler unrolls */
        for (size_t c = 0; c < PANEL; c++) {
            for (size_t r = 0; r < PANEL; r++) {
                dst[c * PANEL + r] = src[r * PANEL + c];
            }
        }
        return;
    }
    for (size_t c = 0; c < n_columns; c++) {
        for (size_t r = 0; r < n_rows; r++) {
            dst[c * PANEL + r] = src[r * PANEL + c];
        }
    }
}
