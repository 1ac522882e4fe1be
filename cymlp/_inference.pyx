"""Inference: rows of samples through the layers of a program, and through its loss.

A call borrows the memory that it works in from the program and gives it back: calls of several
Python threads at once get one each. What a call takes from Python is looked at once, in compiled
code; an array that is not ready to be read as it stands goes through `_validate`, which converts
it or says what is wrong with it.
"""

import functools

import numpy as np

from cpython.object cimport PyObject, PyTypeObject
from cython.parallel cimport parallel, threadid

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from cymlp import _validate

from cymlp._arrays cimport (
    NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_WRITEABLE, PyArray_DATA, PyArray_DIMS, PyArray_FLAGS,
    PyArray_NDIM, PyArrayObject, Rows, are_finite, holds_reals, look_at, new_rows)
from cymlp._batch cimport (
    FOREIGN, NONZEROS, REALS, Arena, BatchRows, Format, Samples, address, describe, gather,
    inputs_of, leaves_zeros_out, most_nonzeros, read_as, rows_from, rows_room, take_rows)
from cymlp._dense cimport (
    Inputs, Norms, all_inputs, ceil_div, dense_forward, dense_norms, find_zeros, n_items, n_norms,
    n_words_of, penalty_of, zeros_pay)
from cymlp._kernels cimport CYMLP_IDENTITY, CYMLP_RELU, KernelTable
from cymlp._ops cimport (
    OP_ADD, OP_BATCH_NORM, OP_DENSE, OP_INPUT, OP_LAYER_NORM, PYTHON_ACTIVATION, SAMPLES, Op,
    copy_samples, has_penalty)
from cymlp._program cimport (
    CHUNK_ROWS, Program, cymlp_flush_denormals, cymlp_restore_denormals, propagate,
    raise_pending_signal, share)
from cymlp._threads cimport cymlp_team_size, threads_for

cdef extern from "vectorcall.h":
    ctypedef PyObject* (*vectorcallfunc)(PyObject*, PyObject* const*, size_t, PyObject*)
    Py_ssize_t PyVectorcall_NARGS(size_t n)
    void cymlp_take_vectorcall(PyTypeObject* type, Py_ssize_t offset)

# Operations of a thread between two looks at pending signals.
cdef double INFERENCE_FLOPS = 2e9
# Operations that are worth handing the GIL over and taking it back: about 20 microseconds.
cdef double RELEASE_FLOPS = 1e6

cdef object ndarray = np.ndarray


# Where the outputs of an operation are, for the rows of a chunk.
cdef struct Made:
    char* y
    Py_ssize_t stride


cdef class Room:
    """Memory that one call works in.

    For each thread of a team the buffers of outputs that the program has planned, and the rows of
    a chunk.
    """

    cdef Arena arena
    cdef BatchRows rows
    cdef char** out                 # per operation, where its outputs are wanted; NULL: nowhere
    cdef Made* made                 # per thread and operation
    cdef char* buffers
    cdef Py_ssize_t buffer_bytes
    cdef uint64_t* nonzeros         # of the inputs of an operation that looks for them
    cdef Py_ssize_t n_words         # per row
    cdef Py_ssize_t chunk           # rows
    cdef int team
    cdef Format format
    cdef bint raised                # by a user's function; such a room is not given back

    def __cinit__(self, Program program, Py_ssize_t chunk, int team, Format format):
        cdef Py_ssize_t k, widest = 0, n_inputs = program.n_inputs
        cdef Py_ssize_t rows_bytes = rows_room(program.kernels, format, team * chunk, n_inputs)
        for k in range(program.n_ops):
            widest = max(widest, program.ops[k].stride)
            if program.inferred[k].skips_zeros:
                self.n_words = max(
                    self.n_words, n_words_of(program.kernels, program.ops[k].n_inputs))
        self.chunk = chunk
        self.team = team
        self.buffer_bytes = Arena.room(chunk * widest * program.dtype.itemsize)
        buffers_bytes = program.n_slots * team * self.buffer_bytes
        n_words = team * chunk * self.n_words
        self.arena = Arena(Arena.room(buffers_bytes) + rows_bytes + Arena.room(8 * n_words))
        self.rows = take_rows(self.arena, program.kernels, format, team * chunk, n_inputs)
        self.format = format
        self.buffers = address(self.arena.take(buffers_bytes, np.uint8))
        self.nonzeros = <uint64_t*> address(self.arena.take(n_words, np.uint64))
        self.out = <char**> calloc(program.n_ops, sizeof(char*))
        self.made = <Made*> calloc(team * program.n_ops, sizeof(Made))
        if self.out == NULL or self.made == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.out)
        free(self.made)


