"""Losses: what training makes small. All are averaged over the samples of a batch.

Each class is a frozen description without arrays; the kernels of ``src/`` do the work. In the
formulas a sample has the outputs y_j and the targets t_j, and a sum runs over its outputs.

====================  ========================  ======================================
class                 name                      targets
====================  ========================  ======================================
`SquaredError`        ``squared_error``         numbers
`AbsoluteError`       ``absolute_error``        numbers
`Huber`               ``huber``                 numbers
`LogCosh`             ``log_cosh``              numbers
`Quantile`            ``quantile``              numbers
`Poisson`             ``poisson``               counts, or numbers of at least 0
`Gamma`               ``gamma``                 numbers greater than 0
`Tweedie`             ``tweedie``               numbers of at least 0
`CrossEntropy`        ``cross_entropy``         class labels, or probabilities
`BinaryCrossEntropy`  ``binary_cross_entropy``  numbers within [0, 1]
`Hinge`               ``hinge``                 class labels, 0 and 1, or -1 and 1
`KLDivergence`        ``kl_divergence``         probabilities
`Focal`               ``focal``                 class labels, or numbers within [0, 1]
`CustomLoss`          a function                what the function takes
====================  ========================  ======================================

Class labels are integers of shape (samples,); everything else has the shape (samples, outputs), or
(samples,) for one output. Losses with an exponential, softmax or sigmoid output activation in their
description are computed from its weighted sums z, which stays exact where y rounds to 0 or 1, or
overflows. With any other output activation, means and probabilities are taken as at least the
dtype's epsilon, in the loss and in its derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from cymlp import _validate
from cymlp._frozen import Frozen

__all__ = [
    "AbsoluteError",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "CustomLoss",
    "Focal",
    "Gamma",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "Poisson",
    "Quantile",
    "SquaredError",
    "Tweedie",
]


class Loss(Frozen):
    """Base of all losses.

    Attributes
    ----------
    name : str
        What `Sequential.compile` accepts instead of an instance.
    expects : str
        Name of the output activation that goes with the loss; any other one works, too.
    target_range : {"any", "[-1, 1]", "[0, 1]", "[0, inf)", "(0, inf)"}
        Where targets must lie.
    takes_labels : bool
        Whether targets may be class labels.
    """

    name: ClassVar[str]
    expects: ClassVar[str] = "identity"
    target_range: ClassVar[str] = "any"
    takes_labels: ClassVar[bool] = False


class SquaredError(Loss):
    """Half the squared error: 1/2 sum_j (y_j - t_j)^2.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    >>> net.compile(optimizer="sgd", loss="squared_error")
    >>> net.set_weights([[[2.0]], [0.0]])
    >>> net.evaluate([[3.0]], [5.0])
    {'loss': 0.5}
    """

    name: ClassVar[str] = "squared_error"


class AbsoluteError(Loss):
    """Absolute error: sum_j abs(y_j - t_j), whose derivative is taken as 0 where that is 0.

    Its minimum is the median of the targets.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    >>> net.compile(loss="absolute_error")
    >>> net.set_weights([[[2.0]], [0.0]])
    >>> net.evaluate([[3.0]], [5.0])
    {'loss': 1.0}
    """

    name: ClassVar[str] = "absolute_error"


class Huber(Loss):
    """Squared error of small errors e_j = y_j - t_j, absolute error of large ones.

    sum_j e_j^2 / 2 where abs(e_j) <= delta, else delta (abs(e_j) - delta / 2).

    Parameters
    ----------
    delta : float, default=1.0
        Greater than 0.

    Raises
    ------
    TypeError, ValueError
        If `delta` is not what it must be.

    References
    ----------
    P. J. Huber, "Robust estimation of a location parameter", 1964.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> from cymlp.losses import Huber
    >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    >>> net.compile(loss=Huber(delta=0.5))
    >>> net.set_weights([[[2.0]], [0.0]])
    >>> net.evaluate([[3.0]], [5.0])
    {'loss': 0.375}
    """

    name: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("delta", self.delta, low=0, closed="neither")


class LogCosh(Loss):
    """Logarithm of the hyperbolic cosine of the error: sum_j log cosh(y_j - t_j).

    Half the squared error of small errors, the absolute error less log 2 of large ones.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    >>> net.compile(loss="log_cosh")
    >>> net.set_weights([[[2.0]], [0.0]])
    >>> round(net.evaluate([[3.0]], [5.0])["loss"], 6)
    0.433781
    """

    name: ClassVar[str] = "log_cosh"


class Quantile(Loss):
    """Pinball loss, whose minimum is a quantile of the targets.

    sum_j max(q_j e_j, (q_j - 1) e_j) with e_j = t_j - y_j, whose derivative is taken as 0 where e_j
    is 0.

    Parameters
    ----------
    levels : float or sequence of float, default=0.5
        Greater than 0 and less than 1. One level holds for all outputs. Of several levels, each
        belongs to one output of the network: y is then a single column, which is compared with all
        of them.

    Raises
    ------
    TypeError, ValueError
        If `levels` is not what it must be.

    References
    ----------
    R. Koenker and G. Bassett, "Regression quantiles", 1978.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> from cymlp.losses import Quantile
    >>> net = Sequential([Dense(3)], n_inputs=1, random_state=0)
    >>> net.compile(loss=Quantile([0.25, 0.5, 0.75]))
    >>> net.set_weights([[[1.0, 2.0, 3.0]], [0.0, 0.0, 0.0]])
    >>> net.evaluate([[1.0]], [2.0])
    {'loss': 0.5}
    """

    name: ClassVar[str] = "quantile"
    levels: float | tuple[float, ...] = 0.5

    if TYPE_CHECKING:

        def __init__(self, levels: float | Sequence[float] = 0.5) -> None: ...

    def __post_init__(self) -> None:
        """Validate the arguments and turn a sequence into a tuple."""
        if _is_sequence(self.levels):
            levels = _numbers("levels", self.levels, low=0, high=1, closed="neither")
            object.__setattr__(self, "levels", levels)
        else:
            _validate.real("levels", self.levels, low=0, high=1, closed="neither")


class Poisson(Loss):
    """Negative log likelihood of counts with the mean y, up to a constant: sum_j y_j - t_j log y_j.

    With an exponential output: sum_j exp(z_j) - t_j z_j.

    References
    ----------
    P. McCullagh and J. A. Nelder, "Generalized linear models", 1989, chapter 6.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    >>> net.compile(loss="poisson")
    >>> net.set_weights([[[1.0]], [0.0]])
    >>> round(net.evaluate([[2.0]], [3.0])["loss"], 6)
    -0.079442
    """

    name: ClassVar[str] = "poisson"
    expects: ClassVar[str] = "exponential"
    target_range: ClassVar[str] = "[0, inf)"


class Gamma(Loss):
    """Negative log likelihood of a gamma distribution with the mean y: sum_j t_j / y_j + log y_j.

    Up to a constant, and a factor for the distribution's shape. With an exponential output:
    sum_j t_j exp(-z_j) + z_j.

    References
    ----------
    P. McCullagh and J. A. Nelder, "Generalized linear models", 1989, chapter 8.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    >>> net.compile(loss="gamma")
    >>> net.set_weights([[[1.0]], [0.0]])
    >>> round(net.evaluate([[2.0]], [3.0])["loss"], 6)
    2.193147
    """

    name: ClassVar[str] = "gamma"
    expects: ClassVar[str] = "exponential"
    target_range: ClassVar[str] = "(0, inf)"


class Tweedie(Loss):
    """Negative log likelihood of a compound Poisson distribution with the mean y.

    sum_j -t_j y_j^(1 - p) / (1 - p) + y_j^(2 - p) / (2 - p), up to a constant and a factor: half
    the unit deviance less what depends on t alone. With an exponential output, where
    y_j = exp(z_j): sum_j -t_j exp((1 - p) z_j) / (1 - p) + exp((2 - p) z_j) / (2 - p).

    Parameters
    ----------
    power : float, default=1.5
        Greater than 1 (the Poisson distribution) and less than 2 (the gamma distribution).

    Raises
    ------
    TypeError, ValueError
        If `power` is not what it must be.

    References
    ----------
    B. Jorgensen, "Exponential dispersion models", 1987.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> from cymlp.losses import Tweedie
    >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    >>> net.compile(loss=Tweedie(power=1.5))
    >>> net.set_weights([[[1.0]], [0.0]])
    >>> round(net.evaluate([[4.0]], [3.0])["loss"], 5)
    7.0
    """

    name: ClassVar[str] = "tweedie"
    expects: ClassVar[str] = "exponential"
    target_range: ClassVar[str] = "[0, inf)"
    power: float = 1.5

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("power", self.power, low=1, high=2, closed="neither")


class CrossEntropy(Loss):
    """Cross-entropy between classes: -sum_j w_j t'_j log y_j over a sample's outputs.

    t'_j = (1 - s) t_j + s / n_outputs are the smoothed targets. With a softmax output the loss is
    computed from the weighted sums.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        s, within [0, 1).
    class_weight : sequence of float, optional
        w_j, a number of at least 0 for each output; by default all are 1. A batch's loss is the sum
        over its samples, divided by their number (or their sample weights): of PyTorch's, the mean
        of what ``reduction="none"`` gives. Its own mean divides by the weights of the classes.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    C. Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016, section 7.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> from cymlp.losses import CrossEntropy
    >>> net = Sequential([Dense(2, activation="softmax")], n_inputs=1, random_state=0)
    >>> net.compile(loss="cross_entropy")
    >>> net.set_weights([[[0.0, 0.0]], [0.0, 0.0]])
    >>> round(net.evaluate([[3.0]], [1])["loss"], 6)
    0.693147
    >>> net.compile(loss=CrossEntropy(class_weight=[1.0, 3.0]))
    >>> round(net.evaluate([[3.0]], [1])["loss"], 6)
    2.079442
    """

    name: ClassVar[str] = "cross_entropy"
    expects: ClassVar[str] = "softmax"
    target_range: ClassVar[str] = "[0, 1]"
    takes_labels: ClassVar[bool] = True
    label_smoothing: float = 0.0
    class_weight: tuple[float, ...] | None = None

    if TYPE_CHECKING:

        def __init__(
            self, label_smoothing: float = 0.0, class_weight: Sequence[float] | None = None
        ) -> None: ...

    def __post_init__(self) -> None:
        """Validate the arguments and turn a sequence into a tuple."""
        _validate.real("label_smoothing", self.label_smoothing, low=0, high=1)
        if self.class_weight is not None:
            weights = _numbers("class_weight", self.class_weight, low=0)
            if not any(weights):
                raise ValueError(f"class_weight must not be all zero, got {weights}")
            object.__setattr__(self, "class_weight", weights)


class BinaryCrossEntropy(Loss):
    """Cross-entropy of independent yes-or-no outputs, summed over a sample's outputs.

    -sum_j [t'_j log y_j + (1 - t'_j) log(1 - y_j)], where t'_j = (1 - s) t_j + s / 2 are the
    smoothed targets. With a sigmoid output the loss is computed from the weighted sums.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        s, within [0, 1).

    Raises
    ------
    TypeError, ValueError
        If `label_smoothing` is not what it must be.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1, activation="sigmoid")], n_inputs=1, random_state=0)
    >>> net.compile(loss="binary_cross_entropy")
    >>> net.set_weights([[[0.0]], [0.0]])
    >>> round(net.evaluate([[3.0]], [1])["loss"], 6)
    0.693147
    """

    name: ClassVar[str] = "binary_cross_entropy"
    expects: ClassVar[str] = "sigmoid"
    target_range: ClassVar[str] = "[0, 1]"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("label_smoothing", self.label_smoothing, low=0, high=1)


class Hinge(Loss):
    """What is missing to a margin of 1: sum_j max(0, 1 - s_j y_j).

    s_j is 1 where the target is greater than 0, else -1: with class labels each class stands
    against the rest. Where a term is 0, its derivative is taken as 0.

    References
    ----------
    C. Cortes and V. Vapnik, "Support-vector networks", 1995.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    >>> net.compile(loss="hinge")
    >>> net.set_weights([[[0.25]], [0.0]])
    >>> net.evaluate([[3.0], [1.0]], [1, -1])
    {'loss': 0.75}
    """

    name: ClassVar[str] = "hinge"
    target_range: ClassVar[str] = "[-1, 1]"
    takes_labels: ClassVar[bool] = True


class KLDivergence(Loss):
    """Kullback-Leibler divergence of the outputs from the targets: sum_j t_j log(t_j / y_j).

    The cross-entropy less the entropy of the targets: 0 where the outputs are the targets. With a
    softmax output it is computed from the weighted sums.

    References
    ----------
    S. Kullback and R. A. Leibler, "On information and sufficiency", 1951.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(2, activation="softmax")], n_inputs=1, random_state=0)
    >>> net.compile(loss="kl_divergence")
    >>> net.set_weights([[[0.0, 0.0]], [0.0, 0.0]])
    >>> round(net.evaluate([[3.0]], [[0.25, 0.75]])["loss"], 6)
    0.130812
    """

    name: ClassVar[str] = "kl_divergence"
    expects: ClassVar[str] = "softmax"
    target_range: ClassVar[str] = "[0, 1]"


class Focal(Loss):
    """Cross-entropy of yes-or-no outputs with less of what is right already.

    sum_j a_j u_j^gamma c_j, with c_j = -t_j log y_j - (1 - t_j) log(1 - y_j) the cross-entropy,
    u_j = t_j (1 - y_j) + (1 - t_j) y_j the probability of what is not so, and
    a_j = alpha t_j + (1 - alpha) (1 - t_j). With a sigmoid output it is computed from the weighted
    sums; with any other one y_j and 1 - y_j are taken as within [epsilon, 1].

    Parameters
    ----------
    gamma : float, default=2.0
        At least 0.
    alpha : float, default=0.25
        Within [0, 1].

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    T.-Y. Lin et al., "Focal loss for dense object detection", 2017, equation 5.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(1, activation="sigmoid")], n_inputs=1, random_state=0)
    >>> net.compile(loss="focal")
    >>> net.set_weights([[[0.0]], [0.0]])
    >>> round(net.evaluate([[3.0]], [1])["loss"], 6)
    0.043322
    """

    name: ClassVar[str] = "focal"
    expects: ClassVar[str] = "sigmoid"
    target_range: ClassVar[str] = "[0, 1]"
    takes_labels: ClassVar[bool] = True
    gamma: float = 2.0
    alpha: float = 0.25

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("gamma", self.gamma, low=0)
        _validate.real("alpha", self.alpha, low=0, high=1, closed="both")


class CustomLoss(Loss):
    """A loss of your own, computed in Python: ``compile(loss=f)`` makes one of a function.

    Training takes about 96 samples at a time through the function, on one thread.

    Parameters
    ----------
    function : callable
        ``f(y_true, y_pred)`` gets the targets and outputs of some samples and returns their losses,
        of shape (samples,), and the derivatives of each sample's loss by its outputs, of shape
        (samples, outputs). Nothing is averaged yet. Both arrays are copies of the network's dtype
        and of shape (samples, outputs); where y was class labels, ``y_true`` has the shape
        (samples,) and the dtype int32. What the function raises ends the call that trains or
        evaluates; the network is then as the last finished step left it. A network is pickled with
        its function, which must be one that can be.

    Raises
    ------
    TypeError
        If `function` cannot be called.

    Examples
    --------
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> def fourth_power(y_true, y_pred):
    ...     error = y_pred - y_true
    ...     return (error**4).sum(axis=1), 4 * error**3
    >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    >>> net.compile(optimizer="sgd", loss=fourth_power)
    >>> net.set_weights([[[2.0]], [0.0]])
    >>> net.gradients([[3.0]], [4.0])
    [array([[96.]], dtype=float32), array([32.], dtype=float32)]
    """

    name: ClassVar[str] = "custom"
    takes_labels: ClassVar[bool] = True
    function: Callable[[Any, Any], tuple[Any, Any]]

    def __post_init__(self) -> None:
        """Validate the arguments."""
        if not callable(self.function) or isinstance(self.function, type):
            raise TypeError(
                f"function must be a function of y_true and y_pred, got {self.function!r}"
            )


LOSSES: dict[str, type[Loss]] = {
    kind.name: kind
    for kind in (
        SquaredError,
        AbsoluteError,
        Huber,
        LogCosh,
        Quantile,
        Poisson,
        Gamma,
        Tweedie,
        CrossEntropy,
        BinaryCrossEntropy,
        Hinge,
        KLDivergence,
        Focal,
    )
}


def resolve(name: str, value: Any) -> Loss:
    """Return a loss: an instance, the default one of a name, or a function's."""
    if isinstance(value, CustomLoss):
        return value
    if callable(value) and not isinstance(value, (type, Loss)):
        return CustomLoss(value)
    if not isinstance(value, (str, Loss, type)):
        raise TypeError(
            f"{name} must be one of {', '.join(LOSSES)}, an instance of one of their classes, or a "
            f"function of y_true and y_pred, got {value!r}"
        )
    return _validate.spec(name, value, LOSSES)


def _is_sequence(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, (str, bytes))


def _numbers(name: str, value: Any, **bounds: Any) -> tuple[float, ...]:
    """Return a sequence as a tuple of numbers within bounds, at least one."""
    if not _is_sequence(value):
        raise TypeError(f"{name} must be a sequence of numbers, got {value!r}")
    numbers = tuple(_validate.real(f"{name}[{i}]", x, **bounds) for i, x in enumerate(value))
    if not numbers:
        raise ValueError(f"{name} must have at least one number, got none")
    return numbers
