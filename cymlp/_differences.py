"""Derivatives against finite differences: which agree, and where kinks forbid to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

__all__ = ["ArrayCheck", "Derivative", "Judge", "Judged"]

# Steps after the first one, which kinks near the point or strong curvature may ask for.
_SHRINK = (1.0, 0.1, 0.01)
# Roundings that a loss's value may be off by: those of its sums, and of what enters them.
_ROUNDINGS = 8
# How many times as large as its doubts, estimated from two steps, a disagreement must be to count.
# A kink between the steps makes the difference wrong by 1.5 of them, and of the differences of pure
# noise one in some 10,000 is above 100.
_DOUBTS = 100


@dataclass(frozen=True)
class Derivative:
    """One derivative, computed in two ways.

    Attributes
    ----------
    where : str
        The array, as `Sequential.parameter_names` has it; "inputs"; or whose own derivative it is,
        such as "layers[0].activation" or "loss".
    index : tuple of int or None
        Where in the array. None for the derivative along a random direction, which all elements of
        the array have a part in.
    value : float
        What the core or the custom function says.
    difference : float
        The finite difference.
    error : float
        The relative error: their difference over the larger one of them.
    """

    where: str
    index: tuple[int, ...] | None
    value: float
    difference: float
    error: float


@dataclass(frozen=True)
class ArrayCheck:
    """What was found in one array.

    Attributes
    ----------
    where : str
        As in `Derivative`.
    passed : bool
        Whether none disagrees.
    n_checked, n_kinks : int
        Derivatives that were compared, and those that could not be: see `GradientCheck`.
    worst : Derivative or None
        The one with the largest error; None where there was nothing to compare.
    """

    where: str
    passed: bool
    n_checked: int
    n_kinks: int
    worst: Derivative | None


class Judged(NamedTuple):
    """Arrays of one shape: derivatives as claimed, differences, errors, and which are kinks."""

    value: np.ndarray
    difference: np.ndarray
    error: np.ndarray
    is_kink: np.ndarray


class Judge(NamedTuple):
    """Compares derivatives with finite differences."""

    epsilon: float
    rtol: float

    def __call__(self, f: Callable[[Any], Any], slope: Any, at: Any = 1.0) -> Judged:
        """Compare slopes with differences of f around 0; numbers, or arrays element by element.

        f gets what to add to what stands `at` some number, which says how long steps may be.
        """
        slope = np.asarray(slope, np.float64)
        size = np.maximum(np.abs(at), 1.0)
        middle = np.asarray(f(0.0 * size), np.float64)
        found = None
        for shrink in _SHRINK:
            with np.errstate(all="ignore"):
                now = self._at(f, slope, middle, self.epsilon * shrink * size)
            if found is None:
                found = now
            else:
                pairs = zip(found, now, strict=True)
                found = Judged(*(np.where(found.is_kink, new, old) for old, new in pairs))
            if not found.is_kink.any():
                break
        assert found is not None
        return found

    def _at(self, f: Callable[[Any], Any], slope: np.ndarray, middle: np.ndarray, h: Any) -> Judged:
        """Compare at steps of h and h / 2; what they leave open is taken for a kink."""
        central, second, largest = [], [], np.maximum(np.abs(middle), 1.0)
        for step in (h, h / 2):
            above, below = np.asarray(f(step)), np.asarray(f(-step))
            central.append((above - below) / (2 * step))
            second.append((above - 2 * middle + below) / step)
            largest = np.maximum(largest, np.maximum(np.abs(above), np.abs(below)))
        difference = (4 * central[1] - central[0]) / 3
        doubt = np.maximum(np.abs(central[0] - central[1]), np.abs(second[0] - 2 * second[1]))
        noise = _ROUNDINGS * np.finfo(np.float64).eps * largest / h
        off = np.abs(difference - slope)
        size = np.maximum(np.abs(difference), np.abs(slope))
        error = off / np.maximum(size, noise / self.rtol)  # of numbers near 0, that of their noise
        error = np.where(np.isfinite(difference) & ~np.isfinite(slope), np.inf, error)
        is_settled = (error <= self.rtol) | (off > _DOUBTS * doubt + noise) | np.isinf(error)
        return Judged(slope, difference, error, ~is_settled)

    def summed_up(self, where: str, judged: Sequence[Judged], places: Sequence[Any]) -> ArrayCheck:
        """Return what was found of an array at some places, one after the other."""
        value, difference, error, is_kink = (
            np.concatenate([np.ravel(part) for part in parts])
            for parts in zip(*judged, strict=True)
        )
        compared = np.flatnonzero(~is_kink)
        n_kinks = is_kink.size - compared.size
        if compared.size == 0:
            return ArrayCheck(where, True, 0, n_kinks, None)
        at = compared[np.argmax(error[compared])]
        worst = Derivative(
            where, places[at], float(value[at]), float(difference[at]), float(error[at])
        )
        return ArrayCheck(where, worst.error <= self.rtol, compared.size, n_kinks, worst)
