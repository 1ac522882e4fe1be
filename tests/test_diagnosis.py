"""Diagnoses: each disease in a network that has it, none in a healthy one, and nothing changes."""

import copy
import dataclasses
import pickle
import tracemalloc

import numpy as np
import pytest
from conftest import assert_bitwise_equal

from cymlp import DivergenceWarning, Sequential, check_gradients, diagnose
from cymlp._findings_of_training import _bounds
from cymlp._measures import layer_statistics
from cymlp._probe import plain_rows, prepared
from cymlp.activations import Activation as OwnActivation
from cymlp.initializers import Constant, RandomNormal
from cymlp.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    LayerNormalization,
    Residual,
)
from cymlp.losses import Quantile, SquaredError
from cymlp.optimizers import LBFGS, SGD, Adam, Rprop
from cymlp.regularizers import L2
from cymlp.schedules import CosineDecay

RNG = np.random.default_rng(0)
X = RNG.standard_normal((400, 6))
#: A regression, and two kinds of classes.
Y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] / 2
LABELS = (X[:, 0] + X[:, 1] > 0).astype(int) + (X[:, 2] > 1)
BINARY = (X[:, 0] > 0).astype(float)


def compiled(layers, loss="squared_error", optimizer="adam", **arguments):
    net = Sequential(layers, random_state=0, **arguments)
    net.compile(optimizer, loss)
    return net


def regressor(*hidden, optimizer="adam", **arguments):
    layers = hidden or (Dense(32, "relu"),)
    return compiled([*layers, Dense(1)], optimizer=optimizer, **arguments)


def classifier(*hidden, **arguments):
    return compiled([*hidden, Dense(3, "softmax")], "cross_entropy", **arguments)


def kinds(diagnosis):
    return [finding.kind for finding in diagnosis.findings]


def found(diagnosis, kind, severity="problem", where=None):
    """Return the only finding of a kind, after checks that hold for all of them."""
    matches = [finding for finding in diagnosis.findings if finding.kind == kind]
    assert len(matches) == 1, str(diagnosis)
    (finding,) = matches
    assert finding.severity == severity
    assert where is None or finding.where == where
    assert not diagnosis.healthy
    assert finding.message.endswith(".")
    assert finding.advice.endswith((".", "?"))
    assert all(type(value) is float for value in finding.numbers.values())
    printed = " ".join(str(diagnosis).split())
    assert f"{finding.severity}, {finding.where}: {finding.message}" in printed
    assert f"-> {finding.advice}" in printed
    return finding


# Healthy


def test_the_demo_s_network_is_healthy():
    pytest.importorskip("sklearn")
    from cymlp.datasets import load_digits

    pixels, digits, _, _ = load_digits()
    net = compiled(
        [Dense(256, "relu"), Dense(10, "softmax")],
        "cross_entropy",
        SGD(learning_rate=0.05, momentum=0.9),
    )
    diagnosis = diagnose(net, pixels, digits, batch_size=16)
    assert diagnosis.healthy, str(diagnosis)
    assert diagnosis.findings == ()
    assert str(diagnosis).endswith("Nothing is wrong that could be seen.")
    assert diagnosis.loss_after < 0.3 < 2 < diagnosis.loss_before
    net.fit(pixels, digits, epochs=30, batch_size=16, verbose=0)
    assert diagnose(net, pixels, digits).healthy, "of a network that has learnt all there is"


@pytest.mark.parametrize(
    "optimizer", ["adam", SGD(), "rmsprop", "adamw", "rprop", "adagrad"], ids=str
)
def test_an_ordinary_regression_is_healthy(optimizer):
    diagnosis = diagnose(regressor(optimizer=optimizer), X, Y)
    assert diagnosis.healthy, str(diagnosis)


