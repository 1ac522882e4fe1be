"""What both scikit-learn estimators share: hyperparameters, and a fit that `Sequential` does."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _validate
from ._estimator_checks import (
    generator_of,
    has_valid_parameters,
    is_plain_matrix,
    is_plain_vector,
)
from ._estimator_convert import from_sklearn, to_sklearn
from ._estimator_fit import HeldOut, Order, Progress, Report
from ._estimator_network import (
    HIDDEN_ACTIVATIONS,
    NORMALIZATIONS,
    SCHEDULES,
    Head,
    build_network,
    dense_places,
    hidden_widths,
    optimizer_for,
    stack_for,
    structure_of,
)
from ._fit import Fit, Plan, checked_callbacks
from ._sklearn import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ConvergenceWarning,
    Interval,
    Options,
    StrOptions,
    TransformerMixin,
    check_is_fitted,
    check_optimize_result,
    check_sample_weight,
    column_or_1d,
    fit_context,
    get_scorer,
    get_scorer_names,
    is_classifier,
    train_test_split,
    validate_data,
)
from .activations import BaseActivation
from .inspection import last_hidden_outputs
from .optimizers import LBFGS, OPTIMIZERS, Optimizer
from .schedules import Schedule

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self

    from .callbacks import Callback
    from .data import Samples
    from .layers import Layer
    from .model import Sequential
    from .trace import Trace

_SPARSE = ("csr", "csc")
_DTYPES = (np.float64, np.float32)


@contextmanager
def unchanged_on_error(estimator: object) -> Iterator[None]:
    """Give `estimator` its attributes back if the block raises."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def is_stochastic(estimator: BaseMLP) -> bool:
    """Return whether the solver takes batches."""
    return estimator.solver != "lbfgs" and not isinstance(estimator.solver, LBFGS)


def requires_stochastic(estimator: BaseMLP) -> bool:
    """Raise unless the solver takes batches: for `available_if`."""
    if not is_stochastic(estimator):
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. "
            f"{estimator.solver} is not stochastic."
        )
    return True


