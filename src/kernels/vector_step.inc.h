/* A step of one sample where a vector has room for all units of each layer.
 *
 * Each layer waits for the one before it, and so does each step: what passes from one to the next
 * stays in a register. The sums are those of row_step.inc.h, in the same order. */

/* What the steps of a call have in common. */
typedef struct {
    NAME(factors) factors;
    NAME(term) * term; /* NULL: the loss has none */
    NAME(told) told;
    vec live; /* 1 for an output, 0 behind the last one */
} NAME(vector_steps);

static NAME(vector_steps) NAME(vector_steps_of)(const cymlp_row_network *network) {
    const cymlp_row_layer *last = &network->layers[network->n_layers - 1];
    const cymlp_loss_settings *settings = &network->loss_settings;
    const NAME(vector_steps) steps = {
        NAME(factors_of)(&network->step),
        NAME(terms)[network->loss],
        {settings->unit__o ? vec_load((const REAL *)settings->unit__o) : vec_set1(1), last->n_units,
         *settings},
        NAME(live)(last->n_units),
    };
    return steps;
}

/* Outputs in memory and their loss, as the kernel of the loss gives it, with the deltas. */
static FORCE_INLINE double NAME(vector_loss)(const cymlp_row_network *network,
                                             const NAME(vector_steps) * steps, vec y,
                                             cymlp_targets targets, double scale, vec *delta) {
    const cymlp_row_layer *last = &network->layers[network->n_layers - 1];
    const size_t n_units = last->n_units;
    const vec zero = vec_zero();
    REAL value__o[LANES];
    if (network->loss == CYMLP_SQUARED_ERROR) {
        const vec error = vec_sub(y, NAME(load_target)(targets, 0, 0, n_units));
        double sum = (double)INFINITY;
        *delta = vec_mul(vec_set1((REAL)scale), error);
        if (n_units >= TOO_FEW_SQUARES) {
            sum = (double)vec_sum(vec_fma(error, error, zero));
        }
        if (sum == (double)INFINITY) {
            sum = 0;
            vec_store(value__o, error);
            for (size_t o = 0; o < n_units; o++) {
                sum += (double)value__o[o] * (double)value__o[o];
            }
        }
        return 0.5 * sum;
    }
    if (steps->term) {
        vec slope;
        REAL sum = 0;
        const vec outputs = vec_if_less(zero, steps->live, y, vec_set1(1));
        const vec value =
            steps->term(outputs, NAME(load_target)(targets, 0, 0, n_units), &steps->told, &slope);
        *delta = vec_if_less(zero, steps->live, vec_mul(vec_set1((REAL)scale), slope), zero);
        if (LANES / n_units <= 1) {
            return (double)vec_sum(vec_fma(steps->live, value, zero));
        }
        vec_store(value__o, value);
        for (size_t o = 0; o < n_units; o++) {
            sum += value__o[o];
        }
        return (double)sum;
    }
    double loss;
    NAME(table).loss[network->loss](1, n_units, &network->loss_settings, last->y__o, 0, targets,
                                    &scale, &loss, last->delta__o, 0);
    *delta = vec_load((const REAL *)last->delta__o);
    return loss;
}

static int NAME(fits_vectors)(const cymlp_row_network *network) {
    int fits = 1;
    for (size_t i = 0; fits && i < network->n_layers; i++) {
        const cymlp_row_layer *layer = &network->layers[i];
        fits = layer->n_units <= LANES && layer->l2 == 0 && NAME(is_simple)(layer->activation);
    }
    return fits;
}

/* x W + b of the inputs in x or, in the first layer, in memory. */
static FORCE_INLINE vec NAME(affine_vec)(const cymlp_row_layer *layer, const REAL *x__i, vec x) {
    const REAL *w = (const REAL *)layer->kernel.values;
    vec sum = vec_load((const REAL *)layer->bias.values);
    if (x__i) {
        for (size_t i = 0; i < layer->n_inputs; i++) {
            sum = vec_fma(vec_set1(x__i[i]), vec_load(w + i * LANES), sum);
        }
    } else if (!layer->is_narrow) {
        for (size_t i = 0; i < layer->n_inputs; i++) {
            sum = vec_fma(vec_lane(x, i), vec_load(w + i * LANES), sum);
        }
    } else {
        const vec bias = sum;
        for (size_t u = 0; u < layer->n_units; u++) {
            const REAL total = vec_sum(vec_fma(x, vec_load(w + u * LANES), vec_zero()));
            const vec chosen = vec_load(NAME(one_at_middle) + LANES - u);
            sum = vec_if_less(vec_zero(), chosen, vec_add(vec_set1(total), bias), sum);
        }
    }
    return sum;
}

