"""Metrics: what training and evaluation report beside the loss.

Accuracy is counted while the kernels train, and so reported of the training samples too. All others
are computed from the outputs of a whole set at once, by `Sequential.evaluate` and of `fit`'s
validation samples: of the training samples that would take another forward pass per epoch.
Each class is a frozen description; ``cymlp/_scores.py`` does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, ClassVar

from cymlp import _validate
from cymlp._frozen import Frozen

__all__ = [
    "F1",
    "Accuracy",
    "CosineSimilarity",
    "FunctionMetric",
    "LogLoss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "Metric",
    "Precision",
    "R2",
    "ROCAUC",
    "Recall",
    "RootMeanSquaredError",
    "TopKAccuracy",
]

AVERAGES = ("auto", "binary", "macro", "micro", "weighted")


class Metric(Frozen):
    """Base of all metrics.

    Attributes
    ----------
    name : str
        The key of its values in `History` and in what `Sequential.evaluate` returns. The default is
        what `Sequential.compile` accepts instead of an instance.
    direction : {"min", "max", None}
        Which values are better; None is not known.
    """

    direction: ClassVar[str | None] = None
    name: str = field(default="metric", kw_only=True)

    def __post_init__(self) -> None:
        """Validate the name."""
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, got {self.name!r}")
        if not self.name or self.name == "loss" or self.name.startswith("val_"):
            raise ValueError(
                'name must not be empty, "loss" or begin with "val_", which `fit` uses itself, got '
                f"{self.name!r}"
            )


class Accuracy(Metric):
    """Share of the samples whose largest output is where the largest target is.

    With one output: whose output and target are on the same side of 0.5. Weighted where sample
    weights are given.

    Examples
    --------
    >>> from cymlp.metrics import Accuracy
    >>> Accuracy().name
    'accuracy'
    """

    direction: ClassVar[str | None] = "max"
    name: str = field(default="accuracy", kw_only=True)


class TopKAccuracy(Metric):
    """Share of the samples whose class is among the k largest outputs.

    The class is the label, or where the largest target is. A class whose output equals the k-th
    largest is among them.

    Parameters
    ----------
    k : int, default=5
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    Examples
    --------
    >>> from cymlp.metrics import TopKAccuracy
    >>> TopKAccuracy(3, name="top3").name
    'top3'
    """

    direction: ClassVar[str | None] = "max"
    k: int = 5
    name: str = field(default="top_k_accuracy", kw_only=True)

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        _validate.integer("k", self.k, low=1)


class _OfClasses(Metric):
    """A metric of the predicted classes, averaged over them."""

    direction: ClassVar[str | None] = "max"
    average: str = "auto"

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        if self.average not in AVERAGES:
            raise ValueError(f"average must be one of {', '.join(AVERAGES)}, got {self.average!r}")


class Precision(_OfClasses):
    """Of the samples that were taken for a class, the share that is of it: tp / (tp + fp).

    Classes are those of the largest output and target; with one output, or several under
    `BinaryCrossEntropy`, each output is a class of its own, predicted above 0.5. A share of nothing
    is 0.

    Parameters
    ----------
    average : {"auto", "binary", "macro", "micro", "weighted"}, default="auto"
        "binary" is the precision of class 1, of one output or two classes. "macro" averages over
        the classes that occur among targets or predictions, "weighted" with the number of their
        samples as weights, "micro" sums tp and fp over the classes first. "auto" is "binary" where
        that is possible, else "macro".

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    Examples
    --------
    >>> from cymlp.metrics import Precision
    >>> Precision(average="weighted").average
    'weighted'
    """

    name: str = field(default="precision", kw_only=True)


class Recall(_OfClasses):
    """Of the samples of a class, the share that was taken for it: tp / (tp + fn).

    Parameters
    ----------
    average : {"auto", "binary", "macro", "micro", "weighted"}, default="auto"
        As for `Precision`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    Examples
    --------
    >>> from cymlp.metrics import Recall
    >>> Recall().name
    'recall'
    """

    name: str = field(default="recall", kw_only=True)


class F1(_OfClasses):
    """Harmonic mean of a class's precision and recall: 2 tp / (2 tp + fp + fn).

    Parameters
    ----------
    average : {"auto", "binary", "macro", "micro", "weighted"}, default="auto"
        As for `Precision`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    Examples
    --------
    >>> from cymlp.metrics import F1
    >>> F1("macro").average
    'macro'
    """

    name: str = field(default="f1", kw_only=True)


class ROCAUC(Metric):
    """Area under the receiver operating characteristic.

    The chance that a sample of a class has a larger output for it than one that is not of it; equal
    ones count half. With two classes, of class 1. With more, and with several yes-or-no outputs,
    the average over those that some samples belong to and some do not; NaN if there is none.

    References
    ----------
    T. Fawcett, "An introduction to ROC analysis", 2006, section 7.

    Examples
    --------
    >>> from cymlp.metrics import ROCAUC
    >>> ROCAUC().name
    'roc_auc'
    """

    direction: ClassVar[str | None] = "max"
    name: str = field(default="roc_auc", kw_only=True)


class MeanSquaredError(Metric):
    """Average of (y - t)^2 over samples and outputs: twice `SquaredError` for one output.

    Class labels stand for one-hot rows, here and in the metrics below.

    Examples
    --------
    >>> from cymlp.metrics import MeanSquaredError
    >>> MeanSquaredError().name
    'mean_squared_error'
    """

    direction: ClassVar[str | None] = "min"
    name: str = field(default="mean_squared_error", kw_only=True)


class RootMeanSquaredError(Metric):
    """Root of the average of (y - t)^2 over the samples, averaged over the outputs.

    Examples
    --------
    >>> from cymlp.metrics import RootMeanSquaredError
    >>> RootMeanSquaredError(name="rmse").name
    'rmse'
    """

    direction: ClassVar[str | None] = "min"
    name: str = field(default="root_mean_squared_error", kw_only=True)


class MeanAbsoluteError(Metric):
    """Average of abs(y - t) over samples and outputs.

    Examples
    --------
    >>> from cymlp.metrics import MeanAbsoluteError
    >>> MeanAbsoluteError().name
    'mean_absolute_error'
    """

    direction: ClassVar[str | None] = "min"
    name: str = field(default="mean_absolute_error", kw_only=True)


class MeanAbsolutePercentageError(Metric):
    """Average of abs(y - t) / abs(t) over samples and outputs: 1 is 100 percent.

    A target of 0 counts as float64's epsilon, as in scikit-learn.

    Examples
    --------
    >>> from cymlp.metrics import MeanAbsolutePercentageError
    >>> MeanAbsolutePercentageError().name
    'mean_absolute_percentage_error'
    """

    direction: ClassVar[str | None] = "min"
    name: str = field(default="mean_absolute_percentage_error", kw_only=True)


class R2(Metric):
    """Coefficient of determination, 1 - sum (t - y)^2 / sum (t - mean t)^2, averaged over outputs.

    Where the targets do not vary it is 1 if all outputs are right, else 0, as in scikit-learn; of a
    single sample it is NaN.

    Examples
    --------
    >>> from cymlp.metrics import R2
    >>> R2().name
    'r2'
    """

    direction: ClassVar[str | None] = "max"
    name: str = field(default="r2", kw_only=True)


class CosineSimilarity(Metric):
    """Cosine of the angle between a sample's outputs and targets, averaged over the samples.

    0 where one of the two is all zeros.

    Examples
    --------
    >>> from cymlp.metrics import CosineSimilarity
    >>> CosineSimilarity().name
    'cosine_similarity'
    """

    direction: ClassVar[str | None] = "max"
    name: str = field(default="cosine_similarity", kw_only=True)


class LogLoss(Metric):
    """Cross-entropy of probabilities, without the penalties that the loss includes.

    -sum_j t_j log y_j, averaged over the samples. With one output, or several under
    `BinaryCrossEntropy`, -[t log y + (1 - t) log(1 - y)], averaged over samples and outputs.
    Probabilities are taken as at least the dtype's epsilon.

    Examples
    --------
    >>> from cymlp.metrics import LogLoss
    >>> LogLoss().name
    'log_loss'
    """

    direction: ClassVar[str | None] = "min"
    name: str = field(default="log_loss", kw_only=True)


class FunctionMetric(Metric):
    """A function of targets and predictions, such as those of `sklearn.metrics`.

    `Sequential.compile` makes one of a plain function. It is called with the targets and the
    predictions of all samples and, if it takes such an argument and weights are given, with
    ``sample_weight=``; what it returns must be a number.

    Parameters
    ----------
    function : callable(y_true, y_pred)
    on : {"targets", "outputs", "classes"}, default="targets"
        What ``y_pred`` is. "outputs": what `Sequential.predict` returns; of shape (samples,) with
        one output, as ``y_true`` is then. "classes": the classes, and those of ``y_true``: where
        the largest output and target are, integers of shape (samples,); with one output, or several
        under `BinaryCrossEntropy`, 1 above 0.5 and else 0. A sample with a NaN output is of
        class -1. "targets": what is like the targets, classes if those are labels, else outputs.
    mode : {"min", "max", None}, default=None
        Which values are better, for callbacks with ``mode="auto"``.
    name : str, optional
        By default the function's.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    Examples
    --------
    >>> from cymlp.metrics import FunctionMetric
    >>> def largest_error(y_true, y_pred):
    ...     return abs(y_true - y_pred).max()
    >>> FunctionMetric(largest_error, mode="min").name
    'largest_error'
    """

    function: Callable[..., Any]
    on: str = "targets"
    mode: str | None = None
    name: str = field(default="", kw_only=True)

    @property
    def direction(self) -> str | None:  # type: ignore[override]
        """Which values are better; None is not known."""
        return self.mode

    def __post_init__(self) -> None:
        """Validate the arguments and take the function's name."""
        if not callable(self.function):
            raise TypeError(
                f"function must be a callable of y_true and y_pred, got {self.function!r}"
            )
        if self.on not in ("targets", "outputs", "classes"):
            raise ValueError(f"on must be one of targets, outputs, classes, got {self.on!r}")
        if self.mode not in ("min", "max", None):
            raise ValueError(f'mode must be "min", "max" or None, got {self.mode!r}')
        if self.name == "":
            bare = getattr(self.function, "func", self.function)  # of a functools.partial
            name = getattr(bare, "__name__", "<")
            if name.startswith("<"):
                raise ValueError(f"name must be given for {self.function!r}, which has none")
            object.__setattr__(self, "name", name)
        super().__post_init__()


