"""Inference: all rows of some samples through the layers of a program, and through its loss."""

import numpy as np

from cython.parallel cimport parallel, threadid

from libc.stdint cimport uint64_t

from cymlp._batch cimport (
    Arena, BatchRows, Samples, address, describe, gather, rows_room, take_rows)
from cymlp._dense cimport ceil_div, dense_forward, l2_of
from cymlp._program cimport (
    CHUNK_ROWS, Program, cymlp_flush_denormals, cymlp_restore_denormals, propagate,
    raise_pending_signal, share)
from cymlp._threads cimport cymlp_team_size, threads_for

# Operations of a thread between two looks at pending signals.
cdef double INFERENCE_FLOPS = 2e9


def forward(Program program, x, outputs):
    """Fill arrays with the outputs of layers.

    Parameters
    ----------
    program : Program
    x : ndarray of shape (samples, inputs) of the network's dtype, columns contiguous
    outputs : list
        Per layer an ndarray of shape (samples, units), C-contiguous, to be filled, or None.
    """
    _infer(program, x, None, None, outputs, None, None)


def evaluate(Program program, x, labels, values, weight):
    """Return the averages of loss, with the penalty, and accuracy over the samples."""
    cdef Py_ssize_t i, b, n_rows = len(x)
    cdef double[::1] loss = np.empty(n_rows), hit = np.zeros(n_rows)
    cdef const double[::1] weights = np.ones(n_rows) if weight is None else weight
    cdef double loss_sum = 0, hits = 0, total = 0, penalty = 0
    _infer(program, x, labels, values, [None] * program.n_layers, loss, hit)
    for b in range(n_rows):
        total += weights[b]
        loss_sum += weights[b] * loss[b]
        hits += weights[b] * hit[b]
    for i in range(program.n_layers):
        if program.layers[i].l2 != 0:
            penalty += 0.5 * l2_of(&program.layers[i], total) * program.kernels.sum_of_squares(
                program.arrays[i]["kernel"].size, program.layers[i].kernel.values)
    return loss_sum / (total or 1) + penalty, hits / (total or 1)


cdef _infer(
    Program program, x, labels, values, outputs, double[::1] loss, double[::1] hit
):
    """Take all rows through the layers; with targets, also through the loss."""
    cdef Samples samples
    describe(
        &samples, x, labels, values, None, None, program.dtype, program.layers[0].n_inputs,
        program.n_outputs)
    cdef Py_ssize_t n_rows = samples.n_rows, widest = 0, i, start, stop, window
    for i in range(program.n_layers):
        widest = max(widest, program.strides[i])
    addresses = np.zeros(program.n_layers, np.intp)
    for i, array in enumerate(outputs):
        if array is not None:
            shape = (n_rows, program.layers[i].n_units)
            if (array.shape != shape or array.dtype != program.dtype
                    or not array.flags.c_contiguous or not array.flags.writeable):
                raise ValueError(f"outputs[{i}] must be a C-contiguous array of shape {shape}")
            addresses[i] = array.ctypes.data
    cdef char** out = <char**> address(addresses)
    cdef double flops = program._flops_per_row()
    cdef int team = threads_for(flops * n_rows)
    cdef Py_ssize_t chunk = min(n_rows, CHUNK_ROWS)
    cdef Py_ssize_t buffer_bytes = Arena.room(chunk * widest * program.dtype.itemsize)
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
                _infer_rows(
                    program, &samples, start, stop, shared, buffers, buffer_bytes, chunk, out,
                    losses, hits, 0, 1)
        else:
            with nogil, parallel(num_threads=team):
                _infer_rows(
                    program, &samples, start, stop, shared, buffers, buffer_bytes, chunk, out,
                    losses, hits, threadid(), cymlp_team_size())
        propagate(raise_pending_signal() < 0)


cdef void _infer_rows(
    Program program, const Samples* samples, Py_ssize_t start, Py_ssize_t stop,
    const BatchRows* shared,
    char* buffers, Py_ssize_t buffer_bytes, Py_ssize_t chunk, char** out, double* losses,
    double* hits, int thread, int team
) noexcept nogil:
    """The part of one thread of rows start..stop, chunk by chunk through all layers."""
    cdef BatchRows rows = shared[0]
    cdef Py_ssize_t item = program.kernels.item_size, tile = program.kernels.tile_rows
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
        for i in range(program.n_layers):
            activation = program._activation(i) if evaluates else program.layers[i].activation
            if out[i] != NULL:
                stride = program.layers[i].n_units
                y = out[i] + row * stride * item
                dense_forward(
                    &program.layers[i], activation, n_rows, rows.x, y, stride, False)
            else:
                # Two buffers in turn: the other one may hold what this layer reads.
                stride = program.strides[i]
                y = buffers + (2 * thread + i % 2) * buffer_bytes
                dense_forward(&program.layers[i], activation, n_rows, rows.x, y, stride, True)
            for b in range(n_rows):
                rows.x[b] = y + b * stride * item
        if evaluates:
            program._losses(
                samples, &rows, 0, n_rows, y, stride,
                buffers + (2 * thread + program.n_layers % 2) * buffer_bytes, stride)
            for b in range(n_rows):
                losses[row + b] = rows.loss[b]
                if program.wants_accuracy:
                    hits[row + b] = rows.hit[b]
    cymlp_restore_denormals(denormals)
