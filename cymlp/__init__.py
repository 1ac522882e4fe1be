"""Multilayer perceptrons, trained by SIMD kernels that are chosen at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cymlp import (
    activations,
    callbacks,
    constraints,
    datasets,
    exceptions,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)
from cymlp._config import show_config
from cymlp._explain import explain
from cymlp._threads import get_num_threads, set_num_threads
from cymlp._version import __version__
from cymlp.diagnosis import diagnose
from cymlp.exceptions import DivergenceWarning
from cymlp.gradient_check import check_gradients
from cymlp.history import History
from cymlp.many import fit_many
from cymlp.model import Sequential
from cymlp.trace import Trace

if TYPE_CHECKING:
    from cymlp.estimators import MLPClassifier, MLPRegressor

__all__ = [
    "DivergenceWarning",
    "History",
    "MLPClassifier",
    "MLPRegressor",
    "Sequential",
    "Trace",
    "__version__",
    "activations",
    "callbacks",
    "check_gradients",
    "constraints",
    "datasets",
    "diagnose",
    "exceptions",
    "explain",
    "fit_many",
    "get_num_threads",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "regularizers",
    "schedules",
    "set_num_threads",
    "show_config",
]


def __getattr__(name: str) -> Any:
    # scikit-learn is imported when one of its estimators is asked for, not before.
    if name in ("MLPClassifier", "MLPRegressor"):
        from cymlp import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module 'cymlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
