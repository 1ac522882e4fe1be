"""Lowering: the only place that knows both the specs and the codes of the compiled core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cymlp import _kernels
from cymlp._network import SCHEDULES, Network
from cymlp.activations import Sigmoid, Softmax
from cymlp.layers import Dense
from cymlp.losses import BinaryCrossEntropy, CrossEntropy, Loss
from cymlp.metrics import Metric
from cymlp.optimizers import (
    LBFGS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    NAdam,
    Optimizer,
    RMSprop,
    Rprop,
    StochasticOptimizer,
)
from cymlp.regularizers import L2
from cymlp.schedules import (
    Constant,
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseScaling,
    OneCycle,
    PolynomialDecay,
    Schedule,
    StepDecay,
    Warmup,
)

# A loss that belongs to an output activation is computed from the weighted sums of the output.
_FUSED = {
    (CrossEntropy, Softmax): "softmax_cross_entropy",
    (BinaryCrossEntropy, Sigmoid): "sigmoid_binary_cross_entropy",
}

_HALF: dict[str | None, float] = {
    "softmax_cross_entropy": -np.inf,
    "sigmoid_binary_cross_entropy": 0.0,
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
    fused = _FUSED.get((type(loss), type(output.activation)))
    code, n_slots = _code_of(optimizer)
    threshold = None
    if any(metric.name == "accuracy" for metric in metrics):
        # What 0.5 is for the output, on the scale of what the loss reads.
        threshold = _HALF.get(fused, 0.5)
    network.compile(
        loss=_kernels.LOSSES[fused or loss.name],
        output_activation=_kernels.ACTIVATIONS["identity" if fused else output.activation.name],
        optimizer=_kernels.OPTIMIZERS[code],
        n_slots=n_slots,
        settings=_lower_optimizer(optimizer),
        accuracy_threshold=threshold,
    )


def check_optimizer(optimizer: Optimizer, dtype: np.dtype) -> None:
    """Refuse what a dtype cannot hold: an epsilon of zero would make 0 / 0 of zero gradients."""
    epsilon = getattr(optimizer, "epsilon", None)
    if epsilon is not None and epsilon < np.finfo(dtype).tiny:
        raise ValueError(
            f"optimizer: epsilon must be at least {np.finfo(dtype).tiny:.3g} in {dtype.name}, got "
            f"{epsilon}"
        )


def _code_of(optimizer: Optimizer) -> tuple[str, int]:
    """Return the name of an optimizer's code, and how many slots it has."""
    if isinstance(optimizer, SGD):
        if optimizer.momentum == 0:
            return "sgd", 0
        return ("nesterov" if optimizer.nesterov else "momentum"), 1
    if isinstance(optimizer, (Adam, AdamW)):
        return ("amsgrad", 3) if optimizer.amsgrad else ("adam", 2)
    if isinstance(optimizer, RMSprop):
        code = "centered_rmsprop" if optimizer.centered else "rmsprop"
        if optimizer.momentum > 0:
            return f"{code}_momentum", 2 + optimizer.centered
        return code, 1 + optimizer.centered
    if isinstance(optimizer, LBFGS):  # which moves the parameters by itself
        return "gradient", 0
    return optimizer.name, {NAdam: 2, Adagrad: 1, Adadelta: 2, Lion: 1, Rprop: 2}[type(optimizer)]


def _lower_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Return what `Network.compile` takes as settings."""
    given = vars(optimizer)
    names = ("momentum", "beta_1", "beta_2", "epsilon")
    step = {name: given[name] for name in names if name in given}
    if "rho" in given:
        step["beta_2"] = given["rho"]
    decoupled = isinstance(optimizer, (AdamW, Lion))
    step["decoupled_decay" if decoupled else "weight_decay"] = given.get("weight_decay", 0.0)
    settings: dict[str, Any] = {
        "step": step,
        "schedule": lower_schedule(given.get("learning_rate", 0.0)),
    }
    if isinstance(optimizer, StochasticOptimizer):
        if optimizer.clip_value is not None:
            step["clip_value"] = optimizer.clip_value
        ways = {name: given[name] for name in ("clip_norm", "clip_global_norm")}
        settings |= {name: value for name, value in ways.items() if value is not None}
        settings["average_decay"] = optimizer.ema_decay
    if isinstance(optimizer, NAdam):
        settings["momentum_decay"] = optimizer.momentum_decay
    if isinstance(optimizer, Adagrad):
        settings["rate_decay"] = optimizer.learning_rate_decay
        settings["slot_values"] = {0: optimizer.initial_accumulator}
    if isinstance(optimizer, Rprop):
        step["eta_minus"], step["eta_plus"] = optimizer.etas
        step["smallest_step"], step["largest_step"] = optimizer.step_sizes
        settings["slot_values"] = {1: optimizer.learning_rate}
    return settings


def lower_schedule(rate: float | Schedule) -> dict[str, float]:
    """Return the fields of `cymlp_schedule` for what a learning rate may be."""
    if not isinstance(rate, Schedule):
        return {"kind": SCHEDULES["constant"], "rate": float(rate)}
    if isinstance(rate, Warmup):
        return lower_schedule(rate.schedule) | {
            "warmup_steps": rate.steps,
            "warmup_factor": rate.start_factor,
        }
    return {"kind": SCHEDULES[rate.name], **_fields_of(rate)}


def _fields_of(schedule: Schedule) -> dict[str, float]:
    if isinstance(schedule, OneCycle):
        return {
            "rate": schedule.max_learning_rate,
            "end_rate": schedule.end_learning_rate,
            "n_steps": schedule.total_steps,
            "start_rate": schedule.start_learning_rate,
            "peak_step": max(schedule.peak_step, 0.0),
        }
    if isinstance(schedule, StepDecay):
        own = {"n_steps": schedule.step_size, "factor": schedule.gamma}
    elif isinstance(schedule, ExponentialDecay):
        own = {"n_steps": schedule.decay_steps, "factor": schedule.decay_rate}
    elif isinstance(schedule, PolynomialDecay):
        own = {
            "n_steps": schedule.decay_steps,
            "end_rate": schedule.end_learning_rate,
            "power": schedule.power,
        }
    elif isinstance(schedule, InverseScaling):
        own = {"power": schedule.power}
    elif isinstance(schedule, CosineDecay):
        own = {"n_steps": schedule.decay_steps, "end_rate": schedule.end_learning_rate}
    elif isinstance(schedule, CosineDecayRestarts):
        own = {
            "n_steps": schedule.first_decay_steps,
            "end_rate": schedule.end_learning_rate,
            "factor": schedule.m_mul,
            "stretch": schedule.t_mul,
        }
    else:
        assert isinstance(schedule, Constant), schedule
        own = {}
    return {"rate": schedule.learning_rate, **own}
