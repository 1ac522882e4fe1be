"""The estimators beside scikit-learn's: the same random_state gives the same numbers."""

import inspect
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

import scipy.sparse
import sklearn.neural_network as reference
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cymlp import MLPClassifier, MLPRegressor
from cymlp.layers import Dense

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # scikit-learn's own update divides by a root that may be zero, with a huge penalty.
    pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning"),
]

THEIR_PARAMETERS = inspect.signature(reference.MLPRegressor.__init__).parameters
takes_weights = pytest.mark.skipif(
    "sample_weight" not in inspect.signature(reference.MLPClassifier.fit).parameters,
    reason="this scikit-learn's MLP takes no sample_weight",
)
takes_loss = pytest.mark.skipif(
    "loss" not in THEIR_PARAMETERS, reason="this scikit-learn's MLP takes no loss"
)

TASKS = {
    "two classes": (MLPClassifier, lambda signal: signal[:, 0] > 0),
    "three classes": (MLPClassifier, lambda signal: np.digitize(signal[:, 0], [-0.5, 0.5])),
    "named classes": (MLPClassifier, lambda signal: np.where(signal[:, 0] > 0, "yes", "no")),
    "multilabel": (MLPClassifier, lambda signal: (signal > 0).astype(int)),
    "one number": (MLPRegressor, lambda signal: signal[:, 0]),
    "two numbers": (MLPRegressor, lambda signal: signal),
    "counts": (MLPRegressor, lambda signal: np.floor(np.exp(signal[:, 0]))),
    "two counts": (MLPRegressor, lambda signal: np.floor(np.exp(signal))),
}
SOLVERS = {
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "momentum": 0.8, "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "momentum": 0.8},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
    "standstill": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 20.0},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 0.1},
    "adam": {"solver": "adam"},
    "much epsilon": {"solver": "adam", "epsilon": 0.01},
    "no shuffle": {"solver": "adam", "shuffle": False},
}
EITHER = ("two classes", "two numbers")

tasks = pytest.mark.parametrize(
    "task",
    [pytest.param(task, marks=takes_loss if "counts" in task else ()) for task in TASKS],
)
either = pytest.mark.parametrize("task", EITHER)


def make_task(task, n_samples=53, seed=1):
    """Return the estimator class, X, y and the parameters of one of TASKS."""
    cls, target = TASKS[task]
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, 6))
    parameters = {"loss": "poisson"} if "counts" in task else {}
    return cls, X, target(X @ rng.standard_normal((6, 2)) / 2), parameters


def their_class(cls):
    return getattr(reference, cls.__name__)


def fit_both(cls, X, y, sample_weight=None, **parameters):
    """Fit ours and scikit-learn's with the same random_state; return both."""
    parameters = {"hidden_layer_sizes": (7, 5), "random_state": 0, **parameters}
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    ours = cls(**parameters).fit(X, y, **weights)
    theirs = their_class(cls)(**parameters).fit(X, y, **weights)
    return ours, theirs


def outputs(estimator, X):
    return getattr(estimator, "predict_proba", estimator.predict)(X)


def assert_same_predictions(ours, theirs, X, rtol=1e-9):
    np.testing.assert_allclose(outputs(ours, X), outputs(theirs, X), rtol=rtol, atol=rtol)
    if hasattr(ours, "classes_"):
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)


def assert_same_training(ours, theirs, X, rtol=1e-9, loss_rtol=1e-9):
    """Assert that two fitted estimators agree in weights, losses, counters and outputs."""
    for name in ("coefs_", "intercepts_"):
        for actual, expected in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol, err_msg=name)
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)
    assert ours.out_activation_ == theirs.out_activation_
    assert (ours.n_layers_, ours.n_outputs_) == (theirs.n_layers_, theirs.n_outputs_)
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=loss_rtol)
    if hasattr(theirs, "loss_curve_"):  # not with an LBFGS solver
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=loss_rtol)
        assert (ours.best_loss_ is None) == (theirs.best_loss_ is None)
        np.testing.assert_allclose(ours.best_loss_ or 0, theirs.best_loss_ or 0, rtol=loss_rtol)
    assert_same_predictions(ours, theirs, X, rtol)


@pytest.mark.parametrize("solver", SOLVERS)
@tasks
def test_training_equals_scikit_learns(task, solver):
    cls, X, y, parameters = make_task(task)
    parameters |= {
        "batch_size": 16,  # 53 samples: the last batch is smaller
        "max_iter": 6,
        "activation": "tanh",
        "learning_rate_init": 0.05,
        "alpha": 0.3,
        **SOLVERS[solver],
    }
    assert_same_training(*fit_both(cls, X, y, **parameters), X)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@either
