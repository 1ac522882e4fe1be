/* The border between the C kernels and their callers: one table of functions per (dtype, ISA).
 *
 * Every array holds elements of the table's dtype unless its type says otherwise, and is passed as
 * void so that callers are written once for both dtypes. The suffix of an argument is its shape:
 *
 *     b  rows of a batch                    i  inputs of a layer
 *     o  outputs (units) of a layer         t  rows of a register tile (tile_rows)
 *     p  columns of a panel (width)         l  columns of a vector (lanes)
 *     n  any length
 *
 * so that `delta__bo` is a (rows, outputs) array and `x_rows__b_i` an array of pointers to rows of
 * inputs. Strides are counted in elements. Columns are contiguous. No pointer needs an alignment
 * beyond that of its element. A kernel allocates nothing, starts no thread, keeps no state.
 *
 * Panel layout: the columns of a (rows, columns) matrix, filled with zeros to whole vectors, are
 * cut into panels of at most panel_vecs vectors: see cymlp_panels. A panel stores its rows one
 * after the other, so that the element (k, j) of a panel stands at k * width + j. The panels follow
 * each other.
 */
#ifndef CYMLP_KERNELS_H
#define CYMLP_KERNELS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#define CYMLP_X86_64 1
#elif defined(__aarch64__) || defined(_M_ARM64)
#define CYMLP_AARCH64 1
#endif

enum cymlp_dtype { CYMLP_FLOAT32, CYMLP_FLOAT64, CYMLP_N_DTYPES };

/* Types that inputs may have in users' memory. */
enum cymlp_element {
    CYMLP_UINT8,
    CYMLP_INT8,
    CYMLP_UINT16,
    CYMLP_INT16,
    CYMLP_UINT32,
    CYMLP_INT32,
    CYMLP_UINT64,
    CYMLP_INT64,
    CYMLP_HALF,
    CYMLP_SINGLE,
    CYMLP_WIDE,
    CYMLP_LONG_DOUBLE
};

enum cymlp_activation {
    CYMLP_IDENTITY,
    CYMLP_RELU,
    CYMLP_SIGMOID,
    CYMLP_TANH,
    CYMLP_SOFTMAX,
    CYMLP_LEAKY_RELU,
    CYMLP_ELU,
    CYMLP_SELU,
    CYMLP_GELU,
    CYMLP_GELU_TANH,
    CYMLP_SILU,
    CYMLP_MISH,
    CYMLP_SOFTPLUS,
    CYMLP_SOFTSIGN,
    CYMLP_HARD_SIGMOID,
    CYMLP_EXPONENTIAL,
    CYMLP_N_ACTIVATIONS
};

/* Those that are named after an output activation read what it would be taken of. */
enum cymlp_loss {
    CYMLP_SQUARED_ERROR,
    CYMLP_ABSOLUTE_ERROR,
    CYMLP_HUBER,
    CYMLP_LOG_COSH,
    CYMLP_QUANTILE,
    CYMLP_POISSON,
    CYMLP_GAMMA,
    CYMLP_TWEEDIE,
    CYMLP_CROSS_ENTROPY,
    CYMLP_BINARY_CROSS_ENTROPY,
    CYMLP_HINGE,
    CYMLP_KL_DIVERGENCE,
    CYMLP_FOCAL,
    CYMLP_SOFTMAX_CROSS_ENTROPY,
    CYMLP_SOFTMAX_KL_DIVERGENCE,
    CYMLP_SIGMOID_BINARY_CROSS_ENTROPY,
    CYMLP_SIGMOID_FOCAL,
    CYMLP_EXPONENTIAL_POISSON,
    CYMLP_EXPONENTIAL_GAMMA,
    CYMLP_EXPONENTIAL_TWEEDIE,
    CYMLP_N_LOSSES
};

/* The first two move nothing: they store the gradient in the first slot, or add it to the slot.
 * From CYMLP_SGD to CYMLP_ADAM train_rows knows them too. */
