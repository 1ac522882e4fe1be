"""Penalties on weights that are added to the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cymlp import _validate

__all__ = ["L2"]


@dataclass(frozen=True)
class L2:
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
