"""Rows of a batch through all operations of a network, there and back: outputs, losses, deltas."""

import numpy as np

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from cymlp._batch cimport (
    Arena, address, gather, rows_room, take_rows, weight_at)
from cymlp._dense cimport (
    PanelRange, all_inputs, ceil_div, inputs_from, n_words_of, padded_size, panels_of_thread,
    scratch_size)
from cymlp._ops cimport (
    OP_BATCH_NORM, OP_DENSE, OP_DROPOUT, OP_LAYER_NORM, PYTHON_ACTIVATION, SAMPLES, forward_units,
    has_norm, kept_at, norm_backward_sums, norm_forward_sums, norm_scratch_size,
    op_activation_backward, op_forward, op_norms, op_propagate, row_at, uses_batch)
from cymlp._program cimport (
    CHUNK_ROWS, cymlp_flush_denormals, cymlp_restore_denormals, raise_pending_signal, share)
from cymlp._threads cimport cymlp_barrier, cymlp_now


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


cdef class Passes(Program):
    """A program with memory for a batch, which takes rows of it through all operations."""

    def __cinit__(self, Py_ssize_t n_inputs, list ops, dtype, key=(0, 0)):
        self.tensors = <Tensor*> calloc(2 * self.n_ops, sizeof(Tensor))
        if self.tensors == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.tensors)

    cdef void _gather(
        self, const Run* run, const Batch* batch, int thread, int team
    ) noexcept nogil:
        """Gather this thread's rows of a whole batch, which forward_units will take."""
        cdef Py_ssize_t tile = self.kernels.tile_rows
        gather(
            self.kernels, &run.samples, batch.first, share(batch.n_rows, tile, thread, team),
            share(batch.n_rows, tile, thread + 1, team), batch.rows, &batch.inputs,
            2 * run.batch_size)

    cdef void _forward_units(
        self, const Batch* batch, int thread, int team
    ) noexcept nogil:
        """Take all rows of a batch through this thread's units of the first layer."""
        cdef Py_ssize_t chunk, row, stop = 0, n_chunks = ceil_div(batch.n_rows, CHUNK_ROWS)
        cdef PanelRange units = panels_of_thread(&self.ops[0].dense, thread, team)
        for chunk in range(n_chunks):
            row, stop = stop, batch.n_rows * (chunk + 1) // n_chunks
            forward_units(
                self.kernels, &self.ops[0], &batch.tensors[0], units,
                inputs_from(batch.inputs, row), self._activation(0), row, stop - row)

    cdef void _rows(
        self, Run* run, const Batch* batch, Py_ssize_t start, Py_ssize_t n_rows, int thread,
        int team, int* turn
    ) noexcept nogil:
        """Take this thread's part of some rows through forward pass, loss and delta propagation.

        A norm that wants to have seen all rows cuts the way in two, forward and back. If it ends
        early the batch will be dropped.
        """
        cdef const Mode* mode = &batch.mode
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
                if begin == 0 and not batch.has_sums:
                    gather(
                        self.kernels, &run.samples, batch.first + start, row, row + count,
                        batch.rows, &batch.inputs, run.batch_size)
                self._forward(run, batch, row, start + row, count, begin, stop, thread)
                if stop == self.n_ops and not run.stop:
                    self._loss(run, batch, batch.first + start, row, count)
                    if not run.stop:
                        self._backward(run, batch, row, count, n_rows, stop, begin, thread)
                if run.stop:
                    break
            if stop == self.n_ops:
                break
            if self._norm_sums(run, batch, stop, n_rows, True, thread, team, turn):
                return
            begin = stop
        while begin > 0:
            if self._norm_sums(run, batch, begin, n_rows, False, thread, team, turn):
                return
            stop, begin = begin, begin - 1
            while begin > 0 and not uses_batch(&self.ops[begin], mode):
                begin -= 1
            for chunk in range(ceil_div(end - first, CHUNK_ROWS)):
                row = first + chunk * CHUNK_ROWS
                count = min(CHUNK_ROWS, end - row)
                op_propagate(
                    self.kernels, self.ops, batch.tensors, stop, row, count, n_rows, mode)
                self._backward(run, batch, row, count, n_rows, stop, begin, thread)
                if run.stop:
                    break

    cdef bint _norm_sums(
        self, Run* run, const Batch* batch, Py_ssize_t k, Py_ssize_t n_rows, bint forward,
        int thread, int team, int* turn
    ) noexcept nogil:
        """Sum this thread's columns of a norm up; return whether the batch is to be dropped."""
        cdef Py_ssize_t lanes = self.kernels.lanes, n = padded_size(self.ops[k].n_units, lanes)
        cdef Py_ssize_t first = share(n, lanes, thread, team)
        cdef Py_ssize_t stop = share(n, lanes, thread + 1, team)
        if agree_to_stop(run, thread, team, turn):
            return True
        if forward:
            norm_forward_sums(self.kernels, self.ops, batch.tensors, k, first, stop, n_rows)
        else:
            norm_backward_sums(self.kernels, self.ops, batch.tensors, k, first, stop, n_rows)
        return agree_to_stop(run, thread, team, turn)

    cdef void _forward(
        self, Run* run, const Batch* batch, Py_ssize_t row, Py_ssize_t row_number,
        Py_ssize_t n_rows, Py_ssize_t begin, Py_ssize_t stop, int thread
    ) noexcept nogil:
        """Take rows through the operations from `begin` to before `stop`."""
        cdef Py_ssize_t k
        cdef const Op* op
        cdef Inputs below
        for k in range(begin, stop):
            op = &self.ops[k]
            below = inputs_from(self._inputs_of(op, batch), row)
            op_forward(
                self.kernels, self.ops, batch.tensors, k, below, batch.has_sums and k == 0,
                self._activation(k), row, row_number, n_rows, &batch.mode)
            if self._activation(k) == PYTHON_ACTIVATION:
                run.stop |= self._call_activation(
                    k, False, n_rows, kept_at(self.kernels, self.ops, batch.tensors, k, row),
                    op.stride,
                    row_at(self.kernels, op, batch.tensors[k].y, row), op.stride, run.denormals)
            self._look(run, thread, n_rows, op)
            if run.stop:
                return

    cdef void _loss(
        self, Run* run, const Batch* batch, Py_ssize_t first, Py_ssize_t row, Py_ssize_t n_rows
    ) noexcept nogil:
        cdef Py_ssize_t last = self.n_ops - 1
        cdef const Op* op = &self.ops[last]
        if run.of_targets:
            self._take_targets(run, batch, first, row, n_rows)
            return
        self._scale(&run.samples, batch, first, row, n_rows)
        if self._losses(
                &run.samples, batch.rows, row, n_rows,
                row_at(self.kernels, op, batch.tensors[last].y, row), op.stride,
                row_at(self.kernels, op, batch.tensors[last].delta, row), op.stride,
                run.denormals):
            run.stop = True

    cdef void _take_targets(
        self, Run* run, const Batch* batch, Py_ssize_t first, Py_ssize_t row, Py_ssize_t n_rows
    ) noexcept nogil:
        cdef Py_ssize_t b, last = self.n_ops - 1
        cdef const Op* op = &self.ops[last]
        cdef const Samples* samples = &run.samples
        for b in range(n_rows):
            memcpy(
                row_at(self.kernels, op, batch.tensors[last].delta, row + b),
                samples.values + (first + row + b) * samples.values_stride,
                op.n_units * <Py_ssize_t> self.kernels.item_size)

    cdef void _backward(
        self, Run* run, const Batch* batch, Py_ssize_t row, Py_ssize_t n_rows,
        Py_ssize_t batch_rows, Py_ssize_t stop, Py_ssize_t begin, int thread
    ) noexcept nogil:
        """Take deltas through the operations from before `stop` down to `begin`.

        There they stop before that operation itself, whose activation they have passed.
        """
        cdef Py_ssize_t k
        for k in range(stop - 1, begin - 1, -1):
            if self._activation(k) == PYTHON_ACTIVATION:
                run.stop |= self._call_activation(
                    k, True, n_rows, kept_at(self.kernels, self.ops, batch.tensors, k, row),
                    self.ops[k].stride,
                    row_at(self.kernels, &self.ops[k], batch.tensors[k].delta, row),
                    self.ops[k].stride, run.denormals)
            elif not self.ops[k].is_gated:
                op_activation_backward(
                    self.kernels, self.ops, batch.tensors, k, self._activation(k), row, n_rows)
            if k > begin or k == 0:
                op_propagate(
                    self.kernels, self.ops, batch.tensors, k, row, n_rows, batch_rows,
                    &batch.mode)
            if k == 0:
                return
            self._look(run, thread, n_rows, &self.ops[k])
            if run.stop:
                return

    cdef inline Inputs _inputs_of(self, const Op* op, const Batch* batch) noexcept nogil:
        """An operation's inputs."""
        if op.source == SAMPLES:
            return batch.inputs
        return all_inputs(batch.tensors[op.source].y_rows, self.ops[op.source].stride)

    cdef inline Py_ssize_t _sparse_units(self) noexcept nogil:
        """The units of the layer that reads samples where they stand, if there is one."""
        return self.ops[0].n_units if self.ops[0].kind == OP_DENSE else 0

    cdef bint _uses_batches(self, const Run* run) noexcept nogil:
        cdef Py_ssize_t k
        for k in range(self.n_ops):
            if uses_batch(&self.ops[k], &run.mode):
                return True
        return False

    cdef void _scale(
        self, const Samples* samples, const Batch* batch, Py_ssize_t first, Py_ssize_t row,
        Py_ssize_t n_rows
    ) noexcept nogil:
        """Each row's share of the batch's average; 0 in a batch without any weight."""
        cdef Py_ssize_t b
        cdef double weight = batch.weight
        cdef double equal_share = 1 / weight if weight > 0 else 0
        if samples.weight == NULL or weight <= 0:
            for b in range(row, row + n_rows):
                batch.rows.scale[b] = equal_share
            return
        for b in range(row, row + n_rows):
            batch.rows.scale[b] = weight_at(samples, first + b) / weight

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
            run.next_look = next_look(cymlp_now())

    cdef _need_workspace(self, Py_ssize_t n_rows, int team, Format format, bint by_units):
        """Lay out the memory of a batch in one arena; nothing is allocated after that."""
        if (n_rows <= self.workspace_rows and team <= self.workspace_team
                and format == self.workspace_format and by_units <= self.workspace_by_units):
            return
        cdef Py_ssize_t k, b, item = self.dtype.itemsize
        cdef const Op* op
        cdef Tensor* own
        n_rows = max(n_rows, self.workspace_rows)
        team = max(team, self.workspace_team)
        by_units = by_units or self.workspace_by_units
        count = sum([op_norms(&self.ops[k]) for k in range(self.n_ops)])
        scratch_bytes = scratch_size(self.kernels, n_rows)
        total = Arena.room(16 * count)
        total += (1 + by_units) * rows_room(self.kernels, format, n_rows, self.n_inputs)
        if by_units:
            total += Arena.room(n_rows * self.ops[0].stride * item) + Arena.room(8 * n_rows)
        for k in range(self.n_ops):
            op = &self.ops[k]
            total += (3 * Arena.room(n_rows * op.stride * item) + 3 * Arena.room(8 * n_rows)
                      + Arena.room(n_rows * item) + 5 * Arena.room(op.stride * item)
                      + 2 * Arena.room(8 * n_rows * n_words_of(self.kernels, op.n_units)))
            if has_norm(op):
                scratch_bytes = max(scratch_bytes, norm_scratch_size(self.kernels, op))
        # A thread that reads its own to the end would have the beginning of the next thread's
        # fetched, which that one writes for each tile.
        scratch_bytes = Arena.room(scratch_bytes) + FAR_APART
        cdef Arena arena = Arena(total + Arena.room(scratch_bytes * team))
        self.workspace_rows = 0  # until all is laid out
        self.workspace = arena
        for k in range(self.n_ops):
            op, own = &self.ops[k], &self.tensors[k]
            shape = (n_rows, op.stride)
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
            own.delta_rows = <const void**> address(arena.take(n_rows, np.intp))
            for b in range(n_rows):
                own.delta_rows[b] = row_at(self.kernels, op, own.delta, b)
            n_words = n_rows * n_words_of(self.kernels, op.n_units)
            if op.is_skipped:
                own.nonzeros = <uint64_t*> address(arena.take(n_words, np.uint64))
                own.n_nonzeros = <Py_ssize_t*> address(arena.take(n_rows, np.intp))
            if op.skips_deltas:
                own.delta_nonzeros = <uint64_t*> address(arena.take(n_words, np.uint64))
            self._take_outputs(arena, k, n_rows)
            self.tensors[self.n_ops + k] = own[0]
            if k == 0 and by_units:
                self._take_outputs(arena, self.n_ops, n_rows)
        for b in range(1 + by_units):
            self.rows[b] = take_rows(arena, self.kernels, format, n_rows, self.n_inputs)
        self.norms = <Norms*> address(arena.take(2 * count, np.float64))
        self.scratch = address(arena.take(scratch_bytes * team, np.uint8))
        self.scratch_bytes = scratch_bytes
        self.workspace_rows = n_rows
        self.workspace_team = team
        self.workspace_format = format
        self.workspace_by_units = by_units

    cdef _take_outputs(self, Arena arena, Py_ssize_t tensor, Py_ssize_t n_rows):
        """Lay out what an operation makes of a batch or, from n_ops on, of the next one."""
        cdef Py_ssize_t b
        cdef const Op* op = &self.ops[tensor % self.n_ops]
        cdef Tensor* own = &self.tensors[tensor]
        own.y = address(arena.take((n_rows, op.stride), self.dtype))
        own.y_rows = <const void**> address(arena.take(n_rows, np.intp))
        for b in range(n_rows):
            own.y_rows[b] = row_at(self.kernels, op, own.y, b)
