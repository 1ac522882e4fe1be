"""Lowering: the only place that knows both the specs and the codes of the compiled core."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from cymlp import _kernels, _validate
from cymlp._network import Network
from cymlp._steps import SCHEDULES
from cymlp.activations import Activation as PythonActivation
from cymlp.activations import BaseActivation, Identity
from cymlp.constraints import MaxNorm
from cymlp.initializers import Initializer
from cymlp.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Layer,
    LayerNormalization,
    Residual,
)
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
from cymlp.metrics import Accuracy, Metric
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
from cymlp.regularizers import L1, L2, ElasticNet, Regularizer
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

# The source of an operation that reads the samples.
_SAMPLES = -1

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


@dataclass(frozen=True)
class Parameter:
    """An array that a network owns, as users see it.

    Attributes
    ----------
    op : int
        The operation that it belongs to.
    name : str
        kernel, bias, gamma, beta, moving_mean or moving_variance.
    shape : tuple of int
    where : str
        The layer that it belongs to, such as ``layers[2]``.
    initializer : Initializer or None
        None: it begins with what its operation gives it.
    number : int
        Of the layer among those whose parameters are drawn.
    n_inputs : int
        Of the layer.
    """

    op: int
    name: str
    shape: tuple[int, ...]
    where: str
    initializer: Initializer | None = None
    number: int = 0
    n_inputs: int = 0

    @property
    def path(self) -> str:
        """What users call it, such as ``layers[2].kernel``."""
        return f"{self.where}.{self.name}"

    @property
    def size(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)

    @property
    def is_trained(self) -> bool:
        """Whether it has a gradient: moving averages have none."""
        return not self.name.startswith("moving")


@dataclass
class Lowering:
    """Layers as operations.

    Attributes
    ----------
    ops : list of dict
        As `cymlp._program.Program` takes them.
    parameters : list of Parameter
        In the order in which users get them.
    made_by : list of (int or None)
        For each layer the operation that makes its outputs; None where only a later layer's are
        made, since its activation is part of the same operation.
    widths : list of (int, int)
        Inputs and outputs of each layer.
    places : list of str
        For each operation the layer that it belongs to, such as ``layers[2] (dense)``.
    output_activation : BaseActivation
        What the last operation ends with.
    """

    n_inputs: int
    fuses: bool
    ops: list[dict[str, Any]] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    made_by: list[int | None] = field(default_factory=list)
    widths: list[tuple[int, int]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    output_activation: BaseActivation = Identity()
    _n_drawn: int = 0
    _n_dropouts: int = 0

    def width(self, op: int) -> int:
        """Return the number of outputs of an operation, or of samples."""
        return self.n_inputs if op == _SAMPLES else self.ops[op]["n_units"]

    def is_trainable(self, parameter: Parameter) -> bool:
        """Tell whether training moves a parameter by its gradient."""
        return parameter.is_trained and self.ops[parameter.op].get("trainable", True)

    def add(self, kind: str, source: int, n_units: int, place: str, **settings: Any) -> int:
        """Append an operation and return its number."""
        self.places.append(place)
        self.output_activation = Identity()
        self.ops.append({"kind": kind, "source": source, "n_units": n_units, **settings})
        return len(self.ops) - 1

    def add_stack(self, layers: Sequence[Layer], source: int, where: str, is_top: bool) -> int:
        """Append the operations of some layers; return the one that makes their outputs."""
        bottom = source
        for index, layer in enumerate(layers):
            before = source
            source = self.add_layer(layer, source, f"{where}[{index}]", source != bottom)
            if is_top:
                if isinstance(layer, Activation) and source == before:
                    self.made_by[-1] = None
                self.made_by.append(source)
                self.widths.append((self.width(before), self.width(source)))
        return source

    def add_layer(self, layer: Layer, source: int, where: str, is_alone: bool) -> int:
        """Append a layer's operations; is_alone: nobody else reads its inputs."""
        if source == _SAMPLES and not isinstance(layer, Dense):
            source = self.add("input", source, self.n_inputs, "the inputs")
        width = self.width(source)
        place = f"{where} ({layer.name})"
        if isinstance(layer, Dense):
            return self.add_dense(layer, source, where)
        if isinstance(layer, Activation):
            fused = self.fuses and is_alone and self.may_end_with(source, layer.activation)
            op = source if fused else self.add("activate", source, width, place)
            self.end_with(op, layer.activation)
            return op
        if isinstance(layer, Dropout):
            dropped = min(round(layer.rate * 65536), 65535)
            self._n_dropouts += 1
            number = self._n_dropouts - 1
            return self.add("dropout", source, width, place, dropped=dropped, number=number)
        if isinstance(layer, (BatchNormalization, LayerNormalization)):
            return self.add_norm(layer, source, where)
        if isinstance(layer, Residual):
            top = self.add_stack(layer.layers, source, f"{where}.layers", False)
            other = source
            if self.width(top) != width:
                projection = Dense(
                    self.width(top), use_bias=False, kernel_initializer=layer.kernel_initializer
                )
                other = self.add_dense(projection, source, where)
            return self.add("add", top, self.width(top), place, other=other)
        raise TypeError(f"{where} is a {type(layer).__name__}, which cymlp does not know")

    def add_dense(self, layer: Dense, source: int, where: str) -> int:
        """Append a dense layer."""
        width = self.width(source)
        constraint = layer.kernel_constraint
        op = self.add(
            "dense",
            source,
            layer.units,
            f"{where} (dense)",
            has_bias=layer.use_bias,
            trainable=layer.trainable,
            rate_factor=layer.learning_rate_multiplier,
            kernel_penalty=penalty_of(layer.kernel_regularizer),
            bias_penalty=penalty_of(layer.bias_regularizer),
            max_norm=float(constraint.max_value) if isinstance(constraint, MaxNorm) else 0.0,
        )
        self.end_with(op, layer.activation)
        drawn = {"number": self._n_drawn, "n_inputs": width}
        self._n_drawn += 1
        initializer = layer.kernel_initializer
        shape = (width, layer.units)
        self.parameters.append(Parameter(op, "kernel", shape, where, initializer, **drawn))
        if layer.use_bias:
            initializer = layer.bias_initializer
            self.parameters.append(
                Parameter(op, "bias", (layer.units,), where, initializer, **drawn)
            )
        return op

    def add_norm(
        self, layer: BatchNormalization | LayerNormalization, source: int, where: str
    ) -> int:
        """Append a normalization."""
        settings = {
            "has_gamma": layer.scale,
            "has_beta": layer.center,
            "epsilon": float(layer.epsilon),
            "trainable": layer.trainable,
            "rate_factor": layer.learning_rate_multiplier,
        }
        names = [
            name for name, wanted in (("gamma", layer.scale), ("beta", layer.center)) if wanted
        ]
        kind = "layer_norm"
        if isinstance(layer, BatchNormalization):
            kind = "batch_norm"
            settings |= {"momentum": float(layer.momentum), "folds": self.fuses}
            names += ["moving_mean", "moving_variance"]
        op = self.add(kind, source, self.width(source), f"{where} ({layer.name})", **settings)
        shape = (self.width(source),)
        self.parameters += [Parameter(op, name, shape, where) for name in names]
        return op

    def may_end_with(self, op: int, activation: BaseActivation) -> bool:
        """Tell whether an operation that ends with no activation can end with this one."""
        spec = self.ops[op]
        if "activation" in spec or spec["kind"] in ("input", "dropout"):
            return False
        # A norm keeps its rows for the way back and has no room for another array of that size.
        return spec["kind"] in ("dense", "add") or not _keeps_z(activation)

    def end_with(self, op: int, activation: BaseActivation) -> None:
        """Have an operation end with an activation."""
        self.output_activation = activation
        if isinstance(activation, Identity):
            return
        own = isinstance(activation, PythonActivation)
        self.ops[op] |= {
            "activation": activation if own else _kernels.ACTIVATIONS[activation.name],
            "keeps_z": _keeps_z(activation),
            "alpha": float(getattr(activation, "alpha", 0.0)),
        }


