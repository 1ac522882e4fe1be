"""Activation functions: what a layer does to its weighted sums.

Each class is a frozen description without arrays; the kernels of ``src/`` do the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Activation", "Identity", "ReLU", "Sigmoid", "Softmax", "Tanh"]


@dataclass(frozen=True)
class Activation:
    """Base of all activations.

    Attributes
    ----------
    name : str
        What `Dense` accepts instead of an instance.
    """

    name: ClassVar[str]


@dataclass(frozen=True)
class Identity(Activation):
    """The weighted sum itself: f(z) = z.

    Examples
    --------
    >>> from cymlp.activations import Identity
    >>> Identity().name
    'identity'
    """

    name: ClassVar[str] = "identity"


@dataclass(frozen=True)
class ReLU(Activation):
    """Rectified linear unit: f(z) = max(z, 0), with f'(0) = 0.

    References
    ----------
    V. Nair and G. Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

    Examples
    --------
    >>> from cymlp.activations import ReLU
    >>> ReLU().name
    'relu'
    """

    name: ClassVar[str] = "relu"


@dataclass(frozen=True)
class Sigmoid(Activation):
    """Logistic function: f(z) = 1 / (1 + exp(-z)), between 0 and 1.

    With `cymlp.losses.BinaryCrossEntropy` the loss is computed from z itself, which stays exact
    where f(z) rounds to 0 or 1.

    Examples
    --------
    >>> from cymlp.activations import Sigmoid
    >>> Sigmoid().name
    'sigmoid'
    """

    name: ClassVar[str] = "sigmoid"


@dataclass(frozen=True)
class Tanh(Activation):
    """Hyperbolic tangent: f(z) = tanh(z), between -1 and 1.

    Examples
    --------
    >>> from cymlp.activations import Tanh
    >>> Tanh().name
    'tanh'
    """

    name: ClassVar[str] = "tanh"


@dataclass(frozen=True)
class Softmax(Activation):
    """Probabilities that sum to one: f(z)_j = exp(z_j) / sum_k exp(z_k).

    With `cymlp.losses.CrossEntropy` the loss is computed from z itself, which stays exact where a
    probability rounds to 0. With any other loss the full Jacobian is used.

    Examples
    --------
    >>> from cymlp.activations import Softmax
    >>> Softmax().name
    'softmax'
    """

    name: ClassVar[str] = "softmax"


ACTIVATIONS: dict[str, type[Activation]] = {
    kind.name: kind for kind in (Identity, ReLU, Sigmoid, Tanh, Softmax)
}
