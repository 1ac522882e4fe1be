"""What may be wrong with inputs and targets, and with an output that does not go with them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from cymlp._findings import OF_NUMBERS, Finding, output_activation, problem, warning
from cymlp.activations import ELU, BaseActivation, LeakyReLU
from cymlp.activations import Activation as OwnActivation
from cymlp.data import Samples
from cymlp.layers import BatchNormalization, LayerNormalization
from cymlp.losses import CustomLoss, Gamma, Loss, Poisson, Tweedie
from cymlp.model import Sequential

__all__ = ["of_inputs", "of_targets"]

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
# Losses to which 0 and 1 are numbers, or may be.
_NOT_OF_CLASSES = (*OF_NUMBERS, CustomLoss, Gamma, Poisson, Tweedie)

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


def of_inputs(net: Sequential, probe: Samples) -> Iterator[Finding]:
    """Look at the columns of X as they come into the network."""
    raw = np.asarray(probe.x)
    mean, std, spread = _columns(raw, net.input_scale)
    size, varies = np.sqrt(mean**2 + std**2), spread > 0
    advice = (
        "Scale X: fit a StandardScaler on the training samples, or subtract each column's mean and "
        "divide by its standard deviation."
    )
    if raw.min() >= 0 and raw.max() <= 255 and all((row == np.round(row)).all() for row in raw):
        advice = (
            "If X are pixels of 0 to 255, Sequential(..., input_scale=1 / 255) takes them as "
            "numbers from 0 to 1, without a copy. Else fit a StandardScaler."
        )
    large = size > _LARGE_INPUT
    off_centre = varies & (size > 1) & (np.abs(mean) > _OFF_CENTRE * std)
    small = varies & (spread < _SMALL_RANGE * max(spread.max(), 1.0))
    if isinstance(net.layers[0], BatchNormalization | LayerNormalization):
        large = off_centre = small = np.zeros_like(varies)  # brought to scale there
    if large.any():
        worst = int(np.argmax(size))
        yield problem(
            "unscaled_inputs",
            "X",
            f"{large.sum()} of {raw.shape[1]} inputs are far from mean 0 and standard deviation 1: "
            f"column {worst} has mean {mean[worst]:.3g} and standard deviation {std[worst]:.3g}.",
            advice,
            n_columns=large.sum(),
            mean=mean[worst],
            std=std[worst],
        )
    elif off_centre.any():
        worst = int(np.argmax(np.where(off_centre, size, 0)))
        yield warning(
            "unscaled_inputs",
            "X",
            f"{off_centre.sum()} of {raw.shape[1]} inputs hardly vary around a mean far from 0: "
            f"column {worst} has mean {mean[worst]:.3g} and standard deviation {std[worst]:.3g}.",
            advice,
            n_columns=off_centre.sum(),
            mean=mean[worst],
            std=std[worst],
        )
    elif small.any():
        worst = int(np.argmin(np.where(small, spread, np.inf)))
        yield warning(
            "unscaled_inputs",
            "X",
            f"{small.sum()} of {raw.shape[1]} inputs are too small to be heard: column {worst} has "
            f"a range of {spread[worst]:.3g}, the widest one of {spread.max():.3g}.",
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
        yield (warning if varies.any() else problem)(
            "constant_inputs",
            "X",
            f"{len(constant)} of {raw.shape[1]} inputs (columns {some}) have the same value in all "
            f"{len(raw):,} samples that were looked at.",
            "Leave out columns that say nothing; layers have a bias already.",
            n_columns=len(constant),
        )


def _columns(raw: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, standard deviation and range of each column in float64, row by row."""
    mean = raw.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for row in raw:
        squares += np.square(row - mean)
    spread = raw.max(axis=0).astype(np.float64) - raw.min(axis=0)
    return scale * mean, scale * np.sqrt(squares / len(raw)), scale * spread


