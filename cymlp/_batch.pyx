"""Samples in users' memory, the rows of a batch that point to them, and memory for the rest."""

import math

import numpy as np

from cymlp._arrays cimport PyArray_DATA, PyArrayObject
from cymlp._dense cimport all_inputs, ceil_div, n_words_of, zeros_pay
from cymlp._kernels import element

from cymlp._kernels cimport CYMLP_SINGLE, CYMLP_WIDE

cdef object ndarray = np.ndarray

cdef enum:
    CACHE_LINE = 64
    PIECE = 64                      # inputs of a row that are converted to be counted
    DENSITY_ROWS = 8                # of a batch, that its zeros are looked for in

# Inputs that a first layer must have for its zeros to be looked for and, for several rows, units
# that it must have more than. Where its units fill fewer vectors than SPARSE_VECTORS, fewer inputs
# may be other than zero than zeros_pay says: each addition then waits for the one before.
cdef Py_ssize_t SPARSE_INPUTS = 64
cdef Py_ssize_t DENSE_UNITS = 16
cdef double SPARSE_VECTORS = 5.25


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
    const KernelTable* kernels, const Samples* samples, Py_ssize_t first, Py_ssize_t start,
    Py_ssize_t stop, const BatchRows* rows, const Inputs* inputs, Py_ssize_t n_ahead
) noexcept nogil:
    cdef Py_ssize_t b, i
    cdef char* converted
    for b in range(start, stop):
        i = sample(samples, first + b)
        if inputs.next_rows__b != NULL:
            rows.next_x[b] = samples.x + samples.x_stride * sample(
                samples, min(first + b + n_ahead, samples.n_rows - 1))
        if samples.format == REALS:
            rows.x[b] = samples.x + i * samples.x_stride
        elif samples.format == FOREIGN:
            converted = rows.converted + b * rows.converted_stride
            convert(kernels, samples, i, 0, samples.n_inputs, converted)
            rows.x[b] = converted
        else:
            rows.x[b] = samples.x + samples.row_starts[i] * <Py_ssize_t> kernels.item_size
            mark_nonzeros(kernels, samples, i, rows, b)
        if samples.labels != NULL:
            rows.labels[b] = samples.labels[i]
        elif samples.values != NULL:
            rows.values[b] = samples.values + i * samples.values_stride
    if inputs.nonzeros.bits__bw != NULL and samples.format != NONZEROS:
        kernels.find_nonzeros(
            stop - start, samples.n_inputs, rows.x + start, rows.nonzeros + start * rows.n_words,
            rows.n_words)


cdef inline void convert(
    const KernelTable* kernels, const Samples* samples, Py_ssize_t i, Py_ssize_t first,
    Py_ssize_t n, void* out
) noexcept nogil:
    """Convert n inputs of sample i, which is FOREIGN, from the first one wanted on."""
    kernels.convert(
        n, samples.element, samples.swapped,
        samples.x + i * samples.x_stride + first * samples.column_stride, samples.column_stride,
        samples.scale, out)


cdef void mark_nonzeros(
    const KernelTable* kernels, const Samples* samples, Py_ssize_t i, const BatchRows* rows,
    Py_ssize_t b
) noexcept nogil:
    """Set the bits of a sample that comes as its non-zeros, in its row of the batch."""
    cdef uint64_t* bits = rows.nonzeros + b * rows.n_words
    cdef uint32_t* starts = rows.nonzero_starts + b * rows.n_words
    cdef Py_ssize_t k, word, first = samples.row_starts[i], end = samples.row_starts[i + 1]
    cdef Py_ssize_t block = kernels.block_rows, next_column = 0
    k = first
    for word in range(rows.n_words):
        bits[word] = 0
        starts[word] = <uint32_t> (k - first)
        while k < end and samples.columns[k] < next_column + block:
            bits[word] |= (<uint64_t> 1) << (samples.columns[k] - next_column)
            k += 1
        next_column += block


cdef double most_nonzeros(
    const KernelTable* kernels, const Samples* samples, Py_ssize_t n_rows, Py_ssize_t n_units
) noexcept nogil:
    if n_units == 0:
        return 0
    if samples.format != NONZEROS:
        if samples.n_inputs < SPARSE_INPUTS or n_rows > 1 and n_units <= DENSE_UNITS:
            return 0
        if n_rows == 1:  # each addition waits for the one before, whatever is multiplied
            return zeros_pay.samples
    return zeros_pay.samples * min(1.0, n_units / (SPARSE_VECTORS * kernels.lanes))


cdef double first_layer_cost(
    const KernelTable* kernels, const Samples* samples, Py_ssize_t first, Py_ssize_t n_rows,
    Py_ssize_t n_units
) noexcept nogil:
    cdef double share, limit = most_nonzeros(kernels, samples, n_rows, n_units)
    if limit == 0:
        return 1
    if samples.format == NONZEROS:
        share = samples.row_starts[samples.n_rows] / (
            <double> samples.n_rows * samples.n_inputs)
        return share / limit
    share = nonzero_share(kernels, samples, first, n_rows, limit)
    return share / limit if share < limit else 1


