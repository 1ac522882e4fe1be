"""Every number of the hand-worked 3-3-2 example, through the public API."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import make_net

from cymlp import Sequential
from cymlp.layers import Dense
from cymlp.optimizers import SGD

EXAMPLE = json.loads(Path(__file__).with_name("data").joinpath("worked_example.json").read_text())

#: The file's "tolerances" in numbers, absolute for the exact values and relative for hand-worked.
EXACT = {"float64": 1e-9, "float32": 1e-6}
HAND_WORKED = 2e-4
AS_PRINTED = 5e-8
#: One rounding of a float32 in [0.5, 1) where the weights start, and one where the step ends.
FLOAT32_STORAGE = 2 * 2.0**-25

LEARNING_RATE = EXAMPLE["update"]["learning_rate"]
PARAMETERS = ("W1", "b1", "W2", "b2")


def array(numbers):
    """Return a JSON entry as an array; matrices are [neuron][input] there, (inputs, units) here."""
    numbers = np.array(numbers, dtype="float64")
    return numbers.T if numbers.ndim == 2 else numbers


def start():
    return [array(EXAMPLE["network"][name]) for name in PARAMETERS]


def example_net(dtype, activations=("relu", "sigmoid")):
    layers = list(zip((3, 2), activations, strict=True))
    return make_net(
        3, layers, weights=start(), dtype=dtype, optimizer=SGD(learning_rate=LEARNING_RATE)
    )


@pytest.fixture(params=[1, 7], ids=["batch of one", "same sample seven times"])
def batch(request):
    """The sample, once or several times over: no average may change."""
    sample = EXAMPLE["sample"]
    return np.array([sample["x"]] * request.param), np.array([sample["target"]] * request.param)


@pytest.fixture
def computed(isa, dtype, batch):
    """What the public API computes, under the names of the file."""
    X, target = batch
    net = example_net(dtype)
    a1, output = net.layer_outputs(X)
    gradients = net.gradients(X, target)
    # Pre-activations are the outputs of the same weights without the activation.
    z1, _ = example_net(dtype, ("identity", "sigmoid")).layer_outputs(X)
    _, z2 = example_net(dtype, ("relu", "identity")).layer_outputs(X)
    # Behind an identity layer with kernel 1 the gradient of that layer's bias is dL/doutput.
    probe = make_net(
        3,
        [(3, "relu"), (2, "sigmoid"), (2, "identity")],
        weights=[*start(), np.eye(2), np.zeros(2)],
        dtype=dtype,
    )
    probed = probe.gradients(X, target)
    return {
        "z1": z1,
        "a1": a1,
        "z2": z2,
        "output": output,
        "predicted": net.predict(X),
        "loss": net.evaluate(X, target)["loss"],
        "dloss_doutput": probed[5],
        "sigmoid_derivative": probed[3] / probed[5],
        "delta2": gradients[3],
        "delta1": gradients[1],
        **dict(zip(("dW1", "db1", "dW2", "db2"), gradients, strict=True)),
    }


def expand(expected, actual):
    """Repeat what stands in the file for one sample, for every row of a batch."""
    return np.broadcast_to(expected, np.shape(actual))


def test_exact_values(computed, dtype):
    for name, numbers in EXAMPLE["exact"].items():
        expected = expand(array(numbers), computed[name])
        np.testing.assert_allclose(
            computed[name], expected, rtol=0, atol=EXACT[dtype], err_msg=name
        )
    np.testing.assert_array_equal(computed["predicted"], computed["output"])


def test_hand_worked_values(computed, dtype):
    entries = {k: v for k, v in EXAMPLE["hand_worked"].items() if k != "decimals"}
    assert set(entries) == set(EXAMPLE["exact"]) - {"delta1", "delta2"} | {"sigmoid_derivative"}
    for name, numbers in entries.items():
        expected = expand(array(numbers), computed[name])
        np.testing.assert_allclose(computed[name], expected, rtol=HAND_WORKED, atol=0, err_msg=name)


def test_every_sample_of_a_batch_is_the_same(computed):
    for name in ("z1", "a1", "z2", "output"):
        rows = computed[name]
        assert (rows == rows[0]).all(), name


def assert_updated(net, dtype):
    """Assert the weights after the step that the file works out from its "average" gradient."""
    for name, weights in zip(PARAMETERS, net.get_weights(), strict=True):
        exact = array(EXAMPLE["update"]["after_exact"][name])
        np.testing.assert_allclose(weights, exact, rtol=0, atol=EXACT[dtype], err_msg=name)

        printed = array(EXAMPLE["update"]["after_as_printed"][name])
        tolerance = np.full(printed.shape, AS_PRINTED)
        if name == "W1":
            tolerance[2, 0] = 5e-7  # [neuron 0][input 2] was printed to six decimals
        if dtype == "float32":
            tolerance += FLOAT32_STORAGE
        assert (np.abs(weights - printed) <= tolerance).all(), name


def test_apply_gradients(isa, dtype):
    net = example_net(dtype)
    average = EXAMPLE["update"]["average"]
    net.apply_gradients([array(average["d" + name]) for name in PARAMETERS])
    assert_updated(net, dtype)


def test_train_on_batch(isa, dtype, batch):
    X, target = batch
    net = example_net(dtype)
    loss = net.train_on_batch(X, target)
    assert isinstance(loss, float)
    assert loss == pytest.approx(EXAMPLE["exact"]["loss"], rel=0, abs=EXACT[dtype])
    for name, weights, before in zip(PARAMETERS, net.get_weights(), start(), strict=True):
        expected = before - LEARNING_RATE * array(EXAMPLE["exact"]["d" + name])
        np.testing.assert_allclose(weights, expected, rtol=0, atol=EXACT[dtype], err_msg=name)


def test_fit_is_train_on_batch(isa, dtype, batch):
    X, target = batch
    net, other = example_net(dtype), example_net(dtype)
    history = net.fit(X, target, batch_size=len(X), verbose=0)
    assert history.history["loss"] == [other.train_on_batch(X, target)]
    for weights, expected in zip(net.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


def test_width_given_by_build(dtype):
    net = Sequential([Dense(3, activation="relu"), Dense(2, activation="sigmoid")], dtype=dtype)
    net.build(3)
    net.set_weights(start())
    output = net.predict([EXAMPLE["sample"]["x"]])
    np.testing.assert_allclose(output, [EXAMPLE["exact"]["output"]], rtol=0, atol=EXACT[dtype])
