"""What may be wrong with layers, and with the way in which a loss goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cymlp._findings import OF_NUMBERS, Finding, output_activation, problem, warning
from cymlp._lower import Parameter
from cymlp._measures import LayerStatistics, Trial, is_saturated, layer_of
from cymlp.data import Samples
from cymlp.layers import Dense
from cymlp.losses import (
    AbsoluteError,
    BinaryCrossEntropy,
    CrossEntropy,
    Gamma,
    Loss,
    Poisson,
    Quantile,
    SquaredError,
    Tweedie,
)
from cymlp.model import Sequential
from cymlp.optimizers import LBFGS, Rprop

__all__ = ["of_deltas", "of_identical_units", "of_layers", "of_outputs", "of_training"]

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

# Of the largest weight: rounding, which Adam makes more of, takes units apart by less.
_ROUNDING = 1e-3

# Of the loss before: less of a fall than this is none; a loss that is far off falls; with so much
# of a fall another learning rate is better.
_PROGRESS, _FALLING, _CLEAR_PROGRESS = 0.01, 0.1, 0.05
# A loss this many times as large as it was has not merely wavered.
_GROWN = 2.0
# A loss within a hundredth of that of the best constant outputs, or above, is no better than it.
_AT_CHANCE = 0.99

# What a learning rate is multiplied with where there is no progress.
_OTHER_RATES = (0.1, 10.0, 100.0, 1e4)
# And, where steps are too small to move anything, rates that move most networks.
_USUAL_RATES = (1e-3, 1e-2, 1e-1)

# Losses whose best constant outputs are the targets' means, their quantiles, and, as they are by
# default, the classes' shares.
_OF_MEANS = SquaredError | Poisson | Gamma | Tweedie
_OF_MEDIANS = AbsoluteError | Quantile
_OF_SHARES = (CrossEntropy(), BinaryCrossEntropy())


# The layers


def of_outputs(before: Sequential, after: Sequential, probe: Samples) -> Iterator[Finding]:
    """Look for outputs at the wrong flat end of an activation that does not go with the loss."""
    loss, activation = before.loss, output_activation(before)
    if probe.values is None or not isinstance(loss, OF_NUMBERS):
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
        yield problem(
            "saturated",
            f"layers[{len(before.layers) - 1}]",
            f"{share:.0%} of the samples have an output at a flat end of {activation.name}, and "
            f"the wrong one: {loss.name} gets next to no derivative through it.",
            advice,
            share=share,
        )


def of_identical_units(before: Sequential, after: Sequential, probe: Samples) -> Iterator[Finding]:
    """Look for kernels whose columns were all the same, are so after training, and stay so.

    Outgoing weights that differ, or dropout, take units with the same weights apart.
    """
    last, trained = f"layers[{len(before.layers) - 1}]", _trained(after)
    with np.errstate(all="ignore"):
        _, gradients = after._network.gradients(after._describe(probe), False, 0)
    for parameter, old, new in zip(
        after._parameters("diagnose"), before.get_weights(), after.get_weights(), strict=True
    ):
        n_units = old.shape[-1]
        if old.ndim != 2 or n_units == 1 or layer_of(parameter.path) == last:
            continue
        if parameter not in trained or not (old == old[:, :1]).all():
            continue
        if _are_alike(new) and _are_alike(gradients[parameter.op, parameter.name]):
            yield problem(
                "identical_units",
                parameter.path.rpartition(".")[0],
                f"All {n_units} units begin with the same weights and get the same derivatives: "
                "they stay the same, as one unit would.",
                "An initializer that draws them, such as glorot_uniform.",
                n_units=n_units,
            )


def _trained(net: Sequential) -> list[Parameter]:
    """Return the parameters that training changes."""
    assert net._plan is not None
    return [each for each in net._plan.parameters if net._plan.is_trainable(each)]


def _are_alike(columns: np.ndarray) -> bool:
    """Whether columns are the same but for rounding."""
    columns = np.asarray(columns, np.float64)
    return bool((np.abs(columns - columns[:, :1]) <= _ROUNDING * np.abs(columns).max()).all())


def of_layers(layers: list[LayerStatistics]) -> Iterator[Finding]:
    """Look at each layer's units, outputs and updates."""
    fastest = max((layer.update for layer in layers if layer.update is not None), default=0.0)
    for layer in layers:
        dead = layer.n_dead / layer.n_units
        if layer.activation == "relu" and dead > _SOME_DEAD:
            yield (problem if dead > _MANY_DEAD else warning)(
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
            yield problem(
                "saturated",
                layer.where,
                f"{layer.saturated:.0%} of the outputs are at the flat ends of {layer.activation}, "
                "where its slope is below 1% of its largest: next to nothing passes back.",
                "Scale the inputs; smaller initial weights (glorot_uniform), a lower learning "
                "rate, batch normalization ahead of the activation, or relu.",
                share=layer.saturated,
            )
        if layer.update is not None and layer.update > _LARGE_UPDATE:
            yield warning(
                "large_updates",
                layer.where,
                f"A step changes the weights by {layer.update:.0%} of their size; about 0.1% is "
                "healthy.",
                "A lower learning rate.",
                ratio=layer.update,
            )
        if layer.update and layer.update < _SMALL_UPDATE and fastest > _ORDINARY_UPDATE:
            yield warning(
                "small_updates",
                layer.where,
                f"A step changes the weights by {layer.update:.1e} of their size, those of another "
                f"layer by {fastest:.1e}: this one stands still.",
                "See to deltas that vanish and to learning_rate_multiplier; adam makes steps that "
                "do not depend on the size of gradients.",
                ratio=layer.update,
                largest=fastest,
            )


def of_deltas(layers: list[LayerStatistics]) -> Iterator[Finding]:
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
        yield problem(
            "vanishing_deltas",
            first.where,
            f"Deltas shrink {change}: the first layers hardly learn.",
            "Fewer layers; relu with he_uniform or selu with lecun_normal in the place of sigmoid "
            "and tanh; batch or layer normalization; Residual layers.",
            **numbers,
        )
    elif ratio > 1 / _VANISHING:
        yield problem(
            "exploding_deltas",
            first.where,
            f"Deltas grow {change}: the first layers are thrown about.",
            "Smaller initial weights (glorot_uniform, he_uniform), batch or layer normalization, "
            "or clip_norm=1 of the optimizer.",
            **numbers,
        )


# Training


def _bounds(net: Sequential, probe: Samples) -> tuple[float | None, float]:
    """Return the loss of the best constant outputs, None where it is not known, and the least loss.

    The latter is that of outputs like the targets, where it is known; else 0, the least of losses
    that are no log likelihoods of numbers.
    """
    loss, rows = net.loss, probe.values
    if not isinstance(loss, _OF_MEANS | _OF_MEDIANS) and loss not in _OF_SHARES:
        return None, 0.0  # of other losses, or other settings, it is not worked out here
    if rows is None:
        rows = np.eye(net.n_outputs)[probe.labels]
    rows = rows.astype(np.float64)
    weight = np.ones(len(rows)) if probe.weight is None else probe.weight
    if isinstance(loss, _OF_MEDIANS):
        levels = loss.levels if isinstance(loss, Quantile) else 0.5
        best = _quantiles(rows, weight, np.broadcast_to(levels, rows.shape[1]))
    else:
        best = np.average(rows, axis=0, weights=weight)
    nothing = np.zeros((len(rows), 1))
    constant = Dense(rows.shape[1], kernel_initializer="zeros", bias_initializer=best)
    chance = _loss_of(constant, loss, nothing, rows, probe.weight)
    if isinstance(loss, OF_NUMBERS):
        return chance, 0.0
    if isinstance(loss, CrossEntropy):
        entropy = -(rows * np.log(np.where(rows > 0, rows, 1))).sum(axis=1)
        return chance, float(np.average(entropy, weights=weight))
    # The others are sums over outputs: here each output is a sample of a network that hands it on.
    each = rows.reshape(-1, 1)
    handed_on = Dense(1, kernel_initializer="ones")
    floor = _loss_of(handed_on, loss, each, each, np.repeat(weight, rows.shape[1]))
    return chance, rows.shape[1] * floor


def _loss_of(
    layer: Dense, loss: Loss, x: np.ndarray, rows: np.ndarray, weight: np.ndarray | None
) -> float:
    """Return the loss of a network of one layer."""
    net = Sequential([layer], n_inputs=x.shape[1], dtype="float64", random_state=0)
    net.compile("sgd", loss)
    return net._evaluate(Samples(x, None, rows, weight), 0)["loss"]


def _quantiles(rows: np.ndarray, weight: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return each column's least value that has at least a level's share of the weight up to it."""
    best = []
    for column, level in zip(rows.T, levels, strict=True):
        order = np.argsort(column)
        up_to = np.cumsum(weight[order])
        best.append(column[order[np.searchsorted(up_to, level * up_to[-1])]])
    return np.array(best)


def of_training(
    net: Sequential, probe: Samples, run: Trial, retry: Callable[[float], Trial]
) -> Iterator[Finding]:
    """Look at how the loss went, and at how it goes with other learning rates."""
    numbers = {"before": run.before, "after": run.after, "n_steps": run.n_steps}
    if not math.isfinite(run.before):
        yield problem(
            "diverging",
            "layers",
            f"The loss is {run.before} before the first step.",
            "Scale the inputs and look at the weights; no learning rate makes that good.",
            **numbers,
        )
        return
    if not _trained(net):
        yield problem(
            "nothing_trained",
            "layers",
            "No layer has parameters that are trained: the network stays as it is.",
            "Layers with trainable=True, at least the last one with weights.",
        )
        return
    chance, floor = _bounds(net, probe)
    rate = getattr(net.optimizer, "learning_rate", None)
    if isinstance(net.optimizer, LBFGS | Rprop) or not isinstance(rate, int | float):
        rate = None  # there is none, or no single number to try others in the place of
    largest = abs(run.before) if chance is None else max(run.before, chance) - floor
    is_trained = net._epochs_done > 0
    if not run.is_finite or run.after - floor > _GROWN * largest:
        yield _of_divergence(run, rate, floor, retry, numbers)
    elif _is_stuck(run, chance, floor):
        yield _of_no_progress(run, rate, chance, floor, is_trained, retry, numbers)
    elif _stands_still(run, floor):
        finding = _of_no_progress(run, rate, chance, floor, is_trained, retry, numbers)
        if finding.kind != "no_progress" or not is_trained:
            yield finding


def _is_stuck(run: Trial, chance: float | None, floor: float) -> bool:
    """Whether a loss stays where it was, or where that of constant outputs is."""
    if chance is None:
        return not run.fell(_PROGRESS)
    if run.after - floor < _AT_CHANCE * (chance - floor):
        return False
    return run.after - floor < (chance - floor) / _AT_CHANCE or not run.fell(_FALLING, floor)


def _stands_still(run: Trial, floor: float) -> bool:
    """Whether steps are too small to move any layer, and the loss stays."""
    updates = run.updates.values()
    return bool(updates) and max(updates) < _SMALL_UPDATE and not run.fell(_PROGRESS, floor)


def _other_rates(rate: float, run: Trial) -> list[float]:
    """Return learning rates to try in the place of one without progress."""
    rates = [rate * factor for factor in _OTHER_RATES]
    if run.updates and max(run.updates.values()) < _SMALL_UPDATE:
        rates += [usual for usual in _USUAL_RATES if usual > rates[-1]]
    return rates


def _of_divergence(
    run: Trial,
    rate: float | None,
    floor: float,
    retry: Callable[[float], Trial],
    numbers: dict[str, Any],
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
        if other.fell(_PROGRESS, floor):
            advice = (
                f"A lower learning rate: with {rate * factor:g} in the place of {rate:g} the same "
                f"steps bring the loss to {other.after:.4g}."
            )
            numbers |= {"after_lower": other.after}
            break
    what = f"is {run.after:.4g}" if run.is_finite else "is not finite"
    return problem(
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
    floor: float,
    is_trained: bool,
    retry: Callable[[float], Trial],
    numbers: dict[str, Any],
) -> Finding:
    message = f"The loss was {run.before:.4g} and is {run.after:.4g} after {run.n_steps} steps"
    if chance is not None:
        message += f"; the best constant outputs have {chance:.4g}"
        numbers |= {"chance": chance}
    update = max(run.updates.values(), default=0.0)
    moved = (
        f"a step changes weights by up to {update:.1e} of their size; about 1e-3 is healthy"
        if run.updates
        else ""
    )
    if rate is not None:
        tried = [(retry(other), other) for other in _other_rates(rate, run)]
        best, other = min(tried, key=lambda one: one[0].after)
        better = run.after - best.after > _CLEAR_PROGRESS * abs(run.after - floor)
        if better and best.fell(_CLEAR_PROGRESS, floor):
            word = "large" if other < rate else "small"
            message += f". The learning rate of {rate:g} is too {word}"
            if other > rate and moved and update < _ORDINARY_UPDATE:
                message += f": {moved}"
            return problem(
                f"{word}_learning_rate",
                "optimizer",
                f"{message}.",
                f"With {other:g} the same steps bring the loss to {best.after:.4g}.",
                **numbers,
                learning_rate=rate,
                update=update,
            )
        rates = ", ".join(f"{other:g}" for _, other in tried)
        message += f". Learning rates of {rates} in the place of {rate:g} make it no better"
    elif moved and update < _SMALL_UPDATE:
        message += f": {moved}"
    advice = (
        "See to the other findings first. If there are none: does y depend on X at all, are both "
        "in the same order, and does the network learn ten samples by heart?"
    )
    if chance is None and is_trained:
        advice = (
            "If the network has learnt what there is, that is as it should be: compare its loss "
            "with that of a simpler model. Else see to the other findings first."
        )
    at_fault = chance is not None and not run.fell(_FALLING, floor)
    at_fault = at_fault and _is_stuck(run, chance, floor)
    return (problem if at_fault else warning)(
        "no_progress", "optimizer", f"{message}.", advice, **numbers
    )
