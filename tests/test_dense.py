"""One dense layer through the loops of training, against NumPy: every ISA, dtype, size, team.

The tolerance of a sum of n products is Higham's: n roundings of u = eps/2 each, in proportion to
the sum of the products' absolute values (see test_kernels.py).
"""

import itertools

import numpy as np
import pytest
from conftest import DTYPES, ISAS, assert_bitwise_equal, assert_within, row_strided, unaligned

from cymlp import _dense
from cymlp import _reference as reference
from cymlp._kernels import ACTIVATIONS, Kernels

SMALL = range(1, 41)
IDENTITY = ACTIVATIONS["identity"]
#: Error of an activation relative to its result, in eps; test_kernels.py holds it to less.
ACTIVATION_EPS = 6

#: The largest slope of activations that have one above 1; but exponential's, which is its output.
STEEPEST = {"selu": 1.76, "gelu": 1.13, "gelu_tanh": 1.13, "silu": 1.1, "mish": 1.09}


@pytest.fixture(params=[f"{isa}-{dtype}" for isa in ISAS for dtype in DTYPES])
def kernels(request):
    isa, dtype = request.param.split("-")
    return Kernels(isa=isa, dtype=dtype)


@pytest.fixture(params=[False, True], ids=["units in lanes", "inputs in lanes"])
def narrow(request):
    """How the kernel lies: layers of few units have a layout of their own."""
    return request.param


def near(*edges):
    return {edge + step for edge in edges for step in (-1, 0, 1) if edge + step > 0}


def shapes(kernels):
    """Yield (samples, inputs, units): all pairs in 1..40 with a third that varies, and edges."""
    for a, b in itertools.product(SMALL, SMALL):
        c = 1 + (3 * a + 7 * b) % 40
        yield [(a, b, c), (a, c, b), (c, a, b)][(a + b) % 3]
    rows = near(
        kernels.tile_rows, 2 * kernels.tile_rows, kernels.block_rows, 2 * kernels.block_rows
    )
    widths = near(2 * kernels.lanes, 4 * kernels.lanes, 8 * kernels.lanes, 16 * kernels.lanes)
    for edge in rows:
        yield edge, 5, 3
        yield 5, edge, 3
        yield 3, 5, edge
        yield edge, 2 * kernels.lanes + 1, 2 * kernels.lanes + 1
    for edge in widths:
        yield 7, edge, 3
        yield 7, 3, edge
        yield kernels.tile_rows + 1, edge, edge


def arrays(rng, kernels, *shapes_of_arrays):
    return [rng.standard_normal(shape).astype(kernels.dtype) for shape in shapes_of_arrays]


def check_forward(kernels, x, kernel, bias, activation="identity", **options):
    y = _dense.forward(x, kernel, bias, ACTIVATIONS[activation], isa=kernels.isa, **options)
    assert y.dtype == kernels.dtype
    wide = [a.astype("float64") for a in (x, kernel, bias)]
    expected = reference.dense_forward(*wide, activation)
    size = np.abs(wide[0]) @ np.abs(wide[1]) + np.abs(wide[2])
    # Other activations have slopes of at most one, in every norm that matters here.
    size = size * STEEPEST.get(activation, 1)
    if activation == "softmax":
        size = np.broadcast_to(size.sum(axis=1, keepdims=True), size.shape)
    elif activation == "exponential":
        size = size * expected
    eps = np.finfo(kernels.dtype).eps
    tolerance = (x.shape[1] + 1) * eps * size + ACTIVATION_EPS * eps * np.abs(expected)
    assert_within(y, expected, tolerance, f"forward {activation} {x.shape} {kernel.shape}")
    return y


def check_propagate(kernels, delta, kernel, y_below, activation="identity", **options):
    out = _dense.propagate(
        delta, kernel, y_below, ACTIVATIONS[activation], isa=kernels.isa, **options
    )
    assert out.dtype == kernels.dtype
    wide = [a.astype("float64") for a in (delta, kernel, y_below)]
    expected = reference.dense_propagate(*wide, activation)
    size = np.abs(wide[0]) @ np.abs(wide[1]).T
    if activation == "softmax":
        y = np.abs(wide[2])
        size = y * (size + (size * y).sum(axis=1, keepdims=True)) * y.shape[1]
    elif activation == "relu":
        size = size * (wide[2] > 0)
    elif activation == "exponential":
        size = size * wide[2]
    size = size * STEEPEST.get(activation, 1)
    eps = np.finfo(kernels.dtype).eps
    tolerance = (delta.shape[1] + ACTIVATION_EPS) * eps * size
    assert_within(out, expected, tolerance, f"propagate {activation} {delta.shape} {kernel.shape}")
    return out


def check_gradient(kernels, x, delta, **options):
    actual = _dense.gradient(x, delta, isa=kernels.isa, **options)
    wide = [a.astype("float64") for a in (x, delta)]
    expected = reference.dense_gradient(*wide)
    sizes = reference.dense_gradient(*map(np.abs, wide))
    eps = np.finfo(kernels.dtype).eps
    for part, a, e, size in zip(("kernel", "bias"), actual, expected, sizes, strict=True):
        assert a.dtype == kernels.dtype
        message = f"gradient of {part}, {x.shape} {delta.shape}"
        assert_within(a, e, (len(x) + 1) * eps * size, message)
    return actual


