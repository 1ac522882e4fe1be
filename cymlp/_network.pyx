"""A network program with its training: a batch step, an epoch.

Two barriers a step are enough at any depth. First each thread takes its own rows of the batch
through forward pass, loss and delta propagation; after a barrier the threads share out the blocks
of all weight matrices and move each by the gradient that they sum up for it. Every sum is taken by
one thread in a fixed order: results do not depend on the number of threads.

A batch so large that this could not be interrupted in time is taken in slices of rows, whose
gradients are summed in memory. Until they are complete, and the optimizer takes them all at once,
the batch can be dropped and the network is as the last one left it.

Batches of a single sample are too short for all this: one call of a kernel trains on many of them.
"""

import os

import numpy as np

from cython.parallel cimport parallel, threadid

from libc.math cimport INFINITY, isfinite, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from cymlp._batch cimport (
    REALS, Arena, BatchRows, Described, Format, Samples, address, first_layer_cost, gather,
    inputs_of, rows_room, take_rows, total_weight, weight_at)
from cymlp._dense cimport (
    Dense, Inputs, Norms, Parameters, all_inputs, ceil_div, dense_apply_item, dense_constrain,
    dense_gradient_squares, dense_item_norms, dense_transpose, dense_update_item, inputs_from,
    keeps_gradient, n_items, padded_size, penalty_of, scratch_size)
from cymlp._kernels cimport (
    CYMLP_ACCUMULATE, CYMLP_ADAM, CYMLP_AMSGRAD, CYMLP_GRADIENT, CYMLP_N_SLOTS, CYMLP_NADAM,
    CYMLP_SGD, RowLayer, RowNetwork, RowSamples, Step, Sums, cymlp_correct_nadam,
    cymlp_correct_step, cymlp_nadam_momentum, cymlp_nadam_product, optimizer_step)
from cymlp._ops cimport (
    OP_BATCH_NORM, OP_DENSE, OP_DROPOUT, OP_LAYER_NORM, PYTHON_ACTIVATION, SAMPLES, Mode, Op,
    Tensor, has_norm, item_parameters, kept_at, norm_apply, norm_backward_sums,
    norm_forward_sums, norm_gradient_squares, norm_move_averages, norm_scratch_size, norm_update,
    op_activation_backward, op_forward, op_items, op_propagate, row_at, uses_batch)
from cymlp._program cimport (
    CHUNK_ROWS, Program, cymlp_flush_denormals, cymlp_restore_denormals, propagate,
    raise_pending_signal, share)
from cymlp._threads cimport (
    STRETCH, TeamWatch, cymlp_barrier, cymlp_cpu, cymlp_leave_cpu, cymlp_now, cymlp_team_size,
    end_stretch, is_trial, stretch_seconds, team_of, threads_for, watch_for)

cdef extern from "shuffle.h" nogil:
    void cymlp_shuffle(size_t n, uint64_t key0, uint64_t key1, int64_t* order__n)

cdef extern from "schedule.h" nogil:
    enum:
        CYMLP_CONSTANT
        CYMLP_STEP_DECAY
        CYMLP_EXPONENTIAL_DECAY
        CYMLP_POLYNOMIAL_DECAY
        CYMLP_INVERSE_SCALING
        CYMLP_COSINE_DECAY
        CYMLP_COSINE_DECAY_RESTARTS
        CYMLP_ONE_CYCLE

    ctypedef struct Schedule "cymlp_schedule":
        int kind
        double rate, end_rate, n_steps, factor, power, stretch, start_rate, peak_step
        double warmup_steps, warmup_factor

    double cymlp_learning_rate(const Schedule* schedule, double step)

SCHEDULES = {
    "constant": CYMLP_CONSTANT,
    "step_decay": CYMLP_STEP_DECAY,
    "exponential_decay": CYMLP_EXPONENTIAL_DECAY,
    "polynomial_decay": CYMLP_POLYNOMIAL_DECAY,
    "inverse_scaling": CYMLP_INVERSE_SCALING,
    "cosine_decay": CYMLP_COSINE_DECAY,
    "cosine_decay_restarts": CYMLP_COSINE_DECAY_RESTARTS,
    "one_cycle": CYMLP_ONE_CYCLE,
}

# Seconds between two looks at pending signals.
cdef double LOOK_EVERY = 0.03
# Operations between two looks at the clock, and what to count for the overhead of a call.
cdef double CLOCK_FLOPS = 2e6
cdef double CALL_FLOPS = 1e3
# Operations of a step per parameter below which a team is not even tried: in each step a thread has
# to fetch what the others have made of their parameters.
cdef double FETCH_FLOPS = 40
# The rows of a batch that take as long to sum up as an optimizer takes to move a parameter.
cdef double OPTIMIZER_ROWS = 20
# Operations and rows of an update that may be fused with its optimizer; it cannot be dropped then.
cdef double FUSED_FLOPS = 5e9
cdef Py_ssize_t FUSED_ROWS = 16384
# Rows of a batch that are in memory at once where the update is not fused.
cdef Py_ssize_t SLICE_ROWS = 4096


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
    double loss, hits, weight       # sums over the finished batches
    Py_ssize_t steps_before         # the optimizer had taken


cdef enum:
    MOST_ENDED = 64


# The epochs of a call. Those that one thread ends without the GIL are noted here meanwhile: taking
# it after each would have threads that train small networks side by side wait for each other.
cdef struct Epochs:
    Py_ssize_t left
    int64_t* order                  # NULL: samples are visited as they stand
    uint64_t[2] key                 # of the next order
    int n_ended
    double[MOST_ENDED] losses, accuracies


cdef void begin_epoch(Epochs* epochs, Run* run) noexcept nogil:
    if epochs.order != NULL:
        cymlp_shuffle(run.samples.n_rows, epochs.key[0], epochs.key[1], epochs.order)
    epochs.key[1] += 1
    epochs.left -= 1
    run.samples.order = epochs.order
    run.first = 0
    run.loss = run.hits = run.weight = 0


# How the items of an update are shared out: each thread has a run of them, of nearly equal cost. A
# run stays with its thread from step to step, and in the cache of its core.
cdef struct Shares:
    int team
    const Op* first_layer
    double first_cost, cost         # per parameter, of the first layer and of the others
    double before, total            # cost of the items that have been given away, and of all


cdef inline int owner(Shares* shares, const Op* op, Py_ssize_t index) noexcept nogil:
    """The thread that updates an item; asked for all items in turn."""
    cdef double cost, middle
    if shares.team == 1:
        return 0
    cost = item_parameters(op, index)
    cost *= shares.first_cost if op == shares.first_layer else shares.cost
    middle = shares.before + cost / 2
    shares.before += cost
    return min(shares.team - 1, <int> (middle * shares.team / shares.total))


cdef void wait_for_team(int team) noexcept nogil:
    # A barrier binds to the innermost team, and a thread alone may stand in somebody else's: in a
    # signal handler that trains a network while another one is being trained.
    if team > 1:
        cymlp_barrier()


