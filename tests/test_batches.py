"""Training on batches that an iterator yields, the next one fetched while one trains."""

import _thread
import threading
import time

import numpy as np
import pytest
from conftest import assert_bitwise_equal, assert_unchanged_by

from cymlp import Sequential
from cymlp._batches import BatchStream, are_batches
from cymlp.data import Samples
from cymlp.layers import Dense

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 7)).astype("float32")
LABELS = RNG.integers(0, 3, 60)
WEIGHTS = RNG.uniform(0.1, 2, 60)


class Loader:
    """Yields slices of arrays, from the start each time it is passed over."""

    def __init__(self, *arrays, size=10):
        self.arrays, self.size, self.passes = arrays, size, 0

    def __iter__(self):
        self.passes += 1
        for start in range(0, self.arrays[0].shape[0], self.size):
            yield tuple(array[start : start + self.size] for array in self.arrays)


def network(**options):
    options = {"n_inputs": 7, "random_state": 0, **options}
    net = Sequential([Dense(9, activation="tanh"), Dense(3, activation="softmax")], **options)
    net.compile("adam", "cross_entropy", metrics=["accuracy"])
    return net


def in_place(change):
    """Batches of which the one with the number 3 is changed."""
    for number, batch in enumerate(Loader(X, LABELS)):
        yield change(*batch) if number == 3 else batch


