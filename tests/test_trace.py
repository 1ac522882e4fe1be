"""`cymlp.explain`: every array of a trace against the NumPy twin and the public API."""

import copy
import json
import pickle

import numpy as np
import pytest
from conftest import make_net, random_weights

import cymlp
from cymlp import Sequential, _reference
from cymlp.activations import Activation as CustomActivation
from cymlp.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    LayerNormalization,
    Residual,
)
from cymlp.optimizers import LBFGS, SGD, Adam, Lion, RMSprop, Rprop
from cymlp.regularizers import L2

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")

RTOL = {"float64": 1e-12, "float32": 2e-5}
ATOL = {"float64": 1e-13, "float32": 2e-6}

#: Hidden activations, output activation, loss.
NETWORKS = [
    (("relu",), "sigmoid", "squared_error"),
    (("tanh", "gelu"), "softmax", "cross_entropy"),
    (("sigmoid",), "softmax", "squared_error"),
    (("mish", "leaky_relu"), "identity", "log_cosh"),
    ((), "sigmoid", "binary_cross_entropy"),
    (("selu", "softsign"), "exponential", "poisson"),
    (("silu",), "tanh", "absolute_error"),
]


def targets_for(loss, rng, n, n_outputs):
    if loss == "cross_entropy":
        return rng.integers(0, n_outputs, n)
    if loss == "poisson":
        return rng.poisson(2, (n, n_outputs)).astype(float)
    return rng.random((n, n_outputs))


def data_and_net(hidden, last, loss, dtype, n=5):
    rng = np.random.default_rng(0)
    units = (*range(3, 3 + len(hidden)), 4)
    layers = list(zip(units, (*hidden, last), strict=True))
    net = make_net(6, layers, loss=loss, dtype=dtype, weights=random_weights(rng, 6, units))
    return rng.standard_normal((n, 6)), targets_for(loss, rng, n, 4), net


def stack():
    return [
        Dense(5, activation="gelu", kernel_regularizer=L2(0.1)),
        BatchNormalization(),
        Activation("tanh"),
        Dropout(0.3),
        Residual([Dense(5, activation="relu"), LayerNormalization(), Dense(4)]),
        Residual([Dense(4)]),
        Dense(3, activation="softmax"),
    ]


def trained_stack(dtype="float64"):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 3)), rng.integers(0, 3, 6)
    net = Sequential(stack(), n_inputs=3, dtype=dtype, random_state=0)
    net.compile(Adam(0.01), "cross_entropy")
    net.fit(X, y, epochs=5, batch_size=3, verbose=0)
    return X, y, net


@pytest.mark.parametrize(("hidden", "last", "loss"), NETWORKS, ids=str)
def test_every_array_is_the_twins(isa, dtype, hidden, last, loss):
    X, y, net = data_and_net(hidden, last, loss, dtype)
    trace = cymlp.explain(net, X, y)
    weights = [w.astype("float64") for w in net.get_weights()]
    names = (*hidden, last)
    alphas = [getattr(layer.activation, "alpha", 0.0) for layer in net.layers]
    below, sums, outputs = X.astype(dtype).astype("float64"), [], []
    for kernel, bias, name, alpha in zip(weights[::2], weights[1::2], names, alphas, strict=True):
        sums.append(below @ kernel + bias)
        outputs.append(below := _reference.activate(name, sums[-1], alpha))
    fused = _reference.FUSED.get((last, loss))
    read = sums[-1] if fused else outputs[-1]
    losses = _reference.loss_values(fused or loss, read, y)
    delta = _reference.loss_deltas(fused or loss, read, y)
    tolerance = {"rtol": RTOL[dtype], "atol": ATOL[dtype]}
    np.testing.assert_allclose(trace.losses, losses, **tolerance)
    for number in reversed(range(len(names))):
        layer, name, alpha = trace.layers[number], names[number], alphas[number]
        np.testing.assert_allclose(layer.pre_activation, sums[number], **tolerance)
        np.testing.assert_allclose(layer.activation, outputs[number], **tolerance)
        kept = sums[number] if _reference.keeps_z(name) else outputs[number]
        if fused and number == len(names) - 1:
            assert layer.activation_gradient is None
        else:
            np.testing.assert_allclose(layer.activation_gradient, delta, **tolerance)
            delta = _reference.activate_backward(name, kept, delta, alpha)
        if name == "softmax":
            assert layer.slope is None
        else:
            slope = _reference.activate_backward(name, kept, np.ones_like(kept), alpha)
            np.testing.assert_allclose(layer.slope, slope, **tolerance)
        np.testing.assert_allclose(layer.delta, delta, **tolerance)
        x = outputs[number - 1] if number else X.astype(dtype).astype("float64")
        singles = x[:, :, None] * delta[:, None, :]
        np.testing.assert_allclose(layer.weight_gradient_per_sample, singles, **tolerance)
        np.testing.assert_allclose(layer.bias_gradient_per_sample, delta, **tolerance)
        np.testing.assert_allclose(layer.weight_gradient, singles.mean(axis=0), **tolerance)
        np.testing.assert_allclose(layer.bias_gradient, delta.mean(axis=0), **tolerance)
        delta = delta @ weights[2 * number].T
    np.testing.assert_allclose(trace.input_gradient, delta, **tolerance)


