"""How many threads a piece of work gets."""

cdef extern from "threads.h" nogil:
    int CYMLP_HAS_OPENMP
    const char* CYMLP_COMPILER
    int cymlp_max_threads()
    bint cymlp_in_parallel()
    int cymlp_team_size()
    void cymlp_barrier()
    bint cymlp_forked()
    int cymlp_notice_forks()
    double cymlp_now()
    int cymlp_cpu()
    void cymlp_leave_cpu(int cpu, int turn)


# As many threads as were asked for (0: as get_num_threads says), fewer where the work is too small
# to share.
cdef int threads_for(double flops, int n_threads) except -1


# How work may be done that results do not depend on.
cdef enum Way:
    BY_ROWS                 # by a team, each thread of which takes rows through all layers
    BY_UNITS                # the first layer by units instead: its weights stay in their caches
    ALONE                   # by one thread
    N_WAYS


# How work of one kind has been done lately, and what is tried next. A team of threads that meet
# every few microseconds is fast where they have their cores and caches to themselves, no faster
# than one thread where each step moves more between the caches than it computes, and a thousand
# times slower where a core is busy with other work. No rule tells these apart beforehand: all ways
# are tried for some milliseconds, and the fastest one is taken until it is time to try again.
# Networks of the same shape share what was found out: each may be trained for less than a trial
# takes.
cdef struct TeamWatch:
    int team                # threads, operations of a step and parameters of this kind of work
    double step_flops
    double n_parameters
    bint has_units          # whether BY_UNITS is one of its ways
    int stage               # a Stage
    int way                 # under way
    int best                # what was fastest
    double[N_WAYS] rate     # most work per second when a way was tried
    double seconds          # that the stage under way has taken, and stretches of work
    int stretches
    double settled_for      # how long what was fastest is taken without another trial
    long long used          # when it was last asked for


# Seconds of work before a return to Python.
cdef double STRETCH

# What is known of work that a team may do. Called with the GIL, which guards it.
cdef TeamWatch* watch_for(int team, double step_flops, double n_parameters, bint has_units)

# How many threads a stretch of work gets, for how many seconds at most, and the verdict after it.
cdef int team_of(const TeamWatch* watch) noexcept nogil
cdef double stretch_seconds(const TeamWatch* watch) noexcept nogil
cdef bint is_trial(const TeamWatch* watch) noexcept nogil
cdef void end_stretch(TeamWatch* watch, double work, double elapsed) noexcept nogil


# Which part of the work each thread of a team has, and how fast it was. Cores differ, and so does
# what it takes to fetch what another core has changed: parts end where the threads took equally
# long. Thread 0 changes them, where the others stand before a barrier and do not read them.
cdef struct Balance:
    int most                        # threads that there is room for
    int team                        # whose shares these are; 0: nobody's
    int steps                       # since they were last changed
    double* ends                    # where each thread's share ends, the whole work being 1
    double* rates                   # work per second of each thread, at best since then: rate_of


# Room for a team's shares; raises MemoryError, and leaves what there was.
cdef int need_balance(Balance* balance, int team) except -1
cdef void free_balance(Balance* balance) noexcept nogil

# Begins with equal shares, unless these are the team's already.
cdef void begin_balance(Balance* balance, int team) noexcept nogil

cdef inline double share_of(const Balance* balance, int thread) noexcept nogil:
    return balance.ends[thread] - (balance.ends[thread - 1] if thread > 0 else 0)

# The shares of a team's threads.
cdef list shares_of(const Balance* balance)

# Notes how long a thread took for its part of some work.
cdef void note_rate(Balance* balance, int thread, double work, double seconds) noexcept nogil

# Changes the shares, if it is time to; called once a step.
cdef void rebalance(Balance* balance) noexcept nogil
