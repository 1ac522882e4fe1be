"""What the specs of `metrics` mean: functions of the targets and outputs of a whole set.

All are computed in float64. A NaN output makes the value NaN where outputs count, and is right
about nothing where classes do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cymlp import metrics as m

__all__ = ["Predictions", "scores"]


@dataclass(frozen=True)
class Predictions:
    """Targets and outputs of a set.

    Attributes
    ----------
    outputs : ndarray of shape (samples, outputs)
    labels : ndarray of shape (samples,), integers, or None
        Class labels.
    values : ndarray of shape (samples, outputs), or None
        Target values; either labels or values are given.
    weight : ndarray of shape (samples,), float64, or None
    exclusive : bool
        Whether several outputs are classes of which a sample has one, and not yes-or-no outputs.
    """

    outputs: np.ndarray
    labels: np.ndarray | None
    values: np.ndarray | None
    weight: np.ndarray | None
    exclusive: bool

    @property
    def one_of_many(self) -> bool:
        """Whether a sample has one of several classes."""
        return self.outputs.shape[1] > 1 and self.exclusive

    @cached_property
    def wide(self) -> np.ndarray:
        """The outputs in float64."""
        return self.outputs.astype(np.float64)

    @cached_property
    def targets(self) -> np.ndarray:
        """Target values in float64, of shape (samples, outputs); one-hot rows for labels."""
        if self.labels is not None:
            return np.equal(self.labels[:, None], np.arange(self.outputs.shape[1])).astype(float)
        assert self.values is not None
        return self.values.astype(np.float64)

    @cached_property
    def truth(self) -> np.ndarray:
        """Integers of shape (samples,), or of 0 and 1 of shape (samples, outputs)."""
        if self.labels is not None:
            return self.labels
        return self._classes(self.targets)

    @cached_property
    def classes(self) -> np.ndarray:
        """What was predicted, of the shape of `truth`; -1 of NaN."""
        return self._classes(self.wide)

    def _classes(self, rows: np.ndarray) -> np.ndarray:
        if self.one_of_many or (self.labels is not None):
            return np.where(np.isnan(rows).any(axis=1), -1, rows.argmax(axis=1))
        return np.where(np.isnan(rows), -1, rows > 0.5)

    def average(self, rows: np.ndarray) -> Any:
        """Return the average over the samples, of each column on its own."""
        return np.average(rows, axis=0, weights=self.weight)


def scores(metrics: Iterable[m.Metric], given: Predictions) -> dict[str, float]:
    """Return the values of metrics, of any kind but accuracy, by their names."""
    return {metric.name: _score(metric, given) for metric in metrics}


def _score(metric: m.Metric, given: Predictions) -> float:
    if isinstance(metric, m.FunctionMetric):
        return _function(metric, given)
    function = next(_SCORES[kind] for kind in type(metric).__mro__ if kind in _SCORES)
    with np.errstate(all="ignore"):  # infinite outputs have infinite errors
        return float(function(metric, given))


def _top_k(metric: m.TopKAccuracy, given: Predictions) -> float:
    truth = given.labels if given.labels is not None else given.targets.argmax(axis=1)
    own = given.wide[np.arange(len(truth)), truth]
    # What is not at most as large is larger, or a NaN, which no output surpasses.
    n_larger = np.count_nonzero(~(given.wide <= own[:, None]), axis=1)
    return given.average((n_larger < metric.k) & ~np.isnan(own))


def _counts(metric: Any, given: Predictions) -> tuple[np.ndarray, ...]:
    """Return the weights of the samples taken for a class and of it, taken for it, and of it.

    One entry per class that counts.
    """
    truth, classes = given.truth, given.classes
    if truth.ndim == 1:
        known = np.arange(given.outputs.shape[1])
        truth, classes = truth[:, None] == known, classes[:, None] == known
        binary = len(known) == 2
    else:
        truth, classes = truth == 1, classes == 1
        binary = truth.shape[1] == 1
    weight = np.ones(len(truth)) if given.weight is None else given.weight
    right, taken, of_it = (weight @ rows for rows in (truth & classes, classes, truth))
    average = metric.average
    if average == "binary" or (average == "auto" and binary):
        return right[-1:], taken[-1:], of_it[-1:]
    if given.truth.ndim == 1:
        occurs = (truth | classes).any(axis=0)
        right, taken, of_it = right[occurs], taken[occurs], of_it[occurs]
    if average == "micro":
        return right.sum(keepdims=True), taken.sum(keepdims=True), of_it.sum(keepdims=True)
    return right, taken, of_it


def _averaged(metric: Any, shares: np.ndarray, of_it: np.ndarray) -> float:
    if metric.average == "weighted":
        return float(_share(np.atleast_1d(of_it @ shares), np.atleast_1d(of_it.sum()))[0])
    return shares.mean()


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _precision(metric: m.Precision, given: Predictions) -> float:
    right, taken, of_it = _counts(metric, given)
    return _averaged(metric, _share(right, taken), of_it)


def _recall(metric: m.Recall, given: Predictions) -> float:
    right, _, of_it = _counts(metric, given)
    return _averaged(metric, _share(right, of_it), of_it)


def _f1(metric: m.F1, given: Predictions) -> float:
    right, taken, of_it = _counts(metric, given)
    return _averaged(metric, _share(2 * right, taken + of_it), of_it)


def _roc_auc(_: m.ROCAUC, given: Predictions) -> float:
    truth = given.truth
    if truth.ndim == 1:
        truth = truth[:, None] == np.arange(given.outputs.shape[1])
        if truth.shape[1] == 2:
            return _area(truth[:, 1], given.wide[:, 1], given.weight)
    areas = [
        _area(of_it == 1, column, given.weight)
        for of_it, column in zip(truth.T, given.wide.T, strict=True)
        if 0 < np.count_nonzero(of_it) < len(of_it)
    ]
    return float(np.mean(areas)) if areas else np.nan


def _area(of_it: np.ndarray, outputs: np.ndarray, weight: np.ndarray | None) -> float:
    """Return the weighted share of pairs in which the sample of the class has the larger output."""
    if np.isnan(outputs).any():
        return np.nan
    weight = np.ones(len(outputs)) if weight is None else weight
    _, place = np.unique(outputs, return_inverse=True)
    yes = np.bincount(place, weight * of_it)
    no = np.bincount(place, weight * ~of_it)
    pairs = yes.sum() * no.sum()
    return yes @ (no.cumsum() - no / 2) / pairs if pairs else np.nan


def _mean_squared_error(_: m.Metric, given: Predictions) -> float:
    return given.average((given.wide - given.targets) ** 2).mean()


def _root_mean_squared_error(_: m.Metric, given: Predictions) -> float:
    return np.sqrt(given.average((given.wide - given.targets) ** 2)).mean()


def _mean_absolute_error(_: m.Metric, given: Predictions) -> float:
    return given.average(abs(given.wide - given.targets)).mean()


def _mean_absolute_percentage_error(_: m.Metric, given: Predictions) -> float:
    size = np.maximum(abs(given.targets), np.finfo(np.float64).eps)
    return given.average(abs(given.wide - given.targets) / size).mean()


def _r2(_: m.R2, given: Predictions) -> float:
    if len(given.targets) < 2:
        return np.nan
    left = given.average((given.wide - given.targets) ** 2)
    there = given.average((given.targets - given.average(given.targets)) ** 2)
    constant = np.where(np.isnan(left), left, left == 0)
    return np.where(there > 0, 1 - left / there, constant).mean()


def _cosine_similarity(_: m.CosineSimilarity, given: Predictions) -> float:
    # Scaled to at most 1 first, so that no square overflows.
    y, t = (_scaled(rows) for rows in (given.wide, given.targets))
    size = np.linalg.norm(y, axis=1) * np.linalg.norm(t, axis=1)
    return given.average((y * t).sum(axis=1) / np.where(size == 0, 1, size))


def _scaled(rows: np.ndarray) -> np.ndarray:
    largest = abs(rows).max(axis=1, keepdims=True)
    return rows / np.where(largest == 0, 1, largest)


def _log_loss(_: m.LogLoss, given: Predictions) -> float:
    epsilon = np.finfo(given.outputs.dtype).eps
    y, t = given.wide, given.targets
    losses = -t * np.log(np.maximum(y, epsilon))
    if given.one_of_many or given.labels is not None:
        return given.average(losses.sum(axis=1))
    return given.average(losses - (1 - t) * np.log(np.maximum(1 - y, epsilon))).mean()


def _function(metric: m.FunctionMetric, given: Predictions) -> float:
    on = metric.on
    if on == "targets":
        on = "outputs" if given.labels is None else "classes"
    if on == "classes":
        pair: list[Any] = [given.truth, given.classes]
    else:
        truth = given.values if given.labels is None else given.labels
        pair = [truth, given.outputs]
    if given.outputs.shape[1] == 1:
        pair = [array.reshape(-1) for array in pair]
    weight = {}
    if given.weight is not None and _takes_weights(metric.function):
        weight["sample_weight"] = given.weight
    value = metric.function(*pair, **weight)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"metric {metric.name} must return a number, got {value!r}") from None


def _takes_weights(function: Callable[..., Any]) -> bool:
    try:
        return "sample_weight" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a builtin
        return False


_SCORES: dict[type[m.Metric], Callable[[Any, Predictions], float]] = {
    m.TopKAccuracy: _top_k,
    m.Precision: _precision,
    m.Recall: _recall,
    m.F1: _f1,
    m.ROCAUC: _roc_auc,
    m.MeanSquaredError: _mean_squared_error,
    m.RootMeanSquaredError: _root_mean_squared_error,
    m.MeanAbsoluteError: _mean_absolute_error,
    m.MeanAbsolutePercentageError: _mean_absolute_percentage_error,
    m.R2: _r2,
    m.CosineSimilarity: _cosine_similarity,
    m.LogLoss: _log_loss,
}
