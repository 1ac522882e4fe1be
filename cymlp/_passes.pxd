"""Rows of a batch through all operations of a network, there and back."""

from libc.stdint cimport uint64_t

from cymlp._batch cimport Arena, BatchRows, Format, Samples
from cymlp._dense cimport Inputs, Norms
from cymlp._kernels cimport Step
from cymlp._ops cimport Mode, Op, Tensor
from cymlp._program cimport Program


cdef enum:
    # Bytes between what one thread writes again and again and what others use: two cache lines
    # that are fetched together, and what is fetched in advance by a thread that reads a long array.
    APART = 128
    FAR_APART = 16384


# What the threads of a team share while they train. Thread 0 changes it, and all but `stop` only
# where the others stand before a barrier and do not read them.
cdef struct Run:
    Samples samples
    Py_ssize_t batch_size
    Py_ssize_t first                # of the current batch's samples
    int optimizer
    bint fused                      # updates move the parameters at once: see _is_fused
    Py_ssize_t slice_rows           # of a batch, in memory at once
    double first_layer_cost         # see first_layer_cost; the same for all batches of a run
    bint by_units                   # threads have units of the first layer of their own
    Mode mode                       # but for its key
    bint of_targets                 # the way back begins with the targets, as deltas
    Step step
    double pause_at                 # when to return to Python
    bint pause                      # return to Python after this batch
    bint every_batch                # always do
    bint stop                       # an exception is set, at any moment: drop this batch
    bint[2] agreed                  # `stop` as of the last two barriers: see agree_to_stop
    int cpu                         # thread 0's, which the others are to leave; -1: they stay
    uint64_t denormals              # thread 0's setting before training
    bint by_count                   # batches count by their samples instead of their weights
    Py_ssize_t steps_before         # the optimizer had taken
    char[APART] apart               # thread 0 alone uses what follows
    double unclocked                # operations since the last look at the clock
    double next_look                # when to look for signals
    bint late                       # pause_at had passed by the last look at the clock
    double loss, penalty, hits, weight  # sums over the finished batches; see by_count
    double share                    # what a weight of the current batch is multiplied by for that


# A batch on its way. Each thread has it in hand for itself.
cdef struct Batch:
    Py_ssize_t first                # of its samples
    Py_ssize_t n_rows
    double weight                   # of its samples together
    Mode mode
    Py_ssize_t judged_from          # first of the samples that tell whether to leave zeros out
    bint without_zeros
    Inputs inputs                   # of operations that read samples
    const BatchRows* rows
    Tensor* tensors                 # per operation
    bint has_sums                   # forward_units has taken its rows through the first layer


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
    cdef bint workspace_by_units
    # Of a batch and, where threads have units of their own, the next one, in turns. Of the second
    # one's tensors only the outputs of the first operation are others.
    cdef BatchRows[2] rows
    cdef Tensor* tensors            # per operation, twice
    cdef Norms* norms               # per operation as many as op_norms says, item by item
    cdef char* scratch
    cdef Py_ssize_t scratch_bytes

    cdef Py_ssize_t _sparse_units(self) noexcept nogil
    cdef bint _uses_batches(self, const Run* run) noexcept nogil
    cdef void _gather(
        self, const Run* run, const Batch* batch, int thread, int team) noexcept nogil
    cdef void _forward_units(
        self, const Batch* batch, int thread, int team) noexcept nogil
    cdef void _rows(
        self, Run* run, const Batch* batch, Py_ssize_t start, Py_ssize_t n_rows, int thread,
        int team, int* turn
    ) noexcept nogil
    cdef bint _norm_sums(
        self, Run* run, const Batch* batch, Py_ssize_t k, Py_ssize_t n_rows, bint forward,
        int thread, int team, int* turn
    ) noexcept nogil
    cdef void _forward(
        self, Run* run, const Batch* batch, Py_ssize_t row, Py_ssize_t row_number,
        Py_ssize_t n_rows, Py_ssize_t begin, Py_ssize_t stop, int thread
    ) noexcept nogil
    cdef void _loss(
        self, Run* run, const Batch* batch, Py_ssize_t first, Py_ssize_t row, Py_ssize_t n_rows
    ) noexcept nogil
    cdef void _take_targets(
        self, Run* run, const Batch* batch, Py_ssize_t first, Py_ssize_t row, Py_ssize_t n_rows
    ) noexcept nogil
    cdef void _backward(
        self, Run* run, const Batch* batch, Py_ssize_t row, Py_ssize_t n_rows,
        Py_ssize_t batch_rows, Py_ssize_t stop, Py_ssize_t begin, int thread
    ) noexcept nogil
    cdef Inputs _inputs_of(self, const Op* op, const Batch* batch) noexcept nogil
    cdef void _scale(
        self, const Samples* samples, const Batch* batch, Py_ssize_t first, Py_ssize_t row,
        Py_ssize_t n_rows
    ) noexcept nogil
    cdef bint _is_due(self, Run* run, double flops) noexcept nogil
    cdef void _look(
        self, Run* run, int thread, double n_rows, const Op* op
    ) noexcept nogil
    cdef _take_outputs(self, Arena arena, Py_ssize_t tensor, Py_ssize_t n_rows)
    cdef _need_workspace(self, Py_ssize_t n_rows, int team, Format format, bint by_units)
