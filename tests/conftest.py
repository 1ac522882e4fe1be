"""Helpers that test modules share: which kernels to run, how to build nets, subprocesses."""

import copy
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import cymlp
from cymlp import Sequential, _kernels
from cymlp.layers import Dense
from cymlp.regularizers import L2

DTYPES = ("float32", "float64")
ISAS = tuple(_kernels.available_isas())

#: The root of the source tree if these tests stand in one, else None (a wheel is tested).
SOURCE_TREE = Path(__file__).resolve().parent.parent
if not (SOURCE_TREE / "src" / "kernels.h").is_file():
    SOURCE_TREE = None


@pytest.fixture(params=ISAS)
def isa(request):
    """Every instruction set of this machine in turn, used by networks that the test builds."""
    previous = _kernels.active_isa()
    _kernels.select_isa(request.param)
    yield request.param
    _kernels.select_isa(previous)


@pytest.fixture(params=DTYPES)
def dtype(request):
    """Both element types in turn."""
    return request.param


@pytest.fixture(autouse=True)
def _thread_setting_is_restored():
    yield
    cymlp.set_num_threads(None)


def make_net(
    n_inputs,
    layers,
    *,
    weights=None,
    loss="squared_error",
    optimizer="sgd",
    metrics=(),
    dtype="float64",
    l2=None,
    random_state=0,
):
    """Build and compile a network.

    `layers` lists (units, activation) pairs; `l2` lists (strength, per_batch) or None per layer,
    the form that `_reference` takes.
    """
    specs = [
        Dense(
            units,
            activation=activation,
            kernel_regularizer=L2(strength=penalty[0], per_batch=penalty[1]) if penalty else None,
        )
        for (units, activation), penalty in zip(layers, l2 or [None] * len(layers), strict=True)
    ]
    net = Sequential(specs, n_inputs=n_inputs, dtype=dtype, random_state=random_state)
    net.compile(optimizer=optimizer, loss=loss, metrics=metrics)
    if weights is not None:
        net.set_weights(weights)
    return net


def random_weights(rng, n_inputs, units, scale=0.5):
    """Return [W1, b1, ...] in float64 for layers of the given widths, biases not zero."""
    weights = []
    for n_units in units:
        weights += [
            scale * rng.standard_normal((n_inputs, n_units)),
            scale * rng.standard_normal(n_units),
        ]
        n_inputs = n_units
    return weights


def random_target(rng, loss, n_samples, units, labels=False):
    """Return a valid target for a loss; for cross_entropy class probabilities, or labels."""
    if loss in ("squared_error", "absolute_error", "huber", "log_cosh", "quantile"):
        return rng.standard_normal((n_samples, units))
    if loss in ("poisson", "gamma", "tweedie"):
        return rng.gamma(2, 1, (n_samples, units))
    if loss == "hinge":
        return rng.choice([-1.0, 1.0], (n_samples, units))
    if loss in ("binary_cross_entropy", "focal"):
        return rng.uniform(0, 1, (n_samples, units))
    if labels:
        return rng.integers(0, units, n_samples)
    return rng.dirichlet(np.ones(units), n_samples)


def assert_bitwise_equal(actual, expected, message=""):
    """Assert that two lists of arrays (or two arrays) agree in shape, dtype and every bit."""
    if isinstance(expected, np.ndarray):
        actual, expected = [actual], [expected]
    assert len(actual) == len(expected), message
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert a.dtype == e.dtype, f"{message} array {i}: {a.dtype} is not {e.dtype}"
        assert a.shape == e.shape, f"{message} array {i}: {a.shape} is not {e.shape}"
        differing = np.count_nonzero(a != e)
        assert a.tobytes() == e.tobytes(), f"{message} array {i}: {differing} elements differ"


def assert_within(actual, expected, tolerance, message=""):
    """Assert abs(actual - expected) <= tolerance elementwise; NaN fails."""
    assert actual.shape == expected.shape, f"{message}: {actual.shape} is not {expected.shape}"
    error = np.abs(actual.astype(expected.dtype) - expected)
    bad = ~(error <= tolerance)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise AssertionError(
            f"{message}: {bad.sum()} of {bad.size} elements are off; at {where} came "
            f"{actual[where]!r}, expected {expected[where]!r}, "
            f"tolerance {np.broadcast_to(tolerance, bad.shape)[where]:.3g}"
        )


