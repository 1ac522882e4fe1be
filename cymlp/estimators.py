"""scikit-learn estimators: hyperparameters outside, a trained `Sequential` inside."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ._estimator_base import (
    BaseMLP,
    requires_stochastic,
    unchanged_on_error,
)
from ._estimator_checks import classes_of
from ._estimator_docs import documented
from ._estimator_network import Head
from ._sklearn import (
    ClassifierMixin,
    Interval,
    RegressorMixin,
    StrOptions,
    accuracy_score,
    available_if,
    check_classification_targets,
    compute_sample_weight,
    fit_context,
    r2_score,
    type_of_target,
    unique_labels,
)
from .activations import Identity, Sigmoid, Softmax
from .activations import resolve as resolve_activation
from .losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    CustomLoss,
    Hinge,
    Loss,
    Quantile,
    SquaredError,
    resolve,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self

    from .activations import BaseActivation
    from .callbacks import Callback
    from .layers import Layer
    from .optimizers import Optimizer
    from .schedules import Schedule

__all__ = ["MLPClassifier", "MLPRegressor"]

_REGRESSION_LOSSES = {
    "squared_error",
    "poisson",
    "absolute_error",
    "huber",
    "log_cosh",
    "quantile",
    "gamma",
    "tweedie",
}


def _gives_probabilities(estimator: MLPClassifier) -> bool:
    """Return whether the loss trains, or has trained, probabilities rather than margins."""
    if hasattr(estimator, "network_"):
        return estimator.out_activation_ != "identity"
    return estimator.loss != "hinge" and not isinstance(estimator.loss, Hinge)


def _gives_margins(estimator: MLPClassifier) -> bool:
    return not _gives_probabilities(estimator)


def _gives_several_quantiles(estimator: MLPRegressor) -> bool:
    return isinstance(estimator._levels(), tuple)


@documented(
    loss="",
    own="""\
loss : {'log_loss', 'focal', 'hinge', 'squared_error'}, Loss or callable, default='log_loss'
    What is minimised: a name, an instance of `cymlp.losses` or a function as
    `cymlp.losses.CustomLoss` describes it. 'log_loss' is the cross-entropy, over softmax
    outputs of more than two classes, otherwise over sigmoid outputs. 'hinge' gives margins
    (`decision_function`) in the place of probabilities.
class_weight : dict or 'balanced', default=None
    Weights of the classes, by label, that multiply `sample_weight`; 'balanced' is
    ``n_samples / (n_classes * np.bincount(y))``.
