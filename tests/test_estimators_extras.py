"""What the estimators have beside scikit-learn's: layers, losses, optimizers, sets, intervals."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

import scipy.sparse as sparse
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, make_multilabel_classification
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight

import cymlp
from cymlp import MLPClassifier, MLPRegressor, losses, optimizers, schedules
from cymlp.activations import LeakyReLU
from cymlp.callbacks import Callback, LambdaCallback
from cymlp.layers import BatchNormalization, Dense, Dropout, Residual

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ESTIMATORS = (MLPClassifier, MLPRegressor)


@pytest.fixture(params=ESTIMATORS, ids=lambda cls: cls.__name__)
def estimator_class(request):
    """Both classes in turn."""
    return request.param


def make_data(cls, n_samples=80, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, 4))
    signal = X[:, 0] + 0.5 * X[:, 1] ** 2
    names = np.array(["low", "mid", "top"])
    return X, signal if cls is MLPRegressor else names[np.digitize(signal, [0, 1])]


def make(cls, **parameters):
    return cls(**{"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0, **parameters})


def outputs(estimator, X):
    return getattr(estimator, "predict_proba", estimator.predict)(X)


def layer_names(estimator):
    return [layer.name for layer in estimator.network_.layers]


# ---- layers ---------------------------------------------------------------------------------


def test_an_activation_for_each_layer(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make(
        estimator_class, hidden_layer_sizes=(8, 7, 6), activation=["gelu", "logistic", LeakyReLU()]
    ).fit(X, y)
    found = [layer.activation.name for layer in estimator.network_.layers[:-1]]
    assert found == ["gelu", "sigmoid", "leaky_relu"]
    alike = make(estimator_class, activation=["tanh"]).fit(X, y)
    np.testing.assert_array_equal(
        outputs(alike, X), outputs(make(estimator_class, activation="tanh").fit(X, y), X)
    )


def test_any_stack_of_layers(estimator_class):
    X, y = make_data(estimator_class)
    stack = [
        Dense(8, activation="tanh"), BatchNormalization(), Residual([Dense(8, activation="relu")]),
        Dropout(0.1),
    ]  # fmt: skip
    estimator = make(
        estimator_class, layers=stack, max_iter=150, batch_size=16, learning_rate_init=0.02
    )
    assert estimator.fit(X, y).score(X, y) > 0.8
    assert layer_names(estimator) == [
        "dense",
        "batch_normalization",
        "residual",
        "dropout",
        "dense",
    ]
    assert [coef.shape for coef in estimator.coefs_[:2]] == [(4, 8), (8, 8)]
    assert estimator.n_layers_ == 4
    copy = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(outputs(copy, X), outputs(estimator, X))
    again = sklearn.clone(estimator).fit(X, y)
    np.testing.assert_array_equal(outputs(again, X), outputs(estimator, X))
    with pytest.raises(ValueError, match="parameters of shapes .*fitted network"):
        estimator.set_params(layers=[Dense(5)]).partial_fit(X, y)


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_normalization_and_dropout(estimator_class, normalization):
    X, y = make_data(estimator_class)
    estimator = make(estimator_class, normalization=normalization, dropout=0.25).fit(X, y)
    names = ["dense", f"{normalization}_normalization", "activation", "dropout", "dense"]
    assert layer_names(estimator) == names
    # Dense layers begin as they would without.
    plain = make(estimator_class, max_iter=1, learning_rate_init=1e-12).fit(X, y)
    begun = make(
        estimator_class, max_iter=1, learning_rate_init=1e-12, normalization=normalization
    ).fit(X, y)
    for ours, expected in zip(begun.coefs_, plain.coefs_, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-9)
    again = make(estimator_class, normalization=normalization, dropout=0.25).fit(X, y)
    np.testing.assert_array_equal(outputs(again, X), outputs(estimator, X))


@pytest.mark.parametrize(
    ("n_layers", "width", "sizes"), [(3, 5, (5, 5, 5)), (2, None, (100, 100)), (None, 7, (7,))]
)
def test_depth_and_width_as_scalars(estimator_class, n_layers, width, sizes):
    X, y = make_data(estimator_class)
    ours = make(estimator_class, n_layers=n_layers, width=width).fit(X, y)
    expected = make(estimator_class, hidden_layer_sizes=sizes).fit(X, y)
    np.testing.assert_array_equal(outputs(ours, X), outputs(expected, X))


# ---- losses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        "focal", "hinge", "squared_error", losses.CrossEntropy(label_smoothing=0.1),
        losses.BinaryCrossEntropy(), losses.Focal(gamma=1.0), losses.KLDivergence(),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("n_classes", [2, 3])
def test_losses_of_labels(loss, n_classes):
    X, y = make_data(MLPClassifier, 200)
    y = y if n_classes == 3 else y == "low"
    clf = make(MLPClassifier, loss=loss, max_iter=200, learning_rate_init=0.02).fit(X, y)
    assert clf.score(X, y) > 0.9
    if loss == "hinge":
        assert not hasattr(clf, "predict_proba")
        margins = clf.decision_function(X)
        assert margins.shape == ((200,) if n_classes == 2 else (200, 3))
        chosen = margins.argmax(axis=1) if n_classes == 3 else (margins > 0).astype(int)
        np.testing.assert_array_equal(clf.predict(X), clf.classes_[chosen])
    else:
        assert not hasattr(clf, "decision_function")
        probabilities = clf.predict_proba(X)
        assert probabilities.shape == (200, n_classes)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        np.testing.assert_array_equal(clf.classes_[probabilities.argmax(axis=1)], clf.predict(X))
        np.testing.assert_allclose(np.exp(clf.predict_log_proba(X)), probabilities)


@pytest.mark.parametrize("loss", ["log_loss", "focal", "hinge", "squared_error"])
def test_losses_of_several_labels(loss):
    X, y = make_multilabel_classification(n_samples=150, n_classes=3, random_state=0)
    X = X / X.std(axis=0)
    clf = make(MLPClassifier, loss=loss, max_iter=300, batch_size=32, learning_rate_init=0.02)
    clf.fit(X, y)
    assert clf.predict(X).shape == y.shape
    assert (clf.predict(X) == y).mean() > 0.8
    with pytest.raises(ValueError, match="one class of many"):
        make(MLPClassifier, loss=losses.CrossEntropy()).fit(X, y)


@pytest.mark.parametrize("loss", ["squared_error", losses.KLDivergence(), "focal", "hinge"])
def test_held_out_labels_are_scored_whatever_the_loss(loss):
    X, y = make_data(MLPClassifier, 200)
    clf = make(MLPClassifier, loss=loss, early_stopping=True, max_iter=20, learning_rate_init=0.05)
    own = clf.fit(X, y).validation_scores_
    assert own == clf.set_params(scoring="accuracy").fit(X, y).validation_scores_
    assert max(own) > 0.6


@pytest.mark.parametrize("loss", ["log_loss", "focal", "squared_error"])
def test_a_single_class_is_certain(loss):
    X, _ = make_data(MLPClassifier)
    clf = make(MLPClassifier, loss=loss, max_iter=2).fit(X, np.full(len(X), "only"))
    np.testing.assert_array_equal(clf.predict_proba(X), np.ones((80, 1)))
    assert set(clf.predict(X)) == {"only"}


def test_predictions_go_by_what_was_fitted():
    X, y = make_data(MLPClassifier)
    clf = make(MLPClassifier).fit(X, y == "low")
    before = clf.predict(X)
    clf.set_params(loss="hinge")
    np.testing.assert_array_equal(clf.predict(X), before)
    assert hasattr(clf, "predict_proba")
    assert not hasattr(clf.fit(X, y == "low"), "predict_proba")
    X, y = make_data(MLPRegressor)
    reg = make(MLPRegressor).fit(X, y).set_params(loss="quantile", quantile=[0.1, 0.9])
    assert not hasattr(reg, "predict_interval")
    assert reg.fit(X, y).predict_interval(X).shape == (80, 2)


def test_minibatches_go_on_from_lbfgs(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make(estimator_class, solver="lbfgs", max_iter=10).fit(X, y)
    estimator.set_params(solver="adam").partial_fit(X, y)
    assert estimator.network_.optimizer.name == "adam"


def test_a_loss_of_numbers_is_none_of_labels():
    X, y = make_data(MLPClassifier)
    with pytest.raises(ValueError, match="loss=Poisson.* is not a loss of class labels"):
        make(MLPClassifier, loss=losses.Poisson()).fit(X, y)


def fourth_power(t, y):
    """A loss of one's own."""
    return ((y - t) ** 4).sum(axis=1), 4 * (y - t) ** 3


