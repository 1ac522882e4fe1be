"""The number of threads changes no bit of any result; forks, Python threads, limits."""

import copy
import os
import signal
import sys
import threading

import numpy as np
import pytest
from conftest import assert_bitwise_equal, make_net, run_python

import cymlp
from cymlp import _kernels, _threads

OPENMP = _threads.build_info()["openmp"]
needs_openmp = pytest.mark.skipif(not OPENMP, reason="this build has no OpenMP")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

#: A step of this network is worth more than sixteen threads: 256 samples, 6 operations per weight.
N_SAMPLES, N_INPUTS, HIDDEN, N_CLASSES, BATCH_SIZE = 600, 150, (130, 70), 10, 256

COMMON = """
import os
import numpy as np
import cymlp
from cymlp import Sequential
from cymlp.layers import Dense

rng = np.random.default_rng(0)
X, y = rng.standard_normal((1000, 150)), rng.integers(0, 10, 1000)


def fitted():
    layers = [Dense(300, activation="relu"), Dense(10, activation="softmax")]
    net = Sequential(layers, n_inputs=150, random_state=0)
    net.compile(optimizer="adam", loss="cross_entropy")
    net.fit(X, y, epochs=2, batch_size=500, verbose=0)
    return b"".join(w.tobytes() for w in net.get_weights())


def n_tasks():
    return len(os.listdir("/proc/self/task"))
"""


def output_of(code, **variables):
    process = run_python(COMMON + code, **variables)
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((N_SAMPLES, N_INPUTS))
    return X, rng.integers(0, N_CLASSES, N_SAMPLES)


def everything(n_threads, data, dtype, activation, optimizer):
    """Return what training with this many threads makes: losses, weights, outputs, gradients."""
    cymlp.set_num_threads(n_threads)
    X, y = data
    widths = zip(HIDDEN, activation, strict=True)
    net = make_net(
        N_INPUTS,
        [*widths, (N_CLASSES, "softmax")],
        loss="cross_entropy",
        optimizer=optimizer,
        dtype=dtype,
        metrics=["accuracy"],
        l2=[(1e-3, False), None, (1e-3, True)],
    )
    history = net.fit(X, y, epochs=2, batch_size=BATCH_SIZE, validation_data=data, verbose=0)
    numbers = [np.array(values) for values in history.history.values()]
    numbers.append(np.array(net.train_on_batch(X, y)))
    numbers.append(np.array(list(net.evaluate(X, y).values())))
    return [*numbers, *net.get_weights(), *net.layer_outputs(X), *net.gradients(X, y)]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("activation", [("relu", "tanh"), ("softmax", "sigmoid")], ids="-".join)
def test_any_number_of_threads_gives_the_same_bits(isa, dtype, data, activation, optimizer):
    alone = everything(1, data, dtype, activation, optimizer)
    for n_threads in (2, 3, 4, 7, 16):
        team = everything(n_threads, data, dtype, activation, optimizer)
        assert_bitwise_equal(team, alone, f"{n_threads} threads:")


@pytest.mark.parametrize("n_samples", [1, 2, 3, 5, 6, 7, 11, 13, 64, 127])
def test_any_batch_size_with_any_number_of_threads(dtype, n_samples):
    """Wide enough for threads even where there are fewer samples than threads."""
    rng = np.random.default_rng(2)
    X, target = rng.standard_normal((n_samples, 700)), rng.standard_normal((n_samples, 3))
    results = []
    for n_threads in (1, 2, 4, 16):
        cymlp.set_num_threads(n_threads)
        net = make_net(700, [(900, "relu"), (3, "identity")], dtype=dtype)
        losses = [net.train_on_batch(X, target) for _ in range(2)]
        results.append([np.array(losses), *net.get_weights()])
    for result in results[1:]:
        assert_bitwise_equal(result, results[0])


def test_more_threads_than_cores_give_the_same_bits(data):
    """Threads in turns on fewer cores, where training may leave the team for one thread."""
    X, y = data
    trained = []
    for n_threads in (1, min(1024, 8 * (os.cpu_count() or 1))):
        cymlp.set_num_threads(n_threads)
        net = make_net(N_INPUTS, [(n, "relu") for n in HIDDEN] + [(N_CLASSES, "softmax")])
        net.compile(optimizer="adam", loss="cross_entropy")
        net.fit(X, y, epochs=300, batch_size=BATCH_SIZE, verbose=0)
        trained.append(net.get_weights())
    assert_bitwise_equal(*trained)


@needs_openmp
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_threads_are_really_started():
    """Else the tests above would compare one thread with itself. A tiny network starts none."""
    code = """
X_small, y_small = X[:4, :3], y[:4]
before = n_tasks()
cymlp.set_num_threads(4)
net = Sequential([Dense(2)], n_inputs=3)
net.compile()
net.fit(X_small, X_small[:, :2], epochs=3, verbose=0)
print(n_tasks() - before)
fitted()
print(n_tasks() - before)
"""
    by_tiny, by_all = map(int, output_of(code))
    assert by_tiny == 0
    assert by_all > 0


def test_set_and_get():
    for n in (1, 2, 5):
        cymlp.set_num_threads(n)
        assert cymlp.get_num_threads() == (n if OPENMP else 1)


@needs_openmp
def test_environment_limits_threads():
    assert output_of("print(cymlp.get_num_threads())", OMP_NUM_THREADS="3") == ["3"]


@needs_openmp
def test_threadpoolctl_limits_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    n = cymlp.get_num_threads()
    infos = threadpoolctl.threadpool_info()
    if not any(info["user_api"] == "openmp" for info in infos):
        pytest.skip("threadpoolctl finds no OpenMP library that it knows")
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert cymlp.get_num_threads() == 1
    assert cymlp.get_num_threads() == n


