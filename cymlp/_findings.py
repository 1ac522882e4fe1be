"""What the numbers of a training that fails mean, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cymlp._lower import plan_layers
from cymlp._measures import LayerStatistics, Trial, is_saturated, layer_of
from cymlp.activations import ELU, BaseActivation, LeakyReLU
from cymlp.activations import Activation as OwnActivation
from cymlp.data import Samples
from cymlp.layers import BatchNormalization, LayerNormalization
from cymlp.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    CrossEntropy,
    CustomLoss,
    Huber,
    LogCosh,
    Loss,
    Quantile,
    SquaredError,
)
from cymlp.model import Sequential
from cymlp.optimizers import LBFGS, Rprop

__all__ = ["Finding", "findings"]

# Initializers expect inputs of variance 1 (Glorot & Bengio 2010, section 4.2; LeCun et al.,
# "Efficient backprop", 1998, section 4.3). Ten times that saturates a tanh, and takes a learning
# rate a hundred times smaller.
_LARGE_INPUT = 10.0
# A column this far from its own spread is one more bias, with a gradient that drowns the others.
_OFF_CENTRE = 10.0
# What a column of a thousandth of another one's range says is not heard for long.
_SMALL_RANGE = 1e-3
# A constant this small does not matter: a scaler makes one of 0 where one sample in 100 has another
# value, and of the samples that are looked at none may have it.
_NOTHING = 0.1
# The first outputs are of size 1. To targets of 100 the weights have far to go.
_LARGE_TARGET = 100.0
# A classifier that always says the same is right this often.
_IMBALANCED = 0.9

# Of ReLU's units some are dead in networks that learn well, most of all on sparse inputs.
_SOME_DEAD, _MANY_DEAD = 0.25, 0.5
# Glorot & Bengio 2010, section 3: a saturated layer hands back next to nothing.
_SATURATED = 0.5
# So many samples that cannot be learnt any more are no outliers.
_STUCK = 0.1
# A factor of 0.25 per sigmoid, its largest slope, makes 1e-3 in five layers.
_VANISHING = 1e-3
# About 1e-3 is right (A. Karpathy, notes of Stanford's CS231n, "Neural networks part 3"). A step
# of a tenth of the weights forgets what they were. One of 1e-6 is ten roundings of float32; a layer
# with such steps stands still where another one's are a hundred times as large.
_LARGE_UPDATE, _SMALL_UPDATE, _ORDINARY_UPDATE = 0.1, 1e-6, 1e-4

# Of the loss before: less of a fall than this is none; a loss that is far off falls; with so much
# of a fall another learning rate is better.
_PROGRESS, _FALLING, _CLEAR_PROGRESS = 0.01, 0.1, 0.05
# A loss this many times as large as it was has not merely wavered.
_GROWN = 2.0
# A loss within a hundredth of that of the best constant outputs, or above, is no better than it.
_AT_CHANCE = 0.99

# What a learning rate is multiplied with where there is no progress.
_OTHER_RATES = (0.1, 10.0, 100.0, 1e4)

# What outputs lie between. ReLU reaches its 0, the others their bounds or as near as makes none.
_RANGES = {
    "relu": (0.0, math.inf),
    "softplus": (0.0, math.inf),
    "exponential": (0.0, math.inf),
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "selu": (-1.7581, math.inf),
    "gelu": (-0.17, math.inf),
    "gelu_tanh": (-0.1701, math.inf),
    "silu": (-0.2785, math.inf),
    "mish": (-0.3089, math.inf),
}
# What losses take, by the activation that goes with them.
_TAKES = {"softmax": (0.0, 1.0), "sigmoid": (0.0, 1.0), "exponential": (0.0, math.inf)}
_OF_NUMBERS = (AbsoluteError, Huber, LogCosh, Quantile, SquaredError)


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


def _problem(kind: str, where: str, message: str, advice: str, **numbers: Any) -> Finding:
    numbers = {name: float(value) for name, value in numbers.items()}
    return Finding(kind, "problem", where, numbers, message, advice)


def _warning(kind: str, where: str, message: str, advice: str, **numbers: Any) -> Finding:
    numbers = {name: float(value) for name, value in numbers.items()}
    return Finding(kind, "warning", where, numbers, message, advice)


def findings(
    net: Sequential,
    probe: Samples,
    run: Trial,
    layers: list[LayerStatistics],
    retry: Callable[[float], Trial],
) -> list[Finding]:
    """Return what is wrong, problems first.

    Parameters
    ----------
    net : Sequential
        As it was before the trial.
    probe : Samples
        What is looked at.
    run : Trial
        Of some batches.
    layers : list of LayerStatistics
        After the trial or, where the loss diverged, before.
    retry : callable(learning_rate) -> Trial
        Repeats it.

    Returns
    -------
    list of Finding
    """
    found = [
        *_of_inputs(net, probe),
        *_of_targets(net, probe),
        *_of_outputs(net, run.net if run.is_finite else net, probe),
        *_of_identical_units(net),
        *_of_layers(layers),
        *_of_deltas(layers),
        *_of_training(net, probe, run, retry),
    ]
    return sorted(found, key=lambda finding: finding.severity != "problem")  # stable


# The data


def _of_inputs(net: Sequential, probe: Samples) -> Iterator[Finding]:
    raw = np.asarray(probe.x, np.float64)
    x = raw * net.input_scale
    mean, std, spread = x.mean(axis=0), x.std(axis=0), np.ptp(x, axis=0)
    size, varies = np.sqrt(mean**2 + std**2), spread > 0
    advice = (
        "Scale X: fit a StandardScaler on the training samples, or subtract each column's mean and "
        "divide by its standard deviation."
    )
    if raw.min() >= 0 and raw.max() <= 255 and (raw == np.round(raw)).all():
        advice = (
            "X looks like pixels of 0 to 255: Sequential(..., input_scale=1 / 255) takes them as "
            "numbers from 0 to 1, without a copy."
        )
    large = size > _LARGE_INPUT
    off_centre = varies & (size > 1) & (np.abs(mean) > _OFF_CENTRE * std)
    small = varies & (spread < _SMALL_RANGE * max(spread.max(), 1.0))
    if isinstance(net.layers[0], BatchNormalization | LayerNormalization):
        large = off_centre = small = np.zeros_like(varies)  # brought to scale there
    if large.any():
        worst = int(np.argmax(size))
        yield _problem(
            "unscaled_inputs",
            "X",
            f"{large.sum()} of {x.shape[1]} inputs are far from mean 0 and standard deviation 1: "
            f"column {worst} has mean {mean[worst]:.3g} and standard deviation {std[worst]:.3g}.",
            advice,
            n_columns=large.sum(),
            mean=mean[worst],
            std=std[worst],
        )
    elif off_centre.any():
        worst = int(np.argmax(np.where(off_centre, size, 0)))
        yield _warning(
            "unscaled_inputs",
            "X",
            f"{off_centre.sum()} of {x.shape[1]} inputs hardly vary around a mean far from 0: "
            f"column {worst} has mean {mean[worst]:.3g} and standard deviation {std[worst]:.3g}.",
            advice,
            n_columns=off_centre.sum(),
            mean=mean[worst],
            std=std[worst],
        )
    elif small.any():
        worst = int(np.argmin(np.where(small, spread, np.inf)))
        yield _warning(
            "unscaled_inputs",
            "X",
            f"{small.sum()} of {x.shape[1]} inputs are too small to be heard: column {worst} has a "
            f"range of {spread[worst]:.3g}, the widest one of {spread.max():.3g}.",
            advice,
            n_columns=small.sum(),
            range=spread[worst],
            largest_range=spread.max(),
        )
    (constant,) = np.nonzero(
        ~varies & (size > _NOTHING)
    )  # 0, as pixels at the border, does no harm
    if len(constant):
        some = ", ".join(map(str, constant[:3])) + (", ..." if len(constant) > 3 else "")
        yield (_warning if varies.any() else _problem)(
            "constant_inputs",
            "X",
            f"{len(constant)} of {x.shape[1]} inputs (columns {some}) have the same value in all "
            f"{len(x):,} samples that were looked at.",
            "Leave out columns that say nothing; layers have a bias already.",
            n_columns=len(constant),
        )


def _output_activation(net: Sequential) -> BaseActivation:
    assert net.n_inputs is not None
    return plan_layers(net.layers, net.n_inputs).output_activation


def _range_of(activation: BaseActivation) -> tuple[float, float]:
    """Return what an activation's values lie between; of a user's own, anything."""
    if isinstance(activation, ELU):
        return -activation.alpha, math.inf
    if isinstance(activation, LeakyReLU) and activation.alpha == 0:
        return 0.0, math.inf
    return _RANGES.get(activation.name, (-math.inf, math.inf))


def _of_targets(net: Sequential, probe: Samples) -> Iterator[Finding]:
    targets = probe.labels if probe.values is None else probe.values
    assert targets is not None and net.loss is not None
    activation = _output_activation(net)
    yield from _of_fit(net, net.loss, activation)
    if (targets == targets[0]).all():
        yield _problem(
            "constant_target",
            "y",
            f"All {len(targets):,} targets that were looked at are the same: there is nothing to "
            "learn.",
            "Look at how y is made, and whether samples that are sorted by it were cut off.",
            value=np.ravel(targets)[0],
        )
        return
    shares = _class_shares(targets, probe.labels is not None, net.loss)
    if shares is not None and shares.max() > _IMBALANCED:
        common = int(shares.argmax())
        yield _warning(
            "class_imbalance",
            "y",
            f"Class {common} has {shares.max():.1%} of the samples: always to say {common} is "
            "right that often.",
            'Try fit(class_weight="balanced"), and judge by a metric such as "f1" or "roc_auc", '
            "not by accuracy.",
            share=shares.max(),
            label=common,
        )
    if not isinstance(net.loss, _OF_NUMBERS):
        return  # other losses refuse what they cannot take
    low, high = _range_of(activation)
    outside = (targets < low) | (targets > high)
    if outside.any():
        yield _problem(
            "target_out_of_range",
            "y",
            f"{outside.mean():.0%} of the targets are out of reach: they run from "
            f"{targets.min():.4g} to {targets.max():.4g}, outputs of {activation.name} from "
            f"{low:g} to {high:g}.",
            "End the network with a layer that has no activation, or bring the targets into that "
            "range.",
            share=outside.mean(),
            min=targets.min(),
            max=targets.max(),
        )
    elif np.sqrt(np.square(targets, dtype=np.float64).mean()) > _LARGE_TARGET:
        yield _warning(
            "unscaled_target",
            "y",
            f"The targets have mean {targets.mean():.4g} and standard deviation "
            f"{targets.std():.4g}; a new network's outputs are of size 1.",
            "Train on (y - mean) / standard deviation and bring predictions back.",
            mean=targets.mean(),
            std=targets.std(),
        )


def _of_fit(net: Sequential, loss: Loss, activation: BaseActivation) -> Iterator[Finding]:
    """Look at whether the output activation goes with the loss."""
    where = f"layers[{len(net.layers) - 1}]"
    low, high = _range_of(activation)
    least, most = _TAKES.get(loss.expects, (-math.inf, math.inf))
    if not isinstance(activation, OwnActivation) and (low < least or high > most):
        yield _problem(
            "unfit_output",
            where,
            f"The loss {loss.name} takes outputs from {least:g} to {most:g}; those of "
            f"{activation.name} run from {low:g} to {high:g}.",
            f"End the network with {loss.expects}.",
            low=low,
            high=high,
        )
    if activation.name == "softmax" and net.n_outputs == 1:
        yield _problem(
            "unfit_output",
            where,
            "Softmax of a single unit is always 1.",
            "Two units with softmax and cross_entropy, or one with sigmoid and "
            "binary_cross_entropy.",
            n_outputs=1,
        )


def _class_shares(targets: np.ndarray, are_labels: bool, loss: Loss) -> np.ndarray | None:
    """Return the share of each class; None where there are none."""
    if are_labels:
        return np.bincount(targets) / len(targets)
    if isinstance(loss, CustomLoss) or not np.isin(targets, (-1, 0, 1)).all():
        return None
    positive = targets > 0
    if targets.shape[1] == 1:
        return np.array([1 - positive.mean(), positive.mean()])
    return positive.mean(axis=0) if (positive.sum(axis=1) == 1).all() else None


# The layers


def _of_outputs(before: Sequential, after: Sequential, probe: Samples) -> Iterator[Finding]:
    """Look for outputs at the wrong flat end of an activation that does not go with the loss."""
    loss, activation = before.loss, _output_activation(before)
    if probe.values is None or not isinstance(loss, _OF_NUMBERS):
        return  # losses that go with it have deltas of y - t, however flat it is
    outputs = after.predict(probe.x)
    is_wrong = is_saturated(activation.name, outputs) & (np.abs(outputs - probe.values) > 0.5)
    share = is_wrong.any(axis=1).mean()
    if share > _STUCK:
        goes_with = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy"}
        advice = "Smaller initial weights, a lower learning rate, or no activation at the end."
        if activation.name in goes_with:
            advice = (
                f"For classes the loss {goes_with[activation.name]}, whose derivative does not "
                "vanish there; else smaller initial weights or a lower learning rate."
            )
        yield _problem(
            "saturated",
            f"layers[{len(before.layers) - 1}]",
            f"{share:.0%} of the samples have an output at a flat end of {activation.name}, and "
            f"the wrong one: {loss.name} gets next to no derivative through it.",
            advice,
            share=share,
        )


def _of_identical_units(net: Sequential) -> Iterator[Finding]:
    """Look for kernels whose columns are all the same."""
    for path, kernel in zip(net.parameter_names(), net.get_weights(), strict=True):
        n_units = kernel.shape[-1]
        if kernel.ndim != 2 or n_units == 1 or layer_of(path) == f"layers[{len(net.layers) - 1}]":
            continue
        if (kernel == kernel[:, :1]).all():
            yield _problem(
                "identical_units",
                path.rpartition(".")[0],
                f"All {n_units} units begin with the same weights: they get the same derivatives "
                "and stay the same, as one unit would.",
                "An initializer that draws them, such as glorot_uniform.",
                n_units=n_units,
            )


def _of_layers(layers: list[LayerStatistics]) -> Iterator[Finding]:
    fastest = max((layer.update for layer in layers if layer.update is not None), default=0.0)
    for layer in layers:
        dead = layer.n_dead / layer.n_units
        if layer.activation == "relu" and dead > _SOME_DEAD:
            yield (_problem if dead > _MANY_DEAD else _warning)(
                "dead_relu",
                layer.where,
                f"{layer.n_dead} of {layer.n_units} units ({dead:.0%}) are 0 for every sample that "
                "was looked at: nothing passes back through them, so they stay that way.",
                "A lower learning rate, scaled inputs, he_uniform initial weights and biases of 0; "
                "or leaky_relu, elu or gelu, which have a slope below 0 too.",
                n_dead=layer.n_dead,
                n_units=layer.n_units,
            )
        if layer is not layers[-1] and layer.saturated > _SATURATED:
            yield _problem(
                "saturated",
                layer.where,
                f"{layer.saturated:.0%} of the outputs are at the flat ends of {layer.activation}, "
                "where its slope is below 1% of its largest: next to nothing passes back.",
                "Scale the inputs; smaller initial weights (glorot_uniform), a lower learning "
                "rate, batch normalization ahead of the activation, or relu.",
                share=layer.saturated,
            )
        if layer.update is not None and layer.update > _LARGE_UPDATE:
            yield _warning(
                "large_updates",
                layer.where,
                f"A step changes the weights by {layer.update:.0%} of their size; about 0.1% is "
                "healthy.",
                "A lower learning rate.",
                ratio=layer.update,
            )
        if layer.update and layer.update < _SMALL_UPDATE and fastest > _ORDINARY_UPDATE:
            yield _warning(
                "small_updates",
                layer.where,
                f"A step changes the weights by {layer.update:.1e} of their size, those of another "
                f"layer by {fastest:.1e}: this one stands still.",
                "See to deltas that vanish and to learning_rate_multiplier; adam makes steps that "
                "do not depend on the size of gradients.",
                ratio=layer.update,
                largest=fastest,
            )


def _of_deltas(layers: list[LayerStatistics]) -> Iterator[Finding]:
    """Look at how deltas go on their way back through all layers."""
    first, last = layers[0], layers[-1]
    if last.delta == 0 or any(layer.n_dead == layer.n_units for layer in layers):
        return
    ratio = first.delta / last.delta
    change = (
        f"on their way back, from {last.delta:.1e} at {last.where} to {first.delta:.1e} at "
        f"{first.where}, by a factor of {ratio:.1e}"
    )
    numbers = {"first": first.delta, "last": last.delta, "ratio": ratio}
    if ratio < _VANISHING:
        yield _problem(
            "vanishing_deltas",
            first.where,
            f"Deltas shrink {change}: the first layers hardly learn.",
            "Fewer layers; relu with he_uniform or selu with lecun_normal in the place of sigmoid "
            "and tanh; batch or layer normalization; Residual layers.",
            **numbers,
        )
    elif ratio > 1 / _VANISHING:
        yield _problem(
            "exploding_deltas",
            first.where,
            f"Deltas grow {change}: the first layers are thrown about.",
            "Smaller initial weights (glorot_uniform, he_uniform), batch or layer normalization, "
            "or clip_norm=1 of the optimizer.",
            **numbers,
        )


# Training


def _chance(net: Sequential, probe: Samples) -> float | None:
    """Return the loss of the best constant outputs; None where it is not known."""
    loss, rows = net.loss, probe.values
    if not isinstance(loss, SquaredError) and loss not in (CrossEntropy(), BinaryCrossEntropy()):
        return None  # of other losses, or other settings, it is not worked out here
    if rows is None:
        rows = np.eye(net.n_outputs)[probe.labels]
    mean = np.average(rows.astype(np.float64), axis=0, weights=probe.weight)
    if isinstance(loss, SquaredError):
        squares = np.square(rows - mean).sum(axis=1)
        return float(np.average(squares, weights=probe.weight) / 2)
    other = 0.0 if isinstance(loss, CrossEntropy) else float(_entropy(1 - mean))
    return float(_entropy(mean)) + other


def _entropy(p: np.ndarray) -> np.floating:
    return -(p * np.log(np.where(p > 0, p, 1))).sum()


def _of_training(
    net: Sequential, probe: Samples, run: Trial, retry: Callable[[float], Trial]
) -> Iterator[Finding]:
    """Look at how the loss went, and at how it goes with other learning rates."""
    numbers = {"before": run.before, "after": run.after, "n_steps": run.n_steps}
    if not math.isfinite(run.before):
        yield _problem(
            "diverging",
            "layers",
            f"The loss is {run.before} before the first step.",
            "Scale the inputs and look at the weights; no learning rate makes that good.",
            **numbers,
        )
        return
    chance = _chance(net, probe)
    rate = getattr(net.optimizer, "learning_rate", None)
    if isinstance(net.optimizer, LBFGS | Rprop) or not isinstance(rate, int | float):
        rate = None  # there is none, or no single number to try others in the place of
    if not run.is_finite or run.after > _GROWN * max(run.before, chance or 0.0):
        yield _of_divergence(run, rate, retry, numbers)
    elif _is_stuck(run, chance):
        yield _of_no_progress(run, rate, chance, retry, numbers)


def _is_stuck(run: Trial, chance: float | None) -> bool:
    """Whether a loss stays where it was, or where that of constant outputs is."""
    if chance is None:
        return not run.fell(_PROGRESS)
    if run.after < _AT_CHANCE * chance:
        return False
    return run.after < chance / _AT_CHANCE or not run.fell(_FALLING)


def _of_divergence(
    run: Trial, rate: float | None, retry: Callable[[float], Trial], numbers: dict[str, Any]
) -> Finding:
    advice = (
        "A learning rate lower by factors of 10; scaled inputs and targets; clip_norm=1 of the "
        "optimizer."
    )
    if rate is not None:
        numbers |= {"learning_rate": rate}
    for factor in (0.1, 0.01) if rate is not None else ():
        assert rate is not None
        other = retry(rate * factor)
        if other.fell(_PROGRESS):
            advice = (
                f"A lower learning rate: with {rate * factor:g} in the place of {rate:g} the same "
                f"steps bring the loss to {other.after:.4g}."
            )
            numbers |= {"after_lower": other.after}
            break
    what = f"is {run.after:.4g}" if run.is_finite else "is not finite"
    return _problem(
        "diverging",
        "optimizer",
        f"The loss was {run.before:.4g} and {what} after {run.n_steps} steps.",
        advice,
        **numbers,
    )


def _of_no_progress(
    run: Trial,
    rate: float | None,
    chance: float | None,
    retry: Callable[[float], Trial],
    numbers: dict[str, Any],
) -> Finding:
    message = f"The loss was {run.before:.4g} and is {run.after:.4g} after {run.n_steps} steps"
    if chance is not None:
        message += f"; the best constant outputs have {chance:.4g}"
        numbers |= {"chance": chance}
    if rate is not None:
        tried = [(retry(rate * factor), factor) for factor in _OTHER_RATES]
        best, factor = min(tried, key=lambda one: one[0].after)
        if best.fell(_CLEAR_PROGRESS) and best.after < (1 - _CLEAR_PROGRESS) * run.after:
            word = "large" if factor < 1 else "small"
            update = max(run.updates.values(), default=0.0)
            message += f". The learning rate of {rate:g} is too {word}"
            if factor > 1 and update < _ORDINARY_UPDATE:
                message += (
                    f": a step changes weights by up to {update:.1e} of their size; about 1e-3 is "
                    "healthy"
                )
            return _problem(
                f"{word}_learning_rate",
                "optimizer",
                f"{message}.",
                f"With {rate * factor:g} the same steps bring the loss to {best.after:.4g}.",
                **numbers,
                learning_rate=rate,
                update=update,
            )
    return (_warning if chance is None or run.fell(_FALLING) else _problem)(
        "no_progress",
        "optimizer",
        f"{message}.",
        "See to the other findings first. If there are none: does y depend on X at all, are both "
        "in the same order, and does the network learn ten samples by heart?",
        **numbers,
    )
