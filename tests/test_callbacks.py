"""Callbacks: which hooks are called when, and what the ready-made ones do.

The sequences of values for `EarlyStopping` and `ReduceLROnPlateau` follow Keras's documentation;
a fake network is told the values one by one.
"""

import csv
import math
import pickle
import sys

import numpy as np
import pytest
from conftest import assert_bitwise_equal, make_net

from cymlp import Sequential
from cymlp.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    HistogramLogger,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ProgressBar,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from cymlp.layers import Dense
from cymlp.metrics import F1, FunctionMetric
from cymlp.optimizers import SGD

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 4))
LABELS = RNG.integers(0, 3, 50)


def classifier(**options):
    return make_net(
        4, [(5, "tanh"), (3, "softmax")], loss="cross_entropy", metrics=["accuracy"], **options
    )


class Spy(Callback):
    """Records every call; a subclass for each choice of hooks."""

    def __init__(self):
        self.calls = []


def spy_on(*hooks):
    def recorder(hook):
        return lambda self, *arguments: self.calls.append((hook, *arguments[:-1]))

    return type("SpyOn", (Spy,), {hook: recorder(hook) for hook in hooks})()


EPOCH = ("on_epoch_begin", "on_epoch_end")
BATCH = ("on_train_batch_begin", "on_train_batch_end")
TRAIN = ("on_train_begin", "on_train_end")
TEST = ("on_test_begin", "on_test_end")


# ---------------------------------------------------------------------- the loop


def test_order_of_hooks():
    spy = spy_on(*TRAIN, *EPOCH, *BATCH, *TEST)
    classifier().fit(
        X, LABELS, epochs=2, batch_size=20, validation_split=0.2, callbacks=[spy], verbose=0
    )
    epochs = [
        [
            ("on_epoch_begin", epoch),
            ("on_train_batch_begin", 0),
            ("on_train_batch_end", 0),
            ("on_train_batch_begin", 1),
            ("on_train_batch_end", 1),
            ("on_test_begin",),
            ("on_test_end",),
            ("on_epoch_end", epoch),
        ]
        for epoch in range(2)
    ]
    assert spy.calls == [("on_train_begin",), *epochs[0], *epochs[1], ("on_train_end",)]