cdef bint agree_to_stop(Run* run, int thread, int team, int* turn) noexcept nogil:
    """Wait for the team; return the same answer to all, whether to drop the batch.

    `stop` itself may change before a slow thread has read it. The two places are used in turn: one
    is written again only after another barrier.
    """
    turn[0] ^= 1
    if thread == 0:
        run.agreed[turn[0]] = run.stop
    wait_for_team(team)
    return run.agreed[turn[0]]


def shuffled(Py_ssize_t n_samples, shuffle):
    """Return the order in which `Network.train` visits samples for the key of an epoch."""
    cdef uint64_t key0, key1
    key0, key1 = shuffle
    order = np.empty(n_samples, np.int64)
    cymlp_shuffle(n_samples, key0, key1, <int64_t*> address(order))
    return order


cdef Schedule schedule_of(dict fields):
    """A schedule from the fields that it has."""
    names = (
        "rate", "end_rate", "n_steps", "factor", "power", "stretch", "start_rate", "peak_step",
        "warmup_steps", "warmup_factor")
    cdef Schedule out = {**dict.fromkeys(names, 0.0), "n_steps": 1.0, **fields}
    return out


def scheduled(fields, Py_ssize_t step):
    """Return the learning rate with which `Network.train` takes a step, counted from 0.

    The fields are those of `cymlp_schedule`.
    """
    cdef Schedule schedule = schedule_of(fields)
    return cymlp_learning_rate(&schedule, <double> step)