cdef Room borrow(Program program, Py_ssize_t n_rows, int team, Format format):
    """Return a room for some rows and a team, which no other call has."""
    cdef Py_ssize_t k, chunk = min(n_rows, CHUNK_ROWS)
    cdef Room room
    program._refresh()
    if program.n_spare > 0:
        program.n_spare -= 1
        room = <Room> program.spare[program.n_spare]
        program.spare[program.n_spare] = None
        if room.chunk >= chunk and room.team >= team and room.format == format:
            for k in range(program.n_ops):
                room.out[k] = NULL
            return room
        chunk, team = max(chunk, room.chunk), max(team, room.team)
    return Room(program, chunk, team, format)


cdef give_back(Program program, Room room):
    if program.n_spare < len(program.spare):
        program.spare[program.n_spare] = room
        program.n_spare += 1


cdef bint is_ready(Program program, x, Rows* rows) except -1:
    """Whether x can be read as it stands, a row or rows of the network's inputs; fill `rows`."""
    return (look_at(x, program.kernels.item_size, rows)
            and rows.n_columns == program.n_inputs)


cdef void take_samples(
    Samples* samples, const Rows* rows, Py_ssize_t item_size, double scale
) noexcept nogil:
    """Fill `samples` with rows that have no targets."""
    samples.n_rows = rows.n_rows
    samples.n_inputs = rows.n_columns
    samples.format = REALS
    samples.row_starts = NULL
    samples.columns = NULL
    samples.x = rows.base
    samples.x_stride = rows.stride
    read_as(samples, item_size, scale)
    samples.values_stride = 0
    samples.labels = NULL
    samples.values = NULL
    samples.weight = NULL
    samples.order = NULL


def forward(Program program, x, outputs, int n_threads=0):
    """Fill arrays with the outputs of operations.

    Parameters
    ----------
    program : Program
    x : ndarray of shape (samples, inputs), or SparseRows
    outputs : dict
        By the number of an operation an ndarray of shape (samples, units), C-contiguous, to be
        filled.
    """
    cdef Samples samples
    cdef Py_ssize_t k
    cdef Room room
    cdef int team
    describe(
        &samples, x, None, None, None, program.dtype, program.n_inputs, program.n_outputs,
        program.input_scale)
    team = team_for(program, samples.n_rows, n_threads)
    room = borrow(program, samples.n_rows, team, samples.format)
    for k, array in outputs.items():
        shape = (samples.n_rows, program.ops[k].n_units)
        if (array.shape != shape or array.dtype != program.dtype
                or not array.flags.c_contiguous or not array.flags.writeable):
            raise ValueError(f"outputs[{k}] must be a C-contiguous array of shape {shape}")
        room.out[k] = address(array)
    run(program, &samples, room, NULL, NULL, False, team)
    give_back(program, room)


