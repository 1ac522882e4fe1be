"""Arrays from outside that kernels can read as they stand, and new ones."""

from cymlp._kernels cimport KernelTable


# Fields of an array, read without a call: of NumPy's attributes each costs an object, and a buffer
# a string of its format.
cdef extern from "numpy/ndarraytypes.h" nogil:
    ctypedef struct PyArrayObject:
        pass

    enum:
        NPY_FLOAT
        NPY_DOUBLE
        NPY_ARRAY_WRITEABLE
        NPY_ARRAY_C_CONTIGUOUS

    void* PyArray_DATA(PyArrayObject* array)
    int PyArray_NDIM(PyArrayObject* array)
    Py_ssize_t* PyArray_DIMS(PyArrayObject* array)
    Py_ssize_t* PyArray_STRIDES(PyArrayObject* array)
    int PyArray_TYPE(PyArrayObject* array)
    int PyArray_FLAGS(PyArrayObject* array)
    bint PyArray_ISNOTSWAPPED(PyArrayObject* array)


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

# Whether an array holds floats or doubles, by their size, in the machine's order and alignment.
cdef bint holds_reals(PyArrayObject* array, Py_ssize_t item_size) noexcept

cdef bint are_finite(const KernelTable* kernels, const Rows* rows) noexcept nogil

# A new array of n_rows rows of floats or doubles, by their size, or with `flat` of the one row.
# `numpy.empty` takes twice as long as the outputs of a small network.
cdef object new_rows(Py_ssize_t n_rows, Py_ssize_t n_columns, Py_ssize_t item_size, bint flat)