enum cymlp_optimizer {
    CYMLP_GRADIENT,
    CYMLP_ACCUMULATE,
    CYMLP_SGD,
    CYMLP_MOMENTUM,
    CYMLP_NESTEROV,
    CYMLP_ADAM,
    CYMLP_AMSGRAD,
    CYMLP_NADAM,
    CYMLP_RMSPROP,
    CYMLP_RMSPROP_MOMENTUM,
    CYMLP_CENTERED_RMSPROP,
    CYMLP_CENTERED_RMSPROP_MOMENTUM,
    CYMLP_ADAGRAD,
    CYMLP_ADADELTA,
    CYMLP_LION,
    CYMLP_RPROP,
    CYMLP_N_OPTIMIZERS
};

/* The scalars of one optimizer step. The gradient that an optimizer sees is made of the given one:
 *
 *     g + l2 w + l1 sign(w)       but for CYMLP_ACCUMULATE
 *     gradient_scale times that
 *     ... between -clip_value and clip_value
 *     ... + weight_decay w        of moving optimizers
 */
typedef struct cymlp_step {
    double learning_rate;
    double momentum;
    double beta_1, beta_2; /* of the running averages; beta_2 is RMSprop's and Adadelta's rho */
    double epsilon;
    double epsilon_hat;  /* Adam's, if it is added to the root before the correction; 0: epsilon */
    double m_scale;      /* Adam's bias correction 1 / (1 - beta_1^t) ... */
    double v_root_scale; /* ... and the root of 1 / (1 - beta_2^t) */
    double g_scale;      /* NAdam's factor of the gradient, whose m_scale is another, too */
    double eta_minus, eta_plus, smallest_step, largest_step; /* Rprop's */
    double l2, l1;
    double gradient_scale; /* at most 1, which is off */
    double clip_value;     /* infinity: off */
    double weight_decay;
    double decoupled_decay; /* w loses learning_rate * decoupled_decay * w beside all that */
    double average_decay;   /* of the weights' moving average; optimizers do not read it */
} cymlp_step;

/* Most arrays of moments that an optimizer keeps. */
enum { CYMLP_N_SLOTS = 3 };

/* What a loss is told beside outputs and targets; each loss says which of it it reads. */
typedef struct cymlp_loss_settings {
    double parameter;    /* Huber's delta, Tweedie's power, the focal loss's exponent */
    double smoothing;    /* of labels; the focal loss's weight of ones */
    const void *unit__o; /* a number per output, in whole vectors: class weights, quantile levels;
                            or NULL */
} cymlp_loss_settings;

/* The targets of some rows: either class labels or rows of values. */
typedef struct cymlp_targets {
    const int32_t *labels__b;       /* NULL where values are given */
    const void *const *values__b_o; /* NULL where labels are given */
} cymlp_targets;

/* What will be wanted soon after a gradient's tile: three runs of cache lines, and one line in each
 * row of the deltas, some elements further on. They are hints: any address will do. */
typedef struct cymlp_ahead {
    const char *line[3];
    size_t n_lines;
    size_t delta_offset;
} cymlp_ahead;

/* Where the weights of a vector of inputs stand in a transposed copy. */
typedef struct cymlp_across {
    char *first;
    size_t stride; /* bytes from those of one unit to those of the next */
} cymlp_across;

/* What will be wanted after a sparse gradient: a part of each of some rows, as many as were summed
 * over, to be read; and, to be written, the weights of its inputs and their slots, which stand in
 * whole panels and in lesser ones, and n_across units of a transposed copy. They are hints like the
 * above. */
typedef struct cymlp_sparse_ahead {
    const void *const *rows__b;
    size_t start, n_bytes; /* of each row */
    const char *full[3], *lesser[3];
    size_t full_panel;             /* bytes from one whole panel to the next */
    const cymlp_across *across__t; /* by vector of inputs */
    size_t n_across;
} cymlp_sparse_ahead;

/* How a matrix of some vectors is cut into panels: n_full whole ones, then n_lesser of lesser_vecs
 * vectors each. A tile of a single vector, each of whose additions waits for the one before, takes
 * a quarter longer: one that would be left over halves four vectors with the panel before it. Eight
 * vectors, the columns of many a layer, are cut into panels that two threads can share evenly. */
typedef struct cymlp_panels {
    size_t n_full, n_lesser, lesser_vecs;
} cymlp_panels;

