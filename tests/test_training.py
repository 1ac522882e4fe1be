"""Training against the NumPy loop, step by step, and what a run promises to be equal to."""

import copy
import pickle
from collections import Counter

import numpy as np
import pytest
from conftest import assert_bitwise_equal, make_net, random_target, random_weights

from cymlp import DivergenceWarning, Sequential
from cymlp import _reference as reference
from cymlp._network import shuffled
from cymlp._random import Purpose, key, stream
from cymlp.initializers import GlorotUniform, HeUniform
from cymlp.layers import Dense
from cymlp.losses import CrossEntropy
from cymlp.metrics import Accuracy
from cymlp.optimizers import SGD, Adam

#: name in `_reference` -> the spec, and the numbers that `_reference` takes.
OPTIMIZERS = {
    "sgd": (SGD(learning_rate=0.1), {"learning_rate": 0.1}),
    "momentum": (SGD(learning_rate=0.03, momentum=0.9), {"learning_rate": 0.03, "momentum": 0.9}),
    "nesterov": (
        SGD(learning_rate=0.03, momentum=0.9, nesterov=True),
        {"learning_rate": 0.03, "momentum": 0.9},
    ),
    "adam": (
        Adam(learning_rate=0.01, beta_1=0.8, beta_2=0.99, epsilon=1e-3),
        {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3},
    ),
}

#: Relative to the largest weight: some hundred units in the last place of float64, and a dozen of
#: float32, where the twin runs in float64. Measured: half of that.
TOLERANCE = {"float64": 1e-13, "float32": 2e-6}

PENALTIES = {
    "no penalty": None,
    "L2": [(0.05, False), (0.02, False), None],
    "L2 per batch": [(0.5, True), None, (0.2, True)],
}
N_SAMPLES, BATCH_SIZE, N_EPOCHS = 37, 8, 4
UNITS = [19, 11, 3]
HEADS = [
    ("softmax", "cross_entropy"),
    ("sigmoid", "binary_cross_entropy"),
    ("identity", "squared_error"),
    ("softmax", "squared_error"),
]


def problem(dtype, loss, n_inputs=13, labels=False):
    """Return (X, target, weights) whose numbers are exact in `dtype`, computed with in float64."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((N_SAMPLES, n_inputs)).astype(dtype).astype("float64")
    target = random_target(rng, loss, N_SAMPLES, UNITS[-1], labels)
    if target.dtype == "float64":
        target = target.astype(dtype).astype("float64")
    weights = random_weights(rng, n_inputs, UNITS)
    return X, target, [w.astype(dtype).astype("float64") for w in weights]


def net_for(weights, activations, loss, optimizer, dtype, l2=None, **options):
    layers = list(zip(UNITS, activations, strict=True))
    return make_net(
        len(weights[0]),
        layers,
        weights=weights,
        loss=loss,
        optimizer=OPTIMIZERS[optimizer][0],
        dtype=dtype,
        l2=l2,
        **options,
    )


def assert_close(actual, expected, dtype, message="", least=1e-3):
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        bound = TOLERANCE[dtype] * max(np.abs(e).max(), least)
        np.testing.assert_allclose(a, e, rtol=0, atol=bound, err_msg=f"{message} parameter {i}")


@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("l2", PENALTIES.values(), ids=PENALTIES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("head", "loss"), HEADS, ids=map("-".join, HEADS))
def test_training_equals_numpy(isa, dtype, head, loss, optimizer, l2, weighted):
    """Same batches, the last one of five samples instead of eight: same losses, same weights."""
    X, target, weights = problem(dtype, loss)
    activations = ("tanh", "relu", head)
    sample_weight = np.random.default_rng(2).uniform(0.5, 2, N_SAMPLES) if weighted else None
    eps = np.finfo(dtype).eps
    batches = list(reference.batches_of(X, target, BATCH_SIZE, sample_weight))
    settings = OPTIMIZERS[optimizer][1]

    by_step = net_for(weights, activations, loss, optimizer, dtype, l2)
    actual_losses = []
    for i, batch in enumerate(batches, start=1):
        actual_losses.append(by_step.train_on_batch(*batch))
        expected, losses = reference.train(
            weights, activations, loss, batches[:i], optimizer, l2=l2, eps=eps, **settings
        )
        assert_close(by_step.get_weights(), expected, dtype, f"after step {i}")
        np.testing.assert_allclose(actual_losses, losses, rtol=TOLERANCE[dtype])

    fitted = net_for(weights, activations, loss, optimizer, dtype, l2)
    history = fitted.fit(
        X,
        target,
        epochs=N_EPOCHS,
        batch_size=BATCH_SIZE,
        shuffle=False,
        sample_weight=sample_weight,
        verbose=0,
    )
    expected, losses = reference.train(
        weights, activations, loss, batches * N_EPOCHS, optimizer, l2=l2, eps=eps, **settings
    )
    assert_close(fitted.get_weights(), expected, dtype, "after all epochs")
    shares = [b[2].sum() if weighted else len(b[0]) for b in batches]
    by_epoch = np.reshape(losses, (N_EPOCHS, -1))
    expected_losses = [reference.epoch_loss(losses, shares) for losses in by_epoch]
    np.testing.assert_allclose(history.history["loss"], expected_losses, rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fit_is_bitwise_train_on_batch(isa, dtype, optimizer):
    X, target, weights = problem(dtype, "cross_entropy", labels=True)
    activations = ("relu", "sigmoid", "softmax")
    fitted = net_for(weights, activations, "cross_entropy", optimizer, dtype)
    stepped = copy.deepcopy(fitted)
    fitted.fit(X, target, epochs=2, batch_size=BATCH_SIZE, shuffle=False, verbose=0)
    for batch in [*reference.batches_of(X, target, BATCH_SIZE)] * 2:
        stepped.train_on_batch(*batch)
    assert_bitwise_equal(fitted.get_weights(), stepped.get_weights())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_apply_gradients_is_train_on_batch(isa, dtype, optimizer):
    """The given gradients are the step's own, L2 included: nothing is added to them."""
    X, target, weights = problem(dtype, "cross_entropy")
    activations = ("relu", "sigmoid", "softmax")
    one = net_for(weights, activations, "cross_entropy", optimizer, dtype, PENALTIES["L2"])
    two = copy.deepcopy(one)
    for _ in range(5):
        one.apply_gradients(one.gradients(X, target))
        two.train_on_batch(X, target)
        assert_close(one.get_weights(), two.get_weights(), dtype)


