"""Constraints: what weights are brought back to after each step."""

from __future__ import annotations

from typing import ClassVar

from cymlp import _validate
from cymlp._frozen import Frozen

__all__ = ["Constraint", "MaxNorm"]


class Constraint(Frozen):
    """Base of all constraints.

    Attributes
    ----------
    name : str
        Name of the kind of constraint.
    """

    name: ClassVar[str]


class MaxNorm(Constraint):
    """Each unit's incoming weights have at most a given Euclidean norm.

    A column w of the kernel, one unit's weights, becomes w * min(1, max_value / norm(w)).

    Parameters
    ----------
    max_value : float
        Greater than 0.

    Raises
    ------
    TypeError, ValueError
        If `max_value` is not a number greater than 0.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
    2014, section 5.1.

    Examples
    --------
    >>> from cymlp.constraints import MaxNorm
    >>> MaxNorm(3.0)
    MaxNorm(max_value=3.0)
    """

    name: ClassVar[str] = "max_norm"
    max_value: float

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("max_value", self.max_value, low=0, closed="neither")
