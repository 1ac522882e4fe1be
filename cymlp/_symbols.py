"""What the numbers of a trace are called in its working."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cymlp._notation import Notation, sum_of
from cymlp.layers import Activation, Dense, Dropout, Residual

if TYPE_CHECKING:
    from cymlp.trace import LayerTrace, Trace

__all__ = ["Symbols", "counted", "heading"]


def counted(count: int, what: str) -> str:
    """Write a number of things."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def heading(layer: LayerTrace) -> str:
    """Write which layer it is."""
    kind = layer.layer.name.replace("_", " ")
    function = "" if layer.function is None else f", {layer.function.name}"
    return f"{layer.where}: {kind}, {counted(layer.n_units, 'unit')}{function}"


class Symbols:
    """What inputs, units, outputs and parameters of a trace are called."""

    def __init__(self, trace: Trace, write: Notation) -> None:
        self.trace, self.write = trace, write

    def unit(self, number: int, j: int) -> str:
        """Write what a unit has before its activation; of number -1 an input."""
        if number < 0:
            return self.write.name(self.trace.input_names[j])
        layer = self.trace.layers[number]
        if isinstance(layer.layer, (Dense, Residual)):
            return self.write.name(layer.names[j])
        below = self.output(layer.source, j)
        if isinstance(layer.layer, (Activation, Dropout)):
            return below
        return self.write.call("norm", below)

    def output(self, number: int, j: int) -> str:
        """Write a unit's output."""
        function = None if number < 0 else self.trace.layers[number].function
        unit = self.unit(number, j)
        return unit if function is None else self.write.call(function.name, unit)

    def neuron(self, number: int, j: int) -> str:
        """Write the input or neuron that an output comes from, for its weights' names."""
        while number >= 0 and not isinstance(self.trace.layers[number].layer, (Dense, Residual)):
            number = self.trace.layers[number].source
        return self.unit(number, j)

    def parameter(self, number: int, name: str, place: tuple[int, ...]) -> str:
        """Write one number of a parameter."""
        layer, neuron = self.trace.layers[number], self.neuron(number, place[-1])
        if len(place) == 2:
            return self.write.weight(self.neuron(layer.kernel_source, place[0]), neuron)
        return self.write.parameter("b" if name == "bias" else name, neuron)

    def rest_of(self, array: np.ndarray, shown: Any, what: str) -> Iterator[str]:
        """Say what is left out of a list of numbers, if anything is."""
        left = array.astype(float)
        n_shown = left[shown].size
        left[shown] = 0
        if n_shown < left.size:
            total = self.write.number(sum_of(left))
            yield f"{left.size - n_shown:,} more of {what}, in sum {total}."
