/* A dense layer of few units, whose weights lie with the inputs in the lanes of vectors.
 *
 * Each output is a dot product: its vectors of products are added in ascending order, the lanes of
 * their sum as vec_sum adds them. The order follows from the number of inputs alone, so that a row
 * alone gives what it gives in a batch, bit for bit. A register tile is some rows by some units. */

/* The sums of n vectors, as vec_sum takes them; LANES of them at once, where so many or a good part
 * of them are left. There is room for whole vectors of sums. */
static FORCE_INLINE void NAME(sums_of)(const int n, const vec *v, REAL *sum__n) {
    const int n_left = n % LANES, n_together = n - n_left + (n_left > LANES / 4 ? n_left : 0);
    UNROLL
    for (int k = 0; k < n_together; k += LANES) {
        vec some[LANES];
        UNROLL
        for (int l = 0; l < LANES; l++) {
            some[l] = k + l < n ? v[k + l] : vec_zero();
        }
        vec_store(sum__n + k, vec_sums(some));
    }
    UNROLL
    for (int k = n_together; k < n; k++) {
        sum__n[k] = vec_sum(v[k]);
    }
}

/* Adds the products of one vector of inputs, of which there are `some`, to the sums of a tile. */
static FORCE_INLINE void NAME(dots_step)(const int n_rows, const int n_units,
                                         const REAL *const x[TILE_ROWS], size_t i, size_t some,
                                         const REAL *w, size_t width,
                                         vec sum[TILE_ROWS * PANEL_VECS]) {
    vec wi[PANEL_VECS];
    UNROLL
    for (int u = 0; u < n_units; u++) {
        wi[u] = vec_load(w + (size_t)u * width);
    }
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        const vec xi = NAME(load_up_to)(x[r] + i, some, 0);
        UNROLL
        for (int u = 0; u < n_units; u++) {
            sum[r * n_units + u] = vec_fma(xi, wi[u], sum[r * n_units + u]);
        }
    }
}

static FORCE_INLINE void NAME(dots_rows)(const int n_rows, const int n_units, size_t n_inputs,
                                         const void *const *x_rows__b_i, const REAL *w__uip,
                                         size_t all_units, size_t first_unit, const REAL *bias__o,
                                         int relu, REAL *y__bo, size_t y_stride) {
    const REAL *x[TILE_ROWS];
    vec sum[TILE_ROWS * PANEL_VECS];
    REAL total[TILE_ROWS * PANEL_VECS + LANES];
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        x[r] = (const REAL *)x_rows__b_i[r];
        UNROLL
        for (int u = 0; u < n_units; u++) {
            sum[r * n_units + u] = vec_zero();
        }
    }
    const cymlp_panels panels = cymlp_panels_of((n_inputs + LANES - 1) / LANES, PANEL_VECS);
    const size_t n_in_full = panels.n_full * PANEL_VECS * LANES;
    for (size_t i = 0, width; i < n_inputs; i += width, w__uip += all_units * width) {
        width = (i < n_in_full ? PANEL_VECS : panels.lesser_vecs) * LANES;
        const size_t end = n_inputs - i < width ? n_inputs : i + width;
        const REAL *w = w__uip + first_unit * width;
        size_t j = i;
        for (; j + LANES <= end; j += LANES, w += LANES) {
            NAME(dots_step)(n_rows, n_units, x, j, LANES, w, width, sum);
        }
        if (j < end) {
            NAME(dots_step)(n_rows, n_units, x, j, end - j, w, width, sum);
        }
    }
    NAME(sums_of)(n_rows * n_units, sum, total);
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int u = 0; u < n_units; u++) {
            const REAL y = total[r * n_units + u] + bias__o[first_unit + (size_t)u];
            y__bo[(size_t)r * y_stride + first_unit + (size_t)u] = relu && 0 > y ? 0 : y;
        }
    }
}

#define SHAPE(n_rows, n_units) (PANEL_VECS * (n_rows) + (n_units))

/* X(rows, units) for every shape of a tile. Rows that do not fill a high one take a few low ones.
 */
#if TILE_ROWS > 4
#define DOTS_BY(X, UNITS) X(1, UNITS) X(2, UNITS) X(4, UNITS) X(TILE_ROWS, UNITS)
#else
#define DOTS_BY(X, UNITS) X(1, UNITS) X(2, UNITS) X(4, UNITS)
#endif
#if PANEL_VECS > 2
#define FOR_EACH_DOTS(X) DOTS_BY(X, 1) DOTS_BY(X, 2) DOTS_BY(X, 3)
#else
#define FOR_EACH_DOTS(X) DOTS_BY(X, 1) DOTS_BY(X, 2)
#endif

static void NAME(dense_dots)(size_t n_rows, size_t n_units, size_t n_columns, size_t n_inputs,
                             const void *const *x_rows__b_i, const void *w__pop,
                             const void *bias__o, int relu, void *y__bo, size_t y_stride) {
    const size_t n_groups = (n_units + PANEL_VECS - 1) / PANEL_VECS;
    const size_t width = n_units / n_groups, n_narrower = n_groups - n_units % n_groups;
    const size_t last = n_units / LANES * LANES;
    size_t rows;
    for (size_t row = 0; row < n_rows; row += rows) {
        const size_t left = n_rows - row;
        REAL *y = (REAL *)y__bo + row * y_stride;
        size_t unit = 0;
        rows = left >= TILE_ROWS ? TILE_ROWS : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        for (size_t b = 0; b < rows && n_units < n_columns; b++) {
            NAME(store_up_to)(y + b * y_stride + last, n_columns - last, vec_zero());
        }
        for (size_t g = 0; g < n_groups; g++) { /* of nearly equal widths */
            const size_t units = width + (g >= n_narrower);
            switch (SHAPE(rows, units)) {
#define CASE(ROWS, UNITS)                                                                        \
    case SHAPE(ROWS, UNITS):                                                                     \
        NAME(dots_rows)(ROWS, UNITS, n_inputs, x_rows__b_i + row, (const REAL *)w__pop, n_units, \
                        unit, (const REAL *)bias__o, relu, y, y_stride);                         \
        break;
                FOR_EACH_DOTS(CASE)
#undef CASE
            }
            unit += units;
        }
    }
}

#undef SHAPE
#undef DOTS_BY
#undef FOR_EACH_DOTS