@pytest.mark.parametrize("hooks", [TRAIN, EPOCH, BATCH, TEST, ("on_progress",), BATCH[:1]])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_watching_changes_nothing(hooks, batch_size, n_threads):
    watched, alone = classifier(optimizer="adam"), classifier(optimizer="adam")
    options = {"epochs": 3, "batch_size": batch_size, "validation_split": 0.1, "verbose": 0}
    spy = spy_on(*hooks)
    history = watched.fit(X, LABELS, callbacks=[spy], n_threads=n_threads, **options)
    assert history == alone.fit(X, LABELS, n_threads=n_threads, **options)
    assert_bitwise_equal(watched.get_weights(), alone.get_weights())
    watched.fit(X, LABELS, verbose=0)
    alone.fit(X, LABELS, verbose=0)
    assert_bitwise_equal(watched.get_weights(), alone.get_weights())
    n_batches = -(-45 // batch_size)
    for hook in hooks:
        batches = [call[1] for call in spy.calls if call[0] == hook and hook in BATCH]
        assert batches == (3 * list(range(n_batches)) if hook in BATCH else [])
        assert spy.calls


@pytest.mark.parametrize("n_threads", [1, 2])
def test_watching_a_team_changes_nothing(n_threads):
    """The network is large enough for two threads."""
    x, y = RNG.standard_normal((640, 128)), RNG.standard_normal((640, 128))
    watched, alone = (make_net(128, [(256, "relu"), (128, "identity")]) for _ in range(2))
    spy = spy_on(*BATCH)
    options = {"epochs": 2, "batch_size": 64, "n_threads": n_threads, "verbose": 0}
    assert watched.fit(x, y, callbacks=[spy], **options) == alone.fit(x, y, **options)
    assert_bitwise_equal(watched.get_weights(), alone.get_weights())
    assert len(spy.calls) == 40


def test_logs_of_batches_are_running_averages():
    found, weights = [], []
    net, twin = classifier(), classifier()

    def look(batch, logs):
        found.append(logs)
        weights.append(net.get_weights())  # a look is allowed

    net.fit(
        X, LABELS, batch_size=20, shuffle=False, verbose=0,
        callbacks=[LambdaCallback(on_train_batch_end=look)],
    )  # fmt: skip
    total = done = 0
    for i, logs in enumerate(found):
        rows = slice(20 * i, min(20 * i + 20, 50))
        n = rows.stop - rows.start
        total += n * twin.train_on_batch(X[rows], LABELS[rows])
        done += n
        assert logs["loss"] == pytest.approx(total / done, rel=1e-12)
        assert set(logs) == {"loss", "accuracy"}
        assert_bitwise_equal(weights[i], twin.get_weights())
    assert done == 50


def test_hooks_of_batches_may_not_touch():
    def touch(batch, logs):
        net.set_weights(net.get_weights())

    net = classifier()
    with pytest.raises(RuntimeError, match="being trained by another call"):
        net.fit(X, LABELS, callbacks=[LambdaCallback(on_train_batch_end=touch)], verbose=0)
    net.fit(X, LABELS, verbose=0)  # and is free again


def test_params_and_model():
    callback = Callback()
    net = classifier()
    net.compile(loss="cross_entropy", metrics=["accuracy", "f1"])
    history = net.fit(
        X, LABELS, epochs=3, initial_epoch=1, batch_size=20, validation_split=0.1,
        callbacks=[callback], verbose=0,
    )  # fmt: skip
    assert callback.model is net
    assert callback.params == {
        "epochs": 3,
        "initial_epoch": 1,
        "steps": 3,
        "samples": 45,
        "batch_size": 20,
        "verbose": 0,
        "metrics": ["loss", "accuracy", "val_loss", "val_accuracy", "val_f1"],
        "history": history,
    }
    assert callback.params["history"] is history
    assert list(history.history) == callback.params["metrics"]


def test_what_callbacks_put_into_logs_is_recorded():
    class Adds(Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["more"] = epoch + 0.5

    seen = []
    after = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["more"]))
    ends = []
    end = LambdaCallback(on_train_end=ends.append)
    history = classifier().fit(X, LABELS, epochs=2, callbacks=[Adds(), after, end], verbose=0)
    assert history.history["more"] == seen == [0.5, 1.5]
    assert ends == [{name: values[-1] for name, values in history.history.items()}]


# ---------------------------------------------------------------------- ends


@pytest.mark.parametrize("hook", [*EPOCH, *BATCH, "on_progress", *TEST])
def test_stop_training(hook):
    net, spy = classifier(), spy_on(*EPOCH, "on_train_end")

    def stop(*_):
        net.stop_training = True

    history = net.fit(
        X, LABELS, epochs=5, batch_size=10, validation_split=0.2, shuffle=False, verbose=0,
        callbacks=[LambdaCallback(**{hook: stop}), spy],
    )  # fmt: skip
    assert history.epoch == [0] and len(history.history["val_loss"]) == 1
    assert [call[0] for call in spy.calls] == [*EPOCH, "on_train_end"]
    steps = 1 if hook in BATCH else 4
    assert net._network.iteration == steps
    twin = classifier()
    for i in range(steps):
        twin.train_on_batch(X[10 * i : 10 * i + 10], LABELS[10 * i : 10 * i + 10])
    assert_bitwise_equal(net.get_weights(), twin.get_weights())
    assert len(net.fit(X, LABELS, epochs=2, verbose=0).epoch) == 2  # the next fit is not stopped


def test_stop_before_the_first_epoch():
    net = classifier()
    stop = LambdaCallback(on_train_begin=lambda logs: setattr(net, "stop_training", True))
    assert net.fit(X, LABELS, epochs=2, callbacks=[stop], verbose=0).epoch == []
    assert net._network.iteration == 0


