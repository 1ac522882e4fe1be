"""L-BFGS over all samples at once: SciPy's minimizer around a network's loss and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

    from cymlp._batch import Described
    from cymlp._network import Network
    from cymlp.optimizers import LBFGS


class _Stop(Exception):
    """Raised through SciPy where nobody wants a further iteration."""


class _Objective:
    """A network's loss and gradient as a function of all of its parameters, one vector."""

    def __init__(
        self,
        network: Network,
        samples: Described,
        n_threads: int,
        value: Callable[[float, float], float] | None,
    ) -> None:
        self._network, self._samples, self._n_threads = network, samples, n_threads
        self._value = value
        # Every array that has a gradient, but for those of layers that are not to be trained.
        self._names = network.trained_names()
        self._arrays = [network.get(*name) for name in self._names]
        self._ends = np.cumsum([array.size for array in self._arrays])
        self.accepted = self._flat(self._arrays)
        self._scores: tuple[NDArray[np.float64], float, float, float] | None = None

    @staticmethod
    def _flat(arrays: list[NDArray]) -> NDArray[np.float64]:
        return np.concatenate([array.ravel() for array in arrays]).astype(np.float64)

    def move_to(self, x: NDArray[np.float64]) -> None:
        """Set the network's parameters."""
        parts = np.split(x, self._ends[:-1])
        self._network.set_all(
            self._names,
            [
                part.reshape(array.shape).astype(array.dtype)
                for part, array in zip(parts, self._arrays, strict=True)
            ],
        )

    def __call__(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return loss and gradient."""
        self.move_to(x)
        scores, gradients = self._network.gradients(self._samples, True, self._n_threads)
        self._scores = x.copy(), *scores
        loss, _, penalty = scores
        value = loss if self._value is None else self._value(loss, penalty)
        return value, self._flat([gradients[name] for name in self._names])

    def accept(self, x: NDArray[np.float64]) -> tuple[float, float, float]:
        """Take x as the last good point; return its loss, accuracy and penalty."""
        if self._scores is None or not np.array_equal(self._scores[0], x):
            self(x)
        self.accepted = x.copy()
        assert self._scores is not None
        return self._scores[1:]


def minimize(
    network: Network,
    samples: Described,
    optimizer: LBFGS,
    max_iterations: int,
    n_threads: int,
    on_iteration: Callable[[int, float, float, float], bool | None],
    objective: Callable[[float, float], float] | None = None,
) -> OptimizeResult | None:
    """Move a network's parameters to where its loss over all samples is smallest.

    Parameters
    ----------
    network : Network
    samples : Described
        What `Network.describe` made of them.
    optimizer : LBFGS
    max_iterations : int
    n_threads : int
        At most so many, 0 for the default.
    on_iteration : callable(number, loss, accuracy, penalty)
        Called after each iteration, and once where there was none to do, while the network stands
        there. True ends the search.
    objective : callable(loss, penalty) -> float, optional
        What the search takes for the value; by default it is the loss, with the penalty in it.

    Returns
    -------
    scipy.optimize.OptimizeResult or None
        None where `on_iteration` ended the search.

    Raises
    ------
    ImportError
        If SciPy is not installed.

    Notes
    -----
    Whatever raises, the network stands where the last finished iteration left it.
    """
    try:
        from scipy.optimize import minimize as scipy_minimize
    except ImportError as error:
        raise ImportError("LBFGS needs SciPy; install it with: pip install scipy") from error
    function = _Objective(network, samples, n_threads, objective)
    done = 0

    def after_iteration(x: NDArray[np.float64]) -> None:
        nonlocal done
        scores = function.accept(x)
        function.move_to(x)
        done += 1
        if on_iteration(done - 1, *scores):
            raise _Stop

    try:
        result = scipy_minimize(
            function,
            function.accepted,
            method="L-BFGS-B",
            jac=True,
            callback=after_iteration,
            options={
                "maxcor": optimizer.history_size,
                "gtol": optimizer.tol,
                "maxiter": max_iterations,
                "maxfun": optimizer.max_evaluations,
            },
        )
        if done == 0:
            after_iteration(function.accepted)
    except _Stop:
        return None
    finally:
        function.move_to(function.accepted)
    return result
