"""The demonstration: a network trained on real handwritten digits, a report and one picture."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cymlp.datasets import Split, load_digits, load_mnist

__all__ = ["DemoError", "run_demo"]

_N_CLASSES = 10


class DemoError(Exception):
    """What keeps the demonstration from running and is the user's to mend, in one line."""


class _Task(NamedTuple):
    """A data set, pixels scaled to 0..1 as float32, and the settings that suit it."""

    name: str
    data: Split
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int


def run_demo(
    *,
    mnist: str | os.PathLike[str] | None = None,
    hidden: Sequence[int] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    output: str | os.PathLike[str] = "cymlp-demo.png",
    quiet: bool = False,
) -> float:
    """Train on handwritten digits, print how well it went, and write the picture of it.

    Parameters
    ----------
    mnist : str or os.PathLike, optional
        A folder with MNIST's IDX files; by default scikit-learn's bundled digits are used.
    hidden : sequence of int, optional
        The units of each hidden layer, all ReLU; by default (128,).
    epochs, batch_size : int, optional
        By default 40 epochs of batches of 32 for the bundled digits, 5 of 128 for MNIST.
    seed : int, default=0
        Seed of the initial weights and of the shuffling. It does not touch the split into
        training and test set, which is fixed.
    threads : int, optional
        How many threads to use; by default what `cymlp.get_num_threads` says.
    output : str or os.PathLike, default="cymlp-demo.png"
        Where to write the picture; the ending chooses the format.
    quiet : bool, default=False
        Print the result only: no progress, no table.

    Returns
    -------
    float
        The accuracy on the test set, from 0 to 1.

    Raises
    ------
    DemoError
        If the data cannot be read, or the picture not be written.
    ImportError
        If scikit-learn or matplotlib is not installed.

    Examples
    --------
    >>> from cymlp.demo import run_demo
    >>> accuracy = run_demo(epochs=10, output="digits.png", quiet=True)     # doctest: +SKIP
    test accuracy 97.50% (351 of 360), trained in 0.05 s
    picture: digits.png
    """
    # What can fail for reasons of the user's is done before the training, the writing excepted.
    try:
        from sklearn.metrics import classification_report

        from cymlp.plots import plot_demo
    except ImportError as error:
        raise ImportError(
            "the demonstration needs scikit-learn and matplotlib; install them with: "
            f'pip install "cymlp[demo]" ({error})'
        ) from error
    picture = _checked_output(output)
    try:
        task = _digits_task() if mnist is None else _mnist_task(mnist)
    except OSError as error:
        raise DemoError(_explained(error)) from error
    except ValueError as error:
        raise DemoError(str(error)) from error

    import cymlp
    from cymlp.layers import Dense

    if threads is not None:
        cymlp.set_num_threads(threads)
    X_train, y_train, X_test, y_test = task.data
    units = [*(task.hidden if hidden is None else hidden), _N_CLASSES]
    net = cymlp.Sequential(
        [Dense(n, activation="relu") for n in units[:-1]]
        + [Dense(units[-1], activation="softmax")],
        n_inputs=X_train.shape[1],
        random_state=seed,
    )
    net.compile(optimizer="adam", loss="cross_entropy", metrics=["accuracy"])
    shape = "-".join(str(n) for n in [X_train.shape[1], *units])
    side = math.isqrt(X_train.shape[1])
    if not quiet:
        print(
            f"{task.name}: {len(X_train):,} training and {len(X_test):,} test images "
            f"of {side} x {side} pixels\n"
            f"network {shape}: {net.n_parameters:,} parameters, {net.dtype}, "
            f"{cymlp.get_num_threads()} threads\n",
            flush=True,
        )

    started = time.perf_counter()
    history = net.fit(
        X_train,
        y_train,
        epochs=task.epochs if epochs is None else epochs,
        batch_size=task.batch_size if batch_size is None else batch_size,
        validation_data=(X_test, y_test),
        verbose=0 if quiet else 1 if sys.stderr.isatty() else 2,
    )
    seconds = time.perf_counter() - started

    probabilities = net.predict(X_test)
    predicted = probabilities.argmax(axis=1)
    n_right = int((predicted == y_test).sum())
    accuracy = n_right / len(y_test)
    if not quiet:
        print()
    print(
        f"test accuracy {accuracy:.2%} ({n_right:,} of {len(y_test):,}), "
        f"trained in {seconds:.2f} s"
    )
    if not quiet:
        classes = range(_N_CLASSES)
        print(
            "\n"
            + classification_report(y_test, predicted, labels=classes, digits=3, zero_division=0)
        )

    figure = plot_demo(
        history,
        X_test.reshape(-1, side, side),
        y_test,
        predicted,
        probabilities.max(axis=1),
        title=f"{shape} on {task.name}: {accuracy:.2%} of {len(y_test):,} test images right",
        labels=range(_N_CLASSES),
    )
    try:
        figure.savefig(picture)
    except OSError as error:
        raise DemoError(_explained(error)) from error
    print(f"picture: {picture}")
    return accuracy


def _digits_task() -> _Task:
    return _Task("scikit-learn's digits", load_digits(), hidden=(128,), epochs=40, batch_size=32)


def _mnist_task(directory: str | os.PathLike[str]) -> _Task:
    X_train, y_train, X_test, y_test = load_mnist(directory)
    data = Split(_scaled(X_train), y_train, _scaled(X_test), y_test)
    return _Task("MNIST", data, hidden=(128,), epochs=5, batch_size=128)


def _scaled(pixels: np.ndarray) -> np.ndarray:
    """Map 0..255 to 0..1 without a float64 copy of the whole set."""
    return np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)


def _checked_output(output: str | os.PathLike[str]) -> Path:
    from matplotlib.backend_bases import FigureCanvasBase

    path = Path(output)
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in known:
        endings = ", ".join(f".{name}" for name in sorted(known))
        raise DemoError(f"output: expected a name that ends in one of {endings}, got {str(path)!r}")
    if not path.parent.is_dir():
        raise DemoError(f"output: expected a path in a folder that exists, got {str(path)!r}")
    if path.is_dir():
        raise DemoError(f"output: expected a file's name, got the folder {str(path)!r}")
    return path


def _explained(error: OSError) -> str:
    """Return "file: reason" without the number that `str` puts in front."""
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
