"""The machine: what it is, and what it can do at most, measured by the loops of limits.c."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_name("limits.c")
WIDTHS = (64, 32, 16)
COPIED = 256 << 20  # bytes, beyond what a core keeps of a cache that it shares
FMA_SECONDS = 0.05


def cores(threads: int) -> list[int]:
    """Return CPUs that this process may use, no two on one core, as many as there are threads.

    The last ones: the first take the interrupts. An empty list where processes cannot be pinned.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    one_per_core: dict[str, int] = {}
    for cpu in sorted(os.sched_getaffinity(0), reverse=True):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        key = siblings.read_text().strip() if siblings.exists() else str(cpu)
        one_per_core.setdefault(key, cpu)
    return sorted(one_per_core.values(), reverse=True)[:threads]


def most_threads() -> int:
    return len(cores(1 << 16)) or os.cpu_count() or 1


def cache_of_a_core() -> int:
    """Return the size of the second-level cache in bytes, or 1 MiB where Linux does not say it."""
    with suppress(OSError, ValueError):
        size = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(size.removesuffix("K")) << 10
    return 1 << 20


def description() -> dict[str, Any]:
    """Return what the reader of a result has to know of the machine; no name of it."""
    cpu = platform.processor() or platform.machine()
    with suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        cpu = found[1] if found else cpu
    return {
        "cpu": cpu,
        "architecture": platform.machine(),
        "cores": most_threads(),
        "level 2 cache": cache_of_a_core(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def compiled(width: int, folder: str) -> ctypes.CDLL | None:
    """Compile limits.c for vectors of `width` bytes; None if the CPU or compiler has none."""
    library = Path(folder, f"limits{width}.so")
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O3", native, "-ffp-contract=fast"]
    command += ["-shared", "-fPIC", f"-DWIDTH={width}", str(SOURCE), "-o", str(library)]
    if subprocess.run(command, capture_output=True).returncode:
        return None
    found = ctypes.CDLL(str(library))
    found.fma_rounds.argtypes = [ctypes.c_long, ctypes.c_float]
    found.fma_rounds.restype = ctypes.c_float
    found.flops_per_round.restype = ctypes.c_double
    found.copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    found.copy.restype = None
    return found


class Limits:
    """The two loops, on as many threads as there are cores, the widest useful vectors chosen."""

    def __init__(self, on_cores: list[int], threads: int) -> None:
        self.threads, self.cores = threads, on_cores
        with tempfile.TemporaryDirectory() as folder:
            loops = [lib for width in WIDTHS if (lib := compiled(width, folder)) is not None]
        if not loops:
            raise RuntimeError(f"{SOURCE.name} does not compile: is there a C compiler (CC)?")
        # The widest are not the fastest on a CPU that lowers its clock for them.
        self.loops = max(loops, key=lambda lib: self.rate_of(lib, 1 << 18))
        rounds = 1 << 18
        self.rounds = int(rounds * FMA_SECONDS / self.seconds(self.loops, rounds))
        self.buffers = [
            tuple(np.zeros(COPIED // threads + 64, np.uint8) for _ in range(2))
            for _ in range(threads)
        ]
        for pair in self.buffers:
            for array in pair:
                array.fill(1)  # pages that were never written are not there yet

    def on_all(self, work: Callable[[int], object]) -> float:
        """Run ``work(i)`` on every thread at once, each on its own core; return the seconds."""
        barrier = threading.Barrier(self.threads + 1)

        def run(i: int) -> None:
            if self.cores:
                os.sched_setaffinity(0, {self.cores[i]})  # of this thread alone
            barrier.wait()
            work(i)

        team = [threading.Thread(target=run, args=(i,)) for i in range(self.threads)]
        for thread in team:
            thread.start()
        barrier.wait()
        start = time.perf_counter()
        for thread in team:
            thread.join()
        return time.perf_counter() - start

    def seconds(self, loops: ctypes.CDLL, rounds: int) -> float:
        return self.on_all(lambda i: loops.fma_rounds(rounds, 0.999))

    def rate_of(self, loops: ctypes.CDLL, rounds: int) -> float:
        return loops.flops_per_round() * rounds / min(self.seconds(loops, rounds) for _ in range(3))

    def fma(self) -> float:
        """Return multiplications and additions per second of all threads together."""
        flops = self.loops.flops_per_round() * self.rounds * self.threads
        return flops / self.seconds(self.loops, self.rounds)

    def copy(self) -> float:
        """Return the bytes read and written per second while large arrays are copied."""
        bytes_each = COPIED // self.threads // 64 * 64

        def work(i: int) -> None:
            to, source = (array.ctypes.data + -array.ctypes.data % 64 for array in self.buffers[i])
            self.loops.copy(to, source, bytes_each)

        return 2 * bytes_each * self.threads / self.on_all(work)