cdef double nonzero_share(
    const KernelTable* kernels, const Samples* samples, Py_ssize_t first, Py_ssize_t n_rows,
    double limit
) noexcept nogil:
    """How many inputs of some samples are not zero, as far as a few of them tell.

    Nobody has asked the cache for these samples yet. So only half of them are looked at where
    that is enough to say that the share is not below the limit.
    """
    cdef Py_ssize_t b, j, i, n, some = min(n_rows, <Py_ssize_t> DENSITY_ROWS), end = 0, total = 0
    cdef double n_looked_at = <double> some * samples.n_inputs
    cdef double[PIECE] piece
    cdef const void* row = piece
    cdef const void* rows[DENSITY_ROWS]
    for b in range(some):
        i = sample(samples, first + b * n_rows // some)
        if samples.format == REALS:
            rows[b] = samples.x + i * samples.x_stride
            continue
        for j in range(ceil_div(samples.n_inputs, PIECE)):
            n = min(<Py_ssize_t> PIECE, samples.n_inputs - j * PIECE)
            convert(kernels, samples, i, j * PIECE, n, piece)
            total += kernels.find_nonzeros(1, n, &row, NULL, 0)
    if samples.format == REALS:
        end = ceil_div(some, 2)
        total = kernels.find_nonzeros(end, samples.n_inputs, rows, NULL, 0)
        if total < limit * n_looked_at:
            total += kernels.find_nonzeros(
                some - end, samples.n_inputs, rows + end, NULL, 0)
    return total / n_looked_at


cdef bint leaves_zeros_out(
    const KernelTable* kernels, const Samples* samples, Py_ssize_t first, Py_ssize_t n_rows,
    Py_ssize_t n_units
) noexcept nogil:
    return samples.format == NONZEROS or first_layer_cost(
        kernels, samples, first, n_rows, n_units) < 1


cdef Inputs inputs_of(
    const Samples* samples, bint without_zeros, const BatchRows* rows
) noexcept nogil:
    cdef Inputs inputs = all_inputs(rows.x, 0)
    if not without_zeros:
        return inputs
    inputs.nonzeros.bits__bw = rows.nonzeros
    inputs.nonzeros.starts__bw = rows.nonzero_starts if samples.format == NONZEROS else NULL
    inputs.nonzeros.stride = rows.n_words
    inputs.next_rows__b = rows.next_x
    inputs.next_item = samples.next_item
    return inputs


cdef Targets targets_from(
    const Samples* samples, const BatchRows* rows, Py_ssize_t row
) noexcept nogil:
    cdef Targets out
    out.labels__b = rows.labels + row if samples.labels != NULL else NULL
    out.values__b_o = rows.values + row if samples.labels == NULL else NULL
    return out


cdef char* address(array) except? NULL:
    """Return where an array begins: sooner than `ctypes` does."""
    if not isinstance(array, ndarray):
        raise TypeError(f"expected an array, got {type(array).__name__}")
    return <char*> PyArray_DATA(<PyArrayObject*> array)


cdef int describe(
    Samples* samples, x, labels, values, weight, dtype, Py_ssize_t n_inputs, Py_ssize_t n_outputs,
    double scale
) except -1:
    cdef const int32_t[::1] label_view
    cdef const double[::1] weight_view
    cdef Py_ssize_t n_rows = x.shape[0]
    samples.n_rows = n_rows
    samples.n_inputs = n_inputs
    samples.row_starts = NULL
    samples.columns = NULL
    samples.format = REALS
    read_as(samples, dtype.itemsize, scale)
    if not isinstance(x, np.ndarray):
        _nonzeros(samples, x, dtype)
    elif is_in_place(x, dtype):
        samples.x_stride = _matrix(x, n_rows, n_inputs, dtype, &samples.x)
    else:
        _foreign(samples, x)
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
    return 0


cdef void read_as(Samples* samples, Py_ssize_t item_size, double scale) noexcept nogil:
    samples.element = CYMLP_SINGLE if item_size == sizeof(float) else CYMLP_WIDE
    samples.swapped = False
    samples.column_stride = item_size
    samples.scale = scale
    samples.next_item = item_size
    if scale != 1:
        samples.format = FOREIGN


cdef class Described:
    def __cinit__(
        self, x, labels, values, weight, dtype, Py_ssize_t n_inputs, Py_ssize_t n_outputs,
        double scale
    ):
        self.arrays = (x, labels, values, weight)
        self.dtype = dtype
        self.n_outputs = n_outputs
        describe(
            &self.samples, x, labels, values, weight, dtype, n_inputs, n_outputs, scale)


cdef bint _within(const int32_t[::1] labels, Py_ssize_t n_classes) noexcept nogil:
    cdef Py_ssize_t b
    for b in range(labels.shape[0]):
        if labels[b] < 0 or labels[b] >= n_classes:
            return False
    return True


cdef bint is_in_place(x, dtype):
    """Whether an array's rows can be read where they stand."""
    return x.dtype == dtype and x.flags.aligned and (
        x.ndim != 2 or x.shape[1] == 1 or x.strides[1] == x.itemsize)


cdef int _nonzeros(Samples* samples, x, dtype) except -1:
    """Set and check the addresses of a `SparseRows`: a wrong one would be followed anywhere."""
    cdef const int64_t[::1] starts = x.row_starts
    cdef const int32_t[::1] columns = x.columns
    cdef Py_ssize_t i, k, end, n_values = len(x.values)
    cdef int64_t previous
    if (x.shape[1] != samples.n_inputs or len(starts) != samples.n_rows + 1
            or len(columns) != n_values or starts[0] != 0 or samples.n_rows == 0
            or x.values.dtype != dtype or not x.values.flags.c_contiguous):
        raise ValueError("the sparse rows do not fit the network or each other")
    for i in range(samples.n_rows):
        end = starts[i + 1]
        if end < starts[i] or end > n_values:
            raise ValueError("the sparse rows do not follow each other")
        previous = -1
        for k in range(starts[i], end):
            if columns[k] <= previous or columns[k] >= samples.n_inputs:
                raise ValueError("the columns of a sparse row do not ascend within bounds")
            previous = columns[k]
    samples.format = NONZEROS
    samples.next_item = 0
    samples.x = address(x.values)
    samples.x_stride = 0
    samples.row_starts = &starts[0]
    samples.columns = &columns[0] if n_values else NULL
    return 0


cdef int _foreign(Samples* samples, array) except -1:
    """Set the address of a matrix of any dtype, and how its elements are to be read."""
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] != samples.n_inputs:
        raise ValueError(f"expected (samples, {samples.n_inputs}), got {array.shape}")
    samples.element, samples.swapped = element(array.dtype)
    samples.x = address(array)
    samples.x_stride, samples.column_stride = array.strides
    samples.next_item = array.itemsize if samples.column_stride == array.itemsize else 0
    samples.format = FOREIGN
    return 0


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


