"""A network taken apart: each weighted sum, activation and derivative an operation of its own.

The compiled core fuses a layer's activation into its weighted sums and a loss into the output
activation, and keeps no more of either than the way back needs. For `cymlp.explain` the same layers
are lowered to more operations: the weighted sums, the activation, and behind it one that does
nothing, whose deltas are the derivatives by the layer's outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cymlp import _inference
from cymlp._lower import Parameter, fused_loss, lower_layers, lower_training, plan_layers
from cymlp._validate import SparseRows
from cymlp.activations import BaseActivation, Identity, Softmax
from cymlp.data import Samples
from cymlp.layers import Activation, Dense, Layer, Residual
from cymlp.optimizers import SGD

if TYPE_CHECKING:
    from cymlp.model import Sequential

_NOTHING = Activation(Identity())


@dataclass(frozen=True)
class Part:
    """A layer, with the places of its operations in the stack that is taken apart.

    Attributes
    ----------
    where : str
        The layer's place in the network, such as ``layers[1].layers[0]``.
    layer : Layer
    sums, outputs, readers : str
        The places of what has the weighted sums, the outputs and, as its deltas, the derivatives by
        the outputs. A layer that has no weighted sums has none.
    """

    where: str
    layer: Layer
    sums: str | None
    outputs: str
    readers: str


class Anatomy:
    """A network with the parameters of another one, whose operations can all be looked at.

    Parameters
    ----------
    net : Sequential
        Built, and compiled if derivatives will be asked for. It is left as it is. Samples come
        with its input scale applied: see `scaled_inputs`.

    Attributes
    ----------
    parts : list of Part
        From the first layer to the last, those of a residual layer before itself.
    fused : bool
        Whether the loss is computed from the weighted sums of the output layer. There are no
        derivatives by the outputs then.
    """

    def __init__(self, net: Sequential) -> None:
        assert net._plan is not None and net.n_inputs is not None
        last = net._plan.output_activation
        self.fused = net.loss is not None and fused_loss(last, net.loss) is not None
        self.parts: list[Part] = []
        layers = _take_apart(net.layers, "layers", "layers", self.parts)
        if self.fused:  # so that the output activation ends the stack, as in the network
            layers.pop()
        plan = plan_layers(layers, net.n_inputs, fuses=False)
        self._ops = {place.partition(" (")[0]: op for op, place in enumerate(plan.places)}
        self._sources: list[tuple[int, int | None]] = [
            (op["source"], op.get("other")) for op in plan.ops
        ]
        self._widths = [op["n_units"] for op in plan.ops]
        #: Those of this network, in the order of the other one's.
        self.parameters: list[Parameter] = plan.parameters
        self.network = lower_layers(plan, net.dtype, (0, 0))
        names = [(parameter.op, parameter.name) for parameter in plan.parameters]
        self.network.set_all(names, net.get_weights())
        if net.loss is not None:
            lower_training(self.network, plan.output_activation, net.loss, SGD(), ())
        self.dtype = net.dtype
        # Which part makes what an operation reads.
        self._makers = {
            self._ops[place]: number
            for number, part in enumerate(self.parts)
            for place in (part.outputs, part.readers)
            if place in self._ops
        }

    def describe(self, samples: Samples) -> Any:
        """Return samples as the network takes them."""
        return self.network.describe(samples.x, samples.labels, samples.values, samples.weight)

    def outputs(self, samples: Samples) -> dict[str, np.ndarray]:
        """Return the outputs of every operation, by its place."""
        arrays = [np.empty((len(samples), width), self.dtype) for width in self._widths]
        _inference.forward(self.network, samples.x, dict(enumerate(arrays)))
        return {place: arrays[op] for place, op in self._ops.items()}

    def deltas(self, samples: Samples) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return each sample's own loss, and its derivatives by every operation."""
        losses, arrays = self.network.deltas(self.describe(_unweighted(samples)))
        return losses, {place: arrays[op] for place, op in self._ops.items()}

    def gradients(self, samples: Samples) -> list[np.ndarray | None]:
        """Return the averages of the loss's derivatives by the parameters, without penalties."""
        _, found = self.network.gradients(self.describe(samples), False)
        return [found.get((parameter.op, parameter.name)) for parameter in self.parameters]

    def input_gradients(self, samples: Samples) -> np.ndarray:
        """Return the derivatives of each sample's own loss by the inputs."""
        return self.network.input_gradients(self.describe(_unweighted(samples)), False)

    def width(self, part: Part) -> int:
        """Return the number of a part's outputs."""
        return self._widths[self._ops[part.outputs]]

    def sources(self, part: Part) -> tuple[int, int | None]:
        """Return the numbers of the parts that a part reads, -1 for the inputs.

        A residual layer reads two: what its layers make, and what they are added to.
        """
        source, other = self._sources[self._ops[part.sums or part.outputs]]
        below = self._makers.get(source, -1)
        if other is None:
            return below, None
        if other not in self._ops.values():  # the projection of a residual layer
            other = self._sources[other][0]
        return below, self._makers.get(other, -1)

    def slopes(self, activation: BaseActivation, z: np.ndarray) -> np.ndarray | None:
        """Return an activation's derivatives; None for softmax, which has a matrix of them."""
        if isinstance(activation, Softmax):
            return None
        plan = plan_layers([Activation(activation)], z.shape[1], fuses=False)
        network = lower_layers(plan, self.dtype, (0, 0))
        described = network.describe(np.ascontiguousarray(z), None, np.ones_like(z), None)
        return network.input_gradients(described, True)


def scaled_inputs(x: np.ndarray | SparseRows, net: Sequential) -> np.ndarray:
    """Return samples as numbers of a network's dtype, its input scale applied."""
    if isinstance(x, SparseRows):  # which are scaled
        return x.dense(net.dtype)
    numbers = np.array(x, net.dtype)
    return numbers if net.input_scale == 1 else numbers * net.dtype.type(net.input_scale)


def _unweighted(samples: Samples) -> Samples:
    """Return samples whose losses are their own: weights are for the average over a batch."""
    return replace(samples, weight=None)


def _take_apart(layers: Sequence[Layer], where: str, place: str, parts: list[Part]) -> list[Layer]:
    """Return layers as a stack that has every quantity, and append what there is of each."""
    stack: list[Layer] = []

    def add(layer: Layer) -> str:
        stack.append(layer)
        return f"{place}[{len(stack) - 1}]"

    for number, layer in enumerate(layers):
        own = f"{where}[{number}]"
        if isinstance(layer, Residual):
            inner = f"{place}[{len(stack)}].layers"
            inner_layers = _take_apart(layer.layers, f"{own}.layers", inner, parts)
            outputs = add(Residual(inner_layers, kernel_initializer=layer.kernel_initializer))
            parts.append(Part(own, layer, None, outputs, add(_NOTHING)))
        elif isinstance(layer, Dense):
            free = replace(
                layer, activation=Identity(), kernel_regularizer=None, bias_regularizer=None
            )
            sums = add(free)
            is_linear = isinstance(layer.activation, Identity)
            outputs = sums if is_linear else add(Activation(layer.activation))
            parts.append(Part(own, layer, sums, outputs, add(_NOTHING)))
        else:
            outputs = add(layer)
            parts.append(Part(own, layer, None, outputs, add(_NOTHING)))
    return stack
