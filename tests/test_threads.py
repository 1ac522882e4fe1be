"""The number of threads changes no bit of any result; forks, Python threads, joblib, limits."""

import copy
import os
import signal
import sys
import threading

import numpy as np
import pytest
from conftest import assert_bitwise_equal, make_net, run_python

import cymlp
from cymlp import Sequential, _kernels, _threads
from cymlp.constraints import MaxNorm
from cymlp.layers import BatchNormalization, Dense, Dropout
from cymlp.optimizers import Adam
from cymlp.regularizers import L2

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


# The library whose teams these are, for calls of its own functions.
def openmp():
    import ctypes, re
    with open("/proc/self/maps") as maps:
        found = re.search(r"/\\S*lib[gi]?omp[^/\\s]*[.]so\\S*", maps.read())
    return ctypes.CDLL(found.group())
"""


def output_of(code, timeout=120, **variables):
    process = run_python(COMMON + code, timeout=timeout, **variables)
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((N_SAMPLES, N_INPUTS))
    return X, rng.integers(0, N_CLASSES, N_SAMPLES)


TEAMS = (2, 3, 4, 7, 16)


def assert_team(net, n_threads):
    """Assert how many threads the last stretch of work was given, where there can be so many."""
    assert net._network.team == (n_threads if OPENMP else 1)


def everything(n_threads, data, dtype, activation, optimizer):
    """Return what training with this many threads makes: losses, weights, outputs, gradients.

    Work of a new kind begins with the team that it is asked for. It may then go on with one thread
    on a busy machine, which is forgotten before each way to train.
    """
    _threads.forget_trials()
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
    history = net.fit(
        X,
        y,
        epochs=2,
        batch_size=BATCH_SIZE,
        validation_data=data,
        verbose=0,
        n_threads=n_threads,
    )
    numbers = [np.array(values) for values in history.history.values()]
    numbers += net.get_weights()
    _threads.forget_trials()
    numbers.append(np.array(net.train_on_batch(X, y, n_threads=n_threads)))
    assert_team(net, n_threads)
    numbers += net.get_weights()
    _threads.forget_trials()
    numbers += net.gradients(X, y, n_threads=n_threads)
    assert_team(net, n_threads)
    numbers.append(np.array(list(net.evaluate(X, y, n_threads=n_threads).values())))
    numbers.append(net.predict(X, n_threads=n_threads))
    return [*numbers, *net.layer_outputs(X, n_threads=n_threads)]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("activation", [("relu", "tanh"), ("softmax", "sigmoid")], ids="-".join)
def test_any_number_of_threads_gives_the_same_bits(isa, dtype, data, activation, optimizer):
    alone = everything(1, data, dtype, activation, optimizer)
    for n_threads in TEAMS:
        team = everything(n_threads, data, dtype, activation, optimizer)
        assert_bitwise_equal(team, alone, f"{n_threads} threads:")


@pytest.fixture(params=["rows", "units"])
def way(request):
    """How teams share the first layer, in all of a test."""
    _threads.settle_on(request.param)
    yield request.param
    _threads.settle_on(None)


def fitted_by_team(n_threads, X, y, layers, **settings):
    """Return what a network has learnt, in batches that end with a smaller one, and whether its
    threads had units of their own."""
    net = Sequential(layers, n_inputs=X.shape[1], random_state=0, dtype=settings.pop("dtype"))
    net.compile(loss="cross_entropy", metrics=["accuracy"], **settings)
    history = net.fit(X, y, epochs=3, batch_size=110, verbose=0, n_threads=n_threads)
    return [*net.get_weights(), *map(np.array, history.history.values())], net._network.by_units


LAYERS = {
    "plain": lambda: [Dense(128, "relu"), Dense(10, "softmax")],
    "penalty": lambda: [
        Dense(128, "tanh", kernel_regularizer=L2(1e-3)),
        Dense(64, "relu", kernel_regularizer=L2(1e-3)),
        Dense(10, "softmax"),
    ],
    "keeps sums": lambda: [Dense(128, "gelu"), Dense(48, "gelu"), Dense(10, "softmax")],
    "one of all units": lambda: [Dense(128, "softmax"), Dense(10, "softmax")],
    "norm and dropout": lambda: [
        Dense(128, "relu"),
        BatchNormalization(),
        Dropout(0.3),
        Dense(64, "relu", kernel_constraint=MaxNorm(1.0)),
        Dense(10, "softmax"),
    ],
    "last": lambda: [Dense(128, "softmax")],
}


@needs_openmp
@pytest.mark.parametrize("kind", ["reals", "bytes", "zeros", "csr"])
@pytest.mark.parametrize("layers", LAYERS)
def test_neither_way_of_a_team_changes_a_bit(isa, dtype, layers, kind, way):
    rng = np.random.default_rng(5)
    X, y = rng.integers(0, 256, (600, 250)), rng.integers(0, 10, 600)
    if kind != "reals":
        X *= rng.random(X.shape) < 0.2
    X = {
        "reals": lambda: X.astype(dtype),
        "bytes": lambda: X.astype(np.uint8),
        "zeros": lambda: X.astype(dtype),
        "csr": lambda: pytest.importorskip("scipy.sparse").csr_matrix(X.astype(dtype)),
    }[kind]()
    settings = {"dtype": dtype, "optimizer": Adam(1e-4, ema_decay=0.9)}
    expected, _ = fitted_by_team(1, X, y, LAYERS[layers](), **settings)
    for n_threads in (2, 4):
        found, by_units = fitted_by_team(n_threads, X, y, LAYERS[layers](), **settings)
        assert_bitwise_equal(found, expected, f"{n_threads} threads:")
        assert by_units == (way == "units") or n_threads > 2


@needs_openmp
@pytest.mark.parametrize(
    "layer",
    [
        lambda: Dense(128, "relu", kernel_constraint=MaxNorm(1.0)),
        lambda: Dense(128, "relu", bias_regularizer=L2(1e-3)),
        lambda: Dense(128, "relu", trainable=False),
        lambda: Dense(16, "relu"),
    ],
    ids=["constraint", "bias penalty", "not trained", "few units"],
)
@pytest.mark.parametrize("way", ["units"], indirect=True)
def test_first_layers_whose_units_are_not_shared_out(layer, way):
    rng = np.random.default_rng(6)
    X, y = rng.standard_normal((600, 900)).astype(np.float32), rng.integers(0, 10, 600)
    expected, found = (
        fitted_by_team(
            n_threads,
            X,
            y,
            [layer(), Dense(64, "relu"), Dense(10, "softmax")],
            dtype="float32",
            optimizer="adam",
        )
        for n_threads in (1, 2)
    )
    assert not found[1]
    assert_bitwise_equal(found[0], expected[0])


@pytest.mark.parametrize("n_samples", [1, 3, 7, 14, 15, 17, 64, 97, 127])
def test_any_batch_size_with_any_number_of_threads(isa, dtype, n_samples):
    """Some with fewer rows than threads; fewer still are not worth a team."""
    rng = np.random.default_rng(2)
    X, target = rng.standard_normal((n_samples, 700)), rng.standard_normal((n_samples, 3))
    results = []
    for n_threads in (1, *TEAMS):
        net = make_net(700, [(900, "relu"), (3, "identity")], dtype=dtype)
        _threads.forget_trials()
        losses = [net.train_on_batch(X, target, n_threads=n_threads)]
        is_team = n_threads > 1 and OPENMP and n_samples >= 7
        assert (net._network.team > 1) == is_team
        losses.append(net.train_on_batch(X, target, n_threads=n_threads))
        outputs = net.predict(X, n_threads=n_threads)
        results.append([np.array(losses), outputs, *net.get_weights()])
    for result in results[1:]:
        assert_bitwise_equal(result, results[0])


@pytest.mark.parametrize("widths", [(1, 1500), (1500, 1), (33, 17, 49, 31)], ids=str)
@pytest.mark.parametrize("batch_size", [37, 250])
def test_any_shape_with_any_number_of_threads(isa, dtype, widths, batch_size):
    """Layers of one unit, of more blocks than threads and of fewer; the last batch is smaller."""
    rng = np.random.default_rng(3)
    X, target = rng.standard_normal((901, 130)), rng.standard_normal((901, 2))
    results = []
    for n_threads in (1, *TEAMS):
        net = make_net(130, [*((n, "tanh") for n in widths), (2, "identity")], dtype=dtype)
        history = net.fit(X, target, batch_size=batch_size, verbose=0, n_threads=n_threads)
        results.append([np.array(history.history["loss"]), *net.get_weights()])
    for result in results[1:]:
        assert_bitwise_equal(result, results[0])


def test_more_threads_than_cores_give_the_same_bits(data):
    """Threads in turns on fewer cores, where training may leave the team for one thread."""
    X, y = data
    trained = []
    for n_threads in (1, min(1024, 8 * (os.cpu_count() or 1))):
        net = make_net(N_INPUTS, [(n, "relu") for n in HIDDEN] + [(N_CLASSES, "softmax")])
        net.compile(optimizer="adam", loss="cross_entropy")
        net.fit(X, y, epochs=300, batch_size=BATCH_SIZE, verbose=0, n_threads=n_threads)
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


@needs_openmp
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_every_method_starts_the_threads_that_it_is_asked_for():
    """OpenMP keeps the workers of the last team: one less than its threads."""
    code = """