#: Layers around the ends of vectors, panels and blocks.
SHAPES = [(3, [3, 2]), (2, [8, 1]), (17, [33, 5, 16]), (70, [49, 4])]


def few_samples(dtype, n_inputs, units, head, hidden, loss, labels):
    """Return (X, target, weights, activations); X holds ones and zeros."""
    rng = np.random.default_rng(6)
    X = (rng.random((8, n_inputs)) < min(0.5, 4 / n_inputs)).astype(int)
    target = random_target(rng, loss, len(X), units[-1], labels)
    weights = [w.astype(dtype) for w in random_weights(rng, n_inputs, units, scale=0.1)]
    if not labels:
        target = target.astype(dtype)
    return X, target, weights, [hidden] * (len(units) - 1) + [head]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("hidden", ["identity", "relu", "sigmoid", "tanh", "softmax"])
@pytest.mark.parametrize(
    ("head", "loss"), [*HEADS, ("sigmoid", "cross_entropy"), ("softmax", "binary_cross_entropy")]
)
def test_steps_of_one_sample_equal_numpy(isa, dtype, head, loss, hidden, optimizer):
    settings = OPTIMIZERS[optimizer][1]
    sample_weight = np.array([1, 0.5, 2, 0, 1, 3, 0.25, 1])
    for (n_inputs, units), weighted, labels in zip(
        SHAPES, [True, False, True, False], [True, True, False, False], strict=True
    ):
        labels = labels and loss == "cross_entropy" and units[-1] > 1
        X, target, weights, activations = few_samples(
            dtype, n_inputs, units, head, hidden, loss, labels
        )
        l2 = [(0.05, True), *[(0.02, False)] * (len(units) - 1)] if weighted else None
        net = make_net(
            n_inputs,
            list(zip(units, activations, strict=True)),
            weights=weights,
            loss=loss,
            optimizer=OPTIMIZERS[optimizer][0],
            dtype=dtype,
            l2=l2,
        )
        shares = sample_weight if weighted else None
        options = {"batch_size": 1, "shuffle": False, "sample_weight": shares, "verbose": 0}
        history = net.fit(X.astype(dtype), target, epochs=2, **options)
        batches = list(
            reference.batches_of(
                X.astype("float64"), target if labels else target.astype("float64"), 1, shares
            )
        )
        expected, losses = reference.train(
            [w.astype("float64") for w in weights],
            activations,
            loss,
            batches * 2,
            optimizer,
            l2=l2,
            eps=np.finfo(dtype).eps,
            **settings,
        )
        # A weight that steps of a tenth have brought near zero is no more accurate than they are.
        assert_close(net.get_weights(), expected, dtype, f"{n_inputs}-{units}", least=0.1)
        shares = [b[2].sum() if weighted else 1 for b in batches]
        np.testing.assert_allclose(
            history.history["loss"],
            [reference.epoch_loss(part, shares) for part in np.reshape(losses, (2, -1))],
            rtol=TOLERANCE[dtype],
        )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("n_inputs", "units"), SHAPES)
