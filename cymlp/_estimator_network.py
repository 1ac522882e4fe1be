"""From an estimator's hyperparameters to its network: layers, initial weights, optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import activations
from ._lower import Parameter, plan_layers
from .initializers import GlorotUniform
from .layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Layer,
    LayerNormalization,
    stack_of,
)
from .model import Sequential
from .optimizers import LBFGS, OPTIMIZERS, SGD, Adam, AdamW, NAdam, Optimizer
from .regularizers import L2
from .schedules import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseScaling,
    OneCycle,
    PolynomialDecay,
    Schedule,
    StepDecay,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._estimator_base import BaseMLP
    from .losses import Loss

# scikit-learn's names beside ours.
HIDDEN_ACTIVATIONS = {"logistic": activations.Sigmoid, **activations.ACTIVATIONS}
OUT_ACTIVATIONS = {"exponential": "exp", "sigmoid": "logistic"}
NORMALIZATIONS = {"batch": BatchNormalization, "layer": LayerNormalization}

# Schedules that end with the last of all steps that a fit may take; n of them, first rate r.
SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    "step_decay": lambda r, n: StepDecay(r, step_size=math.ceil(n / 3)),
    "exponential_decay": lambda r, n: ExponentialDecay(r, decay_steps=n, decay_rate=0.01),
    "polynomial_decay": lambda r, n: PolynomialDecay(r, decay_steps=n),
    "inverse_scaling": lambda r, n: InverseScaling(r),
    "cosine_decay": lambda r, n: CosineDecay(r, decay_steps=n),
    "cosine_decay_restarts": lambda r, n: CosineDecayRestarts(
        r, first_decay_steps=math.ceil(n / 7), t_mul=2
    ),
    "one_cycle": lambda r, n: OneCycle(r, total_steps=n),
}


class Head(NamedTuple):
    """The output layer and the loss, as targets and parameters decide them."""

    n_outputs: int
    activation: activations.BaseActivation
    loss: Loss

    @property
    def out_activation(self) -> str:
        """What scikit-learn calls the activation."""
        return OUT_ACTIVATIONS.get(self.activation.name, self.activation.name)


def hidden_widths(estimator: BaseMLP) -> list[int]:
    """Return the numbers of units of the hidden layers that an estimator's scalars ask for."""
    if estimator.n_layers is not None or estimator.width is not None:
        return [int(estimator.width or 100)] * int(estimator.n_layers or 1)
    given: Any = estimator.hidden_layer_sizes
    sizes = list(given) if hasattr(given, "__iter__") else [given]
    whole = (int, np.integer)
    if not all(isinstance(n, whole) and not isinstance(n, bool) for n in sizes):
        raise ValueError(f"hidden_layer_sizes must be integers > 0, got {sizes}")
    if any(n <= 0 for n in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return [int(size) for size in sizes]


def _activations(estimator: BaseMLP, n_layers: int) -> list[activations.BaseActivation]:
    given: Any = estimator.activation
    each = list(given) if isinstance(given, (list, tuple)) else [given] * n_layers
    if len(each) != n_layers:
        raise ValueError(
            f"activation must be one for all hidden layers or a list of {n_layers}, one for each, "
            f"got {len(each)}"
        )
    names = {"logistic": "sigmoid"}
    return [
        activations.resolve(
            f"activation[{i}]", names.get(value, value) if isinstance(value, str) else value
        )
        for i, value in enumerate(each)
    ]


class Stack(NamedTuple):
    """The layers of a network, and the gain of each kernel's initial values, as scikit-learn's.

    It draws from U(-l, l) with l = sqrt(2 / (inputs + units)) in a logistic network,
    sqrt(6 / (inputs + units)) in any other. No gains where the user has brought the layers, which
    have initializers of their own.
    """

    layers: list[Layer]
    gains: list[float] | None


def stack_for(estimator: BaseMLP, head: Head) -> Stack:
    """Return the layers that an estimator's parameters ask for."""
    penalty = L2(float(estimator.alpha), per_batch=True) if estimator.alpha > 0 else None
    if estimator.layers is not None:
        out = Dense(head.n_outputs, activation=head.activation, kernel_regularizer=penalty)
        return Stack([*stack_of("layers", estimator.layers), out], None)
    widths = hidden_widths(estimator)
    hidden = _activations(estimator, len(widths))
    # The output layer goes by the last hidden one, or by what that would be.
    gains = [3**-0.5 if f.name == "sigmoid" else 1.0 for f in hidden]
    gains.append(gains[-1] if gains else 3**-0.5 if estimator.activation == "logistic" else 1.0)

    def dense(units: int, f: activations.BaseActivation, gain: float) -> Dense:
        initial = GlorotUniform(gain=gain)
        return Dense(
            units,
            activation=f,
            kernel_initializer=initial,
            bias_initializer=initial,
            kernel_regularizer=penalty,
        )

    layers: list[Layer] = []
    for units, f, gain in zip(widths, hidden, gains, strict=False):
        if estimator.normalization is None:
            layers.append(dense(units, f, gain))
        else:
            normalization = NORMALIZATIONS[estimator.normalization]()
            layers += [dense(units, activations.Identity(), gain), normalization, Activation(f)]
        if estimator.dropout > 0:
            layers.append(Dropout(float(estimator.dropout)))
    layers.append(dense(head.n_outputs, head.activation, gains[-1]))
    return Stack(layers, gains)


def structure_of(estimator: BaseMLP, n_inputs: int, head: Head) -> str:
    """Return what a network must have in common with the one that it goes on from, in words."""
    if estimator.layers is not None:
        plan = plan_layers(stack_for(estimator, head).layers, n_inputs)
        what = f"layers with parameters of shapes {[p.shape for p in plan.parameters]}"
    else:
        what = f"layer widths {[n_inputs, *hidden_widths(estimator), head.n_outputs]}"
        if estimator.normalization is not None:
            what += f", {estimator.normalization} normalization"
    return f"{what} and {head.out_activation} outputs"


def build_network(
    stack: Stack, n_inputs: int, dtype: np.dtype, rng: np.random.RandomState
) -> Sequential:
    """Return a network with its initial weights.

    Where scikit-learn has such a network, it draws the same weights from the same generator, which
    is then where scikit-learn leaves it.
    """
    draws = stack.gains is None or any(isinstance(layer, Dropout) for layer in stack.layers)
    network = Sequential(
        stack.layers,
        dtype=np.dtype(dtype).name,
        random_state=int(rng.randint(np.iinfo(np.int32).max)) if draws else 0,
    )
    if stack.gains is None:
        network.build(n_inputs)
        return network
    gains = iter(stack.gains)
    bound = 0.0

    def initial(parameter: Parameter) -> NDArray[Any] | None:
        nonlocal bound
        if parameter.name == "kernel":
            bound = np.sqrt((6.0 if next(gains) == 1 else 2.0) / sum(parameter.shape))
        elif parameter.name != "bias":
            return network._initial_values(parameter)
        return rng.uniform(-bound, bound, parameter.shape).astype(dtype, copy=False)

    network._build(n_inputs, initial)
    return network


def dense_places(network: Sequential) -> list[tuple[int, int]]:
    """Return where kernel and bias of each dense layer stand in `get_weights`."""
    names = network.parameter_names()
    numbers = {name: i for i, name in enumerate(names)}
    return [
        (i, numbers.get(f"{name.removesuffix('kernel')}bias", -1))
        for i, name in enumerate(names)
        if name.endswith(".kernel")
    ]


def optimizer_for(estimator: BaseMLP, n_steps: int) -> Optimizer:
    """Return the optimizer of a fit that takes at most so many steps."""
    solver: Any = estimator.solver
    if isinstance(solver, Optimizer):
        return solver
    if solver == "lbfgs":
        return LBFGS(tol=float(estimator.tol), max_evaluations=int(estimator.max_fun))
    rate = _rate(estimator, n_steps)
    kind: Any = OPTIMIZERS[solver]
    if kind is SGD:
        return SGD(
            learning_rate=rate,
            momentum=float(estimator.momentum),
            nesterov=bool(estimator.nesterovs_momentum and estimator.momentum > 0),
        )
    if kind in (Adam, AdamW, NAdam):
        betas = {"beta_1": float(estimator.beta_1), "beta_2": float(estimator.beta_2)}
        hat = {} if kind is NAdam else {"epsilon_hat": True}
        return kind(learning_rate=rate, epsilon=float(estimator.epsilon), **betas, **hat)
    return kind(learning_rate=rate)


def _rate(estimator: BaseMLP, n_steps: int) -> Any:
    """Return the learning rate, or the schedule, that an optimizer begins with."""
    given: Any = estimator.learning_rate
    if isinstance(given, Schedule):
        return given
    rate = float(estimator.learning_rate_init)
    return SCHEDULES[given](rate, n_steps) if given in SCHEDULES else rate
