"""Ctrl-C stops training at once, with the model in the state of the last finished batch.

Each test runs a script of its own, since a signal meant for it would also stop pytest. Afterwards
the script looks for the whole number of batches that gives the same weights, and goes on from there
with both networks: equal results mean that the optimizer's state is whole as well.
"""

import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import python_environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

COMMON = """
import os, signal, threading, time
import numpy as np
import cymlp
from cymlp import Sequential
from cymlp.layers import Dense

signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have ignored it
cymlp.set_num_threads(2)


def new_net(n_inputs, *units, dtype="float32"):
    layers = [Dense(n, activation="relu") for n in units] + [Dense(10, activation="softmax")]
    net = Sequential(layers, n_inputs=n_inputs, dtype=dtype, random_state=0)
    net.compile(optimizer="adam", loss="cross_entropy")
    return net


def data(n_samples, n_inputs, dtype="float32"):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n_samples, n_inputs)).astype(dtype), rng.integers(0, 10, n_samples)


def same(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one.get_weights(), other.get_weights()))


def batches_done(net, reference, X, y, batch_size, at_most):
    \"\"\"Train the reference batch by batch until it equals the net; return how many it took.\"\"\"
    for done in range(at_most + 1):
        if same(net, reference):
            return done
        start = done * batch_size % len(X)
        rows = slice(start, start + batch_size)
        reference.train_on_batch(X[rows], y[rows])
    raise SystemExit(f"no number of batches up to {at_most} gives these weights")


def goes_on_like(net, reference, X, y):
    for _ in range(2):
        if net.train_on_batch(X[:50], y[:50]) != reference.train_on_batch(X[:50], y[:50]):
            return False
    return same(net, reference)
"""

LONG_EPOCH = """
net, reference = new_net(64, 1024, 1024), new_net(64, 1024, 1024)
X, y = data(60_000, 64)
print("training", flush=True)
try:
    net.fit(X, y, epochs=100, batch_size=64, shuffle=False, verbose=0)
except KeyboardInterrupt:
    print("stopped", time.monotonic(), flush=True)
else:
    raise SystemExit("the training ended before the signal came")
print("batches", batches_done(net, reference, X, y, 64, at_most=20_000))
print("goes on", goes_on_like(net, reference, X, y))
"""

SINGLE_SAMPLES = """
net, reference = new_net(3, 5), new_net(3, 5)
X, y = data(3_000_000, 3)
print("training", flush=True)
try:
    net.fit(X, y, epochs=100, batch_size=1, shuffle=False, verbose=0)
except KeyboardInterrupt:
    print("stopped", time.monotonic(), flush=True)
else:
    raise SystemExit("the training ended before the signal came")
done = net._network.iteration
whole, rest = divmod(done, len(X))
if whole:
    reference.fit(X, y, epochs=whole, batch_size=1, shuffle=False, verbose=0)
if rest:
    reference.fit(X[:rest], y[:rest], batch_size=1, shuffle=False, verbose=0)
print("batches", done if same(net, reference) else 0)
print("goes on", goes_on_like(net, reference, X, y))
"""

HUGE_BATCH = """
net, reference = (new_net(2048, 2048, 2048, dtype="float64") for _ in range(2))
X, y = data(4000, 2048, "float64")
print("training", flush=True)
try:
    net.fit(X, y, epochs=100, batch_size=len(X), shuffle=False, verbose=0)
except KeyboardInterrupt:
    print("stopped", time.monotonic(), flush=True)
else:
    raise SystemExit("the training ended before the signal came")
print("batches", batches_done(net, reference, X, y, len(X), at_most=5))
print("goes on", goes_on_like(net, reference, X, y))
"""

#: Forward pass and deltas of this batch take about as long as its update: signals come in both.
IN_EVERY_PHASE = """
X, y = data(30_000, 784, "float64")
net = new_net(784, 512, dtype="float64")
net.train_on_batch(X, y)  # lays out the memory
start = time.perf_counter()
net.train_on_batch(X, y)
duration = time.perf_counter() - start
latencies = []
for share in (0.15, 0.4, 0.55, 0.7):
    sent = []

    def interrupt():
        time.sleep(share * duration)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    killer = threading.Thread(target=interrupt)
    try:
        killer.start()
        net.fit(X, y, epochs=100, batch_size=len(X), shuffle=False, verbose=0)
    except KeyboardInterrupt:
        latencies.append(time.perf_counter() - sent[0])
    killer.join()
print(duration, *latencies)
"""

#: The signal comes from a second thread, which runs only because training holds no lock. Batches of
#: many sizes, since training looks for signals every so often: at any place within a batch.
MANY_MOMENTS = """
X, y = data(6000, 300)
results = []
for n_samples in range(1500, 6001, 300):
    net, reference = new_net(300, 512, 512), new_net(300, 512, 512)

    def interrupt():
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    killer = threading.Thread(target=interrupt)
    try:
        killer.start()
        net.fit(
            X[:n_samples], y[:n_samples], epochs=1000, batch_size=n_samples, shuffle=False,
            verbose=0,
        )
    except KeyboardInterrupt:
        pass
    else:
        raise SystemExit("the training ended before the signal came")
    killer.join()
    results.append(batches_done(net, reference, X[:n_samples], y[:n_samples], n_samples, 1000))
    if not goes_on_like(net, reference, X, y):
        raise SystemExit(f"interrupted after {results[-1]} batches, it goes on differently")
print("batches", *results)
"""

