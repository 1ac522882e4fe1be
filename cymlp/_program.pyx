"""A network program: layers as codes, and their parameters in one arena.

Inference runs one, and training is built on it.
"""

import sys

import numpy as np

from libc.stdlib cimport calloc, free

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

    def slot_names(self, Py_ssize_t layer=0):
        """Return the names of a layer's optimizer arrays, for `get` and `set`."""
        kinds = ("slot", "average")
        return [name for name in self.arrays[layer] if any(kind in name for kind in kinds)]

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

    cdef void _losses(
        self, const Samples* samples, const BatchRows* rows, Py_ssize_t row, Py_ssize_t n_rows,
        const char* out, Py_ssize_t out_stride, char* delta, Py_ssize_t delta_stride
    ) noexcept nogil:
        """Loss, its scaled derivative and, where wanted, accuracy of some rows' outputs."""
        cdef Py_ssize_t n_units = self.layers[self.n_layers - 1].n_units
        cdef Targets targets = targets_from(samples, rows, row)
        self.kernels.loss[self.loss](
            n_rows, n_units, &self.loss_settings, out, out_stride, targets, rows.scale + row, rows.loss + row, delta,
            delta_stride)
        if self.wants_accuracy:
            self.kernels.accuracy(
                n_rows, n_units, out, out_stride, targets, self.accuracy_threshold,
                rows.hit + row)