def test_every_layer_is_the_twins():
    X, y, net = trained_stack()
    trace = net.explain(X, y)
    assert [layer.where for layer in trace.layers] == [
        "layers[0]",
        "layers[1]",
        "layers[2]",
        "layers[3]",
        "layers[4].layers[0]",
        "layers[4].layers[1]",
        "layers[4].layers[2]",
        "layers[4]",
        "layers[5].layers[0]",
        "layers[5]",
        "layers[6]",
    ]
    assert [(layer.source, layer.added) for layer in trace.layers] == [
        (-1, None),
        (0, None),
        (1, None),
        (2, None),
        (3, None),
        (4, None),
        (5, None),
        (6, 3),
        (7, None),
        (8, 7),
        (9, None),
    ]
    top = [layer for layer in trace.layers if layer.where.count("layers") == 1]
    for layer, outputs in zip(top, net.layer_outputs(X), strict=True):
        np.testing.assert_allclose(layer.activation, outputs, rtol=1e-13, atol=1e-14)
    for layer in trace.layers:
        if layer.added is not None:
            assert layer.kernel_source == layer.added
    # The way back of each residual layer splits: its two readers' derivatives add up.
    inner, block = trace.layers[8], trace.layers[9]
    through = inner.delta @ inner.parameters["kernel"].value.T
    np.testing.assert_allclose(
        trace.layers[7].activation_gradient, through + block.delta, rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("weight", [None, np.array([1.0, 2, 0, 0.5, 3, 1])], ids=["equal", "any"])
def test_totals_are_what_the_network_says(isa, dtype, weight):
    X, y, net = trained_stack(dtype)
    trace = net.explain(X, y, weight)
    assert trace.loss == net.evaluate(X, y, weight)["loss"]
    assert trace.penalty > 0
    np.testing.assert_array_equal(trace.input_gradient, net.input_gradients(X, y))
    np.testing.assert_allclose(
        np.average(trace.losses, weights=weight) + trace.penalty, trace.loss, rtol=RTOL[dtype]
    )
    found = {p.path: p for layer in trace.layers for p in layer.parameters.values()}
    assert list(found) and set(found) == set(net.parameter_names())
    for name, gradient, value in zip(
        net.parameter_names(), net.gradients(X, y, weight), net.get_weights(), strict=True
    ):
        parameter = found[name]
        np.testing.assert_array_equal(parameter.value, value)
        if name.endswith(("moving_mean", "moving_variance")):
            assert parameter.gradient is parameter.average is parameter.gradient_per_sample is None
            continue
        np.testing.assert_array_equal(parameter.gradient, gradient)
        np.testing.assert_allclose(
            np.average(parameter.gradient_per_sample, axis=0, weights=weight),
            parameter.average,
            rtol=RTOL[dtype],
            atol=ATOL[dtype],
        )
        penalty = 0.1 * value if name == "layers[0].kernel" else 0
        np.testing.assert_allclose(
            parameter.average + penalty, gradient, rtol=RTOL[dtype], atol=ATOL[dtype]
        )


@pytest.mark.parametrize("loss", ["squared_error", "binary_cross_entropy"])
def test_derivatives_of_a_sample_know_nothing_of_its_weight(dtype, loss):
    net = make_net(2, [(3, "tanh"), (1, "sigmoid")], loss=loss, dtype=dtype)
    X, y = [[1.0, 2.0], [0.5, -1.0]], [[1.0], [0.0]]
    plain, weighted = cymlp.explain(net, X, y), cymlp.explain(net, X, y, [1.0, 0.25])
    np.testing.assert_array_equal(weighted.losses, plain.losses)
    np.testing.assert_array_equal(weighted.input_gradient, plain.input_gradient)
    for one, other in zip(weighted.layers, plain.layers, strict=True):
        np.testing.assert_array_equal(one.delta, other.delta)
        np.testing.assert_array_equal(
            one.weight_gradient_per_sample, other.weight_gradient_per_sample
        )
        if other.activation_gradient is not None:
            np.testing.assert_array_equal(one.activation_gradient, other.activation_gradient)


def test_outputs_are_those_of_predict_bit_for_bit(isa, dtype):
    X, y, net = data_and_net(("relu", "tanh"), "softmax", "cross_entropy", dtype)
    trace = net.explain(X, y)
    np.testing.assert_array_equal(trace.layers[-1].activation, net.predict(X))
    for layer, gradient in zip(trace.layers, net.gradients(X, y)[::2], strict=True):
        np.testing.assert_array_equal(layer.weight_gradient, gradient)


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        (SGD(0.1), []),
        (SGD(0.1, momentum=0.9), ["velocity"]),
        (Adam(0.1), ["m", "v"]),
        (Adam(0.1, amsgrad=True), ["m", "v", "v_max"]),
        (RMSprop(0.1, centered=True, momentum=0.5), ["v", "m", "velocity"]),
        (Lion(0.1), ["m"]),
        (Rprop(0.1), ["gradient", "step_size"]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "-".join(value),
)
def test_the_step_is_the_optimizers(optimizer, slots):
    X, y, net = data_and_net(("relu",), "softmax", "cross_entropy", "float64")
    net.compile(optimizer, "cross_entropy")
    for _ in range(2):
        net.train_on_batch(X, y)
    trace = net.explain(X, y)
    assert trace.step == 3
    after = copy.copy(net)
    after.train_on_batch(X, y)
    parameters = [p for layer in trace.layers for p in layer.parameters.values()]
    for parameter, before, updated in zip(
        parameters, net.get_weights(), after.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(parameter.value, before)
        np.testing.assert_array_equal(parameter.updated, updated)
        assert list(parameter.state) == slots
    again = after.explain(X, y)
    for first, second in zip(
        parameters, [p for layer in again.layers for p in layer.parameters.values()], strict=True
    ):
        for slot in slots:
            np.testing.assert_array_equal(first.state[slot][1], second.state[slot][0])


def test_nothing_of_the_network_changes():
    X, y, net = trained_stack()
    other = copy.copy(net)
    net.explain(X, y)
    assert pickle.dumps(net) == pickle.dumps(other)
    for each in (net, other):
        each.fit(X, y, epochs=6, initial_epoch=5, batch_size=3, verbose=0)
    for a, b in zip(net.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_given_gradients_are_stepped_with():
    X, y, net = data_and_net(("relu",), "sigmoid", "squared_error", "float64")
    given = [np.full_like(w, 2.0) for w in net.get_weights()]
    trace = net.explain(X, y, gradients=given)
    assert trace.are_gradients_given
    for layer in trace.layers:
        for parameter in layer.parameters.values():
            np.testing.assert_array_equal(parameter.gradient, 2)
            np.testing.assert_array_equal(parameter.updated, parameter.value - 0.02)


def test_without_targets_there_is_the_forward_pass():
    net = Sequential(stack(), n_inputs=3, dtype="float64", random_state=0)
    X = np.random.default_rng(0).standard_normal((2, 3))
    trace = net.explain(X)
    assert trace.targets is trace.losses is trace.loss is trace.input_gradient is None
    assert trace.optimizer is trace.loss_function is None
    for layer in trace.layers:
        assert layer.delta is layer.activation_gradient is None
        for parameter in layer.parameters.values():
            assert parameter.gradient is parameter.updated is None
    np.testing.assert_allclose(trace.layers[-1].activation, net.predict(X), rtol=1e-12)
    for explained in (trace.to_text(), trace.to_latex(), trace.to_markdown(), trace.to_json()):
        assert "ackward" not in explained


def test_one_sample_is_a_batch_of_one():
    X, y, net = data_and_net(("relu",), "softmax", "cross_entropy", "float64")
    one, row = net.explain(X[0], y[0]), net.explain(X[:1], y[:1])
    assert one.to_dict() == row.to_dict() == net.explain(X[0].tolist(), int(y[0])).to_dict()
    X, y, net = data_and_net(("relu",), "sigmoid", "squared_error", "float64")
    assert net.explain(X[0], y[0]).to_dict() == net.explain(X[:1], y[:1]).to_dict()


def test_inputs_are_scaled_and_filled_in():
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 6)).astype(np.uint8) * (rng.random((3, 6)) < 0.5)
    net = Sequential([Dense(2)], n_inputs=6, random_state=0, input_scale=1 / 255)
    net.compile("sgd", "squared_error")
    y = rng.random((3, 2))
    trace = net.explain(pixels, y)
    assert trace.inputs.dtype == np.float32
    np.testing.assert_allclose(trace.inputs, pixels / 255, rtol=1e-6)
    np.testing.assert_array_equal(trace.layers[0].activation, net.predict(pixels))
    np.testing.assert_allclose(
        trace.input_gradient / 255, net.input_gradients(pixels, y), rtol=1e-6
    )
    from_sparse = net.explain(sparse.csr_array(pixels.astype("float32")), y)
    np.testing.assert_array_equal(from_sparse.inputs, trace.inputs)


def test_what_is_not_trainable_stays():
    net = Sequential(
        [Dense(2, activation="tanh", trainable=False), Dense(1)], n_inputs=2, random_state=0
    )
    net.compile(SGD(0.1, momentum=0.9), "squared_error")
    trace = net.explain([1.0, 2.0], [3.0])
    frozen, free = (layer.parameters["kernel"] for layer in trace.layers)
    assert not frozen.is_trainable and frozen.state == {}
    np.testing.assert_array_equal(frozen.updated, frozen.value)
    assert free.is_trainable and (free.updated != free.value).all()
    assert "Not trainable" in trace.to_text()


def test_lbfgs_takes_no_single_step():
    net = make_net(2, [(1, "identity")], optimizer=LBFGS())
    trace = net.explain([1.0, 2.0], [3.0])
    assert trace.optimizer is None and trace.loss is not None
    assert trace.layers[0].parameters["kernel"].updated is None
    assert "Update" not in trace.to_text()


def test_gradients_that_overflow_are_shown():
    net = make_net(1, [(1, "exponential")], dtype="float32")
    net.set_weights([[[80.0]], [0.0]])
    trace = net.explain([1.0], [0.0])
    assert np.isinf(trace.layers[0].weight_gradient).all()
    assert "inf" in trace.to_text() and len(trace.to_html()) > 1000
    json.loads(trace.to_json())


def test_own_functions_are_explained():
    square = CustomActivation(lambda z: z**2, lambda z: 2 * z, name="square")

    def quartic(y_true, y_pred):
        error = y_pred - y_true
        return (error**4).sum(axis=1), 4 * error**3

    net = Sequential([Dense(2, activation=square), Dense(1)], n_inputs=2, dtype="float64")
    net.compile(SGD(0.01), quartic)
    trace = net.explain([1.0, 2.0], [3.0])
    layer = trace.layers[0]
    np.testing.assert_allclose(layer.slope, 2 * layer.pre_activation)
    np.testing.assert_allclose(layer.delta, layer.activation_gradient * layer.slope)
    assert "square(J1)" in trace.to_text()


def test_names():
    net = make_net(2, [(2, "relu"), (1, "sigmoid")])
    default = net.explain([1.0, 2.0], [1.0])
    assert default.input_names == ("I1", "I2")
    assert [layer.names for layer in default.layers] == [("J1", "J2"), ("K1",)]
    names = {"inputs": ["width", "height"], "layers[0]": np.array(["a", "b"]), "outputs": ["p"]}
    trace = net.explain([1.0, 2.0], [1.0], names=names)
    assert trace.input_names == ("width", "height")
    assert [layer.output_names for layer in trace.layers] == [
        ("relu(a)", "relu(b)"),
        ("sigmoid(p)",),
    ]
    assert "w(width,a)" in trace.to_text() and "dL/dw(a,p)" in trace.to_text()


def test_names_through_all_kinds_of_layers():
    X, y, net = trained_stack()
    trace = net.explain(X, y)
    assert [layer.output_names[0] for layer in trace.layers] == [
        "gelu(J1)",
        "norm(gelu(J1))",
        "tanh(norm(gelu(J1)))",
        "tanh(norm(gelu(J1)))",
        "relu(K1)",
        "norm(relu(K1))",
        "M1",
        "N1",
        "P1",
        "Q1",
        "softmax(R1)",
    ]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        (([1.0],), {}, ValueError, "X must have 2 columns"),
        (([[1.0, 2]], [1.0, 2]), {}, ValueError, "y must have as many rows"),
        (([1.0, 2],), {"sample_weight": [1.0]}, ValueError, "sample_weight needs y"),
        (([1.0, 2],), {"gradients": []}, ValueError, "gradients needs y"),
        (([1.0, 2], [1.0]), {"gradients": []}, ValueError, "gradients must have 2 arrays"),
        (([1.0, 2],), {"names": ["a"]}, TypeError, "names must be a dict"),
        (([1.0, 2],), {"names": {"inputs": ["a"]}}, ValueError, r"names\['inputs'\] must be"),
        (([1.0, 2],), {"names": {"inputs": "ab"}}, ValueError, r"names\['inputs'\] must be"),
        (([1.0, 2],), {"names": {"layers[7]": ["a"]}}, ValueError, "names must have keys among"),
    ],
)
def test_bad_arguments(arguments, options, error, match):
    net = make_net(2, [(1, "identity")])
    with pytest.raises(error, match=match):
        net.explain(*arguments, **options)


