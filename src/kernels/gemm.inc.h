/* Matrix products on register tiles: the dense layer forward and backward, and its gradient.
 *
 * A register tile is at most TILE_ROWS rows by one panel. Each of its elements
 * is one sum, taken in ascending order from start to end, so that a result does not depend on how
 * the caller cuts a matrix into tiles. The functions for a fixed shape are inlined with that shape
 * as a constant: the accumulators then stay in registers. */

/* Rows that pack_block asks for in advance. */
#define PACK_AHEAD 4
#define CACHE_LINE 64

/* The case of a shape in a switch over SHAPE: rows and vectors of a tile. */
#define SHAPE(n_rows, n_vecs) (PANEL_VECS * (n_rows) + (n_vecs))

/* Copies the columns of some rows, of a stride each. */
static NO_INLINE void NAME(copy_columns)(size_t n_rows, size_t n_columns, const REAL *from,
                                         size_t from_stride, REAL *to, size_t to_stride) {
    for (size_t r = 0; r < n_rows; r++) {
        memcpy(to + r * to_stride, from + r * from_stride, n_columns * sizeof(REAL));
    }
}

static FORCE_INLINE void NAME(dense_rows)(const int n_rows, const int n_vecs, size_t n_columns,
                                          size_t first_input, size_t n_inputs,
                                          const void *const *x_rows__b_i, const REAL *w__ip,
                                          const REAL *bias__p, int from_y, int relu,
                                          const REAL *gate__bo, REAL *y__bo, size_t y_stride,
                                          cymlp_next next) {
    const size_t width = (size_t)n_vecs * LANES;
    /* Where the rows end within a vector, the tile is taken from here and put here. */
    REAL edge[TILE_ROWS * PANEL_VECS * LANES];
    REAL *const y = n_columns < width ? edge : y__bo;
    const size_t stride = n_columns < width ? width : y_stride;
    const REAL *x[TILE_ROWS];
    vec sum[TILE_ROWS][PANEL_VECS];
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        x[r] = (const REAL *)x_rows__b_i[r] + first_input;
    }
    if (from_y) {
        if (n_columns < width) {
            memset(edge, 0, sizeof edge);
            NAME(copy_columns)((size_t)n_rows, n_columns, y__bo, y_stride, edge, width);
        }
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            UNROLL
            for (int v = 0; v < n_vecs; v++) {
                sum[r][v] = vec_load(y + (size_t)r * stride + v * LANES);
            }
        }
    } else {
        UNROLL
        for (int v = 0; v < n_vecs; v++) {
            const vec start = bias__p ? vec_load(bias__p + v * LANES) : vec_zero();
            UNROLL
            for (int r = 0; r < n_rows; r++) {
                sum[r][v] = start;
            }
        }
    }
    for (size_t i = 0; i < n_inputs; i++) {
        vec w[PANEL_VECS];
        UNROLL
        for (int v = 0; v < n_vecs; v++) {
            w[v] = vec_load(w__ip + v * LANES);
        }
        PREFETCH(next.start + i * next.step);
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            const vec xi = vec_set1(x[r][i]);
            UNROLL
            for (int v = 0; v < n_vecs; v++) {
                sum[r][v] = vec_fma(xi, w[v], sum[r][v]);
            }
        }
        w__ip += n_vecs * LANES;
    }
    if (relu) {
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            UNROLL
            for (int v = 0; v < n_vecs; v++) {
                sum[r][v] = vec_max(vec_zero(), sum[r][v]); /* this order keeps a NaN */
            }
        }
    }
    if (gate__bo) {
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            UNROLL
            for (int v = 0; v < n_vecs; v++) {
                const vec gate = vec_load(gate__bo + (size_t)r * y_stride + v * LANES);
                sum[r][v] = vec_if_less(vec_zero(), gate, sum[r][v], vec_zero());
            }
        }
    }
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int v = 0; v < n_vecs; v++) {
            vec_store(y + (size_t)r * stride + v * LANES, sum[r][v]);
        }
    }
    if (n_columns < width) {
        NAME(copy_columns)((size_t)n_rows, n_columns, edge, width, y__bo, y_stride);
    }
}

