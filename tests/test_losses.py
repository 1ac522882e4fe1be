"""Losses as users see them: specs, targets, the values and slopes of PyTorch, training, a function.

The kernels behind them are held against their twins in `test_kernels.py`.
"""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from conftest import make_net

from cymlp import Sequential, losses
from cymlp.layers import Dense
from cymlp.optimizers import Adam

N_SAMPLES, N_OUTPUTS = 40, 5

REGRESSION = (
    losses.SquaredError(),
    losses.AbsoluteError(),
    losses.Huber(),
    losses.Huber(delta=0.25),
    losses.LogCosh(),
    losses.Quantile(0.9),
)
MEANS = (losses.Poisson(), losses.Gamma(), losses.Tweedie(), losses.Tweedie(power=1.2))
OTHERS = (
    losses.CrossEntropy(),
    losses.CrossEntropy(label_smoothing=0.1),
    losses.CrossEntropy(label_smoothing=0.1, class_weight=[1, 0.5, 0, 2, 3]),
    losses.BinaryCrossEntropy(),
    losses.BinaryCrossEntropy(label_smoothing=0.2),
    losses.Hinge(),
    losses.KLDivergence(),
    losses.Focal(),
    losses.Focal(gamma=1.5, alpha=0.6),
)
ALL = (*REGRESSION, *MEANS, *OTHERS)


def targets(rng, loss, shape):
    """Draw valid values for a loss."""
    if isinstance(loss, losses.Gamma):
        return rng.gamma(2, 1, shape)
    if isinstance(loss, (losses.Poisson, losses.Tweedie)):
        return rng.poisson(1.5, shape).astype(float)
    if isinstance(loss, (losses.CrossEntropy, losses.KLDivergence)):
        return rng.dirichlet(np.ones(shape[1]), shape[0])
    if isinstance(loss, losses.Hinge):
        return rng.choice([-1.0, 1.0], shape)
    if isinstance(loss, (losses.BinaryCrossEntropy, losses.Focal)):
        return rng.choice([0.0, 1.0], shape)
    return rng.standard_normal(shape)


def outputs(rng, loss, shape):
    """Draw outputs, or logits where the loss has an output activation that the library has."""
    if loss in MEANS:
        return rng.uniform(0.1, 3, shape)
    return 2 * rng.standard_normal(shape)


def net_for(loss, out, dtype="float64"):
    """Return a net whose output layer's weighted sums are `out`, for an identity as inputs."""
    activation = {"exponential": "identity"}.get(loss.expects, loss.expects)
    net = make_net(len(out), [(out.shape[1], activation)], loss=loss, dtype=dtype)
    net.set_weights([out, np.zeros(out.shape[1])])
    return net, np.eye(len(out))


# ------------------------------------------------------------------------------------------- specs


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_specs_are_data(loss):
    assert losses.LOSSES[loss.name] is type(loss)
    assert copy.deepcopy(loss) == pickle.loads(pickle.dumps(loss)) == loss
    assert hash(loss) == hash(dataclasses.replace(loss))
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.delta = 3
    net = Sequential([Dense(5)], n_inputs=2)
    net.compile(loss=loss)
    assert net.loss is loss


@pytest.mark.parametrize("name", losses.LOSSES)
def test_names_are_accepted(name):
    net = Sequential([Dense(2)], n_inputs=2)
    net.compile(loss=name)
    assert net.loss == losses.LOSSES[name]()


