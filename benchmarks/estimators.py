"""The estimators beside scikit-learn's: a search, and what they add to a fit and to a prediction.

    python benchmarks/estimators.py [--repeats N] [--out DIR]

writes `estimators.md`, two tables. All in turns, medians of the repeats. Of the searches, both
classes run the same settings, folds and seeds, on one thread and on two (OpenBLAS's and OpenMP's);
their scores stand beside the times. Of the rest: `fit` of the classifier beside `Sequential.fit`
with the same layers, both from their making on; and one row, with every check that there is.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_limits

import cymlp
from cymlp import _kernels
from cymlp.layers import Dense
from cymlp.regularizers import L2
from machine import cores
from report import table

CLASSES: tuple[Any, Any] = (cymlp.MLPClassifier, neural_network.MLPClassifier)
WIDTHS_AND_PENALTIES: dict[str, list[Any]] = {
    "hidden_layer_sizes": [(50,), (100,)],
    "alpha": [1e-4, 1e-3, 1e-2],
}
SEARCHES: dict[str, dict[str, list[Any]]] = {
    "2 widths, 3 penalties, batches of 32 and 200": {
        **WIDTHS_AND_PENALTIES,
        "batch_size": [32, 200],
    },
    "2 widths, 3 penalties, 2 rates, batches of 200": {
        **WIDTHS_AND_PENALTIES,
        "learning_rate_init": [1e-3, 1e-2],
    },
}
FIXED: dict[str, Any] = {"max_iter": 30, "random_state": 0}


def medians(
    runs: dict[Any, Callable[[], object]], repeats: int, pause: float = 0.0
) -> dict[Any, float]:
    times: dict[Any, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
            time.sleep(pause)
    return {name: float(np.median(each)) for name, each in times.items()}


def repeatedly(function: Callable[[Any], object], row: Any, n_calls: int) -> None:
    for _ in range(n_calls):
        function(row)


def searches(repeats: int) -> list[list[str]]:
    X, y = load_digits(return_X_y=True)
    X = X / 16
    lines = []
    for what, grid in SEARCHES.items():
        for threads in (1, 2):
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, ALLOWED[:threads])
            found = {kind: GridSearchCV(kind(**FIXED), grid, cv=5) for kind in CLASSES}
            with threadpool_limits(threads):
                times = medians(
                    {kind: partial(search.fit, X, y) for kind, search in found.items()},
                    repeats,
                    0.25,  # OpenBLAS's threads spin for a while
                )
            ours, theirs = (times[kind] for kind in CLASSES)
            scores = [found[kind].cv_results_["mean_test_score"] for kind in CLASSES]
            lines.append(
                [
                    what,
                    str(threads),
                    f"{ours:.2f} s",
                    f"{theirs:.2f} s",
                    f"{theirs / ours:.1f}",
                    f"{np.abs(scores[0] - scores[1]).max():.4f}",
                ]
            )
    return lines


def calls(repeats: int) -> list[list[str]]:
    X, y = load_digits(return_X_y=True)
    X = X / 16
    lines = []
    for n_samples, epochs in ((100, 1), (100, 20), (1797, 1), (1797, 20)):
        part = X[:n_samples], y[:n_samples]

        def by_hand(part: Any = part, epochs: int = epochs) -> None:
            penalty = L2(1e-4, per_batch=True)  # as the estimator's default alpha
            layers = [
                Dense(100, activation="relu", kernel_regularizer=penalty),
                Dense(10, activation="softmax", kernel_regularizer=penalty),
            ]
            net = cymlp.Sequential(layers, n_inputs=64, dtype="float64", random_state=0)
            net.compile("adam", "cross_entropy")
            net.fit(*part, epochs=epochs, batch_size=200, verbose=0)

        def estimator(part: Any = part, epochs: int = epochs) -> None:
            cymlp.MLPClassifier(max_iter=epochs, random_state=0).fit(*part)

        times = medians({"by hand": by_hand, "estimator": estimator}, 100 * repeats)
        more = times["estimator"] - times["by hand"]
        lines.append(
            [
                f"fit, {n_samples} samples, {epochs} epoch{'s' * (epochs > 1)}",
                f"{1e6 * times['estimator']:.0f} µs",
                f"{1e6 * times['by hand']:.0f} µs",
                f"{1e6 * more:+.0f} µs",
            ]
        )
    row = X[:1].copy()
    fitted = {kind: kind(**FIXED).fit(X, y) for kind in CLASSES}
    n_calls = 200
    for method in ("predict", "predict_proba"):
        functions = {kind: getattr(est, method) for kind, est in fitted.items()}
        times = medians(
            {kind: partial(repeatedly, f, row, n_calls) for kind, f in functions.items()},
            3 * repeats,
        )
        ours, theirs = (times[kind] / n_calls for kind in CLASSES)
        lines.append(
            [f"{method}, one row", f"{1e6 * ours:.1f} µs", f"{1e6 * theirs:.0f} µs (theirs)", ""]
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the estimators against scikit-learn's.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    header = ["search, 5 folds of digits", "threads", "cymlp", "scikit-learn", "times as fast"]
    text = [
        "# Estimators",
        "",
        f"Medians of {options.repeats} repeats in turns, {_kernels.active_isa()}, float64, at most "
        f"{FIXED['max_iter']} epochs.",
        "",
        *table([*header, "largest difference of scores"], searches(options.repeats)),
        "",
        *table(["call", "estimator", "`Sequential`", "more"], calls(options.repeats)),
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "estimators.md").write_text("\n".join(text))
    print("\n".join(text))


ALLOWED = cores(2)

if __name__ == "__main__":
    main()
