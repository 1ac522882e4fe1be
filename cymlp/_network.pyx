"""A network program with its training: a batch step, an epoch.

Two barriers a step are enough at any depth. First each thread takes its own rows of the batch
through forward pass, loss and delta propagation; after a barrier the threads share out the blocks
of all weight matrices and move each by the gradient that they sum up for it. Every sum is taken by
one thread in a fixed order: results do not depend on the number of threads.

Where it is faster, each thread has units of the first layer instead, whose weights stay in its
cache: behind the second barrier it moves them and takes the next batch, which has been gathered
before, through them, all rows at once. The first layer's outputs have two places: a slower thread
may still be reading those of the batch before.

A batch so large that this could not be interrupted in time is taken in slices of rows, whose
gradients are summed in memory. Until they are complete, and the optimizer takes them all at once,
the batch can be dropped and the network is as the last one left it.

Batches of a single sample are too short for all this: one call of a kernel trains on many of them.
"""

import os

import numpy as np

from cython.parallel cimport parallel, threadid

from libc.math cimport INFINITY, isfinite
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from cymlp._batch cimport (
    REALS, Described, address, first_layer_cost, inputs_of, leaves_zeros_out, total_weight,
    weight_at)
from cymlp._dense cimport (
    Dense, Parameters, all_panels, ceil_div, columns_of, dense_transpose, panels_of_thread)
from cymlp._kernels cimport (
    CYMLP_ACCUMULATE, CYMLP_ADAM, CYMLP_GRADIENT, CYMLP_MOMENTUM, CYMLP_N_SLOTS, CYMLP_NESTEROV,
    CYMLP_SGD, RowLayer, RowNetwork, RowSamples, Sums)
from cymlp._ops cimport OP_BATCH_NORM, OP_DENSE, Op, row_at
from cymlp._passes cimport (
    CALL_FLOPS, CLOCK_FLOPS, Batch, Run, agree_to_stop, next_look, wait_for_team)
from cymlp._program cimport (
    cymlp_flush_denormals, cymlp_restore_denormals, propagate, raise_pending_signal)
from cymlp._steps cimport clips_norms, has_schedule, set_rate, stepper_of, take_step
from cymlp._threads cimport (
    BY_UNITS, STRETCH, TeamWatch, begin_balance, cymlp_cpu, cymlp_leave_cpu, cymlp_now,
    cymlp_team_size, end_stretch, is_trial, need_balance, rebalance, shares_of, stretch_seconds,
    team_of, threads_for, watch_for)
from cymlp._updates cimport Updates

cdef extern from "shuffle.h" nogil:
    void cymlp_shuffle(size_t n, uint64_t key0, uint64_t key1, int64_t* order__n)

# Operations of a step per parameter below which a team is not even tried: in each step a thread has
# to fetch what the others have made of their parameters.
cdef double FETCH_FLOPS = 40
# Operations and rows of an update that may be fused with its optimizer; it cannot be dropped then.
cdef double FUSED_FLOPS = 5e9
cdef Py_ssize_t FUSED_ROWS = 16384
# Rows of a batch that are in memory at once where the update is not fused.
cdef Py_ssize_t SLICE_ROWS = 4096
# Samples that `deltas` and `input_gradients` take.
MOST_ROWS_BACK = SLICE_ROWS


# Where threads have units of their own: how many times its equal share one of them may have, and
# rows of a batch. In larger ones, of which the next one has to be in memory, too, weights that
# change hands cost little beside what is computed with them.
cdef double UNEVEN_UNITS = 1.15
cdef Py_ssize_t MOST_ROWS_BY_UNITS = 1024
# Batches that are judged together, whether to leave the zeros of their inputs out: to look at some
# of each one's took 2% of a step of 784-128-10, batch 32.
cdef Py_ssize_t JUDGED_TOGETHER = 8

cdef enum:
    MOST_ENDED = 64


