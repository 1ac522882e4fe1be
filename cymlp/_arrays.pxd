"""Arrays from outside that kernels can read as they stand."""

from cymlp._kernels cimport KernelTable


# Rows of numbers. The stride is in bytes; a 1-D array is one row.
cdef struct Rows:
    const char* base
    int ndim
    Py_ssize_t n_rows
    Py_ssize_t n_columns
    Py_ssize_t stride


# Whether x is a NumPy array of 1 or 2 dimensions, not empty, of native and aligned numbers of
# item_size bytes, float or double, its columns contiguous; if so, fills `rows`. The caller keeps x
# alive. Subclasses are left to who knows what they mean.
cdef bint look_at(x, Py_ssize_t item_size, Rows* rows) except -1

# Whether a buffer holds floats or doubles, by their size, in the machine's order and alignment.
cdef bint holds_reals(const Py_buffer* view, Py_ssize_t item_size) noexcept

cdef bint are_finite(const KernelTable* kernels, const Rows* rows) noexcept nogil
