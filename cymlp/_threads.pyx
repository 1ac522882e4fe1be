"""How many threads a piece of work gets, and which part of it each; what the build was made of."""

import os

from libc.math cimport INFINITY
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from cymlp._validate import MAX_THREADS, thread_count

# Waking a team costs some microseconds: a thread must have this many operations to be worth it.
cdef double FLOPS_PER_THREAD = 7.5e5
cdef int MOST_THREADS = MAX_THREADS

# Seconds: a stretch of work; a trial, and a stretch of it; what was fastest is taken for between
# these, and for so many times as long as it took to try one thread.
STRETCH = 0.03
cdef double TRIAL_SECONDS = 4e-3
cdef double TRIAL_STRETCH = 1e-3
cdef double SHORTEST_SETTLED = 0.05
cdef double LONGEST_SETTLED = 8.0
cdef double SETTLED_TRIALS = 10
# A trial has so many stretches, or is so many times as long: the fastest stretch counts. Systems
# take a core away for some milliseconds now and then, whatever a team does.
cdef int TRIAL_STRETCHES = 4
cdef double LONGEST_TRIAL = 5
# How much faster another way with a team must have been to be taken; and a stretch that is so much
# slower than the trial was calls for another one. A shorter stretch says nothing.
cdef double CLEARLY_FASTER = 1.05
cdef double CLEARLY_SLOWER = 0.5
cdef double SHORTEST_STRETCH = 1e-2

# Steps after which shares are changed. The fastest of them counts: systems take a core away now and
# then.
cdef int BALANCE_STEPS = 8
# How far shares go towards what would have taken equally long, and what part of an equal share each
# thread keeps: without any work it could not show that it has become faster.
cdef double BALANCE_PACE = 0.5
cdef double LEAST_SHARE = 0.5

cdef enum Stage:
    WARM_UP  # by the team, and not counted: memory is touched for the first time
    TRIAL  # of one way after the other
    SETTLED

cdef enum:
    MOST_WATCHES = 16
    RATE_STEP = 16  # two cache lines, which are fetched together: each thread writes its rate

cdef TeamWatch[MOST_WATCHES] watches
cdef long long asked_for = 0  # how often a watch was asked for

cdef int taken_always = -1  # the way that settle_on was given

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


cdef TeamWatch* watch_for(int team, double step_flops, double n_parameters, bint has_units):
    """Return what is known of such work, or in the place of what was not asked for the longest."""
    global asked_for
    cdef int i, oldest = 0
    asked_for += 1
    for i in range(MOST_WATCHES):
        if (watches[i].team == team and watches[i].step_flops == step_flops
                and watches[i].n_parameters == n_parameters
                and watches[i].has_units == has_units):
            watches[i].used = asked_for
            return &watches[i]
        if watches[i].used < watches[oldest].used:
            oldest = i
    watches[oldest] = new_watch(team, has_units)
    watches[oldest].step_flops = step_flops
    watches[oldest].n_parameters = n_parameters
    watches[oldest].used = asked_for
    return &watches[oldest]


cdef TeamWatch new_watch(int team, bint has_units) noexcept nogil:
    cdef TeamWatch watch
    memset(&watch, 0, sizeof(watch))
    watch.team, watch.has_units = team, has_units
    watch.stage, watch.way, watch.best = WARM_UP, BY_ROWS, BY_ROWS
    watch.settled_for = SHORTEST_SETTLED
    if taken_always >= 0:
        watch.stage, watch.settled_for = SETTLED, INFINITY
        if has_units or taken_always != BY_UNITS:
            watch.way = watch.best = taken_always
    return watch


def forget_trials():
    """Forget how work was done fastest: the next one begins with its team.

    Returns
    -------
    int
        Of how many kinds of work it was known.
    """
    cdef int i, known = 0
    for i in range(MOST_WATCHES):
        known += watches[i].team > 0
        watches[i].team = 0
    return known


cdef dict WAYS = {"rows": <int> BY_ROWS, "units": <int> BY_UNITS, "alone": <int> ALONE}


def settle_on(way):
    """Do work always in the same way, where it can be done so: nothing is tried.

    Parameters
    ----------
    way : {"rows", "units", "alone"} or None
        None returns to trials.
    """
    global taken_always
    taken_always = -1 if way is None else WAYS[way]
    forget_trials()


cdef int team_of(const TeamWatch* watch) noexcept nogil:
    return 1 if watch.way == ALONE else watch.team


cdef bint is_trial(const TeamWatch* watch) noexcept nogil:
    return watch.stage != SETTLED


cdef double stretch_seconds(const TeamWatch* watch) noexcept nogil:
    return TRIAL_STRETCH if is_trial(watch) else STRETCH


cdef void enter(TeamWatch* watch, Stage stage, int way) noexcept nogil:
    watch.stage, watch.way = stage, way
    watch.seconds = 0
    watch.stretches = 0
    if stage == TRIAL:
        watch.rate[way] = 0