HARMLESS_SIGNAL = """
calls = []
signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
X, y = data(20_000, 64)
nets = []
for period in (0, 0.005):
    nets.append(new_net(64, 512))
    signal.setitimer(signal.ITIMER_REAL, period, period)
    nets[-1].fit(X, y, epochs=10, batch_size=2000, verbose=0)
    signal.setitimer(signal.ITIMER_REAL, 0)
print("handled", len(calls) > 0, "same", same(*nets))
"""

#: Long enough that training looks for signals several times within the batch, at other rows with
#: one thread than with two.
LONG_BATCH = """
X, y = data(250, 300, "float64")
X_long, y_long = np.tile(X, (20, 1)), np.tile(y, 20)
nets = [new_net(300, 512, 512, dtype="float64") for _ in range(2)]
for short, long in zip(nets[0].gradients(X, y), nets[0].gradients(X_long, y_long)):
    assert np.allclose(long, short, rtol=1e-9, atol=1e-12)
for n_threads, net in enumerate(nets, start=1):
    cymlp.set_num_threads(n_threads)
    net.train_on_batch(X_long, y_long)
print("same", same(*nets))
"""

#: A handler runs in the middle of training, where it may look but not touch.
MEDDLING_HANDLER = """
errors = []

def handler(*_):
    weights = net.get_weights()
    for meddle in (
        lambda: net.train_on_batch(X[:5], y[:5]),
        lambda: net.fit(X[:5], y[:5], verbose=0),
        lambda: net.gradients(X[:5], y[:5]),
        lambda: net.apply_gradients(weights),
        lambda: net.set_weights(weights),
        lambda: net.compile(optimizer="sgd", loss="cross_entropy"),
    ):
        try:
            meddle()
        except RuntimeError as error:
            errors.append(str(error))
    net.predict(X[:5])
    net.evaluate(X[:5], y[:5])

signal.signal(signal.SIGALRM, handler)
X, y = data(20_000, 64)
undisturbed, net = new_net(64, 512, 512), new_net(64, 512, 512)
undisturbed.fit(X, y, batch_size=2000, shuffle=False, verbose=0)
signal.setitimer(signal.ITIMER_REAL, 0.02)
net.fit(X, y, batch_size=2000, shuffle=False, verbose=0)
print("refused", len(errors), "same", same(undisturbed, net))
"""

OTHER_EXCEPTION = """
class OutOfTime(Exception):
    pass

def handler(*_):
    raise OutOfTime("time is up")

signal.signal(signal.SIGALRM, handler)
net, reference = new_net(64, 1024, 1024), new_net(64, 1024, 1024)
X, y = data(60_000, 64)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    net.fit(X, y, epochs=100, batch_size=64, shuffle=False, verbose=0)
except OutOfTime as error:
    print("raised", error)
print("batches", batches_done(net, reference, X, y, 64, at_most=20_000))
"""


def start(script):
    return subprocess.Popen(
        [sys.executable, "-c", COMMON + textwrap.dedent(script)],
        env=python_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out


@pytest.mark.parametrize(
    "script",
    [LONG_EPOCH, SINGLE_SAMPLES, HUGE_BATCH],
    ids=["long epoch", "single samples", "huge batch"],
)
def test_interrupt(script, record_property):
    process = start(script)
    assert process.stdout.readline() == "training\n", process.communicate()[1]
    time.sleep(0.5)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    words = finish(process).split()
    seconds = float(words[words.index("stopped") + 1]) - sent
    record_property("seconds_from_signal_to_exception", seconds)
    print(f"from signal to KeyboardInterrupt: {1000 * seconds:.1f} ms")
    # The promise is 100 ms; a test on a loaded machine only tells "at once" from "at the end".
    assert seconds < 2
    if script is not HUGE_BATCH:
        assert int(words[words.index("batches") + 1]) > 0
    assert " ".join(words).endswith("goes on True")


def test_interrupt_in_every_phase_of_a_huge_batch(record_property):
    """At once, not at the end of a phase: judged by the batch's own time on the same machine."""
    duration, *latencies = map(float, finish(start(IN_EVERY_PHASE)).split())
    assert len(latencies) == 4
    record_property("seconds_of_a_batch", duration)
    record_property("seconds_from_signal_to_exception", max(latencies))
    shown = [f"{1000 * seconds:.0f} ms" for seconds in latencies]
    print(f"a batch takes {1000 * duration:.0f} ms, Ctrl-C stops it after {', '.join(shown)}")
    assert max(latencies) < duration / 4, shown


def test_interrupt_at_any_moment_of_a_batch():
    """During the forward pass, the update, between batches: never half an update."""
    done = finish(start(MANY_MOMENTS)).split()[1:]
    print("batches done:", *done)
    assert len(done) == 16


def test_signal_whose_handler_returns_changes_nothing():
    assert finish(start(HARMLESS_SIGNAL)).split() == ["handled", "True", "same", "True"]


def test_looking_for_signals_within_a_batch_changes_nothing():
    assert finish(start(LONG_BATCH)).split() == ["same", "True"]


def test_handler_cannot_meddle_with_the_network_in_training():
    assert finish(start(MEDDLING_HANDLER)).split() == ["refused", "6", "same", "True"]


def test_exception_of_a_signal_handler_comes_through():
    words = finish(start(OTHER_EXCEPTION)).split()
    assert words[:4] == ["raised", "time", "is", "up"]
    assert int(words[-1]) > 0
