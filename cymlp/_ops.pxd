"""What a program is made of: operations on rows, forward and backward."""

from libc.stdint cimport uint64_t

from cymlp._dense cimport (
    Dense, Inputs, PanelRange, Parameters, n_items, n_panels, parameters_of)
from cymlp._kernels cimport KernelTable, Step


cdef enum OpKind:
    OP_INPUT            # samples, copied
    OP_DENSE
    OP_ACTIVATE
    OP_DROPOUT
    OP_BATCH_NORM
    OP_LAYER_NORM
    OP_ADD              # of two sources


cdef enum:
    SAMPLES = -1        # the source of an operation that reads samples where they stand
    PYTHON_ACTIVATION = -1


# Parameters of a normalization, in whole vectors.
cdef struct Norm:
    Parameters gamma
    Parameters beta
    bint has_gamma, has_beta        # otherwise they stay 1 and 0
    double epsilon
    double rate_factor              # of the learning rate
    # OP_BATCH_NORM:
    double momentum
    bint is_frozen                  # the moving averages are used while training, too
    char* moving_mean
    char* moving_variance
    char* inverse_std               # of the moving variance, as of Program._refresh


# An operation: it makes rows of n_units outputs of those of its source.
cdef struct Op:
    OpKind kind
    Py_ssize_t source               # its number, less than this one's; or SAMPLES
    Py_ssize_t other                # OP_ADD
    Py_ssize_t n_inputs
    Py_ssize_t n_units
    Py_ssize_t stride               # elements between rows of outputs: whole vectors
    int activation                  # of what the operation makes; or PYTHON_ACTIVATION
    double alpha
    bint keeps_z                    # the activation's derivative wants what it was taken of
    bint adds, other_adds           # whether the source has deltas of a later reader already
    bint is_gated                   # its first reader takes its deltas through its ReLU, too
    bint makes_zeros                # many of its outputs, and then of its deltas, are zero
    bint skips_zeros                # looks for those of its source
    bint skips_deltas               # looks for zeros among its deltas
    bint is_skipped                 # a reader looks for its zeros
    bint is_trainable
    bint has_below                  # whether anything below it has parameters
    Dense dense
    Norm norm
    unsigned dropped                # OP_DROPOUT: in 65536ths
    Py_ssize_t number               # OP_DROPOUT: of its stream of random numbers


# What a batch norm knows of a batch, in whole vectors. After the way back `sum` and `dot` are the
# gradients of beta and gamma.
cdef struct Moments:
    char* mean
    char* variance
    char* inverse_std
    char* sum
    char* dot


# What an operation has in memory for the rows of a batch: (rows, stride) each.
cdef struct Tensor:
    char* y
    char* delta
    char* kept                      # for the way back: z, a norm's rows, the factors of a dropout
    char* row_std                   # OP_LAYER_NORM: the inverse per row
    Moments moments                 # OP_BATCH_NORM
    const void** y_rows
    const void** delta_rows
    uint64_t* nonzeros              # of y, if a reader looks for its zeros: see cymlp_nonzeros
    Py_ssize_t* n_nonzeros          # per row
    uint64_t* delta_nonzeros        # if the operation looks for those of its deltas


# How rows are passed through operations.
cdef struct Mode:
    bint training                   # with dropout, and norms of the batch
    bint reaches_inputs             # the way back goes down to the first operation
    uint64_t key[2]                 # of the step's random numbers


cdef inline char* row_at(
    const KernelTable* kernels, const Op* op, char* rows, Py_ssize_t row
) noexcept nogil:
    return rows + row * op.stride * <Py_ssize_t> kernels.item_size


cdef inline bint uses_batch(const Op* op, const Mode* mode) noexcept nogil:
    """Whether it is a norm that needs all rows of the batch below it before it can go on."""
    return op.kind == OP_BATCH_NORM and mode.training and not op.norm.is_frozen


cdef inline bint has_norm(const Op* op) noexcept nogil:
    return op.kind == OP_BATCH_NORM or op.kind == OP_LAYER_NORM