cdef class Network(Program):
    """A program that can be trained; `Sequential` is its public face.

    Parameters
    ----------
    n_inputs : int
    ops : list of dict
    dtype : {"float32", "float64"}
    key : tuple of int, default=(0, 0)
        See `Program`.
    """

    cdef readonly Py_ssize_t iteration  # optimizer steps taken
    cdef object owner               # process in which a call trains the network, 0: none does
    cdef readonly int team          # threads that the last stretch of training was given

    cdef int optimizer
    cdef Step settings              # the optimizer's, before the corrections of a step
    cdef bint is_steady             # all steps have the same scalars
    cdef Schedule schedule
    cdef double rate_decay          # Adagrad's
    cdef double momentum_decay      # NAdam's, with the product of its momenta ...
    cdef double momentum_product
    cdef Py_ssize_t product_steps   # ... over so many steps
    cdef double clip_norm           # of each array; infinity: none
    cdef double clip_global_norm    # of all arrays
    cdef bint keeps_average         # of the parameters
    cdef double* gradient_squares   # per item of the update

    cdef object workspace           # the arena that everything below points into
    cdef Py_ssize_t workspace_rows
    cdef int workspace_team
    cdef Format workspace_format
    cdef BatchRows rows
    cdef Tensor* tensors            # per operation
    cdef double n_parameters
    cdef Norms* norms               # per item of the update
    cdef bint is_plain              # dense layers alone, one on the other: see _train_by_rows
    cdef bint has_constraints
    cdef bint has_frozen_norms
    cdef char* scratch
    cdef Py_ssize_t scratch_bytes
    cdef RowLayer* row_layers
    cdef bint transposes_are_old    # steps by rows have left the transposed kernels behind
    cdef Py_ssize_t diverged_step   # see divergence; 0: none
    cdef Py_ssize_t diverged_layer

    def __cinit__(self, Py_ssize_t n_inputs, list ops, dtype, key=(0, 0)):
        cdef Py_ssize_t k, index
        cdef const Op* op
        self.iteration = 0
        self.owner = 0
        cdef Py_ssize_t count = 0
        self.is_plain = True
        for k in range(self.n_ops):
            op = &self.ops[k]
            count += op_items(op)
            for index in range(op_items(op)):
                self.n_parameters += item_parameters(op, index)
            self.is_plain = self.is_plain and is_plain(op, k)
            self.has_constraints |= op.dense.max_norm > 0
            self.has_frozen_norms |= op.kind == OP_BATCH_NORM and op.norm.is_frozen
        self.tensors = <Tensor*> calloc(self.n_ops, sizeof(Tensor))
        self.row_layers = <RowLayer*> calloc(self.n_ops, sizeof(RowLayer))
        self.gradient_squares = <double*> calloc(count, sizeof(double))
        if self.tensors == NULL or self.row_layers == NULL or self.gradient_squares == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.tensors)
        free(self.row_layers)
        free(self.gradient_squares)

    def set_all(self, names, values):
        """Overwrite arrays, given as (operation, name) and value; see `Program.set`."""
        self._enter()
        try:
            for (op, name), value in zip(names, values, strict=True):
                self.set(op, name, value)
        finally:
            self.owner = 0

    def compile(self, loss, output_activation, int optimizer, int n_slots, settings,
                accuracy_threshold, *, double loss_parameter=0, double loss_smoothing=0,
                loss_unit=None, loss_function=None):
        """Set what training does, with new optimizer slots of zeros.

        Parameters
        ----------
        loss : int or None
            A code; None: see `loss_function`.
        output_activation : int or None
            The code of what the loss is taken of: the identity for one that reads logits. None:
            what the last operation ends with.
        optimizer : int
            A code.
        n_slots : int
            Arrays that the optimizer keeps per parameter, 0 to 3.
        settings : dict
            Of the optimizer. ``step``: fields of `cymlp_step`; ``schedule``: fields of
            `cymlp_schedule`; and where they are not off: ``slot_values``, what the slots begin
            with, by their number; ``rate_decay``, ``momentum_decay``, ``clip_norm``,
            ``clip_global_norm``, ``average_decay``.
        accuracy_threshold : float or None
            What a single output is compared with; None: accuracy is not computed.
        loss_parameter, loss_smoothing : float
        loss_unit : array-like of shape (outputs,), or None
            What `cymlp_loss_settings` holds.
        loss_function : callable(y_true, y_pred), optional
            Instead of a kernel: returns losses, float64, and derivatives, of the network's dtype.
        """
        cdef Py_ssize_t k
        cdef int s
        cdef Parameters* parameters
        average_decay = settings.get("average_decay")
        kinds = [f"slot{s}" for s in range(n_slots)]
        if average_decay is not None:
            kinds.append("average")
        names = [[f"{name}_{kind}" for kind in kinds for name in self._trained(k)]
                 for k in range(self.n_ops)]
        self._enter()
        try:
            slots = self._new_arrays(names)  # before anything changes: it may fail
            for s, value in settings.get("slot_values", {}).items():
                for arrays in slots:
                    for name in arrays:
                        if name.endswith(f"_slot{s}"):
                            arrays[name][...] = value
            self._set_loss(loss, loss_parameter, loss_smoothing, loss_unit, loss_function)
            self.output_activation = (
                self.ops[self.n_ops - 1].activation if output_activation is None
                else output_activation)
            self.optimizer = optimizer
            self.schedule = schedule_of(settings["schedule"])
            self.settings = optimizer_step(settings["step"])
            self.settings.learning_rate = self.schedule.rate
            self.settings.average_decay = average_decay or 0.0
            self.keeps_average = average_decay is not None
            self.rate_decay = settings.get("rate_decay", 0.0)
            self.momentum_decay = settings.get("momentum_decay", 0.0)
            self.clip_norm = settings.get("clip_norm", INFINITY)
            self.clip_global_norm = settings.get("clip_global_norm", INFINITY)
            self.product_steps = -1
            self.is_steady = not (
                self._has_schedule() or self.rate_decay > 0 or self.keeps_average
                or optimizer in (CYMLP_ADAM, CYMLP_AMSGRAD, CYMLP_NADAM))
            self.wants_accuracy = accuracy_threshold is not None
            self.accuracy_threshold = accuracy_threshold or 0.0
            self.iteration = 0
            for k in range(self.n_ops):
                for name in self._trained(k):
                    parameters = self._parameters(k, name)
                    for s in range(CYMLP_N_SLOTS):
                        parameters.slots[s] = NULL
                    for s in range(n_slots):
                        parameters.slots[s] = address(slots[k][f"{name}_slot{s}"])
                    parameters.average = NULL
                    if self.keeps_average:
                        parameters.average = address(slots[k][f"{name}_average"])
                for name in [name for name in self.arrays[k] if is_optimizers(name)]:
                    del self.arrays[k][name]
                self.arrays[k].update(slots[k])
        finally:
            self.owner = 0

    def restore_iteration(self, Py_ssize_t iteration):
        """Set the number of optimizer steps taken."""
        self.iteration = iteration

    def set_learning_rate(self, double rate):
        """Take all steps from the next one on with this learning rate."""
        self.schedule = schedule_of({"kind": CYMLP_CONSTANT, "rate": rate})
        self.settings.learning_rate = rate

    cdef bint _has_schedule(self) noexcept nogil:
        return self.schedule.kind != CYMLP_CONSTANT or self.schedule.warmup_steps > 0

    cdef int _enter(self) except -1:
        # A child that was forked in the middle of training is not itself in it.
        if self.owner == os.getpid():
            raise RuntimeError("the network is being trained by another call")
        self.owner = os.getpid()
        return 0

    # Training

    @property
    def divergence(self):
        """Where the last training's loss was first not finite, as (step, layer); None: nowhere.

        The optimizer's step, counted from 1 since `compile`, and the first layer with an output
        that was not finite, from 0; the number of layers where only the loss was not, and -1 where
        no outputs were kept: the step is then the last one of those among which it was.
        """
        return (self.diverged_step, self.diverged_layer) if self.diverged_step else None

    def describe(self, x, labels, values, weight):
        """Return samples as `train` takes them; they are checked here and never again.

        Parameters
        ----------
        x : ndarray of shape (samples, inputs), or SparseRows
        labels : ndarray of shape (samples,), int32, or None
        values : ndarray of shape (samples, outputs) of the dtype, columns contiguous, or None
        weight : ndarray of shape (samples,), float64, or None
        """
        return Described(
            x, labels, values, weight, self.dtype, self.n_inputs, self.n_outputs,
            self.input_scale)

    def train(self, Described samples not None, Py_ssize_t batch_size, list results not None, *,
              Py_ssize_t n_epochs=1, shuffle=None, tick=None, bint every_batch=False,
              int n_threads=0):
        """Train for some epochs, each of which visits every sample once.

        Parameters
        ----------
        samples : Described
            What `describe` made of them, of this network or one of the same shape.
        batch_size : int
        results : list
            After each epoch its averages (loss, accuracy) are appended.
        n_epochs : int
        shuffle : tuple of int, optional
            The `_random.key` of the first epoch's order; without it, samples are visited as they
            stand.
        tick : callable(samples_done, loss, accuracy), optional
            Called about every 30 ms, and at the end of an epoch. Where it returns true, the epoch
            ends.
        every_batch : bool
            Whether `tick` is called after each batch instead.
        n_threads : int
            At most so many, 0 for the default; here and in the methods below.

        Notes
        -----
        When a signal handler or `tick` raises, the network stands as the last finished step left
        it.
        """
        cdef Epochs epochs
        epochs.left, epochs.order, epochs.n_ended = n_epochs, NULL, 0
        epochs.key[0] = epochs.key[1] = 0
        if shuffle is not None:
            epochs.key[0], epochs.key[1] = shuffle
            array = np.empty(samples.samples.n_rows, np.int64)
            epochs.order = <int64_t*> address(array)
        self._enter()
        self.diverged_step = 0
        try:
            while epochs.left > 0:
                results.append(
                    self._run(
                        samples, &epochs, batch_size, self.optimizer, True, tick, every_batch,
                        n_threads, False, False, results))
        finally:
            self.owner = 0
            self.is_stale = True

    def gradients(self, Described samples not None, bint training, int n_threads=0):
        """Return (loss, accuracy, gradients) of all samples as one batch; nothing moves.

        The gradients are those of all trained parameters, by (operation, name).
        """
        cdef Py_ssize_t k
        self._enter()
        try:
            loss, accuracy = self._run(
                samples, NULL, samples.samples.n_rows, CYMLP_GRADIENT, training, None, False,
                n_threads)
            return loss, accuracy, {
                (k, name): self.get(k, f"{name}_gradient")
                for k in range(self.n_ops) for name in self._trained(k)}
        finally:
            self.owner = 0

    def input_gradients(self, Described samples not None, bint of_targets, int n_threads=0):
        """Return the derivatives by the inputs, for each sample on its own; nothing moves.

        Parameters
        ----------
        samples : Described
        of_targets : bool
            Whether they are those of the sum over the outputs of target * output, which is linear,
            rather than those of the loss.
        n_threads : int

        Returns
        -------
        ndarray of shape (samples, inputs)
        """
        cdef Py_ssize_t b, n_rows = samples.samples.n_rows, item = self.dtype.itemsize
        cdef const Op* op = &self.ops[0]
        cdef int output_activation = self.output_activation
        cdef Py_ssize_t n_bytes = op.n_units * item
        cdef char* rows
        if n_rows > SLICE_ROWS:
            raise ValueError(f"at most {SLICE_ROWS} samples, got {n_rows}")
        self._enter()
        try:
            if of_targets:
                self.output_activation = self.ops[self.n_ops - 1].activation
            self._run(
                samples, NULL, n_rows, CYMLP_GRADIENT, False, None, False, n_threads,
                reaches_inputs=True, of_targets=of_targets)
            deltas = np.empty((n_rows, op.n_units), self.dtype)
            rows = address(deltas)
            for b in range(n_rows):
                memcpy(rows + b * n_bytes, row_at(self.kernels, op, self.tensors[0].delta, b),
                       n_bytes)
        finally:
            self.output_activation = output_activation
            self.owner = 0
        if op.kind == OP_DENSE:  # which has no transposed kernel, since nothing is below it
            deltas = deltas @ self.get(0, "kernel").T
        return deltas * self.dtype.type(self.input_scale)

    def apply_gradients(self, names, gradients):
        """Take one optimizer step with gradients given as (operation, name) and value."""
        cdef Run run
        cdef Run* shared = &run
        cdef uint64_t denormals
        self._enter()
        try:
            self._need_gradients()
            for (op, name), gradient in zip(names, gradients, strict=True):
                self.set(op, f"{name}_gradient", gradient)
            run.optimizer = self.optimizer
            run.first_layer_cost = 1
            run.mode.training = False
            run.step = self._step(self.iteration + 1)
            with nogil:
                denormals = cymlp_flush_denormals()
                self._apply_gradients(shared, 0, 0, 1)
                if self.has_constraints:
                    self._constrain(0, 1)
                cymlp_restore_denormals(denormals)
            self.iteration += 1
        finally:
            self.owner = 0
            self.is_stale = True

    cdef _need_gradients(self):
        """Make room for gradients, once; the caller has entered."""
        cdef Py_ssize_t k
        trained = [self._trained(k) for k in range(self.n_ops)]
        if all(f"{name}_gradient" in self.arrays[k]
               for k, names in enumerate(trained) for name in names):
            return
        gradients = self._new_arrays([[f"{name}_gradient" for name in names] for names in trained])
        for k in range(self.n_ops):
            for name in trained[k]:
                self._parameters(k, name).gradient = address(gradients[k][f"{name}_gradient"])
            self.arrays[k].update(gradients[k])

    cdef Step _step(self, Py_ssize_t count) noexcept nogil:
        """The scalars of a step, counted from 1."""
        cdef Step step = self.settings
        if self.is_steady:  # most corrections are powers: as slow as a small step
            return step
        if self._has_schedule():
            step.learning_rate = cymlp_learning_rate(&self.schedule, count - 1)
        step.learning_rate /= 1 + (count - 1) * self.rate_decay
        if count == 1:
            step.average_decay = 0
        if self.optimizer == CYMLP_NADAM:
            cymlp_correct_nadam(&step, count, self.momentum_decay, self._momentum_product(count))
        elif self.optimizer == CYMLP_ADAM or self.optimizer == CYMLP_AMSGRAD:
            cymlp_correct_step(&step, count)
        return step

    cdef double _momentum_product(self, Py_ssize_t count) noexcept nogil:
        """The product of NAdam's momenta, taken in the same order however it comes to `count`."""
        cdef double beta_1 = self.settings.beta_1
        if self.product_steps == count - 1:
            self.momentum_product *= cymlp_nadam_momentum(beta_1, self.momentum_decay, count)
        elif self.product_steps != count:
            self.momentum_product = cymlp_nadam_product(beta_1, self.momentum_decay, count)
        self.product_steps = count
        return self.momentum_product

    cdef bint _goes_by_rows(self, const Run* run) noexcept nogil:
        """Whether `train_rows` can take the steps, of which it knows the plain ones alone."""
        return (self.is_plain and not self.calls_loss and run.fused and run.batch_size == 1
                and run.samples.format == REALS and CYMLP_SGD <= run.optimizer <= CYMLP_ADAM and not self._has_schedule()
                and not self.keeps_average and self.settings.clip_value == INFINITY)

    cdef _run(self, Described samples, Epochs* epochs, Py_ssize_t batch_size,
              int optimizer, bint training, tick, bint every_batch, int asked,
              bint reaches_inputs=False, bint of_targets=False, list results=None):
        """Visit every sample once; return the averages of loss and accuracy.

        Where there are epochs, the next one of them is begun. If nobody looks between them, more
        of them may follow: the averages of all but the last one are appended to the results.
        """
        cdef Run run
        cdef Run* shared = &run
        cdef int team, n_threads
        cdef bint by_rows, goes_on
        cdef int i
        cdef TeamWatch* watch
        cdef double flops, began
        cdef Py_ssize_t before, steps = 0
        if (samples.samples.n_inputs != self.n_inputs
                or samples.n_outputs != self.n_outputs or samples.dtype != self.dtype):
            raise ValueError("the samples were described for another network")
        run.samples = samples.samples
        run.samples.order = NULL
        run.batch_size = min(batch_size, run.samples.n_rows)
        run.first = 0
        run.optimizer = optimizer
        run.mode.training = training
        run.mode.reaches_inputs, run.of_targets = reaches_inputs, of_targets
        run.stop = False
        run.unclocked = 0
        run.loss = run.hits = run.weight = 0
        if epochs != NULL:
            with nogil:
                begin_epoch(epochs, shared)
        run.every_batch = every_batch
        run.steps_before = self.iteration
        run.first_layer_cost = first_layer_cost(
            self.kernels, &run.samples, 0, run.samples.n_rows, self._sparse_units())
        run.fused = self._is_fused(shared)
        run.slice_rows = run.batch_size
        if not run.fused:
            if not self._uses_batches(shared):
                run.slice_rows = min(run.batch_size, SLICE_ROWS)
            self._need_gradients()
        if not training or self.has_frozen_norms:
            self._refresh()
        flops = self._step_flops(shared)
        team = 1
        if flops > FETCH_FLOPS * self.n_parameters and not (
                self.calls_activations or self.calls_loss):
            team = threads_for(flops, asked)
        self._need_workspace(run.slice_rows, team, run.samples.format)
        by_rows = self._goes_by_rows(shared)
        if by_rows:
            self.transposes_are_old = True
        elif self.transposes_are_old:
            self._renew_transposes()
        while run.first < run.samples.n_rows:
            run.pause = run.late = False
            before = run.first
            steps = self.iteration
            watch = watch_for(team, flops, self.n_parameters) if team > 1 else NULL
            n_threads = self.team = team_of(watch) if watch != NULL else 1
            run.cpu = cymlp_cpu() if watch != NULL and is_trial(watch) else -1
            goes_on = epochs != NULL and tick is None and watch == NULL
            began = cymlp_now()
            run.next_look = began + LOOK_EVERY
            run.pause_at = began + (stretch_seconds(watch) if watch != NULL else STRETCH)
            if n_threads == 1:
                with nogil:
                    self._train_alone(shared, by_rows, steps)
                    while (goes_on and epochs.left > 0 and run.first == run.samples.n_rows
                            and not run.late and epochs.n_ended < MOST_ENDED):
                        epochs.losses[epochs.n_ended] = run.loss / (run.weight or 1)
                        epochs.accuracies[epochs.n_ended] = run.hits / (run.weight or 1)
                        epochs.n_ended += 1
                        steps += ceil_div(run.first - before, run.batch_size)
                        run.steps_before = steps
                        before = 0
                        begin_epoch(epochs, shared)
                        self._train_alone(shared, by_rows, steps)
            else:
                with nogil, parallel(num_threads=n_threads):
                    self._train(shared, steps, threadid(), cymlp_team_size())
            if watch != NULL:
                end_stretch(watch, run.first - before, cymlp_now() - began)
            if optimizer != CYMLP_GRADIENT:
                self.iteration = steps + ceil_div(run.first - before, run.batch_size)
            if epochs != NULL:
                for i in range(epochs.n_ended):
                    results.append((epochs.losses[i], epochs.accuracies[i]))
                epochs.n_ended = 0
            propagate(run.stop or raise_pending_signal() < 0)
            if tick is not None and tick(
                    run.first, run.loss / (run.weight or 1), run.hits / (run.weight or 1)):
                break
        return run.loss / (run.weight or 1), run.hits / (run.weight or 1)

    cdef void _train_alone(self, Run* run, bint by_rows, Py_ssize_t steps) noexcept nogil:
        if by_rows:
            self._train_by_rows(run, steps)
        else:
            self._train(run, steps, 0, 1)

    cdef double _step_flops(self, const Run* run) noexcept nogil:
        """Operations of a step, but for the zeros that are left out."""
        cdef double first = 6 * run.batch_size * <double> self.n_inputs * self._sparse_units()
        return 3 * self._flops_per_row() * run.batch_size - (1 - run.first_layer_cost) * first

    cdef bint _is_fused(self, const Run* run) noexcept nogil:
        # One answer for all batches of a run: the workspace is laid out for it.
        return (run.optimizer != CYMLP_GRADIENT and not self._clips_norms()
                and run.batch_size <= FUSED_ROWS
                and self._flops_per_row() * run.batch_size <= FUSED_FLOPS)

    cdef void _train(self, Run* run, Py_ssize_t steps, int thread, int team) noexcept nogil:
        """Train until the samples or the time run out; every thread of a team calls it."""
        cdef Py_ssize_t first, n_rows
        cdef double weight
        cdef int turn = 0
        cdef uint64_t denormals = cymlp_flush_denormals()
        if thread == 0:
            run.denormals = denormals
        elif run.cpu >= 0:
            cymlp_leave_cpu(run.cpu, thread)
        while run.first < run.samples.n_rows and not run.pause:
            first = run.first
            n_rows = min(run.batch_size, run.samples.n_rows - first)
            # Derivatives by inputs are those of each sample on its own.
            weight = 1 if run.mode.reaches_inputs else total_weight(&run.samples, first, n_rows)
            steps += 1
            if thread == 0:
                run.step = self._step(steps)
            if self._gradient_or_step(run, steps, n_rows, weight, thread, team, &turn):
                break
            if run.optimizer != CYMLP_GRADIENT:
                if not run.fused:
                    self._apply_gradients(run, n_rows, thread, team)
                if self.has_constraints:
                    wait_for_team(team)
                    self._constrain(thread, team)
            if thread == 0:
                run.first = first + n_rows
                self._is_due(run, 0)
                run.pause = run.late or run.every_batch
            wait_for_team(team)
            if thread == 0:  # now that every thread has left its sums of squares
                run.loss += weight * self._penalty(weight)
                if self._diverges(run):  # by the penalty alone: see _count
                    self.diverged_step, self.diverged_layer = steps, self.n_ops
                run.weight += weight
        cymlp_restore_denormals(denormals)

    cdef void _train_by_rows(self, Run* run, Py_ssize_t steps) noexcept nogil:
        """Like `_train`, a step for each sample; leaves the transposed kernels as they are."""
        cdef RowSamples samples
        cdef RowNetwork network
        cdef Sums sums
        cdef Py_ssize_t n_rows
        cdef double flops = 3 * self._flops_per_row() + CALL_FLOPS
        cdef Py_ssize_t most = 1 if run.every_batch else 1 + <Py_ssize_t> (CLOCK_FLOPS / flops)
        cdef uint64_t denormals = cymlp_flush_denormals()
        self._describe_rows(run, &samples, &network)
        while run.first < run.samples.n_rows and not run.pause:
            n_rows = min(most, run.samples.n_rows - run.first)
            sums.loss, sums.hits, sums.weight = run.loss, run.hits, run.weight
            self.kernels.train_rows(&network, &samples, run.first, n_rows, steps, &sums)
            run.loss, run.hits, run.weight = sums.loss, sums.hits, sums.weight
            run.first += n_rows
            steps += n_rows
            if self._diverges(run):
                self.diverged_step, self.diverged_layer = steps, -1
            self._is_due(run, n_rows * flops)
            run.pause = run.late or run.every_batch
        cymlp_restore_denormals(denormals)

    cdef void _describe_rows(
        self, const Run* run, RowSamples* samples, RowNetwork* network
    ) noexcept nogil:
        cdef Py_ssize_t i
        cdef int s
        cdef const Op* op
        cdef const Dense* layer
        cdef RowLayer* row
        samples.x, samples.x_stride = run.samples.x, run.samples.x_stride
        samples.labels = run.samples.labels
        samples.values, samples.values_stride = run.samples.values, run.samples.values_stride
        samples.weight = run.samples.weight
        samples.order = run.samples.order
        for i in range(self.n_ops):
            op, layer, row = &self.ops[i], &self.ops[i].dense, &self.row_layers[i]
            row.n_inputs, row.n_units = layer.n_inputs, layer.n_units
            row.is_narrow, row.activation = layer.is_narrow, self._activation(i)
            row.alpha = op.alpha
            row.l2, row.l2_per_weight = layer.kernel_penalty.l2, layer.kernel_penalty.per_batch
            row.kernel.values, row.bias.values = layer.kernel.values, layer.bias.values
            for s in range(CYMLP_N_SLOTS):
                row.kernel.slots[s], row.bias.slots[s] = layer.kernel.slots[s], layer.bias.slots[s]
            row.y__o, row.delta__o = self.tensors[i].y, self.tensors[i].delta
        network.n_layers, network.layers = self.n_ops, self.row_layers
        network.loss, network.loss_settings = self.loss, self.loss_settings
        network.optimizer, network.step = run.optimizer, self.settings
        network.wants_accuracy = self.wants_accuracy
        network.accuracy_threshold = self.accuracy_threshold

    cdef _renew_transposes(self):
        cdef Py_ssize_t i
        with nogil:
            for i in range(self.n_ops):
                dense_transpose(&self.ops[i].dense)
        self.transposes_are_old = False

    cdef bint _gradient_or_step(
        self, Run* run, Py_ssize_t step, Py_ssize_t n_rows, double weight, int thread, int team,
        int* turn
    ) noexcept nogil:
        """Take a batch as far as its gradient or, if that is fused, through the whole step.

        Returns whether the batch is to be dropped; the parameters have then not been touched.
        """
        cdef bint fused = run.fused
        cdef Py_ssize_t slice_rows = run.slice_rows
        cdef Py_ssize_t s, start, count, tile = self.kernels.tile_rows
        cdef int optimizer = run.optimizer
        cdef Mode mode = run.mode
        cdef Inputs inputs = inputs_of(
            self.kernels, &run.samples, run.first, n_rows, self._sparse_units(), &self.rows)
        mode.key[0], mode.key[1] = self.key[0], self.key[1] + <uint64_t> step
        for s in range(ceil_div(n_rows, slice_rows)):
            start = s * slice_rows
            count = min(slice_rows, n_rows - start)
            if not fused:
                optimizer = CYMLP_GRADIENT if s == 0 else CYMLP_ACCUMULATE
            self._rows(run, &mode, &inputs, start, count, weight, thread, team, turn)
            if agree_to_stop(run, thread, team, turn):
                return True
            if not mode.reaches_inputs:
                self._update(run, &mode, &inputs, count, weight, optimizer, thread, team)
            if thread == 0:
                self._count(run, run.first + start, count)
            if not fused and agree_to_stop(run, thread, team, turn):
                return True
        return False

    cdef bint _is_due(self, Run* run, double flops) noexcept nogil:
        """Whether to look for signals after so many operations more; for thread 0 alone."""
        cdef double now
        run.unclocked += flops + CALL_FLOPS
        if run.unclocked < CLOCK_FLOPS:
            return False
        run.unclocked = 0
        now = cymlp_now()
        run.late = now > run.pause_at
        return now > run.next_look

    cdef void _look(
        self, Run* run, int thread, double n_rows, const Op* op
    ) noexcept nogil:
        """Let a pending signal raise in the thread that called from Python, if it is time to.

        The arguments tell the work since the last call: some rows taken through an operation.
        """
        if thread != 0 or run.stop:
            return
        if self._is_due(run, 2 * n_rows * op.n_inputs * op.n_units):
            # Signal handlers are Python and expect ordinary arithmetic.
            cymlp_restore_denormals(run.denormals)
            with gil:
                run.stop = raise_pending_signal() < 0
            cymlp_flush_denormals()
            run.next_look = cymlp_now() + LOOK_EVERY

    cdef void _update(
        self, Run* run, const Mode* mode, const Inputs* inputs, Py_ssize_t n_rows, double weight,
        int optimizer, int thread, int team
    ) noexcept nogil:
        """Bring this thread's items of all operations up to date with some rows of the batch."""
        cdef Py_ssize_t k, index, item = 0
        cdef const Op* op
        cdef Inputs below
        cdef char* scratch = self.scratch + thread * self.scratch_bytes
        cdef Shares shares = self._shares(run, n_rows, team)
        cdef Norms unused
        for k in range(self.n_ops):
            op = &self.ops[k]
            if op.kind == OP_DENSE:
                below = self._inputs_of(op, inputs)
            for index in range(op_items(op)):
                if owner(&shares, op, index) == thread and not run.stop:
                    if not op.is_trainable and not keeps_gradient(optimizer):
                        if op.kind == OP_DENSE:
                            dense_item_norms(&op.dense, index, &self.norms[item])
                    elif op.kind == OP_DENSE:
                        # Slices after the first one do not see the parameters any more.
                        dense_update_item(
                            &op.dense, index, n_rows, below, self.tensors[k].delta, op.stride,
                            weight, optimizer, &run.step, scratch,
                            &unused if optimizer == CYMLP_ACCUMULATE else &self.norms[item])
                    else:
                        norm_update(
                            self.kernels, self.ops, self.tensors, k, index, n_rows, optimizer,
                            &run.step, mode, scratch)
                    if keeps_gradient(optimizer):  # else the batch cannot be dropped any more
                        self._look(run, thread, <double> n_rows / op_items(op), op)
                item += 1

    cdef void _apply_gradients(
        self, Run* run, Py_ssize_t n_rows, int thread, int team
    ) noexcept nogil:
        """Move this thread's items of all operations by the gradients in memory."""
        cdef Py_ssize_t k, index, count, item = 0
        cdef const Op* op
        cdef Step step = run.step
        cdef Shares shares
        cdef double scale = 1
        if self._clips_norms():
            self._leave_squares(run, thread, team)
            wait_for_team(team)
            scale = self._global_scale()
        shares = self._shares(run, 0, team)
        for k in range(self.n_ops):
            op = &self.ops[k]
            count = op_items(op)
            for index in range(count):
                if index == 0:  # kernel or gamma
                    step.gradient_scale = scale * self._array_scale(item, count - 1)
                if index == count - 1:  # bias or beta
                    step.gradient_scale = scale * self._array_scale(item + count - 1, 1)
                if owner(&shares, op, index) != thread or not op.is_trainable:
                    continue
                if op.kind == OP_DENSE:
                    dense_apply_item(&op.dense, index, run.optimizer, &step)
                    continue
                norm_apply(self.kernels, op, index, run.optimizer, &step)
                if index == 0 and uses_batch(op, &run.mode):
                    norm_move_averages(self.kernels, op, &self.tensors[k], n_rows)
            item += count

    cdef void _constrain(self, int thread, int team) noexcept nogil:
        cdef Py_ssize_t k
        for k in range(self.n_ops):
            if self.ops[k].dense.max_norm > 0 and self.ops[k].is_trainable:
                dense_constrain(&self.ops[k].dense, thread, team)

    cdef bint _clips_norms(self) noexcept nogil:
        return self.clip_norm < INFINITY or self.clip_global_norm < INFINITY

    cdef void _leave_squares(self, const Run* run, int thread, int team) noexcept nogil:
        """Leave the squares of this thread's gradients where all threads add them, in order."""
        cdef Py_ssize_t k, index, item = 0
        cdef const Op* op
        cdef Shares shares = self._shares(run, 0, team)
        for k in range(self.n_ops):
            op = &self.ops[k]
            for index in range(op_items(op)):
                if owner(&shares, op, index) == thread:
                    if not op.is_trainable:
                        self.gradient_squares[item] = 0
                    elif op.kind == OP_DENSE:
                        self.gradient_squares[item] = dense_gradient_squares(&op.dense, index)
                    else:
                        self.gradient_squares[item] = norm_gradient_squares(
                            self.kernels, op, index)
                item += 1

    cdef double _norm(self, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
        """The norm of some items' gradient."""
        cdef Py_ssize_t item
        cdef double squares = 0
        for item in range(first, first + count):
            squares += self.gradient_squares[item]
        return sqrt(squares)

    cdef double _global_scale(self) noexcept nogil:
        """What the whole gradient is multiplied by; a NaN for one that holds a NaN."""
        cdef Py_ssize_t k, count = 0
        cdef double scale
        if not self.clip_global_norm < INFINITY:
            return 1
        for k in range(self.n_ops):
            count += op_items(&self.ops[k])
        scale = self.clip_global_norm / (self._norm(0, count) + 1e-6)
        return 1 if scale > 1 else scale

    cdef double _array_scale(self, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
        """What the gradient of an array, of so many items, is multiplied by."""
        cdef double norm
        if not self.clip_norm < INFINITY:
            return 1
        norm = self._norm(first, count)
        return 1 if norm <= self.clip_norm else self.clip_norm / norm

    cdef Shares _shares(self, const Run* run, Py_ssize_t n_rows, int team) noexcept nogil:
        """How a team shares out an update of n_rows rows, from the first item on."""
        cdef Shares shares
        cdef double first = (self.n_inputs + 1.0) * self._sparse_units()
        shares.team = team
        shares.first_layer = &self.ops[0]
        shares.first_cost = n_rows * run.first_layer_cost + OPTIMIZER_ROWS
        shares.cost = n_rows + OPTIMIZER_ROWS
        shares.before = 0
        shares.total = first * shares.first_cost + (self.n_parameters - first) * shares.cost
        return shares

    cdef inline Py_ssize_t _sparse_units(self) noexcept nogil:
        """The units of the layer that reads samples where they stand, if there is one."""
        return self.ops[0].n_units if self.ops[0].kind == OP_DENSE else 0

    cdef bint _uses_batches(self, const Run* run) noexcept nogil:
        cdef Py_ssize_t k
        for k in range(self.n_ops):
            if uses_batch(&self.ops[k], &run.mode):
                return True
        return False

    cdef void _rows(
        self, Run* run, const Mode* mode, const Inputs* inputs, Py_ssize_t start,
        Py_ssize_t n_rows, double weight, int thread, int team, int* turn
    ) noexcept nogil:
        """Take this thread's part of some rows through forward pass, loss and delta propagation.

        A norm that wants to have seen all rows cuts the way in two, forward and back. If it ends
        early the batch will be dropped.
        """
        cdef Py_ssize_t tile = self.kernels.tile_rows, chunk, row, count, stop
        cdef Py_ssize_t first = share(n_rows, tile, thread, team)
        cdef Py_ssize_t end = share(n_rows, tile, thread + 1, team)
        cdef Py_ssize_t begin = 0
        while True:
            stop = begin + 1 if begin > 0 else 0
            while stop < self.n_ops and not uses_batch(&self.ops[stop], mode):
                stop += 1
            for chunk in range(ceil_div(end - first, CHUNK_ROWS)):
                row = first + chunk * CHUNK_ROWS
                count = min(CHUNK_ROWS, end - row)
                if begin == 0:
                    gather(
                        self.kernels, &run.samples, run.first + start, row, row + count,
                        &self.rows, inputs, run.batch_size)
                self._forward(run, mode, inputs, row, start + row, count, begin, stop, thread)
                if stop == self.n_ops and not run.stop:
                    self._loss(run, run.first + start, row, count, weight)
                    if not run.stop:
                        self._backward(run, mode, row, count, n_rows, stop, begin, thread)
                if run.stop:
                    break
            if stop == self.n_ops:
                break
            if self._norm_sums(run, stop, n_rows, True, thread, team, turn):
                return
            begin = stop
        while begin > 0:
            if self._norm_sums(run, begin, n_rows, False, thread, team, turn):
                return
            stop, begin = begin, begin - 1
            while begin > 0 and not uses_batch(&self.ops[begin], mode):
                begin -= 1
            for chunk in range(ceil_div(end - first, CHUNK_ROWS)):
                row = first + chunk * CHUNK_ROWS
                count = min(CHUNK_ROWS, end - row)
                op_propagate(
                    self.kernels, self.ops, self.tensors, stop, row, count, n_rows, mode)
                self._backward(run, mode, row, count, n_rows, stop, begin, thread)
                if run.stop:
                    break

    cdef bint _norm_sums(
        self, Run* run, Py_ssize_t k, Py_ssize_t n_rows, bint forward, int thread, int team,
        int* turn
    ) noexcept nogil:
        """Sum this thread's columns of a norm up; return whether the batch is to be dropped."""
        cdef Py_ssize_t lanes = self.kernels.lanes, n = padded_size(self.ops[k].n_units, lanes)
        cdef Py_ssize_t first = share(n, lanes, thread, team)
        cdef Py_ssize_t stop = share(n, lanes, thread + 1, team)
        if agree_to_stop(run, thread, team, turn):
            return True
        if forward:
            norm_forward_sums(self.kernels, self.ops, self.tensors, k, first, stop, n_rows)
        else:
            norm_backward_sums(self.kernels, self.ops, self.tensors, k, first, stop, n_rows)
        return agree_to_stop(run, thread, team, turn)

    cdef void _forward(
        self, Run* run, const Mode* mode, const Inputs* inputs, Py_ssize_t row,
        Py_ssize_t row_number, Py_ssize_t n_rows, Py_ssize_t begin, Py_ssize_t stop, int thread
    ) noexcept nogil:
        """Take rows through the operations from `begin` to before `stop`."""
        cdef Py_ssize_t k
        cdef const Op* op
        cdef Inputs below
        for k in range(begin, stop):
            op = &self.ops[k]
            below = inputs_from(self._inputs_of(op, inputs), row)
            op_forward(
                self.kernels, self.ops, self.tensors, k, below, self._activation(k), row,
                row_number, n_rows, mode)
            if self._activation(k) == PYTHON_ACTIVATION:
                run.stop |= self._call_activation(
                    k, False, n_rows, kept_at(self.kernels, self.ops, self.tensors, k, row), op.stride,
                    row_at(self.kernels, op, self.tensors[k].y, row), op.stride, run.denormals)
            self._look(run, thread, n_rows, op)
            if run.stop:
                return

    cdef void _loss(
        self, Run* run, Py_ssize_t first, Py_ssize_t row, Py_ssize_t n_rows, double weight
    ) noexcept nogil:
        cdef Py_ssize_t last = self.n_ops - 1
        cdef const Op* op = &self.ops[last]
        if run.of_targets:
            self._take_targets(run, first, row, n_rows)
            return
        self._scale(&run.samples, first, row, n_rows, weight)
        run.stop |= self._losses(
            &run.samples, &self.rows, row, n_rows,
            row_at(self.kernels, op, self.tensors[last].y, row), op.stride,
            row_at(self.kernels, op, self.tensors[last].delta, row), op.stride, run.denormals)

    cdef void _take_targets(
        self, Run* run, Py_ssize_t first, Py_ssize_t row, Py_ssize_t n_rows
    ) noexcept nogil:
        cdef Py_ssize_t b, last = self.n_ops - 1
        cdef const Op* op = &self.ops[last]
        cdef const Samples* samples = &run.samples
        for b in range(n_rows):
            memcpy(
                row_at(self.kernels, op, self.tensors[last].delta, row + b),
                samples.values + (first + row + b) * samples.values_stride,
                op.n_units * <Py_ssize_t> self.kernels.item_size)

    cdef void _backward(
        self, Run* run, const Mode* mode, Py_ssize_t row, Py_ssize_t n_rows,
        Py_ssize_t batch_rows, Py_ssize_t stop, Py_ssize_t begin, int thread
    ) noexcept nogil:
        """Take deltas through the operations from before `stop` down to `begin`.

        There they stop before that operation itself, whose activation they have passed.
        """
        cdef Py_ssize_t k
        for k in range(stop - 1, begin - 1, -1):
            if self._activation(k) == PYTHON_ACTIVATION:
                run.stop |= self._call_activation(
                    k, True, n_rows, kept_at(self.kernels, self.ops, self.tensors, k, row),
                    self.ops[k].stride,
                    row_at(self.kernels, &self.ops[k], self.tensors[k].delta, row),
                    self.ops[k].stride, run.denormals)
            else:
                op_activation_backward(
                    self.kernels, self.ops, self.tensors, k, self._activation(k), row, n_rows)
            if k > begin or k == 0:
                op_propagate(
                    self.kernels, self.ops, self.tensors, k, row, n_rows, batch_rows, mode)
            if k == 0:
                return
            self._look(run, thread, n_rows, &self.ops[k])
            if run.stop:
                return

    cdef inline Inputs _inputs_of(self, const Op* op, const Inputs* inputs) noexcept nogil:
        """An operation's inputs, where `inputs` are those that read samples."""
        if op.source == SAMPLES:
            return inputs[0]
        return all_inputs(self.tensors[op.source].y_rows, self.ops[op.source].stride)

    cdef void _scale(
        self, const Samples* samples, Py_ssize_t first, Py_ssize_t row, Py_ssize_t n_rows,
        double weight
    ) noexcept nogil:
        """Each row's share of the batch's average; 0 in a batch without any weight."""
        cdef Py_ssize_t b
        cdef double equal_share = 1 / weight if weight > 0 else 0
        if samples.weight == NULL or weight <= 0:
            for b in range(row, row + n_rows):
                self.rows.scale[b] = equal_share
            return
        for b in range(row, row + n_rows):
            self.rows.scale[b] = weight_at(samples, first + b) / weight

    cdef void _count(self, Run* run, Py_ssize_t first, Py_ssize_t n_rows) noexcept nogil:
        """Add the rows' losses and hits to the epoch's, in their order."""
        cdef Py_ssize_t b
        cdef double weight
        for b in range(n_rows):
            weight = weight_at(&run.samples, first + b)
            run.loss += weight * self.rows.loss[b]
            if self.wants_accuracy:
                run.hits += weight * self.rows.hit[b]
        if self._diverges(run):  # the outputs are still in memory
            self.diverged_step = run.steps_before + run.first // run.batch_size + 1
            self.diverged_layer = self._first_not_finite(n_rows)

    cdef inline bint _diverges(self, const Run* run) noexcept nogil:
        """Whether the sum of the losses is not finite for the first time; for thread 0 alone."""
        return not (isfinite(run.loss) or self.diverged_step or run.optimizer == CYMLP_GRADIENT)

    cdef Py_ssize_t _first_not_finite(self, Py_ssize_t n_rows) noexcept nogil:
        """The first operation with an output that is not finite; their number if none has."""
        cdef Py_ssize_t k, b
        for k in range(self.n_ops):
            for b in range(n_rows):
                if not self.kernels.all_finite(
                        self.ops[k].n_units,
                        row_at(self.kernels, &self.ops[k], self.tensors[k].y, b)):
                    return k
        return self.n_ops

    cdef double _penalty(self, double batch_weight) noexcept nogil:
        """The penalty of the parameters before the update, from the norms that its items left."""
        cdef Py_ssize_t k, index, last, item = 0
        cdef const Op* op
        cdef double penalty = 0
        cdef Norms of_kernel
        for k in range(self.n_ops):
            op = &self.ops[k]
            if op.kind == OP_DENSE:
                last = n_items(&op.dense) - 1
                of_kernel.absolutes = of_kernel.squares = 0
                for index in range(last):
                    of_kernel.absolutes += self.norms[item + index].absolutes
                    of_kernel.squares += self.norms[item + index].squares
                penalty += penalty_of(&op.dense.kernel_penalty, &of_kernel, batch_weight)
                penalty += penalty_of(
                    &op.dense.bias_penalty, &self.norms[item + last], batch_weight)
            item += op_items(op)
        return penalty

    cdef _need_workspace(self, Py_ssize_t n_rows, int team, Format format):
        """Lay out the memory of a batch in one arena; nothing is allocated after that."""
        if (n_rows <= self.workspace_rows and team <= self.workspace_team
                and format == self.workspace_format):
            return
        cdef Py_ssize_t k, b, item = self.dtype.itemsize
        cdef const Op* op
        cdef Tensor* own
        n_rows = max(n_rows, self.workspace_rows)
        team = max(team, self.workspace_team)
        count = sum([op_items(&self.ops[k]) for k in range(self.n_ops)])
        scratch_bytes = scratch_size(self.kernels, n_rows)
        total = rows_room(self.kernels, format, n_rows, self.n_inputs) + Arena.room(16 * count)
        for k in range(self.n_ops):
            op = &self.ops[k]
            total += (3 * Arena.room(n_rows * op.stride * item) + 2 * Arena.room(8 * n_rows)
                      + Arena.room(n_rows * item) + 5 * Arena.room(op.stride * item))
            if has_norm(op):
                scratch_bytes = max(scratch_bytes, norm_scratch_size(self.kernels, op))
        scratch_bytes = Arena.room(scratch_bytes)
        cdef Arena arena = Arena(total + Arena.room(scratch_bytes * team))
        self.workspace_rows = 0  # until all is laid out
        self.workspace = arena
        for k in range(self.n_ops):
            op, own = &self.ops[k], &self.tensors[k]
            shape = (n_rows, op.stride)
            own.y = address(arena.take(shape, self.dtype))
            own.delta = address(arena.take(shape, self.dtype))
            if op.kind == OP_DROPOUT or has_norm(op) or op.keeps_z:
                own.kept = address(arena.take(shape, self.dtype))
            if op.kind == OP_LAYER_NORM:
                own.row_std = address(arena.take(n_rows, self.dtype))
            if op.kind == OP_BATCH_NORM:
                own.moments.mean = address(arena.take(op.stride, self.dtype))
                own.moments.variance = address(arena.take(op.stride, self.dtype))
                own.moments.inverse_std = address(arena.take(op.stride, self.dtype))
                own.moments.sum = address(arena.take(op.stride, self.dtype))
                own.moments.dot = address(arena.take(op.stride, self.dtype))
            own.y_rows = <const void**> address(arena.take(n_rows, np.intp))
            own.delta_rows = <const void**> address(arena.take(n_rows, np.intp))
            for b in range(n_rows):
                own.y_rows[b] = row_at(self.kernels, op, own.y, b)
                own.delta_rows[b] = row_at(self.kernels, op, own.delta, b)
        self.rows = take_rows(arena, self.kernels, format, n_rows, self.n_inputs)
        self.norms = <Norms*> address(arena.take(2 * count, np.float64))
        self.scratch = address(arena.take(scratch_bytes * team, np.uint8))
        self.scratch_bytes = scratch_bytes
        self.workspace_rows = n_rows
        self.workspace_team = team
        self.workspace_format = format


cdef bint is_optimizers(name):
    """Whether an array is an optimizer's."""
    return "slot" in name or "average" in name


cdef bint is_plain(const Op* op, Py_ssize_t k) noexcept nogil:
    """Whether steps of one row can go through an operation in one call of a kernel."""
    return (op.kind == OP_DENSE and op.source == k - 1 and op.is_trainable and not op.keeps_z
            and op.dense.has_bias and op.dense.rate_factor == 1 and op.dense.max_norm == 0
            and op.dense.kernel_penalty.l1 == 0 and op.dense.bias_penalty.l1 == 0
            and op.dense.bias_penalty.l2 == 0)