""",
    stratified=" (stratified for two classes)",
    score="accuracy",
    loss_note="",
)
class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multi-layer perceptron classifier.

    Two classes and multilabel targets get sigmoid outputs, more classes a softmax.

    Parameters
    ----------
    %(PARAMETERS)s

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels; column numbers for multilabel targets.
    %(ATTRIBUTES)s

    See Also
    --------
    MLPRegressor : The same for real-valued targets.

    Notes
    -----
    %(NOTES)s

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from cymlp import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> names = load_iris().target_names[y]
    >>> clf = MLPClassifier((16,), learning_rate_init=0.01, max_iter=500, random_state=0)
    >>> clf = clf.fit(X, names)
    >>> clf.predict(X[[0, 60, 120]])
    array(['setosa', 'versicolor', 'virginica'], dtype='<U10')
    >>> clf.score(X, names) > 0.95
    True
    """

    classes_: NDArray[Any]
    _multilabel: bool

    _parameter_constraints = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"log_loss", "focal", "hinge", "squared_error"}), Loss, callable],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] | NDArray[np.integer] = (100,),
        activation: str | BaseActivation | Sequence[str | BaseActivation] = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str | Schedule = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int | str = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        loss: str | Loss | Callable[[Any, Any], tuple[Any, Any]] = "log_loss",
        class_weight: Mapping[Any, float] | str | None = None,
        layers: Sequence[Layer] | None = None,
        n_layers: int | None = None,
        width: int | None = None,
        normalization: str | None = None,
        dropout: float = 0.0,
        scoring: str | Callable[..., float] | None = None,
        callbacks: Sequence[Callback] | None = None,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            loss=loss,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            layers=layers,
            n_layers=n_layers,
            width=width,
            normalization=normalization,
            dropout=dropout,
            scoring=scoring,
            callbacks=callbacks,
            n_jobs=n_jobs,
        )
        self.class_weight = class_weight

    @available_if(requires_stochastic)
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on `X` and `y`, from where the last call stopped.

        Loss, penalty, layers and optimizer stay those of the call that built the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels or a 0/1 indicator matrix.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; None means equal weights.
        classes : array-like of shape (n_classes,), default=None
            All labels that any call will bring. Required in the first call.

        Returns
        -------
        self : object
            The estimator, trained for one more epoch.

        Raises
        ------
        AttributeError
            With an LBFGS solver.
        ValueError
            If `classes` is missing in the first call or differs from the first call's, if `y`
            holds another label, with early_stopping=True or class_weight='balanced'.
        """
        first_call = not hasattr(self, "classes_")
        if first_call and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which does not see all "
                "samples: pass the weights that sklearn.utils.compute_class_weight gives"
            )
        with unchanged_on_error(self):
            if classes is not None:
                labels = unique_labels(classes)
                if first_call:
                    self.classes_ = labels
                elif not np.array_equal(self.classes_, labels):
                    raise ValueError(
                        f"`classes={classes!r}` is not the same as on last call to partial_fit, "
                        f"was: {self.classes_!r}"
                    )
            return self._fit(X, y, sample_weight, None, incremental=True)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict class labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The most probable class of each sample, or an indicator matrix (multilabel).
        """
        return self._decode(self._decide(self._outputs(X)))

    @available_if(_gives_probabilities)
    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Predict class probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`. Rows sum to one, but not for multilabel targets,
            where each column is a probability of its own.
        """
        outputs = self._outputs(X)
        if self._multilabel or self.out_activation_ == "softmax":
            return outputs
        if len(self.classes_) == 1:
            return np.ones_like(outputs)
        if self.n_outputs_ == 1:
            return np.hstack([1 - outputs, outputs])
        # One against the rest, for each class.
        tiny = np.finfo(outputs.dtype).tiny
        return (outputs + tiny) / (outputs + tiny).sum(axis=1, keepdims=True)

    @available_if(_gives_probabilities)
    def predict_log_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the logarithm of class probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            ``log(predict_proba(X))``; ``-inf`` where a probability is zero.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    @available_if(_gives_margins)
    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Return the margins that loss='hinge' trains.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        margins : ndarray of shape (n_samples,) or (n_samples, n_classes)
            One number for two classes, greater than 0 for the second one.
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if self.n_outputs_ == 1 and not self._multilabel else outputs

    # Targets

    def _take_targets(self, y: Any, *, resume: bool, incremental: bool) -> NDArray[np.intp]:
        """Return class numbers or an indicator matrix; set `classes_` where they are new."""
        kind = "multiclass"
        if y.ndim != 1 or y.dtype.kind not in "biu":  # these can be nothing else
            check_classification_targets(y)
            kind = type_of_target(y, input_name="y")
        if kind == "multiclass-multioutput":
            raise ValueError(
                "y must be class labels of shape (n_samples,) or a 0/1 indicator matrix, got "
                f"shape {y.shape} with more than two values"
            )
        multilabel = kind == "multilabel-indicator"
        if multilabel:
            target = (y.toarray() if hasattr(y, "toarray") else y).astype(np.intp)
            seen = np.arange(y.shape[1])
        else:
            seen, target = classes_of(y)
        if incremental:
            expected = self.classes_ if multilabel else np.intersect1d(seen, self.classes_)
            if not np.array_equal(seen, expected):
                raise ValueError(
                    "`y` has classes not in `self.classes_`. `self.classes_` has "
                    f"{self.classes_}. 'y' has {seen}."
                )
        elif resume:
            if not np.array_equal(seen, self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the "
                    f"previous call to fit. Previously got {self.classes_}, `y` has {seen}"
                )
        else:
            self.classes_ = seen
        if hasattr(self, "_multilabel") and resume and multilabel != self._multilabel:
            kinds = ("class labels", "an indicator matrix")
            raise ValueError(
                f"y must be {kinds[self._multilabel]}, which the fitted network is for, got "
                f"{kinds[multilabel]}"
            )
        self._multilabel = multilabel
        # `y` need not hold all of `classes_`.
        return target if multilabel else np.searchsorted(self.classes_, seen)[target]

    def _head(self, y: NDArray[np.intp]) -> Head:
        n_classes = len(self.classes_)
        one = n_classes == 2 and not self._multilabel
        loss: Any = self.loss
        if loss == "log_loss":
            # A single class goes through a softmax of one output: probability one, nothing to
            # learn.
            yes_or_no = one or self._multilabel
            loss = BinaryCrossEntropy() if yes_or_no else CrossEntropy()
        else:
            loss = resolve("loss", loss)
        if loss.expects == "softmax":
            if self._multilabel:
                raise ValueError(
                    f"loss={self.loss!r} is for one class of many: it cannot be of multilabel "
                    "targets"
                )
            return Head(n_classes, Softmax(), loss)
        n_outputs = 1 if one else n_classes
        if loss.expects == "sigmoid":
            return Head(n_outputs, Sigmoid(), loss)
        if isinstance(loss, Hinge):
            return Head(n_outputs, Identity(), loss)
        if isinstance(loss, (SquaredError, CustomLoss)):
            yes_or_no = one or self._multilabel
            return Head(n_outputs, Sigmoid() if yes_or_no else Softmax(), loss)
        raise ValueError(f"loss={self.loss!r} is not a loss of class labels")

    def _fitted_head(self) -> Head:
        """Return what `_head` did in `fit`."""
        self._multilabel = self.n_outputs_ > 1 and self.out_activation_ == "logistic"
        return self._head(self.classes_)

    def _encode(self, y: NDArray[np.intp], head: Head) -> NDArray[Any]:
        if y.ndim == 2 or head.n_outputs == 1 or head.loss.takes_labels:
            return y
        return np.eye(head.n_outputs)[y]

    def _output_names(self, head: Head) -> list[str]:
        classes = self.classes_[1:] if head.n_outputs == 1 else self.classes_
        return [f"class_{each}" for each in classes]

    def _decode(self, y: NDArray[np.intp]) -> NDArray[Any]:
        return y if y.ndim == 2 else self.classes_[y]

    def _weigh(self, y: NDArray[np.intp], sample_weight: Any, *, as_fitted: bool = False) -> Any:
        if self.class_weight is None:
            return sample_weight
        if self.class_weight != "balanced":
            weight = compute_sample_weight(self.class_weight, self._decode(y))
        elif as_fitted:
            weight = self._balanced_weight(y)
        else:
            weight = compute_sample_weight("balanced", self._decode(y))
            self._class_counts = (
                np.bincount(y, minlength=len(self.classes_)) if y.ndim == 1 else None
            )
        return weight if sample_weight is None else weight * sample_weight

    def _balanced_weight(self, y: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the weights that samples of these classes had in `fit`."""
        counts = getattr(self, "_class_counts", None)
        if counts is None:
            raise ValueError(
                "class_weight='balanced' must have been fitted with, by class labels, for explain "
                "to know the weights; pass sample_weight, with class_weight=None"
            )
        weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return weights[y]

    def _decide(self, outputs: NDArray[Any]) -> NDArray[np.intp]:
        """Turn output activations into targets as `_take_targets` returns them."""
        if self.n_outputs_ > 1 and not self._multilabel:
            return outputs.argmax(axis=1)
        if len(self.classes_) == 1 and not self._multilabel:
            return np.zeros(len(outputs), np.intp)
        decided = (outputs > (0.5 if _gives_probabilities(self) else 0)).astype(np.intp)
        return decided if self._multilabel else decided[:, 0]

    def _score_outputs(self, outputs: NDArray[Any], target: Any, sample_weight: Any) -> float:
        if not np.isfinite(outputs).all():
            return np.nan
        return accuracy_score(target, self._decide(outputs), sample_weight=sample_weight)

    def __sklearn_tags__(self) -> Any:
        """Say what targets the estimator takes."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@documented(
    loss="""\
""",
    own="""\
quantile : float or list of float, default=0.5
    Level of loss='quantile', in (0, 1). Of several levels, which need targets of one column,
    `predict_quantiles` gives all, and `predict` the one that is nearest to the median.
""",
    stratified="",
    score="R2",
    loss_note="""
    Of the squared error, the mean over several outputs, as in scikit-learn, though their sum is
    what is minimised.""",
)
class MLPRegressor(RegressorMixin, BaseMLP):
    """Multi-layer perceptron regressor.

    Parameters
    ----------
    loss : str, Loss or callable, default='squared_error'
        What is minimised, summed over the outputs: 'squared_error' (half of it), 'poisson',
        'absolute_error', 'huber', 'log_cosh', 'quantile', 'gamma', 'tweedie', an instance of
        `cymlp.losses` or a function as `cymlp.losses.CustomLoss` describes it. The outputs are
        linear; with 'poisson', 'gamma' and 'tweedie', exponentials.
    %(PARAMETERS)s

    Attributes
    ----------
    %(ATTRIBUTES)s

    See Also
    --------
    MLPClassifier : The same for class labels.

    Notes
    -----
    %(NOTES)s

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp import MLPRegressor
    >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
    >>> reg = MLPRegressor(hidden_layer_sizes=(32,), solver="lbfgs", random_state=0)
    >>> reg = reg.fit(X, X.ravel() ** 2)
    >>> bool(abs(reg.predict([[0.5]])[0] - 0.25) < 0.02)
    True

    Intervals, between the quantiles at 5% and at 95%:

    >>> reg = MLPRegressor("quantile", quantile=[0.05, 0.5, 0.95], random_state=0)
    >>> low, high = reg.fit(X, X.ravel() ** 2).predict_interval(X).T
    >>> bool(np.all(low <= high))
    True
    """

    _parameter_constraints = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(_REGRESSION_LOSSES), Loss, callable],
        "quantile": [Interval(Real, 0, 1, closed="neither"), list, tuple, np.ndarray],
    }

    def __init__(
        self,
        loss: str | Loss | Callable[[Any, Any], tuple[Any, Any]] = "squared_error",
        hidden_layer_sizes: int | Sequence[int] | NDArray[np.integer] = (100,),
        activation: str | BaseActivation | Sequence[str | BaseActivation] = "relu",
        *,
        solver: str | Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str | Schedule = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int | str = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        quantile: float | Sequence[float] = 0.5,
        layers: Sequence[Layer] | None = None,
        n_layers: int | None = None,
        width: int | None = None,
        normalization: str | None = None,
        dropout: float = 0.0,
        scoring: str | Callable[..., float] | None = None,
        callbacks: Sequence[Callback] | None = None,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            loss=loss,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            layers=layers,
            n_layers=n_layers,
            width=width,
            normalization=normalization,
            dropout=dropout,
            scoring=scoring,
            callbacks=callbacks,
            n_jobs=n_jobs,
        )
        self.quantile = quantile

    @available_if(requires_stochastic)
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on `X` and `y`, from where the last call stopped.

        Loss, penalty, layers and optimizer stay those of the call that built the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Real numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; None means equal weights.

        Returns
        -------
        self : object
            The estimator, trained for one more epoch.

        Raises
        ------
        AttributeError
            With an LBFGS solver.
        ValueError
            If an argument does not fit, or with early_stopping=True.
        """
        with unchanged_on_error(self):
            return self._fit(X, y, sample_weight, None, incremental=True)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict targets.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predictions; of several quantiles the one that is nearest to the median.
        """
        return self._predicted(self._outputs(X))

    @available_if(_gives_several_quantiles)
    def predict_quantiles(self, X: ArrayLike) -> NDArray[Any]:
        """Predict all quantiles.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        quantiles : ndarray of shape (n_samples, n_levels)
            In the order of `quantile`, put right where the network has them cross.
        """
        levels = np.asarray(self._levels())
        quantiles = np.empty_like(outputs := self._outputs(X))
        quantiles[:, np.argsort(levels, kind="stable")] = np.sort(outputs, axis=1)
        return quantiles

    @available_if(_gives_several_quantiles)
    def predict_interval(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the lowest and the highest quantile.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        interval : ndarray of shape (n_samples, 2)
            With quantile=[0.05, 0.95], nine of ten targets lie between the two.
        """
        quantiles = self.predict_quantiles(X)
        return np.stack([quantiles.min(axis=1), quantiles.max(axis=1)], axis=1)

    # Targets

    def _resolved_loss(self) -> Any:
        if self.loss == "quantile":
            levels: Any = self.quantile
            return Quantile(float(levels) if np.ndim(levels) == 0 else [float(q) for q in levels])
        return resolve("loss", self.loss)

    def _levels(self) -> float | tuple[float, ...] | None:
        """Return the quantiles of the fitted network or, before `fit`, those to come."""
        fitted = getattr(self, "network_", None)
        loss = self._resolved_loss() if fitted is None else fitted.loss
        return getattr(loss, "levels", None)

    def _take_targets(self, y: Any, *, resume: bool, incremental: bool) -> NDArray[Any]:
        return y

    def _head(self, y: NDArray[Any]) -> Head:
        loss = self._resolved_loss()
        n_outputs = 1 if y.ndim == 1 else y.shape[1]
        if isinstance(getattr(loss, "levels", None), tuple):
            if n_outputs > 1:
                raise ValueError(
                    f"y must have one column for several quantiles, got {n_outputs} columns"
                )
            n_outputs = len(loss.levels)
        return Head(n_outputs, resolve_activation("loss", loss.expects), loss)

    def _fitted_head(self) -> Head:
        """Return what `_head` did in `fit`."""
        return self._head(
            np.empty((0, 1 if isinstance(self._levels(), tuple) else self.n_outputs_))
        )

    def _encode(self, y: NDArray[Any], head: Head) -> NDArray[Any]:
        return y

    def _predicted(self, outputs: NDArray[Any]) -> NDArray[Any]:
        levels = self._levels()
        if isinstance(levels, tuple):
            return outputs[:, np.abs(np.asarray(levels) - 0.5).argmin()]
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs

    def _score_outputs(self, outputs: NDArray[Any], target: Any, sample_weight: Any) -> float:
        predicted = self._predicted(outputs)
        if not np.isfinite(predicted).all():
            return np.nan
        return r2_score(target, predicted, sample_weight=sample_weight)
