"""Inputs of which most are zero: in rows, as bytes, or as scipy.sparse holds them."""

import numpy as np
import pytest

from cymlp import Sequential, _dense, _kernels
from cymlp.layers import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    LayerNormalization,
    Residual,
)

scipy_sparse = pytest.importorskip("scipy.sparse")


@pytest.fixture(params=_kernels.available_isas())
def isa(request):
    before = _kernels.active_isa()
    _kernels.select_isa(request.param)
    yield request.param
    _kernels.select_isa(before)


def images(n_rows=130, n_inputs=200, density=0.2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.integers(1, 256, (n_rows, n_inputs), dtype=np.uint8)
    X[rng.random(X.shape) > density] = 0
    X[3] = 0
    return X, rng.integers(0, 5, n_rows)


def trained(X, y, hidden, dtype, *, batch_size=50, **fit):
    """Return everything that training and prediction make of X, as bytes."""
    layers = [Dense(units, activation="relu") for units in hidden]
    net = Sequential([*layers, Dense(5, activation="softmax")], dtype=dtype, random_state=0)
    net.compile("adam", "cross_entropy", metrics=["accuracy"])
    history = net.fit(X, y, epochs=2, batch_size=batch_size, verbose=0, **fit)
    gradients = net.gradients(X, y)
    outputs = net.layer_outputs(X)
    return [
        np.array([*history.history.values(), *net.evaluate(X, y).values()], object).tolist(),
        *(array.tobytes() for array in [*net.get_weights(), *gradients, *outputs, net.predict(X)]),
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [(), (1,), (33,), (128, 9), (300,)], ids=str)
def test_every_form_of_the_same_numbers_gives_the_same(isa, dtype, hidden):
    X, y = images()
    expected = trained(X.astype(dtype), y, hidden, dtype)
    assert trained(X, y, hidden, dtype) == expected
    assert trained(scipy_sparse.csr_array(X), y, hidden, dtype) == expected
    assert trained(scipy_sparse.csc_matrix(X.astype(float)), y, hidden, dtype) == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_inputs", [64, 65, 191, 192, 193])
def test_leaving_zeros_out_gives_the_bits_of_multiplying_them(isa, dtype, n_inputs):
    """Rows without a zero are multiplied whole, unless they come as non-zeros."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(150, n_inputs)).astype(dtype)
    y = rng.integers(0, 5, len(X))
    dense = trained(X, y, (50,), dtype, batch_size=70)
    assert trained(scipy_sparse.csr_array(X), y, (50,), dtype, batch_size=70) == dense
    X[:, rng.random(n_inputs) < 0.8] = 0
    whole = X + 0.0
    assert trained(X, y, (50,), dtype) == trained(scipy_sparse.csr_array(whole), y, (50,), dtype)


@pytest.fixture
def leave_zeros_out():
    yield _dense.leave_zeros_out
    _dense.leave_zeros_out()


def deep(kind, dtype):
    """Return a network whose layers are large enough for leaving hidden zeros out."""
    layers = {
        "dense": [Dense(200, "relu"), Dense(144, "relu"), Dense(300, "relu")],
        "dropout": [Dense(200, "relu"), Dropout(0.5), Dense(150, "tanh"), Dropout(0.5), Dense(129)],
        "norm": [Dense(130, "relu"), BatchNormalization(), Dense(160, "relu"), Dense(130)],
        "residual": [Dense(140, "relu"), Residual([Dense(130, "relu"), Dense(140)]), Dense(150)],
        "activation": [Dense(140), LayerNormalization(), Activation("relu"), Dense(133, "relu")],
        "decoder": [Dense(128, "relu"), Dense(200)],
    }[kind]
    if kind != "decoder":
        layers = [*layers, Dense(5, "softmax")]
    net = Sequential(layers, dtype=dtype, random_state=0)
    net.compile("adam", "squared_error" if kind == "decoder" else "cross_entropy")
    return net


def made_by(kind, dtype, **fit):
    """Return all that such a network makes of rows without zeros, as bytes."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(140, 200)).astype(dtype)
    y = X if kind == "decoder" else rng.integers(0, 5, len(X))
    net = deep(kind, dtype)
    history = net.fit(X, y, epochs=2, batch_size=70, verbose=0, **fit)
    arrays = [
        *net.get_weights(),
        *net.gradients(X, y),
        *net.layer_outputs(X),
        net.predict(X),
        net.predict(X[:1]),
        net.input_gradients(X, y),
        net.predictor()(X[0]),
    ]
    return history.history, [array.tobytes() for array in arrays]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["dense", "dropout", "norm", "residual", "activation", "decoder"])
def test_leaving_hidden_zeros_out_gives_the_bits_of_multiplying_them(
    isa, leave_zeros_out, dtype, kind
):
    leave_zeros_out(made=0)
    multiplied = made_by(kind, dtype, n_threads=1)
    for share, n_threads in ((2, 1), (None, 1), (None, 3)):
        leave_zeros_out(made=share)
        assert made_by(kind, dtype, n_threads=n_threads) == multiplied


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("density", [0, 0.2, 1])
@pytest.mark.parametrize("hidden", [(), (1,), (33,), (128, 9), (300,)], ids=str)
def test_a_row_alone_gives_what_it_gives_in_a_batch(isa, leave_zeros_out, dtype, density, hidden):
    X, y = images(20, n_inputs=193, density=density)
    layers = [Dense(units, activation="relu") for units in hidden]
    net = Sequential([*layers, Dense(5, "softmax")], n_inputs=193, dtype=dtype, random_state=0)
    leave_zeros_out(samples=0)
    in_batch = net.predict(X.astype(dtype))
    for share in (None, 2):
        leave_zeros_out(samples=share)
        for row, expected in zip(X, in_batch, strict=True):
            for form in (row, row.astype(dtype), scipy_sparse.csr_array(row[None])):
                x = form if form.ndim == 2 else form[None]
                assert net.predict(x)[0].tobytes() == expected.tobytes()
                if form.ndim == 1:
                    assert net.predictor()(form).tobytes() == expected.tobytes()


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_threads_change_nothing(n_threads):
    X, y = images(400, 300)
    for form in (X, X.astype(np.float32), scipy_sparse.csr_array(X)):
        one = trained(form, y, (256,), "float32", batch_size=200, n_threads=1)
        assert trained(form, y, (256,), "float32", batch_size=200, n_threads=n_threads) == one


