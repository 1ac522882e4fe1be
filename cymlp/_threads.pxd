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
    double cymlp_running()


# As many threads as were asked for (0: as get_num_threads says), fewer where the work is too small
# to share.
cdef int threads_for(double flops, int n_threads) except -1


# Keeps a team from training where the machine's other work takes its cores away: threads that meet
# every few microseconds then wait for each other's turns, a thousand times slower than one alone.
cdef struct TeamWatch:
    double serial_until     # no team before then
    double serial_for       # how long that pause is the next time
    bint proven             # the last stretch of a team was not starved
    double began, ran       # clock and running time at the start of a stretch of work
    int team                # threads that the last stretch was given


# How many threads a stretch of work gets, and the verdict after it. Results must not depend on it.
# The stretch of a team that is not proven should be short: TRIAL seconds.
cdef double TRIAL
cdef int begin_stretch(TeamWatch* watch, int team) noexcept nogil
cdef void end_stretch(TeamWatch* watch, int team) noexcept nogil
