"""How the update of a network's parameters is shared out among the threads of a team."""

from cymlp._ops cimport Op


# Which of the parameters' cost each thread of a team has, and how fast it was. Thread 0 changes the
# shares, where the others stand before a barrier and do not read them.
cdef struct Balance:
    int most                        # threads that there is room for
    int team                        # whose shares these are; 0: nobody's
    int steps                       # since they were last changed
    double* ends                    # where each thread's share ends, the whole cost being 1
    double* rates                   # cost per second of each thread, at best since then


# A thread's way through all items, from the first one on.
cdef struct Shares:
    const Op* first_layer
    double first_cost, cost         # per parameter, of the first layer and of the others
    double begin, end               # this thread's share
    double before                   # cost of the items that were asked for
    double mine                     # cost of this thread's parts of them


# Rows of an item, from start to before stop; none where these are equal.
cdef struct Part:
    Py_ssize_t start, stop


# Room for a team's shares; raises MemoryError, and leaves what there was.
cdef int need_balance(Balance* balance, int team) except -1
cdef void free_balance(Balance* balance) noexcept nogil

# Begins with equal shares, unless these are the team's already.
cdef void begin_balance(Balance* balance, int team) noexcept nogil

# The shares of a team's threads.
cdef list shares_of(const Balance* balance)

# Notes what a thread took to update its share.
cdef void note_update(
    Balance* balance, int thread, const Shares* shares, double seconds) noexcept nogil

# Changes the shares, if it is time to; called once a step.
cdef void rebalance(Balance* balance) noexcept nogil

# The share of a thread in all of the parameters' cost.
cdef void take_share(
    const Balance* balance, int thread, int team, double total, Shares* shares) noexcept nogil

# A thread's part of an item; asked for all items in turn. Only one thread has rows of an item that
# is `whole`.
cdef Part part_of(Shares* shares, const Op* op, Py_ssize_t index, bint whole) noexcept nogil
