"""What happens between the epochs of an estimator's fit: scikit-learn's rules, as a callback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .callbacks import Callback
from .losses import Poisson, SquaredError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._estimator_base import BaseMLP
    from .data import Samples

# The learning rate below which adaptive training ends, and what it is divided by before.
_SMALLEST_RATE = 1e-6
_SLOWER = 5.0
# Of orders, in memory at once.
_MOST_NUMBERS = 200_000
# What is left of a rate that nothing moves by, and that a velocity can still be counted in.
_STANDSTILL = 1e-12


class Order:
    """The order in which each epoch visits the samples, drawn as scikit-learn draws it.

    Parameters
    ----------
    n_samples : int
    rng : RandomState or None
        None: the samples are visited as they stand.

    Attributes
    ----------
    last : ndarray of shape (n_samples,), int64
        The order that was last drawn.
    n_at_once : int
        How many orders are drawn at a time, at most: they take some megabytes.
    """

    def __init__(self, n_samples: int, rng: np.random.RandomState | None) -> None:
        self._rng = rng
        self.last = np.arange(n_samples, dtype=np.int64)
        self.n_at_once = max(1, _MOST_NUMBERS // n_samples)

    def __call__(self, n_orders: int) -> NDArray[np.int64]:
        """Return the next ones, one per row: each is the one before, shuffled."""
        orders = np.empty((n_orders, len(self.last)), dtype=np.int64)
        orders[:] = np.arange(len(self.last))
        if self._rng is not None:
            for order in orders:
                self._rng.shuffle(order)
                order[:] = self.last[order]
                self.last = order
        return orders


class Report:
    """Turns what training minimised into the loss that scikit-learn reports of it.

    Its squared error is the mean over the outputs, though its gradient is that of their sum; its
    Poisson loss has the terms that depend on the targets alone.

    Parameters
    ----------
    estimator : BaseMLP
    samples : Samples
    batch_size : int
    order : Order
    """

    def __init__(self, estimator: BaseMLP, samples: Samples, batch_size: int, order: Order) -> None:
        loss = estimator.network_.loss
        self._n_means = estimator.n_outputs_ if isinstance(loss, SquaredError) else 1
        self._batch_size, self._order, self._weight = batch_size, order, samples.weight
        self._constants: NDArray[np.float64] | None = None
        if isinstance(loss, Poisson):
            assert samples.values is not None
            self._constants = poisson_constants(samples.values)
        self._mean = 0.0 if self._constants is None else float(self._constants.mean())
        self._reads_order = self._constants is not None and self._weight is not None
        # How many epochs may have been trained when the first of them is reported.
        self.n_at_once = 1 if self._reads_order else order.n_at_once

    def __call__(self, loss: float, penalty: float) -> float:
        """Return what an epoch's averages of loss and penalty are reported as."""
        return (loss - penalty) / self._n_means + penalty + self._constant()

    def _constant(self) -> float:
        if not self._reads_order:
            return self._mean
        assert self._constants is not None and self._weight is not None
        starts = np.arange(0, len(self._order.last), self._batch_size)
        sizes = np.diff(starts, append=len(self._order.last))
        weight = self._weight[self._order.last]
        sums = np.add.reduceat(weight * self._constants[self._order.last], starts)
        totals = np.add.reduceat(weight, starts)
        means = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
        return float(np.average(means, weights=sizes))


