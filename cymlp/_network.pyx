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

from libc.math cimport INFINITY, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

from cymlp._batch cimport (
    REALS, Arena, BatchRows, Described, Format, Samples, address, first_layer_cost, gather,
    inputs_of, rows_room, take_rows, total_weight, weight_at)
from cymlp._dense cimport (
    Dense, Inputs, all_inputs, ceil_div, dense_apply_item, dense_forward, dense_gradient_squares,
    dense_propagate, dense_transpose, dense_update_item, inputs_from, keeps_gradient, l2_of,
    n_items, parameters_of, scratch_size)
from cymlp._kernels cimport (
    CYMLP_ACCUMULATE, CYMLP_ADAM, CYMLP_AMSGRAD, CYMLP_GRADIENT, CYMLP_N_SLOTS, CYMLP_NADAM,
    CYMLP_SGD, RowLayer, RowNetwork, RowSamples, Step, Sums, cymlp_correct_nadam,
    cymlp_correct_step, cymlp_nadam_momentum, cymlp_nadam_product, optimizer_step)
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
    Step step
    double unclocked                # operations since the last look at the clock
    double next_look                # when to look for signals
    double pause_at                 # when to return to Python
    bint late                       # that time had passed by the last look at the clock
    bint pause                      # return to Python after this batch
    bint stop                       # a signal has raised, at any moment: drop this batch
    bint[2] agreed                  # `stop` as of the last two barriers: see agree_to_stop
    int cpu                         # thread 0's, which the others are to leave; -1: they stay
    uint64_t denormals              # thread 0's setting before training
    double loss, hits, weight       # sums over the finished batches


# How the items of an update are shared out: each thread has a run of them, of nearly equal cost. A
# run stays with its thread from step to step, and in the cache of its core.
cdef struct Shares:
    int team
    const Dense* first_layer
    double first_cost, cost         # per parameter, of the first layer and of the others
    double before, total            # cost of the items that have been given away, and of all