@pytest.mark.parametrize(
    "loss",
    [
        "absolute_error", "huber", "log_cosh", "quantile", "poisson", "gamma", "tweedie",
        losses.Huber(delta=0.1), losses.Tweedie(power=1.2), fourth_power,
    ],
    ids=lambda loss: getattr(loss, "__name__", str(loss)),
)  # fmt: skip
def test_losses_of_numbers(loss):
    X, y = make_data(MLPRegressor, 200)
    y = np.exp(y / 2)
    reg = make(MLPRegressor, loss=loss, max_iter=300, batch_size=20, learning_rate_init=0.02)
    reg.fit(X, y)
    assert reg.score(X, y) > 0.85
    exponential = loss in ("poisson", "gamma", "tweedie") or isinstance(loss, losses.Tweedie)
    assert reg.out_activation_ == ("exp" if exponential else "identity")
    assert not exponential or reg.predict(X).min() > 0


def test_targets_that_a_loss_cannot_have():
    X, y = make_data(MLPRegressor)
    with pytest.raises(ValueError, match=r"y must .*\[0, inf\)"):
        make(MLPRegressor, loss="poisson").fit(X, y)


def test_intervals_of_quantiles():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (2000, 1))
    y = X[:, 0] + rng.normal(scale=0.2 + 0.2 * np.abs(X[:, 0]))
    levels = [0.95, 0.5, 0.05]
    reg = make(
        MLPRegressor, loss="quantile", quantile=levels, max_iter=200, learning_rate_init=0.01
    ).fit(X, y)
    quantiles = reg.predict_quantiles(X)
    assert quantiles.shape == (2000, 3)
    np.testing.assert_allclose((y[:, None] < quantiles).mean(axis=0), levels, atol=0.03)
    assert (np.diff(quantiles, axis=1) <= 0).all()  # as the levels go down
    np.testing.assert_array_equal(reg.predict_interval(X), quantiles[:, [2, 0]])
    assert np.mean(reg.predict(X) != quantiles[:, 1]) < 0.01  # but where they would cross
    one = make(MLPRegressor, loss="quantile", quantile=0.9, max_iter=200, learning_rate_init=0.01)
    assert abs((y < one.fit(X, y).predict(X)).mean() - 0.9) < 0.03
    assert not hasattr(one, "predict_interval")
    as_object = make(MLPRegressor, loss=losses.Quantile(tuple(levels))).fit(X, y)
    expected = make(MLPRegressor, loss="quantile", quantile=levels).fit(X, y)
    np.testing.assert_array_equal(as_object.predict_interval(X), expected.predict_interval(X))
    with pytest.raises(ValueError, match="y must have one column for several quantiles, got 2"):
        expected.fit(X, np.stack([y, y], 1))
    with pytest.raises(ValueError, match=r"levels\[1\]"):
        make(MLPRegressor, loss="quantile", quantile=[0.5, 1.5]).fit(X, y)


