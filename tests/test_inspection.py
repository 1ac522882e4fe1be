"""Looking into a network: derivatives by the inputs, the table of layers, names of parameters."""

import numpy as np
import pytest
from conftest import assert_bitwise_equal, assert_unchanged_by, make_net
from test_layers import N_INPUTS, N_OUTPUTS, STACKS, make, torch_twin, twin_of

from cymlp import Sequential
from cymlp import _reference_layers as twins
from cymlp._reference import loss_deltas
from cymlp.activations import Activation as PythonActivation
from cymlp.callbacks import HistogramLogger
from cymlp.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    LayerNormalization,
    Residual,
)
from cymlp.losses import CustomLoss

#: Stacks that finite differences can be taken of: ReLU has kinks.
SMOOTH = [name for name in STACKS if "ReLU" not in repr(STACKS[name])]


def twin_jacobian(net, X):
    """Return the Jacobian by the twins, in float64."""
    twin = twin_of(net.layers, [w.astype("float64") for w in net.get_weights()])
    out, tape = twins.forward(twin, X.astype("float64"))
    rows = []
    for j in range(out.shape[1]):
        delta = np.zeros_like(out)
        delta[:, j] = 1
        rows.append(twins.backward(tape, delta)[0])
    return np.stack(rows, axis=1)


def twin_input_gradients(net, X, y):
    twin = twin_of(net.layers, [w.astype("float64") for w in net.get_weights()])
    out, tape = twins.forward(twin, X.astype("float64"))
    return twins.backward(tape, loss_deltas("squared_error", out, y))[0]


# ------------------------------------------------------------------------ derivatives by the inputs


