"""Optimizers in a network, against PyTorch where it has them: steps, clipping, averages, L-BFGS."""

import copy
import pickle

import numpy as np
import pytest
from conftest import assert_bitwise_equal, make_net, run_python

from cymlp import Sequential, _lbfgs, _threads
from cymlp import _reference as reference
from cymlp.layers import Dense
from cymlp.optimizers import (
    LBFGS,
    OPTIMIZERS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Lion,
    NAdam,
    RMSprop,
    Rprop,
    StochasticOptimizer,
)
from cymlp.schedules import CosineDecay

#: Ours, and PyTorch's name and arguments for the same.
CASES = {
    "sgd": (SGD(0.1), "SGD", {"lr": 0.1}),
    "sgd decay": (SGD(0.1, weight_decay=0.2), "SGD", {"lr": 0.1, "weight_decay": 0.2}),
    "momentum": (
        SGD(0.1, 0.9, weight_decay=0.2),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2},
    ),
    "nesterov": (
        SGD(0.1, 0.9, nesterov=True),
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    ),
    "adam": (
        Adam(0.1, 0.8, 0.99, weight_decay=0.1),
        "Adam",
        {"lr": 0.1, "betas": (0.8, 0.99), "weight_decay": 0.1},
    ),
    "amsgrad": (
        Adam(0.1, beta_2=0.5, amsgrad=True),
        "Adam",
        {"lr": 0.1, "betas": (0.9, 0.5), "amsgrad": True},
    ),
    "adamw": (AdamW(0.1), "AdamW", {"lr": 0.1}),
    "adamw amsgrad": (
        AdamW(0.1, beta_2=0.5, weight_decay=0.3, amsgrad=True),
        "AdamW",
        {"lr": 0.1, "betas": (0.9, 0.5), "weight_decay": 0.3, "amsgrad": True},
    ),
    "nadam": (NAdam(0.1), "NAdam", {"lr": 0.1}),
    "nadam decay": (
        NAdam(0.1, momentum_decay=0.5, weight_decay=0.2),
        "NAdam",
        {"lr": 0.1, "momentum_decay": 0.5, "weight_decay": 0.2},
    ),
    "rmsprop": (RMSprop(0.1), "RMSprop", {"lr": 0.1}),
    "rmsprop momentum": (
        RMSprop(0.1, rho=0.9, momentum=0.5, weight_decay=0.2),
        "RMSprop",
        {"lr": 0.1, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.2},
    ),
    "rmsprop centered": (
        RMSprop(0.1, rho=0.9, centered=True),
        "RMSprop",
        {"lr": 0.1, "alpha": 0.9, "centered": True},
    ),
    "rmsprop both": (
        RMSprop(0.1, rho=0.9, momentum=0.5, centered=True, epsilon=1e-3),
        "RMSprop",
        {"lr": 0.1, "alpha": 0.9, "momentum": 0.5, "centered": True, "eps": 1e-3},
    ),
    "adagrad": (Adagrad(0.1), "Adagrad", {"lr": 0.1}),
    "adagrad decay": (
        Adagrad(0.1, 0.3, initial_accumulator=0.2, weight_decay=0.2),
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.3, "initial_accumulator_value": 0.2, "weight_decay": 0.2},
    ),
    "adadelta": (
        Adadelta(2.0, rho=0.8, epsilon=1e-4, weight_decay=0.2),
        "Adadelta",
        {"lr": 2.0, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.2},
    ),
    "rprop": (Rprop(), "Rprop", {}),
    "rprop bounds": (
        Rprop(0.05, etas=(0.6, 1.5), step_sizes=(0.03, 0.1)),
        "Rprop",
        {"lr": 0.05, "etas": (0.6, 1.5), "step_sizes": (0.03, 0.1)},
    ),
}
#: One of each kind of state, for what does not need PyTorch.
STATEFUL = {name: case[0] for name, case in CASES.items()} | {
    "lion": Lion(0.01, weight_decay=0.1),
    "epsilon hat": Adam(0.1, epsilon=0.1, epsilon_hat=True),
    "adamw epsilon hat": AdamW(0.1, epsilon=0.1, epsilon_hat=True, amsgrad=True),
    "averaged": SGD(0.1, momentum=0.9, ema_decay=0.9),
    "clip_value": Adam(0.1, clip_value=0.01),
    "clip_norm": SGD(0.1, momentum=0.9, clip_norm=0.1, ema_decay=0.5),
    "clip_global_norm": AdamW(0.1, clip_global_norm=0.1),
    "schedule": NAdam(CosineDecay(0.1, 50)),
}
N_INPUTS, LAYERS = 19, [(21, "tanh"), (3, "identity")]
N_STEPS = 25
OPENMP = _threads.build_info()["openmp"]