@pytest.mark.parametrize(
    "hook, steps", [("on_epoch_begin", 0), ("on_train_batch_begin", 0), ("on_train_batch_end", 1),
                    ("on_test_begin", 5), ("on_epoch_end", 5), ("on_train_end", 10)],
)  # fmt: skip
def test_exception_leaves_the_last_finished_batch(hook, steps):
    def fail(*_):
        raise ArithmeticError("no more")

    closed = []
    spy = spy_on("on_train_end")
    callbacks = [
        LambdaCallback(close=lambda: closed.append(1)),
        LambdaCallback(**{hook: fail}),
        spy,
        LambdaCallback(close=lambda: closed.append(2)),
    ]
    net, twin = classifier(optimizer="adam"), classifier(optimizer="adam")
    with pytest.raises(ArithmeticError, match="no more"):
        net.fit(
            X, LABELS, epochs=2, batch_size=10, shuffle=False, validation_data=(X, LABELS),
            callbacks=callbacks, verbose=0,
        )  # fmt: skip
    assert closed == [1, 2] and spy.calls == []
    for i in range(steps):
        rows = slice(10 * (i % 5), 10 * (i % 5) + 10)
        twin.train_on_batch(X[rows], LABELS[rows])
    assert_bitwise_equal(net.get_weights(), twin.get_weights())
    for one in (net, twin):
        one.train_on_batch(X, LABELS)
    assert_bitwise_equal(net.get_weights(), twin.get_weights())


def test_all_are_closed_where_closing_one_fails():
    closed = []

    def fail():
        raise OSError("disk is full")

    callbacks = [LambdaCallback(close=fail), LambdaCallback(close=lambda: closed.append(1))]
    with pytest.raises(OSError, match="disk is full"):
        classifier().fit(X, LABELS, callbacks=callbacks, verbose=0)
    assert closed == [1]


def test_a_network_pickles_in_the_middle_of_a_fit():
    copies = []
    net = classifier()
    keep = LambdaCallback(on_epoch_end=lambda epoch, logs: copies.append(pickle.dumps(net)))
    net.fit(X, LABELS, epochs=2, callbacks=[keep], verbose=0)
    copy = pickle.loads(copies[-1])
    assert_bitwise_equal(copy.get_weights(), net.get_weights())


def test_lambda_callback_is_checked():
    with pytest.raises(ValueError, match="hooks must be named on_train_begin, .*got 'on_epoch'"):
        LambdaCallback(on_epoch=print)
    with pytest.raises(TypeError, match="on_epoch_end must be callable, got 3"):
        LambdaCallback(on_epoch_end=3)


# ---------------------------------------------------------------------- a fake network


class FakeModel:
    """What callbacks see of a network; its weights are the number of the epoch."""

    def __init__(self, learning_rate=1.0, metrics=()):
        self.stop_training = False
        self.learning_rate = learning_rate
        self.metrics = metrics
        self.weights = None

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


def play(callback, values, *, monitor="val_loss", model=None):
    """Tell a callback the values of epochs; return the fake network and each epoch's rate."""
    model = FakeModel() if model is None else model
    callback.set_params({"metrics": ["loss", monitor]})
    callback.set_model(model)
    callback.on_train_begin({})
    rates, logs = [], {}
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch, {})
        model.weights = epoch
        logs = {"loss": 0.0} if value is None else {"loss": 0.0, monitor: value}
        callback.on_epoch_end(epoch, logs)
        rates.append(model.learning_rate)
        if model.stop_training:
            break
    callback.on_train_end(logs)
    return model, rates


# ---------------------------------------------------------------------- EarlyStopping

NAN = math.nan


@pytest.mark.parametrize(
    "options, values, stopped, best",
    [
        ({}, [3, 2, 1, 1, 0], 3, 2),  # patience 0: the first epoch without an improvement
        ({"patience": 1}, [3, 2, 1, 1, 0], 3, 2),
        ({"patience": 2}, [3, 4, 2, 3, 4, 0], 4, 2),
        ({"patience": 2}, [3, 4, 2, 3, 1, 2], 0, 4),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.6, 2.5, 0], 2, 0),  # 0.5 is not more than 0.5
        ({"patience": 2, "min_delta": 0.5}, [3, 2.25, 2.0, 1.75, 0], 3, 1),
        ({"patience": 2, "mode": "max"}, [1, 2, 1, 2, 3], 3, 1),
        ({"patience": 2, "baseline": 1.0}, [3, 2.5, 2, 2, 0], 3, 2),  # wait is not reset above it
        ({"patience": 2, "baseline": 1.0}, [3, 0.5, 2, 0.4, 2, 2], 5, 3),
        ({"patience": 1, "start_from_epoch": 3}, [1, 2, 3, 4, 3.5, 4, 0], 5, 4),
        ({"patience": 2}, [NAN, NAN, NAN, 1], 1, 0),
        ({"patience": 3}, [NAN, 2, NAN, NAN, NAN, 1], 4, 1),
        ({"patience": 2}, [2, None, 3, None, 3, 1], 4, 0),  # epochs without validation
        ({"patience": 2}, [2, math.inf, math.inf, 1], 2, 0),
    ],
)
def test_early_stopping(options, values, stopped, best):
    stop = EarlyStopping(**options)
    model, rates = play(stop, values)
    assert stop.stopped_epoch == stopped
    assert model.stop_training == (stopped > 0)
    assert len(rates) == (stopped + 1 if stopped else len(values))
    assert stop.best_epoch == best
    if not math.isnan(values[best]):
        assert stop.best == values[best]
    restoring = EarlyStopping(restore_best_weights=True, **options)
    model, _ = play(restoring, values)
    assert model.weights == best  # the fake weights are the epoch


