"""Gradient checks: what is right passes, what is wrong is found and named, nothing changes."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from conftest import assert_bitwise_equal, random_target

from cymlp import Sequential, check_gradients, losses
from cymlp.activations import ACTIVATIONS, Activation
from cymlp.layers import Activation as ActivationLayer
from cymlp.layers import BatchNormalization, Dense, Dropout, LayerNormalization, Residual
from cymlp.optimizers import LBFGS, Adam
from cymlp.regularizers import L1, L2, ElasticNet

N_SAMPLES, N_INPUTS = 12, 4


def data(loss="squared_error", n_outputs=3, labels=False):
    rng = np.random.default_rng(1)
    return rng.standard_normal((N_SAMPLES, N_INPUTS)), random_target(
        rng, loss, N_SAMPLES, n_outputs, labels
    )


def compiled(layers, loss="squared_error", **arguments):
    net = Sequential(layers, random_state=0, **arguments)
    net.compile(loss=loss)
    return net


def sine(derivative=np.cos, name="sine"):
    return Activation(np.sin, derivative, name=name)


def failed(check):
    return [array.where for array in check.arrays if not array.passed]


# What is right


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_pass(activation, dtype):
    net = compiled([Dense(5, activation), Dense(4, activation), Dense(3)], dtype=dtype)
    check = check_gradients(net, *data(), n_checked=20)
    assert check.passed, check
    assert check.max_error < 1e-5
    assert [array.where for array in check.arrays] == [
        *(f"layers[{i}].{name}" for i in range(3) for name in ("kernel", "bias")),
        "inputs",
    ]


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_losses_pass(loss):
    kind = losses.LOSSES[loss]
    net = compiled([Dense(5, "tanh"), Dense(3, kind.expects)], loss)
    assert check_gradients(net, *data(loss)).passed
    if kind.takes_labels:
        assert check_gradients(net, *data("cross_entropy", labels=True)).passed


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", sine()], ids=str)
def test_layers_pass_as_they_are_in_prediction(activation):
    layers = [
        BatchNormalization(),
        Dense(6, activation, kernel_regularizer=L2(0.1), bias_regularizer=L1(0.1)),
        BatchNormalization(scale=False),
        Residual([LayerNormalization(), Dense(6, activation), Dropout(0.3), Dense(8)]),
        ActivationLayer(activation),
        Dropout(0.5),
        LayerNormalization(center=False),
        Dense(3, trainable=False, kernel_regularizer=ElasticNet(0.1, 0.1)),
    ]
    net = compiled(layers, input_scale=1 / 255)
    X, y = data()
    X = np.abs(X * 80).astype("uint8")
    net.fit(X, y, epochs=3, verbose=0)  # moving averages that are nothing special
    weight = np.arange(1.0, N_SAMPLES + 1)
    check = check_gradients(net, X, y, sample_weight=weight, n_checked=30)
    assert check.passed, check
    assert not any("moving" in array.where for array in check.arrays)


def test_sparse_and_dense_inputs_are_the_same():
    sparse = pytest.importorskip("scipy.sparse")
    net = compiled([Dense(5, "tanh"), Dense(3)], input_scale=0.5)
    X, y = data()
    X[X < 0] = 0
    assert check_gradients(net, sparse.csr_matrix(X), y) == check_gradients(net, X, y)


def test_own_loss_passes():
    def cosh(y_true, y_pred):
        error = y_pred - y_true
        return np.cosh(error).sum(axis=1), np.sinh(error)

    check = check_gradients(compiled([Dense(3)], cosh), *data())
    assert check.passed
    assert check.arrays[-1].where == "loss"
    assert check.arrays[-1].n_checked == 3 * N_SAMPLES


def test_large_arrays_are_sampled():
    net = compiled([Dense(40, "tanh"), Dense(3)])
    check = check_gradients(net, *data(), n_checked=7)
    kernel = check.arrays[0]
    assert kernel.n_checked + kernel.n_kinks == 8  # with the direction
    other = check_gradients(net, *data(), n_checked=7, random_state=1)
    assert other.passed
    assert other.worst != check.worst
    assert check_gradients(net, *data(), n_checked=7) == check


def test_one_wrong_element_of_many_is_seen_along_the_direction(monkeypatch):
    net = compiled([Dense(60, "tanh"), Dense(3)], dtype="float64")
    true = Sequential._evaluate

    def evaluate(self, samples, threads):
        # As if the core had forgotten a term in one element's derivative.
        kernel = self.get_weights()[0]
        return {"loss": true(self, samples, threads)["loss"] + 1e-3 * kernel[3, 50]}

    monkeypatch.setattr(Sequential, "_evaluate", evaluate)
    check = check_gradients(net, *data(), n_checked=3)
    assert failed(check) == ["layers[0].kernel"]
    assert check.worst[0].index is None
    assert "direction" in str(check)
    assert check.verdict.startswith("layers[0].kernel disagrees with finite differences.")


# Kinks


def test_kinks_are_counted_and_no_failure():
    net = compiled([Dense(5, "relu"), Dense(3)])
    X, y = data()
    X[:] = 0  # with biases of 0 all weighted sums lie on the kink
    check = check_gradients(net, X, y)
    assert check.passed
    assert check.n_kinks > 5
    assert f"{check.n_kinks} more lie on kinks" in check.verdict


def test_own_functions_may_have_kinks():
    def ramp(y_true, y_pred):
        return np.maximum(y_pred, 0).sum(axis=1), (y_pred > 0) * 1.0

    net = compiled([Dense(1, use_bias=False)], ramp, n_inputs=1)
    net.set_weights([[[0.0]]])
    check = check_gradients(net, [[1.0]], [1.0])
    assert check.passed
    assert check.n_checked == 1  # the derivative by the input, of a loss that stays 0
    assert [array.n_kinks for array in check.arrays] == [2, 0, 1]


def test_noise_is_not_called_wrong():
    """Nor right: float32 within a custom function is too coarse for steps of 1e-4."""
    rng = np.random.default_rng(0)

    def noisy(y_true, y_pred):
        return (y_pred**2).sum(axis=1) * rng.uniform(0.999, 1.001, len(y_pred)), 2 * y_pred

    check = check_gradients(compiled([Dense(40, "tanh"), Dense(3)], noisy), *data())
    assert not check.passed
    assert check.n_checked == 0
    assert check.n_kinks > 300
    assert check.verdict.startswith("Nothing could be compared")
    assert str(check).endswith(check.verdict)


def test_near_a_kink_a_shorter_step_decides():
    net = compiled([Dense(1, "relu", use_bias=False)], dtype="float64")
    net.build(1)
    net.set_weights([[[3e-6]]])  # closer than the first step's and its half's length
    check = check_gradients(net, [[1.0]], [1.0])
    assert check.passed
    assert check.arrays[0].n_checked == 2


# What is wrong


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_wrong_activation_is_named(layer):
    layers = [Dense(4, sine()), Dense(4, sine()), Dense(3, sine())]
    layers[layer] = Dense(4 - layer // 2, sine(lambda z: 0.9 * np.cos(z), "wrong"))
    check = check_gradients(compiled(layers), *data())
    assert not check.passed
    below = [f"layers[{i}].{name}" for i in range(layer + 1) for name in ("kernel", "bias")]
    assert failed(check) == [*below, "inputs", f"layers[{layer}].activation"]
    assert f"activation 'wrong' of layers[{layer}] is wrong: at z = " in check.verdict
    assert "'sine'" not in check.verdict
    where = f"at and below layers[{layer}] " if layer < 2 else ""
    assert check.verdict.startswith(f"All arrays {where}disagree")
    worst = check.arrays[-1 if layer == 2 else layer - 3].worst
    assert worst.value == pytest.approx(0.9 * worst.difference, rel=1e-6)
    assert worst.error == pytest.approx(0.1, rel=1e-6)


def test_a_wrong_activation_within_a_residual_layer_is_named():
    wrong = sine(np.sin)
    layers = [Dense(4, "tanh"), Residual([Dense(4, "tanh"), Dense(4, wrong)]), Dense(3)]
    check = check_gradients(compiled(layers), *data())
    assert "'sine' of layers[1].layers[1] is wrong" in check.verdict
    assert {"layers[2].kernel", "layers[2].bias"}.isdisjoint(failed(check))


def test_a_derivative_that_is_wrong_in_places_is_found_there():
    """Behind the kink of a hand-made leaky ReLU."""
    leaky = Activation(lambda z: np.maximum(z, 0.1 * z), lambda z: (z > 0) + 0.2 * (z <= 0))
    check = check_gradients(compiled([Dense(4, leaky), Dense(3)]), *data())
    _, z = check.verdict.split("at z = ")
    assert float(z.split()[0]) < 0
    assert "it is 0.2, the finite difference 0.1" in check.verdict


def test_a_derivative_of_nan_is_wrong():
    nan = sine(lambda z: np.where(z > 0, np.nan, np.cos(z)))
    check = check_gradients(compiled([Dense(4, nan), Dense(3)]), *data())
    assert not check.passed
    assert check.max_error == np.inf


def test_a_wrong_activation_that_no_loss_depends_on_is_wrong_still():
    layers = [Dense(4, sine(np.sin)), Dense(3)]
    net = compiled(layers)
    net.build(N_INPUTS)
    weights = net.get_weights()
    net.set_weights([*weights[:2], np.zeros_like(weights[2]), weights[3]])
    check = check_gradients(net, *data())
    assert failed(check) == ["layers[0].activation"]
    assert not check.passed
    assert check.verdict.startswith("The derivatives of the loss agree")


@pytest.mark.parametrize("labels", [False, True])
def test_a_wrong_loss_is_named(labels):
    def squared(y_true, y_pred):
        target = np.eye(3)[y_true] if labels else y_true
        error = y_pred - target
        return (error**2).sum(axis=1), error  # twice that

    X, y = data("cross_entropy", labels=labels)
    check = check_gradients(compiled([Dense(4, sine()), Dense(3)], squared), X, y)
    assert failed(check)[-1] == "loss"
    assert set(failed(check)) == {array.where for array in check.arrays} - {"layers[0].activation"}
    assert check.verdict.startswith("All arrays disagree")
    assert "derivatives that the loss function returns are wrong: of sample" in check.verdict


def test_a_fault_of_the_core_is_located(monkeypatch):
    true = Sequential._evaluate

    def evaluate(self, samples, threads):
        # As if the core had forgotten something of layers[1] that all below it goes through.
        forgotten = sum(w.sum() for w in self.get_weights()[:4]) + samples.x.sum()
        return {"loss": true(self, samples, threads)["loss"] + 1e-3 * forgotten}

    monkeypatch.setattr(Sequential, "_evaluate", evaluate)
    net = compiled([Dense(4, "tanh"), Dense(4, "sigmoid"), Dense(3)])
    check = check_gradients(net, *data())
    assert not check.passed
    assert check.verdict.startswith("All arrays at and below layers[1] disagree")
    assert check.verdict.endswith("Most likely the derivative of layers[1] (4 sigmoid) is wrong.")


def test_outputs_that_a_loss_clips_are_explained():
    net = compiled([Dense(3)], "cross_entropy")
    X, y = data("cross_entropy")
    check = check_gradients(net, X, y)
    assert not check.passed
    assert "end the network with softmax" in check.verdict
    net = compiled([BatchNormalization(), Dense(3, "softplus")], "binary_cross_entropy")
    check = check_gradients(net, 3 * X, y)
    assert "end the network with sigmoid" in check.verdict


# The result


def test_the_result_is_immutable_and_pickles():
    check = check_gradients(compiled([Dense(3)]), *data())
    with pytest.raises(dataclasses.FrozenInstanceError):
        check.passed = False
    assert pickle.loads(pickle.dumps(check)) == check
    assert check.max_error == check.worst[0].error
    assert [w.error for w in check.worst] == sorted((w.error for w in check.worst), reverse=True)
    assert check.n_checked == sum(array.n_checked for array in check.arrays)
    assert str(check).endswith(f"{check.max_error:.1e}).")


def test_many_arrays_are_shown_by_their_errors():
    check = check_gradients(compiled([Dense(2, "tanh")] * 12 + [Dense(3)]), *data(), n_checked=2)
    lines = str(check).splitlines()
    assert "... and 11 more, with smaller errors" in lines
    assert any(line.startswith(check.worst[0].where) for line in lines)
    assert not any(line.startswith(f"{check.worst[-1].where} ") for line in lines)


@pytest.mark.parametrize("optimizer", ["adam", Adam(ema_decay=0.9), LBFGS()], ids=["a", "e", "l"])
def test_nothing_changes(optimizer):
    if isinstance(optimizer, LBFGS):
        pytest.importorskip("scipy")
    net = Sequential([Dense(6, "relu"), Dropout(0.4), Dense(3)], random_state=3)
    net.compile(optimizer, "squared_error", ["r2"])
    X, y = data()
    net.fit(X, y, epochs=2, batch_size=4, verbose=0)
    other = copy.copy(net)
    check_gradients(net, X, y, n_checked=5)
    for each in (net, other):
        each.fit(X, y, epochs=3, batch_size=4, verbose=0)
    assert_bitwise_equal(net.get_weights(), other.get_weights())


def test_a_network_that_is_not_built_stays_so():
    net = compiled([Dense(6, "relu"), Dense(3)])
    before = check_gradients(net, *data())
    assert not net.built
    net.build(N_INPUTS)
    assert check_gradients(net, *data()) == before


# Bad arguments


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n_checked": 0}, ValueError, "n_checked must be"),
        ({"n_checked": 1.5}, TypeError, "n_checked must be"),
        ({"epsilon": 0}, ValueError, "epsilon must be"),
        ({"rtol": 1}, ValueError, "rtol must be"),
        ({"random_state": "x"}, TypeError, "random_state must be"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight must"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        check_gradients(compiled([Dense(3)]), *data(), **arguments)


def test_bad_networks_and_samples():
    X, y = data()
    with pytest.raises(TypeError, match="net must be a Sequential, got list"):
        check_gradients([], X, y)
    with pytest.raises(ValueError, match="check_gradients needs a loss"):
        check_gradients(Sequential([Dense(3)]), X, y)
    with pytest.raises(TypeError, match="X must be an array, not yield batches"):
        check_gradients(compiled([Dense(3)]), iter([(X, y)]), None)
    with pytest.raises(ValueError, match="X must"):
        check_gradients(compiled([Dense(3)], n_inputs=5), X, y)
    net = compiled([Dense(3, "exponential")])
    with pytest.raises(ValueError, match="must be finite to be differentiated, got inf"):
        check_gradients(net, X * 1e5, y)


def test_an_estimator_is_asked_for_its_network():
    pytest.importorskip("sklearn")
    from cymlp import MLPRegressor

    with pytest.raises(TypeError, match="pass its network_"):
        check_gradients(MLPRegressor(), *data())
