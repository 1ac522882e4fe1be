"""Samples in users' memory, the rows of a batch that point to them, and memory for the rest."""

from libc.stdint cimport int32_t, int64_t

from cymlp._kernels cimport Targets


# All samples of a training set. Strides are in bytes.
cdef struct Samples:
    Py_ssize_t n_rows
    const char* x
    Py_ssize_t x_stride
    const int32_t* labels           # NULL where values are given
    const char* values
    Py_ssize_t values_stride
    const double* weight            # NULL: all 1
    const int64_t* order            # NULL: as they stand


# Per row of a batch, or of a chunk of rows in inference.
cdef struct BatchRows:
    const void** x                  # where its inputs stand
    const void** values             # where its target values stand
    int32_t* labels
    double* scale                   # its share of the batch's average
    double* loss
    double* hit


cdef inline Py_ssize_t sample(const Samples* samples, Py_ssize_t index) noexcept nogil:
    return samples.order[index] if samples.order != NULL else index


cdef inline double weight_at(const Samples* samples, Py_ssize_t index) noexcept nogil:
    return samples.weight[sample(samples, index)] if samples.weight != NULL else 1


cdef inline const void* row_of(const Samples* samples, Py_ssize_t index) noexcept nogil:
    return samples.x + sample(samples, index) * samples.x_stride


# The sum of the weights of n_rows samples, always taken in the same order.
cdef double total_weight(
    const Samples* samples, Py_ssize_t first, Py_ssize_t n_rows) noexcept nogil

# Points the rows from `start` to before `stop` to the samples from first + start on.
cdef void gather(
    const Samples* samples, Py_ssize_t first, Py_ssize_t start, Py_ssize_t stop,
    const BatchRows* rows) noexcept nogil

# The targets of gathered rows, from `row` on.
cdef Targets targets_from(
    const Samples* samples, const BatchRows* rows, Py_ssize_t row) noexcept nogil

# Fills `samples` with the addresses of arrays, all of which are checked here. The caller keeps
# the arrays alive.
cdef int describe(
    Samples* samples, x, labels, values, weight, order, dtype, Py_ssize_t n_inputs,
    Py_ssize_t n_outputs) except -1

cdef char* address(array)


# One block of zeroed memory that arrays are taken from.
cdef class Arena:
    cdef object memory
    cdef Py_ssize_t used

    @staticmethod
    cdef Py_ssize_t room(Py_ssize_t n_bytes)

    cdef object take(self, shape, dtype)


# Room in an arena for the arrays of n_rows rows, and their laying out.
cdef Py_ssize_t rows_room(Py_ssize_t n_rows)
cdef BatchRows take_rows(Arena arena, Py_ssize_t n_rows)