def test_early_stopping_restores_at_the_end_too():
    model, _ = play(EarlyStopping(patience=9, restore_best_weights=True), [3, 1, 2])
    assert model.weights == 1 and not model.stop_training


def test_early_stopping_starts_anew():
    stop = EarlyStopping(patience=1)
    play(stop, [1, 2])
    play(stop, [5, 6])
    assert stop.best == 5 and stop.stopped_epoch == 1


def test_early_stopping_of_a_fit():
    net, twin = classifier(), classifier()
    data = {"batch_size": 5, "validation_split": 0.4, "verbose": 0}
    for one in (net, twin):
        one.compile(SGD(learning_rate=3.0), "cross_entropy", ["accuracy"])
    stop = EarlyStopping(patience=3, restore_best_weights=True)
    losses = net.fit(X, LABELS, epochs=200, callbacks=[stop], **data).history["val_loss"]
    assert len(losses) < 200
    assert len(losses) == stop.stopped_epoch + 1 == int(np.argmin(losses)) + 4
    twin.fit(X, LABELS, epochs=stop.best_epoch + 1, **data)
    assert_bitwise_equal(net.get_weights(), twin.get_weights())


def test_auto_mode_knows_metrics():
    metrics = (F1(), F1("macro", name="f"), FunctionMetric(max, mode="max"), FunctionMetric(min))
    for monitor, values, n_epochs in (
        ("val_f1", [1, 2, 3, 2], 4),
        ("val_f", [2, 1, 3], 2),
        ("val_max", [2, 1, 3], 2),
        ("loss", [1, 2], 2),
    ):
        model = FakeModel(metrics=metrics)
        _, rates = play(EarlyStopping(monitor), values, monitor=monitor, model=model)
        assert len(rates) == n_epochs
    for monitor in ("val_min", "unknown"):
        for callback in (EarlyStopping(monitor), ReduceLROnPlateau(monitor)):
            with pytest.raises(ValueError, match='mode must be "min" or "max" for'):
                play(callback, [1], monitor=monitor, model=FakeModel(metrics=metrics))


@pytest.mark.parametrize(
    "make",
    [
        EarlyStopping,
        ReduceLROnPlateau,
        lambda: ModelCheckpoint("w.npz", save_best_only=True),
        lambda: EarlyStopping("val_mae"),
    ],
)
def test_monitor_without_validation_is_refused_before_training(make):
    net = Sequential([Dense(3, activation="softmax")])
    net.compile(loss="cross_entropy")
    with pytest.raises(ValueError, match="monitor must be one of loss, got 'val_"):
        net.fit(X, LABELS, callbacks=[make()], verbose=0)
    assert not net.built


def test_monitor_that_nobody_gives():
    stop = EarlyStopping("acc", mode="max")
    with pytest.raises(ValueError, match="monitor must be one of loss, accuracy, got 'acc'"):
        classifier().fit(X, LABELS, callbacks=[stop], verbose=0)


# ---------------------------------------------------------------------- learning rates


