"""The update of a network's parameters, shared out among the threads of a team.

It is cut into items, parts of an operation's parameters. Each thread has a run of them, which stays
with it from step to step and in the cache of its core, and moves them by the gradient that it sums
up for them.
"""

from libc.math cimport INFINITY, floor, sqrt
from libc.stdlib cimport calloc, free

from cymlp._batch cimport address
from cymlp._dense cimport (
    Dense, Inputs, Norms, Part, all_panels, bring_deltas, columns_of, dense_apply_item,
    dense_constrain, dense_gradient_squares, dense_norms, dense_update_item, item_rows,
    keeps_gradient, known_zeros, n_items, n_norms, n_panels, panels_of_thread, penalty_of,
    piece_rows)
from cymlp._kernels cimport CYMLP_ACCUMULATE, Step
from cymlp._ops cimport (
    OP_DENSE, Op, Tensor, has_penalty, item_parameters, norm_apply, norm_gradient_squares,
    norm_move_averages, norm_update, op_items, op_norms, uses_batch)
from cymlp._passes cimport wait_for_team
from cymlp._steps cimport array_scale, clips_norms, global_scale
from cymlp._threads cimport cymlp_now, free_balance, note_rate, share_of

# The rows of a batch that take as long to sum up as an optimizer takes to move a parameter.
cdef double OPTIMIZER_ROWS = 20


cdef Part part_of(Shares* shares, const Op* op, Py_ssize_t index, bint whole) noexcept nogil:
    """A thread's part of an item; asked for all items in turn.

    Only one thread has rows of an item that is `whole`.
    """
    cdef Part part
    cdef Py_ssize_t n_rows = item_rows(&op.dense, index) if op.kind == OP_DENSE else 1
    cdef double cost = item_parameters(op, index)
    part.panels = all_panels()
    if shares.by_units and op == shares.first_layer:
        part.panels = shares.units
        part.start, part.stop = 0, n_rows
        shares.mine += cost * shares.own_units * shares.first_cost
        return part
    cost *= shares.first_cost if op == shares.first_layer else shares.cost
    part.start = rows_before(op, n_rows, (shares.begin - shares.before) / cost, whole)
    part.stop = rows_before(op, n_rows, (shares.end - shares.before) / cost, whole)
    shares.before += cost
    shares.mine += cost * (part.stop - part.start) / n_rows
    return part


cdef inline Py_ssize_t rows_before(
    const Op* op, Py_ssize_t n_rows, double end, bint whole
) noexcept nogil:
    """How many of an item's rows come before `end`, in whole items, to the next whole piece."""
    cdef Py_ssize_t step = n_rows
    if end <= 0:
        return 0
    if end >= 1:
        return n_rows
    if op.kind == OP_DENSE and not whole:
        step = min(step, piece_rows(op.dense.kernels))
    return min(n_rows, step * <Py_ssize_t> floor(end * n_rows / step + 0.5))


cdef inline bint is_whole(const Op* op) noexcept nogil:
    """Whether an item is one thread's, which leaves norms of it behind, or these alone."""
    return not op.is_trainable or has_penalty(op)