def test_networks_that_cannot_be_explained():
    with pytest.raises(TypeError, match="net must be a Sequential or an estimator, got int"):
        cymlp.explain(3, [1.0])
    with pytest.raises(ValueError, match="explain needs a built network"):
        cymlp.explain(Sequential([Dense(1)]), [1.0])
    with pytest.raises(ValueError, match="explain needs a loss and an optimizer"):
        cymlp.explain(Sequential([Dense(1)], n_inputs=1), [1.0], [1.0])
    wide = Sequential([Dense(1000)], n_inputs=1000)
    with pytest.raises(ValueError, match="X must be a small batch, got 100 samples"):
        cymlp.explain(wide, np.zeros((100, 1000)))


def test_outputs_are_the_units_that_the_last_layer_shows():
    net = Sequential([Dense(2), Activation("softmax")], n_inputs=1, random_state=0)
    trace = net.explain([1.0], names={"outputs": ["no", "yes"]})
    assert trace.layers[-1].output_names == ("softmax(no)", "softmax(yes)")
    with pytest.raises(ValueError, match="must not have both 'outputs' and"):
        net.explain([1.0], names={"outputs": ["no", "yes"], "layers[0]": ["a", "b"]})
    with pytest.raises(ValueError, match="names must have keys among"):
        net.explain([1.0], names={5: [1], "zz": [2]})