def poisson_constants(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return t log(t) - t, summed over the outputs of each sample."""
    t = values.astype(np.float64)
    return (t * np.log(np.where(t > 0, t, 1)) - t).sum(axis=1)


class HeldOut:
    """Samples that training does not see, and how their scores are taken.

    Parameters
    ----------
    estimator : BaseMLP
    score : callable(logs) -> float
    report : Report
        Of their loss.
    stops : bool
        Whether training goes by the scores, and keeps the weights of the best one.
    """

    def __init__(
        self,
        estimator: BaseMLP,
        score: Callable[[Mapping[str, float]], float],
        report: Report,
        *,
        stops: bool,
    ) -> None:
        self._estimator, self.score, self.report, self.stops = estimator, score, report, stops
        # A network that goes on from an earlier fit has the best weights so far.
        self._best_weights = estimator.network_.get_weights() if stops else []

    def keep(self) -> None:
        """Note the network's weights as the best ones."""
        if self.stops:
            self._best_weights = self._estimator.network_.get_weights()

    def restore(self) -> None:
        """Give the network the best weights."""
        if self.stops:
            self._estimator.network_.set_weights(self._best_weights)


class Progress(Callback):
    """Records each epoch in an estimator, looks for improvement, and slows down or stops.

    Parameters
    ----------
    estimator : BaseMLP
    n_samples : int
        Samples that are trained on.
    report : Report
    held_out : HeldOut or None
    changes_rate : bool
        Whether the estimator's `learning_rate` means what it does in scikit-learn: a rule for the
        end of an epoch.
    stops : bool
        Whether training ends where there is no improvement.
    """

    def __init__(
        self,
        estimator: BaseMLP,
        n_samples: int,
        report: Report,
        held_out: HeldOut | None,
        *,
        changes_rate: bool,
        stops: bool,
    ) -> None:
        self._estimator, self._n_samples = estimator, n_samples
        self._report, self._held_out = report, held_out
        self._rule = estimator.learning_rate if changes_rate else "constant"
        self._prints = estimator.verbose and estimator.verbose != "progress"
        self._stops = stops

    def epochs_at_once(self) -> int:
        """Return how many epochs can go by before one of them may have to be acted upon."""
        if self._prints or self._held_out is not None or self._rule == "invscaling":
            return 1
        estimator, most = self._estimator, self._report.n_at_once
        if not self._stops:
            return most
        epochs = estimator.n_iter_no_change - estimator._no_improvement_count + 1
        return max(1, int(min(epochs, most)))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Take note of the epoch."""
        assert logs is not None
        estimator = self._estimator
        estimator.loss_ = self._report(logs["loss"], estimator.network_._penalty)
        estimator.n_iter_ += 1
        estimator.t_ += self._n_samples
        estimator.loss_curve_.append(estimator.loss_)
        self._say(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        self._look_for_improvement(logs)
        if self._rule == "invscaling":
            slower = max((estimator.t_ + 1.0) ** -estimator.power_t, _STANDSTILL)
            self._set_rate(float(estimator.learning_rate_init) * slower)
        if self._stops and estimator._no_improvement_count > estimator.n_iter_no_change:
            self._slow_down_or_stop()

    def _look_for_improvement(self, logs: Mapping[str, float]) -> None:
        estimator, held_out = self._estimator, self._held_out
        score, best_score = np.nan, -np.inf
        if held_out is not None:
            score = held_out.score(logs)
            self._say(f"Validation score: {score:f}")
            assert estimator.validation_scores_ is not None
            assert estimator.validation_loss_curve_ is not None
            estimator.validation_scores_.append(score)
            loss = logs["val_loss"] - estimator.network_._validation_penalty
            estimator.validation_loss_curve_.append(held_out.report(loss, 0.0))
            if estimator.best_validation_score_ is not None:
                best_score = estimator.best_validation_score_
            estimator.best_validation_score_ = max(best_score, score)
            if score > best_score:  # NaN never is
                held_out.keep()
        if held_out is not None and held_out.stops:
            self._count(no_better=score < best_score + estimator.tol)
            return
        best = np.inf if estimator.best_loss_ is None else estimator.best_loss_
        self._count(no_better=estimator.loss_ > best - estimator.tol)
        estimator.best_loss_ = min(best, estimator.loss_)

    def _count(self, *, no_better: bool) -> None:
        estimator = self._estimator
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if no_better else 0

    def _slow_down_or_stop(self) -> None:
        estimator = self._estimator
        stops_by_score = self._held_out is not None and self._held_out.stops
        message = (
            f"{'Validation score' if stops_by_score else 'Training loss'} did not improve more "
            f"than tol={estimator.tol:f} for {estimator.n_iter_no_change} consecutive epochs."
        )
        rate = estimator.network_.learning_rate if self._rule == "adaptive" else 0.0
        if self._rule != "adaptive":
            self._say(f"{message} Stopping.")
        elif rate <= _SMALLEST_RATE:
            self._say(f"{message} Learning rate too small. Stopping.")
        else:
            self._set_rate(rate / _SLOWER)
            self._say(f"{message} Setting learning rate to {rate / _SLOWER:f}")
            estimator._no_improvement_count = 0
            return
        estimator.network_.stop_training = True

    def _set_rate(self, rate: float) -> None:
        self._estimator.network_._set_learning_rate(rate, keeps_velocity=True)

    def _say(self, line: str) -> None:
        if self._prints:
            print(line)