def test_crossing_quantiles_are_put_right():
    X = np.zeros((2, 1))
    reg = MLPRegressor("quantile", (), quantile=[0.5, 0.1, 0.9], max_iter=1).fit(X, [0, 1])
    reg.intercepts_ = [[1.0, 2.0, 0.0]]
    np.testing.assert_array_equal(reg.predict_quantiles(X), [[1.0, 0.0, 2.0]] * 2)
    np.testing.assert_array_equal(reg.predict_interval(X), [[0.0, 2.0]] * 2)


# ---- weights of classes ---------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "ones"])
@pytest.mark.parametrize("class_weight", ["balanced", {"low": 3, "top": 0.5}])
def test_class_weights_multiply_sample_weights(class_weight, given):
    X, y = make_data(MLPClassifier)
    weights = np.linspace(0.5, 2, len(X)) if given else np.ones(len(X))
    ours = make(MLPClassifier, class_weight=class_weight)
    ours.fit(X, y, sample_weight=weights if given else None)
    expected = make(MLPClassifier).fit(X, y, weights * compute_sample_weight(class_weight, y))
    np.testing.assert_allclose(ours.predict_proba(X), expected.predict_proba(X), rtol=1e-12)


def test_balanced_classes():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 2))
    y = X[:, 0] + rng.standard_normal(1000) > 2
    scores = [
        balanced_accuracy_score(
            y, make(MLPClassifier, max_iter=50, class_weight=w).fit(X, y).predict(X)
        )
        for w in (None, "balanced")
    ]
    assert scores[1] > scores[0] + 0.1
    with pytest.raises(ValueError, match="'balanced' is not supported for partial_fit"):
        make(MLPClassifier, class_weight="balanced").partial_fit(X, y, classes=[False, True])


