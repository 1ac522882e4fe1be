"""`fit`: validation, class weights, epoch numbers, divergence, and that refusals change nothing."""

import warnings

import numpy as np
import pytest
from conftest import assert_bitwise_equal, assert_unchanged_by, make_net, random_weights

import cymlp
from cymlp import DivergenceWarning, History, MLPRegressor, Sequential
from cymlp.callbacks import Callback, LambdaCallback
from cymlp.layers import Dense
from cymlp.optimizers import SGD
from cymlp.regularizers import L2

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 4))
LABELS = RNG.integers(0, 3, 50)
WEIGHTS = RNG.uniform(0.1, 2, 50)


def classifier(**options):
    return make_net(
        4, [(5, "tanh"), (3, "softmax")], loss="cross_entropy", metrics=["accuracy"], **options
    )


# ---------------------------------------------------------------------- validation_split


@pytest.mark.parametrize("form", ["dense", "bytes", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
def test_validation_split_takes_the_last_samples(form, weighted):
    x, weight = X, WEIGHTS if weighted else None
    if form != "dense":
        x = np.abs(X * 2).astype("uint8")
    parts = x[:37], x[37:]
    if form == "sparse":
        sparse = pytest.importorskip("scipy.sparse")
        parts = tuple(sparse.csr_array(part.astype("float64")) for part in parts)
        x = sparse.csr_array(x.astype("float64"))
    w1, w2 = (None, None) if weight is None else (weight[:37], weight[37:])
    split, apart = classifier(), classifier()
    found = split.fit(
        x, LABELS, epochs=3, batch_size=8, validation_split=0.25, sample_weight=weight, verbose=0
    )
    expected = apart.fit(
        parts[0],
        LABELS[:37],
        epochs=3,
        batch_size=8,
        sample_weight=w1,
        validation_data=(parts[1], LABELS[37:], w2),
        verbose=0,
    )
    assert found == expected
    assert_bitwise_equal(split.get_weights(), apart.get_weights())


def test_validation_data_override_the_split():
    found, expected = (
        classifier().fit(
            X, LABELS, validation_data=(X[:9], LABELS[:9]), validation_split=split, verbose=0
        )
        for split in (0.5, 0.0)
    )
    assert found == expected


@pytest.mark.parametrize("freq", [1, 2, 3, [1, 5], {4}, np.int64(2), []])
def test_validation_freq(freq):
    epochs = 5
    validated = (
        set(freq)
        if isinstance(freq, (list, set))
        else {e for e in range(1, epochs + 1) if e % freq == 0}
    )
    data = {"validation_data": (X[:9], LABELS[:9]), "epochs": epochs, "verbose": 0}
    every = classifier().fit(X, LABELS, **data).history
    seen = []
    spy = LambdaCallback(on_test_begin=lambda logs: seen.append(dict(logs)))
    for callbacks in (None, [LambdaCallback(on_epoch_end=lambda *_: None), spy]):
        some = classifier().fit(X, LABELS, validation_freq=freq, callbacks=callbacks, **data)
        assert some.history["loss"] == every["loss"]
        for name in ("val_loss", "val_accuracy"):
            if not validated:
                assert name not in some.history
                continue
            expected = [v if e in validated else np.nan for e, v in enumerate(every[name], 1)]
            np.testing.assert_array_equal(some.history[name], expected)
    assert len(seen) == len(validated)


# ---------------------------------------------------------------------- class_weight


FACTORS = {0: 0.5, 2: 3.0}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weight(weighted, one_hot):
    y = np.eye(3)[LABELS] if one_hot else LABELS
    weight = WEIGHTS if weighted else None
    found, expected = classifier(), classifier()
    factors = np.array([0.5, 1, 3])[LABELS]
    history = found.fit(X, y, batch_size=8, class_weight=FACTORS, sample_weight=weight, verbose=0)
    assert history == expected.fit(
        X, y, batch_size=8, sample_weight=factors * (WEIGHTS if weighted else 1), verbose=0
    )
    assert_bitwise_equal(found.get_weights(), expected.get_weights())


def test_balanced_class_weight_is_that_of_scikit_learn():
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_sample_weight
    y = np.where(LABELS == 1, 0, LABELS)  # a class that does not occur is none
    found, expected = classifier(), classifier()
    history = found.fit(X, y, class_weight="balanced", verbose=0)
    assert history == expected.fit(X, y, sample_weight=compute("balanced", y), verbose=0)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "squared_error"])