@pytest.mark.parametrize(
    ("create", "error", "match"),
    [
        (lambda: losses.Huber(delta=0), ValueError, "delta .* greater than 0, got 0"),
        (lambda: losses.Huber(delta="1"), TypeError, "delta"),
        (lambda: losses.Quantile(0), ValueError, "levels .* greater than 0"),
        (lambda: losses.Quantile(1.0), ValueError, "levels .* less than 1"),
        (lambda: losses.Quantile([0.5, 1.5]), ValueError, r"levels\[1\] .* got 1.5"),
        (lambda: losses.Quantile([]), ValueError, "levels .* at least one"),
        (lambda: losses.Quantile("median"), TypeError, "levels"),
        (lambda: losses.Tweedie(power=1), ValueError, "power"),
        (lambda: losses.Tweedie(power=2), ValueError, "power"),
        (lambda: losses.CrossEntropy(label_smoothing=1), ValueError, "label_smoothing"),
        (lambda: losses.CrossEntropy(label_smoothing=-0.1), ValueError, "label_smoothing"),
        (lambda: losses.CrossEntropy(class_weight=[1, -1]), ValueError, r"class_weight\[1\]"),
        (lambda: losses.CrossEntropy(class_weight=[0, 0]), ValueError, "all zero"),
        (lambda: losses.CrossEntropy(class_weight=2.0), TypeError, "class_weight .* sequence"),
        (lambda: losses.BinaryCrossEntropy(label_smoothing=True), TypeError, "label_smoothing"),
        (lambda: losses.Focal(gamma=-1), ValueError, "gamma"),
        (lambda: losses.Focal(alpha=1.1), ValueError, "alpha"),
        (lambda: losses.CustomLoss(3), TypeError, "function .* got 3"),
        (lambda: losses.CustomLoss(losses.Huber), TypeError, "function"),
    ],
)
def test_bad_hyperparameters(create, error, match):
    with pytest.raises(error, match=match):
        create()


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (losses.Quantile([0.1, 0.9]), "levels must have 3 numbers, .* got 2"),
        (losses.CrossEntropy(class_weight=[1, 1, 1, 1]), "class_weight must have 3 .* got 4"),
        (losses.Huber(delta=1e-60), "delta .* float32"),
        (losses.Huber(delta=1e60), "delta .* float32"),
        (losses.Quantile(1 - 1e-12), "levels .* float32"),
        (losses.Tweedie(power=1 + 1e-12), "power .* float32"),
        (losses.Huber, r"an instance, Huber\(\.\.\.\)"),
        (None, "function"),
    ],
    ids=str,
)
def test_losses_that_do_not_fit_the_network(loss, match):
    """They are refused before anything has changed."""
    net = Sequential([Dense(3)], n_inputs=2)
    net.compile(loss="log_cosh")
    with pytest.raises((ValueError, TypeError), match=match):
        net.compile(loss=loss)
    assert net.loss == losses.LogCosh()


@pytest.mark.parametrize(
    ("loss", "y", "match"),
    [
        ("poisson", [[1, -0.5]], r"\[0, inf\), got -0.5"),
        ("gamma", [[1, 0]], r"\(0, inf\), got 0"),
        ("tweedie", [[1, -1]], r"\[0, inf\), got -1"),
        ("kl_divergence", [[1, 1.5]], r"\[0, 1\], got 1.5"),
        ("kl_divergence", [1], "shape"),
        ("focal", [[0, -1]], r"\[0, 1\], got -1"),
        ("focal", [2], "labels from 0 to 1"),
        ("hinge", [[2, 0]], r"\[-1, 1\], got 2"),
        ("hinge", [0.5], "whole class labels"),
        ("binary_cross_entropy", [[1, 2]], r"\[0, 1\], got 2"),
        ("huber", [1], "shape"),
        (losses.Quantile([0.1, 0.9]), [[1, 2]], r"y must have shape \(1, 1\) or \(1,\)"),
    ],
)
def test_bad_targets(loss, y, match):
    net = Sequential([Dense(2)], n_inputs=1)
    net.compile(loss=loss)
    for call in (net.evaluate, net.gradients, net.fit, net.train_on_batch):
        with pytest.raises(ValueError, match=match):
            call([[1.0]], y)


