"""Whatever X comes in gives what the same numbers give as a plain float array, bit for bit."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from conftest import ISAS, assert_bitwise_equal

from cymlp import Sequential, _kernels, _reference, _validate
from cymlp.layers import Dense

ELEMENTS = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "g"]
SWAPPED = [">u2", ">i2", ">u4", ">i4", ">u8", ">i8", ">f2", ">f4", ">f8", ">g"]
N_ROWS, N_INPUTS, N_CLASSES = 23, 67, 3


def numbers(element, seed=0):
    """Return a matrix of small integers, half of them zeros, that every element type holds."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(element).kind
    low, high = {"b": (0, 2), "u": (0, 100), "i": (-99, 100), "f": (-99, 100)}[kind]
    X = rng.integers(low, high, (N_ROWS, N_INPUTS))
    X[rng.random(X.shape) < 0.5] = 0
    return X.astype(element)


LABELS = np.random.default_rng(1).integers(0, N_CLASSES, N_ROWS)


def everything(X, dtype="float32", *, y=LABELS, input_scale=1.0, hidden=(20,), **fit):
    """Return all that training, evaluation and prediction make of X."""
    layers = [Dense(units, activation="relu") for units in hidden]
    net = Sequential(
        [*layers, Dense(N_CLASSES, activation="softmax")],
        dtype=dtype,
        input_scale=input_scale,
        random_state=0,
    )
    net.compile("adam", "cross_entropy", metrics=["accuracy"])
    options = {"epochs": 2, "batch_size": 8, "validation_data": (X, y), "verbose": 0, **fit}
    history = net.fit(X, y, **options).history
    loss = net.train_on_batch(X, y)
    scores = np.array([*np.ravel(list(history.values())), loss, *net.evaluate(X, y).values()])
    return [scores, *net.get_weights(), *net.gradients(X, y), *net.layer_outputs(X), net.predict(X)]


def mapped(path, X, *, offset=0):
    """Return a file with the elements of X in X's order, mapped into memory, read-only."""
    order = "F" if X.flags.f_contiguous and not X.flags.c_contiguous else "C"
    path.write_bytes(b"x" * offset + X.tobytes("A"))
    return np.memmap(path, X.dtype, "r", offset, X.shape, order)


# ------------------------------------------------------------------------------------ the kernel


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("element", ELEMENTS + SWAPPED)
def test_kernel_against_its_twin(isa, dtype, element):
    """Every bit pattern of up to two bytes, and some of the others, at any distance."""
    kernels = _kernels.Kernels(isa=isa, dtype=dtype)
    kind = np.dtype(element)
    rng = np.random.default_rng(0)
    if kind.kind == "b":
        x = np.array([False, True] * 40)
    elif kind.itemsize <= 2:
        native = np.arange(256**kind.itemsize, dtype=f"u{kind.itemsize}")
        x = native.view(kind.newbyteorder("=")).astype(kind)
        assert len(np.unique(x[np.isfinite(x)])) > 200
    elif kind.kind in "iu":
        info = np.iinfo(kind)
        x = rng.integers(info.min, info.max, 999, kind.newbyteorder("=")).astype(kind)
        x[:3] = info.min, info.max, info.max - 1
    else:
        x = (rng.standard_normal(999) * 10.0 ** rng.integers(-50, 39, 999)).astype(kind)
        x[:4] = np.nan, np.inf, -np.inf, -0.0
    for scale in (1.0, 1 / 255, 3.0):
        for n in (1, 2, 15, 16, 17, 63, len(x)):
            _assert_converted(kernels, x[:n], scale)
        for part in (x[::-1], x[::3], x[1::2], x[:1]):
            _assert_converted(kernels, part, scale)
        buffer = np.zeros(x.nbytes + 1, np.uint8)
        unaligned = buffer[1:].view(kind)
        unaligned[:] = x
        _assert_converted(kernels, unaligned, scale)


