"""Prediction: rows alone and in batches, arrays that are ready and that are not, predictors."""

import copy
import inspect
import pickle
import threading

import numpy as np
import pytest
from conftest import DTYPES, assert_bitwise_equal, make_net, row_strided

import cymlp
from cymlp import Sequential, _inference
from cymlp._kernels import Kernels
from cymlp.layers import Dense

N_INPUTS = 13
SIZES = [(37, "relu"), (70, "tanh"), (3, "softmax")]


@pytest.fixture
def net(isa, dtype):
    return make_net(N_INPUTS, SIZES, loss="cross_entropy", optimizer="adam", dtype=dtype)


@pytest.fixture
def plain():
    """A network on the active instruction set, for what does not depend on it."""
    return make_net(N_INPUTS, SIZES, loss="cross_entropy", dtype="float32")


def rows(n, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal((n, N_INPUTS)).astype(dtype)


class Subclass(np.ndarray):
    """What NumPy's subclasses are to a check of types."""


def misaligned(x):
    """Return a copy whose elements stand across the boundaries of elements."""
    buffer = np.empty(x.nbytes + 1, "uint8")[1:]
    copied = buffer.view(x.dtype).reshape(x.shape)
    copied[...] = x
    assert not copied.flags.aligned
    return copied


#: The same numbers as other arrays; `ready` says which are read where they stand.
FORMS = {
    "strided": (row_strided, True),
    "reversed": (lambda x: x[::-1].copy()[::-1], True),
    "read-only": (lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape), True),
    "columns apart": (lambda x: np.repeat(x, 2, axis=1)[:, ::2], False),
    "Fortran order": (np.asfortranarray, False),
    "misaligned": (misaligned, False),
    "other byte order": (lambda x: x.astype(x.dtype.newbyteorder()), False),
    "subclass": (lambda x: x.view(Subclass), False),
    "masked": (np.ma.masked_array, False),
    "float32 as float64": (lambda x: x.astype("float64"), None),
    "list": (lambda x: x.tolist(), False),
}


# ------------------------------------------------------------------------------------------ predict


@pytest.mark.parametrize("units", [1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 100, 128, 200])
def test_a_row_alone_gives_what_it_gives_in_a_batch(isa, dtype, units):
    """The kernel for one row cuts the units otherwise: around the edges of its groups of panels."""
    net = make_net(N_INPUTS, [(units, "relu"), (units, "identity")], dtype=dtype)
    x = rows(11, dtype)
    together = net.predict(x)
    alone = np.concatenate([net.predict(x[i : i + 1]) for i in range(len(x))])
    assert_bitwise_equal(alone, together)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 5, 200])
def test_the_form_of_the_input_does_not_matter(net, dtype, form, n):
    change, ready = FORMS[form]
    x = rows(n, "float32").astype(dtype)
    given = change(x)
    assert_bitwise_equal(net.predict(given), net.predict(x))
    at_once = _inference.predict_ready(net._network, given) is not None
    if n > 1:
        assert at_once == (dtype == "float64" if ready is None else ready)


