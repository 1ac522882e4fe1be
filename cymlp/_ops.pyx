"""What a program is made of: operations on rows, forward and backward.

Each is one step of the forward pass. The way back goes through them in reverse: an operation gets
the deltas of its outputs, takes them through its activation and leaves those of its inputs with
its source. Of the readers of one source the last one writes its deltas and the others add theirs.
"""

from libc.string cimport memcpy

from cymlp._dense cimport (
    all_inputs, dense_forward, dense_forward_panels, dense_propagate, find_zeros, keeps_gradient,
    n_words_of, padded_size, step_for, update_span, zeros_pay)
from cymlp._kernels cimport CYMLP_IDENTITY, CYMLP_RELU


cdef void op_forward(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k, Inputs inputs,
    bint has_sums, int activation, Py_ssize_t row, Py_ssize_t row_number, Py_ssize_t n_rows,
    const Mode* mode
) noexcept nogil:
    cdef const Op* op = &ops[k]
    cdef const Tensor* own = &tensors[k]
    cdef char* y = row_at(kernels, op, own.y, row)
    cdef char* kept = row_at(kernels, op, own.kept, row) if own.kept != NULL else NULL
    cdef char* z = kept if op.keeps_z and op.kind != OP_ACTIVATE else y
    cdef const char* x = NULL
    cdef Py_ssize_t stride = op.stride
    cdef const Tensor* source
    if op.source != SAMPLES:
        x = row_at(kernels, &ops[op.source], tensors[op.source].y, row)
    if op.kind == OP_DENSE:
        if op.skips_zeros:
            source = &tensors[op.source]
            inputs = find_zeros(
                kernels, zeros_pay.products, n_rows, op.n_inputs, inputs,
                source.nonzeros + row * n_words_of(kernels, op.n_inputs), source.n_nonzeros + row)
        if not has_sums:
            dense_forward(&op.dense, activation == CYMLP_RELU, n_rows, inputs, z, stride, True)
        if activation == CYMLP_RELU:
            return
    elif op.kind == OP_INPUT:
        copy_samples(kernels, op, n_rows, inputs, z, stride)
    elif op.kind == OP_ACTIVATE:
        if activation != PYTHON_ACTIVATION:
            kernels.activate[activation](n_rows, op.n_units, op.alpha, x, stride, y, stride)
        return
    elif op.kind == OP_DROPOUT:
        if mode.training:
            kernels.dropout(
                n_rows, op.n_units, mode.key, op.number, row_number, op.dropped, kept, stride)
            kernels.multiply_rows(n_rows, op.n_units, x, stride, kept, stride, False, y, stride)
        else:
            kernels.activate[<int> CYMLP_IDENTITY](n_rows, op.n_units, 0, x, stride, y, stride)
    elif op.kind == OP_BATCH_NORM:
        if uses_batch(op, mode):
            kernels.batch_norm(
                n_rows, op.n_units, own.moments.mean, own.moments.inverse_std,
                op.norm.gamma.values, op.norm.beta.values, x, stride, kept, stride, z, stride)
        else:
            kernels.batch_norm(
                n_rows, op.n_units, op.norm.moving_mean, op.norm.inverse_std,
                op.norm.gamma.values, op.norm.beta.values, x, stride, kept, stride, z, stride)
    elif op.kind == OP_LAYER_NORM:
        kernels.layer_norm(
            n_rows, op.n_units, op.norm.epsilon, op.norm.gamma.values, op.norm.beta.values, x,
            stride, kept, stride, own.row_std + row * <Py_ssize_t> kernels.item_size, z, stride)
    else:
        kernels.add_rows(
            n_rows, op.n_units, x, stride,
            row_at(kernels, &ops[op.other], tensors[op.other].y, row), stride, z, stride)
    if activation != PYTHON_ACTIVATION and activation != CYMLP_IDENTITY:
        kernels.activate[activation](n_rows, op.n_units, op.alpha, z, stride, y, stride)


cdef void forward_units(
    const KernelTable* kernels, const Op* op, const Tensor* tensor, PanelRange units,
    Inputs inputs, int activation, Py_ssize_t row, Py_ssize_t n_rows
) noexcept nogil:
    dense_forward_panels(
        &op.dense, units, activation == CYMLP_RELU, n_rows, inputs,
        row_at(kernels, op, tensor.kept if op.keeps_z else tensor.y, row), op.stride)