@pytest.mark.parametrize(
    "hidden",
    [
        [Dense(32, "tanh"), Dense(32, "tanh")],
        [Dense(32, "sigmoid")],
        [Dense(32, kernel_regularizer=L2(1e-3)), BatchNormalization(), Activation("relu")],
        [BatchNormalization(), Dense(32, "gelu"), Dropout(0.3), Dense(32, "selu")],
        [Dense(32), Residual([LayerNormalization(), Dense(16, "relu"), Dense(32)])],
        [Dense(32, OwnActivation(np.sin, np.cos))],
    ],
    ids=lambda hidden: "-".join(layer.name for layer in hidden),
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_networks_are_healthy(hidden, dtype):
    for net, y in (
        (regressor(*hidden, dtype=dtype), Y),
        (classifier(*hidden, dtype=dtype), LABELS),
    ):
        diagnosis = diagnose(net, X, y)
        assert diagnosis.healthy, str(diagnosis)


@pytest.mark.parametrize(
    ("loss", "activation", "y"),
    [
        ("binary_cross_entropy", "sigmoid", BINARY),
        ("focal", "sigmoid", BINARY),
        ("squared_error", "sigmoid", BINARY),
        ("squared_error", "tanh", 2 * BINARY - 1),
        ("hinge", "identity", 2 * BINARY - 1),
        ("poisson", "exponential", np.round(np.exp(X[:, 0]))),
        ("gamma", "softplus", np.exp(X[:, 0])),
        ("huber", "identity", Y),
        ("squared_error", "relu", np.abs(X[:, 0])),
    ],
)
def test_losses_with_their_outputs_are_healthy(loss, activation, y):
    diagnosis = diagnose(compiled([Dense(32, "relu"), Dense(1, activation)], loss), X, y)
    assert diagnosis.healthy, str(diagnosis)


def test_batch_normalization_is_judged_as_in_training():
    """Its moving averages begin with 0 and 1, which saturates what comes behind at first."""
    hidden = [Dense(16, kernel_initializer=RandomNormal(stddev=50.0)), BatchNormalization()]
    net = regressor(*hidden, Activation("tanh"))
    assert diagnose(net, X, Y, n_batches=2).layers[2].saturated < 0.1
    net.build(6)
    assert (np.abs(net.layer_outputs(X)[2]) > 0.99).mean() > 0.9


# Data


def test_pixels():
    pixels = np.clip(X * 60 + 120, 0, 255).astype("uint8")
    finding = found(diagnose(regressor(), pixels, Y), "unscaled_inputs", where="X")
    assert "input_scale=1 / 255" in finding.advice
    assert finding.numbers["n_columns"] == 6
    assert "unscaled_inputs" not in kinds(diagnose(regressor(input_scale=1 / 255), pixels, Y))


def test_one_large_column():
    large = X * [1, 1, 1, 1, 1000, 1] + [0, 0, 0, 0, 500, 0]
    finding = found(diagnose(regressor(), large, Y), "unscaled_inputs", where="X")
    assert finding.message.startswith("1 of 6 inputs are far from mean 0")
    assert "column 4 has mean" in finding.message
    assert "StandardScaler" in finding.advice
    assert finding.numbers["std"] == pytest.approx(large[:, 4].std())
    net = regressor(BatchNormalization(), Dense(32, "relu"))
    assert "unscaled_inputs" not in kinds(diagnose(net, large, Y))


def test_columns_that_are_off_centre_or_small():
    years = X * [1, 1, 0.1, 1, 1, 1] + [0, 0, 5, 0, 0, 0]
    finding = found(diagnose(regressor(), years, Y), "unscaled_inputs", "warning", "X")
    assert "column 2 has mean 5" in finding.message
    small = X * [1, 1, 1, 1e-4, 1, 1]
    finding = found(diagnose(regressor(), small, Y), "unscaled_inputs", "warning", "X")
    assert "1 of 6 inputs are too small" in finding.message
    assert finding.numbers["range"] == pytest.approx(np.ptp(small[:, 3]), rel=1e-6)


def test_constant_columns():
    constant = X.copy()
    constant[:, [1, 4]] = 0, 3  # zeros do no harm
    finding = found(diagnose(regressor(), constant, Y), "constant_inputs", "warning", "X")
    assert finding.message.startswith("1 of 6 inputs (columns 4)")
    found(diagnose(regressor(), np.ones_like(X), Y), "constant_inputs", "problem", "X")
    constant[:, 4] = -0.05  # as a scaler makes of zeros
    assert diagnose(regressor(), constant, Y).healthy


@pytest.mark.parametrize(
    ("activation", "y", "share"),
    [("sigmoid", Y, None), ("tanh", 2 * Y, None), ("relu", Y, (Y < 0).mean())]
    + [("softmax", Y, None), ("exponential", Y, None)],
)
def test_targets_out_of_range(activation, y, share):
    net = compiled([Dense(32, "relu"), Dense(2, activation)])
    finding = found(diagnose(net, X, np.c_[y, y]), "target_out_of_range", where="y")
    assert share is None or finding.numbers["share"] == pytest.approx(share)
    assert f"outputs of {activation} from" in finding.message
    assert finding.numbers["min"] == pytest.approx(y.min(), rel=1e-6)


def test_the_range_of_an_activation_layer_counts():
    net = compiled([Dense(8, "relu"), Dense(1), Activation("sigmoid")])
    found(diagnose(net, X, Y), "target_out_of_range")
    net = compiled([Dense(8, "relu"), Dense(1, "sigmoid"), Dense(1)])
    assert "target_out_of_range" not in kinds(diagnose(net, X, Y))


@pytest.mark.parametrize("activation", ["identity", "relu", "tanh"])
def test_outputs_that_do_not_fit_the_loss(activation):
    net = compiled([Dense(8, "relu"), Dense(3, activation)], "cross_entropy")
    finding = found(diagnose(net, X, LABELS), "unfit_output", where="layers[1]")
    assert finding.advice == "End the network with softmax."


def test_softmax_of_one_unit():
    net = compiled([Dense(8, "relu"), Dense(1, "softmax")], "binary_cross_entropy")
    finding = found(diagnose(net, X, BINARY), "unfit_output", where="layers[1]")
    assert "always 1" in finding.message


def test_constant_targets():
    found(diagnose(regressor(), X, np.full(400, 2.0)), "constant_target", where="y")
    found(diagnose(classifier(Dense(8)), X, np.ones(400, int)), "constant_target", where="y")


@pytest.mark.parametrize("form", ["labels", "one-hot", "binary"])
def test_imbalanced_classes(form):
    rare = (X[:, 0] > 2).astype(int)
    share = 1 - rare.mean()
    if form == "binary":
        net, y = compiled([Dense(1, "sigmoid")], "binary_cross_entropy"), rare
    else:
        net, y = classifier(Dense(8, "relu")), rare if form == "labels" else np.eye(3)[rare]
    finding = found(diagnose(net, X, y), "class_imbalance", "warning", "y")
    assert finding.numbers == {"share": pytest.approx(share), "label": 0}
    assert "class_weight" in finding.advice


@pytest.mark.parametrize(
    ("loss", "n_outputs", "y", "label", "is_weighted"),
    [
        ("hinge", 1, np.where(X[:, 0] > 2, 1, -1), -1, False),
        ("hinge", 1, np.where(X[:, 0] > 2, -1, 1), 1, False),
        ("hinge", 1, np.where(X[:, 0] > 2, 1, 0), 0, True),
        ("hinge", 3, 2 * np.eye(3)[np.where(X[:, 0] > 2, 0, 2)] - 1, 2, False),
        ("hinge", 3, np.where(X[:, 0] > 2, 0, 2), 2, True),
        ("focal", 1, np.where(X[:, 0] > 2, 0, 1), 1, True),
    ],
)
def test_the_label_of_imbalanced_classes(loss, n_outputs, y, label, is_weighted):
    activation = "sigmoid" if loss == "focal" else "identity"
    net = compiled([Dense(8, "relu"), Dense(n_outputs, activation)], loss)
    finding = found(diagnose(net, X, y), "class_imbalance", "warning", "y")
    assert finding.numbers["label"] == label
    assert finding.message.startswith(f"Class {label} has")
    assert f"always to say {label} is" in finding.message
    assert ("class_weight" in finding.advice) == is_weighted
    if is_weighted:
        net.fit(X, y, class_weight="balanced", verbose=0)
    else:
        with pytest.raises(ValueError, match="class_weight needs"):
            net.fit(X, y, class_weight="balanced", verbose=0)


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "absolute_error", "tweedie"])
def test_numbers_are_no_classes(loss):
    activation = "exponential" if loss in ("poisson", "tweedie") else "identity"
    counts = np.where(X[:, 0] > 2, 1, 0)
    net = compiled([Dense(8, "relu"), Dense(1, activation)], loss)
    assert "class_imbalance" not in kinds(diagnose(net, X, counts))