class BaseMLP(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """What classifier and regressor share: everything but the meaning of `y`.

    A subclass says what targets mean to a network (`_head`, `_encode`), how predictions on held-out
    samples are scored (`_score_outputs`) and what an output row means (`predict`).
    """

    loss_: float
    best_loss_: float | None
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None
    best_validation_score_: float | None
    n_iter_: int
    t_: int
    n_layers_: int
    n_outputs_: int
    out_activation_: str
    network_: Sequential
    _no_improvement_count: int
    _structure: str

    _parameter_constraints: dict[str, list[object]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(HIDDEN_ACTIVATIONS)), BaseActivation, list, tuple],
        "solver": [StrOptions({"lbfgs", *OPTIMIZERS}), Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [
            StrOptions({"constant", "invscaling", "adaptive", *SCHEDULES}),
            Schedule,
        ],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose", StrOptions({"progress"})],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
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
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "layers": [list, tuple, None],
        "n_layers": [Interval(Integral, 1, None, closed="left"), None],
        "width": [Interval(Integral, 1, None, closed="left"), None],
        "normalization": [StrOptions(set(NORMALIZATIONS)), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
        "callbacks": [list, tuple, None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] | NDArray[np.integer],
        activation: str | BaseActivation | Sequence[str | BaseActivation],
        *,
        loss: Any,
        solver: str | Optimizer,
        alpha: float,
        batch_size: int | str,
        learning_rate: str | Schedule,
        learning_rate_init: float,
        power_t: float,
        max_iter: int,
        shuffle: bool,
        random_state: int | np.random.RandomState | None,
        tol: float,
        verbose: bool | int | str,
        warm_start: bool,
        momentum: float,
        nesterovs_momentum: bool,
        early_stopping: bool,
        validation_fraction: float,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        n_iter_no_change: int,
        max_fun: int,
        layers: Sequence[Layer] | None,
        n_layers: int | None,
        width: int | None,
        normalization: str | None,
        dropout: float,
        scoring: str | Callable[..., float] | None,
        callbacks: Sequence[Callback] | None,
        n_jobs: int | None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loss = loss
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
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
        self.max_fun = max_fun
        self.layers = layers
        self.n_layers = n_layers
        self.width = width
        self.normalization = normalization
        self.dropout = dropout
        self.scoring = scoring
        self.callbacks = callbacks
        self.n_jobs = n_jobs

    # What a subclass says of targets

    @abstractmethod
    def _head(self, y: NDArray[Any]) -> Head:
        """Return the output layer for targets; a classifier's `classes_` are known by now."""

    @abstractmethod
    def _fitted_head(self) -> Head:
        """Return what `_head` did in `fit`."""

    @abstractmethod
    def _take_targets(self, y: Any, *, resume: bool, incremental: bool) -> Any:
        """Check targets, and note what classes they have; return them as `_encode` takes them."""

    @abstractmethod
    def _encode(self, y: Any, head: Head) -> NDArray[Any]:
        """Return checked targets as the network takes them."""

    def _weigh(self, y: Any, sample_weight: Any, *, as_fitted: bool = False) -> Any:
        """Return samples' weights, with those of their classes, as they are or were in `fit`."""
        return sample_weight

    @abstractmethod
    def _score_outputs(self, outputs: NDArray[Any], target: Any, sample_weight: Any) -> float:
        """Return the accuracy or R2 of a network's outputs."""

    # What users call

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        eval_set: Any = None,
    ) -> Self:
        """Train the network on `X` and `y`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples. float32 trains a float32 network, anything else a float64 one.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, a 0/1 indicator matrix (multilabel) or real numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample in the averages over a batch; None means equal weights.
        eval_set : tuple, default=None
            ``(X, y)`` or ``(X, y, sample_weight)``, or a list with one of them: samples to be
            scored after each epoch. With `early_stopping` they take the place of the held-out part
            of `X`; otherwise they are only watched. Not used with an LBFGS solver.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or an argument does not fit, or the weights became infinite or NaN;
            the estimator is then as it was before the call.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` epochs were not enough.
        UserWarning
            If `batch_size` is larger than the number of samples; or on Ctrl-C, which, as in
            scikit-learn, ends the training and keeps what was learned.
        """
        with unchanged_on_error(self):
            return self._fit(X, y, sample_weight, eval_set, incremental=False)

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the outputs of the last hidden layer, as features for another estimator.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features_out)
            `X` itself where there is no hidden layer.
        """
        check_is_fitted(self)
        x: Any = validate_data(self, X, accept_sparse=_SPARSE, reset=False, dtype=_DTYPES)
        if len(self.network_.layers) == 1:
            return x.toarray() if hasattr(x, "toarray") else x.copy()
        return last_hidden_outputs(self.network_, x, self._n_threads())

    def explain(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        gradients: Sequence[Any] | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> Trace:
        """Return every number of a forward pass, a backward pass and an update.

        See `cymlp.explain`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_features,)
            A small batch, or one sample.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), optional
            Targets as `fit` takes them; where X is one sample, its own. Without them there is the
            forward pass alone.
        sample_weight : array-like of shape (n_samples,), optional
            Weights in the average over the batch; `class_weight` counts as in `fit`.
        gradients : list of array-like, optional
            What to take the step with instead, in the order of ``network_.get_weights()``.
        names : dict of str to sequence of str, optional
            As there. Inputs are called by ``feature_names_in_`` where that is known, the outputs
            of a classifier class_0, ... by ``classes_``.

        Returns
        -------
        trace : Trace

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError, ValueError
            If an argument is not what it must be.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from cymlp import MLPClassifier
        >>> iris = load_iris()
        >>> clf = MLPClassifier((5,), random_state=0, max_iter=2000).fit(iris.data, iris.target)
        >>> names = {"inputs": iris.feature_names}
        >>> trace = clf.explain(iris.data[:3], iris.target[:3], names=names)
        >>> trace.input_names[0], trace.layers[-1].output_names[0], trace.losses.shape
        ('sepal length (cm)', 'softmax(class_0)', (3,))
        """
        check_is_fitted(self)
        network, head = self.network_, self._fitted_head()
        if hasattr(X, "to_frame"):  # a row of a data frame
            X = X.to_frame().T
            y = None if y is None else [y]
        elif not hasattr(X, "toarray") and np.ndim(X) == 1:
            X, y = [X], [y] if y is not None and (np.ndim(y) == 0 or len(y) != 1) else y
        if y is None:
            X = validate_data(self, X, accept_sparse=_SPARSE, reset=False, dtype=_DTYPES)
        else:
            X, y = self._checked(X, y, reset=False)
            if sample_weight is not None:
                sample_weight = check_sample_weight(sample_weight, X)
            y = self._take_targets(y, resume=True, incremental=True)
            sample_weight = self._weigh(y, sample_weight, as_fitted=True)
            y = self._encode(y, head)
            if not network.compiled:  # as after from_sklearn
                network = copy(network)
                network.compile(optimizer=optimizer_for(self, 1), loss=head.loss)
        known = {"outputs": self._output_names(head)}
        if hasattr(self, "feature_names_in_"):
            known["inputs"] = list(self.feature_names_in_)
        given = {name: each for name, each in known.items() if each} | dict(names or {})
        return network.explain(X, y, sample_weight, gradients=gradients, names=given)

    def _output_names(self, head: Head) -> list[str]:
        """Return what `explain` calls the outputs; none for what it does by itself."""
        return []

    @property
    def _n_features_out(self) -> int:
        return self.network_.get_weights()[dense_places(self.network_)[-1][0]].shape[0]

    @property
    def coefs_(self) -> list[NDArray[Any]]:
        """List of arrays (inputs, units), one per dense layer: copies of the weights, read-only.

        Assign a list of arrays to change the network's weights.
        """
        return self._read_parameters(0)

    @coefs_.setter
    def coefs_(self, kernels: Sequence[ArrayLike]) -> None:
        self._write_parameters(0, kernels)

    @property
    def intercepts_(self) -> list[NDArray[Any]]:
        """List of arrays (units,), one per dense layer: copies of the biases, read-only.

        Assign a list of arrays to change the network's biases.
        """
        return self._read_parameters(1)

    @intercepts_.setter
    def intercepts_(self, biases: Sequence[ArrayLike]) -> None:
        self._write_parameters(1, biases)

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Return an estimator that predicts what a fitted one of scikit-learn does.

        Parameters
        ----------
        fitted : sklearn.neural_network.MLPClassifier or MLPRegressor
            Of the same name as this class, and fitted.

        Returns
        -------
        estimator : object
            With the same parameters, weights and records. It goes on with `warm_start` or
            `partial_fit`, the optimizer starting anew.

        Raises
        ------
        TypeError
            If `fitted` is something else.
        NotFittedError
            If it is not fitted.
        ValueError
            If it is a classifier of a single class.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn import neural_network
        >>> from sklearn.datasets import load_diabetes
        >>> from cymlp import MLPRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> theirs = neural_network.MLPRegressor(hidden_layer_sizes=(5,), solver="lbfgs")
        >>> theirs = theirs.set_params(max_iter=5000, random_state=0).fit(X, y)
        >>> np.allclose(MLPRegressor.from_sklearn(theirs).predict(X), theirs.predict(X))
        True
        """
        return from_sklearn(cls, fitted)

    def to_sklearn(self) -> Any:
        """Return an estimator of scikit-learn that predicts what this one does.

        Returns
        -------
        estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
            Fitted, with the same parameters, weights and records.

        Raises
        ------
        NotFittedError
            If this estimator is not fitted.
        ValueError
            If scikit-learn has no such network; the error names the parameter.
        """
        check_is_fitted(self)
        return to_sklearn(self)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __sklearn_tags__(self) -> Any:
        """Say what the estimator takes, and what it keeps."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _validate_params(self) -> None:
        if not has_valid_parameters(self):
            super()._validate_params()

    # Training

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        """Return samples and targets as arrays; set or check the number of features."""
        if is_plain_matrix(X) and is_plain_vector(y, len(X)) and _validate.is_finite(X):
            if reset:
                self.n_features_in_ = X.shape[1]
                if hasattr(self, "feature_names_in_"):
                    del self.feature_names_in_
                return X, y
            if self._is_as_fitted(X):
                return X, y
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=_SPARSE,
            reset=reset,
            dtype=_DTYPES,
            multi_output=True,
            y_numeric=not is_classifier(self),
        )
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _is_as_fitted(self, X: Any) -> bool:
        return X.shape[1] == self.n_features_in_ and not hasattr(self, "feature_names_in_")

    def _fit(self, X: Any, y: Any, sample_weight: Any, eval_set: Any, *, incremental: bool) -> Self:
        if self.layers is None:
            hidden_widths(self)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        resume = hasattr(self, "network_") and (incremental or self.warm_start)
        X, y = self._checked(X, y, reset=not resume)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X)
        y = self._take_targets(y, resume=resume, incremental=incremental)
        head = self._head(y)
        eval_data = None if eval_set is None else self._check_eval_set(eval_set)
        structure = structure_of(self, X.shape[1], head)
        if resume and structure != self._structure:
            raise ValueError(
                f"hidden_layer_sizes and y ask for {structure}, but the fitted network, which this "
                f"call would continue, has {self._structure}"
            )
        self._structure = structure
        with generator_of(self.random_state) as rng:
            if not (resume and incremental):
                self._make_network(head, X, rng, resume=resume)
            self._train(X, y, sample_weight, eval_data, head, rng, incremental=incremental)
        if not self.network_._network.are_finite():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )
        return self

    def _make_network(
        self, head: Head, X: Any, rng: np.random.RandomState, *, resume: bool
    ) -> None:
        """Set `network_`, and the records to where a fit begins."""
        stack = stack_for(self, head)
        if resume:
            network = build_network(
                stack, X.shape[1], self.network_.dtype, np.random.RandomState(0)
            )
            network.set_weights(self.network_.get_weights())
        else:
            network = build_network(stack, X.shape[1], X.dtype, rng)
            self.n_layers_ = len(dense_places(network)) + 1
            self.n_outputs_ = head.n_outputs
            self.out_activation_ = head.out_activation
            self.t_ = 0
        self.network_ = network
        # Lists are new ones, so that unchanged_on_error can undo a failed call.
        self.loss_curve_ = [*self.loss_curve_] if resume else []
        stops = self.early_stopping and is_stochastic(self)
        if not resume or stops != (self.best_loss_ is None):
            self._no_improvement_count = 0
            self.best_loss_ = None if stops else np.inf
            self.validation_scores_ = self.best_validation_score_ = None
            self.validation_loss_curve_ = None

    def _train(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        eval_data: Any,
        head: Head,
        rng: np.random.RandomState,
        *,
        incremental: bool,
    ) -> None:
        network, stochastic = self.network_, is_stochastic(self)
        if self.early_stopping and stochastic and eval_data is None:
            X, y, sample_weight, *eval_data = self._split(X, y, sample_weight, rng)
        if not stochastic:
            eval_data = None
        sample_weight = self._weigh(y, sample_weight)
        n_samples = X.shape[0]
        batch_size = self._checked_batch_size(n_samples)
        n_epochs = 1 if incremental else int(self.max_iter)
        # Minibatches go on with the optimizer that they have; L-BFGS has none to go on with.
        if not network.compiled or isinstance(network.optimizer, LBFGS):
            n_steps = int(self.max_iter) * -(-n_samples // batch_size)
            network.compile(optimizer=optimizer_for(self, n_steps), loss=head.loss)
        samples = network._prepare(X, self._encode(y, head), sample_weight)
        held_out, validation = None, None
        if eval_data is not None:
            held_out, validation = self._hold_out(eval_data, head)
        order = Order(n_samples, rng if self.shuffle else None)
        report = Report(self, samples, batch_size, order)
        progress = Progress(
            self,
            n_samples if stochastic else 0,
            report,
            held_out,
            changes_rate=self.solver == "sgd" and isinstance(self.learning_rate, str),
            stops=stochastic,
        )
        callbacks = checked_callbacks(self.callbacks, 1 if self.verbose == "progress" else 0)
        plan = Plan(
            epochs=n_epochs,
            initial_epoch=0,
            batch_size=batch_size,
            shuffle=False,
            validation_freq=1,
            n_threads=self._n_threads() or 0,
            order=order,
            at_once=None if callbacks else progress.epochs_at_once,
            by_count=True,
            objective=report,
        )
        fit = Fit(network, samples, validation, plan, [progress, *callbacks])
        fit.warns = False  # weights that are not finite are an error, as in scikit-learn
        self.n_iter_ = 0
        try:
            fit.run()
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        else:
            self._warn_unless_converged(fit, incremental=incremental)
        if held_out is not None:
            held_out.restore()

    def _warn_unless_converged(self, fit: Fit, *, incremental: bool) -> None:
        if not is_stochastic(self):
            if fit.minimum is not None:
                self.n_iter_ = check_optimize_result("lbfgs", fit.minimum, self.max_iter)
        elif not (incremental or self.network_.stop_training):
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and "
                "the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=6,
            )

    def _checked_batch_size(self, n_samples: int) -> int:
        if not is_stochastic(self):
            return n_samples
        if self.batch_size == "auto":
            return min(200, n_samples)
        if int(self.batch_size) > n_samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=6,
            )
        return min(int(self.batch_size), n_samples)

    def _split(self, X: Any, y: Any, sample_weight: Any, rng: np.random.RandomState) -> list[Any]:
        """Return X, y and weights to train on, then the held-out three."""
        arrays = [X, y] if sample_weight is None else [X, y, sample_weight]
        parts = train_test_split(
            *arrays,
            random_state=rng,
            test_size=self.validation_fraction,
            # As scikit-learn does it: a class with a single sample cannot be stratified.
            stratify=y if is_classifier(self) and self.n_outputs_ == 1 else None,
        )
        train, held_out = parts[::2], parts[1::2]
        if held_out[0].shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        if sample_weight is None:
            train, held_out = [*train, None], [*held_out, None]
        return [*train, *held_out]

    def _check_eval_set(self, eval_set: Any) -> tuple[Any, Any, Any]:
        """Return X, y and weights of an `eval_set`."""
        if isinstance(eval_set, list) and all(isinstance(each, tuple) for each in eval_set):
            if len(eval_set) != 1:
                raise ValueError(f"eval_set must have one set, got {len(eval_set)}")
            eval_set = eval_set[0]
        if not isinstance(eval_set, (tuple, list)) or len(eval_set) not in (2, 3):
            raise ValueError(
                "eval_set must be (X, y) or (X, y, sample_weight), or a list with one of them, got "
                f"{type(eval_set).__name__}"
                + (f" of {len(eval_set)}" if isinstance(eval_set, (tuple, list)) else "")
            )
        X, y, *rest = eval_set
        X, y = self._checked(X, y, reset=False)
        y = self._take_targets(y, resume=True, incremental=True)
        weight = None if not rest or rest[0] is None else check_sample_weight(rest[0], X)
        return X, y, weight

    def _hold_out(self, data: Any, head: Head) -> tuple[HeldOut, Samples]:
        """Return how held-out samples are scored, and what validation takes them for."""
        X, y, weight = data
        target = self._encode(y, head)
        validation = self.network_._prepare(X, target, weight)
        n_held_out = len(validation)
        report = Report(self, validation, n_held_out, Order(n_held_out, None))
        if self.scoring == "loss":

            def score(logs: Mapping[str, float]) -> float:
                return -report(logs["val_loss"] - self.network_._validation_penalty, 0.0)

        elif self.scoring is None:

            def score(logs: Mapping[str, float]) -> float:
                outputs = self.network_.predict(X, n_threads=self._n_threads())
                return self._score_outputs(outputs, y, weight)

        else:
            scorer = get_scorer(self.scoring)
            labels = self._decode(y)
            weights = {} if weight is None else {"sample_weight": weight}

            def score(logs: Mapping[str, float]) -> float:
                return float(scorer(self, X, labels, **weights))

        self.validation_scores_ = [*(self.validation_scores_ or [])]
        self.validation_loss_curve_ = [*(self.validation_loss_curve_ or [])]
        if self.best_validation_score_ is None:
            self.best_validation_score_ = -np.inf
        return HeldOut(self, score, report, stops=bool(self.early_stopping)), validation

    def _decode(self, y: Any) -> Any:
        """Return checked targets as the user gave them."""
        return y

    # The network

    def _n_threads(self) -> int | None:
        if self.n_jobs is None:
            return None
        from joblib import effective_n_jobs

        return min(effective_n_jobs(self.n_jobs), 1024)

    def _read_parameters(self, which: int) -> list[NDArray[Any]]:
        if not hasattr(self, "network_"):
            name = ("coefs_", "intercepts_")[which]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        weights = self.network_.get_weights()
        found = [weights[place] for place in self._places(which)]
        for array in found:
            array.flags.writeable = False  # a write into a copy would be lost without a word
        return found

    def _write_parameters(self, which: int, arrays: Sequence[ArrayLike]) -> None:
        check_is_fitted(self)
        name = ("coefs_", "intercepts_")[which]
        weights: list[Any] = self.network_.get_weights()
        places = self._places(which)
        shapes = [weights[place].shape for place in places]
        checked = _validate.parameter_list(name, arrays, shapes, self.network_.dtype)
        for place, array in zip(places, checked, strict=True):
            weights[place] = array
        self.network_.set_weights(weights)

    def _places(self, which: int) -> list[int]:
        """Return where the dense layers' kernels (0) or biases (1) stand in `get_weights`."""
        return [pair[which] for pair in dense_places(self.network_) if pair[which] >= 0]

    def _outputs(self, X: ArrayLike) -> NDArray[Any]:
        """Return the output layer's activations, shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        threads = self._n_threads()
        if is_plain_matrix(X) and self._is_as_fitted(X):
            try:
                return self.network_.predict(X, n_threads=threads)
            except ValueError:  # not finite, which scikit-learn has the words for
                pass
        X = validate_data(self, X, accept_sparse=_SPARSE, reset=False, dtype=_DTYPES)
        return self.network_.predict(X, n_threads=threads)