def test_step_of_one_sample_is_a_batch_of_one(isa, dtype, n_inputs, units, optimizer):
    """Bytes take the way of batches: the same bits, also in batches that follow."""
    X, target, weights, activations = few_samples(
        dtype, n_inputs, units, "sigmoid", "tanh", "binary_cross_entropy", labels=False
    )
    results = []
    for rows in (X.astype(dtype), X.astype(np.uint8)):
        net = make_net(
            n_inputs,
            list(zip(units, activations, strict=True)),
            weights=weights,
            loss="binary_cross_entropy",
            optimizer=OPTIMIZERS[optimizer][0],
            dtype=dtype,
            l2=[(0.05, True), *[(0.02, False)] * (len(units) - 1)],
            metrics=["accuracy"],
        )
        result = []
        for batch_size in (1, 3, 1, 8):
            result.append(net.fit(rows, target, batch_size=batch_size, verbose=0).history)
        result.append(net.train_on_batch(rows[:1], target[:1]))
        result += [a.tobytes() for a in (*net.gradients(rows, target), *net.get_weights())]
        results.append(result)
    assert results[0] == results[1]


def test_network_recovers_from_divergence(isa, dtype):
    """Steps of one sample leave nothing behind that new weights do not overwrite."""
    X, target, weights, activations = few_samples(
        dtype, 3, [3, 2], "tanh", "relu", "squared_error", labels=False
    )
    layers = list(zip([3, 2], activations, strict=True))
    options = {"weights": weights, "dtype": dtype, "l2": [(0.1, False)] * 2}
    net, other = (make_net(3, layers, **options) for _ in "ab")
    net.set_weights([np.full_like(w, 2) for w in weights])
    with pytest.warns(DivergenceWarning):
        net.fit(np.full((2, 3), np.finfo(dtype).max), target[:2], batch_size=1, verbose=0)
    assert np.isnan(net.get_weights()[2]).any()
    net.set_weights(weights)
    histories = [
        n.fit(X.astype(dtype), target, batch_size=1, shuffle=False, verbose=0).history
        for n in (net, other)
    ]
    assert histories[0] == histories[1]
    assert_bitwise_equal(net.get_weights(), other.get_weights())


def test_labels_are_one_hot_rows(isa, dtype):
    X, labels, weights = problem(dtype, "cross_entropy", labels=True)
    activations = ("relu", "tanh", "softmax")
    histories = []
    for target in (labels, reference.one_hot(labels, UNITS[-1])):
        net = net_for(weights, activations, "cross_entropy", "adam", dtype, metrics=["accuracy"])
        histories.append(net.fit(X, target, epochs=2, verbose=0).history)
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=TOLERANCE[dtype])
    assert histories[0]["accuracy"] == histories[1]["accuracy"]


def test_sample_weights_scale_freely_and_zero_leaves_out(dtype):
    X, target, weights = problem(dtype, "squared_error")
    activations = ("relu", "tanh", "identity")
    sample_weight = np.random.default_rng(3).uniform(0.5, 2, N_SAMPLES)
    sample_weight[::3] = 0
    keep = sample_weight > 0
    nets = [net_for(weights, activations, "squared_error", "sgd", dtype) for _ in range(3)]
    nets[0].train_on_batch(X, target, sample_weight=sample_weight)
    nets[1].train_on_batch(X, target, sample_weight=100 * sample_weight)
    nets[2].train_on_batch(X[keep], target[keep], sample_weight=sample_weight[keep])
    assert_close(nets[1].get_weights(), nets[0].get_weights(), dtype)
    assert_close(nets[2].get_weights(), nets[0].get_weights(), dtype)


@pytest.mark.parametrize("l2", PENALTIES.values(), ids=PENALTIES)
def test_batch_without_any_weight(dtype, l2):
    """It has no loss to learn from; a constant penalty still pulls at the weights."""
    X, target, weights = problem(dtype, "squared_error")
    activations = ("relu", "tanh", "identity")
    sample_weight = np.ones(N_SAMPLES)
    sample_weight[BATCH_SIZE : 2 * BATCH_SIZE] = 0
    net = net_for(weights, activations, "squared_error", "momentum", dtype, l2)
    options = {"batch_size": BATCH_SIZE, "shuffle": False, "sample_weight": sample_weight}
    history = net.fit(X, target, verbose=0, **options)
    batches = list(reference.batches_of(X, target, BATCH_SIZE, sample_weight))
    settings = OPTIMIZERS["momentum"][1]
    expected, losses = reference.train(
        weights, activations, "squared_error", batches, "momentum", l2=l2, **settings
    )
    assert_close(net.get_weights(), expected, dtype)
    loss = reference.epoch_loss(losses, [batch[2].sum() for batch in batches])
    np.testing.assert_allclose(history.history["loss"], [loss], rtol=TOLERANCE[dtype])


