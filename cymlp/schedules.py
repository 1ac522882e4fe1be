"""Learning rates that change from step to step: what `learning_rate` of an optimizer takes too.

Each class is a frozen description and, called with the number of a step, the readable definition of
what the compiled core does. Steps are those of the optimizer, one for each batch, counted from 0.
"""

from __future__ import annotations

import math
from typing import ClassVar

from cymlp import _validate
from cymlp._frozen import Frozen

__all__ = [
    "Constant",
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseScaling",
    "OneCycle",
    "PolynomialDecay",
    "Schedule",
    "StepDecay",
    "Warmup",
]


def _rate(name: str, value: float) -> None:
    _validate.real(name, value, low=0, closed="neither")


def _half_cosine(start: float, end: float, at: float) -> float:
    """Half a wave of a cosine, from `start` at 0 to `end` at 1."""
    height = (1 + math.cos(math.pi * at)) / 2
    return start * height + end * (1 - height)


def _power(base: float, exponent: float) -> float:
    """Return the power of a positive number, infinity where it is too large."""
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf


class Schedule(Frozen):
    """Base of all schedules.

    Attributes
    ----------
    name : str
    """

    name: ClassVar[str]

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        raise NotImplementedError


class Constant(Schedule):
    """The same rate in all steps, as the plain number is; for `Warmup`.

    Parameters
    ----------
    learning_rate : float
        Greater than 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be; here and in the other schedules.

    Examples
    --------
    >>> from cymlp.schedules import Constant
    >>> Constant(0.1)(1000)
    0.1
    """

    name: ClassVar[str] = "constant"
    learning_rate: float

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _rate("learning_rate", self.learning_rate)

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.learning_rate


