"""Estimators of scikit-learn from ours, and ours from theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._estimator_network import build_network, dense_places, stack_for, structure_of
from ._sklearn import LabelBinarizer, check_is_fitted, is_classifier, neural_network

if TYPE_CHECKING:
    from ._estimator_base import BaseMLP

# What a fit leaves in both, of the same meaning.
_RECORDS = (
    "loss_",
    "best_loss_",
    "loss_curve_",
    "validation_scores_",
    "best_validation_score_",
    "n_iter_",
    "t_",
    "n_features_in_",
    "feature_names_in_",
    "n_layers_",
    "n_outputs_",
    "out_activation_",
    "classes_",
    "_no_improvement_count",
)
# What goes on from an earlier fit needs, where an LBFGS solver has left it out.
_WITHOUT_RECORD = {
    "best_loss_": np.inf,
    "loss_curve_": [],
    "validation_scores_": None,
    "best_validation_score_": None,
    "_no_improvement_count": 0,
}


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, (list, np.ndarray)) else value


def _their_class(ours: type) -> Any:
    """Return the class of scikit-learn that one of ours, or a subclass, takes the place of."""
    return next(
        getattr(neural_network, kind.__name__)
        for kind in ours.__mro__
        if hasattr(neural_network, kind.__name__)
    )


def from_sklearn(cls: Any, fitted: Any) -> Any:
    """Return one of our estimators with what a fitted one has: see `BaseMLP.from_sklearn`."""
    theirs = _their_class(cls)
    if not isinstance(fitted, theirs):
        raise TypeError(
            f"fitted must be a sklearn.neural_network.{theirs.__name__}, got "
            f"{type(fitted).__name__}"
        )
    check_is_fitted(fitted)
    if is_classifier(fitted) and len(fitted.classes_) < 2:
        raise ValueError("from_sklearn needs at least two classes, got one")
    ours = cls()
    known = ours.get_params()
    ours.set_params(**{k: v for k, v in fitted.get_params().items() if k in known})
    for name in _RECORDS:
        if hasattr(fitted, name):
            setattr(ours, name, _copied(getattr(fitted, name)))
        elif name in _WITHOUT_RECORD:
            setattr(ours, name, _copied(_WITHOUT_RECORD[name]))
    ours.validation_loss_curve_ = None if ours.validation_scores_ is None else []
    head = ours._fitted_head()
    network = build_network(
        stack_for(ours, head),
        fitted.n_features_in_,
        fitted.coefs_[0].dtype,
        np.random.RandomState(0),
    )
    weights = network.get_weights()
    places = dense_places(network)
    for (kernel, bias), coef, intercept in zip(
        places, fitted.coefs_, fitted.intercepts_, strict=True
    ):
        weights[kernel], weights[bias] = coef, intercept
    network.set_weights(weights)
    ours.network_ = network
    ours._structure = structure_of(ours, fitted.n_features_in_, head)
    return ours


def to_sklearn(ours: BaseMLP) -> Any:
    """Return an estimator of scikit-learn with what ours has: see `BaseMLP.to_sklearn`."""
    theirs = _their_class(type(ours))()
    given = ours.get_params()
    known = theirs.get_params()
    _refuse_what_they_lack(ours, given, known)
    theirs.set_params(**{name: value for name, value in given.items() if name in known})
    if ours.verbose == "progress":
        theirs.verbose = True
    if ours.n_layers is not None or ours.width is not None:
        theirs.hidden_layer_sizes = tuple(array.shape[1] for array in ours.coefs_[:-1])
    for name in _RECORDS:
        if hasattr(ours, name):
            setattr(theirs, name, _copied(getattr(ours, name)))
    theirs.coefs_ = [np.array(array) for array in ours.coefs_]
    theirs.intercepts_ = [np.array(array) for array in ours.intercepts_]
    theirs._best_coefs = [array.copy() for array in theirs.coefs_]
    theirs._best_intercepts = [array.copy() for array in theirs.intercepts_]
    if is_classifier(ours):
        theirs._label_binarizer = _binarizer(ours)
    return theirs


def _binarizer(ours: Any) -> LabelBinarizer:
    """Return scikit-learn's encoder of the targets that a classifier was fitted on."""
    targets = np.eye(len(ours.classes_), dtype=int) if ours._multilabel else ours.classes_
    return LabelBinarizer().fit(targets)


def _refuse_what_they_lack(ours: BaseMLP, given: dict[str, Any], known: dict[str, Any]) -> None:
    """Raise where scikit-learn's class cannot hold the network."""
    network = {"layers": None, "normalization": None, "dropout": 0.0}
    options = {
        "activation": ("identity", "logistic", "tanh", "relu"),
        "solver": ("lbfgs", "sgd", "adam"),
        "learning_rate": ("constant", "invscaling", "adaptive"),
        "loss": ("squared_error", "poisson") if "loss" in known else ("log_loss",),
    }
    for name, value in given.items():
        lacks = name in network and value != network[name]
        if name in options:
            lacks = not isinstance(value, str) or value not in options[name]
        if lacks:
            raise ValueError(
                f"scikit-learn's {type(ours).__name__} has no {name}={value!r}: to_sklearn needs a "
                "network that it has, too"
            )
    if is_classifier(ours) and len(ours.classes_) < 2:
        raise ValueError("to_sklearn needs at least two classes, got one")