def unaligned(array):
    """Return a contiguous copy whose base is one element past a 64-byte boundary."""
    array = np.asarray(array)
    step = array.itemsize
    buffer = np.empty(array.nbytes + 64 + step, dtype="uint8")
    start = -buffer.ctypes.data % 64 + step
    copied = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copied[...] = array
    return copied


def row_strided(array):
    """Return a copy whose rows are contiguous but have a gap of three NaN after each."""
    buffer = np.full((array.shape[0], array.shape[1] + 3), np.nan, dtype=array.dtype)
    buffer[:, : array.shape[1]] = array
    return buffer[:, : array.shape[1]]


def assert_unchanged_by(net, action, X, y):
    """Assert that `action` leaves a built, compiled net as it was: weights, optimizer state, flags.

    The hidden state is judged by what it does: the net and a copy from before take the same steps.
    """
    before = copy.deepcopy(net)
    action()
    assert (net.built, net.compiled, net.n_inputs) == (
        before.built,
        before.compiled,
        before.n_inputs,
    )
    assert_bitwise_equal(net.get_weights(), before.get_weights(), "weights")
    for _ in range(2):
        assert net.train_on_batch(X, y) == before.train_on_batch(X, y)
    net.fit(X, y, batch_size=2, shuffle=True, verbose=0)
    before.fit(X, y, batch_size=2, shuffle=True, verbose=0)
    assert_bitwise_equal(net.get_weights(), before.get_weights(), "weights after more steps")


def python_environment(**variables):
    """Return the environment of a subprocess that imports the same cymlp as this process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CYMLP_")}
    folders = [str(Path(cymlp.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    return {**environment, **variables}


def run_python(code, *arguments, cwd=None, timeout=120, **variables):
    """Run code in a fresh interpreter and return the completed process, output as text."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=python_environment(**variables),
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        text=True,
    )


#: What the kernels are compiled with, as setup.py says, but for a level that takes half the time.
C_FLAGS = ["-std=c11", "-O1", "-ffp-contract=off"]


def c_compiler():
    """Return the command of the C compiler that built this Python, or of any, as a list."""
    for command in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"):
        words = shlex.split(command or "")
        if words and shutil.which(words[0]):
            return words
    return None


@pytest.fixture(scope="session")
def c_program(tmp_path_factory):
    """Return a function that compiles tests/c/`program`.c with the kernels and gives its path.

    The kernels take a minute to compile, file by file side by side: once for all programs, in the
    first of a run's processes that wants one.
    """
    if SOURCE_TREE is None or os.name != "posix":
        pytest.skip("needs the C sources and a POSIX compiler")
    if c_compiler() is None:
        pytest.skip("no C compiler is installed")
    source = SOURCE_TREE / "src"
    tests = SOURCE_TREE / "tests" / "c"
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    folder = tmp_path_factory.mktemp("c")
    if run is not None:
        folder = tmp_path_factory.getbasetemp().parent / f"c-{run}"
        folder.mkdir(exist_ok=True)
    command = [
        *c_compiler(),
        *C_FLAGS,
        f"-I{source}",
        f"-I{tests}",
        '-DCYMLP_EXPOSE="expose.inc.h"',
    ]

    @contextmanager
    def alone():
        import fcntl

        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
            yield

    def compiled(path):
        target = folder / f"{path.stem}.o"
        if not target.exists():  # gcc leaves nothing of one that fails
            subprocess.run([*command, "-c", str(path), "-o", str(target)], check=True)
        return target

    def build(program):
        with alone():
            return linked(program)

    def linked(program):
        files = [str(tests / f"{program}.c"), *map(str, kernels)]
        # Without OpenMP it takes one core and the time of two.
        for openmp in (["-fopenmp"], []):
            process = subprocess.run(
                [*command, *openmp, *files, "-o", str(folder / program), "-lm"],
                capture_output=True,
                text=True,
            )
            if process.returncode == 0:
                return folder / program
        raise AssertionError(process.stderr)

    with alone(), ThreadPoolExecutor(os.cpu_count()) as pool:
        kernels = list(pool.map(compiled, [source / "dispatch.c", *(source / "isa").glob("*.c")]))
    return build
