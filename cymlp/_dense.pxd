"""One dense layer: forward pass, delta propagation, batch-averaged weight and bias update."""

from libc.stdint cimport PTRDIFF_MAX, uint64_t

from cymlp._kernels cimport CYMLP_ACCUMULATE, CYMLP_GRADIENT, KernelTable, Nonzeros, Step


# Parameters of a layer with what training keeps for each of them, all in the same layout.
cdef struct Parameters:
    char* values
    char* slots[3]        # the optimizer's moments; NULL where it has none
    char* average         # a moving average of the values; NULL where none is kept
    bint is_constrained   # after an update, before the values are averaged
    char* gradient        # NULL until somebody asks for gradients


# The penalty l1 * sum of abs(w) + l2 / 2 * sum of w^2 on some parameters.
cdef struct Penalty:
    double l1, l2
    bint per_batch        # divided by the sum of the weights of the batch's samples


# What the penalties of an item's parameters are computed from.
cdef struct Norms:
    double absolutes, squares


cdef struct Dense:
    const KernelTable* kernels
    Py_ssize_t n_inputs
    Py_ssize_t n_units
    bint is_narrow        # its kernel lies the other way round: see is_narrow()
    bint has_bias         # otherwise it stays zero
    double rate_factor    # of the learning rate
    double max_norm       # of a unit's weights; 0: any
    Penalty kernel_penalty
    Penalty bias_penalty
    Parameters kernel     # (inputs, units) in panels of units; if narrow, as `transposed` is
    Parameters bias       # (units,) filled with zeros to whole vectors
    char* transposed      # (units, inputs) in panels of inputs; NULL if narrow or nothing is below


# What some rows of a batch bring to a layer. Where it is known which inputs are not zero, only
# those are multiplied; the rows of the next batch then come into the cache meanwhile.
cdef struct Inputs:
    const void* const* rows__b_i
    Py_ssize_t stride               # elements between rows of whole vectors; 0: rows of users
    Nonzeros nonzeros
    const void* const* next_rows__b
    Py_ssize_t next_item            # bytes per input; 0: nothing to bring


cdef inline Inputs inputs_from(Inputs inputs, Py_ssize_t row) noexcept nogil:
    """The inputs of the rows from `row` on."""
    inputs.rows__b_i += row
    if inputs.nonzeros.bits__bw != NULL:
        inputs.nonzeros.bits__bw += row * inputs.nonzeros.stride
    if inputs.nonzeros.starts__bw != NULL:
        inputs.nonzeros.starts__bw += row * inputs.nonzeros.stride
    return inputs


cdef inline Inputs all_inputs(
    const void* const* rows__b_i, Py_ssize_t stride
) noexcept nogil:
    """Inputs of which all are multiplied."""
    cdef Inputs inputs
    inputs.rows__b_i = rows__b_i
    inputs.stride = stride
    inputs.nonzeros.bits__bw = NULL
    inputs.nonzeros.starts__bw = NULL
    inputs.nonzeros.stride = 0
    inputs.next_rows__b = NULL
    inputs.next_item = 0
    return inputs