def test_weights_of_one_are_no_weights(dtype):
    X, target, weights = problem(dtype, "squared_error")
    nets = [
        net_for(weights, ("relu", "tanh", "identity"), "squared_error", "sgd", dtype) for _ in "ab"
    ]
    nets[0].fit(X, target, verbose=0)
    nets[1].fit(X, target, verbose=0, sample_weight=np.ones(N_SAMPLES))
    assert_close(nets[1].get_weights(), nets[0].get_weights(), dtype)


# ------------------------------------------------------------------------------ runs that are equal


def run_case(dtype, optimizer="adam", random_state=5):
    """Return a net with its own random weights and the data to fit it on."""
    X, target, _ = problem(dtype, "cross_entropy", labels=True)
    layers = list(zip(UNITS, ("relu", "tanh", "softmax"), strict=True))
    net = make_net(
        X.shape[1],
        layers,
        loss="cross_entropy",
        optimizer=OPTIMIZERS[optimizer][0],
        dtype=dtype,
        random_state=random_state,
        metrics=["accuracy"],
    )
    return net, X, target


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_run_equals_uninterrupted_one(isa, dtype, optimizer):
    whole, X, target = run_case(dtype, optimizer)
    parts = copy.deepcopy(whole)
    options = {"batch_size": BATCH_SIZE, "shuffle": True, "verbose": 0}
    history = whole.fit(X, target, epochs=5, **options)
    first = parts.fit(X, target, epochs=3, **options)
    second = parts.fit(X, target, epochs=2, **options)
    assert_bitwise_equal(parts.get_weights(), whole.get_weights())
    for name, values in history.history.items():
        assert first.history[name] + second.history[name] == values, name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, *(lambda net, p=p: pickle.loads(pickle.dumps(net, p)) for p in (2, 5))],
    ids=["deepcopy", "pickle 2", "pickle 5"],
)
def test_copy_in_the_middle_goes_on_alike(isa, dtype, optimizer, duplicate):
    net, X, target = run_case(dtype, optimizer)
    options = {"epochs": 2, "batch_size": BATCH_SIZE, "verbose": 0}
    net.fit(X, target, **options)
    other = duplicate(net)
    assert_bitwise_equal(other.get_weights(), net.get_weights())
    histories = [n.fit(X, target, **options).history for n in (net, other)]
    assert histories[0] == histories[1]
    assert_bitwise_equal(other.get_weights(), net.get_weights())


def test_copies_are_independent(dtype):
    net, X, target = run_case(dtype)
    net.fit(X, target, verbose=0)
    before = net.get_weights()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        other.fit(X, target, verbose=0)
        assert (other.get_weights()[0] != before[0]).any()
        assert_bitwise_equal(net.get_weights(), before)


def test_unbuilt_and_uncompiled_nets_can_be_copied(dtype):
    layers = [Dense(3, activation="relu"), Dense(2)]
    unbuilt = Sequential(layers, dtype=dtype, random_state=1)
    built = Sequential(layers, n_inputs=4, dtype=dtype, random_state=1)
    for duplicate in (copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))):
        other = duplicate(unbuilt)
        assert not other.built
        other.build(4)
        assert_bitwise_equal(other.get_weights(), built.get_weights())
        assert_bitwise_equal(duplicate(built).get_weights(), built.get_weights())
        assert not duplicate(built).compiled


def test_random_state(dtype):
    (net, X, target), (same, *_), (other, *_) = (run_case(dtype, random_state=s) for s in (5, 5, 6))
    assert_bitwise_equal(same.get_weights(), net.get_weights())
    assert (other.get_weights()[0] != net.get_weights()[0]).any()
    for n in (net, same, other):
        n.fit(X, target, batch_size=BATCH_SIZE, verbose=0)
    assert_bitwise_equal(same.get_weights(), net.get_weights())


def test_without_random_state_nets_differ(dtype):
    nets = [run_case(dtype, random_state=None)[0] for _ in range(2)]
    assert (nets[0].get_weights()[0] != nets[1].get_weights()[0]).any()


def test_every_sample_is_visited_once_per_epoch():
    """From zero weights and at a tiny rate, one pass over the rows of a unit matrix adds rate * t.

    A sample left out would leave its weight at zero, one taken twice would double it.
    """
    target = np.random.default_rng(4).uniform(1, 2, 20)
    rate = 1e-6
    for shuffle in (False, True):
        net = make_net(
            20,
            [(1, "identity")],
            weights=[np.zeros((20, 1)), np.zeros(1)],
            optimizer=SGD(learning_rate=rate),
        )
        net.fit(np.eye(20), target, batch_size=3, shuffle=shuffle, verbose=0)
        sizes = np.repeat([3, 2], [18, 2])
        moved = net.get_weights()[0][:, 0] / (rate * target)
        np.testing.assert_allclose(np.sort(1 / moved), np.sort(sizes), rtol=1e-4)


