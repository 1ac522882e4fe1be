"""A network program: operations as codes, and their parameters in one arena.

Inference runs one, and training is built on it.
"""

import sys
from threading import get_ident

import numpy as np

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject

from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from cymlp._batch cimport Arena, address, targets_from
from cymlp._dense cimport (
    Penalty, is_narrow, kernel_columns, kernel_rows, may_leave_zeros_out, pack, pack_kernel,
    padded_size, unpack, unpack_kernel)
from cymlp._kernels cimport CYMLP_IDENTITY, CYMLP_RELU, Targets, kernel_table
from cymlp._ops cimport (
    OP_ACTIVATE, OP_ADD, OP_BATCH_NORM, OP_DENSE, OP_DROPOUT, OP_INPUT, OP_LAYER_NORM,
    PYTHON_ACTIVATION, SAMPLES, has_norm)

cdef extern from "Python.h":
    int check_signals "PyErr_CheckSignals"()
    PyObject* call "PyObject_CallObject"(object function, PyObject* arguments)
    void drop "Py_DecRef"(PyObject* result)

# Sets of buffers that a program keeps for its next calls of inference.
cdef Py_ssize_t MOST_SPARE = 4

_KINDS = {
    "input": OP_INPUT,
    "dense": OP_DENSE,
    "activate": OP_ACTIVATE,
    "dropout": OP_DROPOUT,
    "batch_norm": OP_BATCH_NORM,
    "layer_norm": OP_LAYER_NORM,
    "add": OP_ADD,
}

cdef dict looks = {}  # by thread, what it calls where it looks for signals


def look_with(function):
    """Have the calling thread call a function wherever its work looks for pending signals.

    Signals reach the main thread alone. Where the function raises, the work ends as it does where a
    signal's handler raises: training after a batch or, where one takes long, with that one dropped.

    Parameters
    ----------
    function : callable() or None
        None ends that.
    """
    if function is None:
        looks.pop(get_ident(), None)
    else:
        looks[get_ident()] = function


cdef int raise_pending_signal() noexcept:
    cdef PyObject* result
    if check_signals() < 0:
        return -1
    if looks:
        function = looks.get(get_ident())
        if function is not None:
            result = call(function, NULL)
            if result == NULL:
                return -1
            drop(result)
    return 0


