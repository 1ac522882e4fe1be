"""What training recorded, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["History"]


@dataclass
class History:
    """Losses and metrics of a fit.

    Attributes
    ----------
    epoch : list of int
        Number of each epoch of the fit, counted from 0 or from `fit`'s ``initial_epoch``.
    history : dict of str to list of float
        Per name a value for each epoch, NaN where none was taken. ``loss`` and ``accuracy`` are the
        averages over the epoch's batches as they were trained on. ``val_loss`` and ``val_`` with
        the name of each metric were taken after the epoch, where there was validation data. What
        callbacks put into an epoch's ``logs`` is there too.
    histograms : dict of str to list of (int, ndarray, ndarray)
        What a `callbacks.HistogramLogger` counted: per name, epochs with counts and edges of bins.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], random_state=0)
    >>> net.compile(optimizer="sgd", loss="squared_error")
    >>> history = net.fit([[0.0], [1.0]], [0.0, 1.0], epochs=3, verbose=0)
    >>> history.epoch
    [0, 1, 2]
    >>> len(history.history["loss"])
    3
    """

    epoch: list[int] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)
    histograms: dict[str, list[tuple[int, Any, Any]]] = field(default_factory=dict)

    def record(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Append an epoch's values.

        Parameters
        ----------
        epoch : int
        logs : dict of str to float
            A name that is missing here or was missing before has NaN in that place.
        """
        for name, value in logs.items():
            if name not in self.history:
                self.history[name] = [math.nan] * len(self.epoch)
            self.history[name].append(value)
        self.epoch.append(epoch)
        if len(logs) < len(self.history):
            for name in self.history.keys() - logs.keys():
                self.history[name].append(math.nan)

    def plot(self, ax: Any = None, *, key: str | Sequence[str] = "loss") -> Any:
        """Draw the curves of some values over the epochs, with those of their validation values.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; new axes by default.
        key : str or sequence of str, default="loss"
            Names of the values.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If nothing of that name was recorded.
        """
        from cymlp.plots import plot_history

        return plot_history(self, ax, key=key)