def test_forward(kernels, narrow):
    rng = np.random.default_rng(1)
    for n, inputs, units in shapes(kernels):
        operands = arrays(rng, kernels, (n, inputs), (inputs, units), units)
        check_forward(kernels, *operands, narrow=narrow)


def test_propagate(kernels, narrow):
    rng = np.random.default_rng(2)
    for n, inputs, units in shapes(kernels):
        operands = arrays(rng, kernels, (n, units), (inputs, units), (n, inputs))
        check_propagate(kernels, *operands, narrow=narrow)


def test_gradient(kernels, narrow):
    rng = np.random.default_rng(3)
    for n, inputs, units in shapes(kernels):
        check_gradient(kernels, *arrays(rng, kernels, (n, inputs), (n, units)), narrow=narrow)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(kernels, narrow, name):
    """Every activation above and below, over all widths from one to three panels and a bit."""
    rng = np.random.default_rng(4)
    for units in range(1, 6 * kernels.lanes + 2):
        n, inputs = 1 + (5 * units) % 23, 1 + (3 * units) % 11
        x, kernel, bias = arrays(rng, kernels, (n, inputs), (inputs, units), units)
        y = check_forward(kernels, x, kernel, bias, name, narrow=narrow)
        delta, above = arrays(rng, kernels, (n, inputs), (units, inputs))
        check_propagate(kernels, delta, above, y, name, narrow=narrow)


@pytest.mark.parametrize("place", [unaligned, row_strided])
def test_unaligned_and_strided(kernels, narrow, place):
    rng = np.random.default_rng(5)
    for size in [*SMALL, 4 * kernels.lanes + 1]:
        n, inputs, units = 1 + (3 * size) % 13, size, 1 + (7 * size) % 40
        x, kernel, delta, y = map(
            place,
            arrays(rng, kernels, (n, inputs), (inputs, units), (n, units), (n, inputs)),
        )
        bias = unaligned(rng.standard_normal(units).astype(kernels.dtype))
        check_forward(kernels, x, kernel, bias, "relu", narrow=narrow)
        check_propagate(kernels, delta, kernel, y, "relu", narrow=narrow)
        check_gradient(kernels, x, delta, narrow=narrow)


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_threads_do_not_change_a_bit(kernels, narrow, n_threads):
    rng = np.random.default_rng(6)
    for n, inputs, units in [(1, 1, 1), (2, 3, 40), (37, 65, 33), (259, 70, 45), (600, 5, 3)]:
        x, kernel, bias, delta = arrays(
            rng, kernels, (n, inputs), (inputs, units), units, (n, units)
        )
        for name in ("relu", "softmax"):
            y = reference.activate(name, x)
            results = []
            for team in (1, n_threads):
                options = {"n_threads": team, "narrow": narrow}
                results.append(
                    [
                        check_forward(kernels, x, kernel, bias, name, **options),
                        check_propagate(kernels, delta, kernel, y, name, **options),
                        *check_gradient(kernels, x, delta, **options),
                    ]
                )
            assert_bitwise_equal(results[1], results[0], f"{(n, inputs, units)} {name}")


def test_a_row_alone_gives_what_it_gives_in_a_batch(kernels, narrow):
    rng = np.random.default_rng(8)
    for units in range(1, 2 * kernels.lanes + 2):
        x, kernel, bias = arrays(rng, kernels, (13, 3 * units), (3 * units, units), units)
        options = {"isa": kernels.isa, "narrow": narrow}
        together = _dense.forward(x, kernel, bias, IDENTITY, **options)
        alone = [_dense.forward(x[i : i + 1], kernel, bias, IDENTITY, **options) for i in range(13)]
        assert_bitwise_equal(np.concatenate(alone), together)


def test_isas_agree(dtype):
    """Different instruction sets round differently, and no more than that."""
    rng = np.random.default_rng(7)
    x, kernel = rng.standard_normal((2, 50, 50)).astype(dtype)
    bias = np.zeros(50, dtype=dtype)
    outputs = [_dense.forward(x, kernel, bias, IDENTITY, isa=isa) for isa in ISAS]
    bound = 50 * np.finfo(dtype).eps * (np.abs(x) @ np.abs(kernel))
    for isa, output in zip(ISAS, outputs, strict=True):
        assert_within(output, outputs[0], bound, isa)


def test_mismatched_shapes_are_errors(dtype):
    x, kernel, bias = np.ones((4, 3), dtype), np.ones((3, 2), dtype), np.ones(2, dtype)
    delta = np.ones((4, 2), dtype)
    with pytest.raises(ValueError, match="shape"):
        _dense.forward(x, kernel.T.copy(), bias, IDENTITY)
    with pytest.raises(ValueError, match="shape"):
        _dense.forward(x, kernel, np.ones(3, dtype), IDENTITY)
    with pytest.raises(ValueError, match="shape"):
        _dense.propagate(delta, kernel.T.copy(), x, IDENTITY)
    with pytest.raises(ValueError, match="shape"):
        _dense.propagate(delta, kernel, delta, IDENTITY)
    with pytest.raises(ValueError, match="shape"):
        _dense.gradient(x, delta[:3])
