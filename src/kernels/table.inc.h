/* All kernels of one (dtype, ISA) and the table that exports them.
 *
 * Before: CYMLP_DOUBLE is 0 or 1, NAME(x) appends dtype and ISA, ISA_NAME is a string, and the
 * vec_* operations of the ISA are defined for the dtype. Afterwards none of them is. */

#if CYMLP_DOUBLE
#define EPSILON DBL_EPSILON
#define LARGEST DBL_MAX
#define TINY DBL_MIN
#else
#define EPSILON FLT_EPSILON
#define LARGEST FLT_MAX
#define TINY FLT_MIN
#endif

#include "elementary.inc.h"
#include "gemm.inc.h"
#include "gemv.inc.h"
#include "dots.inc.h"
#include "convert.inc.h"
#include "sparse.inc.h"
#include "activation.inc.h"
#include "loss.inc.h"
#include "optimizer.inc.h"
#include "norm.inc.h"
#include "rows.inc.h"

static const cymlp_kernels NAME(table); /* for the two that choose kernels by number */

#include "vector_step.inc.h"
#include "row_step.inc.h"

/* Lets a test's own build reach what no table exports. */
#ifdef CYMLP_EXPOSE
#include CYMLP_EXPOSE
#endif

static const cymlp_kernels NAME(table) = {
    .isa = ISA_NAME,
    .item_size = sizeof(REAL),
    .lanes = LANES,
    .panel_vecs = PANEL_VECS,
    .run_vecs = RUN_VECS,
    .tile_rows = TILE_ROWS,
    .block_rows = BLOCK_ROWS,
    .dense_tile = NAME(dense_tile),
    .dense_row = NAME(dense_row),
    .dense_dots = NAME(dense_dots),
    .convert = NAME(convert),
    .find_nonzeros = NAME(find_nonzeros),
    .sparse_forward = NAME(sparse_forward),
    .spread_nonzeros = NAME(spread_nonzeros),
    .pack_block = NAME(pack_block),
    .gradient_tile = NAME(gradient_tile),
    .turn_nonzeros = NAME(turn_nonzeros),
    .sparse_gradient = NAME(sparse_gradient),
    .column_sum = NAME(column_sum),
    .column_dot = NAME(column_dot),
    .column_moments = NAME(column_moments),
    .inverse_std = NAME(inverse_std),
    .blend = NAME(blend),
    .batch_norm = NAME(batch_norm),
    .batch_norm_backward = NAME(batch_norm_backward),
    .layer_norm = NAME(layer_norm),
    .layer_norm_backward = NAME(layer_norm_backward),
    .add_rows = NAME(add_rows),
    .multiply_rows = NAME(multiply_rows),
    .dropout = NAME(dropout),
    .constrain_columns = NAME(constrain_columns),
    .claim_lines = NAME(claim_lines),
    .bring_columns = NAME(bring_columns),
    .transpose_tile = NAME(transpose_tile),
    .sum_of_squares = NAME(sum_of_squares),
    .sum_of_abs = NAME(sum_of_abs),
    .move_average = NAME(move_average),
    .all_finite = NAME(all_finite),
    .accuracy = NAME(accuracy),
    .train_rows = NAME(train_rows),
    .activate =
        {
            [CYMLP_IDENTITY] = NAME(identity),
            [CYMLP_RELU] = NAME(relu),
            [CYMLP_SIGMOID] = NAME(sigmoid),
            [CYMLP_TANH] = NAME(tanh),
            [CYMLP_SOFTMAX] = NAME(softmax),
            [CYMLP_LEAKY_RELU] = NAME(leaky_relu),
            [CYMLP_ELU] = NAME(elu),
            [CYMLP_SELU] = NAME(selu),
            [CYMLP_GELU] = NAME(gelu),
            [CYMLP_GELU_TANH] = NAME(gelu_tanh),
            [CYMLP_SILU] = NAME(silu),
            [CYMLP_MISH] = NAME(mish),
            [CYMLP_SOFTPLUS] = NAME(softplus),
            [CYMLP_SOFTSIGN] = NAME(softsign),
            [CYMLP_HARD_SIGMOID] = NAME(hard_sigmoid),
            [CYMLP_EXPONENTIAL] = NAME(exponential),
        },
    .activate_backward =
        {
            [CYMLP_IDENTITY] = NAME(identity_backward),
            [CYMLP_RELU] = NAME(relu_backward),
            [CYMLP_SIGMOID] = NAME(sigmoid_backward),
            [CYMLP_TANH] = NAME(tanh_backward),
            [CYMLP_SOFTMAX] = NAME(softmax_backward),
            [CYMLP_LEAKY_RELU] = NAME(leaky_relu_backward),
            [CYMLP_ELU] = NAME(elu_backward),
            [CYMLP_SELU] = NAME(selu_backward),
            [CYMLP_GELU] = NAME(gelu_backward),
            [CYMLP_GELU_TANH] = NAME(gelu_tanh_backward),
            [CYMLP_SILU] = NAME(silu_backward),
            [CYMLP_MISH] = NAME(mish_backward),
            [CYMLP_SOFTPLUS] = NAME(softplus_backward),
            [CYMLP_SOFTSIGN] = NAME(softsign_backward),
            [CYMLP_HARD_SIGMOID] = NAME(hard_sigmoid_backward),
            [CYMLP_EXPONENTIAL] = NAME(exponential_backward),
        },
    .loss =
        {
            [CYMLP_SQUARED_ERROR] = NAME(squared_error),
            [CYMLP_ABSOLUTE_ERROR] = NAME(absolute_error),
            [CYMLP_HUBER] = NAME(huber),
            [CYMLP_LOG_COSH] = NAME(log_cosh),
            [CYMLP_QUANTILE] = NAME(quantile),
            [CYMLP_POISSON] = NAME(poisson),
            [CYMLP_GAMMA] = NAME(gamma),
            [CYMLP_TWEEDIE] = NAME(tweedie),
            [CYMLP_CROSS_ENTROPY] = NAME(cross_entropy),
            [CYMLP_BINARY_CROSS_ENTROPY] = NAME(binary_cross_entropy),
            [CYMLP_HINGE] = NAME(hinge),
            [CYMLP_KL_DIVERGENCE] = NAME(kl_divergence),
            [CYMLP_FOCAL] = NAME(focal),
            [CYMLP_SOFTMAX_CROSS_ENTROPY] = NAME(softmax_cross_entropy),
            [CYMLP_SOFTMAX_KL_DIVERGENCE] = NAME(softmax_kl_divergence),
            [CYMLP_SIGMOID_BINARY_CROSS_ENTROPY] = NAME(sigmoid_binary_cross_entropy),
            [CYMLP_SIGMOID_FOCAL] = NAME(sigmoid_focal),
            [CYMLP_EXPONENTIAL_POISSON] = NAME(exponential_poisson),
            [CYMLP_EXPONENTIAL_GAMMA] = NAME(exponential_gamma),
            [CYMLP_EXPONENTIAL_TWEEDIE] = NAME(exponential_tweedie),
        },
    .update =
        {
            [CYMLP_GRADIENT] = NAME(store_gradient),
            [CYMLP_ACCUMULATE] = NAME(accumulate_gradient),
            [CYMLP_SGD] = NAME(sgd),
            [CYMLP_MOMENTUM] = NAME(momentum),
            [CYMLP_NESTEROV] = NAME(nesterov),
            [CYMLP_ADAM] = NAME(adam),
            [CYMLP_AMSGRAD] = NAME(amsgrad),
            [CYMLP_NADAM] = NAME(nadam),
            [CYMLP_RMSPROP] = NAME(rmsprop),
            [CYMLP_RMSPROP_MOMENTUM] = NAME(rmsprop_momentum),
            [CYMLP_CENTERED_RMSPROP] = NAME(centered_rmsprop),
            [CYMLP_CENTERED_RMSPROP_MOMENTUM] = NAME(centered_rmsprop_momentum),
            [CYMLP_ADAGRAD] = NAME(adagrad),
            [CYMLP_ADADELTA] = NAME(adadelta),
            [CYMLP_LION] = NAME(lion),
            [CYMLP_RPROP] = NAME(rprop),
        },
};