def test_show_config_names_the_facts(capsys):
    cymlp.set_num_threads(2)
    shown = cymlp.show_config()
    text = (shown or "") + capsys.readouterr().out
    for fact in (cymlp.__version__, _kernels.active_isa(), str(cymlp.get_num_threads())):
        assert fact in text
    assert "openmp" in text.lower()


# -------------------------------------------------------------------------- Python threads, signals


def test_concurrent_gradients_are_right_or_refused(data):
    """Python threads on one network: each gets the gradients of its own batch, or RuntimeError."""
    X, y = data
    batches = [X, 3 * X]
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            net = make_net(N_INPUTS, [(30, "tanh"), (N_CLASSES, "softmax")], loss="cross_entropy")
            expected = [copy.deepcopy(net).gradients(batch, y) for batch in batches]
            wrong = []

            def work(k, net=net, expected=expected, wrong=wrong):
                for _ in range(10):
                    try:
                        gradients = net.gradients(batches[k], y)
                    except RuntimeError:
                        continue
                    if any((a != e).any() for a, e in zip(gradients, expected[k], strict=True)):
                        wrong.append(k)

            threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not wrong
    finally:
        sys.setswitchinterval(switch_interval)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no timers")
def test_handler_that_trains_another_network():
    """It runs inside the team of the first, whose barriers must not be the second's."""
    code = """
import signal
small = Sequential([Dense(2)], n_inputs=3, random_state=0)
small.compile("sgd", "squared_error")
calls = []

def handler(*_):
    calls.append(small.train_on_batch(np.ones((4, 3)), np.ones((4, 2))))
    if len(calls) < 10:
        signal.setitimer(signal.ITIMER_REAL, 0.01)

signal.signal(signal.SIGALRM, handler)
cymlp.set_num_threads(2)
X, y = np.tile(X, (4, 5)), np.tile(y, 4)
nets = []
for _ in range(2):
    nets.append(Sequential([Dense(1024, "relu"), Dense(1024, "relu"), Dense(10, "softmax")],
                           n_inputs=750, random_state=0))
    nets[-1].compile("adam", "cross_entropy")
    nets[-1].fit(X, y, batch_size=2000, verbose=0)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.setitimer(signal.ITIMER_REAL, 0)
same = all((a == b).all() for a, b in zip(*(net.get_weights() for net in nets)))
print(len(calls) > 0, same)
"""
    assert output_of(code) == ["True", "True"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its memory as Linux can")
def test_compile_without_memory_changes_nothing():
    code = """
import resource
net = Sequential([Dense(4000), Dense(1)], n_inputs=5000, random_state=0)
net.compile("sgd", "squared_error")
used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + 120 * 2**20,) * 2)
try:
    net.compile("adam", "squared_error")
except MemoryError:
    print(net.optimizer.name)
net.train_on_batch(np.ones((2, 5000), np.float32), np.ones((2, 1)))
print("trained")
"""
    assert output_of(code) == ["sgd", "trained"]


# --------------------------------------------------------------------------------------------- fork


@needs_fork
def test_child_of_a_fork_trains_like_its_parent():
    """libgomp's team does not survive a fork; a child that waits for it would hang forever."""
    code = """
import signal
cymlp.set_num_threads(4)
expected = fitted()
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if fitted() == expected and cymlp.get_num_threads() == 1 else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), fitted() == expected)
"""
    assert output_of(code) == ["0", "True"]


@needs_fork
def test_fork_before_the_first_fit():
    code = """
import signal
cymlp.set_num_threads(4)
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    signal.alarm(60)
    import hashlib
    os.write(writer, hashlib.sha256(fitted()).digest())
    os._exit(0)
_, status = os.waitpid(child, 0)
import hashlib
same = os.read(reader, 32) == hashlib.sha256(fitted()).digest()
print(os.waitstatus_to_exitcode(status), same)
"""
    assert output_of(code) == ["0", "True"]


@needs_fork
def test_multiprocessing_pool():
    code = """
import multiprocessing
cymlp.set_num_threads(2)

def work(_):
    return fitted()

expected = fitted()
with multiprocessing.get_context("fork").Pool(2) as pool:
    results = pool.map_async(work, range(4)).get(60)
print(all(result == expected for result in results))
"""
    assert output_of(code) == ["True"]


# ----------------------------------------------------------------------------------- Python threads


def test_networks_in_python_threads(data):
    """Each in a thread of its own, all at once: nothing is shared, not even by accident."""
    X, y = data

    def train(seed):
        net = make_net(
            N_INPUTS,
            [(HIDDEN[0], "relu"), (N_CLASSES, "softmax")],
            loss="cross_entropy",
            optimizer="adam",
            random_state=seed,
        )
        net.fit(X, y, epochs=2, batch_size=64, verbose=0)
        return net.get_weights()

    expected = [train(seed) for seed in range(4)]
    results = [None] * 4
    threads = [
        threading.Thread(target=lambda i=i: results.__setitem__(i, train(i))) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, weights in zip(results, expected, strict=True):
        assert_bitwise_equal(result, weights)


def test_denormals_are_left_as_they_were(data):
    """Flushing to zero is for the length of a call: the caller's own arithmetic keeps denormals."""
    X, y = data
    net = make_net(N_INPUTS, [(HIDDEN[0], "relu"), (N_CLASSES, "softmax")], loss="cross_entropy")
    net.fit(X, y, verbose=0)
    net.predict(X)
    smallest = np.full(40, np.finfo("float32").smallest_subnormal)
    assert (smallest * np.float32(1) > 0).all()
    assert sys.float_info.min / 2 > 0
