"""scikit-learn estimators: hyperparameters outside, a trained `Sequential` inside."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .activations import Identity, ReLU, Sigmoid, Softmax, Tanh
from .initializers import GlorotUniform
from .layers import Dense
from .losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from .model import Sequential
from .optimizers import SGD, Adam
from .regularizers import L2

try:
    from sklearn.base import (
        BaseEstimator,
        ClassifierMixin,
        RegressorMixin,
        _fit_context,
        is_classifier,
    )
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils._param_validation import Interval, Options, StrOptions
    from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "MLPClassifier and MLPRegressor need scikit-learn 1.6 or newer: "
        f'pip install "cymlp[sklearn]" ({error})'
    ) from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self

    from .activations import Activation
    from .losses import Loss

__all__ = ["MLPClassifier", "MLPRegressor"]

_HIDDEN_ACTIVATIONS = {"identity": Identity, "logistic": Sigmoid, "tanh": Tanh, "relu": ReLU}

# scikit-learn draws from U(-l, l) with l = sqrt(2 / (inputs + units)) in a logistic network,
# sqrt(6 / (inputs + units)) in any other.
_INITIAL_GAINS = {"identity": 1.0, "logistic": 3**-0.5, "tanh": 1.0, "relu": 1.0}


class _Head(NamedTuple):
    """What the kind of target decides: the output layer and the loss."""

    out_activation: str
    activation: Activation
    loss: Loss


_REGRESSION = _Head("identity", Identity(), SquaredError())
_ONE_OF_MANY = _Head("softmax", Softmax(), CrossEntropy())
_YES_OR_NO = _Head("logistic", Sigmoid(), BinaryCrossEntropy())


@contextmanager
def _unchanged_on_error(estimator: object) -> Iterator[None]:
    """Give `estimator` its attributes back if the block raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class _BaseMLP(BaseEstimator):
    """What classifier and regressor share: everything but the meaning of `y`.

    A subclass says what targets the network is given (`_encode_target`), how a held-out set is
    scored (`_validation_score`) and what an output row means (`predict`).
    """

    loss_: float
    best_loss_: float | None
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    n_iter_: int
    t_: int
    n_layers_: int
    n_outputs_: int
    out_activation_: str
    _network: Sequential
    _widths: list[int]
    _no_improvement_count: int

    _parameter_constraints: dict[str, list[object]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(_HIDDEN_ACTIVATIONS))],
        "solver": [StrOptions({"sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] | NDArray[np.integer] = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change

    # ---- what users call -------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train the network on `X` and `y`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples. float32 trains a float32 network, anything else a float64 one.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, a 0/1 indicator matrix (multilabel) or real numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample in the averages over a batch; None means equal weights.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or an argument does not fit, or the weights became infinite or NaN;
            the estimator is then as it was before the call.
        """
        with _unchanged_on_error(self):
            return self._fit(X, y, sample_weight, incremental=False)

    @property
    def coefs_(self) -> list[NDArray[Any]]:
        """List of arrays (inputs, units), one per layer: copies of the weights, read-only.

        Assign a list of arrays to change the network's weights.
        """
        return self._read_parameters(0)

    @coefs_.setter
    def coefs_(self, kernels: Sequence[ArrayLike]) -> None:
        self._write_parameters(0, kernels)

    @property
    def intercepts_(self) -> list[NDArray[Any]]:
        """List of arrays (units,), one per layer: copies of the biases, read-only.

        Assign a list of arrays to change the network's biases.
        """
        return self._read_parameters(1)

    @intercepts_.setter
    def intercepts_(self, biases: Sequence[ArrayLike]) -> None:
        self._write_parameters(1, biases)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    # ---- training --------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool) -> Self:
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        resume = hasattr(self, "_network") and (incremental or self.warm_start)

        X, y = validate_data(
            self,
            X,
            y,
            reset=not resume,
            dtype=(np.float64, np.float32),
            multi_output=True,
            y_numeric=not is_classifier(self),
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        target, n_outputs, head = self._encode_target(y, resume=resume, incremental=incremental)

        rng = check_random_state(self.random_state)
        widths = [X.shape[1], *self._hidden_units(), n_outputs]
        if resume and (widths, head.out_activation) != (self._widths, self.out_activation_):
            raise ValueError(
                f"hidden_layer_sizes and y ask for layer widths {widths} with "
                f"{head.out_activation} outputs, but the fitted network, which this call would "
                f"continue, has {self._widths} with {self.out_activation_} outputs"
            )
        if not (resume and incremental):
            dtype = self._network.dtype if resume else X.dtype
            network = self._build_network(widths, head, dtype, rng)
            if resume:
                network.set_weights(self._network.get_weights())
            self._network = network
        if not resume:
            self._widths = widths
            self.n_layers_ = len(widths)
            self.n_outputs_ = n_outputs
            self.out_activation_ = head.out_activation
            self.t_ = 0
            self.loss_curve_ = []
        # Lists are replaced, never extended, so that _unchanged_on_error can undo a failed call.
        if not resume or self.early_stopping != (self.validation_scores_ is not None):
            self._no_improvement_count = 0
            self.validation_scores_ = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None
            self.best_loss_ = None if self.early_stopping else np.inf

        self._train(X, target, sample_weight, rng, incremental=incremental)

        if not all(np.isfinite(weights).all() for weights in self._network.get_weights()):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )
        return self

    def _train(
        self,
        X: NDArray[Any],
        target: NDArray[Any],
        sample_weight: NDArray[Any] | None,
        rng: np.random.RandomState,
        *,
        incremental: bool,
    ) -> None:
        held_out: list[Any] = []
        if self.early_stopping:
            X, target, sample_weight, *held_out = self._split(X, target, sample_weight, rng)
        n_samples = X.shape[0]
        batch_size = min(200, n_samples) if self.batch_size == "auto" else int(self.batch_size)
        if batch_size > n_samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=5,
            )
            batch_size = n_samples

        network = self._network
        # A network that continues an early-stopped one starts from the best weights so far.
        best_weights = network.get_weights() if held_out else []
        prepared = network._prepare(X, target, sample_weight)
        self.n_iter_ = 0
        try:
            for _ in range(1 if incremental else self.max_iter):
                self.loss_ = network._run_epoch(prepared, batch_size, self.shuffle)["loss"]
                self.n_iter_ += 1
                self.t_ += n_samples
                self.loss_curve_ = [*self.loss_curve_, self.loss_]
                if self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                if held_out:
                    if self._improve_score(self._validation_score(*held_out)):
                        best_weights = network.get_weights()
                else:
                    self._improve_loss(self.loss_)
                if self._no_improvement_count > self.n_iter_no_change:
                    self._say_stopped()
                    break
            else:
                if not incremental:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and "
                        "the optimization hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=5,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        if held_out:
            network.set_weights(best_weights)

    def _improve_loss(self, loss: float) -> None:
        best = np.inf if self.best_loss_ is None else self.best_loss_
        self._count(no_better=loss > best - self.tol)
        self.best_loss_ = min(best, loss)

    def _improve_score(self, score: float) -> bool:
        """Record a validation score; True if it is the best so far (NaN never is)."""
        if self.verbose:
            print(f"Validation score: {score:f}")
        best = -np.inf if self.best_validation_score_ is None else self.best_validation_score_
        self._count(no_better=score < best + self.tol)
        self.validation_scores_ = [*(self.validation_scores_ or []), score]
        self.best_validation_score_ = max(best, score)
        return score > best

    def _count(self, *, no_better: bool) -> None:
        self._no_improvement_count = self._no_improvement_count + 1 if no_better else 0

    def _say_stopped(self) -> None:
        if self.verbose:
            what = "Validation score" if self.early_stopping else "Training loss"
            print(
                f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} "
                "consecutive epochs. Stopping."
            )

    def _split(
        self,
        X: NDArray[Any],
        target: NDArray[Any],
        sample_weight: NDArray[Any] | None,
        rng: np.random.RandomState,
    ) -> list[Any]:
        """Return X, target and weights to train on, then the held-out three."""
        arrays = [X, target] if sample_weight is None else [X, target, sample_weight]
        parts = train_test_split(
            *arrays,
            random_state=rng,
            test_size=self.validation_fraction,
            # As scikit-learn does it: a class with a single sample cannot be stratified.
            stratify=target if is_classifier(self) and self.n_outputs_ == 1 else None,
        )
        train, held_out = parts[::2], parts[1::2]
        if len(held_out[0]) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        if sample_weight is None:
            train, held_out = [*train, None], [*held_out, None]
        return [*train, *held_out]

    # ---- the network -----------------------------------------------------------------------

    def _hidden_units(self) -> list[int]:
        given = self.hidden_layer_sizes
        sizes = [given] if isinstance(given, int | np.integer) else list(given)
        if not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}; expected integers")
        return [int(size) for size in sizes]

    def _build_network(
        self, widths: list[int], head: _Head, dtype: np.dtype, rng: np.random.RandomState
    ) -> Sequential:
        initial = GlorotUniform(gain=_INITIAL_GAINS[self.activation])
        penalty = L2(float(self.alpha), per_batch=True) if self.alpha > 0 else None
        hidden = _HIDDEN_ACTIVATIONS[self.activation]()
        activations = [hidden] * (len(widths) - 2) + [head.activation]
        network = Sequential(
            [
                Dense(
                    units,
                    activation=activation,
                    kernel_initializer=initial,
                    bias_initializer=initial,
                    kernel_regularizer=penalty,
                )
                for units, activation in zip(widths[1:], activations, strict=True)
            ],
            n_inputs=widths[0],
            dtype=np.dtype(dtype).name,
            random_state=int(rng.randint(np.iinfo(np.int32).max)),
        )
        network.compile(optimizer=self._optimizer(), loss=head.loss)
        return network

    def _optimizer(self) -> SGD | Adam:
        learning_rate = float(self.learning_rate_init)
        if self.solver == "sgd":
            return SGD(
                learning_rate=learning_rate,
                momentum=float(self.momentum),
                nesterov=bool(self.nesterovs_momentum and self.momentum > 0),
            )
        return Adam(
            learning_rate=learning_rate,
            beta_1=float(self.beta_1),
            beta_2=float(self.beta_2),
            epsilon=float(self.epsilon),
        )

    def _read_parameters(self, offset: int) -> list[NDArray[Any]]:
        if not hasattr(self, "_network"):
            name = ("coefs_", "intercepts_")[offset]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        parameters = self._network.get_weights()[offset::2]
        for array in parameters:
            array.flags.writeable = False  # a write into a copy would be lost without a word
        return parameters

    def _write_parameters(self, offset: int, arrays: Sequence[ArrayLike]) -> None:
        check_is_fitted(self)
        parameters: list[Any] = self._network.get_weights()
        if len(arrays) != len(parameters) // 2:
            name = ("coefs_", "intercepts_")[offset]
            raise ValueError(
                f"{name} must hold {len(parameters) // 2} arrays, one per layer, got {len(arrays)}"
            )
        parameters[offset::2] = arrays
        self._network.set_weights(parameters)

    def _outputs(self, X: ArrayLike) -> NDArray[Any]:
        """Return the output layer's activations, shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        return self._network.predict(X)


class MLPClassifier(ClassifierMixin, _BaseMLP):
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
        Momentum in [0, 1), for solver='sgd'.
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

    @_fit_context(prefer_skip_nested_validation=True)
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
        with _unchanged_on_error(self):
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
    ) -> tuple[NDArray[Any], int, _Head]:
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
            return target, target.shape[1], _YES_OR_NO
        # `y` need not hold all of `classes_`.
        target = np.searchsorted(self.classes_, seen)[target]
        # A single class goes through a softmax of one output: probability one, nothing to learn.
        if len(self.classes_) == 2:
            return target, 1, _YES_OR_NO
        return target, len(self.classes_), _ONE_OF_MANY

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


class MLPRegressor(RegressorMixin, _BaseMLP):
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
        Momentum in [0, 1), for solver='sgd'.
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

    @_fit_context(prefer_skip_nested_validation=True)
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
        with _unchanged_on_error(self):
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
    ) -> tuple[NDArray[Any], int, _Head]:
        """Return the values themselves, the number of outputs, the output layer."""
        return y, 1 if y.ndim == 1 else y.shape[1], _REGRESSION

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
