"""What training recorded, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["History"]


@dataclass
class History:
    """Losses and metrics of a fit.

    Attributes
    ----------
    epoch : list of int
        Number of each epoch of the fit, counted from 0.
    history : dict of str to list of float
        Per name a value for each epoch: ``loss``, the averages over the epoch's batches as they
        were trained on; one entry per metric; the same with ``val_`` in front, taken after the
        epoch, where validation data was given.

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

    def record(self, epoch: int, logs: dict[str, float]) -> None:
        """Append an epoch's values.

        Parameters
        ----------
        epoch : int
        logs : dict of str to float
            The same names in every epoch.
        """
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def plot(self, ax: Any = None, *, key: str = "loss") -> Any:
        """Draw the curve of one value over the epochs, with that of its validation values.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; new axes by default.
        key : str, default="loss"
            Name of the value.

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

        return plot_history(self.history, ax, key=key)
