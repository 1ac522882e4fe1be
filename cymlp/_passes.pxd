"""Rows of a batch through all operations of a network, there and back."""

from libc.stdint cimport uint64_t

from cymlp._batch cimport BatchRows, Format, Samples
from cymlp._dense cimport Inputs, Norms
from cymlp._kernels cimport Step
from cymlp._ops cimport Mode, Op, Tensor
from cymlp._program cimport Program


# What the threads of a team share while they train. Thread 0 changes it, and all but `stop` only
# where the others stand before a barrier and do not read it.
cdef struct Run:
    Samples samples
    Py_ssize_t batch_size
    Py_ssize_t first                # of the current batch's samples
    int optimizer
    bint fused                      # updates move the parameters at once: see _is_fused
    Py_ssize_t slice_rows           # of a batch, in memory at once
    double first_layer_cost         # see first_layer_cost; the same for all batches of a run
    Mode mode
    bint of_targets                 # the way back begins with the targets, as deltas
    Step step
    double unclocked                # operations since the last look at the clock
    double next_look                # when to look for signals
    double pause_at                 # when to return to Python
    bint late                       # that time had passed by the last look at the clock
    bint pause                      # return to Python after this batch
    bint every_batch                # always do
    bint stop                       # an exception is set, at any moment: drop this batch
    bint[2] agreed                  # `stop` as of the last two barriers: see agree_to_stop
    int cpu                         # thread 0's, which the others are to leave; -1: they stay
    uint64_t denormals              # thread 0's setting before training
    double loss, penalty, hits, weight  # sums over the finished batches; see by_count
    bint by_count                   # batches count by their samples instead of their weights
    double share                    # what a weight of the current batch is multiplied by for that
    Py_ssize_t steps_before         # the optimizer had taken


cdef enum:
    # Operations between two looks at the clock, and what to count for the overhead of a call.
    CLOCK_FLOPS = 2_000_000
    CALL_FLOPS = 1_000


cdef inline double next_look(double now) noexcept nogil:
    """When to look for pending signals again."""
    return now + 0.03


# A barrier, where there is a team.
cdef void wait_for_team(int team) noexcept nogil

# Waits for the team; returns the same answer to all, whether to drop the batch.
cdef bint agree_to_stop(Run* run, int thread, int team, int* turn) noexcept nogil


cdef class Passes(Program):
    cdef object workspace           # the arena that everything below points into
    cdef Py_ssize_t workspace_rows
    cdef int workspace_team
    cdef Format workspace_format
    cdef BatchRows rows
    cdef Tensor* tensors            # per operation
    cdef Norms* norms               # per item of the update
    cdef char* scratch
    cdef Py_ssize_t scratch_bytes

    cdef Py_ssize_t _sparse_units(self) noexcept nogil
    cdef bint _uses_batches(self, const Run* run) noexcept nogil
    cdef void _rows(
        self, Run* run, const Mode* mode, const Inputs* inputs, Py_ssize_t start,
        Py_ssize_t n_rows, double weight, int thread, int team, int* turn
    ) noexcept nogil
    cdef bint _norm_sums(
        self, Run* run, Py_ssize_t k, Py_ssize_t n_rows, bint forward, int thread, int team,
        int* turn
    ) noexcept nogil
    cdef void _forward(
        self, Run* run, const Mode* mode, const Inputs* inputs, Py_ssize_t row,
        Py_ssize_t row_number, Py_ssize_t n_rows, Py_ssize_t begin, Py_ssize_t stop, int thread
    ) noexcept nogil
    cdef void _loss(
        self, Run* run, Py_ssize_t first, Py_ssize_t row, Py_ssize_t n_rows, double weight
    ) noexcept nogil
    cdef void _take_targets(
        self, Run* run, Py_ssize_t first, Py_ssize_t row, Py_ssize_t n_rows
    ) noexcept nogil
    cdef void _backward(
        self, Run* run, const Mode* mode, Py_ssize_t row, Py_ssize_t n_rows,
        Py_ssize_t batch_rows, Py_ssize_t stop, Py_ssize_t begin, int thread
    ) noexcept nogil
    cdef Inputs _inputs_of(self, const Op* op, const Inputs* inputs) noexcept nogil
    cdef void _scale(
        self, const Samples* samples, Py_ssize_t first, Py_ssize_t row, Py_ssize_t n_rows,
        double weight
    ) noexcept nogil
    cdef bint _is_due(self, Run* run, double flops) noexcept nogil
    cdef void _look(
        self, Run* run, int thread, double n_rows, const Op* op
    ) noexcept nogil
    cdef _need_workspace(self, Py_ssize_t n_rows, int team, Format format)
