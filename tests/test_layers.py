"""Layers and stacks of them: against their NumPy twins, finite differences and PyTorch."""

import copy
import pickle

import numpy as np
import pytest
from conftest import assert_bitwise_equal, run_python

from cymlp import Sequential
from cymlp import _reference_layers as twins
from cymlp._lower import plan_layers
from cymlp._random import Purpose, key
from cymlp._reference import activate, activate_backward, loss_deltas, loss_values
from cymlp.activations import ACTIVATIONS
from cymlp.activations import Activation as PythonActivation
from cymlp.constraints import MaxNorm
from cymlp.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Layer,
    LayerNormalization,
    Residual,
)
from cymlp.optimizers import SGD
from cymlp.regularizers import L1, L2, ElasticNet

N_INPUTS, N_OUTPUTS = 7, 3

#: Stacks that use every layer, in the places where lowering treats them differently.
STACKS = {
    "activation behind dense": [Dense(9), Activation("tanh"), Dense(3)],
    "activation alone": [Activation("tanh"), Dense(9), Activation("elu"), Activation("gelu")],
    "activation that keeps z": [Dense(9, "gelu"), Dense(5, "silu"), Dense(3, "mish")],
    "folded batch norm": [Dense(9), BatchNormalization(), Activation("relu"), Dense(3)],
    "batch norm behind relu": [Dense(9, "relu"), BatchNormalization(), Dense(3)],
    "batch norm first and last": [BatchNormalization(0.9), Dense(3), BatchNormalization(epsilon=1)],
    "batch norm keeps z": [Dense(9), BatchNormalization(), Activation("silu"), Dense(3)],
    "two batch norms": [
        Dense(9),
        BatchNormalization(),
        Activation("tanh"),
        Dense(20),
        BatchNormalization(scale=False),
        Dense(3),
    ],
    "layer norm": [LayerNormalization(), Dense(9), LayerNormalization(center=False), Dense(3)],
    "dropout": [Dense(20, "relu"), Dropout(0.3), Dense(9, "tanh"), Dropout(0.5), Dense(3)],
    "dropout first and last": [Dropout(0.2), Dense(3), Dropout(0.1)],
    "residual": [Dense(9, "tanh"), Residual([Dense(11, "tanh"), Dense(9)]), Dense(3)],
    "residual projected": [Residual([Dense(11, "tanh"), Dense(9)]), Activation("relu"), Dense(3)],
    "residual of an activation": [Dense(9), Residual([Activation("sigmoid")]), Dense(3)],
    "residual of a ReLU": [
        Dense(9, "relu"),
        Residual([Dense(11, "relu"), Dense(9, "relu")]),
        Residual([LayerNormalization(), Dense(9, "relu"), Dense(9)]),
        Activation("relu"),
        Residual([Activation("sigmoid"), Residual([Dense(9)])]),
        Dense(3),
    ],
    "residual in residual": [
        Residual([LayerNormalization(), Residual([Dense(7, "tanh")]), Dropout(0.2), Dense(7)]),
        Dense(3),
    ],
    "no bias": [Dense(9, "tanh", use_bias=False), Dense(3, use_bias=False)],
    "softmax behind norm": [
        Dense(9, "relu"),
        Dense(3),
        LayerNormalization(),
        Activation("softmax"),
    ],
}


def twin_of(layers, weights):
    """Return layers in the form of `_reference_layers`, with a network's weights."""
    weights = iter(weights)
    dropouts = iter(range(100))

    def convert(layer, width):
        if isinstance(layer, Dense):
            twin = {"kind": "dense", "kernel": next(weights), "activation": layer.activation.name}
            twin |= {"bias": next(weights)} if layer.use_bias else {}
            twin["alpha"] = getattr(layer.activation, "alpha", 0.0)
            return twin, layer.units
        if isinstance(layer, Activation):
            alpha = getattr(layer.activation, "alpha", 0.0)
            name = layer.activation.name
            return {"kind": "activation", "activation": name, "alpha": alpha}, width
        if isinstance(layer, Dropout):
            dropped = round(layer.rate * 65536)
            return {"kind": "dropout", "dropped": dropped, "number": next(dropouts)}, width
        if isinstance(layer, Residual):
            inner, top = convert_all(layer.layers, width)
            projection = next(weights) if top != width else None
            return {"kind": "residual", "layers": inner, "projection": projection}, top
        twin = {"kind": layer.name, "epsilon": layer.epsilon}
        for name, wanted in (("gamma", layer.scale), ("beta", layer.center)):
            if wanted:
                twin[name] = next(weights)
        if isinstance(layer, BatchNormalization):
            twin["momentum"] = layer.momentum
            twin["moving_mean"], twin["moving_variance"] = next(weights), next(weights)
        return twin, width

    def convert_all(layers, width):
        converted = []
        for layer in layers:
            twin, width = convert(layer, width)
            converted.append(twin)
        return converted, width

    return convert_all(layers, N_INPUTS)[0]


