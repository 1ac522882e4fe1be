"""A network program: its parameters in one arena, a batch step, an epoch, inference.

Two barriers a step are enough at any depth. First each thread takes its own rows of the batch
through forward pass, loss and delta propagation; after a barrier the threads share out the blocks
of all weight matrices and move each by the gradient that they sum up for it. Every sum is taken by
one thread in a fixed order: results do not depend on the number of threads.

A batch so large that this could not be interrupted in time is taken in slices of rows, whose
gradients are summed in memory. Until they are complete, and the optimizer takes them all at once,
the batch can be dropped and the network is as the last one left it.
"""

import os
import sys

import numpy as np

from cython.parallel cimport parallel, threadid

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from cymlp._batch cimport (
    Arena, BatchRows, Samples, address, describe, gather, rows_room, take_rows, targets_from,
    total_weight, weight_at)
from cymlp._dense cimport (
    Dense, ceil_div, dense_apply_item, dense_forward, dense_propagate, dense_update_item,
    keeps_gradient, l2_of, n_items, pack, padded_size, scratch_size, unpack)
from cymlp._kernels cimport (
    CYMLP_ACCUMULATE, CYMLP_GRADIENT, KernelTable, Step, Targets, kernel_table, optimizer_step)
from cymlp._threads cimport (
    TRIAL, TeamWatch, begin_stretch, cymlp_barrier, cymlp_now, cymlp_team_size, end_stretch,
    threads_for)

cdef extern from "Python.h":
    # Declared without an exception: where it is called, Cython must not touch the one it sets.
    int raise_pending_signal "PyErr_CheckSignals"()

cdef extern from "denormals.h" nogil:
    uint64_t cymlp_flush_denormals()
    void cymlp_restore_denormals(uint64_t before)

cdef enum:
    CACHE_LINE = 64

# Seconds between two looks at pending signals, and between two returns to Python.
cdef double LOOK_EVERY = 0.03
# Operations between two looks at the clock, and what to count for the overhead of a call.
cdef double CLOCK_FLOPS = 2e6
cdef double CALL_FLOPS = 1e3
# Operations and rows of an update that may be fused with its optimizer; it cannot be dropped then.
cdef double FUSED_FLOPS = 5e9
cdef Py_ssize_t FUSED_ROWS = 16384
# Rows of a batch that are in memory at once where the update is not fused.
cdef Py_ssize_t SLICE_ROWS = 4096
# Operations of a thread between two looks at pending signals in inference.
cdef double INFERENCE_FLOPS = 2e9
# Rows that a thread takes through all layers at once: many enough to reuse the weights in cache.
cdef Py_ssize_t CHUNK_ROWS = 96


# What the threads of a team share while they train. Thread 0 changes it, and all but `stop` only
# where the others stand before a barrier and do not read it.
cdef struct Run:
    Samples samples
    Py_ssize_t batch_size
    Py_ssize_t first                # of the current batch's samples
    int optimizer
    Step step
    double unclocked                # operations since the last look at the clock
    double next_look                # when to look for signals
    double pause_at                 # when to return to Python
    bint late                       # that time had passed by the last look at the clock
    bint pause                      # return to Python after this batch
    bint stop                       # a signal has raised, at any moment: drop this batch
    bint[2] agreed                  # `stop` as of the last two barriers: see agree_to_stop
    uint64_t denormals              # thread 0's setting before training
    double loss, hits, weight       # sums over the finished batches