net = Sequential([Dense(600), Dense(10, activation="softmax")], n_inputs=150)
net.compile(loss="cross_entropy")
before = n_tasks()
for n_threads, work in enumerate([
    lambda **n: net.fit(X, y, batch_size=500, verbose=0, **n),
    lambda **n: net.train_on_batch(X, y, **n),
    lambda **n: net.gradients(X, y, **n),
    lambda **n: net.predict(X, **n),
    lambda **n: net.layer_outputs(X, **n),
    lambda **n: net.evaluate(X, y, **n),
], start=2):
    cymlp._threads.forget_trials()  # of the work before
    cymlp.set_num_threads(1)
    work()
    cymlp.set_num_threads(n_threads + 20)
    work(n_threads=n_threads)
    print(n_tasks() - before)
"""
    assert output_of(code) == [str(workers) for workers in range(1, 7)]


@pytest.mark.parametrize("share", [1.0, 0.2], ids=["dense", "sparse"])
def test_all_epochs_are_one_kind_of_work(share):
    """What was found out of a team in one epoch holds in the next, whatever the samples' order."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((700, 500)) * (rng.random((700, 500)) < rng.random((700, 1)) * share)
    net = make_net(500, [(600, "relu"), (3, "identity")])
    _threads.forget_trials()
    for _ in range(2):
        net.fit(X, rng.standard_normal((700, 3)), epochs=3, batch_size=50, verbose=0, n_threads=2)
    assert _threads.forget_trials() == (1 if OPENMP else 0)