def _assert_converted(kernels, x, scale):
    actual, expected = kernels.convert(x, scale), _reference.convert(x, kernels.dtype, scale)
    bad = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual), bad)
    assert_bitwise_equal(np.where(bad, 0, actual), np.where(bad, 0, expected))


def test_kernel_refuses_what_it_does_not_know():
    kernels = _kernels.Kernels()
    for x in (np.zeros(3, complex), np.zeros(3, "M8[s]"), np.array(["a"]), np.zeros(3, object)):
        with pytest.raises(ValueError, match="there are no inputs of"):
            kernels.convert(x)


# ------------------------------------------------------------------------------------ dense arrays


@pytest.mark.parametrize("element", ELEMENTS + SWAPPED)
def test_elements_and_orders_and_places(tmp_path, dtype, element):
    X = numbers(element)
    expected = everything(X.astype(dtype), dtype)
    wide = np.zeros((2 * N_ROWS, N_INPUTS + 3), X.dtype)
    wide[::2, 2:-1] = X
    forms = {
        "C": X,
        "F": np.asfortranarray(X),
        "part": wide[::2, 2:-1],
        "reversed": np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
        "read-only": np.frombuffer(X.tobytes(), X.dtype).reshape(X.shape),
        "mapped C": mapped(tmp_path / "c", X),
        "mapped F": mapped(tmp_path / "f", np.asfortranarray(X)),
        "mapped unaligned": mapped(tmp_path / "u", X, offset=3),
        "mapped part": mapped(tmp_path / "p", wide)[::2, 2:-1],
        "mapped array": np.asarray(mapped(tmp_path / "a", X)),
    }
    for name, form in forms.items():
        assert_bitwise_equal(everything(form, dtype), expected, name)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 8, 23])
def test_batch_sizes_and_threads(tmp_path, batch_size, n_threads):
    X = numbers("i2")
    options = {"batch_size": batch_size, "n_threads": n_threads, "hidden": (150, 9)}
    expected = everything(X.astype("float32"), **options)
    actual = everything(mapped(tmp_path / "x", np.asfortranarray(X)), **options)
    for a, e in zip(actual, expected, strict=True):  # a zero may have another sign
        np.testing.assert_array_equal(a, e)


def test_every_isa(isa, tmp_path):
    for element in ("u1", "i8", ">f8"):
        X = numbers(element)
        expected = everything(X.astype("float32"))
        assert_bitwise_equal(everything(mapped(tmp_path / "x", X)), expected)


def test_matrices_of_one_row_or_column(tmp_path):
    net = Sequential([Dense(2)], n_inputs=1, random_state=0)
    row = Sequential([Dense(2)], n_inputs=5, random_state=0)
    for element in ("u1", "i4", "f8"):
        X = np.arange(5).astype(element).reshape(5, 1)
        for form in (X, X[::-1][::-1], mapped(tmp_path / "x", X), np.asfortranarray(X)):
            assert_bitwise_equal(net.predict(form), net.predict(X.astype("float32")))
            assert_bitwise_equal(row.predict(form.T), row.predict(X.T.astype("float32")))


def test_values_that_the_dtype_rounds(tmp_path):
    """A conversion on the way is the conversion that NumPy makes."""
    rng = np.random.default_rng(0)
    for X in (
        rng.standard_normal((9, 5)),
        rng.integers(-(2**62), 2**62, (9, 5)) // 2**30,
        rng.integers(0, 2**24, (9, 5)).astype("u4") * 7,
    ):
        net = Sequential([Dense(2)], n_inputs=5, random_state=0)
        expected = net.predict(X.astype("float32"))
        assert_bitwise_equal(net.predict(X), expected)
        assert_bitwise_equal(net.predict(mapped(tmp_path / "x", X)), expected)