cdef void end_stretch(TeamWatch* watch, double work, double elapsed) noexcept nogil:
    cdef int way = watch.way
    watch.seconds += elapsed
    watch.stretches += 1
    if watch.stage == SETTLED:
        if elapsed > SHORTEST_STRETCH and work < CLEARLY_SLOWER * watch.rate[way] * elapsed:
            watch.settled_for = SHORTEST_SETTLED
            enter(watch, TRIAL, BY_ROWS)
        elif watch.seconds > watch.settled_for:
            enter(watch, TRIAL, BY_ROWS)
        return
    watch.rate[way] = max(watch.rate[way], work / elapsed if elapsed > 0 else 0)
    if watch.seconds < TRIAL_SECONDS or (
            watch.stretches < TRIAL_STRETCHES
            and watch.seconds < LONGEST_TRIAL * TRIAL_SECONDS):
        return
    if watch.stage == WARM_UP:
        enter(watch, TRIAL, BY_ROWS)
    elif way == ALONE:
        settle(watch)
    else:
        enter(watch, TRIAL, BY_UNITS if way == BY_ROWS and watch.has_units else ALONE)


cdef void settle(TeamWatch* watch) noexcept nogil:
    """Take what was fastest in the trials that have just ended."""
    cdef int way, fastest = watch.best
    cdef double margin
    for way in range(N_WAYS):
        if watch.rate[way] > watch.rate[fastest]:
            fastest = way
    # One thread has to be no faster than others to be worth more: it leaves their cores to others.
    margin = 1 if fastest == ALONE else CLEARLY_FASTER
    if watch.rate[fastest] > margin * watch.rate[watch.best]:
        watch.best = fastest
        watch.settled_for = SHORTEST_SETTLED
    else:
        watch.settled_for = min(2 * watch.settled_for, LONGEST_SETTLED)
    watch.settled_for = max(watch.settled_for, SETTLED_TRIALS * watch.seconds)
    enter(watch, SETTLED, watch.best)


def simulated_ways(dict rates, Py_ssize_t n_stretches):
    """Return how each of some stretches of work is done.

    Parameters
    ----------
    rates : dict
        Work per second of "rows", of "units", unless they are not a way, and "alone".
    n_stretches : int

    Returns
    -------
    list of str
        Keys of `rates`.

    Examples
    --------
    >>> simulated_ways({"rows": 1.0, "alone": 2.0}, 13)[-1]  # after a warm-up and two trials
    'alone'
    >>> simulated_ways({"rows": 1.0, "units": 3.0, "alone": 2.0}, 17)[-1]  # and three
    'units'
    """
    cdef TeamWatch watch = new_watch(2, "units" in rates)
    cdef double seconds
    names = {number: way for way, number in WAYS.items()}
    ways = []
    for _ in range(n_stretches):
        way = names[watch.way]
        ways.append(way)
        seconds = stretch_seconds(&watch)
        end_stretch(&watch, seconds * rates[way], seconds)
    return ways


cdef int need_balance(Balance* balance, int team) except -1:
    cdef double* room
    if team <= balance.most:
        return 0
    room = <double*> realloc(balance.ends, (1 + RATE_STEP) * (1 + team) * sizeof(double))
    if room == NULL:
        raise MemoryError
    balance.ends, balance.rates = room, room + team + RATE_STEP
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
        rate_of(balance, t)[0] = 0


cdef inline double* rate_of(const Balance* balance, int thread) noexcept nogil:
    return &balance.rates[thread * RATE_STEP]


cdef list shares_of(const Balance* balance):
    return [share_of(balance, t) for t in range(balance.team)]


cdef void note_rate(Balance* balance, int thread, double work, double seconds) noexcept nogil:
    if seconds > 0:
        rate_of(balance, thread)[0] = max(rate_of(balance, thread)[0], work / seconds)


cdef void rebalance(Balance* balance) noexcept nogil:
    cdef int t, team = balance.team
    cdef double total = 0, end = 0, before = 0, share
    balance.steps += 1
    if balance.steps < BALANCE_STEPS:
        return
    balance.steps = 0
    for t in range(team):
        if not rate_of(balance, t)[0] > 0:  # it had nothing to do that would have shown how fast
            return
        total += rate_of(balance, t)[0]
    for t in range(team):
        share = balance.ends[t] - before
        before = balance.ends[t]
        share += BALANCE_PACE * (rate_of(balance, t)[0] / total - share)
        end += max(share, LEAST_SHARE / team)
        balance.ends[t] = end
        rate_of(balance, t)[0] = 0
    for t in range(team):
        balance.ends[t] /= end


def simulated_shares(speeds, Py_ssize_t n_steps):
    """Return what part of the work each thread of a team has after some steps.

    Parameters
    ----------
    speeds : list of float
        For each thread, what part of the work it does in a second.
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
    cdef double work
    cdef int thread, team = len(speeds)
    balance.most = balance.team = 0
    balance.ends = NULL
    need_balance(&balance, team)
    try:
        begin_balance(&balance, team)
        for _ in range(n_steps):
            for thread in range(team):
                work = share_of(&balance, thread)
                note_rate(&balance, thread, work, work / speeds[thread])
            rebalance(&balance)
        return shares_of(&balance)
    finally:
        free_balance(&balance)


def build_info():
    """Return what this build was made with, as a dict."""
    return {"compiler": CYMLP_COMPILER.decode(), "openmp": bool(CYMLP_HAS_OPENMP)}
