"""One dense layer: forward pass, delta propagation, batch-averaged weight and bias update.

The loops over register tiles. Training calls the cdef functions for the rows and blocks that each
thread has; the Python functions at the end run them over whole arrays.
"""

import numpy as np

from cython.parallel cimport prange

from libc.stdlib cimport free, malloc

from cymlp._kernels cimport CYMLP_GRADIENT, CYMLP_RELU, kernel_table, optimizer_step

ctypedef fused real:
    float
    double

# Bytes of the largest register tile of any ISA, at the start of an update's scratch memory.
cdef Py_ssize_t TILE_BYTES = 4096


cdef Py_ssize_t n_panels(const Dense* layer) noexcept nogil:
    return ceil_div(layer.n_units, layer.kernels.panel)


cdef Py_ssize_t n_items(const Dense* layer) noexcept nogil:
    return ceil_div(layer.n_inputs, layer.kernels.block_rows) + 1


cdef Py_ssize_t scratch_size(const KernelTable* kernels, Py_ssize_t n_rows) noexcept nogil:
    return TILE_BYTES + kernels.block_rows * n_rows * kernels.item_size


cdef void tiles_forward(
    const KernelTable* kernels, Py_ssize_t n_rows, Py_ssize_t n_inputs, Py_ssize_t n_units,
    const void* const* x_rows__b_i, const char* panels, const char* bias, bint relu,
    char* y__bo, Py_ssize_t y_stride, bint padded
) noexcept nogil:
    """Store x panels + bias for some rows: a panel stays in cache while all rows pass it."""
    cdef Py_ssize_t panel = kernels.panel, tile_rows = kernels.tile_rows
    cdef Py_ssize_t item = kernels.item_size
    cdef Py_ssize_t p, t, row, n_columns
    if n_rows == 1:
        kernels.dense_row(
            ceil_div(n_units, panel) * panel if padded else n_units, n_inputs, x_rows__b_i[0],
            panels, bias, relu, y__bo)
        return
    for p in range(ceil_div(n_units, panel)):
        n_columns = panel if padded else min(panel, n_units - p * panel)
        for t in range(ceil_div(n_rows, tile_rows)):
            row = t * tile_rows
            kernels.dense_tile(
                min(tile_rows, n_rows - row), n_columns, n_inputs, x_rows__b_i + row,
                panels + p * n_inputs * panel * item,
                bias + p * panel * item if bias != NULL else NULL,
                relu, y__bo + (row * y_stride + p * panel) * item, y_stride)


cdef void dense_forward(
    const Dense* layer, int activation, Py_ssize_t n_rows, const void* const* x_rows__b_i,
    char* y__bo, Py_ssize_t y_stride, bint padded
) noexcept nogil:
    tiles_forward(
        layer.kernels, n_rows, layer.n_inputs, layer.n_units, x_rows__b_i,
        layer.kernel.values, layer.bias.values, activation == CYMLP_RELU, y__bo, y_stride, padded)
    if activation != CYMLP_RELU:
        layer.kernels.activate[activation](n_rows, layer.n_units, y__bo, y_stride)


cdef void dense_propagate(
    const Dense* layer, int activation_below, Py_ssize_t n_rows,
    const void* const* delta_rows__b_o, const char* y_below__bi, char* delta_below__bi,
    Py_ssize_t stride_below
) noexcept nogil:
    tiles_forward(
        layer.kernels, n_rows, layer.n_units, layer.n_inputs, delta_rows__b_o, layer.transposed,
        NULL, False, delta_below__bi, stride_below, True)
    layer.kernels.activate_backward[activation_below](
        n_rows, layer.n_inputs, y_below__bi, stride_below, delta_below__bi, stride_below)