# ---- optimizers and schedules ---------------------------------------------------------------


@pytest.mark.parametrize("solver", [name for name in optimizers.OPTIMIZERS if name != "lbfgs"])
def test_every_optimizer_by_name(estimator_class, solver):
    X, y = make_data(estimator_class)
    # Adadelta's and Rprop's rates are of another kind.
    rate = {"adadelta": 1.0, "lion": 0.003}.get(solver, 0.02)
    batch_size = 80 if solver == "rprop" else 16
    estimator = make(
        estimator_class, solver=solver, max_iter=300, batch_size=batch_size, learning_rate_init=rate
    )
    assert estimator.fit(X, y).score(X, y) > 0.75
    assert estimator.network_.optimizer.name == solver


def test_an_optimizer_brings_its_own_rate(estimator_class):
    X, y = make_data(estimator_class)
    optimizer = optimizers.AdamW(0.02, weight_decay=0.1, clip_global_norm=1.0)
    estimator = make(estimator_class, solver=optimizer, learning_rate_init=1e6).fit(X, y)
    assert estimator.network_.optimizer is optimizer
    full = make(estimator_class, solver=optimizers.LBFGS(history_size=5), max_iter=30).fit(X, y)
    assert full.loss_ < estimator.loss_
    assert not hasattr(full, "partial_fit")


@pytest.mark.parametrize("name", ["step_decay", "exponential_decay", "polynomial_decay",
                                  "inverse_scaling", "cosine_decay", "cosine_decay_restarts",
                                  "one_cycle"])  # fmt: skip
def test_schedules_by_name_go_over_the_whole_fit(estimator_class, name):
    X, y = make_data(estimator_class)
    estimator = make(
        estimator_class, learning_rate=name, learning_rate_init=0.01, batch_size=16, max_iter=7
    ).fit(X, y)
    schedule = estimator.network_.optimizer.learning_rate
    assert schedule.name == name
    rates = [schedule(step) for step in range(7 * 5)]
    assert max(rates) == pytest.approx(0.01, rel=0.01)
    if name != "cosine_decay_restarts":
        assert rates[-1] < 0.2 * 0.01


def test_a_schedule_as_an_object(estimator_class):
    X, y = make_data(estimator_class)
    schedule = schedules.Warmup(3, schedules.CosineDecay(0.01, decay_steps=20))
    estimator = make(estimator_class, solver="sgd", learning_rate=schedule).fit(X, y)
    assert estimator.network_.optimizer.learning_rate is schedule


# ---- sets to watch --------------------------------------------------------------------------


