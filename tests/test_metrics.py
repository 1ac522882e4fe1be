"""Metrics against scikit-learn, and what `compile`, `evaluate` and `fit` make of them."""

import functools
import pickle

import numpy as np
import pytest
from conftest import make_net, random_weights

from cymlp import Sequential, metrics
from cymlp._scores import Predictions, scores
from cymlp.layers import Dense
from cymlp.losses import BinaryCrossEntropy
from cymlp.metrics import (
    F1,
    METRICS,
    ROCAUC,
    Accuracy,
    FunctionMetric,
    Precision,
    Recall,
    TopKAccuracy,
)

N = 57


@pytest.fixture
def sk():
    return pytest.importorskip("sklearn.metrics")


@pytest.fixture(params=[None, "weights"])
def weight(request):
    if request.param is None:
        return None
    weights = np.random.default_rng(9).uniform(0, 3, N)
    weights[::7] = 0
    return weights


def given(outputs, *, labels=None, values=None, weight=None, exclusive=True):
    if values is not None and values.ndim == 1:
        values = values[:, None]
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    return Predictions(outputs, labels, values, weight, exclusive)


def value(metric, predictions):
    metric = METRICS[metric]() if isinstance(metric, str) else metric
    (result,) = scores([metric], predictions).values()
    return result


def probabilities(n_classes, seed=0):
    """Return outputs and labels, with ties; not every class need be predicted."""
    rng = np.random.default_rng(seed)
    outputs = rng.dirichlet(np.ones(n_classes), N)
    outputs[5] = outputs[6] = 1 / n_classes
    outputs[10:20] = outputs[20:30]
    return outputs, rng.integers(0, n_classes, N).astype(np.int32)


# ---------------------------------------------------------------------- regression


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize(
    "name, theirs",
    [
        ("mean_squared_error", "mean_squared_error"),
        ("mean_absolute_error", "mean_absolute_error"),
        ("root_mean_squared_error", "root_mean_squared_error"),
        ("mean_absolute_percentage_error", "mean_absolute_percentage_error"),
        ("r2", "r2_score"),
    ],
)
def test_regression(sk, name, theirs, n_outputs, weight, dtype):
    rng = np.random.default_rng(1)
    t = rng.standard_normal((N, n_outputs)).astype(dtype)
    y = (t + 0.3 * rng.standard_normal((N, n_outputs))).astype(dtype)
    t[3] = 0
    expected = getattr(sk, theirs)(t.astype(float), y.astype(float), sample_weight=weight)
    assert value(name, given(y, values=t, weight=weight)) == pytest.approx(expected, rel=1e-12)


def test_r2_of_targets_that_do_not_vary(sk):
    t = np.column_stack([np.ones(N), np.ones(N), np.arange(N)])
    y = t.copy()
    y[4, 1] = 2
    expected = sk.r2_score(t, y)
    assert value("r2", given(y, values=t)) == expected == pytest.approx(2 / 3)
    assert np.isnan(value("r2", given(y[:1], values=t[:1])))


def test_cosine_similarity(weight):
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    rng = np.random.default_rng(2)
    t, y = rng.standard_normal((2, N, 4))
    t[3] = 0
    expected = np.average(np.diag(pairwise.cosine_similarity(t, y)), weights=weight)
    y[4] *= 1e200  # whose square overflows
    y[5] *= 1e-200
    found = value("cosine_similarity", given(y, values=t, weight=weight))
    assert found == pytest.approx(expected, rel=1e-12)


def test_labels_stand_for_one_hot_rows(sk):
    outputs, labels = probabilities(4)
    one_hot = np.eye(4)[labels]
    for name in ("mean_squared_error", "mean_absolute_error", "r2", "cosine_similarity"):
        assert value(name, given(outputs, labels=labels)) == value(
            name, given(outputs, values=one_hot)
        )
    expected = sk.mean_squared_error(one_hot, outputs)
    assert value("mean_squared_error", given(outputs, labels=labels)) == pytest.approx(expected)


