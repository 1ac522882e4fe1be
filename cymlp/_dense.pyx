"""One dense layer: forward pass, delta propagation, batch-averaged weight and bias update.

The loops over register tiles. Training calls the cdef functions for the rows and blocks that each
thread has; the Python functions at the end run them over whole arrays.
"""

import numpy as np

from cython.parallel cimport prange

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc

from cymlp._kernels cimport (
    Across, Ahead, Next, SparseAhead, CYMLP_GRADIENT, CYMLP_N_SLOTS, CYMLP_RELU, cymlp_panels_of,
    cymlp_run_of, cymlp_vecs_of, cymlp_without, kernel_table, optimizer_step)
from cymlp._kernels cimport Panels as VectorPanels

cdef enum:
    CACHE_LINE = 64
    MOST_ACROSS = 32                # vectors of a block's rows: of 64 at most, two in each at least

# Bytes of a row of inputs that the forward pass takes at once.
cdef Py_ssize_t STRETCH_BYTES = 4096

# A narrow layer has at most so many units, and at least so many times more inputs. Adam's step on
# 16-100-n, float32, batches of 200, took for n = 2, 10 and 16 units 17.8, 19.4 and 20.6 us with
# units in the lanes and 12.5, 18.2 and 21.8 us with inputs in the lanes (AVX-512; AVX2, n = 2 and
# 10: 27.1 and 30.6 us, 20.8 and 27.5 us). On 16-m-n the two cross at n = 2 (m = 4), 4 (8), 7 (16)
# and 10 (32).
cdef Py_ssize_t NARROW_UNITS = 10
cdef Py_ssize_t NARROW_SHAPE = 3

# Where benchmarks/ablations.py finds that it takes as long to leave zeros out as to multiply them.
cdef ZerosPay MEASURED = ZerosPay(samples=0.55, products=0.65, gradients=0.6)

# What a layer has made, and its deltas, are looked at for zeros where they are at least so many and
# are multiplied with the weights of as many units or more vectors of them.
cdef Py_ssize_t FEWEST_MADE = 64
cdef Py_ssize_t FEWEST_VECTORS = 8

# Bytes of deltas that are asked for at once. More would not stay in the cache.
cdef Py_ssize_t MOST_TO_BRING = 512 * 1024

cdef Penalty NO_PENALTY = Penalty(l1=0, l2=0, per_batch=False)

# Bytes of the largest register tile of any ISA, at the start of an update's scratch memory.
cdef Py_ssize_t TILE_BYTES = 4096