@pytest.mark.parametrize(
    "options, values, expected",
    [
        ({"patience": 1}, [3, 3, 2, 2], [1, 0.1, 0.1, 0.01]),
        ({"patience": 2}, [3, 3, 3, 3, 3], [1, 1, 0.1, 0.1, 0.01]),
        ({"patience": 2}, [3, 3, 2, 3, 1], [1] * 5),
        ({"patience": 1, "factor": 0.5, "min_lr": 0.3}, [1] * 4, [1, 0.5, 0.3, 0.3]),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.5, 2.4], [1, 0.1, 0.1]),
        ({"patience": 1, "mode": "max"}, [1, 2, 2, 3], [1, 1, 0.1, 0.1]),
        # The epoch that ends the cooldown counts again.
        ({"patience": 1, "cooldown": 2}, [1] * 6, [1, 0.1, 0.1, 0.01, 0.01, 0.001]),
        ({"patience": 2, "cooldown": 1}, [1] * 6, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ({"patience": 1, "cooldown": 3}, [1] * 5, [1, 0.1, 0.1, 0.1, 0.01]),
        ({"patience": 1}, [NAN, NAN, 1, None, NAN], [0.1, 0.01, 0.01, 0.01, 0.001]),
    ],
)
def test_reduce_lr_on_plateau(options, values, expected):
    _, rates = play(ReduceLROnPlateau(**options), values)
    assert rates == pytest.approx(expected)


def test_reduce_lr_logs_the_rate_of_the_epoch():
    callback, logs = ReduceLROnPlateau(patience=0), {"val_loss": NAN}
    play(callback, [])
    callback.on_epoch_end(0, logs)
    assert logs["learning_rate"] == 1.0 and callback.model.learning_rate == 0.1


def test_learning_rate_scheduler():
    scheduler = LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)
    _, rates = play(scheduler, [1, 1, 1])
    assert rates == [1, 0.5, 0.25]
    logs = {}
    scheduler.on_epoch_end(2, logs)
    assert logs == {"learning_rate": 0.25}


def test_learning_rates_of_a_fit():
    net = classifier()
    net.learning_rate = 0.5
    callbacks = [
        LearningRateScheduler(lambda epoch, rate: rate / 2),
        ReduceLROnPlateau("loss", patience=1, min_delta=1e9),
    ]
    history = net.fit(X, LABELS, epochs=3, callbacks=callbacks, verbose=0).history
    assert history["learning_rate"] == pytest.approx([0.25, 0.125, 0.00625])
    assert net.learning_rate == pytest.approx(0.000625)


@pytest.mark.parametrize("bad", [0.0, -1.0, NAN, "0.1", None])
def test_schedule_must_return_a_rate(bad):
    with pytest.raises((TypeError, ValueError), match="what schedule returns must be a number"):
        play(LearningRateScheduler(lambda epoch, rate: bad), [1])


# ---------------------------------------------------------------------- files


def saved_weights(path):
    with np.load(path) as saved:
        return [saved[name] for name in saved.files]


def test_checkpoint_after_each_epoch(tmp_path):
    weights = []
    net = classifier()
    path = tmp_path / "new" / "{epoch:02d}-{val_loss:.3f}.npz"
    keep = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(net.get_weights()))
    history = net.fit(
        X, LABELS, epochs=3, initial_epoch=1, validation_split=0.2,
        callbacks=[ModelCheckpoint(path), keep], verbose=0,
    )  # fmt: skip
    names = sorted(p.name for p in (tmp_path / "new").iterdir())
    losses = history.history["val_loss"]
    assert names == [f"{epoch:02d}-{loss:.3f}.npz" for epoch, loss in enumerate(losses, 2)]
    for name, expected in zip(names, weights, strict=True):
        assert_bitwise_equal(saved_weights(tmp_path / "new" / name), expected)


def test_checkpoint_of_the_best(tmp_path):
    path = tmp_path / "w.npz"
    callback = ModelCheckpoint(path, save_best_only=True, initial_value_threshold=2.5)
    saved = []

    class Model(FakeModel):
        def get_weights(self):
            saved.append(self.weights)
            return [np.array(self.weights)]

    play(callback, [3, 2, 2, NAN, None, 1, 4], model=Model())
    assert saved == [1, 5] and saved_weights(path) == [5] and callback.best == 1


def test_checkpoint_every_so_many_batches(tmp_path):
    net, steps = classifier(), []
    callback = ModelCheckpoint(tmp_path / "{epoch}-{loss}.npz", save_freq=3)
    get = net.get_weights
    net.get_weights = lambda: steps.append(net._network.iteration) or get()
    net.fit(X, LABELS, epochs=2, batch_size=10, callbacks=[callback], verbose=0)
    assert steps == [3, 6, 9]
    assert sorted(p.name[0] for p in tmp_path.iterdir()) == ["1", "2", "2"]