# What an update is cut into.
cdef inline Py_ssize_t op_items(const Op* op) noexcept nogil:
    if op.kind == OP_DENSE:
        return n_items(&op.dense)
    return 2 if has_norm(op) else 0  # gamma, beta


cdef inline bint has_penalty(const Op* op) noexcept nogil:
    return op.kind == OP_DENSE and (
        op.dense.kernel_penalty.l1 != 0 or op.dense.kernel_penalty.l2 != 0
        or op.dense.bias_penalty.l1 != 0 or op.dense.bias_penalty.l2 != 0)


# How many norms an update leaves: those of an item's panels follow each other.
cdef inline Py_ssize_t op_norms(const Op* op) noexcept nogil:
    return n_items(&op.dense) * n_panels(&op.dense) if op.kind == OP_DENSE else 0


cdef inline Py_ssize_t item_parameters(const Op* op, Py_ssize_t index) noexcept nogil:
    return parameters_of(&op.dense, index) if op.kind == OP_DENSE else op.n_units


# Rows of the batch from `row` on, the first row_number-th of its step, through one operation and,
# unless it is PYTHON_ACTIVATION, its activation. `inputs` are those of a dense layer or OP_INPUT.
# What forward_units has done already is left out where `has_sums`.
cdef void op_forward(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k, Inputs inputs,
    bint has_sums, int activation, Py_ssize_t row, Py_ssize_t row_number, Py_ssize_t n_rows,
    const Mode* mode) noexcept nogil

# The weighted sums of some units of a dense layer, for rows from `row` on.
cdef void forward_units(
    const KernelTable* kernels, const Op* op, const Tensor* tensor, PanelRange units,
    Inputs inputs, int activation, Py_ssize_t row, Py_ssize_t n_rows) noexcept nogil

# Copies rows of samples, the inputs of OP_INPUT, to where its outputs are wanted.
cdef void copy_samples(
    const KernelTable* kernels, const Op* op, Py_ssize_t n_rows, Inputs inputs, char* y__bo,
    Py_ssize_t stride) noexcept nogil

# What the derivative of an operation's activation is taken of, from a row on.
cdef char* kept_at(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k,
    Py_ssize_t row) noexcept nogil

# From the deltas of its outputs to those before its activation, in place.
cdef void op_activation_backward(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k,
    int activation, Py_ssize_t row, Py_ssize_t n_rows) noexcept nogil

# From those to the deltas of its sources. batch_rows: of the batch that a batch norm saw.
cdef void op_propagate(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k,
    Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t batch_rows, const Mode* mode) noexcept nogil

# The part of a batch norm's columns from `first` to before `stop`, whole vectors: their moments
# over all rows, and on the way back the sums of their deltas.
cdef void norm_forward_sums(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k,
    Py_ssize_t first, Py_ssize_t stop, Py_ssize_t n_rows) noexcept nogil
cdef void norm_backward_sums(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k,
    Py_ssize_t first, Py_ssize_t stop, Py_ssize_t n_rows) noexcept nogil

# Updates an item of a norm by the deltas of the batch; with the first one its moving averages.
cdef void norm_update(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k,
    Py_ssize_t index, Py_ssize_t n_rows, int optimizer, const Step* step, const Mode* mode,
    char* scratch) noexcept nogil

# Updates an item by the gradient that it holds; the sum of the squares of that; and the moving
# averages by the moments of the batch.
cdef void norm_apply(
    const KernelTable* kernels, const Op* op, Py_ssize_t index, int optimizer,
    const Step* step) noexcept nogil
cdef double norm_gradient_squares(
    const KernelTable* kernels, const Op* op, Py_ssize_t index) noexcept nogil
cdef void norm_move_averages(
    const KernelTable* kernels, const Op* op, const Tensor* tensor,
    Py_ssize_t n_rows) noexcept nogil

# Bytes that norm_update needs as scratch memory.
cdef Py_ssize_t norm_scratch_size(const KernelTable* kernels, const Op* op) noexcept nogil
