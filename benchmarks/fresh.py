"""What can only be seen in a new process: memory, the time of an import; and the wheel's size."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import data
import peers
from run import Settings, command, spread
from workloads import WIDE, Task

MB = 1e6
MEMORY_ALLOWANCE = 25 * MB  # over parameters and moments
WHEEL_TARGET = 1.5 * MB
IMPORT_TARGET = 0.1  # seconds beyond NumPy's
IMPORT_REPEATS = 11

#: What a library needs before a first network can be trained.
IMPORTS = {
    "cymlp": "cymlp",
    "jax": "jax",
    "torch": "torch",
    "sklearn": "sklearn.neural_network",
    "onnxruntime": "onnxruntime",
}

IMPORT_PROGRAM = """
import time
import numpy
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""

#: Linux: a peak that can be reset, so that what came before the training does not hide it.
MEMORY_PROGRAM = """
import json, re, sys
sys.path.insert(0, {benchmarks!r})
from dataclasses import replace
import numpy as np
import data, peers
from workloads import Task

def resident(which):
    return 1024 * int(re.search(which + r":\\s*(\\d+) kB", open("/proc/self/status").read())[1])

def train(task, arrays):
    job = peers.load({library!r}).job(task, arrays)
    job.reset()
    job.run()

task = Task.from_json(json.loads({task!r}))
arrays = data.load(task, {folder!r})
if {as_bytes!r}:
    arrays = replace(arrays, X=(arrays.X * 255).round().astype(np.uint8))
peers.load({library!r})
before = resident("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
train(task, arrays)
print(json.dumps({{"before": before, "peak": resident("VmHWM"), "data": arrays.X.nbytes}}))
"""


def python(program: str, threads: int = 1, environment: Mapping[str, str] = {}) -> str:
    """Run a program in a new process with a worker's variables; return what it printed."""
    _, variables = command("cymlp", threads)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**variables, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def import_times(settings: Settings) -> dict[str, Any]:
    """Return the seconds that an import takes beyond NumPy's, of each library, compiled before."""
    seconds: dict[str, list[float]] = {
        name: [] for name in IMPORTS if name in settings.libraries and peers.installed(name)
    }
    with tempfile.TemporaryDirectory(prefix="cymlp-bench-") as folder:
        bytecode = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        for turn in range(1 + max(3, min(IMPORT_REPEATS, 4 * settings.repeats))):
            for name, taken in seconds.items():
                found = python(IMPORT_PROGRAM.format(module=IMPORTS[name]), environment=bytecode)
                if turn:  # the first one writes the bytecode
                    taken.append(float(found))
    return {name: spread(taken) for name, taken in seconds.items()}


def memory(settings: Settings, quick: bool) -> list[dict[str, Any]]:
    """Return the peak resident memory of a training, over what was resident before it."""
    if not Path("/proc/self/clear_refs").exists():
        return []
    samples = 6_000 if quick else 60_000
    task = Task("memory", "memory", "train", "mnist", WIDE, 128, samples=samples)
    parameters = 4 * sum((inputs + 1) * units for inputs, units in task.layers)
    rows = []
    with tempfile.TemporaryDirectory(prefix="cymlp-bench-") as folder:
        data.save(data.make(task, settings.mnist), folder)
        for as_bytes in (False, True):
            entries, skipped = {}, {}
            for name in settings.of(task) if not as_bytes else ["cymlp"]:
                program = MEMORY_PROGRAM.format(
                    benchmarks=str(Path(__file__).parent),
                    library=name,
                    task=json.dumps(task.to_json()),
                    folder=folder,
                    as_bytes=as_bytes,
                )
                try:
                    found = [json.loads(python(program)) for _ in range(3)]
                except RuntimeError as error:
                    skipped[name] = str(error)
                    continue
                entries[name] = {
                    "over data": median(each["peak"] - each["before"] for each in found),
                    "peak": median(each["peak"] for each in found),
                    "data": found[0]["data"],
                }
            rows.append(
                {
                    "data": "uint8 images" if as_bytes else "float32 images",
                    "network": task.network,
                    "samples": samples,
                    "parameters and moments": 3 * parameters,
                    "target": 3 * parameters + MEMORY_ALLOWANCE,
                    "libraries": entries,
                    "skipped": skipped,
                }
            )
    return rows


def weight(settings: Settings, wheel: Path | None) -> dict[str, Any]:
    return {
        "import": import_times(settings),
        "import target": IMPORT_TARGET,
        "wheel": wheel.stat().st_size if wheel else None,
        "wheel target": WHEEL_TARGET,
    }
