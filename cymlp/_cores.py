"""How many cores this process may keep busy: affinity, hyperthreads, cgroup quotas."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator

_TOPOLOGY = "/sys/devices/system/cpu"
_MEMBERSHIP = "/proc/self/cgroup"
_CGROUPS = "/sys/fs/cgroup"


def usable_cores() -> int | None:
    """Return how many threads can run at once without sharing a core.

    Returns
    -------
    int or None
        At least 1; None where the system does not tell (Windows).

    Examples
    --------
    >>> from cymlp._cores import usable_cores
    >>> cores = usable_cores()
    >>> cores is None or cores >= 1
    True
    """
    if sys.platform == "darwin":
        return _darwin_cores()
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = min(physical_cores(os.sched_getaffinity(0)), cpu_quota())
    return max(1, math.ceil(cores))


def physical_cores(cpus: Iterable[int], topology: str = _TOPOLOGY) -> int:
    """Return how many cores some logical CPUs are.

    Two hyperthreads of a core share its multipliers: they are one core to a kernel that keeps
    these busy. A CPU that the system says nothing about counts as a core of its own.

    Parameters
    ----------
    cpus : iterable of int
    topology : str
        Linux's directory of CPUs.

    Returns
    -------
    int
    """
    left = set(cpus)
    cores = 0
    while left:
        cpu = left.pop()
        left.difference_update(_numbers(f"{topology}/cpu{cpu}/topology/thread_siblings_list"))
        cores += 1
    return cores


def cpu_quota(membership: str = _MEMBERSHIP, cgroups: str = _CGROUPS) -> float:
    """Return how many CPUs' worth of time the process's cgroups allow.

    A group's limit holds for all groups below it. In a container, the path that the kernel tells
    may begin above what is mounted: then the groups are found from the root of the mount.

    Parameters
    ----------
    membership : str
        Linux's list of the process's cgroups.
    cgroups : str
        Where cgroups are mounted.

    Returns
    -------
    float
        Infinite without a limit.
    """
    quota = math.inf
    for line in _read(membership).splitlines():
        hierarchy, _, line = line.partition(":")
        controllers, _, path = line.partition(":")
        if hierarchy == "0" and not controllers:  # version 2
            mounts, files = [""], ["cpu.max"]
        elif "cpu" in controllers.split(","):
            mounts, files = [f"/{controllers}", "/cpu"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        for mount in mounts:
            for group in _upwards(path):
                folder = f"{cgroups}{mount}{group}"
                quota = min(quota, _ratio(" ".join(_read(f"{folder}/{name}") for name in files)))
    return quota


def _upwards(path: str) -> Iterator[str]:
    """Yield a cgroup's path and those of the groups around it, the root as ''."""
    path = path.rstrip("/")
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def _ratio(limit: str) -> float:
    """Return the CPUs of "quota period" in microseconds; "max", -1 or no text: no limit."""
    try:
        quota, period = map(int, limit.split())
        return quota / period if quota > 0 else math.inf
    except (ValueError, ZeroDivisionError):
        return math.inf


def _numbers(path: str) -> Iterator[int]:
    """Yield the numbers in a file like "0-3,8"; none where it says something else."""
    try:
        for part in _read(path).split(","):
            first, _, last = part.partition("-")
            yield from range(int(first), int(last or first) + 1)
    except ValueError:
        return


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _darwin_cores() -> int | None:
    import ctypes  # a third of a millisecond that nobody else should pay

    count = ctypes.c_int(0)
    size = ctypes.c_size_t(ctypes.sizeof(count))
    try:
        sysctl = ctypes.CDLL(None).sysctlbyname
        failed = sysctl(b"hw.physicalcpu", ctypes.byref(count), ctypes.byref(size), None, 0)
    except (OSError, AttributeError):
        return None
    return count.value if not failed and count.value > 0 else None