cdef inline int owner(Shares* shares, const Dense* layer, Py_ssize_t index) noexcept nogil:
    """The thread that updates an item; asked for all items in turn."""
    cdef double cost, middle
    if shares.team == 1:
        return 0
    cost = parameters_of(layer, index)
    cost *= shares.first_cost if layer == shares.first_layer else shares.cost
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
    layers : list of dict
        Per layer: n_units, activation (a code), l2 and l2_per_batch.
    dtype : {"float32", "float64"}
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
    cdef double* norms              # per item of the update: its gradient's squares

    cdef object workspace           # the arena that everything below points into
    cdef Py_ssize_t workspace_rows
    cdef int workspace_team
    cdef Format workspace_format
    cdef BatchRows rows
    cdef char** outputs             # per layer, (batch, stride)
    cdef char** deltas
    cdef const void*** output_rows  # per layer, pointers to the rows of outputs
    cdef const void*** delta_rows
    cdef double n_parameters
    cdef double* squares            # per item of the update
    cdef char* scratch
    cdef Py_ssize_t scratch_bytes
    cdef RowLayer* row_layers
    cdef bint transposes_are_old    # steps by rows have left the transposed kernels behind

    def __cinit__(self, Py_ssize_t n_inputs, list layers, dtype):
        cdef Py_ssize_t i
        self.iteration = 0
        self.owner = 0
        count = sum([n_items(&self.layers[i]) for i in range(self.n_layers)])
        self.norms = <double*> calloc(<Py_ssize_t> count, sizeof(double))
        for i in range(self.n_layers):
            self.n_parameters += (self.layers[i].n_inputs + 1) * self.layers[i].n_units
        self.outputs = <char**> calloc(self.n_layers, sizeof(char*))
        self.deltas = <char**> calloc(self.n_layers, sizeof(char*))
        self.output_rows = <const void***> calloc(self.n_layers, sizeof(void**))
        self.delta_rows = <const void***> calloc(self.n_layers, sizeof(void**))
        self.row_layers = <RowLayer*> calloc(self.n_layers, sizeof(RowLayer))
        if (self.outputs == NULL or self.deltas == NULL or self.row_layers == NULL
                or self.output_rows == NULL or self.delta_rows == NULL or self.norms == NULL):
            raise MemoryError

    def __dealloc__(self):
        free(self.outputs)
        free(self.deltas)
        free(self.output_rows)
        free(self.delta_rows)
        free(self.row_layers)
        free(self.norms)

    def set_all(self, names, values):
        """Overwrite the arrays of these names in every layer, given layer by layer."""
        self._enter()
        try:
            self._set_all(names, values)
        finally:
            self.owner = 0

    cdef _set_all(self, names, values):
        for i, value in enumerate(values):
            self.set(i // len(names), names[i % len(names)], value)

    def compile(self, int loss, int output_activation, int optimizer, int n_slots, settings,
                accuracy_threshold):
        """Set what training does, with new optimizer slots of zeros.

        Parameters
        ----------
        loss, output_activation, optimizer : int
            Codes. A loss that reads logits goes with the identity as output activation.
        n_slots : int
            Arrays that the optimizer keeps per parameter, 0 to 3.
        settings : dict
            Of the optimizer. ``step``: fields of `cymlp_step`; ``schedule``: fields of
            `cymlp_schedule`; and where they are not off: ``slot_values``, what the slots begin
            with, by their number; ``rate_decay``, ``momentum_decay``, ``clip_norm``,
            ``clip_global_norm``, ``average_decay``.
        accuracy_threshold : float or None
            What a single output is compared with; None: accuracy is not computed.
        """
        cdef Py_ssize_t i
        cdef int s
        names = [f"{kind}_slot{s}" for s in range(n_slots) for kind in ("kernel", "bias")]
        average_decay = settings.get("average_decay")
        if average_decay is not None:
            names += ["kernel_average", "bias_average"]
        self._enter()
        try:
            slots = self._new_arrays(names)  # before anything changes: it may fail
            for s, value in settings.get("slot_values", {}).items():
                for arrays in slots:
                    arrays[f"kernel_slot{s}"][...] = arrays[f"bias_slot{s}"][...] = value
            self.loss = loss
            self.output_activation = output_activation
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
            for i in range(self.n_layers):
                for s in range(CYMLP_N_SLOTS):
                    self.layers[i].kernel.slots[s] = self.layers[i].bias.slots[s] = NULL
                for s in range(n_slots):
                    self.layers[i].kernel.slots[s] = address(slots[i][f"kernel_slot{s}"])
                    self.layers[i].bias.slots[s] = address(slots[i][f"bias_slot{s}"])
                self.layers[i].kernel.average = self.layers[i].bias.average = NULL
                if self.keeps_average:
                    self.layers[i].kernel.average = address(slots[i]["kernel_average"])
                    self.layers[i].bias.average = address(slots[i]["bias_average"])
                for name in self.slot_names(i):
                    del self.arrays[i][name]
                self.arrays[i].update(slots[i])
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

    def describe(self, x, labels, values, weight):
        """Return samples as `train` takes them; they are checked here and never again.

        Parameters
        ----------
        x : ndarray of shape (samples, inputs) of the network's dtype, columns contiguous
        labels : ndarray of shape (samples,), int32, or None
        values : ndarray of shape (samples, outputs) of the dtype, columns contiguous, or None
        weight : ndarray of shape (samples,), float64, or None
        """
        return Described(
            x, labels, values, weight, self.dtype, self.layers[0].n_inputs, self.n_outputs)

    def train(self, Described samples not None, Py_ssize_t batch_size, list results not None, *,
              Py_ssize_t n_epochs=1, shuffle=None, tick=None, int n_threads=0):
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
            Called about every 30 ms.
        n_threads : int
            At most so many, 0 for the default; here and in the methods below.

        Notes
        -----
        When a signal handler or `tick` raises, the network stands as the last finished step left
        it.
        """
        cdef Py_ssize_t epoch, n_rows = samples.samples.n_rows
        cdef int64_t* order = NULL
        cdef uint64_t key0 = 0, key1 = 0
        if shuffle is not None:
            key0, key1 = shuffle
            array = np.empty(n_rows, np.int64)
            order = <int64_t*> address(array)
        self._enter()
        try:
            for epoch in range(n_epochs):
                if order != NULL:
                    with nogil:
                        cymlp_shuffle(n_rows, key0, key1 + epoch, order)
                results.append(
                    self._run(samples, order, batch_size, self.optimizer, tick, n_threads))
        finally:
            self.owner = 0

    def gradients(self, Described samples not None, int n_threads=0):
        """Return (loss, accuracy, gradients) of all samples as one batch; nothing moves.

        The gradients are [kernel, bias, kernel, bias, ...].
        """
        self._enter()
        try:
            loss, accuracy = self._run(
                samples, NULL, samples.samples.n_rows, CYMLP_GRADIENT, None, n_threads)
            names = ["kernel_gradient", "bias_gradient"]
            arrays = [self.get(i, name) for i in range(self.n_layers) for name in names]
            return loss, accuracy, arrays
        finally:
            self.owner = 0

    def apply_gradients(self, gradients):
        """Take one optimizer step with gradients given as [kernel, bias, kernel, bias, ...]."""
        cdef Run run
        cdef Run* shared = &run
        cdef uint64_t denormals
        self._enter()
        try:
            self._need_gradients()
            self._set_all(["kernel_gradient", "bias_gradient"], gradients)
            run.optimizer = self.optimizer
            self._step(self.iteration + 1, &run.step)
            run.first_layer_cost = 1
            with nogil:
                denormals = cymlp_flush_denormals()
                self._apply_gradients(shared, 0, 1)
                cymlp_restore_denormals(denormals)
            self.iteration += 1
        finally:
            self.owner = 0

    cdef _need_gradients(self):
        """Make room for gradients, once; the caller has entered."""
        cdef Py_ssize_t i
        if "kernel_gradient" in self.arrays[0]:
            return
        gradients = self._new_arrays(["kernel_gradient", "bias_gradient"])
        for i in range(self.n_layers):
            self.layers[i].kernel.gradient = address(gradients[i]["kernel_gradient"])
            self.layers[i].bias.gradient = address(gradients[i]["bias_gradient"])
            self.arrays[i].update(gradients[i])

    cdef void _step(self, Py_ssize_t count, Step* step) noexcept nogil:
        """Set the scalars of a step, counted from 1."""
        step[0] = self.settings
        if self.is_steady:  # most corrections are powers: as slow as a small step
            return
        if self._has_schedule():
            step.learning_rate = cymlp_learning_rate(&self.schedule, count - 1)
        step.learning_rate /= 1 + (count - 1) * self.rate_decay
        if count == 1:
            step.average_decay = 0
        if self.optimizer == CYMLP_NADAM:
            cymlp_correct_nadam(step, count, self.momentum_decay, self._momentum_product(count))
        elif self.optimizer == CYMLP_ADAM or self.optimizer == CYMLP_AMSGRAD:
            cymlp_correct_step(step, count)

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
        return (run.fused and run.batch_size == 1 and run.samples.format == REALS
                and CYMLP_SGD <= run.optimizer <= CYMLP_ADAM and not self._has_schedule()
                and not self.keeps_average and self.settings.clip_value == INFINITY)

    cdef _run(self, Described samples, const int64_t* order, Py_ssize_t batch_size,
              int optimizer, tick, int asked):
        """Visit every sample once; return the averages of loss and accuracy."""
        cdef Run run
        cdef Run* shared = &run
        cdef int team, n_threads
        cdef bint by_rows
        cdef TeamWatch* watch
        cdef double flops, began
        cdef Py_ssize_t before, steps = 0
        if (samples.samples.n_inputs != self.layers[0].n_inputs
                or samples.n_outputs != self.n_outputs or samples.dtype != self.dtype):
            raise ValueError("the samples were described for another network")
        run.samples = samples.samples
        run.samples.order = order
        run.batch_size = min(batch_size, run.samples.n_rows)
        run.first = 0
        run.optimizer = optimizer
        run.stop = False
        run.unclocked = 0
        run.loss = run.hits = run.weight = 0
        run.first_layer_cost = first_layer_cost(
            self.kernels, &run.samples, 0, run.samples.n_rows, self.layers[0].n_units)
        run.fused = self._is_fused(shared)
        run.slice_rows = run.batch_size if run.fused else min(run.batch_size, SLICE_ROWS)
        if not run.fused:
            self._need_gradients()
        flops = self._step_flops(shared)
        team = threads_for(flops, asked) if flops > FETCH_FLOPS * self.n_parameters else 1
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
            began = cymlp_now()
            run.next_look = began + LOOK_EVERY
            run.pause_at = began + (stretch_seconds(watch) if watch != NULL else STRETCH)
            if by_rows:
                with nogil:
                    self._train_by_rows(shared, steps)
            elif n_threads == 1:
                with nogil:
                    self._train(shared, steps, 0, 1)
            else:
                with nogil, parallel(num_threads=n_threads):
                    self._train(shared, steps, threadid(), cymlp_team_size())
            if watch != NULL:
                end_stretch(watch, run.first - before, cymlp_now() - began)
            if optimizer != CYMLP_GRADIENT:
                self.iteration += ceil_div(run.first - before, run.batch_size)
            propagate(run.stop or raise_pending_signal() < 0)
            if tick is not None:
                tick(run.first, run.loss / (run.weight or 1), run.hits / (run.weight or 1))
        return run.loss / (run.weight or 1), run.hits / (run.weight or 1)

    cdef double _step_flops(self, const Run* run) noexcept nogil:
        """Operations of a step, but for the zeros that are left out."""
        cdef const Dense* layer = &self.layers[0]
        cdef double first = 6 * run.batch_size * <double> layer.n_inputs * layer.n_units
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
            weight = total_weight(&run.samples, first, n_rows)
            if thread == 0:
                steps += 1
                self._step(steps, &run.step)
            if self._gradient_or_step(run, n_rows, weight, thread, team, &turn):
                break
            if run.optimizer != CYMLP_GRADIENT and not run.fused:
                self._apply_gradients(run, thread, team)
            if thread == 0:
                run.first = first + n_rows
                self._is_due(run, 0)
                run.pause = run.late
            wait_for_team(team)
            if thread == 0:  # now that every thread has left its sums of squares
                run.loss += weight * self._penalty(weight)
                run.weight += weight
        cymlp_restore_denormals(denormals)

    cdef void _train_by_rows(self, Run* run, Py_ssize_t steps) noexcept nogil:
        """Like `_train`, a step for each sample; leaves the transposed kernels as they are."""
        cdef RowSamples samples
        cdef RowNetwork network
        cdef Sums sums
        cdef Py_ssize_t n_rows
        cdef double flops = 3 * self._flops_per_row() + CALL_FLOPS
        cdef Py_ssize_t most = 1 + <Py_ssize_t> (CLOCK_FLOPS / flops)
        cdef uint64_t denormals = cymlp_flush_denormals()
        self._describe_rows(run, &samples, &network)
        while run.first < run.samples.n_rows and not run.pause:
            n_rows = min(most, run.samples.n_rows - run.first)
            sums.loss, sums.hits, sums.weight = run.loss, run.hits, run.weight
            self.kernels.train_rows(&network, &samples, run.first, n_rows, steps, &sums)
            run.loss, run.hits, run.weight = sums.loss, sums.hits, sums.weight
            run.first += n_rows
            steps += n_rows
            self._is_due(run, n_rows * flops)
            run.pause = run.late
        cymlp_restore_denormals(denormals)

    cdef void _describe_rows(
        self, const Run* run, RowSamples* samples, RowNetwork* network
    ) noexcept nogil:
        cdef Py_ssize_t i
        cdef int s
        cdef const Dense* layer
        cdef RowLayer* row
        samples.x, samples.x_stride = run.samples.x, run.samples.x_stride
        samples.labels = run.samples.labels
        samples.values, samples.values_stride = run.samples.values, run.samples.values_stride
        samples.weight = run.samples.weight
        samples.order = run.samples.order
        for i in range(self.n_layers):
            layer, row = &self.layers[i], &self.row_layers[i]
            row.n_inputs, row.n_units = layer.n_inputs, layer.n_units
            row.is_narrow, row.activation = layer.is_narrow, self._activation(i)
            row.alpha = layer.alpha
            row.l2, row.l2_per_weight = layer.l2, layer.l2_per_batch
            row.kernel.values, row.bias.values = layer.kernel.values, layer.bias.values
            for s in range(CYMLP_N_SLOTS):
                row.kernel.slots[s], row.bias.slots[s] = layer.kernel.slots[s], layer.bias.slots[s]
            row.y__o, row.delta__o = self.outputs[i], self.deltas[i]
        network.n_layers, network.layers = self.n_layers, self.row_layers
        network.loss, network.loss_settings = self.loss, self.loss_settings
        network.optimizer, network.step = run.optimizer, self.settings
        network.wants_accuracy = self.wants_accuracy
        network.accuracy_threshold = self.accuracy_threshold

    cdef _renew_transposes(self):
        cdef Py_ssize_t i
        with nogil:
            for i in range(self.n_layers):
                dense_transpose(&self.layers[i])
        self.transposes_are_old = False

    cdef bint _gradient_or_step(
        self, Run* run, Py_ssize_t n_rows, double weight, int thread, int team, int* turn
    ) noexcept nogil:
        """Take a batch as far as its gradient or, if that is fused, through the whole step.

        Returns whether the batch is to be dropped; the parameters have then not been touched.
        """
        cdef bint fused = run.fused
        cdef Py_ssize_t slice_rows = run.slice_rows
        cdef Py_ssize_t s, start, count, tile = self.kernels.tile_rows
        cdef int optimizer = run.optimizer
        cdef Inputs inputs = inputs_of(
            self.kernels, &run.samples, run.first, n_rows, self.layers[0].n_units, &self.rows)
        for s in range(ceil_div(n_rows, slice_rows)):
            start = s * slice_rows
            count = min(slice_rows, n_rows - start)
            if not fused:
                optimizer = CYMLP_GRADIENT if s == 0 else CYMLP_ACCUMULATE
            self._rows(
                run, &inputs, run.first + start, share(count, tile, thread, team),
                share(count, tile, thread + 1, team), weight, thread)
            if agree_to_stop(run, thread, team, turn):
                return True
            self._update(run, &inputs, count, weight, optimizer, thread, team)
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
        self, Run* run, int thread, double n_rows, const Dense* layer
    ) noexcept nogil:
        """Let a pending signal raise in the thread that called from Python, if it is time to.

        The arguments tell the work since the last call: some rows taken through a layer.
        """
        if thread != 0 or run.stop:
            return
        if self._is_due(run, 2 * n_rows * layer.n_inputs * layer.n_units):
            # Signal handlers are Python and expect ordinary arithmetic.
            cymlp_restore_denormals(run.denormals)
            with gil:
                run.stop = raise_pending_signal() < 0
            cymlp_flush_denormals()
            run.next_look = cymlp_now() + LOOK_EVERY

    cdef void _update(
        self, Run* run, const Inputs* inputs, Py_ssize_t n_rows, double weight, int optimizer,
        int thread, int team
    ) noexcept nogil:
        """Bring this thread's items of all layers up to date with some rows of the batch."""
        cdef Py_ssize_t i, index, item = 0
        cdef const Dense* layer
        cdef Inputs below
        cdef double squares
        cdef Shares shares = self._shares(run, n_rows, team)
        for i in range(self.n_layers):
            layer = &self.layers[i]
            below = self._inputs_of(i, inputs)
            for index in range(n_items(layer)):
                if owner(&shares, layer, index) == thread and not run.stop:
                    squares = dense_update_item(
                        layer, index, n_rows, below, self.deltas[i], self.strides[i], weight,
                        optimizer, &run.step, self.scratch + thread * self.scratch_bytes)
                    if optimizer != CYMLP_ACCUMULATE:
                        self.squares[item] = squares
                    if keeps_gradient(optimizer):  # else the batch cannot be dropped any more
                        self._look(run, thread, <double> n_rows / n_items(layer), layer)
                item += 1

    cdef void _apply_gradients(self, Run* run, int thread, int team) noexcept nogil:
        """Move this thread's items of all layers by the gradients in memory."""
        cdef Py_ssize_t i, index, count, item = 0
        cdef Step step = run.step
        cdef Shares shares
        cdef double scale = 1
        if self._clips_norms():
            self._leave_norms(run, thread, team)
            wait_for_team(team)
            scale = self._global_scale()
        shares = self._shares(run, 0, team)
        for i in range(self.n_layers):
            count = n_items(&self.layers[i])
            for index in range(count):
                if index == 0:  # the kernel's items
                    step.gradient_scale = scale * self._array_scale(item, count - 1)
                if index == count - 1:  # the bias
                    step.gradient_scale = scale * self._array_scale(item + count - 1, 1)
                if owner(&shares, &self.layers[i], index) == thread:
                    dense_apply_item(&self.layers[i], index, run.optimizer, &step)
            item += count

    cdef bint _clips_norms(self) noexcept nogil:
        return self.clip_norm < INFINITY or self.clip_global_norm < INFINITY

    cdef void _leave_norms(self, const Run* run, int thread, int team) noexcept nogil:
        """Leave the squares of this thread's gradients where all threads add them, in order."""
        cdef Py_ssize_t i, index, item = 0
        cdef Shares shares = self._shares(run, 0, team)
        for i in range(self.n_layers):
            for index in range(n_items(&self.layers[i])):
                if owner(&shares, &self.layers[i], index) == thread:
                    self.norms[item] = dense_gradient_squares(&self.layers[i], index)
                item += 1

    cdef double _norm(self, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
        """The norm of some items' gradient."""
        cdef Py_ssize_t item
        cdef double squares = 0
        for item in range(first, first + count):
            squares += self.norms[item]
        return sqrt(squares)

    cdef double _global_scale(self) noexcept nogil:
        """What the whole gradient is multiplied by; a NaN for one that holds a NaN."""
        cdef Py_ssize_t i, count = 0
        cdef double scale
        if not self.clip_global_norm < INFINITY:
            return 1
        for i in range(self.n_layers):
            count += n_items(&self.layers[i])
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
        cdef double first = (self.layers[0].n_inputs + 1.0) * self.layers[0].n_units
        shares.team = team
        shares.first_layer = &self.layers[0]
        shares.first_cost = n_rows * run.first_layer_cost + OPTIMIZER_ROWS
        shares.cost = n_rows + OPTIMIZER_ROWS
        shares.before = 0
        shares.total = first * shares.first_cost + (self.n_parameters - first) * shares.cost
        return shares

    cdef void _rows(
        self, Run* run, const Inputs* inputs, Py_ssize_t first, Py_ssize_t start,
        Py_ssize_t stop, double weight, int thread
    ) noexcept nogil:
        """Take rows of the batch through forward pass, loss and delta propagation."""
        cdef Py_ssize_t chunk, row, n_rows, i, stride
        cdef Inputs below
        for chunk in range(ceil_div(stop - start, CHUNK_ROWS)):
            row = start + chunk * CHUNK_ROWS
            n_rows = min(CHUNK_ROWS, stop - row)
            gather(
                self.kernels, &run.samples, first, row, row + n_rows, &self.rows, inputs,
                run.batch_size)
            for i in range(self.n_layers):
                below = self._inputs_of(i, inputs)
                dense_forward(
                    &self.layers[i], self._activation(i), n_rows, inputs_from(below, row),
                    self._at(self.outputs[i], i, row), self.strides[i], True)
                self._look(run, thread, n_rows, &self.layers[i])
                if run.stop:
                    return
            self._scale(&run.samples, first, row, n_rows, weight)
            i = self.n_layers - 1
            stride = self.strides[i]
            self._losses(
                &run.samples, &self.rows, row, n_rows, self._at(self.outputs[i], i, row), stride,
                self._at(self.deltas[i], i, row), stride)
            for i in range(self.n_layers - 1, -1, -1):
                self.kernels.activate_backward[self._activation(i)](
                    n_rows, self.layers[i].n_units, self.layers[i].alpha,
                    self._at(self.outputs[i], i, row), self.strides[i],
                    self._at(self.deltas[i], i, row), self.strides[i])
                if i == 0:
                    break
                dense_propagate(
                    &self.layers[i], n_rows, self.delta_rows[i] + row,
                    self._at(self.deltas[i - 1], i - 1, row), self.strides[i - 1])
                self._look(run, thread, n_rows, &self.layers[i])
                if run.stop:
                    return

    cdef inline Inputs _inputs_of(self, Py_ssize_t layer, const Inputs* inputs) noexcept nogil:
        """A layer's inputs, where `inputs` are the first layer's."""
        if layer == 0:
            return inputs[0]
        return all_inputs(self.output_rows[layer - 1], self.strides[layer - 1])

    cdef inline char* _at(self, char* rows, Py_ssize_t layer, Py_ssize_t row) noexcept nogil:
        return rows + row * self.strides[layer] * <Py_ssize_t> self.kernels.item_size

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

    cdef double _penalty(self, double batch_weight) noexcept nogil:
        """The L2 penalty of the weights before the update, from the sums that its blocks left."""
        cdef Py_ssize_t i, index, item = 0
        cdef double penalty = 0, squares
        for i in range(self.n_layers):
            squares = 0
            for index in range(n_items(&self.layers[i])):
                squares += self.squares[item + index]
            item += n_items(&self.layers[i])
            penalty += 0.5 * l2_of(&self.layers[i], batch_weight) * squares
        return penalty

    cdef _need_workspace(self, Py_ssize_t n_rows, int team, Format format):
        """Lay out the memory of a batch in one arena; nothing is allocated after that."""
        if (n_rows <= self.workspace_rows and team <= self.workspace_team
                and format == self.workspace_format):
            return
        cdef Py_ssize_t i, b, item = self.dtype.itemsize, n_inputs = self.layers[0].n_inputs
        n_rows = max(n_rows, self.workspace_rows)
        team = max(team, self.workspace_team)
        count = sum([n_items(&self.layers[i]) for i in range(self.n_layers)])
        scratch_bytes = Arena.room(scratch_size(self.kernels, n_rows))
        sizes = [n_rows * self.strides[i] * item for i in range(self.n_layers)]
        total = (
            sum(2 * (Arena.room(size) + Arena.room(8 * n_rows)) for size in sizes)
            + rows_room(self.kernels, format, n_rows, n_inputs) + Arena.room(8 * count)
            + Arena.room(scratch_bytes * team))
        cdef Arena arena = Arena(total)
        self.workspace_rows = 0  # until all is laid out
        self.workspace = arena
        for i in range(self.n_layers):
            shape = (n_rows, self.strides[i])
            self.outputs[i] = address(arena.take(shape, self.dtype))
            self.deltas[i] = address(arena.take(shape, self.dtype))
            self.output_rows[i] = <const void**> address(arena.take(n_rows, np.intp))
            self.delta_rows[i] = <const void**> address(arena.take(n_rows, np.intp))
            for b in range(n_rows):
                self.output_rows[i][b] = self._at(self.outputs[i], i, b)
                self.delta_rows[i][b] = self._at(self.deltas[i], i, b)
        self.rows = take_rows(arena, self.kernels, format, n_rows, n_inputs)
        self.squares = <double*> address(arena.take(count, np.float64))
        self.scratch = address(arena.take(scratch_bytes * team, np.uint8))
        self.scratch_bytes = scratch_bytes
        self.workspace_rows = n_rows
        self.workspace_team = team
        self.workspace_format = format