cpdef predict_ready(Program program, x, int n_threads=0):
    """Return the outputs for x, or None where it must go through `_validate` first.

    Parameters
    ----------
    program : Program
    x : object

    Returns
    -------
    ndarray of shape (samples, outputs), or None
        None: x is not an array that can be read as it stands, or it is not finite, or a large
        scale may make it so.
    """
    cdef Rows given
    cdef Samples samples
    cdef Room room
    cdef bint finite
    cdef int team
    if not is_ready(program, x, &given) or given.ndim != 2 or program.input_scale > 1:
        return None
    take_samples(&samples, &given, program.kernels.item_size, program.input_scale)
    out = new_rows(
        samples.n_rows, program.ops[program.n_ops - 1].n_units, program.kernels.item_size, False)
    team = team_for(program, samples.n_rows, n_threads)
    room = borrow(program, samples.n_rows, team, samples.format)
    room.out[program.n_ops - 1] = address(out)
    finite = run(program, &samples, room, NULL, NULL, True, team)
    give_back(program, room)
    return out if finite else None


def compiled_first(method):
    """Decorate a network's `predict`: it is asked only for what `predict_ready` leaves to it.

    A frame of Python would take as long as the layers of a small network.
    """
    @functools.wraps(method)
    def predict(self, X, *, n_threads=None):
        cdef int threads
        network = self._network
        if isinstance(network, Program):
            threads = 0 if n_threads is None else _validate.thread_count("n_threads", n_threads)
            out = predict_ready(<Program> network, X, threads)
            if out is not None:
                return out
        return method(self, X, n_threads=n_threads)
    return predict


def evaluate(Program program, x, labels, values, weight, int n_threads=0):
    """Return the averages over the samples of loss, with the penalty, and accuracy; the penalty."""
    cdef Py_ssize_t b, n_rows = len(x)
    loss_array, hit_array = np.empty(n_rows), np.zeros(n_rows)
    weight = np.ones(n_rows) if weight is None else np.ascontiguousarray(weight, np.float64)
    if weight.shape != (n_rows,):
        raise ValueError("weight does not fit the samples")
    cdef double* loss = <double*> address(loss_array)
    cdef double* hit = <double*> address(hit_array)
    cdef const double* weights = <const double*> address(weight)
    cdef double loss_sum = 0, hits = 0, total = 0, of_weights
    cdef Samples samples
    cdef Room room
    cdef int team
    describe(
        &samples, x, labels, values, None, program.dtype, program.n_inputs, program.n_outputs,
        program.input_scale)
    team = 1 if program.calls_loss else team_for(program, n_rows, n_threads)
    room = borrow(program, n_rows, team, samples.format)
    run(program, &samples, room, loss, hit, False, team)
    give_back(program, room)
    for b in range(n_rows):
        total += weights[b]
        loss_sum += weights[b] * loss[b]
        hits += weights[b] * hit[b]
    of_weights = penalty(program, total)
    return loss_sum / (total or 1) + of_weights, hits / (total or 1), of_weights


cdef double penalty(Program program, double batch_weight):
    """The penalties of all parameters."""
    cdef Py_ssize_t k, index, p
    cdef const Op* op
    cdef Norms norms
    cdef double out = 0
    for k in range(program.n_ops):
        op = &program.ops[k]
        if has_penalty(op):
            for index in range(n_items(&op.dense)):
                for p in range(n_norms(&op.dense, index)):
                    norms = dense_norms(&op.dense, index, p)
                    out += penalty_of(
                        &op.dense.bias_penalty if index == n_items(&op.dense) - 1
                        else &op.dense.kernel_penalty, &norms, batch_weight)
    return out


cdef int team_for(Program program, Py_ssize_t n_rows, int n_threads) except -1:
    if program.calls_activations:
        return 1
    return threads_for(program.flops_per_row * n_rows, n_threads)


