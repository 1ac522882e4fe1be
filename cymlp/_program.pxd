"""A network program: what training and inference share."""

from libc.stdint cimport uint64_t

from cymlp._batch cimport BatchRows, Samples
from cymlp._dense cimport Dense, Parameters, ceil_div
from cymlp._kernels cimport KernelTable, LossSettings, Targets
from cymlp._ops cimport Op

cdef extern from "Python.h":
    void set_exception "PyErr_SetObject"(object kind, object value)

cdef extern from "denormals.h" nogil:
    uint64_t cymlp_flush_denormals()
    void cymlp_restore_denormals(uint64_t before)

cdef enum:
    CACHE_LINE = 64
    # Rows that a thread takes through all operations at once: enough to reuse the weights in cache,
    # and a batch of 200, the default of many, as a whole. (128 to 256 were as fast, 96 slower by 1
    # to 2% on small networks.)
    CHUNK_ROWS = 208


cdef inline Py_ssize_t share(
    Py_ssize_t n, Py_ssize_t unit, int thread, int team
) noexcept nogil:
    """Where the part of `thread` begins when n things are cut into equal runs of whole units."""
    return min(n, ceil_div(n, unit) * thread // team * unit)


# Negative where an exception is set: by a signal's handler, or by what `look_with` was given.
# Declared without an exception: where it is called, Cython must not touch the one it sets.
cdef int raise_pending_signal() noexcept


cdef inline int propagate(bint raised) except -1:
    """Go on with the exception that a call from C has set, if it has."""
    return -1 if raised else 0


# What inference makes of an operation.
cdef struct Inferred:
    bint folds              # OP_BATCH_NORM: into a dense layer below it, where it can
    bint is_passed          # its outputs are those of its source
    Py_ssize_t rows_of      # the operation that makes its outputs: itself, or one below
    Py_ssize_t slot         # of the buffers, which one its outputs are in
    int activation
    bint skips_zeros        # OP_DENSE: looks for those of its source
    Dense* dense            # OP_DENSE: with the batch norm above it, if that is folded into it


cdef class Program:
    cdef const KernelTable* kernels
    cdef Op* ops
    cdef Inferred* inferred
    cdef Dense* folded              # per operation; kernel.values is NULL where nothing is folded
    cdef readonly Py_ssize_t n_inputs
    cdef readonly Py_ssize_t n_ops
    cdef uint64_t[2] key            # of the random numbers of step 0
    cdef Py_ssize_t n_slots         # of inference's buffers, at least 2
    cdef double flops_per_row       # of the dense layers, forward
    cdef readonly object dtype
    cdef public double input_scale  # what inputs are multiplied by on their way in
    cdef readonly list arrays       # per operation a dict of arrays in panels, by name
    cdef list functions             # per operation a user's activation, or None
    cdef bint calls_activations     # whether there is one
    cdef bint is_stale              # what _refresh computes
    cdef int loss, output_activation
    cdef LossSettings loss_settings
    cdef object loss_unit           # the array that they point into
    cdef object loss_function       # a user's, instead of a kernel; or None
    cdef bint calls_loss            # whether there is one
    cdef bint wants_accuracy
    cdef double accuracy_threshold
    cdef list spare                 # memory of inference that no call is using, then None
    cdef Py_ssize_t n_spare

    # Setting up
    cdef _describe(self, Py_ssize_t k, spec)
    cdef _plan_way_back(self)
    cdef _plan_inference(self)
    cdef bint _is_folded(self, Py_ssize_t k, list n_readers)
    cdef list _sources(self, Py_ssize_t k)
    cdef _lay_out(self)
    cdef Py_ssize_t _stride(self, Py_ssize_t n_units)
    cdef bint _has_transposed(self, Py_ssize_t op)
    cdef list _trained(self, Py_ssize_t op)
    cdef bint _is_moved(self, Py_ssize_t op, name)
    cdef Parameters* _parameters(self, Py_ssize_t op, name) except NULL
    # Per operation a dict of arrays of zeros, all from one new arena, where a list of names is
    # given for each. The beginning of a name says which layout it has.
    cdef list _new_arrays(self, list names)
    # The activation of an operation before a loss, which may read what the output's would be taken
    # of.
    cdef int _activation(self, Py_ssize_t op) noexcept nogil
    # A user's activation of n_rows rows, or the product of deltas and its derivative. Returns
    # whether an exception has been set; the functions see denormals as they were.
    cdef bint _call_activation(
        self, Py_ssize_t op, bint derivative, Py_ssize_t n_rows, const char* z,
        Py_ssize_t z_stride, char* out, Py_ssize_t out_stride, uint64_t denormals) noexcept nogil
    cdef bint _activation_raises(
        self, Py_ssize_t op, bint derivative, Py_ssize_t n_rows, const char* z,
        Py_ssize_t z_stride, char* out, Py_ssize_t out_stride) noexcept with gil
    cdef _view(self, Py_ssize_t op, Py_ssize_t n_rows, const char* rows, Py_ssize_t stride)
    # Brings what is derived from the parameters for inference up to date with them.
    cdef _refresh(self)
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
