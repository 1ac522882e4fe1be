"""How many threads a piece of work gets, and what the build was made of."""

import os

from cymlp._validate import integer

# Waking a team costs some microseconds: a thread must have this many operations to be worth it.
cdef double FLOPS_PER_THREAD = 7.5e5
cdef int MOST_THREADS = 1024

# A waiting thread spins: one that was off its core for more of a stretch than this had to give
# the core away. Shorter stretches say nothing. Seconds.
cdef double STARVED_SHARE = 0.2
cdef double SHORTEST_STRETCH = 2e-3
TRIAL = 3e-3
cdef double SHORTEST_PAUSE = 0.5
cdef double LONGEST_PAUSE = 8.0

cdef int chosen = 0  # by set_num_threads; 0: none
cdef bint forked = False


def _after_fork_in_child():
    # A team of OpenMP threads does not survive a fork, and libgomp waits for it forever.
    global forked
    forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def set_num_threads(n):
    """Set how many threads training and prediction may use, in the whole process.

    Results do not depend on it, bit for bit. Work too small to be worth sharing stays on one
    thread.

    Parameters
    ----------
    n : int or None
        From 1 to 1024. None returns to the default, OpenMP's limit for the calling thread, which
        ``OMP_NUM_THREADS`` and threadpoolctl set.

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
    chosen = 0 if n is None else integer("n", n, low=1, high=MOST_THREADS, or_none=True)


def get_num_threads():
    """Return how many threads training and prediction may use.

    Returns
    -------
    int
        1 in a build without OpenMP, and in the child of a fork, where OpenMP cannot run.

    Examples
    --------
    >>> import cymlp
    >>> cymlp.get_num_threads() >= 1
    True
    """
    if forked or not CYMLP_HAS_OPENMP:
        return 1
    return chosen or max(1, min(cymlp_max_threads(), MOST_THREADS))


cdef int threads_for(double flops) except -1:
    cdef int limit = get_num_threads()
    return max(1, min(limit, <int> min(flops / FLOPS_PER_THREAD, <double> MOST_THREADS)))


cdef int begin_stretch(TeamWatch* watch, int team) noexcept nogil:
    watch.began = cymlp_now()
    watch.ran = cymlp_running()
    return 1 if watch.began < watch.serial_until else team


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