# ---------------------------------------------------------------------- classes


THEIRS = {Precision: "precision_score", Recall: "recall_score", F1: "f1_score"}


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_of_classes(sk, kind, average, n_classes, weight):
    outputs, labels = probabilities(n_classes)
    theirs = functools.partial(getattr(sk, THEIRS[kind]), average=average, zero_division=0)
    expected = theirs(labels, outputs.argmax(axis=1), sample_weight=weight)
    for targets in ({"labels": labels}, {"values": np.eye(n_classes)[labels]}):
        found = value(kind(average), given(outputs, weight=weight, **targets))
        assert found == pytest.approx(expected, rel=1e-12)
    if average == "macro" and n_classes > 2:
        assert value(kind(), given(outputs, labels=labels, weight=weight)) == found


@pytest.mark.parametrize("kind", THEIRS)
def test_a_class_that_does_not_occur_does_not_count(sk, kind):
    outputs, labels = probabilities(5)
    outputs[:, 4] = 0
    labels[labels == 4] = 0
    theirs = getattr(sk, THEIRS[kind])(labels, outputs.argmax(axis=1), average="macro")
    assert value(kind(), given(outputs, labels=labels)) == pytest.approx(theirs)
    labels[:3] = 4  # it occurs, and is never predicted
    theirs = getattr(sk, THEIRS[kind])(
        labels, outputs.argmax(axis=1), average="macro", zero_division=0
    )
    assert value(kind(), given(outputs, labels=labels)) == pytest.approx(theirs)


@pytest.mark.parametrize("kind", THEIRS)
def test_of_two_classes(sk, kind, weight):
    outputs, labels = probabilities(2)
    expected = getattr(sk, THEIRS[kind])(labels, outputs.argmax(axis=1), sample_weight=weight)
    for metric in (kind(), kind("binary")):
        assert value(metric, given(outputs, labels=labels, weight=weight)) == pytest.approx(
            expected
        )
    one = outputs[:, 1]
    expected = getattr(sk, THEIRS[kind])(labels, one > 0.5, sample_weight=weight)
    for exclusive in (True, False):
        found = value(kind(), given(one, values=labels, weight=weight, exclusive=exclusive))
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_of_several_yes_or_no_outputs(sk, kind, average, weight):
    rng = np.random.default_rng(3)
    outputs, truth = rng.uniform(0, 1, (N, 4)), rng.integers(0, 2, (N, 4))
    truth[:, 2] = 0
    expected = getattr(sk, THEIRS[kind])(
        truth, outputs > 0.5, average=average, sample_weight=weight, zero_division=0
    )
    predictions = given(outputs, values=truth.astype(float), weight=weight, exclusive=False)
    assert value(kind(average), predictions) == pytest.approx(expected, rel=1e-12)


def test_shares_of_nothing_are_zero():
    outputs, labels = np.array([0.9, 0.2]), np.array([0.0, 0.0])
    for kind in THEIRS:
        assert value(kind(), given(outputs, values=labels)) == 0


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k(sk, k, weight):
    rng = np.random.default_rng(4)
    outputs, labels = rng.standard_normal((N, 6)), rng.integers(0, 6, N)
    expected = sk.top_k_accuracy_score(labels, outputs, k=k, sample_weight=weight, labels=range(6))
    for targets in ({"labels": labels}, {"values": np.eye(6)[labels]}):
        found = value(TopKAccuracy(k), given(outputs, weight=weight, **targets))
        assert found == pytest.approx(expected)


def test_top_k_counts_ties_and_never_a_nan():
    outputs = np.array([[1.0, 1.0, 1.0], [np.nan, 0, 1], [np.nan, 0, 1], [np.nan, 0, 1]])
    labels = np.array([2, 0, 2, 1])
    assert [bool(value(TopKAccuracy(1), given(outputs[i : i + 1], labels=labels[i : i + 1])))
            for i in range(4)] == [True, False, False, False]  # fmt: skip
    assert value(TopKAccuracy(2), given(outputs, labels=labels)) == 0.5


