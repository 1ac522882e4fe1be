/* Products of which many factors are zero: only the others are multiplied. They are the inputs of
 * samples, what a ReLU or a dropout has made of a layer's outputs, and their deltas.
 *
 * Which inputs of a row are not zero is told by bits. A word holds the bits of BLOCK_ROWS inputs,
 * the lowest bit of the first word being the first input's. The products are added in the order in
 * which the dense kernels add them, and a product that is left out would have been zero: with
 * finite weights the results are the same, bit for bit.
 *
 * A run of panels passes at once, each vector an accumulator in a register: with fewer, each
 * addition would wait for the one before. */

/* Rows over which to spread the requests for weights, and bytes of weights: fewer may well be in
 * the second-level cache. */
#define FEWEST_TO_BRING 48
#define LEAST_TO_BRING (512 * 1024)

/* Adds the bits of a vector, from input i of a word on, and asks for what is wanted later. */
#define ADD_BITS(word, i, load)                                                           \
    do {                                                                                  \
        PREFETCH(later + (i)); /* shuffled rows: the hardware cannot know the next one */ \
        (word) |= (uint64_t)vec_nonzero(load) << (i);                                     \
    } while (0)

static size_t NAME(find_nonzeros)(size_t n_rows, size_t n_inputs, const void *const *x_rows__b_i,
                                  uint64_t *bits__bw, size_t bits_stride) {
    size_t total = 0;
    for (size_t b = 0; b < n_rows; b++) {
        const REAL *x = (const REAL *)x_rows__b_i[b];
        const REAL *later = (const REAL *)x_rows__b_i[b + 2 < n_rows ? b + 2 : n_rows - 1];
        uint64_t *bits = bits__bw ? bits__bw + b * bits_stride : NULL;
        for (size_t left = n_inputs; left; x += BLOCK_ROWS, later += BLOCK_ROWS) {
            uint64_t word = 0;
            if (left >= BLOCK_ROWS) {
                UNROLL
                for (size_t i = 0; i < BLOCK_ROWS; i += LANES) {
                    ADD_BITS(word, i, vec_load(x + i));
                }
                left -= BLOCK_ROWS;
            } else {
                FOR_EACH_VEC(i, some, left) {
                    ADD_BITS(word, i, NAME(load_up_to)(x + i, some, 0));
                }
                left = 0;
            }
            if (bits) {
                *bits++ = word;
            }
            total += (size_t)count_bits(word);
        }
    }
    return total;
}

#undef ADD_BITS

/* Adds one input times its weights to the sums of a run of panels. */
static FORCE_INLINE void NAME(add_input)(const int n_full, const int n_lesser,
                                         const int lesser_vecs, size_t i, REAL x,
                                         const REAL *w__pip, size_t full, const REAL *w_lesser__pip,
                                         size_t lesser, vec *sum) {
    const vec xi = vec_set1(x);
    const REAL *w = w__pip + i * PANEL_VECS * LANES;
    const REAL *w_lesser = w_lesser__pip + i * (size_t)lesser_vecs * LANES;
    SETTLE(w);
    SETTLE(w_lesser);
    NAME(add_scaled)(n_full, PANEL_VECS, xi, w, full, sum);
    NAME(add_scaled)(n_lesser, lesser_vecs, xi, w_lesser, lesser, sum + n_full * PANEL_VECS);
}

/* Adds the inputs of one word of one row to the sums of a run of panels. */
static FORCE_INLINE void NAME(forward_word)(const int n_full, const int n_lesser,
                                            const int lesser_vecs, uint64_t bits, const REAL *x,
                                            int is_packed, const REAL *w__pip, size_t full,
                                            const REAL *w_lesser__pip, size_t lesser,
                                            const REAL *start__o, int relu, REAL *y__o) {
    const int n_vecs = n_full * PANEL_VECS + n_lesser * lesser_vecs;
    vec sum[RUN_VECS];
    UNROLL
    for (int v = 0; v < n_vecs; v++) {
        sum[v] = vec_load(start__o + v * LANES);
    }
    while (is_packed && bits) {
        const size_t i = (size_t)lowest_bit(bits);
        bits &= bits - 1;
        NAME(add_input)(n_full, n_lesser, lesser_vecs, i, *x++, w__pip, full, w_lesser__pip, lesser,
                        sum);
    }
    /* The ends of short loops are foreseen sooner. */
    UNROLL_BY_8
    while (bits) {
        const size_t i = (size_t)lowest_bit(bits);
        bits &= bits - 1;
        NAME(add_input)(n_full, n_lesser, lesser_vecs, i, x[i], w__pip, full, w_lesser__pip, lesser,
                        sum);
    }
    NAME(end_sums)(n_vecs, (size_t)n_vecs * LANES, relu, sum, y__o);
}