cdef Py_ssize_t rows_room(
    const KernelTable* kernels, Format format, Py_ssize_t n_rows, Py_ssize_t n_inputs
):
    cdef Py_ssize_t words = n_rows * n_words_of(kernels, n_inputs)
    cdef Py_ssize_t room = 7 * Arena.room(n_rows * sizeof(double))
    if format == FOREIGN:
        room += Arena.room(n_rows * converted_stride(kernels, n_inputs))
    if format == NONZEROS:
        room += Arena.room(words * sizeof(uint32_t))
    return room + Arena.room(words * sizeof(uint64_t))


cdef Py_ssize_t converted_stride(const KernelTable* kernels, Py_ssize_t n_inputs):
    # An odd number of cache lines: a column of rows visits all cache sets.
    cdef Py_ssize_t lines = ceil_div(n_inputs * <Py_ssize_t> kernels.item_size, CACHE_LINE)
    return (lines | 1) * CACHE_LINE


cdef BatchRows take_rows(
    Arena arena, const KernelTable* kernels, Format format, Py_ssize_t n_rows, Py_ssize_t n_inputs
):
    cdef BatchRows rows
    rows.x = <const void**> address(arena.take(n_rows, np.intp))
    rows.next_x = <const void**> address(arena.take(n_rows, np.intp))
    rows.values = <const void**> address(arena.take(n_rows, np.intp))
    rows.labels = <int32_t*> address(arena.take(n_rows, np.int32))
    rows.scale = <double*> address(arena.take(n_rows, np.float64))
    rows.loss = <double*> address(arena.take(n_rows, np.float64))
    rows.hit = <double*> address(arena.take(n_rows, np.float64))
    rows.n_words = n_words_of(kernels, n_inputs)
    rows.converted = NULL
    rows.converted_stride = converted_stride(kernels, n_inputs)
    rows.nonzeros = NULL
    rows.nonzero_starts = NULL
    if format == FOREIGN:
        rows.converted = address(arena.take(n_rows * rows.converted_stride, np.uint8))
    if format == NONZEROS:
        rows.nonzero_starts = <uint32_t*> address(arena.take(n_rows * rows.n_words, np.uint32))
    if format == NONZEROS or n_inputs >= SPARSE_INPUTS:
        rows.nonzeros = <uint64_t*> address(arena.take(n_rows * rows.n_words, np.uint64))
    return rows


cdef void rows_from(const BatchRows* all_rows, Py_ssize_t row, BatchRows* rows) noexcept nogil:
    rows.x = all_rows.x + row
    rows.next_x = all_rows.next_x + row
    rows.values = all_rows.values + row
    rows.labels = all_rows.labels + row
    rows.scale = all_rows.scale + row
    rows.loss = all_rows.loss + row
    rows.hit = all_rows.hit + row
    rows.n_words = all_rows.n_words
    rows.converted_stride = all_rows.converted_stride
    rows.converted = NULL
    rows.nonzero_starts = NULL
    rows.nonzeros = NULL
    if all_rows.converted != NULL:
        rows.converted = all_rows.converted + row * rows.converted_stride
    if all_rows.nonzero_starts != NULL:
        rows.nonzero_starts = all_rows.nonzero_starts + row * rows.n_words
    if all_rows.nonzeros != NULL:
        rows.nonzeros = all_rows.nonzeros + row * rows.n_words
