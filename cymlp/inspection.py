"""Looking into a network: its table, its layers' outputs, and its derivatives by the inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cymlp import _inference, _validate
from cymlp._lower import Lowering, lower_layers, plan_layers
from cymlp._network import MOST_ROWS_BACK
from cymlp.data import Samples
from cymlp.layers import Activation, Dense, Layer, Residual

if TYPE_CHECKING:
    from cymlp.model import Sequential

__all__ = ["input_gradients", "jacobian", "layer_outputs", "short_name", "summary"]


def short_name(layer: Layer) -> str:
    """Return what a network's repr says of a layer."""
    if isinstance(layer, Dense):
        return f"{layer.units} {layer.activation.name}"
    if isinstance(layer, Activation):
        return layer.activation.name
    if isinstance(layer, Residual):
        return f"residual({' - '.join(map(short_name, layer.layers))})"
    return layer.name


def layer_outputs(net: Sequential, X: Any, n_threads: int | None) -> list[np.ndarray]:
    """Return the outputs of every layer: see `Sequential.layer_outputs`."""
    net._require("layer_outputs")
    threads = _validate.thread_count("n_threads", n_threads)
    x = inputs_alone(net, X).x
    network, plan = _network_by_layers(net)
    ops = [op for op in plan.made_by if op is not None]  # all, since nothing is fused
    outputs = {
        op: np.empty((len(x), width), net.dtype)
        for op, (_, width) in zip(ops, plan.widths, strict=True)
    }
    _inference.forward(network, x, outputs, threads)
    return [outputs[op] for op in ops]


def last_hidden_outputs(net: Sequential, X: Any, n_threads: int | None) -> np.ndarray:
    """Return the outputs of the last layer but one of a network with several."""
    threads = _validate.thread_count("n_threads", n_threads)
    x = inputs_alone(net, X).x
    network, plan = _network_by_layers(net)
    op = plan.made_by[-2]
    assert op is not None  # since nothing is fused
    out = np.empty((len(x), plan.widths[-2][1]), net.dtype)
    _inference.forward(network, x, {op: out}, threads)
    return out


def _network_by_layers(net: Sequential) -> tuple[Any, Lowering]:
    """Return a network in which each layer makes its outputs, with this one's parameters."""
    assert net._plan is not None
    plan = plan_layers(net.layers, net._plan.n_inputs, fuses=False)
    if plan.ops == net._plan.ops:
        return net._network, plan
    network = lower_layers(plan, net.dtype, (0, 0), net.input_scale)  # draws nothing: no dropout
    network.set_all([(p.op, p.name) for p in plan.parameters], net.get_weights())
    return network, plan


# Derivatives by the inputs


def input_gradients(
    net: Sequential, X: Any, y: Any, output: int | None, n_threads: int | None
) -> np.ndarray:
    """Return the derivatives by the inputs: see `Sequential.input_gradients`."""
    if (y is None) == (output is None):
        raise ValueError(
            "input_gradients needs either y, for the derivatives of the loss, or output, for those "
            f"of one output; got {'neither' if y is None else 'both'}"
        )
    net._require("input_gradients", compiled=y is not None)
    threads = _validate.thread_count("n_threads", n_threads)
    if output is None:
        samples = net._prepare(X, y)
    else:
        output = _validate.integer("output", output, low=0, high=net.n_outputs - 1)
        samples = inputs_alone(net, X)
    gradients = np.empty((len(samples), samples.n_inputs), net.dtype)
    for rows, part in _slices(samples):
        gradients[rows] = _derivatives(net, part, output, threads)
    return gradients


def jacobian(net: Sequential, X: Any, n_threads: int | None) -> np.ndarray:
    """Return the derivatives of all outputs by the inputs: see `Sequential.jacobian`."""
    net._require("jacobian")
    threads = _validate.thread_count("n_threads", n_threads)
    samples = inputs_alone(net, X)
    result = np.empty((len(samples), net.n_outputs, samples.n_inputs), net.dtype)
    for rows, part in _slices(samples):
        for output in range(net.n_outputs):
            result[rows, output] = _derivatives(net, part, output, threads)
    return result


def inputs_alone(net: Sequential, X: Any) -> Samples:
    """Return validated samples without targets."""
    x = _validate.inputs("X", X, net.dtype, net.n_inputs, net.input_scale)
    return Samples(x, None, None, None)


