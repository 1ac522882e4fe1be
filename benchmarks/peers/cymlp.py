"""cymlp by its public interface: validation, shuffling and the history are in the time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import cymlp
from cymlp import Sequential
from cymlp.layers import Dense
from cymlp.optimizers import SGD, Adam
from data import Arrays
from peers import Job, Unsupported
from workloads import SEED, Task


def network(task: Task, arrays: Arrays) -> Sequential:
    layers = [
        Dense(units, activation=activation)
        for units, activation in zip(task.sizes[1:], task.activations, strict=True)
    ]
    net = Sequential(layers, n_inputs=task.sizes[0], random_state=SEED)
    optimizer = Adam if task.optimizer == "adam" else SGD
    net.compile(optimizer=optimizer(learning_rate=task.learning_rate), loss=task.loss)
    net.set_weights(arrays.weights)
    return net


class Training:
    def __init__(self, task: Task, arrays: Arrays) -> None:
        self.task, self.arrays = task, arrays

    def reset(self) -> None:
        self.net = network(self.task, self.arrays)

    def run(self) -> None:
        arrays, task = self.arrays, self.task
        self.net.fit(arrays.X, arrays.y, epochs=task.epochs, batch_size=task.batch, verbose=0)

    def result(self) -> list[np.ndarray]:
        return self.net.get_weights()


class Prediction:
    def __init__(self, task: Task, arrays: Arrays) -> None:
        self.x, self.calls = arrays.X, task.calls
        self.predict = network(task, arrays).predict

    def reset(self) -> None:
        pass

    def run(self) -> None:
        predict, x = self.predict, self.x
        for _ in range(self.calls):
            out = predict(x)
        self.out = out

    def result(self) -> list[np.ndarray]:
        return [self.out]


class PreparedPrediction(Prediction):
    def __init__(self, task: Task, arrays: Arrays) -> None:
        super().__init__(task, arrays)
        net = network(task, arrays)
        if not hasattr(net, "predictor"):
            raise Unsupported("this version has no predictor")
        self.predictor = net.predictor(batch_size=task.batch)
        self.out = np.empty((task.batch, task.sizes[-1]), np.float32)

    def run(self) -> None:
        predictor, x, out = self.predictor, self.x, self.out
        for _ in range(self.calls):
            predictor(x, out=out)


JOBS: dict[str, Callable[[Task, Arrays], Job]] = {
    "train": Training,
    "predict": Prediction,
    "predictor": PreparedPrediction,
}


def job(task: Task, arrays: Arrays) -> Job:
    cymlp.set_num_threads(task.threads)
    return JOBS[task.kind](task, arrays)