# ---------------------------------------------------------------------- scores


def test_roc_auc_of_two_classes(sk, weight):
    outputs, labels = probabilities(2)
    expected = sk.roc_auc_score(labels, outputs[:, 1], sample_weight=weight)
    predictions = given(outputs, labels=labels, weight=weight)
    assert value("roc_auc", predictions) == pytest.approx(expected, rel=1e-12)
    one = given(10 * outputs[:, 1] - 5, values=labels, weight=weight, exclusive=False)
    assert value("roc_auc", one) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n_classes", [3, 6])
def test_roc_auc_of_more_classes(sk, n_classes, weight):
    outputs, labels = probabilities(n_classes)
    expected = sk.roc_auc_score(labels, outputs, multi_class="ovr", sample_weight=weight)
    predictions = given(outputs, labels=labels, weight=weight)
    assert value("roc_auc", predictions) == pytest.approx(expected, rel=1e-12)
    expected = sk.roc_auc_score(np.eye(n_classes)[labels], outputs, sample_weight=weight)
    yes_or_no = given(outputs, values=np.eye(n_classes)[labels], weight=weight, exclusive=False)
    assert value("roc_auc", yes_or_no) == pytest.approx(expected, rel=1e-12)


def test_roc_auc_without_two_kinds():
    outputs, labels = probabilities(3)
    assert np.isnan(value("roc_auc", given(outputs, labels=np.zeros(N, int))))
    assert np.isnan(value("roc_auc", given(outputs[:, 0], values=np.zeros(N))))
    labels[labels == 2] = 1  # the third does not count
    two = value(ROCAUC(), given(outputs, labels=labels))
    areas = [value(ROCAUC(), given(outputs[:, i], values=labels == i)) for i in range(2)]
    assert two == pytest.approx(np.mean(areas))


@pytest.mark.parametrize("n_classes", [2, 5])
def test_log_loss(sk, n_classes, weight, dtype):
    outputs, labels = probabilities(n_classes)
    expected = sk.log_loss(labels, outputs, sample_weight=weight, labels=range(n_classes))
    predictions = given(outputs.astype(dtype), labels=labels, weight=weight)
    rel = 4 * np.finfo(dtype).eps / outputs[np.arange(N), labels].min()
    assert value("log_loss", predictions) == pytest.approx(expected, rel=rel)
    if n_classes == 2:
        one = given(outputs[:, 1].astype(dtype), values=labels, weight=weight, exclusive=False)
        assert value("log_loss", one) == pytest.approx(expected, rel=rel)


def test_log_loss_of_certain_outputs_is_finite(sk, dtype):
    outputs, labels = np.array([[1, 0], [0, 1]], dtype), np.array([1, 1])
    expected = sk.log_loss(labels, outputs, labels=[0, 1])
    assert value("log_loss", given(outputs, labels=labels)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"accuracy", "top_k_accuracy"}))
def test_nan_outputs_are_seen(name):
    """NaN where outputs count; right about nothing where classes do."""
    outputs, labels = probabilities(3)
    outputs[:] = np.nan
    found = value(name, given(outputs, labels=labels))
    assert found == 0 if name in ("precision", "recall", "f1") else np.isnan(found)
    assert given(outputs, labels=labels).classes.tolist() == [-1] * N


# ---------------------------------------------------------------------- functions


