"""Samples as the core takes them: validated once, then visited as often as training wants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cymlp import _validate
from cymlp.losses import CrossEntropy, Loss, Quantile

__all__ = ["Samples", "parted", "prepare", "split", "with_class_weight"]

_STRING_LABELS = (
    "; class labels are integers from 0, as numpy.unique(y, return_inverse=True) gives them"
)


@dataclass(frozen=True)
class Samples:
    """Validated samples; either labels or values are given.

    Attributes
    ----------
    x : ndarray of shape (samples, inputs), or SparseRows
        Of the network's dtype with contiguous columns, or as it is converted batch by batch:
        bytes, or whatever stands in a mapped file.
    labels : ndarray of shape (samples,), int32, or None
        Class labels.
    values : ndarray of shape (samples, outputs), of the network's dtype, or None
        Target values.
    weight : ndarray of shape (samples,), float64, or None
        Weights of the samples.
    """

    x: np.ndarray | _validate.SparseRows
    labels: np.ndarray | None
    values: np.ndarray | None
    weight: np.ndarray | None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.x)

    @property
    def n_inputs(self) -> int:
        """Number of columns of x."""
        return self.x.shape[1]

    def rows(self, start: int, stop: int) -> Samples:
        """Return some of the samples, without a copy."""
        part = slice(start, stop)
        x = self.x.rows(start, stop) if isinstance(self.x, _validate.SparseRows) else self.x[part]
        return Samples(x, *self._targets(part))

    def _targets(self, part: slice | np.ndarray) -> Iterator[np.ndarray | None]:
        """Yield labels, values and weight of some of the samples."""
        for array in (self.labels, self.values, self.weight):
            yield array if array is None else array[part]

    def picked(self, rows: np.ndarray) -> Samples:
        """Return samples by their numbers, with those in the place of x; see `inputs_at`."""
        picked = Samples(rows[:, None], *self._targets(rows))
        if picked.weight is not None and picked.weight.max() == 0:
            raise ValueError("sample_weight must not be all zero in a subset")
        return picked

    def inputs_at(self, rows: np.ndarray) -> np.ndarray | _validate.SparseRows:
        """Return a copy of the inputs of samples, by their numbers."""
        return self.x.picked(rows) if isinstance(self.x, _validate.SparseRows) else self.x[rows]


def prepare(
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    loss: Loss | None,
    n_inputs: int | None,
    n_outputs: int,
    dtype: np.dtype,
    input_scale: float = 1.0,
    within: str = "",
) -> Samples:
    """Validate samples for training or evaluation.

    Parameters
    ----------
    X : array-like of shape (samples, inputs)
    y : array-like of shape (samples,) or (samples, outputs)
        Targets, as the loss takes them.
    sample_weight : array-like of shape (samples,), or None
    loss : Loss
    n_inputs : int or None
        Columns that X must have; None for any number.
    n_outputs : int
        Outputs of the network.
    dtype : numpy.dtype
        Of the network.
    input_scale : float, default=1.0
        Of the network.
    within : str, default=""
        What errors say in front of the names of arguments.

    Returns
    -------
    Samples

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.
    """
    x = _validate.inputs(within + "X", X, dtype, n_inputs, input_scale)
    weight = None
    if sample_weight is not None:
        weight = _validate.sample_weights(within + "sample_weight", sample_weight, len(x))
    y_name = within + "y"
    # Labels of a single output name nothing: there 1-D targets are its values.
    takes_labels = isinstance(loss, CrossEntropy) or bool(
        loss is not None and loss.takes_labels and n_outputs > 1
    )
    targets = _validate.numeric(y_name, y, if_strings=_STRING_LABELS if takes_labels else "")
    if takes_labels and targets.ndim == 1:
        labels = _validate.class_labels(y_name, targets, len(x), n_outputs)
        return Samples(x, labels, None, weight)
    per_level = isinstance(loss, Quantile) and isinstance(loss.levels, tuple)
    values = _validate.target_values(
        y_name,
        targets,
        len(x),
        1 if per_level else n_outputs,
        dtype,
        target_range="any" if loss is None else loss.target_range,
        hint="; class labels are 1-D: ravel()" if takes_labels and targets.ndim == 2 else "",
    )
    if per_level:
        values = np.repeat(values, n_outputs, axis=1)
    return Samples(x, None, values, weight)


def split(samples: Samples, share: float) -> tuple[Samples, Samples]:
    """Keep a share of the samples, the last ones, for validation.

    Parameters
    ----------
    samples : Samples
    share : float
        Within (0, 1).

    Returns
    -------
    (Samples, Samples)
        To train on and to validate with.

    Raises
    ------
    ValueError
        If one of the two would be empty, or without any weight.
    """
    n_samples = len(samples)
    n_train = math.floor(n_samples * (1 - share))
    if not 0 < n_train < n_samples:
        raise ValueError(
            f"validation_split must leave samples to train on and to validate with, got {share} of "
            f"{n_samples} samples"
        )
    parts = samples.rows(0, n_train), samples.rows(n_train, n_samples)
    for part, what in zip(parts, ("first", "last"), strict=True):
        if part.weight is not None and part.weight.max() == 0:
            raise ValueError(
                f"sample_weight must not be all zero in the {what} {len(part)} samples, which "
                f"validation_split={share} makes"
            )
    return parts


def parted(
    samples: Samples,
    validation: Samples | None,
    validation_split: float,
    class_weight: Mapping[int, float] | str | None,
    n_outputs: int,
) -> tuple[Samples, Samples | None]:
    """Return what a fit trains on and validates with, as its arguments of these names say."""
    if validation is None and validation_split > 0:
        samples, validation = split(samples, validation_split)
    if class_weight is not None:
        samples = with_class_weight(samples, class_weight, n_outputs)
    return samples, validation


def with_class_weight(
    samples: Samples, class_weight: Mapping[int, float] | str, n_outputs: int
) -> Samples:
    """Multiply the samples' weights with those of their classes.

    Parameters
    ----------
    samples : Samples
        With class labels, one-hot rows or single values of 0 and 1.
    class_weight : dict of int to float, or "balanced"
        1 for classes that are missing. "balanced": the number of samples over that of the classes
        that occur and that of the class's samples.
    n_outputs : int
        Of the network.

    Returns
    -------
    Samples

    Raises
    ------
    TypeError, ValueError
        If the samples have no classes, or the weights are not what they must be.
    """
    labels = samples.labels
    if labels is None:
        labels = _classes(samples.values)
    factors = np.ones(max(n_outputs, 2))
    if isinstance(class_weight, Mapping):
        for label, factor in class_weight.items():
            label = _validate.integer("class_weight: class", label, low=0, high=len(factors) - 1)
            factors[label] = _validate.real(f"class_weight[{label}]", factor, low=0)
    elif isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(labels, minlength=len(factors))
        factors = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    else:
        error = ValueError if isinstance(class_weight, str) else TypeError
        raise error(
            f'class_weight must be a dict of class to weight or "balanced", got {class_weight!r}'
        )
    with np.errstate(over="ignore"):
        weight = factors[labels] * (1.0 if samples.weight is None else samples.weight)
    weight = _validate.sample_weights("class_weight times sample_weight", weight, len(samples))
    return replace(samples, weight=weight)


def _classes(values: np.ndarray | None) -> np.ndarray:
    """Return the classes that 0 and 1, or one-hot rows, stand for."""
    assert values is not None
    right = np.isin(values, (0, 1)).all()
    if values.shape[1] == 1:
        if right:
            return values[:, 0].astype(np.intp)
    elif right and (values.sum(axis=1) == 1).all():
        return values.argmax(axis=1)
    raise ValueError(
        "class_weight needs targets that are class labels, one-hot rows or single values of 0 and "
        f"1, got values of shape {values.shape} of another kind"
    )