def test_targets_of_other_kinds(tmp_path):
    X, target = numbers("f4"), numbers("f8", seed=3)[:, :2]

    def trained(y):
        net = Sequential([Dense(2)], random_state=0)
        net.compile("sgd", "squared_error")
        net.fit(X / 100, y, verbose=0)
        return net.get_weights()

    expected = trained(target.astype("float32"))
    for element in ("f4", "f8", "i2", ">f8", ">f4", "g"):
        y = target.astype(element)
        for form in (y, np.asfortranarray(y), mapped(tmp_path / "y", y), y.tolist()):
            assert_bitwise_equal(trained(form), expected)
    labels = everything(X)
    for element in ("i1", "u8", "f2", ">i4"):
        y = LABELS.astype(element)
        assert_bitwise_equal(everything(X, y=mapped(tmp_path / "y", y)), labels)


# ----------------------------------------------------------------------------------- input_scale


@pytest.mark.parametrize("scale", [1 / 255, 0.5, 7.0])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_input_scale_is_a_product(tmp_path, dtype, scale, batch_size):
    sparse = pytest.importorskip("scipy.sparse")
    X = numbers("u1")
    real = X.astype(dtype)
    expected = everything(real * np.dtype(dtype).type(scale), dtype, batch_size=batch_size)
    forms = {
        "bytes": X,
        "int64": X.astype("i8"),
        "reals": real,
        "strided": np.hstack([real, real])[:, :N_INPUTS],
        "F": np.asfortranarray(real),
        "mapped": mapped(tmp_path / "x", X.astype("i2")),
        "sparse": sparse.csr_array(real),
        "sparse bytes": sparse.csc_array(X),
        "list": X.tolist(),
    }
    for name, form in forms.items():
        before = copy.deepcopy(form)
        actual = everything(form, dtype, input_scale=scale, batch_size=batch_size)
        for a, e in zip(actual, expected, strict=True):  # a zero may have another sign
            np.testing.assert_array_equal(a, e, name)
        if isinstance(form, np.ndarray):
            np.testing.assert_array_equal(form, before)
        elif "sparse" in name:
            np.testing.assert_array_equal(form.toarray(), before.toarray())


def test_predictor_is_scaled(dtype):
    X = numbers("u1")
    net = Sequential([Dense(9, activation="tanh"), Dense(4)], n_inputs=N_INPUTS, dtype=dtype,
                     input_scale=0.25, random_state=0)  # fmt: skip
    plain = Sequential([Dense(9, activation="tanh"), Dense(4)], n_inputs=N_INPUTS, dtype=dtype,
                       random_state=0)  # fmt: skip
    expected = plain.predict(X.astype(dtype) / 4)
    for batch_size in (1, 5, 200):
        predictor = net.predictor(batch_size)
        for start in range(0, N_ROWS, batch_size):
            part = slice(start, start + batch_size)
            assert_bitwise_equal(predictor(X[part]), expected[part])
            out = np.empty((len(X[part]), 4), dtype)
            assert predictor(X[part].astype(dtype), out=out) is out
            assert_bitwise_equal(out, expected[part])
    assert_bitwise_equal(net.predictor()(X[3].astype(dtype)), expected[3])
    assert_bitwise_equal(net.predict(X.astype(dtype)), expected)


def test_input_scale_survives_copies():
    X = numbers("u1")
    net = Sequential([Dense(4)], n_inputs=N_INPUTS, input_scale=1 / 255, random_state=0)
    expected = net.predict(X)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.input_scale == 1 / 255
        assert_bitwise_equal(other.predict(X), expected)


def test_scaled_zeros_are_still_left_out():
    """What a weight of an input that is always zero holds cannot show."""
    X = np.zeros((20, 200), np.uint8)
    X[:, 7] = 255
    for form in (X, X.astype("float32")):
        net = Sequential([Dense(100)], n_inputs=200, input_scale=1 / 255, random_state=0)
        kernel, bias = net.get_weights()
        assert_bitwise_equal(net.predict(form), np.tile(kernel[7] + bias, (20, 1)))


@pytest.mark.parametrize("scale", [0, -1.0, np.nan, np.inf, "1", None, True, 1e-60, 1e60])
def test_bad_input_scale(scale):
    with pytest.raises((ValueError, TypeError), match="^input_scale must be"):
        Sequential([Dense(2)], input_scale=scale)