def test_names_that_do_not_print_or_that_units_have():
    net = make_net(3, [(1, "identity")])
    trace = net.explain([1.0, 2.0, 3.0], names={"inputs": ["J1", "a\n\n b", "\x1b[2J\ud800"]})
    assert trace.input_names == ("J1", "a b", "\\x1b[2J\\ud800")
    assert trace.layers[0].names == ("K1",)
    for text in (trace.to_text(), trace.to_latex(), trace.to_markdown(), trace.to_html()):
        assert "\x1b" not in text and text.encode()


def test_too_many_samples_are_refused_at_once():
    net = make_net(1, [(1, "relu")])
    with pytest.raises(ValueError, match="at most 4096 samples, got 4097"):
        net.explain(np.ones((4097, 1)))
    net.compile(LBFGS(), "squared_error")
    with pytest.raises(ValueError, match="LBFGS"):
        net.explain([1.0], [1.0], gradients=[[[1.0]], [0.0]])


@pytest.mark.parametrize("digits", [0, 18, 2.5])
def test_bad_digits(digits):
    trace = make_net(1, [(1, "identity")]).explain([1.0])
    for write in (trace.to_text, trace.to_markdown, trace.to_latex):
        with pytest.raises((TypeError, ValueError), match="digits must be"):
            write(digits=digits)
        with pytest.raises(ValueError, match="most must be"):
            write(most=0)