def alive():
    return [thread for thread in threading.enumerate() if thread.name == "cymlp batches"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    deadline = time.monotonic() + 5
    while alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not alive()


# ------------------------------------------------------------------------------ what is trained on


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_inputs", [7, None])
def test_a_loader_is_trained_on_as_its_arrays_are(weighted, n_inputs):
    arrays = (X, LABELS, WEIGHTS)[: 2 + weighted]
    validation = (X[:20], LABELS[:20])
    one, other = network(n_inputs=n_inputs), network(n_inputs=n_inputs)
    options = {"epochs": 3, "verbose": 0, "validation_data": validation}
    expected = one.fit(
        X, LABELS, sample_weight=WEIGHTS if weighted else None, batch_size=10, shuffle=False,
        **options,
    )  # fmt: skip
    loader = Loader(*arrays)
    history = other.fit(loader, **options)
    assert loader.passes == 3
    assert history.epoch == expected.epoch
    assert list(history.history) == list(expected.history)
    for name, values in history.history.items():
        np.testing.assert_allclose(values, expected.history[name], rtol=1e-12)
    assert_bitwise_equal(other.get_weights(), one.get_weights())


def batches_of(form):
    for features, labels in Loader(X, LABELS):
        yield form(features), labels


def test_batches_may_be_whatever_X_may_be():
    pandas = pytest.importorskip("pandas")
    sparse = pytest.importorskip("scipy.sparse")
    expected = network()
    expected.fit(Loader(X, LABELS), verbose=0)
    forms = {
        "float64": lambda x: x.astype("f8"),
        "F": np.asfortranarray,
        "frame": pandas.DataFrame,
        "sparse": sparse.csr_array,
        "list": np.ndarray.tolist,
    }
    for name, form in forms.items():
        net = network()
        net.fit(batches_of(form), verbose=0)
        assert_bitwise_equal(net.get_weights(), expected.get_weights(), name)
    net = network()
    net.fit(([x, y.tolist()] for x, y in Loader(X, LABELS)), verbose=0)
    assert_bitwise_equal(net.get_weights(), expected.get_weights())


def test_bytes_are_scaled():
    images = RNG.integers(0, 256, (60, 7), dtype=np.uint8)
    one, other = network(), network(input_scale=1 / 255)
    one.fit(Loader(images * np.float32(1 / 255), LABELS), verbose=0)
    other.fit(Loader(images, LABELS), verbose=0)
    assert_bitwise_equal(other.get_weights(), one.get_weights())


def test_steps_per_epoch():
    """Epochs follow each other; a loader is passed over again wherever it ends."""

    def endless():
        while True:
            yield from Loader(X, LABELS)

    expected = network()
    for start in (0, 10, 20, 30, 40, 50, 0, 10):
        expected.train_on_batch(X[start : start + 10], LABELS[start : start + 10])
    loader = Loader(X, LABELS)
    for batches in (endless(), loader):
        net = network()
        history = net.fit(batches, epochs=2, steps_per_epoch=4, verbose=0)
        assert len(history.history["loss"]) == 2
        assert_bitwise_equal(net.get_weights(), expected.get_weights())
    assert loader.passes == 2


def test_batches_of_many_sizes():
    cuts = [0, 1, 30, 31, 32, 60]
    expected, net = network(), network()
    batches = [(X[a:b], LABELS[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    losses = [expected.train_on_batch(*batch) for batch in batches]
    history = net.fit(iter(batches), verbose=0)
    assert_bitwise_equal(net.get_weights(), expected.get_weights())
    assert history.history["loss"] == [pytest.approx(np.average(losses, weights=np.diff(cuts)))]


def test_an_iterator_may_fill_the_same_arrays_again():
    def reused():
        features, weights = np.empty((10, 7), "float32"), np.empty(10)
        labels = np.empty(10, int)
        for start in range(0, 60, 10):
            part = slice(start, start + 10)
            features[:], labels[:], weights[:] = X[part], LABELS[part], WEIGHTS[part]
            yield features, labels, weights
            features[:] = weights[:] = np.nan

    expected, net = network(), network()
    expected.fit(Loader(X, LABELS, WEIGHTS), verbose=0)
    net.fit(reused(), verbose=0)
    assert_bitwise_equal(net.get_weights(), expected.get_weights())


def test_what_is_shown(capsys):
    network().fit(Loader(X, LABELS), epochs=2, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("Epoch 2/2  loss ")
    pytest.importorskip("tqdm")
    network().fit(Loader(X, LABELS), verbose=1)
    assert "loss" in capsys.readouterr().err


# -------------------------------------------------------------------------------- how it is fetched


def prepare(X, y, sample_weight, within):
    return Samples(np.array(X), None, np.array(y), None)


def test_one_batch_ahead_in_another_thread():
    fetched = [threading.Event() for _ in range(4)]
    threads = set()

    def batches():
        for event in fetched:
            threads.add(threading.get_ident())
            event.set()
            yield [[1.0]], [[2.0]]

    with BatchStream(batches(), prepare, 1, None) as stream:
        assert not fetched[0].wait(0.02), "nothing before the first is asked for"
        epoch = stream.epoch()
        for number in range(4):
            next(epoch)
            if number < 3:
                assert fetched[number + 1].wait(5), "the next one, meanwhile"
            assert not any(event.is_set() for event in fetched[number + 2 :])
        assert next(epoch, None) is None
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_no_more_batches_are_fetched_than_wanted():
    numbers = iter(range(100))
    net = network()
    net.fit(((X, LABELS) for _ in numbers), epochs=2, steps_per_epoch=3, verbose=0)
    assert next(numbers) == 6


def test_an_iterator_that_blocks_can_be_interrupted():
    blocked, go_on = threading.Event(), threading.Event()

    def batches():
        yield X, LABELS
        blocked.set()
        go_on.wait(20)
        yield X, LABELS

    def interrupt():
        blocked.wait(20)
        time.sleep(0.05)
        _thread.interrupt_main()

    expected, net = network(), network()
    expected.train_on_batch(X, LABELS)
    helper = threading.Thread(target=interrupt)
    helper.start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            net.fit(batches(), verbose=0)
        assert time.monotonic() - began < 10
    finally:
        go_on.set()
        helper.join()
    assert_bitwise_equal(net.get_weights(), expected.get_weights())


# ---------------------------------------------------------------------------------- what is wrong

#: What becomes of batch 3, and what is said of it.
BAD = {
    "narrow": (lambda x, y: (x[:, :6], y), r"^batch 3: X must have 7 columns, as"),
    "integers": (lambda x, y: (x.astype(int), y), "^batch 3: X must hold real numbers, as batch 0"),
    "bytes": (lambda x, y: (x.astype("u1"), y), "^batch 3: X must hold real numbers.*uint8"),
    "rows": (lambda x, y: (x, np.eye(3)[y]), "^batch 3: y must hold class labels, as in batch 0"),
    "NaN": (lambda x, y: (x * np.nan, y), r"^batch 3: X must be finite, got nan at \(0, 0\)"),
    "label": (lambda x, y: (x, y + 1), "^batch 3: y must hold class labels from 0 to 2"),
    "short": (lambda x, y: (x, y[:4]), "^batch 3: y must have as many rows as X"),
    "empty": (lambda x, y: (x[:0], y[:0]), "^batch 3: X must not be empty"),
    "weights": (lambda x, y: (x, y, -np.ones(10)), "^batch 3: sample_weight must not be negative"),
    "array": (lambda x, y: x, r"^batch 3 of X must be \(X, y\) or \(X, y, sample_weight\), got nd"),
    "alone": (lambda x, y: (x,), r"^batch 3 of X must be .*, got tuple of 1"),
    "None": (lambda x, y: None, r"^batch 3 of X must be .*, got NoneType"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("n_inputs", [7, None])
def test_bad_batch(case, n_inputs):
    """The network is as the last good batch left it."""
    change, match = BAD[case]
    expected, net = network(), network(n_inputs=n_inputs)
    expected.fit(Loader(X[:30], LABELS[:30]), verbose=0)
    with pytest.raises((TypeError, ValueError), match=match) as info:
        net.fit(in_place(change), verbose=0)
    assert info.value.__suppress_context__ or info.value.__context__ is None
    assert_bitwise_equal(net.get_weights(), expected.get_weights())


@pytest.mark.parametrize("error", [KeyError("here"), SystemExit(3), OSError("disk")])
def test_what_the_iterator_raises(error):
    def fail(*_):
        raise error

    expected, net = network(), network()
    expected.fit(Loader(X[:30], LABELS[:30]), verbose=0)
    with pytest.raises(type(error)) as info:
        net.fit(in_place(fail), verbose=0)
    assert info.value is error
    assert info.value.__notes__ == ["This came from X, in the place of batch 3, counted from 0."]
    assert_bitwise_equal(net.get_weights(), expected.get_weights())


def test_a_loader_that_cannot_be_passed_over():
    class Broken:
        def __iter__(self):
            raise OSError("no such file")

    with pytest.raises(OSError, match="no such file") as info:
        network().fit(Broken(), verbose=0)
    assert "batch 0" in info.value.__notes__[0]


class OnePass(Loader):
    """Looks as if it could be passed over again, and is then empty."""

    def __iter__(self):
        return iter(()) if self.passes else super().__iter__()


NONE = Loader(X[:0], LABELS[:0])
ENDS = {
    "generator": (lambda: iter(Loader(X, LABELS)), {"epochs": 2, "steps_per_epoch": 4}, 6),
    "one pass": (lambda: OnePass(X, LABELS), {"epochs": 3}, 6),
    "one pass, steps": (lambda: OnePass(X, LABELS), {"steps_per_epoch": 7}, 6),
    "nothing": (lambda: iter(()), {}, 0),
    "nothing, steps": (lambda: iter(()), {"steps_per_epoch": 2}, 0),
    "empty loader": (lambda: NONE, {"epochs": 2}, 0),
    "empty loader, steps": (lambda: NONE, {"steps_per_epoch": 2}, 0),
}


@pytest.mark.parametrize("case", ENDS)
def test_the_end_comes_too_early(case):
    batches, options, n_good = ENDS[case]
    why = r"steps_per_epoch \* epochs are" if "steps_per_epoch" in options else "epoch 1"
    why = "epoch 0" if n_good == 0 and "steps_per_epoch" not in options else why
    net, expected = network(), network()
    with pytest.raises(ValueError, match=rf"^X ended before batch {n_good}: {why}"):
        net.fit(batches(), verbose=0, **options)
    if n_good:
        expected.fit(Loader(X, LABELS), verbose=0)
    assert_bitwise_equal(net.get_weights(), expected.get_weights())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"epochs": 2}, "^steps_per_epoch must be given for 2 epochs.*generator"),
        ({"steps_per_epoch": 0}, "^steps_per_epoch must be an integer of at least 1"),
        ({"steps_per_epoch": 1.5}, "^steps_per_epoch must be an integer"),
        ({"y": LABELS}, "^y must be None where X is a generator"),
        ({"sample_weight": WEIGHTS}, "^sample_weight must be None where X is a generator"),
        ({"verbose": 3}, "verbose"),
        ({"validation_data": (X[:, :3], LABELS)}, "validation_data"),
        ({"validation_data": X}, "validation_data"),
    ],
)
def test_bad_options(options, match):
    def action():
        with pytest.raises((TypeError, ValueError), match=match):
            net.fit((batch for batch in Loader(X, LABELS)), **{"verbose": 0, **options})

    net = network()
    assert_unchanged_by(net, action, X, LABELS)


def test_steps_per_epoch_is_for_batches():
    with pytest.raises(ValueError, match="^steps_per_epoch must be None, unless X yields batches"):
        network().fit(X, LABELS, steps_per_epoch=3, verbose=0)


def test_what_counts_as_batches():
    import array

    sparse = pytest.importorskip("scipy.sparse")
    pandas = pytest.importorskip("pandas")
    for yes in (iter([]), (x for x in "a"), Loader(X), zip(X, LABELS, strict=True), map(str, X)):
        assert are_batches(yes)
    arrays = (X, np.float32(1), sparse.csr_array(X), pandas.DataFrame(X), array.array("f", [1]))
    for no in (*arrays, X.tolist(), (X,), "a", b"a", memoryview(b"a"), {}, {1}, None, 3, range(3)):
        assert not are_batches(no)