def test_function_gets_what_is_like_the_targets(sk):
    outputs, labels = probabilities(4)
    assert value(FunctionMetric(sk.accuracy_score), given(outputs, labels=labels)) == np.mean(
        outputs.argmax(axis=1) == labels
    )
    seen = []

    def spy(y_true, y_pred):
        seen.append((y_true, y_pred))
        return np.float32(0.25)

    one_hot = np.eye(4)[labels]
    for on, targets in (
        ("targets", {"labels": labels}),
        ("outputs", {"labels": labels}),
        ("classes", {"labels": labels}),
        ("targets", {"values": one_hot}),
        ("outputs", {"values": one_hot}),
        ("classes", {"values": one_hot}),
    ):
        assert value(FunctionMetric(spy, on=on), given(outputs, **targets)) == 0.25
    classes = outputs.argmax(axis=1)
    expected = [
        (labels, classes),
        (labels, outputs),
        (labels, classes),
        (one_hot, outputs),
        (one_hot, outputs),
        (labels, classes),
    ]
    for (t, y), (t_expected, y_expected) in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(t, t_expected)
        np.testing.assert_array_equal(y, y_expected)


def test_function_of_one_output_gets_vectors():
    truth, outputs = np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.5, np.nan])

    def shapes(y_true, y_pred):
        assert y_true.shape == y_pred.shape == (3,)
        return y_pred[1]

    assert value(FunctionMetric(shapes), given(outputs, values=truth)) == 0.5
    on_classes = FunctionMetric(shapes, on="classes")
    assert value(on_classes, given(outputs, values=truth)) == 0
    assert given(outputs, values=truth).classes.ravel().tolist() == [0, 0, -1]


def test_function_gets_weights_if_it_takes_them(sk):
    outputs, labels = probabilities(3)
    weight = np.linspace(0, 1, N)
    found = value(FunctionMetric(sk.accuracy_score), given(outputs, labels=labels, weight=weight))
    assert found == pytest.approx(np.average(outputs.argmax(axis=1) == labels, weights=weight))

    def without(y_true, y_pred):
        return 1.5

    assert value(FunctionMetric(without), given(outputs, labels=labels, weight=weight)) == 1.5
    with_f1 = FunctionMetric(functools.partial(sk.f1_score, average="macro"))
    assert with_f1.name == "f1_score"
    assert value(with_f1, given(outputs, labels=labels, weight=weight)) == pytest.approx(
        value("f1", given(outputs, labels=labels, weight=weight))
    )


def test_function_must_return_a_number():
    metric = FunctionMetric(lambda y_true, y_pred: "much", name="how_much")
    with pytest.raises(TypeError, match="metric how_much must return a number, got 'much'"):
        value(metric, given(np.ones(3), values=np.ones(3)))