def test_every_activation_equals_scikit_learns(task, activation):
    cls, X, y, _ = make_task(task)
    ours, theirs = fit_both(
        cls, X, y, activation=activation, max_iter=5, batch_size=10, learning_rate_init=0.05
    )
    assert_same_training(ours, theirs, X)


@pytest.mark.parametrize("sizes", [(), 3, (4, 3, 2)])
@either
def test_every_depth_equals_scikit_learns(task, sizes):
    cls, X, y, _ = make_task(task)
    ours, theirs = fit_both(cls, X, y, hidden_layer_sizes=sizes, max_iter=5, activation="logistic")
    assert_same_training(ours, theirs, X)


@either
def test_stopping_equals_scikit_learns(task):
    cls, X, y, _ = make_task(task)
    ours, theirs = fit_both(
        cls, X, y, solver="sgd", tol=2e-3, max_iter=1000, learning_rate_init=0.02,
        n_iter_no_change=4,
    )  # fmt: skip
    assert 10 < ours.n_iter_ < 1000
    assert_same_training(ours, theirs, X, rtol=1e-7)


@either
def test_adaptive_rates_end_as_scikit_learns(task, capsys):
    cls, X, y, _ = make_task(task)
    parameters = {
        "solver": "sgd", "tol": 1e-3, "max_iter": 5000, "learning_rate_init": 0.02,
        "n_iter_no_change": 2, "learning_rate": "adaptive", "hidden_layer_sizes": (3,),
        "random_state": 0, "verbose": True,
    }  # fmt: skip
    ours = cls(**parameters).fit(X, y)
    our_lines = capsys.readouterr().out.splitlines()
    theirs = their_class(cls)(**parameters).fit(X, y)
    their_lines = capsys.readouterr().out.splitlines()
    assert "Learning rate too small" in our_lines[-1]
    assert our_lines == their_lines
    assert_same_training(ours, theirs, X, rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, pytest.param(True, marks=takes_weights)])
@tasks
def test_early_stopping_equals_scikit_learns(task, weighted):
    cls, X, y, parameters = make_task(task)
    weights = np.random.default_rng(2).uniform(0.1, 3, len(X)) if weighted else None
    ours, theirs = fit_both(
        cls, X, y, weights, solver="sgd", max_iter=1000, tol=1e-3, learning_rate_init=0.02,
        early_stopping=True, n_iter_no_change=5, **parameters,
    )  # fmt: skip
    assert ours.n_iter_ < 1000
    assert_same_training(ours, theirs, X, rtol=1e-7)
    np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-7)
    np.testing.assert_allclose(ours.best_validation_score_, theirs.best_validation_score_)


@takes_weights
@pytest.mark.parametrize("batch_size", [16, "auto"])
@tasks
def test_weighted_training_equals_scikit_learns(task, batch_size):
    cls, X, y, parameters = make_task(task)
    weights = np.random.default_rng(2).uniform(0.1, 3, len(X))
    ours, theirs = fit_both(
        cls, X, y, weights, max_iter=5, batch_size=batch_size, learning_rate_init=0.05,
        alpha=0.3, **parameters,
    )  # fmt: skip
    assert_same_training(ours, theirs, X)


@takes_weights
def test_weighted_steps_of_one_sample_equal_scikit_learns():
    cls, X, y, _ = make_task("two classes")
    weights = np.random.default_rng(2).uniform(0.1, 3, len(X))
    ours, theirs = fit_both(cls, X, y, weights, max_iter=3, batch_size=1, solver="sgd", alpha=0.3)
    assert_same_training(ours, theirs, X)


@pytest.mark.parametrize("layout", ["csr_matrix", "csc_array", "csr_array"])
@either
def test_sparse_training_equals_scikit_learns(task, layout):
    cls, X, y, _ = make_task(task)
    X = getattr(scipy.sparse, layout)(np.where(np.abs(X) > 1, X, 0))
    ours, theirs = fit_both(cls, X, y, max_iter=5, batch_size=16, early_stopping=task == EITHER[0])
    assert_same_training(ours, theirs, X)
    np.testing.assert_array_equal(outputs(ours, X), outputs(ours, X.toarray()))


