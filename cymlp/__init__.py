"""Multilayer perceptrons, trained by SIMD kernels that are chosen at run time."""

from __future__ import annotations

from importlib import import_module
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
from cymlp._threads import get_num_threads, set_num_threads
from cymlp._version import __version__
from cymlp.exceptions import DivergenceWarning
from cymlp.history import History
from cymlp.many import fit_many
from cymlp.model import Sequential

if TYPE_CHECKING:
    from cymlp._explain import explain
    from cymlp.diagnosis import diagnose
    from cymlp.estimators import MLPClassifier, MLPRegressor
    from cymlp.gradient_check import check_gradients
    from cymlp.trace import Trace

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


#: What few programs use, by its module: imported when it is asked for, not before, so that
#: `import cymlp` is quick and needs no scikit-learn.
_LATER = {
    "MLPClassifier": "estimators",
    "MLPRegressor": "estimators",
    "Trace": "trace",
    "check_gradients": "gradient_check",
    "diagnose": "diagnosis",
    "explain": "_explain",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"cymlp.{_LATER[name]}"), name)
    raise AttributeError(f"module 'cymlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
