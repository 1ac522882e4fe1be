"""Samples as the core takes them: validated once, then visited as often as training wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cymlp import _validate
from cymlp.losses import CrossEntropy, Loss, Quantile

__all__ = ["Samples", "prepare"]

_STRING_LABELS = (
    "; class labels are integers from 0, as numpy.unique(y, return_inverse=True) gives them"
)


@dataclass(frozen=True)
class Samples:
    """Validated samples; either labels or values are given.

    Attributes
    ----------
    x : ndarray of shape (samples, inputs), columns contiguous, or SparseRows
        Of the network's dtype or uint8.
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


def prepare(
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    loss: Loss | None,
    n_inputs: int | None,
    n_outputs: int,
    dtype: np.dtype,
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
    x = _validate.inputs(within + "X", X, dtype, n_inputs)
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