def test_batch_that_is_taken_in_slices():
    X, y = images(17000, 70)
    expected = trained(X.astype(np.float32), y, (3,), "float32", batch_size=17000)
    assert trained(X, y, (3,), "float32", batch_size=17000) == expected
    sparse = scipy_sparse.csr_array(X)
    assert trained(sparse, y, (3,), "float32", batch_size=17000) == expected


def test_forms_in_turn_with_one_network():
    X, y = images()
    net = Sequential([Dense(9, activation="tanh"), Dense(5)], random_state=0)
    net.compile("sgd", "squared_error")
    target = np.eye(5)[y]
    forms = [X, X.astype(np.float32), scipy_sparse.csr_array(X), X[:, ::1], X.astype(np.float32)]
    for form in forms:
        net.fit(form / np.float32(255) if form.dtype != np.uint8 else form, target, verbose=0)
        assert np.isfinite(net.predict(form)).all()


def test_bytes_may_be_rows_of_a_larger_array():
    X, y = images(60, 300)
    part = X[::2, 50:250]
    net = Sequential([Dense(5)], n_inputs=200, random_state=0)
    expected = net.predict(part.astype(np.float32))
    np.testing.assert_array_equal(net.predict(part), expected)
    np.testing.assert_array_equal(net.predict(X.T[50:250, ::2].T), expected)
    predict_one = net.predictor()
    np.testing.assert_array_equal(predict_one(part[4]), expected[4])


def test_duplicates_are_summed_and_order_does_not_matter():
    X, y = images()
    csr = scipy_sparse.csr_matrix(X.astype(np.float32))
    shuffled = csr.copy()
    for i in range(len(X)):
        part = slice(shuffled.indptr[i], shuffled.indptr[i + 1])
        shuffled.indices[part] = shuffled.indices[part][::-1]
        shuffled.data[part] = shuffled.data[part][::-1]
    shuffled.has_sorted_indices = False
    shuffled.has_canonical_format = False
    kept = shuffled.indices.copy()
    assert trained(shuffled, y, (20,), "float32") == trained(csr, y, (20,), "float32")
    np.testing.assert_array_equal(shuffled.indices, kept)
    coo = scipy_sparse.coo_array(([1.0, 2.0], ([0, 0], [4, 4])), shape=(1, 200))
    net = Sequential([Dense(5)], n_inputs=200, random_state=0)
    np.testing.assert_array_equal(net.predict(coo), net.predict(coo.toarray()))


def broken(change):
    X, _ = images()
    csr = scipy_sparse.csr_matrix(X.astype(np.float32))
    change(csr)
    csr.has_canonical_format = True
    return csr


def _set(array, index, value):
    array[index] = value


@pytest.mark.parametrize(
    "change",
    [
        lambda csr: _set(csr.indices, 5, 200),
        lambda csr: _set(csr.indices, 5, -1),
        lambda csr: _set(csr.indices, 5, 2**31 - 1),
        lambda csr: _set(csr.indices, 1, csr.indices[0]),
        lambda csr: _set(csr.indptr, 2, 10**6),
        lambda csr: _set(csr.indptr, 2, -5),
        lambda csr: _set(csr.indptr, 0, 3),
    ],
    ids=["beyond", "negative", "huge", "twice", "past_the_end", "before_it", "late_start"],
)
def test_hostile_structure_is_refused(change):
    """With the flag set that says that all is well."""
    net = Sequential([Dense(5)], n_inputs=200, random_state=0)
    net.compile("sgd", "squared_error")
    weights = net.get_weights()
    X = broken(change)
    with pytest.raises(ValueError, match="sparse row"):
        net.predict(X)
    with pytest.raises(ValueError, match="sparse row"):
        net.fit(X, np.zeros((X.shape[0], 5)), verbose=0)
    for before, after in zip(weights, net.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_bad_values_are_named():
    X, y = images()
    net = Sequential([Dense(5)], n_inputs=200, random_state=0)
    infinite = scipy_sparse.csr_matrix(X.astype(np.float32))
    infinite.data[7] = np.inf
    with pytest.raises(ValueError, match=r"X must be finite, got inf at 7"):
        net.predict(infinite)
    with pytest.raises(ValueError, match="X must have 200 columns.*got 199"):
        net.predict(scipy_sparse.csr_array(X[:, :199]))
    with pytest.raises(ValueError, match="X must have 200 columns.*got 199"):
        net.predict(X[:, :199])
    with pytest.raises(ValueError, match="X must not be empty"):
        net.predict(scipy_sparse.csr_array((0, 200)))
    with pytest.raises(TypeError, match="X must be real"):
        net.predict(scipy_sparse.csr_array(X.astype(complex)))
    net.compile("sgd", "squared_error")
    with pytest.raises(TypeError, match="y must be dense"):
        net.fit(X, scipy_sparse.csr_array(np.eye(5)[y]), verbose=0)