def test_three_values_of_one_output_are_no_classes():
    y = np.r_[np.full(192, -1), np.full(192, 0), np.full(16, 1)]
    net = compiled([Dense(8, "relu"), Dense(1, "tanh")])
    assert "class_imbalance" not in kinds(diagnose(net, X, y))
    net = compiled(
        [Dense(8, "relu"), Dense(1)], lambda t, p: ((p - t).sum(axis=1) ** 2, 2 * (p - t))
    )
    assert "class_imbalance" not in kinds(diagnose(net, X, y))


def test_large_targets():
    finding = found(diagnose(regressor(), X, 1e4 + 500 * Y), "unscaled_target", "warning", "y")
    assert finding.numbers["std"] == pytest.approx(500 * Y.std(), rel=1e-4)


# Layers


@pytest.mark.parametrize("n_dead", [12, 30])
def test_dead_relus(n_dead):
    bias = np.zeros(32)
    bias[:n_dead] = -100
    net = regressor(Dense(32, "relu"), Dense(32, "relu", bias_initializer=bias))
    severity = "problem" if n_dead > 16 else "warning"
    finding = found(diagnose(net, X, Y), "dead_relu", severity, "layers[1]")
    assert n_dead <= finding.numbers["n_dead"] <= n_dead + 6
    assert f"{finding.numbers['n_dead']:.0f} of 32 units" in finding.message
    net = regressor(Dense(32), Activation("relu"), Dense(32, bias_initializer=bias))
    assert "dead_relu" not in kinds(diagnose(net, X, Y)), "there is no ReLU behind it"


def test_a_learning_rate_that_kills_relus():
    net = regressor(Dense(32, "relu"), optimizer=SGD(learning_rate=2.0))
    diagnosis = diagnose(net, X, Y)
    assert {"dead_relu", "diverging", "large_learning_rate"} & set(kinds(diagnosis))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "hard_sigmoid"])
