"""Choice of the kernel table for this CPU, and the element-wise kernels as Python functions."""

import os

import numpy as np

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer)

cdef Isa[CYMLP_N_ISAS] ISAS
cymlp_detect_isas(ISAS)

ACTIVATIONS = {
    "identity": CYMLP_IDENTITY,
    "relu": CYMLP_RELU,
    "sigmoid": CYMLP_SIGMOID,
    "tanh": CYMLP_TANH,
    "softmax": CYMLP_SOFTMAX,
    "leaky_relu": CYMLP_LEAKY_RELU,
    "elu": CYMLP_ELU,
    "selu": CYMLP_SELU,
    "gelu": CYMLP_GELU,
    "gelu_tanh": CYMLP_GELU_TANH,
    "silu": CYMLP_SILU,
    "mish": CYMLP_MISH,
    "softplus": CYMLP_SOFTPLUS,
    "softsign": CYMLP_SOFTSIGN,
    "hard_sigmoid": CYMLP_HARD_SIGMOID,
    "exponential": CYMLP_EXPONENTIAL,
}
# Activations that keep their pre-activation for the derivative; all others keep their output.
KEEPS_Z = frozenset([name for name, code in ACTIVATIONS.items() if cymlp_keeps_z(code)])
LOSSES = {
    "squared_error": CYMLP_SQUARED_ERROR,
    "absolute_error": CYMLP_ABSOLUTE_ERROR,
    "huber": CYMLP_HUBER,
    "log_cosh": CYMLP_LOG_COSH,
    "quantile": CYMLP_QUANTILE,
    "poisson": CYMLP_POISSON,
    "gamma": CYMLP_GAMMA,
    "tweedie": CYMLP_TWEEDIE,
    "cross_entropy": CYMLP_CROSS_ENTROPY,
    "binary_cross_entropy": CYMLP_BINARY_CROSS_ENTROPY,
    "hinge": CYMLP_HINGE,
    "kl_divergence": CYMLP_KL_DIVERGENCE,
    "focal": CYMLP_FOCAL,
    "softmax_cross_entropy": CYMLP_SOFTMAX_CROSS_ENTROPY,
    "softmax_kl_divergence": CYMLP_SOFTMAX_KL_DIVERGENCE,
    "sigmoid_binary_cross_entropy": CYMLP_SIGMOID_BINARY_CROSS_ENTROPY,
    "sigmoid_focal": CYMLP_SIGMOID_FOCAL,
    "exponential_poisson": CYMLP_EXPONENTIAL_POISSON,
    "exponential_gamma": CYMLP_EXPONENTIAL_GAMMA,
    "exponential_tweedie": CYMLP_EXPONENTIAL_TWEEDIE,
}
OPTIMIZERS = {
    "gradient": CYMLP_GRADIENT,
    "accumulate": CYMLP_ACCUMULATE,
    "sgd": CYMLP_SGD,
    "momentum": CYMLP_MOMENTUM,
    "nesterov": CYMLP_NESTEROV,
    "adam": CYMLP_ADAM,
    "amsgrad": CYMLP_AMSGRAD,
    "nadam": CYMLP_NADAM,
    "rmsprop": CYMLP_RMSPROP,
    "rmsprop_momentum": CYMLP_RMSPROP_MOMENTUM,
    "centered_rmsprop": CYMLP_CENTERED_RMSPROP,
    "centered_rmsprop_momentum": CYMLP_CENTERED_RMSPROP_MOMENTUM,
    "adagrad": CYMLP_ADAGRAD,
    "adadelta": CYMLP_ADADELTA,
    "lion": CYMLP_LION,
    "rprop": CYMLP_RPROP,
}
# A step that does nothing.
cdef dict STEP_OF_NOTHING = {
    **dict.fromkeys((
        "learning_rate", "momentum", "beta_1", "beta_2", "epsilon", "epsilon_hat", "m_scale",
        "v_root_scale", "g_scale", "eta_minus", "eta_plus", "smallest_step", "largest_step", "l2",
        "l1", "weight_decay", "decoupled_decay", "average_decay"), 0.0),
    "gradient_scale": 1.0,
    "clip_value": np.inf,
}
# What inputs may be of in users' memory, by kind and size.
ELEMENTS = {
    "b1": CYMLP_UINT8,
    "u1": CYMLP_UINT8,
    "i1": CYMLP_INT8,
    "u2": CYMLP_UINT16,
    "i2": CYMLP_INT16,
    "u4": CYMLP_UINT32,
    "i4": CYMLP_INT32,
    "u8": CYMLP_UINT64,
    "i8": CYMLP_INT64,
    f"f{np.dtype(np.longdouble).itemsize}": CYMLP_LONG_DOUBLE,
    "f2": CYMLP_HALF,
    "f4": CYMLP_SINGLE,
    "f8": CYMLP_WIDE,
}
DTYPES = {"float32": CYMLP_FLOAT32, "float64": CYMLP_FLOAT64}