@pytest.mark.parametrize("weighted", [False, pytest.param(True, marks=takes_weights)])
@tasks
def test_lbfgs_equals_scikit_learns(task, weighted):
    # Rounding errors grow with each iteration of a search that looks for zero gradients.
    cls, X, y, parameters = make_task(task)
    weights = np.random.default_rng(2).uniform(0.1, 3, len(X)) if weighted else None
    ours, theirs = fit_both(
        cls, X, y, weights, solver="lbfgs", max_iter=15, activation="tanh", alpha=0.1, **parameters
    )
    assert ours.n_iter_ == 15
    assert_same_training(ours, theirs, X, rtol=1e-6)
    assert len(ours.loss_curve_) == 15
    assert ours.loss_curve_[-1] == ours.loss_


def test_lbfgs_ends_by_the_gradient_alone():
    X = np.linspace(-1, 1, 200)[:, None]
    y = 0.1 * X.ravel() ** 2
    ours, theirs = fit_both(
        MLPRegressor, X, y, hidden_layer_sizes=(8,), solver="lbfgs", max_iter=1000, tol=1e-5,
        n_iter_no_change=1, early_stopping=True, warm_start=True,
    )  # fmt: skip
    assert ours.t_ == theirs.t_ == 0
    assert abs(ours.n_iter_ - theirs.n_iter_) <= 2  # of 52: rounding decides on the last one
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=0.01)
    assert ours.validation_scores_ is None