def test_saturated_layers(activation):
    net = regressor(Dense(32, activation, kernel_initializer=RandomNormal(stddev=20.0)))
    finding = found(diagnose(net, X, Y), "saturated", where="layers[0]")
    assert finding.numbers["share"] > 0.8
    assert f"flat ends of {activation}" in finding.message


def test_a_saturated_softmax_within_the_network():
    net = regressor(Dense(8, "softmax", kernel_initializer=RandomNormal(stddev=20.0)))
    found(diagnose(net, X, Y), "saturated", where="layers[0]")


def test_outputs_that_are_saturated_and_wrong():
    large = RandomNormal(stddev=50.0)
    layers = [Dense(32, "relu"), Dense(1, "sigmoid", kernel_initializer=large)]
    finding = found(diagnose(compiled(layers), X, BINARY), "saturated", where="layers[1]")
    assert "binary_cross_entropy" in finding.advice
    # The loss that goes with it has its deltas there too.
    diagnosis = diagnose(compiled(layers, "binary_cross_entropy"), X, BINARY)
    assert "saturated" not in kinds(diagnosis)


def test_vanishing_deltas():
    net = classifier(*[Dense(32, "sigmoid")] * 8)
    finding = found(diagnose(net, X, LABELS), "vanishing_deltas", where="layers[0]")
    assert finding.numbers["ratio"] < 1e-3
    assert "from" in finding.message and "at layers[8] to" in finding.message


def test_exploding_deltas():
    hidden = [Dense(64, "relu", kernel_initializer=RandomNormal(stddev=0.8))] * 9
    net = classifier(*hidden, optimizer=SGD(learning_rate=1e-8))
    finding = found(diagnose(net, X, LABELS), "exploding_deltas", where="layers[0]")
    assert finding.numbers["ratio"] > 1e3


def test_identical_units():
    same = Dense(17, "tanh", kernel_initializer=Constant(0.1))
    ones = Dense(1, kernel_initializer=Constant(1.0))
    finding = found(diagnose(compiled([same, ones]), X, Y), "identical_units", where="layers[0]")
    assert finding.numbers == {"n_units": 17}
    zeros = Dense(6, "tanh", kernel_initializer="zeros")
    net = compiled([zeros, Dense(1, kernel_initializer="zeros")], optimizer=SGD(0.01))
    found(diagnose(net, X, Y), "identical_units", where="layers[0]")
    net = compiled([Dense(8), Dense(3, "softmax", kernel_initializer="zeros")], "cross_entropy")
    assert "identical_units" not in kinds(diagnose(net, X, LABELS)), "of outputs it does no harm"


@pytest.mark.parametrize(
    "layers",
    [
        [Dense(6, "tanh", kernel_initializer="zeros"), Dense(1)],
        [Dense(6, "tanh", kernel_initializer=Constant(0.1)), Dense(1)],
        [
            Dense(16, "tanh"),
            Residual([Dense(8, "relu"), Dense(16, kernel_initializer="zeros")]),
            Dense(1),
        ],
    ],
    ids=["zeros", "constant", "residual"],
)
@pytest.mark.parametrize("optimizer", ["adam", SGD(0.05), SGD(1e-12)], ids=str)
def test_units_that_training_takes_apart(layers, optimizer):
    net = compiled(layers, optimizer=optimizer)
    assert "identical_units" not in kinds(diagnose(net, X, Y))


def test_units_that_dropout_takes_apart():
    same = Constant(0.1)
    layers = [Dense(6, "tanh", kernel_initializer=same), Dropout(0.5)]
    net = compiled([*layers, Dense(1, kernel_initializer=same)])
    assert "identical_units" not in kinds(diagnose(net, X, Y))


def test_large_updates():
    net = regressor(Dense(32, "tanh"), optimizer=Adam(learning_rate=1.0))
    diagnosis = diagnose(net, X, Y)
    assert "large_updates" in kinds(diagnosis)
    finding = next(f for f in diagnosis.findings if f.kind == "large_updates")
    assert finding.numbers["ratio"] > 0.1
    assert finding.severity == "warning"


def test_small_updates():
    hidden = Dense(32, "tanh", learning_rate_multiplier=1e-5)
    finding = found(diagnose(regressor(hidden), X, Y), "small_updates", "warning", "layers[0]")
    assert finding.numbers["ratio"] < 1e-6 < 1e-4 < finding.numbers["largest"]
    assert diagnose(regressor(dataclasses.replace(hidden, trainable=False)), X, Y).healthy


# Training