cdef bint run(
    Program program, const Samples* samples, Room room, double* losses, double* hits,
    bint checks, int team
) except -1:
    """Take all rows through the layers; with `losses`, also through the loss.

    With `checks`, return False as soon as a row is found that is not finite.
    """
    cdef Py_ssize_t n_rows = samples.n_rows, start, stop, window
    cdef double flops = program.flops_per_row
    cdef bint finite = True
    cdef bint* shared = &finite if checks else NULL
    if flops * n_rows <= RELEASE_FLOPS:
        run_rows(program, samples, 0, n_rows, room, losses, hits, shared, 0, 1)
        propagate(room.raised)
        return finite
    window = max(CHUNK_ROWS, <Py_ssize_t> (INFERENCE_FLOPS / flops)) * team
    for start in range(0, n_rows, window):
        stop = min(n_rows, start + window)
        if team == 1:
            with nogil:
                run_rows(program, samples, start, stop, room, losses, hits, shared, 0, 1)
        else:
            with nogil, parallel(num_threads=team):
                run_rows(
                    program, samples, start, stop, room, losses, hits, shared, threadid(),
                    cymlp_team_size())
        propagate(room.raised or raise_pending_signal() < 0)
        if not finite:
            break
    return finite


cdef void run_rows(
    Program program, const Samples* samples, Py_ssize_t start, Py_ssize_t stop, Room room,
    double* losses, double* hits, bint* finite, int thread, int team
) noexcept nogil:
    """The part of one thread of rows start..stop, chunk by chunk through all operations."""
    cdef BatchRows rows
    cdef Py_ssize_t first_units = (
        program.ops[0].n_units if program.ops[0].kind == OP_DENSE else 0)
    # The non-zeros of a single row are found as soon as they are counted.
    cdef double single_share = 0 if samples.n_rows > 1 or samples.format == NONZEROS else (
        most_nonzeros(program.kernels, samples, 1, first_units))
    cdef Inputs inputs
    cdef Rows fresh
    cdef Py_ssize_t item = program.kernels.item_size, tile = program.kernels.tile_rows
    cdef Py_ssize_t first = start + share(stop - start, tile, thread, team)
    cdef Py_ssize_t end = start + share(stop - start, tile, thread + 1, team)
    cdef Py_ssize_t last = program.n_ops - 1, c, row, n_rows, k, b
    cdef int activation
    cdef bint evaluates = losses != NULL
    cdef char* buffers = room.buffers + program.n_slots * thread * room.buffer_bytes
    cdef uint64_t* nonzeros = room.nonzeros + thread * room.chunk * room.n_words
    cdef Made* made = room.made + thread * program.n_ops
    cdef uint64_t denormals = cymlp_flush_denormals()
    rows_from(&room.rows, thread * room.chunk, &rows)
    inputs = inputs_of(
        samples,
        single_share == 0 and leaves_zeros_out(
            program.kernels, samples, 0, samples.n_rows, first_units),
        &rows)
    fresh.n_columns = program.n_inputs
    fresh.stride = samples.x_stride
    for c in range(ceil_div(end - first, room.chunk)):
        row = first + c * room.chunk
        n_rows = min(room.chunk, end - row)
        if finite != NULL:
            # Right before the rows are used: they are read from memory once.
            fresh.base = samples.x + row * samples.x_stride
            fresh.n_rows = n_rows
            if not are_finite(program.kernels, &fresh):
                finite[0] = False
            if not finite[0]:
                break
        gather(program.kernels, samples, row, 0, n_rows, &rows, &inputs, 0)
        if single_share > 0:
            inputs = find_zeros(
                program.kernels, single_share, 1, program.n_inputs, inputs, rows.nonzeros, NULL)
        for k in range(program.n_ops):
            if program.inferred[k].is_passed:
                made[k] = made[program.inferred[k].rows_of]
            else:
                made[k] = place_of(program, k, room, buffers, row, &inputs)
                activation = program.inferred[k].activation
                if evaluates and program.inferred[last].rows_of == k:
                    activation = program.output_activation
                if infer(
                        program, k, activation, made, &rows, &inputs, n_rows, nonzeros, denormals):
                    room.raised = True
                    break
            if room.out[k] != NULL and made[k].y != room.out[k] + (
                    row * program.ops[k].n_units * item):
                copy_rows(room.out[k], program, k, row, n_rows, &made[k])
        if room.raised:
            break
        if evaluates:
            b = 1 if program.inferred[last].slot == 0 else 0
            if program._losses(
                    samples, &rows, 0, n_rows, made[last].y, made[last].stride,
                    buffers + b * room.buffer_bytes, program.ops[last].stride, denormals):
                room.raised = True
                break
            for b in range(n_rows):
                losses[row + b] = rows.loss[b]
                if program.wants_accuracy:
                    hits[row + b] = rows.hit[b]
    cymlp_restore_denormals(denormals)