class StepDecay(Schedule):
    """A stair: ``learning_rate * gamma**(step // step_size)``.

    Parameters
    ----------
    learning_rate : float
        Greater than 0.
    step_size : int
        Steps between two changes, at least 1.
    gamma : float, default=0.1
        Greater than 0.

    Examples
    --------
    >>> from cymlp.schedules import StepDecay
    >>> rate = StepDecay(1.0, step_size=10, gamma=0.5)
    >>> rate(9), rate(10), rate(20)
    (1.0, 0.5, 0.25)
    """

    name: ClassVar[str] = "step_decay"
    learning_rate: float
    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _rate("learning_rate", self.learning_rate)
        _validate.integer("step_size", self.step_size, low=1)
        _validate.real("gamma", self.gamma, low=0, closed="neither")

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.learning_rate * _power(self.gamma, step // self.step_size)


class ExponentialDecay(Schedule):
    """``learning_rate * decay_rate**(step / decay_steps)``.

    Parameters
    ----------
    learning_rate : float
        Greater than 0.
    decay_steps : int
        Steps in which the rate changes by `decay_rate`, at least 1.
    decay_rate : float
        Greater than 0.

    Examples
    --------
    >>> from cymlp.schedules import ExponentialDecay
    >>> ExponentialDecay(1.0, decay_steps=10, decay_rate=0.25)(5)
    0.5
    """

    name: ClassVar[str] = "exponential_decay"
    learning_rate: float
    decay_steps: int
    decay_rate: float

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _rate("learning_rate", self.learning_rate)
        _validate.integer("decay_steps", self.decay_steps, low=1)
        _validate.real("decay_rate", self.decay_rate, low=0, closed="neither")

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.learning_rate * _power(self.decay_rate, step / self.decay_steps)


class PolynomialDecay(Schedule):
    """From one rate to another one, along ``(1 - step / decay_steps)**power``; then it stays.

    Parameters
    ----------
    learning_rate : float
        Greater than 0.
    decay_steps : int
        At least 1.
    end_learning_rate : float, default=0.0
        At least 0.
    power : float, default=1.0
        Greater than 0; 1 is a straight line.

    Examples
    --------
    >>> from cymlp.schedules import PolynomialDecay
    >>> rate = PolynomialDecay(1.0, decay_steps=4, end_learning_rate=0.5)
    >>> rate(0), rate(2), rate(4), rate(100)
    (1.0, 0.75, 0.5, 0.5)
    """

    name: ClassVar[str] = "polynomial_decay"
    learning_rate: float
    decay_steps: int
    end_learning_rate: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _rate("learning_rate", self.learning_rate)
        _validate.integer("decay_steps", self.decay_steps, low=1)
        _validate.real("end_learning_rate", self.end_learning_rate, low=0)
        _validate.real("power", self.power, low=0, closed="neither")

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        left = 1 - min(step, self.decay_steps) / self.decay_steps
        return (
            self.end_learning_rate
            + (self.learning_rate - self.end_learning_rate) * left**self.power
        )


class InverseScaling(Schedule):
    """``learning_rate / (step + 1)**power``.

    scikit-learn's "invscaling", whose multilayer perceptrons count samples instead of steps.

    Parameters
    ----------
    learning_rate : float
        Greater than 0.
    power : float, default=0.5
        At least 0.

    Examples
    --------
    >>> from cymlp.schedules import InverseScaling
    >>> InverseScaling(1.0)(3)
    0.5
    """

    name: ClassVar[str] = "inverse_scaling"
    learning_rate: float
    power: float = 0.5

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _rate("learning_rate", self.learning_rate)
        _validate.real("power", self.power, low=0)

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.learning_rate / float(step + 1) ** self.power


class CosineDecay(Schedule):
    """From one rate to another one, along half a wave of a cosine; then it stays.

    Parameters
    ----------
    learning_rate : float
        Greater than 0.
    decay_steps : int
        At least 1.
    end_learning_rate : float, default=0.0
        At least 0.

    References
    ----------
    I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017,
    equation 5.

    Examples
    --------
    >>> from cymlp.schedules import CosineDecay
    >>> rate = CosineDecay(1.0, decay_steps=100)
    >>> rate(0), round(rate(50), 6), rate(100)
    (1.0, 0.5, 0.0)
    """

    name: ClassVar[str] = "cosine_decay"
    learning_rate: float
    decay_steps: int
    end_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _rate("learning_rate", self.learning_rate)
        _validate.integer("decay_steps", self.decay_steps, low=1)
        _validate.real("end_learning_rate", self.end_learning_rate, low=0)

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        done = min(step, self.decay_steps) / self.decay_steps
        return _half_cosine(self.learning_rate, self.end_learning_rate, done)


class CosineDecayRestarts(Schedule):
    """`CosineDecay` again and again, each time longer and from a lower peak if asked for (SGDR).

    Parameters
    ----------
    learning_rate : float
        The first peak, greater than 0.
    first_decay_steps : int
        Steps of the first decay, at least 1.
    t_mul : int, default=1
        How many times longer each decay is than the last one, at least 1.
    m_mul : float, default=1.0
        How many times higher each peak is than the last one, within (0, 1].
    end_learning_rate : float, default=0.0
        At least 0; a decay from a peak below it stays at the peak.

    References
    ----------
    I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.

    Examples
    --------
    >>> from cymlp.schedules import CosineDecayRestarts
    >>> rate = CosineDecayRestarts(1.0, first_decay_steps=10, t_mul=2)
    >>> rate(0), rate(10), rate(30), round(rate(20), 6)
    (1.0, 1.0, 1.0, 0.5)
    """

    name: ClassVar[str] = "cosine_decay_restarts"
    learning_rate: float
    first_decay_steps: int
    t_mul: int = 1
    m_mul: float = 1.0
    end_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _rate("learning_rate", self.learning_rate)
        _validate.integer("first_decay_steps", self.first_decay_steps, low=1)
        _validate.integer("t_mul", self.t_mul, low=1)
        if _validate.real("m_mul", self.m_mul, low=0, high=1, closed="both") == 0:
            raise ValueError("m_mul must be greater than 0, got 0")
        _validate.real("end_learning_rate", self.end_learning_rate, low=0)

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        length, restarts = self.first_decay_steps, 0
        if self.t_mul == 1:
            restarts, step = divmod(step, length)
        while step >= length:
            step -= length
            length *= self.t_mul
            restarts += 1
        peak = self.learning_rate * self.m_mul**restarts
        return _half_cosine(peak, min(self.end_learning_rate, peak), step / length)


class OneCycle(Schedule):
    """Up along half a wave of a cosine, and down again to nearly nothing; then it stays.

    From ``max_learning_rate / div_factor`` up in the first `pct_start` of the steps, then down to
    the first rate divided by `final_div_factor`, as PyTorch's ``OneCycleLR``.

    Parameters
    ----------
    max_learning_rate : float
        Greater than 0.
    total_steps : int
        At least 2.
    pct_start : float, default=0.3
        Part of the steps in which the rate rises, within [0, 1).
    div_factor : float, default=25.0
        At least 1.
    final_div_factor : float, default=1e4
        At least 1.

    References
    ----------
    L. N. Smith and N. Topin, "Super-convergence: very fast training of neural networks using large
    learning rates", 2018.

    Examples
    --------
    >>> from cymlp.schedules import OneCycle
    >>> rate = OneCycle(1.0, total_steps=101, pct_start=0.5, div_factor=10)
    >>> rate(0), round(rate(50), 3), round(rate(100), 6)
    (0.1, 1.0, 1e-05)
    """

    name: ClassVar[str] = "one_cycle"
    max_learning_rate: float
    total_steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _rate("max_learning_rate", self.max_learning_rate)
        _validate.integer("total_steps", self.total_steps, low=2)
        _validate.real("pct_start", self.pct_start, low=0, high=1)
        _validate.real("div_factor", self.div_factor, low=1)
        _validate.real("final_div_factor", self.final_div_factor, low=1)

    @property
    def start_learning_rate(self) -> float:
        """The rate of the first step, where the cycle rises at all."""
        return self.max_learning_rate / self.div_factor

    @property
    def end_learning_rate(self) -> float:
        """The rate of the last step."""
        return self.start_learning_rate / self.final_div_factor

    @property
    def peak_step(self) -> float:
        """Where the cycle is at its highest, between two steps perhaps; at most 0: never below."""
        return self.pct_start * self.total_steps - 1

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        peak, last = max(self.peak_step, 0.0), self.total_steps - 1
        if step < peak:
            return _half_cosine(self.start_learning_rate, self.max_learning_rate, step / peak)
        done = (min(step, last) - peak) / (last - peak)
        return _half_cosine(self.max_learning_rate, self.end_learning_rate, done)


class Warmup(Schedule):
    """A straight line up to the first rate of another schedule, which follows.

    ``schedule(0) * (start_factor + (1 - start_factor) * step / steps)`` in the first `steps` steps,
    then ``schedule(step - steps)``.

    Parameters
    ----------
    steps : int
        At least 1.
    schedule : float or Schedule
        What follows: a number, or any schedule but another warm-up.
    start_factor : float, default=0.0
        Where the line begins, within [0, 1].

    References
    ----------
    P. Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017.

    Examples
    --------
    >>> from cymlp.schedules import CosineDecay, Warmup
    >>> rate = Warmup(10, CosineDecay(1.0, decay_steps=100))
    >>> rate(0), rate(5), rate(10), round(rate(60), 6)
    (0.0, 0.5, 1.0, 0.5)
    """

    name: ClassVar[str] = "warmup"
    steps: int
    schedule: float | Schedule
    start_factor: float = 0.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.integer("steps", self.steps, low=1)
        if isinstance(self.schedule, Warmup):
            raise ValueError(f"schedule must be another one than a warm-up, got {self.schedule!r}")
        validate_rate("schedule", self.schedule)
        _validate.real("start_factor", self.start_factor, low=0, high=1, closed="both")

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.steps:
            factor = self.start_factor + (1 - self.start_factor) * (step / self.steps)
            return factor * rate_at(self.schedule, 0)
        return rate_at(self.schedule, step - self.steps)


def validate_rate(name: str, value: float | Schedule) -> None:
    """Raise unless value is a number greater than 0 or a schedule."""
    if isinstance(value, type) and issubclass(value, Schedule):
        raise TypeError(f"{name} must be an instance, {value.__name__}(...), got the class")
    if not isinstance(value, Schedule):
        _validate.real(name, value, low=0, closed="neither", or_else="a schedule")


def rate_at(rate: float | Schedule, step: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    return rate(step) if isinstance(rate, Schedule) else float(rate)