def test_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "w.npz"
    net = classifier()
    net.fit(X, LABELS, callbacks=[ModelCheckpoint(path)], verbose=0)
    before = path.read_bytes()

    def half(file, *arrays):
        file.write(b"half of it")
        raise OSError("disk is full")

    monkeypatch.setattr("cymlp.callbacks.np.savez", half)
    with pytest.raises(OSError, match="disk is full"):
        net.fit(X, LABELS, callbacks=[ModelCheckpoint(path)], verbose=0)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_checkpoint_of_an_unknown_value(tmp_path):
    callback = ModelCheckpoint(tmp_path / "{val_loss}.npz")
    with pytest.raises(ValueError, match="filepath must name values of .* got 'val_loss'"):
        classifier().fit(X, LABELS, callbacks=[callback], verbose=0)


@pytest.mark.skipif(sys.platform == "win32", reason="modes of files are POSIX's")
def test_checkpoint_has_the_mode_of_other_files(tmp_path):
    (tmp_path / "plain").write_text("")
    classifier().fit(X, LABELS, callbacks=[ModelCheckpoint(tmp_path / "w.npz")], verbose=0)
    assert (tmp_path / "w.npz").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    net = classifier()
    options = {"validation_split": 0.2, "validation_freq": 2, "verbose": 0}
    history = net.fit(X, LABELS, epochs=3, callbacks=[CSVLogger(path)], **options).history
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [float(row["loss"]) for row in rows] == history["loss"]
    assert [row["val_loss"] for row in rows] == ["NA", str(history["val_loss"][1]), "NA"]
    more = CSVLogger(path, append=True)
    net.fit(X, LABELS, epochs=5, initial_epoch=3, callbacks=[more], **options)
    lines = path.read_text().splitlines()
    assert len(lines) == 6 and [line.split(",")[0] for line in lines[4:]] == ["3", "4"]
    with pytest.raises(ValueError, match="must have the columns epoch, loss, accuracy to be"):
        net.fit(X, LABELS, callbacks=[more], verbose=0)
    net.fit(X, LABELS, callbacks=[CSVLogger(path, separator=";")], verbose=0)
    assert path.read_text().splitlines()[0] == "epoch;loss;accuracy"


def test_csv_logger_closes_its_file_and_lines_are_there_at_once(tmp_path):
    path = tmp_path / "log.csv"
    logger, seen = CSVLogger(path), []

    def fail(epoch, logs):
        seen.append(len(path.read_text().splitlines()))
        if epoch == 1:
            raise ArithmeticError

    callbacks = [logger, LambdaCallback(on_epoch_end=fail)]
    with pytest.raises(ArithmeticError):
        classifier().fit(X, LABELS, epochs=4, callbacks=callbacks, verbose=0)
    assert seen == [2, 3] and logger._file is None


# ---------------------------------------------------------------------- the others


@pytest.mark.parametrize("watched", [False, True])
def test_terminate_on_nan(watched):
    net = make_net(4, [(3, "identity")])
    net.compile(SGD(learning_rate=1e60), "squared_error")
    callbacks = [TerminateOnNaN(), *([spy_on(*BATCH)] if watched else [])]
    with pytest.warns(RuntimeWarning, match="loss of epoch 1/9"):
        history = net.fit(X, X[:, :3], epochs=9, batch_size=2, callbacks=callbacks, verbose=0)
    assert len(history.epoch) == 1 and not np.isfinite(history.history["loss"][0])
    step, _ = net._network.divergence
    assert net._network.iteration == (step if watched else 25)


def test_terminate_on_nan_in_the_middle_of_an_epoch():
    net = Sequential([Dense(1024, activation="relu"), Dense(256)], n_inputs=64, random_state=0)
    net.compile(SGD(learning_rate=1e30), "squared_error")
    x = np.ones((40_000, 64), "float32")
    with pytest.warns(RuntimeWarning):
        net.fit(x, np.ones((40_000, 256)), batch_size=8, callbacks=[TerminateOnNaN()], verbose=0)
    assert net._network.iteration < 5000