def test_class_weight_of_a_single_output(loss):
    y = (LABELS > 0).astype(float)
    found, expected = (make_net(4, [(1, "sigmoid")], loss=loss) for _ in range(2))
    found.fit(X, y, class_weight={1: 2.5}, verbose=0)
    expected.fit(X, y, sample_weight=np.where(y == 1, 2.5, 1), verbose=0)
    assert_bitwise_equal(found.get_weights(), expected.get_weights())


def test_class_weight_is_not_for_validation():
    found, expected = classifier(), classifier()
    data = {"validation_split": 0.3, "shuffle": False, "verbose": 0}
    history = found.fit(X, LABELS, class_weight=FACTORS, **data)
    expected.fit(X[:35], LABELS[:35], class_weight=FACTORS, shuffle=False, verbose=0)
    assert_bitwise_equal(found.get_weights(), expected.get_weights())
    assert history.history["val_loss"] == [expected.evaluate(X[35:], LABELS[35:])["loss"]]


# ---------------------------------------------------------------------- epochs


def test_initial_epoch_shifts_numbers():
    seen = []

    class Spy(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(epoch)

        def on_epoch_end(self, epoch, logs=None):
            seen.append(epoch)

    shifted, plain = classifier(), classifier()
    found = shifted.fit(X, LABELS, epochs=5, initial_epoch=3, callbacks=[Spy()], verbose=0)
    expected = plain.fit(X, LABELS, epochs=2, verbose=0)
    assert found.epoch == [3, 4] and seen == [3, 3, 4, 4] and expected.epoch == [0, 1]
    assert found.history == expected.history
    assert shifted.fit(X, LABELS, epochs=4, initial_epoch=2, verbose=0).epoch == [2, 3]
    assert shifted.fit(X, LABELS, epochs=4, initial_epoch=4, verbose=0) == History()


def test_initial_epoch_in_the_progress(capsys):
    classifier().fit(X, LABELS, epochs=5, initial_epoch=3, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["Epoch 4/5", "Epoch 5/5"]


@pytest.mark.parametrize(
    "options, match",
    [
        ({"initial_epoch": -1}, "initial_epoch must be an integer of at least 0"),
        ({"initial_epoch": 3, "epochs": 2}, "initial_epoch must be .* at most 2, got 3"),
        ({"initial_epoch": 0.0}, "initial_epoch must be an integer"),
        ({"validation_split": 1.0}, "validation_split must be"),
        ({"validation_split": -0.1}, "validation_split must be"),
        ({"validation_split": "half"}, "validation_split must be"),
        ({"validation_split": 0.99}, "validation_split must leave samples"),
        ({"validation_split": 1e-9, "n": 1}, "validation_split must leave samples"),
        ({"validation_freq": 0}, "validation_freq must be"),
        ({"validation_freq": 1.5}, "validation_freq must be"),
        ({"validation_freq": [0]}, "validation_freq must be"),
        ({"validation_freq": "2"}, "validation_freq must be"),
        ({"class_weight": "even"}, "class_weight must be a dict"),
        ({"class_weight": [1, 2, 3]}, "class_weight must be a dict"),
        ({"class_weight": {3: 1.0}}, "class_weight: class must be an integer .* at most 2, got 3"),
        ({"class_weight": {"0": 1.0}}, "class_weight: class must be an integer"),
        ({"class_weight": {0: -1.0}}, r"class_weight\[0\] must be a number of at least 0"),
        ({"class_weight": {0: np.nan}}, r"class_weight\[0\] must be"),
        ({"class_weight": {0: 0, 1: 0, 2: 0}}, "must not be all zero"),
        ({"class_weight": {0: 1e200}, "weight": 1e200}, "class_weight times sample_weight"),
        ({"callbacks": 3}, "callbacks must be a list of callbacks"),
        ({"callbacks": [print]}, r"callbacks\[0\] must be a Callback"),
        ({"callbacks": [Callback]}, r"callbacks\[0\] must be a Callback"),
        ({"verbose": 3}, "verbose: expected"),
    ],
)
def test_refusals_change_nothing(options, match):
    options = dict(options)
    n = options.pop("n", 50)
    if "weight" in options:
        options["sample_weight"] = np.full(n, options.pop("weight"))
    net = classifier()

    def refused():
        with pytest.raises((TypeError, ValueError), match=match):
            net.fit(X[:n], LABELS[:n], **{"verbose": 0, **options})

    assert_unchanged_by(net, refused, X, LABELS)
    unbuilt = Sequential([Dense(3, activation="softmax")])
    unbuilt.compile(loss="cross_entropy")
    with pytest.raises((TypeError, ValueError), match=match):
        unbuilt.fit(X[:n], LABELS[:n], **{"verbose": 0, **options})
    assert not unbuilt.built


def test_a_part_without_weight_is_refused():
    weight = np.where(np.arange(50) < 25, 1.0, 0.0)
    with pytest.raises(ValueError, match="all zero in the last 25 samples"):
        classifier().fit(X, LABELS, sample_weight=weight, validation_split=0.5, verbose=0)


@pytest.mark.parametrize(
    "loss, outputs, y",
    [
        ("squared_error", 1, np.linspace(0, 1, 50)),
        ("squared_error", 3, np.ones((50, 3))),
        ("binary_cross_entropy", 3, np.eye(3)[LABELS] + np.eye(3)[(LABELS + 1) % 3]),
        ("cross_entropy", 3, np.full((50, 3), 1 / 3)),
    ],
)
def test_class_weight_needs_classes(loss, outputs, y):
    net = make_net(4, [(outputs, "sigmoid")], loss=loss)
    with pytest.raises(ValueError, match="class_weight needs targets that are class labels"):
        net.fit(X, y, class_weight="balanced", verbose=0)


# ---------------------------------------------------------------------- one compiled call


def calls_of_the_core(monkeypatch, **options):
    net = classifier()
    calls = []
    run = net._run_epochs

    def counted(described, every, n_epochs, *arguments, **named):
        calls.append(n_epochs)
        run(described, every, n_epochs, *arguments, **named)

    monkeypatch.setattr(net, "_run_epochs", counted)
    net.fit(X, LABELS, epochs=12, verbose=0, **options)
    return calls


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [12]),
        ({"callbacks": []}, [12]),
        ({"callbacks": [Callback(), LambdaCallback(on_train_end=lambda logs: None)]}, [12]),
        ({"validation_split": 0.2, "validation_freq": 5}, [5, 5, 2]),
        ({"validation_split": 0.2, "validation_freq": [2, 3, 12]}, [2, 1, 9]),
        ({"validation_split": 0.2}, [1] * 12),
        ({"callbacks": [LambdaCallback(on_epoch_begin=lambda epoch, logs: None)]}, [1] * 12),
        ({"initial_epoch": 7}, [5]),
    ],
)
def test_epochs_that_nobody_looks_between_are_one_call(monkeypatch, options, expected):
    assert calls_of_the_core(monkeypatch, **options) == expected


