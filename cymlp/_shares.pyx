"""How the update of a network's parameters is shared out among the threads of a team.

Each thread has a run of the parameters, which stays with it from step to step and in the cache of
its core. The runs end where the threads took equally long: cores differ, and so does what it takes
to fetch what another core has changed. Whoever moves a parameter, the result is the same.
"""

from libc.math cimport INFINITY, floor
from libc.stdlib cimport free, realloc

from cymlp._dense cimport item_rows, piece_rows
from cymlp._ops cimport OP_DENSE, item_parameters

# Steps after which shares are changed. The fastest of them counts: systems take a core away now and
# then.
cdef int BALANCE_STEPS = 8
# How far shares go towards what would have taken equally long, and what part of an equal share each
# thread keeps: without any work it could not show that it has become faster.
cdef double BALANCE_PACE = 0.5
cdef double LEAST_SHARE = 0.5


cdef int need_balance(Balance* balance, int team) except -1:
    cdef double* room
    if team <= balance.most:
        return 0
    room = <double*> realloc(balance.ends, 2 * team * sizeof(double))
    if room == NULL:
        raise MemoryError
    balance.ends, balance.rates = room, room + team
    balance.most, balance.team = team, 0
    return 0


cdef void free_balance(Balance* balance) noexcept nogil:
    free(balance.ends)


cdef void begin_balance(Balance* balance, int team) noexcept nogil:
    cdef int t
    if balance.team == team:
        return
    balance.team, balance.steps = team, 0
    for t in range(team):
        balance.ends[t] = (t + 1.0) / team
        balance.rates[t] = 0


cdef inline double share_of(const Balance* balance, int thread) noexcept nogil:
    return balance.ends[thread] - (balance.ends[thread - 1] if thread > 0 else 0)


cdef list shares_of(const Balance* balance):
    return [share_of(balance, t) for t in range(balance.team)]


cdef void note_update(
    Balance* balance, int thread, const Shares* shares, double seconds
) noexcept nogil:
    if seconds > 0:
        balance.rates[thread] = max(balance.rates[thread], shares.mine / seconds)


cdef void rebalance(Balance* balance) noexcept nogil:
    cdef int t, team = balance.team
    cdef double total = 0, end = 0, before = 0, share
    balance.steps += 1
    if balance.steps < BALANCE_STEPS:
        return
    balance.steps = 0
    for t in range(team):
        if not balance.rates[t] > 0:  # a thread that had nothing to do has not shown how fast it is
            return
        total += balance.rates[t]
    for t in range(team):
        share = balance.ends[t] - before
        before = balance.ends[t]
        share += BALANCE_PACE * (balance.rates[t] / total - share)
        end += max(share, LEAST_SHARE / team)
        balance.ends[t] = end
        balance.rates[t] = 0
    for t in range(team):
        balance.ends[t] /= end


cdef void take_share(
    const Balance* balance, int thread, int team, double total, Shares* shares
) noexcept nogil:
    shares.before = shares.mine = 0
    shares.begin = total * balance.ends[thread - 1] if thread > 0 else -INFINITY
    shares.end = total * balance.ends[thread] if thread < team - 1 else INFINITY


cdef Part part_of(Shares* shares, const Op* op, Py_ssize_t index, bint whole) noexcept nogil:
    cdef Part part
    cdef Py_ssize_t n_rows = item_rows(&op.dense, index) if op.kind == OP_DENSE else 1
    cdef double cost = item_parameters(op, index)
    cdef Py_ssize_t step = n_rows
    if op.kind == OP_DENSE and not whole:
        step = min(step, piece_rows(op.dense.kernels))
    cost *= shares.first_cost if op == shares.first_layer else shares.cost
    part.start = rows_before(shares.begin, shares.before, cost, n_rows, step)
    part.stop = rows_before(shares.end, shares.before, cost, n_rows, step)
    shares.before += cost
    shares.mine += cost * (part.stop - part.start) / n_rows
    return part


cdef inline Py_ssize_t rows_before(
    double end, double before, double cost, Py_ssize_t n_rows, Py_ssize_t step
) noexcept nogil:
    """How many rows of an item come before the end of a share, to the next whole piece."""
    cdef double pieces = (end - before) / cost * n_rows / step
    if pieces <= 0:
        return 0
    if pieces * step >= n_rows:
        return n_rows
    return min(n_rows, step * <Py_ssize_t> floor(pieces + 0.5))


def simulated_shares(speeds, Py_ssize_t n_steps):
    """Return what part of the parameters each thread of a team has after some steps.

    Parameters
    ----------
    speeds : list of float
        For each thread, what it moves in a second: a part of the whole.
    n_steps : int

    Returns
    -------
    list of float

    Examples
    --------
    >>> simulated_shares([1.0, 3.0], 0)
    [0.5, 0.5]
    >>> [round(share, 2) for share in simulated_shares([1.0, 3.0], 100)]
    [0.25, 0.75]
    """
    cdef Balance balance
    cdef Shares shares
    cdef int thread, team = len(speeds)
    balance.most = balance.team = 0
    balance.ends = NULL
    need_balance(&balance, team)
    try:
        begin_balance(&balance, team)
        for _ in range(n_steps):
            for thread in range(team):
                shares.mine = share_of(&balance, thread)
                note_update(&balance, thread, &shares, shares.mine / speeds[thread])
            rebalance(&balance)
        return shares_of(&balance)
    finally:
        free_balance(&balance)
