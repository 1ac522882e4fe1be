"""Callbacks: what a fit calls between epochs and batches, to watch it, steer it and end it.

Names and hooks are those of Keras. `Sequential.fit` calls the callbacks in the order given. Their
`Callback.set_params` and `Callback.set_model` come first and may refuse the fit: nothing has
changed then. An exception of any later hook ends the fit and leaves the network as the last
finished batch left it. `Callback.on_train_end` is called where a fit ends without an exception,
stopped early or not; `Callback.close` is called last of all, with or without one.

A hook that no callback overrides costs nothing. As long as nobody looks at epochs, they all run in
one compiled call; as long as nobody looks at batches, an epoch does.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import numpy as np

from cymlp import _validate
from cymlp.progress import EpochProgress, resolve_verbose

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "HistogramLogger",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]

_HUGE = 1e300  # the range of a histogram must not overflow

Logs = MutableMapping[str, float]


class Callback:
    """Base of all callbacks; its hooks do nothing.

    Attributes
    ----------
    model : Sequential
        The network in training. ``model.stop_training = True`` ends the fit, with the batch where a
        hook of batches says so, else with the epoch.
    params : dict
        Of the fit: ``epochs``, ``initial_epoch``, ``steps`` (batches per epoch), ``samples``,
        ``batch_size``, ``verbose``, ``metrics`` (the names that ``logs`` has at the end of an
        epoch) and ``history``, its `History` so far.

    Notes
    -----
    ``logs`` has values by name. All callbacks are given the same dict at the end of an epoch, and
    what they put in is recorded in `History`. The losses and accuracies of batches are averages
    over the epoch so far. While an epoch runs, hooks may call `predict`, `evaluate` and
    `get_weights`; whatever would change the network raises RuntimeError.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.callbacks import Callback
    >>> from cymlp.layers import Dense
    >>> class StopAt(Callback):
    ...     def __init__(self, loss):
    ...         self.loss = loss
    ...
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         if logs["loss"] < self.loss:
    ...             self.model.stop_training = True
    >>> net = Sequential([Dense(1)], random_state=0)
    >>> net.compile(optimizer="sgd", loss="squared_error")
    >>> X, y = [[0.0], [1.0]], [0.0, 1.0]
    >>> history = net.fit(X, y, epochs=1000, callbacks=[StopAt(0.1)], verbose=0)
    >>> len(history.epoch) < 1000
    True
    """

    model: Any = None
    params: Mapping[str, Any] = {}

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Take what `params` says; called first."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Take the network; called second, before it is built."""
        self.model = model

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin; the network is built."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """End without an exception; `logs` are the last epoch's."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Begin an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """End an epoch, after its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Begin a batch of the epoch, counted from 0."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """End a batch."""

    def on_progress(self, samples_done: int, logs: Logs | None = None) -> None:
        """Look at a running epoch about every 30 ms, and at its end; Keras has no such hook."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Begin the validation after an epoch."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """End the validation; `logs` has its values."""

    def close(self) -> None:
        """Let go of what is open; called last, also where `fit` raises. Keras has no such hook."""


#: What `Callback` has that a fit calls on its way.
HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_")) + ("close",)


class LambdaCallback(Callback):
    """A callback made of functions.

    Parameters
    ----------
    **hooks : callable
        By the names of the hooks of `Callback`, with their arguments.

    Raises
    ------
    TypeError, ValueError
        If a name is not that of a hook, or a value is not callable.

    Examples
    --------
    >>> from cymlp.callbacks import LambdaCallback
    >>> callback = LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs["loss"]))
    >>> callback.on_epoch_end(3, {"loss": 0.5})
    3 0.5
    """

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for name, function in hooks.items():
            if name not in HOOKS:
                raise ValueError(f"hooks must be named {', '.join(HOOKS)}, got {name!r}")
            if not callable(function):
                raise TypeError(f"{name} must be callable, got {function!r}")
        vars(self).update(hooks)


class _Monitor(Callback):
    """A callback that follows one of an epoch's values."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a value, got {monitor!r}")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f'mode must be "auto", "min" or "max", got {mode!r}')
        self.monitor = monitor
        self.mode = mode
        self.min_delta = _validate.real("min_delta", min_delta, low=0)
        self._sign = 0

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Refuse a fit without the validation that would give the value."""
        super().set_params(params)
        names = params["metrics"]
        if self.monitor.startswith("val_") and self.monitor not in names:
            hint = "" if "val_loss" in names else "; there is no validation data"
            raise ValueError(
                f"monitor must be one of {', '.join(names)}, got {self.monitor!r}{hint}"
            )

    def set_model(self, model: Any) -> None:
        """Find out which values are better."""
        super().set_model(model)
        mode: str | None = self.mode
        if mode == "auto":
            name = self.monitor.removeprefix("val_")
            known = {metric.name: metric.direction for metric in model.metrics}
            mode = "min" if name == "loss" else known.get(name)
            if mode is None:
                raise ValueError(
                    f'mode must be "min" or "max" for {self.monitor!r}, of which it is not known '
                    'what is better, got "auto"'
                )
        self._sign = 1 if mode == "min" else -1

    def _current(self, logs: Logs | None) -> float | None:
        """Return the epoch's value; None where this epoch was not validated."""
        logs = {} if logs is None else logs
        if self.monitor in logs:
            return float(logs[self.monitor])
        if self.monitor in self.params["metrics"]:
            return None
        raise ValueError(f"monitor must be one of {', '.join(logs)}, got {self.monitor!r}")

    def _is_better(self, value: float, than: float | None) -> bool:
        """Whether a value surpasses another by `min_delta`; NaN never does."""
        if than is None:
            return not math.isnan(value)
        return self._sign * value < self._sign * than - self.min_delta