def test_json_has_everything(tmp_path):
    X, y, net = trained_stack()
    trace = net.explain(X, y)
    path = tmp_path / "trace.json"
    text = trace.to_json(path)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found == json.loads(text) == trace.to_dict()
    assert found["format"] == "cymlp trace 1"
    for layer, each in zip(trace.layers, found["layers"], strict=True):
        np.testing.assert_array_equal(each["activation"], layer.activation)
        np.testing.assert_array_equal(each["delta"], layer.delta)
        for name, parameter in layer.parameters.items():
            np.testing.assert_array_equal(each["parameters"][name]["value"], parameter.value)
    assert found["optimizer"]["name"] == "adam"
    assert found["optimizer"]["settings"]["learning_rate"] == 0.01
    assert found["loss_function"] == {
        "name": "cross_entropy",
        "settings": {"label_smoothing": 0.0, "class_weight": None},
    }


# ---------------------------------------------------------------------- estimators


def test_classifiers_explain_themselves():
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_iris

    from cymlp import MLPClassifier

    X, y = load_iris(return_X_y=True)
    labels = np.array(["setosa", "versicolor", "virginica"])[y]
    clf = MLPClassifier((4,), random_state=0, max_iter=30).fit(X, labels)
    trace = clf.explain(X[:3], labels[:3])
    np.testing.assert_array_equal(trace.layers[-1].activation, clf.predict_proba(X[:3]))
    np.testing.assert_array_equal(trace.targets, np.eye(3)[y[:3]])
    assert trace.layers[-1].output_names[1] == "softmax(class_versicolor)"
    assert cymlp.explain(clf, X[:3], labels[:3]).to_dict() == trace.to_dict()
    assert clf.explain(X[0], "setosa").loss == pytest.approx(trace.losses[0], abs=1e-3)
    assert clf.explain(X[:3]).loss is None
    with pytest.raises(ValueError, match="classes not in"):
        clf.explain(X[:1], ["oak"])
    binary = MLPClassifier((4,), random_state=0, max_iter=30).fit(X, y == 0)
    assert binary.explain(X[:2], y[:2] == 0).layers[-1].output_names == ("sigmoid(class_True)",)


