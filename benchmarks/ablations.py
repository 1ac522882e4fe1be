"""What each technique brings: the same epoch with it and without it, by cymlp's public interface.

    python benchmarks/ablations.py [--mnist DIR] [--repeats N] [--out DIR]

writes `ablations.md`, two tables. In the first, each variant takes one epoch of MNIST (or of its
stand-in), all variants in turns. In the second, the first layer's non-zeros are multiplied alone,
or all inputs are, at a row of densities: where the two times cross is the density below which
`cymlp/_batch.pyx` leaves zeros out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

import data
from cymlp import Sequential, _kernels
from cymlp.layers import Dense
from machine import cores
from report import table
from workloads import NARROW, WIDE, Task, written

#: A number that changes no sum, but is not zero: nothing can be left out.
NOT_ZERO = np.float32(2.0**-100)

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


def network(sizes: tuple[int, ...], isa: str | None = None) -> Sequential:
    before = _kernels.active_isa()
    _kernels.select_isa(isa or before)
    layers = [Dense(units, activation="relu") for units in sizes[1:-1]]
    net = Sequential([*layers, Dense(sizes[-1], activation="softmax")], n_inputs=sizes[0])
    net.compile("adam", "cross_entropy")
    _kernels.select_isa(before)
    return net


def epoch(net: Sequential, X: Any, y: np.ndarray, batch: int, threads: int = 1) -> None:
    net.fit(X, y, batch_size=batch, n_threads=threads, verbose=0)


def unfused(net: Sequential, X: np.ndarray, y: np.ndarray, batch: int) -> None:
    """Gradients go through memory, and through Python."""
    for first in range(0, len(X), batch):
        rows = slice(first, first + batch)
        net.apply_gradients(net.gradients(X[rows], y[rows], n_threads=1))


def variants(
    X: np.ndarray, y: np.ndarray, sizes: tuple[int, ...], batch: int
) -> dict[str, Callable[[], None]]:
    whole = np.where(X == 0, NOT_ZERO, X)
    codes = np.round(X * 255).astype(np.uint8)
    made: dict[str, Callable[[], None]] = {}

    def add(name: str, run: Callable[..., None], *arguments: Any, isa: str | None = None) -> None:
        net = network(sizes, isa)
        made[name] = lambda: run(net, *arguments)

    add("as it is", epoch, X, y, batch)
    add("two threads", epoch, X, y, batch, 2)
    add("images as bytes", epoch, codes, y, batch)
    add("rows of scipy.sparse", epoch, sparse.csr_array(X), y, batch)
    add("zeros multiplied", epoch, whole, y, batch)
    for isa in _kernels.available_isas()[:-1]:
        add(f"zeros multiplied, {isa}", epoch, whole, y, batch, isa=isa)
    add("gradients in memory, not used up tile by tile", unfused, X, y, batch)
    return made


def in_turns(runs: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """The median time of each, in seconds, after one run to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def techniques(X: np.ndarray, y: np.ndarray, repeats: int) -> list[str]:
    lines = []
    for sizes, batch in ((NARROW, 32), (NARROW, 128), (WIDE, 128)):
        medians = in_turns(variants(X, y, sizes, batch), repeats)
        for name, seconds in medians.items():
            share = f"{seconds / medians['as it is']:.2f}"
            lines.append([f"{written(sizes)}, batch {batch}", name, f"{seconds:.3f} s", share])
    return table(["network", "variant", "an epoch", "of the time as it is"], lines)


def crossover(repeats: int) -> list[str]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 4096)
    lines = []
    for units in (16, 128, 512):
        row = [str(units)]
        for density in DENSITIES:
            X = rng.normal(size=(4096, 784)).astype(np.float32)
            X[rng.random(X.shape) >= density] = 0
            forms = {"sparse": sparse.csr_array(X), "dense": np.where(X == 0, NOT_ZERO, X)}
            runs = {
                name: partial(epoch, network((784, units, 10)), form, y, 128)
                for name, form in forms.items()
            }
            medians = in_turns(runs, repeats)
            row.append(f"{medians['sparse'] / medians['dense']:.2f}")
        lines.append(row)
    return table(["units", *(f"{density:.0%}" for density in DENSITIES)], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time cymlp with and without each technique.")
    parser.add_argument("--mnist", default=os.environ.get("CYMLP_MNIST_DIR"), metavar="DIR")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores(2))
    task = Task("", "real images", "train", "mnist", NARROW, 128, samples=60_000)
    X, y = data.samples_of(task, options.mnist)
    text = [
        "# Ablations",
        "",
        f"Medians of {options.repeats} epochs in turns, {_kernels.active_isa()}, one thread if not "
        f"said otherwise, {len(X)} images.",
        "",
        *techniques(np.ascontiguousarray(X, np.float32), y, options.repeats),
        "",
        "## Where leaving zeros out pays",
        "",
        "Time of an epoch (784 inputs, batch 128) that multiplies non-zeros alone, over the time "
        "of one that multiplies all, by the density of the inputs.",
        "",
        *crossover(options.repeats),
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "ablations.md").write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
