"""Losses: what training makes small. All are averaged over the samples of a batch.

Each class is a frozen description without arrays; the kernels of ``src/`` do the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "Loss", "SquaredError"]


@dataclass(frozen=True)
class Loss:
    """Base of all losses.

    Attributes
    ----------
    name : str
        What `Sequential.compile` accepts instead of an instance.
    """

    name: ClassVar[str]


@dataclass(frozen=True)
class SquaredError(Loss):
    """Half the squared error: 1/2 sum_j (y_j - t_j)^2 over a sample's outputs.

    Targets have the shape (samples, outputs), or (samples,) for one output.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    >>> net.compile(optimizer="sgd", loss="squared_error")
    >>> net.set_weights([[[2.0]], [0.0]])
    >>> net.evaluate([[3.0]], [5.0])
    {'loss': 0.5}
    """

    name: ClassVar[str] = "squared_error"


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy between classes: -sum_j t_j log y_j over a sample's outputs.

    Targets are class labels, integers of shape (samples,), or one-hot rows or probabilities of
    shape (samples, outputs). With a softmax output the loss is computed from the weighted sums.
    With any other output activation, y_j is taken as at least the dtype's epsilon, in the loss and
    in its derivative.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(2, activation="softmax")], n_inputs=1, random_state=0)
    >>> net.compile(loss="cross_entropy")
    >>> net.set_weights([[[0.0, 0.0]], [0.0, 0.0]])
    >>> round(net.evaluate([[3.0]], [1])["loss"], 6)
    0.693147
    """

    name: ClassVar[str] = "cross_entropy"


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Cross-entropy of independent yes-or-no outputs, summed over a sample's outputs.

    -sum_j [t_j log y_j + (1 - t_j) log(1 - y_j)], with targets within [0, 1] of shape
    (samples, outputs), or (samples,) for one output. With a sigmoid output the loss is computed
    from the weighted sums. With any other output activation, y_j and 1 - y_j are taken as at least
    the dtype's epsilon, in the loss and in its derivative.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1, activation="sigmoid")], n_inputs=1, random_state=0)
    >>> net.compile(loss="binary_cross_entropy")
    >>> net.set_weights([[[0.0]], [0.0]])
    >>> round(net.evaluate([[3.0]], [1])["loss"], 6)
    0.693147
    """

    name: ClassVar[str] = "binary_cross_entropy"


LOSSES: dict[str, type[Loss]] = {
    kind.name: kind for kind in (SquaredError, CrossEntropy, BinaryCrossEntropy)
}