# ---------------------------------------------------------------------- divergence


def diverging(dtype="float32", activation="identity"):
    """Return a network whose second layer overflows before its first one does."""
    weights = random_weights(np.random.default_rng(3), 4, (5, 2))
    net = make_net(4, [(5, activation), (2, "identity")], weights=weights, dtype=dtype)
    return net


@pytest.mark.parametrize("n_threads", [1, 2])
def test_divergence_is_where_the_outputs_first_were_not_finite(dtype, n_threads):
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((24, 4)), rng.standard_normal((24, 2))
    net, twin = diverging(dtype), diverging(dtype)
    for one in (net, twin):
        one.compile(optimizer=SGD(learning_rate=1e4), loss="squared_error")
    with np.errstate(all="ignore"):
        for step in range(1, 100):
            rows = slice(4 * ((step - 1) % 6), 4 * ((step - 1) % 6) + 4)
            outputs = twin.layer_outputs(x[rows])
            if not np.isfinite(twin.train_on_batch(x[rows], y[rows])):
                break
    bad = [i for i, out in enumerate(outputs) if not np.isfinite(out).all()]
    what = rf"first the outputs of layers\[{bad[0]}\] \(dense\)" if bad else "the loss alone"
    epoch = (step + 5) // 6
    match = rf"loss of epoch {epoch}/20 is .*, not finite from step {step} of the optimizer on, "
    with pytest.warns(DivergenceWarning, match=match + what) as warned:
        net.fit(x, y, epochs=20, batch_size=4, shuffle=False, n_threads=n_threads, verbose=0)
    assert len(warned) == 1 and warned[0].filename == __file__


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize("at", [0, 3])
def test_divergence_names_the_layer(bad, at, dtype):
    """An input that only the layer's weights carry to infinity, at a known step."""
    weights = [np.eye(4), np.zeros(4), np.eye(4), np.zeros(4)]
    weights[2 * bad][0, 0] = np.finfo(dtype).max
    net = make_net(4, [(4, "identity"), (4, "identity")], weights=weights, dtype=dtype)
    net.compile(optimizer=SGD(learning_rate=1e-30), loss="squared_error")
    x = np.zeros((10, 4))
    x[2 * at, 0] = 4
    with pytest.warns(DivergenceWarning, match=rf"step {at + 1} .*layers\[{bad}\]"):
        net.fit(x, x, batch_size=2, shuffle=False, verbose=0)
    assert net._network.divergence == (at + 1, bad)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("row", [0, 63])
