"""The networks whose pages are tested, and what all tests ask of a page."""

import json
from pathlib import Path

import numpy as np

import cymlp
from cymlp import Sequential
from cymlp.layers import Dense
from cymlp.optimizers import SGD

EXAMPLE = json.loads(
    Path(__file__).parent.with_name("data").joinpath("worked_example.json").read_text()
)


def worked_net():
    """Return the hand-worked 3-3-2 network."""
    layers = [Dense(3, activation="relu"), Dense(2, activation="sigmoid")]
    net = Sequential(layers, n_inputs=3, dtype="float64", random_state=0)
    net.set_weights([np.array(EXAMPLE["network"][name]).T for name in ("W1", "b1", "W2", "b2")])
    net.compile(optimizer=SGD(learning_rate=0.01), loss="squared_error")
    return net


def worked_trace():
    sample = EXAMPLE["sample"]
    return cymlp.explain(worked_net(), sample["x"], sample["target"])


def batch_trace():
    """Return a trace of three samples with weights."""
    net = worked_net()
    X = [[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0], [0.0, 1.0, -2.0]]
    y = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    return cymlp.explain(net, X, y, [1.0, 2.0, 0.5])


def image_net():
    layers = [Dense(128, activation="relu"), Dense(10, activation="softmax")]
    net = Sequential(layers, n_inputs=784, random_state=0)
    net.compile(optimizer="adam", loss="cross_entropy")
    return net


def ring():
    """Return 28 x 28 pixels that look like a zero."""
    y, x = np.mgrid[:28, :28]
    return np.exp(-((np.hypot(y - 14, x - 14) - 8) ** 2) / 3).astype("float32").ravel()


def written(page, number, digits=6):
    """Return a number as the page writes it."""
    return page.evaluate("([number, digits]) => written(number, digits)", [float(number), digits])


#: A result of the page as plain lists, by the names that a Trace has.
RESULT = """(result) => ({
  loss: result.loss,
  penalty: result.penalty,
  losses: [...result.losses],
  input_gradient: [...result.inputGradient.data],
  layers: result.layers.map((pass, i) => ({
    pre_activation: [...pass.before.data],
    activation: [...pass.outputs.data],
    slope: pass.slopes && [...pass.slopes.data],
    activation_gradient: pass.gradient && [...pass.gradient.data],
    delta: [...pass.delta.data],
    parameters: Object.fromEntries(Object.entries(result.parameters[i]).map(([name, each]) =>
      [name, Object.fromEntries(["average", "gradient", "updated"].map((what) =>
        [what, each[what] && [...each[what]]]))])),
  })),
})"""


def assert_agrees(result, trace, tolerance=1e-12):
    """Assert that what `RESULT` returned are the numbers of a trace, relative to each array."""

    def check(what, actual, expected):
        if expected is None:
            return
        assert actual is not None, what
        expected = np.asarray(expected, "float64").ravel()
        bound = tolerance * max(abs(expected).max(initial=0), 1e-3)
        np.testing.assert_allclose(
            np.ravel(np.array(actual, "float64")), expected, rtol=0, atol=bound, err_msg=what
        )

    for name in ("loss", "penalty", "losses", "input_gradient"):
        check(name, result[name], getattr(trace, name))
    for layer, found in zip(trace.layers, result["layers"], strict=True):
        for name in ("pre_activation", "activation", "activation_gradient", "delta"):
            check(f"{layer.where}.{name}", found[name], getattr(layer, name))
        if layer.function is not None:
            check(f"{layer.where}.slope", found["slope"], layer.slope)
        for name, parameter in layer.parameters.items():
            for what in ("average", "gradient", "updated"):
                check(
                    f"{parameter.path}: {what}",
                    found["parameters"][name][what],
                    getattr(parameter, what),
                )
