/* Training with a step for each sample: all layers, one row after the other, in one call.
 *
 * A step of a small network takes less time than calling its kernels from outside. That of a large
 * one is a pass over the weights forward and one backward, in which each block of weights is read
 * for the layer below and then moved. The results are those of a batch of one, bit for bit, but for
 * the sign of a zero. */

/* X(vectors) for every width of a panel. */
#if PANEL_VECS == 2
#define FOR_EACH_WIDTH(X) X(1) X(2)
#else
#define FOR_EACH_WIDTH(X) X(1) X(2) X(3)
#endif

static FORCE_INLINE size_t NAME(whole_vecs)(size_t n) { return (n + LANES - 1) / LANES * LANES; }

/* sum += w delta, for at most a vector of rows and of columns. */
static FORCE_INLINE vec NAME(add_products)(size_t n_rows, size_t n_columns, const REAL *delta__l,
                                           const REAL *w, size_t width, vec sum) {
    vec square[LANES];
    UNROLL
    for (size_t r = 0; r < LANES; r++) {
        square[r] = vec_zero();
    }
    UNROLL
    for (size_t r = 0; r < LANES; r++) {
        if (r == n_rows) {
            break;
        }
        square[r] = vec_load(w + r * width);
    }
    vec_transpose(square);
    UNROLL
    for (size_t c = 0; c < LANES; c++) {
        if (c == n_columns) {
            break;
        }
        sum = vec_fma(vec_set1(delta__l[c]), square[c], sum);
    }
    return sum;
}

/* delta_below += w delta, for some rows of weights in one panel; = in the first panel. A sum is
 * taken in the order of dense_row on the transposed weights, so that it is the same bit for bit. */
static FORCE_INLINE void NAME(propagate_panel)(const int n_vecs, size_t n_rows, size_t n_columns,
                                               int first_panel, const REAL *delta__p,
                                               const REAL *w__ip, REAL *delta_below__i) {
    const size_t width = (size_t)n_vecs * LANES;
    UNROLL
    for (int v = 0; v < n_vecs; v++) {
        const size_t columns = NAME(columns_left)(n_columns, v);
        const REAL *delta = delta__p + v * LANES;
        /* Each addition waits for the one before: the next rows fill the time. */
        for (size_t i = 0; i < n_rows; i += LANES) {
            const REAL *w = w__ip + i * width + v * LANES;
            const size_t rows = n_rows - i < LANES ? n_rows - i : LANES;
            vec sum = first_panel && v == 0 ? vec_zero() : vec_load(delta_below__i + i);
            if (rows == LANES && columns == LANES) {
                sum = NAME(add_products)(LANES, LANES, delta, w, width, sum);
            } else {
                sum = NAME(add_products)(rows, columns, delta, w, width, sum);
            }
            vec_store(delta_below__i + i, sum);
        }
    }
}

static FORCE_INLINE REAL *NAME(slot_from)(void *slot, size_t offset) {
    return slot ? (REAL *)slot + offset : NULL;
}

typedef void NAME(update_outer)(size_t n_rows, size_t width, const REAL *x__i, const REAL *delta__p,
                                REAL *w__ip, REAL *const slots__ip[CYMLP_N_SLOTS],
                                const cymlp_step *step);

static NAME(update_outer) *const NAME(outer)[CYMLP_N_OPTIMIZERS] = {
    [CYMLP_SGD] = NAME(sgd_outer),
    [CYMLP_MOMENTUM] = NAME(momentum_outer),
    [CYMLP_NESTEROV] = NAME(nesterov_outer),
    [CYMLP_ADAM] = NAME(adam_outer),
};

/* Moves a kernel of n_rows rows by left^T right, the gradient of one row: left is the inputs and
 * right the deltas or, in a narrow layer, the other way round. Each block of weights is first read
 * for delta_below, unless that is NULL. Returns the sum of the squared weights from before, 0
 * without a penalty. */
