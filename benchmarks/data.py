"""The arrays of a task: samples, initial weights and the order of the batches, made once for all.

The main process writes them to a folder, and each library's process reads them from there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workloads import SEED, Task

Samples = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Arrays:
    """What a library is given.

    Attributes
    ----------
    X : ndarray of shape (samples, inputs), float32
    y : ndarray of shape (samples,), int64 labels, or of shape (samples, outputs), float32
    weights : list of ndarray, float32
        ``[kernel, bias, ...]``, kernels of shape (inputs, units).
    order : ndarray of shape (epochs, samples), int64
        The rows in the order in which each epoch visits them.
    """

    X: np.ndarray
    y: np.ndarray
    weights: list[np.ndarray]
    order: np.ndarray


def mnist(task: Task, folder: str | None) -> Samples:
    from cymlp.datasets import load_mnist

    if not folder:
        return enlarged_digits(task.samples)
    images, labels, _, _ = load_mnist(folder)
    return images.astype(np.float32) / 255, labels


def enlarged_digits(samples: int) -> Samples:
    """Return digits of 8 x 8 as 28 x 28: each pixel three times, an empty margin of two."""
    X, y = digits()
    pictures = np.kron(X.reshape(-1, 8, 8), np.ones((1, 3, 3), np.float32))
    pictures = np.pad(pictures, ((0, 0), (2, 2), (2, 2))).reshape(len(X), 784)
    rows = np.arange(samples) % len(X)
    return pictures[rows], y[rows]


def digits() -> Samples:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def breast_cancer() -> Samples:
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    return ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32), y


def gaussian(task: Task, rng: np.random.Generator) -> Samples:
    X = rng.standard_normal((task.samples, task.sizes[0]), dtype=np.float32)
    return X, rng.integers(0, max(2, task.sizes[-1]), task.samples)


def triples(task: Task, rng: np.random.Generator) -> Samples:
    X = rng.uniform(-1, 1, (task.samples, 3)).astype(np.float32)
    return X, np.stack([X[:, 0] > X[:, 1], X[:, 2] > 0], axis=1).astype(np.float32)


def xor(task: Task, rng: np.random.Generator) -> Samples:
    X = rng.integers(0, 2, (task.samples, 2)).astype(np.float32)
    return X, (X[:, :1] != X[:, 1:]).astype(np.float32)


def samples_of(task: Task, mnist_folder: str | None) -> Samples:
    """Return a task's samples, cut to whole batches: no library then needs a second shape."""
    rng = np.random.default_rng(SEED)
    X, y = {
        "mnist": lambda: mnist(task, mnist_folder),
        "digits": digits,
        "breast_cancer": breast_cancer,
        "gaussian": lambda: gaussian(task, rng),
        "triples": lambda: triples(task, rng),
        "xor": lambda: xor(task, rng),
    }[task.data]()
    n = min(task.samples or len(X), len(X))
    n -= n % task.batch
    return np.ascontiguousarray(X[:n]), np.ascontiguousarray(y[:n])


def initial_weights(task: Task) -> list[np.ndarray]:
    """Return Glorot's uniform kernels, and biases of zero."""
    rng = np.random.default_rng(SEED + 1)
    weights: list[np.ndarray] = []
    for inputs, units in task.layers:
        limit = np.sqrt(6 / (inputs + units))
        weights.append(rng.uniform(-limit, limit, (inputs, units)).astype(np.float32))
        weights.append(np.zeros(units, np.float32))
    return weights


def order_of(epochs: int, samples: int) -> np.ndarray:
    """Return the rows of each epoch, in the order that ``fit(shuffle=True)`` of cymlp draws.

    cymlp's public `fit` is timed as it is, its shuffle included, and the others are given the
    finished order.
    """
    from cymlp._network import shuffled  # here, so that no peer's process imports it
    from cymlp._random import Purpose, key

    orders = [shuffled(samples, key(SEED, Purpose.SHUFFLE, epoch)) for epoch in range(epochs)]
    return np.array(orders, np.int64).reshape(epochs, samples)


def make(task: Task, mnist_folder: str | None = None) -> Arrays:
    X, y = samples_of(task, mnist_folder)
    epochs = task.epochs if task.kind == "train" else 0
    return Arrays(X, y, initial_weights(task), order_of(epochs, len(X)))


def save(arrays: Arrays, folder: str | os.PathLike[str]) -> None:
    folder = Path(folder)
    np.save(folder / "X.npy", arrays.X)
    np.save(folder / "y.npy", arrays.y)
    np.save(folder / "order.npy", arrays.order)
    for i, array in enumerate(arrays.weights):
        np.save(folder / f"w{i}.npy", array)


def load(task: Task, folder: str | os.PathLike[str]) -> Arrays:
    X, y, order = (np.load(Path(folder, f"{name}.npy")) for name in ("X", "y", "order"))
    weights = [np.load(Path(folder, f"w{i}.npy")) for i in range(2 * len(task.layers))]
    return Arrays(X, y, weights, order)


# What came out


def outputs(task: Task, weights: list[np.ndarray], X: np.ndarray) -> np.ndarray:
    """Return the network's outputs, by NumPy in float64."""
    y = X.astype(np.float64)
    for kernel, bias, activation in zip(weights[::2], weights[1::2], task.activations, strict=True):
        y = y @ kernel + bias
        if activation == "relu":
            y = np.maximum(y, 0)
        elif activation == "tanh":
            y = np.tanh(y)
        elif activation == "sigmoid":
            y = 1 / (1 + np.exp(-y))
        else:
            y = np.exp(y - y.max(axis=1, keepdims=True))
            y /= y.sum(axis=1, keepdims=True)
    return y


def loss(task: Task, weights: list[np.ndarray], arrays: Arrays, most: int = 10_000) -> float:
    """Return the average loss of weights over the samples (the first `most` of them)."""
    X, t = arrays.X[:most], arrays.y[:most]
    y = outputs(task, weights, X)
    if task.loss == "squared_error":
        return float(np.square(y - t).sum(axis=1).mean() / 2)
    tiny = np.finfo(np.float64).tiny
    if task.loss == "binary_cross_entropy":
        return float(-np.log(np.where(t > 0, y, 1 - y) + tiny).sum(axis=1).mean())
    return float(-np.log(y[np.arange(len(t)), t] + tiny).mean())


def check(task: Task, result: list[np.ndarray], arrays: Arrays) -> float:
    """Return what is compared between libraries.

    After training it is the loss of the final weights; of predictions it is the largest error.
    """
    if task.kind == "train":
        return loss(task, result, arrays)
    expected = outputs(task, arrays.weights, arrays.X)
    return float(np.abs(result[0].reshape(expected.shape) - expected).max())