def _keeps_z(activation: BaseActivation) -> bool:
    return isinstance(activation, PythonActivation) or activation.name in _kernels.KEEPS_Z


def penalty_of(regularizer: Regularizer | None) -> tuple[float, float, bool]:
    """Return l1, l2 and whether they are divided by a batch's weight."""
    if isinstance(regularizer, L1):
        return float(regularizer.strength), 0.0, False
    if isinstance(regularizer, L2):
        return 0.0, float(regularizer.strength), bool(regularizer.per_batch)
    if isinstance(regularizer, ElasticNet):
        return float(regularizer.l1), float(regularizer.l2), False
    return 0.0, 0.0, False


def plan_layers(layers: Sequence[Layer], n_inputs: int, *, fuses: bool = True) -> Lowering:
    """Return layers as operations; if not fuses, one for each layer at least."""
    plan = Lowering(n_inputs, fuses)
    plan.add_stack(layers, _SAMPLES, "layers", True)
    return plan


def lower_layers(
    plan: Lowering, dtype: np.dtype, key: tuple[int, int], input_scale: float = 1.0
) -> Network:
    """Return a network program; key is that of its random numbers, see `_random.key`."""
    network = Network(plan.n_inputs, plan.ops, dtype.name, key)
    network.input_scale = input_scale
    return network