static inline cymlp_panels cymlp_panels_of(size_t n_vecs, size_t panel_vecs) {
    const size_t left = n_vecs % panel_vecs;
    cymlp_panels panels = {n_vecs / panel_vecs, left > 0, left};
    if (panel_vecs == 3 && left == 1 && panels.n_full > 0) {
        panels.n_full -= 1;
        panels.n_lesser = panels.lesser_vecs = 2;
    } else if (panel_vecs == 3 && n_vecs == 8) {
        panels.n_full = 0;
        panels.n_lesser = 4;
    }
    return panels;
}

/* How many vectors some panels have. */
static inline size_t cymlp_vecs_of(cymlp_panels panels, size_t panel_vecs) {
    return panels.n_full * panel_vecs + panels.n_lesser * panels.lesser_vecs;
}

/* The first of some panels, as many as pass at once: at most run_vecs vectors, and fewer where as
 * many runs are enough. A run of few takes almost as long as one of many. Of no panels, none. */
static inline cymlp_panels cymlp_run_of(cymlp_panels left, size_t panel_vecs, size_t run_vecs) {
    const size_t n_vecs = cymlp_vecs_of(left, panel_vecs);
    const size_t n_runs = n_vecs ? (n_vecs - 1) / run_vecs + 1 : 1;
    const size_t even = n_vecs / n_runs / panel_vecs;
    const int evenly = even > 0 && n_vecs - even * panel_vecs <= (n_runs - 1) * run_vecs;
    const size_t most_full = run_vecs / panel_vecs, wanted = evenly ? even : most_full;
    cymlp_panels run = {left.n_full < wanted ? left.n_full : wanted, 0, 0};
    if (left.n_lesser > 0 && run.n_full == left.n_full && left.n_full < most_full) {
        /* One vector less: one more shape would hardly ever be used. */
        const size_t most = (run_vecs - 1 - run.n_full * panel_vecs) / left.lesser_vecs;
        run.n_lesser = left.n_lesser < most ? left.n_lesser : most;
        run.lesser_vecs = left.lesser_vecs;
    }
    return run;
}

/* The panels that are left behind a run of them. */
static inline cymlp_panels cymlp_without(cymlp_panels panels, cymlp_panels run) {
    panels.n_full -= run.n_full;
    panels.n_lesser -= run.n_lesser;
    return panels;
}

/* Memory that will be wanted after a tile: `step` bytes of it for each input of the tile. */
typedef struct cymlp_next {
    const char *start;
    size_t step;
} cymlp_next;

/* Which inputs of some rows are not zero. Word w has a bit for each of the block_rows inputs from
 * w * block_rows on, the lowest one for the first. */
typedef struct cymlp_nonzeros {
    const uint64_t *bits__bw;   /* NULL: not known, all are multiplied */
    const uint32_t *starts__bw; /* not NULL: a row holds nothing but its non-zeros, and this many of
                                   them stand before those of a word */
    size_t stride;              /* words from one row to the next */
} cymlp_nonzeros;

/* Samples of which each is a step of its own. Strides are in bytes. */
typedef struct cymlp_samples {
    const char *x;
    ptrdiff_t x_stride;
    const int32_t *labels; /* NULL where values are given */
    const char *values;
    ptrdiff_t values_stride;
    const double *weight; /* NULL: all 1 */
    const int64_t *order; /* NULL: as they stand */
} cymlp_samples;

/* Parameters and the optimizer's moments of them, NULL where it has none. */
typedef struct cymlp_parameters {
    void *values, *slots[CYMLP_N_SLOTS];
} cymlp_parameters;

/* A layer that is trained row by row. */
typedef struct cymlp_row_layer {
    size_t n_inputs, n_units;
    int is_narrow; /* its kernel lies as (units, inputs); never so in the first layer */
    enum cymlp_activation activation; /* one that keeps its output */
    double alpha;                     /* of the activation */
    double l2;
    int l2_per_weight;       /* l2 is divided by a sample's weight */
    cymlp_parameters kernel; /* in panels */
    cymlp_parameters bias;   /* in whole vectors */
    void *y__o, *delta__o;   /* memory of a step, whole vectors: zeros behind the last unit */
    double squares;          /* as a step leaves them: of the weights before it */
} cymlp_row_layer;

