"""scikit-learn's checks where they take long beside a small fit: passed at once what must pass.

Whatever is not plainly right goes through scikit-learn, which converts it or has the words for it.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _validate
from ._sklearn import check_random_state, make_constraint

# Generators that no fit draws from at the moment: to make one takes a fifth of a millisecond, to
# seed one two microseconds.
_SPARE: deque[np.random.RandomState] = deque(maxlen=8)

_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))


@lru_cache(maxsize=32)
def _constraints(cls: Any) -> list[tuple[str, Any, list[Any]]]:
    """Return name, default and constraints of each parameter of an estimator."""
    parameters = inspect.signature(cls).parameters
    return [
        (name, parameters[name].default, [make_constraint(c) for c in constraints])
        for name, constraints in cls._parameter_constraints.items()
        if name in parameters
    ]


def has_valid_parameters(estimator: Any) -> bool:
    """Return whether all parameters are within their constraints."""
    for name, default, constraints in _constraints(estimator.__class__):
        value = getattr(estimator, name)
        if value is not default and not any(c.is_satisfied_by(value) for c in constraints):
            return False
    return True


@contextmanager
def generator_of(random_state: Any) -> Iterator[np.random.RandomState]:
    """Lend what `check_random_state` returns: a generator that draws the same numbers."""
    if not isinstance(random_state, Integral):
        yield check_random_state(random_state)
        return
    try:
        rng = _SPARE.pop()
    except IndexError:
        rng = np.random.RandomState()
    rng.seed(int(random_state))
    try:
        yield rng
    finally:
        _SPARE.append(rng)


def classes_of(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the classes among labels, in order, and the number of each label's class."""
    if y.dtype.kind == "i" and y.size and y.min() >= 0 and y.max() <= len(y):
        is_there = np.bincount(y) > 0  # no sorting
        return np.flatnonzero(is_there).astype(y.dtype), (np.cumsum(is_there) - 1)[y]
    seen, number = np.unique(y, return_inverse=True)
    return seen, number


def is_plain_matrix(X: Any) -> bool:
    """Return whether X is an array of samples that needs no conversion; it need not be finite."""
    return type(X) is np.ndarray and X.dtype in _FLOATS and X.ndim == 2 and X.size > 0


def is_plain_vector(y: Any, n_samples: int) -> bool:
    """Return whether y is a finite array of numbers, one for each sample."""
    return (
        type(y) is np.ndarray
        and y.dtype.kind in "biuf"
        and y.shape == (n_samples,)
        and _validate.is_finite(y)
    )
