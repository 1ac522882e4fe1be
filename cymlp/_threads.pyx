"""How many threads a piece of work gets, and what the build was made of."""

import os

from cymlp._validate import MAX_THREADS, thread_count

# Waking a team costs some microseconds: a thread must have this many operations to be worth it.
cdef double FLOPS_PER_THREAD = 7.5e5
cdef int MOST_THREADS = MAX_THREADS

# A waiting thread spins: one that was off its core for more of a stretch than this had to give
# the core away. Shorter stretches say nothing. Seconds.
cdef double STARVED_SHARE = 0.2
cdef double SHORTEST_STRETCH = 2e-3
TRIAL = 3e-3
cdef double SHORTEST_PAUSE = 0.5
cdef double LONGEST_PAUSE = 8.0

cdef int chosen = 0  # by set_num_threads; 0: none
cdef int cores = 0  # that this process may keep busy; 0: not looked up yet
# Whether OpenMP's limit is what the user asked for, and not what it made of the machine. It read
# the variable when it was loaded.
cdef bint asked = bool(os.environ.get("OMP_NUM_THREADS"))

if cymlp_notice_forks():
    raise MemoryError


def set_num_threads(n):
    """Set how many threads training and prediction may use, in the whole process.

    Results do not depend on it, bit for bit. Work too small to be worth sharing stays on one
    thread.

    Parameters
    ----------
    n : int or None
        From 1 to 1024, even more than the machine has cores. None returns to the default: OpenMP's
        limit for the calling thread, which ``OMP_NUM_THREADS`` and threadpoolctl set. Where
        ``OMP_NUM_THREADS`` is not set, it is at most the number of physical cores that the process
        may use by its affinity and its cgroup's quota.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer or not in that range.

    Examples
    --------
    >>> import cymlp
    >>> cymlp.set_num_threads(1)
    >>> cymlp.get_num_threads()
    1
    >>> cymlp.set_num_threads(None)
    """
    global chosen
    chosen = thread_count("n", n)


def get_num_threads():
    """Return how many threads training and prediction may use, unless told by ``n_threads=``.

    Returns
    -------
    int
        1 in a build without OpenMP, in the child of a fork, where OpenMP cannot run, and in a
        thread of somebody's OpenMP team.

    Examples
    --------
    >>> import cymlp
    >>> cymlp.get_num_threads() >= 1
    True
    """
    return allowed(0)


cdef int allowed(int n_threads) except -1:
    """As many threads as were asked for, 0 for the default, where there can be a team."""
    global cores
    cdef int limit
    if not CYMLP_HAS_OPENMP or cymlp_forked() or cymlp_in_parallel():
        return 1
    if n_threads or chosen:
        return n_threads or chosen
    limit = max(1, min(cymlp_max_threads(), MOST_THREADS))
    if limit == 1 or asked:
        return limit
    if cores == 0:
        from cymlp._cores import usable_cores  # files are read: not before somebody wants to know
        cores = min(usable_cores() or MOST_THREADS, MOST_THREADS)
    return min(limit, cores)


cdef int threads_for(double flops, int n_threads) except -1:
    cdef double worthwhile = min(flops / FLOPS_PER_THREAD, <double> MOST_THREADS)
    return 1 if worthwhile < 2 else min(allowed(n_threads), <int> worthwhile)


cdef int begin_stretch(TeamWatch* watch, int team) noexcept nogil:
    watch.began = cymlp_now()
    watch.ran = cymlp_running()
    watch.team = 1 if watch.began < watch.serial_until else team
    return watch.team


cdef void end_stretch(TeamWatch* watch, int team) noexcept nogil:
    cdef double now = cymlp_now()
    cdef double elapsed = now - watch.began
    cdef double off_core = elapsed - (cymlp_running() - watch.ran)
    if team == 1 or elapsed < SHORTEST_STRETCH:
        return
    watch.proven = off_core < STARVED_SHARE * elapsed
    if watch.proven:
        watch.serial_for = SHORTEST_PAUSE
        return
    watch.serial_until = now + max(watch.serial_for, SHORTEST_PAUSE)
    watch.serial_for = min(2 * max(watch.serial_for, SHORTEST_PAUSE), LONGEST_PAUSE)


def build_info():
    """Return what this build was made with, as a dict."""
    return {"compiler": CYMLP_COMPILER.decode(), "openmp": bool(CYMLP_HAS_OPENMP)}