def is_given(layers, kind):
    return any(
        isinstance(layer, kind) or (isinstance(layer, Residual) and is_given(layer.layers, kind))
        for layer in layers
    )


def trained_names(net):
    """Return for each array of get_weights whether it is trained."""
    return [p.is_trained for p in plan_layers(net.layers, N_INPUTS).parameters]


def make(layers, n_samples=40, *, dtype="float64", optimizer="sgd", loss="squared_error", seed=0):
    """Return a net with weights that are nowhere at their defaults, and data."""
    rng = np.random.default_rng(seed)
    net = Sequential(layers, n_inputs=N_INPUTS, dtype=dtype, random_state=seed)
    net.compile(optimizer, loss)
    names = [p.name for p in plan_layers(net.layers, N_INPUTS).parameters]
    weights = [
        rng.uniform(0.5, 1.5, w.shape)
        if name in ("gamma", "moving_variance")
        else 0.6 * rng.standard_normal(w.shape)
        for name, w in zip(names, net.get_weights(), strict=True)
    ]
    net.set_weights(weights)
    X = rng.standard_normal((n_samples, N_INPUTS)).astype(dtype)
    y = rng.standard_normal((n_samples, net.n_outputs)).astype(dtype)
    return net, X, y


def step_key(net, step):
    seed, purpose = key(net._seed, Purpose.DROPOUT, step)
    return seed, purpose


def expected_step(net, X, y, *, training, step=0):
    """Return loss, gradients and tape of a batch, by the twins."""
    twin = twin_of(net.layers, net.get_weights())
    out, tape = twins.forward(twin, X, training=training, key=step_key(net, step))
    loss = loss_values("squared_error", out, y).mean()
    delta = loss_deltas("squared_error", out, y) / len(X)
    return loss, twins.backward(tape, delta, training=training)[1], tape


def test_every_layer_is_in_a_stack():
    kinds = {kind for kind in Layer.__subclasses__() if kind.__module__ == "cymlp.layers"}
    assert all(any(is_given(stack, kind) for stack in STACKS.values()) for kind in kinds)


# ------------------------------------------------------------------------------- against the twins


@pytest.mark.parametrize("n_samples", [1, 40, 211])
@pytest.mark.parametrize("name", STACKS)
def test_predict(isa, name, n_samples):
    net, X, _ = make(STACKS[name], n_samples)
    expected, _ = twins.forward(twin_of(net.layers, net.get_weights()), X)
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", STACKS)
def test_predict_in_single_precision(isa, name):
    net, X, _ = make(STACKS[name], dtype="float32")
    weights = [w.astype("float64") for w in net.get_weights()]
    expected, _ = twins.forward(twin_of(net.layers, weights), X.astype("float64"))
    np.testing.assert_allclose(net.predict(X), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", STACKS)
def test_layer_outputs(name):
    net, X, _ = make(STACKS[name])
    twin = twin_of(net.layers, net.get_weights())
    outputs = net.layer_outputs(X)
    assert len(outputs) == len(net.layers)
    for i, output in enumerate(outputs):
        expected, _ = twins.forward(twin[: i + 1], X)
        np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", STACKS)
def test_gradients(isa, name, training):
    net, X, y = make(STACKS[name], 111)
    loss, expected, _ = expected_step(net, X, y, training=training, step=1)
    gradients = net.gradients(X, y, training=training)
    assert len(gradients) == len(expected)
    for gradient, by_twin in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, by_twin, rtol=1e-10, atol=1e-12)
    if not training:
        assert net.evaluate(X, y)["loss"] == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("name", STACKS)