cdef inline Py_ssize_t share(
    Py_ssize_t n, Py_ssize_t unit, int thread, int team
) noexcept nogil:
    """Where the part of `thread` begins when n things are cut into equal runs of whole units."""
    return min(n, ceil_div(n, unit) * thread // team * unit)


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


cdef int _propagate(bint raised) except -1:
    """Go on with the exception that a call from C has set, if it has."""
    return -1 if raised else 0


cdef class Network:
    """Layers that are lowered to codes and memory; `Sequential` is its public face.

    Parameters
    ----------
    n_inputs : int
    layers : list of dict
        Per layer: n_units, activation (a code), l2 and l2_per_batch.
    dtype : {"float32", "float64"}
    """

    cdef const KernelTable* kernels
    cdef Dense* layers
    cdef Py_ssize_t n_layers
    cdef Py_ssize_t* strides        # elements between the rows of a layer's outputs
    cdef readonly object dtype
    cdef readonly list arrays       # per layer a dict of arrays in panels, by name
    cdef readonly Py_ssize_t iteration  # optimizer steps taken
    cdef object owner               # process in which a call trains the network, 0: none does
    cdef readonly TeamWatch watch

    cdef int loss, optimizer, output_activation
    cdef bint wants_accuracy
    cdef double accuracy_threshold
    cdef Step settings              # the optimizer's, before the corrections of a step

    cdef object workspace           # the arena that everything below points into
    cdef Py_ssize_t workspace_rows
    cdef int workspace_team
    cdef BatchRows rows
    cdef char** outputs             # per layer, (batch, stride)
    cdef char** deltas
    cdef const void*** output_rows  # per layer, pointers to the rows of outputs
    cdef const void*** delta_rows
    cdef double* squares            # per item of the update
    cdef char* scratch
    cdef Py_ssize_t scratch_bytes

    def __cinit__(self, Py_ssize_t n_inputs, list layers, dtype):
        cdef Py_ssize_t i, below = n_inputs
        self.n_layers = len(layers)
        self.dtype = np.dtype(dtype)
        self.kernels = kernel_table(None, dtype)
        self.iteration = 0
        self.owner = 0
        self.layers = <Dense*> calloc(self.n_layers, sizeof(Dense))
        self.strides = <Py_ssize_t*> calloc(self.n_layers, sizeof(Py_ssize_t))
        self.outputs = <char**> calloc(self.n_layers, sizeof(char*))
        self.deltas = <char**> calloc(self.n_layers, sizeof(char*))
        self.output_rows = <const void***> calloc(self.n_layers, sizeof(void**))
        self.delta_rows = <const void***> calloc(self.n_layers, sizeof(void**))
        if (self.layers == NULL or self.strides == NULL or self.outputs == NULL
                or self.deltas == NULL or self.output_rows == NULL or self.delta_rows == NULL):
            raise MemoryError
        for i, spec in enumerate(layers):
            self.layers[i].kernels = self.kernels
            self.layers[i].n_inputs = below
            self.layers[i].n_units = below = spec["n_units"]
            self.layers[i].activation = spec["activation"]
            self.layers[i].l2 = spec["l2"]
            self.layers[i].l2_per_batch = spec["l2_per_batch"]
            self.strides[i] = self._stride(below)
        self.arrays = self._new_arrays(["kernel", "bias"], transposed=True)
        for i in range(self.n_layers):
            self.layers[i].kernel.values = address(self.arrays[i]["kernel"])
            self.layers[i].bias.values = address(self.arrays[i]["bias"])
            if i > 0:
                self.layers[i].transposed = address(self.arrays[i]["transposed"])

    def __dealloc__(self):
        free(self.layers)
        free(self.strides)
        free(self.outputs)
        free(self.deltas)
        free(self.output_rows)
        free(self.delta_rows)

    cdef Py_ssize_t _stride(self, Py_ssize_t n_units):
        # Whole vectors, in an odd number of cache lines: a column of rows visits all cache sets.
        cdef Py_ssize_t item = self.kernels.item_size
        cdef Py_ssize_t lines = ceil_div(padded_size(n_units, self.kernels.lanes) * item, CACHE_LINE)
        return (lines | 1) * CACHE_LINE // item

    cdef list _new_arrays(self, names, bint transposed=False):
        """Return per layer a dict of arrays of zeros, all from one new arena.

        The beginning of a name says whether it has the kernel's layout or the bias's.
        """
        cdef Py_ssize_t i, n_in, n_out, lanes = self.kernels.lanes
        plan = []
        for i in range(self.n_layers):
            n_in, n_out = self.layers[i].n_inputs, self.layers[i].n_units
            for name in names:
                rows = n_in if name.startswith("kernel") else 1
                plan.append((i, name, rows * padded_size(n_out, lanes)))
            if transposed and i > 0:
                plan.append((i, "transposed", n_out * padded_size(n_in, lanes)))
        item = self.dtype.itemsize
        sizes = [count * item for _, _, count in plan]
        if sum(sizes) > sys.maxsize // 2:
            raise MemoryError(f"unable to allocate {sum(sizes):,} bytes for the parameters")
        cdef Arena arena = Arena(sum([Arena.room(size) for size in sizes]))
        arrays = [{} for _ in range(self.n_layers)]
        for i, name, count in plan:
            arrays[i][name] = arena.take(count, self.dtype)
        return arrays

    @property
    def isa(self):
        """Name of the instruction set that the network runs on."""
        return self.kernels.isa.decode()

    @property
    def n_outputs(self):
        """Units of the last layer."""
        return self.layers[self.n_layers - 1].n_units

    # Parameters, in users' shapes

    def get(self, Py_ssize_t layer, name):
        """Return a copy of a layer's kernel, bias, gradient or optimizer slot, in users' shape."""
        matrix = unpack(self.kernels, self.arrays[layer][name], self.layers[layer].n_units)
        return matrix[0] if name.startswith("bias") else matrix

    def set(self, Py_ssize_t layer, name, value):
        """Overwrite the array that `get` returns."""
        matrix = value[None, :] if name.startswith("bias") else value
        self.arrays[layer][name][...] = pack(self.kernels, matrix)
        if name == "kernel" and layer > 0:
            self.arrays[layer]["transposed"][...] = pack(self.kernels, matrix.T)

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

    def slot_names(self):
        """Return the names of the optimizer's arrays, for `get` and `set`."""
        return [name for name in self.arrays[0] if "slot" in name]

    def compile(self, int loss, int output_activation, int optimizer, int n_slots, settings,
                accuracy_threshold):
        """Set what training does, with new optimizer slots of zeros.

        Parameters
        ----------
        loss, output_activation, optimizer : int
            Codes. A loss that reads logits goes with the identity as output activation.
        n_slots : int
            Arrays that the optimizer keeps per parameter, 0 to 2.
        settings : dict
            learning_rate, momentum, beta_1, beta_2, epsilon.
        accuracy_threshold : float or None
            What a single output is compared with; None: accuracy is not computed.
        """
        cdef Py_ssize_t i
        cdef int s
        names = [f"{kind}_slot{s}" for s in range(n_slots) for kind in ("kernel", "bias")]
        self._enter()
        try:
            slots = self._new_arrays(names)  # before anything changes: it may fail
            self.loss = loss
            self.output_activation = output_activation
            self.optimizer = optimizer
            self.settings = optimizer_step(
                settings["learning_rate"], settings["momentum"], settings["beta_1"],
                settings["beta_2"], settings["epsilon"], 0, 1)
            self.wants_accuracy = accuracy_threshold is not None
            self.accuracy_threshold = accuracy_threshold or 0.0
            self.iteration = 0
            for i in range(self.n_layers):
                for s in range(2):
                    self.layers[i].kernel.slots[s] = self.layers[i].bias.slots[s] = NULL
                for s in range(n_slots):
                    self.layers[i].kernel.slots[s] = address(slots[i][f"kernel_slot{s}"])
                    self.layers[i].bias.slots[s] = address(slots[i][f"bias_slot{s}"])
                for name in [name for name in self.arrays[i] if "slot" in name]:
                    del self.arrays[i][name]
                self.arrays[i].update(slots[i])
        finally:
            self.owner = 0

    def restore_iteration(self, Py_ssize_t iteration):
        """Set the number of optimizer steps taken."""
        self.iteration = iteration

    cdef int _enter(self) except -1:
        # A child that was forked in the middle of training is not itself in it.
        if self.owner == os.getpid():
            raise RuntimeError("the network is being trained by another call")
        self.owner = os.getpid()
        return 0

    # Training

    def train(self, x, labels, values, weight, order, Py_ssize_t batch_size, tick=None,
              int n_threads=0):
        """Train on each sample once; return the averages of loss and accuracy.

        Parameters
        ----------
        x : ndarray of shape (samples, inputs) of the network's dtype, columns contiguous
        labels : ndarray of shape (samples,), int32, or None
        values : ndarray of shape (samples, outputs) of the dtype, columns contiguous, or None
        weight : ndarray of shape (samples,), float64, or None
        order : ndarray of shape (samples,), int64, or None
        batch_size : int
        tick : callable(samples_done, loss, accuracy), optional
            Called about every 30 ms.
        n_threads : int
            At most so many, 0 for the default; here and in the methods below.

        Notes
        -----
        When a signal handler or `tick` raises, the network stands as the last finished step left
        it.
        """
        self._enter()
        try:
            return self._run(
                x, labels, values, weight, order, batch_size, self.optimizer, tick, n_threads)
        finally:
            self.owner = 0

    def gradients(self, x, labels, values, weight, int n_threads=0):
        """Return the gradients of all samples as one batch, [kernel, bias, kernel, bias, ...]."""
        self._enter()
        try:
            self._run(x, labels, values, weight, None, len(x), CYMLP_GRADIENT, None, n_threads)
            names = ["kernel_gradient", "bias_gradient"]
            return [self.get(i, name) for i in range(self.n_layers) for name in names]
        finally:
            self.owner = 0

    def apply_gradients(self, gradients):
        """Take one optimizer step with gradients given as [kernel, bias, kernel, bias, ...]."""
        cdef Step step
        cdef Py_ssize_t i, index
        cdef uint64_t denormals
        self._enter()
        try:
            self._need_gradients()
            self._set_all(["kernel_gradient", "bias_gradient"], gradients)
            step = self._step(self.iteration + 1)
            with nogil:
                denormals = cymlp_flush_denormals()
                for i in range(self.n_layers):
                    for index in range(n_items(&self.layers[i])):
                        dense_apply_item(&self.layers[i], index, self.optimizer, &step)
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

    cdef Step _step(self, Py_ssize_t count) noexcept nogil:
        return optimizer_step(
            self.settings.learning_rate, self.settings.momentum, self.settings.beta_1,
            self.settings.beta_2, self.settings.epsilon, 0, count)

    cdef double _flops_per_row(self) noexcept nogil:
        cdef Py_ssize_t i
        cdef double flops = 0
        for i in range(self.n_layers):
            flops += 2.0 * self.layers[i].n_inputs * self.layers[i].n_units
        return flops

    cdef _run(self, x, labels, values, weight, order, Py_ssize_t batch_size, int optimizer, tick,
              int asked):
        cdef Run run
        cdef Run* shared = &run
        cdef int team, n_threads
        cdef Py_ssize_t before, steps = 0
        describe(
            &run.samples, x, labels, values, weight, order, self.dtype,
            self.layers[0].n_inputs, self.n_outputs)
        run.batch_size = min(batch_size, run.samples.n_rows)
        run.first = 0
        run.optimizer = optimizer
        run.stop = False
        run.unclocked = 0
        run.loss = run.hits = run.weight = 0
        if not self._is_fused(shared):
            self._need_gradients()
        team = threads_for(3 * self._flops_per_row() * run.batch_size, asked)
        self._need_workspace(self._slice_rows(shared), team)
        while run.first < run.samples.n_rows:
            run.pause = run.late = False
            before = run.first
            steps = self.iteration
            n_threads = begin_stretch(&self.watch, team)
            run.next_look = run.pause_at = cymlp_now() + LOOK_EVERY
            if n_threads > 1 and not self.watch.proven:
                run.pause_at = cymlp_now() + TRIAL
            if n_threads == 1:
                with nogil:
                    self._train(shared, steps, 0, 1)
            else:
                with nogil, parallel(num_threads=n_threads):
                    self._train(shared, steps, threadid(), cymlp_team_size())
            end_stretch(&self.watch, n_threads)
            if optimizer != CYMLP_GRADIENT:
                self.iteration += ceil_div(run.first - before, run.batch_size)
            _propagate(run.stop or raise_pending_signal() < 0)
            if tick is not None:
                tick(run.first, run.loss / (run.weight or 1), run.hits / (run.weight or 1))
        return run.loss / (run.weight or 1), run.hits / (run.weight or 1)

    cdef bint _is_fused(self, const Run* run) noexcept nogil:
        # One answer for all batches of a run: the workspace is laid out for it.
        return (run.optimizer != CYMLP_GRADIENT and run.batch_size <= FUSED_ROWS
                and self._flops_per_row() * run.batch_size <= FUSED_FLOPS)

    cdef Py_ssize_t _slice_rows(self, const Run* run) noexcept nogil:
        return run.batch_size if self._is_fused(run) else min(run.batch_size, SLICE_ROWS)

    cdef void _train(self, Run* run, Py_ssize_t steps, int thread, int team) noexcept nogil:
        """Train until the samples or the time run out; every thread of a team calls it."""
        cdef Py_ssize_t first, n_rows
        cdef double weight
        cdef int turn = 0
        cdef uint64_t denormals = cymlp_flush_denormals()
        if thread == 0:
            run.denormals = denormals
        while run.first < run.samples.n_rows and not run.pause:
            first = run.first
            n_rows = min(run.batch_size, run.samples.n_rows - first)
            weight = total_weight(&run.samples, first, n_rows)
            if thread == 0:
                steps += 1
                run.step = self._step(steps)
            if self._gradient_or_step(run, n_rows, weight, thread, team, &turn):
                break
            if run.optimizer != CYMLP_GRADIENT and not self._is_fused(run):
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

    cdef bint _gradient_or_step(
        self, Run* run, Py_ssize_t n_rows, double weight, int thread, int team, int* turn
    ) noexcept nogil:
        """Take a batch as far as its gradient or, if that is fused, through the whole step.

        Returns whether the batch is to be dropped; the parameters have then not been touched.
        """
        cdef bint fused = self._is_fused(run)
        cdef Py_ssize_t slice_rows = self._slice_rows(run)
        cdef Py_ssize_t s, start, count, tile = self.kernels.tile_rows
        cdef int optimizer = run.optimizer
        for s in range(ceil_div(n_rows, slice_rows)):
            start = s * slice_rows
            count = min(slice_rows, n_rows - start)
            if not fused:
                optimizer = CYMLP_GRADIENT if s == 0 else CYMLP_ACCUMULATE
            self._rows(
                run, run.first + start, share(count, tile, thread, team),
                share(count, tile, thread + 1, team), weight, thread)
            if agree_to_stop(run, thread, team, turn):
                return True
            self._update(run, count, weight, optimizer, thread, team)
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
        self, Run* run, Py_ssize_t n_rows, double weight, int optimizer, int thread, int team
    ) noexcept nogil:
        """Bring this thread's items of all layers up to date with some rows of the batch."""
        cdef Py_ssize_t i, index, item = 0
        cdef const Dense* layer
        cdef const void* const* x_rows
        cdef double squares
        for i in range(self.n_layers):
            layer = &self.layers[i]
            x_rows = self.output_rows[i - 1] if i > 0 else self.rows.x
            for index in range(n_items(layer)):
                if item % team == thread and not run.stop:
                    squares = dense_update_item(
                        layer, index, n_rows, x_rows, self.deltas[i], self.strides[i], weight,
                        optimizer, &run.step, self.scratch + thread * self.scratch_bytes)
                    if optimizer != CYMLP_ACCUMULATE:
                        self.squares[item] = squares
                    if keeps_gradient(optimizer):  # else the batch cannot be dropped any more
                        self._look(run, thread, <double> n_rows / n_items(layer), layer)
                item += 1

    cdef void _apply_gradients(self, Run* run, int thread, int team) noexcept nogil:
        """Move this thread's items of all layers by the gradients in memory."""
        cdef Py_ssize_t i, index, item = 0
        for i in range(self.n_layers):
            for index in range(n_items(&self.layers[i])):
                if item % team == thread:
                    dense_apply_item(&self.layers[i], index, run.optimizer, &run.step)
                item += 1

    cdef void _rows(
        self, Run* run, Py_ssize_t first, Py_ssize_t start, Py_ssize_t stop, double weight,
        int thread
    ) noexcept nogil:
        """Take rows of the batch through forward pass, loss and delta propagation."""
        cdef Py_ssize_t chunk, row, n_rows, i, stride
        for chunk in range(ceil_div(stop - start, CHUNK_ROWS)):
            row = start + chunk * CHUNK_ROWS
            n_rows = min(CHUNK_ROWS, stop - row)
            gather(&run.samples, first, row, row + n_rows, &self.rows)
            for i in range(self.n_layers):
                dense_forward(
                    &self.layers[i], self._activation(i), n_rows,
                    (self.output_rows[i - 1] if i > 0 else self.rows.x) + row,
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
            self.kernels.activate_backward[self.output_activation](
                n_rows, self.layers[i].n_units, self._at(self.outputs[i], i, row), stride,
                self._at(self.deltas[i], i, row), stride)
            for i in range(self.n_layers - 1, 0, -1):
                dense_propagate(
                    &self.layers[i], self.layers[i - 1].activation, n_rows,
                    self.delta_rows[i] + row, self._at(self.outputs[i - 1], i - 1, row),
                    self._at(self.deltas[i - 1], i - 1, row), self.strides[i - 1])
                self._look(run, thread, n_rows, &self.layers[i])
                if run.stop:
                    return

    cdef inline int _activation(self, Py_ssize_t layer) noexcept nogil:
        return self.output_activation if layer == self.n_layers - 1 \
            else self.layers[layer].activation

    cdef inline char* _at(self, char* rows, Py_ssize_t layer, Py_ssize_t row) noexcept nogil:
        return rows + row * self.strides[layer] * <Py_ssize_t> self.kernels.item_size

    cdef void _scale(
        self, const Samples* samples, Py_ssize_t first, Py_ssize_t row, Py_ssize_t n_rows,
        double weight
    ) noexcept nogil:
        """Each row's share of the batch's average; 0 in a batch without any weight."""
        cdef Py_ssize_t b
        for b in range(row, row + n_rows):
            self.rows.scale[b] = weight_at(samples, first + b) / weight if weight > 0 else 0

    cdef void _losses(
        self, const Samples* samples, const BatchRows* rows, Py_ssize_t row, Py_ssize_t n_rows,
        const char* out, Py_ssize_t out_stride, char* delta, Py_ssize_t delta_stride
    ) noexcept nogil:
        """Loss, its scaled derivative and, where wanted, accuracy of some rows' outputs."""
        cdef Py_ssize_t n_units = self.layers[self.n_layers - 1].n_units
        cdef Targets targets = targets_from(samples, rows, row)
        self.kernels.loss[self.loss](
            n_rows, n_units, out, out_stride, targets, rows.scale + row, rows.loss + row, delta,
            delta_stride)
        if self.wants_accuracy:
            self.kernels.accuracy(
                n_rows, n_units, out, out_stride, targets, self.accuracy_threshold,
                rows.hit + row)

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

    cdef _need_workspace(self, Py_ssize_t n_rows, int team):
        """Lay out the memory of a batch in one arena; nothing is allocated after that."""
        if n_rows <= self.workspace_rows and team <= self.workspace_team:
            return
        cdef Py_ssize_t i, b, item = self.dtype.itemsize
        n_rows = max(n_rows, self.workspace_rows)
        team = max(team, self.workspace_team)
        count = sum([n_items(&self.layers[i]) for i in range(self.n_layers)])
        scratch_bytes = Arena.room(scratch_size(self.kernels, n_rows))
        sizes = [n_rows * self.strides[i] * item for i in range(self.n_layers)]
        total = (
            sum(2 * (Arena.room(size) + Arena.room(8 * n_rows)) for size in sizes)
            + rows_room(n_rows) + Arena.room(8 * count)
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
        self.rows = take_rows(arena, n_rows)
        self.squares = <double*> address(arena.take(count, np.float64))
        self.scratch = address(arena.take(scratch_bytes * team, np.uint8))
        self.scratch_bytes = scratch_bytes
        self.workspace_rows = n_rows
        self.workspace_team = team

    # Inference

    def forward(self, x, outputs, int n_threads=0):
        """Fill arrays with the outputs of layers.

        Parameters
        ----------
        x : ndarray of shape (samples, inputs) of the network's dtype, columns contiguous
        outputs : list
            Per layer an ndarray of shape (samples, units), C-contiguous, to be filled, or None.
        """
        self._infer(x, None, None, outputs, None, None, n_threads)

    def evaluate(self, x, labels, values, weight, int n_threads=0):
        """Return the averages of loss, with the penalty, and accuracy over the samples."""
        cdef Py_ssize_t i, b, n_rows = len(x)
        cdef double[::1] loss = np.empty(n_rows), hit = np.zeros(n_rows)
        cdef const double[::1] weights = np.ones(n_rows) if weight is None else weight
        cdef double loss_sum = 0, hits = 0, total = 0, penalty = 0
        self._infer(x, labels, values, [None] * self.n_layers, loss, hit, n_threads)
        for b in range(n_rows):
            total += weights[b]
            loss_sum += weights[b] * loss[b]
            hits += weights[b] * hit[b]
        for i in range(self.n_layers):
            if self.layers[i].l2 != 0:
                penalty += 0.5 * l2_of(&self.layers[i], total) * self.kernels.sum_of_squares(
                    self.arrays[i]["kernel"].size, self.layers[i].kernel.values)
        return loss_sum / (total or 1) + penalty, hits / (total or 1)

    cdef _infer(self, x, labels, values, outputs, double[::1] loss, double[::1] hit,
                int n_threads):
        """Take all rows through the layers; with targets, also through the loss."""
        cdef Samples samples
        describe(
            &samples, x, labels, values, None, None, self.dtype, self.layers[0].n_inputs,
            self.n_outputs)
        cdef Py_ssize_t n_rows = samples.n_rows, widest = 0, i, start, stop, window
        for i in range(self.n_layers):
            widest = max(widest, self.strides[i])
        addresses = np.zeros(self.n_layers, np.intp)
        for i, array in enumerate(outputs):
            if array is not None:
                shape = (n_rows, self.layers[i].n_units)
                if (array.shape != shape or array.dtype != self.dtype
                        or not array.flags.c_contiguous or not array.flags.writeable):
                    raise ValueError(f"outputs[{i}] must be a C-contiguous array of shape {shape}")
                addresses[i] = array.ctypes.data
        cdef char** out = <char**> address(addresses)
        cdef double flops = self._flops_per_row()
        cdef int team = threads_for(flops * n_rows, n_threads)
        cdef Py_ssize_t chunk = min(n_rows, CHUNK_ROWS)
        cdef Py_ssize_t buffer_bytes = Arena.room(chunk * widest * self.dtype.itemsize)
        cdef Arena arena = Arena(2 * team * buffer_bytes + rows_room(team * chunk))
        cdef BatchRows rows
        cdef BatchRows* shared = &rows
        rows = take_rows(arena, team * chunk)
        cdef char* buffers = address(arena.take(2 * team * buffer_bytes, np.uint8))
        cdef double* losses = &loss[0] if loss is not None else NULL
        cdef double* hits = &hit[0] if hit is not None else NULL
        window = max(CHUNK_ROWS, <Py_ssize_t> (INFERENCE_FLOPS / flops)) * team
        for start in range(0, n_rows, window):
            stop = min(n_rows, start + window)
            if team == 1:
                with nogil:
                    self._infer_rows(
                        &samples, start, stop, shared, buffers, buffer_bytes, chunk, out, losses,
                        hits, 0, 1)
            else:
                with nogil, parallel(num_threads=team):
                    self._infer_rows(
                        &samples, start, stop, shared, buffers, buffer_bytes, chunk, out, losses,
                        hits, threadid(), cymlp_team_size())
            _propagate(raise_pending_signal() < 0)

    cdef void _infer_rows(
        self, const Samples* samples, Py_ssize_t start, Py_ssize_t stop, const BatchRows* shared,
        char* buffers, Py_ssize_t buffer_bytes, Py_ssize_t chunk, char** out, double* losses,
        double* hits, int thread, int team
    ) noexcept nogil:
        """The part of one thread of rows start..stop, chunk by chunk through all layers."""
        cdef BatchRows rows = shared[0]
        cdef Py_ssize_t item = self.kernels.item_size, tile = self.kernels.tile_rows
        cdef Py_ssize_t first = start + share(stop - start, tile, thread, team)
        cdef Py_ssize_t end = start + share(stop - start, tile, thread + 1, team)
        cdef Py_ssize_t c, row, n_rows, i, b, stride = 0
        cdef int activation
        cdef bint evaluates = losses != NULL
        cdef char* y = NULL
        cdef uint64_t denormals = cymlp_flush_denormals()
        rows.x += thread * chunk
        rows.values += thread * chunk
        rows.labels += thread * chunk
        rows.scale += thread * chunk
        rows.hit += thread * chunk
        rows.loss += thread * chunk
        for c in range(ceil_div(end - first, chunk)):
            row = first + c * chunk
            n_rows = min(chunk, end - row)
            gather(samples, row, 0, n_rows, &rows)
            for i in range(self.n_layers):
                activation = self._activation(i) if evaluates else self.layers[i].activation
                if out[i] != NULL:
                    stride = self.layers[i].n_units
                    y = out[i] + row * stride * item
                    dense_forward(
                        &self.layers[i], activation, n_rows, rows.x, y, stride, False)
                else:
                    # Two buffers in turn: the other one may hold what this layer reads.
                    stride = self.strides[i]
                    y = buffers + (2 * thread + i % 2) * buffer_bytes
                    dense_forward(&self.layers[i], activation, n_rows, rows.x, y, stride, True)
                for b in range(n_rows):
                    rows.x[b] = y + b * stride * item
            if evaluates:
                self._losses(
                    samples, &rows, 0, n_rows, y, stride,
                    buffers + (2 * thread + self.n_layers % 2) * buffer_bytes, stride)
                for b in range(n_rows):
                    losses[row + b] = rows.loss[b]
                    if self.wants_accuracy:
                        hits[row + b] = rows.hit[b]
        cymlp_restore_denormals(denormals)