cdef void copy_samples(
    const KernelTable* kernels, const Op* op, Py_ssize_t n_rows, Inputs inputs, char* y__bo,
    Py_ssize_t stride
) noexcept nogil:
    cdef Py_ssize_t b, item = kernels.item_size
    if inputs.nonzeros.starts__bw != NULL:
        kernels.spread_nonzeros(
            n_rows, op.n_units, inputs.rows__b_i, inputs.nonzeros, y__bo, stride)
        return
    for b in range(n_rows):
        memcpy(y__bo + b * stride * item, inputs.rows__b_i[b], op.n_units * item)


cdef void op_activation_backward(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k,
    int activation, Py_ssize_t row, Py_ssize_t n_rows
) noexcept nogil:
    cdef const Op* op = &ops[k]
    kernels.activate_backward[activation](
        n_rows, op.n_units, op.alpha, kept_at(kernels, ops, tensors, k, row), op.stride,
        row_at(kernels, op, tensors[k].delta, row), op.stride)


cdef char* kept_at(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k, Py_ssize_t row
) noexcept nogil:
    cdef const Op* op = &ops[k]
    if not op.keeps_z:
        return row_at(kernels, op, tensors[k].y, row)
    if op.kind == OP_ACTIVATE:
        return row_at(kernels, op, tensors[op.source].y, row)
    return row_at(kernels, op, tensors[k].kept, row)


cdef void op_propagate(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k,
    Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t batch_rows, const Mode* mode
) noexcept nogil:
    cdef const Op* op = &ops[k]
    cdef const Tensor* own = &tensors[k]
    cdef Py_ssize_t stride = op.stride, source = op.source
    cdef char* d = row_at(kernels, op, own.delta, row)
    cdef char* kept = row_at(kernels, op, own.kept, row) if own.kept != NULL else NULL
    cdef char* below
    cdef const char* inverse_std
    cdef double share = 0
    cdef Inputs deltas
    if source == SAMPLES or not (op.has_below or mode.reaches_inputs):
        return
    below = row_at(kernels, &ops[source], tensors[source].delta, row)
    if op.kind == OP_DENSE:
        deltas = all_inputs(own.delta_rows + row, stride)
        if op.skips_deltas:
            deltas = find_zeros(
                kernels, zeros_pay.products, n_rows, op.n_units, deltas,
                own.delta_nonzeros + row * n_words_of(kernels, op.n_units), NULL)
        dense_propagate(
            &op.dense, n_rows, deltas, op.adds,
            row_at(kernels, &ops[source], tensors[source].y, row) if ops[source].is_gated
            else NULL,
            below, ops[source].stride)
    elif op.kind == OP_DROPOUT and mode.training:
        kernels.multiply_rows(n_rows, op.n_units, d, stride, kept, stride, op.adds, below, stride)
    elif op.kind == OP_BATCH_NORM:
        inverse_std = op.norm.inverse_std
        if uses_batch(op, mode):
            inverse_std, share = own.moments.inverse_std, 1.0 / batch_rows
        kernels.batch_norm_backward(
            n_rows, op.n_units, share, inverse_std, op.norm.gamma.values, own.moments.sum,
            own.moments.dot, kept, stride, d, stride, op.adds, below, stride)
    elif op.kind == OP_LAYER_NORM:
        kernels.layer_norm_backward(
            n_rows, op.n_units, op.norm.gamma.values, kept, stride,
            own.row_std + row * <Py_ssize_t> kernels.item_size, d, stride, op.adds, below, stride)
    else:
        hand_down(kernels, op, n_rows, d, op.adds, below)
        if op.kind == OP_ADD:
            hand_down(
                kernels, op, n_rows, d, op.other_adds,
                row_at(kernels, &ops[op.other], tensors[op.other].delta, row))


cdef void hand_down(
    const KernelTable* kernels, const Op* op, Py_ssize_t n_rows, const char* d, bint adds,
    char* below
) noexcept nogil:
    if adds:
        kernels.add_rows(
            n_rows, op.n_units, below, op.stride, d, op.stride, below, op.stride)
    else:
        kernels.activate[<int> CYMLP_IDENTITY](
            n_rows, op.n_units, 0, d, op.stride, below, op.stride)


