"""What both scikit-learn estimators share: hyperparameters, and a fit that `Sequential` does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _validate
from ._sklearn import (
    BaseEstimator,
    ConvergenceWarning,
    Interval,
    Options,
    StrOptions,
    check_is_fitted,
    check_random_state,
    check_sample_weight,
    column_or_1d,
    fit_context,
    is_classifier,
    train_test_split,
    validate_data,
)
from .activations import Identity, ReLU, Sigmoid, Softmax, Tanh
from .initializers import GlorotUniform
from .layers import Dense
from .losses import BinaryCrossEntropy, CrossEntropy, SquaredError
from .model import Sequential
from .optimizers import SGD, Adam
from .regularizers import L2

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Self

    from .activations import BaseActivation
    from .losses import Loss

_HIDDEN_ACTIVATIONS = {"identity": Identity, "logistic": Sigmoid, "tanh": Tanh, "relu": ReLU}

# scikit-learn draws from U(-l, l) with l = sqrt(2 / (inputs + units)) in a logistic network,
# sqrt(6 / (inputs + units)) in any other.
_INITIAL_GAINS = {"identity": 1.0, "logistic": 3**-0.5, "tanh": 1.0, "relu": 1.0}


class Head(NamedTuple):
    """What the kind of target decides: the output layer and the loss."""

    out_activation: str
    activation: BaseActivation
    loss: Loss


REGRESSION = Head("identity", Identity(), SquaredError())
ONE_OF_MANY = Head("softmax", Softmax(), CrossEntropy())
YES_OR_NO = Head("logistic", Sigmoid(), BinaryCrossEntropy())


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


class BaseMLP(BaseEstimator):
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

    @fit_context(prefer_skip_nested_validation=True)
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

        Warns
        -----
        ConvergenceWarning
            If `max_iter` epochs were not enough.
        UserWarning
            If `batch_size` is larger than the number of samples; or on Ctrl-C, which, as in
            scikit-learn, ends the training and keeps what was learned.
        """
        with unchanged_on_error(self):
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
            sample_weight = check_sample_weight(sample_weight, X)
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
        # Lists are replaced, never extended, so that unchanged_on_error can undo a failed call.
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
        described = network._describe(network._prepare(X, target, sample_weight))
        self.n_iter_ = 0
        try:
            for _ in range(1 if incremental else self.max_iter):
                (logs,) = network._run_epochs(described, 1, batch_size, self.shuffle)
                self.loss_ = logs["loss"]
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
        whole = (int, np.integer)
        if not all(isinstance(n, whole) and not isinstance(n, bool) and n > 0 for n in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}; expected integers")
        return [int(size) for size in sizes]

    def _build_network(
        self, widths: list[int], head: Head, dtype: np.dtype, rng: np.random.RandomState
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
        name = ("coefs_", "intercepts_")[offset]
        parameters: list[Any] = self._network.get_weights()
        shapes = [array.shape for array in parameters[offset::2]]
        parameters[offset::2] = _validate.parameter_list(name, arrays, shapes, self._network.dtype)
        self._network.set_weights(parameters)

    def _outputs(self, X: ArrayLike) -> NDArray[Any]:
        """Return the output layer's activations, shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        return self._network.predict(X)