cdef inline Made place_of(
    Program program, Py_ssize_t k, Room room, char* buffers, Py_ssize_t row, const Inputs* inputs
) noexcept nogil:
    """Where an operation's outputs go: where they are wanted if they can, else into its buffer."""
    cdef Made made
    cdef const Op* op = &program.ops[k]
    # Where zeros are left out, or may be, whole vectors are stored.
    cdef bint padded = program.inferred[k].skips_zeros or (
        op.source == SAMPLES and inputs.nonzeros.bits__bw != NULL)
    if room.out[k] != NULL and not padded:
        made.stride = op.n_units
        made.y = room.out[k] + row * made.stride * <Py_ssize_t> program.kernels.item_size
    else:
        made.stride = op.stride
        made.y = buffers + program.inferred[k].slot * room.buffer_bytes
    return made


cdef bint infer(
    Program program, Py_ssize_t k, int activation, const Made* made, const BatchRows* rows,
    const Inputs* inputs, Py_ssize_t n_rows, uint64_t* nonzeros, uint64_t denormals
) noexcept nogil:
    """Make an operation's outputs for the rows of a chunk; return whether Python code raised."""
    cdef const KernelTable* kernels = program.kernels
    cdef const Op* op = &program.ops[k]
    cdef Py_ssize_t item = kernels.item_size, stride = made[k].stride, b, x_stride = 0
    cdef Inputs below = inputs[0]
    cdef char* x = NULL
    cdef char* y = made[k].y
    if op.source != SAMPLES:
        x, x_stride = made[op.source].y, made[op.source].stride
    if op.kind == OP_DENSE:
        if op.source != SAMPLES:
            for b in range(n_rows):
                rows.x[b] = x + b * x_stride * item
            below = all_inputs(rows.x, 0)
        if program.inferred[k].skips_zeros:
            below = find_zeros(
                kernels, zeros_pay.products, n_rows, op.n_inputs, below, nonzeros, NULL)
        dense_forward(
            program.inferred[k].dense, activation == CYMLP_RELU, n_rows, below, y, stride,
            stride != op.n_units)
        if activation == CYMLP_RELU:
            return False
    elif op.kind == OP_INPUT:
        copy_samples(kernels, op, n_rows, below, y, stride)
    elif op.kind == OP_BATCH_NORM:
        kernels.batch_norm(
            n_rows, op.n_units, op.norm.moving_mean, op.norm.inverse_std, op.norm.gamma.values,
            op.norm.beta.values, x, x_stride, NULL, 0, y, stride)
    elif op.kind == OP_LAYER_NORM:
        kernels.layer_norm(
            n_rows, op.n_units, op.norm.epsilon, op.norm.gamma.values, op.norm.beta.values, x,
            x_stride, NULL, 0, NULL, y, stride)
    elif op.kind == OP_ADD:
        kernels.add_rows(
            n_rows, op.n_units, x, x_stride, made[op.other].y, made[op.other].stride, y, stride)
    else:
        kernels.activate[<int> CYMLP_IDENTITY](n_rows, op.n_units, 0, x, x_stride, y, stride)
    if activation == PYTHON_ACTIVATION:
        return program._call_activation(
            k, False, n_rows, y, stride, y, stride, denormals)
    if activation != CYMLP_IDENTITY:
        kernels.activate[activation](n_rows, op.n_units, op.alpha, y, stride, y, stride)
    return False


