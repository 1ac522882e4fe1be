"""Optimizers: how a parameter w moves, given its batch-averaged gradient g.

Each class is a frozen description; a network keeps the moments and the number of steps taken.

The gradient g includes the penalties of regularizers. Clipping comes next, then ``weight_decay``,
which all parameters have, biases too. Steps are counted from 1 here.
"""

from __future__ import annotations

from dataclasses import field, fields
from typing import ClassVar

from cymlp import _validate
from cymlp._frozen import Frozen
from cymlp.schedules import Schedule, validate_rate

__all__ = [
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Lion",
    "NAdam",
    "Optimizer",
    "RMSprop",
    "Rprop",
    "StochasticOptimizer",
]


class Optimizer(Frozen):
    """Base of all optimizers.

    Attributes
    ----------
    name : str
        What `Sequential.compile` accepts instead of an instance.
    """

    name: ClassVar[str]

    def __repr__(self) -> str:
        """Return a call with what differs from the defaults."""
        shown = ", ".join(
            f"{item.name}={getattr(self, item.name)!r}"
            for item in sorted(fields(self), key=lambda item: bool(item.kw_only))
            if getattr(self, item.name) != item.default
        )
        return f"{type(self).__name__}({shown})"


class StochasticOptimizer(Optimizer):
    """Base of the optimizers that take a step for each batch. All of them have these parameters.

    Parameters
    ----------
    clip_value : float, optional
        Each element of the gradient is clipped to [-clip_value, clip_value]. At most one of the
        three ways to clip can be given.
    clip_norm : float, optional
        The gradient of each array of parameters whose norm is greater is scaled to this norm.
    clip_global_norm : float, optional
        The same for all arrays together: the gradient is multiplied by
        ``min(1, clip_global_norm / (norm + 1e-6))``, as by PyTorch's ``clip_grad_norm_``.
    ema_decay : float, optional
        Keep a moving average of the parameters, ``average = ema_decay * average + (1 - ema_decay)
        * w`` after each step, which starts as the parameters after the first one; see
        `Sequential.averaged_weights`. Within [0, 1).

    References
    ----------
    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural
    networks", 2013 (clipping). B. T. Polyak and A. B. Juditsky, "Acceleration of stochastic
    approximation by averaging", 1992.
    """

    clip_value: float | None = field(default=None, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)
    clip_global_norm: float | None = field(default=None, kw_only=True)
    ema_decay: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Validate the arguments."""
        ways = ("clip_value", "clip_norm", "clip_global_norm")
        given = [name for name in ways if getattr(self, name) is not None]
        for name in given:
            _validate.real(name, getattr(self, name), low=0, closed="neither", or_else="None")
        if len(given) > 1:
            raise ValueError(f"{given[1]} cannot be given along with {given[0]}: one way to clip")
        if self.ema_decay is not None:
            _validate.real("ema_decay", self.ema_decay, low=0, high=1, or_else="None")


class SGD(StochasticOptimizer):
    """Gradient descent, with momentum if asked for.

    ``v = momentum * v + g``, then ``w -= learning_rate * v``; with Nesterov's momentum,
    ``w -= learning_rate * (g + momentum * v)``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Greater than 0.
    momentum : float, default=0.0
        Within [0, 1].
    nesterov : bool, default=False
        Needs a momentum greater than 0.
    weight_decay : float, default=0.0
        ``weight_decay * w`` is added to g. At least 0.
    clip_value, clip_norm, clip_global_norm, ema_decay : float, optional
        See `StochasticOptimizer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    Examples
    --------
    >>> from cymlp.optimizers import SGD
    >>> SGD(learning_rate=0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9)
    """

    name: ClassVar[str] = "sgd"
    learning_rate: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        validate_rate("learning_rate", self.learning_rate)
        _validate.real("momentum", self.momentum, low=0, high=1, closed="both")
        if _validate.boolean("nesterov", self.nesterov) and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum greater than 0, got momentum=0")
        _validate.real("weight_decay", self.weight_decay, low=0)


class _AdamLike(StochasticOptimizer):
    """What the relatives of Adam share."""

    learning_rate: float | Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        validate_rate("learning_rate", self.learning_rate)
        _validate.real("beta_1", self.beta_1, low=0, high=1)
        _validate.real("beta_2", self.beta_2, low=0, high=1)
        _validate.real("epsilon", self.epsilon, low=0, closed="neither")


class Adam(_AdamLike):
    """Steps scaled by running averages of the gradient and of its square.

    ``m = beta_1 * m + (1 - beta_1) * g``, ``v = beta_2 * v + (1 - beta_2) * g**2``, then
    ``w -= learning_rate * m_hat / (sqrt(v_hat) + epsilon)`` with ``m_hat = m / (1 - beta_1**t)``
    and ``v_hat = v / (1 - beta_2**t)`` at step t. With `amsgrad`, the largest v so far takes the
    place of v in v_hat.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.001
        Greater than 0.
    beta_1 : float, default=0.9
        Within [0, 1).
    beta_2 : float, default=0.999
        Within [0, 1).
    epsilon : float, default=1e-8
        Greater than 0.
    amsgrad : bool, default=False
    weight_decay : float, default=0.0
        ``weight_decay * w`` is added to g. At least 0.
    epsilon_hat : bool, default=False
        Whether ``epsilon`` is added to ``sqrt(v)`` instead, ahead of its correction, as by
        scikit-learn and Keras.
    clip_value, clip_norm, clip_global_norm, ema_decay : float, optional
        See `StochasticOptimizer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.
    S. J. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", 2018 (AMSGrad).

    Examples
    --------
    >>> from cymlp.optimizers import Adam
    >>> Adam(learning_rate=0.01).beta_2
    0.999
    """

    name: ClassVar[str] = "adam"
    amsgrad: bool = False
    weight_decay: float = 0.0
    epsilon_hat: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        _validate.boolean("amsgrad", self.amsgrad)
        _validate.boolean("epsilon_hat", self.epsilon_hat)
        _validate.real("weight_decay", self.weight_decay, low=0)


class AdamW(_AdamLike):
    """`Adam` with a decay of the weights beside the gradient.

    ``w -= learning_rate * weight_decay * w`` before Adam's step, whose moments see nothing of it.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.001
        Greater than 0.
    beta_1 : float, default=0.9
        Within [0, 1).
    beta_2 : float, default=0.999
        Within [0, 1).
    epsilon : float, default=1e-8
        Greater than 0.
    weight_decay : float, default=0.01
        At least 0.
    amsgrad : bool, default=False
    epsilon_hat : bool, default=False
        Whether ``epsilon`` is added to ``sqrt(v)`` instead, ahead of its correction, as by
        scikit-learn and Keras.
    clip_value, clip_norm, clip_global_norm, ema_decay : float, optional
        See `StochasticOptimizer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019.

    Examples
    --------
    >>> from cymlp.optimizers import AdamW
    >>> from cymlp.schedules import CosineDecay, Warmup
    >>> optimizer = AdamW(Warmup(100, CosineDecay(1e-3, decay_steps=10_000)), weight_decay=0.05)
    >>> optimizer.learning_rate(100)
    0.001
    """

    name: ClassVar[str] = "adamw"
    weight_decay: float = 0.01
    amsgrad: bool = False
    epsilon_hat: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        _validate.boolean("amsgrad", self.amsgrad)
        _validate.boolean("epsilon_hat", self.epsilon_hat)
        _validate.real("weight_decay", self.weight_decay, low=0)


class NAdam(_AdamLike):
    """Adam with Nesterov's momentum.

    With m and v of Adam and ``mu(t) = beta_1 * (1 - 0.96**(t * momentum_decay) / 2)``, whose
    product up to t is p(t): ``w -= learning_rate * (mu(t + 1) * m / (1 - p(t + 1)) + (1 - mu(t)) *
    g / (1 - p(t))) / (sqrt(v_hat) + epsilon)``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.002
        Greater than 0.
    beta_1 : float, default=0.9
        Within [0, 1).
    beta_2 : float, default=0.999
        Within [0, 1).
    epsilon : float, default=1e-8
        Greater than 0.
    momentum_decay : float, default=4e-3
        At least 0.
    weight_decay : float, default=0.0
        ``weight_decay * w`` is added to g. At least 0.
    clip_value, clip_norm, clip_global_norm, ema_decay : float, optional
        See `StochasticOptimizer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    T. Dozat, "Incorporating Nesterov momentum into Adam", 2016.

    Examples
    --------
    >>> from cymlp.optimizers import NAdam
    >>> NAdam(beta_1=0.95)
    NAdam(beta_1=0.95)
    """

    name: ClassVar[str] = "nadam"
    learning_rate: float | Schedule = 0.002
    momentum_decay: float = 4e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        _validate.real("momentum_decay", self.momentum_decay, low=0)
        _validate.real("weight_decay", self.weight_decay, low=0)


class RMSprop(StochasticOptimizer):
    """Steps divided by the root of a running average of the squared gradient.

    ``v = rho * v + (1 - rho) * g**2``, ``d = g / (sqrt(v) + epsilon)``, then ``w -= learning_rate *
    d`` or, with momentum, ``b = momentum * b + d`` and ``w -= learning_rate * b``. Centered, the
    root is that of ``v - m**2``, with ``m = rho * m + (1 - rho) * g``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Greater than 0.
    rho : float, default=0.99
        Within [0, 1).
    epsilon : float, default=1e-8
        Greater than 0.
    momentum : float, default=0.0
        Within [0, 1].
    centered : bool, default=False
    weight_decay : float, default=0.0
        ``weight_decay * w`` is added to g. At least 0.
    clip_value, clip_norm, clip_global_norm, ema_decay : float, optional
        See `StochasticOptimizer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    G. Hinton, "Neural networks for machine learning", lecture 6e, 2012. A. Graves, "Generating
    sequences with recurrent neural networks", 2013, equations 38 to 41 (centered).

    Examples
    --------
    >>> from cymlp.optimizers import RMSprop
    >>> RMSprop(momentum=0.9, centered=True)
    RMSprop(momentum=0.9, centered=True)
    """

    name: ClassVar[str] = "rmsprop"
    learning_rate: float | Schedule = 0.01
    rho: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        validate_rate("learning_rate", self.learning_rate)
        _validate.real("rho", self.rho, low=0, high=1)
        _validate.real("epsilon", self.epsilon, low=0, closed="neither")
        _validate.real("momentum", self.momentum, low=0, high=1, closed="both")
        _validate.boolean("centered", self.centered)
        _validate.real("weight_decay", self.weight_decay, low=0)


class Adagrad(StochasticOptimizer):
    """Steps divided by the root of the sum of all squared gradients.

    ``s += g**2``, then ``w -= learning_rate / (1 + (t - 1) * learning_rate_decay) * g / (sqrt(s) +
    epsilon)`` at step t.

    Parameters
    ----------
    learning_rate : float or Schedule, default=0.01
        Greater than 0.
    learning_rate_decay : float, default=0.0
        At least 0.
    initial_accumulator : float, default=0.0
        What the sum starts from, at least 0.
    epsilon : float, default=1e-10
        Greater than 0.
    weight_decay : float, default=0.0
        ``weight_decay * w`` is added to g. At least 0.
    clip_value, clip_norm, clip_global_norm, ema_decay : float, optional
        See `StochasticOptimizer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", 2011.

    Examples
    --------
    >>> from cymlp.optimizers import Adagrad
    >>> Adagrad(0.1, initial_accumulator=0.1)
    Adagrad(learning_rate=0.1, initial_accumulator=0.1)
    """

    name: ClassVar[str] = "adagrad"
    learning_rate: float | Schedule = 0.01
    learning_rate_decay: float = 0.0
    initial_accumulator: float = 0.0
    epsilon: float = 1e-10
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        validate_rate("learning_rate", self.learning_rate)
        _validate.real("learning_rate_decay", self.learning_rate_decay, low=0)
        _validate.real("initial_accumulator", self.initial_accumulator, low=0)
        _validate.real("epsilon", self.epsilon, low=0, closed="neither")
        _validate.real("weight_decay", self.weight_decay, low=0)


class Adadelta(StochasticOptimizer):
    """Steps in the unit of the parameter, from running averages of squared gradients and steps.

    ``v = rho * v + (1 - rho) * g**2``, ``d = sqrt(u + epsilon) / sqrt(v + epsilon) * g``,
    ``u = rho * u + (1 - rho) * d**2``, then ``w -= learning_rate * d``.

    Parameters
    ----------
    learning_rate : float or Schedule, default=1.0
        Greater than 0.
    rho : float, default=0.9
        Within [0, 1).
    epsilon : float, default=1e-6
        Greater than 0.
    weight_decay : float, default=0.0
        ``weight_decay * w`` is added to g. At least 0.
    clip_value, clip_norm, clip_global_norm, ema_decay : float, optional
        See `StochasticOptimizer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    M. D. Zeiler, "ADADELTA: an adaptive learning rate method", 2012.

    Examples
    --------
    >>> from cymlp.optimizers import Adadelta
    >>> Adadelta(rho=0.95)
    Adadelta(rho=0.95)
    """

    name: ClassVar[str] = "adadelta"
    learning_rate: float | Schedule = 1.0
    rho: float = 0.9
    epsilon: float = 1e-6
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        validate_rate("learning_rate", self.learning_rate)
        _validate.real("rho", self.rho, low=0, high=1)
        _validate.real("epsilon", self.epsilon, low=0, closed="neither")
        _validate.real("weight_decay", self.weight_decay, low=0)


class Lion(StochasticOptimizer):
    """Steps of one size, along the sign of an average of gradients.

    ``w -= learning_rate * (sign(beta_1 * m + (1 - beta_1) * g) + weight_decay * w)``, then
    ``m = beta_2 * m + (1 - beta_2) * g``. It wants a learning rate three to ten times smaller than
    Adam's.

    Parameters
    ----------
    learning_rate : float or Schedule, default=1e-4
        Greater than 0.
    beta_1 : float, default=0.9
        Within [0, 1).
    beta_2 : float, default=0.99
        Within [0, 1).
    weight_decay : float, default=0.0
        At least 0.
    clip_value, clip_norm, clip_global_norm, ema_decay : float, optional
        See `StochasticOptimizer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    X. Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2.

    Examples
    --------
    >>> from cymlp.optimizers import Lion
    >>> Lion(3e-4, weight_decay=0.1)
    Lion(learning_rate=0.0003, weight_decay=0.1)
    """

    name: ClassVar[str] = "lion"
    learning_rate: float | Schedule = 1e-4
    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        validate_rate("learning_rate", self.learning_rate)
        _validate.real("beta_1", self.beta_1, low=0, high=1)
        _validate.real("beta_2", self.beta_2, low=0, high=1)
        _validate.real("weight_decay", self.weight_decay, low=0)


class Rprop(StochasticOptimizer):
    """Steps of a size that each parameter has for itself, along the sign of the gradient.

    A step size grows by ``etas[1]`` while the gradient keeps its sign. Where that has changed, it
    shrinks by ``etas[0]``, and the parameter waits for a step. Made for full batches.

    Parameters
    ----------
    learning_rate : float, default=0.01
        The first step size, greater than 0: a number, since nothing reads it later.
    etas : tuple of two floats, default=(0.5, 1.2)
        Within (0, 1), and greater than 1.
    step_sizes : tuple of two floats, default=(1e-6, 50.0)
        The smallest and the largest step size, greater than 0.
    clip_value, clip_norm, clip_global_norm, ema_decay : float, optional
        See `StochasticOptimizer`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    M. Riedmiller and H. Braun, "A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm", 1993. C. Igel and M. Huesken, "Improving the Rprop learning algorithm", 2000
    (iRprop-, which this is).

    Examples
    --------
    >>> from cymlp.optimizers import Rprop
    >>> Rprop(step_sizes=(1e-6, 1.0))
    Rprop(step_sizes=(1e-06, 1.0))
    """

    name: ClassVar[str] = "rprop"
    learning_rate: float = 0.01
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50.0)

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        _validate.real("learning_rate", self.learning_rate, low=0, closed="neither")
        for name in ("etas", "step_sizes"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) != 2:
                raise TypeError(f"{name} must be a tuple of two numbers, got {value!r}")
        _validate.real("etas[0]", self.etas[0], low=0, high=1, closed="neither")
        _validate.real("etas[1]", self.etas[1], low=1, closed="neither")
        _validate.real("step_sizes[0]", self.step_sizes[0], low=0, closed="neither")
        _validate.real("step_sizes[1]", self.step_sizes[1], low=self.step_sizes[0])


class LBFGS(Optimizer):
    """A quasi-Newton method for small data: all samples in each step, found by line search.

    `Sequential.fit` runs SciPy's L-BFGS-B, in float64 whatever the network's dtype, until it
    converges. Each epoch is one iteration, `epochs` the largest number of them, and `batch_size`
    and `shuffle` mean nothing. A further `fit` starts from the parameters alone. The recorded
    losses are those after each iteration.

    Parameters
    ----------
    history_size : int, default=10
        Steps that the curvature is estimated from, at least 1.
    tol : float, default=1e-5
        Stop where no element of the gradient is greater; at least 0.
    max_evaluations : int, default=15000
        Stop after so many evaluations of loss and gradient, at least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization",
    1989. C. Zhu, R. H. Byrd, P. Lu and J. Nocedal, "Algorithm 778: L-BFGS-B", 1997.

    Examples
    --------
    >>> from cymlp.optimizers import LBFGS
    >>> LBFGS(history_size=20)
    LBFGS(history_size=20)
    """

    name: ClassVar[str] = "lbfgs"
    history_size: int = 10
    tol: float = 1e-5
    max_evaluations: int = 15000

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.integer("history_size", self.history_size, low=1)
        _validate.real("tol", self.tol, low=0)
        _validate.integer("max_evaluations", self.max_evaluations, low=1)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.name: kind
    for kind in (SGD, Adam, AdamW, NAdam, RMSprop, Adagrad, Adadelta, Lion, Rprop, LBFGS)
}
