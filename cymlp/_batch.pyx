"""Samples in users' memory, the rows of a batch that point to them, and memory for the rest."""

import math

import numpy as np

from cymlp._dense cimport ceil_div

cdef enum:
    CACHE_LINE = 64


cdef double total_weight(
    const Samples* samples, Py_ssize_t first, Py_ssize_t n_rows
) noexcept nogil:
    cdef Py_ssize_t b
    cdef double total = 0
    if samples.weight == NULL:
        return <double> n_rows
    for b in range(n_rows):
        total += weight_at(samples, first + b)
    return total


cdef void gather(
    const Samples* samples, Py_ssize_t first, Py_ssize_t start, Py_ssize_t stop,
    const BatchRows* rows
) noexcept nogil:
    cdef Py_ssize_t b, i
    for b in range(start, stop):
        i = sample(samples, first + b)
        rows.x[b] = samples.x + i * samples.x_stride
        if samples.labels != NULL:
            rows.labels[b] = samples.labels[i]
        elif samples.values != NULL:
            rows.values[b] = samples.values + i * samples.values_stride


cdef Targets targets_from(
    const Samples* samples, const BatchRows* rows, Py_ssize_t row
) noexcept nogil:
    cdef Targets out
    out.labels__b = rows.labels + row if samples.labels != NULL else NULL
    out.values__b_o = rows.values + row if samples.labels == NULL else NULL
    return out


cdef char* address(array):
    return <char*> <size_t> array.ctypes.data


cdef int describe(
    Samples* samples, x, labels, values, weight, order, dtype, Py_ssize_t n_inputs,
    Py_ssize_t n_outputs
) except -1:
    cdef const int32_t[::1] label_view
    cdef const int64_t[::1] order_view
    cdef const double[::1] weight_view
    cdef Py_ssize_t n_rows = x.shape[0]
    samples.n_rows = n_rows
    samples.x_stride = _matrix(x, n_rows, n_inputs, dtype, &samples.x)
    samples.values_stride = 0
    samples.values = NULL
    samples.labels = NULL
    samples.weight = NULL
    samples.order = NULL
    if values is not None:
        samples.values_stride = _matrix(values, n_rows, n_outputs, dtype, &samples.values)
    if labels is not None:
        label_view = labels
        if label_view.shape[0] != n_rows or not _within(label_view, n_outputs):
            raise ValueError("labels do not fit the samples or the outputs")
        samples.labels = &label_view[0]
    if weight is not None:
        weight_view = weight
        if len(weight) != n_rows:
            raise ValueError("weight does not fit the samples")
        samples.weight = &weight_view[0]
    if order is not None:
        order_view = order
        if len(order) != n_rows or order.min() < 0 or order.max() >= n_rows:
            raise ValueError("order does not fit the samples")
        samples.order = &order_view[0]
    return 0


cdef bint _within(const int32_t[::1] labels, Py_ssize_t n_classes) noexcept nogil:
    cdef Py_ssize_t b
    for b in range(labels.shape[0]):
        if labels[b] < 0 or labels[b] >= n_classes:
            return False
    return True


cdef Py_ssize_t _matrix(
    array, Py_ssize_t n_rows, Py_ssize_t n_columns, dtype, const char** base
) except? -1:
    """Check a matrix, set the address of its first row and return the bytes between rows."""
    cdef const float[:, :] narrow
    cdef const double[:, :] wide
    cdef Py_ssize_t row_stride, column_stride
    if array.dtype != dtype or array.shape != (n_rows, n_columns) or n_rows == 0:
        raise ValueError(
            f"expected ({n_rows}, {n_columns}) {dtype.name}, got {array.shape} {array.dtype.name}")
    if dtype.itemsize == sizeof(float):
        narrow = array
        base[0] = <const char*> &narrow[0, 0]
        row_stride, column_stride = narrow.strides[0], narrow.strides[1]
    else:
        wide = array
        base[0] = <const char*> &wide[0, 0]
        row_stride, column_stride = wide.strides[0], wide.strides[1]
    if n_columns > 1 and column_stride != dtype.itemsize:
        raise ValueError("the columns of a matrix must be contiguous")
    return row_stride


cdef class Arena:
    """One block of zeroed memory; its arrays start an odd number of cache lines apart.

    Arrays whose lengths are multiples of 4 KiB would otherwise fall into the same cache sets.
    """

    def __cinit__(self, Py_ssize_t n_bytes):
        self.memory = np.zeros(n_bytes + CACHE_LINE, np.uint8)
        self.used = (CACHE_LINE - <size_t> address(self.memory) % CACHE_LINE) % CACHE_LINE

    @staticmethod
    cdef Py_ssize_t room(Py_ssize_t n_bytes):
        """Return the bytes that `take` uses up for an array: an odd number of cache lines."""
        return (ceil_div(n_bytes, CACHE_LINE) // 2 * 2 + 3) * CACHE_LINE

    cdef object take(self, shape, dtype):
        """Return a new array of zeros."""
        dtype = np.dtype(dtype)
        size = (math.prod(shape) if isinstance(shape, tuple) else shape) * dtype.itemsize
        array = self.memory[self.used:self.used + size].view(dtype).reshape(shape)
        self.used += Arena.room(size)
        return array


cdef Py_ssize_t rows_room(Py_ssize_t n_rows):
    return 6 * Arena.room(n_rows * sizeof(double))


cdef BatchRows take_rows(Arena arena, Py_ssize_t n_rows):
    cdef BatchRows rows
    rows.x = <const void**> address(arena.take(n_rows, np.intp))
    rows.values = <const void**> address(arena.take(n_rows, np.intp))
    rows.labels = <int32_t*> address(arena.take(n_rows, np.int32))
    rows.scale = <double*> address(arena.take(n_rows, np.float64))
    rows.loss = <double*> address(arena.take(n_rows, np.float64))
    rows.hit = <double*> address(arena.take(n_rows, np.float64))
    return rows
