"""The loop of `Sequential.fit`: epochs, their validation, and callbacks between them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cymlp import _validate
from cymlp._lbfgs import minimize
from cymlp.callbacks import HOOKS, Callback, ProgressBar
from cymlp.data import Samples
from cymlp.exceptions import DivergenceWarning
from cymlp.history import History
from cymlp.optimizers import LBFGS
from cymlp.progress import resolve_verbose

if TYPE_CHECKING:
    from cymlp._batch import Described
    from cymlp._batches import BatchStream
    from cymlp.model import Sequential

__all__ = ["Fit", "Plan", "checked_callbacks"]

_EPOCH_HOOKS = ("on_epoch_begin", "on_epoch_end")
_LOSSES = ("loss", "val_loss")
_BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end")


#: The logs of an epoch, and the penalty that their loss has in it.
Scores = tuple[dict[str, float], float]


class Plan(NamedTuple):
    """How a fit goes, validated.

    Attributes
    ----------
    epochs, initial_epoch : int
        The number that the last epoch ends with, and that of the first one.
    batch_size : int
    shuffle : bool
    validation_freq : int or collection of int
        From one validation to the next, or the epochs with one; counted from 1.
    n_threads : int
        0 for the default.
    order : callable(n_epochs) -> ndarray of shape (n_epochs, samples), int64, optional
        Called for the orders in which the next epochs visit the samples; `shuffle` is then of no
        meaning.
    at_once : callable() -> int, optional
        Called for how many epochs may go by before callbacks are told of each of them, which
        otherwise happens between one epoch and the next.
    by_count : bool, default=False
        See `Network.train`.
    objective : callable(loss, penalty) -> float, optional
        What `LBFGS` takes for the value of the loss.
    """

    epochs: int
    initial_epoch: int
    batch_size: int
    shuffle: bool
    validation_freq: int | Collection[int]
    n_threads: int
    order: Callable[[int], np.ndarray] | None = None
    at_once: Callable[[], int] | None = None
    by_count: bool = False
    objective: Callable[[float, float], float] | None = None

    def validates(self, epoch: int) -> bool:
        """Return whether an epoch, counted from 0, is followed by a validation."""
        if isinstance(self.validation_freq, int):
            return (epoch + 1) % self.validation_freq == 0
        return epoch + 1 in self.validation_freq


def checked_epochs(epochs: Any, initial_epoch: Any) -> tuple[int, int]:
    """Return both as integers; refuse an initial epoch behind the last one."""
    epochs = _validate.integer("epochs", epochs, low=1)
    return epochs, _validate.integer("initial_epoch", initial_epoch, low=0, high=epochs)


def checked_validation_freq(value: Any) -> int | frozenset[int]:
    """Return an integer, or the set of integers that a collection has."""
    if not isinstance(value, (int, str, bytes)) and isinstance(value, Collection):
        return frozenset(_validate.integer("validation_freq", item, low=1) for item in value)
    return _validate.integer("validation_freq", value, low=1)


def checked_callbacks(callbacks: Any, verbose: int | str) -> list[Callback]:
    """Return a fit's callbacks: the user's and, if it shows something, a progress bar."""
    if isinstance(callbacks, Callback):
        callbacks = [callbacks]
    if callbacks is not None and not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a list of callbacks, got {callbacks!r}")
    found = [] if callbacks is None else list(callbacks)
    for i, callback in enumerate(found):
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks[{i}] must be a Callback, got {callback!r}")
    level, _ = resolve_verbose(verbose)
    return [*found, ProgressBar(level)] if level else found


def _overridden(callbacks: list[Callback]) -> dict[str, list[Callable[..., None]]]:
    """Return the hooks that do anything, be they a class's or an instance's own."""
    hooks: dict[str, list[Callable[..., None]]] = {}
    for callback in callbacks:
        for name in HOOKS:
            hook = getattr(callback, name)
            if getattr(hook, "__func__", None) is not getattr(Callback, name):
                hooks.setdefault(name, []).append(hook)
    return hooks


class Fit:
    """One fit of a compiled network.

    Parameters
    ----------
    model : Sequential
    samples : Samples or None
        To train on; None where they come in batches: see `BatchFit`.
    validation : Samples or None
    plan : Plan
    callbacks : list of Callback

    Attributes
    ----------
    history : History
    within : str
        What warnings say in front of the names of values; "" unless it is set.
    warns : bool
        Whether a loss that is not finite is said in a warning.
    minimum : scipy.optimize.OptimizeResult or None
        How `LBFGS` ended; None where it was stopped.
    """

    def __init__(
        self,
        model: Sequential,
        samples: Samples | None,
        validation: Samples | None,
        plan: Plan,
        callbacks: list[Callback],
    ) -> None:
        self.model = model
        self.samples = samples
        self.validation = validation
        self.plan = plan
        self.callbacks = callbacks
        self.history = History()
        self.within = ""
        self.minimum: Any = None
        self.warns = True
        self.diverged = False
        self.hooks = _overridden(callbacks)
        # The core returns to Python no more often than somebody wants to know.
        self.every_batch = not self.hooks.keys().isdisjoint(_BATCH_HOOKS)
        self.in_epochs = self.every_batch or "on_progress" in self.hooks
        self.every_epoch = self.in_epochs or not self.hooks.keys().isdisjoint(_EPOCH_HOOKS)
        if callbacks:
            self._introduce()

    def _introduce(self) -> None:
        """Tell the callbacks of the fit, which they may refuse: nothing has changed yet."""
        plan = self.plan
        n_samples = None if self.samples is None else len(self.samples)
        metrics = self.model._log_names(self.validation is not None)
        bars = [c.verbose for c in self.callbacks if isinstance(c, ProgressBar)]
        params = {
            "epochs": plan.epochs,
            "initial_epoch": plan.initial_epoch,
            "steps": self._n_steps(),
            "samples": n_samples,
            "batch_size": plan.batch_size,
            "verbose": max(bars, default=0),
            "metrics": metrics,
            "history": self.history,
        }
        for callback in self.callbacks:
            callback.set_params(params)
        for callback in self.callbacks:
            callback.set_model(self.model)

    def _n_steps(self) -> int | None:
        """Return how many batches an epoch has, if that is known."""
        assert self.samples is not None
        return -(-len(self.samples) // self.plan.batch_size)

    def _call(self, hook: str, *arguments: Any) -> None:
        for function in self.hooks.get(hook, ()):
            function(*arguments)

    def run(self) -> History:
        """Train the built network to the end or until a callback has it stopped."""
        self.model.stop_training = False
        try:
            self._call("on_train_begin", {})
            self._call("on_train_end", self._run())
        finally:
            self._close()
        return self.history

    def _run(self) -> dict[str, float]:
        """Train; return the last epoch's logs."""
        assert self.samples is not None
        described = self.model._describe(self.samples)
        if isinstance(self.model.optimizer, LBFGS):
            return self._minimize(described, self.model.optimizer)
        epoch, last = self.plan.initial_epoch, self.plan.epochs
        logs: dict[str, float] = {}
        while epoch < last and not self.model.stop_training:
            n_epochs = self._epochs_at_once(epoch)
            self._call("on_epoch_begin", epoch, {})
            logs = self._end_epochs(epoch, self._train(described, epoch, n_epochs))
            epoch += n_epochs
        return logs

    def _minimize(self, described: Described, optimizer: LBFGS) -> dict[str, float]:
        """Train with an iteration of L-BFGS for each epoch."""
        logs: dict[str, float] = {}
        first, last = self.plan.initial_epoch, self.plan.epochs

        def on_iteration(number: int, loss: float, accuracy: float, penalty: float) -> bool:
            nonlocal logs
            self.model._epochs_done += 1
            logs = self._end_epochs(first + number, [(self.model._logs(loss, accuracy), penalty)])
            if first + number + 1 < last:
                self._call("on_epoch_begin", first + number + 1, {})
            return self.model.stop_training

        if first < last:
            self._call("on_epoch_begin", first, {})
            self.minimum = minimize(
                self.model._network,
                described,
                optimizer,
                last - first,
                self.plan.n_threads,
                on_iteration,
                self.plan.objective,
            )
        return logs

    def _close(self) -> None:
        """Close every callback, even where the closing of another one raises."""
        errors = []
        for close in self.hooks.get("close", ()):
            try:
                close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _epochs_at_once(self, epoch: int) -> int:
        """Return how many epochs go by until somebody looks."""
        last = self.plan.epochs
        if self.plan.at_once is not None:
            return min(self.plan.at_once(), last - epoch)
        if self.every_epoch:
            return 1
        if self.validation is not None:
            looks = (e for e in range(epoch, last) if self.plan.validates(e))
            last = next(looks, last - 1) + 1
        return last - epoch

    def _end_epochs(self, epoch: int, every: list[Scores]) -> dict[str, float]:
        """Record some epochs, of which the last may be followed by a validation."""
        logs, _ = every[-1]
        if self.validation is not None and self.plan.validates(epoch + len(every) - 1):
            logs |= self._validate(self.validation)
        self._warn_if_diverged(epoch, [values for values, _ in every])
        self._record(epoch, every)
        return logs

    def _record(self, epoch: int, every: list[Scores]) -> None:
        for done, (logs, penalty) in enumerate(every, epoch):
            self.model._penalty = penalty
            self._call("on_epoch_end", done, logs)
            self.history.record(done, logs)

    def _train(self, described: Described, epoch: int, n_epochs: int) -> list[Scores]:
        plan = self.plan
        assert self.samples is not None
        if self.every_batch:
            self._call("on_train_batch_begin", 0, {})
        every: list[Scores] = []
        try:
            self.model._run_epochs(
                described,
                every,
                n_epochs,
                plan.batch_size,
                plan.shuffle,
                self._tick(len(self.samples)),
                self.every_batch,
                plan.n_threads,
                order=plan.order(n_epochs) if plan.order else None,
                by_count=plan.by_count,
            )
        except BaseException:  # of these epochs callbacks are told, of the one that raised not
            self._record(epoch, every)
            raise
        return every

    def _tick(self, n_samples: int) -> Callable[[int, dict[str, float]], bool] | None:
        """Return what is called in the middle of an epoch; it returns whether to end that."""
        if not self.in_epochs:
            return None

        def tick(done: int, logs: dict[str, float]) -> bool:
            if self.every_batch:
                batch = -(-done // self.plan.batch_size) - 1
                self._call("on_train_batch_end", batch, logs)
            self._call("on_progress", done, logs)
            stop = bool(self.model.stop_training)
            if self.every_batch and not stop and done < n_samples:
                self._call("on_train_batch_begin", batch + 1, {})
            return stop

        return tick

    def _validate(self, validation: Samples) -> dict[str, float]:
        self._call("on_test_begin", {})
        scores = self.model._evaluate(validation, self.plan.n_threads)
        self._call("on_test_end", scores)
        return {f"val_{name}": value for name, value in scores.items()}

    def _warn_if_diverged(self, epoch: int, every: list[dict[str, float]]) -> None:
        """Say once where the losses of these epochs were first not finite."""
        sums = sum(logs["loss"] for logs in every) + every[-1].get("val_loss", 0.0)
        if math.isfinite(sums) or self.diverged or not self.warns:
            return
        bad = next(
            (
                (number, name, logs[name])
                for number, logs in enumerate(every, epoch + 1)
                for name in _LOSSES
                if not math.isfinite(logs.get(name, 0.0))
            ),
            None,
        )
        if bad is None:
            return
        self.diverged = True
        number, name, value = bad
        warnings.warn(
            f"{self.within}{name} of epoch {number}/{self.plan.epochs} is {value}{self._whence()}; "
            "a lower learning rate or scaled inputs may help",
            DivergenceWarning,
            stacklevel=6,
        )

    def _whence(self) -> str:
        """Return what the core knows of a divergence."""
        found = self.model._network.divergence
        if found is None:  # the epoch's last step made it so
            return ""
        step, index = found
        if index < 0:
            return f", not finite by step {step} of the optimizer"
        plan = self.model._plan
        places = plan.places if plan else []
        what = "the loss alone"
        if index < len(places):
            what = f"first the outputs of {places[index]}"
        return f", not finite from step {step} of the optimizer on, {what}"


class BatchFit(Fit):
    """A fit on batches as they come, each of which is a step.

    Parameters
    ----------
    model : Sequential
    stream : BatchStream
    prepare_validation : callable(n_inputs) -> Samples or None
        Called when the first batch is there.
    plan : Plan
    callbacks : list of Callback
    """

    def __init__(
        self,
        model: Sequential,
        stream: BatchStream,
        steps_per_epoch: int | None,
        prepare_validation: Callable[[int], Samples | None],
        plan: Plan,
        callbacks: list[Callback],
    ) -> None:
        self.stream = stream
        self.steps_per_epoch = steps_per_epoch
        self.prepare_validation = prepare_validation
        self.is_begun = False
        super().__init__(model, None, None, plan, callbacks)

    def _n_steps(self) -> int | None:
        return self.steps_per_epoch

    def _run(self) -> dict[str, float]:
        logs: dict[str, float] = {}
        with self.stream:
            for epoch in range(self.plan.initial_epoch, self.plan.epochs):
                if self.model.stop_training:
                    break
                self._call("on_epoch_begin", epoch, {})
                logs = self._end_epochs(epoch, [(self._train_batches(), 0.0)])
        return logs

    def _train_batches(self) -> dict[str, float]:
        """Train on the batches of an epoch; return their weighted averages."""
        model, n_samples = self.model, 0
        sums = np.zeros(3)
        logs: dict[str, float] = {}
        for batch, samples in enumerate(self.stream.epoch()):
            if not self.is_begun:
                self.validation = self.prepare_validation(samples.n_inputs)
                model.build(samples.n_inputs)
                self.is_begun = True
            self._call("on_train_batch_begin", batch, {})
            results: list[tuple[float, float, float]] = []
            model._network.train(
                model._describe(samples), len(samples), results, n_threads=self.plan.n_threads
            )
            n_samples += len(samples)
            weight = len(samples) if samples.weight is None else samples.weight.sum()
            sums += weight * np.array([*results[0][:2], 1])
            logs = model._logs(*(sums[:2] / (sums[2] or 1)).tolist())
            self._call("on_train_batch_end", batch, logs)
            self._call("on_progress", n_samples, logs)
            if model.stop_training:
                break
        model._epochs_done += 1
        return logs