cdef inline Py_ssize_t ceil_div(Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """How many pieces of a size cover n."""
    return (n + size - 1) // size


cdef inline Py_ssize_t n_words_of(const KernelTable* kernels, Py_ssize_t n_inputs) noexcept nogil:
    """Words that tell which inputs of a row are not zero."""
    return ceil_div(n_inputs, kernels.block_rows)


cdef inline Py_ssize_t padded_size(Py_ssize_t n_columns, Py_ssize_t lanes) noexcept nogil:
    """Columns of a matrix in panels: whole vectors."""
    return ceil_div(n_columns, lanes) * lanes


# Whether the kernel of a layer, not the first one, is to lie with its inputs in the lanes of
# vectors, since its units would fill too little of them. An update then reads inputs in whole
# vectors.
cdef bint is_narrow(Py_ssize_t n_inputs, Py_ssize_t n_units) noexcept nogil


# The shape of a kernel as it lies.
cdef inline Py_ssize_t kernel_rows(const Dense* layer) noexcept nogil:
    return layer.n_units if layer.is_narrow else layer.n_inputs


cdef inline Py_ssize_t kernel_columns(const Dense* layer) noexcept nogil:
    return layer.n_inputs if layer.is_narrow else layer.n_units


# A matrix in panels of columns, as a flat array, and back.
cdef pack(const KernelTable* kernels, matrix)
cdef unpack(const KernelTable* kernels, panels, Py_ssize_t n_columns)

# A layer's kernel, or what has its layout, as a flat array, and back.
cdef pack_kernel(const Dense* layer, matrix)
cdef unpack_kernel(const Dense* layer, panels)

# What a penalty is divided by, for a batch whose samples weigh so much; 0: there is none.
cdef inline double penalty_share(const Penalty* penalty, double batch_weight) noexcept nogil:
    if not penalty.per_batch:
        return 1
    return 1 / batch_weight if batch_weight > 0 else 0


cdef inline double penalty_of(
    const Penalty* penalty, const Norms* norms, double batch_weight
) noexcept nogil:
    cdef double share = penalty_share(penalty, batch_weight)
    return share * (penalty.l1 * norms.absolutes + 0.5 * penalty.l2 * norms.squares)


# A step as some parameters take it: with a learning rate of their own and a penalty, or NULL. It
# is changed in `room`, and only where there is something to change.
cdef inline const Step* step_for(
    const Step* step, double rate_factor, const Penalty* penalty, double batch_weight, Step* room
) noexcept nogil:
    cdef bint is_penalized = penalty != NULL and (penalty.l1 != 0 or penalty.l2 != 0)
    if rate_factor == 1 and not is_penalized:
        return step
    room[0] = step[0]
    room.learning_rate *= rate_factor
    if is_penalized:
        room.l1 = penalty_share(penalty, batch_weight) * penalty.l1
        room.l2 = penalty_share(penalty, batch_weight) * penalty.l2
    return room


# Moves n contiguous parameters, from a byte offset on, or keeps their gradient.
cdef void update_span(
    const KernelTable* kernels, const Parameters* parameters, Py_ssize_t offset, Py_ssize_t n,
    const char* g, int optimizer, const Step* step) noexcept nogil

cdef inline bint keeps_gradient(int optimizer) noexcept nogil:
    """Whether an update leaves the parameters alone and only keeps their gradient."""
    return optimizer == CYMLP_GRADIENT or optimizer == CYMLP_ACCUMULATE


# What an update is cut into: blocks of the kernel's rows and, as the last item, the bias.
cdef inline Py_ssize_t n_items(const Dense* layer) noexcept nogil:
    return ceil_div(kernel_rows(layer), layer.kernels.block_rows) + 1


# How many of the kernel's rows an item has; 1 for the bias.
cdef inline Py_ssize_t item_rows(const Dense* layer, Py_ssize_t index) noexcept nogil:
    cdef Py_ssize_t left = kernel_rows(layer) - index * <Py_ssize_t> layer.kernels.block_rows
    return max(<Py_ssize_t> 1, min(<Py_ssize_t> layer.kernels.block_rows, left))


# Panels of a kernel or a bias, from `start` to before `stop` or the last one.
cdef struct PanelRange:
    Py_ssize_t start, stop


cdef inline PanelRange all_panels() noexcept nogil:
    return PanelRange(0, PTRDIFF_MAX)


# The panels of a thread where each one of a team has some of the units: about as many as others.
cdef PanelRange panels_of_thread(const Dense* layer, int thread, int team) noexcept nogil

# How many panels a kernel has.
cdef Py_ssize_t n_panels(const Dense* layer) noexcept nogil

# How many norms an item has.
cdef inline Py_ssize_t n_norms(const Dense* layer, Py_ssize_t index) noexcept nogil:
    return 1 if index == n_items(layer) - 1 else n_panels(layer)

# How many columns some panels have, with what fills the last one.
cdef Py_ssize_t columns_of(const Dense* layer, PanelRange panels) noexcept nogil


# A part of an item: rows from `start` to before `stop`, none where these are equal, of some
# panels.
cdef struct Part:
    Py_ssize_t start, stop
    PanelRange panels


# How many parameters an item has.
cdef inline Py_ssize_t parameters_of(const Dense* layer, Py_ssize_t index) noexcept nogil:
    if index == n_items(layer) - 1:
        return layer.n_units
    return item_rows(layer, index) * kernel_columns(layer)


# Rows of whole tiles and, in a transposed copy, whole vectors: parts of an item of which each is
# as good as a whole one begin after a multiple of these.
cdef inline Py_ssize_t piece_rows(const KernelTable* kernels) noexcept nogil:
    cdef Py_ssize_t rows = kernels.lanes
    while rows % <Py_ssize_t> kernels.tile_rows:
        rows += kernels.lanes
    return rows


# Bytes that an update of n_rows rows needs as scratch memory.
cdef Py_ssize_t scratch_size(const KernelTable* kernels, Py_ssize_t n_rows) noexcept nogil

# y = x kernel + bias, then max(y, 0) where `relu`. Where `padded`, whole vectors are stored, zeros
# past the units; otherwise nothing past the units is touched. Inputs whose non-zeros are known go
# with `padded` only.
cdef void dense_forward(
    const Dense* layer, bint relu, Py_ssize_t n_rows, Inputs inputs, char* y__bo,
    Py_ssize_t y_stride, bint padded) noexcept nogil

# The same of the units of some panels, in whole vectors; not for narrow layers.
cdef void dense_forward_panels(
    const Dense* layer, PanelRange panels, bint relu, Py_ssize_t n_rows, Inputs inputs,
    char* y__bo, Py_ssize_t y_stride) noexcept nogil

# delta_below = delta kernel^T, or += it where `adds`; in whole vectors, zeros past the end. The
# gate is dense_tile's.
cdef void dense_propagate(
    const Dense* layer, Py_ssize_t n_rows, Inputs deltas, bint adds, const char* gate__bi,
    char* delta_below__bi, Py_ssize_t stride_below) noexcept nogil

# The shares of numbers other than zero below which it pays to multiply these alone.
cdef struct ZerosPay:
    double samples                  # in all products of the first layer
    double products                 # of weights and what a layer has made
    double gradients                # of such weights


cdef ZerosPay zeros_pay

# Whether a product of so many inputs, made by another layer, for so many units is worth looking
# for zeros among the inputs.
cdef bint may_leave_zeros_out(
    const KernelTable* kernels, Py_ssize_t n_inputs, Py_ssize_t n_units) noexcept nogil

# Looks which inputs of some rows are not zero, counts those of each row, unless counts is NULL, and
# has only these multiplied where they are less than a share of all. The results are the same.
cdef Inputs find_zeros(
    const KernelTable* kernels, double share, Py_ssize_t n_rows, Py_ssize_t n_inputs,
    Inputs inputs, uint64_t* bits__bw, Py_ssize_t* counts__b) noexcept nogil

# The same for a gradient, of what has been found already.
cdef Inputs known_zeros(
    const KernelTable* kernels, Py_ssize_t n_rows, Py_ssize_t n_inputs, Inputs inputs,
    const uint64_t* bits__bw, const Py_ssize_t* counts__b) noexcept nogil

# Asks for the deltas of some panels, many of which other threads have made. Where zeros are left
# out the hardware cannot know which of their rows comes next.
cdef void bring_deltas(
    const Dense* layer, PanelRange panels, Py_ssize_t n_rows,
    const void* const* delta_rows__b_o) noexcept nogil

# Updates a part of an item, whole pieces, by its gradient, the sum of x^T delta or delta over the
# rows of the batch. delta's rows hold whole vectors. `norms`, unless NULL, are set to those of what
# is updated from before.
cdef void dense_update_item(
    const Dense* layer, Py_ssize_t index, const Part* part, Py_ssize_t n_rows, Inputs inputs,
    const char* delta__bo, Py_ssize_t delta_stride, double batch_weight, int optimizer,
    const Step* step, char* scratch, Norms* norms) noexcept nogil

# Scales this thread's share of the units down to max_norm; not for narrow layers.
cdef void dense_constrain(
    const Dense* layer, double average_decay, int thread, int team) noexcept nogil

# Brings the transposed copy, where there is one, up to date with the whole kernel.
cdef void dense_transpose(const Dense* layer) noexcept nogil

# Norms of an item's parameters, where there is a penalty: of panel p of the kernel, or of all of
# the bias.
cdef Norms dense_norms(const Dense* layer, Py_ssize_t index, Py_ssize_t p) noexcept nogil

# Updates one item by the gradient that the layer's parameters hold.
cdef void dense_apply_item(
    const Dense* layer, Py_ssize_t index, int optimizer, const Step* step) noexcept nogil

# The sum of the squares of one item's gradient, as the layer's parameters hold it.
cdef double dense_gradient_squares(const Dense* layer, Py_ssize_t index) noexcept nogil
