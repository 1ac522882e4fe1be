"""Lowering: the only place that knows both the specs and the codes of the compiled core."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from cymlp import _kernels, _validate
from cymlp._network import Network
from cymlp.layers import Dense
from cymlp.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    CustomLoss,
    Focal,
    Huber,
    Loss,
    Quantile,
    Tweedie,
)
from cymlp.metrics import Metric
from cymlp.optimizers import SGD, Adam, Optimizer
from cymlp.regularizers import L2

# A loss that belongs to an output activation is computed from the weighted sums of the output.
_FUSED = {
    ("cross_entropy", "softmax"): "softmax_cross_entropy",
    ("kl_divergence", "softmax"): "softmax_kl_divergence",
    ("binary_cross_entropy", "sigmoid"): "sigmoid_binary_cross_entropy",
    ("focal", "sigmoid"): "sigmoid_focal",
    ("poisson", "exponential"): "exponential_poisson",
    ("gamma", "exponential"): "exponential_gamma",
    ("tweedie", "exponential"): "exponential_tweedie",
}

# What 0.5 is for the output, on the scale of what a loss reads.
_HALF = {
    "softmax_cross_entropy": -np.inf,
    "softmax_kl_divergence": -np.inf,
    "sigmoid_binary_cross_entropy": 0.0,
    "sigmoid_focal": 0.0,
    "exponential_poisson": np.log(0.5),
    "exponential_gamma": np.log(0.5),
    "exponential_tweedie": np.log(0.5),
    "hinge": 0.0,
}


def lower_layers(layers: Sequence[Dense], n_inputs: int, dtype: np.dtype) -> Network:
    """Return a network program for layers, with all parameters zero."""
    return Network(n_inputs, [_lower_layer(layer) for layer in layers], dtype.name)


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
    fused = _FUSED.get((loss.name, output.activation.name))
    loss_code = fused or loss.name
    code, settings = _lower_optimizer(optimizer)
    threshold = None
    if any(metric.name == "accuracy" for metric in metrics):
        threshold = _HALF.get(loss_code, 0.5)
    network.compile(
        loss=None if isinstance(loss, CustomLoss) else _kernels.LOSSES[loss_code],
        output_activation=_kernels.ACTIVATIONS["identity" if fused else output.activation.name],
        optimizer=_kernels.OPTIMIZERS[code],
        n_slots={"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2}[code],
        settings=settings,
        accuracy_threshold=threshold,
        **_lower_loss(loss, output.units),
    )


def _lower_loss(loss: Loss, n_outputs: int) -> dict[str, Any]:
    """Return what a loss is told, as `Network.compile` takes it."""
    match loss:
        case Huber(delta=parameter) | Tweedie(power=parameter):
            return {"loss_parameter": parameter}
        case Quantile(levels=levels):
            return {"loss_unit": np.broadcast_to(levels, n_outputs)}
        case CrossEntropy(label_smoothing=smoothing, class_weight=weights):
            return {"loss_smoothing": smoothing, "loss_unit": weights}
        case BinaryCrossEntropy(label_smoothing=smoothing):
            return {"loss_smoothing": smoothing}
        case Focal(gamma=gamma, alpha=alpha):
            return {"loss_parameter": gamma, "loss_smoothing": alpha}
        case CustomLoss(function=function):
            return {"loss_function": partial(_call_custom, function)}
    return {}


def _call_custom(function: Any, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[Any, Any]:
    """Call a user's loss; return its values in float64 and its derivatives in the dtype."""
    shape = y_pred.shape
    dtype = y_pred.dtype  # the arrays may come back changed
    result = function(y_true, y_pred)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeError(
            f"the loss function must return (losses, derivatives), got {type(result).__name__}"
        )
    values = _validate.numeric("the loss function's losses", result[0])
    slopes = _validate.numeric("the loss function's derivatives", result[1])
    if values.shape != shape[:1]:
        raise ValueError(
            f"the loss function's losses must have shape {shape[:1]}, one per sample, got "
            f"{values.shape}"
        )
    if slopes.shape != shape:
        raise ValueError(
            f"the loss function's derivatives must have shape {shape}, as its outputs have, got "
            f"{slopes.shape}"
        )
    with np.errstate(over="ignore"):
        return (
            np.ascontiguousarray(values, np.float64),
            np.ascontiguousarray(slopes, dtype),
        )


def check_loss(loss: Loss, n_outputs: int, dtype: np.dtype) -> None:
    """Refuse what a network of some outputs and a dtype cannot have for a loss."""
    per_output = {
        "class_weight": getattr(loss, "class_weight", None),
        "levels": getattr(loss, "levels", None),
    }
    for name, numbers in per_output.items():
        if isinstance(numbers, tuple) and len(numbers) != n_outputs:
            raise ValueError(
                f"loss: {name} must have {n_outputs} numbers, one for each output of the network, "
                f"got {len(numbers)}"
            )
    for name, low, high in (("delta", 0, np.inf), ("levels", 0, 1), ("power", 1, 2)):
        if not hasattr(loss, name):
            continue
        with np.errstate(over="ignore", under="ignore"):
            rounded = np.atleast_1d(np.asarray(getattr(loss, name), dtype))
        least = np.finfo(dtype).tiny if low == 0 else low + np.finfo(dtype).eps
        if rounded.min() < least or rounded.max() >= high:
            raise ValueError(
                f"loss: {name} must be greater than {low} and less than {high:g} in {dtype.name}, "
                f"got {getattr(loss, name)}"
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