cdef int active_index


def known_isas():
    """Return the names of all instruction sets that cymlp has kernels for, the plainest first."""
    return [ISAS[i].name.decode() for i in range(CYMLP_N_ISAS)]


def available_isas():
    """Return the names of the instruction sets that this build and this CPU can run."""
    return [ISAS[i].name.decode() for i in range(CYMLP_N_ISAS) if ISAS[i].tables != NULL]


def active_isa():
    """Return the name of the instruction set that networks built from now on will use."""
    return ISAS[active_index].name.decode()


def _isa_index(name, source):
    if name not in known_isas():
        raise ValueError(f"{source}={name!r} is not known; known are {', '.join(known_isas())}")
    if name not in available_isas():
        raise ValueError(
            f"{source}={name!r} cannot run on this machine; it can run "
            f"{', '.join(available_isas())}"
        )
    return known_isas().index(name)


def select_isa(name):
    """Choose the instruction set of networks that are built from now on.

    Parameters
    ----------
    name : str
        One of `available_isas()`.

    Raises
    ------
    ValueError
        If the name is not known or this machine cannot run it.
    """
    global active_index
    active_index = _isa_index(name, "isa")


def _initial_isa():
    name = os.environ.get("CYMLP_ISA", "")
    if name:
        return _isa_index(name, "CYMLP_ISA")
    return known_isas().index(available_isas().pop())


active_index = _initial_isa()


cdef const KernelTable* kernel_table(object isa, object dtype) except NULL:
    cdef int index = active_index if isa is None else _isa_index(isa, "isa")
    name = np.dtype(dtype).name
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {name}")
    return ISAS[index].tables[<int> DTYPES[name]]


cdef const KernelTable* active_table(Py_ssize_t item_size) noexcept:
    return ISAS[active_index].tables[
        <int> CYMLP_FLOAT32 if item_size == sizeof(float) else <int> CYMLP_FLOAT64]


def element(dtype):
    """Return the code of a dtype's elements and whether their bytes are swapped.

    Parameters
    ----------
    dtype : numpy.dtype

    Returns
    -------
    (int, bool)

    Raises
    ------
    ValueError
        If no kernel reads elements of the dtype.
    """
    name = f"{dtype.kind}{dtype.itemsize}"
    if name not in ELEMENTS:
        raise ValueError(f"there are no inputs of {dtype}")
    return ELEMENTS[name], not dtype.isnative


cdef Step optimizer_step(dict settings):
    cdef Step out = {**STEP_OF_NOTHING, **settings}
    return out