/* The deltas below, before their activation's derivative. */
static FORCE_INLINE vec NAME(propagate_vec)(const cymlp_row_layer *layer, vec delta) {
    const REAL *w = (const REAL *)layer->kernel.values;
    vec sum = vec_zero();
    if (layer->is_narrow) {
        for (size_t u = 0; u < layer->n_units; u++) {
            sum = vec_fma(vec_lane(delta, u), vec_load(w + u * LANES), sum);
        }
        return sum;
    }
    vec square[LANES];
    UNROLL
    for (size_t r = 0; r < LANES; r++) {
        square[r] = r < layer->n_inputs ? vec_load(w + r * LANES) : vec_zero();
    }
    vec_transpose(square);
    UNROLL
    for (size_t u = 0; u < LANES; u++) {
        if (u == layer->n_units) {
            break;
        }
        sum = vec_fma(vec_lane(delta, u), square[u], sum);
    }
    return sum;
}

/* Moves a layer by its deltas and its inputs, in x or, in the first layer, in memory. */
static FORCE_INLINE void NAME(move_vecs)(const enum cymlp_optimizer optimizer,
                                         const cymlp_row_layer *layer, const REAL *x__i, vec x,
                                         vec delta, NAME(factors) f) {
    REAL *w = (REAL *)layer->kernel.values, *bias = (REAL *)layer->bias.values;
    REAL *slot[CYMLP_N_SLOTS], *bias_slot[CYMLP_N_SLOTS];
    for (int s = 0; s < CYMLP_N_SLOTS; s++) {
        slot[s] = (REAL *)layer->kernel.slots[s];
        bias_slot[s] = (REAL *)layer->bias.slots[s];
    }
    if (layer->is_narrow) {
        for (size_t u = 0; u < layer->n_units; u++) {
            const vec g = vec_mul(vec_lane(delta, u), x);
            NAME(move)(optimizer, f, g, w, slot, u * LANES, LANES);
        }
    } else {
        for (size_t i = 0; i < layer->n_inputs; i++) {
            const vec g = vec_mul(x__i ? vec_set1(x__i[i]) : vec_lane(x, i), delta);
            NAME(move)(optimizer, f, g, w, slot, i * LANES, LANES);
        }
    }
    NAME(move)(optimizer, f, delta, bias, bias_slot, 0, LANES);
}

static FORCE_INLINE void NAME(move_layer)(enum cymlp_optimizer optimizer,
                                          const cymlp_row_layer *layer, const REAL *x__i, vec x,
                                          vec delta, NAME(factors) f) {
    switch (optimizer) {
    case CYMLP_MOMENTUM:
        NAME(move_vecs)(CYMLP_MOMENTUM, layer, x__i, x, delta, f);
        break;
    case CYMLP_NESTEROV:
        NAME(move_vecs)(CYMLP_NESTEROV, layer, x__i, x, delta, f);
        break;
    case CYMLP_ADAM:
        NAME(move_vecs)(CYMLP_ADAM, layer, x__i, x, delta, f);
        break;
    default:
        NAME(move_vecs)(CYMLP_SGD, layer, x__i, x, delta, f);
    }
}

static void NAME(take_vector_step)(const cymlp_row_network *network, const REAL *x__i,
                                   cymlp_targets targets, double weight,
                                   const NAME(vector_steps) * steps, cymlp_sums *sums) {
    cymlp_row_layer *const layers = network->layers;
    const cymlp_row_layer *const last = &layers[network->n_layers - 1];
    double hit;
    vec y = vec_zero(), delta;
    for (cymlp_row_layer *layer = layers; layer <= last; layer++) {
        y = NAME(affine_vec)(layer, layer == layers ? x__i : NULL, y);
        y = NAME(simple)(layer->activation, vec_set1((REAL)layer->alpha), y);
        if (!cymlp_keeps_zeros(layer->activation)) {
            y = vec_if_less(vec_zero(), NAME(live)(layer->n_units), y, vec_zero());
        }
        vec_store((REAL *)layer->y__o, y);
    }
    sums->loss +=
        weight * NAME(vector_loss)(network, steps, y, targets, weight > 0 ? 1 : 0, &delta);
    if (network->wants_accuracy) {
        NAME(accuracy)(1, last->n_units, last->y__o, 0, targets, network->accuracy_threshold, &hit);
        sums->hits += weight * hit;
    }
    for (const cymlp_row_layer *layer = last;; layer--) {
        const int is_first = layer == layers;
        vec below = vec_zero(), x = vec_zero();
        delta = NAME(simple_backward)(layer->activation, vec_set1((REAL)layer->alpha),
                                      vec_load((const REAL *)layer->y__o), delta);
        if (!is_first) {
            x = vec_load((const REAL *)layer[-1].y__o);
            below = NAME(propagate_vec)(layer, delta);
        }
        NAME(move_layer)(network->optimizer, layer, is_first ? x__i : NULL, x, delta,
                         steps->factors);
        if (is_first) {
            break;
        }
        delta = below;
    }
    sums->weight += weight;
}
