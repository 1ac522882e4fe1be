"""Samples in users' memory, the rows of a batch that point to them, and memory for the rest."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from cymlp._dense cimport Inputs
from cymlp._kernels cimport KernelTable, Targets


# How inputs stand in users' memory: as the network's dtype wants them, in any other way, to be
# converted batch by batch, or as nothing but the numbers that are not zero.
cdef enum Format:
    REALS
    FOREIGN
    NONZEROS


# All samples of a training set. Strides are in bytes.
cdef struct Samples:
    Py_ssize_t n_rows
    Py_ssize_t n_inputs
    Format format
    const char* x                   # rows or, with NONZEROS, all values one after the other
    Py_ssize_t x_stride
    int element                     # FOREIGN: a cymlp_element, ...
    bint swapped                    # ... whether in the other byte order, ...
    Py_ssize_t column_stride        # ... from one column to the next, ...
    double scale                    # ... and what a number is multiplied by
    Py_ssize_t next_item            # bytes per input of a row in one piece; 0: in many, or another
    const int64_t* row_starts       # NONZEROS: a row's first value, and one more
    const int32_t* columns          # NONZEROS: of each value, ascending within a row
    const int32_t* labels           # NULL where values are given
    const char* values
    Py_ssize_t values_stride
    const double* weight            # NULL: all 1
    const int64_t* order            # NULL: as they stand


# Per row of a batch, or of a chunk of rows in inference.
cdef struct BatchRows:
    const void** x                  # where its inputs stand
    const void** next_x             # where those of the next batch stand in users' memory
    char* converted                 # room for inputs that are FOREIGN
    Py_ssize_t converted_stride
    uint64_t* nonzeros              # a bit for each of its inputs
    uint32_t* nonzero_starts        # with NONZEROS: see cymlp_nonzeros
    Py_ssize_t n_words
    const void** values             # where its target values stand
    int32_t* labels
    double* scale                   # its share of the batch's average
    double* loss
    double* hit


cdef inline Py_ssize_t sample(const Samples* samples, Py_ssize_t index) noexcept nogil:
    return samples.order[index] if samples.order != NULL else index


cdef inline double weight_at(const Samples* samples, Py_ssize_t index) noexcept nogil:
    return samples.weight[sample(samples, index)] if samples.weight != NULL else 1


# The sum of the weights of n_rows samples, always taken in the same order.
cdef double total_weight(
    const Samples* samples, Py_ssize_t first, Py_ssize_t n_rows) noexcept nogil

# Points the rows from `start` to before `stop` to the samples from first + start on. Inputs that
# are not as the kernels want them are converted; `inputs` tells whether non-zeros are to be found,
# and n_ahead how many samples further on those stand that will be wanted next.
cdef void gather(
    const KernelTable* kernels, const Samples* samples, Py_ssize_t first, Py_ssize_t start,
    Py_ssize_t stop, const BatchRows* rows, const Inputs* inputs,
    Py_ssize_t n_ahead) noexcept nogil

# The share of inputs that are not zero below which a first layer of n_units leaves the zeros of
# n_rows samples out; 0 where it never does.
cdef double most_nonzeros(
    const KernelTable* kernels, const Samples* samples, Py_ssize_t n_rows,
    Py_ssize_t n_units) noexcept nogil

# The time that a first layer of n_units takes for n_rows samples, in units of what it takes to
# multiply all of their inputs: 1 where that is the fastest, less where zeros are to be left out.
# The answer depends on the samples and the layer alone.
cdef double first_layer_cost(
    const KernelTable* kernels, const Samples* samples, Py_ssize_t first, Py_ssize_t n_rows,
    Py_ssize_t n_units) noexcept nogil

# Whether the zeros of such samples are to be left out.
cdef bint leaves_zeros_out(
    const KernelTable* kernels, const Samples* samples, Py_ssize_t first, Py_ssize_t n_rows,
    Py_ssize_t n_units) noexcept nogil

# Where the inputs of samples will stand once they are gathered and, where zeros are left out, which
# of them are not zero.
cdef Inputs inputs_of(
    const Samples* samples, bint without_zeros, const BatchRows* rows) noexcept nogil

# The targets of gathered rows, from `row` on.
cdef Targets targets_from(
    const Samples* samples, const BatchRows* rows, Py_ssize_t row) noexcept nogil

# Fills `samples` with the addresses of arrays, all of which are checked here. The caller keeps
# the arrays alive. Dense inputs are taken times the scale; non-zeros have been multiplied by it.
cdef int describe(
    Samples* samples, x, labels, values, weight, dtype, Py_ssize_t n_inputs,
    Py_ssize_t n_outputs, double scale) except -1

# Says how rows of the network's dtype are read: where they stand or, if the scale is not 1, as
# FOREIGN.
cdef void read_as(Samples* samples, Py_ssize_t item_size, double scale) noexcept nogil


# Samples with the arrays that they stand in, checked once for all epochs. A sparse matrix takes
# longer to check than a small network takes to train on it.
cdef class Described:
    cdef Samples samples
    cdef tuple arrays
    cdef object dtype
    cdef Py_ssize_t n_outputs


cdef char* address(array) except? NULL


# One block of zeroed memory that arrays are taken from.
cdef class Arena:
    cdef object memory
    cdef Py_ssize_t used

    @staticmethod
    cdef Py_ssize_t room(Py_ssize_t n_bytes)

    cdef object take(self, shape, dtype)


# Room in an arena for the arrays of n_rows rows of inputs in a format, and their laying out.
cdef Py_ssize_t rows_room(
    const KernelTable* kernels, Format format, Py_ssize_t n_rows, Py_ssize_t n_inputs)
cdef BatchRows take_rows(
    Arena arena, const KernelTable* kernels, Format format, Py_ssize_t n_rows,
    Py_ssize_t n_inputs)

# The same arrays from a row on.
cdef void rows_from(const BatchRows* all_rows, Py_ssize_t row, BatchRows* rows) noexcept nogil
