"""What each technique brings: the same epoch with it and without it, by cymlp's public interface.

    python benchmarks/ablations.py [--mnist DIR] [--repeats N] [--out DIR]

writes `ablations.md`, three tables. In the first, each variant takes one epoch of MNIST (or of its
stand-in), all variants in turns. In the others, non-zeros are multiplied alone, or zeros are, too,
at a row of densities: those of the samples, and those of what a hidden layer makes. Where the two
times cross is the density below which `cymlp/_dense.pyx` leaves zeros out.
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
from cymlp import Sequential, _dense, _kernels
from cymlp.layers import Dense, Dropout
from machine import cores
from report import table
from workloads import NARROW, WIDE, Task, written

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

#: A share of non-zeros below which zeros are always left out, whatever a layer's size.
ALWAYS = 100.0


def network(sizes: tuple[int, ...], isa: str | None = None, scale: float = 1.0) -> Sequential:
    before = _kernels.active_isa()
    _kernels.select_isa(isa or before)
    layers = [Dense(units, activation="relu") for units in sizes[1:-1]]
    layers.append(Dense(sizes[-1], activation="softmax"))
    net = Sequential(layers, n_inputs=sizes[0], input_scale=scale)
    net.compile("adam", "cross_entropy")
    _kernels.select_isa(before)
    return net


def epoch(net: Sequential, X: Any, y: np.ndarray, batch: int, threads: int = 1) -> None:
    net.fit(X, y, batch_size=batch, n_threads=threads, verbose=0)


def with_zeros(run: Callable[[], None], samples: float | None, made: float | None) -> None:
    """Run with other shares of non-zeros than those below which zeros are left out."""
    _dense.leave_zeros_out(samples, made)
    run()
    _dense.leave_zeros_out()


def unfused(net: Sequential, X: np.ndarray, y: np.ndarray, batch: int) -> None:
    """Gradients go through memory, and through Python."""
    for first in range(0, len(X), batch):
        rows = slice(first, first + batch)
        net.apply_gradients(net.gradients(X[rows], y[rows], n_threads=1))


def variants(
    X: np.ndarray, y: np.ndarray, sizes: tuple[int, ...], batch: int
) -> dict[str, Callable[[], None]]:
    made: dict[str, Callable[[], None]] = {}

    def add(name: str, run: Callable[..., None], *arguments: Any, isa: str | None = None) -> None:
        made[name] = partial(run, network(sizes, isa), *arguments)

    def add_with_zeros(name: str, samples: float | None, isa: str | None = None) -> None:
        made[name] = partial(
            with_zeros, partial(epoch, network(sizes, isa), X, y, batch), samples, 0
        )

    add("as it is", epoch, X, y, batch)
    add("two threads", epoch, X, y, batch, 2)
    made["images as bytes"] = partial(
        epoch, network(sizes, scale=1 / 255), np.round(X * 255).astype(np.uint8), y, batch
    )
    add("rows of scipy.sparse", epoch, sparse.csr_array(X), y, batch)
    add_with_zeros("zeros of hidden layers multiplied", None)
    add_with_zeros("all zeros multiplied", 0)
    for isa in _kernels.available_isas()[:-1]:
        add_with_zeros(f"all zeros multiplied, {isa}", 0, isa)
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


def sparse_samples(units: int, density: float) -> tuple[Sequential, np.ndarray]:
    """A network, and samples of which a share is not zero."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4096, 784)).astype(np.float32)
    X[rng.random(X.shape) >= density] = 0
    return network((784, units, 10)), X


def sparse_layers(units: int, density: float) -> tuple[Sequential, np.ndarray]:
    """A network one of whose layers makes a share of numbers that are not zero, and samples."""
    layers = [Dense(units), Dropout(1 - density), Dense(units), Dense(10, activation="softmax")]
    net = Sequential(layers, n_inputs=32)
    net.compile("adam", "cross_entropy")
    return net, np.random.default_rng(0).normal(size=(4096, 32)).astype(np.float32)


def crossover(
    case: Callable[[int, float], tuple[Sequential, np.ndarray]],
    sizes: tuple[int, ...],
    repeats: int,
) -> list[str]:
    y = np.random.default_rng(1).integers(0, 10, 4096)
    lines = []
    for units in sizes:
        row = [str(units)]
        for density in DENSITIES:
            net, X = case(units, density)
            run = partial(epoch, net, X, y, 128)
            medians = in_turns(
                {
                    "left out": partial(with_zeros, run, ALWAYS, ALWAYS),
                    "multiplied": partial(with_zeros, run, 0, 0),
                },
                repeats,
            )
            row.append(f"{medians['left out'] / medians['multiplied']:.2f}")
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
        "Time of an epoch (batch 128) that multiplies non-zeros alone, over the time of one that "
        "multiplies zeros, too: by the density of 784 inputs and the units of the first layer,",
        "",
        *crossover(sparse_samples, (32, 64, 128, 512), options.repeats),
        "",
        "and by the density of what a layer hands to another one of as many units.",
        "",
        *crossover(sparse_layers, (128, 256, 512), options.repeats),
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "ablations.md").write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
