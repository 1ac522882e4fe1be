"""Why a network does not learn: what is wrong, with the numbers, and what to do about it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np

from cymlp import _validate
from cymlp._findings import Finding
from cymlp._findings_of_data import of_inputs, of_targets
from cymlp._findings_of_training import (
    of_deltas,
    of_identical_units,
    of_layers,
    of_outputs,
    of_training,
)
from cymlp._measures import LayerStatistics, Trial, layer_statistics, trial
from cymlp._probe import plain_rows, prepared
from cymlp.model import Sequential

__all__ = ["Diagnosis", "Finding", "LayerStatistics", "diagnose"]

# Samples that are looked at: shares of them are right to some percent.
_PROBED = 1000
# Of samples with thousands of inputs fewer, but not below a hundred: zeros take memory too.
_FEWEST, _NUMBERS = 100, 5_000_000


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; printed, a table of the layers and the findings.

    Attributes
    ----------
    findings : tuple of Finding
        Problems first.
    layers : tuple of LayerStatistics
        After the batches or, where the loss diverged in them, before.
    n_steps : int
        Batches that were trained on; with L-BFGS, iterations.
    loss_before, loss_after : float
        Before and after them, over the samples that were looked at, without penalties.
    """

    findings: tuple[Finding, ...]
    layers: tuple[LayerStatistics, ...]
    n_steps: int
    loss_before: float
    loss_after: float

    @property
    def healthy(self) -> bool:
        """Whether nothing was found, neither a problem nor a warning."""
        return not self.findings

    def __str__(self) -> str:
        """Return the table, the loss and the findings."""
        rows = [
            ("layer", "outputs: mean", "std", "zero", "dead", "saturated", "delta", "update"),
            *map(_row, self.layers),
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        lines += [
            "",
            f"loss {self.loss_before:.4g} before, {self.loss_after:.4g} after {self.n_steps} steps",
        ]
        given: dict[str, int] = {}  # the finding that an advice stood at first
        for number, finding in enumerate(self.findings, 1):
            said = f"{number}. {finding.severity}, {finding.where}: {finding.message}"
            first = given.setdefault(finding.advice, number)
            advice = finding.advice if first == number else f"as for {first}."
            lines += ["", *textwrap.wrap(said, 79)]
            lines += textwrap.wrap(
                f"-> {advice}", 79, initial_indent="   ", subsequent_indent="      "
            )
        if self.healthy:
            lines += ["", "Nothing is wrong that could be seen."]
        return "\n".join(lines)


def _row(layer: LayerStatistics) -> tuple[str, ...]:
    return (
        f"{layer.where} {layer.name}",
        f"{layer.mean:.3g}",
        f"{layer.std:.3g}",
        f"{layer.zeros:.0%}",
        f"{layer.n_dead}/{layer.n_units}",
        f"{layer.saturated:.0%}",
        f"{layer.delta:.1e}",
        "" if layer.update is None else f"{layer.update:.1e}",
    )


def diagnose(
    net: Sequential,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    n_batches: int = 100,
    batch_size: int = 32,
) -> Diagnosis:
    """Train a copy of a network for some batches and say what is wrong with it.

    The network itself stays as it is, and so do its optimizer's state and its random numbers: the
    copy is trained as the next `Sequential.fit` would train the network.

    Parameters
    ----------
    net : Sequential
        Compiled. If it is not built, the copy is, as `build` would build the network.
    X : array-like of shape (samples, n_inputs)
    y : array-like of shape (samples,) or (samples, n_outputs)
    sample_weight : array-like of shape (samples,), optional
    n_batches : int, default=100
        Batches to train on, of as many epochs as that takes; of `LBFGS` iterations, at most 20.
    batch_size : int, default=32
        As for `fit`.

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be, before `compile`, or if the samples that are
        looked at have more than 50 million inputs in all.

    Notes
    -----
    Up to 1000 samples, drawn at random, are looked at, fewer of more than 5000 inputs, and the
    layers of the network, not those within `Residual` layers. Progress is a loss that falls clearly
    or is below that of the best constant outputs, which is known for squared and absolute error,
    quantiles, Poisson, gamma and Tweedie, cross-entropy and binary cross-entropy. Where there is
    none, where no step moves a layer or the loss diverges, further copies try other learning rates.
    Batch normalization takes the moments of the samples that are looked at; dropout does nothing
    but in the batches.

    ======================= ========================================================
    kind                    what it means
    ======================= ========================================================
    ``unscaled_inputs``     columns of X far from mean 0 and standard deviation 1
    ``constant_inputs``     columns of X that have one value, and not 0
    ``target_out_of_range`` targets that the outputs cannot reach
    ``unfit_output``        an output activation that does not go with the loss
    ``constant_target``     nothing to learn
    ``class_imbalance``     one class has more than 90% of the samples
    ``unscaled_target``     targets of a regression far from size 1
    ``dead_relu``           units that are 0 for every sample
    ``saturated``           a sigmoid, tanh or softmax at its flat ends
    ``identical_units``     units with the same weights, which training leaves so
    ``vanishing_deltas``    deltas of the first layers far below those of the last
    ``exploding_deltas``    deltas of the first layers far above those of the last
    ``large_updates``       steps of more than a tenth of the weights
    ``small_updates``       steps of a layer far below those of another one
    ``nothing_trained``     no layer with parameters that are trained
    ``diverging``           a loss that grows or is not finite
    ``small_learning_rate`` no progress, but with a larger learning rate
    ``large_learning_rate`` no progress, but with a smaller learning rate
    ``no_progress``         no progress, with other learning rates neither
    ======================= ========================================================

    References
    ----------
    X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010. A. Karpathy, "A recipe for training neural networks", 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp import Sequential, diagnose
    >>> from cymlp.layers import Dense
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 8))
    >>> y = np.sin(X[:, 0]) + X[:, 1]
    >>> layers = [Dense(32, activation="tanh"), Dense(1)]
    >>> net = Sequential(layers, dtype="float64", random_state=0)
    >>> net.compile("adam", "squared_error")
    >>> diagnose(net, X, y).healthy
    True
    >>> print(diagnose(net, 1000 * X, y, n_batches=20))
    layer                 outputs: mean    std  zero  dead  saturated    delta   update
    layers[0] 32 tanh           -0.0158      1    0%  0/32       100%  4.3e-03  1.2e-03
    layers[1] 1 identity        -0.0736  0.962    0%   0/1         0%  1.3e+00  3.1e-03
    <BLANKLINE>
    loss 1.102 before, 0.8324 after 20 steps
    <BLANKLINE>
    1. problem, X: 8 of 8 inputs are far from mean 0 and standard deviation 1:
    column 6 has mean -68.1 and standard deviation 1.06e+03.
       -> Scale X: fit a StandardScaler on the training samples, or subtract each
          column's mean and divide by its standard deviation.
    <BLANKLINE>
    2. problem, layers[0]: 100% of the outputs are at the flat ends of tanh, where
    its slope is below 1% of its largest: next to nothing passes back.
       -> Scale the inputs; smaller initial weights (glorot_uniform), a lower
          learning rate, batch normalization ahead of the activation, or relu.
    """
    twin, samples = prepared("diagnose", net, X, y, sample_weight)
    n_batches = _validate.integer("n_batches", n_batches, low=1)
    batch_size = _validate.integer("batch_size", batch_size, low=1)
    # Of a stream of its own: the same samples are looked at every time.
    n_rows = min(_PROBED, max(_FEWEST, _NUMBERS // samples.n_inputs))
    rows = np.sort(np.random.default_rng(0).permutation(len(samples))[:n_rows])
    if samples.weight is not None:
        rows = rows[samples.weight[rows] > 0] if samples.weight[rows].any() else rows
    probe = plain_rows(samples, rows, twin, twin.dtype)
    run = trial(twin, samples, probe, n_batches, batch_size)
    left = run.net if run.is_finite else twin
    layers = layer_statistics(left, probe, run.updates)

    def retry(learning_rate: float) -> Trial:
        return trial(twin, samples, probe, n_batches, batch_size, learning_rate)

    found = [
        *of_inputs(twin, probe),
        *of_targets(twin, probe),
        *of_outputs(twin, left, probe),
        *of_identical_units(twin, left, probe),
        *of_layers(layers),
        *of_deltas(layers),
        *of_training(twin, probe, run, retry),
    ]
    found.sort(key=lambda finding: finding.severity != "problem")  # stable
    return Diagnosis(tuple(found), tuple(layers), run.n_steps, run.before, run.after)
