"""scikit-learn estimators: hyperparameters outside, a trained `Sequential` inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._estimator_base import (
    ONE_OF_MANY,
    REGRESSION,
    YES_OR_NO,
    BaseMLP,
    Head,
    unchanged_on_error,
)
from ._sklearn import (
    ClassifierMixin,
    RegressorMixin,
    accuracy_score,
    check_classification_targets,
    fit_context,
    r2_score,
    type_of_target,
    unique_labels,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self

__all__ = ["MLPClassifier", "MLPRegressor"]


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multi-layer perceptron classifier.

    Minimises the cross-entropy with stochastic gradient descent or Adam. Two classes and
    multilabel targets get sigmoid outputs, more classes a softmax. Parameters, defaults and
    attributes carry scikit-learn's names and meaning.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Number of units in each hidden layer; ``()`` for none.
    activation : {'identity', 'logistic', 'tanh', 'relu'}, default='relu'
        Activation of the hidden layers.
    solver : {'sgd', 'adam'}, default='adam'
        How the weights are updated.
    alpha : float, default=0.0001
        Strength of the L2 penalty ``alpha / 2 * sum(W**2)``, divided by the number of samples in
        the batch (the sum of their weights).
    batch_size : int or 'auto', default='auto'
        Samples per update; 'auto' is ``min(200, n_samples)``.
    learning_rate_init : float, default=0.001
        Step size.
    max_iter : int, default=200
        Largest number of epochs. Reaching it raises a `ConvergenceWarning`.
    shuffle : bool, default=True
        Whether every epoch visits the samples in a new order.
    random_state : int, RandomState instance or None, default=None
        Decides initial weights, the order of samples and the held-out split.
    tol : float, default=1e-4
        What the loss (with `early_stopping`, the validation score) must improve by to count.
    verbose : bool or int, default=False
        Whether to print the loss of every epoch.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the previous `fit`.
    momentum : float, default=0.9
        Momentum in [0, 1], for solver='sgd'.
    nesterovs_momentum : bool, default=True
        Whether momentum is Nesterov's, for solver='sgd' and momentum > 0.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the samples (stratified for two classes),
        stop when their accuracy no longer improves, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the samples held out by `early_stopping`.
    beta_1, beta_2 : float, default=0.9 and 0.999
        Decay rates of Adam's first and second moment, in [0, 1).
    epsilon : float, default=1e-8
        Added to the denominator of Adam's step.
    n_iter_no_change : int or inf, default=10
        Training stops after more than this many epochs in a row that improve by less than `tol`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels; column numbers for multilabel targets.
    coefs_, intercepts_ : lists of ndarray
        Kernel (inputs, units) and bias (units,) of each layer, as read-only copies. Assign a
        list to change them.
    loss_ : float
        Loss of the last epoch, the L2 penalty included.
    best_loss_ : float or None
        Smallest loss of any epoch; None with `early_stopping`.
    loss_curve_ : list of float
        Loss of each epoch.
    validation_scores_ : list of float or None
        Accuracy on the held-out samples after each epoch; None without `early_stopping`.
    best_validation_score_ : float or None
        Largest of `validation_scores_`.
    n_iter_ : int
        Epochs of the last call.
    t_ : int
        Training samples seen so far.
    n_layers_, n_outputs_ : int
        Number of layers, input and output counted; units of the output layer.
    out_activation_ : {'logistic', 'softmax'}
        Activation of the output layer.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has string names for all of them.

    See Also
    --------
    MLPRegressor : The same for real-valued targets.

    Notes
    -----
    Threads are those of `cymlp.get_num_threads`, and change no result. Under ``n_jobs`` of a
    search, joblib has its processes share the cores; in its threads, fits that find the cores
    taken go on with one thread each.

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

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on `X` and `y`, from where the last call stopped.

        Step size, penalty and optimizer stay those of the call that built the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
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
        ValueError
            If `classes` is missing in the first call or differs from the first call's, if `y`
            holds another label, or with early_stopping=True.
        """
        first_call = not hasattr(self, "classes_")
        if first_call and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
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
            return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The most probable class of each sample, or an indicator matrix (multilabel).
        """
        decided = self._decide(self._outputs(X))
        return decided if decided.ndim == 2 else self.classes_[decided]

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`. Rows sum to one, but not for multilabel targets,
            where each column is a probability of its own.
        """
        outputs = self._outputs(X)
        if self.out_activation_ == "logistic" and self.n_outputs_ == 1:
            return np.hstack([1 - outputs, outputs])
        return outputs

    def predict_log_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the logarithm of class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            ``log(predict_proba(X))``; ``-inf`` where a probability is zero.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _encode_target(
        self, y: Any, *, resume: bool, incremental: bool
    ) -> tuple[NDArray[Any], int, Head]:
        """Return class numbers or the indicator matrix, the number of outputs, the output layer."""
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind == "multiclass-multioutput":
            raise ValueError(
                "y must be class labels of shape (n_samples,) or a 0/1 indicator matrix, got "
                f"shape {y.shape} with more than two values"
            )
        if kind == "multilabel-indicator":
            target = (y.toarray() if hasattr(y, "toarray") else y).astype(np.intp)
            seen = np.arange(y.shape[1])
        else:
            seen, target = np.unique(y, return_inverse=True)
        if incremental:
            expected = self.classes_ if target.ndim == 2 else np.intersect1d(seen, self.classes_)
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
        if target.ndim == 2:
            return target, target.shape[1], YES_OR_NO
        # `y` need not hold all of `classes_`.
        target = np.searchsorted(self.classes_, seen)[target]
        # A single class goes through a softmax of one output: probability one, nothing to learn.
        if len(self.classes_) == 2:
            return target, 1, YES_OR_NO
        return target, len(self.classes_), ONE_OF_MANY

    def _decide(self, outputs: NDArray[Any]) -> NDArray[np.intp]:
        """Turn output activations into targets as `_encode_target` encodes them."""
        if self.out_activation_ == "softmax":
            return outputs.argmax(axis=1)
        decided = (outputs > 0.5).astype(np.intp)
        return decided[:, 0] if self.n_outputs_ == 1 else decided

    def _validation_score(
        self, X: NDArray[Any], target: NDArray[Any], sample_weight: NDArray[Any] | None
    ) -> float:
        outputs = self._network.predict(X)
        if not np.isfinite(outputs).all():
            return np.nan
        return accuracy_score(target, self._decide(outputs), sample_weight=sample_weight)

    def __sklearn_tags__(self) -> Any:
        """Say what targets the estimator takes."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multi-layer perceptron regressor.

    Minimises half the squared error, summed over the outputs, with stochastic gradient descent
    or Adam. The outputs are linear. Parameters, defaults and attributes carry scikit-learn's
    names and meaning.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Number of units in each hidden layer; ``()`` for none.
    activation : {'identity', 'logistic', 'tanh', 'relu'}, default='relu'
        Activation of the hidden layers.
    solver : {'sgd', 'adam'}, default='adam'
        How the weights are updated.
    alpha : float, default=0.0001
        Strength of the L2 penalty ``alpha / 2 * sum(W**2)``, divided by the number of samples in
        the batch (the sum of their weights).
    batch_size : int or 'auto', default='auto'
        Samples per update; 'auto' is ``min(200, n_samples)``.
    learning_rate_init : float, default=0.001
        Step size.
    max_iter : int, default=200
        Largest number of epochs. Reaching it raises a `ConvergenceWarning`.
    shuffle : bool, default=True
        Whether every epoch visits the samples in a new order.
    random_state : int, RandomState instance or None, default=None
        Decides initial weights, the order of samples and the held-out split.
    tol : float, default=1e-4
        What the loss (with `early_stopping`, the validation score) must improve by to count.
    verbose : bool or int, default=False
        Whether to print the loss of every epoch.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the previous `fit`.
    momentum : float, default=0.9
        Momentum in [0, 1], for solver='sgd'.
    nesterovs_momentum : bool, default=True
        Whether momentum is Nesterov's, for solver='sgd' and momentum > 0.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the samples, stop when their R2 no longer
        improves, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the samples held out by `early_stopping`.
    beta_1, beta_2 : float, default=0.9 and 0.999
        Decay rates of Adam's first and second moment, in [0, 1).
    epsilon : float, default=1e-8
        Added to the denominator of Adam's step.
    n_iter_no_change : int or inf, default=10
        Training stops after more than this many epochs in a row that improve by less than `tol`.

    Attributes
    ----------
    coefs_, intercepts_ : lists of ndarray
        Kernel (inputs, units) and bias (units,) of each layer, as read-only copies. Assign a
        list to change them.
    loss_ : float
        Loss of the last epoch, the L2 penalty included. Over several outputs it is their sum,
        the quantity that is minimised; scikit-learn reports their mean.
    best_loss_ : float or None
        Smallest loss of any epoch; None with `early_stopping`.
    loss_curve_ : list of float
        Loss of each epoch.
    validation_scores_ : list of float or None
        R2 on the held-out samples after each epoch; None without `early_stopping`.
    best_validation_score_ : float or None
        Largest of `validation_scores_`.
    n_iter_ : int
        Epochs of the last call.
    t_ : int
        Training samples seen so far.
    n_layers_, n_outputs_ : int
        Number of layers, input and output counted; units of the output layer.
    out_activation_ : {'identity'}
        Activation of the output layer.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has string names for all of them.

    See Also
    --------
    MLPClassifier : The same for class labels.

    Notes
    -----
    Threads are those of `cymlp.get_num_threads`, and change no result. Under ``n_jobs`` of a
    search, joblib has its processes share the cores; in its threads, fits that find the cores
    taken go on with one thread each.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp import MLPRegressor
    >>> X = np.linspace(-1, 1, 200)[:, np.newaxis]
    >>> y = np.sin(4 * X[:, 0])
    >>> regr = MLPRegressor((16,), learning_rate_init=0.02, max_iter=500, random_state=0)
    >>> regr.fit(X, y).score(X, y) > 0.95
    True
    >>> [kernel.shape for kernel in regr.coefs_]
    [(1, 16), (16, 1)]
    """

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on `X` and `y`, from where the last call stopped.

        Step size, penalty and optimizer stay those of the call that built the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
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
        ValueError
            If an argument does not fit, or with early_stopping=True.
        """
        with unchanged_on_error(self):
            return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The predicted values, in the network's dtype.
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs

    def _encode_target(
        self, y: Any, *, resume: bool, incremental: bool
    ) -> tuple[NDArray[Any], int, Head]:
        """Return the values themselves, the number of outputs, the output layer."""
        return y, 1 if y.ndim == 1 else y.shape[1], REGRESSION

    def _validation_score(
        self, X: NDArray[Any], target: NDArray[Any], sample_weight: NDArray[Any] | None
    ) -> float:
        outputs = self._network.predict(X)
        if not np.isfinite(outputs).all():
            return np.nan
        return r2_score(target, outputs, sample_weight=sample_weight)

    def __sklearn_tags__(self) -> Any:
        """Say what targets the estimator takes."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
