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


# As many threads as were asked for (0: as get_num_threads says), fewer where the work is too small
# to share.
cdef int threads_for(double flops, int n_threads) except -1


# How a network has been trained lately, by a team and by one thread alone, and what is tried next.
# A team of threads that meet every few microseconds is fast where they have their cores and caches
# to themselves, no faster than one thread where each step moves more between the caches than it
# computes, and a thousand times slower where a core is busy with other work. No rule tells these
# apart beforehand: both ways are tried for some milliseconds, and the faster one is taken until it is
# time to try again.
cdef struct TeamWatch:
    int team                # threads that the last stretch was given
    int stage               # a Stage
    bint alone              # what was faster
    double[2] rate          # work per second when it was tried: by the team, alone
    double work, seconds    # of the stage that is under way
    double settled_for      # how long what was faster is taken without another trial
    double began
    int asked               # threads and operations of a step for which all this was found out
    double step_flops


# How many threads a stretch of work gets that may have so many, for how many seconds at most, and the
# verdict after it. Results must not depend on it.
cdef int begin_stretch(TeamWatch* watch, int team, double step_flops) noexcept nogil
cdef double stretch_seconds(const TeamWatch* watch, int team) noexcept nogil
cdef void end_stretch(TeamWatch* watch, int team, double work) noexcept nogil
