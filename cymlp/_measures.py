"""What training does to a network, in numbers; `diagnosis` says what they mean."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cymlp._anatomy import Anatomy, scaled_inputs
from cymlp._fit import Fit, Plan
from cymlp._probe import changed
from cymlp.activations import Activation as OwnActivation
from cymlp.callbacks import Callback
from cymlp.data import Samples
from cymlp.inspection import short_name
from cymlp.layers import BatchNormalization, Layer
from cymlp.model import Sequential
from cymlp.optimizers import LBFGS, SGD

__all__ = ["LayerStatistics", "Trial", "layer_statistics", "trial"]

# Batches at the end of a trial whose updates are measured: their median is no outlier.
_MEASURED = 10
# An iteration of L-BFGS sees all samples; so many tell as much as a hundred batches.
_MOST_ITERATIONS = 20

# Where an activation's slope is below 1% of its largest: sigmoid's y (1 - y) below 0.0025, tanh's
# 1 - y^2 below 0.01.
_FLAT_SIGMOID = 0.0025
_FLAT_TANH = 0.995


@dataclass(frozen=True)
class LayerStatistics:
    """One layer in numbers, over the samples that were looked at.

    Attributes
    ----------
    where : str
        Such as "layers[0]".
    name : str
        Such as "64 relu".
    activation : str or None
        Name of its activation; None for a layer without one.
    mean, std : float
        Of its outputs.
    zeros : float
        The share of outputs that are 0.
    n_units, n_dead : int
        Units, and those among them that are 0 for every sample.
    saturated : float
        The share of outputs on the flat ends of a sigmoid, tanh, hard sigmoid or softmax, where the
        slope is below 1% of its largest; 0 for other activations.
    delta : float
        Root mean square of the deltas: the derivatives of each sample's loss by what the activation
        is applied to, or by the outputs of a layer that has none.
    update : float or None
        Norm of a step's change of the weights over that of the weights, the median of some batches.
        None for a layer without weights or where nothing was measured.
    """

    where: str
    name: str
    activation: str | None
    mean: float
    std: float
    zeros: float
    n_units: int
    n_dead: int
    saturated: float
    delta: float
    update: float | None


@dataclass(frozen=True)
class Trial:
    """What some batches of training came to.

    Attributes
    ----------
    net : Sequential
        As it was left.
    n_steps : int
        Batches that it was trained on; with L-BFGS, iterations.
    before, after : float
        The loss over the samples that were looked at, without penalties; infinite where it
        diverged.
    updates : dict of str to float
        By layer: see `LayerStatistics.update`.
    """

    net: Sequential
    n_steps: int
    before: float
    after: float
    updates: dict[str, float]

    @property
    def is_finite(self) -> bool:
        """Whether the loss still is a number."""
        return math.isfinite(self.after)

    def fell(self, share: float, floor: float = 0.0) -> bool:
        """Whether the loss fell by more than a share of what it was above a floor."""
        return self.is_finite and self.before - self.after > share * abs(self.before - floor)


class _Watch(Callback):
    """Counts batches, ends the fit, and measures the last updates."""

    def __init__(self, n_batches: int) -> None:
        self.n_batches = n_batches
        self.n_done = 0
        self.diverged = False
        self.ratios: dict[str, list[float]] = {}
        self._weights: list[np.ndarray] | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._see(logs["loss"])
        if self.n_done >= self.n_batches - _MEASURED and not self.diverged:
            self._measure()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if isinstance(self.model.optimizer, LBFGS):
            self._see(logs["loss"])

    def _see(self, loss: float) -> None:
        self.n_done += 1
        self.diverged = not math.isfinite(loss)
        self.model.stop_training = self.diverged or self.n_done == self.n_batches

    def _measure(self) -> None:
        before, self._weights = self._weights, self.model.get_weights()
        if before is None:
            return
        moved: dict[str, float] = {}
        size: dict[str, float] = {}
        for path, old, new in zip(self.model.parameter_names(), before, self._weights, strict=True):
            if old.ndim == 2:  # kernels: biases begin with 0
                where = layer_of(path)
                moved[where] = moved.get(where, 0.0) + _squares(np.subtract(new, old, dtype=float))
                size[where] = size.get(where, 0.0) + _squares(old)
        for where in moved:
            if size[where] > 0:
                self.ratios.setdefault(where, []).append(math.sqrt(moved[where] / size[where]))


def _squares(array: np.ndarray) -> float:
    return float(np.square(array, dtype=np.float64).sum())


def layer_of(path: str) -> str:
    """Return which layer of the network an array belongs to."""
    return path.partition("]")[0] + "]"


def trial(
    net: Sequential,
    samples: Samples,
    probe: Samples,
    n_batches: int,
    batch_size: int,
    learning_rate: float | None = None,
) -> Trial:
    """Train a copy of a network, as its next `fit` would, and see what becomes of it."""
    twin = copy.copy(net)
    if learning_rate is not None:
        twin.learning_rate = learning_rate
    if isinstance(twin.optimizer, LBFGS):
        n_batches = min(n_batches, _MOST_ITERATIONS)
    watch = _Watch(n_batches)
    plan = Plan(n_batches, 0, min(batch_size, len(samples)), True, 1, 0)
    fit = Fit(twin, samples, None, plan, [watch])
    fit.warns = False
    before = probe_loss(twin, probe)
    with np.errstate(all="ignore"):
        fit.run()
        lost = watch.diverged or not all(np.isfinite(w).all() for w in twin.get_weights())
        after = math.inf if lost else probe_loss(twin, probe)
    updates = {where: float(np.median(ratios)) for where, ratios in watch.ratios.items()}
    after = after if math.isfinite(after) else math.inf
    return Trial(twin, watch.n_done, before, after, updates)


def probe_loss(net: Sequential, probe: Samples) -> float:
    """Return the loss without penalties, layers as in training but for dropout."""
    net = _with_moments(net, probe)
    return net._evaluate(probe, 0)["loss"] - net._validation_penalty


def _with_moments(net: Sequential, probe: Samples) -> Sequential:
    """Return a network whose batch normalizations have the moments of some samples.

    Moving averages lag behind by some hundred batches: what they make of a layer that has just
    begun to learn says nothing of what training sees.
    """
    found = False

    def forgetful(_: str, layer: Layer) -> Layer:
        nonlocal found
        if isinstance(layer, BatchNormalization) and layer.trainable:
            found = True
            return replace(layer, momentum=0.0)
        return layer

    layers = changed(net.layers, forgetful)
    if not found:
        return net
    assert net.loss is not None
    twin = Sequential(
        layers,
        n_inputs=net.n_inputs,
        dtype=net.dtype,
        random_state=0,
        input_scale=net.input_scale,
    )
    twin.compile(SGD(), net.loss)
    twin.set_weights(net.get_weights())
    twin._network.train(twin._describe(probe), len(probe), [])
    kept = [
        new if name.rpartition(".")[2].startswith("moving") else old
        for name, old, new in zip(
            net.parameter_names(), net.get_weights(), twin.get_weights(), strict=True
        )
    ]
    twin._network.set_all(twin._names(), kept)  # of a network that diverges, infinite moments too
    return twin


def layer_statistics(
    net: Sequential, probe: Samples, updates: dict[str, float]
) -> list[LayerStatistics]:
    """Return what layers make of some samples."""
    with np.errstate(all="ignore"):  # nothing of a network that has diverged is finite
        return list(_statistics(net, probe, updates))


def _statistics(
    net: Sequential, probe: Samples, updates: dict[str, float]
) -> Iterator[LayerStatistics]:
    net = _with_moments(net, probe)
    outputs = net.layer_outputs(probe.x)
    for index, (layer, y, delta) in enumerate(
        zip(net.layers, outputs, _deltas(net, probe), strict=True)
    ):
        activation = getattr(layer, "activation", None)
        own = isinstance(activation, OwnActivation)
        where = f"layers[{index}]"
        yield LayerStatistics(
            where=where,
            name=short_name(layer),
            activation=None if activation is None or own else activation.name,
            mean=float(y.mean(dtype=np.float64)),
            std=float(y.std(dtype=np.float64)),
            zeros=float((y == 0).mean()),
            n_units=y.shape[1],
            n_dead=int((y == 0).all(axis=0).sum()),
            saturated=0.0 if activation is None or own else saturated(activation.name, y),
            delta=float(np.sqrt(np.square(delta, dtype=np.float64).mean())),
            update=updates.get(where),
        )


def saturated(activation: str, y: np.ndarray) -> float:
    """Return the share of outputs where the slope of their activation is next to nothing."""
    return float(is_saturated(activation, y).mean())


def is_saturated(activation: str, y: np.ndarray) -> np.ndarray:
    """Return which outputs have next to no slope; of softmax, whole samples."""
    match activation:
        case "sigmoid" | "hard_sigmoid":
            flat = 0.0 if activation == "hard_sigmoid" else _FLAT_SIGMOID
            return y * (1 - y) <= flat
        case "tanh":
            return np.abs(y) >= _FLAT_TANH
        case "softmax":
            return np.broadcast_to(y.max(axis=1, keepdims=True) >= 1 - _FLAT_SIGMOID, y.shape)
    return np.zeros(y.shape, bool)


def _deltas(net: Sequential, probe: Samples) -> list[np.ndarray]:
    """Return each layer's deltas: by its weighted sums, or by the outputs of what has none."""
    anatomy = Anatomy(net)
    _, deltas = anatomy.deltas(replace(probe, x=scaled_inputs(probe.x, net)))
    of = {part.where: deltas[part.sums or part.outputs] for part in anatomy.parts}
    return [of[f"layers[{index}]"] for index in range(len(net.layers))]