_KINDS: tuple[type[Metric], ...] = (
    Accuracy,
    TopKAccuracy,
    Precision,
    Recall,
    F1,
    ROCAUC,
    MeanSquaredError,
    MeanAbsoluteError,
    RootMeanSquaredError,
    R2,
    MeanAbsolutePercentageError,
    CosineSimilarity,
    LogLoss,
)

#: What a name means; a metric given by its name has that name, the short ones too.
METRICS: dict[str, type[Metric]] = {kind.name: kind for kind in _KINDS} | {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "rmse": RootMeanSquaredError,
    "mape": MeanAbsolutePercentageError,
}


def checked(metrics: Any, n_outputs: int, *, exclusive: bool) -> tuple[Metric, ...]:
    """Return metrics of all kinds that `Sequential.compile` takes as instances.

    Parameters
    ----------
    metrics : sequence of str, Metric or callable, or None
    n_outputs : int
        Of the network.
    exclusive : bool
        Whether several outputs are classes of which a sample has one, and not yes-or-no outputs.

    Raises
    ------
    TypeError, ValueError
        If one is not what it must be, does not fit the network, or two have the same name.
    """
    if metrics is None:
        return ()
    if isinstance(metrics, (str, Metric)) or not isinstance(metrics, Sequence):
        raise TypeError(f"metrics must be a list of names or metrics, got {metrics!r}")
    found = tuple(_one(f"metrics[{i}]", metric) for i, metric in enumerate(metrics))
    for i, metric in enumerate(found):
        if metric.name in [other.name for other in found[:i]]:
            raise ValueError(f"metrics[{i}] must have a name of its own, got {metric.name!r} again")
        if isinstance(metric, TopKAccuracy) and metric.k >= n_outputs:
            raise ValueError(
                f"metrics[{i}] must have a k below the network's {n_outputs} outputs, got "
                f"k={metric.k}"
            )
        two_classes = n_outputs == 1 or (n_outputs == 2 and exclusive)
        if isinstance(metric, _OfClasses) and metric.average == "binary" and not two_classes:
            raise ValueError(
                f'metrics[{i}] must not have average="binary" but with two classes, got {metric!r} '
                f"and {n_outputs} outputs"
            )
    return found


def _one(name: str, value: Any) -> Metric:
    if isinstance(value, FunctionMetric):
        return value
    if callable(value) and not isinstance(value, type):
        try:
            return FunctionMetric(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}; use FunctionMetric(..., name=...)") from None
    metric = _validate.spec(name, value, METRICS)
    return metric if metric is value else type(metric)(name=value)