def test_every_epoch_has_an_order_of_its_own(dtype):
    results = {True: [], False: []}
    for shuffle, weights in results.items():
        net, X, target = run_case(dtype, "sgd")
        start = net.get_weights()
        for _ in range(3):
            net.set_weights(start)
            net.fit(X, target, batch_size=BATCH_SIZE, shuffle=shuffle, verbose=0)
            weights.append(net.get_weights()[0].tobytes())
    assert len(set(results[False])) == 1
    assert len(set(results[True] + results[False])) == 4


def test_set_and_get_weights_round_trip(isa, dtype):
    """Every width around a panel, whatever the layout inside."""
    rng = np.random.default_rng(8)
    for inputs in (1, 2, 15, 16, 17, 33):
        for units in (1, 5, 15, 16, 17, 31, 32, 33, 49):
            weights = [w.astype(dtype) for w in random_weights(rng, inputs, [units, 3])]
            net = make_net(inputs, [(units, "relu"), (3, "identity")], dtype=dtype)
            net.set_weights(weights)
            assert_bitwise_equal(net.get_weights(), weights, f"{inputs} x {units}")


def test_arrays_handed_out_or_in_are_copies(isa, dtype):
    """Also where a layer fills its panels exactly, and nothing inside would need a new shape."""
    rng = np.random.default_rng(11)
    for units in (1, 5, 8, 16, 32):
        net = make_net(4, [(units, "relu"), (3, "identity")], dtype=dtype)
        X, target = rng.standard_normal((6, 4)), rng.standard_normal((6, 3))
        given = net.get_weights()
        before = [w.copy() for w in given]
        net.set_weights(given)
        gradients = net.gradients(X, target)
        gradients_before = [g.copy() for g in gradients]
        outputs = net.layer_outputs(X)
        for array in (*given, *gradients, *outputs):
            array += 1
        message = f"{units} units"
        assert_bitwise_equal(net.get_weights(), before, message)
        assert_bitwise_equal(net.gradients(X, target), gradients_before, message)

        mine = net.gradients(X, target), net.layer_outputs(X), net.get_weights()
        copies = copy.deepcopy(mine)
        net.gradients(-X, target)
        net.layer_outputs(-X)
        net.train_on_batch(X, target)
        for arrays, as_they_were in zip(mine, copies, strict=True):
            assert_bitwise_equal(arrays, as_they_were, message)


@pytest.mark.parametrize(
    ("initializer", "limit"),
    [
        ("glorot_uniform", (6 / (300 + 200)) ** 0.5),
        (GlorotUniform(gain=0.5), 0.5 * (6 / (300 + 200)) ** 0.5),
        ("he_uniform", (6 / 300) ** 0.5),
        (HeUniform(), (6 / 300) ** 0.5),
        ("zeros", 0.0),
    ],
    ids=["glorot", "half of glorot", "he", "he instance", "zeros"],
)
def test_initial_weights(dtype, initializer, limit):
    """Uniform over the whole range, kernel and bias alike, and not the same numbers in both."""
    layer = Dense(200, kernel_initializer=initializer, bias_initializer=initializer)
    net = Sequential([layer, layer], n_inputs=300, dtype=dtype, random_state=0)
    kernel, bias, *_ = net.get_weights()
    for w, largest in ((kernel, 0.999), (bias, 0.9)):
        assert np.abs(w).max() <= limit * (1 + np.finfo(dtype).eps)
        assert w.max() >= largest * limit
        assert w.min() <= -largest * limit
    assert abs(kernel.mean()) <= 0.02 * limit
    assert kernel.std() == pytest.approx(limit / 3**0.5, rel=0.02)
    if limit:
        assert len(np.unique(bias)) == bias.size
        assert not np.isin(bias, kernel[0]).all()


def test_layers_start_with_different_weights():
    layer = Dense(9)
    first, _, second, _ = Sequential([layer, layer], n_inputs=9, random_state=0).get_weights()
    assert (first != second).all()


def test_a_network_describes_itself(capsys):
    layers = [Dense(7, activation="relu"), Dense(3, activation="softmax")]
    net = Sequential(layers)
    assert (net.built, net.compiled, net.n_inputs) == (False, False, None)
    assert net.dtype == "float32"
    net.compile(optimizer="sgd", loss="cross_entropy", metrics=["accuracy"])
    net.build(4)
    assert (net.built, net.compiled, net.n_inputs, net.n_outputs) == (True, True, 4, 3)
    assert net.layers == tuple(layers)
    assert net.n_parameters == 5 * 7 + 8 * 3
    assert net.optimizer == SGD()
    assert net.loss == CrossEntropy()
    assert net.metrics == (Accuracy(),)
    summary = (net.summary() or "") + capsys.readouterr().out
    for word in ("relu", "softmax", "35", "24", "59", "float32"):
        assert word in summary


