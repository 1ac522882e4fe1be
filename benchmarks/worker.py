"""A process of one library, pinned to its cores, that does what it is told line by line.

``worker.py LIBRARY THREADS CORES`` reads JSON lines and answers each with one: first ``prepare``
with a task and the folder of its arrays, then ``repeat`` as often as wanted, then ``check``.
``--cold TASK FOLDER`` behind these does one task from the very beginning, imports included.

Between two lines it blocks in a read, so that the process of another library has the machine.
"""

import time

BEGAN = time.perf_counter()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

SHORTEST_REPEAT = 0.1  # seconds; shorter work is done several times, and the median counts


def pin(cores: list[int]) -> None:
    if cores:
        os.sched_setaffinity(0, cores)


def pipe_of_its_own():
    """Return the pipe to the main process; what libraries print goes to stderr instead."""
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return pipe


class Library:
    """One library's answers."""

    job: Any

    def __init__(self, name: str, cores: list[int], threads: int) -> None:
        self.name = name

    def prepare(self, task: dict, folder: str) -> dict:
        """Take on a task, and do it once to warm up."""
        import data
        import peers
        from workloads import Task

        self.job = None  # the last one's memory is free before the next is made
        self.task = Task.from_json(task)
        self.arrays = data.load(self.task, folder)
        try:
            self.job = peers.load(self.name).job(self.task, self.arrays)
        except peers.Unsupported as reason:
            return {"skipped": str(reason)}
        self.job.reset()
        self.job.run()
        return {}

    def timed(self) -> float:
        self.job.reset()
        start = time.perf_counter()
        self.job.run()
        return time.perf_counter() - start

    def repeat(self) -> dict:
        """Return the median of as many runs as make up a repeat."""
        runs = [self.timed()]
        while sum(runs) < SHORTEST_REPEAT:
            runs.append(self.timed())
        return {"seconds": sorted(runs)[len(runs) // 2]}

    def check(self) -> dict:
        """Return the final loss, or the largest error of a prediction."""
        import data

        return {"check": data.check(self.task, self.job.result(), self.arrays)}


class LimitLoops:
    """The machine's limits: takes its turns as if it were a library."""

    def __init__(self, name: str, cores: list[int], threads: int) -> None:
        import machine

        self.limits = machine.Limits(cores, threads)

    def prepare(self, task: dict, folder: str) -> dict:
        return {}

    def repeat(self) -> dict:
        return {"fma": self.limits.fma(), "copy": self.limits.copy()}


def cold(name: str, task_json: str, folder: str) -> dict:
    """Do a task once, as a program that has just begun; the clock started in line 10."""
    import data
    import peers
    from workloads import Task

    task = Task.from_json(json.loads(task_json))
    arrays = data.load(task, folder)
    job = peers.load(name).job(task, arrays)
    job.reset()
    job.run()
    seconds = time.perf_counter() - BEGAN
    return {"seconds": seconds, "check": data.check(task, job.result(), arrays)}


def serve(pipe, name: str, cores: list[int], threads: int) -> None:
    """Answer until the input ends; say with each answer what was used of the CPU while waiting."""
    library = (LimitLoops if name == "limits" else Library)(name, cores, threads)
    print(json.dumps({}), file=pipe, flush=True)
    answered = time.perf_counter(), time.process_time()
    for line in sys.stdin:
        request = json.loads(line)
        waited = time.perf_counter() - answered[0], time.process_time() - answered[1]
        try:
            answer = getattr(library, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({**answer, "waited": waited}), file=pipe, flush=True)
        answered = time.perf_counter(), time.process_time()


def main() -> None:
    name, threads, cores, *rest = sys.argv[1:]
    on_cores = [int(core) for core in cores.split(",") if core]
    pipe = pipe_of_its_own()
    pin(on_cores)
    if rest and rest[0] == "--cold":
        print(json.dumps(cold(name, *rest[1:])), file=pipe, flush=True)
    else:
        serve(pipe, name, on_cores, int(threads))


if __name__ == "__main__":
    main()