def test_a_set_to_watch_changes_nothing(estimator_class):
    X, y = make_data(estimator_class)
    plain = make(estimator_class).fit(X[:60], y[:60])
    assert plain.validation_scores_ is plain.validation_loss_curve_ is None
    for given in ((X[60:], y[60:]), [(X[60:], y[60:], np.ones(20))]):
        watched = make(estimator_class).fit(X[:60], y[:60], eval_set=given)
        np.testing.assert_array_equal(outputs(watched, X), outputs(plain, X))
        assert len(watched.validation_scores_) == len(watched.validation_loss_curve_) == 5
        assert watched.validation_scores_[-1] == pytest.approx(watched.score(X[60:], y[60:]))
    assert watched.best_validation_score_ == max(watched.validation_scores_)
    assert watched.best_loss_ == min(watched.loss_curve_)


def test_the_validation_loss_is_that_of_the_data(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make(estimator_class, alpha=3.0, max_iter=1).fit(X, y, eval_set=(X, y))
    said = outputs(estimator, X)
    if estimator_class is MLPRegressor:
        expected = 0.5 * np.mean((said - y) ** 2)
    else:
        expected = -np.mean(np.log(said[np.arange(80), np.searchsorted(estimator.classes_, y)]))
    assert estimator.validation_loss_curve_[-1] == pytest.approx(expected)
    two = np.stack([X[:, 0], X[:, 1]], axis=1)
    reg = make(MLPRegressor, alpha=3.0, max_iter=1).fit(X, two, eval_set=(X, two))
    expected = 0.5 * np.mean((reg.predict(X) - two) ** 2)
    assert reg.validation_loss_curve_[-1] == pytest.approx(expected)


def test_early_stopping_goes_by_the_set_to_watch(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make(
        estimator_class, early_stopping=True, max_iter=1000, n_iter_no_change=3,
        learning_rate_init=0.1,
    ).fit(X[:60], y[:60], eval_set=(X[60:], y[60:]))  # fmt: skip
    assert estimator.n_iter_ < 1000
    best = max(estimator.validation_scores_)
    assert estimator.score(X[60:], y[60:]) == pytest.approx(best)
    # All 60 samples are trained on.
    assert estimator.t_ == 60 * estimator.n_iter_


@pytest.mark.parametrize(
    ("scoring", "classifier_only"),
    [("loss", False), ("neg_log_loss", True), ("r2", None), ("balanced_accuracy", True),
     (lambda e, X, y: float(len(X)), False)],
)  # fmt: skip
def test_scores_of_the_users_choice(estimator_class, scoring, classifier_only):
    if {True: MLPRegressor, None: MLPClassifier}.get(classifier_only) is estimator_class:
        pytest.skip("no such score")
    X, y = make_data(estimator_class)
    estimator = make(estimator_class, scoring=scoring, early_stopping=True, max_iter=8).fit(X, y)
    assert len(estimator.validation_scores_) == 8
    if scoring == "loss":
        assert estimator.validation_scores_ == [-x for x in estimator.validation_loss_curve_]
    if callable(scoring):
        assert estimator.validation_scores_ == [8.0] * 8
    if scoring == "neg_log_loss":
        np.testing.assert_allclose(
            estimator.validation_scores_, -np.array(estimator.validation_loss_curve_), rtol=1e-10
        )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda X, y: X, "eval_set must be"),
        (lambda X, y: [(X, y)] * 2, "eval_set must have one set, got 2"),
        (lambda X, y: (X,), r"eval_set must be .* got tuple of 1"),
        (lambda X, y: (X[:, :3], y), "3 features.*expecting 4"),
        (lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
        (lambda X, y: (X * np.nan, y), "X contains NaN"),
    ],
)
def test_bad_sets_to_watch(estimator_class, change, expected):
    X, y = make_data(estimator_class)
    estimator = make(estimator_class)
    with pytest.raises(ValueError, match=expected):
        estimator.fit(X, y, eval_set=change(X, y))
    assert vars(estimator) == estimator.get_params()


def test_unknown_labels_to_watch():
    X, y = make_data(MLPClassifier)
    with pytest.raises(ValueError, match="`y` has classes not in `self.classes_`"):
        make(MLPClassifier).fit(X, y, eval_set=(X, np.full(len(y), "other")))