# ----------------------------------------------------------------------------- evaluate and predict


def test_outputs_evaluate_and_predict_equal_numpy(isa, dtype):
    for head, loss in HEADS:
        X, target, weights = problem(dtype, loss)
        activations = ("tanh", "relu", head)
        net = net_for(weights, activations, loss, "sgd", dtype, PENALTIES["L2"])
        outputs = net.layer_outputs(X)
        expected = reference.layer_outputs(X, weights, activations)
        assert_close(outputs, expected, dtype)
        assert_bitwise_equal(net.predict(X), outputs[-1])
        assert all(y.dtype == dtype for y in outputs)
        value, _ = reference.loss_and_gradients(
            X, target, weights, activations, loss, l2=PENALTIES["L2"], eps=np.finfo(dtype).eps
        )
        assert net.evaluate(X, target)["loss"] == pytest.approx(value, rel=TOLERANCE[dtype])


def test_predict_in_blocks_equals_predict_by_row(isa, dtype):
    """More samples than any block inside; every row is what it would be alone."""
    net, X, _ = run_case(dtype)
    many = np.tile(X, (60, 1))
    whole = net.predict(many)
    assert whole.shape == (len(many), UNITS[-1])
    assert_bitwise_equal(whole, np.tile(whole[: len(X)], (60, 1)))
    by_row = np.concatenate([net.predict(X[i : i + 1]) for i in range(len(X))])
    assert_bitwise_equal(by_row, whole[: len(X)])


def test_accuracy(dtype):
    net, X, labels = run_case(dtype)
    share = float(np.mean(net.predict(X).argmax(axis=1) == labels))
    assert net.evaluate(X, labels)["accuracy"] == pytest.approx(share, abs=1e-12)
    rows = reference.one_hot(labels, UNITS[-1])
    assert net.evaluate(X, rows)["accuracy"] == pytest.approx(share, abs=1e-12)
    weights = np.random.default_rng(9).uniform(0, 1, len(X))
    weighted = float(np.average(net.predict(X).argmax(axis=1) == labels, weights=weights))
    assert net.evaluate(X, labels, sample_weight=weights)["accuracy"] == pytest.approx(weighted)


@pytest.mark.parametrize("units", [2, 5, 19])
def test_accuracy_of_ties(isa, dtype, units):
    """The first of equal outputs wins."""
    net = make_net(units, [(units, "identity")], loss="cross_entropy", dtype=dtype)
    net.compile(loss="cross_entropy", metrics=["accuracy"])
    net.set_weights([np.eye(units), np.zeros(units)])
    X = np.random.default_rng(11).integers(0, 3, (200, units)).astype(dtype)
    for labels in (X.argmax(axis=1), np.random.default_rng(12).integers(0, units, 200)):
        right = float(np.mean(X.argmax(axis=1) == labels))
        assert net.evaluate(X, labels)["accuracy"] == right
        assert net.evaluate(X, reference.one_hot(labels, units))["accuracy"] == right


def test_accuracy_of_one_unit(dtype):
    """Both sides of one half."""
    X, _, _ = problem(dtype, "squared_error")
    net = make_net(
        X.shape[1], [(1, "sigmoid")], loss="binary_cross_entropy", dtype=dtype, metrics=["accuracy"]
    )
    target = np.random.default_rng(10).integers(0, 2, N_SAMPLES)
    share = float(np.mean((net.predict(X)[:, 0] > 0.5) == target))
    assert 0 < share < 1
    assert net.evaluate(X, target)["accuracy"] == pytest.approx(share, abs=1e-12)


def test_validation_is_evaluate_after_each_epoch(dtype):
    net, X, target = run_case(dtype)
    copy_ = copy.deepcopy(net)
    Xv, yv = X[:11] + 0.5, target[:11]
    history = net.fit(X, target, epochs=3, validation_data=(Xv, yv), verbose=0)
    assert history.epoch == [0, 1, 2]
    for epoch in range(3):
        copy_.fit(X, target, verbose=0)
        for name, value in copy_.evaluate(Xv, yv).items():
            assert history.history[f"val_{name}"][epoch] == value


def test_validation_does_not_change_training(dtype):
    net, X, target = run_case(dtype)
    other = copy.deepcopy(net)
    net.fit(X, target, epochs=2, validation_data=(X, target), verbose=0)
    other.fit(X, target, epochs=2, verbose=0)
    assert_bitwise_equal(net.get_weights(), other.get_weights())


