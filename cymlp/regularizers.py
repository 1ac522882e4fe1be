"""Penalties on weights that are added to the loss."""

from __future__ import annotations

from typing import ClassVar

from cymlp import _validate
from cymlp._frozen import Frozen

__all__ = ["L1", "L2", "ElasticNet", "Regularizer"]


class Regularizer(Frozen):
    """Base of all penalties.

    Attributes
    ----------
    name : str
        Name of the kind of penalty.
    """

    name: ClassVar[str]


class L1(Regularizer):
    """The sum of the weights' absolute values: strength * sum(abs(W)).

    The derivative is strength * sign(W), taken as 0 where a weight is 0.

    Parameters
    ----------
    strength : float
        At least 0.

    Raises
    ------
    TypeError, ValueError
        If `strength` is not a number of at least 0.

    Examples
    --------
    >>> from cymlp.regularizers import L1
    >>> L1(1e-4)
    L1(strength=0.0001)
    """

    name: ClassVar[str] = "l1"
    strength: float

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("strength", self.strength, low=0)


class L2(Regularizer):
    """Half the sum of the squared weights: strength / 2 * sum(W**2).

    Parameters
    ----------
    strength : float
        At least 0.
    per_batch : bool, default=False
        Divide the penalty by the number of samples in the batch, or the sum of their weights:
        the meaning of scikit-learn's ``alpha``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    Examples
    --------
    >>> from cymlp.layers import Dense
    >>> from cymlp.regularizers import L2
    >>> Dense(10, kernel_regularizer=L2(1e-4)).kernel_regularizer
    L2(strength=0.0001, per_batch=False)
    """

    name: ClassVar[str] = "l2"
    strength: float
    per_batch: bool = False

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("strength", self.strength, low=0)
        _validate.boolean("per_batch", self.per_batch)


class ElasticNet(Regularizer):
    """Both penalties: l1 * sum(abs(W)) + l2 / 2 * sum(W**2).

    Parameters
    ----------
    l1, l2 : float
        At least 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a number of at least 0.

    References
    ----------
    H. Zou and T. Hastie, "Regularization and variable selection via the elastic net", 2005.

    Examples
    --------
    >>> from cymlp.regularizers import ElasticNet
    >>> ElasticNet(l1=1e-5, l2=1e-4)
    ElasticNet(l1=1e-05, l2=0.0001)
    """

    name: ClassVar[str] = "elastic_net"
    l1: float
    l2: float

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("l1", self.l1, low=0)
        _validate.real("l2", self.l2, low=0)