@pytest.fixture
def torch(dtype):
    """PyTorch, whose scalars, such as NAdam's product, have the dtype of the parameters."""
    module = pytest.importorskip("torch")
    before = module.get_default_dtype()
    module.set_default_dtype(getattr(module, dtype))
    yield module
    module.set_default_dtype(before)


def net_with(optimizer, dtype="float64", **options):
    return make_net(N_INPUTS, LAYERS, optimizer=optimizer, dtype=dtype, **options)


def random_gradients(weights, step, scale=1.0):
    rng = np.random.default_rng(step)
    return [scale * rng.standard_normal(w.shape).astype(w.dtype) for w in weights]


def parameters_of(torch, weights):
    return [torch.tensor(w, requires_grad=True) for w in weights]


def assert_close(actual, parameters, dtype, message=""):
    """Within what some steps of roundings may add up to, each of a number of the size of one."""
    tolerance = 50 * np.finfo(dtype).eps
    for a, p in zip(actual, parameters, strict=True):
        expected = p if isinstance(p, np.ndarray) else p.detach().numpy()
        np.testing.assert_allclose(a, expected, rtol=tolerance, atol=tolerance, err_msg=message)


def problem(n_samples=60, dtype="float64", n_outputs=3):
    rng = np.random.default_rng(1)
    return (
        rng.standard_normal((n_samples, N_INPUTS)).astype(dtype),
        rng.standard_normal((n_samples, n_outputs)).astype(dtype),
    )


# -------------------------------------------------------------------------------------------- steps