def test_batch_larger_than_the_data_is_one_batch(dtype):
    net, X, target = run_case(dtype)
    other = copy.deepcopy(net)
    net.fit(X, target, batch_size=10_000, shuffle=False, verbose=0)
    other.train_on_batch(X, target)
    assert_bitwise_equal(net.get_weights(), other.get_weights())


def test_compile_again_starts_the_optimizer_anew(dtype):
    """Weights stay, moments and the step counter go."""
    net, X, target = run_case(dtype)
    net.fit(X, target, epochs=2, verbose=0)
    fresh, *_ = run_case(dtype)
    fresh.set_weights(net.get_weights())
    net.compile(optimizer=OPTIMIZERS["adam"][0], loss="cross_entropy")
    for n in (net, fresh):
        n.train_on_batch(X, target)
    assert_bitwise_equal(net.get_weights(), fresh.get_weights())


def test_learning_happens(dtype):
    """XOR, which no single layer can learn."""
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    target = np.array([0, 1, 1, 0])
    net = make_net(
        2,
        [(8, "tanh"), (1, "sigmoid")],
        loss="binary_cross_entropy",
        optimizer=Adam(learning_rate=0.05),
        dtype=dtype,
        metrics=["accuracy"],
    )
    history = net.fit(X, target, epochs=400, batch_size=4, verbose=0).history
    assert history["loss"][-1] < 0.05 < history["loss"][0]
    assert net.evaluate(X, target)["accuracy"] == 1.0


