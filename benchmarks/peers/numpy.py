"""NumPy by hand: the formulas, in place where that is faster, with NumPy's own BLAS.

Adam runs over one flat array of all parameters, of which the layers are views.
"""

from __future__ import annotations

import numpy as np

from data import Arrays
from peers import Job
from workloads import Task


def activate(name: str, z: np.ndarray) -> np.ndarray:
    if name == "relu":
        return np.maximum(z, 0, out=z)
    if name == "tanh":
        return np.tanh(z, out=z)
    if name == "sigmoid":
        return 1 / (1 + np.exp(-z))
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return z


def layer_outputs(weights: list[np.ndarray], activations: list[str], x: np.ndarray) -> list:
    outs = [x]
    for kernel, bias, name in zip(weights[::2], weights[1::2], activations, strict=True):
        z = outs[-1] @ kernel
        z += bias
        outs.append(activate(name, z))
    return outs


class Training:
    def __init__(self, task: Task, arrays: Arrays) -> None:
        self.task, self.arrays = task, arrays
        self.targets = arrays.y
        if arrays.y.ndim == 1:
            self.targets = np.eye(task.sizes[-1], dtype=np.float32)[arrays.y]
        n_parameters = sum(w.size for w in arrays.weights)
        names = ("flat", "gradient", "m", "v", "scratch")
        self.flat, self.gradient, self.m, self.v, self.scratch = (
            np.empty(n_parameters, np.float32) for _ in names
        )
        self.weights, self.gradients = self.views(self.flat), self.views(self.gradient)

    def views(self, flat: np.ndarray) -> list[np.ndarray]:
        found, start = [], 0
        for w in self.arrays.weights:
            found.append(flat[start : start + w.size].reshape(w.shape))
            start += w.size
        return found

    def reset(self) -> None:
        for view, initial in zip(self.weights, self.arrays.weights, strict=True):
            view[...] = initial
        self.m.fill(0)
        self.v.fill(0)
        self.step = 0

    def run(self) -> None:
        X, targets, batch = self.arrays.X, self.targets, self.task.batch
        update = self.adam if self.task.optimizer == "adam" else self.sgd
        for order in self.arrays.order:
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                self.differentiate(X[rows], targets[rows])
                update()

    def differentiate(self, x: np.ndarray, t: np.ndarray) -> None:
        weights, task = self.weights, self.task
        outs = layer_outputs(weights, task.activations, x)
        y = outs[-1]
        delta = y - t
        if task.loss == "squared_error":
            delta *= y * (1 - y)  # of a sigmoid
        delta /= len(x)
        for layer in reversed(range(len(task.layers))):
            np.matmul(outs[layer].T, delta, out=self.gradients[2 * layer])
            np.sum(delta, axis=0, out=self.gradients[2 * layer + 1])
            if layer:
                below = outs[layer]
                delta = delta @ weights[2 * layer].T
                delta *= below > 0 if task.hidden == "relu" else 1 - below * below

    def adam(self) -> None:
        g, m, v, scratch = self.gradient, self.m, self.v, self.scratch
        self.step += 1
        m *= 0.9
        np.multiply(g, 0.1, out=scratch)
        m += scratch
        v *= 0.999
        np.multiply(g, g, out=g)
        g *= 0.001
        v += g
        np.sqrt(v, out=scratch)
        scratch *= (1 - 0.999**self.step) ** -0.5
        scratch += 1e-8
        np.divide(m, scratch, out=scratch)
        scratch *= self.task.learning_rate / (1 - 0.9**self.step)
        self.flat -= scratch

    def sgd(self) -> None:
        self.gradient *= self.task.learning_rate
        self.flat -= self.gradient

    def result(self) -> list[np.ndarray]:
        return self.weights


class Prediction:
    def __init__(self, task: Task, arrays: Arrays) -> None:
        self.task, self.arrays = task, arrays

    def reset(self) -> None:
        pass

    def run(self) -> None:
        weights, activations, x = self.arrays.weights, self.task.activations, self.arrays.X
        for _ in range(self.task.calls):
            out = layer_outputs(weights, activations, x)[-1]
        self.out = out

    def result(self) -> list[np.ndarray]:
        return [self.out]


def job(task: Task, arrays: Arrays) -> Job:
    return (Training if task.kind == "train" else Prediction)(task, arrays)