# The epochs of a call. Those that one thread ends without the GIL are noted here meanwhile: taking
# it after each would have threads that train small networks side by side wait for each other.
cdef struct Epochs:
    Py_ssize_t left
    int64_t* order                  # of the next epoch; NULL: samples are visited as they stand
    Py_ssize_t next_order           # how far on that of the epoch after it is; 0: where this one is
    bint shuffles                   # each epoch anew
    uint64_t[2] key                 # of the next order
    bint by_count
    int n_ended
    double[MOST_ENDED] losses, accuracies, penalties


cdef void begin_epoch(Epochs* epochs, Run* run) noexcept nogil:
    if epochs.shuffles:
        cymlp_shuffle(run.samples.n_rows, epochs.key[0], epochs.key[1], epochs.order)
    epochs.key[1] += 1
    epochs.left -= 1
    run.samples.order = epochs.order
    epochs.order += epochs.next_order
    run.first = 0
    run.loss = run.penalty = run.hits = run.weight = 0


cdef tuple averages(double loss, double accuracy, double penalty, double weight):
    """What an epoch reports, from sums."""
    weight = weight or 1
    return loss / weight, accuracy / weight, penalty / weight


def shuffled(Py_ssize_t n_samples, shuffle):
    """Return the order in which `Network.train` visits samples for the key of an epoch."""
    cdef uint64_t key0, key1
    key0, key1 = shuffle
    order = np.empty(n_samples, np.int64)
    cymlp_shuffle(n_samples, key0, key1, <int64_t*> address(order))
    return order