static double NAME(move_kernel)(const cymlp_parameters *kernel, size_t n_rows, size_t n_columns,
                                const REAL *left, const REAL *right, REAL *delta_below__i,
                                NAME(update_outer) * update, const cymlp_step *step) {
    const size_t n_vecs = NAME(whole_vecs)(n_columns) / LANES;
    const cymlp_panels panels = cymlp_panels_of(n_vecs, PANEL_VECS);
    const size_t n_in_full = panels.n_full * PANEL_VECS;
    double squares = 0;
    for (size_t first = 0; first < n_rows; first += BLOCK_ROWS) {
        const size_t rows = n_rows - first < BLOCK_ROWS ? n_rows - first : BLOCK_ROWS;
        double of_block = 0;
        size_t panel_vecs;
        for (size_t before = 0; before < n_vecs; before += panel_vecs) {
            panel_vecs = before < n_in_full ? PANEL_VECS : panels.lesser_vecs;
            const size_t offset = (n_rows * before + first * panel_vecs) * LANES;
            REAL *w = (REAL *)kernel->values + offset;
            const REAL *right__p = right + before * LANES;
            if (step->l2 > 0) {
                of_block += NAME(table).sum_of_squares(rows * panel_vecs * LANES, w);
            }
            if (delta_below__i) {
                switch (panel_vecs) {
#define CASE(VECS)                                                                              \
    case VECS:                                                                                  \
        NAME(propagate_panel)(VECS, rows, n_columns - before * LANES, before == 0, right__p, w, \
                              delta_below__i + first);                                          \
        break;
                    FOR_EACH_WIDTH(CASE)
#undef CASE
                }
            }
            REAL *const slots[] = {
                NAME(slot_from)(kernel->slots[0], offset),
                NAME(slot_from)(kernel->slots[1], offset),
                NAME(slot_from)(kernel->slots[2], offset),
            };
            update(rows, panel_vecs * LANES, left + first, right__p, w, slots, step);
        }
        squares += of_block;
    }
    return squares;
}

/* Sets the deltas below, unless they are NULL, and then moves the layer's kernel. */
static double NAME(backward_kernel)(const cymlp_row_layer *layer, const REAL *x__i,
                                    REAL *delta_below__i, NAME(update_outer) * update,
                                    const cymlp_step *step) {
    const REAL *delta__o = (const REAL *)layer->delta__o;
    if (!layer->is_narrow) {
        return NAME(move_kernel)(&layer->kernel, layer->n_inputs, layer->n_units, x__i, delta__o,
                                 delta_below__i, update, step);
    }
    NAME(dense_row)(layer->n_inputs, NAME(whole_vecs)(layer->n_inputs), layer->n_units, delta__o,
                    layer->kernel.values, NULL, 0, delta_below__i);
    return NAME(move_kernel)(&layer->kernel, layer->n_units, layer->n_inputs, delta__o, x__i, NULL,
                             update, step);
}

/* The columns that an activation takes: whole vectors, which are faster, where it keeps the zeros
 * behind the last unit. A narrow layer above reads them. */
static FORCE_INLINE size_t NAME(activated)(const cymlp_row_layer *layer) {
    return cymlp_keeps_zeros(layer->activation) ? NAME(whole_vecs)(layer->n_units) : layer->n_units;
}

static void NAME(forward_row)(const cymlp_row_network *network, const REAL *x__i) {
    for (size_t i = 0; i < network->n_layers; i++) {
        const cymlp_row_layer *layer = &network->layers[i];
        const int relu = layer->activation == CYMLP_RELU;
        const size_t whole = NAME(whole_vecs)(layer->n_units);
        if (layer->is_narrow) {
            const void *row = x__i;
            NAME(dense_dots)(1, layer->n_units, whole, layer->n_inputs, &row, layer->kernel.values,
                             layer->bias.values, relu, layer->y__o, 0);
        } else {
            NAME(dense_row)(layer->n_units, whole, layer->n_inputs, x__i, layer->kernel.values,
                            layer->bias.values, relu, layer->y__o);
        }
        if (!relu) {
            NAME(table).activate[layer->activation](1, NAME(activated)(layer), layer->alpha,
                                                    layer->y__o, 0, layer->y__o, 0);
        }
        x__i = (const REAL *)layer->y__o;
    }
}

/* The factor of a layer's squared weights, for a sample of some weight. */
static FORCE_INLINE double NAME(l2_of)(const cymlp_row_layer *layer, double weight) {
    return !layer->l2_per_weight ? layer->l2 : (weight > 0 ? layer->l2 / weight : 0);
}

