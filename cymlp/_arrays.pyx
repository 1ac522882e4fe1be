"""Arrays from outside that kernels can read as they stand, and new ones."""

from cymlp._kernels cimport KernelTable, active_table

cdef extern from "numpy/arrayobject.h":
    int _import_array() except -1
    bint PyArray_CheckExact(x)
    object PyArray_SimpleNew(int ndim, Py_ssize_t* shape, int element)

# Bytes that are worth handing the GIL over while they are read.
cdef Py_ssize_t RELEASE_BYTES = 1 << 18

_import_array()


cdef bint look_at(x, Py_ssize_t item_size, Rows* rows) except -1:
    cdef PyArrayObject* array = <PyArrayObject*> x
    cdef const Py_ssize_t* shape
    cdef const Py_ssize_t* strides
    cdef int last
    if not PyArray_CheckExact(x):
        return False
    shape, strides, last = PyArray_DIMS(array), PyArray_STRIDES(array), PyArray_NDIM(array) - 1
    if not (
            (last == 0 or last == 1) and holds_reals(array, item_size)
            and shape[0] > 0 and shape[last] > 0
            and (shape[last] == 1 or strides[last] == item_size)
            and strides[0] % item_size == 0):
        return False
    rows.base = <const char*> PyArray_DATA(array)
    rows.ndim = last + 1
    rows.n_rows = shape[0] if last == 1 else 1
    rows.n_columns = shape[last]
    rows.stride = strides[0] if last == 1 else rows.n_columns * item_size
    return True


cdef bint holds_reals(PyArrayObject* array, Py_ssize_t item_size) noexcept:
    return (PyArray_TYPE(array) == (NPY_FLOAT if item_size == sizeof(float) else NPY_DOUBLE)
            and PyArray_ISNOTSWAPPED(array) and <size_t> PyArray_DATA(array) % item_size == 0)


def is_plain_matrix(x, dtype, n_columns=None):
    """Whether x is what `_validate.matrix` may return as it stands, finite and not empty.

    Parameters
    ----------
    x : object
    dtype : numpy.dtype
        float32 or float64, native.
    n_columns : int, optional
        Any number by default.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np
    >>> is_plain_matrix(np.ones((2, 3)), np.dtype("float64"), 3)
    True
    >>> is_plain_matrix(np.ones((2, 3)), np.dtype("float32"), 3)
    False
    """
    cdef Py_ssize_t item = dtype.itemsize
    cdef const KernelTable* kernels = active_table(item)
    cdef Rows rows
    cdef Rows* seen = &rows
    cdef bint finite
    if not look_at(x, item, seen) or rows.ndim != 2:
        return False
    if n_columns is not None and rows.n_columns != n_columns:
        return False
    if rows.n_rows * rows.n_columns * item < RELEASE_BYTES:
        return are_finite(kernels, seen)
    with nogil:
        finite = are_finite(kernels, seen)
    return finite


cdef bint are_finite(const KernelTable* kernels, const Rows* rows) noexcept nogil:
    cdef Py_ssize_t row
    if rows.stride == rows.n_columns * <Py_ssize_t> kernels.item_size:
        return kernels.all_finite(rows.n_rows * rows.n_columns, rows.base)
    for row in range(rows.n_rows):
        if not kernels.all_finite(rows.n_columns, rows.base + row * rows.stride):
            return False
    return True


cdef object new_rows(Py_ssize_t n_rows, Py_ssize_t n_columns, Py_ssize_t item_size, bint flat):
    cdef Py_ssize_t[2] shape
    cdef int first = 1 if flat else 0
    shape[0], shape[1] = n_rows, n_columns
    return PyArray_SimpleNew(
        2 - first, &shape[first], NPY_FLOAT if item_size == sizeof(float) else NPY_DOUBLE)
