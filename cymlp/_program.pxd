"""A network program: what training and inference share."""

from libc.stdint cimport uint64_t

from cymlp._batch cimport BatchRows, Samples
from cymlp._dense cimport Dense, ceil_div
from cymlp._kernels cimport KernelTable, LossSettings, Targets

cdef extern from "Python.h":
    # Declared without an exception: where it is called, Cython must not touch the one it sets.
    int raise_pending_signal "PyErr_CheckSignals"()
    void set_exception "PyErr_SetObject"(object kind, object value)

cdef extern from "denormals.h" nogil:
    uint64_t cymlp_flush_denormals()
    void cymlp_restore_denormals(uint64_t before)

cdef enum:
    CACHE_LINE = 64
    # Rows that a thread takes through all layers at once: enough to reuse the weights in cache.
    CHUNK_ROWS = 96


cdef inline Py_ssize_t share(
    Py_ssize_t n, Py_ssize_t unit, int thread, int team
) noexcept nogil:
    """Where the part of `thread` begins when n things are cut into equal runs of whole units."""
    return min(n, ceil_div(n, unit) * thread // team * unit)


cdef inline int propagate(bint raised) except -1:
    """Go on with the exception that a call from C has set, if it has."""
    return -1 if raised else 0


cdef class Program:
    cdef const KernelTable* kernels
    cdef Dense* layers
    cdef Py_ssize_t n_layers
    cdef Py_ssize_t* strides        # elements between the rows of a layer's outputs
    cdef readonly object dtype
    cdef readonly list arrays       # per layer a dict of arrays in panels, by name
    cdef int loss, output_activation
    cdef LossSettings loss_settings
    cdef object loss_unit           # the array that they point into
    cdef object loss_function       # a user's, instead of a kernel; or None
    cdef bint calls_python          # whether there is one
    cdef bint wants_accuracy
    cdef double accuracy_threshold
    cdef list spare                 # memory of inference that no call is using

    cdef Py_ssize_t _stride(self, Py_ssize_t n_units)
    cdef bint _has_transposed(self, Py_ssize_t layer)
    # Per layer a dict of arrays of zeros, all from one new arena. The beginning of a name says
    # whether it has the kernel's layout or the bias's.
    cdef list _new_arrays(self, names, bint transposed=*)
    cdef double _flops_per_row(self) noexcept nogil
    # The activation of a layer before a loss, which may read what the output's would be taken of.
    cdef int _activation(self, Py_ssize_t layer) noexcept nogil
    # Loss, its scaled derivative and, where wanted, accuracy of some rows' outputs. Returns whether
    # an exception has been set, by a function of the user's, which sees denormals as they were.
    cdef bint _losses(
        self, const Samples* samples, const BatchRows* rows, Py_ssize_t row, Py_ssize_t n_rows,
        const char* out, Py_ssize_t out_stride, char* delta, Py_ssize_t delta_stride,
        uint64_t denormals
    ) noexcept nogil
    cdef void _set_loss(
        self, loss, double parameter, double smoothing, unit, function) except *
    cdef bint _function_raises(
        self, const Targets* targets, const BatchRows* rows, Py_ssize_t row, Py_ssize_t n_rows,
        const char* out, Py_ssize_t out_stride, char* delta, Py_ssize_t delta_stride
    ) noexcept with gil
    cdef int _call_function(
        self, const Targets* targets, const BatchRows* rows, Py_ssize_t row, Py_ssize_t n_rows,
        const char* out, Py_ssize_t out_stride, char* delta, Py_ssize_t delta_stride
    ) except -1