cdef class Kernels:
    """The kernels of one instruction set and dtype that work on elements and rows.

    A face for tests and experiments: training calls the same functions without Python in between.
    Arrays must have the table's dtype and contiguous columns; rows may be any distance apart.

    Parameters
    ----------
    isa : str, optional
        One of `available_isas()`; the active one by default.
    dtype : {"float32", "float64"}, default="float32"
    """

    cdef const KernelTable* table
    cdef readonly object dtype
    cdef char letter  # of the dtype in a buffer's format

    def __cinit__(self, isa=None, dtype="float32"):
        self.table = kernel_table(isa, dtype)
        self.dtype = np.dtype(dtype)
        self.letter = c"f" if self.table.item_size == sizeof(float) else c"d"

    @property
    def isa(self):
        """Name of the instruction set."""
        return self.table.isa.decode()

    @property
    def tile_rows(self):
        """Rows of a register tile."""
        return self.table.tile_rows

    @property
    def lanes(self):
        """Columns of a vector."""
        return self.table.lanes

    @property
    def panel_vecs(self):
        """Most vectors of a panel of weights, and of a register tile."""
        return self.table.panel_vecs

    @property
    def block_rows(self):
        """Rows of a weight matrix that an update takes at once."""
        return self.table.block_rows

    # Of NumPy's own attributes each costs an object; the buffer protocol none.
    cdef size_t _address(self, array, int ndim) except? 0:
        cdef Py_buffer view
        PyObject_GetBuffer(array, &view, PyBUF_STRIDES | PyBUF_FORMAT)
        cdef size_t address = <size_t> view.buf
        cdef bint is_of_dtype = view.format[0] == self.letter and view.format[1] == 0
        cdef bint has_ndim = view.ndim == ndim
        cdef bint is_contiguous = has_ndim and (
            view.shape[ndim - 1] <= 1 or view.strides[ndim - 1] == view.itemsize)
        PyBuffer_Release(&view)
        if not (is_of_dtype and has_ndim):
            raise ValueError(
                f"expected a {ndim}-D array of {self.dtype.name}, got a {array.ndim}-D array of "
                f"{array.dtype.name}"
            )
        if not is_contiguous:
            raise ValueError("the columns of the array must be contiguous")
        return address

    cdef size_t _stride(self, array) except? 0:
        cdef Py_buffer view
        PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
        cdef size_t stride = <size_t> (view.strides[0] // view.itemsize)
        PyBuffer_Release(&view)
        return stride

    cdef object _copy(self, array, out):
        """Return a copy to work in: in `out`, where it is given; `out` may be the array."""
        if out is None:
            return np.array(array, order="C")
        out = self._room(array.shape, out)
        if out is not array:
            out[...] = array
        return out

    cdef object _room(self, tuple shape, out):
        """Return an array for results: `out`, where it is given."""
        if out is None:
            return np.empty(shape, self.dtype)
        if out.shape != shape:
            raise ValueError(f"out must have shape {shape}, got {out.shape}")
        return out

    cdef object _same_shape(self, tuple shape, tuple arrays):
        """Raise ValueError unless all arrays have the shape."""
        for array in arrays:
            if array.shape != shape:
                raise ValueError(f"expected an array of shape {shape}, got {array.shape}")

    def activate(self, int code, z, *, double alpha=0.0, out=None):
        """Return the activation of each row of z, a (rows, units) array, in `out` if given."""
        if not 0 <= code < len(ACTIVATIONS):
            raise ValueError(f"code must be one of {ACTIVATIONS}, got {code}")
        y = self._room(z.shape, out)
        self.table.activate[code](
            y.shape[0], y.shape[1], alpha, <const void*> self._address(z, 2), self._stride(z),
            <void*> self._address(y, 2), self._stride(y))
        return y

    def activate_backward(self, int code, kept, d, *, double alpha=0.0, out=None):
        """Return dL/dz given d = dL/dy and what the activation keeps, in `out` if given."""
        if not 0 <= code < len(ACTIVATIONS) or d.shape != kept.shape:
            raise ValueError(f"code must be one of {ACTIVATIONS} and the shapes equal")
        out = self._copy(d, out)
        self.table.activate_backward[code](
            kept.shape[0], kept.shape[1], alpha, <const void*> self._address(kept, 2),
            self._stride(kept), <void*> self._address(out, 2), self._stride(out))
        return out

    def loss(
        self, int code, out, target, scale, *, double parameter=0.0,
        double smoothing=0.0, unit=None
    ):
        """Return each row's loss and the scaled derivative by `out`.

        Parameters
        ----------
        code : int
            One of `LOSSES`.
        out : ndarray of shape (rows, units)
            What the loss reads: outputs, or logits for the fused losses.
        target : ndarray of shape (rows, units) of the dtype, or (rows,) of int32 labels
        scale : ndarray of shape (rows,), float64
        parameter, smoothing : float, default=0.0
        unit : ndarray of shape (units,), optional
            What `cymlp_loss_settings` holds.

        Returns
        -------
        loss : ndarray of shape (rows,), float64
        delta : ndarray of shape (rows, units)
        """
        cdef Py_ssize_t n_rows = out.shape[0], n_units = out.shape[1]
        cdef Targets targets
        cdef LossSettings settings
        settings.parameter, settings.smoothing, settings.unit__o = parameter, smoothing, NULL
        if unit is not None:
            if unit.shape != (n_units,):
                raise ValueError("unit must have a number per output")
            unit = np.resize(unit, n_units + self.table.lanes)
            settings.unit__o = <const void*> self._address(unit, 1)
        if code not in LOSSES.values() or target.shape[0] != n_rows or scale.shape[0] != n_rows:
            raise ValueError(f"code must be one of {LOSSES} and the numbers of rows equal")
        targets.labels__b = NULL
        targets.values__b_o = NULL
        if target.ndim == 1:
            if target.min() < 0 or target.max() >= n_units:
                raise ValueError("a label is out of range")
            target = np.ascontiguousarray(target, np.int32)
            targets.labels__b = <const int32_t*> <size_t> target.ctypes.data
        else:
            if target.shape[1] != n_units:
                raise ValueError("target and out must have the same shape")
            first = self._address(target, 2)
            rows = (first + np.arange(n_rows) * target.strides[0]).astype(np.uintp)
            targets.values__b_o = <const void* const*> <size_t> rows.ctypes.data
        delta = np.empty((n_rows, n_units), self.dtype)
        values = np.empty(n_rows)
        scale = np.ascontiguousarray(scale, np.float64)
        self.table.loss[code](
            n_rows, n_units, &settings, <const void*> self._address(out, 2), self._stride(out),
            targets, <const double*> <size_t> scale.ctypes.data,
            <double*> <size_t> values.ctypes.data, <void*> self._address(delta, 2), n_units)
        return values, delta

    cdef Py_ssize_t _whole(self, Py_ssize_t width) except -1:
        if width % self.table.lanes:
            raise ValueError(f"expected columns in whole vectors of {self.lanes}, got {width}")
        return width

    def column_sums(self, x, other=None):
        """Return the sum of each column of x, or of its products with another array's.

        The number of columns is a multiple of `lanes`.
        """
        total = np.empty(self._whole(x.shape[1]), self.dtype)
        if other is None:
            self.table.column_sum(
                x.shape[0], x.shape[1], <const void*> self._address(x, 2), self._stride(x),
                <void*> self._address(total, 1))
            return total
        self._same_shape(x.shape, (other,))
        self.table.column_dot(
            x.shape[0], x.shape[1], <const void*> self._address(x, 2), self._stride(x),
            <const void*> self._address(other, 2), self._stride(other),
            <void*> self._address(total, 1))
        return total

    def column_moments(self, x):
        """Return mean and variance of each column of x, whose number is a multiple of `lanes`."""
        mean = np.empty(self._whole(x.shape[1]), self.dtype)
        variance = np.empty_like(mean)
        self.table.column_moments(
            x.shape[0], x.shape[1], <const void*> self._address(x, 2), self._stride(x),
            <void*> self._address(mean, 1), <void*> self._address(variance, 1))
        return mean, variance

    def inverse_std(self, variance, double epsilon):
        """Return 1 / sqrt(variance + epsilon) of a 1-D array."""
        out = np.empty_like(variance)
        self.table.inverse_std(
            len(variance), epsilon, <const void*> self._address(variance, 1),
            <void*> self._address(out, 1))
        return out

    def batch_norm(self, x, mean, inverse_std, gamma, beta, *, kept=None, out=None):
        """Return gamma normal + beta and, in `kept` if given, normal = (x - mean) inverse_std.

        x has shape (rows, units), the others (units,). `out` may be x.
        """
        self._same_shape((x.shape[1],), (mean, inverse_std, gamma, beta))
        out, kept = self._room(x.shape, out), self._room(x.shape, kept)
        self.table.batch_norm(
            x.shape[0], x.shape[1], <const void*> self._address(mean, 1),
            <const void*> self._address(inverse_std, 1), <const void*> self._address(gamma, 1),
            <const void*> self._address(beta, 1), <const void*> self._address(x, 2),
            self._stride(x), <void*> self._address(kept, 2), self._stride(kept),
            <void*> self._address(out, 2), self._stride(out))
        return out, kept

    def batch_norm_backward(
        self, kept, d, inverse_std, gamma, total, dot, *, double share, bint adds=False, out=None
    ):
        """Return gamma inverse_std (d - share (total + kept dot)), or add it to `out`.

        kept and d have shape (rows, units), the others (units,).
        """
        self._same_shape((d.shape[1],), (inverse_std, gamma, total, dot))
        self._same_shape(d.shape, (kept,))
        out = self._room(d.shape, out)
        self.table.batch_norm_backward(
            d.shape[0], d.shape[1], share, <const void*> self._address(inverse_std, 1),
            <const void*> self._address(gamma, 1), <const void*> self._address(total, 1),
            <const void*> self._address(dot, 1), <const void*> self._address(kept, 2),
            self._stride(kept), <const void*> self._address(d, 2), self._stride(d), adds,
            <void*> self._address(out, 2), self._stride(out))
        return out

    def layer_norm(self, x, gamma, beta, double epsilon, *, kept=None, out=None):
        """Return gamma normal + beta, the normalized rows of x and what each was multiplied with.

        x has shape (rows, units), gamma and beta (units,). `out` may be x.
        """
        self._same_shape((x.shape[1],), (gamma, beta))
        out, kept = self._room(x.shape, out), self._room(x.shape, kept)
        inverse_std = np.empty(x.shape[0], self.dtype)
        self.table.layer_norm(
            x.shape[0], x.shape[1], epsilon, <const void*> self._address(gamma, 1),
            <const void*> self._address(beta, 1), <const void*> self._address(x, 2),
            self._stride(x), <void*> self._address(kept, 2), self._stride(kept),
            <void*> self._address(inverse_std, 1), <void*> self._address(out, 2),
            self._stride(out))
        return out, kept, inverse_std

    def layer_norm_backward(self, kept, inverse_std, d, gamma, *, bint adds=False, out=None):
        """Return dL/dx given d = dL/dy and what `layer_norm` returned, or add it to `out`."""
        self._same_shape((d.shape[1],), (gamma,))
        self._same_shape((d.shape[0],), (inverse_std,))
        self._same_shape(d.shape, (kept,))
        out = self._room(d.shape, out)
        self.table.layer_norm_backward(
            d.shape[0], d.shape[1], <const void*> self._address(gamma, 1),
            <const void*> self._address(kept, 2), self._stride(kept),
            <const void*> self._address(inverse_std, 1), <const void*> self._address(d, 2),
            self._stride(d), adds, <void*> self._address(out, 2), self._stride(out))
        return out

    def dropout(
        self, tuple shape, unsigned dropped, size_t number, tuple key, *, size_t first_row=0,
        out=None
    ):
        """Return the factors of `_reference_layers.dropout_factors`, in `out` if given."""
        cdef uint64_t[2] keys = [key[0], key[1]]
        if dropped >= 65536:
            raise ValueError(f"dropped must be less than 65536, got {dropped}")
        out = self._room(shape, out)
        self.table.dropout(
            shape[0], shape[1], keys, number, first_row, dropped,
            <void*> self._address(out, 2), self._stride(out))
        return out

    def multiply(self, a, b, *, bint adds=False, out=None):
        """Return the products of two (rows, units) arrays, or add them to `out`, which may be one.
        """
        self._same_shape(a.shape, (b,))
        out = self._room(a.shape, out)
        self.table.multiply_rows(
            a.shape[0], a.shape[1], <const void*> self._address(a, 2), self._stride(a),
            <const void*> self._address(b, 2), self._stride(b), adds,
            <void*> self._address(out, 2), self._stride(out))
        return out

    def convert(self, x, double scale=1.0):
        """Return x, a 1-D array of integers or reals of any kind, in the dtype, times scale."""
        code, swapped = element(x.dtype)
        if x.ndim != 1:
            raise ValueError("x must be 1-D")
        out = np.empty(len(x), self.dtype)
        self.table.convert(
            len(x), code, swapped, <const void*> <size_t> x.ctypes.data, x.strides[0], scale,
            <void*> self._address(out, 1))
        return out

    def all_finite(self, x):
        """Whether no element of x, a 1-D array, is infinite or NaN."""
        return bool(self.table.all_finite(len(x), <const void*> self._address(x, 1)))

    def sum_of_squares(self, w):
        """Return the sum of the squared elements of w, a 1-D array."""
        return self.table.sum_of_squares(len(w), <const void*> self._address(w, 1))

    def sum_of_abs(self, w):
        """Return the sum of the absolute values of w, a 1-D array."""
        return self.table.sum_of_abs(len(w), <const void*> self._address(w, 1))

    def move_average(self, double decay, w, average):
        """Move an average, in place, towards w (both 1-D)."""
        if len(average) != len(w):
            raise ValueError("w and the average must have the same length")
        self.table.move_average(
            len(w), decay, <const void*> self._address(w, 1), <void*> self._address(average, 1))

    def update(
        self, int code, g, w, slots, *, Py_ssize_t step=1, double momentum_decay=0.0, **settings
    ):
        """Move the parameters w by their gradient g, in place on w and the slots (all 1-D).

        The settings are fields of `cymlp_step`; the corrections of Adam and NAdam follow from the
        number of the step, counted from 1.
        """
        cdef Step scalars = optimizer_step(settings)
        if not settings.keys() <= STEP_OF_NOTHING.keys():
            raise TypeError(f"settings must be among {set(STEP_OF_NOTHING)}, got {set(settings)}")
        if code == CYMLP_NADAM:
            cymlp_correct_nadam(
                &scalars, <double> step, momentum_decay,
                cymlp_nadam_product(scalars.beta_1, momentum_decay, step))
        else:
            cymlp_correct_step(&scalars, <double> step)
        if code not in OPTIMIZERS.values():
            raise ValueError(f"code must be one of {OPTIMIZERS}, got {code}")
        cdef void* addresses[CYMLP_N_SLOTS]
        cdef Py_ssize_t s
        if not len(slots) == CYMLP_N_SLOTS:
            raise ValueError(f"slots must be {CYMLP_N_SLOTS} arrays")
        for s in range(CYMLP_N_SLOTS):
            if len(slots[s]) != len(w):
                raise ValueError("g, w and the slots must have the same length")
            addresses[s] = <void*> self._address(slots[s], 1)
        if len(g) != len(w):
            raise ValueError("g, w and the slots must have the same length")
        self.table.update[code](
            len(g), <const void*> self._address(g, 1), <void*> self._address(w, 1),
            addresses, &scalars)