def fused_loss(activation: BaseActivation, loss: Loss) -> str | None:
    """Return the code of a loss that is computed together with an output activation, if it is."""
    own = isinstance(activation, PythonActivation)  # of any name
    return None if own else _FUSED.get((loss.name, activation.name))


def lower_training(
    network: Network,
    activation: BaseActivation,
    loss: Loss,
    optimizer: Optimizer,
    metrics: Sequence[Metric],
) -> None:
    """Set what training a network does whose last operation ends with an activation."""
    fused = fused_loss(activation, loss)
    loss_code = fused or loss.name
    code, slots = code_of(optimizer)
    threshold = None
    if any(isinstance(metric, Accuracy) for metric in metrics):
        threshold = _HALF.get(loss_code, 0.5)
    network.compile(
        loss=None if isinstance(loss, CustomLoss) else _kernels.LOSSES[loss_code],
        output_activation=None if fused is None else _kernels.ACTIVATIONS["identity"],
        optimizer=_kernels.OPTIMIZERS[code],
        n_slots=len(slots),
        settings=lower_optimizer(optimizer),
        accuracy_threshold=threshold,
        **lower_loss(loss, network.n_outputs),
    )


def lower_loss(loss: Loss, n_outputs: int) -> dict[str, Any]:
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
    epsilon = getattr(optimizer, "epsilon", None)
    if epsilon is not None and epsilon < np.finfo(dtype).tiny:
        raise ValueError(
            f"optimizer: epsilon must be at least {np.finfo(dtype).tiny:.3g} in {dtype.name}, got "
            f"{epsilon}"
        )


def code_of(optimizer: Optimizer) -> tuple[str, tuple[str, ...]]:
    """Return the name of an optimizer's code, and what its slots hold for each parameter."""
    if isinstance(optimizer, SGD):
        if optimizer.momentum == 0:
            return "sgd", ()
        return ("nesterov" if optimizer.nesterov else "momentum"), ("velocity",)
    if isinstance(optimizer, (Adam, AdamW)):
        return ("amsgrad", ("m", "v", "v_max")) if optimizer.amsgrad else ("adam", ("m", "v"))
    if isinstance(optimizer, RMSprop):
        code, slots = ("centered_rmsprop", "vm") if optimizer.centered else ("rmsprop", "v")
        if optimizer.momentum > 0:
            return f"{code}_momentum", (*slots, "velocity")
        return code, (*slots,)
    if isinstance(optimizer, LBFGS):  # which moves the parameters by itself
        return "gradient", ()
    slots_of: dict[type, tuple[str, ...]] = {
        NAdam: ("m", "v"),
        Adagrad: ("sum_of_squares",),
        Adadelta: ("v", "u"),
        Lion: ("m",),
        Rprop: ("gradient", "step_size"),
    }
    return optimizer.name, slots_of[type(optimizer)]


def lower_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Return what `Network.compile` takes as settings."""
    given = vars(optimizer)
    names = ("momentum", "beta_1", "beta_2", "epsilon")
    step = {name: given[name] for name in names if name in given}
    if "rho" in given:
        step["beta_2"] = given["rho"]
    if given.get("epsilon_hat"):
        step["epsilon_hat"] = given["epsilon"]
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
