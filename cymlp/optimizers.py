"""Optimizers: how a parameter w moves, given its batch-averaged gradient g.

Each class is a frozen description; a network keeps the moments and the number of steps taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cymlp import _validate

__all__ = ["SGD", "Adam", "Optimizer"]


@dataclass(frozen=True)
class Optimizer:
    """Base of all optimizers.

    Attributes
    ----------
    name : str
        What `Sequential.compile` accepts instead of an instance.
    """

    name: ClassVar[str]


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, with momentum if asked for.

    ``v = momentum * v + g``, then ``w -= learning_rate * v``; with Nesterov's momentum,
    ``w -= learning_rate * (g + momentum * v)``.

    Parameters
    ----------
    learning_rate : float, default=0.01
        Greater than 0.
    momentum : float, default=0.0
        Within [0, 1].
    nesterov : bool, default=False
        Needs a momentum greater than 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Examples
    --------
    >>> from cymlp.optimizers import SGD
    >>> SGD(learning_rate=0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False)
    """

    name: ClassVar[str] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("learning_rate", self.learning_rate, low=0, closed="neither")
        _validate.real("momentum", self.momentum, low=0, high=1, closed="both")
        if _validate.boolean("nesterov", self.nesterov) and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum greater than 0, got momentum=0")


@dataclass(frozen=True)
class Adam(Optimizer):
    """Steps scaled by running averages of the gradient and of its square.

    ``m = beta_1 * m + (1 - beta_1) * g``, ``v = beta_2 * v + (1 - beta_2) * g**2``, then
    ``w -= learning_rate * m_hat / (sqrt(v_hat) + epsilon)`` with ``m_hat = m / (1 - beta_1**t)``
    and ``v_hat = v / (1 - beta_2**t)`` at step t.

    Parameters
    ----------
    learning_rate : float, default=0.001
        Greater than 0.
    beta_1 : float, default=0.9
        Within [0, 1).
    beta_2 : float, default=0.999
        Within [0, 1).
    epsilon : float, default=1e-8
        Greater than 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.

    Examples
    --------
    >>> from cymlp.optimizers import Adam
    >>> Adam(learning_rate=0.01).beta_2
    0.999
    """

    name: ClassVar[str] = "adam"
    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("learning_rate", self.learning_rate, low=0, closed="neither")
        _validate.real("beta_1", self.beta_1, low=0, high=1)
        _validate.real("beta_2", self.beta_2, low=0, high=1)
        _validate.real("epsilon", self.epsilon, low=0, closed="neither")


OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in (SGD, Adam)}