cdef class Program:
    """Operations that are lowered to codes and memory.

    Parameters
    ----------
    n_inputs : int
    ops : list of dict
        Per operation its kind, a key of `_KINDS`, its source, n_units, activation (a code, or a
        user's `Activation`) and what the kind wants; see `cymlp._lower`.
    dtype : {"float32", "float64"}
    key : tuple of int, default=(0, 0)
        Of the random numbers of training; see `_random.key`.
    """

    def __cinit__(self, Py_ssize_t n_inputs, list ops, dtype, key=(0, 0)):
        cdef Py_ssize_t k
        self.n_inputs = n_inputs
        self.key[0], self.key[1] = key
        self.n_ops = len(ops)
        self.dtype = np.dtype(dtype)
        self.kernels = kernel_table(None, dtype)
        self.spare = [None] * MOST_SPARE
        self.is_stale = True
        self.input_scale = 1
        self.functions = [None] * self.n_ops
        self.ops = <Op*> calloc(self.n_ops, sizeof(Op))
        self.inferred = <Inferred*> calloc(self.n_ops, sizeof(Inferred))
        self.folded = <Dense*> calloc(self.n_ops, sizeof(Dense))
        if self.ops == NULL or self.inferred == NULL or self.folded == NULL:
            raise MemoryError
        for k, spec in enumerate(ops):
            self._describe(k, spec)
        self._plan_way_back()
        self._lay_out()
        self._plan_inference()

    def __dealloc__(self):
        free(self.ops)
        free(self.inferred)
        free(self.folded)

    cdef _describe(self, Py_ssize_t k, spec):
        cdef Op* op = &self.ops[k]
        op.kind = _KINDS[spec["kind"]]
        op.source, op.other = spec["source"], spec.get("other", SAMPLES)
        op.n_inputs = self.n_inputs if op.source == SAMPLES else self.ops[op.source].n_units
        op.n_units = spec.get("n_units", op.n_inputs)
        op.stride = self._stride(op.n_units)
        activation = spec.get("activation", CYMLP_IDENTITY)
        if isinstance(activation, int):
            op.activation, op.keeps_z = activation, spec.get("keeps_z", False)
        else:
            op.activation, op.keeps_z = PYTHON_ACTIVATION, True
            self.functions[k] = activation
            self.calls_activations = True
        op.alpha = spec.get("alpha", 0.0)
        op.is_trainable = spec.get("trainable", True)
        op.makes_zeros = op.activation == CYMLP_RELU or op.kind == OP_DROPOUT
        if op.kind == OP_DENSE:
            op.dense.kernels = self.kernels
            op.dense.n_inputs, op.dense.n_units = op.n_inputs, op.n_units
            op.dense.max_norm = spec.get("max_norm", 0.0)
            op.dense.kernel.is_constrained = op.dense.max_norm > 0
            # A narrow layer reads whole vectors, which rows of samples are not.
            op.dense.is_narrow = (op.source != SAMPLES and op.dense.max_norm == 0
                                  and is_narrow(op.n_inputs, op.n_units))
            if op.source != SAMPLES:
                op.skips_zeros = self.ops[op.source].makes_zeros and may_leave_zeros_out(
                    self.kernels, op.n_inputs, op.n_units)
                op.skips_deltas = op.makes_zeros and may_leave_zeros_out(
                    self.kernels, op.n_units, op.n_inputs)
                self.ops[op.source].is_skipped |= op.skips_zeros
            op.dense.has_bias = spec.get("has_bias", True)
            self.flops_per_row += 2.0 * op.n_inputs * op.n_units
            op.dense.rate_factor = spec.get("rate_factor", 1.0)
            op.dense.kernel_penalty = penalty(spec.get("kernel_penalty"))
            op.dense.bias_penalty = penalty(spec.get("bias_penalty"))
        elif op.kind == OP_DROPOUT:
            op.dropped, op.number = spec["dropped"], spec["number"]
        elif has_norm(op):
            op.norm.has_gamma, op.norm.has_beta = spec["has_gamma"], spec["has_beta"]
            op.norm.epsilon = spec["epsilon"]
            op.norm.momentum = spec.get("momentum", 0.0)
            op.norm.rate_factor = spec.get("rate_factor", 1.0)
            op.norm.is_frozen = not op.is_trainable
            self.inferred[k].folds = spec.get("folds", False)

    cdef _plan_way_back(self):
        """Say who writes the deltas of an operation that several read, and who adds to them.

        The first reader is the last one to do so: a dense layer then takes them through a ReLU.
        """
        cdef Py_ssize_t k
        cdef Op* op
        cdef Op* source
        has_parameters = [False] * self.n_ops
        has_deltas = [False] * self.n_ops
        for k in range(self.n_ops):
            op = &self.ops[k]
            op.has_below = (
                (op.source != SAMPLES and has_parameters[op.source])
                or (op.kind == OP_ADD and has_parameters[op.other]))
            has_parameters[k] = op.has_below or op.kind == OP_DENSE or has_norm(op)
        for k in reversed(range(self.n_ops)):
            op = &self.ops[k]
            if op.source != SAMPLES:
                op.adds = has_deltas[op.source]
                has_deltas[op.source] = True
                source = &self.ops[op.source]
                source.is_gated = (
                    op.kind == OP_DENSE and source.activation == CYMLP_RELU
                    and not source.keeps_z)
            if op.kind == OP_ADD:
                op.other_adds = has_deltas[op.other]
                has_deltas[op.other] = True
                self.ops[op.other].is_gated = False

    cdef _plan_inference(self):
        """Leave out what inference does not need, fold norms, and give each output a buffer."""
        cdef Py_ssize_t k, reader
        cdef Op* op
        cdef Inferred* own
        n_readers = [0] * self.n_ops
        for k in range(self.n_ops):
            for source in self._sources(k):
                n_readers[source] += 1
        for k in range(self.n_ops):
            op, own = &self.ops[k], &self.inferred[k]
            own.rows_of, own.activation, own.dense = k, op.activation, &op.dense
            if self._is_folded(k, n_readers):
                own.is_passed = True
                own.rows_of = op.source
                self.inferred[op.source].activation = op.activation
                self.folded[op.source] = self.ops[op.source].dense
                self.inferred[op.source].dense = &self.folded[op.source]
                self.folded[op.source].has_bias = True
            elif op.kind == OP_DROPOUT:
                own.is_passed = True
                own.rows_of = self.inferred[op.source].rows_of
        for k in range(self.n_ops):
            op, own = &self.ops[k], &self.inferred[k]
            if op.kind == OP_DENSE and op.source != SAMPLES:
                reader = self.inferred[op.source].rows_of
                own.skips_zeros = (
                    self.inferred[reader].activation == CYMLP_RELU
                    and may_leave_zeros_out(self.kernels, op.n_inputs, op.n_units))
        last_reader = list(range(self.n_ops))
        for k in range(self.n_ops):
            for source in self._sources(k):
                last_reader[self.inferred[<Py_ssize_t> source].rows_of] = k
        free_slots, self.n_slots = [], 0
        for k in range(self.n_ops):
            own = &self.inferred[k]
            if own.is_passed:
                own.slot = self.inferred[own.rows_of].slot
                continue
            if not free_slots:
                free_slots.append(self.n_slots)
                self.n_slots += 1
            own.slot = free_slots.pop()
            for reader in range(k):
                if last_reader[reader] == k and not self.inferred[reader].is_passed:
                    free_slots.append(self.inferred[reader].slot)
        self.n_slots = max(2, self.n_slots)  # the deltas of a loss take another one than its rows
        names = [[] for _ in range(self.n_ops)]
        for k in range(self.n_ops):
            if self.inferred[k].dense == &self.folded[k]:
                names[k] = ["kernel_folded", "bias_folded"]
        for k, arrays in enumerate(self._new_arrays(names)):
            self.arrays[k].update(arrays)
            if arrays:
                self.folded[k].kernel.values = address(arrays["kernel_folded"])
                self.folded[k].bias.values = address(arrays["bias_folded"])

    cdef bint _is_folded(self, Py_ssize_t k, list n_readers):
        """Whether a batch norm goes into the dense layer below it, which nobody else reads."""
        cdef const Op* op = &self.ops[k]
        return (self.inferred[k].folds and n_readers[op.source] == 1
                and self.ops[op.source].kind == OP_DENSE
                and self.ops[op.source].activation == CYMLP_IDENTITY)

    cdef list _sources(self, Py_ssize_t k):
        sources = [self.ops[k].source]
        if self.ops[k].kind == OP_ADD:
            sources.append(self.ops[k].other)
        return [source for source in sources if source != SAMPLES]

    cdef Py_ssize_t _stride(self, Py_ssize_t n_units):
        # Whole vectors, in an odd number of cache lines: a column of rows visits all cache sets.
        cdef Py_ssize_t row = padded_size(n_units, self.kernels.lanes)
        cdef Py_ssize_t item = self.kernels.item_size, lines = ceil_div(row * item, CACHE_LINE)
        return (lines | 1) * CACHE_LINE // item

    cdef bint _has_transposed(self, Py_ssize_t op):
        return (self.ops[op].kind == OP_DENSE and self.ops[op].source != SAMPLES
                and not self.ops[op].dense.is_narrow)

    cdef _lay_out(self):
        """Make the arrays of all parameters."""
        cdef Py_ssize_t k
        cdef Op* op
        names = []
        for k in range(self.n_ops):
            op = &self.ops[k]
            names.append(self._trained(k))
            if self._has_transposed(k):
                names[k] = [*names[k], "transposed"]
            elif op.kind == OP_BATCH_NORM:
                names[k] = [*names[k], "moving_mean", "moving_variance", "inverse_std"]
        self.arrays = self._new_arrays(names)
        for k in range(self.n_ops):
            op = &self.ops[k]
            for name in self._trained(k):
                self._parameters(k, name).values = address(self.arrays[k][name])
            if self._has_transposed(k):
                op.dense.transposed = address(self.arrays[k]["transposed"])
            if has_norm(op):
                self.arrays[k]["gamma"][:op.n_units] = 1
            if op.kind == OP_BATCH_NORM:
                op.norm.moving_mean = address(self.arrays[k]["moving_mean"])
                op.norm.moving_variance = address(self.arrays[k]["moving_variance"])
                op.norm.inverse_std = address(self.arrays[k]["inverse_std"])
                self.arrays[k]["moving_variance"][:op.n_units] = 1

    cdef list _trained(self, Py_ssize_t op):
        """The names of what an optimizer moves."""
        if self.ops[op].kind == OP_DENSE:
            return ["kernel", "bias"]
        return ["gamma", "beta"] if has_norm(&self.ops[op]) else []

    cdef Parameters* _parameters(self, Py_ssize_t op, name) except NULL:
        if name == "kernel":
            return &self.ops[op].dense.kernel
        if name == "bias":
            return &self.ops[op].dense.bias
        return &self.ops[op].norm.gamma if name == "gamma" else &self.ops[op].norm.beta

    cdef list _new_arrays(self, list names):
        cdef Py_ssize_t k, lanes = self.kernels.lanes
        cdef const Op* op
        plan = []
        for k in range(self.n_ops):
            op = &self.ops[k]
            for name in names[k]:
                if name.startswith("kernel"):
                    count = kernel_rows(&op.dense) * padded_size(kernel_columns(&op.dense), lanes)
                elif name == "transposed":
                    count = op.n_units * padded_size(op.n_inputs, lanes)
                else:
                    count = padded_size(op.n_units, lanes)
                plan.append((k, name, count))
        item = self.dtype.itemsize
        sizes = [count * item for _, _, count in plan]
        if sum(sizes) > sys.maxsize // 2:
            raise MemoryError(f"unable to allocate {sum(sizes):,} bytes for the parameters")
        cdef Arena arena = Arena(sum([Arena.room(size) for size in sizes]))
        arrays = [{} for _ in range(self.n_ops)]
        for k, name, count in plan:
            arrays[k][name] = arena.take(count, self.dtype)
        return arrays

    @property
    def isa(self):
        """Name of the instruction set that the network runs on."""
        return self.kernels.isa.decode()

    @property
    def n_outputs(self):
        """Units of the last operation."""
        return self.ops[self.n_ops - 1].n_units

    # Parameters, in users' shapes

    def get(self, Py_ssize_t op, name):
        """Return a copy of an operation's array, parameters, gradient or slot, in users' shape."""
        array = self.arrays[op][name]
        if name.startswith("kernel"):
            return unpack_kernel(&self.ops[op].dense, array)
        return unpack(self.kernels, array, self.ops[op].n_units)[0]

    def set(self, Py_ssize_t op, name, value):
        """Overwrite the array that `get` returns."""
        array = self.arrays[op][name]
        self.is_stale = True
        if not name.startswith("kernel"):
            array[...] = pack(self.kernels, value[None, :])
            return
        array[...] = pack_kernel(&self.ops[op].dense, value)
        if name == "kernel" and self._has_transposed(op):
            self.arrays[op]["transposed"][...] = pack(self.kernels, value.T)

    def trained_names(self):
        """Return the (operation, name) of all that training moves by its gradient."""
        return [(op, name) for op in range(self.n_ops) if self.ops[op].is_trainable
                for name in self._trained(op) if self._is_moved(op, name)]

    cdef bint _is_moved(self, Py_ssize_t op, name):
        if name == "bias":
            return self.ops[op].dense.has_bias
        if name == "gamma":
            return self.ops[op].norm.has_gamma
        return self.ops[op].norm.has_beta if name == "beta" else True

    def state_names(self):
        """Return the (operation, name) of all that a copy must be given: see `get` and `set`."""
        derived = ("transposed", "inverse_std", "kernel_folded", "bias_folded")
        return [(op, name) for op, arrays in enumerate(self.arrays) for name in arrays
                if name not in derived and not name.endswith("gradient")]

    def are_finite(self):
        """Tell whether all parameters are."""
        cdef Py_ssize_t k, count
        cdef const char* values
        cdef bint finite
        for k in range(self.n_ops):
            for name, array in self.arrays[k].items():
                if name in ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"):
                    values, count = address(array), array.size
                    with nogil:
                        finite = self.kernels.all_finite(count, values)
                    if not finite:
                        return False
        return True

    # What training and inference share

    cdef int _activation(self, Py_ssize_t op) noexcept nogil:
        return self.output_activation if op == self.n_ops - 1 else self.ops[op].activation

    cdef _refresh(self):
        cdef Py_ssize_t k
        cdef const Op* op
        if not self.is_stale:
            return
        for k in range(self.n_ops):
            op = &self.ops[k]
            if op.kind != OP_BATCH_NORM:
                continue
            arrays = self.arrays[k]
            self.kernels.inverse_std(
                padded_size(op.n_units, self.kernels.lanes), op.norm.epsilon,
                op.norm.moving_variance, op.norm.inverse_std)
            if not self.inferred[k].is_passed:
                continue
            factor = arrays["gamma"] * arrays["inverse_std"]
            below = self.arrays[op.source]
            kernel = self.get(op.source, "kernel") * factor[:op.n_units]
            below["kernel_folded"][...] = pack_kernel(&self.ops[op.source].dense, kernel)
            below["bias_folded"][...] = (
                (below["bias"] - arrays["moving_mean"]) * factor + arrays["beta"])
        self.is_stale = False

    cdef bint _call_activation(
        self, Py_ssize_t op, bint derivative, Py_ssize_t n_rows, const char* z,
        Py_ssize_t z_stride, char* out, Py_ssize_t out_stride, uint64_t denormals
    ) noexcept nogil:
        cdef bint raised
        cymlp_restore_denormals(denormals)
        raised = self._activation_raises(op, derivative, n_rows, z, z_stride, out, out_stride)
        cymlp_flush_denormals()
        return raised

    cdef bint _activation_raises(
        self, Py_ssize_t op, bint derivative, Py_ssize_t n_rows, const char* z,
        Py_ssize_t z_stride, char* out, Py_ssize_t out_stride
    ) noexcept with gil:
        """Call a user's function; where it raises, leave the exception set, as a signal does."""
        try:
            activation = self.functions[op]
            name = "derivative" if derivative else "forward"
            rows = self._view(op, n_rows, z, z_stride).copy()
            shape = rows.shape
            result = np.asarray(getattr(activation, name)(rows))
            if result.shape != shape or result.dtype.kind not in "biuf":
                raise ValueError(
                    f"activation {activation.name!r}: {name} must return real numbers of shape "
                    f"{shape}, as it was given, got {result.dtype} of shape {result.shape}")
            wanted = self._view(op, n_rows, out, out_stride)
            with np.errstate(all="ignore"):
                wanted[...] = wanted * result if derivative else result
        except BaseException as error:
            set_exception(type(error), error)
            return True
        return False

    cdef _view(self, Py_ssize_t op, Py_ssize_t n_rows, const char* rows, Py_ssize_t stride):
        """Rows of an operation's outputs as an array, valid as long as the memory is."""
        cdef Py_ssize_t item = self.kernels.item_size
        cdef Py_ssize_t n_bytes = ((n_rows - 1) * stride + self.ops[op].n_units) * item
        flat = np.frombuffer(
            PyMemoryView_FromMemory(<char*> rows, n_bytes, PyBUF_WRITE), self.dtype)
        return np.lib.stride_tricks.as_strided(
            flat, (n_rows, self.ops[op].n_units), (stride * item, item))

    cdef void _set_loss(
        self, loss, double parameter, double smoothing, unit, function
    ) except *:
        """Set the loss: a kernel's code with its settings, or a function."""
        cdef Py_ssize_t n_units = self.n_outputs
        array = None
        if unit is not None:
            array = np.zeros(padded_size(n_units, self.kernels.lanes), self.dtype)
            array[:n_units] = unit
        self.loss = 0 if loss is None else loss
        self.loss_unit = array
        self.loss_settings.parameter = parameter
        self.loss_settings.smoothing = smoothing
        self.loss_settings.unit__o = NULL if array is None else address(array)
        self.loss_function = function
        self.calls_loss = function is not None

    cdef bint _losses(
        self, const Samples* samples, const BatchRows* rows, Py_ssize_t row, Py_ssize_t n_rows,
        const char* out, Py_ssize_t out_stride, char* delta, Py_ssize_t delta_stride,
        uint64_t denormals
    ) noexcept nogil:
        cdef Py_ssize_t n_units = self.ops[self.n_ops - 1].n_units
        cdef Targets targets = targets_from(samples, rows, row)
        cdef bint raised
        if self.calls_loss:
            cymlp_restore_denormals(denormals)
            raised = self._function_raises(
                &targets, rows, row, n_rows, out, out_stride, delta, delta_stride)
            cymlp_flush_denormals()
            if raised:
                return True
        else:
            self.kernels.loss[self.loss](
                n_rows, n_units, &self.loss_settings, out, out_stride, targets, rows.scale + row,
                rows.loss + row, delta, delta_stride)
        if self.wants_accuracy:
            self.kernels.accuracy(
                n_rows, n_units, out, out_stride, targets, self.accuracy_threshold,
                rows.hit + row)
        return False

    cdef bint _function_raises(
        self, const Targets* targets, const BatchRows* rows, Py_ssize_t row, Py_ssize_t n_rows,
        const char* out, Py_ssize_t out_stride, char* delta, Py_ssize_t delta_stride
    ) noexcept with gil:
        """Call the user's loss; where it raises, leave the exception set, as a signal does."""
        try:
            self._call_function(targets, rows, row, n_rows, out, out_stride, delta, delta_stride)
        except BaseException as error:
            set_exception(type(error), error)
            return True
        return False

    cdef int _call_function(
        self, const Targets* targets, const BatchRows* rows, Py_ssize_t row, Py_ssize_t n_rows,
        const char* out, Py_ssize_t out_stride, char* delta, Py_ssize_t delta_stride
    ) except -1:
        cdef Py_ssize_t b, n_units = self.n_outputs, item = self.kernels.item_size
        cdef Py_ssize_t n_bytes = n_units * item
        cdef char* copied
        cdef const double* losses
        scale = np.empty((n_rows, 1))
        y_pred = np.empty((n_rows, n_units), self.dtype)
        copied = address(y_pred)
        for b in range(n_rows):
            memcpy(copied + b * n_bytes, out + b * out_stride * item, n_bytes)
        if targets.labels__b != NULL:
            y_true = np.empty(n_rows, np.int32)
            memcpy(address(y_true), targets.labels__b, n_rows * sizeof(int32_t))
        else:
            y_true = np.empty((n_rows, n_units), self.dtype)
            copied = address(y_true)
            for b in range(n_rows):
                memcpy(copied + b * n_bytes, targets.values__b_o[b], n_bytes)
        memcpy(address(scale), rows.scale + row, n_rows * sizeof(double))
        values, slopes = self.loss_function(y_true, y_pred)
        with np.errstate(all="ignore"):
            slopes = np.ascontiguousarray(scale.astype(self.dtype) * slopes)
        values = np.ascontiguousarray(values, np.float64)
        if values.shape != (n_rows,) or slopes.shape != (n_rows, n_units):
            raise ValueError("a loss must have a value per row and a derivative per output")
        losses = <const double*> address(values)
        copied = address(slopes)
        for b in range(n_rows):
            rows.loss[row + b] = losses[b]
            memcpy(delta + b * delta_stride * item, copied + b * n_bytes, n_bytes)
        return 0


cdef Penalty penalty(values):
    """A penalty of (l1, l2, per_batch), or none."""
    cdef Penalty out
    out.l1, out.l2, out.per_batch = values or (0.0, 0.0, False)
    return out