/* From the last layer's deltas down: each layer's deltas from those above, then its parameters. */
static void NAME(backward_row)(const cymlp_row_network *network, const REAL *x__i, double weight,
                               cymlp_step *step) {
    cymlp_update *update = NAME(table).update[network->optimizer];
    for (size_t i = network->n_layers; i-- > 0;) {
        cymlp_row_layer *layer = &network->layers[i];
        const cymlp_row_layer *below = i > 0 ? layer - 1 : NULL;
        /* Behind its last unit nothing is ever written to the last layer's deltas. */
        const int is_last = i == network->n_layers - 1;
        NAME(table).activate_backward[layer->activation](
            1, is_last ? layer->n_units : NAME(activated)(layer), layer->alpha, layer->y__o, 0,
            layer->delta__o, 0);
        step->l2 = NAME(l2_of)(layer, weight);
        layer->squares = NAME(backward_kernel)(layer, below ? (const REAL *)below->y__o : x__i,
                                               below ? (REAL *)below->delta__o : NULL,
                                               NAME(outer)[network->optimizer], step);
        step->l2 = 0;
        update(NAME(whole_vecs)(layer->n_units), layer->delta__o, layer->bias.values,
               layer->bias.slots, step);
    }
}

static void NAME(train_row)(const cymlp_row_network *network, const REAL *x__i,
                            cymlp_targets targets, double weight, cymlp_step *step,
                            cymlp_sums *sums) {
    const cymlp_row_layer *last = &network->layers[network->n_layers - 1];
    const double scale = weight > 0 ? 1 : 0;
    double loss, hit, penalty = 0;
    NAME(forward_row)(network, x__i);
    NAME(table).loss[network->loss](1, last->n_units, &network->loss_settings, last->y__o, 0,
                                    targets, &scale, &loss, last->delta__o, 0);
    if (network->wants_accuracy) {
        NAME(accuracy)(1, last->n_units, last->y__o, 0, targets, network->accuracy_threshold, &hit);
        sums->hits += weight * hit;
    }
    NAME(backward_row)(network, x__i, weight, step);
    for (size_t i = 0; i < network->n_layers; i++) {
        penalty += 0.5 * NAME(l2_of)(&network->layers[i], weight) * network->layers[i].squares;
    }
    sums->loss += weight * loss;
    sums->loss += weight * penalty;
    sums->penalty += weight * penalty;
    sums->weight += weight;
}

/* The sample that a step takes. */
static FORCE_INLINE ptrdiff_t NAME(sample_at)(const cymlp_samples *samples, size_t index) {
    return (ptrdiff_t)(samples->order ? (size_t)samples->order[index] : index);
}

static void NAME(train_rows)(const cymlp_row_network *network, const cymlp_samples *samples,
                             size_t first, size_t n_samples, size_t n_steps, cymlp_sums *sums) {
    const size_t row_bytes = network->layers->n_inputs * sizeof(REAL), line = 64;
    cymlp_step step = network->step;
    const int fits_vectors = NAME(fits_vectors)(network);
    NAME(vector_steps) vector_steps;
    if (fits_vectors) {
        vector_steps = NAME(vector_steps_of)(network);
    }
    for (size_t s = 0; s < n_samples; s++) {
        const ptrdiff_t b = NAME(sample_at)(samples, first + s);
        const char *x = samples->x + b * samples->x_stride;
        const void *values = samples->values ? samples->values + b * samples->values_stride : NULL;
        const cymlp_targets targets = {samples->labels ? samples->labels + b : NULL, &values};
        const double weight = samples->weight ? samples->weight[b] : 1;
        if (s + 1 < n_samples) { /* shuffled rows lie where the hardware cannot guess */
            const char *next =
                samples->x + NAME(sample_at)(samples, first + s + 1) * samples->x_stride;
            for (size_t at = 0; at < row_bytes; at += line) {
                PREFETCH(next + at);
            }
        }
        if (network->optimizer == CYMLP_ADAM) {
            cymlp_correct_step(&step, (double)(n_steps + s + 1));
        }
        if (fits_vectors) {
            if (network->optimizer == CYMLP_ADAM) {
                vector_steps.factors = NAME(factors_of)(&step);
            }
            NAME(take_vector_step)(network, (const REAL *)x, targets, weight, &vector_steps, sums);
        } else {
            NAME(train_row)(network, (const REAL *)x, targets, weight, &step, sums);
        }
    }
}

#undef FOR_EACH_WIDTH