static void NAME(dense_tile)(size_t n_rows, size_t width, size_t n_columns, size_t first_input,
                             size_t n_inputs, const void *const *x_rows__b_i, const void *w__ip,
                             const void *bias__p, int from_y, int relu, const void *gate__bo,
                             void *y__bo, size_t y_stride, cymlp_next next) {
    switch (SHAPE(n_rows, width / LANES)) {
#define CASE(ROWS, VECS)                                                            \
    case SHAPE(ROWS, VECS):                                                         \
        NAME(dense_rows)(ROWS, VECS, n_columns, first_input, n_inputs, x_rows__b_i, \
                         (const REAL *)w__ip, (const REAL *)bias__p, from_y, relu,  \
                         (const REAL *)gate__bo, (REAL *)y__bo, y_stride, next);    \
        break;
        FOR_EACH_TILE(CASE)
#undef CASE
    }
}

/* pack_block where rows hold nothing but their non-zeros. */
static void NAME(pack_nonzeros)(size_t n_rows, size_t n_columns, const void *const *x_rows__b_n,
                                cymlp_nonzeros nonzeros, size_t first_column, REAL *strips__sbt) {
    const size_t inside = first_column % BLOCK_ROWS;
    const uint64_t below = ((uint64_t)1 << inside) - 1;
    for (size_t b = 0; b < n_rows; b++) {
        const size_t word = b * nonzeros.stride + first_column / BLOCK_ROWS;
        uint64_t bits = nonzeros.bits__bw[word];
        const REAL *x = (const REAL *)x_rows__b_n[b] + nonzeros.starts__bw[word] +
                        (size_t)count_bits(bits & below);
        for (bits &= ~below; bits; bits &= bits - 1) {
            const size_t c = (size_t)lowest_bit(bits) - inside;
            if (c >= n_columns) {
                break;
            }
            strips__sbt[(c / TILE_ROWS * n_rows + b) * TILE_ROWS + c % TILE_ROWS] = *x++;
        }
    }
}

static void NAME(pack_block)(size_t n_rows, size_t n_columns, const void *const *x_rows__b_i,
                             cymlp_nonzeros nonzeros, size_t first_column, void *strips__sbt) {
    if (nonzeros.starts__bw) {
        NAME(pack_nonzeros)(n_rows, n_columns, x_rows__b_i, nonzeros, first_column,
                            (REAL *)strips__sbt);
        return;
    }
    const size_t strip = n_rows * TILE_ROWS;
    const size_t n_whole = n_columns / TILE_ROWS;
    const size_t n_left = n_columns % TILE_ROWS;
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *x = (const REAL *)x_rows__b_i[b] + first_column;
        REAL *out = (REAL *)strips__sbt + b * TILE_ROWS;
        if (b + PACK_AHEAD < n_rows) { /* rows lie too far apart for the hardware to guess */
            const REAL *later = (const REAL *)x_rows__b_i[b + PACK_AHEAD] + first_column;
            for (size_t c = 0; c < n_columns; c += CACHE_LINE / sizeof(REAL)) {
                PREFETCH(later + c);
            }
        }
        for (size_t s = 0; s < n_whole; s++) {
            memcpy(out + s * strip, x + s * TILE_ROWS, TILE_ROWS * sizeof(REAL));
        }
        for (size_t t = 0; t < n_left; t++) {
            out[n_whole * strip + t] = x[n_whole * TILE_ROWS + t];
        }
    }
}

/* Adds the products of one row of strip and delta to the sums of a tile. */
static FORCE_INLINE void NAME(gradient_row)(const int n_inputs, const int n_vecs, const REAL *x,
                                            const REAL *delta, vec sum[TILE_ROWS][PANEL_VECS]) {
    vec d[PANEL_VECS];
    UNROLL
    for (int v = 0; v < n_vecs; v++) {
        d[v] = vec_load(delta + v * LANES);
    }
    UNROLL
    for (int t = 0; t < n_inputs; t++) {
        const vec xt = vec_set1(x[t]);
        UNROLL
        for (int v = 0; v < n_vecs; v++) {
            sum[t][v] = vec_fma(xt, d[v], sum[t][v]);
        }
    }
}