@pytest.mark.parametrize("speeds", [[1.0], [1.0, 1.0], [2.0, 3.0], [5.0, 4.0, 6.0, 5.0]])
def test_threads_that_update_faster_have_more_to_update(speeds):
    shares = _threads.simulated_shares(speeds, 200)
    np.testing.assert_allclose(shares, np.array(speeds) / sum(speeds), rtol=1e-6)


def test_every_thread_keeps_something_to_update():
    """Otherwise it could not show that it has become faster."""
    shares = _threads.simulated_shares([1.0, 1e6, 1e6, 1e6], 200)
    assert sum(shares) == pytest.approx(1)
    assert 0.1 < shares[0] < 0.15


@needs_openmp
@pytest.mark.parametrize("share", [1.0, 0.1], ids=["dense", "sparse"])
@pytest.mark.parametrize("n_threads", [2, 3])
def test_shares_that_change_while_training_change_no_bit(isa, dtype, share, n_threads):
    """Parts of blocks, in a first layer, one with a transposed copy and one with a penalty."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((1200, 300)) * (rng.random((1200, 300)) < share)
    target = rng.standard_normal((1200, 3))
    results = []
    for team in (1, n_threads):
        net = make_net(
            300,
            [(150, "relu"), (210, "relu"), (3, "identity")],
            dtype=dtype,
            optimizer="adam",
            l2=[None, (1e-3, False), None],
        )
        for _ in range(3):
            _threads.forget_trials()  # it begins with the team
            net.fit(X, target, batch_size=60, verbose=0, n_threads=team)
        results.append(net.get_weights())
    assert len(set(net._network.shares)) > 1
    assert_bitwise_equal(results[1], results[0])


def test_set_and_get():
    for n in (1, 2, 5):
        cymlp.set_num_threads(n)
        assert cymlp.get_num_threads() == (n if OPENMP else 1)


@needs_openmp
@pytest.mark.skipif(not os.path.isfile("/proc/self/maps"), reason="looks for OpenMP in /proc")
@pytest.mark.parametrize(("openmp", "cores", "expected"), [(5, 3, 3), (5, 8, 5), (5, "None", 5)])
def test_default_is_what_openmp_and_the_cores_allow(openmp, cores, expected):
    code = f"""