class EarlyStopping(_Monitor):
    """Ends training when a value has stopped improving.

    Parameters
    ----------
    monitor : str, default="val_loss"
        Name of the value.
    min_delta : float, default=0.0
        What a change must surpass to be an improvement.
    patience : int, default=0
        Training ends after so many epochs in a row, at least one, without an improvement.
    mode : {"auto", "min", "max"}, default="auto"
        Which values are better. "auto" knows it of losses and of this library's metrics.
    baseline : float, optional
        Only what improves on it, too, counts as an improvement when epochs are counted.
    restore_best_weights : bool, default=False
        Whether the network is given the weights of its best epoch when the fit ends, early or not.
        The optimizer's state stays. A fit that ends in an exception keeps its last weights.
    start_from_epoch : int, default=0
        Epochs before this one do not count.

    Attributes
    ----------
    best : float or None
        The best value, None before the first one; NaN never is.
    best_epoch : int
        Its epoch.
    stopped_epoch : int
        The epoch that training ended with; 0 if it was not ended.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be. By `fit`: if there will be no value of the name, or
        `mode` is not known.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.callbacks import EarlyStopping
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], random_state=0)
    >>> net.compile(optimizer="sgd", loss="squared_error")
    >>> stop = EarlyStopping("loss", min_delta=1.0, patience=2)
    >>> len(net.fit([[0.0], [1.0]], [0.0, 1.0], epochs=1000, callbacks=[stop], verbose=0).epoch)
    3
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        *,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = _validate.integer("patience", patience, low=0)
        self.baseline = (
            None if baseline is None else _validate.real("baseline", baseline, low=-math.inf)
        )
        self.restore_best_weights = _validate.boolean("restore_best_weights", restore_best_weights)
        self.start_from_epoch = _validate.integer("start_from_epoch", start_from_epoch, low=0)
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self._best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start counting anew."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare the epoch's value with the best one."""
        current = self._current(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        better = self._is_better(current, self.best)
        if better:
            self.best, self.best_epoch = current, epoch
            if self.baseline is None or self._is_better(current, self.baseline):
                self.wait = 0
        if self.restore_best_weights and (better or self._best_weights is None):
            self._best_weights = self.model.get_weights()
            self.best_epoch = epoch
        if not better and self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Restore the best weights, if that is wanted."""
        if self._best_weights is not None:
            self.model.set_weights(self._best_weights)
            self._best_weights = None


class ModelCheckpoint(_Monitor):
    """Saves the network's weights while it trains.

    An ``.npz`` file of NumPy, with the arrays of `Sequential.get_weights` in their order; not the
    optimizer's state. It is written under another name and renamed: whoever reads it sees all of
    the old one or all of the new one.

    Parameters
    ----------
    filepath : str or path-like
        Ends in ``.npz``. May have places for `str.format`: ``{epoch}``, counted from 1, and the
        names of an epoch's values, ``{val_loss:.3f}``. Missing folders are made.
    monitor : str, default="val_loss"
        Name of the value that `save_best_only` goes by.
    save_best_only : bool, default=False
        Whether to save only after epochs that were better than all before.
    mode : {"auto", "min", "max"}, default="auto"
        Which values are better. "auto" knows it of losses and of this library's metrics.
    save_freq : "epoch" or int, default="epoch"
        Save after each epoch, or each time that so many batches are done. Batches have no
        validation values.
    initial_value_threshold : float, optional
        What the first value must surpass, such as the best of an earlier fit.

    Attributes
    ----------
    best : float or None
        The best value so far, over all fits that the callback has seen.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be. By `fit`: if there will be no value of the name.
    OSError
        By `fit`, if a file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from cymlp import Sequential
    >>> from cymlp.callbacks import ModelCheckpoint
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], random_state=0)
    >>> net.compile(optimizer="sgd", loss="squared_error")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "weights.npz")
    ...     _ = net.fit([[0.0], [1.0]], [0.0, 1.0], callbacks=[ModelCheckpoint(path)], verbose=0)
    ...     with np.load(path) as saved:
    ...         net.set_weights([saved[name] for name in saved.files])
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        *,
        save_best_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        if not isinstance(self.filepath, str) or not self.filepath.endswith(".npz"):
            raise ValueError(f"filepath must end in .npz, got {self.filepath!r}")
        self.save_best_only = _validate.boolean("save_best_only", save_best_only)
        self.save_freq = save_freq
        if save_freq != "epoch":
            if isinstance(save_freq, str):
                raise ValueError(f'save_freq must be "epoch" or an integer, got {save_freq!r}')
            self.save_freq = _validate.integer("save_freq", save_freq, low=1)
            if save_best_only and monitor.startswith("val_"):
                raise ValueError(
                    f"monitor must be a value of batches with save_freq={save_freq}, got "
                    f"{monitor!r}"
                )
            # Hooks of batches are there only where they are needed: they have a price.
            self.on_train_batch_end = self._count_batch  # type: ignore[method-assign]
        self.best = initial_value_threshold
        if initial_value_threshold is not None:
            self.best = _validate.real(
                "initial_value_threshold", initial_value_threshold, low=-math.inf
            )
        self._epoch = 0
        self._batches = 0

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Refuse a fit without the validation that would give the value."""
        if self.save_best_only:
            super().set_params(params)
        else:
            self.params = params

    def set_model(self, model: Any) -> None:
        """Find out which values are better."""
        if self.save_best_only:
            super().set_model(model)
        else:
            self.model = model

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Count batches from 0."""
        self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Keep the epoch's number for the name of a file."""
        self._epoch = epoch

    def _count_batch(self, batch: int, logs: Logs | None = None) -> None:
        self._batches += 1
        if self._batches % int(self.save_freq) == 0:
            self._save(logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save, if it is time."""
        if self.save_freq == "epoch":
            self._save(logs)

    def _save(self, logs: Logs | None) -> None:
        if self.save_best_only:
            current = self._current(logs)
            if current is None or not self._is_better(current, self.best):
                return
            self.best = current
        values = {**(logs or {}), "epoch": self._epoch + 1}
        try:
            path = self.filepath.format(**values)
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"filepath must name values of {', '.join(values)}, got {error.args[0]!r} in "
                f"{self.filepath!r}"
            ) from None
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        unfinished = f"{path}.{os.getpid()}.tmp"
        try:
            with open(unfinished, "wb") as file:
                np.savez(file, *self.model.get_weights())
            os.replace(unfinished, path)
        except BaseException:
            if os.path.exists(unfinished):
                os.unlink(unfinished)
            raise


class CSVLogger(Callback):
    """Writes a line per epoch to a file of comma-separated values.

    The first columns are ``epoch``, counted from 0, and the names of an epoch's values; what later
    epochs bring beyond those of the first is left out, what they lack is ``NA``. Each line is in
    the file when its epoch ends.

    Parameters
    ----------
    filename : str or path-like
    separator : str, default=","
        One character.
    append : bool, default=False
        Whether to go on with a file that is there, whose columns must be the same.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.
    OSError
        By `fit`, if the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from cymlp import Sequential
    >>> from cymlp.callbacks import CSVLogger
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    >>> net.compile(optimizer="sgd", loss="squared_error")
    >>> net.set_weights([[[2.0]], [0.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "log.csv")
    ...     _ = net.fit([[3.0]], [5.0], callbacks=[CSVLogger(path)], verbose=0)
    ...     print(open(path).read())
    epoch,loss
    0,0.5
    """

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        self.filename = os.fspath(filename)
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"separator must be one character, got {separator!r}")
        self.separator = separator
        self.append = _validate.boolean("append", append)
        self._file: Any = None
        self._writer: csv.DictWriter | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Open the file."""
        mode = "a" if self.append else "w"
        self._file = open(self.filename, mode, newline="")  # noqa: SIM115 (until close)
        self._writer = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write the epoch's line."""
        logs = {} if logs is None else logs
        if self._writer is None:
            names = list(dict.fromkeys(["epoch", *self.params["metrics"], *logs]))
            is_new = os.fstat(self._file.fileno()).st_size == 0
            if not is_new:
                with open(self.filename, newline="") as file:
                    there = next(csv.reader(file, delimiter=self.separator), [])
                if there != names:
                    raise ValueError(
                        f"{self.filename!r} must have the columns {', '.join(names)} to be "
                        f"continued, got {', '.join(there)}"
                    )
            self._writer = csv.DictWriter(
                self._file,
                names,
                restval="NA",
                extrasaction="ignore",
                delimiter=self.separator,
                lineterminator="\n",
            )
            if is_new:
                self._writer.writeheader()
        self._writer.writerow({"epoch": epoch, **logs})
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = self._writer = None


class LearningRateScheduler(Callback):
    """Sets the learning rate of each epoch; ``logs`` get it as ``learning_rate``.

    Parameters
    ----------
    schedule : callable(epoch, learning_rate)
        Returns the rate of the epoch, counted from 0, given that of the one before.

    Raises
    ------
    TypeError, ValueError
        If `schedule` is not callable; by `fit`, if it does not return a number greater than 0.

    Examples
    --------
    >>> from cymlp.callbacks import LearningRateScheduler
    >>> halved = LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch % 10 == 9 else rate)
    """

    def __init__(self, schedule: Callable[[int, float], float]) -> None:
        if not callable(schedule):
            raise TypeError(f"schedule must be callable, got {schedule!r}")
        self.schedule = schedule

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the epoch's rate."""
        rate = self.schedule(epoch, float(self.model.learning_rate))
        self.model.learning_rate = _validate.real(
            "what schedule returns", rate, low=0, closed="neither"
        )

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Record the rate."""
        if logs is not None:
            logs["learning_rate"] = float(self.model.learning_rate)


class ReduceLROnPlateau(_Monitor):
    """Lowers the learning rate when a value has stopped improving.

    ``logs`` get the rate that the epoch was trained with as ``learning_rate``.

    Parameters
    ----------
    monitor : str, default="val_loss"
        Name of the value.
    factor : float, default=0.1
        What the rate is multiplied with; greater than 0 and less than 1.
    patience : int, default=10
        Epochs in a row without an improvement after which it is.
    mode : {"auto", "min", "max"}, default="auto"
        Which values are better. "auto" knows it of losses and of this library's metrics.
    min_delta : float, default=1e-4
        What a change must surpass to be an improvement.
    cooldown : int, default=0
        Epochs after a reduction in which none is counted.
    min_lr : float, default=0.0
        The rate does not fall below it.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be. By `fit`: if there will be no value of the name, or
        `mode` is not known.

    Examples
    --------
    >>> from cymlp.callbacks import ReduceLROnPlateau
    >>> ReduceLROnPlateau(factor=0.5, patience=3).factor
    0.5
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        *,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = _validate.real("factor", factor, low=0, high=1, closed="neither")
        self.patience = _validate.integer("patience", patience, low=0)
        self.cooldown = _validate.integer("cooldown", cooldown, low=0)
        self.min_lr = _validate.real("min_lr", min_lr, low=0)
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.wait = 0
        self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start counting anew."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare the epoch's value with the best one."""
        rate = float(self.model.learning_rate)
        if logs is not None:
            logs["learning_rate"] = rate
        current = self._current(logs)
        if current is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._is_better(current, self.best):
            self.best = current
            self.wait = 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience and rate > self.min_lr:
                self.model.learning_rate = max(rate * self.factor, self.min_lr)
                self.cooldown_counter = self.cooldown
                self.wait = 0


class TerminateOnNaN(Callback):
    """Ends training when the loss is infinite or NaN.

    It looks about every 30 ms and at the end of an epoch; after each batch where another callback
    has a hook of batches.

    Examples
    --------
    >>> from cymlp.callbacks import TerminateOnNaN
    >>> callback = TerminateOnNaN()
    """

    def on_progress(self, samples_done: int, logs: Logs | None = None) -> None:
        """Look at the average loss so far."""
        self._look(logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Look at the epoch's loss."""
        self._look(logs)

    def _look(self, logs: Logs | None) -> None:
        if logs and not math.isfinite(logs.get("loss", 0.0)):
            self.model.stop_training = True


class HistogramLogger(Callback):
    """Counts how weights, and activations if wanted, are distributed, into `History.histograms`.

    Names are those of `Sequential.parameter_names`, such as ``layers[0].kernel``, and, of
    activations, ``layers[0].output``. Each has a list of (epoch, counts, edges) as
    `numpy.histogram` returns them.

    Parameters
    ----------
    freq : int, default=1
        Epochs from one count to the next.
    bins : int, default=30
    activations_of : array-like of shape (samples, n_inputs), optional
        Samples to count activations of.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    Notes
    -----
    Values that are not finite, or 1e300 and beyond, are left out.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.callbacks import HistogramLogger
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(8), Dense(1)], random_state=0)
    >>> net.compile(optimizer="sgd", loss="squared_error")
    >>> logger = HistogramLogger(bins=4)
    >>> history = net.fit([[0.0], [1.0]], [0.0, 1.0], callbacks=[logger], verbose=0)
    >>> epoch, counts, edges = history.histograms["layers[0].kernel"][0]
    >>> epoch, int(counts.sum()), len(edges)
    (0, 8, 5)
    """

    def __init__(self, freq: int = 1, bins: int = 30, activations_of: Any = None) -> None:
        self.freq = _validate.integer("freq", freq, low=1)
        self.bins = _validate.integer("bins", bins, low=1)
        self.activations_of = activations_of

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Count, if it is time."""
        if (epoch + 1) % self.freq:
            return
        arrays: dict[str, np.ndarray] = dict(
            zip(self.model.parameter_names(), self.model.get_weights(), strict=True)
        )
        if self.activations_of is not None:
            for i, array in enumerate(self.model.layer_outputs(self.activations_of)):
                arrays[f"layers[{i}].output"] = array
        for name, array in arrays.items():
            kept = self.params["history"].histograms.setdefault(name, [])
            kept.append((epoch, *_histogram(array, self.bins)))


def _histogram(array: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return counts and edges, whatever the array holds."""
    values = array.astype(np.float64)
    values = values[abs(values) < _HUGE]
    if values.size == 0:
        return np.histogram(values, bins)
    # `numpy.histogram` refuses bins that are narrower than two numbers are apart.
    low, high = values.min(), values.max()
    narrow = 2 * bins * np.spacing(max(-low, high))
    if 0 < high - low < narrow:
        low, high = low - narrow / 2, high + narrow / 2
    return np.histogram(values, bins, (low, high))


class ProgressBar(Callback):
    """Shows what a running fit does; ``fit(verbose=...)`` adds one behind all other callbacks.

    Parameters
    ----------
    verbose : {0, 1, 2, "auto"}, default="auto"
        As for `progress.EpochProgress`.

    Attributes
    ----------
    verbose : int
        0, 1 or 2: what "auto" came to.

    Raises
    ------
    ValueError
        If `verbose` is something else.
    ImportError
        If `verbose` is 1 and tqdm is not installed.

    Examples
    --------
    >>> from cymlp.callbacks import ProgressBar
    >>> ProgressBar(2).verbose
    2
    """

    def __init__(self, verbose: int | str = "auto") -> None:
        self.verbose, _ = resolve_verbose(verbose)
        self._progress = EpochProgress(1, 1, 0)

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Take the numbers of epochs and samples."""
        super().set_params(params)
        self._progress = EpochProgress(params["epochs"], params["samples"], self.verbose)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Begin a bar or a line."""
        self._progress.start_epoch(epoch)

    def on_progress(self, samples_done: int, logs: Logs | None = None) -> None:
        """Move the bar."""
        self._progress.update(samples_done, logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Show the epoch's values."""
        self._progress.end_epoch(logs or {})

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._progress.close()