def test_divergence_within_a_team(n_threads, row):
    """Whichever thread had the row; the network is large enough for two."""
    x = np.zeros((256, 256), "float32")
    x[128 + row, 0] = 4
    kernel = np.eye(256)
    kernel[0, 0] = np.finfo("float32").max
    weights = [np.eye(256), np.zeros(256), kernel, np.zeros(256)]
    for hooks in ({}, {"on_train_batch_end": lambda batch, logs: None}):
        net = make_net(256, [(256, "relu"), (256, "relu")], weights=weights, dtype="float32")
        with pytest.warns(DivergenceWarning, match=r"step 3 .*layers\[1\]"):
            net.fit(
                x, x, batch_size=64, shuffle=False, n_threads=n_threads, verbose=0,
                callbacks=[LambdaCallback(**hooks)],
            )  # fmt: skip


@pytest.mark.parametrize("row", [100, 5000, 19_999])
def test_divergence_in_a_batch_that_is_taken_in_slices(row, dtype):
    weights = [np.eye(4), np.zeros(4), np.eye(4), np.zeros(4)]
    weights[0][0, 0] = np.finfo(dtype).max
    net = make_net(4, [(4, "identity"), (4, "identity")], weights=weights, dtype=dtype)
    x = np.zeros((20_000, 4))
    x[row, 0] = 4
    with pytest.warns(DivergenceWarning, match=r"step 1 .*layers\[0\]"):
        net.fit(x, x, batch_size=20_000, verbose=0)


def test_divergence_in_steps_of_one_sample(dtype):
    weights = [np.eye(2), np.zeros(2)]
    net = make_net(2, [(2, "identity")], weights=weights, dtype=dtype)
    x = np.full((6, 2), 1e30 if dtype == "float32" else 1e300)
    with pytest.warns(DivergenceWarning, match="loss of epoch 1/1 .* finite by step 6 of the opti"):
        net.fit(x, -x, batch_size=1, verbose=0)