def test_lbfgs_warns_as_scikit_learn_does():
    cls, X, y, _ = make_task("three classes")
    messages = []
    for kind in (cls, their_class(cls)):
        with pytest.warns(ConvergenceWarning) as caught:
            kind(solver="lbfgs", max_iter=3, random_state=0).fit(X, y)
        messages.append(str(caught[0].message))
    assert messages[0] == messages[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = cls((3,), solver="lbfgs", max_iter=5000, alpha=1, random_state=0).fit(X, y)
    assert 5 < done.n_iter_ < 5000


@takes_weights
@either
def test_partial_fit_equals_scikit_learns(task):
    cls, X, y, _ = make_task(task)
    pair = [
        kind((7, 5), solver="sgd", learning_rate="invscaling", random_state=0)
        if cls is MLPClassifier
        else kind(hidden_layer_sizes=(7, 5), solver="adam", random_state=0)
        for kind in (cls, their_class(cls))
    ]
    weights = np.linspace(0.5, 2, 30)
    classes = {"classes": np.unique(y)} if cls is MLPClassifier else {}
    for estimator in pair:
        estimator.partial_fit(X[:30], y[:30], weights, **classes)
        for _ in range(4):
            estimator.partial_fit(X[30:], y[30:])
    assert_same_training(*pair, X)


@either
def test_warm_start_equals_scikit_learns(task):
    cls, X, y, _ = make_task(task)
    ours, theirs = fit_both(cls, X, y, max_iter=4, warm_start=True)
    for estimator in (ours, theirs):
        estimator.set_params(max_iter=3).fit(X, y)
    assert_same_training(ours, theirs, X)


@either
def test_a_generator_moves_on_as_with_scikit_learn(task):
    cls, X, y, _ = make_task(task)
    generators = [np.random.RandomState(3) for _ in range(2)]
    for kind, generator in zip((cls, their_class(cls)), generators, strict=True):
        kind(max_iter=2, random_state=generator, early_stopping=True).fit(X, y)
    assert generators[0].randint(10**9) == generators[1].randint(10**9)


@tasks
def test_float32_training_is_close_to_scikit_learns(task):
    cls, X, y, parameters = make_task(task)
    X = X.astype("float32")
    ours, theirs = fit_both(cls, X, y, max_iter=5, **parameters)
    assert ours.coefs_[0].dtype == theirs.coefs_[0].dtype == np.float32
    assert_same_training(ours, theirs, X, rtol=1e-4, loss_rtol=1e-4)


@pytest.mark.parametrize("load", [load_iris, load_breast_cancer, load_digits, load_diabetes])
def test_scores_on_real_data_are_scikit_learns(load):
    """At default settings but for the epochs, with what rounding makes of long training."""
    X, y = load(return_X_y=True)
    cls = MLPRegressor if load is load_diabetes else MLPClassifier
    train_X, test_X, train_y, test_y = train_test_split(X, y, random_state=0)
    scores = {
        kind: [
            make_pipeline(StandardScaler(), kind(random_state=seed, max_iter=30))
            .fit(train_X, train_y)
            .score(test_X, test_y)
            for seed in range(2)
        ]
        for kind in (cls, their_class(cls))
    }
    np.testing.assert_allclose(scores[cls], scores[their_class(cls)], atol=0.01)


# ---- from one to the other ------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@tasks
def test_from_scikit_learn_and_back(task, solver):
    cls, X, y, parameters = make_task(task)
    parameters |= {"activation": "tanh", "solver": solver, "random_state": 0, "max_iter": 20}
    theirs = their_class(cls)(hidden_layer_sizes=(7, 5), **parameters).fit(X, y)
    ours = cls.from_sklearn(theirs)
    assert type(ours) is cls
    assert_same_training(ours, theirs, X, rtol=1e-12)
    if "loss" in THEIR_PARAMETERS:
        assert their_class(cls)(**{
            k: v for k, v in ours.get_params().items() if k in theirs.get_params()
        }).get_params() == theirs.get_params()  # fmt: skip
    back = ours.to_sklearn()
    assert type(back) is type(theirs)
    assert back.get_params() == theirs.get_params()
    assert_same_training(ours, back, X, rtol=1e-12)
    if solver == "adam":
        for estimator in (ours, back):
            estimator.partial_fit(X, y)
        assert_same_training(ours, back, X)


@either
def test_conversions_share_nothing(task):
    cls, X, y, _ = make_task(task)
    _, theirs = fit_both(cls, X, y, max_iter=3)
    ours = cls.from_sklearn(theirs)
    before = outputs(ours, X)
    theirs.coefs_[0] *= 2
    theirs.loss_curve_.append(0)
    np.testing.assert_array_equal(outputs(ours, X), before)
    back = ours.to_sklearn()
    back.coefs_[0] *= 2
    back.loss_curve_.append(0)
    np.testing.assert_array_equal(outputs(ours, X), before)
    assert len(ours.loss_curve_) == 3


def test_names_of_features_and_a_float32_network_are_converted():
    pandas = pytest.importorskip("pandas")
    cls, X, y, _ = make_task("two classes")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    theirs = their_class(cls)(max_iter=3, random_state=0).fit(frame, y)
    ours = cls.from_sklearn(theirs)
    assert list(ours.feature_names_in_) == list("abcdef")
    assert list(ours.to_sklearn().feature_names_in_) == list("abcdef")
    small = their_class(cls)(max_iter=3, random_state=0).fit(X.astype("float32"), y)
    assert cls.from_sklearn(small).coefs_[0].dtype == np.float32


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"dropout": 0.5}, "dropout=0.5"),
        ({"normalization": "batch"}, "normalization='batch'"),
        ({"layers": [Dense(3)]}, "layers="),
        ({"activation": "gelu"}, "activation='gelu'"),
        ({"activation": ["tanh"]}, "activation="),
        ({"solver": "lion"}, "solver='lion'"),
    ],
)
@either
def test_what_scikit_learn_has_not_is_refused(task, parameters, named):
    cls, X, y, _ = make_task(task)
    ours = cls(**{"hidden_layer_sizes": (4,), "max_iter": 2, **parameters}).fit(X, y)
    with pytest.raises(ValueError, match=named):
        ours.to_sklearn()


def test_other_objects_are_not_converted():
    with pytest.raises(TypeError, match=r"fitted must be a sklearn\.neural_network\.MLPClassifier"):
        MLPClassifier.from_sklearn(reference.MLPRegressor())
    with pytest.raises(NotFittedError):
        MLPClassifier.from_sklearn(reference.MLPClassifier())
    with pytest.raises(NotFittedError):
        MLPClassifier().to_sklearn()


def test_what_scikit_learn_calls_otherwise_is_converted():
    cls, X, y, _ = make_task("two classes")
    ours = cls(verbose="progress", max_iter=2, random_state=0).fit(X, y)
    assert ours.to_sklearn().verbose is True
    one = np.zeros(len(X))
    with pytest.raises(ValueError, match="needs at least two classes"):
        cls.from_sklearn(their_class(cls)(max_iter=2).fit(X, one))
    with pytest.raises(ValueError, match="needs at least two classes"):
        cls(max_iter=2).fit(X, one).to_sklearn()


def test_scalars_of_the_shape_are_converted():
    cls, X, y, _ = make_task("two numbers")
    ours = cls(n_layers=3, width=4, max_iter=2).fit(X, y)
    back = ours.to_sklearn()
    assert back.hidden_layer_sizes == (4, 4, 4)
    assert_same_predictions(ours, back, X)