#undef EPSILON
#undef LARGEST
#undef TINY
#undef FOR_EACH_VEC
#undef ROW_SUM
#undef COLUMN_VECS
#undef FOR_COLUMNS
#undef EXP_ROWS
#undef ENOUGH_ROWS
#undef LOWEST
#undef FURTHEST
#undef LINEAR
#undef CUBIC
#undef LOG2_HIGH
#undef LOG2_LOW
#undef CYMLP_DOUBLE
#undef REAL
#undef NAME
#undef TILE_ROWS
#undef PANEL_VECS
#undef RUN_VECS
#undef FOR_EACH_RUN
#undef FOR_EACH_TILE
#undef BLOCK_ROWS
#undef FUSED
#undef LANES
#undef vec
#undef vec_zero
#undef vec_set1
#undef vec_load
#undef vec_load_some
#undef vec_store
#undef vec_store_some
#undef vec_add
#undef vec_sub
#undef vec_mul
#undef vec_div
#undef vec_fma
#undef vec_max
#undef vec_min
#undef vec_sqrt
#undef vec_round
#undef vec_abs
#undef vec_copysign
#undef vec_if_less
#undef vec_nonzero
#undef vec_pow2
#undef vec_transpose
#undef vec_quotient
#undef vec_exponent
#undef vec_lane
#undef vec_sum
#undef vec_sums
#undef vec_largest