from cymlp import _cores
_cores.usable_cores = lambda: {cores}
openmp().omp_set_num_threads({openmp})
print(cymlp.get_num_threads())
cymlp.set_num_threads(16)
print(cymlp.get_num_threads())
"""
    assert output_of(code, OMP_NUM_THREADS="") == [str(expected), "16"]


@needs_openmp
def test_environment_limits_threads():
    """Who sets the variable has asked for that many, even where they must share cores."""
    code = """
from cymlp import _cores
_cores.usable_cores = lambda: 1
print(cymlp.get_num_threads())
"""
    assert output_of(code, OMP_NUM_THREADS="3") == ["3"]


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


@pytest.mark.parametrize(
    ("team_rate", "alone_rate"), [(2, 1), (1, 2), (1e-3, 1), (1.03, 1), (1, 1.03)]
)
def test_the_faster_way_is_taken(team_rate, alone_rate):
    """It does nearly all of the work; the team stays where one thread is not faster."""
    ways = _threads.simulated_ways({"rows": team_rate, "alone": alone_rate}, 3000)
    assert ways[:12] == 8 * ["rows"] + 4 * ["alone"]
    best = "rows" if team_rate >= alone_rate else "alone"
    assert 0.95 < ways.count(best) / len(ways) < 1  # and the other one is tried again


@pytest.mark.parametrize("fastest", ["rows", "units", "alone"])
def test_the_fastest_of_three_ways_is_taken(fastest):
    rates = {"rows": 1.0, "units": 1.0, "alone": 1.0, fastest: 1.2}
    ways = _threads.simulated_ways(rates, 3000)
    assert ways[:16] == 8 * ["rows"] + 4 * ["units"] + 4 * ["alone"]
    assert ways.count(fastest) / len(ways) > 0.9
    assert set(ways) == set(rates)


@needs_openmp
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot take cores away")
def test_change_of_team_in_an_epoch_changes_no_bit():
    """Four threads on one core: the team is tried first, and both ways later."""
    code = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before there are workers
X, y = np.tile(X, (400, 1)), np.tile(y, 400)  # an epoch of many stretches
weights = []
for n_threads in (1, 4):
    net = Sequential([Dense(130, activation="relu"), Dense(10, activation="softmax")],
                     n_inputs=150, random_state=0)
    net.compile(optimizer="adam", loss="cross_entropy")
    teams = []
    net._network.train(net._describe(net._prepare(X, y)), 250, [], n_threads=n_threads,
                       tick=lambda *_: teams.append(net._network.team))
    weights.append(b"".join(w.tobytes() for w in net.get_weights()))
print(teams[0], sorted(set(teams)), weights[0] == weights[1])
"""
    assert output_of(code) == ["4", "[1,", "4]", "True"]


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


@needs_fork
def test_thousand_forks():
    """Fit, fork, fit in the child: the parent's team is real each time, and there for its child."""
    code = """
import copy, signal
net = Sequential([Dense(100, activation="relu"), Dense(10, activation="softmax")], n_inputs=150,
                 random_state=0)
net.compile(optimizer="adam", loss="cross_entropy")

def result():
    mine = copy.deepcopy(net)
    cymlp._threads.forget_trials()
    mine.fit(X[:64], y[:64], batch_size=64, verbose=0, n_threads=2)
    return mine._network.team, b"".join(w.tobytes() for w in mine.get_weights())

teams, codes = set(), set()
for _ in range(1000):
    team, expected = result()
    teams.add(team)
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if result() == (1, expected) else 1)
    codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(*teams, *codes)
"""
    # A team that sleeps while it waits: on a busy machine, a thousand new ones take minutes else.
    said = output_of(code, timeout=600, OMP_WAIT_POLICY="passive")
    assert said == ["2" if OPENMP else "1", "0"]