cdef class Updates(Passes):
    """A program whose parameters an optimizer moves."""

    def __cinit__(self, Py_ssize_t n_inputs, list ops, dtype, key=(0, 0)):
        cdef Py_ssize_t k, index
        cdef const Op* op
        for k in range(self.n_ops):
            op = &self.ops[k]
            for index in range(op_items(op)):
                self.n_parameters += item_parameters(op, index)
            self.has_constraints |= op.dense.max_norm > 0
        self.gradient_squares = <double*> calloc(self._n_items(), sizeof(double))
        if self.gradient_squares == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.gradient_squares)
        free_balance(&self.balance)

    cdef void _update(
        self, Run* run, const Batch* batch, Py_ssize_t n_rows, int optimizer, int thread, int team
    ) noexcept nogil:
        """Bring this thread's items of all operations up to date with some rows of the batch."""
        cdef Py_ssize_t k, index, p
        cdef const Op* op
        cdef const Tensor* source
        cdef Inputs below
        cdef char* scratch = self.scratch + thread * self.scratch_bytes
        cdef Shares shares = self._shares(run, n_rows, batch.has_sums, thread, team)
        cdef Part part
        cdef Norms* norms
        cdef Norms* norms_of_op = self.norms
        cdef double began = cymlp_now() if team > 1 else 0
        for k in range(self.n_ops):
            op = &self.ops[k]
            if op.kind == OP_DENSE:
                below = self._inputs_of(op, batch)
                if op.skips_zeros:
                    source = &batch.tensors[op.source]
                    below = known_zeros(
                        self.kernels, n_rows, op.n_inputs, below, source.nonzeros,
                        source.n_nonzeros)
                if team > 1 and below.nonzeros.bits__bw != NULL:
                    bring_deltas(
                        &op.dense, shares.units if batch.has_sums and k == 0 else all_panels(),
                        n_rows, batch.tensors[k].delta_rows)
            for index in range(op_items(op)):
                part = part_of(&shares, op, index, is_whole(op))
                norms = NULL
                if is_whole(op) and op.kind == OP_DENSE:
                    norms = norms_of_op + index * n_panels(&op.dense)
                if part.start < part.stop and not run.stop:
                    if not op.is_trainable and not keeps_gradient(optimizer):
                        if op.kind == OP_DENSE:
                            for p in range(n_norms(&op.dense, index)):
                                norms[p] = dense_norms(&op.dense, index, p)
                    elif op.kind == OP_DENSE:
                        # Slices after the first one do not see the parameters any more.
                        dense_update_item(
                            &op.dense, index, &part, n_rows, below, batch.tensors[k].delta,
                            op.stride, batch.weight, optimizer, &run.step, scratch,
                            norms if optimizer != CYMLP_ACCUMULATE else NULL)
                    else:
                        norm_update(
                            self.kernels, self.ops, batch.tensors, k, index, n_rows, optimizer,
                            &run.step, &batch.mode, scratch)
                    if keeps_gradient(optimizer):  # else the batch cannot be dropped any more
                        self._look(run, thread, <double> n_rows / op_items(op), op)
            norms_of_op += op_norms(op)
        if team > 1:
            note_rate(&self.balance, thread, shares.mine, cymlp_now() - began)

    cdef void _apply_gradients(
        self, Run* run, Py_ssize_t n_rows, int thread, int team
    ) noexcept nogil:
        """Move this thread's items of all operations by the gradients in memory."""
        cdef Py_ssize_t k, index, count, item = 0
        cdef const Op* op
        cdef Step step = run.step
        cdef Shares shares
        cdef Part part
        cdef double scale = 1
        if clips_norms(&self.stepper):
            self._leave_squares(run, thread, team)
            wait_for_team(team)
            scale = global_scale(&self.stepper, self._norm(0, self._n_items()))
        shares = self._shares(run, 0, False, thread, team)
        for k in range(self.n_ops):
            op = &self.ops[k]
            count = op_items(op)
            for index in range(count):
                if index == 0:  # kernel or gamma
                    step.gradient_scale = scale * array_scale(
                        &self.stepper, self._norm(item, count - 1))
                if index == count - 1:  # bias or beta
                    step.gradient_scale = scale * array_scale(
                        &self.stepper, self._norm(item + count - 1, 1))
                part = part_of(&shares, op, index, True)
                if part.start == part.stop or not op.is_trainable:
                    continue
                if op.kind == OP_DENSE:
                    dense_apply_item(&op.dense, index, run.optimizer, &step)
                    continue
                norm_apply(self.kernels, op, index, run.optimizer, &step)
                if index == 0 and uses_batch(op, &run.mode):
                    norm_move_averages(self.kernels, op, &self.tensors[k], n_rows)
            item += count

    cdef void _leave_squares(self, const Run* run, int thread, int team) noexcept nogil:
        """Leave the squares of this thread's gradients where all threads add them, in order."""
        cdef Py_ssize_t k, index, item = 0
        cdef const Op* op
        cdef Shares shares = self._shares(run, 0, False, thread, team)
        cdef Part part
        for k in range(self.n_ops):
            op = &self.ops[k]
            for index in range(op_items(op)):
                part = part_of(&shares, op, index, True)
                if part.start < part.stop:
                    if not op.is_trainable:
                        self.gradient_squares[item] = 0
                    elif op.kind == OP_DENSE:
                        self.gradient_squares[item] = dense_gradient_squares(&op.dense, index)
                    else:
                        self.gradient_squares[item] = norm_gradient_squares(
                            self.kernels, op, index)
                item += 1

    cdef Py_ssize_t _n_items(self) noexcept nogil:
        cdef Py_ssize_t k, count = 0
        for k in range(self.n_ops):
            count += op_items(&self.ops[k])
        return count

    cdef double _norm(self, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
        """The norm of some items' gradient."""
        cdef Py_ssize_t item
        cdef double squares = 0
        for item in range(first, first + count):
            squares += self.gradient_squares[item]
        return sqrt(squares)

    cdef void _constrain(self, const Run* run, int thread, int team) noexcept nogil:
        cdef Py_ssize_t k
        for k in range(self.n_ops):
            if self.ops[k].dense.max_norm > 0 and self.ops[k].is_trainable:
                dense_constrain(
                    &self.ops[k].dense, run.step.average_decay, thread, team)

    cdef Shares _shares(
        self, const Run* run, Py_ssize_t n_rows, bint by_units, int thread, int team
    ) noexcept nogil:
        """A thread's way through all items in an update of n_rows rows."""
        cdef Shares shares
        cdef double total, first = (self.n_inputs + 1.0) * self._sparse_units()
        shares.first_layer = &self.ops[0]
        shares.first_cost = n_rows * run.first_layer_cost + OPTIMIZER_ROWS
        shares.cost = n_rows + OPTIMIZER_ROWS
        total = first * shares.first_cost + (self.n_parameters - first) * shares.cost
        shares.begin = total * self.balance.ends[thread - 1] if thread > 0 else -INFINITY
        shares.end = total * self.balance.ends[thread] if thread < team - 1 else INFINITY
        shares.before = shares.mine = 0
        shares.by_units = by_units
        if by_units:
            self._take_units(&shares, run, n_rows, thread, team)
        return shares

    cdef void _take_units(
        self, Shares* shares, const Run* run, Py_ssize_t n_rows, int thread, int team
    ) noexcept nogil:
        """Share what is not the first layer's out so that with their own units all have theirs.

        From here to the next barrier a thread also takes the next batch through its units.
        """
        cdef const Dense* layer = &self.ops[0].dense
        cdef double first = (self.n_inputs + 1.0) * layer.n_units
        cdef double others = (self.n_parameters - first) * shares.cost
        cdef double own_cost = first * (shares.first_cost + n_rows * run.first_layer_cost)
        cdef double all_columns = columns_of(layer, all_panels()), own, end = 0, begin = 0
        cdef double total = 0
        cdef int t
        shares.units = panels_of_thread(layer, thread, team)
        shares.own_units = columns_of(layer, shares.units) / all_columns
        for t in range(team):
            own = columns_of(layer, panels_of_thread(layer, t, team)) / all_columns * own_cost
            total += max(0.0, (own_cost + others) * share_of(&self.balance, t) - own)
            if t < thread:
                begin = total
            if t <= thread:
                end = total
        shares.begin = others * begin / total if thread > 0 else -INFINITY
        shares.end = others * end / total if thread < team - 1 else INFINITY

    cdef double _penalty(self, double batch_weight) noexcept nogil:
        """The penalty of the parameters before the update, from the norms that its items left."""
        cdef Py_ssize_t k, index, last, per_item, p
        cdef const Op* op
        cdef const Norms* norms = self.norms
        cdef double penalty = 0
        cdef Norms of_kernel, of_item
        for k in range(self.n_ops):
            op = &self.ops[k]
            if has_penalty(op):
                last, per_item = n_items(&op.dense) - 1, n_panels(&op.dense)
                of_kernel.absolutes = of_kernel.squares = 0
                for index in range(last):
                    of_item.absolutes = of_item.squares = 0
                    for p in range(per_item):
                        of_item.absolutes += norms[index * per_item + p].absolutes
                        of_item.squares += norms[index * per_item + p].squares
                    of_kernel.absolutes += of_item.absolutes
                    of_kernel.squares += of_item.squares
                penalty += penalty_of(&op.dense.kernel_penalty, &of_kernel, batch_weight)
                penalty += penalty_of(
                    &op.dense.bias_penalty, norms + last * per_item, batch_weight)
            norms += op_norms(op)
        return penalty

    cdef _need_gradients(self):
        """Make room for gradients, once; the caller has entered."""
        cdef Py_ssize_t k
        wanted = [[f"{name}_gradient" for name in self._trained(k)] for k in range(self.n_ops)]
        # Of all arrays at once: a generator would take a quarter of this module.
        if not [name for k, names in enumerate(wanted) for name in names
                if name not in self.arrays[k]]:
            return
        gradients = self._new_arrays(wanted)
        for k in range(self.n_ops):
            for name in self._trained(k):
                self._parameters(k, name).gradient = address(gradients[k][f"{name}_gradient"])
            self.arrays[k].update(gradients[k])
