"""What is found of a training that fails, and what both kinds of findings ask of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cymlp._lower import plan_layers
from cymlp.activations import BaseActivation
from cymlp.losses import AbsoluteError, Huber, LogCosh, Quantile, SquaredError
from cymlp.model import Sequential

__all__ = ["OF_NUMBERS", "Finding", "output_activation", "problem", "warning"]

#: Losses that take any target and, of an output activation that does not go with it, its slope.
OF_NUMBERS = (AbsoluteError, Huber, LogCosh, Quantile, SquaredError)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or may be.

    Attributes
    ----------
    kind : str
        What it is: see the table of `diagnose`.
    severity : {"problem", "warning"}
        A problem keeps a network from learning. A warning may be as it should be.
    where : str
        Such as "layers[1]"; "X", "y" or "optimizer".
    numbers : dict of str to float
        What it was told by.
    message, advice : str
        What is wrong, with the numbers, and what to do about it.
    """

    kind: str
    severity: str
    where: str
    numbers: dict[str, float]
    message: str
    advice: str


def problem(kind: str, where: str, message: str, advice: str, **numbers: Any) -> Finding:
    """Return a finding of this severity."""
    numbers = {name: float(value) for name, value in numbers.items()}
    return Finding(kind, "problem", where, numbers, message, advice)


def warning(kind: str, where: str, message: str, advice: str, **numbers: Any) -> Finding:
    """Return a finding of this severity."""
    numbers = {name: float(value) for name, value in numbers.items()}
    return Finding(kind, "warning", where, numbers, message, advice)


def output_activation(net: Sequential) -> BaseActivation:
    """Return what a built network ends with, be it a dense layer's or a layer of its own."""
    assert net.n_inputs is not None
    return plan_layers(net.layers, net.n_inputs).output_activation