cdef class Network(Updates):
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
    cdef readonly bint by_units     # whether they had units of the first layer of their own
    cdef bint is_plain              # dense layers alone, one on the other: see _train_by_rows
    cdef bint has_frozen_norms
    cdef RowLayer* row_layers
    cdef bint transposes_are_old    # steps by rows have left the transposed kernels behind
    cdef Py_ssize_t diverged_step   # see divergence; 0: none
    cdef Py_ssize_t diverged_layer

    def __cinit__(self, Py_ssize_t n_inputs, list ops, dtype, key=(0, 0)):
        cdef Py_ssize_t k
        cdef const Op* op
        self.iteration = 0
        self.owner = 0
        self.is_plain = True
        for k in range(self.n_ops):
            op = &self.ops[k]
            self.is_plain = self.is_plain and is_plain(op, k)
            self.has_frozen_norms |= op.kind == OP_BATCH_NORM and op.norm.is_frozen
        self.row_layers = <RowLayer*> calloc(self.n_ops, sizeof(RowLayer))
        if self.row_layers == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.row_layers)

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
        kinds = [f"slot{s}" for s in range(n_slots)]
        if settings.get("average_decay") is not None:
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
            self.stepper = stepper_of(optimizer, settings)
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
                    if self.stepper.keeps_average:
                        parameters.average = address(slots[k][f"{name}_average"])
                for name in [name for name in self.arrays[k] if is_optimizers(name)]:
                    del self.arrays[k][name]
                self.arrays[k].update(slots[k])
        finally:
            self.owner = 0

    def restore_iteration(self, Py_ssize_t iteration):
        """Set the number of optimizer steps taken."""
        self.iteration = iteration

    def set_learning_rate(self, double rate, bint keeps_velocity=False):
        """Take all steps from the next one on with this learning rate.

        With `keeps_velocity`, what momentum has gathered goes on with the rate before, as it does
        where the rate is part of the velocity.
        """
        cdef double before = self.stepper.scalars.learning_rate
        set_rate(&self.stepper, rate)
        if keeps_velocity and self.stepper.optimizer in (CYMLP_MOMENTUM, CYMLP_NESTEROV):
            for arrays in self.arrays:
                for name in arrays:
                    if name.endswith("_slot0"):
                        arrays[name] *= before / rate

    cdef int _enter(self) except -1:
        # A child that was forked in the middle of training is not itself in it.
        if self.owner == os.getpid():
            raise RuntimeError("the network is being trained by another call")
        self.owner = os.getpid()
        return 0

    # Training

    @property
    def shares(self):
        """What part of the parameters each thread of the last team updated, by their cost.

        Empty where there was no team.
        """
        return shares_of(&self.balance)

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
              Py_ssize_t n_epochs=1, shuffle=None, order=None, bint by_count=False, tick=None,
              bint every_batch=False, int n_threads=0):
        """Train for some epochs, each of which visits every sample once.

        Parameters
        ----------
        samples : Described
            What `describe` made of them, of this network or one of the same shape.
        batch_size : int
        results : list
            After each epoch its averages (loss, accuracy, penalty) are appended; the loss includes
            the penalty.
        n_epochs : int
        shuffle : tuple of int, optional
            The `_random.key` of the first epoch's order; without it, samples are visited as they
            stand.
        order : ndarray of shape (samples,) or (n_epochs, samples), int64, contiguous, optional
            Instead: the numbers of the samples in the order in which every epoch visits them, or
            each epoch.
        by_count : bool
            Whether the averages over batches are weighted by the batches' numbers of samples
            instead of by their weights.
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
        epochs.left, epochs.order, epochs.next_order, epochs.n_ended = n_epochs, NULL, 0, 0
        epochs.key[0] = epochs.key[1] = 0
        epochs.shuffles, epochs.by_count = shuffle is not None, by_count
        if epochs.shuffles:
            epochs.key[0], epochs.key[1] = shuffle
            order = np.empty(samples.samples.n_rows, np.int64)
        elif order is not None:
            check_order(order, n_epochs, samples.samples.n_rows)
            if order.ndim == 2:
                epochs.next_order = samples.samples.n_rows
        if order is not None:
            epochs.order = <int64_t*> address(order)
        self._enter()
        self.diverged_step = 0
        try:
            while epochs.left > 0:
                results.append(
                    self._run(
                        samples, &epochs, batch_size, self.stepper.optimizer, True, tick,
                        every_batch, n_threads, False, False, results))
        finally:
            self.owner = 0
            self.is_stale = True

    def gradients(self, Described samples not None, bint training, int n_threads=0):
        """Return (loss, accuracy, penalty) and gradients of all samples as one batch; all stay.

        The gradients are those of all trained parameters, by (operation, name).
        """
        cdef Py_ssize_t k
        self._enter()
        try:
            scores = self._run(
                samples, NULL, samples.samples.n_rows, CYMLP_GRADIENT, training, None, False,
                n_threads)
            return scores, {
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
        cdef int output_activation = self.output_activation
        self._enter()
        try:
            if of_targets:
                self.output_activation = self.ops[self.n_ops - 1].activation
            self._run_back(samples, of_targets, n_threads)
            deltas = self._deltas(0, samples.samples.n_rows)
        finally:
            self.output_activation = output_activation
            self.owner = 0
        if self.ops[0].kind == OP_DENSE:  # it has no transposed kernel, since nothing is below it
            deltas = deltas @ self.get(0, "kernel").T
        return deltas * self.dtype.type(self.input_scale)

    def deltas(self, Described samples not None, int n_threads=0):
        """Return the loss of each sample on its own, and its derivatives by all operations.

        Returns
        -------
        losses : ndarray of shape (samples,), float64
            Without penalties.
        deltas : list of ndarray of shape (samples, units)
            For each operation the derivatives by what it has before its activation; for the last
            one of a loss that reads weighted sums, by these.
        """
        cdef Py_ssize_t b, k, n_rows = samples.samples.n_rows
        self._enter()
        try:
            self._run_back(samples, False, n_threads)
            losses = np.array([self.rows[0].loss[b] for b in range(n_rows)])
            return losses, [self._deltas(k, n_rows) for k in range(self.n_ops)]
        finally:
            self.owner = 0

    cdef _run_back(self, Described samples, bint of_targets, int n_threads):
        """Leave every operation's deltas in memory, of each sample on its own."""
        cdef Py_ssize_t n_rows = samples.samples.n_rows
        if n_rows > SLICE_ROWS:
            raise ValueError(f"at most {SLICE_ROWS} samples, got {n_rows}")
        self._run(
            samples, NULL, n_rows, CYMLP_GRADIENT, False, None, False, n_threads,
            reaches_inputs=True, of_targets=of_targets)

    cdef _deltas(self, Py_ssize_t k, Py_ssize_t n_rows):
        cdef const Op* op = &self.ops[k]
        cdef Py_ssize_t b, n_bytes = op.n_units * <Py_ssize_t> self.dtype.itemsize
        deltas = np.empty((n_rows, op.n_units), self.dtype)
        cdef char* rows = address(deltas)
        for b in range(n_rows):
            memcpy(rows + b * n_bytes, row_at(self.kernels, op, self.tensors[k].delta, b), n_bytes)
        return deltas

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
            run.optimizer = self.stepper.optimizer
            run.first_layer_cost = 1
            run.mode.training = False
            take_step(&self.stepper, self.iteration + 1, &run.step)
            with nogil:
                denormals = cymlp_flush_denormals()
                self._apply_gradients(shared, 0, 0, 1)
                if self.has_constraints:
                    self._constrain(shared, 0, 1)
                cymlp_restore_denormals(denormals)
            self.iteration += 1
        finally:
            self.owner = 0
            self.is_stale = True

    cdef bint _goes_by_rows(self, const Run* run) noexcept nogil:
        """Whether `train_rows` can take the steps, of which it knows the plain ones alone."""
        return (self.is_plain and not self.calls_loss and run.fused and run.batch_size == 1
                and not (run.by_count and run.samples.weight != NULL)
                and run.samples.format == REALS and CYMLP_SGD <= run.optimizer <= CYMLP_ADAM
                and not has_schedule(&self.stepper) and not self.stepper.keeps_average
                and self.stepper.scalars.clip_value == INFINITY)

    cdef _run(self, Described samples, Epochs* epochs, Py_ssize_t batch_size,
              int optimizer, bint training, tick, bint every_batch, int asked,
              bint reaches_inputs=False, bint of_targets=False, list results=None):
        """Visit every sample once; return the averages of loss, accuracy and penalty.

        Where there are epochs, the next one of them is begun. If nobody looks between them, more
        of them may follow: the averages of all but the last one are appended to the results.
        """
        cdef Run run
        cdef Run* shared = &run
        cdef int team, n_threads
        cdef bint has_units, by_rows, goes_on
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
        run.loss = run.penalty = run.hits = run.weight = 0
        run.share = 1
        run.by_count = epochs != NULL and epochs.by_count
        # Before the samples are shuffled: the work of all epochs is of one kind to a TeamWatch.
        run.first_layer_cost = first_layer_cost(
            self.kernels, &run.samples, 0, run.samples.n_rows, self._sparse_units())
        if epochs != NULL:
            with nogil:
                begin_epoch(epochs, shared)
        run.every_batch = every_batch
        run.steps_before = self.iteration
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
        has_units = (team > 1 and run.fused and run.batch_size <= MOST_ROWS_BY_UNITS
                     and self._has_units_for(team))
        self._need_workspace(run.slice_rows, team, run.samples.format, has_units)
        need_balance(&self.balance, team)
        by_rows = self._goes_by_rows(shared)
        if by_rows:
            self.transposes_are_old = True
        elif self.transposes_are_old:
            self._renew_transposes()
        while run.first < run.samples.n_rows:
            run.pause = run.late = False
            before = run.first
            steps = self.iteration
            watch = NULL
            if team > 1:
                watch = watch_for(team, flops, self.n_parameters, has_units)
            n_threads = self.team = team_of(watch) if watch != NULL else 1
            run.by_units = self.by_units = watch != NULL and watch.way == BY_UNITS
            run.cpu = cymlp_cpu() if watch != NULL and is_trial(watch) else -1
            goes_on = epochs != NULL and tick is None and watch == NULL
            began = cymlp_now()
            run.next_look = next_look(began)
            run.pause_at = began + (stretch_seconds(watch) if watch != NULL else STRETCH)
            if n_threads == 1:
                with nogil:
                    self._train_alone(shared, by_rows, steps)
                    while (goes_on and epochs.left > 0 and run.first == run.samples.n_rows
                            and not run.late and epochs.n_ended < MOST_ENDED):
                        epochs.losses[epochs.n_ended] = run.loss / (run.weight or 1)
                        epochs.accuracies[epochs.n_ended] = run.hits / (run.weight or 1)
                        epochs.penalties[epochs.n_ended] = run.penalty / (run.weight or 1)
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
                    results.append(
                        (epochs.losses[i], epochs.accuracies[i], epochs.penalties[i]))
                epochs.n_ended = 0
            propagate(run.stop or raise_pending_signal() < 0)
            if tick is not None and tick(
                    run.first, run.loss / (run.weight or 1), run.hits / (run.weight or 1)):
                break
        return averages(run.loss, run.hits, run.penalty, run.weight)

    cdef void _train_alone(self, Run* run, bint by_rows, Py_ssize_t steps) noexcept nogil:
        if by_rows:
            self._train_by_rows(run, steps)
        else:
            self._train(run, steps, 0, 1)

    cdef double _step_flops(self, const Run* run) noexcept nogil:
        """Operations of a step, but for the zeros that are left out."""
        cdef double first = 6 * run.batch_size * <double> self.n_inputs * self._sparse_units()
        return 3 * self.flops_per_row * run.batch_size - (1 - run.first_layer_cost) * first

    cdef bint _is_fused(self, const Run* run) noexcept nogil:
        # One answer for all batches of a run: the workspace is laid out for it.
        return (run.optimizer != CYMLP_GRADIENT and not clips_norms(&self.stepper)
                and run.batch_size <= FUSED_ROWS
                and self.flops_per_row * run.batch_size <= FUSED_FLOPS)

    cdef void _train(self, Run* run, Py_ssize_t steps, int thread, int team) noexcept nogil:
        """Train until the samples or the time run out; every thread of a team calls it."""
        cdef Batch[2] batches
        cdef Batch* batch = &batches[0]
        cdef Batch* next
        cdef bint by_units = run.by_units and team > 1, pause = False
        cdef double penalty
        cdef int turn = 0
        cdef uint64_t denormals = cymlp_flush_denormals()
        if thread == 0:
            run.denormals = denormals
            if team > 1:
                begin_balance(&self.balance, team)
        elif run.cpu >= 0:
            cymlp_leave_cpu(run.cpu, thread)
        self._begin_batch(run, batch, NULL, run.first, steps + 1, by_units)
        if by_units:
            self._gather(run, batch, thread, team)
            wait_for_team(team)
            self._forward_units(batch, thread, team)
            wait_for_team(team)
        while batch != NULL and not pause:
            steps += 1
            next = NULL
            if batch.first + batch.n_rows < run.samples.n_rows:
                next = &batches[batch == &batches[0]]
            if thread == 0:
                take_step(&self.stepper, steps, &run.step)
                if run.by_count:
                    run.share = batch.n_rows / batch.weight if batch.weight > 0 else 1
            if self._gradient_or_step(run, steps, batch, next, thread, team, &turn):
                break
            pause = run.pause  # before the next barrier, behind which it may change
            if run.optimizer != CYMLP_GRADIENT:
                if not run.fused:
                    self._apply_gradients(run, batch.n_rows, thread, team)
                if self.has_constraints:
                    wait_for_team(team)
                    self._constrain(run, thread, team)
            if thread == 0:
                run.first = batch.first + batch.n_rows
            if by_units and next != NULL and not pause:
                self._forward_units(next, thread, team)
            wait_for_team(team)
            if thread == 0:  # now that every thread has left its sums of squares
                penalty = self._penalty(batch.weight)
                run.loss += run.share * batch.weight * penalty
                run.penalty += run.share * batch.weight * penalty
                if self._diverges(run):  # by the penalty alone: see _count
                    self.diverged_step, self.diverged_layer = steps, self.n_ops
                run.weight += run.share * batch.weight
                if team > 1:
                    rebalance(&self.balance)
            batch = next
        cymlp_restore_denormals(denormals)

    cdef void _begin_batch(
        self, const Run* run, Batch* batch, const Batch* before, Py_ssize_t first,
        Py_ssize_t step, bint by_units
    ) noexcept nogil:
        """Describe the batch of a step, which may follow on another one."""
        cdef Py_ssize_t group = run.batch_size * JUDGED_TOGETHER
        cdef int place = 1 if by_units and before != NULL and before.rows == &self.rows[0] else 0
        batch.first, batch.n_rows = first, min(run.batch_size, run.samples.n_rows - first)
        # Derivatives by inputs are those of each sample on its own.
        batch.weight = 1 if run.mode.reaches_inputs else total_weight(
            &run.samples, first, batch.n_rows)
        batch.mode = run.mode
        batch.mode.key[0] = self.key[0]
        batch.mode.key[1] = self.key[1] + <uint64_t> step
        batch.rows = &self.rows[place]
        batch.tensors = self.tensors + place * self.n_ops
        batch.has_sums = by_units
        batch.judged_from = first // group * group
        if before != NULL and before.judged_from == batch.judged_from:
            batch.without_zeros = before.without_zeros
        else:
            batch.without_zeros = leaves_zeros_out(
                self.kernels, &run.samples, batch.judged_from,
                min(group, run.samples.n_rows - batch.judged_from), self._sparse_units())
        batch.inputs = inputs_of(&run.samples, batch.without_zeros, batch.rows)

    cdef bint _has_units_for(self, int team) noexcept nogil:
        """Whether each thread may have units of the first layer, about as many as the others."""
        cdef const Dense* layer = &self.ops[0].dense
        cdef double all_columns, most = 0
        cdef int t
        if self._sparse_units() == 0 or not self.ops[0].is_trainable or layer.max_norm > 0:
            return False
        if layer.bias_penalty.l1 != 0 or layer.bias_penalty.l2 != 0:
            return False  # one norm, taken of the whole bias by one thread
        all_columns = columns_of(layer, all_panels())
        for t in range(team):
            most = max(most, columns_of(layer, panels_of_thread(layer, t, team)))
        return most * team <= UNEVEN_UNITS * all_columns

    cdef void _train_by_rows(self, Run* run, Py_ssize_t steps) noexcept nogil:
        """Like `_train`, a step for each sample; leaves the transposed kernels as they are."""
        cdef RowSamples samples
        cdef RowNetwork network
        cdef Sums sums
        cdef Py_ssize_t n_rows
        cdef double flops = 3 * self.flops_per_row + CALL_FLOPS
        cdef Py_ssize_t most = 1
        cdef uint64_t denormals = cymlp_flush_denormals()
        if not run.every_batch:
            most += <Py_ssize_t> (CLOCK_FLOPS / flops)
        self._describe_rows(run, &samples, &network)
        while run.first < run.samples.n_rows and not run.pause:
            n_rows = min(most, run.samples.n_rows - run.first)
            sums.loss, sums.hits, sums.weight = run.loss, run.hits, run.weight
            sums.penalty = run.penalty
            self.kernels.train_rows(&network, &samples, run.first, n_rows, steps, &sums)
            run.loss, run.hits, run.weight = sums.loss, sums.hits, sums.weight
            run.penalty = sums.penalty
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
        network.optimizer, network.step = run.optimizer, self.stepper.scalars
        network.wants_accuracy = self.wants_accuracy
        network.accuracy_threshold = self.accuracy_threshold

    cdef _renew_transposes(self):
        cdef Py_ssize_t i
        with nogil:
            for i in range(self.n_ops):
                dense_transpose(&self.ops[i].dense)
        self.transposes_are_old = False

    cdef bint _gradient_or_step(
        self, Run* run, Py_ssize_t step, Batch* batch, Batch* next, int thread, int team, int* turn
    ) noexcept nogil:
        """Take a batch as far as its gradient or, if that is fused, through the whole step.

        Returns whether the batch is to be dropped; the parameters have then not been touched.
        """
        cdef bint fused = run.fused
        cdef Py_ssize_t slice_rows = run.slice_rows
        cdef Py_ssize_t s, start, count
        cdef int optimizer = run.optimizer
        for s in range(ceil_div(batch.n_rows, slice_rows)):
            start = s * slice_rows
            count = min(slice_rows, batch.n_rows - start)
            if not fused:
                optimizer = CYMLP_GRADIENT if s == 0 else CYMLP_ACCUMULATE
            self._rows(run, batch, start, count, thread, team, turn)
            if next != NULL and s == 0:
                self._begin_batch(
                    run, next, batch, batch.first + batch.n_rows, step + 1, batch.has_sums)
                if batch.has_sums:
                    self._gather(run, next, thread, team)
            if thread == 0:
                self._is_due(run, 0)
                run.pause = run.late or run.every_batch
            if agree_to_stop(run, thread, team, turn):
                return True
            if not run.mode.reaches_inputs:
                self._update(run, batch, count, optimizer, thread, team)
            if thread == 0:
                self._count(run, batch, start, count)
            if not fused and agree_to_stop(run, thread, team, turn):
                return True
        return False

    cdef void _count(
        self, Run* run, const Batch* batch, Py_ssize_t start, Py_ssize_t n_rows
    ) noexcept nogil:
        """Add the rows' losses and hits to the epoch's, in their order."""
        cdef Py_ssize_t b
        cdef double weight
        for b in range(n_rows):
            weight = run.share * weight_at(&run.samples, batch.first + start + b)
            run.loss += weight * batch.rows.loss[b]
            if self.wants_accuracy:
                run.hits += weight * batch.rows.hit[b]
        if self._diverges(run):  # the outputs are still in memory
            self.diverged_step = run.steps_before + run.first // run.batch_size + 1
            self.diverged_layer = self._first_not_finite(batch, n_rows)

    cdef inline bint _diverges(self, const Run* run) noexcept nogil:
        """Whether the sum of the losses is not finite for the first time; for thread 0 alone."""
        return not (isfinite(run.loss) or self.diverged_step or run.optimizer == CYMLP_GRADIENT)

    cdef Py_ssize_t _first_not_finite(
        self, const Batch* batch, Py_ssize_t n_rows
    ) noexcept nogil:
        """The first operation with an output that is not finite; their number if none has."""
        cdef Py_ssize_t k, b
        for k in range(self.n_ops):
            for b in range(n_rows):
                if not self.kernels.all_finite(
                        self.ops[k].n_units,
                        row_at(self.kernels, &self.ops[k], batch.tensors[k].y, b)):
                    return k
        return self.n_ops