/* Asks for the weights of some inputs of n_inputs in some panels. */
static NO_INLINE void NAME(bring_inputs)(size_t first, size_t stop, size_t n_inputs,
                                         size_t n_panels, size_t n_vecs, const REAL *w__pip) {
    const size_t width = n_vecs * LANES;
    for (size_t p = 0; p < n_panels; p++) {
        for (size_t at = first * width; at < stop * width; at += 64 / sizeof(REAL)) {
            PREFETCH_FAR(w__pip + p * n_inputs * width + at);
        }
    }
}

/* A word of all rows before the next one: its part of the weights stays in the cache. */
static FORCE_INLINE void NAME(forward_run)(const int n_full, const int n_lesser,
                                           const int lesser_vecs, size_t n_rows, size_t n_inputs,
                                           const void *const *x_rows__b_i, cymlp_nonzeros nonzeros,
                                           const REAL *w__pip, const REAL *bias__o, int from_y,
                                           int relu, REAL *y__bo, size_t y_stride, int brings,
                                           cymlp_panels next) {
    static const REAL zeros[RUN_VECS * LANES];
    const size_t n_words = (n_inputs + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const size_t full = n_inputs * PANEL_VECS * LANES;
    const size_t lesser = n_inputs * (size_t)lesser_vecs * LANES;
    const REAL *next__pip = w__pip + (size_t)n_full * full + (size_t)n_lesser * lesser;
    for (size_t word = 0; word < n_words; word++) {
        const size_t first = word * BLOCK_ROWS;
        const int is_last = word == n_words - 1;
        const REAL *w = w__pip + first * PANEL_VECS * LANES;
        const REAL *w_lesser = w__pip + (size_t)n_full * full + first * (size_t)lesser_vecs * LANES;
        /* The weights that are asked for meanwhile: of the next word or the next run. */
        const cymlp_panels here = {(size_t)n_full, (size_t)n_lesser, (size_t)lesser_vecs};
        const cymlp_panels then = is_last ? next : here;
        const REAL *then_full = is_last ? next__pip : w + BLOCK_ROWS * PANEL_VECS * LANES;
        const REAL *then_lesser = is_last ? next__pip + next.n_full * full
                                          : w_lesser + BLOCK_ROWS * (size_t)lesser_vecs * LANES;
        const size_t left = is_last ? n_inputs : n_inputs - first - BLOCK_ROWS;
        const size_t n_next = !brings ? 0 : left < BLOCK_ROWS ? left : BLOCK_ROWS;
        const size_t share = (n_next + n_rows - 1) / n_rows; /* of a row */
        for (size_t b = 0; b < n_rows; b++) {
            const uint64_t bits = nonzeros.bits__bw[b * nonzeros.stride + word];
            const REAL *x = (const REAL *)x_rows__b_i[b];
            REAL *y = y__bo + b * y_stride;
            const REAL *start = word || from_y ? y : bias__o ? bias__o : zeros;
            const int last_relu = relu && is_last;
            if (b * share < n_next) {
                const size_t stop = (b + 1) * share < n_next ? (b + 1) * share : n_next;
                NAME(bring_inputs)(b * share, stop, n_inputs, then.n_full, PANEL_VECS, then_full);
                NAME(bring_inputs)(b * share, stop, n_inputs, then.n_lesser, then.lesser_vecs,
                                   then_lesser);
            }
            if (nonzeros.starts__bw) {
                x += nonzeros.starts__bw[b * nonzeros.stride + word];
                NAME(forward_word)(n_full, n_lesser, lesser_vecs, bits, x, 1, w, full, w_lesser,
                                   lesser, start, last_relu, y);
            } else {
                NAME(forward_word)(n_full, n_lesser, lesser_vecs, bits, x + first, 0, w, full,
                                   w_lesser, lesser, start, last_relu, y);
            }
        }
    }
}

/* A row alone: its sums stay in the registers from word to word.
 *
 * Prefetchers go by an instruction's address. One that sees one row of weights in eight fetches
 * others less often than one that sees them all or half of them: that takes a quarter less time,
 * where the non-zeros lie side by side as those of images do. */
static FORCE_INLINE void NAME(sparse_row_run)(const int n_full, const int n_lesser,
                                              const int lesser_vecs, size_t n_inputs,
                                              const uint64_t *bits__w, const REAL *x__i,
                                              const REAL *w__pip, const REAL *start__o, int relu,
                                              REAL *y__o) {
    const int n_vecs = n_full * PANEL_VECS + n_lesser * lesser_vecs;
    const size_t full = n_inputs * PANEL_VECS * LANES;
    const size_t lesser = n_inputs * (size_t)lesser_vecs * LANES;
    const REAL *w_lesser__pip = w__pip + (size_t)n_full * full;
    vec sum[RUN_VECS];
    NAME(begin_sums)(n_vecs, start__o, sum);
    for (size_t first = 0; first < n_inputs; first += BLOCK_ROWS) {
        uint64_t bits = *bits__w++;
        UNROLL_BY_8
        while (bits) {
            const size_t i = first + (size_t)lowest_bit(bits);
            bits &= bits - 1;
            NAME(add_input)(n_full, n_lesser, lesser_vecs, i, x__i[i], w__pip, full, w_lesser__pip,
                            lesser, sum);
        }
    }
    NAME(end_sums)(n_vecs, (size_t)n_vecs * LANES, relu, sum, y__o);
}

static NO_INLINE void NAME(sparse_row)(cymlp_panels panels, size_t n_inputs,
                                       const uint64_t *bits__w, const REAL *x__i,
                                       const REAL *w__pip, const REAL *start__o, int relu,
                                       REAL *y__o) {
    for (cymlp_panels run; cymlp_vecs_of(panels, PANEL_VECS); panels = cymlp_without(panels, run)) {
        run = cymlp_run_of(panels, PANEL_VECS, RUN_VECS);
        switch (RUN_OF(run)) {
#define CASE(FULL, LESSER, VECS)                                                                  \
    case RUN(FULL, LESSER, VECS):                                                                 \
        NAME(sparse_row_run)(FULL, LESSER, VECS, n_inputs, bits__w, x__i, w__pip, start__o, relu, \
                             y__o);                                                               \
        break;
            FOR_EACH_RUN(CASE)
#undef CASE
        }
        const size_t width = cymlp_vecs_of(run, PANEL_VECS) * LANES;
        w__pip += width * n_inputs;
        start__o = start__o ? start__o + width : NULL;
        y__o += width;
    }
}

static void NAME(sparse_forward)(size_t n_rows, cymlp_panels panels, size_t n_inputs,
                                 const void *const *x_rows__b_i, cymlp_nonzeros nonzeros,
                                 const void *w__pip, const void *bias__o, int from_y, int relu,
                                 void *y__bo, size_t y_stride) {
    if (n_rows == 1 && !nonzeros.starts__bw) {
        NAME(sparse_row)(panels, n_inputs, nonzeros.bits__bw, (const REAL *)x_rows__b_i[0],
                         (const REAL *)w__pip, (const REAL *)(from_y ? y__bo : bias__o), relu,
                         (REAL *)y__bo);
        return;
    }
    const size_t n_bytes = n_inputs * cymlp_vecs_of(panels, PANEL_VECS) * LANES * sizeof(REAL);
    const int brings = n_rows >= FEWEST_TO_BRING && n_bytes >= LEAST_TO_BRING;
    cymlp_panels run = cymlp_run_of(panels, PANEL_VECS, RUN_VECS), next;
    for (size_t first = 0; cymlp_vecs_of(run, PANEL_VECS);
         first += cymlp_vecs_of(run, PANEL_VECS), run = next) {
        panels = cymlp_without(panels, run);
        next = cymlp_run_of(panels, PANEL_VECS, RUN_VECS);
        const REAL *w = (const REAL *)w__pip + first * LANES * n_inputs;
        const REAL *bias = bias__o ? (const REAL *)bias__o + first * LANES : NULL;
        REAL *y = (REAL *)y__bo + first * LANES;
        switch (RUN_OF(run)) {
#define CASE(FULL, LESSER, VECS)                                                                \
    case RUN(FULL, LESSER, VECS):                                                               \
        NAME(forward_run)(FULL, LESSER, VECS, n_rows, n_inputs, x_rows__b_i, nonzeros, w, bias, \
                          from_y, relu, y, y_stride, brings, next);                             \
        break;
            FOR_EACH_RUN(CASE)
#undef CASE
        }
    }
}

/* Turns 64 words of 64 bits: afterwards bit b of word i is what bit i of word b was.
 * H. S. Warren, Hacker's Delight, section 7-3. */
static void NAME(turn_bits)(uint64_t words[64]) {
    uint64_t mask = 0x00000000ffffffffu;
    for (int step = 32; step; step /= 2, mask ^= mask << step) {
        for (int i = 0; i < 64; i += 2 * step) {
            for (int j = i; j < i + step; j++) {
                const uint64_t swapped = ((words[j] >> step) ^ words[j + step]) & mask;
                words[j] ^= swapped << step;
                words[j + step] ^= swapped;
            }
        }
    }
}

static void NAME(turn_nonzeros)(size_t n_rows, size_t word, cymlp_nonzeros nonzeros,
                                uint64_t *rows__ci) {
    for (size_t first = 0; first < n_rows; first += 64) {
        uint64_t *words = rows__ci + first;
        for (size_t b = 0; b < 64; b++) {
            words[b] =
                first + b < n_rows ? nonzeros.bits__bw[(first + b) * nonzeros.stride + word] : 0;
        }
        NAME(turn_bits)(words);
    }
}

/* Where the vectors of one input's weights in a run of panels stand. */
#define IN_RUN(v)                                                                               \
    ((v) < n_in_full ? g_full__p + (size_t)((v) / PANEL_VECS) * full + (v) % PANEL_VECS * LANES \
                     : g_lesser__p + (size_t)(((v) - n_in_full) / lesser_vecs) * lesser +       \
                           ((v) - n_in_full) % lesser_vecs * LANES)

/* The gradient of one input's weights in a run of panels, over the rows of one word. */
static FORCE_INLINE void
NAME(gradient_word)(const int n_full, const int n_lesser, const int lesser_vecs,
                    const int in_strips, uint64_t rows, const REAL *strip__bt,
                    const void *const *x_rows__b_i, cymlp_nonzeros nonzeros, size_t input,
                    const REAL *delta__bo, size_t delta_stride, int from_g, REAL *g_full__p,
                    size_t full, REAL *g_lesser__p, size_t lesser) {
    const int n_in_full = n_full * PANEL_VECS, n_vecs = n_in_full + n_lesser * lesser_vecs;
    vec sum[RUN_VECS];
    UNROLL
    for (int v = 0; v < n_vecs; v++) {
        sum[v] = from_g ? vec_load(IN_RUN(v)) : vec_zero();
    }
    while (rows) {
        const size_t b = (size_t)lowest_bit(rows);
        const REAL *delta = delta__bo + b * delta_stride;
        const REAL *x = in_strips ? strip__bt + b * TILE_ROWS : (const REAL *)x_rows__b_i[b];
        size_t at = in_strips ? input % TILE_ROWS : input;
        if (!in_strips && nonzeros.starts__bw) { /* how many values of the row are before it */
            const size_t word = b * nonzeros.stride + input / BLOCK_ROWS;
            const uint64_t below = ((uint64_t)1 << input % BLOCK_ROWS) - 1;
            at = nonzeros.starts__bw[word] + (size_t)count_bits(nonzeros.bits__bw[word] & below);
        }
        SETTLE(delta);
        rows &= rows - 1;
        NAME(add_scaled)(1, n_vecs, vec_set1(x[at]), delta, 0, sum);
    }
    UNROLL
    for (int v = 0; v < n_vecs; v++) {
        vec_store(IN_RUN(v), sum[v]);
    }
}

#undef IN_RUN

/* Asks for the weights of one input in one panel and, in a large layer, for their slots. */
static FORCE_INLINE void NAME(claim_row)(const int is_large, const int n_vecs,
                                         const char *const parameters[3], size_t offset) {
    UNROLL
    for (size_t line = 0; line < (size_t)n_vecs * LANES * sizeof(REAL); line += 64) {
        PREFETCH_TO_WRITE(parameters[0] + offset + line);
        if (is_large) {
            PREFETCH_FAR(parameters[1] + offset + line);
            PREFETCH_FAR(parameters[2] + offset + line);
        }
    }
}

/* In some panels; a function of its own as add_scaled is. */
static FORCE_INLINE void NAME(claim_rows)(const int is_large, const int n_panels, const int n_vecs,
                                          const char *const parameters[3], size_t offset,
                                          size_t panel_size) {
    UNROLL
    for (int p = 0; p < n_panels; p++) {
        NAME(claim_row)(is_large, n_vecs, parameters, offset + (size_t)p * panel_size);
    }
}

/* Asks for an input's share of the transposed copy. */
static NO_INLINE void NAME(claim_across)(const cymlp_sparse_ahead *ahead, size_t input) {
    const cymlp_across *across = ahead->across__t + input / LANES;
    const size_t end = ahead->n_across * (input % LANES + 1) / LANES;
    for (size_t o = ahead->n_across * (input % LANES) / LANES; o < end; o++) {
        PREFETCH_TO_WRITE(across->first + o * across->stride);
    }
}

static FORCE_INLINE void NAME(gradient_run)(const int n_full, const int n_lesser,
                                            const int lesser_vecs, const int in_strips,
                                            size_t n_rows, size_t first_input, size_t n_inputs,
                                            const void *const *x_rows__b_i, cymlp_nonzeros nonzeros,
                                            const REAL *strips__sbt, const uint64_t *rows__ci,
                                            const REAL *delta__bo, size_t delta_stride,
                                            REAL *g__pip, const cymlp_sparse_ahead *ahead) {
    const size_t full_row = PANEL_VECS * LANES, lesser_row = (size_t)lesser_vecs * LANES;
    const size_t full = n_inputs * full_row, lesser = n_inputs * lesser_row;
    REAL *const g_lesser = g__pip + (size_t)n_full * full;
    for (size_t b = 0; b < n_rows; b += 64) { /* their deltas stay in the first-level cache */
        cymlp_nonzeros here = nonzeros;
        here.bits__bw += b * nonzeros.stride;
        here.starts__bw += nonzeros.starts__bw ? b * nonzeros.stride : 0;
        for (size_t i = 0; i < n_inputs; i++) {
            if (b + i < n_rows) {
                const char *next = (const char *)ahead->rows__b[b + i] + ahead->start;
                for (size_t line = 0; line < ahead->n_bytes; line += 64) {
                    PREFETCH(next + line);
                }
            }
            if (b == 0 && n_rows >= 64) { /* less work would not hide them */
                NAME(claim_rows)(in_strips, n_full, PANEL_VECS, ahead->full,
                                 i * full_row * sizeof(REAL), ahead->full_panel);
                NAME(claim_rows)(in_strips, n_lesser, lesser_vecs, ahead->lesser,
                                 i * lesser_row * sizeof(REAL),
                                 ahead->full_panel / PANEL_VECS * (size_t)lesser_vecs);
                NAME(claim_across)(ahead, i);
            }
            const size_t strip = i / TILE_ROWS * n_rows + b;
            NAME(gradient_word)(n_full, n_lesser, lesser_vecs, in_strips, rows__ci[b + i],
                                in_strips ? strips__sbt + strip * TILE_ROWS : NULL, x_rows__b_i + b,
                                here, in_strips ? i : first_input + i, delta__bo + b * delta_stride,
                                delta_stride, b > 0, g__pip + i * full_row, full,
                                g_lesser + i * lesser_row, lesser);
        }
    }
}

static void NAME(sparse_gradient)(size_t n_rows, cymlp_panels run, size_t first_input,
                                  size_t n_inputs, const void *const *x_rows__b_i,
                                  cymlp_nonzeros nonzeros, const void *strips__sbt,
                                  const uint64_t *rows__ci, const void *delta__bo,
                                  size_t delta_stride, void *g__pip,
                                  const cymlp_sparse_ahead *ahead) {
    switch (RUN_OF(run)) {
#define GRADIENT(FULL, LESSER, VECS, IN_STRIPS)                                                   \
    NAME(gradient_run)(FULL, LESSER, VECS, IN_STRIPS, n_rows, first_input, n_inputs, x_rows__b_i, \
                       nonzeros, (const REAL *)strips__sbt, rows__ci, (const REAL *)delta__bo,    \
                       delta_stride, (REAL *)g__pip, ahead)
#define CASE(FULL, LESSER, VECS)             \
    case RUN(FULL, LESSER, VECS):            \
        if (strips__sbt) {                   \
            GRADIENT(FULL, LESSER, VECS, 1); \
        } else {                             \
            GRADIENT(FULL, LESSER, VECS, 0); \
        }                                    \
        break;
        FOR_EACH_RUN(CASE)
#undef CASE
#undef GRADIENT
    }
}

#undef RUN_OF
#undef RUN
#undef FEWEST_TO_BRING
#undef LEAST_TO_BRING
