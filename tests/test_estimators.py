"""MLPClassifier and MLPRegressor: one contract, scikit-learn's checks, scikit-learn's numbers."""

import copy
import inspect
import io
import pickle
import warnings
from numbers import Real

import numpy as np
import pytest
from conftest import run_python

import cymlp

pytest.importorskip("sklearn", minversion="1.6")

import joblib
import scipy.sparse
import sklearn.neural_network as reference
from sklearn.base import clone
from sklearn.datasets import (
    make_multilabel_classification,
)
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from cymlp import MLPClassifier, MLPRegressor, Sequential
from cymlp.callbacks import LambdaCallback
from cymlp.layers import Dense, LayerNormalization, Residual

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ESTIMATORS = (MLPClassifier, MLPRegressor)


@pytest.fixture(params=ESTIMATORS, ids=lambda cls: cls.__name__)
def estimator_class(request):
    """Both classes in turn."""
    return request.param


def make_data(cls, dtype="float64", n_samples=60, seed=0):
    """Return X and y of a small task that `cls` can learn; three string labels or a real number."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, 4))
    signal = X[:, 0] + 0.5 * X[:, 1] ** 2
    names = np.array(["low", "mid", "top"])
    return X.astype(dtype), signal if cls is MLPRegressor else names[np.digitize(signal, [0, 1])]


def make_estimator(cls, **parameters):
    """Return a small estimator whose results depend on nothing but its parameters."""
    defaults = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}
    return cls(**{**defaults, **parameters})


def outputs(estimator, X):
    """Return what the network says: probabilities or predicted values."""
    return getattr(estimator, "predict_proba", estimator.predict)(X)


def state(estimator):
    """Return everything an estimator holds, comparable with ==."""
    return {
        name: pickle.dumps(value.get_weights() if isinstance(value, Sequential) else value)
        for name, value in vars(estimator).items()
    }


# ---- scikit-learn's checks ------------------------------------------------------------------


# Weights are repeated samples but for early stopping (which splits), dropout and batch
# normalization, which see rows: scikit-learn's checks have them in no configuration.
@parametrize_with_checks(
    [
        MLPClassifier(max_iter=100),
        MLPClassifier((9, 8), "tanh", solver="sgd", learning_rate_init=0.05, max_iter=100),
        MLPClassifier(solver="lbfgs", max_iter=20),
        MLPClassifier(loss="hinge", solver="adamw", n_layers=2, width=20, max_iter=100),
        MLPClassifier(
            layers=[Dense(30, activation="gelu"), Residual([Dense(30), LayerNormalization()])],
            max_iter=60, learning_rate_init=0.01,
        ),
        MLPRegressor(max_iter=100),
        MLPRegressor(
            hidden_layer_sizes=(20, 10), activation="tanh", solver="sgd", max_iter=100,
            random_state=0,
        ),
        MLPRegressor(solver="lbfgs", max_iter=20),
        MLPRegressor("huber", normalization="layer", learning_rate="cosine_decay", max_iter=100),
        MLPRegressor("quantile", quantile=[0.1, 0.5, 0.9], solver="nadam", max_iter=100),
    ]
)  # fmt: skip
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# ---- the interface is scikit-learn's --------------------------------------------------------


def test_parameters_and_defaults_are_scikit_learns(estimator_class):
    theirs = getattr(reference, estimator_class.__name__)
    ours = estimator_class().get_params()
    assert {name: ours[name] for name in theirs().get_params()} == theirs().get_params()
    if "loss" in theirs().get_params() or estimator_class is MLPClassifier:
        positions = [inspect.signature(cls).parameters for cls in (estimator_class, theirs)]
        assert [list(each)[: len(positions[1])] for each in positions] == [list(positions[1])] * 2
    assert clone(estimator_class()).get_params() == ours


@pytest.mark.parametrize("early_stopping", [False, True])
def test_attributes_are_scikit_learns(estimator_class, early_stopping):
    X, y = make_data(estimator_class)
    if estimator_class is MLPClassifier:
        y = np.unique(y, return_inverse=True)[1]
    ours = make_estimator(estimator_class, early_stopping=early_stopping).fit(X, y)
    theirs = getattr(reference, estimator_class.__name__)()
    shared = {name: ours.get_params()[name] for name in theirs.get_params()}
    theirs.set_params(**shared).fit(X, y)
    names = [name for name in vars(theirs) if name.endswith("_") and not name.startswith("_")]
    for name in names:
        expected, actual = getattr(theirs, name), getattr(ours, name)
        kind = Real if isinstance(expected, Real) else type(expected)
        assert isinstance(actual, kind), name
        if name in {"coefs_", "intercepts_"}:
            assert [a.shape for a in actual] == [e.shape for e in expected]
            assert {a.dtype for a in actual} == {e.dtype for e in expected}
        elif isinstance(expected, list):
            assert len(actual) == len(expected), name
        elif isinstance(expected, int | str | np.ndarray):
            assert np.array_equal(actual, expected), name
    signatures = [inspect.signature(cls.partial_fit) for cls in (type(ours), type(theirs))]
    if "sample_weight" in signatures[1].parameters:
        assert list(signatures[0].parameters) == list(signatures[1].parameters)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "float16"])
def test_float32_stays_and_all_else_becomes_float64(estimator_class, dtype):
    X, y = make_data(estimator_class)
    X = (10 * X).astype(dtype)
    estimator = make_estimator(estimator_class).fit(X, y)
    expected = "float32" if dtype == "float32" else "float64"
    assert {array.dtype.name for array in estimator.coefs_ + estimator.intercepts_} == {expected}
    assert outputs(estimator, X).dtype == expected


def test_before_fit(estimator_class):
    X, _ = make_data(estimator_class)
    estimator = make_estimator(estimator_class)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(estimator, method):
            with pytest.raises(NotFittedError):
                getattr(estimator, method)(X)
    for name in ("coefs_", "intercepts_", "classes_", "n_iter_"):
        assert not hasattr(estimator, name)
    with pytest.raises(NotFittedError):
        estimator.coefs_ = []


def test_coefs_are_read_only_and_assignable(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make_estimator(estimator_class).fit(X, y)
    before = outputs(estimator, X)
    with pytest.raises(ValueError, match="read-only"):
        estimator.coefs_[0][:] = 0
    with pytest.raises(ValueError, match="read-only"):
        estimator.intercepts_[0][:] = 0
    np.testing.assert_array_equal(outputs(estimator, X), before)

    estimator.coefs_ = [np.zeros_like(kernel) for kernel in estimator.coefs_]
    estimator.intercepts_ = [np.zeros_like(bias) for bias in estimator.intercepts_]
    assert not any(array.any() for array in estimator.coefs_ + estimator.intercepts_)
    assert np.ptp(outputs(estimator, X)) == 0
    with pytest.raises(ValueError, match=r"coefs_ must have 2 arrays, got 1"):
        estimator.coefs_ = estimator.coefs_[:1]
    with pytest.raises(ValueError):
        estimator.intercepts_ = estimator.intercepts_[::-1]


@pytest.mark.parametrize(
    "parameter, value, expected",
    [
        ("solver", "newton", r"'solver' .* among {.*'lbfgs'.*}.*. Got 'newton'"),
        ("activation", "sine", r"'activation' .* among {.*'logistic'.*}.* Got 'sine'"),
        ("activation", ["tanh"] * 3, r"activation must .* list of 1, one for each, got 3"),
        ("activation", ["sine"], r"activation\[0\] must be one of .*tanh.*, got 'sine'"),
        ("learning_rate", "fast", r"'learning_rate' .* among {.*'invscaling'.*}.* Got 'fast'"),
        ("power_t", -1.0, r"'power_t' .* Got -1.0"),
        ("max_fun", 0, r"'max_fun' .* Got 0"),
        ("loss", "accuracy", r"'loss' .* among .* Got 'accuracy'"),
        ("layers", [3], r"layers\[0\] must be a layer"),
        ("layers", 3, r"'layers' .* Got 3"),
        ("n_layers", 0, r"'n_layers' .* Got 0"),
        ("width", 0, r"'width' .* Got 0"),
        ("normalization", "group", r"'normalization' .* Got 'group'"),
        ("dropout", 1.0, r"'dropout' .* Got 1.0"),
        ("scoring", "best", r"'scoring' .* Got 'best'"),
        ("n_jobs", 1.5, r"'n_jobs' .* Got 1.5"),
        ("verbose", "loud", r"'verbose' .* Got 'loud'"),
        ("hidden_layer_sizes", -1, r"'hidden_layer_sizes' .* Got -1"),
        ("hidden_layer_sizes", (5, 0), r"hidden_layer_sizes must be > 0, got \[5, 0\]"),
        ("hidden_layer_sizes", (5.5,), r"hidden_layer_sizes must be integers > 0, got \[5.5\]"),
        ("alpha", -0.1, r"'alpha' .* in the range \[0.*Got -0.1"),
        ("batch_size", 0, r"'batch_size' .* Got 0"),
        ("learning_rate_init", 0.0, r"'learning_rate_init' .* Got 0.0"),
        ("max_iter", 0, r"'max_iter' .* Got 0"),
        ("shuffle", "yes", r"'shuffle' .* Got 'yes'"),
        ("random_state", "seed", r"'random_state' .* Got 'seed'"),
        ("tol", -1, r"'tol' .* Got -1"),
        ("momentum", 1.5, r"'momentum' .* Got 1.5"),
        ("validation_fraction", 1.0, r"'validation_fraction' .* Got 1.0"),
        ("beta_1", 1.0, r"'beta_1' .* Got 1.0"),
        ("beta_2", -0.5, r"'beta_2' .* Got -0.5"),
        ("epsilon", 0, r"'epsilon' .* Got 0"),
        ("n_iter_no_change", 0, r"'n_iter_no_change' .* Got 0"),
    ],
)
def test_bad_parameters(estimator_class, parameter, value, expected):
    X, y = make_data(estimator_class)
    estimator = make_estimator(estimator_class).fit(X, y).set_params(**{parameter: value})
    before = state(estimator)
    with pytest.raises((ValueError, TypeError), match=expected):
        estimator.fit(X, y)
    assert state(estimator) == before


def test_parameters_that_do_not_exist(estimator_class):
    with pytest.raises(TypeError, match="learning_rate_schedule"):
        estimator_class(learning_rate_schedule="cosine")


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda X, y: (X[:, 0], y, None), "Expected 2D array"),
        (lambda X, y: (X[:0], y[:0], None), "minimum of 1 is required"),
        (lambda X, y: (X[:-1], y, None), "inconsistent numbers of samples"),
        (lambda X, y: (np.where(X > 1, np.nan, X), y, None), "X contains NaN"),
        (lambda X, y: (np.where(X > 1, np.inf, X), y, None), "infinity"),
        (lambda X, y: (X.astype(complex), y, None), "Complex data not supported"),
        (lambda X, y: (np.full(X.shape, "a"), y, None), "could not convert string to float"),
        (lambda X, y: (scipy.sparse.coo_array(X.astype(complex)), y, None), "Complex data"),
        (lambda X, y: (X, None, None), "y should be a 1d array|requires y to be passed"),
        (lambda X, y: (X, y, np.ones(3)), r"sample_weight.shape == \(3,\)"),
        (lambda X, y: (X, y, -np.ones(len(X))), "sample_weight"),
        (lambda X, y: (X, y, np.zeros(len(X))), "[Ss]ample.weight.*zero"),
        (lambda X, y: (X, y, np.full(len(X), np.nan)), "sample_weight contains NaN"),
    ],
)
def test_bad_data_changes_nothing(estimator_class, warm_start, change, expected):
    X, y = make_data(estimator_class)
    estimator = make_estimator(estimator_class, warm_start=warm_start)
    bad_X, bad_y, weights = change(X, y)
    with pytest.raises((ValueError, TypeError), match=expected):
        estimator.fit(bad_X, bad_y, sample_weight=weights)
    assert vars(estimator) == estimator.get_params()

    estimator.fit(X, y)
    before, said = state(estimator), outputs(estimator, X)
    for method in (estimator.fit, estimator.partial_fit):
        with pytest.raises((ValueError, TypeError), match=expected):
            method(bad_X, bad_y, sample_weight=weights)
    assert state(estimator) == before
    np.testing.assert_array_equal(outputs(estimator, X), said)
    np.testing.assert_array_equal(outputs(clone(estimator).fit(X, y), X), said)


def test_wrong_number_of_features(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make_estimator(estimator_class).fit(X, y)
    before = state(estimator)
    with pytest.raises(ValueError, match="X has 3 features, but .* is expecting 4 features"):
        estimator.predict(X[:, :3])
    with pytest.raises(ValueError, match="X has 3 features, but .* is expecting 4 features"):
        estimator.partial_fit(X[:, :3], y)
    assert state(estimator) == before
    assert estimator.fit(X[:, :3], y).n_features_in_ == 3


def test_arrays_of_every_layout(estimator_class):
    X, y = make_data(estimator_class)
    expected = outputs(make_estimator(estimator_class).fit(X, y), X)
    read_only = X.copy()
    read_only.flags.writeable = False
    strided = np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3]
    for same in (np.asfortranarray(X), read_only, strided, X.tolist(), X.astype(">f8")):
        actual = outputs(make_estimator(estimator_class).fit(same, list(y)), same)
        np.testing.assert_array_equal(actual, expected)


def test_feature_names(estimator_class):
    pandas = pytest.importorskip("pandas")
    X, y = make_data(estimator_class)
    frame = pandas.DataFrame(X, columns=list("abcd"))
    for early_stopping in (False, True):
        estimator = make_estimator(estimator_class, early_stopping=early_stopping)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(frame, pandas.Series(y)).predict(frame)
        assert list(estimator.feature_names_in_) == list("abcd")
        with pytest.raises(ValueError, match="feature names"):
            estimator.predict(frame[list("dcba")])


# ---- training -------------------------------------------------------------------------------


def test_same_seed_same_result(estimator_class):
    X, y = make_data(estimator_class)

    def fitted(seed):
        return outputs(make_estimator(estimator_class, random_state=seed).fit(X, y), X)

    np.testing.assert_array_equal(fitted(3), fitted(3))
    assert np.abs(fitted(3) - fitted(4)).max() > 1e-3
    np.testing.assert_array_equal(
        fitted(np.random.RandomState(3)), fitted(np.random.RandomState(3))
    )
    shared = np.random.RandomState(3)
    assert np.abs(fitted(shared) - fitted(shared)).max() > 1e-3
    assert np.abs(fitted(None) - fitted(None)).max() > 1e-3


def test_number_of_threads_does_not_matter(estimator_class):
    X, y = make_data(estimator_class, n_samples=500)
    said = []
    for n_threads in (1, 2, 3):
        cymlp.set_num_threads(n_threads)
        said.append(outputs(make_estimator(estimator_class).fit(X, y), X))
    np.testing.assert_array_equal(said[0], said[1])
    np.testing.assert_array_equal(said[0], said[2])


@pytest.mark.parametrize("sizes", [(), 8, [8], (8, 7), np.array([8, 7]), (np.int64(5),)])
def test_hidden_layer_sizes(estimator_class, sizes):
    X, y = make_data(estimator_class)
    estimator = make_estimator(estimator_class, hidden_layer_sizes=sizes).fit(X, y)
    widths = [kernel.shape[1] for kernel in estimator.coefs_[:-1]]
    assert widths == np.atleast_1d(sizes).astype(int).tolist()
    assert estimator.n_layers_ == len(widths) + 2


def test_partial_fit_is_one_epoch_of_fit(estimator_class):
    X, y = make_data(estimator_class)
    # Each call would begin the shuffles anew, as in scikit-learn.
    whole, parts = (make_estimator(estimator_class, batch_size=16, shuffle=False) for _ in range(2))
    whole.fit(X, y)
    if estimator_class is MLPClassifier:
        parts.partial_fit(X, y, classes=["low", "mid", "top"])
    for _ in range(whole.max_iter - len(getattr(parts, "loss_curve_", []))):
        parts.partial_fit(X, y)
    np.testing.assert_array_equal(outputs(parts, X), outputs(whole, X))
    assert parts.loss_curve_ == whole.loss_curve_
    assert (parts.t_, parts.n_iter_) == (whole.t_, 1)


def test_partial_fit_goes_on_after_fit(estimator_class):
    X, y = make_data(estimator_class)
    longer, resumed = (
        make_estimator(estimator_class, max_iter=n, random_state=np.random.RandomState(0))
        for n in (6, 5)
    )
    longer.fit(X, y)
    resumed.fit(X, y).partial_fit(X, y)
    np.testing.assert_array_equal(outputs(resumed, X), outputs(longer, X))
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        resumed.set_params(early_stopping=True).partial_fit(X, y)
    with pytest.raises(ValueError, match=r"\[4, 9, .*fitted network.*\[4, 8, "):
        resumed.set_params(early_stopping=False, hidden_layer_sizes=(9,)).partial_fit(X, y)


def test_warm_start_continues(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make_estimator(estimator_class, warm_start=True, learning_rate_init=1e-9)
    first = outputs(estimator.fit(X, y), X)
    np.testing.assert_allclose(outputs(estimator.fit(X, y), X), first, atol=1e-6)
    assert len(estimator.loss_curve_) == 10
    assert estimator.t_ == 10 * len(X)
    assert estimator.n_iter_ == 5
    estimator.set_params(learning_rate_init=0.01).fit(X, y)
    assert estimator.loss_ < estimator.loss_curve_[0]
    assert estimator.set_params(warm_start=False).fit(X, y).t_ == 5 * len(X)
    assert len(estimator.loss_curve_) == 5


def test_warm_start_can_turn_early_stopping_on_and_off(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make_estimator(estimator_class, warm_start=True)
    for early_stopping in (False, True, True, False):
        estimator.set_params(early_stopping=early_stopping).fit(X, y)
        assert (estimator.validation_scores_ is not None) == early_stopping
        assert (estimator.best_loss_ is None) == early_stopping
    assert len(estimator.loss_curve_) == 20


def test_warm_start_with_other_layers(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make_estimator(estimator_class, warm_start=True).fit(X, y)
    before = state(estimator.set_params(hidden_layer_sizes=(8, 8)))
    with pytest.raises(ValueError, match=r"\[4, 8, 8, \d\].*fitted network.*\[4, 8, \d\]"):
        estimator.fit(X, y)
    assert state(estimator) == before


def test_epochs_run_out_with_a_warning(estimator_class):
    X, y = make_data(estimator_class)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(5\) reached") as caught:
        make_estimator(estimator_class).fit(X, y)
    assert caught[0].filename == __file__


def test_training_stops_when_the_loss_stands_still(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make_estimator(estimator_class, max_iter=100, tol=1e9, n_iter_no_change=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.fit(X, y)
    # The first loss always improves on infinity; four more that do not are more than three.
    assert estimator.n_iter_ == 5
    assert estimator.best_loss_ == min(estimator.loss_curve_)
    estimator.set_params(n_iter_no_change=np.inf, max_iter=20).fit(X, y)
    assert estimator.n_iter_ == 20


def test_early_stopping_keeps_the_best_weights(estimator_class, monkeypatch):
    X, y = make_data(estimator_class)
    after_epoch = []
    run_epochs = Sequential._run_epochs

    def recorded(self, *arguments, **named):
        run_epochs(self, *arguments, **named)
        after_epoch.append(self.get_weights())

    monkeypatch.setattr(Sequential, "_run_epochs", recorded)
    estimator = make_estimator(
        estimator_class, early_stopping=True, max_iter=300, learning_rate_init=0.3
    ).fit(X, y)
    scores = estimator.validation_scores_
    assert estimator.n_iter_ == len(scores) == len(estimator.loss_curve_) == len(after_epoch) < 300
    assert estimator.best_validation_score_ == max(scores)
    assert estimator.best_loss_ is None
    best = after_epoch[int(np.argmax(scores))]
    for actual, expected in zip(estimator.coefs_, best[::2], strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert estimator.t_ == estimator.n_iter_ * 54

    with pytest.raises(ValueError, match="validation set is too small|test_size = 1"):
        make_estimator(estimator_class, early_stopping=True).fit(X[:5], y[:5])


def test_batch_larger_than_the_data_is_clipped(estimator_class):
    X, y = make_data(estimator_class)
    with pytest.warns(UserWarning, match="larger than sample size"):
        clipped = make_estimator(estimator_class, batch_size=1000).fit(X, y)
    expected = make_estimator(estimator_class, batch_size=60).fit(X, y)
    np.testing.assert_array_equal(outputs(clipped, X), outputs(expected, X))


def test_zero_weight_removes_a_sample(estimator_class):
    X, y = make_data(estimator_class)
    kept = np.arange(60) % 3 > 0
    removed = make_estimator(estimator_class, shuffle=False).fit(X[kept], y[kept])
    weighted = make_estimator(estimator_class, shuffle=False).fit(X, y, sample_weight=kept)
    np.testing.assert_allclose(outputs(weighted, X), outputs(removed, X), rtol=1e-9)
    # Whole batches of weight zero must not turn the weights into NaN.
    weights = np.repeat([0.0, 1.0], 30)
    make_estimator(estimator_class, shuffle=False, batch_size=10).fit(X, y, sample_weight=weights)


def test_sample_weight_with_early_stopping(estimator_class):
    X, y = make_data(estimator_class)
    weights = np.linspace(0.5, 2, 60)
    weighted, equal = (
        make_estimator(estimator_class, early_stopping=True).fit(X, y, sample_weight=given)
        for given in (weights, None)
    )
    assert weighted.validation_scores_ != equal.validation_scores_


def test_divergence_is_an_error(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make_estimator(estimator_class).fit(X, y)
    estimator.set_params(
        solver="sgd", learning_rate_init=1e200, activation="identity", momentum=0, alpha=1.0
    )
    before = state(estimator)
    with (
        np.errstate(all="ignore"),
        pytest.raises(ValueError, match="Solver produced non-finite parameter weights"),
    ):
        estimator.fit(1e100 * X, y)
    assert state(estimator) == before


def test_divergence_with_early_stopping_keeps_the_best_weights(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make_estimator(
        estimator_class, solver="sgd", learning_rate_init=1e200, activation="identity",
        early_stopping=True, alpha=1.0,
    )  # fmt: skip
    with np.errstate(all="ignore"):
        estimator.fit(1e100 * X, y)
    assert np.isnan(estimator.validation_scores_[-1])
    assert all(np.isfinite(array).all() for array in estimator.coefs_ + estimator.intercepts_)
    assert np.isfinite(outputs(estimator, X)).all()


def test_interrupted_fit_keeps_what_it_has(estimator_class, monkeypatch):
    X, y = make_data(estimator_class)
    expected = make_estimator(estimator_class, max_iter=2).fit(X, y)
    run_epochs = Sequential._run_epochs

    def interrupted(self, described, every, n_epochs, *arguments, **named):
        assert n_epochs > 2
        named["order"] = named["order"][:2]
        run_epochs(self, described, every, 2, *arguments, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(Sequential, "_run_epochs", interrupted)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        estimator = make_estimator(estimator_class).fit(X, y)
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 2
    np.testing.assert_array_equal(outputs(estimator, X), outputs(expected, X))


def test_epochs_go_by_together_where_nobody_looks(estimator_class, monkeypatch):
    X, y = make_data(estimator_class)
    calls = []
    run_epochs = Sequential._run_epochs

    def counted(self, described, every, n_epochs, *arguments, **named):
        calls.append(n_epochs)
        run_epochs(self, described, every, n_epochs, *arguments, **named)

    def fitted(**parameters):
        calls.clear()
        return make_estimator(
            estimator_class, max_iter=200, tol=1e-2, n_iter_no_change=4, **parameters
        ).fit(X, y)

    monkeypatch.setattr(Sequential, "_run_epochs", counted)
    looked_at = fitted(callbacks=[LambdaCallback(on_epoch_end=lambda epoch, logs: None)])
    assert calls == [1] * looked_at.n_iter_
    alone = fitted()
    assert calls[0] == 5 and len(calls) < alone.n_iter_ and sum(calls) == alone.n_iter_ < 200
    assert alone.loss_curve_ == looked_at.loss_curve_
    np.testing.assert_array_equal(outputs(alone, X), outputs(looked_at, X))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_verbose(estimator_class, early_stopping, capfd):
    X, y = make_data(estimator_class)
    estimator = make_estimator(
        estimator_class, verbose=True, early_stopping=early_stopping, tol=1e9, n_iter_no_change=1
    ).fit(X, y)
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"Iteration 1, loss = {estimator.loss_curve_[0]:.8f}"
    assert lines[-1].endswith("for 1 consecutive epochs. Stopping.")
    assert sum(line.startswith("Validation score: ") for line in lines) == 3 * early_stopping
    estimator.set_params(verbose=False).fit(X, y)
    assert capfd.readouterr() == ("", "")


# ---- in the company of scikit-learn ---------------------------------------------------------


def through_joblib(estimator):
    """Return the estimator after a trip through a joblib file."""
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e)), through_joblib]
)
def test_copies_predict_and_train_alike(estimator_class, copied):
    X, y = make_data(estimator_class)
    estimator = make_estimator(estimator_class).fit(X, y)
    twin = copied(estimator)
    np.testing.assert_array_equal(outputs(twin, X), outputs(estimator, X))
    said = outputs(estimator, X)
    twin.partial_fit(X, y)
    np.testing.assert_array_equal(outputs(estimator, X), said)
    np.testing.assert_array_equal(outputs(twin, X), outputs(estimator.partial_fit(X, y), X))


def test_pipeline_search_and_cross_validation(estimator_class):
    X, y = make_data(estimator_class)
    pipeline = make_pipeline(
        StandardScaler(), make_estimator(estimator_class, max_iter=200, learning_rate_init=0.01)
    )
    assert pipeline.fit(X, y).score(X, y) > 0.85
    assert cross_val_score(pipeline, X, y, cv=3).mean() > 0.5
    name = estimator_class.__name__.lower()
    grid = {f"{name}__hidden_layer_sizes": [(2,), (8,)], f"{name}__alpha": [1e-4, 1e-2]}
    searches = [
        GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(X, y)
        for n_jobs in (1, 2)
    ]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert searches[1].score(X, y) > 0.7


def test_repr_shows_what_was_set(estimator_class):
    estimator = estimator_class(alpha=0.5, max_iter=7)
    assert repr(estimator) == f"{estimator_class.__name__}(alpha=0.5, max_iter=7)"
    assert estimator_class.__name__ in estimator._repr_html_()


def test_without_scikit_learn():
    done = run_python(
        """
        import sys
        sys.modules["sklearn"] = None
        import cymlp
        for name in ("MLPClassifier", "MLPRegressor"):
            try:
                getattr(cymlp, name)
            except ImportError as error:
                assert 'pip install "cymlp[sklearn]"' in str(error), error
            else:
                raise AssertionError(name)
        assert not any(name.startswith("sklearn.") for name in sys.modules)
        """
    )
    assert done.returncode == 0, done.stderr


# ---- the classifier's own -------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["b", "a"]),
        np.array(["b", "a", "c"], dtype=object),
        np.array([7, -2]),
        np.array([3.0, 1.0, 2.0]),
        np.array([False, True]),
    ],
    ids=lambda labels: f"{len(labels)}-{labels.dtype.kind}",
)
def test_labels_of_every_kind(labels):
    rng = np.random.default_rng(0)
    y = labels[rng.integers(len(labels), size=90)]
    X = (y[:, None] == np.unique(labels)) + 0.1 * rng.standard_normal((90, len(labels)))
    clf = make_estimator(MLPClassifier, max_iter=200, learning_rate_init=0.02).fit(X, y)
    np.testing.assert_array_equal(clf.classes_, np.unique(labels))
    assert clf.classes_.dtype == clf.predict(X).dtype == labels.dtype
    np.testing.assert_array_equal(clf.predict(X), y)
    probabilities = clf.predict_proba(X)
    assert probabilities.shape == (90, len(labels))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(clf.classes_[probabilities.argmax(axis=1)], y)
    np.testing.assert_array_equal(clf.predict_log_proba(X), np.log(probabilities))
    assert clf.n_outputs_ == (1 if len(labels) == 2 else len(labels))
    assert clf.out_activation_ == ("logistic" if len(labels) == 2 else "softmax")


def test_one_class_only():
    X, _ = make_data(MLPClassifier)
    clf = make_estimator(MLPClassifier).fit(X, np.full(60, "only"))
    assert set(clf.predict(X)) == {"only"}
    np.testing.assert_array_equal(clf.predict_proba(X), np.ones((60, 1)))


@pytest.mark.parametrize("as_y", [np.asarray, scipy.sparse.csr_array, np.ndarray.tolist])
def test_multilabel(as_y):
    X, y = make_multilabel_classification(n_samples=150, n_classes=4, random_state=0)
    clf = make_estimator(
        MLPClassifier, hidden_layer_sizes=(50,), max_iter=300, learning_rate_init=0.02
    ).fit(X, as_y(y))
    assert clf.out_activation_ == "logistic"
    assert clf.n_outputs_ == 4
    np.testing.assert_array_equal(clf.classes_, np.arange(4))
    assert clf.predict(X).shape == y.shape
    assert clf.score(X, y) > 0.9
    np.testing.assert_array_equal(clf.predict(X), clf.predict_proba(X) > 0.5)
    clf.set_params(early_stopping=True).fit(X, as_y(y))
    assert clf.best_validation_score_ > 0.2


def test_certain_predictions_have_a_log_probability():
    X = np.array([[-1.0], [1.0]])
    clf = make_estimator(MLPClassifier, hidden_layer_sizes=()).fit(X, [0, 1])
    clf.coefs_ = [np.full((1, 1), 1e4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(clf.predict_log_proba(X), [[0, -np.inf], [-np.inf, 0]])


def test_classes_of_partial_fit():
    X, y = make_data(MLPClassifier)
    clf = make_estimator(MLPClassifier)
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        clf.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`"):
        clf.partial_fit(X, y, classes=["low", "mid"])
    assert vars(clf) == clf.get_params()
    clf.partial_fit(X[y == "low"], y[y == "low"], classes=["top", "mid", "low"])
    assert list(clf.classes_) == ["low", "mid", "top"]
    assert clf.predict_proba(X).shape == (60, 3)
    clf.partial_fit(X, y, classes=["low", "mid", "top"])
    before = state(clf)
    with pytest.raises(ValueError, match="not the same as on last call to partial_fit"):
        clf.partial_fit(X, y, classes=["low", "mid"])
    with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`"):
        clf.partial_fit(X, np.where(y == "low", "other", y))
    assert state(clf) == before


def test_warm_start_needs_the_same_classes():
    X, y = make_data(MLPClassifier)
    clf = make_estimator(MLPClassifier, warm_start=True).fit(X, y)
    before = state(clf)
    with pytest.raises(ValueError, match="`y` has the same classes as in the previous call"):
        clf.fit(X[y != "low"], y[y != "low"])
    assert state(clf) == before


def test_a_network_for_labels_is_not_continued_with_indicators():
    X, _ = make_data(MLPClassifier)
    clf = make_estimator(MLPClassifier, warm_start=True).fit(X, np.arange(60) % 3)
    with pytest.raises(ValueError, match="y must be class labels.*got an indicator matrix"):
        clf.fit(X, np.eye(3, dtype=int)[:, ::-1][np.arange(60) % 3])


@pytest.mark.parametrize(
    "y, expected",
    [
        (np.linspace(0, 1, 60), "Unknown label type"),
        (np.arange(120).reshape(60, 2) % 3, r"indicator matrix, got shape \(60, 2\)"),
    ],
)
def test_targets_that_are_no_labels(y, expected):
    X, _ = make_data(MLPClassifier)
    clf = make_estimator(MLPClassifier)
    with pytest.raises(ValueError, match=expected):
        clf.fit(X, y)
    assert vars(clf) == clf.get_params()


# ---- the regressor's own --------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
def test_several_outputs(early_stopping):
    X, y = make_data(MLPRegressor)
    Y = np.column_stack([y, -2 * y, X[:, 2]])
    regr = make_estimator(
        MLPRegressor, max_iter=500, learning_rate_init=0.02, early_stopping=early_stopping
    ).fit(X, Y)
    assert regr.predict(X).shape == (60, 3)
    assert regr.n_outputs_ == 3
    assert regr.score(X, Y) > 0.7
    with pytest.raises(ValueError, match=r"\[4, 8, 2\].*fitted network.*\[4, 8, 3\]"):
        regr.set_params(early_stopping=False).partial_fit(X, Y[:, :2])


def test_column_targets_are_flattened_with_a_warning(estimator_class):
    X, y = make_data(estimator_class)
    with pytest.warns(DataConversionWarning):
        estimator = make_estimator(estimator_class).fit(X, y[:, None])
    assert estimator.predict(X).shape == (60,)