# ---- callbacks, threads ---------------------------------------------------------------------


def test_callbacks_see_the_network_and_may_stop_it(estimator_class, recwarn):
    X, y = make_data(estimator_class)
    seen = []

    class Stop(Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, logs["loss"]))
            self.model.stop_training = epoch == 2

    estimator = make(estimator_class, callbacks=[Stop()], max_iter=9).fit(X, y)
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    np.testing.assert_allclose([loss for _, loss in seen], estimator.loss_curve_)
    assert estimator.n_iter_ == 3
    assert not recwarn.list
    watched = []
    callback = LambdaCallback(on_epoch_end=lambda epoch, logs: watched.append(sorted(logs)))
    make(estimator_class, callbacks=[callback]).fit(X, y, eval_set=(X, y))
    assert watched == [["loss", "val_loss"]] * 5
    with pytest.raises(TypeError, match=r"callbacks\[0\] must be a Callback"):
        make(estimator_class, callbacks=[3]).fit(X, y)


def test_a_progress_bar(estimator_class, capfd):
    pytest.importorskip("tqdm")
    X, y = make_data(estimator_class)
    make(estimator_class, verbose="progress").fit(X, y)
    out, err = capfd.readouterr()
    assert "5/5" in err
    assert not out


@pytest.mark.parametrize("n_jobs", [1, 2, -1])
def test_threads_change_nothing(estimator_class, n_jobs):
    X, y = make_data(estimator_class)
    expected = outputs(make(estimator_class).fit(X, y), X)
    np.testing.assert_array_equal(
        outputs(make(estimator_class, n_jobs=n_jobs).fit(X, y), X), expected
    )


# ---- features of the last hidden layer ------------------------------------------------------


def test_features_of_the_last_hidden_layer(estimator_class):
    X, y = make_data(estimator_class)
    estimator = make(estimator_class, hidden_layer_sizes=(6, 3)).fit(X, y)
    features = estimator.transform(X)
    hidden = X
    for kernel, bias in zip(estimator.coefs_[:-1], estimator.intercepts_[:-1], strict=True):
        hidden = np.maximum(hidden @ kernel + bias, 0)
    np.testing.assert_allclose(features, hidden, rtol=1e-12)
    name = estimator_class.__name__.lower()
    assert list(estimator.get_feature_names_out()) == [f"{name}{i}" for i in range(3)]
    np.testing.assert_array_equal(
        make(estimator_class, hidden_layer_sizes=(6, 3)).fit_transform(X, y), features
    )
    none = make(estimator_class, hidden_layer_sizes=()).fit(X, y)
    np.testing.assert_array_equal(none.transform(X), X)
    assert len(none.get_feature_names_out()) == 4
    np.testing.assert_array_equal(none.transform(sparse.csr_array(X)), X)
    layers = make(estimator_class, layers=[Dense(5), Dropout(0.5), Residual([Dense(2)])]).fit(X, y)
    assert layers.transform(X).shape == (80, 2)
    np.testing.assert_allclose(layers.transform(X), layers.network_.layer_outputs(X)[-2])


def test_features_as_a_frame(estimator_class):
    pandas = pytest.importorskip("pandas")
    X, y = make_data(estimator_class)
    frame = pandas.DataFrame(X, columns=list("abcd"))
    estimator = make(estimator_class).set_output(transform="pandas").fit(frame, y)
    assert list(estimator.transform(frame).columns) == list(estimator.get_feature_names_out())
    final = Ridge() if estimator_class is MLPRegressor else LogisticRegression()
    pipeline = make_pipeline(
        StandardScaler(), make(estimator_class, max_iter=300, learning_rate_init=0.02), final
    )
    assert pipeline.fit(frame, y).score(frame, y) > 0.8