typedef struct cymlp_row_network {
    size_t n_layers;
    cymlp_row_layer *layers;
    enum cymlp_loss loss;
    cymlp_loss_settings loss_settings;
    enum cymlp_optimizer optimizer; /* one that moves parameters */
    cymlp_step step;                /* but for l2 and Adam's corrections */
    int wants_accuracy;
    double accuracy_threshold;
} cymlp_row_network;

/* Weighted sums over samples. */
typedef struct cymlp_sums {
    double loss, penalty, hits, weight; /* the penalty is also in the loss */
} cymlp_sums;

/* Adam's bias corrections for the step with this number, counted from 1. */
static inline void cymlp_correct_step(cymlp_step *step, double number) {
    step->m_scale = 1 / (1 - pow(step->beta_1, number));
    step->v_root_scale = sqrt(1 / (1 - pow(step->beta_2, number)));
    if (step->epsilon_hat > 0) {
        step->epsilon = step->epsilon_hat * step->v_root_scale;
    }
}

/* Whether an activation's derivative is no function of its output, so that z must be kept. */
static inline int cymlp_keeps_z(enum cymlp_activation activation) {
    return activation == CYMLP_GELU || activation == CYMLP_GELU_TANH || activation == CYMLP_SILU ||
           activation == CYMLP_MISH;
}

/* NAdam's momentum mu_t of step t, counted from 1. */
static inline double cymlp_nadam_momentum(double beta_1, double momentum_decay, double t) {
    return beta_1 * (1 - 0.5 * pow(0.96, t * momentum_decay));
}

/* The product of mu_1 to mu_t. */
static inline double cymlp_nadam_product(double beta_1, double momentum_decay, size_t t) {
    double product = 1;
    for (size_t i = 1; i <= t && product > 0; i++) {
        product *= cymlp_nadam_momentum(beta_1, momentum_decay, (double)i);
    }
    return product;
}

/* NAdam's factors for step t, where `product` is that of mu_1 to mu_t. */
static inline void cymlp_correct_nadam(cymlp_step *step, double t, double momentum_decay,
                                       double product) {
    const double mu = cymlp_nadam_momentum(step->beta_1, momentum_decay, t);
    const double next = cymlp_nadam_momentum(step->beta_1, momentum_decay, t + 1);
    cymlp_correct_step(step, t);
    step->m_scale = next / (1 - product * next);
    step->g_scale = (1 - mu) / (1 - product);
}

/* Whether f(0) = 0. */
static inline int cymlp_keeps_zeros(enum cymlp_activation activation) {
    switch (activation) {
    case CYMLP_SIGMOID:
    case CYMLP_SOFTMAX:
    case CYMLP_SOFTPLUS:
    case CYMLP_HARD_SIGMOID:
    case CYMLP_EXPONENTIAL:
        return 0;
    default:
        return 1;
    }
}

/* y = f(z), where y may be z. alpha is the activation's own parameter, if it has one. */
typedef void cymlp_activate(size_t n_rows, size_t n_units, double alpha, const void *z__bo,
                            size_t z_stride, void *y__bo, size_t y_stride);

/* In place on d: from dL/dy to dL/dz, given what the activation keeps: its output y, or z where
 * cymlp_keeps_z says so. */
typedef void cymlp_activate_backward(size_t n_rows, size_t n_units, double alpha,
                                     const void *kept__bo, size_t kept_stride, void *d__bo,
                                     size_t d_stride);

/* loss__b: each row's loss. delta__bo: scale__b times the loss's derivative by `out`. */
typedef void cymlp_loss_rows(size_t n_rows, size_t n_units, const cymlp_loss_settings *settings,
                             const void *out__bo, size_t out_stride, cymlp_targets targets,
                             const double *scale__b, double *loss__b, void *delta__bo,
                             size_t delta_stride);

/* Moves n parameters w by their gradient g; the slots are the optimizer's moments. */
typedef void cymlp_update(size_t n, const void *g__n, void *w__n,
                          void *const slots__n[CYMLP_N_SLOTS], const cymlp_step *step);