@pytest.mark.parametrize("rate", [1.0, 100.0])
def test_a_learning_rate_that_diverges(rate):
    net = regressor(Dense(32), Dense(32), optimizer=SGD(learning_rate=rate))
    diagnosis = diagnose(net, X, Y)
    finding = found(diagnosis, "diverging", where="optimizer")
    assert finding.numbers["learning_rate"] == rate
    assert np.isinf(diagnosis.loss_after) or diagnosis.loss_after > 2 * diagnosis.loss_before
    assert diagnosis.n_steps <= 100
    lower = 0.1 if rate == 1.0 else 1.0  # of which the latter diverges too
    assert finding.advice.startswith("A lower learning rate") == (lower == 0.1)
    if lower == 0.1:
        assert "with 0.1 in the place of 1 the same steps bring the loss to" in finding.advice
        assert finding.numbers["after_lower"] < finding.numbers["before"]
    assert all(np.isfinite(layer.delta) for layer in diagnosis.layers)


def test_a_loss_that_is_not_finite_from_the_start():
    net = compiled([Dense(8), Dense(1, "exponential")], optimizer=SGD(learning_rate=1e-3))
    net.build(6)
    net.set_weights([w + 1e3 for w in net.get_weights()])
    finding = found(diagnose(net, X, Y), "diverging", where="layers")
    assert "before the first step" in finding.message


def test_a_learning_rate_that_is_too_small():
    net = regressor(optimizer=SGD(learning_rate=1e-5))
    finding = found(diagnose(net, X, Y), "small_learning_rate", where="optimizer")
    assert finding.numbers["update"] < 1e-4
    assert finding.advice.startswith("With 0.1 the same steps bring the loss to ")


@pytest.mark.parametrize("rate", [1e-8, 1e-12, 1e-30])
@pytest.mark.parametrize("start", [0.0, 5.0])
def test_a_learning_rate_that_moves_nothing(rate, start):
    """Wherever the loss stands: below that of constant outputs too."""
    net = regressor(optimizer=SGD(0.05))
    net.fit(X, Y, epochs=3, verbose=0)
    assert np.mean((net.predict(X)[:, 0] - Y) ** 2) < np.var(Y)
    net.learning_rate = rate
    finding = found(diagnose(net, X, Y + start), "small_learning_rate", where="optimizer")
    assert finding.numbers["update"] < 1e-6
    assert finding.advice.startswith(("With 0.1 the same", "With 0.01 the same"))


def test_what_was_tried_is_said():
    labels = np.random.default_rng(1).integers(0, 3, 400)
    layer = Dense(3, "softmax", kernel_initializer="zeros")
    net = compiled([Dense(3, trainable=False), layer], "cross_entropy", SGD(1e-9))
    finding = found(diagnose(net, np.zeros_like(X), labels), "no_progress")
    assert (
        "Learning rates of 1e-10, 1e-08, 1e-07, 1e-05, 0.001, 0.01, 0.1 in the" in finding.message
    )
    net = compiled([layer], "cross_entropy", "sgd")
    finding = found(diagnose(net, np.zeros_like(X), labels), "no_progress")
    assert "in the place of 0.01 make it no better" in finding.message


def test_a_schedule_that_moves_nothing():
    net = regressor(optimizer=SGD(0.05), n_inputs=6)
    net.fit(X, Y, epochs=3, verbose=0)
    other = regressor(optimizer=SGD(CosineDecay(1e-12, 1000)), n_inputs=6)
    other.set_weights(net.get_weights())
    finding = found(diagnose(other, X, Y), "no_progress", "warning", "optimizer")
    assert "a step changes weights by up to" in finding.message


@pytest.mark.parametrize("epochs", [1, 30])
def test_a_network_without_trained_layers(epochs):
    other = regressor(Dense(8, "tanh"), n_inputs=6)
    other.fit(X, Y, epochs=epochs, verbose=0)
    net = compiled([Dense(8, "tanh", trainable=False), Dense(1, trainable=False)], n_inputs=6)
    net.set_weights(other.get_weights())
    diagnosis = diagnose(net, X, Y)
    found(diagnosis, "nothing_trained", where="layers")
    assert "no_progress" not in kinds(diagnosis)


COUNTS = np.round(np.exp(X[:, 0] / 2 + 1))


@pytest.mark.parametrize(
    ("loss", "activation", "y"),
    [
        ("poisson", "exponential", COUNTS),
        ("poisson", "exponential", 100 * COUNTS),
        ("gamma", "exponential", np.exp(X[:, 0]) / 100),
        ("tweedie", "exponential", COUNTS),
        ("absolute_error", "identity", X[:, 0]),
        (Quantile(0.9), "identity", X[:, 0]),
        (Quantile((0.1, 0.5, 0.9)), "identity", X[:, 0]),
    ],
)
def test_a_network_that_has_learnt_all_there_is(loss, activation, y):
    n_outputs = len(loss.levels) if loss == Quantile((0.1, 0.5, 0.9)) else 1
    net = compiled([Dense(n_outputs, activation)], loss, Adam(0.05))
    net.fit(X, y, epochs=200, verbose=0)
    assert set(kinds(diagnose(net, X, y))) <= {"unscaled_target"}