# ---------------------------------------------------------------------- specs and compile


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: TopKAccuracy(0), "k must be an integer of at least 1"),
        (lambda: TopKAccuracy(2.0), "k must be an integer"),
        (lambda: F1("macros"), "average must be one of auto, binary"),
        (lambda: Accuracy(name=""), "name must not be empty"),
        (lambda: Accuracy(name="loss"), "name must not be"),
        (lambda: F1(name="val_f1"), "name must not be"),
        (lambda: F1(name=3), "name must be a string"),
        (lambda: FunctionMetric("f1"), "function must be a callable"),
        (lambda: FunctionMetric(max, on="probabilities"), "on must be one of targets"),
        (lambda: FunctionMetric(max, mode="best"), 'mode must be "min", "max" or None'),
        (lambda: FunctionMetric(lambda t, y: 0), "name must be given for"),
    ],
)
def test_specs_are_checked(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


@pytest.mark.parametrize(
    "given_metrics, match",
    [
        (["accurate"], r"metrics\[0\] must be one of accuracy"),
        (["mse", 3], r"metrics\[1\] must be one of"),
        ([Accuracy], r"metrics\[0\] must be an instance, Accuracy\(\.\.\.\)"),
        (["accuracy", Accuracy()], r"metrics\[1\] must have a name of its own"),
        ([lambda t, y: 0], r"metrics\[0\]: name must be given .*FunctionMetric"),
        ("mse", "metrics must be a list"),
        (max, "metrics must be a list"),
        ([TopKAccuracy(3)], "a k below the network's 3 outputs"),
        ([F1("binary")], 'average="binary" but with two classes'),
    ],
)
def test_compile_refuses(given_metrics, match):
    net = make_net(2, [(3, "softmax")], loss="cross_entropy", metrics=["mse"])
    before = net.metrics
    with pytest.raises((TypeError, ValueError), match=match):
        net.compile(loss="cross_entropy", metrics=given_metrics)
    assert net.metrics is before


def test_binary_average_needs_classes_of_which_there_is_one():
    net = make_net(2, [(2, "sigmoid")])
    net.compile(loss="cross_entropy", metrics=[F1("binary")])
    with pytest.raises(ValueError, match="two classes"):
        net.compile(loss=BinaryCrossEntropy(), metrics=[F1("binary")])


def test_all_names_and_their_keys(dtype):
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 6, 40)
    names = list(METRICS)
    net = make_net(
        4,
        [(5, "tanh"), (6, "softmax")],
        weights=random_weights(rng, 4, (5, 6)),
        loss="cross_entropy",
        metrics=names,
        dtype=dtype,
    )
    result = net.evaluate(X, y)
    assert list(result) == ["loss", *names]
    assert all(type(v) is float and np.isfinite(v) for v in result.values())
    assert result["mse"] == result["mean_squared_error"]
    assert result["log_loss"] == pytest.approx(result["loss"], rel=1e-5)
    assert result["accuracy"] == np.mean(net.predict(X).argmax(axis=1) == y)


def test_fit_reports_them_of_validation_samples():
    rng = np.random.default_rng(6)
    X, y = rng.standard_normal((60, 3)), rng.integers(0, 3, 60)

    def n_right(y_true, y_pred):
        return (y_true == y_pred).sum()

    net = Sequential([Dense(3, activation="softmax")], random_state=0)
    net.compile(loss="cross_entropy", metrics=["f1", Accuracy(name="acc"), n_right])
    history = net.fit(X, y, epochs=2, validation_data=(X[:20], y[:20]), verbose=0)
    assert list(history.history) == ["loss", "acc", "val_loss", "val_f1", "val_acc", "val_n_right"]
    scores = net.evaluate(X[:20], y[:20])
    assert {f"val_{k}": v for k, v in scores.items()} == {
        k: v[-1] for k, v in history.history.items() if k.startswith("val_")
    }
    assert scores["n_right"] == 20 * scores["acc"]
    assert list(net.fit(X, y, verbose=0).history) == ["loss", "acc"]


@pytest.mark.parametrize("form", ["bytes", "sparse"])
def test_any_form_of_samples(form):
    rng = np.random.default_rng(7)
    X, y = rng.integers(0, 3, (30, 5)).astype("uint8"), rng.standard_normal(30)
    net = make_net(5, [(4, "relu"), (1, "identity")], metrics=["mae"])
    expected = net.evaluate(X.astype("float64"), y)
    if form == "sparse":
        X = pytest.importorskip("scipy.sparse").csr_array(X.astype("float64"))
    assert net.evaluate(X, y)["mae"] == expected["mae"]


def test_weights_count():
    net = make_net(1, [(1, "identity")], weights=[[[1.0]], [0.0]], metrics=["mae"])
    assert net.evaluate([[1.0], [2.0]], [0.0, 0.0], [3.0, 1.0])["mae"] == 1.25


def test_metrics_are_data():
    for kind in set(METRICS.values()):
        assert kind() == kind() and hash(kind()) == hash(kind())
        assert pickle.loads(pickle.dumps(kind(name="mine"))) == kind(name="mine")
        assert kind().direction in ("min", "max")
    assert set(metrics.__all__) >= {kind.__name__ for kind in METRICS.values()}
    assert FunctionMetric(max).direction is None
    assert FunctionMetric(max, mode="min").direction == "min"