@needs_fork
def test_fork_that_python_does_not_see():
    """A library in C forks, and the child goes on with what it was doing."""
    code = """
import ctypes, signal
cymlp.set_num_threads(4)
expected = fitted()
child = ctypes.PyDLL(None).fork()  # unlike CDLL, it keeps the interpreter's lock
if child == 0:
    signal.alarm(60)
    os._exit(0 if fitted() == expected and cymlp.get_num_threads() == 1 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), fitted() == expected)
"""
    assert output_of(code) == ["0", "True"]


# ------------------------------------------------------------------------- joblib, others' OpenMP


@needs_openmp
@pytest.mark.skipif(not os.path.isfile("/proc/self/maps"), reason="looks for OpenMP in /proc")
def test_in_the_team_of_somebody_else():
    """Each of its threads is a team alone: the other cores are taken."""
    code = """
import ctypes
library = openmp()
if not hasattr(library, "GOMP_parallel"):
    print("none")
    raise SystemExit
expected = fitted()
cymlp.set_num_threads(4)
seen = []

@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def work(_):
    seen.append((cymlp.get_num_threads(), fitted() == expected))

before = cymlp.get_num_threads()
library.GOMP_parallel(work, None, ctypes.c_uint(3), ctypes.c_uint(0))
print(before, len(seen), *seen[0], len(set(seen)), cymlp.get_num_threads())
"""
    said = output_of(code)
    if said == ["none"]:
        pytest.skip("this OpenMP has no entry point that is known")
    assert said == ["4", "3", "1", "True", "1", "4"]


JOBLIB = """
from joblib import Parallel, delayed, parallel_config


def job(seed, n_threads=None):
    import cymlp
    cymlp._threads.forget_trials()
    net = cymlp.Sequential([Dense(300, activation="relu"), Dense(10, activation="softmax")],
                           n_inputs=150, random_state=seed)
    net.compile(optimizer="adam", loss="cross_entropy")
    net.train_on_batch(X, y, n_threads=n_threads)
    team = net._network.team
    net.fit(X, y, epochs=2, batch_size=500, verbose=0, n_threads=n_threads)
    return cymlp.get_num_threads(), team, b"".join(w.tobytes() for w in net.get_weights())


def jobs(*n_threads):
    return Parallel(n_jobs=4)(delayed(job)(seed, *n_threads) for seed in range(8))
"""


@needs_openmp
def test_in_workers_of_joblib():
    """Processes: joblib says in each how many threads it may have; the parent's number is not
    theirs."""
    pytest.importorskip("joblib")
    code = """
expected = [job(seed, 1)[2] for seed in range(8)]
cymlp.set_num_threads(7)
for limit in (1, 3):
    with parallel_config("loky", inner_max_num_threads=limit):
        told, teams, weights = zip(*jobs())
    print(*set(told), *set(teams), list(weights) == expected)
"""
    assert output_of(JOBLIB + code) == ["1", "1", "True", "3", "3", "True"]


def test_in_threads_of_joblib():
    """Several networks at once in one process, each with a team; then estimators."""
    pytest.importorskip("joblib")
    code = """
expected = [job(seed, 1)[2] for seed in range(8)]
with parallel_config("threading"):
    for n_threads in (None, 2, 3):
        print([weights for _, _, weights in jobs(n_threads)] == expected)
"""
    assert output_of(JOBLIB + code) == ["True"] * 3


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_cross_validation_in_parallel(backend):
    pytest.importorskip("sklearn")
    code = f"""
from joblib import parallel_config
from sklearn.model_selection import cross_val_score
estimator = cymlp.MLPClassifier(300, max_iter=2, batch_size=300, tol=0, random_state=0)
cymlp.set_num_threads(2)
with parallel_config("{backend}"):
    scores = [cross_val_score(estimator, X, y, cv=4, n_jobs=n) for n in (None, 4)]
print((scores[0] == scores[1]).all(), scores[0].shape)
"""
    assert output_of(code, PYTHONWARNINGS="ignore") == ["True", "(4,)"]


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