def _range_of(activation: BaseActivation) -> tuple[float, float]:
    """Return what an activation's values lie between; of a user's own, anything."""
    if isinstance(activation, ELU):
        return -activation.alpha, math.inf
    if isinstance(activation, LeakyReLU) and activation.alpha == 0:
        return 0.0, math.inf
    return _RANGES.get(activation.name, (-math.inf, math.inf))


def of_targets(net: Sequential, probe: Samples) -> Iterator[Finding]:
    """Look at y, and whether the outputs can be like it."""
    targets = probe.labels if probe.values is None else probe.values
    assert targets is not None and net.loss is not None
    activation = output_activation(net)
    yield from _of_output(net, net.loss, activation)
    if (targets == targets[0]).all():
        yield problem(
            "constant_target",
            "y",
            f"All {len(targets):,} targets that were looked at are the same: there is nothing to "
            "learn.",
            "Look at how y is made, and whether samples that are sorted by it were cut off.",
            value=np.ravel(targets)[0],
        )
        return
    classes = _classes(targets, net.loss)
    shares = np.zeros(0) if classes is None else np.bincount(classes[0]) / len(targets)
    if classes is not None and shares.max() > _IMBALANCED:
        common = classes[1][int(shares.argmax())]
        cure = 'fit(class_weight="balanced")'
        if probe.values is not None and (targets == -1).any():
            cure = "a larger sample_weight for the others"
        yield warning(
            "class_imbalance",
            "y",
            f"Class {common} has {shares.max():.1%} of the samples: always to say {common} is "
            "right that often.",
            f'Try {cure}, and judge by a metric such as "f1" or "roc_auc", not by accuracy.',
            share=shares.max(),
            label=common,
        )
    if not isinstance(net.loss, OF_NUMBERS):
        return  # other losses refuse what they cannot take
    low, high = _range_of(activation)
    outside = (targets < low) | (targets > high)
    if outside.any():
        yield problem(
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
        yield warning(
            "unscaled_target",
            "y",
            f"The targets have mean {targets.mean():.4g} and standard deviation "
            f"{targets.std():.4g}; a new network's outputs are of size 1.",
            "Train on (y - mean) / standard deviation and bring predictions back.",
            mean=targets.mean(),
            std=targets.std(),
        )


def _of_output(net: Sequential, loss: Loss, activation: BaseActivation) -> Iterator[Finding]:
    """Look at whether the output activation goes with the loss."""
    where = f"layers[{len(net.layers) - 1}]"
    low, high = _range_of(activation)
    least, most = _TAKES.get(loss.expects, (-math.inf, math.inf))
    if not isinstance(activation, OwnActivation) and (low < least or high > most):
        yield problem(
            "unfit_output",
            where,
            f"The loss {loss.name} takes outputs from {least:g} to {most:g}; those of "
            f"{activation.name} run from {low:g} to {high:g}.",
            f"End the network with {loss.expects}.",
            low=low,
            high=high,
        )
    if activation.name == "softmax" and net.n_outputs == 1:
        yield problem(
            "unfit_output",
            where,
            "Softmax of a single unit is always 1.",
            "Two units with softmax and cross_entropy, or one with sigmoid and "
            "binary_cross_entropy.",
            n_outputs=1,
        )


def _classes(targets: np.ndarray, loss: Loss) -> tuple[np.ndarray, Sequence[int]] | None:
    """Return each sample's class, as the place of its label, and the labels; None without any."""
    if targets.ndim == 1:
        return targets, range(int(targets.max()) + 1)
    if isinstance(loss, _NOT_OF_CLASSES):
        return None
    low = -1 if targets.min() < 0 else 0
    if not np.isin(targets, (low, 1)).all():
        return None
    is_one = targets == 1
    if targets.shape[1] == 1:
        return is_one[:, 0].astype(np.intp), (low, 1)
    if (is_one.sum(axis=1) == 1).all():
        return is_one.argmax(axis=1), range(targets.shape[1])
    return None
