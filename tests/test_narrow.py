"""Layers of few units, whose kernels lie the other way round, at every place and on both sides of
the bound."""

import copy
import pickle

import numpy as np
import pytest
from conftest import assert_bitwise_equal, make_net, random_target, random_weights

from cymlp import _reference as reference
from cymlp.optimizers import Adam

N_INPUTS = 13
L2 = [(0.05, False), (0.02, False), (0.3, True), (0.01, False)]
#: Of hidden and output layer: from one unit to more than any narrow layer has.
UNITS = [(1, 1), (2, 3), (3, 2), (4, 4), (5, 9), (8, 10), (10, 8), (11, 1), (17, 12)]
#: Relative to the largest number: some hundred units in the last place.
TOLERANCE = {"float64": 1e-13, "float32": 4e-6}


def case(units, dtype, n_samples=37):
    """Return layers, weights and data, exact in `dtype`."""
    hidden, output = units
    layers = [(53, "relu"), (hidden, "sigmoid"), (34, "tanh"), (output, "identity")]
    rng = np.random.default_rng(hidden)
    weights = random_weights(rng, N_INPUTS, [n for n, _ in layers], scale=0.3)
    X = rng.standard_normal((n_samples, N_INPUTS))
    target = random_target(rng, "squared_error", n_samples, output, False)
    numbers = [a.astype(dtype).astype("float64") for a in (*weights, X, target)]
    return layers, numbers[:-2], *numbers[-2:]


def net_of(layers, weights, dtype):
    optimizer = Adam(learning_rate=0.01, epsilon=1e-3)
    net = make_net(N_INPUTS, layers, weights=weights, optimizer=optimizer, dtype=dtype, l2=L2)
    return net


def assert_close(actual, expected, dtype):
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        bound = TOLERANCE[dtype] * max(np.abs(e).max(), 1e-3)
        np.testing.assert_allclose(a, e, rtol=0, atol=bound, err_msg=f"array {i}")


@pytest.mark.parametrize("units", UNITS, ids=str)
def test_outputs_gradients_and_training_equal_numpy(isa, dtype, units):
    layers, weights, X, target = case(units, dtype)
    activations = [name for _, name in layers]
    net = net_of(layers, weights, dtype)
    assert_close(net.layer_outputs(X), reference.layer_outputs(X, weights, activations), dtype)
    loss, gradients = reference.loss_and_gradients(
        X, target, weights, activations, "squared_error", l2=L2
    )
    assert net.evaluate(X, target)["loss"] == pytest.approx(loss, rel=TOLERANCE[dtype])
    assert_close(net.gradients(X, target), gradients, dtype)
    batches = [*reference.batches_of(X, target, 8)] * 3
    net.fit(X, target, epochs=3, batch_size=8, shuffle=False, verbose=0)
    expected, _ = reference.train(
        weights,
        activations,
        "squared_error",
        batches,
        "adam",
        l2=L2,
        learning_rate=0.01,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-3,
    )
    assert_close(net.get_weights(), expected, dtype)


@pytest.mark.parametrize("units", UNITS, ids=str)
def test_weights_come_back_as_they_went_in(isa, dtype, units):
    layers, weights, X, target = case(units, dtype)
    net = net_of(layers, None, dtype)
    net.set_weights(weights)
    assert_bitwise_equal(net.get_weights(), [w.astype(dtype) for w in weights])
    net.train_on_batch(X, target)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert_bitwise_equal(other.get_weights(), net.get_weights())
        other.train_on_batch(X, target)
        again = copy.deepcopy(net)
        again.train_on_batch(X, target)
        assert_bitwise_equal(other.get_weights(), again.get_weights())


@pytest.mark.parametrize("units", UNITS, ids=str)
def test_applied_gradients_are_a_step(isa, dtype, units):
    layers, weights, X, target = case(units, dtype)
    one, two = net_of(layers, weights, dtype), net_of(layers, weights, dtype)
    for _ in range(3):
        one.apply_gradients(one.gradients(X, target))
        two.train_on_batch(X, target)
    assert_close(one.get_weights(), two.get_weights(), dtype)


@pytest.mark.parametrize("units", UNITS, ids=str)
def test_a_row_alone_gives_what_it_gives_in_a_batch(isa, dtype, units):
    layers, weights, X, _ = case(units, dtype, n_samples=100)
    net = net_of(layers, weights, dtype)
    X = X.astype(dtype)
    together = net.predict(X)
    assert_bitwise_equal(net.layer_outputs(X)[-1], together)
    alone = [net.predict(X[i : i + 1]) for i in range(len(X))]
    assert_bitwise_equal(np.concatenate(alone), together)
    predictor = net.predictor()
    assert_bitwise_equal(np.stack([predictor(row) for row in X]), together)


@pytest.mark.parametrize("units", [(1, 2), (10, 3)], ids=str)
def test_threads_do_not_change_a_bit(isa, dtype, units):
    """Wide layers around the narrow ones, so that there is work for a team."""
    hidden, output = units
    layers = [(700, "relu"), (hidden, "relu"), (300, "tanh"), (output, "identity")]
    rng = np.random.default_rng(2)
    X, target = rng.standard_normal((130, 300)), rng.standard_normal((130, output))
    results = []
    for n_threads in (1, 2, 3, 7):
        net = make_net(300, layers, optimizer="adam", dtype=dtype, l2=L2)
        net.fit(X, target, batch_size=65, verbose=0, n_threads=n_threads)
        gradients = net.gradients(X, target, n_threads=n_threads)
        outputs = net.predict(X, n_threads=n_threads)
        results.append([*net.get_weights(), *gradients, outputs])
    for result in results[1:]:
        assert_bitwise_equal(result, results[0])


def test_batches_in_slices():
    """20,000 rows are taken in slices, whose gradients are summed in memory."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((25_000, 3)), rng.integers(0, 2, 25_000)
    weights = random_weights(rng, 3, [9, 2])
    layers = [(9, "tanh"), (2, "softmax")]
    net = make_net(3, layers, weights=weights, loss="cross_entropy")
    net.fit(X, y, batch_size=20_000, shuffle=False, verbose=0)
    batches = [(X[:20_000], y[:20_000]), (X[20_000:], y[20_000:])]
    expected, _ = reference.train(
        weights, ["tanh", "softmax"], "cross_entropy", batches, "sgd", learning_rate=0.01
    )
    for actual, wanted in zip(net.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-14)


def test_nothing_behind_the_inputs_counts(isa, dtype):
    """Infinite outputs make NaNs of the zeros behind the next layer's, which saturates."""
    weights = [np.full((1, 5), np.finfo(dtype).max), np.zeros(5), np.ones((5, 9)), np.zeros(9)]
    weights += [np.ones((9, 1)), np.zeros(1)]
    net = make_net(1, [(5, "relu"), (9, "sigmoid"), (1, "identity")], weights=weights, dtype=dtype)
    X = np.array([[1.0], [10.0], [100.0]])
    np.testing.assert_array_equal(net.layer_outputs(X)[-1], np.full((3, 1), 9))
    assert net.evaluate(X, np.full(3, 9.0))["loss"] == 0