@pytest.mark.parametrize("name", CASES)
def test_steps_are_pytorchs(name, torch, dtype, isa):
    """Gradients are given, so that only the optimizers' own roundings differ."""
    optimizer, kind, options = CASES[name]
    net = net_with(optimizer, dtype)
    parameters = parameters_of(torch, net.get_weights())
    other = getattr(torch.optim, kind)(parameters, **options)
    for step in range(N_STEPS):
        gradients = random_gradients(net.get_weights(), step)
        net.apply_gradients(gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        other.step()
        assert_close(net.get_weights(), parameters, dtype, f"{name}, step {step}")


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize("name", CASES)
def test_training_is_pytorchs(name, torch, dtype):
    """Through the whole network, in batches, by autograd there."""
    optimizer, kind, options = CASES[name]
    X, y = problem()
    net = net_with(optimizer)
    parameters = parameters_of(torch, net.get_weights())
    other = getattr(torch.optim, kind)(parameters, **options)
    net.fit(X, y, epochs=5, batch_size=13, shuffle=False, verbose=0)
    for _ in range(5):
        for first in range(0, len(X), 13):
            x, t = (torch.tensor(a[first : first + 13]) for a in (X, y))
            k0, b0, k1, b1 = parameters
            outputs = torch.tanh(x @ k0 + b0) @ k1 + b1
            loss = 0.5 * ((outputs - t) ** 2).sum(dim=1).mean()
            other.zero_grad()
            loss.backward()
            other.step()
    for a, p in zip(net.get_weights(), parameters, strict=True):
        np.testing.assert_allclose(a, p.detach().numpy(), rtol=1e-9, atol=1e-9)


def test_steps_of_lion(dtype, isa):
    """PyTorch has none: the formula."""
    net = net_with(Lion(0.01, 0.8, 0.95, weight_decay=0.3), dtype)
    weights = [w.astype(np.float64) for w in net.get_weights()]
    moments = [np.zeros_like(w) for w in weights]
    for step in range(N_STEPS):
        gradients = random_gradients(net.get_weights(), step)
        net.apply_gradients(gradients)
        for w, m, g in zip(weights, moments, gradients, strict=True):
            w -= 0.01 * (np.sign(0.8 * m + 0.2 * g) + 0.3 * w)
            m[...] = 0.95 * m + 0.05 * g
        assert_close(net.get_weights(), weights, dtype)


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("batch_size", [1, 16])
def test_resumed_training_is_uninterrupted_training(name, batch_size, dtype):
    """Slots, averages and NAdam's product are kept or found again, bit for bit."""
    X, y = problem(40, dtype)
    X = X / 10  # large ones have steps of single samples diverge
    whole, parts = (net_with(STATEFUL[name], dtype) for _ in range(2))
    whole.fit(X, y, epochs=4, batch_size=batch_size, verbose=0)
    parts.fit(X, y, epochs=1, batch_size=batch_size, verbose=0)
    parts = pickle.loads(pickle.dumps(parts))
    parts.fit(X, y, epochs=2, batch_size=batch_size, verbose=0)
    parts = copy.deepcopy(parts)
    parts.fit(X, y, epochs=1, batch_size=batch_size, verbose=0)
    assert_bitwise_equal(parts.get_weights(), whole.get_weights())
    if whole.optimizer.ema_decay is not None:
        assert_bitwise_equal(parts.averaged_weights(), whole.averaged_weights())
    whole.compile(optimizer=STATEFUL[name])  # starts anew
    parts.compile(optimizer=STATEFUL[name])
    for net in (whole, parts):
        net.fit(X, y, batch_size=batch_size, verbose=0)
    assert_bitwise_equal(parts.get_weights(), whole.get_weights())


@pytest.mark.parametrize("name", STATEFUL)
def test_batches_of_one_are_steps_like_others(name, dtype, isa):
    """Whether `train_rows` can take them or not."""
    X, y = problem(12, dtype)
    rows, steps = (net_with(STATEFUL[name], dtype) for _ in range(2))
    rows.fit(X, y, batch_size=1, shuffle=False, verbose=0)
    for i in range(len(X)):
        steps.apply_gradients(steps.gradients(X[i : i + 1], y[i : i + 1]))
    tolerance = 1e3 * np.finfo(dtype).eps
    for a, b in zip(rows.get_weights(), steps.get_weights(), strict=True):
        if name == "lion":  # the sign of what is nearly 0
            assert (np.abs(a - b) > tolerance).mean() < 0.01
        else:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", STATEFUL)
def test_a_batch_in_slices_is_a_batch(name):
    """More rows than an update that is fused with its optimizer may have."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((16390, 2)), rng.standard_normal((16390, 1))
    nets = [make_net(2, [(2, "tanh"), (1, "identity")], optimizer=STATEFUL[name]) for _ in range(2)]
    for _ in range(3):
        nets[0].train_on_batch(X, y)
        nets[1].apply_gradients(nets[1].gradients(X, y))
    assert_bitwise_equal(nets[0].get_weights(), nets[1].get_weights())


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_epsilon_hat_is_added_ahead_of_the_correction(kind, dtype):
    net = net_with(kind(0.1, epsilon=0.1, weight_decay=0, epsilon_hat=True), dtype)
    weights = net.get_weights()
    slots = [[np.zeros_like(w), np.zeros_like(w)] for w in weights]
    for step in range(1, 6):
        gradients = random_gradients(weights, step)
        net.apply_gradients(gradients)
        for i, gradient in enumerate(gradients):
            weights[i], slots[i] = reference.update(
                "adam", gradient, weights[i], slots[i], learning_rate=0.1, beta_1=0.9,
                beta_2=0.999, epsilon_hat=0.1, step=step,
            )  # fmt: skip
    assert_close(net.get_weights(), weights, dtype)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_velocity_that_keeps_its_rate(nesterov):
    """Of v = momentum * v - rate * g, as scikit-learn and Keras have it."""
    net = net_with(SGD(0.5, momentum=0.9, nesterov=nesterov))
    weights = net.get_weights()
    velocities = [np.zeros_like(w) for w in weights]
    for step, rate in enumerate([0.5, 0.1, 0.3]):
        net._set_learning_rate(rate, keeps_velocity=True)
        gradients = random_gradients(weights, step)
        net.apply_gradients(gradients)
        for w, v, g in zip(weights, velocities, gradients, strict=True):
            v[...] = 0.9 * v - rate * g
            w += 0.9 * v - rate * g if nesterov else v
    assert_close(net.get_weights(), weights, "float64")


# ----------------------------------------------------------------------------------------- clipping


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_clipping_is_pytorchs(scale, torch, dtype, isa):
    """Gradients that are far below and far above the limit."""
    clip = torch.nn.utils
    limits = {
        "clip_value": lambda p, limit: clip.clip_grad_value_(p, limit),
        "clip_norm": lambda p, limit: [clip.clip_grad_norm_([a], limit) for a in p],
        "clip_global_norm": lambda p, limit: clip.clip_grad_norm_(p, limit),
    }
    for name, apply in limits.items():
        net = net_with(SGD(1.0, 0.5, weight_decay=0.1, **{name: 0.9}), dtype)
        parameters = parameters_of(torch, net.get_weights())
        other = torch.optim.SGD(parameters, lr=1.0, momentum=0.5, weight_decay=0.1)
        for step in range(N_STEPS):
            gradients = random_gradients(net.get_weights(), step, scale)
            net.apply_gradients(gradients)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = torch.tensor(gradient)
            apply(parameters, 0.9)
            other.step()
        if name == "clip_norm":  # whose quotient has no 1e-6 beside the norm
            for a, p in zip(net.get_weights(), parameters, strict=True):
                np.testing.assert_allclose(a, p.detach().numpy(), rtol=1e-4, atol=1e-4)
        else:
            assert_close(net.get_weights(), parameters, dtype, name)


def test_clip_norm_is_of_each_array(dtype):
    net = net_with(SGD(1.0, clip_norm=0.5), dtype)
    before = net.get_weights()
    gradients = random_gradients(before, 0)
    gradients[1] *= 1e-3  # stays as it is
    gradients[2][...] = 0
    net.apply_gradients(gradients)
    for w, a, g in zip(before, net.get_weights(), gradients, strict=True):
        norm = np.sqrt((g.astype(np.float64) ** 2).sum())
        np.testing.assert_allclose(
            a, w - g * 0.5 / max(norm, 0.5), rtol=1e-5, atol=4 * np.finfo(dtype).eps
        )


@pytest.mark.parametrize("how", ["clip_value", "clip_norm", "clip_global_norm"])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_penalties_are_clipped_and_decay_is_not(how, batch_size, isa):
    """`fit` against the gradients' own definition."""
    X, y = problem(8 * batch_size)
    X *= 10
    optimizer = Adam(0.01, weight_decay=0.7, **{how: 0.1})
    net = net_with(optimizer, l2=[(0.5, False), None])
    weights = net.get_weights()
    slots = [[np.zeros_like(w), np.zeros_like(w)] for w in weights]
    net.fit(X, y, batch_size=batch_size, shuffle=False, verbose=0)
    for step in range(8):
        rows = slice(step * batch_size, (step + 1) * batch_size)
        _, gradients = reference.loss_and_gradients(
            X[rows],
            y[rows],
            weights,
            ["tanh", "identity"],
            "squared_error",
            l2=[(0.5, False), None],
        )
        norms = [np.sqrt((g**2).sum()) for g in gradients]
        scales = [1.0] * 4
        if how == "clip_norm":
            scales = [0.1 / max(norm, 0.1) for norm in norms]
        if how == "clip_global_norm":
            scales = [min(1, 0.1 / (np.sqrt((np.array(norms) ** 2).sum()) + 1e-6))] * 4
        for i, g in enumerate(gradients):
            weights[i], slots[i] = reference.update(
                "adam",
                g,
                weights[i],
                slots[i],
                learning_rate=0.01,
                beta_1=0.9,
                beta_2=0.999,
                epsilon=1e-8,
                step=step + 1,
                weight_decay=0.7,
                gradient_scale=scales[i],
                clip_value=0.1 if how == "clip_value" else np.inf,
            )
    for a, b in zip(net.get_weights(), weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("how", ["clip_norm", "clip_global_norm"])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_norms_do_not_depend_on_threads(how, ema_decay, dtype):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((600, 130)).astype(dtype)
    y = rng.integers(0, 10, 600)
    results = []
    for n_threads in (1, 2, 3):
        net = make_net(
            130,
            [(210, "relu"), (50, "relu"), (10, "softmax")],
            loss="cross_entropy",
            optimizer=Adam(ema_decay=ema_decay, **{how: 0.05}),
            dtype=dtype,
            l2=[(1e-3, False), None, (1e-3, True)],
        )
        for first in [0, 200, 400] * 3:
            _threads.forget_trials()  # or a busy machine may go on with one thread
            rows = slice(first, first + 200)
            net.train_on_batch(X[rows], y[rows], n_threads=n_threads)
            assert net._network.team == (n_threads if OPENMP else 1)
        results.append(net.get_weights() + (net.averaged_weights() if ema_decay else []))
    for other in results[1:]:
        assert_bitwise_equal(other, results[0])


@pytest.mark.parametrize("how", ["clip_norm", "clip_global_norm", "clip_value"])
def test_clipping_hides_no_nan(how):
    """An infinite gradient has an infinite norm, and 0 times infinity is no step to take."""
    for bad in (np.nan, np.inf):
        net = net_with(SGD(0.1, **{how: 1.0}))
        gradients = random_gradients(net.get_weights(), 0)
        gradients[0][2, 3] = bad
        net._network.apply_gradients(net._names(), gradients)  # the face would refuse them
        assert how == "clip_value" or np.isnan(net.get_weights()[0][2, 3])
        assert np.isnan(net.get_weights()[0]).any() == (how != "clip_value" or np.isnan(bad))


# ----------------------------------------------------------------------------------------- averages


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("batch_size", [1, 10])
def test_average_of_the_weights(optimizer, batch_size, dtype, isa):
    X, y = problem(30, dtype)
    net = net_with(optimizer(0.05, ema_decay=0.75), dtype)
    assert_bitwise_equal(net.averaged_weights(), net.get_weights())
    plain = net_with(optimizer(0.05), dtype)
    average = None
    for first in range(0, len(X), batch_size):
        for each in (net, plain):
            each.train_on_batch(X[first : first + batch_size], y[first : first + batch_size])
        weights = [w.astype(np.float64) for w in net.get_weights()]
        if average is None:
            average = weights
        average = [0.75 * a + 0.25 * w for a, w in zip(average, weights, strict=True)]
        assert_close(net.averaged_weights(), average, dtype)
    for a, b in zip(net.get_weights(), plain.get_weights(), strict=True):
        tolerance = 100 * np.finfo(dtype).eps  # a batch of one may be summed up elsewhere
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_average_of_sparse_and_narrow_layers():
    """The shapes and places are those of the parameters, however they lie."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 200)).astype("float32") * (rng.random((40, 200)) < 0.05)
    net = make_net(
        200,
        [(90, "relu"), (2, "identity")],
        optimizer=SGD(0.1, ema_decay=0.0),
        dtype="float32",
    )
    net.fit(X, rng.standard_normal((40, 2)), batch_size=10, verbose=0)
    assert_bitwise_equal(net.averaged_weights(), net.get_weights())


def test_averaged_weights_errors():
    X, y = problem()
    net = net_with("adam")
    with pytest.raises(ValueError, match="ema_decay"):
        net.averaged_weights()
    with pytest.raises(ValueError, match="compile"):
        Sequential([Dense(2)]).averaged_weights()
    net.compile(optimizer=SGD(ema_decay=0.5))
    net.train_on_batch(X, y)
    net.compile(optimizer="sgd")
    assert {name for _, name in net._network.state_names()} == {"kernel", "bias"}


# ------------------------------------------------------------------------------------------- L-BFGS


def lbfgs_net(dtype="float64", **options):
    pytest.importorskip("scipy")
    return net_with(LBFGS(**options), dtype, l2=[(0.01, False), (0.01, False)])


def test_lbfgs_is_scipys(isa):
    """On the reference's loss and gradients, from the same weights."""
    optimize = pytest.importorskip("scipy.optimize")
    net = lbfgs_net(history_size=7, tol=1e-6)
    X, y = problem()
    shapes = [w.shape for w in net.get_weights()]
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def objective(x):
        weights = [p.reshape(s) for p, s in zip(np.split(x, ends), shapes, strict=True)]
        value, gradients = reference.loss_and_gradients(
            X, y, weights, ["tanh", "identity"], "squared_error", l2=[(0.01, False)] * 2
        )
        return value, np.concatenate([g.ravel() for g in gradients])

    start = np.concatenate([w.ravel() for w in net.get_weights()])
    expected = optimize.minimize(
        objective,
        start,
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 10, "maxcor": 7, "gtol": 1e-6},
    )
    history = net.fit(X, y, epochs=10, batch_size=7, verbose=0)
    assert history.epoch == list(range(10))
    losses = history.history["loss"]
    assert all(a > b for a, b in zip(losses, losses[1:], strict=False))
    assert losses[-1] == pytest.approx(expected.fun, rel=1e-6)
    assert losses[-1] == pytest.approx(net.evaluate(X, y)["loss"], rel=1e-12)
    actual = np.concatenate([w.ravel() for w in net.get_weights()])
    np.testing.assert_allclose(actual, expected.x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_lbfgs_converges(n_threads, dtype):
    X, y = problem(dtype=dtype)
    net = lbfgs_net(dtype, tol=1e-4)
    history = net.fit(X, y, epochs=2000, verbose=0, validation_data=(X, y), n_threads=n_threads)
    assert len(history.epoch) < 2000
    assert max(np.abs(g).max() for g in net.gradients(X, y)) < 1e-3
    assert history.history["val_loss"] == pytest.approx(history.history["loss"], rel=1e-5)
    again = net.fit(X, y, epochs=5, verbose=0)  # from where it stands
    assert again.history["loss"][-1] <= history.history["loss"][-1] * (1 + 1e-6)


def test_lbfgs_of_nothing_to_do_records_where_it_stands():
    net = net_with("lbfgs")
    X = np.zeros((4, N_INPUTS))
    net.set_weights([np.zeros_like(w) for w in net.get_weights()])
    history = net.fit(X, np.zeros((4, 3)), epochs=3, verbose=0)
    assert history.history["loss"] == [0.0]


def test_lbfgs_stops_when_told_to():
    X, y = problem()
    net = lbfgs_net()
    seen = []

    def on_iteration(number, loss, accuracy, penalty):
        seen.append(loss)
        return number == 2

    _lbfgs.minimize(net._network, net._describe(net._prepare(X, y)), LBFGS(), 50, 0, on_iteration)
    assert len(seen) == 3
    assert net.evaluate(X, y)["loss"] == pytest.approx(seen[-1], rel=1e-12)


@pytest.mark.parametrize("call", [1, 2, 5, 9])
def test_interrupted_lbfgs_leaves_the_last_iterate(call):
    """Ctrl-C in any evaluation, also in the middle of a line search."""
    X, y = problem()
    net = lbfgs_net()
    start = net.evaluate(X, y)["loss"]

    class Interrupted:
        """The network, with Ctrl-C after the moves of one evaluation."""

        def __init__(self, network):
            self.network, self.calls = network, 0

        def __getattr__(self, name):
            return getattr(self.network, name)

        def gradients(self, *arguments):
            self.calls += 1
            if self.calls == call:
                raise KeyboardInterrupt
            return self.network.gradients(*arguments)

    losses = [start]
    with pytest.raises(KeyboardInterrupt):
        _lbfgs.minimize(
            Interrupted(net._network),
            net._describe(net._prepare(X, y)),
            LBFGS(),
            50,
            0,
            lambda number, loss, accuracy, penalty: losses.append(loss),
        )
    assert net.evaluate(X, y)["loss"] == pytest.approx(losses[-1], rel=1e-12)


def test_lbfgs_takes_no_single_steps():
    net = lbfgs_net()
    X, y = problem()
    before = net.get_weights()
    with pytest.raises(ValueError, match="train_on_batch.*LBFGS"):
        net.train_on_batch(X, y)
    with pytest.raises(ValueError, match="apply_gradients.*LBFGS"):
        net.apply_gradients(before)
    with pytest.raises(ValueError, match="learning_rate.*LBFGS"):
        _ = net.learning_rate
    assert_bitwise_equal(net.get_weights(), before)
    assert len(net.gradients(X, y)) == 4


def test_lbfgs_without_scipy():
    code = """
    import sys
    sys.modules["scipy"] = sys.modules["scipy.optimize"] = None
    from cymlp import Sequential
    from cymlp.layers import Dense
    net = Sequential([Dense(1)], n_inputs=1, random_state=0)
    net.compile("lbfgs")
    try:
        net.fit([[1.0]], [1.0], verbose=0)
    except ImportError as error:
        print(error)
    """
    assert "pip install scipy" in run_python(code).stdout


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("create", "match"),
    [
        (lambda: SGD(weight_decay=-1), "weight_decay"),
        (lambda: Adam(amsgrad=1), "amsgrad"),
        (lambda: Adam(beta_2=1.0), "beta_2"),
        (lambda: AdamW(weight_decay="much"), "weight_decay"),
        (lambda: AdamW(learning_rate=0), "learning_rate"),
        (lambda: NAdam(momentum_decay=-1), "momentum_decay"),
        (lambda: RMSprop(rho=1.0), "rho"),
        (lambda: RMSprop(momentum=2), "momentum"),
        (lambda: RMSprop(centered="yes"), "centered"),
        (lambda: RMSprop(epsilon=0), "epsilon"),
        (lambda: Adagrad(learning_rate_decay=-1), "learning_rate_decay"),
        (lambda: Adagrad(initial_accumulator=-0.1), "initial_accumulator"),
        (lambda: Adadelta(epsilon=0), "epsilon"),
        (lambda: Adadelta(rho=-0.1), "rho"),
        (lambda: Lion(beta_1=1), "beta_1"),
        (lambda: Lion(weight_decay=np.nan), "weight_decay"),
        (lambda: Rprop(learning_rate=CosineDecay(0.1, 5)), "learning_rate"),
        (lambda: Rprop(etas=0.5), "etas"),
        (lambda: Rprop(etas=(1.2, 0.5)), r"etas\[0\]"),
        (lambda: Rprop(etas=(0.5, 1.0)), r"etas\[1\]"),
        (lambda: Rprop(step_sizes=(0, 1)), r"step_sizes\[0\]"),
        (lambda: Rprop(step_sizes=(2, 1)), r"step_sizes\[1\]"),
        (lambda: LBFGS(history_size=0), "history_size"),
        (lambda: LBFGS(tol=-1), "tol"),
        (lambda: LBFGS(max_evaluations=2.5), "max_evaluations"),
        (lambda: SGD(clip_value=0), "clip_value"),
        (lambda: Adam(clip_norm=-1), "clip_norm"),
        (lambda: Lion(clip_global_norm="1"), "clip_global_norm"),
        (lambda: Rprop(ema_decay=1), "ema_decay"),
        (lambda: SGD(clip_value=1, clip_norm=1), "clip_norm.*clip_value"),
        (lambda: SGD(clip_norm=1, clip_global_norm=1), "clip_global_norm.*clip_norm"),
    ],
)
def test_bad_optimizers(create, match):
    with pytest.raises((ValueError, TypeError), match=match):
        create()


@pytest.mark.parametrize("optimizer", [RMSprop, Adagrad, Adadelta, NAdam, AdamW])
def test_an_epsilon_that_float32_cannot_hold(optimizer):
    with pytest.raises(ValueError, match="epsilon must be at least"):
        net_with(optimizer(epsilon=1e-40), "float32")
    net_with(optimizer(epsilon=1e-40), "float64")


def test_every_optimizer_has_a_name_and_is_compared_with_pytorch():
    ours = {type(case[0]) for case in CASES.values()} | {Lion, LBFGS}
    assert set(OPTIMIZERS.values()) == ours
    for name, kind in OPTIMIZERS.items():
        assert kind.name == name
        net = net_with(name)
        assert net.optimizer == kind()
        assert eval(repr(kind())) == kind()
    assert issubclass(Rprop, StochasticOptimizer)
    assert not issubclass(LBFGS, StochasticOptimizer)
    assert repr(SGD(0.1, clip_norm=2.0)) == "SGD(learning_rate=0.1, clip_norm=2.0)"
