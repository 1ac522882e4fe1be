"""What `fit_many` brings: small networks side by side, beside one after another.

    python benchmarks/fit_many.py [--repeats N] [--threads N] [--out DIR]

writes `fit_many.md`, a table. For each set of networks: the time of fits one after the other, each
on one thread, and how many times as fast `fit_many` is. All in turns, the fastest of several
repeats each: where a machine has other work, that is the one that it left alone. The last column is
what the machine had to give meanwhile: how many times as fast as one thread several take the same
number of samples through a network each, in epochs so long that nothing lies between them.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from cymlp import Sequential, _kernels, fit_many
from cymlp.layers import Dense
from machine import cores
from report import table
from workloads import written

EPOCHS = 20


def networks(n: int, sizes: tuple[int, ...]) -> list[Sequential]:
    made = []
    for seed in range(n):
        hidden = [Dense(units, activation="relu") for units in sizes[1:-1]]
        layers = [*hidden, Dense(sizes[-1], activation="softmax")]
        made.append(Sequential(layers, n_inputs=sizes[0], random_state=seed))
        made[-1].compile("adam", "cross_entropy")
    return made


def long_epochs(nets: list[Sequential], X: np.ndarray, y: np.ndarray, n_threads: int) -> None:
    def run(net: Sequential) -> None:
        for _ in range(len(nets) // n_threads):
            net.fit(X, y, n_threads=1, verbose=0)

    threads = [threading.Thread(target=run, args=(net,)) for net in nets[:n_threads]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def variants(X: np.ndarray, y: np.ndarray, threads: int) -> dict[str, Callable[..., None]]:
    long_X, long_y = np.tile(X, (EPOCHS, 1)), np.tile(y, EPOCHS)

    def one_by_one(nets: list[Sequential]) -> None:
        for net in nets:
            net.fit(X, y, epochs=EPOCHS, n_threads=1, verbose=0)

    def many(nets: list[Sequential], n_threads: int) -> None:
        fit_many(nets, X, y, epochs=EPOCHS, n_threads=n_threads, verbose=0)

    return {
        "one by one": one_by_one,
        "many, alone": lambda nets: many(nets, 1),
        "many": lambda nets: many(nets, threads),
        "long, alone": lambda nets: long_epochs(nets, long_X, long_y, 1),
        "long": lambda nets: long_epochs(nets, long_X, long_y, threads),
    }


def fastest(
    runs: dict[str, Callable[..., None]], make: Callable[[], list[Sequential]], repeats: int
) -> dict[str, float]:
    times = dict.fromkeys(runs, np.inf)
    for _ in range(repeats):
        for name, run in runs.items():
            nets = make()
            start = time.perf_counter()
            run(nets)
            times[name] = min(times[name], time.perf_counter() - start)
    return times


def rows(repeats: int, threads: int) -> list[list[str]]:
    rng = np.random.default_rng(0)
    digits, labels = load_digits(return_X_y=True)
    tasks = [
        (64, (30, 16, 2), rng.normal(size=(500, 30)), rng.integers(0, 2, 500)),
        (12, (64, 100, 10), digits / 16, labels),
    ]
    lines = []
    for n, sizes, X, y in tasks:
        runs = variants(X.astype(np.float32), y, threads)
        times = fastest(runs, lambda n=n, sizes=sizes: networks(n, sizes), repeats)
        lines.append(
            [
                f"{n} of {written(sizes)}, {len(X)} samples",
                f"{1e3 * times['one by one']:.1f} ms",
                f"{times['one by one'] / times['many, alone']:.2f}",
                f"{times['one by one'] / times['many']:.2f}",
                f"{times['long, alone'] / times['long']:.2f}",
            ]
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Time fit_many against fits one by one.")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores(options.threads))
    header = ["networks", "one by one", "fit_many, 1 thread", f"{options.threads} threads"]
    text = [
        "# Many small networks",
        "",
        f"The fastest of {options.repeats} turns, {_kernels.active_isa()}, float32, Adam, "
        f"{EPOCHS} epochs, batch 32; times as fast as one by one, and the machine's own.",
        "",
        *table([*header, "of the machine"], rows(options.repeats, options.threads)),
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "fit_many.md").write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
