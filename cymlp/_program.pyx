"""A network program: layers as codes, and their parameters in one arena.

Inference runs one, and training is built on it.
"""

import sys

import numpy as np

from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from cymlp._batch cimport Arena, address, targets_from
from cymlp._dense cimport (
    is_narrow, kernel_columns, kernel_rows, pack, pack_kernel, padded_size, unpack, unpack_kernel)
from cymlp._kernels cimport Targets, kernel_table


cdef class Program:
    """Layers that are lowered to codes and memory.

    Parameters
    ----------
    n_inputs : int
    layers : list of dict
        Per layer: n_units, activation (a code), l2 and l2_per_batch.
    dtype : {"float32", "float64"}
    """

    def __cinit__(self, Py_ssize_t n_inputs, list layers, dtype):
        cdef Py_ssize_t i, below = n_inputs
        self.n_layers = len(layers)
        self.dtype = np.dtype(dtype)
        self.kernels = kernel_table(None, dtype)
        self.spare = []
        self.layers = <Dense*> calloc(self.n_layers, sizeof(Dense))
        self.strides = <Py_ssize_t*> calloc(self.n_layers, sizeof(Py_ssize_t))
        if self.layers == NULL or self.strides == NULL:
            raise MemoryError
        for i, spec in enumerate(layers):
            self.layers[i].kernels = self.kernels
            self.layers[i].n_inputs = below
            self.layers[i].n_units = spec["n_units"]
            self.layers[i].is_narrow = i > 0 and is_narrow(below, spec["n_units"])
            below = spec["n_units"]
            self.layers[i].activation = spec["activation"]
            self.layers[i].alpha = spec.get("alpha", 0.0)
            self.layers[i].l2 = spec["l2"]
            self.layers[i].l2_per_batch = spec["l2_per_batch"]
            self.strides[i] = self._stride(below)
        self.arrays = self._new_arrays(["kernel", "bias"], transposed=True)
        for i in range(self.n_layers):
            self.layers[i].kernel.values = address(self.arrays[i]["kernel"])
            self.layers[i].bias.values = address(self.arrays[i]["bias"])
            if self._has_transposed(i):
                self.layers[i].transposed = address(self.arrays[i]["transposed"])

    def __dealloc__(self):
        free(self.layers)
        free(self.strides)

    cdef Py_ssize_t _stride(self, Py_ssize_t n_units):
        # Whole vectors, in an odd number of cache lines: a column of rows visits all cache sets.
        cdef Py_ssize_t row = padded_size(n_units, self.kernels.lanes)
        cdef Py_ssize_t item = self.kernels.item_size, lines = ceil_div(row * item, CACHE_LINE)
        return (lines | 1) * CACHE_LINE // item

    cdef bint _has_transposed(self, Py_ssize_t layer):
        return layer > 0 and not self.layers[layer].is_narrow

    cdef list _new_arrays(self, names, bint transposed=False):
        """Return per layer a dict of arrays of zeros, all from one new arena.

        The beginning of a name says whether it has the kernel's layout or the bias's.
        """
        cdef Py_ssize_t i, lanes = self.kernels.lanes
        cdef const Dense* layer
        plan = []
        for i in range(self.n_layers):
            layer = &self.layers[i]
            sizes = {
                "kernel": kernel_rows(layer) * padded_size(kernel_columns(layer), lanes),
                "bias": padded_size(layer.n_units, lanes),
            }
            plan += [(i, name, sizes[name.split("_")[0]]) for name in names]
            if transposed and self._has_transposed(i):
                plan.append((i, "transposed", layer.n_units * padded_size(layer.n_inputs, lanes)))
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
        array = self.arrays[layer][name]
        if name.startswith("bias"):
            return unpack(self.kernels, array, self.layers[layer].n_units)[0]
        return unpack_kernel(&self.layers[layer], array)

    def set(self, Py_ssize_t layer, name, value):
        """Overwrite the array that `get` returns."""
        array = self.arrays[layer][name]
        if name.startswith("bias"):
            array[...] = pack(self.kernels, value[None, :])
            return
        array[...] = pack_kernel(&self.layers[layer], value)
        if name == "kernel" and self._has_transposed(layer):
            self.arrays[layer]["transposed"][...] = pack(self.kernels, value.T)

    def slot_names(self):
        """Return the names of the optimizer's arrays, for `get` and `set`."""
        return [name for name in self.arrays[0] if "slot" in name]

    # What training and inference share

    cdef double _flops_per_row(self) noexcept nogil:
        cdef Py_ssize_t i
        cdef double flops = 0
        for i in range(self.n_layers):
            flops += 2.0 * self.layers[i].n_inputs * self.layers[i].n_units
        return flops

    cdef int _activation(self, Py_ssize_t layer) noexcept nogil:
        return self.output_activation if layer == self.n_layers - 1 \
            else self.layers[layer].activation

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
        self.calls_python = function is not None

    cdef bint _losses(
        self, const Samples* samples, const BatchRows* rows, Py_ssize_t row, Py_ssize_t n_rows,
        const char* out, Py_ssize_t out_stride, char* delta, Py_ssize_t delta_stride,
        uint64_t denormals
    ) noexcept nogil:
        cdef Py_ssize_t n_units = self.layers[self.n_layers - 1].n_units
        cdef Targets targets = targets_from(samples, rows, row)
        cdef bint raised
        if self.calls_python:
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
        cdef const double[::1] losses
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
        losses = values
        copied = address(slopes)
        for b in range(n_rows):
            rows.loss[row + b] = losses[b]
            memcpy(delta + b * delta_stride * item, copied + b * n_bytes, n_bytes)
        return 0
