"""Arrays from outside that kernels can read as they stand.

NumPy's own attributes cost a Python object each. The buffer protocol gives all of them at once, in
less time than one of these takes.
"""

import numpy as np

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer)

from cymlp._kernels cimport KernelTable, active_table

# Bytes that are worth handing the GIL over while they are read.
cdef Py_ssize_t RELEASE_BYTES = 1 << 18

cdef object ndarray = np.ndarray


cdef bint look_at(x, Py_ssize_t item_size, Rows* rows) except -1:
    cdef Py_buffer view
    cdef int last
    cdef bint fits
    if type(x) is not ndarray:
        return False
    try:
        PyObject_GetBuffer(x, &view, PyBUF_STRIDES | PyBUF_FORMAT)
    except (BufferError, ValueError):  # a dtype that buffers have no letter for
        return False
    last = view.ndim - 1
    fits = (
        (last == 0 or last == 1) and holds_reals(&view, item_size)
        and view.shape[0] > 0 and view.shape[last] > 0
        and (view.shape[last] == 1 or view.strides[last] == item_size)
        and view.strides[0] % item_size == 0)
    if fits:
        rows.base = <const char*> view.buf
        rows.ndim = view.ndim
        rows.n_rows = view.shape[0] if last == 1 else 1
        rows.n_columns = view.shape[last]
        rows.stride = view.strides[0] if last == 1 else rows.n_columns * item_size
    PyBuffer_Release(&view)
    return fits


cdef bint holds_reals(const Py_buffer* view, Py_ssize_t item_size) noexcept:
    # Where byte order or alignment is another one, a sign stands before the letter.
    return (view.format[0] == (c"f" if item_size == sizeof(float) else c"d")
            and view.format[1] == 0 and <size_t> view.buf % item_size == 0)


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