cdef int check_order(order, Py_ssize_t n_epochs, Py_ssize_t n_rows) except -1:
    cdef Py_ssize_t i, count
    cdef const int64_t* row
    cdef bint is_outside = False
    if (order.dtype != np.int64 or order.shape not in ((n_rows,), (n_epochs, n_rows))
            or not order.flags.c_contiguous):
        raise ValueError(
            f"order must be {n_rows} contiguous int64, for each of {n_epochs} epochs or for all, "
            f"got {order!r}")
    row, count = <const int64_t*> address(order), order.size
    with nogil:
        for i in range(count):
            is_outside |= row[i] < 0 or row[i] >= n_rows
    if is_outside:
        raise ValueError(f"order must hold numbers from 0 to {n_rows - 1}, got {order!r}")
    return 0


cdef bint is_optimizers(name):
    """Whether an array is an optimizer's."""
    return "slot" in name or "average" in name


cdef bint is_plain(const Op* op, Py_ssize_t k) noexcept nogil:
    """Whether steps of one row can go through an operation in one call of a kernel."""
    return (op.kind == OP_DENSE and op.source == k - 1 and op.is_trainable and not op.keeps_z
            and op.dense.has_bias and op.dense.rate_factor == 1 and op.dense.max_norm == 0
            and op.dense.kernel_penalty.l1 == 0 and op.dense.bias_penalty.l1 == 0
            and op.dense.bias_penalty.l2 == 0)
