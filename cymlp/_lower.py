"""Lowering: the only place that knows both the specs and the codes of the compiled core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cymlp import _kernels
from cymlp._network import Network
from cymlp.activations import Sigmoid, Softmax
from cymlp.layers import Dense
from cymlp.losses import BinaryCrossEntropy, CrossEntropy, Loss
from cymlp.metrics import Metric
from cymlp.optimizers import SGD, Adam, Optimizer
from cymlp.regularizers import L2

# A loss that belongs to an output activation is computed from the weighted sums of the output.
_FUSED = {
    (CrossEntropy, Softmax): "softmax_cross_entropy",
    (BinaryCrossEntropy, Sigmoid): "sigmoid_binary_cross_entropy",
}

_HALF: dict[str | None, float] = {
    "softmax_cross_entropy": -np.inf,
    "sigmoid_binary_cross_entropy": 0.0,
}


def lower_layers(
    layers: Sequence[Dense], n_inputs: int, dtype: np.dtype, input_scale: float = 1.0
) -> Network:
    """Return a network program for layers, with all parameters zero."""
    network = Network(n_inputs, [_lower_layer(layer) for layer in layers], dtype.name)
    network.input_scale = input_scale
    return network


def _lower_layer(layer: Dense) -> dict[str, Any]:
    penalty = layer.kernel_regularizer or L2(0.0)
    return {
        "n_units": layer.units,
        "activation": _kernels.ACTIVATIONS[layer.activation.name],
        "l2": float(penalty.strength),
        "l2_per_batch": bool(penalty.per_batch),
    }


def lower_training(
    network: Network, output: Dense, loss: Loss, optimizer: Optimizer, metrics: Sequence[Metric]
) -> None:
    """Set what training a network does."""
    fused = _FUSED.get((type(loss), type(output.activation)))
    code, settings = _lower_optimizer(optimizer)
    threshold = None
    if any(metric.name == "accuracy" for metric in metrics):
        # What 0.5 is for the output, on the scale of what the loss reads.
        threshold = _HALF.get(fused, 0.5)
    network.compile(
        loss=_kernels.LOSSES[fused or loss.name],
        output_activation=_kernels.ACTIVATIONS["identity" if fused else output.activation.name],
        optimizer=_kernels.OPTIMIZERS[code],
        n_slots={"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2}[code],
        settings=settings,
        accuracy_threshold=threshold,
    )


def check_optimizer(optimizer: Optimizer, dtype: np.dtype) -> None:
    """Refuse what a dtype cannot hold: an epsilon of zero would make 0 / 0 of zero gradients."""
    if isinstance(optimizer, Adam) and optimizer.epsilon < np.finfo(dtype).tiny:
        raise ValueError(
            f"optimizer: epsilon must be at least {np.finfo(dtype).tiny:.3g} in {dtype.name}, got "
            f"{optimizer.epsilon}"
        )


def _lower_optimizer(optimizer: Optimizer) -> tuple[str, dict[str, float]]:
    settings = dict.fromkeys(("learning_rate", "momentum", "beta_1", "beta_2", "epsilon"), 0.0)
    settings |= {name: value for name, value in vars(optimizer).items() if name in settings}
    if isinstance(optimizer, Adam):
        return "adam", settings
    if isinstance(optimizer, SGD) and optimizer.momentum > 0:
        return ("nesterov" if optimizer.nesterov else "momentum"), settings
    return "sgd", settings