@pytest.mark.parametrize("loss", ["huber", "log_cosh"])
def test_advice_for_a_trained_network_of_unknown_chance_is_soft(loss):
    y = X[:, 0] + RNG.standard_normal(400)
    net = compiled([Dense(1)], loss)
    assert diagnose(net, X, y).healthy
    net.fit(X, y, epochs=300, verbose=0)
    finding = found(diagnose(net, X, y), "no_progress", "warning")
    assert "depend on X" not in finding.advice


@pytest.mark.parametrize("weight", [None, np.arange(1.0, 401)])
def test_the_loss_of_the_best_constants(weight):
    """No other constant has less, and none is below that of the targets themselves."""
    shares = np.exp(X[:, :3]) / np.exp(X[:, :3]).sum(axis=1, keepdims=True)
    for loss, y in (
        ("squared_error", X[:, :2]),
        ("absolute_error", X[:, :2]),
        (Quantile((0.1, 0.8)), X[:, :1]),
        ("poisson", COUNTS),
        ("gamma", COUNTS + 1),
        ("tweedie", COUNTS),
        ("cross_entropy", shares),
        ("binary_cross_entropy", shares),
    ):
        n = 2 if isinstance(loss, Quantile) else y.reshape(400, -1).shape[1]
        net = compiled([Dense(n, kernel_initializer="zeros")], loss, n_inputs=6, dtype="float64")
        twin, samples = prepared("diagnose", net, X, y, weight)
        probe = plain_rows(samples, np.arange(400), twin, twin.dtype)
        chance, floor = _bounds(twin, probe)
        assert floor < chance
        kernel = np.zeros((6, n))
        losses = []
        values = (
            np.unique(probe.values) if n == 1 else np.quantile(probe.values, np.linspace(0, 1, 60))
        )
        for value in values:
            net.set_weights([kernel, np.full(n, value)])
            losses.append(net.evaluate(X, y, weight)["loss"])
        if loss != "cross_entropy":  # whose constants are no probabilities
            assert chance <= min(losses) + 1e-12
        mean = np.average(probe.values, axis=0, weights=weight)
        net.set_weights([kernel, mean])
        at_mean = net.evaluate(X, y, weight)["loss"]
        assert chance == pytest.approx(at_mean, rel=1e-9) or (
            not isinstance(twin.loss, SquaredError) and chance < at_mean
        )


def test_a_learning_rate_that_is_too_large_without_diverging():
    net = compiled([Dense(32, "tanh"), Dense(1, "tanh")], optimizer=SGD(learning_rate=100.0))
    finding = found(diagnose(net, X, 2 * BINARY - 1), "large_learning_rate", where="optimizer")
    assert finding.numbers["learning_rate"] == 100.0
    assert finding.advice.startswith("With 10 the same steps")


def test_a_start_that_is_far_off():
    """The loss falls, and has far to go to where constant outputs are."""
    hidden = [Dense(64, "relu", kernel_initializer=RandomNormal(stddev=0.8))] * 5
    net = classifier(*hidden, optimizer=SGD(learning_rate=CosineDecay(1e-8, 1000)))
    finding = found(diagnose(net, X, LABELS), "no_progress", where="optimizer")
    assert finding.numbers["after"] > 2 * finding.numbers["chance"]


def test_targets_that_do_not_depend_on_the_inputs():
    labels = np.random.default_rng(1).integers(0, 3, 400)
    net = compiled([Dense(3, "softmax", kernel_initializer="zeros")], "cross_entropy", "sgd")
    finding = found(diagnose(net, np.zeros_like(X), labels), "no_progress", where="optimizer")
    shares = np.bincount(labels) / 400
    assert finding.numbers["chance"] == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-6)
    assert "does y depend on X at all" in finding.advice


def test_no_progress_on_a_loss_of_ones_own_is_a_warning():
    def flat(y_true, y_pred):
        return np.ones(len(y_pred)), np.zeros_like(y_pred)

    net = compiled([Dense(8, "tanh"), Dense(1)], flat)
    found(diagnose(net, X, Y), "no_progress", "warning")


@pytest.mark.parametrize(
    "optimizer", [Rprop(), SGD(learning_rate=CosineDecay(1e-7, 1000))], ids=str
)
def test_learning_rates_that_cannot_be_changed(optimizer):
    net = compiled([Dense(3, "softmax", kernel_initializer="zeros")], "cross_entropy", optimizer)
    found(diagnose(net, np.zeros_like(X), np.arange(400) % 3), "no_progress")


def test_lbfgs_is_tried_by_iterations():
    pytest.importorskip("scipy")
    diagnosis = diagnose(regressor(optimizer=LBFGS()), X, Y)
    assert diagnosis.healthy, str(diagnosis)
    assert 5 < diagnosis.n_steps <= 20
    assert all(layer.update is None for layer in diagnosis.layers)
    found(diagnose(regressor(optimizer=LBFGS()), 1000 * X, Y), "unscaled_inputs")


# Numbers