def test_last_batch_of_a_run_in_slices():
    """20,000 rows are taken in slices; the 5000 that are left over must be so too."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((25_000, 3))
    y = rng.integers(0, 2, len(X))
    layers = [(4, "tanh"), (2, "softmax")]
    net = make_net(3, layers, loss="cross_entropy", metrics=["accuracy"])
    weights = net.get_weights()
    net.fit(X, y, batch_size=20_000, epochs=2, shuffle=False, verbose=0)
    batches = [(X[:20_000], y[:20_000]), (X[20_000:], y[20_000:])] * 2
    expected, _ = reference.train(
        weights, ["tanh", "softmax"], "cross_entropy", batches, "sgd", learning_rate=0.01
    )
    for actual, wanted in zip(net.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-14)


def test_diverged_network_is_right_about_nothing():
    net = make_net(3, [(2, "softmax")], loss="cross_entropy", metrics=["accuracy"])
    net._network.set(0, "kernel", np.full((3, 2), np.nan))
    logs = net.evaluate(np.ones((4, 3)), np.zeros(4, int))
    assert np.isnan(logs["loss"])
    assert logs["accuracy"] == 0


# --------------------------------------------------------------- what the epochs of a fit share


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9, 1000, 2**16, 2**16 + 1, 2**16 + 7])
def test_order_of_samples_is_drawn_from_the_stream_of_the_epoch(n):
    for seed, epoch in ((0, 0), (2**64 - 1, 3), (2**63 + 5, 2**48 - 1)):
        rng = stream(seed, Purpose.SHUFFLE, epoch)
        order = shuffled(n, key(seed, Purpose.SHUFFLE, epoch))
        np.testing.assert_array_equal(order, reference.shuffled(n, rng))
        np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_orders_are_equally_likely():
    """Each of the six orders of three samples, in 6000 epochs: chi-squared with 5 degrees."""
    orders = [tuple(shuffled(3, key(1, Purpose.SHUFFLE, epoch))) for epoch in range(6000)]
    counts = np.array(list(Counter(orders).values()))
    assert len(counts) == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # one in a thousand seeds is beyond


def test_epochs_of_one_call_are_epochs_of_many():
    """`fit` runs its epochs in one call where nobody looks between them."""
    X, y = np.random.default_rng(0).normal(size=(2, 50, 3))
    nets = [Sequential([Dense(3)], n_inputs=3, random_state=0) for _ in range(2)]
    histories = []
    for net, validation in zip(nets, (None, (X, y)), strict=True):
        net.compile(optimizer="adam", loss="squared_error")
        histories.append(net.fit(X, y, epochs=5, batch_size=16, validation_data=validation))
    assert histories[0].history["loss"] == histories[1].history["loss"]
    assert histories[0].epoch == histories[1].epoch == [0, 1, 2, 3, 4]
    assert nets[0]._epochs_done == 5
    for got, wanted in zip(nets[0].get_weights(), nets[1].get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("n_inputs", "n_units", "dtype"), [(3, 1, "float32"), (2, 2, "float32"), (2, 1, "float64")]
)
def test_samples_of_another_network_are_refused(n_inputs, n_units, dtype):
    ours = Sequential([Dense(1)], n_inputs=2, random_state=0)
    other = Sequential([Dense(n_units)], n_inputs=n_inputs, dtype=dtype, random_state=0)
    for net in (ours, other):
        net.compile(optimizer="sgd", loss="squared_error")
    described = other._describe(other._prepare(np.ones((3, n_inputs)), np.ones((3, n_units))))
    with pytest.raises(ValueError, match="another network"):
        ours._network.train(described, 1, [])


def test_training_keeps_the_arrays_alive():
    """Nothing but the description holds these; the memory of freed ones would be given again."""
    X, y = np.random.default_rng(0).normal(size=(2, 500, 3))
    expected, net = (Sequential([Dense(3)], n_inputs=3, random_state=0) for _ in range(2))
    for each in (expected, net):
        each.compile(optimizer="sgd", loss="squared_error")
    expected.fit(X, y, shuffle=False)
    described = net._describe(net._prepare(X, y))
    _ = [np.full((500, 3), np.nan, np.float32) for _ in range(50)]
    net._run_epochs(described, [], 1, 32, False)
    for got, wanted in zip(net.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_epochs_visit_the_samples_in_a_given_order(dtype, batch_size):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((10, 3)).astype(dtype), rng.integers(0, 2, 10)
    weight = rng.uniform(0.5, 2, 10)
    order = rng.permutation(10)
    by_order, in_turn = (
        make_net(
            3,
            [(4, "tanh"), (2, "softmax")],
            loss="cross_entropy",
            optimizer=SGD(0.1),
            dtype=dtype,
            l2=[(0.1, True)] * 2,
        )
        for _ in range(2)
    )
    averages: list[list[tuple[float, float, float]]] = [[], []]
    for net, rows, options in (
        (by_order, np.arange(10), {"order": order}),
        (in_turn, order, {}),
    ):
        described = net._describe(net._prepare(X[rows], y[rows], weight[rows]))
        for by_count in (False, True):
            net._network.train(
                described, batch_size, averages[net is in_turn], by_count=by_count, **options
            )
    assert_bitwise_equal(by_order.get_weights(), in_turn.get_weights())
    assert averages[0] == averages[1]


def test_each_epoch_has_an_order_of_its_own(dtype):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((10, 3)), rng.integers(0, 2, 10)
    orders = np.stack([rng.permutation(10) for _ in range(100)])  # more than the core notes down
    at_once, one_by_one = (
        make_net(
            3, [(4, "tanh"), (2, "softmax")], loss="cross_entropy", optimizer=SGD(0.1), dtype=dtype
        )
        for _ in range(2)
    )
    found: list[list[tuple[float, float, float]]] = [[], []]
    described = at_once._describe(at_once._prepare(X, y))
    at_once._network.train(described, 3, found[0], n_epochs=len(orders), order=orders)
    for order in orders:
        one_by_one._network.train(described, 3, found[1], order=order)
    assert_bitwise_equal(at_once.get_weights(), one_by_one.get_weights())
    assert found[0] == found[1] and len(found[0]) == len(orders)


def test_averages_of_batches_by_their_counts():
    rng = np.random.default_rng(0)
    X, y, weight = (
        rng.standard_normal((5, 2)),
        rng.standard_normal((5, 1)),
        np.array([1.0, 2, 3, 4, 5]),
    )
    net = make_net(
        2, [(1, "identity")], loss="squared_error", optimizer=SGD(1e-30), l2=[(0.5, False)]
    )
    kernel, bias = net.get_weights()
    losses = 0.5 * ((X @ kernel + bias - y) ** 2).sum(axis=1)
    means = [np.average(losses[part], weights=weight[part]) for part in (slice(3), slice(3, 5))]
    penalty = 0.25 * (kernel**2).sum()
    described = net._describe(net._prepare(X, y, weight))
    found: list[tuple[float, float, float]] = []
    net._network.train(described, 3, found)
    net._network.train(described, 3, found, by_count=True)
    np.testing.assert_allclose(found[0][0], np.average(means, weights=[6, 9]) + penalty)
    np.testing.assert_allclose(found[1][0], np.average(means, weights=[3, 2]) + penalty)
    np.testing.assert_allclose([each[2] for each in found], penalty)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (np.arange(9), "10 contiguous int64"),
        (np.arange(10, dtype=np.int32), "10 contiguous int64"),
        (np.arange(20)[::2], "10 contiguous int64"),
        (np.arange(1, 11), "from 0 to 9"),
        (np.arange(-1, 9), "from 0 to 9"),
        (np.tile(np.arange(10), (3, 1)), "for each of 2 epochs or for all"),
        (np.stack([np.arange(10), np.arange(1, 11)]), "from 0 to 9"),
    ],
)
def test_orders_that_leave_the_samples_are_refused(order, expected):
    net = make_net(2, [(1, "identity")], loss="squared_error")
    described = net._describe(net._prepare(np.ones((10, 2)), np.ones((10, 1))))
    with pytest.raises(ValueError, match=expected):
        net._network.train(described, 5, [], n_epochs=2, order=order)