cdef void copy_rows(
    char* out, Program program, Py_ssize_t k, Py_ssize_t row, Py_ssize_t n_rows, const Made* made
) noexcept nogil:
    """Copy rows of outputs from a buffer to where they are wanted, one after the other."""
    cdef Py_ssize_t item = program.kernels.item_size, b
    cdef Py_ssize_t n_bytes = program.ops[k].n_units * item
    for b in range(n_rows):
        memcpy(out + (row + b) * n_bytes, made.y + b * made.stride * item, n_bytes)


cdef class Predictor:
    """A network's outputs for batches of at most a fixed size, from memory of its own.

    Made by `Sequential.predictor`. It runs on the calling thread alone, and only one thread may
    call it at a time: each thread takes its own. It holds on to the network and computes with the
    weights that this has at the time of the call, so it sees what is trained or set later. It can
    be neither copied nor pickled: the copied network makes a new one.

    Attributes
    ----------
    batch_size : int
        Rows that a call takes at most.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], n_inputs=2, random_state=0)
    >>> net.set_weights([[[2.0], [1.0]], [0.0]])
    >>> predictor = net.predictor()
    >>> predictor(np.array([3.0, 4.0], "float32"))
    array([10.], dtype=float32)
    >>> out = np.empty((1, 1), "float32")
    >>> predictor(np.array([[3.0, 4.0]], "float32"), out=out) is out
    True
    >>> out
    array([[10.]], dtype=float32)
    """

    cdef Program program
    cdef Room room
    cdef readonly Py_ssize_t batch_size
    cdef bint busy
    cdef vectorcallfunc vectorcall

    def __cinit__(self, Program program, Py_ssize_t batch_size):
        self.vectorcall = <vectorcallfunc> call_predictor
        cymlp_take_vectorcall(
            <PyTypeObject*> Predictor, <char*> &self.vectorcall - <char*> <PyObject*> self)
        self.program = program
        self.batch_size = batch_size
        self.room = Room(
            program, min(batch_size, CHUNK_ROWS), 1, REALS if program.input_scale == 1 else FOREIGN)

    def __reduce__(self):
        raise TypeError(
            "a predictor cannot be copied or pickled: call predictor() of the copied network")

    def __repr__(self):
        """Return the sizes."""
        return (f"<Predictor of at most {self.batch_size} x {self.program.n_inputs} "
                f"inputs, {self.program.n_outputs} outputs, {self.program.dtype.name}>")

    def __call__(self, x, out=None):
        """Return the outputs for some samples.

        Parameters
        ----------
        x : array-like of shape (samples, n_inputs)
            At most `batch_size` samples; where that is 1, also one sample of shape (n_inputs,).
            A NumPy array of the network's dtype with contiguous columns is read where it stands.
        out : ndarray of shape (samples, n_outputs), optional
            Where to write the outputs: of the network's dtype, C-contiguous, not overlapping `x`.
            Of shape (n_outputs,) for an `x` of shape (n_inputs,). By default a new array.

        Returns
        -------
        ndarray
            `out`, or a new array like it.

        Raises
        ------
        TypeError, ValueError
            If `x` or `out` is not what it must be; `out` is then as it was.
        RuntimeError
            If another thread is in a call of this predictor.
        """
        return self._call(x, out)

    cdef object _call(self, x, out):
        cdef Program program = self.program
        cdef Rows given
        cdef Samples samples
        cdef Py_ssize_t last = program.n_ops - 1
        if not (program.input_scale <= 1 and is_ready(program, x, &given)
                and (given.ndim == 2 or self.batch_size == 1)
                and given.n_rows <= self.batch_size
                and are_finite(program.kernels, &given)):
            x = self._validated(x)
            if not is_ready(program, x, &given):
                raise ValueError("x must not change while it is read")
        if self.busy:
            raise RuntimeError("the predictor is in another call: each thread needs its own")
        if out is None:
            out = new_rows(
                given.n_rows, program.ops[last].n_units, program.kernels.item_size,
                given.ndim == 1)
            self.room.out[last] = address(out)
        else:
            self.room.out[last] = wanted(program, out, &given)
        take_samples(&samples, &given, program.kernels.item_size, program.input_scale)
        self.busy = True
        self.room.raised = False
        try:
            run(program, &samples, self.room, NULL, NULL, False, 1)
        finally:
            self.busy = False
        return out

    cdef object _validated(self, x):
        """Return x as an array that is ready, or raise what is wrong with it."""
        array = _validate.numeric("x", x)
        flat = array.ndim == 1 and self.batch_size == 1
        array = _validate.matrix(
            "x", array.reshape(1, -1) if flat else array, self.program.dtype,
            self.program.n_inputs, self.program.input_scale)
        if len(array) > self.batch_size:
            raise ValueError(
                f"x must have at most {self.batch_size} rows, the predictor's batch_size, got "
                f"{len(array)}")
        return array[0] if flat else array


