"""scikit-learn: `MLPClassifier.fit` on float32, without checks for NaN, penalty or early stop.

Two hooks give it the suite's initial weights and order of rows; both cost it nothing in `fit`.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from data import Arrays
from peers import Job, Unsupported
from workloads import Task


class GivenOrder(np.random.RandomState):
    """Shuffles into given orders, one per epoch.

    scikit-learn permutes in each epoch what the epoch before left, so that what it has to be told
    is the way from one order to the next.
    """

    def __new__(cls, order: np.ndarray) -> GivenOrder:
        return super().__new__(cls)

    def __init__(self, order: np.ndarray) -> None:
        super().__init__(0)
        before = np.arange(order.shape[1])
        steps = []
        for rows in order:
            places = np.empty_like(before)
            places[before] = np.arange(len(before))
            steps.append(places[rows])
            before = rows
        self.steps = iter(steps)

    def shuffle(self, x: np.ndarray) -> None:  # type: ignore[override]
        x[:] = next(self.steps)


class Classifier(MLPClassifier):
    """`MLPClassifier` that starts from given weights, softmax for two classes as well."""

    def start_from(self, task: Task, weights: list[np.ndarray]) -> Classifier:
        self.given, self.given_output = weights, task.output
        return self

    def _initialize(self, y: np.ndarray, layer_units: list[int], dtype: Any) -> None:
        self.remaining = iter(zip(self.given[::2], self.given[1::2], strict=True))
        super()._initialize(y, layer_units, dtype)
        self.out_activation_ = {"sigmoid": "logistic"}.get(self.given_output, self.given_output)

    def _init_coef(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        kernel, bias = next(self.remaining)
        return kernel.copy(), bias.copy()


def classifier(task: Task, arrays: Arrays) -> Classifier:
    activation = {"sigmoid": "logistic"}.get(task.hidden, task.hidden)
    return Classifier(
        task.sizes[1:-1],
        activation=activation,
        solver=task.optimizer,
        alpha=0,
        batch_size=task.batch,
        learning_rate_init=task.learning_rate,
        max_iter=task.epochs,
        random_state=GivenOrder(arrays.order),
        tol=0,
        momentum=0,
        n_iter_no_change=np.inf,
    ).start_from(task, arrays.weights)


class Training:
    def __init__(self, task: Task, arrays: Arrays) -> None:
        self.task, self.arrays = task, arrays
        self.y = arrays.y.astype(np.int64).ravel()
        if task.output == "softmax" and task.sizes[-1] == 2:
            self.y = np.eye(2, dtype=np.int64)[self.y]  # labels would get one sigmoid output

    def reset(self) -> None:
        self.model = classifier(self.task, self.arrays)

    def run(self) -> None:
        self.model.fit(self.arrays.X, self.y)

    def result(self) -> list[np.ndarray]:
        pairs = zip(self.model.coefs_, self.model.intercepts_, strict=True)
        return [array for pair in pairs for array in pair]


class Prediction:
    def __init__(self, task: Task, arrays: Arrays) -> None:
        self.x, self.calls = arrays.X, task.calls
        units = max(2, task.sizes[-1])
        X = np.zeros((units, task.sizes[0]), np.float32)
        self.model = classifier(task, Arrays(X, X, arrays.weights, np.arange(units)[None]))
        self.model.set_params(batch_size=units, max_iter=1).fit(X, np.arange(units))
        self.model.coefs_, self.model.intercepts_ = arrays.weights[::2], arrays.weights[1::2]

    def reset(self) -> None:
        pass

    def run(self) -> None:
        predict, x = self.model.predict_proba, self.x
        for _ in range(self.calls):
            out = predict(x)
        self.out = out

    def result(self) -> list[np.ndarray]:
        return [self.out if self.model.n_outputs_ > 1 else self.out[:, 1:]]


def job(task: Task, arrays: Arrays) -> Job:
    sklearn.set_config(assume_finite=True)
    warnings.simplefilter("ignore")
    if task.kind == "train" and task.loss == "squared_error":
        raise Unsupported("its squared error takes outputs without an activation only")
    return (Training if task.kind == "train" else Prediction)(task, arrays)