def test_histograms():
    net = classifier()
    logger = HistogramLogger(freq=2, bins=7, activations_of=X[:10])
    history = net.fit(X, LABELS, epochs=5, callbacks=[logger], verbose=0)
    names = [f"layers[{i}].{what}" for i in (0, 1) for what in ("bias", "kernel", "output")]
    assert sorted(history.histograms) == names
    for name, n in zip(names, (5, 20, 50, 3, 15, 30), strict=True):
        assert [epoch for epoch, _, _ in history.histograms[name]] == [1, 3]
        for _, counts, edges in history.histograms[name]:
            assert counts.sum() == n and len(edges) == 8
    last = HistogramLogger(bins=7)
    history = net.fit(X, LABELS, callbacks=[last], verbose=0)
    _, counts, edges = history.histograms["layers[0].kernel"][0]
    expected = np.histogram(net.get_weights()[0], 7)
    np.testing.assert_array_equal(counts, expected[0])
    np.testing.assert_array_equal(edges, expected[1])


@pytest.mark.parametrize(
    "values, n",
    [
        ([1e200, np.nextafter(1e200, 0)], 2),
        ([1.0, 1.0], 2),
        ([1e308, -1e308], 0),
        ([np.nan, np.inf, 3.0], 1),
        ([np.nan], 0),
        ([-1e-320, 1e-320], 2),
    ],
)
def test_histograms_of_any_weights(values, n):
    layer = Dense(len(values))
    net = Sequential([layer], n_inputs=1, dtype="float64")
    net.compile("sgd")
    net._network.set(0, "bias", np.array(values))
    history = LambdaCallback()  # anything with a place for them
    history.histograms = {}
    logger = HistogramLogger(bins=30)
    logger.set_params({"history": history})
    logger.set_model(net)
    logger.on_epoch_end(0)
    _, counts, edges = history.histograms["layers[0].bias"][0]
    assert counts.sum() == n and (np.diff(edges) > 0).all()


def test_progress_bar_is_what_verbose_shows(capsys):
    classifier().fit(X, LABELS, epochs=2, validation_split=0.2, verbose=2)
    shown = [line.split("  [")[0] for line in capsys.readouterr().out.splitlines()]
    callback = ProgressBar(2)
    classifier().fit(X, LABELS, epochs=2, validation_split=0.2, callbacks=[callback], verbose=0)
    lines = [line.split("  [")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == shown and lines[0].startswith("Epoch 1/2  loss ") and "val_loss" in lines[0]


def test_progress_shows_what_callbacks_add(capsys):
    add = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(more=2.0))
    classifier().fit(X, LABELS, callbacks=[add], verbose=2)
    assert "more 2.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: EarlyStopping(3), "monitor must be the name"),
        (lambda: EarlyStopping(mode="best"), 'mode must be "auto", "min" or "max"'),
        (lambda: EarlyStopping(patience=-1), "patience must be"),
        (lambda: EarlyStopping(min_delta=-1.0), "min_delta must be"),
        (lambda: EarlyStopping(baseline="low"), "baseline must be"),
        (lambda: EarlyStopping(restore_best_weights=1), "restore_best_weights must be"),
        (lambda: EarlyStopping(start_from_epoch=1.5), "start_from_epoch must be"),
        (lambda: ReduceLROnPlateau(factor=1.0), "factor must be"),
        (lambda: ReduceLROnPlateau(cooldown=-1), "cooldown must be"),
        (lambda: ReduceLROnPlateau(min_lr=-0.1), "min_lr must be"),
        (lambda: LearningRateScheduler(0.1), "schedule must be callable"),
        (lambda: ModelCheckpoint("weights.h5"), "filepath must end in .npz"),
        (lambda: ModelCheckpoint("w.npz", save_freq="batch"), 'save_freq must be "epoch"'),
        (lambda: ModelCheckpoint("w.npz", save_freq=0), "save_freq must be"),
        (lambda: ModelCheckpoint("w.npz", save_best_only=True, save_freq=3), "a value of batches"),
        (lambda: CSVLogger("log.csv", separator=", "), "separator must be one character"),
        (lambda: HistogramLogger(bins=0), "bins must be"),
        (lambda: HistogramLogger(freq=0), "freq must be"),
        (lambda: ProgressBar(3), "verbose: expected"),
    ],
)
def test_arguments_are_checked(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()