def test_scale_must_not_make_inputs_infinite(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    X = np.full((3, 2), 1e30)
    net = Sequential([Dense(2)], n_inputs=2, input_scale=1e10, random_state=0)
    net.compile("sgd", "squared_error")
    small = X.astype("float32")
    for form in (X, small, -small, mapped(tmp_path / "x", X), sparse.csr_array(X)):
        for action in (net.predict, net.layer_outputs, lambda X: net.fit(X, X, verbose=0)):
            with pytest.raises(ValueError, match="^X times input_scale must be at most"):
                action(form)
    for form in (X[0], small[0], small[:1]):
        with pytest.raises(ValueError, match="^x times input_scale must be at most"):
            net.predictor()(form)
    assert np.isfinite(net.predict(np.full((1, 2), 1e28, "float32"))).all()


# ------------------------------------------------------------------------------------ mapped files


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("element", ["f8", "i2", ">f4", "f4"])
def test_mapped_file_is_never_copied(tmp_path, element, order):
    """16 MB or more of holes, a float32 network: what is allocated is a batch's share."""
    n_rows, n_inputs = 20000, 400
    X = np.memmap(tmp_path / "x", element, "w+", 0, (n_rows, n_inputs), order)
    y = np.zeros(n_rows, np.int32)
    net = Sequential([Dense(3, activation="softmax")], random_state=0)
    net.compile("sgd", "cross_entropy")
    tracemalloc.start()
    try:
        net.fit(X, y, batch_size=500, verbose=0, shuffle=False)
        net.evaluate(X, y)
        net.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6e6 < X.nbytes


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("element", ["f8", ">f4", "f4", "f2"])
def test_what_is_not_finite_is_found_in_a_mapped_file(tmp_path, element, order):
    X = np.memmap(tmp_path / "x", element, "w+", 0, (3000, 500), order)
    net = Sequential([Dense(2)], n_inputs=500, random_state=0)
    assert X.nbytes > _validate._BLOCK * 2
    X[2900, 450] = X[2901, 3] = np.nan
    with pytest.raises(
        ValueError, match=r"^X must be finite, got nan at \(2900, 450\) and 2 non-fin"
    ):
        net.predict(X)
    X[2800, 499] = -np.inf
    with pytest.raises(ValueError, match=r"got -inf at \(2800, 499\) and 3 non-finite"):
        net.layer_outputs(X)


def test_a_mapped_value_too_large_for_the_dtype(tmp_path):
    X = np.memmap(tmp_path / "x", "f8", "w+", 0, (3000, 500))
    X[17, 3] = 1e300
    with pytest.raises(ValueError, match="X holds values too large for float32"):
        Sequential([Dense(2)], n_inputs=500).predict(X)
    assert np.isfinite(Sequential([Dense(2)], n_inputs=500, dtype="float64").predict(X)).all()


def test_what_counts_as_mapped(tmp_path):
    X = mapped(tmp_path / "x", numbers("i4"))
    np.save(tmp_path / "x.npy", numbers("i4"))
    for array in (X, X[1:], np.asarray(X), X.T[::2], np.load(tmp_path / "x.npy", "r")):
        assert _validate.is_mapped(array)
    for array in (numbers("i4"), X + 1, np.array(X), X.copy(), X.astype("f4")):
        assert not _validate.is_mapped(array)


# ------------------------------------------------------------------------------------- data frames


def test_pandas(dtype):
    pandas = pytest.importorskip("pandas")
    X = numbers("i2")
    expected = everything(X.astype(dtype), dtype)
    frame = pandas.DataFrame(X)
    forms = {
        "one dtype": frame,
        "floats": frame.astype("float64"),
        "nullable": frame.astype("Int32"),
        "nullable floats": frame.astype("Float32"),
        "mixed": frame.astype({0: "float32", 3: "int64", 5: "object"}),
        "nullable among others": frame.astype({0: "Int8", 3: "float64"}),
        "index": frame.set_index(np.arange(N_ROWS) * 7),
        "objects": frame.astype(object),
    }
    for name, form in forms.items():
        assert_bitwise_equal(everything(form, dtype), expected, name)
    for y in (
        pandas.Series(LABELS),
        pandas.Series(LABELS, dtype="Int64"),
        pandas.Series(LABELS, dtype="float32"),
    ):
        assert_bitwise_equal(everything(frame, dtype, y=y), expected)


def test_pandas_that_are_no_numbers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(numbers("i2")[:, :3], columns=["a", "b", "c"])
    net = Sequential([Dense(2)], n_inputs=3, random_state=0)
    text = ["x", "y", *"z" * (N_ROWS - 2)]
    for column, match in {
        "categories": (
            pandas.Categorical(text),
            r"^X must be numeric, got column 'b' of dtype cat",
        ),
        "numbers as categories": (pandas.Categorical(frame["b"]), "column 'b' of dtype category"),
        "strings": (pandas.Series(text, dtype="str"), "column 'b' of dtype str"),
        "objects": (pandas.Series(text, dtype=object), "X must be numeric, got an array with str"),
        "dates": (pandas.date_range("2020", periods=N_ROWS), "column 'b' of dtype datetime64"),
        "missing": (
            pandas.Series([1, None, *range(N_ROWS - 2)], dtype="Int64"),
            r"^X must not have missing values, got <NA> at \(1, 1\)|^X must be finite, got nan",
        ),
        "None": (
            pandas.Series([1, None, *range(N_ROWS - 2)], dtype=object),
            r"^X must not have missing values, got None at \(1, 1\)",
        ),
        "NaN": (
            np.where(np.arange(N_ROWS) == 1, np.nan, 0),
            r"X must be finite, got nan at \(1, 1",
        ),
    }.values():
        with pytest.raises((TypeError, ValueError), match=match) as info:
            net.predict(frame.assign(b=column))
        assert info.value.__suppress_context__ or info.value.__context__ is None
    net = Sequential([Dense(3, activation="softmax")], n_inputs=3, random_state=0)
    net.compile("sgd", "cross_entropy")
    with pytest.raises(TypeError, match=r"^y must be numeric.*class labels are integers from 0"):
        net.fit(frame, pandas.Series(text, dtype="category"), verbose=0)
    with pytest.raises(ValueError, match=r"^y must (not have missing values|be finite)"):
        net.fit(frame, pandas.Series([None, *LABELS[1:]], dtype="Int64"), verbose=0)


def test_polars(dtype):
    polars = pytest.importorskip("polars")
    X = numbers("i2")
    expected = everything(X.astype(dtype), dtype)
    frame = polars.DataFrame(X, schema=[f"x{i}" for i in range(N_INPUTS)])
    mixed = frame.with_columns(polars.col("x1").cast(polars.Float32), polars.col("x2").cast(int))
    for form in (frame, mixed, frame.cast(polars.Float64)):
        assert_bitwise_equal(everything(form, dtype), expected)
    assert_bitwise_equal(everything(frame, dtype, y=polars.Series(LABELS)), expected)
    truth = polars.DataFrame(X > 0, schema=frame.columns)
    assert_bitwise_equal(everything(truth, dtype), everything((X > 0).astype(dtype), dtype))


def test_polars_that_are_no_numbers():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1.0, 2.0], "b": [1, 2]})
    net = Sequential([Dense(2)], n_inputs=2, random_state=0)
    for column, match in (
        (["x", "y"], "^X must be numeric, got column 'b' of dtype String"),
        (polars.Series(["x", "y"], dtype=polars.Categorical), "column 'b' of dtype Categorical"),
        ([1, None], "^X must not have missing values, got 1 in column 'b'"),
        ([None, None], "column 'b' of dtype Null"),
        ([[1], [2]], "column 'b' of dtype List"),
        ([1.0, float("nan")], r"^X must be finite, got nan at \(1, 1\)"),
    ):
        bad = frame.with_columns(polars.Series("b", column))
        with pytest.raises((TypeError, ValueError), match=match) as info:
            net.predict(bad)
        assert info.value.__suppress_context__ or info.value.__context__ is None