cdef void norm_forward_sums(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k,
    Py_ssize_t first, Py_ssize_t stop, Py_ssize_t n_rows
) noexcept nogil:
    cdef const Op* op = &ops[k]
    cdef Moments moments = tensors[k].moments
    cdef Py_ssize_t offset = first * <Py_ssize_t> kernels.item_size
    kernels.column_moments(
        n_rows, stop - first, tensors[op.source].y + offset, op.stride, moments.mean + offset,
        moments.variance + offset)
    kernels.inverse_std(
        stop - first, op.norm.epsilon, moments.variance + offset, moments.inverse_std + offset)


cdef void norm_backward_sums(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k,
    Py_ssize_t first, Py_ssize_t stop, Py_ssize_t n_rows
) noexcept nogil:
    cdef const Op* op = &ops[k]
    cdef const Tensor* own = &tensors[k]
    cdef Py_ssize_t offset = first * <Py_ssize_t> kernels.item_size
    kernels.column_sum(
        n_rows, stop - first, own.delta + offset, op.stride, own.moments.sum + offset)
    kernels.column_dot(
        n_rows, stop - first, own.delta + offset, op.stride, own.kept + offset, op.stride,
        own.moments.dot + offset)


cdef void norm_update(
    const KernelTable* kernels, const Op* ops, const Tensor* tensors, Py_ssize_t k,
    Py_ssize_t index, Py_ssize_t n_rows, int optimizer, const Step* step, const Mode* mode,
    char* scratch
) noexcept nogil:
    cdef const Op* op = &ops[k]
    cdef const Tensor* own = &tensors[k]
    cdef Py_ssize_t n = padded_size(op.n_units, kernels.lanes)
    cdef const char* g = scratch
    if uses_batch(op, mode):
        g = own.moments.dot if index == 0 else own.moments.sum
    elif index == 0:
        kernels.column_dot(n_rows, n, own.delta, op.stride, own.kept, op.stride, scratch)
    else:
        kernels.column_sum(n_rows, n, own.delta, op.stride, scratch)
    move_item(kernels, op, index, g, optimizer, step)
    if index == 0 and uses_batch(op, mode) and not keeps_gradient(optimizer):
        norm_move_averages(kernels, op, own, n_rows)


cdef inline const Parameters* item_of(const Op* op, Py_ssize_t index) noexcept nogil:
    return &op.norm.gamma if index == 0 else &op.norm.beta


cdef void move_item(
    const KernelTable* kernels, const Op* op, Py_ssize_t index, const char* g, int optimizer,
    const Step* step
) noexcept nogil:
    """Move gamma or beta, where there is one, or keep its gradient."""
    cdef Step room
    step = step_for(step, op.norm.rate_factor, NULL, 1, &room)
    if op.norm.has_gamma if index == 0 else op.norm.has_beta:
        update_span(
            kernels, item_of(op, index), 0, padded_size(op.n_units, kernels.lanes), g, optimizer,
            step)


cdef void norm_apply(
    const KernelTable* kernels, const Op* op, Py_ssize_t index, int optimizer, const Step* step
) noexcept nogil:
    move_item(kernels, op, index, item_of(op, index).gradient, optimizer, step)


cdef double norm_gradient_squares(
    const KernelTable* kernels, const Op* op, Py_ssize_t index
) noexcept nogil:
    return kernels.sum_of_squares(
        padded_size(op.n_units, kernels.lanes), item_of(op, index).gradient)


cdef void norm_move_averages(
    const KernelTable* kernels, const Op* op, const Tensor* tensor, Py_ssize_t n_rows
) noexcept nogil:
    """The average of unbiased variances, as algorithm 2 of the paper wants it."""
    cdef Py_ssize_t n = padded_size(op.n_units, kernels.lanes)
    cdef double old = op.norm.momentum, new = 1 - old
    cdef double unbiased = <double> n_rows / (n_rows - 1) if n_rows > 1 else 1
    kernels.blend(n, old, op.norm.moving_mean, new, tensor.moments.mean)
    kernels.blend(n, old, op.norm.moving_variance, new * unbiased, tensor.moments.variance)


cdef Py_ssize_t norm_scratch_size(const KernelTable* kernels, const Op* op) noexcept nogil:
    return padded_size(op.n_units, kernels.lanes) * <Py_ssize_t> kernels.item_size