def test_training_steps(isa, name):
    net, X, y = make(STACKS[name], 50, optimizer=SGD(learning_rate=0.1))
    for step in range(1, 4):
        loss, gradients, tape = expected_step(net, X, y, training=True, step=step)
        averages = iter(twins.moving_averages(tape))
        expected = [
            w - 0.1 * g if is_trained else next(averages)
            for w, g, is_trained in zip(
                net.get_weights(), gradients, trained_names(net), strict=True
            )
        ]
        assert net.train_on_batch(X, y) == pytest.approx(loss, rel=1e-12)
        for w, by_twin in zip(net.get_weights(), expected, strict=True):
            np.testing.assert_allclose(w, by_twin, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in STACKS if "ReLU" not in repr(STACKS[name])])
def test_gradients_by_finite_differences(name):
    """Of what `evaluate` returns; not of ReLU, whose kinks would be met."""
    net, X, y = make(STACKS[name], 6)
    h = 1e-5
    weights = net.get_weights()
    for w, gradient, is_trained in zip(
        weights, net.gradients(X, y), trained_names(net), strict=True
    ):
        if not is_trained:
            continue
        for place in list(np.ndindex(w.shape))[::5]:
            value, losses = w[place], []
            for step in (h, -h):
                w[place] = value + step
                net.set_weights(weights)
                losses.append(net.evaluate(X, y)["loss"])
            w[place] = value
            slope = (losses[0] - losses[1]) / (2 * h)
            assert gradient[place] == pytest.approx(slope, rel=1e-6, abs=1e-8)
    net.set_weights(weights)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_in_every_place(activation):
    """Hidden and last, in a dense layer and as a layer of its own."""
    for stack in (
        [Dense(9, activation), Dense(3)],
        [Dense(9, "tanh"), Dense(3, activation)],
        [Dense(9, "tanh"), Dropout(0.0), Activation(activation), Dense(3)],
        [Dense(9), LayerNormalization(), Activation(activation)],
    ):
        net, X, y = make(stack)
        loss, expected, _ = expected_step(net, X, y, training=True, step=1)
        for gradient, by_twin in zip(net.gradients(X, y, training=True), expected, strict=True):
            np.testing.assert_allclose(gradient, by_twin, rtol=1e-9, atol=1e-11)
        assert net.train_on_batch(X, y) == pytest.approx(loss, rel=1e-11)


# ------------------------------------------------------------------------ what must not play a part


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", STACKS)
def test_threads_play_no_part(name, dtype):
    """Work is cut by tiles, columns and items, whoever does it."""
    runs = []
    for n_threads in (1, 2, 3, 5):
        net, X, y = make(STACKS[name], 1100, dtype=dtype, optimizer="adam")
        history = net.fit(X, y, epochs=2, batch_size=500, verbose=0, n_threads=n_threads)
        runs.append([*net.get_weights(), net.predict(X, n_threads=n_threads)])
        runs[-1].append(np.array(history.history["loss"]))
    for other in runs[1:]:
        assert_bitwise_equal(other, runs[0])


@pytest.mark.parametrize("name", STACKS)
def test_training_that_goes_on_equals_uninterrupted_training(name):
    whole, X, y = make(STACKS[name], optimizer="adam")
    parts = pickle.loads(pickle.dumps(whole))
    whole.fit(X, y, epochs=5, batch_size=16, verbose=0)
    parts.fit(X, y, epochs=3, batch_size=16, verbose=0)
    parts = copy.deepcopy(pickle.loads(pickle.dumps(parts)))
    parts.fit(X, y, epochs=2, batch_size=16, verbose=0)
    assert_bitwise_equal(parts.get_weights(), whole.get_weights())
    assert_bitwise_equal(parts.predict(X), whole.predict(X))