cdef void transpose_block(
    const Dense* layer, Py_ssize_t p, Py_ssize_t first_row, Py_ssize_t n_rows
) noexcept nogil:
    """Bring the transposed copy up to date with some rows of one panel."""
    cdef const KernelTable* kernels = layer.kernels
    cdef Py_ssize_t panel = kernels.panel, item = kernels.item_size
    cdef Py_ssize_t n_columns = min(panel, layer.n_units - p * panel)
    cdef Py_ssize_t t, row
    for t in range(ceil_div(n_rows, panel)):
        row = first_row + t * panel
        kernels.transpose_tile(
            min(panel, n_rows - t * panel), n_columns,
            layer.kernel.values + (p * layer.n_inputs + row) * panel * item,
            layer.transposed + ((row // panel) * layer.n_units + p * panel) * panel * item)


cdef inline char* at(char* base, Py_ssize_t offset) noexcept nogil:
    return base + offset if base != NULL else NULL


cdef inline void update_span(
    const KernelTable* kernels, const Parameters* parameters, Py_ssize_t offset, Py_ssize_t n,
    const char* g, int optimizer, const Step* step
) noexcept nogil:
    """Move n contiguous parameters, from a byte offset on, or keep their gradient."""
    cdef char* slot0 = parameters.gradient if keeps_gradient(optimizer) else parameters.slots[0]
    kernels.update[optimizer](
        n, g, parameters.values + offset, at(slot0, offset), at(parameters.slots[1], offset), step)


cdef double l2_of(const Dense* layer, double batch_weight) noexcept nogil:
    if not layer.l2_per_batch:
        return layer.l2
    return layer.l2 / batch_weight if batch_weight > 0 else 0


cdef double update_block(
    const Dense* layer, Py_ssize_t block, Py_ssize_t n_rows, const void* const* x_rows__b_i,
    const char* delta__bo, Py_ssize_t delta_stride, double batch_weight, int optimizer,
    const Step* step, char* scratch
) noexcept nogil:
    cdef const KernelTable* kernels = layer.kernels
    cdef Py_ssize_t panel = kernels.panel, tile_rows = kernels.tile_rows
    cdef Py_ssize_t item = kernels.item_size
    cdef Py_ssize_t first = block * kernels.block_rows
    cdef Py_ssize_t n_inputs = min(<Py_ssize_t> kernels.block_rows, layer.n_inputs - first)
    cdef Step penalized = step[0]
    cdef char* strips = scratch + TILE_BYTES
    cdef Py_ssize_t p, t, row, offset
    cdef double squares = 0
    penalized.l2 = l2_of(layer, batch_weight)
    kernels.pack_block(n_rows, n_inputs, x_rows__b_i, first, strips)
    for p in range(n_panels(layer)):
        offset = (p * layer.n_inputs + first) * panel * item
        if layer.l2 != 0:
            squares += kernels.sum_of_squares(
                n_inputs * panel, layer.kernel.values + offset)
        for t in range(ceil_div(n_inputs, tile_rows)):
            row = t * tile_rows
            kernels.gradient_tile(
                n_rows, strips + row * n_rows * item, delta__bo + p * panel * item, delta_stride,
                scratch)
            update_span(
                kernels, &layer.kernel, offset + row * panel * item,
                min(tile_rows, n_inputs - row) * panel, scratch, optimizer, &penalized)
        if layer.transposed != NULL and not keeps_gradient(optimizer):
            transpose_block(layer, p, first, n_inputs)
    return squares


cdef void update_bias(
    const Dense* layer, Py_ssize_t n_rows, const char* delta__bo, Py_ssize_t delta_stride,
    int optimizer, const Step* step, char* scratch
) noexcept nogil:
    cdef const KernelTable* kernels = layer.kernels
    cdef Py_ssize_t panel = kernels.panel, item = kernels.item_size
    cdef Py_ssize_t p
    for p in range(n_panels(layer)):
        kernels.column_sum(n_rows, delta__bo + p * panel * item, delta_stride, scratch)
        update_span(kernels, &layer.bias, p * panel * item, panel, scratch, optimizer, step)


cdef double dense_update_item(
    const Dense* layer, Py_ssize_t index, Py_ssize_t n_rows, const void* const* x_rows__b_i,
    const char* delta__bo, Py_ssize_t delta_stride, double batch_weight, int optimizer,
    const Step* step, char* scratch
) noexcept nogil:
    if index < n_items(layer) - 1:
        return update_block(
            layer, index, n_rows, x_rows__b_i, delta__bo, delta_stride, batch_weight, optimizer,
            step, scratch)
    update_bias(layer, n_rows, delta__bo, delta_stride, optimizer, step, scratch)
    return 0


cdef void dense_apply_item(
    const Dense* layer, Py_ssize_t index, int optimizer, const Step* step
) noexcept nogil:
    cdef const KernelTable* kernels = layer.kernels
    cdef Py_ssize_t panel = kernels.panel
    cdef Py_ssize_t first = index * kernels.block_rows
    cdef Py_ssize_t n_inputs = min(<Py_ssize_t> kernels.block_rows, layer.n_inputs - first)
    cdef Py_ssize_t p, offset
    if index == n_items(layer) - 1:
        update_span(
            kernels, &layer.bias, 0, n_panels(layer) * panel, layer.bias.gradient, optimizer,
            step)
        return
    for p in range(n_panels(layer)):
        offset = (p * layer.n_inputs + first) * panel * <Py_ssize_t> kernels.item_size
        update_span(
            kernels, &layer.kernel, offset, n_inputs * panel, layer.kernel.gradient + offset,
            optimizer, step)
        if layer.transposed != NULL:
            transpose_block(layer, p, first, n_inputs)


def pack(matrix, Py_ssize_t panel):
    """Return a matrix in panels of columns, the last one filled with zeros.

    Parameters
    ----------
    matrix : ndarray of shape (rows, columns)
    panel : int
        Columns of a panel.

    Returns
    -------
    ndarray of shape (panels, rows, panel), C-contiguous
    """
    n_rows, n_columns = matrix.shape
    count = ceil_div(n_columns, panel)
    padded = np.zeros((n_rows, count * panel), matrix.dtype)
    padded[:, :n_columns] = matrix
    return np.ascontiguousarray(padded.reshape(n_rows, count, panel).transpose(1, 0, 2))


def unpack(panels, Py_ssize_t n_columns):
    """Return a copy of the matrix of n_columns columns that stands in panels."""
    count, n_rows, panel = panels.shape
    rows = panels.transpose(1, 0, 2).reshape(n_rows, count * panel)
    return rows[:, :n_columns].copy()


cdef class _Operand:
    """A layer over its own memory, and row pointers to one array, for the functions below."""

    cdef Dense layer
    cdef const void** rows
    cdef list keep

    def __dealloc__(self):
        free(self.rows)

    cdef const char* hold(self, array):
        self.keep.append(array)
        return <const char*> <size_t> array.ctypes.data

    cdef int point(self, const real[:, :] x) except -1:
        cdef Py_ssize_t b
        self.rows = <const void**> malloc((x.shape[0] + 1) * sizeof(void*))
        if self.rows == NULL:
            raise MemoryError
        for b in range(x.shape[0]):
            self.rows[b] = &x[b, 0]
        return 0


cdef _Operand _operand(x, kernel, bias, isa):
    """Lay out a layer with this kernel, and rows of x, all of one dtype."""
    cdef _Operand out = _Operand()
    out.keep = [x]
    out.layer.kernels = kernel_table(isa, x.dtype)
    out.layer.n_inputs, out.layer.n_units = kernel.shape
    panel = out.layer.kernels.panel
    out.layer.kernel.values = <char*> out.hold(pack(kernel, panel))
    out.layer.transposed = <char*> out.hold(pack(kernel.T, panel))
    out.layer.bias.values = <char*> out.hold(pack(bias[None, :], panel))
    if x.dtype == np.float32:
        out.point[float](x)
    else:
        out.point[double](x)
    return out


def _check(x, others):
    for array in (x, *others):
        if array.dtype != x.dtype:
            raise ValueError(f"all arrays must be {x.dtype.name}, got {array.dtype.name}")
        if array.ndim == 2 and array.shape[1] > 1 and array.strides[1] != array.itemsize:
            raise ValueError("the columns of each array must be contiguous")


def forward(x, kernel, bias, int activation, *, isa=None, int n_threads=1):
    """Return activation(x @ kernel + bias).

    Parameters
    ----------
    x : ndarray of shape (rows, inputs), float32 or float64
        Columns contiguous.
    kernel : ndarray of shape (inputs, units)
    bias : ndarray of shape (units,)
    activation : int
        One of `cymlp._kernels.ACTIVATIONS`.
    isa : str, optional
        One of `cymlp._kernels.available_isas()`; the active one by default.
    n_threads : int, default=1

    Returns
    -------
    ndarray of shape (rows, units)
    """
    _check(x, (kernel, bias))
    if x.shape[1] != kernel.shape[0] or bias.shape[0] != kernel.shape[1]:
        raise ValueError(f"shapes {x.shape}, {kernel.shape}, {bias.shape} do not fit")
    cdef _Operand operand = _operand(x, kernel, bias, isa)
    cdef const Dense* layer = &operand.layer
    cdef Py_ssize_t n_rows = x.shape[0], n_units = kernel.shape[1]
    cdef Py_ssize_t tile = layer.kernels.tile_rows, row_bytes = n_units * x.itemsize
    y = np.empty((n_rows, n_units), x.dtype)
    cdef char* out = <char*> operand.hold(y)
    cdef Py_ssize_t t
    for t in prange(ceil_div(n_rows, tile), nogil=True, num_threads=n_threads, schedule="static"):
        dense_forward(
            layer, activation, min(tile, n_rows - t * tile), operand.rows + t * tile,
            out + t * tile * row_bytes, n_units, False)
    return y


def propagate(delta, kernel, y_below, int activation_below, *, isa=None, int n_threads=1):
    """Return the delta of the layer below, (delta @ kernel.T) * activation_below'(y_below).

    Parameters
    ----------
    delta : ndarray of shape (rows, units), float32 or float64
        dL/dz of the layer; columns contiguous.
    kernel : ndarray of shape (inputs, units)
    y_below : ndarray of shape (rows, inputs)
        Outputs of the layer below.
    activation_below : int
        One of `cymlp._kernels.ACTIVATIONS`.
    isa : str, optional
    n_threads : int, default=1

    Returns
    -------
    ndarray of shape (rows, inputs)
    """
    _check(delta, (kernel, y_below))
    if delta.shape[1] != kernel.shape[1] or y_below.shape != (len(delta), kernel.shape[0]):
        raise ValueError(f"shapes {delta.shape}, {kernel.shape}, {y_below.shape} do not fit")
    cdef _Operand operand = _operand(delta, kernel, np.zeros(kernel.shape[1], delta.dtype), isa)
    cdef const Dense* layer = &operand.layer
    cdef Py_ssize_t n_rows = delta.shape[0], n_inputs = kernel.shape[0]
    cdef Py_ssize_t tile = layer.kernels.tile_rows
    cdef Py_ssize_t stride = ceil_div(n_inputs, layer.kernels.panel) * layer.kernels.panel
    cdef Py_ssize_t row_bytes = stride * delta.itemsize
    below = np.zeros((n_rows, stride), delta.dtype)
    below[:, :n_inputs] = y_below
    result = np.empty((n_rows, stride), delta.dtype)
    cdef const char* y = operand.hold(below)
    cdef char* out = <char*> operand.hold(result)
    cdef Py_ssize_t t
    for t in prange(ceil_div(n_rows, tile), nogil=True, num_threads=n_threads, schedule="static"):
        dense_propagate(
            layer, activation_below, min(tile, n_rows - t * tile), operand.rows + t * tile,
            y + t * tile * row_bytes, out + t * tile * row_bytes, stride)
    return np.ascontiguousarray(result[:, :n_inputs])


def gradient(x, delta, *, isa=None, int n_threads=1):
    """Return the gradients of a layer's kernel and bias, summed over the rows.

    Parameters
    ----------
    x : ndarray of shape (rows, inputs), float32 or float64
        Inputs of the layer; columns contiguous.
    delta : ndarray of shape (rows, units)
        dL/dz of the layer.
    isa : str, optional
    n_threads : int, default=1

    Returns
    -------
    kernel_gradient : ndarray of shape (inputs, units)
        x.T @ delta.
    bias_gradient : ndarray of shape (units,)
    """
    _check(x, (delta,))
    if len(x) != len(delta):
        raise ValueError(f"shapes {x.shape}, {delta.shape} do not fit")
    cdef Py_ssize_t n_rows = x.shape[0], n_inputs = x.shape[1], n_units = delta.shape[1]
    zeros = np.zeros((n_inputs, n_units), x.dtype)
    cdef _Operand operand = _operand(x, zeros, zeros[0] if n_inputs else zeros.sum(0), isa)
    cdef Dense* layer = &operand.layer
    cdef Py_ssize_t panel = layer.kernels.panel
    padded = np.zeros((n_rows, n_panels(layer) * panel), x.dtype)
    padded[:, :n_units] = delta
    kernel_gradient = pack(zeros, panel)
    bias_gradient = np.zeros(n_panels(layer) * panel, x.dtype)
    layer.kernel.gradient = <char*> operand.hold(kernel_gradient)
    layer.bias.gradient = <char*> operand.hold(bias_gradient)
    cdef const char* delta_rows = operand.hold(padded)
    cdef Step step = optimizer_step(0, 0, 0, 0, 0, 0, 1)
    cdef Py_ssize_t size = scratch_size(layer.kernels, n_rows)
    cdef char* scratch = <char*> operand.hold(np.empty(n_items(layer) * size, np.uint8))
    cdef Py_ssize_t index
    for index in prange(n_items(layer), nogil=True, num_threads=n_threads, schedule="static"):
        dense_update_item(
            layer, index, n_rows, operand.rows, delta_rows, n_panels(layer) * panel, 1,
            CYMLP_GRADIENT, &step, scratch + index * size)
    return unpack(kernel_gradient, n_units), bias_gradient[:n_units].copy()