cdef object call_predictor(
    Predictor predictor, PyObject* const* arguments, size_t n, PyObject* names
):
    """Call a predictor as `predictor(x)`, `predictor(x, out)` or `predictor(x, out=out)`.

    What else there is, and what is wrong, goes the way of any class.
    """
    cdef Py_ssize_t n_positional = PyVectorcall_NARGS(n)
    cdef tuple keywords = () if names == NULL else <tuple> names
    cdef Py_ssize_t n_given = n_positional + len(keywords)
    if n_positional == 1 and n_given == 1:
        return predictor._call(<object> arguments[0], None)
    if n_given == 2 and (n_positional == 2 or n_positional == 1 and keywords[0] == "out"):
        return predictor._call(<object> arguments[0], <object> arguments[1])
    given = [<object> arguments[i] for i in range(n_given)]
    return Predictor.__call__(
        predictor, *given[:n_positional], **dict(zip(keywords, given[n_positional:])))


cdef char* wanted(Program program, out, const Rows* given) except NULL:
    """Check an array that a caller wants outputs in and return its address."""
    cdef PyArrayObject* array = <PyArrayObject*> out
    cdef const Py_ssize_t* shape
    cdef char* start
    cdef Py_ssize_t n_units = program.ops[program.n_ops - 1].n_units
    cdef Py_ssize_t item = program.kernels.item_size, n_rows = given.n_rows
    cdef Py_ssize_t reach = (n_rows - 1) * given.stride
    cdef const char* low = given.base + min(reach, 0)
    cdef const char* high = given.base + max(reach, 0) + given.n_columns * item
    cdef bint fits = False
    if type(out) is ndarray:
        shape = PyArray_DIMS(array)
        fits = (
            PyArray_FLAGS(array) & NPY_ARRAY_C_CONTIGUOUS
            and PyArray_FLAGS(array) & NPY_ARRAY_WRITEABLE
            and holds_reals(array, item) and PyArray_NDIM(array) == given.ndim
            and (given.ndim == 1 or shape[0] == n_rows) and shape[given.ndim - 1] == n_units)
    if not fits:
        refuse(out, [n_units] if given.ndim == 1 else [n_rows, n_units], program.dtype)
    start = <char*> PyArray_DATA(array)
    if low < start + n_rows * n_units * item and start < high:
        raise ValueError("out must not overlap x in memory")
    return start


cdef int refuse(out, list sizes, dtype) except -1:
    """Raise what is wrong with an array for outputs."""
    shape = tuple(sizes)
    if type(out) is not ndarray:
        raise TypeError(
            f"out must be a numpy.ndarray of {dtype.name}, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out must be of {dtype.name}, as the network is, got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    if not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous, got strides {out.strides}")
    if not out.flags.writeable:
        raise ValueError("out must be writable, got a read-only array")
    raise ValueError("out must be aligned to its elements")