@pytest.mark.parametrize("n_samples", [1, 2, 111])
@pytest.mark.parametrize("name", STACKS)
def test_against_the_twins(isa, name, n_samples):
    net, X, y = make(STACKS[name], n_samples)
    jacobian = twin_jacobian(net, X)
    close = {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(net.jacobian(X), jacobian, **close)
    for j in range(net.n_outputs):
        np.testing.assert_allclose(net.input_gradients(X, output=j), jacobian[:, j], **close)
    expected = twin_input_gradients(net, X, y)
    np.testing.assert_allclose(net.input_gradients(X, y), expected, **close)


@pytest.mark.parametrize("name", STACKS)
def test_in_single_precision(isa, name):
    net, X, y = make(STACKS[name], 60, dtype="float32")
    jacobian, gradients = net.jacobian(X), net.input_gradients(X, y)
    assert jacobian.dtype == gradients.dtype == "float32"
    expected = twin_jacobian(net, X)
    np.testing.assert_allclose(jacobian, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())
    expected = twin_input_gradients(net, X, y)
    np.testing.assert_allclose(gradients, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())


@pytest.mark.parametrize("name", SMOOTH)
def test_by_finite_differences(name):
    """Of what `predict` returns, and of each sample's loss as `evaluate` returns it."""
    net, X, y = make(STACKS[name], 3)
    jacobian, gradients = net.jacobian(X), net.input_gradients(X, y)
    assert jacobian.shape == (3, net.n_outputs, N_INPUTS)
    h = 1e-5
    for i in range(N_INPUTS):
        up, down = X.copy(), X.copy()
        up[:, i] += h
        down[:, i] -= h
        slopes = (net.predict(up) - net.predict(down)) / (2 * h)
        np.testing.assert_allclose(jacobian[:, :, i], slopes, rtol=1e-6, atol=1e-8)
        for b in range(3):
            rows = slice(b, b + 1)
            losses = [net.evaluate(x[rows], y[rows])["loss"] for x in (up, down)]
            slope = (losses[0] - losses[1]) / (2 * h)
            assert gradients[b, i] == pytest.approx(slope, rel=1e-6, abs=1e-8)


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
    torch = pytest.importorskip("torch")
    net, X, y = make(stack, 20)
    module = torch_twin(torch, net)[0].eval()
    close = {"rtol": 1e-8, "atol": 1e-11}
    inputs = torch.tensor(X, requires_grad=True)
    loss = 0.5 * ((module(inputs) - torch.tensor(y)) ** 2).sum()
    (expected,) = torch.autograd.grad(loss, inputs)
    np.testing.assert_allclose(net.input_gradients(X, y), expected.numpy(), **close)
    rows = [torch.autograd.functional.jacobian(module, row[None]) for row in inputs.detach()]
    expected = np.stack([row[0, :, 0].numpy() for row in rows])
    np.testing.assert_allclose(net.jacobian(X), expected, **close)


@pytest.mark.parametrize(
    ("loss", "last"),
    [
        ("cross_entropy", "softmax"),
        ("cross_entropy", "sigmoid"),
        ("binary_cross_entropy", "sigmoid"),
        ("poisson", "exponential"),
        ("log_cosh", "tanh"),
    ],
)
def test_of_other_losses(isa, loss, last):
    """Those that are computed from the weighted sums too, in which outputs are not made."""
    rng = np.random.default_rng(0)
    net, X, _ = make([Dense(8, "tanh"), Dense(3, last)], 4, loss=loss)
    y = {"cross_entropy": rng.dirichlet(np.ones(3), 4)}.get(loss, rng.uniform(0.1, 0.9, (4, 3)))
    gradients, jacobian = net.input_gradients(X, y), net.jacobian(X)
    np.testing.assert_allclose(jacobian, twin_jacobian(net, X), rtol=1e-10, atol=1e-12)
    h = 1e-6
    for b, i in np.ndindex(4, N_INPUTS):
        ends = [X[b : b + 1].copy(), X[b : b + 1].copy()]
        ends[0][0, i] += h
        ends[1][0, i] -= h
        high, low = (net.evaluate(x, y[b : b + 1])["loss"] for x in ends)
        assert gradients[b, i] == pytest.approx((high - low) / (2 * h), rel=1e-5, abs=1e-7)
    if loss == "cross_entropy":
        labels = np.array([0, 2, 1, 2])
        one_hot = np.eye(3)[labels]
        expected = net.input_gradients(X, one_hot)
        np.testing.assert_allclose(net.input_gradients(X, labels), expected, rtol=1e-12)


def test_of_functions_that_users_wrote():
    def squares(y_true, y_pred):
        return 0.5 * ((y_pred - y_true) ** 2).sum(axis=1), y_pred - y_true

    cube = PythonActivation(lambda z: z**3, lambda z: 3 * z**2)
    net, X, y = make([Dense(5, "tanh"), Dense(3, cube)], 30, loss=CustomLoss(squares))
    net_twin, *_ = make([Dense(5, "tanh"), Dense(3)], 30)
    net_twin.set_weights(net.get_weights())
    z = net_twin.predict(X)
    jacobian = net_twin.jacobian(X) * 3 * z[:, :, None] ** 2
    np.testing.assert_allclose(net.jacobian(X), jacobian, rtol=1e-11, atol=1e-13)
    expected = np.einsum("bo,boi->bi", z**3 - y, jacobian)
    np.testing.assert_allclose(net.input_gradients(X, y), expected, rtol=1e-10, atol=1e-12)


def test_of_more_samples_than_the_core_takes_at_a_time():
    net, X, y = make(STACKS["residual"], 9001, dtype="float32")
    gradients, jacobian = net.input_gradients(X, y), net.jacobian(X)
    assert gradients.shape == (9001, N_INPUTS) and jacobian.shape == (9001, 3, N_INPUTS)
    for rows in (slice(0, 50), slice(4080, 4110), slice(8180, 8200), slice(8990, 9001)):
        close = {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(gradients[rows], net.input_gradients(X[rows], y[rows]), **close)
        np.testing.assert_allclose(jacobian[rows], net.jacobian(X[rows]), **close)


def test_each_sample_stands_alone():
    """Neither how many there are nor penalties play a part."""
    net, X, y = make(STACKS["two batch norms"], 200)
    one_by_one = [net.input_gradients(X[b : b + 1], y[b : b + 1])[0] for b in range(20)]
    np.testing.assert_allclose(net.input_gradients(X, y)[:20], one_by_one, rtol=1e-11, atol=1e-13)
    penalized = make_net(N_INPUTS, [(3, "tanh")], l2=[(0.5, False)])
    plain = make_net(N_INPUTS, [(3, "tanh")], weights=penalized.get_weights())
    assert_bitwise_equal(penalized.input_gradients(X, y), plain.input_gradients(X, y))


@pytest.mark.parametrize("name", ["activation behind dense", "layer norm", "residual projected"])
def test_form_of_the_inputs_plays_no_part(name):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(4)
    # Mostly zeros, and more than the core takes at a time.
    X = (rng.integers(0, 256, (4200, N_INPUTS)) * (rng.random((4200, N_INPUTS)) < 0.2)).astype("u1")
    scaled = Sequential(
        STACKS[name], n_inputs=N_INPUTS, dtype="float64", random_state=0, input_scale=1 / 255
    )
    scaled.compile("sgd", "squared_error")
    plain, *_ = make(STACKS[name])
    plain.set_weights(scaled.get_weights())
    y = rng.standard_normal((4200, scaled.n_outputs))
    expected = plain.input_gradients(X / 255, y) / 255, plain.jacobian(X / 255) / 255
    for form in (X, X.astype("float64"), X.astype(">i4")[:, ::1], scipy_sparse.csr_matrix(X)):
        for actual, by_plain in zip(
            (scaled.input_gradients(form, y), scaled.jacobian(form)), expected, strict=True
        ):
            np.testing.assert_allclose(actual, by_plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_play_no_part(dtype):
    net = make_net(150, [(400, "tanh"), (300, "relu"), (3, "identity")], dtype=dtype)
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((500, 150)), rng.standard_normal((500, 3))
    alone = [net.input_gradients(X, y, n_threads=1), net.jacobian(X, n_threads=1)]
    for n in (2, 3):
        team = [net.input_gradients(X, y, n_threads=n), net.jacobian(X, n_threads=n)]
        assert_bitwise_equal(team, alone)


def test_they_are_those_of_prediction_and_change_nothing():
    stack = [Dense(9), BatchNormalization(), Activation("tanh"), Dropout(0.5), Dense(N_OUTPUTS)]
    net, X, y = make(stack, optimizer="adam")
    net.fit(X, y, epochs=2, verbose=0)
    np.testing.assert_allclose(net.jacobian(X), twin_jacobian(net, X), rtol=1e-10, atol=1e-12)

    def look():
        net.input_gradients(X, y)
        net.input_gradients(X, output=1)
        net.jacobian(X)

    assert_unchanged_by(net, look, X, y)


def test_a_net_that_is_not_compiled_has_derivatives_of_its_outputs():
    net = Sequential([Dense(4, "softmax")], n_inputs=3, dtype="float64", random_state=0)
    X = np.random.default_rng(0).standard_normal((5, 3))
    y = net.predict(X)
    kernel = net.get_weights()[0]
    expected = np.einsum("bj,jk,ik->bji", y, np.eye(4), kernel)
    expected -= np.einsum("bj,bk,ik->bji", y, y, kernel)
    np.testing.assert_allclose(net.jacobian(X), expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(net.input_gradients(X, output=2), expected[:, 2], atol=1e-13)


LOOKS = {
    "y": lambda net, X, **n: net.input_gradients(X, np.zeros((len(X), 3)), **n),
    "output": lambda net, X, **n: net.input_gradients(X, output=0, **n),
    "jacobian": lambda net, X, **n: net.jacobian(X, **n),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    "x",
    [
        np.ones((6, N_INPUTS + 1)),
        np.ones(N_INPUTS),
        np.ones((0, N_INPUTS)),
        np.full((6, N_INPUTS), np.nan),
        np.full((6, N_INPUTS), np.inf),
        np.full((6, N_INPUTS), "a"),
    ],
    ids=["too wide", "one dimension", "no samples", "NaN", "infinity", "strings"],
)
def test_bad_X(look, x):
    net, X, y = make(STACKS["residual"])

    def attempt():
        with pytest.raises((ValueError, TypeError), match=r"\bX\b"):
            LOOKS[look](net, x)

    assert_unchanged_by(net, attempt, X, y)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({}, ValueError, "needs either y, .* or output, .*; got neither"),
        ({"y": np.zeros((40, 3)), "output": 0}, ValueError, "either y, .*; got both"),
        (
            {"output": 3},
            ValueError,
            "output must be .* at least 0 and at most 2, got 3",
        ),
        ({"output": -1}, ValueError, "^output must be an integer of at least 0 and at most 2"),
        ({"output": 1.0}, TypeError, "^output must be an integer"),
        ({"output": True}, TypeError, "^output must be an integer"),
        ({"output": [0, 1]}, TypeError, "^output must be an integer"),
        ({"y": np.zeros((40, 2))}, ValueError, r"^y must"),
        ({"y": np.zeros((39, 3))}, ValueError, r"^y must"),
        ({"y": np.full((40, 3), np.nan)}, ValueError, r"^y must"),
        ({"output": 0, "n_threads": 0}, ValueError, "^n_threads must be"),
    ],
    ids=str,
)
def test_bad_arguments(arguments, error, match):
    net, X, y = make(STACKS["residual"])

    def attempt():
        with pytest.raises(error, match=match):
            net.input_gradients(X, **arguments)

    assert_unchanged_by(net, attempt, X, y)


def test_the_only_output_has_a_range_too():
    net = Sequential([Dense(1)], n_inputs=2)
    with pytest.raises(ValueError, match="output must be .* at least 0 and at most 0, got 1"):
        net.input_gradients([[1.0, 2.0]], output=1)


@pytest.mark.parametrize("look", LOOKS)
def test_a_net_that_is_not_built(look):
    net = Sequential([Dense(3)])
    net.compile("sgd", "squared_error")
    with pytest.raises(ValueError, match="(input_gradients|jacobian) needs a built network"):
        LOOKS[look](net, np.ones((2, 4)))
    assert not net.built


def test_the_loss_of_a_net_that_is_not_compiled():
    net = Sequential([Dense(3)], n_inputs=4)
    with pytest.raises(ValueError, match="input_gradients needs a loss and an optimizer"):
        LOOKS["y"](net, np.ones((2, 4)))


# -------------------------------------------------------------------------------------- the summary


def table_of(net):
    """Return the rows of a summary as lists of words, and what stands below them."""
    lines = []
    assert net.summary(lines.append) is None
    rows = [line.replace("(n, ", "(n,").split() for line in lines[1:]]
    rows = [[*row[:-3], *(cell.replace(",", "") for cell in row[-3:])] for row in rows]
    n_rows = next(i for i, line in enumerate(lines[1:]) if "parameters," in line)
    assert len({len(line) for line in lines[: n_rows + 1]}) == 1  # columns stand below each other
    return rows[:n_rows], lines[n_rows + 1 :]


#: Every layer, with inputs of 7: a projection, frozen layers and moving averages.
EVERY_LAYER = [
    Residual(
        [
            LayerNormalization(center=False),
            Dense(11, "tanh", use_bias=False),
            BatchNormalization(trainable=False),
            Residual([Activation("gelu")]),
            Dense(9, trainable=False),
        ]
    ),
    BatchNormalization(scale=False),
    Dropout(0.2),
    Dense(3),
    Activation("softmax"),
]


def test_summary_by_hand():
    rows, below = table_of(Sequential(EVERY_LAYER, n_inputs=7, dtype="float64"))
    assert rows == [
        ["0", "residual", "(n,9)", "63", "504", str(9 + 2 * 7 * 9)],
        ["0.0", "layer_normalization", "(n,7)", "7", "56", str(6 * 7)],
        ["0.1", "dense", "tanh", "(n,11)", "77", "616", str(2 * 7 * 11)],
        ["0.2", "batch_normalization", "(n,11)", "44", "352", str(2 * 11)],
        ["0.3", "residual", "(n,11)", "0", "0", "11"],
        ["0.3.0", "activation", "gelu", "(n,11)", "0", "0", "0"],
        ["0.4", "dense", "identity", "(n,9)", "108", "864", str(2 * 11 * 9)],
        ["1", "batch_normalization", "(n,9)", "27", "216", str(2 * 9)],
        ["2", "dropout", "(n,9)", "0", "0", "0"],
        ["3", "dense", "identity", "(n,3)", "30", "240", str(2 * 9 * 3)],
        ["4", "activation", "softmax", "(n,3)", "0", "0", "0"],
    ]
    n_trainable = 63 + 7 + 77 + 9 + 30
    n_frozen = 44 + 108 + 18
    n_flops = 135 + 42 + 154 + 22 + 11 + 198 + 18 + 54
    assert below == [
        f"{n_trainable + n_frozen} parameters, 2.8 KiB in float64; {n_flops} FLOPs per sample",
        f"trainable: {n_trainable}, not trainable: {n_frozen}",
    ]


@pytest.mark.parametrize("name", STACKS)
def test_summary_adds_up(name):
    net, *_ = make(STACKS[name])
    rows, below = table_of(net)
    assert sum(int(row[-3]) for row in rows) == net.n_parameters
    assert sum(int(row[-2]) for row in rows) == sum(w.nbytes for w in net.get_weights())
    assert below[0].startswith(f"{net.n_parameters} parameters")
    assert f"; {sum(int(row[-1]) for row in rows):,} FLOPs" in below[0]
    outputs = [row[-4] for row in rows if "." not in row[0]]
    assert outputs == [f"(n,{y.shape[1]})" for y in net.layer_outputs(np.ones((1, N_INPUTS)))]


def test_summary_before_building_says_what_is_known():
    rows, below = table_of(Sequential(EVERY_LAYER))
    assert rows == [
        ["0", "residual", "(n,9)", "?", "?", "?"],
        ["0.0", "layer_normalization", "(n,?)", "?", "?", "?"],
        ["0.1", "dense", "tanh", "(n,11)", "?", "?", "?"],
        ["0.2", "batch_normalization", "(n,11)", "44", "176", "22"],
        ["0.3", "residual", "(n,11)", "0", "0", "11"],
        ["0.3.0", "activation", "gelu", "(n,11)", "0", "0", "0"],
        ["0.4", "dense", "identity", "(n,9)", "108", "432", "198"],
        ["1", "batch_normalization", "(n,9)", "27", "108", "18"],
        ["2", "dropout", "(n,9)", "0", "0", "0"],
        ["3", "dense", "identity", "(n,3)", "30", "120", "54"],
        ["4", "activation", "softmax", "(n,3)", "0", "0", "0"],
    ]
    assert below == [
        "? parameters, ? KiB in float32; ? FLOPs per sample",
        "trainable: ?, not trainable: 170",
        "not built: the number of inputs is not known yet",
    ]
    # A projection may or may not be, whichever width stands behind it.
    for units in (1, 2, 3):
        rows, _ = table_of(Sequential([Residual([Dense(units)])]))
        assert rows[0] == ["0", "residual", f"(n,{units})", "?", "?", "?"]


def test_summary_aligns_and_separates_thousands(capsys):
    net = Sequential([Dense(1000, "relu"), Dense(10)], n_inputs=784)
    net.summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "layer  kind   activation  output     parameters      bytes      FLOPs",
        "0      dense  relu        (n, 1000)     785,000  3,140,000  1,568,000",
        "1      dense  identity    (n, 10)        10,010     40,040     20,000",
    ]


# -------------------------------------------------------------------------------- parameters' names


def test_parameter_names():
    net = Sequential(EVERY_LAYER, n_inputs=7)
    first, norm = "layers[0].layers", ("gamma", "beta", "moving_mean", "moving_variance")
    assert net.parameter_names() == [
        f"{first}[0].gamma",
        f"{first}[1].kernel",
        *(f"{first}[2].{name}" for name in norm),
        f"{first}[4].kernel",
        f"{first}[4].bias",
        "layers[0].kernel",
        *(f"layers[1].{name}" for name in norm[1:]),
        "layers[3].kernel",
        "layers[3].bias",
    ]
    shapes = [w.shape for w in net.get_weights()]
    assert len(shapes) == len(set(net.parameter_names()))
    by_name = dict(zip(net.parameter_names(), shapes, strict=True))
    assert by_name["layers[0].kernel"] == (7, 9)
    assert by_name["layers[0].layers[1].kernel"] == (7, 11)
    assert by_name["layers[1].moving_mean"] == (9,)
    with pytest.raises(ValueError, match="parameter_names needs a built network"):
        Sequential([Dense(1)]).parameter_names()


@pytest.mark.parametrize("name", STACKS)
def test_histograms_have_the_names_of_what_they_count(name):
    net, X, y = make(STACKS[name])
    logger = HistogramLogger(bins=5, activations_of=X[:10])
    histograms = net.fit(X, y, callbacks=[logger], verbose=0).histograms
    counted = dict(zip(net.parameter_names(), net.get_weights(), strict=True))
    for i, output in enumerate(net.layer_outputs(X[:10])):
        counted[f"layers[{i}].output"] = output
    assert list(histograms) == list(counted)
    for name, array in counted.items():
        ((epoch, counts, edges),) = histograms[name]
        expected, places = np.histogram(array, 5)
        assert epoch == 0
        np.testing.assert_array_equal(counts, expected)
        np.testing.assert_array_equal(edges, places)