def test_estimators_weigh_classes_and_have_a_step_after_conversion():
    pytest.importorskip("sklearn")
    from sklearn import neural_network
    from sklearn.datasets import make_multilabel_classification
    from sklearn.exceptions import NotFittedError

    from cymlp import MLPClassifier, MLPRegressor

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 3, 40)
    clf = MLPClassifier((4,), class_weight={0: 5.0}, max_iter=5, random_state=0).fit(X, y)
    weight = clf.explain(X[:4], y[:4]).sample_weight
    np.testing.assert_array_equal(weight, np.where(y[:4] == 0, 5.0, 1.0))
    theirs = neural_network.MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0)
    theirs.fit(X, X[:, :2])
    ours = MLPRegressor.from_sklearn(theirs)
    trace = ours.explain(X[:2], X[:2, :2])
    assert trace.optimizer.name == "adam"
    np.testing.assert_array_equal(trace.layers[-1].activation, ours.predict(X[:2]))
    X, y = make_multilabel_classification(n_features=4, n_classes=3, random_state=0)
    clf = MLPClassifier((4,), max_iter=5, random_state=0).fit(X, y)
    np.testing.assert_array_equal(clf.explain(X[:2], y[:2]).targets, y[:2])
    with pytest.raises(NotFittedError):
        MLPClassifier().explain(X)


def test_estimators_explain_quantiles_balanced_classes_and_rows_of_frames():
    pytest.importorskip("sklearn")
    from cymlp import MLPClassifier, MLPRegressor

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 3)), (np.arange(60) % 6 == 0).astype(int)
    levels = MLPRegressor(
        hidden_layer_sizes=(4,), loss="quantile", quantile=[0.1, 0.5, 0.9], max_iter=3
    )
    levels.set_params(random_state=0).fit(X, X[:, 0])
    np.testing.assert_array_equal(
        np.sort(levels.explain(X[:2], X[:2, 0]).layers[-1].activation),
        levels.predict_quantiles(X[:2]),
    )
    assert levels.explain(X[0], X[0, 0]).loss > 0
    clf = MLPClassifier((4,), class_weight="balanced", max_iter=3, random_state=0).fit(X, y)
    np.testing.assert_allclose(clf.explain(X[:3], y[:3]).sample_weight, [3.0, 0.6, 0.6])
    np.testing.assert_allclose(clf.explain(X[1:3], y[1:3]).sample_weight, [0.6, 0.6])
    assert clf.explain(X[0], [1]).loss == clf.explain(X[0], 1).loss
    never = MLPClassifier((4,), max_iter=3, random_state=0).fit(X, y)
    never.class_weight = "balanced"
    with pytest.raises(ValueError, match="class_weight='balanced' must have been fitted with"):
        never.explain(X[0], 1)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    clf.fit(frame, y)
    assert clf.explain(frame.iloc[0], y[0]).input_names == ("a", "b", "c")