@pytest.mark.parametrize("name", STACKS)
def test_form_of_the_inputs_plays_no_part(name):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(4)
    results = []
    X = rng.integers(0, 3, (60, N_INPUTS)).astype(np.uint8)
    for form in (X, X.astype("float32"), scipy_sparse.csr_matrix(X), X.astype("int64")):
        net, _, y = make(STACKS[name], 60, dtype="float32", optimizer="adam")
        net.fit(form, y, epochs=2, batch_size=25, verbose=0)
        results.append([*net.get_weights(), net.predict(form)])
    for result in results[1:]:
        for a, b in zip(result, results[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_predictor_and_single_rows():
    for stack in STACKS.values():
        net, X, _ = make(stack)
        expected = net.predict(X)
        predictor = net.predictor(batch_size=3)
        np.testing.assert_allclose(predictor(X[:3]), expected[:3], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(net.predict(X[:1]), expected[:1], rtol=1e-12, atol=1e-14)


# -------------------------------------------------------------------------------------- the layers


def test_dropout_is_inverted_and_has_its_rate():
    n = 400
    net = Sequential([Dropout(0.3), Dense(1)], n_inputs=n, dtype="float64", random_state=1)
    net.compile("sgd", "squared_error")
    net.set_weights([np.ones((n, 1)), [0.0]])
    # With weights and inputs of one the gradients of a single row are its factors, times its error.
    factors = []
    for step in range(1, 60):
        gradient = net.gradients(np.ones((1, n)), [[0.0]], training=True)[0][:, 0]
        values = np.unique(np.round(gradient / gradient.max(), 12))
        assert set(values) <= {0.0, 1.0}
        factors.append(gradient > 0)
        net._network.restore_iteration(step)
    share = np.mean(factors)
    assert abs(share - 0.7) < 4 * np.sqrt(0.21 / np.size(factors))
    # Neither along a row nor from step to step is one number like the next.
    flat = np.array(factors, float) - share
    assert abs((flat[:, 1:] * flat[:, :-1]).mean()) < 0.01
    assert abs((flat[1:] * flat[:-1]).mean()) < 0.01
    assert net.predict(np.ones((1, n)))[0, 0] == n


def test_dropout_of_two_layers_differs():
    net, X, _ = make([Dropout(0.5), Dropout(0.5), Dense(3)])
    twin = twin_of(net.layers, net.get_weights())
    assert [layer.get("number") for layer in twin] == [0, 1, None]
    first = twins.dropout_factors((4, 50), 32768, 0, (1, 2))
    second = twins.dropout_factors((4, 50), 32768, 1, (1, 2))
    assert (first != second).any()


def test_batch_norm_learns_its_averages():
    rng = np.random.default_rng(0)
    X = 5 + 3 * rng.standard_normal((2000, N_INPUTS))
    net = Sequential([BatchNormalization(momentum=0.8), Dense(1)], dtype="float64", random_state=0)
    net.compile(SGD(learning_rate=1e-3), "squared_error")
    net.fit(X, np.zeros(len(X)), epochs=5, batch_size=500, verbose=0)
    _, _, mean, variance, *_ = net.get_weights()
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=0.05)
    np.testing.assert_allclose(variance, X.var(axis=0), rtol=0.1)


def test_frozen_layers_stay():
    layers = [Dense(9, trainable=False), BatchNormalization(trainable=False), Dense(3)]
    net, X, y = make(layers, optimizer="adam")
    before = net.get_weights()
    net.fit(X, y, epochs=3, verbose=0)
    net.apply_gradients([np.ones_like(w) for w in before])
    after = net.get_weights()
    assert_bitwise_equal(after[:6], before[:6])
    assert (after[6] != before[6]).all()


def test_frozen_batch_norm_uses_its_averages():
    net, X, y = make([Dense(9), BatchNormalization(trainable=False), Dense(3)])
    np.testing.assert_allclose(
        net.gradients(X, y, training=True)[0], net.gradients(X, y)[0], rtol=1e-12
    )


def test_learning_rate_multiplier():
    multiplied, X, y = make(
        [Dense(9, learning_rate_multiplier=0.5), Dense(3)], optimizer=SGD(learning_rate=0.1)
    )
    plain, _, _ = make([Dense(9), Dense(3)], optimizer=SGD(learning_rate=0.1))
    before = plain.get_weights()
    for net in (multiplied, plain):
        net.train_on_batch(X, y)
    for i, factor in enumerate((0.5, 0.5, 1, 1)):
        np.testing.assert_allclose(
            multiplied.get_weights()[i] - before[i],
            factor * (plain.get_weights()[i] - before[i]),
            rtol=1e-9,
            atol=1e-14,
        )


@pytest.mark.parametrize("n_threads", [1, 3])
def test_max_norm(isa, n_threads):
    layers = [Dense(70, "tanh", kernel_constraint=MaxNorm(0.8)), Dense(3)]
    net, X, y = make(layers, 300, optimizer=SGD(learning_rate=0.05))
    free, _, _ = make([Dense(70, "tanh"), Dense(3)], 300, optimizer=SGD(learning_rate=0.05))
    for _ in range(3):
        free.set_weights(net.get_weights())
        free.train_on_batch(X, y)
        net.fit(X, y, batch_size=300, shuffle=False, verbose=0, n_threads=n_threads)
        kernel = free.get_weights()[0]
        norms = np.linalg.norm(kernel, axis=0)
        expected = kernel * np.minimum(1, 0.8 / norms)
        assert (norms > 0.8).any()
        np.testing.assert_allclose(net.get_weights()[0], expected, rtol=1e-12, atol=1e-15)
    # Above the first layer the transposed copy has to follow.
    net, X, y = make([Dense(5, "tanh"), Dense(40, kernel_constraint=MaxNorm(0.3)), Dense(3)], 30)
    net.fit(X, y, batch_size=10, verbose=0, n_threads=n_threads)
    _, expected, _ = expected_step(net, X, y, training=False)
    np.testing.assert_allclose(net.gradients(X, y)[0], expected[0], rtol=1e-10, atol=1e-13)


def test_max_norm_holds_for_averages():
    layers = [Dense(70, kernel_constraint=MaxNorm(0.8)), Dense(3)]
    net, X, y = make(layers, optimizer=SGD(learning_rate=0.05, ema_decay=0.5))
    net.train_on_batch(X, y)  # an average begins with the first values
    assert np.linalg.norm(net.get_weights()[0], axis=0).max() == pytest.approx(0.8)
    assert_bitwise_equal(net.averaged_weights(), net.get_weights())
    net.train_on_batch(X, y)
    assert np.linalg.norm(net.averaged_weights()[0], axis=0).max() <= 0.8 * (1 + 1e-12)


@pytest.mark.parametrize(
    ("regularizer", "value", "slope"),
    [
        (L1(0.3), lambda w: 0.3 * np.abs(w).sum(), lambda w: 0.3 * np.sign(w)),
        (L2(0.3), lambda w: 0.15 * (w**2).sum(), lambda w: 0.3 * w),
        (
            ElasticNet(0.2, 0.3),
            lambda w: 0.2 * np.abs(w).sum() + 0.15 * (w**2).sum(),
            lambda w: 0.2 * np.sign(w) + 0.3 * w,
        ),
    ],
    ids=["l1", "l2", "elastic net"],
)
@pytest.mark.parametrize("trainable", [True, False])
def test_regularizers(isa, regularizer, value, slope, trainable):
    penalized = Dense(
        11,
        "tanh",
        kernel_regularizer=regularizer,
        bias_regularizer=regularizer,
        trainable=trainable,
    )
    net, X, y = make([penalized, Dense(3)], optimizer=SGD(learning_rate=0.1))
    plain, _, _ = make([Dense(11, "tanh"), Dense(3)])
    before = net.get_weights()
    penalty = value(before[0]) + value(before[1])
    loss = plain.evaluate(X, y)["loss"] + penalty
    assert net.evaluate(X, y)["loss"] == pytest.approx(loss, rel=1e-13)
    gradients, without = net.gradients(X, y), plain.gradients(X, y)
    for i in (0, 1):
        np.testing.assert_allclose(gradients[i], without[i] + slope(before[i]), rtol=1e-12)
    assert net.train_on_batch(X, y) == pytest.approx(loss, rel=1e-13)
    for i in (0, 1):
        moved = before[i] - 0.1 * gradients[i] * trainable
        np.testing.assert_allclose(net.get_weights()[i], moved, rtol=1e-12, atol=1e-15)


# ------------------------------------------------------------------------- a user's own activation


def own(name="tanh"):
    return PythonActivation(
        lambda z: activate(name, z),
        lambda z: activate_backward(name, activate(name, z), np.ones_like(z)),
        name=f"own_{name}",
    )


@pytest.mark.parametrize("n_threads", [1, 2])
def test_own_activation_equals_the_built_in_one(n_threads):
    for place in ("dense", "layer", "last"):
        nets = []
        for activation in ("tanh", own("tanh")):
            stack = {
                "dense": [Dense(9, activation), Dense(3)],
                "layer": [Dense(9), LayerNormalization(), Activation(activation), Dense(3)],
                "last": [Dense(9), Dense(3, activation)],
            }[place]
            net, X, y = make(stack, 130, optimizer="adam")
            net.fit(X, y, epochs=2, batch_size=120, verbose=0, n_threads=n_threads)
            net.fit(X, y, epochs=1, batch_size=1, verbose=0)
            nets.append(net)
        for a, b in zip(nets[1].get_weights(), nets[0].get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(nets[1].predict(X), nets[0].predict(X), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("broken", ["forward", "derivative"])
def test_own_activation_that_fails_leaves_the_last_batch(broken):
    calls = []

    def fail(z):
        calls.append(len(z))
        if len(calls) > 5:
            raise RuntimeError("I give up")
        return np.tanh(z) if broken == "forward" else 1 - np.tanh(z) ** 2

    functions = {"forward": np.tanh, "derivative": lambda z: 1 - np.tanh(z) ** 2, broken: fail}
    stack = [Dense(9, PythonActivation(**functions, name="mine")), Dense(3)]
    net, X, y = make(stack, 40, optimizer="adam")
    whole = PythonActivation(np.tanh, lambda z: 1 - np.tanh(z) ** 2)
    reference, _, _ = make([Dense(9, whole), Dense(3)], 40, optimizer="adam")
    with pytest.raises(RuntimeError, match="I give up"):
        net.fit(X, y, batch_size=4, shuffle=False, verbose=0)
    reference.fit(X[:20], y[:20], batch_size=4, shuffle=False, verbose=0)
    assert_bitwise_equal(net.get_weights(), reference.get_weights())
    if broken == "forward":
        with pytest.raises(RuntimeError, match="I give up"):
            net.predict(X)
        with pytest.raises(RuntimeError, match="I give up"):
            net.evaluate(X, y)


@pytest.mark.parametrize("wrong", [lambda z: z[0], lambda z: "text", lambda z: z * 1j])
def test_own_activation_must_return_what_it_was_given(wrong):
    net, X, _ = make([Dense(9, PythonActivation(wrong, np.tanh, name="mine")), Dense(3)])
    with pytest.raises(ValueError, match=r"activation 'mine': forward must return real numbers"):
        net.predict(X)


# --------------------------------------------------------------------------------- against PyTorch


def torch_twin(torch, net):
    """Return a torch module with a net's layers and weights, and where it has what net has.

    The second is a list in the order of get_weights: a module, and an attribute's name.
    """
    nn = torch.nn
    weights = iter([torch.tensor(w) for w in net.get_weights()])
    functions = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}
    places = []

    class Add(nn.Module):
        def __init__(self, stack, projection):
            super().__init__()
            self.stack, self.projection = stack, projection

        def forward(self, x):
            return self.stack(x) + (self.projection(x) if self.projection else x)

    def dense(n_inputs, n_units, bias=True):
        layer = nn.Linear(n_inputs, n_units, bias=bias, dtype=torch.float64)
        layer.weight.data = next(weights).T.contiguous()
        places.append((layer, "weight"))
        if bias:
            layer.bias.data = next(weights)
            places.append((layer, "bias"))
        return layer

    def norm(layer, width):
        is_batch = isinstance(layer, BatchNormalization)
        kind, more = (
            (nn.BatchNorm1d, {"momentum": 1 - layer.momentum})
            if is_batch
            else (
                nn.LayerNorm,
                {},
            )
        )
        module = kind(width, eps=layer.epsilon, dtype=torch.float64, **more)
        for name in ("weight", "bias", *(["running_mean", "running_var"] * is_batch)):
            getattr(module, name).data = next(weights)
            places.append((module, name))
        return module

    def convert(layers, width):
        modules = []
        for layer in layers:
            if isinstance(layer, Dense):
                modules.append(dense(width, layer.units))
                width = layer.units
            elif isinstance(layer, Residual):
                stack, top = convert(layer.layers, width)
                modules.append(Add(stack, dense(width, top, False) if top != width else None))
                width = top
            elif not isinstance(layer, Activation):
                modules.append(norm(layer, width))
            name = getattr(getattr(layer, "activation", None), "name", "identity")
            if name != "identity":
                modules.append(functions[name]())
        return nn.Sequential(*modules), width

    return convert(net.layers, N_INPUTS)[0], places


def torch_arrays(places, *, gradients=False):
    """Return weights or gradients in the order and the shapes of get_weights."""
    arrays = []
    for module, name in places:
        array = getattr(module, name)
        if gradients:
            array = array * 0 if name.startswith("running") else array.grad
        array = array.detach().numpy()
        arrays.append(array.T if array.ndim == 2 else array)
    return arrays


@pytest.mark.parametrize(
    "stack",
    [
        [Dense(9), BatchNormalization(momentum=0.9), Activation("relu"), Dense(3)],
        [LayerNormalization(), Dense(9, "gelu"), LayerNormalization(epsilon=1e-5), Dense(3)],
        [Dense(9, "tanh"), Residual([Dense(12, "silu"), Dense(9)]), BatchNormalization(), Dense(3)],
        [BatchNormalization(), Residual([Dense(8, "relu")]), Dense(3)],
    ],
    ids=["batch norm", "layer norm", "residual", "projection"],
)
def test_against_torch(stack):
    """Forward pass, loss, gradients and moving averages, training and not."""
    torch = pytest.importorskip("torch")
    net, X, y = make(stack, 37, optimizer=SGD(learning_rate=0.05))
    module, places = torch_twin(torch, net)
    inputs, targets = torch.tensor(X), torch.tensor(y)
    module.eval()
    np.testing.assert_allclose(net.predict(X), module(inputs).detach().numpy(), rtol=1e-10)
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        loss = 0.5 * ((module(inputs) - targets) ** 2).sum(dim=1).mean()
        gradients = net.gradients(X, y, training=True)
        assert net.train_on_batch(X, y) == pytest.approx(loss.item(), rel=1e-9)
        loss.backward()
        for gradient, by_torch in zip(gradients, torch_arrays(places, gradients=True), strict=True):
            np.testing.assert_allclose(gradient, by_torch, rtol=1e-7, atol=1e-11)
        optimizer.step()
    for w, by_torch in zip(net.get_weights(), torch_arrays(places), strict=True):
        np.testing.assert_allclose(w, by_torch, rtol=1e-7, atol=1e-10)
    module.eval()
    np.testing.assert_allclose(net.predict(X), module(inputs).detach().numpy(), rtol=1e-7)


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("layers", "error", "match"),
    [
        ([], ValueError, "layers must have at least one layer"),
        ([Dropout(0.5)], ValueError, "layers must have at least one layer with units"),
        ([Dense(3), "relu"], TypeError, r"layers\[1\] must be a layer such as Dense\(10\)"),
        (Dense(3), TypeError, "layers must be a sequence of layers"),
    ],
)
def test_stacks_that_are_none(layers, error, match):
    with pytest.raises(error, match=match):
        Sequential(layers)


@pytest.mark.parametrize(
    ("make_layer", "error", "match"),
    [
        (lambda: Dropout(1.0), ValueError, "rate must be"),
        (lambda: Dropout("half"), TypeError, "rate must be"),
        (lambda: Dropout(float("nan")), ValueError, "rate must be"),
        (lambda: BatchNormalization(momentum=1), ValueError, "momentum must be"),
        (lambda: BatchNormalization(epsilon=0), ValueError, "epsilon must be"),
        (lambda: LayerNormalization(center=1), TypeError, "center must be True or False"),
        (lambda: Activation("rely"), ValueError, "activation must be one of"),
        (lambda: Residual([]), ValueError, "layers must have at least one layer"),
        (lambda: Residual([Dense(3), 4]), TypeError, r"layers\[1\] must be a layer"),
        (lambda: Dense(3, use_bias="no"), TypeError, "use_bias must be True or False"),
        (lambda: Dense(3, trainable=None), TypeError, "trainable must be True or False"),
        (lambda: Dense(3, learning_rate_multiplier=0), ValueError, "learning_rate_multiplier"),
        (lambda: Dense(3, kernel_regularizer=0.1), TypeError, "kernel_regularizer must be None or"),
        (lambda: Dense(3, bias_regularizer="l2"), TypeError, "bias_regularizer must be None or"),
        (lambda: Dense(3, kernel_constraint=3.0), TypeError, "kernel_constraint must be None or"),
    ],
)
def test_layers_that_are_none(make_layer, error, match):
    with pytest.raises(error, match=match):
        make_layer()


def test_values_that_do_not_fit_name_the_layer():
    residual = Residual([Dense(4, kernel_initializer=np.ones((2, 2))), Dense(7)])
    net = Sequential([Dense(7), residual, Dense(3)])
    with pytest.raises(ValueError, match=r"layers\[1\]\.layers\[0\].*kernel_initializer"):
        net.build(N_INPUTS)
    assert not net.built


def test_layers_are_frozen_and_hashable():
    layers = [
        Dense(3),
        Dropout(0.5),
        BatchNormalization(),
        Residual([Dense(3)]),
        Activation("relu"),
    ]
    assert len({hash(layer) for layer in layers}) == len(layers)
    assert Residual([Dense(3)]) == Residual((Dense(3),))
    with pytest.raises(AttributeError):
        layers[1].rate = 0.1


def test_predictions_after_more_training_are_new():
    """What is folded follows the parameters, also in copies and in predictors made before."""
    net, X, y = make(STACKS["folded batch norm"], optimizer="adam")
    predictor = net.predictor(batch_size=len(X))
    for change in (
        lambda: net.fit(X, y, verbose=0),
        lambda: net.set_weights([w + 0.1 for w in net.get_weights()]),
        lambda: net.apply_gradients([np.ones_like(w) for w in net.get_weights()]),
    ):
        before = net.predict(X)
        change()
        expected, _ = twins.forward(twin_of(net.layers, net.get_weights()), X)
        assert (before != expected).any()
        np.testing.assert_allclose(net.predict(X), expected, rtol=1e-12)
        np.testing.assert_allclose(predictor(X), expected, rtol=1e-12)
        np.testing.assert_allclose(copy.deepcopy(net).predict(X), expected, rtol=1e-12)


@pytest.mark.parametrize("n_threads", ["1", "2"])
def test_ctrl_c_between_the_parts_of_a_batch(n_threads):
    """A batch that a norm cuts in two is dropped whole."""
    process = run_python(
        """
        import signal, sys, threading
        signal.signal(signal.SIGINT, signal.default_int_handler)  # it may come ignored
        import numpy as np
        from cymlp import Sequential
        from cymlp.layers import BatchNormalization, Dense
        rng = np.random.default_rng(0)
        X, y = rng.standard_normal((1000, 300)), rng.standard_normal((1000, 1))
        layers = [Dense(300, "relu"), BatchNormalization(), Dense(300, "relu"), Dense(1)]
        net = Sequential(layers, random_state=0)
        net.compile("sgd", "squared_error")
        options = dict(batch_size=len(X), shuffle=False, verbose=0)
        threading.Timer(1.0, lambda: signal.raise_signal(signal.SIGINT)).start()
        try:
            net.fit(X, y, epochs=10_000, n_threads=int(sys.argv[1]), **options)
        except KeyboardInterrupt:
            steps = net._network.iteration
            assert steps > 0
            other = Sequential(layers, random_state=0)
            other.compile("sgd", "squared_error")
            other.fit(X, y, epochs=steps, **options)
            assert all((a == b).all() for a, b in zip(net.get_weights(), other.get_weights()))
            print("stopped")
        """,
        n_threads,
    )
    assert process.stdout.strip() == "stopped", process.stderr


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "swish"])
@pytest.mark.parametrize("place", ["hidden", "last"])
def test_gradients_of_activations_by_finite_differences(activation, place):
    first, last = (activation, "tanh") if place == "hidden" else ("tanh", activation)
    net, X, y = make([Dense(9, first), Dense(3, last)], 6, seed=3)
    h = 1e-6
    weights = net.get_weights()
    for w, gradient in zip(weights, net.gradients(X, y), strict=True):
        for place in list(np.ndindex(w.shape))[::4]:
            value, losses = w[place], []
            for step in (h, -h):
                w[place] = value + step
                net.set_weights(weights)
                losses.append(net.evaluate(X, y)["loss"])
            w[place] = value
            slope = (losses[0] - losses[1]) / (2 * h)
            assert gradient[place] == pytest.approx(slope, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        ("poisson", "exponential"),
        ("gamma", "exponential"),
        ("tweedie", "exponential"),
        ("binary_cross_entropy", "sigmoid"),
        ("focal", "sigmoid"),
    ],
)
def test_fused_losses_equal_unfused_ones(loss, activation):
    """A function of one's own is never fused, whatever it computes."""
    nets = []
    for last in (activation, own(activation)):
        net, X, y = make([Dense(9, "tanh"), Dense(2, last)], loss=loss)
        nets.append(net)
    y = np.random.default_rng(1).uniform(0.1, 0.9, (len(X), 2))
    losses = [net.evaluate(X, y)["loss"] for net in nets]
    assert losses[0] == pytest.approx(losses[1], rel=1e-11)
    for a, b in zip(*(net.gradients(X, y) for net in nets), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    before = losses[0]
    nets[0].compile("adam", loss)
    nets[0].fit(X, y, epochs=20, verbose=0)
    assert nets[0].evaluate(X, y)["loss"] < before