@pytest.mark.parametrize("loss", ["hinge", "focal", "cross_entropy"])
def test_labels_are_one_hot_rows(loss):
    rng = np.random.default_rng(0)
    net = make_net(3, [(4, "tanh"), (3, "sigmoid")], loss=loss)
    X, labels = rng.standard_normal((6, 3)), np.array([0, 1, 2, 2, 1, 0])
    assert net.evaluate(X, labels) == net.evaluate(X, np.eye(3)[labels])
    for a, b in zip(net.gradients(X, labels), net.gradients(X, np.eye(3)[labels]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


@pytest.mark.parametrize("loss", ["hinge", "focal"])
def test_one_output_takes_a_column_of_values(loss):
    net = make_net(2, [(1, "sigmoid")], loss=loss)
    X = np.arange(8.0).reshape(4, 2) - 3
    assert net.evaluate(X, [0, 1, 1, 0]) == net.evaluate(X, [[0], [1], [1], [0]])


def test_signs_of_hinge():
    net = make_net(2, [(2, "identity")], loss="hinge", metrics=["accuracy"])
    X = np.arange(8.0).reshape(4, 2) - 3
    y = np.array([[0, 1], [1, 0], [0, 1], [1, 0]])
    assert net.evaluate(X, y) == net.evaluate(X, 2 * y - 1)


@pytest.mark.parametrize("loss", ["hinge", "focal"])
def test_accuracy_is_that_of_a_sign(loss):
    activation = losses.LOSSES[loss].expects
    net = make_net(1, [(1, activation)], loss=loss, metrics=["accuracy"])
    net.set_weights([[[1.0]], [0.0]])
    result = net.evaluate([[-0.25], [0.25], [0.75], [-0.75]], [0, 1, 1, 1])
    assert result["accuracy"] == 0.75


def test_levels_share_a_column():
    """Several levels are as many networks of one output with the same inputs."""
    rng = np.random.default_rng(1)
    levels = [0.1, 0.5, 0.8]
    X, y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    net = make_net(2, [(3, "identity")], loss=losses.Quantile(levels))
    kernel, bias = net.get_weights()
    total, columns = 0, []
    for j, level in enumerate(levels):
        one = make_net(2, [(1, "identity")], loss=losses.Quantile(level))
        one.set_weights([kernel[:, j : j + 1], bias[j : j + 1]])
        total += one.evaluate(X, y)["loss"]
        columns.append(one.gradients(X, y)[0][:, 0])
    assert net.evaluate(X, y)["loss"] == pytest.approx(total, rel=1e-14)
    assert net.evaluate(X, y) == net.evaluate(X, y[:, None])
    np.testing.assert_allclose(net.gradients(X, y)[0], np.stack(columns, 1), rtol=1e-13)


# ----------------------------------------------------------------------------------------- PyTorch


def torch_loss(torch, loss, out, t):
    """Return the loss of each sample: PyTorch's own or, where it has none, the formula."""
    f = torch.nn.functional
    match loss:
        case losses.SquaredError():
            terms = f.mse_loss(out, t, reduction="none") / 2
        case losses.AbsoluteError():
            terms = f.l1_loss(out, t, reduction="none")
        case losses.Huber(delta=delta):
            terms = f.huber_loss(out, t, reduction="none", delta=delta)
        case losses.LogCosh():
            terms = torch.logaddexp(out - t, t - out) - np.log(2)
        case losses.Quantile(levels=q):
            terms = torch.maximum(q * (t - out), (q - 1) * (t - out))
        case losses.Poisson():
            terms = f.poisson_nll_loss(out, t, log_input=False, eps=0, reduction="none")
        case losses.Gamma():
            terms = t / out + torch.log(out)
        case losses.Tweedie(power=p):
            terms = -t * out ** (1 - p) / (1 - p) + out ** (2 - p) / (2 - p)
        case losses.CrossEntropy(label_smoothing=s, class_weight=w):
            w = None if w is None else torch.tensor(w, dtype=out.dtype)
            return f.cross_entropy(out, t, weight=w, label_smoothing=s, reduction="none")
        case losses.BinaryCrossEntropy(label_smoothing=s):
            smoothed = (1 - s) * t + s / 2
            terms = f.binary_cross_entropy_with_logits(out, smoothed, reduction="none")
        case losses.Hinge():
            terms = torch.clamp(1 - t * out, min=0)
        case losses.KLDivergence():
            terms = f.kl_div(torch.log_softmax(out, 1), t, reduction="none")
        case losses.Focal(gamma=gamma, alpha=alpha):
            p = torch.sigmoid(out)
            entropy = f.binary_cross_entropy_with_logits(out, t, reduction="none")
            p_t = p * t + (1 - p) * (1 - t)
            terms = entropy * (1 - p_t) ** gamma * (alpha * t + (1 - alpha) * (1 - t))
    return terms.sum(1)


@pytest.mark.parametrize("n_outputs", [1, N_OUTPUTS])
@pytest.mark.parametrize("loss", ALL, ids=str)
def test_value_and_slope_are_pytorchs(isa, loss, n_outputs):
    torch = pytest.importorskip("torch")
    if getattr(loss, "class_weight", None) and n_outputs != N_OUTPUTS:
        pytest.skip("there are as many weights as outputs")
    rng = np.random.default_rng(2)
    shape = (N_SAMPLES, n_outputs)
    out, t = outputs(rng, loss, shape), targets(rng, loss, shape)
    net, X = net_for(loss, out)
    tensor = torch.tensor(out, requires_grad=True)
    value = torch_loss(torch, loss, tensor, torch.tensor(t)).mean()
    value.backward()
    assert net.evaluate(X, t)["loss"] == pytest.approx(value.item(), rel=1e-13)
    np.testing.assert_allclose(net.gradients(X, t)[0], tensor.grad.numpy(), rtol=1e-11, atol=1e-15)


def test_labels_and_weights_of_cross_entropy_are_pytorchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    loss = losses.CrossEntropy(class_weight=[1, 2, 0.5])
    out, labels = rng.standard_normal((9, 3)), rng.integers(0, 3, 9)
    net, X = net_for(loss, out)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(out),
        torch.tensor(labels),
        weight=torch.tensor(loss.class_weight, dtype=torch.float64),
        reduction="none",
    )
    assert net.evaluate(X, labels)["loss"] == pytest.approx(expected.mean().item(), rel=1e-14)


# -------------------------------------------------------------------------------------- in training


def learnable(loss, rng):
    """Return inputs, targets that follow from them, and an output activation."""
    X = rng.uniform(-1, 1, (120, 3))
    score = X @ [[1.0, -1.0], [0.5, 2.0], [-1.5, 0.0]]
    if loss in MEANS:
        return X, np.exp(score / 2), "sigmoid"
    if loss in REGRESSION:
        return X, score, "identity"
    if isinstance(loss, losses.KLDivergence):
        powers = np.exp(score)
        return X, powers / powers.sum(axis=1, keepdims=True), "softmax"
    if loss.takes_labels:
        return X, score.argmax(axis=1), loss.expects
    return X, (score > 0).astype(float), loss.expects


@pytest.mark.parametrize("batch_size", [1, 16])
@pytest.mark.parametrize(
    "loss", [x for x in ALL if getattr(x, "class_weight", None) is None], ids=str
)
def test_fit_lowers_the_loss(loss, batch_size):
    rng = np.random.default_rng(4)
    X, y, output = learnable(loss, rng)
    net = make_net(3, [(8, "tanh"), (2, output)], loss=loss, optimizer="adam", dtype="float32")
    before = net.evaluate(X, y)["loss"]
    history = net.fit(X, y, epochs=30, batch_size=batch_size, verbose=0)
    after = net.evaluate(X, y)["loss"]
    assert after < before
    assert history.history["loss"][-1] < history.history["loss"][0]
    loads = pickle.loads(pickle.dumps(net))
    assert loads.evaluate(X, y)["loss"] == after


@pytest.mark.parametrize("loss", [*ALL, losses.Quantile([0.1, 0.2, 0.3, 0.4, 0.5])], ids=str)
def test_steps_by_rows_see_what_the_loss_is_told(loss):
    """Batches of one take another way through the core; bytes take the general one."""
    rng = np.random.default_rng(5)
    X = rng.integers(0, 3, (30, 4)).astype("uint8")
    per_level = isinstance(loss, losses.Quantile) and isinstance(loss.levels, tuple)
    y = targets(rng, loss, (30, 1 if per_level else N_OUTPUTS))
    nets = [make_net(4, [(3, "tanh"), (N_OUTPUTS, "sigmoid")], loss=loss) for _ in range(2)]
    nets[0].fit(X, y, batch_size=1, verbose=0)
    nets[1].fit(X.astype(float), y, batch_size=1, verbose=0)
    for a, b in zip(nets[0].get_weights(), nets[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_quantiles_are_found():
    """A constant's best fit are the quantiles of the targets."""
    y = np.random.default_rng(6).exponential(size=400)
    loss = losses.Quantile([0.25, 0.5, 0.9])
    net = make_net(1, [(3, "identity")], loss=loss, optimizer=Adam(learning_rate=0.01))
    net.fit(np.zeros((400, 1)), y, epochs=1500, batch_size=400, verbose=0)
    np.testing.assert_allclose(net.predict([[0]])[0], np.quantile(y, [0.25, 0.5, 0.9]), atol=0.03)


@pytest.mark.parametrize("loss", ALL, ids=str)
def test_threads_do_not_change_results(loss):
    rng = np.random.default_rng(7)
    X, y = rng.standard_normal((500, 64)), targets(rng, loss, (500, N_OUTPUTS))
    net = make_net(64, [(128, "tanh"), (N_OUTPUTS, "sigmoid")], loss=loss, dtype="float32")
    one, two = (net.gradients(X, y, n_threads=n) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


# -------------------------------------------------------------------------------- a user's function


def squared(y_true, y_pred):
    """Half the squared error, as the library has it."""
    error = y_pred - y_true
    return (error**2).sum(axis=1) / 2, error


def of_labels(y_true, y_pred):
    """Cross-entropy of labels and probabilities."""
    rows = np.arange(len(y_true))
    slopes = np.zeros_like(y_pred)
    slopes[rows, y_true] = -1 / y_pred[rows, y_true]
    return -np.log(y_pred[rows, y_true]), slopes


@pytest.mark.parametrize("batch_size", [1, 7, 300])
def test_a_function_trains_like_the_loss_that_it_computes(dtype, batch_size):
    rng = np.random.default_rng(8)
    X, y = rng.standard_normal((300, 4)), rng.standard_normal((300, 2))
    weight = rng.uniform(0, 2, 300)
    nets = [
        make_net(4, [(6, "tanh"), (2, "identity")], loss=loss, dtype=dtype)
        for loss in (squared, "squared_error")
    ]
    for net in nets:
        net.fit(X, y, epochs=2, batch_size=batch_size, sample_weight=weight, verbose=0)
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    for a, b in zip(nets[0].get_weights(), nets[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    a, b = (net.evaluate(X, y)["loss"] for net in nets)
    assert a == pytest.approx(b, rel=tolerance)


def test_a_function_gets_labels_and_accuracy_counts():
    rng = np.random.default_rng(9)
    X, labels = rng.standard_normal((200, 3)), rng.integers(0, 3, 200)
    nets = [
        make_net(3, [(3, "softmax")], loss=loss, metrics=["accuracy"])
        for loss in (of_labels, "cross_entropy")
    ]
    a, b = (net.evaluate(X, labels) for net in nets)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-12)
    assert a["accuracy"] == b["accuracy"]
    gradients = [net.gradients(X, labels) for net in nets]
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)


def test_a_function_gets_copies():
    def destructive(y_true, y_pred):
        result = squared(y_true, y_pred)
        y_true[:], y_pred[:] = np.nan, np.nan
        return result

    y = np.ones((4, 1))
    net = make_net(1, [(1, "identity")], loss=destructive)
    loss = net.evaluate(np.ones((4, 1)), y)["loss"]
    assert np.isfinite(loss)
    assert net.train_on_batch(np.ones((4, 1)), y) == loss
    assert (y == 1).all()


@pytest.mark.parametrize(
    ("function", "error", "match"),
    [
        (lambda t, y: 3, TypeError, r"\(losses, derivatives\), got int"),
        (lambda t, y: (y, y), ValueError, r"losses must have shape \(5,\), .* got \(5, 2\)"),
        (lambda t, y: (y[:, 0], y[:, 0]), ValueError, r"derivatives must have shape \(5, 2\)"),
        (lambda t, y: (y[:, 0], 1j * y), TypeError, "derivatives must be real"),
        (lambda t, y: (["a"] * 5, y), TypeError, "losses must be numeric"),
        (lambda t, y: 1 / 0, ZeroDivisionError, "division"),
        (lambda t: t, TypeError, "argument"),
    ],
)
def test_what_a_function_raises_ends_the_call(function, error, match):
    net = make_net(3, [(4, "tanh"), (2, "identity")], loss=squared)
    X, y = np.ones((5, 3)), np.ones((5, 2))
    net.compile(loss=function)
    before = net.get_weights()
    for call in (net.evaluate, net.gradients, net.fit, net.train_on_batch):
        with pytest.raises(error, match=match):
            call(X, y)
    for a, b in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    net.compile(loss=squared)  # and nothing is left of it
    net.fit(X, y, verbose=0)


def test_a_function_that_raises_in_between_keeps_the_finished_steps():
    calls = []

    def third_time(y_true, y_pred):
        calls.append(len(y_true))
        if len(calls) == 3:
            raise RuntimeError("enough")
        return squared(y_true, y_pred)

    X, y = np.ones((8, 1)), np.zeros((8, 1))
    net, other = (make_net(1, [(1, "identity")], loss=loss) for loss in (third_time, squared))
    with pytest.raises(RuntimeError, match="enough"):
        net.fit(X, y, batch_size=2, shuffle=False, verbose=0)
    assert calls == [2, 2, 2]
    other.fit(X[:4], y[:4], batch_size=2, shuffle=False, verbose=0)
    for a, b in zip(net.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_function_is_pickled_with_its_network():
    net = make_net(1, [(1, "identity")], loss=squared)
    again = pickle.loads(pickle.dumps(net))
    assert again.loss == losses.CustomLoss(squared)
    assert again.evaluate([[1.0]], [2.0]) == net.evaluate([[1.0]], [2.0])


def test_a_function_may_not_train_its_network():
    def greedy(y_true, y_pred):
        net.fit([[1.0]], [1.0], verbose=0)

    net = make_net(1, [(1, "identity")], loss=greedy)
    with pytest.raises(RuntimeError, match="being trained by another call"):
        net.fit([[1.0]], [1.0], verbose=0)
    net.compile(loss=squared)
    net.fit([[1.0]], [1.0], verbose=0)
