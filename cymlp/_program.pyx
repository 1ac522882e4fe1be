"""A network program: layers as codes, and their parameters in one arena.

Inference runs one, and training is built on it.
"""

import sys

import numpy as np

from libc.stdlib cimport calloc, free

from cymlp._batch cimport Arena, address, targets_from
from cymlp._dense cimport pack, padded_size, unpack
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

    cdef Py_ssize_t _stride(self, Py_ssize_t n_units):
        # Whole vectors, in an odd number of cache lines: a column of rows visits all cache sets.
        cdef Py_ssize_t row = padded_size(n_units, self.kernels.lanes)
        cdef Py_ssize_t item = self.kernels.item_size, lines = ceil_div(row * item, CACHE_LINE)
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
