"""The update of a network's parameters, shared out among the threads of a team."""

from cymlp._dense cimport Inputs
from cymlp._ops cimport Mode, Op
from cymlp._passes cimport Passes, Run
from cymlp._steps cimport Stepper


# How the items of an update are shared out: each thread has a run of them, of nearly equal cost. A
# run stays with its thread from step to step, and in the cache of its core.
cdef struct Shares:
    int team
    const Op* first_layer
    double first_cost, cost         # per parameter, of the first layer and of the others
    double before, total            # cost of the items that have been given away, and of all


cdef class Updates(Passes):
    cdef Stepper stepper
    cdef double n_parameters
    cdef double* gradient_squares   # per item
    cdef bint has_constraints

    cdef void _update(
        self, Run* run, const Mode* mode, const Inputs* inputs, Py_ssize_t n_rows, double weight,
        int optimizer, int thread, int team
    ) noexcept nogil
    cdef void _apply_gradients(
        self, Run* run, Py_ssize_t n_rows, int thread, int team
    ) noexcept nogil
    cdef void _constrain(self, const Run* run, int thread, int team) noexcept nogil
    cdef void _leave_squares(self, const Run* run, int thread, int team) noexcept nogil
    cdef Py_ssize_t _n_items(self) noexcept nogil
    cdef double _norm(self, Py_ssize_t first, Py_ssize_t count) noexcept nogil
    cdef Shares _shares(self, const Run* run, Py_ssize_t n_rows, int team) noexcept nogil
    cdef double _penalty(self, double batch_weight) noexcept nogil
    cdef _need_gradients(self)
