"""Gradients against finite differences, for a network with functions of the user's own.

A derivative that is wrong by a sign or a factor does not stop a network from training: it trains
badly. `check_gradients` compares what the compiled core computes by backpropagation with what it
means: how much the loss changes when a number changes a little.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cymlp import _validate
from cymlp._differences import ArrayCheck, Derivative, Judge
from cymlp._lower import Parameter
from cymlp._network import MOST_ROWS_BACK
from cymlp._probe import changed, plain_rows, prepared
from cymlp.activations import Activation
from cymlp.data import Samples
from cymlp.inspection import short_name
from cymlp.layers import Activation as ActivationLayer
from cymlp.layers import Dense, Layer
from cymlp.losses import CustomLoss, Loss
from cymlp.model import Sequential

__all__ = ["ArrayCheck", "Derivative", "GradientCheck", "check_gradients"]

# A custom function is tried on so many rows of the values that occur.
_ROWS_OF_FUNCTIONS = 100
# And of inputs so many, whose derivatives are sorted.
_MOST_INPUTS = 1_000_000
_ROWS_SHOWN = 16


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradients` found; printed, a table and a sentence.

    Attributes
    ----------
    passed : bool
        Whether something was compared and nothing disagrees.
    max_error : float
        The largest relative error.
    n_checked : int
        Derivatives that were compared.
    n_kinks : int
        Further ones that could not be: the point lies on a kink of the loss, as it does where a
        ReLU's weighted sum is 0, or so near to one that no step is short enough; or the loss is
        noisy, as that of functions is which compute in float32.
    worst : tuple of Derivative
        The worst one of each array, the largest error first.
    arrays : tuple of ArrayCheck
        Of parameters, from the first layer to the last, then of the inputs, then of functions of
        the user's own.
    verdict : str
        What it comes to and, where something is wrong, what most likely is.
    """

    passed: bool
    max_error: float
    n_checked: int
    n_kinks: int
    worst: tuple[Derivative, ...]
    arrays: tuple[ArrayCheck, ...]
    verdict: str

    def __str__(self) -> str:
        """Return a table of the arrays, those that disagree with a star, and the verdict."""
        shown = [array for array in self.arrays if array.worst is not None]
        n_left_out = max(len(shown) - _ROWS_SHOWN, 0)
        if n_left_out:
            named = {record.where for record in self.worst[:_ROWS_SHOWN]}
            shown = [array for array in shown if array.where in named]
        rows = [("array", "checked", "kinks", "worst at", "derivative", "difference", "error")]
        for array in shown:
            record = array.worst
            assert record is not None
            rows.append(
                (
                    array.where + ("" if array.passed else " *"),
                    str(array.n_checked),
                    str(array.n_kinks),
                    "direction" if record.index is None else str(list(record.index)),
                    f"{record.value:.6g}",
                    f"{record.difference:.6g}",
                    f"{record.error:.1e}",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        if n_left_out:
            lines.append(f"... and {n_left_out} more, with smaller errors")
        return "\n".join([*lines, "", textwrap.fill(self.verdict, 79)])


def check_gradients(
    net: Sequential,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    n_checked: int = 100,
    epsilon: float = 1e-4,
    rtol: float = 1e-5,
    random_state: Any = 0,
) -> GradientCheck:
    """Compare the gradients of a network with finite differences of its loss.

    All is done in float64, on a copy: the network stays as it is. Layers do what they do in
    prediction, and the loss is that of `Sequential.evaluate`, with penalties. Custom activations
    and losses are also compared with their own derivatives directly, at the values that occur.

    Parameters
    ----------
    net : Sequential
        Compiled. If it is not built, what is checked is a network as `build` would make it.
    X : array-like of shape (samples, n_inputs)
        Some dozens of samples are enough: the loss of all of them is computed some hundred times
        for each array.
    y : array-like of shape (samples,) or (samples, n_outputs)
    sample_weight : array-like of shape (samples,), optional
    n_checked : int, default=100
        Of an array with more elements than that, so many are checked: a tenth of them those with
        the largest derivatives, the others at random. A random direction through all of its
        elements comes on top.
    epsilon : float, default=1e-4
        The step, as a part of the number that it moves, or of 1 if that is larger. Where the
        differences of a step and of half of it do not fit together, a tenth of it is tried and
        then a hundredth.
    rtol : float, default=1e-5
        The largest relative error that agrees.
    random_state : None, int, numpy.random.Generator or RandomState, default=0
        Seed of what is drawn.

    Returns
    -------
    GradientCheck

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be, before `compile`, if `X` has more than 50 million
        elements, zeros of sparse ones among them, or if the loss of these samples is not finite.

    Notes
    -----
    With D(h) = (L(w + h) - L(w - h)) / 2h the difference is (4 D(h/2) - D(h)) / 3, whose error is
    of the order h^4 (Richardson). Second differences of a smooth loss, over h, halve with h; how
    far they do not tells kinks. A derivative disagrees if its relative error is above `rtol` while
    what the two steps leave in doubt is far smaller than the disagreement.

    A built-in loss that clips means and probabilities, as `cymlp.losses` describes, has a
    derivative there that leads back, not that of its constant value. It disagrees, and the verdict
    says why.

    References
    ----------
    W. H. Press et al., "Numerical recipes", 3rd edition, 2007, section 5.7.

    Examples
    --------
    A derivative of swish without its second term:

    >>> import numpy as np
    >>> from cymlp import Sequential, check_gradients
    >>> from cymlp.activations import Activation
    >>> from cymlp.layers import Dense
    >>> def swishy(z):
    ...     return z / (1 + np.exp(-z))
    >>> def slope(z):
    ...     return 1 / (1 + np.exp(-z))
    >>> net = Sequential(
    ...     [Dense(4, "tanh"), Dense(3, Activation(swishy, slope, name="swishy")), Dense(1)],
    ...     random_state=0,
    ... )
    >>> net.compile(loss="squared_error")
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    >>> check = check_gradients(net, X, y)
    >>> check.passed
    False
    >>> print(check)
    array                   checked  kinks  worst at   derivative   difference    error
    layers[0].kernel *            9      0    [1, 1]   0.00289407   0.00155151  4.6e-01
    layers[0].bias *              5      0       [3]  -0.00789913   0.00149287  1.2e+00
    layers[1].kernel *           13      0    [0, 2]   0.00444039  -0.00175357  1.4e+00
    layers[1].bias *              4      0       [0]   -0.0608367   -0.0441302  2.7e-01
    layers[2].kernel              4      0    [1, 0]   0.00152547   0.00152547  ...e-09
    layers[2].bias                2      0       [0]    -0.206224    -0.206224  ...e-12
    inputs *                     40      0    [4, 0]    0.0389017    0.0127307  6.7e-01
    layers[1].activation *       60      0    [4, 0]     0.334386     0.181164  4.6e-01
    <BLANKLINE>
    All arrays at and below layers[1] disagree with finite differences, those above
    agree. The derivative of the activation 'swishy' of layers[1] is wrong: at z =
    -0.6884 it is 0.3344, the finite difference 0.1812.
    """
    twin, samples = prepared("check_gradients", net, X, y, sample_weight)
    n_checked = _validate.integer("n_checked", n_checked, low=1)
    epsilon = _validate.real("epsilon", epsilon, low=0, high=0.1, closed="neither")
    rtol = _validate.real("rtol", rtol, low=0, high=1, closed="neither")
    rng = np.random.default_rng(_validate.seed("random_state", random_state))
    samples = plain_rows(samples, np.arange(len(samples)), twin, np.float64)
    assert twin.loss is not None
    double = _in_double(twin, twin.layers, twin.loss)
    loss = double._evaluate(samples, 0)["loss"]
    if not math.isfinite(loss):
        raise ValueError(f"the loss of X and y must be finite to be differentiated, got {loss}")
    judge = Judge(epsilon, rtol)
    arrays = _by_parameters(double, samples, judge, n_checked, rng)
    arrays.append(_by_inputs(double, samples, judge, n_checked, rng))
    own, culprits = _own_functions(double, samples, judge, n_checked, rng)
    return _summed_up(double, samples, arrays, own, culprits)


def _in_double(net: Sequential, layers: Sequence[Layer], loss: Loss) -> Sequential:
    """Return a network in float64 with the parameters of another one."""
    double = Sequential(
        layers, n_inputs=net.n_inputs, dtype="float64", random_state=0, input_scale=net.input_scale
    )
    double.compile(optimizer="sgd", loss=loss)
    double.set_weights(net.get_weights())
    return double


# What is differentiated


def _picked(gradient: np.ndarray, n: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Return the places of at most n elements: a tenth of them the largest, others at random."""
    order = np.argsort(-np.abs(gradient), axis=None, kind="stable")
    if order.size > n:
        n_largest = -(-n // 10)
        others = rng.choice(order[n_largest:], n - n_largest, replace=False)
        order = np.concatenate([order[:n_largest], others])
    return [tuple(map(int, np.unravel_index(i, gradient.shape))) for i in np.sort(order)]


def _by_parameters(
    double: Sequential, samples: Samples, judge: Judge, n_checked: int, rng: np.random.Generator
) -> list[ArrayCheck]:
    """Check the derivatives of the loss by each array of parameters."""
    _, gradients = double._network.gradients(double._describe(samples), False, 0)
    checks = []
    for parameter in double._parameters("check_gradients"):
        if parameter.is_trained:
            gradient = gradients[parameter.op, parameter.name]
            checks.append(_by_array(double, samples, judge, parameter, gradient, n_checked, rng))
    return checks


def _by_array(
    double: Sequential,
    samples: Samples,
    judge: Judge,
    parameter: Parameter,
    gradient: np.ndarray,
    n_checked: int,
    rng: np.random.Generator,
) -> ArrayCheck:
    """Check the derivatives by elements of an array, and the one along a random direction."""
    name = (parameter.op, parameter.name)
    array = double._network.get(*name)
    moved = array.copy()

    def loss_at(step: float, place: Any = ..., direction: Any = 1.0) -> float:
        moved[place] = array[place] + step * direction
        double._network.set(*name, moved)
        return double._evaluate(samples, 0)["loss"]

    places: list[Any] = [*_picked(gradient, n_checked, rng)]
    judged = []
    for place in places:
        judged.append(judge(partial(loss_at, place=place), gradient[place], array[place]))
        loss_at(0.0, place)
    # Through all elements, of length 1: none of them moves far.
    direction = rng.choice([-1.0, 1.0], array.shape) / math.sqrt(array.size)
    judged.append(judge(partial(loss_at, direction=direction), (gradient * direction).sum()))
    loss_at(0.0)
    return judge.summed_up(parameter.path, judged, [*places, None])


def _by_inputs(
    double: Sequential, samples: Samples, judge: Judge, n_checked: int, rng: np.random.Generator
) -> ArrayCheck:
    """Check the derivatives of samples' own losses by their inputs."""
    n_rows = min(len(samples), MOST_ROWS_BACK, max(_MOST_INPUTS // samples.n_inputs, 1))
    samples = replace(samples.rows(0, n_rows), weight=None)
    gradient = double._network.input_gradients(double._describe(samples), False, 0)
    x = np.asarray(samples.x)
    places = _picked(gradient, n_checked, rng)
    judged = []
    for row, column in places:
        one = samples.rows(row, row + 1)

        def loss_at(step: float, one: Samples = one, column: int = column) -> float:
            moved = np.array(one.x)
            moved[0, column] += step
            return double._evaluate(replace(one, x=moved), 1)["loss"]

        judged.append(judge(loss_at, gradient[row, column], x[row, column]))
    return judge.summed_up("inputs", judged, places)


def _own_functions(
    double: Sequential, samples: Samples, judge: Judge, n_checked: int, rng: np.random.Generator
) -> tuple[list[ArrayCheck], list[str]]:
    """Check functions of the user's own at the values they get; name what is wrong with them."""
    seen: dict[str, tuple[Activation, list[np.ndarray]]] = {}
    samples = samples.rows(0, min(len(samples), _ROWS_OF_FUNCTIONS))

    def listening(where: str, layer: Layer) -> Layer:
        if not isinstance(layer, (Dense, ActivationLayer)):
            return layer
        activation = layer.activation
        if not isinstance(activation, Activation):
            return layer
        rows: list[np.ndarray] = []
        seen[where] = activation, rows

        def forward(z: np.ndarray) -> Any:
            rows.append(z.copy())
            return activation.forward(z)

        return replace(layer, activation=replace(activation, forward=forward))

    assert double.loss is not None
    listener = _in_double(double, changed(double.layers, listening), double.loss)
    outputs = listener._outputs(samples.x, 1)
    checks, culprits = [], []
    for where, (activation, rows) in seen.items():
        z = np.concatenate(rows)

        def shifted(step: np.ndarray, f: Any = activation.forward, z: np.ndarray = z) -> Any:
            return f(z + step)

        judged = judge(shifted, activation.derivative(z.copy()), z)
        path = f"{where}.activation"
        check = judge.summed_up(path, [judged], list(np.ndindex(z.shape)))
        checks.append(check)
        if not check.passed and check.worst is not None:
            culprits.append(
                f"The derivative of the activation {activation.name!r} of {where} is wrong: at z = "
                f"{z[check.worst.index]:.4g} {_compared(check.worst)}."
            )
    if isinstance(double.loss, CustomLoss):
        check = _own_loss(double.loss, samples, outputs, judge, n_checked, rng)
        checks.append(check)
        if not check.passed and check.worst is not None:
            assert check.worst.index is not None
            culprits.append(
                f"The derivatives that the loss function returns are wrong: of sample "
                f"{check.worst.index[0]} by output {check.worst.index[1]}, which is "
                f"{outputs[check.worst.index]:.4g}, {_compared(check.worst)}."
            )
    return checks, culprits


def _own_loss(
    loss: CustomLoss,
    samples: Samples,
    outputs: np.ndarray,
    judge: Judge,
    n_checked: int,
    rng: np.random.Generator,
) -> ArrayCheck:
    """Check a loss function's derivatives by the outputs."""
    targets = samples.values if samples.labels is None else samples.labels
    assert targets is not None

    def call(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, slopes = loss.function(targets.copy(), y)
        return np.asarray(values, np.float64), np.asarray(slopes, np.float64)

    slopes = call(outputs.copy())[1]
    n_outputs = outputs.shape[1]
    columns = np.sort(rng.permutation(n_outputs)[:n_checked])
    judged, places = [], []
    for column in columns:

        def loss_at(step: np.ndarray, column: int = column) -> np.ndarray:
            y = outputs.copy()
            y[:, column] += step
            return call(y)[0]

        judged.append(judge(loss_at, slopes[:, column], outputs[:, column]))
        places += [(row, int(column)) for row in range(len(outputs))]
    return judge.summed_up("loss", judged, places)


def _compared(record: Derivative) -> str:
    return f"it is {record.value:.4g}, the finite difference {record.difference:.4g}"


# The verdict


def _summed_up(
    double: Sequential,
    samples: Samples,
    arrays: list[ArrayCheck],
    own: list[ArrayCheck],
    culprits: list[str],
) -> GradientCheck:
    every = [*arrays, *own]
    n_compared = sum(array.n_checked for array in every)
    n_kinks = sum(array.n_kinks for array in every)
    worst = sorted(
        (array.worst for array in every if array.worst is not None),
        key=lambda record: record.error,
        reverse=True,
    )
    max_error = worst[0].error if worst else math.nan
    failed = [array.where for array in arrays if not array.passed]
    if n_compared == 0:
        verdict = "Nothing could be compared: wherever it was tried, there are kinks or noise."
    elif not failed and not culprits:
        verdict = (
            f"All {n_compared:,} derivatives agree with finite differences (largest relative error "
            f"{max_error:.1e})."
        )
        if n_kinks:
            verdict += f" {n_kinks:,} more lie on kinks, where there is nothing to compare with."
    else:
        culprits = culprits or [_suspect(double, samples, arrays)]
        verdict = " ".join([_whereabouts(arrays), *culprits])
    return GradientCheck(
        passed=n_compared > 0 and not failed and not culprits,
        max_error=max_error,
        n_checked=n_compared,
        n_kinks=n_kinks,
        worst=tuple(worst),
        arrays=tuple(every),
        verdict=verdict,
    )


def _layer_of(where: str) -> int:
    """Return the number of the layer of the network that an array belongs to; inputs: -1."""
    match = re.match(r"layers\[(\d+)\]", where)
    return int(match[1]) if match else -1


def _whereabouts(arrays: list[ArrayCheck]) -> str:
    """Say which arrays disagree."""
    failed = [array.where for array in arrays if not array.passed]
    if not failed:
        return (
            "The derivatives of the loss agree with finite differences, but not all that they use."
        )
    if len(failed) == len(arrays):
        return "All arrays disagree with finite differences."
    top = max(map(_layer_of, failed))
    at_or_below = [array for array in arrays if _layer_of(array.where) <= top]
    if len(failed) == len(at_or_below) and top >= 0:
        return (
            f"All arrays at and below layers[{top}] disagree with finite differences, those above "
            "agree."
        )
    verb = "disagrees" if len(failed) == 1 else "disagree"
    return f"{', '.join(failed)} {verb} with finite differences."


def _suspect(double: Sequential, samples: Samples, arrays: list[ArrayCheck]) -> str:
    """Say what most likely is wrong where no function of the user's own is."""
    assert double.loss is not None
    top = max(_layer_of(array.where) for array in arrays if not array.passed)
    if top == max(_layer_of(array.where) for array in arrays):
        outputs, eps = double._outputs(samples.x, 0), np.finfo(np.float64).eps
        is_clipped = (outputs < eps) | ((outputs > 1 - eps) & (double.loss.expects == "sigmoid"))
        if double.loss.expects != "identity" and is_clipped.any():
            return (
                f"The loss {double.loss.name} has no use for outputs such as "
                f"{outputs[is_clipped][0]:.4g}; it clips them, and its derivatives lead back on "
                f"purpose: end the network with {double.loss.expects}."
            )
        return (
            f"Most likely the derivative of the loss {double.loss.name} or of the output layer is "
            "wrong."
        )
    if top < 0:
        return "Most likely what the first layer hands down to the inputs is wrong."
    return (
        f"Most likely the derivative of layers[{top}] ({short_name(double.layers[top])}) is wrong."
    )
