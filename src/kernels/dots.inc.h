/* A dense layer of few units, whose weights lie with the inputs in the lanes of vectors.
 *
 * Each output is a dot product: its vectors of products are added in ascending order, the lanes of
 * their sum as vec_sum adds them. The order follows from the number of inputs alone, so that a row
 * alone gives what it gives in a batch, bit for bit. A register tile is some rows by some units. */

/* The sums of n vectors, as vec_sum takes them; LANES of them at once. */
static FORCE_INLINE void NAME(sums_of)(const int n, const vec *v, REAL *sum__n) {
    const int n_together = n / LANES * LANES;
    UNROLL
    for (int k = 0; k < n_together; k += LANES) {
        vec some[LANES];
        UNROLL
        for (int l = 0; l < LANES; l++) {
            some[l] = v[k + l];
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
    REAL total[TILE_ROWS * PANEL_VECS];
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        x[r] = (const REAL *)x_rows__b_i[r];
        UNROLL
        for (int u = 0; u < n_units; u++) {
            sum[r * n_units + u] = vec_zero();
        }
    }
    const cymlp_panels panels = cymlp_panels_of((n_inputs + LANES - 1) / LANES, PANEL_VECS);
    const size_t most = PANEL_VECS * LANES; /* a constant where it can be: of the panels' widths */
    const size_t width = panels.lesser_vecs * LANES;
    size_t i = 0;
    for (const size_t end = panels.n_full * most; i < end; w__uip += all_units * most) {
        const REAL *w = w__uip + first_unit * most;
        for (const size_t stop = i + most; i < stop; i += LANES, w += LANES) {
            NAME(dots_step)(n_rows, n_units, x, i, LANES, w, most, sum);
        }
    }
    for (; i < n_inputs; w__uip += all_units * width) {
        const size_t stop = n_inputs - i < width ? n_inputs : i + width;
        const REAL *w = w__uip + first_unit * width;
        for (; i + LANES <= stop; i += LANES, w += LANES) {
            NAME(dots_step)(n_rows, n_units, x, i, LANES, w, width, sum);
        }
        if (i < stop) {
            NAME(dots_step)(n_rows, n_units, x, i, stop - i, w, width, sum);
            i = stop;
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

static void NAME(dense_dots)(size_t n_rows, size_t n_units, size_t n_columns, size_t n_inputs,
                             const void *const *x_rows__b_i, const void *w__pop,
                             const void *bias__o, int relu, void *y__bo, size_t y_stride) {
    const size_t n_tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
    const size_t n_groups = (n_units + PANEL_VECS - 1) / PANEL_VECS;
    const size_t last = n_units / LANES * LANES;
    size_t row = 0;
    for (size_t t = 1; t <= n_tiles; t++) { /* of nearly equal heights and widths */
        const size_t rows = n_rows * t / n_tiles - row;
        REAL *y = (REAL *)y__bo + row * y_stride;
        size_t unit = 0;
        for (size_t b = 0; b < rows && n_units < n_columns; b++) {
            NAME(store_up_to)(y + b * y_stride + last, n_columns - last, vec_zero());
        }
        for (size_t g = 1; g <= n_groups; g++) {
            const size_t units = n_units * g / n_groups - unit;
            switch (SHAPE(rows, units)) {
#define CASE(ROWS, UNITS)                                                                        \
    case SHAPE(ROWS, UNITS):                                                                     \
        NAME(dots_rows)(ROWS, UNITS, n_inputs, x_rows__b_i + row, (const REAL *)w__pop, n_units, \
                        unit, (const REAL *)bias__o, relu, y, y_stride);                         \
        break;
                FOR_EACH_TILE(CASE)
#undef CASE
            }
            unit += units;
        }
        row += rows;
    }
}

#undef SHAPE