cdef bint is_narrow(Py_ssize_t n_inputs, Py_ssize_t n_units) noexcept nogil:
    return n_units <= min(NARROW_UNITS, n_inputs // NARROW_SHAPE)


cdef Py_ssize_t scratch_size(const KernelTable* kernels, Py_ssize_t n_rows) noexcept nogil:
    cdef Py_ssize_t strips = kernels.block_rows * n_rows * kernels.item_size
    return max(TILE_BYTES, run_bytes(kernels) + turned_bytes(n_rows)) + strips


cdef inline Py_ssize_t run_bytes(const KernelTable* kernels) noexcept nogil:
    """Bytes of a block's gradient in a run of panels."""
    return kernels.block_rows * kernels.run_vecs * kernels.lanes * kernels.item_size


cdef inline Py_ssize_t turned_bytes(Py_ssize_t n_rows) noexcept nogil:
    """Bytes of the non-zeros of a block, by input."""
    return ceil_div(n_rows, 64) * 64 * <Py_ssize_t> sizeof(uint64_t)


# The columns of a matrix in panels: whole ones and lesser ones, as cymlp_panels has their vectors.
# Where there are no lesser ones, lesser_width is 0.
cdef struct Panels:
    Py_ssize_t n_panels, n_full
    Py_ssize_t full_width, lesser_width


cdef inline Panels panels_of(const KernelTable* kernels, Py_ssize_t n_columns) noexcept nogil:
    cdef Panels panels
    cdef Py_ssize_t lanes = kernels.lanes
    cdef VectorPanels cut = cymlp_panels_of(ceil_div(n_columns, lanes), kernels.panel_vecs)
    panels.n_full, panels.n_panels = cut.n_full, cut.n_full + cut.n_lesser
    panels.full_width = kernels.panel_vecs * kernels.lanes
    panels.lesser_width = cut.lesser_vecs * kernels.lanes
    return panels


cdef inline Py_ssize_t first_column(const Panels* panels, Py_ssize_t p) noexcept nogil:
    """Where a panel begins; for one behind the last, the number of columns with their padding."""
    cdef Py_ssize_t lesser = max(<Py_ssize_t> 0, p - panels.n_full)
    return (p - lesser) * panels.full_width + lesser * panels.lesser_width


cdef inline Py_ssize_t panel_width(const Panels* panels, Py_ssize_t p) noexcept nogil:
    return panels.full_width if p < panels.n_full else panels.lesser_width


cdef inline Py_ssize_t panel_at(const Panels* panels, Py_ssize_t column) noexcept nogil:
    """The panel that a column is in."""
    cdef Py_ssize_t behind = column - panels.n_full * panels.full_width
    if behind < 0:
        return column // panels.full_width
    return panels.n_full + behind // panels.lesser_width


cdef PanelRange panels_of_thread(const Dense* layer, int thread, int team) noexcept nogil:
    cdef Panels panels = panels_of(layer.kernels, kernel_columns(layer))
    return PanelRange(first_panel(&panels, thread, team), first_panel(&panels, thread + 1, team))


cdef Py_ssize_t first_panel(const Panels* panels, int thread, int team) noexcept nogil:
    """The panel that begins nearest to where equal shares of the columns would."""
    cdef Py_ssize_t p, column = first_column(panels, panels.n_panels) * thread // team
    if thread == team:
        return panels.n_panels
    p = panel_at(panels, column)
    return p + (2 * (column - first_column(panels, p)) >= panel_width(panels, p))


cdef Py_ssize_t n_panels(const Dense* layer) noexcept nogil:
    return panels_of(layer.kernels, kernel_columns(layer)).n_panels


cdef Py_ssize_t columns_of(const Dense* layer, PanelRange some) noexcept nogil:
    cdef Panels panels = panels_of(layer.kernels, kernel_columns(layer))
    return (first_column(&panels, last_of(&panels, some))
            - first_column(&panels, some.start))


cdef inline Py_ssize_t last_of(const Panels* panels, PanelRange some) noexcept nogil:
    return min(some.stop, panels.n_panels)


cdef VectorPanels in_vectors(
    const KernelTable* kernels, const Panels* panels, PanelRange some
) noexcept nogil:
    """The whole and lesser panels of some."""
    cdef VectorPanels out
    cdef Py_ssize_t n_full = max(<Py_ssize_t> 0, min(some.stop, panels.n_full) - some.start)
    out.n_full, out.n_lesser = n_full, last_of(panels, some) - some.start - n_full
    out.lesser_vecs = panels.lesser_width // <Py_ssize_t> kernels.lanes
    return out


cdef void tiles_forward(
    const KernelTable* kernels, PanelRange some, Py_ssize_t n_rows, Py_ssize_t n_inputs,
    Py_ssize_t n_units, const void* const* x_rows__b_i, const char* w, const char* bias, bint relu,
    bint adds, const char* gate__bo, char* y__bo, Py_ssize_t y_stride, bint padded
) noexcept nogil:
    """Store x w + bias for some rows and panels, or add it where `adds`; the gate is dense_tile's.

    A panel stays in cache while all rows pass it. Many inputs are taken in stretches, so that the
    rows of a tile stay in the first-level cache while the next panel passes.
    """
    cdef Panels panels = panels_of(kernels, n_units)
    cdef Py_ssize_t item = kernels.item_size
    cdef Py_ssize_t tiles = ceil_div(n_rows, kernels.tile_rows)
    cdef Py_ssize_t height = n_rows // tiles, n_lower = tiles - n_rows % tiles
    cdef Py_ssize_t stretches = ceil_div(n_inputs * item, STRETCH_BYTES)
    cdef Py_ssize_t s, p, t, row, next_row, column, width, at_y, start, stop = 0
    cdef Py_ssize_t last = last_of(&panels, some) - 1
    cdef Next next
    if n_rows == 1 and not adds and some.start == 0 and some.stop >= panels.n_panels:
        kernels.dense_row(
            n_units, padded_size(n_units, kernels.lanes) if padded else n_units, n_inputs,
            x_rows__b_i[0], w, bias, relu, y__bo)
        if gate__bo != NULL:
            kernels.activate_backward[<int> CYMLP_RELU](
                1, n_units, 0, gate__bo, y_stride, y__bo, y_stride)
        return
    for s in range(stretches):
        start, stop = stop, n_inputs * (s + 1) // stretches
        for p in range(some.start, last + 1):
            column = first_column(&panels, p)
            width = panel_width(&panels, p)
            next.start, next.step = w + n_inputs * column * item, 0
            if p < last:  # what is behind may be another thread's, to write
                next.start += (n_inputs + start) * width * item
                next.step = width * item // tiles
            next_row = 0
            for t in range(tiles):  # of nearly equal heights: a low tile keeps the CPU waiting
                row, next_row = next_row, next_row + height + (t >= n_lower)
                at_y = (row * y_stride + column) * item
                kernels.dense_tile(
                    next_row - row, width, width if padded else min(width, n_units - column),
                    start, stop - start, x_rows__b_i + row,
                    w + (n_inputs * column + start * width) * item,
                    bias + column * item if bias != NULL else NULL, adds or s > 0,
                    relu and s == stretches - 1,
                    gate__bo + at_y if gate__bo != NULL and s == stretches - 1 else NULL,
                    y__bo + at_y, y_stride, next)
                next.start += next.step * (stop - start)


cdef void dense_forward(
    const Dense* layer, bint relu, Py_ssize_t n_rows, Inputs inputs, char* y__bo,
    Py_ssize_t y_stride, bint padded
) noexcept nogil:
    if inputs.nonzeros.bits__bw != NULL:
        dense_forward_panels(layer, all_panels(), relu, n_rows, inputs, y__bo, y_stride)
    elif layer.is_narrow:
        layer.kernels.dense_dots(
            n_rows, layer.n_units,
            padded_size(layer.n_units, layer.kernels.lanes) if padded else layer.n_units,
            layer.n_inputs, inputs.rows__b_i, layer.kernel.values, layer.bias.values, relu, y__bo,
            y_stride)
    else:
        tiles_forward(
            layer.kernels, all_panels(), n_rows, layer.n_inputs, layer.n_units,
            inputs.rows__b_i, layer.kernel.values, layer.bias.values, relu, False, NULL, y__bo,
            y_stride, padded)


cdef void dense_forward_panels(
    const Dense* layer, PanelRange some, bint relu, Py_ssize_t n_rows, Inputs inputs, char* y__bo,
    Py_ssize_t y_stride
) noexcept nogil:
    cdef Panels panels = panels_of(layer.kernels, layer.n_units)
    cdef Py_ssize_t at = first_column(&panels, some.start) * <Py_ssize_t> layer.kernels.item_size
    if inputs.nonzeros.bits__bw != NULL:
        layer.kernels.sparse_forward(
            n_rows, in_vectors(layer.kernels, &panels, some), layer.n_inputs, inputs.rows__b_i,
            inputs.nonzeros, layer.kernel.values + layer.n_inputs * at, layer.bias.values + at,
            False, relu, y__bo + at, y_stride)
    else:
        tiles_forward(
            layer.kernels, some, n_rows, layer.n_inputs, layer.n_units, inputs.rows__b_i,
            layer.kernel.values, layer.bias.values, relu, False, NULL, y__bo, y_stride, True)


cdef void dense_propagate(
    const Dense* layer, Py_ssize_t n_rows, Inputs deltas, bint adds, const char* gate__bi,
    char* delta_below__bi, Py_ssize_t stride_below
) noexcept nogil:
    cdef Panels panels
    if deltas.nonzeros.bits__bw == NULL:
        tiles_forward(
            layer.kernels, all_panels(), n_rows, layer.n_units, layer.n_inputs, deltas.rows__b_i,
            layer.kernel.values if layer.is_narrow else layer.transposed, NULL, False, adds,
            gate__bi, delta_below__bi, stride_below, True)
        return
    panels = panels_of(layer.kernels, layer.n_inputs)
    layer.kernels.sparse_forward(
        n_rows, in_vectors(layer.kernels, &panels, all_panels()), layer.n_units, deltas.rows__b_i,
        deltas.nonzeros, layer.transposed, NULL, adds, False, delta_below__bi, stride_below)
    if gate__bi != NULL:
        layer.kernels.activate_backward[<int> CYMLP_RELU](
            n_rows, layer.n_inputs, 0, gate__bi, stride_below, delta_below__bi, stride_below)


cdef bint may_leave_zeros_out(
    const KernelTable* kernels, Py_ssize_t n_inputs, Py_ssize_t n_units
) noexcept nogil:
    return (n_inputs >= FEWEST_MADE
            and n_units >= FEWEST_VECTORS * <Py_ssize_t> kernels.lanes)


cdef Inputs find_zeros(
    const KernelTable* kernels, double share, Py_ssize_t n_rows, Py_ssize_t n_inputs,
    Inputs inputs, uint64_t* bits__bw, Py_ssize_t* counts__b
) noexcept nogil:
    cdef Py_ssize_t n_words = n_words_of(kernels, n_inputs), b, count, total = 0
    for b in range(n_rows):
        count = kernels.find_nonzeros(
            1, n_inputs, inputs.rows__b_i + b, bits__bw + b * n_words, n_words)
        total += count
        if counts__b != NULL:
            counts__b[b] = count
    if total < share * n_rows * n_inputs:
        inputs.nonzeros.bits__bw, inputs.nonzeros.stride = bits__bw, n_words
    return inputs


cdef Inputs known_zeros(
    const KernelTable* kernels, Py_ssize_t n_rows, Py_ssize_t n_inputs, Inputs inputs,
    const uint64_t* bits__bw, const Py_ssize_t* counts__b
) noexcept nogil:
    cdef Py_ssize_t b, total = 0
    for b in range(n_rows):
        total += counts__b[b]
    if total < zeros_pay.gradients * n_rows * n_inputs:
        inputs.nonzeros.bits__bw = bits__bw
        inputs.nonzeros.stride = n_words_of(kernels, n_inputs)
        inputs.next_rows__b = inputs.rows__b_i  # of which nothing is brought
    return inputs


cdef void bring_deltas(
    const Dense* layer, PanelRange some, Py_ssize_t n_rows, const void* const* delta_rows__b_o
) noexcept nogil:
    cdef Panels panels = panels_of(layer.kernels, layer.n_units)
    cdef Py_ssize_t n_columns = columns_of(layer, some)
    if n_rows * n_columns * <Py_ssize_t> layer.kernels.item_size <= MOST_TO_BRING:
        layer.kernels.bring_columns(
            n_rows, delta_rows__b_o, first_column(&panels, some.start), n_columns)


# Rows of a kernel that an update takes at once, all of one word of non-zeros.
cdef struct Block:
    Py_ssize_t first, n_rows
    Py_ssize_t kernel_rows
    Panels panels


cdef inline Block block_of(const Dense* layer, Py_ssize_t index) noexcept nogil:
    cdef Block block
    block.kernel_rows = kernel_rows(layer)
    block.first = index * <Py_ssize_t> layer.kernels.block_rows
    block.n_rows = item_rows(layer, index)
    block.panels = panels_of(layer.kernels, kernel_columns(layer))
    return block


cdef inline Py_ssize_t offset_of(
    const Dense* layer, const Block* block, Py_ssize_t p
) noexcept nogil:
    """Bytes from the kernel's start to a block's part of a panel."""
    cdef Py_ssize_t before = block.kernel_rows * first_column(&block.panels, p)
    cdef Py_ssize_t in_panel = block.first * panel_width(&block.panels, p)
    return (before + in_panel) * <Py_ssize_t> layer.kernels.item_size


cdef inline Across across_of(
    const Dense* layer, Py_ssize_t row, Py_ssize_t unit
) noexcept nogil:
    """Where one vector of a kernel's rows stands in the transposed copy, from a unit on."""
    cdef Across across
    cdef Panels panels = panels_of(layer.kernels, layer.n_inputs)
    cdef Py_ssize_t item = layer.kernels.item_size
    cdef Py_ssize_t q = panel_at(&panels, row), column = first_column(&panels, q)
    across.stride = panel_width(&panels, q) * item
    across.first = layer.transposed + (
        layer.n_units * column + row - column) * item + unit * <Py_ssize_t> across.stride
    return across


cdef void transpose_block(const Dense* layer, const Block* block, Py_ssize_t p) noexcept nogil:
    """Bring the transposed copy up to date with a block's part of a panel."""
    cdef const KernelTable* kernels = layer.kernels
    cdef Py_ssize_t lanes = kernels.lanes, item = kernels.item_size
    cdef Py_ssize_t first = first_column(&block.panels, p)
    cdef Py_ssize_t width = panel_width(&block.panels, p)
    cdef Py_ssize_t n_columns = min(width, layer.n_units - first)
    cdef const char* values = layer.kernel.values + offset_of(layer, block, p)
    cdef Py_ssize_t t, row
    cdef Across across
    for t in range(ceil_div(block.n_rows, lanes)):
        row = t * lanes
        across = across_of(layer, block.first + row, first)
        kernels.transpose_tile(
            min(lanes, block.n_rows - row), n_columns, values + row * width * item, width,
            across.first, across.stride // <size_t> item)


cdef inline void claim_transposed(
    const Dense* layer, const Block* block, Py_ssize_t p, Py_ssize_t row
) noexcept nogil:
    """Ask for a tile's share of what `transpose_block` is going to write.

    Tiles of some rows lie side by side in a vector of the copy: each takes a part of its columns.
    """
    cdef const KernelTable* kernels = layer.kernels
    cdef Py_ssize_t lanes = kernels.lanes, tile = kernels.tile_rows
    cdef Py_ssize_t first = first_column(&block.panels, p)
    cdef Py_ssize_t n_columns = min(panel_width(&block.panels, p), layer.n_units - first)
    cdef Py_ssize_t inside = row % lanes
    cdef Py_ssize_t start = n_columns * inside // lanes
    cdef Py_ssize_t stop = n_columns * min(lanes, inside + tile) // lanes
    cdef Across across = across_of(layer, block.first + row - inside, first + start)
    kernels.claim_lines(stop - start, across.first, across.stride)


cdef void dense_constrain(
    const Dense* layer, double average_decay, int thread, int team
) noexcept nogil:
    cdef const KernelTable* kernels = layer.kernels
    cdef Panels panels = panels_of(kernels, layer.n_units)
    cdef Py_ssize_t p, width, offset
    for p in range(panels.n_panels):
        if p % team != thread:
            continue
        width = panel_width(&panels, p)
        offset = layer.n_inputs * first_column(&panels, p) * <Py_ssize_t> kernels.item_size
        kernels.constrain_columns(
            layer.n_inputs, width, layer.max_norm, layer.kernel.values + offset)
        transpose_panel(layer, p)
        if layer.kernel.average != NULL:
            kernels.move_average(
                layer.n_inputs * width, average_decay, layer.kernel.values + offset,
                layer.kernel.average + offset)


cdef void transpose_panel(const Dense* layer, Py_ssize_t p) noexcept nogil:
    cdef Py_ssize_t index
    cdef Block block
    if layer.transposed == NULL:
        return
    for index in range(n_items(layer) - 1):
        block = block_of(layer, index)
        transpose_block(layer, &block, p)


cdef void dense_transpose(const Dense* layer) noexcept nogil:
    cdef Panels panels = panels_of(layer.kernels, kernel_columns(layer))
    cdef Py_ssize_t p
    for p in range(panels.n_panels):
        transpose_panel(layer, p)


cdef inline char* at(char* base, Py_ssize_t offset) noexcept nogil:
    return base + offset if base != NULL else NULL


cdef void update_span(
    const KernelTable* kernels, const Parameters* parameters, Py_ssize_t offset, Py_ssize_t n,
    const char* g, int optimizer, const Step* step
) noexcept nogil:
    cdef void* slots[CYMLP_N_SLOTS]
    slots[0] = at(
        parameters.gradient if keeps_gradient(optimizer) else parameters.slots[0], offset)
    slots[1], slots[2] = at(parameters.slots[1], offset), at(parameters.slots[2], offset)
    kernels.update[optimizer](n, g, parameters.values + offset, slots, step)
    if parameters.average != NULL and not (
            parameters.is_constrained or keeps_gradient(optimizer)):
        kernels.move_average(
            n, step.average_decay, parameters.values + offset, parameters.average + offset)


cdef Norms norms_of(
    const KernelTable* kernels, const Penalty* penalty, Py_ssize_t n, const char* values
) noexcept nogil:
    cdef Norms norms
    norms.absolutes = kernels.sum_of_abs(n, values) if penalty.l1 != 0 else 0
    norms.squares = kernels.sum_of_squares(n, values) if penalty.l2 != 0 else 0
    return norms


cdef void update_block(
    const Dense* layer, const Block* block, PanelRange some, Py_ssize_t n_rows, Inputs inputs,
    const char* delta__bo, Py_ssize_t delta_stride, int optimizer, const Step* step,
    char* scratch, Norms* norms
) noexcept nogil:
    """Move a block tile by tile: a gradient is used up while it is in the first-level cache.

    The gradient is left^T right: the kernel's rows are columns of inputs and its columns such of
    deltas or, in a narrow layer, the other way round. Inputs are gathered first, since the rows of
    a batch stand anywhere; deltas are few and lie in whole vectors.
    """
    cdef const KernelTable* kernels = layer.kernels
    cdef Py_ssize_t tile_rows = kernels.tile_rows, item = kernels.item_size
    cdef Py_ssize_t p, t, count, column, width, offset
    cdef Py_ssize_t left_stride = tile_rows, right_stride = delta_stride
    cdef Py_ssize_t next_strip = n_rows * tile_rows * item
    cdef Py_ssize_t row = 0, rows_per_tile = 0  # of the next block, which are asked for
    cdef Py_ssize_t next_block = block.first + block.n_rows
    cdef Py_ssize_t n_next = min(<Py_ssize_t> kernels.block_rows, block.kernel_rows - next_block)
    cdef const char* left = scratch + TILE_BYTES
    cdef const char* right = delta__bo
    cdef Ahead ahead
    cdef bint transposes = layer.transposed != NULL and not keeps_gradient(optimizer)
    if layer.is_narrow:
        left, left_stride = delta__bo + block.first * item, delta_stride
        next_strip = tile_rows * item
        right, right_stride = <const char*> inputs.rows__b_i[0], inputs.stride
    else:
        kernels.pack_block(
            n_rows, block.n_rows, inputs.rows__b_i, inputs.nonzeros, block.first,
            scratch + TILE_BYTES)
        if n_next > 0:
            count = ceil_div(block.n_rows, tile_rows)
            rows_per_tile = ceil_div(n_rows, count * (last_of(&block.panels, some) - some.start))
    for p in range(some.start, last_of(&block.panels, some)):
        column = first_column(&block.panels, p)
        width = panel_width(&block.panels, p)
        offset = offset_of(layer, block, p)
        if norms != NULL:
            norms[p] = norms_of(
                kernels, &layer.kernel_penalty, block.n_rows * width,
                layer.kernel.values + offset)
        for t in range(ceil_div(block.n_rows, tile_rows)):
            count = min(tile_rows, block.n_rows - t * tile_rows)
            if transposes:
                claim_transposed(layer, block, p, t * tile_rows)
            ahead = ahead_of(
                &layer.kernel, offset, count * width * item,
                next_delta(&block.panels, some, p, t * CACHE_LINE // item))
            if rows_per_tile > 0 and row < n_rows:
                kernels.bring_columns(
                    min(rows_per_tile, n_rows - row), inputs.rows__b_i + row, next_block, n_next)
                row += rows_per_tile
            kernels.gradient_tile(
                count, width, n_rows, left + t * next_strip, left_stride, right + column * item,
                right_stride, scratch, &ahead)
            update_span(kernels, &layer.kernel, offset, count * width, scratch, optimizer, step)
            offset += count * width * item
        if transposes:
            transpose_block(layer, block, p)


cdef void update_block_sparse(
    const Dense* layer, const Block* block, PanelRange some, Py_ssize_t n_rows, Inputs inputs,
    const char* delta__bo, Py_ssize_t delta_stride, int optimizer, const Step* step,
    char* scratch, Norms* norms
) noexcept nogil:
    """Move a block by a gradient that is summed over what is not zero."""
    cdef const KernelTable* kernels = layer.kernels
    cdef const Panels* panels = &block.panels
    cdef Py_ssize_t item = kernels.item_size
    cdef uint64_t* turned = <uint64_t*> (scratch + run_bytes(kernels))
    cdef char* strips = NULL
    cdef Py_ssize_t p, t, first_lesser, column, offset, count, stop = some.start
    cdef VectorPanels run, left = in_vectors(kernels, panels, some)
    cdef SparseAhead ahead
    cdef Across[MOST_ACROSS] across
    cdef bint transposes = layer.transposed != NULL and not keeps_gradient(optimizer)
    ahead.across__t, ahead.n_across = across, 0
    if cymlp_vecs_of(left, kernels.panel_vecs) > kernels.run_vecs:  # several runs come back
        strips = scratch + run_bytes(kernels) + turned_bytes(n_rows)
        kernels.pack_block(
            n_rows, block.n_rows, inputs.rows__b_i, inputs.nonzeros, block.first, strips)
    ahead.rows__b, ahead.start = inputs.next_rows__b, block.first * inputs.next_item
    kernels.turn_nonzeros(
        n_rows, block.first // <Py_ssize_t> kernels.block_rows, inputs.nonzeros, turned)
    turned += block.first % <Py_ssize_t> kernels.block_rows
    ahead.n_bytes = block.n_rows * inputs.next_item
    ahead.full_panel = layer.n_inputs * panels.full_width * item
    while stop < last_of(panels, some):
        run = cymlp_run_of(left, kernels.panel_vecs, kernels.run_vecs)
        left = cymlp_without(left, run)
        p, first_lesser = stop, stop + <Py_ssize_t> run.n_full
        stop = first_lesser + <Py_ssize_t> run.n_lesser
        column = first_column(panels, p)
        lines_of(&layer.kernel, offset_of(layer, block, p), ahead.full)
        lines_of(
            &layer.kernel, offset_of(layer, block, min(first_lesser, stop - 1)), ahead.lesser)
        if transposes:
            ahead.n_across = min(
                <Py_ssize_t> cymlp_vecs_of(run, kernels.panel_vecs) * <Py_ssize_t> kernels.lanes,
                layer.n_units - column)
            for t in range(ceil_div(block.n_rows, kernels.lanes)):
                across[t] = across_of(layer, block.first + t * <Py_ssize_t> kernels.lanes, column)
        kernels.sparse_gradient(
            n_rows, run, block.first, block.n_rows, inputs.rows__b_i, inputs.nonzeros,
            strips, turned, delta__bo + column * item, delta_stride, scratch, &ahead)
        ahead.n_bytes = 0
        for p in range(p, stop):
            count = block.n_rows * panel_width(panels, p)
            offset = offset_of(layer, block, p)
            if norms != NULL:
                norms[p] = norms_of(
                    kernels, &layer.kernel_penalty, count, layer.kernel.values + offset)
            update_span(
                kernels, &layer.kernel, offset, count,
                scratch + (first_column(panels, p) - column) * block.n_rows * item, optimizer,
                step)
            if transposes:
                transpose_block(layer, block, p)


cdef inline void lines_of(
    const Parameters* parameters, Py_ssize_t offset, const char** line
) noexcept nogil:
    """Where an update of parameters will read and write."""
    cdef int s
    line[0] = parameters.values + offset
    for s in range(2):
        line[1 + s] = (
            parameters.slots[s] if parameters.slots[s] != NULL else parameters.values) + offset


cdef inline Ahead ahead_of(
    const Parameters* parameters, Py_ssize_t offset, Py_ssize_t n_bytes, Py_ssize_t delta_offset
) noexcept nogil:
    """What an update of some bytes of parameters will read, and a part of the next deltas."""
    cdef Ahead ahead
    lines_of(parameters, offset, ahead.line)
    ahead.n_lines = ceil_div(n_bytes, CACHE_LINE)
    ahead.delta_offset = delta_offset
    return ahead


cdef inline Py_ssize_t next_delta(
    const Panels* panels, PanelRange some, Py_ssize_t p, Py_ssize_t column
) noexcept nogil:
    """Where a column of the next panel stands, from this one's first; 0 where there is none.

    The rows of deltas lie too far apart for the hardware to guess: each tile brings one line of
    the next panel's.
    """
    cdef Py_ssize_t width = panel_width(panels, p)
    return width + column if p + 1 < last_of(panels, some) and column < width else 0


cdef void update_bias(
    const Dense* layer, PanelRange some, Py_ssize_t n_rows, const char* delta__bo,
    Py_ssize_t delta_stride, int optimizer, const Step* step, char* scratch, Norms* norms
) noexcept nogil:
    cdef const KernelTable* kernels = layer.kernels
    cdef Panels panels = panels_of(kernels, layer.n_units)
    cdef Py_ssize_t p, width, offset
    if norms != NULL:
        norms[0] = norms_of(
            kernels, &layer.bias_penalty, padded_size(layer.n_units, kernels.lanes),
            layer.bias.values)
    for p in range(some.start, last_of(&panels, some)):
        width = panel_width(&panels, p)
        offset = first_column(&panels, p) * <Py_ssize_t> kernels.item_size
        kernels.column_sum(n_rows, width, delta__bo + offset, delta_stride, scratch)
        update_span(kernels, &layer.bias, offset, width, scratch, optimizer, step)


cdef void dense_update_item(
    const Dense* layer, Py_ssize_t index, const Part* part, Py_ssize_t n_rows, Inputs inputs,
    const char* delta__bo, Py_ssize_t delta_stride, double batch_weight, int optimizer,
    const Step* step, char* scratch, Norms* norms
) noexcept nogil:
    cdef Step room
    cdef Block block
    if index == n_items(layer) - 1:
        if layer.has_bias:
            step = step_for(step, layer.rate_factor, &layer.bias_penalty, batch_weight, &room)
            update_bias(
                layer, part.panels, n_rows, delta__bo, delta_stride, optimizer, step, scratch,
                norms if part.panels.start == 0 else NULL)
        return
    block = block_of(layer, index)
    block.first, block.n_rows = block.first + part.start, part.stop - part.start
    step = step_for(step, layer.rate_factor, &layer.kernel_penalty, batch_weight, &room)
    if inputs.nonzeros.bits__bw != NULL:
        update_block_sparse(
            layer, &block, part.panels, n_rows, inputs, delta__bo, delta_stride, optimizer, step,
            scratch, norms)
        return
    update_block(
        layer, &block, part.panels, n_rows, inputs, delta__bo, delta_stride, optimizer, step,
        scratch, norms)


cdef Norms dense_norms(const Dense* layer, Py_ssize_t index, Py_ssize_t p) noexcept nogil:
    cdef const KernelTable* kernels = layer.kernels
    cdef Block block
    if index == n_items(layer) - 1:
        return norms_of(
            kernels, &layer.bias_penalty, padded_size(layer.n_units, kernels.lanes),
            layer.bias.values)
    block = block_of(layer, index)
    return norms_of(
        kernels, &layer.kernel_penalty, block.n_rows * panel_width(&block.panels, p),
        layer.kernel.values + offset_of(layer, &block, p))


cdef void dense_apply_item(
    const Dense* layer, Py_ssize_t index, int optimizer, const Step* step
) noexcept nogil:
    cdef const KernelTable* kernels = layer.kernels
    cdef Block block
    cdef Step room
    cdef Py_ssize_t p, offset
    step = step_for(step, layer.rate_factor, NULL, 1, &room)
    if index == n_items(layer) - 1:
        if layer.has_bias:
            update_span(
                kernels, &layer.bias, 0, padded_size(layer.n_units, kernels.lanes),
                layer.bias.gradient, optimizer, step)
        return
    block = block_of(layer, index)
    for p in range(block.panels.n_panels):
        offset = offset_of(layer, &block, p)
        update_span(
            kernels, &layer.kernel, offset, block.n_rows * panel_width(&block.panels, p),
            layer.kernel.gradient + offset, optimizer, step)
        if layer.transposed != NULL:
            transpose_block(layer, &block, p)


cdef double dense_gradient_squares(const Dense* layer, Py_ssize_t index) noexcept nogil:
    cdef const KernelTable* kernels = layer.kernels
    cdef Block block
    cdef Py_ssize_t p
    cdef double squares = 0
    if index == n_items(layer) - 1:
        return kernels.sum_of_squares(
            padded_size(layer.n_units, kernels.lanes), layer.bias.gradient)
    block = block_of(layer, index)
    for p in range(block.panels.n_panels):
        squares += kernels.sum_of_squares(
            block.n_rows * panel_width(&block.panels, p),
            layer.kernel.gradient + offset_of(layer, &block, p))
    return squares


cdef list _cuts(const KernelTable* kernels, Py_ssize_t n_columns):
    """Where the panels of a matrix begin and the last one ends."""
    cdef Panels panels = panels_of(kernels, n_columns)
    cdef Py_ssize_t p
    return [first_column(&panels, p) for p in range(panels.n_panels + 1)]


cdef _whole_vectors(matrix, Py_ssize_t lanes):
    """Return a copy of a matrix whose rows are filled with zeros."""
    filled = np.zeros((matrix.shape[0], padded_size(matrix.shape[1], lanes)), matrix.dtype)
    filled[:, :matrix.shape[1]] = matrix
    return filled


cdef pack(const KernelTable* kernels, matrix):
    cdef list cuts = _cuts(kernels, matrix.shape[1])
    filled = _whole_vectors(matrix, kernels.lanes)
    return np.concatenate([filled[:, a:b].ravel() for a, b in zip(cuts, cuts[1:])])


cdef unpack(const KernelTable* kernels, panels, Py_ssize_t n_columns):
    cdef list cuts = _cuts(kernels, n_columns)
    n_rows = len(panels) // padded_size(n_columns, kernels.lanes)
    parts = [panels[n_rows * a:n_rows * b].reshape(n_rows, b - a)
             for a, b in zip(cuts, cuts[1:])]
    return np.concatenate(parts, axis=1)[:, :n_columns].copy()


cdef pack_kernel(const Dense* layer, matrix):
    return pack(layer.kernels, matrix.T if layer.is_narrow else matrix)


cdef unpack_kernel(const Dense* layer, panels):
    matrix = unpack(layer.kernels, panels, kernel_columns(layer))
    return matrix.T.copy() if layer.is_narrow else matrix


cdef class _Operand:
    """A layer over its own memory, and row pointers to one array, for the functions below."""

    cdef Dense layer
    cdef const void** rows
    cdef list keep

    def __dealloc__(self):
        free(self.rows)

    cdef const char* hold(self, array):
        self.keep.append(array)
        return <const char*> <size_t> array.ctypes.data

    cdef int point(self, x) except -1:
        cdef Py_ssize_t b, n_rows = x.shape[0], stride = x.strides[0]
        cdef const char* base = self.hold(x)
        self.rows = <const void**> malloc((n_rows + 1) * sizeof(void*))
        if self.rows == NULL:
            raise MemoryError
        for b in range(n_rows):
            self.rows[b] = base + b * stride
        return 0


cdef _Operand _operand(x, kernel, bias, isa, bint narrow):
    """Lay out a layer with this kernel, and rows of x, all of one dtype."""
    cdef _Operand out = _Operand()
    out.keep = [x]
    out.layer.kernels = kernel_table(isa, x.dtype)
    out.layer.n_inputs, out.layer.n_units = kernel.shape
    out.layer.is_narrow, out.layer.has_bias = narrow, True
    out.layer.rate_factor, out.layer.max_norm = 1, 0
    out.layer.kernel.is_constrained = out.layer.bias.is_constrained = False
    out.layer.kernel_penalty = out.layer.bias_penalty = NO_PENALTY
    out.layer.kernel.values = <char*> out.hold(pack_kernel(&out.layer, kernel))
    if not narrow:
        out.layer.transposed = <char*> out.hold(pack(out.layer.kernels, kernel.T))
    out.layer.bias.values = <char*> out.hold(pack(out.layer.kernels, bias[None, :]))
    out.point(x)
    return out


def _check(x, others):
    for array in (x, *others):
        if array.dtype != x.dtype:
            raise ValueError(f"all arrays must be {x.dtype.name}, got {array.dtype.name}")
        if array.ndim == 2 and array.shape[1] > 1 and array.strides[1] != array.itemsize:
            raise ValueError("the columns of each array must be contiguous")


def leave_zeros_out(samples=None, made=None):
    """Leave zeros out below other shares of non-zeros than those where it pays.

    Parameters
    ----------
    samples : float, optional
        Among the inputs of samples. 0: zeros are multiplied. None: where it pays.
    made : float, optional
        Among what layers have made, and its deltas.
    """
    global zeros_pay
    zeros_pay = MEASURED
    if samples is not None:
        zeros_pay.samples = samples
    if made is not None:
        zeros_pay.products = zeros_pay.gradients = made


leave_zeros_out()


def forward(
    x, kernel, bias, int activation, *, double alpha=0.0, isa=None, int n_threads=1,
    bint narrow=False
):
    """Return activation(x @ kernel + bias).

    Parameters
    ----------
    x : ndarray of shape (rows, inputs), float32 or float64
        Columns contiguous.
    kernel : ndarray of shape (inputs, units)
    bias : ndarray of shape (units,)
    activation : int
        One of `cymlp._kernels.ACTIVATIONS`.
    alpha : float, default=0.0
        The activation's own parameter.
    isa : str, optional
        One of `cymlp._kernels.available_isas()`; the active one by default.
    n_threads : int, default=1
    narrow : bool, default=False
        Whether the kernel lies as a narrow layer's does; here and in the functions below.

    Returns
    -------
    ndarray of shape (rows, units)
    """
    _check(x, (kernel, bias))
    if x.shape[1] != kernel.shape[0] or bias.shape[0] != kernel.shape[1]:
        raise ValueError(f"shapes {x.shape}, {kernel.shape}, {bias.shape} do not fit")
    cdef _Operand operand = _operand(x, kernel, bias, isa, narrow)
    cdef const Dense* layer = &operand.layer
    cdef Py_ssize_t n_rows = x.shape[0], n_units = kernel.shape[1]
    cdef Py_ssize_t tile = layer.kernels.tile_rows, row_bytes = n_units * x.itemsize
    y = np.empty((n_rows, n_units), x.dtype)
    cdef char* out = <char*> operand.hold(y)
    cdef char* row
    cdef Py_ssize_t t, count
    for t in prange(ceil_div(n_rows, tile), nogil=True, num_threads=n_threads, schedule="static"):
        count = min(tile, n_rows - t * tile)
        row = out + t * tile * row_bytes
        dense_forward(
            layer, activation == CYMLP_RELU, count, all_inputs(operand.rows + t * tile, 0), row,
            n_units, False)
        if activation != CYMLP_RELU:
            layer.kernels.activate[activation](
                count, n_units, alpha, row, n_units, row, n_units)
    return y


def propagate(
    delta, kernel, y_below, int activation_below, *, isa=None, int n_threads=1, bint narrow=False
):
    """Return the delta of the layer below, (delta @ kernel.T) * activation_below'(y_below).

    Parameters
    ----------
    delta : ndarray of shape (rows, units), float32 or float64
        dL/dz of the layer; columns contiguous.
    kernel : ndarray of shape (inputs, units)
    y_below : ndarray of shape (rows, inputs)
        Outputs of the layer below.
    activation_below : int
        One of `cymlp._kernels.ACTIVATIONS`.
    isa : str, optional
    n_threads : int, default=1
    narrow : bool, default=False

    Returns
    -------
    ndarray of shape (rows, inputs)
    """
    _check(delta, (kernel, y_below))
    if delta.shape[1] != kernel.shape[1] or y_below.shape != (len(delta), kernel.shape[0]):
        raise ValueError(f"shapes {delta.shape}, {kernel.shape}, {y_below.shape} do not fit")
    cdef _Operand operand = _operand(
        delta, kernel, np.zeros(kernel.shape[1], delta.dtype), isa, narrow)
    cdef const Dense* layer = &operand.layer
    cdef Py_ssize_t n_rows = delta.shape[0], n_inputs = kernel.shape[0]
    cdef Py_ssize_t tile = layer.kernels.tile_rows
    cdef Py_ssize_t stride = padded_size(n_inputs, layer.kernels.lanes)
    cdef Py_ssize_t row_bytes = stride * delta.itemsize
    below = _whole_vectors(y_below, layer.kernels.lanes)
    result = np.empty((n_rows, stride), delta.dtype)
    cdef const char* y = operand.hold(below)
    cdef char* out = <char*> operand.hold(result)
    cdef Py_ssize_t t, count
    for t in prange(ceil_div(n_rows, tile), nogil=True, num_threads=n_threads, schedule="static"):
        count = min(tile, n_rows - t * tile)
        dense_propagate(
            layer, count, all_inputs(operand.rows + t * tile, 0), False, NULL,
            out + t * tile * row_bytes, stride)
        layer.kernels.activate_backward[activation_below](
            count, n_inputs, 0, y + t * tile * row_bytes, stride, out + t * tile * row_bytes,
            stride)
    return np.ascontiguousarray(result[:, :n_inputs])


cdef void gradient_of_item(
    const Dense* layer, Py_ssize_t index, Py_ssize_t n_rows, Inputs inputs, const char* delta,
    Py_ssize_t delta_stride, const Step* step, char* scratch
) noexcept nogil:
    cdef Part part
    part.start, part.stop, part.panels = 0, item_rows(layer, index), all_panels()
    dense_update_item(
        layer, index, &part, n_rows, inputs, delta, delta_stride, 1, CYMLP_GRADIENT, step, scratch,
        NULL)


def gradient(x, delta, *, isa=None, int n_threads=1, bint narrow=False):
    """Return the gradients of a layer's kernel and bias, summed over the rows.

    Parameters
    ----------
    x : ndarray of shape (rows, inputs), float32 or float64
        Inputs of the layer; columns contiguous.
    delta : ndarray of shape (rows, units)
        dL/dz of the layer.
    isa : str, optional
    n_threads : int, default=1
    narrow : bool, default=False

    Returns
    -------
    kernel_gradient : ndarray of shape (inputs, units)
        x.T @ delta.
    bias_gradient : ndarray of shape (units,)
    """
    _check(x, (delta,))
    if len(x) != len(delta):
        raise ValueError(f"shapes {x.shape}, {delta.shape} do not fit")
    cdef Py_ssize_t n_rows = x.shape[0], n_units = delta.shape[1]
    cdef Py_ssize_t lanes = kernel_table(isa, x.dtype).lanes
    if narrow:
        x = _whole_vectors(x, lanes)[:, :x.shape[1]]
    zeros = np.zeros((x.shape[1], n_units), x.dtype)
    cdef _Operand operand = _operand(x, zeros, np.zeros(n_units, x.dtype), isa, narrow)
    cdef Dense* layer = &operand.layer
    cdef Inputs inputs = all_inputs(operand.rows, x.strides[0] // x.itemsize)
    filled = _whole_vectors(delta, lanes)
    cdef Py_ssize_t stride = filled.shape[1]
    kernel_gradient = pack_kernel(layer, zeros)
    bias_gradient = np.zeros(stride, x.dtype)
    layer.kernel.gradient = <char*> operand.hold(kernel_gradient)
    layer.bias.gradient = <char*> operand.hold(bias_gradient)
    cdef const char* delta_rows = operand.hold(filled)
    cdef Step step = optimizer_step({})
    cdef Py_ssize_t size = scratch_size(layer.kernels, n_rows)
    cdef char* scratch = <char*> operand.hold(np.empty(n_items(layer) * size, np.uint8))
    cdef Py_ssize_t index
    for index in prange(n_items(layer), nogil=True, num_threads=n_threads, schedule="static"):
        gradient_of_item(
            layer, index, n_rows, inputs, delta_rows, stride, &step, scratch + index * size)
    return unpack_kernel(layer, kernel_gradient), bias_gradient[:n_units].copy()
