"""Metrics: what training and evaluation report beside the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Accuracy", "Metric"]


@dataclass(frozen=True)
class Metric:
    """Base of all metrics.

    Attributes
    ----------
    name : str
        What `Sequential.compile` accepts instead of an instance, and the key in `History`.
    """

    name: ClassVar[str]


@dataclass(frozen=True)
class Accuracy(Metric):
    """Share of the samples whose largest output is where the largest target is.

    With one output: whose output and target are on the same side of 0.5. Weighted where sample
    weights are given.

    Examples
    --------
    >>> from cymlp.metrics import Accuracy
    >>> Accuracy().name
    'accuracy'
    """

    name: ClassVar[str] = "accuracy"


METRICS: dict[str, type[Metric]] = {kind.name: kind for kind in (Accuracy,)}
