"""The update of a network's parameters, shared out among the threads of a team."""

from cymlp._dense cimport PanelRange
from cymlp._ops cimport Op
from cymlp._passes cimport Batch, Passes, Run
from cymlp._steps cimport Stepper
from cymlp._threads cimport Balance


# A thread's way through all items, from the first one on.
cdef struct Shares:
    const Op* first_layer
    double first_cost, cost         # per parameter, of the first layer and of the others
    double begin, end               # this thread's share of the cost of all items
    double before                   # cost of the items that were asked for
    double mine                     # cost of this thread's parts of them
    bint by_units                   # not counting the first layer, of which it has some units:
    PanelRange units
    double own_units                # how many of all they are


cdef class Updates(Passes):
    cdef Stepper stepper
    cdef double n_parameters
    cdef double* gradient_squares   # per item
    cdef Balance balance            # between the threads of a team
    cdef bint has_constraints

    cdef void _update(
        self, Run* run, const Batch* batch, Py_ssize_t n_rows, int optimizer, int thread, int team
    ) noexcept nogil
    cdef void _apply_gradients(
        self, Run* run, Py_ssize_t n_rows, int thread, int team
    ) noexcept nogil
    cdef void _constrain(self, const Run* run, int thread, int team) noexcept nogil
    cdef void _leave_squares(self, const Run* run, int thread, int team) noexcept nogil
    cdef Py_ssize_t _n_items(self) noexcept nogil
    cdef double _norm(self, Py_ssize_t first, Py_ssize_t count) noexcept nogil
    cdef Shares _shares(
        self, const Run* run, Py_ssize_t n_rows, bint by_units, int thread, int team
    ) noexcept nogil
    cdef void _take_units(
        self, Shares* shares, const Run* run, Py_ssize_t n_rows, int thread, int team
    ) noexcept nogil
    cdef double _penalty(self, double batch_weight) noexcept nogil
    cdef _need_gradients(self)
