"""The run: a process per library and thread count, asked in turn for one repeat after another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import data
import machine
import peers
from workloads import Task

WORKER = Path(__file__).with_name("worker.py")
LIMITS = "limits"
# Seconds between two turns: the threads of OpenMP and OpenBLAS spin for up to 0.2 s after their
# work, on the core of whoever comes next.
SETTLE = 0.25
MOST_WAITING = 0.05  # share of a core that a waiting process may use before the report says so

#: How far the loss after training may lie from the median of all libraries, as a share of it: the
#: order of sums differs, and training amplifies what that changes in the last bit.
LOSS_TOLERANCE = 0.03
#: The largest error of a prediction against NumPy in float64.
OUTPUT_TOLERANCE = 1e-4


def command(library: str, threads: int, *more: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the environment of a worker."""
    cores = ",".join(map(str, machine.cores(threads)))
    arguments = [sys.executable, str(WORKER), library, str(threads), cores, *more]
    return arguments, os.environ | peers.environment(threads)


class WorkerDied(Exception):
    """A library's process ended by itself."""


class Worker:
    """The main process's end of a library's process."""

    def __init__(self, library: str, threads: int) -> None:
        self.library, self.threads = library, threads
        self.waited, self.used = 0.0, 0.0
        arguments, environment = command(library, threads)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            arguments, env=environment, stdin=pipe, stdout=pipe, text=True
        )
        self.answer()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise WorkerDied(f"{self.library} ended") from None
        answer = self.answer()
        waited, used = answer.pop("waited")
        self.waited, self.used = self.waited + waited, self.used + used
        return answer

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WorkerDied(f"{self.library} ended with status {self.process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@dataclass(frozen=True)
class Settings:
    threads: tuple[int, ...]
    repeats: int
    mnist: str | None = None
    libraries: tuple[str, ...] = tuple(peers.NAMES)  # those to be timed, where installed

    def of(self, task: Task) -> list[str]:
        return [name for name in task.libraries if name in self.libraries and peers.installed(name)]


class Pool:
    """All workers, started when they are first needed."""

    def __init__(self) -> None:
        self.workers: dict[tuple[str, int], Worker] = {}

    def get(self, library: str, threads: int) -> Worker:
        key = library, threads
        if key not in self.workers:
            self.workers[key] = Worker(library, threads)
        return self.workers[key]

    def drop(self, worker: Worker) -> None:
        worker.process.kill()
        worker.process.wait()
        self.workers.pop((worker.library, worker.threads), None)

    def restless(self) -> dict[str, float]:
        """Return the workers that used the CPU while others were timed, and what share of it."""
        shares = {
            f"{library}, {threads} threads": worker.used / worker.waited
            for (library, threads), worker in self.workers.items()
            if worker.waited
        }
        return {name: share for name, share in shares.items() if share > MOST_WAITING}

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()


@contextmanager
def pool() -> Iterator[Pool]:
    made = Pool()
    try:
        yield made
    finally:
        made.close()


def spread(seconds: list[float]) -> dict[str, Any]:
    return {"median": median(seconds), "min": min(seconds), "max": max(seconds), "all": seconds}


def time_task(task: Task, settings: Settings, workers: Pool) -> list[dict[str, Any]]:
    """Return a task's rows, one per number of threads; all of them take turns in every round."""
    arrays = data.make(task, settings.mnist)
    rows = {threads: new_row(task, threads, len(arrays.X)) for threads in settings.threads}
    with tempfile.TemporaryDirectory(prefix="cymlp-bench-") as folder:
        data.save(arrays, folder)
        del arrays
        turns: list[Worker] = []
        for threads, row in rows.items():
            sent = replace(task, threads=threads).to_json()
            for name in (*settings.of(task), LIMITS):
                if task.cold and name != LIMITS:
                    continue
                worker = workers.get(name, threads)
                answer = attempt(workers, worker, "prepare", task=sent, folder=folder)
                if "skipped" in answer or "error" in answer:
                    row["skipped"][name] = answer.get("skipped") or answer["error"]
                else:
                    turns.append(worker)
        for i in range(settings.repeats):
            if task.cold:
                for threads, row in rows.items():
                    for name in settings.of(task):
                        cold_start(name, replace(task, threads=threads), folder, row)
            # Every other round runs backwards: nobody always has the same one before it.
            for worker in turns if i % 2 else turns[::-1]:
                time.sleep(SETTLE)
                answer = attempt(workers, worker, "repeat")
                note(rows[worker.threads], worker.library, answer)
        for worker in turns:
            if worker.library != LIMITS:
                answer = attempt(workers, worker, "check")
                note(rows[worker.threads], worker.library, answer)
    for row in rows.values():
        finish(task, row)
    return list(rows.values())


def attempt(workers: Pool, worker: Worker, do: str, **arguments: Any) -> dict[str, Any]:
    """Ask a worker; one that died is replaced, and what it was doing is an error of its row."""
    try:
        return worker.ask(do, **arguments)
    except WorkerDied as error:
        workers.drop(worker)
        return {"error": str(error)}


def cold_start(name: str, task: Task, folder: str, row: dict[str, Any]) -> None:
    sent = json.dumps(task.to_json())
    arguments, environment = command(name, task.threads, "--cold", sent, folder)
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    note(row, name, json.loads(done.stdout) if done.stdout else {"error": done.stderr[-300:]})


def new_row(task: Task, threads: int, samples: int) -> dict[str, Any]:
    cache = machine.cache_of_a_core() * threads
    return {
        "task": task.to_json(),
        "threads": threads,
        "per": task.per,
        "units": task.units(samples),
        "samples": samples,
        "flops": task.flops(samples),
        "traffic": task.traffic(samples, cache),
        "limits": {"fma": [], "copy": []},
        "libraries": {},
        "skipped": {},
    }


def note(row: dict[str, Any], library: str, answer: dict[str, Any]) -> None:
    """Enter a worker's answer into the row."""
    if "error" in answer:
        row["skipped"][library] = answer["error"]
    elif library == LIMITS:
        for name, rate in answer.items():
            row["limits"][name].append(rate)
    else:
        entry = row["libraries"].setdefault(library, {"seconds": [], "check": None})
        if "seconds" in answer:
            entry["seconds"].append(answer["seconds"])
        entry["check"] = answer.get("check", entry["check"])


def finish(task: Task, row: dict[str, Any]) -> None:
    """Take medians; say who agrees with whom, and what share of a limit was reached."""
    row["limits"] = {name: median(rates) for name, rates in row["limits"].items()}
    for name in row["skipped"]:
        row["libraries"].pop(name, None)
    checks = [entry["check"] for entry in row["libraries"].values()]
    floors = {
        "fma": row["flops"] / row["limits"]["fma"],
        "copy": row["traffic"] / row["limits"]["copy"],
    }
    row["limit"] = max(floors, key=lambda name: floors[name])
    for entry in row["libraries"].values():
        entry["seconds"] = spread(entry["seconds"])
        entry["agrees"] = agrees(task, entry["check"], checks)
        entry["gflops"] = row["flops"] / entry["seconds"]["median"] / 1e9
        entry["share"] = floors[row["limit"]] / entry["seconds"]["median"]
        entry["fma share"] = floors["fma"] / entry["seconds"]["median"]


def agrees(task: Task, check: float, checks: list[float]) -> bool:
    if task.kind != "train":
        return check <= OUTPUT_TOLERANCE
    return abs(check - median(checks)) <= LOSS_TOLERANCE * median(checks)
