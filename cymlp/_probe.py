"""What checks of a whole network share: its samples as plain rows, and copies to try things on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cymlp._batches import are_batches
from cymlp._validate import SparseRows
from cymlp.data import Samples
from cymlp.layers import Layer, Residual
from cymlp.model import Sequential

__all__ = ["changed", "plain_rows", "prepared"]

# Of inputs with their zeros: 400 MB in float64.
_MOST_NUMBERS = 50_000_000


def prepared(what: str, net: Any, X: Any, y: Any, weight: Any) -> tuple[Sequential, Samples]:
    """Return a built copy of a compiled network, and samples as it takes them.

    A network that is not built yet has the parameters in the copy that `build` would give it.
    Nothing of the network itself changes.
    """
    if not isinstance(net, Sequential):
        hint = "; a fitted estimator has one: pass its network_" if hasattr(net, "fit") else ""
        raise TypeError(f"net must be a Sequential, got {type(net).__name__}{hint}")
    net._require(what, compiled=True, built=False)
    if are_batches(X):
        raise TypeError(f"X must be an array, not yield batches, got {type(X).__name__}")
    samples = net._prepare(X, y, weight)
    twin = copy.copy(net)  # which shares no arrays: it goes by way of `__getstate__`
    twin.build(samples.n_inputs)
    for path, array in zip(twin.parameter_names(), twin.get_weights(), strict=True):
        if not np.isfinite(array).all():
            raise ValueError(
                f"net must have finite parameters, got NaN or infinite ones in {path}: pass a "
                "network as it was before it diverged"
            )
    return twin, samples


def plain_rows(samples: Samples, rows: np.ndarray, net: Sequential, dtype: Any) -> Samples:
    """Return samples by their numbers, in a dtype and with the inputs' zeros in their places.

    Raises
    ------
    ValueError
        If that takes too much memory.
    """
    if len(rows) * samples.n_inputs > _MOST_NUMBERS:
        raise ValueError(
            f"X must be a small batch here, got {len(rows):,} samples of {samples.n_inputs:,} "
            f"inputs: with the zeros that is more than {_MOST_NUMBERS:,} numbers"
        )
    x = samples.inputs_at(rows)
    labels, values, weight = samples._targets(rows)
    if isinstance(x, SparseRows):
        # The non-zeros are multiplied by the scale already.
        raw = x.values.astype(np.float64) / net.input_scale
        x = SparseRows(x.shape, x.row_starts, x.columns, raw).dense(dtype)
    return Samples(
        np.ascontiguousarray(x, dtype),
        labels,
        None if values is None else values.astype(dtype),
        weight,
    )


def changed(
    layers: Sequence[Layer], change: Callable[[str, Layer], Layer], where: str = "layers"
) -> list[Layer]:
    """Return layers as a function of their place and layer makes them, residual layers' too."""

    def each() -> Iterator[Layer]:
        for index, layer in enumerate(layers):
            place = f"{where}[{index}]"
            if isinstance(layer, Residual):
                layer = replace(
                    layer, layers=tuple(changed(layer.layers, change, f"{place}.layers"))
                )
            yield change(place, layer)

    return list(each())