def test_names_of_polars_columns(estimator_class):
    polars = pytest.importorskip("polars")
    X, y = make_data(estimator_class)
    frame = polars.DataFrame(X, schema=list("abcd"))
    estimator = make(estimator_class).fit(frame, y)
    assert list(estimator.feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(
        estimator.predict(frame), make(estimator_class).fit(X, y).predict(X)
    )


# ---- within scikit-learn --------------------------------------------------------------------


def test_within_other_estimators(estimator_class):
    X, y = make_data(estimator_class, 120)
    member = make(estimator_class, max_iter=60, learning_rate_init=0.02)
    if estimator_class is MLPClassifier:
        assert (
            VotingClassifier([("a", member), ("b", LogisticRegression())], voting="soft")
            .fit(X, y)
            .score(X, y)
            > 0.7
        )
        for loss in ("log_loss", "hinge"):
            calibrated = CalibratedClassifierCV(sklearn.clone(member).set_params(loss=loss), cv=3)
            np.testing.assert_allclose(calibrated.fit(X, y).predict_proba(X).sum(axis=1), 1)
    else:
        assert VotingRegressor([("a", member), ("b", Ridge())]).fit(X, y).score(X, y) > 0.7
    importances = permutation_importance(member.fit(X, y), X, y, n_repeats=3, random_state=0)
    assert importances.importances_mean[0] > importances.importances_mean[3]


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_searches_side_by_side(estimator_class, backend):
    joblib = pytest.importorskip("joblib")
    X, y = make_data(estimator_class)
    grid = {"n_layers": [1, 2], "width": [4, 8]}
    found = []
    for n_jobs in (1, 2):
        with joblib.parallel_backend(backend):
            search = GridSearchCV(make(estimator_class), grid, cv=3, n_jobs=n_jobs).fit(X, y)
            scores = cross_validate(make(estimator_class), X, y, cv=3, n_jobs=n_jobs)
        found.append((search.cv_results_["mean_test_score"], scores["test_score"]))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_a_search_over_objects(estimator_class):
    X, y = make_data(estimator_class)
    space = {
        "layers": [[Dense(4)], [Dense(4, activation="gelu"), Dropout(0.1)]],
        "solver": ["adam", optimizers.RMSprop(0.01)],
    }
    search = RandomizedSearchCV(make(estimator_class), space, n_iter=3, cv=2, random_state=0)
    assert search.fit(X, y).best_estimator_.network_.built


def test_metadata_is_routed(estimator_class):
    X, y = make_data(estimator_class)
    weights = np.linspace(0.1, 2, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = make(estimator_class).set_fit_request(sample_weight=True, eval_set=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, estimator)
        pipeline.fit(X, y, sample_weight=weights, eval_set=(X, y))
        expected = make(estimator_class).fit(StandardScaler().fit_transform(X), y, weights)
        np.testing.assert_array_equal(
            outputs(pipeline, X), outputs(expected, StandardScaler().fit_transform(X))
        )
        assert len(pipeline[-1].validation_scores_) == 5


def test_the_page_of_a_notebook_shows_it(estimator_class):
    X, y = make_data(estimator_class)
    html = make(estimator_class, layers=[Dense(4)]).fit(X, y)._repr_html_()
    assert estimator_class.__name__ in html
    assert "Dense(units=4" in html


def test_sparse_digits_agree_with_dense_ones():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300] / 16, y[:300]
    dense = make(MLPClassifier, max_iter=40, learning_rate_init=0.02).fit(X, y)
    rows = make(MLPClassifier, max_iter=40, learning_rate_init=0.02).fit(sparse.csr_matrix(X), y)
    np.testing.assert_allclose(rows.predict_proba(X), dense.predict_proba(X), rtol=1e-9, atol=1e-12)
    assert dense.score(X, y) > 0.9


def test_wrong_features_after_a_fit_with_names(estimator_class):
    pandas = pytest.importorskip("pandas")
    X, y = make_data(estimator_class)
    named = make(estimator_class).fit(pandas.DataFrame(X, columns=list("abcd")), y)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        named.predict(X)
    renamed = pandas.DataFrame(X, columns=list("abce"))
    with pytest.raises(ValueError, match="feature names should match"):
        named.predict(renamed)
    named.fit(X, y)
    assert not hasattr(named, "feature_names_in_")
    assert cymlp.MLPClassifier is MLPClassifier