def test_statistics_of_layers():
    net = regressor(Dense(8, "relu"), Dropout(0.5), Dense(4, "tanh"))
    layers = diagnose(net, X, Y, n_batches=1).layers
    assert [layer.where for layer in layers] == [f"layers[{i}]" for i in range(4)]
    assert [layer.activation for layer in layers] == ["relu", None, "tanh", "identity"]
    assert [layer.n_units for layer in layers] == [8, 8, 4, 1]
    net.build(6)
    net.fit(X, Y, batch_size=400, shuffle=False, verbose=0)
    layers = diagnose(net, X, Y, n_batches=400 // 32 + 1, batch_size=32).layers
    assert layers[1].update is None
    assert 1e-4 < layers[0].update < 1e-1


@pytest.mark.parametrize("input_scale", [1.0, 0.25])
def test_deltas_are_those_of_the_textbook(input_scale):
    """By hand, of a network with an activation layer, in float64."""
    layers = [Dense(5, "tanh"), Dense(4), Activation("sigmoid"), Dense(1)]
    net = compiled(layers, dtype="float64", input_scale=input_scale, n_inputs=6)
    twin, samples = prepared("diagnose", net, X, Y, None)
    probe = plain_rows(samples, np.arange(len(samples)), twin, twin.dtype)
    statistics = layer_statistics(twin, probe, {})
    W1, b1, W2, b2, W3, b3 = net.get_weights()
    a1 = np.tanh(input_scale * X @ W1 + b1)
    a2 = 1 / (1 + np.exp(-(a1 @ W2 + b2)))
    d3 = a2 @ W3 + b3 - Y[:, None]
    d2 = d3 @ W3.T * a2 * (1 - a2)
    d1 = d2 @ W2.T * (1 - a1**2)
    expected = [np.sqrt((d**2).mean()) for d in (d1, d2, d2, d3)]
    assert [layer.delta for layer in statistics] == pytest.approx(expected, rel=1e-9)
    assert statistics[0].mean == pytest.approx(a1.mean())
    assert statistics[2].std == pytest.approx(a2.std())


def test_updates_are_those_of_single_steps():
    net = regressor(Dense(8, "tanh"), optimizer=SGD(learning_rate=0.1), dtype="float64", n_inputs=6)
    diagnosis = diagnose(net, X, Y, n_batches=2, batch_size=400)
    weights = [net.get_weights()]
    for _ in range(2):
        net.fit(X, Y, batch_size=400, verbose=0)
        weights.append(net.get_weights())
    for layer, k in zip(diagnosis.layers, (0, 2), strict=True):
        step = np.linalg.norm(weights[2][k] - weights[1][k])
        assert layer.update == pytest.approx(step / np.linalg.norm(weights[1][k]), rel=1e-9)
    assert diagnosis.loss_after == pytest.approx(net.evaluate(X, Y)["loss"], rel=1e-9)


def test_the_loss_is_without_penalties():
    net = regressor(Dense(8, "tanh", kernel_regularizer=L2(10.0)), n_inputs=6)
    plain = regressor(Dense(8, "tanh"), n_inputs=6)
    diagnosis = diagnose(net, X, Y, n_batches=1)
    assert diagnosis.loss_before == pytest.approx(plain.evaluate(X, Y)["loss"], rel=1e-5)


def test_inputs_of_any_form_are_the_same():
    sparse = pytest.importorskip("scipy.sparse")
    counts = np.maximum(np.round(X), 0)
    expected = diagnose(regressor(input_scale=0.5), counts, Y)
    assert diagnose(regressor(input_scale=0.5), counts.tolist(), Y) == expected
    net = regressor(input_scale=0.5)
    assert diagnose(net, sparse.csr_matrix(counts), Y) == expected
    assert diagnose(net, counts.astype("uint8"), Y) == expected


@pytest.mark.parametrize("check", [diagnose, check_gradients])
def test_sparse_inputs_are_made_dense_but_once(check):
    """The memory of the rows that are looked at, and of one more copy, is enough."""
    sparse = pytest.importorskip("scipy.sparse")
    n_rows = 300
    wide = sparse.random(n_rows, 20_000, 0.001, "csr", "float32", random_state=0)
    y = np.asarray(wide[:, :50].sum(axis=1)).ravel()
    net = compiled([Dense(2, "tanh"), Dense(1)], n_inputs=20_000)
    arguments = {"n_batches": 2} if check is diagnose else {"n_checked": 2}
    check(net, wide, y, **arguments)
    tracemalloc.start()
    check(net, wide, y, **arguments)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    n_bytes = 250 * 20_000 * 4 if check is diagnose else n_rows * 20_000 * 8
    assert n_bytes < peak < 2.7 * n_bytes


@pytest.mark.parametrize("check", [diagnose, check_gradients])
def test_sparse_inputs_that_do_not_fit(check):
    sparse = pytest.importorskip("scipy.sparse")
    huge = sparse.csr_matrix((200, 600_000), dtype="float32")
    net = compiled([Dense(1, kernel_initializer="zeros")])
    with pytest.raises(
        ValueError, match=r"X must be a small batch here, got \d+ samples of 600,000"
    ):
        check(net, huge, np.arange(200.0))


def test_samples_without_weight_do_not_count():
    weight = np.r_[np.ones(200), np.zeros(200)]
    spoiled = np.r_[Y[:200], np.full(200, 1e6)]
    assert diagnose(regressor(), X, spoiled, sample_weight=weight).healthy
    assert not diagnose(regressor(), X, spoiled).healthy


# The result


def test_the_result_is_immutable_and_pickles():
    diagnosis = diagnose(regressor(), 1000 * X, Y)
    with pytest.raises(dataclasses.FrozenInstanceError):
        diagnosis.findings = ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        diagnosis.findings[0].kind = "none"
    assert pickle.loads(pickle.dumps(diagnosis)) == diagnosis
    assert max(map(len, str(diagnosis).splitlines())) < 100


def test_problems_come_first():
    constant = X.copy()
    constant[:, 0] = 3
    severities = [
        finding.severity
        for finding in diagnose(regressor(optimizer=SGD(learning_rate=100.0)), constant, Y).findings
    ]
    assert severities == sorted(severities)
    assert len(set(severities)) == 2


@pytest.mark.parametrize("optimizer", ["adam", SGD(momentum=0.9), Adam(ema_decay=0.9)], ids=str)
def test_nothing_changes(optimizer):
    net = Sequential([Dense(6, "relu"), BatchNormalization(), Dropout(0.4), Dense(1)])
    net.compile(optimizer, "squared_error", ["r2"])
    net.fit(X, Y, epochs=2, verbose=0)
    other = copy.copy(net)
    diagnose(net, X, Y)
    assert net.stop_training == other.stop_training
    for each in (net, other):
        each.fit(X, Y, epochs=2, verbose=0)
    assert_bitwise_equal(net.get_weights(), other.get_weights())


def test_a_network_that_is_not_built_stays_so():
    net = regressor()
    before = diagnose(net, X, Y)
    assert not net.built
    net.build(6)
    assert diagnose(net, X, Y) == before


def test_no_warning_is_given():
    """That a loss diverges is what is reported, and no news."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        diagnose(regressor(optimizer=SGD(learning_rate=1e6)), 1e3 * X, Y)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n_batches": 0}, ValueError, "n_batches must be"),
        ({"n_batches": "2"}, TypeError, "n_batches must be"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight must"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        diagnose(regressor(), X, Y, **arguments)


def test_bad_networks_and_samples():
    with pytest.raises(TypeError, match="net must be a Sequential, got str"):
        diagnose("net", X, Y)
    with pytest.raises(ValueError, match="diagnose needs a loss"):
        diagnose(Sequential([Dense(1)]), X, Y)
    with pytest.raises(TypeError, match="X must be an array, not yield batches"):
        diagnose(regressor(), iter([(X, Y)]), None)
    with pytest.raises(ValueError, match="X must"):
        diagnose(regressor(n_inputs=5), X, Y)


@pytest.mark.parametrize("check", [diagnose, check_gradients])
def test_a_network_that_has_diverged_already(check):
    net = regressor(Dense(8), optimizer=SGD(learning_rate=1e30))
    with pytest.warns(DivergenceWarning):
        net.fit(X, Y, epochs=3, verbose=0)
    with pytest.raises(ValueError, match=r"finite parameters, .* in layers\[0\].kernel"):
        check(net, X, Y)


@pytest.mark.parametrize("n_batches", [1, 2, 3, 5])
@pytest.mark.parametrize("rate", [1e10, 1e20, 1e38])
def test_divergence_at_any_step(rate, n_batches):
    hidden = [Dense(8), BatchNormalization(), Activation("relu"), Dense(8, "relu")]
    for net in (regressor(*hidden, optimizer=SGD(rate)), regressor(optimizer=SGD(rate))):
        diagnosis = diagnose(net, X, Y, n_batches=n_batches)
        assert not diagnosis.healthy
        assert not np.isnan(diagnosis.loss_after)
        assert str(diagnosis)


@pytest.mark.parametrize("n_samples", [1, 2])
def test_very_few_samples(n_samples):
    few = slice(n_samples)
    diagnosis = diagnose(regressor(Dense(4, "relu"), BatchNormalization()), X[few], Y[few])
    assert ("constant_target" in kinds(diagnosis)) == (n_samples == 1)
    assert str(diagnosis)
    diagnose(classifier(Dense(4, "relu")), X[few], LABELS[few])


def test_an_estimator_is_asked_for_its_network():
    pytest.importorskip("sklearn")
    from cymlp import MLPClassifier

    clf = MLPClassifier((8,), random_state=0, max_iter=5)
    with pytest.raises(TypeError, match="pass its network_"):
        diagnose(clf, X, LABELS)