@pytest.mark.parametrize("n", [1, 97, 500])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused_wherever_they_are(net, dtype, n, bad):
    for row in {0, n // 2, n - 1}:
        for column in (0, N_INPUTS // 2, N_INPUTS - 1):
            x = rows(n, dtype)
            x[row, column] = bad
            for given in (x, row_strided(x)):
                with pytest.raises(ValueError, match=rf"X must be finite.*\({row}, {column}\)"):
                    net.predict(given)


def test_finite_values_of_any_size_are_taken(net, dtype):
    x = np.full((2, N_INPUTS), np.finfo(dtype).max, dtype)
    x[1] = np.finfo(dtype).smallest_subnormal
    assert net.predict(x).shape == (2, 3)


@pytest.mark.parametrize("n", [0, 1])
def test_arrays_that_buffers_do_not_know_reach_the_validation(plain, n):
    dates = np.zeros((n, N_INPUTS), "datetime64[s]")
    with pytest.raises((TypeError, ValueError), match="X must"):
        plain.predict(dates)


def test_predict_is_called_as_any_method(plain):
    """It begins in compiled code, which its signature and what it refuses must not show."""
    x = rows(3)
    expected = plain.predict(x)
    assert_bitwise_equal(plain.predict(X=x), expected)
    assert_bitwise_equal(plain.predict(x, n_threads=2), expected)
    assert_bitwise_equal(plain.predict(n_threads=None, X=x), expected)
    assert_bitwise_equal(Sequential.predict(plain, x), expected)
    for wrong, named in [((), {}), ((x, 2), {}), ((x,), {"threads": 2})]:
        with pytest.raises(TypeError, match=r"^predict\(\)"):
            plain.predict(*wrong, **named)
    parameters = inspect.signature(Sequential.predict).parameters
    assert list(parameters) == ["self", "X", "n_threads"]
    assert parameters["n_threads"].kind is inspect.Parameter.KEYWORD_ONLY


def test_a_subclass_may_extend_predict(plain):
    class Doubled(Sequential):
        def predict(self, X, *, n_threads=None):
            return 2 * super().predict(X, n_threads=n_threads)

    net = Doubled([Dense(3, activation="softmax")], n_inputs=N_INPUTS, random_state=0)
    x = rows(3)
    assert_bitwise_equal(net.predict(x), 2 * Sequential.predict(net, x))


def test_calls_of_many_threads_at_once(plain):
    """Each call works in memory that no other call has at the time."""
    x, big = rows(1), rows(5000)
    expected = plain.predict(x), plain.predict(big)
    results = []

    def work():
        for _ in range(50):
            results.append((plain.predict(x), plain.predict(big)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 * 50
    for result in results:
        assert_bitwise_equal(result, expected)


def test_layer_outputs_leave_nothing_behind(plain):
    """The memory of a call goes to the next one: it must not write where the last one did."""
    x = rows(3)
    outputs = plain.layer_outputs(x)
    kept = [array.copy() for array in outputs]
    plain.predict(rows(3, seed=1))
    plain.evaluate(rows(3, seed=2), [0, 1, 2])
    assert_bitwise_equal(outputs, kept)


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_finite(isa, dtype):
    kernels = Kernels(isa=isa, dtype=dtype)
    for n in range(1, 150):
        x = np.random.default_rng(n).standard_normal(n).astype(dtype)
        assert kernels.all_finite(x)
        for bad in (np.nan, np.inf, -np.inf):
            for where in range(n):
                y = x.copy()
                y[where] = bad
                assert not kernels.all_finite(y), (n, where, bad)
                # What stands past the end does not count.
                assert kernels.all_finite(y[:where]), (n, where, bad)


# ---------------------------------------------------------------------------------------- predictor


@pytest.mark.parametrize("batch_size", [1, 2, 6, 95, 96, 97, 300])
def test_predictor_gives_what_predict_gives(net, dtype, batch_size):
    predictor = net.predictor(batch_size)
    assert predictor.batch_size == batch_size
    for n in {1, batch_size // 2 or 1, batch_size}:
        x = rows(n, dtype)
        expected = net.predict(x)
        assert_bitwise_equal(predictor(x), expected)
        out = np.full(expected.shape, np.nan, dtype)
        assert predictor(x, out=out) is out
        assert_bitwise_equal(out, expected)
        assert_bitwise_equal(predictor(x, out), expected)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_predictor_of_few_layers(isa, dtype, n_layers):
    net = make_net(N_INPUTS, SIZES[-n_layers:], loss="cross_entropy", dtype=dtype)
    x = rows(4, dtype)
    assert_bitwise_equal(net.predictor(4)(x), net.predict(x))


def test_one_sample_may_be_flat(net, dtype):
    predictor = net.predictor()
    x = rows(1, dtype)
    expected = net.predict(x)[0]
    assert_bitwise_equal(predictor(x[0]), expected)
    assert_bitwise_equal(predictor(x[0].tolist()), net.predict(x.tolist())[0])
    assert_bitwise_equal(predictor(np.repeat(x[0], 2)[::2]), expected)
    out = np.empty(3, dtype)
    assert predictor(x[0], out=out) is out
    assert_bitwise_equal(out, expected)


def test_predictor_takes_its_arguments_as_any_function_does(plain):
    predictor, x, out = plain.predictor(), rows(1), np.empty((1, 3), "float32")
    expected = plain.predict(x)
    for result in (
        predictor(x=x),
        predictor(x, out=None),
        predictor(out=None, x=x),
        type(predictor).__call__(predictor, x),
        next(map(predictor, [x])),
    ):
        assert_bitwise_equal(result, expected)
    for call in (
        lambda: predictor(x, out=out),
        lambda: predictor(out=out, x=x),
        lambda: predictor(x, **{"".join(["o", "ut"]): out}),
        lambda: type(predictor).__call__(predictor, x, out),
    ):
        out[...] = np.nan
        assert call() is out
        assert_bitwise_equal(out, expected)
    for wrong in (
        lambda: predictor(),
        lambda: predictor(x, out, None),
        lambda: predictor(x, out, out=out),
        lambda: predictor(x, x=x),
        lambda: predictor(x, where=out),
        lambda: predictor(out=out),
    ):
        with pytest.raises(TypeError, match="argument"):
            wrong()


def test_a_subclass_of_the_predictor_may_be_called_in_its_own_way(plain):
    class Labels(_inference.Predictor):
        def __call__(self, x, *rest):
            return super().__call__(x).argmax(axis=1), rest

    labels = Labels(plain._network, 4)
    found, rest = labels(rows(4), 1, 2)
    assert found.tolist() == plain.predict(rows(4)).argmax(axis=1).tolist()
    assert rest == (1, 2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [1, 5])
def test_predictor_takes_any_form(net, dtype, form, n):
    x = rows(n, "float32").astype(dtype)
    out = np.empty((n, 3), dtype)
    assert_bitwise_equal(net.predictor(5)(FORMS[form][0](x), out=out), net.predict(x))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (rows(3), ValueError, "x must have at most 2 rows, the predictor's batch_size, got 3"),
        (rows(2)[:, :-1], ValueError, "x must have 13 columns"),
        (rows(2)[0], ValueError, "x must be 2-D"),
        (rows(0), ValueError, "x must not be empty"),
        (rows(2)[None], ValueError, "x must be 2-D"),
        (np.full((1, N_INPUTS), np.nan, "float32"), ValueError, "x must be finite"),
        (np.full((1, N_INPUTS), 1e300), ValueError, "x holds values too large for float32"),
        (rows(1).astype(complex), TypeError, "x must be real"),
        (None, TypeError, "x must be an array"),
        ("text", TypeError, "x must be an array"),
    ],
)
def test_bad_x(plain, x, error, message):
    out = np.full((2, 3), 7, "float32")
    with pytest.raises(error, match=message):
        plain.predictor(2)(x, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("x", [rows(1)[0, :-1], np.float32(1), rows(2), rows(0)])
def test_bad_x_of_one_sample(plain, x):
    with pytest.raises(ValueError, match=r"^x must"):
        plain.predictor()(x)


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((2, 4), "float32"), ValueError, r"out must have shape \(2, 3\), got \(2, 4\)"),
        (np.empty((1, 3), "float32"), ValueError, r"out must have shape \(2, 3\), got \(1, 3\)"),
        (np.empty((3, 3), "float32"), ValueError, r"out must have shape \(2, 3\), got \(3, 3\)"),
        (np.empty(6, "float32"), ValueError, r"out must have shape \(2, 3\), got \(6,\)"),
        (np.empty(3, "float32"), ValueError, r"out must have shape \(2, 3\), got \(3,\)"),
        (np.empty((2, 3, 1), "float32"), ValueError, "out must have shape"),
        (np.empty((), "float32"), ValueError, "out must have shape"),
        (np.empty((2, 3)), TypeError, "out must be of float32, as the network is, got float64"),
        (np.empty((2, 3), np.dtype("f4").newbyteorder()), TypeError, "out must be of float32"),
        (np.empty((2, 3), "int32"), TypeError, "out must be of float32.*got int32"),
        (np.empty((2, 3), "datetime64[s]"), TypeError, "out must be of float32"),
        (np.empty((2, 3), "float32", order="F"), ValueError, "out must be C-contiguous"),
        (np.empty((2, 6), "float32")[:, ::2], ValueError, "out must be C-contiguous"),
        (np.empty((4, 3), "float32")[::2], ValueError, "out must be C-contiguous"),
        (read_only(np.empty((2, 3), "float32")), ValueError, "out must be writable"),
        (misaligned(np.zeros((2, 3), "float32")), ValueError, "out must be aligned"),
        (np.empty((2, 3), "float32").view(Subclass), TypeError, "a numpy.ndarray.*Subclass"),
        (np.ma.zeros((2, 3), "float32"), TypeError, "out must be a numpy.ndarray.*MaskedArray"),
        ([[0.0] * 3] * 2, TypeError, "out must be a numpy.ndarray.*list"),
        (bytearray(24), TypeError, "out must be a numpy.ndarray.*bytearray"),
    ],
)
def test_bad_out(plain, out, error, message):
    predictor = plain.predictor(4)
    with pytest.raises(error, match=message):
        predictor(rows(2), out=out)
    assert_bitwise_equal(predictor(rows(2)), plain.predict(rows(2)))


def test_flat_input_wants_flat_out(plain):
    predictor = plain.predictor()
    with pytest.raises(ValueError, match=r"out must have shape \(3,\), got \(1, 3\)"):
        predictor(rows(1)[0], out=np.empty((1, 3), "float32"))
    with pytest.raises(ValueError, match=r"out must have shape \(1, 3\), got \(3,\)"):
        predictor(rows(1), out=np.empty(3, "float32"))


def test_out_must_not_overlap_x(plain):
    memory = np.zeros(200, "float32")
    predictor = plain.predictor(2)
    last = 20 + 2 * N_INPUTS
    for x in (
        memory[20:last].reshape(2, N_INPUTS),
        memory[20:last].reshape(2, N_INPUTS)[::-1],
        memory[20 : 20 + N_INPUTS][None],
    ):
        size = 3 * len(x)
        end = 20 + x.size
        for start in (20, 20 + 5, end - 1, 20 - size + 1):
            out = memory[start : start + size].reshape(len(x), 3)
            assert np.shares_memory(x, out)
            with pytest.raises(ValueError, match="out must not overlap x"):
                predictor(x, out=out)
        assert not memory.any()
        expected = predictor(x)
        for start in (20 - size, end):
            out = memory[start : start + size].reshape(len(x), 3)
            assert not np.shares_memory(x, out)
            assert_bitwise_equal(predictor(x, out=out), expected)
            out[...] = 0


def test_what_is_copied_may_overlap(plain):
    """An x that must be converted is not read after out is written."""
    memory = np.ones(2 * N_INPUTS, "float32")
    x = memory[::2]
    expected = plain.predict(x[None])[0]
    assert_bitwise_equal(plain.predictor()(x, out=memory[:3]), expected)


def test_predictor_sees_what_the_network_learns(plain):
    predictor = plain.predictor(4)
    x = rows(4)
    before = predictor(x)
    plain.fit(x, [0, 1, 2, 0], epochs=3, verbose=0)
    assert (predictor(x) != before).any()
    assert_bitwise_equal(predictor(x), plain.predict(x))
    plain.set_weights([np.zeros_like(w) for w in plain.get_weights()])
    assert_bitwise_equal(predictor(x), np.full((4, 3), 1 / 3, "float32"))


def test_predictor_keeps_the_network_alive():
    predictor = make_net(N_INPUTS, SIZES, loss="cross_entropy", dtype="float32").predictor()
    expected = make_net(N_INPUTS, SIZES, loss="cross_entropy", dtype="float32").predict(rows(1))
    assert_bitwise_equal(predictor(rows(1)), expected)


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_predictor_is_not_copied(plain, how):
    with pytest.raises(TypeError, match="a predictor cannot be copied or pickled"):
        how(plain.predictor())


def test_a_copied_network_has_its_own_predictor(plain):
    predictor = plain.predictor()
    other = copy.deepcopy(plain)
    expected = predictor(rows(1))
    other.set_weights([np.zeros_like(w) for w in other.get_weights()])
    assert_bitwise_equal(predictor(rows(1)), expected)
    assert (other.predictor()(rows(1)) != expected).any()


def test_predictor_shows_its_sizes(plain):
    shown = "<Predictor of at most 8 x 13 inputs, 3 outputs, float32>"
    assert repr(plain.predictor(batch_size=8)) == shown


@pytest.mark.parametrize("batch_size", [0, -1, True, 1.5, "1", None])
def test_bad_batch_size(plain, batch_size):
    with pytest.raises((TypeError, ValueError), match="batch_size must be an integer"):
        plain.predictor(batch_size)


def test_predictor_needs_a_built_network():
    with pytest.raises(ValueError, match="predictor needs a built network"):
        Sequential([Dense(1)]).predictor()


def test_huge_batch_size_costs_nothing(plain):
    """A batch goes through in chunks: the buffers have the size of one."""
    assert_bitwise_equal(plain.predictor(10**12)(rows(300)), plain.predict(rows(300)))


@pytest.mark.parametrize("batch_size", [1, 3000])
def test_each_thread_has_its_own(batch_size):
    net = make_net(N_INPUTS, SIZES, loss="cross_entropy", dtype="float32")
    inputs = [rows(batch_size, seed=i) for i in range(6)]
    expected = [net.predict(x) for x in inputs]
    wrong = []

    def work(x, y):
        predictor, out = net.predictor(batch_size), np.empty_like(y)
        for _ in range(30000 // batch_size):
            out.fill(np.nan)
            if predictor(x, out=out).tobytes() != y.tobytes():
                wrong.append(x)

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(inputs, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_one_predictor_in_two_threads_is_right_or_refuses():
    """A long call lets other threads run; one that comes in meanwhile must not spoil its memory."""
    net = make_net(N_INPUTS, SIZES, loss="cross_entropy", dtype="float32")
    inputs = [rows(3000, seed=i) for i in range(4)]
    expected = [net.predict(x) for x in inputs]
    predictor = net.predictor(3000)
    outcomes = []

    def work(x, y):
        for _ in range(10):
            try:
                outcomes.append(predictor(x).tobytes() == y.tobytes())
            except RuntimeError as error:
                outcomes.append("each thread needs its own" in str(error))

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(inputs, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True] * 40


def test_predicting_while_another_thread_trains():
    """It sees weights in motion: each output is that of some mixture, none is wild."""
    net = make_net(N_INPUTS, SIZES, loss="cross_entropy", optimizer="adam", dtype="float32")
    x = rows(2000)
    labels = np.arange(2000) % 3
    cymlp.set_num_threads(1)
    trainer = threading.Thread(
        target=net.fit, args=(x, labels), kwargs={"epochs": 20, "verbose": 0}
    )
    predictor = net.predictor(64)
    calls = 0
    trainer.start()
    while trainer.is_alive() or calls == 0:
        out = predictor(x[:64])
        assert np.allclose(out.sum(axis=1), 1, atol=1e-5)
        calls += 1
    trainer.join()
    assert_bitwise_equal(predictor(x[:64]), net.predict(x[:64]))
