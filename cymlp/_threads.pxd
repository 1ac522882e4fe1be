"""How many threads a piece of work gets."""

cdef extern from "threads.h" nogil:
    int CYMLP_HAS_OPENMP
    const char* CYMLP_COMPILER
    int cymlp_max_threads()
    int cymlp_team_size()
    void cymlp_barrier()
    double cymlp_now()


# At most `wanted` threads (0: the current limit), fewer where the work is too small to share.
cdef int threads_for(double flops, int wanted=*) except -1