def _slices(samples: Samples) -> Iterator[tuple[slice, Samples]]:
    for start in range(0, len(samples), MOST_ROWS_BACK):
        stop = min(start + MOST_ROWS_BACK, len(samples))
        yield slice(start, stop), samples.rows(start, stop)


def _derivatives(net: Sequential, samples: Samples, output: int | None, threads: int) -> np.ndarray:
    """Return those of one output, or of each sample's own loss."""
    values = samples.values
    if output is not None:
        values = np.zeros((len(samples), net.n_outputs), net.dtype)
        values[:, output] = 1
    described = net._network.describe(samples.x, samples.labels, values, None)
    return net._network.input_gradients(described, output is not None, threads)


# The table of the layers


def summary(net: Sequential, print_fn: Callable[[str], Any]) -> None:
    """Print a table of the layers: see `Sequential.summary`."""
    # What differs between two numbers of inputs is not known before there is one.
    numbers = (1, 2) if net.n_inputs is None else (net.n_inputs,)
    tables = [_Table(net.layers, n_inputs) for n_inputs in numbers]
    item = net.dtype.itemsize

    def shown(values: Iterable[int], form: str = "{:,}") -> str:
        known = set(values)
        return form.format(known.pop()) if len(known) == 1 else "?"

    rows = [("layer", "kind", "activation", "output", "parameters", "bytes", "FLOPs")]
    for where, position, layer in _walk(net.layers):
        activation = layer.activation.name if isinstance(layer, (Dense, Activation)) else ""
        rows.append(
            (
                position,
                "  " * position.count(".") + layer.name,
                activation,
                f"(n, {shown((table.widths[where] for table in tables), '{}')})",
                shown(table.counts[where] for table in tables),
                shown(table.counts[where] * item for table in tables),
                shown(table.flops[where] for table in tables),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.ljust(width) if column < 4 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print_fn("  ".join(cells))
    n_bytes = [table.n_parameters * item for table in tables]
    size = f"{n_bytes[0] / 1024:,.1f}" if len(set(n_bytes)) == 1 else "?"
    print_fn(
        f"{shown(table.n_parameters for table in tables)} parameters, {size} KiB in "
        f"{net.dtype.name}; {shown(table.flops.total() for table in tables)} FLOPs per sample"
    )
    print_fn(
        f"trainable: {shown(table.n_trainable for table in tables)}, not trainable: "
        f"{shown(table.n_parameters - table.n_trainable for table in tables)}"
    )
    if net.n_inputs is None:
        print_fn("not built: the number of inputs is not known yet")


class _Table:
    """What there is to be said of layers, by the layer that it belongs to."""

    def __init__(self, layers: Sequence[Layer], n_inputs: int) -> None:
        plan = plan_layers(layers, n_inputs, fuses=False)
        self.widths: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.flops: Counter[str] = Counter()
        self.n_trainable = 0
        for op, place in zip(plan.ops, plan.places, strict=True):
            where = place.partition(" (")[0]
            self.widths[where] = op["n_units"]  # of the layer's last operation, in the end
            self.flops[where] += _flops(op, plan.width(op["source"]))
        for parameter in plan.parameters:
            self.counts[parameter.where] += parameter.size
            self.n_trainable += parameter.size * plan.is_trainable(parameter)

    @property
    def n_parameters(self) -> int:
        return self.counts.total()


def _walk(
    layers: Sequence[Layer], where: str = "layers", position: str = ""
) -> Iterator[tuple[str, str, Layer]]:
    """Yield each layer with its place as `Lowering` and as people call it."""
    for index, layer in enumerate(layers):
        yield f"{where}[{index}]", f"{position}{index}", layer
        if isinstance(layer, Residual):
            yield from _walk(layer.layers, f"{where}[{index}].layers", f"{position}{index}.")


def _flops(op: dict[str, Any], n_inputs: int) -> int:
    """Return the operations that a prediction of one sample takes, as `summary` counts them."""
    n_units = op["n_units"]
    match op["kind"]:
        case "dense":  # the sum begins with the bias
            return 2 * n_inputs * n_units
        case "batch_norm":
            return 2 * n_units
        case "layer_norm":  # mean, differences, their squares' sum, and what they are divided by
            return (5 + op["has_gamma"] + op["has_beta"]) * n_units
        case "add":
            return n_units
    return 0