def test_divergence_is_forgotten_by_the_next_fit():
    net = diverging()
    net.compile(optimizer=SGD(learning_rate=1e30), loss="squared_error")
    with pytest.warns(DivergenceWarning):
        net.fit(X, X[:, :2], epochs=3, verbose=0)
    fresh = diverging().get_weights()
    net.compile(optimizer=SGD(learning_rate=1e-3), loss="squared_error")
    net.set_weights(fresh)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.fit(X, X[:, :2], verbose=0)
    assert net._network.divergence is None


def test_gradients_are_no_divergence():
    net = diverging()
    net.set_weights([np.full(w.shape, 1e38) for w in net.get_weights()])
    net.gradients(X, X[:, :2])
    assert net._network.divergence is None


def test_the_last_step_of_all_shows_in_the_validation():
    """No batch comes after it that could have told."""
    net = diverging()
    net.compile(optimizer=SGD(learning_rate=1e38), loss="squared_error")
    with pytest.warns(DivergenceWarning, match="val_loss of epoch 1/1 is"):
        history = net.fit(X, X[:, :2], batch_size=50, validation_data=(X, X[:, :2]), verbose=0)
    assert np.isfinite(history.history["loss"][0])


@pytest.mark.parametrize(
    "n_samples, whence",
    [
        (1, "not finite by step 1 "),
        (2, "not finite from step 1 of the optimizer on, the loss alone"),
    ],
)
def test_divergence_of_a_penalty_alone(n_samples, whence):
    layer = Dense(1, kernel_regularizer=L2(strength=1.0))
    net = Sequential([layer], n_inputs=1, random_state=0)
    net.compile(optimizer="sgd", loss="squared_error")
    net.set_weights([[[1e30]], [0.0]])
    with pytest.warns(DivergenceWarning, match=f"loss of epoch 1/1 is inf, {whence}"):
        net.fit(np.zeros((n_samples, 1)), np.zeros(n_samples), verbose=0)


def test_estimators_do_not_warn_twice():
    pytest.importorskip("sklearn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge
        warnings.simplefilter("error", DivergenceWarning)
        with pytest.raises(ValueError, match="non-finite parameter weights"):
            MLPRegressor(
                hidden_layer_sizes=(3,), solver="sgd", learning_rate_init=1e30, max_iter=3
            ).fit(X, X[:, 0])


def test_where_the_warning_is():
    assert cymlp.exceptions.DivergenceWarning is DivergenceWarning
    assert issubclass(DivergenceWarning, RuntimeWarning)


# ---------------------------------------------------------------------- history


def test_history_pads_what_is_missing():
    history = History()
    history.record(4, {"loss": 1.0})
    history.record(5, {"loss": 2.0, "val_loss": 3.0})
    history.record(6, {"loss": 4.0})
    assert history.epoch == [4, 5, 6] and history.history["loss"] == [1.0, 2.0, 4.0]
    np.testing.assert_array_equal(history.history["val_loss"], [np.nan, 3.0, np.nan])


def test_plot_of_several_values():
    figure = pytest.importorskip("matplotlib.figure").Figure
    history = History()
    for epoch in range(10, 16):
        logs = {"loss": 1.0, "val_loss": 2.0 + epoch}
        if epoch % 2:
            logs["val_f1"] = 0.1 * epoch
        history.record(epoch, logs)
    ax = history.plot(figure().subplots(), key="f1")
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [12, 14, 16] and ax.get_ylabel() == "f1"
    assert line.get_label() == "validation"
    ax = history.plot(figure().subplots(), key=["loss", "f1"])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["loss, training", "loss, validation", "f1, validation"]
    one, other, third = (line.get_color() for line in ax.lines)
    assert one == other != third
    with pytest.raises(ValueError, match="key: expected one of .* got 'mae'"):
        history.plot(key=["loss", "mae"])
    with pytest.raises(ValueError, match="key: expected at least one name"):
        history.plot(key=[])