typedef struct cymlp_kernels {
    const char *isa;
    size_t item_size;  /* bytes of an element */
    size_t lanes;      /* columns of a vector */
    size_t panel_vecs; /* most vectors of a panel, and of a register tile */
    size_t run_vecs;   /* most vectors of a run of panels: see cymlp_run_of */
    size_t tile_rows;  /* most rows of a register tile */
    size_t block_rows; /* a multiple of tile_rows and lanes: the rows of weights that an update
                          takes at once */

    /* y = start + x w, then max(y, 0) where relu is not 0, for at most tile_rows rows, n_inputs
     * inputs from first_input on and one panel, of which the first n_columns columns are stored.
     * The sums start from the bias, from zeros where it is NULL, or from y itself. Where a number
     * of `gate`, whose rows are whole vectors and y_stride apart, is not above zero, zero is
     * stored: deltas take the derivative of a ReLU. NULL: there is no such number. */
    void (*dense_tile)(size_t n_rows, size_t width, size_t n_columns, size_t first_input,
                       size_t n_inputs, const void *const *x_rows__b_i, const void *w__ip,
                       const void *bias__p, int from_y, int relu, const void *gate__bo, void *y__bo,
                       size_t y_stride, cymlp_next next);

    /* The same for one row and all of its panels, of which the first n_columns columns are stored.
     * An element is bit for bit what dense_tile makes of it. */
    void (*dense_row)(size_t n_units, size_t n_columns, size_t n_inputs, const void *x__i,
                      const void *w__pip, const void *bias__o, int relu, void *y__o);

    /* y = x w + bias, then max(y, 0) where relu is not 0, for a layer of few units, whose weights
     * lie as (units, inputs) in panels of inputs. Of y's rows n_columns columns are stored, either
     * the units or, with zeros, whole vectors. Nothing is read behind the inputs of x's rows. */
    void (*dense_dots)(size_t n_rows, size_t n_units, size_t n_columns, size_t n_inputs,
                       const void *const *x_rows__b_i, const void *w__pop, const void *bias__o,
                       int relu, void *y__bo, size_t y_stride);

    /* x = elements times scale, both rounded to the table's dtype before. The elements are of the
     * type of a cymlp_element, stride bytes apart, not necessarily aligned; where swapped is not 0,
     * their bytes stand in the order that is not the machine's. */
    void (*convert)(size_t n, int element, int swapped, const void *elements, ptrdiff_t stride,
                    double scale, void *x__n);

    /* Fills bits, unless NULL, for rows that hold all inputs; returns how many are not zero. */
    size_t (*find_nonzeros)(size_t n_rows, size_t n_inputs, const void *const *x_rows__b_i,
                            uint64_t *bits__bw, size_t bits_stride);

    /* y = start + x w, then max(y, 0) where relu is not 0: some panels, in whole vectors. The sums
     * start as dense_tile's do, and are bit for bit the same while the weights are finite. */
    void (*sparse_forward)(size_t n_rows, cymlp_panels panels, size_t n_inputs,
                           const void *const *x_rows__b_i, cymlp_nonzeros nonzeros,
                           const void *w__pip, const void *bias__o, int from_y, int relu,
                           void *y__bo, size_t y_stride);

    /* Rows in whole of rows that hold nothing but their non-zeros. */
    void (*spread_nonzeros)(size_t n_rows, size_t n_inputs, const void *const *x_rows__b_n,
                            cymlp_nonzeros nonzeros, void *y__bi, size_t y_stride);

    /* Gathers n_columns <= block_rows columns of x, from first_column on, into strips of
     * tile_rows columns. Strip s stands at s * n_rows * tile_rows; its element (row, column) at
     * row * tile_rows + column. Past n_columns the last strip is left as it is, and so are zeros
     * that rows do not hold: the columns of such rows are all of one word. */
    void (*pack_block)(size_t n_rows, size_t n_columns, const void *const *x_rows__b_i,
                       cymlp_nonzeros nonzeros, size_t first_column, void *strips__sbt);

    /* g = strip^T delta: n_inputs <= tile_rows inputs by one panel of outputs, summed over the
     * rows. Meanwhile what is ahead is brought into the cache. For weights that lie as (units,
     * inputs), inputs and outputs change places. */
    void (*gradient_tile)(size_t n_inputs, size_t width, size_t n_rows, const void *strip__bt,
                          size_t strip_stride, const void *delta__bp, size_t delta_stride,
                          void *g__tp, const cymlp_ahead *ahead);

    /* The bits of one word, by input: word c * 64 + i tells which of the 64 rows from c * 64 on
     * have input i. rows__ci has room for whole runs of 64 rows. */
    void (*turn_nonzeros)(size_t n_rows, size_t word, cymlp_nonzeros nonzeros, uint64_t *rows__ci);

    /* g = x^T delta for n_inputs inputs, from first_input on, whose rows rows__ci tells, and a run
     * of panels of outputs. The inputs stand in strips or, where these are NULL, in their rows.
     * Meanwhile what is ahead is brought into the cache. */
    void (*sparse_gradient)(size_t n_rows, cymlp_panels run, size_t first_input, size_t n_inputs,
                            const void *const *x_rows__b_i, cymlp_nonzeros nonzeros,
                            const void *strips__sbt, const uint64_t *rows__ci,
                            const void *delta__bo, size_t delta_stride, void *g__pip,
                            const cymlp_sparse_ahead *ahead);

    /* The sums over the rows of a panel's columns, and of the products of two; in an order that
     * their number determines. Here and below columns are those of arrays of whole vectors. */
    void (*column_sum)(size_t n_rows, size_t width, const void *x__bp, size_t x_stride,
                       void *sum__p);
    void (*column_dot)(size_t n_rows, size_t width, const void *a__bp, size_t a_stride,
                       const void *b__bp, size_t b_stride, void *sum__p);

    /* The mean of each column, and of its squared distances from it. */
    void (*column_moments)(size_t n_rows, size_t width, const void *x__bp, size_t x_stride,
                           void *mean__p, void *variance__p);

    /* 1 / sqrt(variance + epsilon); y = old_share y + new_share x. */
    void (*inverse_std)(size_t n, double epsilon, const void *variance__n, void *inverse_std__n);
    void (*blend)(size_t n, double old_share, void *y__n, double new_share, const void *x__n);

    /* y = gamma kept + beta, where kept = (x - mean) inverse_std; it is stored unless it is NULL.
     */
    void (*batch_norm)(size_t n_rows, size_t n_units, const void *mean__o,
                       const void *inverse_std__o, const void *gamma__o, const void *beta__o,
                       const void *x__bo, size_t x_stride, void *kept__bo, size_t kept_stride,
                       void *y__bo, size_t y_stride);

    /* dx = gamma inverse_std (d - share (sum + kept dot)), or dx += it. With the sum of d and its
     * dot products with kept over n rows and share = 1 / n it is the derivative by the rows of a
     * batch; with share = 0 that where mean and inverse_std do not depend on them. */
    void (*batch_norm_backward)(size_t n_rows, size_t n_units, double share,
                                const void *inverse_std__o, const void *gamma__o,
                                const void *sum__o, const void *dot__o, const void *kept__bo,
                                size_t kept_stride, const void *d__bo, size_t d_stride, int adds,
                                void *dx__bo, size_t dx_stride);

    /* y = gamma kept + beta, where kept = (x - mean x) inverse_std is taken row by row and
     * inverse_std = 1 / sqrt(variance x + epsilon); kept and inverse_std are stored unless NULL. */
    void (*layer_norm)(size_t n_rows, size_t n_units, double epsilon, const void *gamma__o,
                       const void *beta__o, const void *x__bo, size_t x_stride, void *kept__bo,
                       size_t kept_stride, void *inverse_std__b, void *y__bo, size_t y_stride);
    void (*layer_norm_backward)(size_t n_rows, size_t n_units, const void *gamma__o,
                                const void *kept__bo, size_t kept_stride,
                                const void *inverse_std__b, const void *d__bo, size_t d_stride,
                                int adds, void *dx__bo, size_t dx_stride);

    /* y = a + b; y = a b, or y += a b. y may be a or b. */
    void (*add_rows)(size_t n_rows, size_t n_units, const void *a__bo, size_t a_stride,
                     const void *b__bo, size_t b_stride, void *y__bo, size_t y_stride);
    void (*multiply_rows)(size_t n_rows, size_t n_units, const void *a__bo, size_t a_stride,
                          const void *b__bo, size_t b_stride, int adds, void *y__bo,
                          size_t y_stride);

    /* Random factors of rows, each 0 or 1 / (1 - drop_share), where drop_share is dropped / 2^16.
     * The numbers are those of a stream, by the number of a row, from first_row on, and of the
     * layer: see cymlp_philox. */
    void (*dropout)(size_t n_rows, size_t n_units, const uint64_t key[2], size_t layer,
                    size_t first_row, unsigned dropped, void *factor__bo, size_t factor_stride);

    /* Scales each column of a panel whose sum of squares is more than max_norm^2 down to that. */
    void (*constrain_columns)(size_t n_rows, size_t width, double max_norm, void *w__bp);

    /* Asks for n cache lines, stride bytes apart, that will be written and that other cores may
     * have read: to take them back takes as long as to fetch them. */
    void (*claim_lines)(size_t n, const void *first, size_t stride);

    /* Asks for some columns of rows that lie too far apart for the hardware to guess the next. */
    void (*bring_columns)(size_t n_rows, const void *const *x_rows__b_i, size_t first_column,
                          size_t n_columns);

    /* dst[c, r] = src[r, c] for n_columns columns and at most a vector of rows, with zeros for the
     * rows that it has not. */
    void (*transpose_tile)(size_t n_rows, size_t n_columns, const void *src__pp, size_t src_width,
                           void *dst__pp, size_t dst_width);

    double (*sum_of_squares)(size_t n, const void *w__n);
    double (*sum_of_abs)(size_t n, const void *w__n);

    /* average = decay average + (1 - decay) w. */
    void (*move_average)(size_t n, double decay, const void *w__n, void *average__n);

    /* 1 where no element is infinite or NaN, else 0. */
    int (*all_finite)(size_t n, const void *x__n);

    /* 1.0 for a row whose largest output is where its largest target is, else 0.0; for values of a
     * single unit: whether both are on the same side, output > threshold and target > 0.5. */
    void (*accuracy)(size_t n_rows, size_t n_units, const void *out__bo, size_t out_stride,
                     cymlp_targets targets, double threshold, double *hit__b);

    /* Takes n_samples steps, one with each sample from the one at `first` on, after n_steps others.
     * Adds to the sums the loss before each step with its penalty, the hits and the weight. */
    void (*train_rows)(const cymlp_row_network *network, const cymlp_samples *samples, size_t first,
                       size_t n_samples, size_t n_steps, cymlp_sums *sums);

    cymlp_activate *activate[CYMLP_N_ACTIVATIONS];
    cymlp_activate_backward *activate_backward[CYMLP_N_ACTIVATIONS];
    cymlp_loss_rows *loss[CYMLP_N_LOSSES];
    cymlp_update *update[CYMLP_N_OPTIMIZERS];
} cymlp_kernels;

/* The tables that this build has, by dtype. */
extern const cymlp_kernels *const cymlp_generic_tables[CYMLP_N_DTYPES];
#ifdef CYMLP_X86_64
extern const cymlp_kernels *const cymlp_avx2_tables[CYMLP_N_DTYPES];
extern const cymlp_kernels *const cymlp_avx512_tables[CYMLP_N_DTYPES];
#endif
#ifdef CYMLP_AARCH64
extern const cymlp_kernels *const cymlp_neon_tables[CYMLP_N_DTYPES];
#endif

/* One entry per ISA that this project knows, in ascending order of preference. */
typedef struct cymlp_isa {
    const char *name;
    const cymlp_kernels *const *tables; /* by dtype; NULL where build or CPU lacks the ISA */
} cymlp_isa;

enum { CYMLP_N_ISAS = 4 };

/* Detects the CPU and fills isas. */
void cymlp_detect_isas(cymlp_isa isas[CYMLP_N_ISAS]);

#endif