static FORCE_INLINE void NAME(gradient_rows)(const int n_inputs, const int n_vecs, size_t n_rows,
                                             const REAL *x, size_t x_stride, const REAL *delta,
                                             size_t delta_stride, REAL *g,
                                             const cymlp_ahead *ahead) {
    const REAL *const end = x + n_rows * x_stride;
    const REAL *const with_prefetch =
        x + (n_rows < ahead->n_lines ? n_rows : ahead->n_lines) * x_stride;
    const size_t next_delta = ahead->delta_offset;
    size_t line = 0;
    vec sum[TILE_ROWS][PANEL_VECS];
    UNROLL
    for (int t = 0; t < n_inputs; t++) {
        UNROLL
        for (int v = 0; v < n_vecs; v++) {
            sum[t][v] = vec_zero();
        }
    }
    while (x < with_prefetch) {
        UNROLL
        for (int a = 0; a < 3; a++) {
            PREFETCH_TO_WRITE(ahead->line[a] + line);
        }
        line += CACHE_LINE;
        PREFETCH(delta + next_delta);
        NAME(gradient_row)(n_inputs, n_vecs, x, delta, sum);
        x += x_stride;
        delta += delta_stride;
    }
    while (x < end) {
        PREFETCH(delta + next_delta);
        NAME(gradient_row)(n_inputs, n_vecs, x, delta, sum);
        x += x_stride;
        delta += delta_stride;
    }
    UNROLL
    for (int t = 0; t < n_inputs; t++) {
        UNROLL
        for (int v = 0; v < n_vecs; v++) {
            vec_store(g + (t * n_vecs + v) * LANES, sum[t][v]);
        }
    }
}

static void NAME(gradient_tile)(size_t n_inputs, size_t width, size_t n_rows, const void *strip__bt,
                                size_t strip_stride, const void *delta__bp, size_t delta_stride,
                                void *g__tp, const cymlp_ahead *ahead) {
    switch (SHAPE(n_inputs, width / LANES)) {
#define CASE(INPUTS, VECS)                                                                \
    case SHAPE(INPUTS, VECS):                                                             \
        NAME(gradient_rows)(INPUTS, VECS, n_rows, (const REAL *)strip__bt, strip_stride,  \
                            (const REAL *)delta__bp, delta_stride, (REAL *)g__tp, ahead); \
        break;
        FOR_EACH_TILE(CASE)
#undef CASE
    }
}

static void NAME(claim_lines)(size_t n, const void *first, size_t stride) {
    for (size_t line = 0; line < n; line++) {
        PREFETCH_TO_WRITE((const char *)first + line * stride);
    }
}

static void NAME(bring_columns)(size_t n_rows, const void *const *x_rows__b_i, size_t first_column,
                                size_t n_columns) {
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *x = (const REAL *)x_rows__b_i[b] + first_column;
        for (size_t c = 0; c < n_columns; c += CACHE_LINE / sizeof(REAL)) {
            PREFETCH(x + c);
        }
    }
}

static void NAME(transpose_tile)(size_t n_rows, size_t n_columns, const void *src__pp,
                                 size_t src_width, void *dst__pp, size_t dst_width) {
    const REAL *src = (const REAL *)src__pp;
    REAL *dst = (REAL *)dst__pp;
    for (size_t c = 0; c < n_columns; c += LANES) {
        vec square[LANES];
        UNROLL
        for (size_t r = 0; r < LANES; r++) {
            square[r] = r < n_rows ? vec_load(src + r * src_width + c) : vec_zero();
        }
        vec_transpose(square);
        UNROLL
        for (size_t k = 0; k < LANES; k++) {
            if (c + k < n_columns) {
                vec_store(dst + (c + k) * dst_width, square[k]);
            }
        }
    }
}

#undef PACK_AHEAD
#undef CACHE_LINE
#undef SHAPE
