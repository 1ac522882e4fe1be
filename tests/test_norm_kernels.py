"""Kernels of normalizations, dropout and sums of columns against their NumPy twins.

Bounds as in `test_kernels.py`: a sum of n terms errs by n*u*sum(abs(terms)), every further
operation by u of its result.
"""

import numpy as np
import pytest
from conftest import DTYPES, ISAS, assert_bitwise_equal, assert_within, row_strided, unaligned

from cymlp import _reference_layers as reference
from cymlp._kernels import Kernels

VARIANTS = {"aligned": np.array, "unaligned": unaligned, "strided": row_strided}
ROWS = (1, 2, 3, 4, 5, 9, 67)
EPSILON = 1e-3


@pytest.fixture(params=[f"{isa}-{dtype}" for isa in ISAS for dtype in DTYPES])
def kernels(request):
    isa, dtype = request.param.split("-")
    return Kernels(isa=isa, dtype=dtype)


@pytest.fixture(params=VARIANTS)
def variant(request):
    return request.param


def wider(kernels):
    return np.dtype("float64") if kernels.dtype == "float32" else np.dtype(np.longdouble)


def widths(kernels):
    """Return numbers of units around whole vectors and around the vectors that go together."""
    lanes = kernels.lanes
    around = (lanes, 2 * lanes, 4 * lanes, 8 * lanes)
    return sorted({1, 19 * lanes + 3, *(n + step for n in around for step in (-1, 0, 1))})


def cases(kernels, *, whole=False):
    """Yield shapes with a generator of random numbers."""
    rng = np.random.default_rng(1)
    for k, width in enumerate(widths(kernels)):
        for rows in (ROWS[k % len(ROWS)], ROWS[(k + 3) % len(ROWS)]):
            yield rng, (rows, -(-width // kernels.lanes) * kernels.lanes if whole else width)


def drawn(kernels, rng, shape, variant, mean=0.0):
    return VARIANTS[variant]((rng.standard_normal(shape) + mean).astype(kernels.dtype))


def vector(kernels, rng, n):
    return unaligned(rng.uniform(0.5, 2, n).astype(kernels.dtype))


def room(kernels, shape, variant):
    """Return an array for a result."""
    return VARIANTS[variant](np.full(shape, np.nan, kernels.dtype))


def assert_gaps_untouched(variant, *arrays):
    for array in arrays:
        if variant == "strided":
            assert np.isnan(array.base[:, array.shape[1] :]).all(), "written past a row's end"


def test_column_sums_and_moments(kernels, variant):
    eps = float(np.finfo(kernels.dtype).eps)
    for rng, shape in cases(kernels, whole=True):
        n = shape[0]
        x = drawn(kernels, rng, shape, variant, mean=10)
        other = drawn(kernels, rng, shape, variant)
        wide, wide_other = x.astype(wider(kernels)), other.astype(wider(kernels))
        size = np.abs(wide).sum(axis=0)
        message = f"{variant} {shape}"
        assert_within(kernels.column_sums(x), wide.sum(axis=0), n * eps / 2 * size, message)
        products = wide * wide_other
        tolerance = (n + 1) * eps / 2 * np.abs(products).sum(axis=0)
        assert_within(kernels.column_sums(x, other), products.sum(axis=0), tolerance, message)
        mean, variance = kernels.column_moments(x)
        off = (n + 1) * eps / 2 * size / n
        assert_within(mean, wide.mean(axis=0), off, message)
        # Distances from a mean that is off: their squares have that much more on average, and
        # each distance a rounding of its own.
        expected = wide.var(axis=0)
        tolerance = (n + 5) * eps / 2 * (expected + off**2) + off**2
        assert_within(variance, expected, tolerance, message)
        nan = x.copy()
        nan[n // 2, -1] = np.nan
        for moment in kernels.column_moments(nan):
            assert np.isnan(moment[-1])
            assert not np.isnan(moment[:-1]).any()


def test_batch_norm(kernels, variant):
    """Of the kernels together, the twin's training step."""
    eps = float(np.finfo(kernels.dtype).eps)
    for rng, shape in cases(kernels, whole=True):
        n = shape[0]
        x, d = (drawn(kernels, rng, shape, variant) for _ in range(2))
        gamma, beta = (vector(kernels, rng, shape[1]) for _ in range(2))
        layer = {"kind": "batch_normalization", "gamma": gamma.astype(wider(kernels))}
        layer |= {"beta": beta.astype(wider(kernels)), "epsilon": EPSILON}
        layer["moving_mean"] = np.zeros(shape[1])
        mean, variance = kernels.column_moments(x)
        inverse_std = kernels.inverse_std(variance, EPSILON)
        y, kept = kernels.batch_norm(
            x,
            mean,
            inverse_std,
            gamma,
            beta,
            kept=room(kernels, shape, variant),
            out=room(kernels, shape, variant),
        )
        wide, wide_d = x.astype(wider(kernels)), d.astype(wider(kernels))
        expected, tape = reference.forward([layer], wide, training=True)
        # The mean is off by this much, in standard deviations; the variance by its square.
        std = np.sqrt(wide.var(axis=0) + EPSILON)
        off = (n + 2) * eps / 2 * np.abs(wide).mean(axis=0) / std
        relative = (n + 10) * eps / 2 + off**2
        normal = np.abs(tape[0][2][0])
        error = off + relative * normal
        message = f"{variant} {shape}"
        assert_within(kept, tape[0][2][0], error, message)
        tolerance = layer["gamma"] * error + eps * (np.abs(layer["gamma"] * normal) + beta)
        assert_within(y, expected, tolerance, message)

        total, dot = kernels.column_sums(d), kernels.column_sums(d, kept)
        sums = {"total": total, "dot": dot, "share": 1 / n}
        dx = kernels.batch_norm_backward(
            kept, d, inverse_std, gamma, **sums, out=room(kernels, shape, variant)
        )
        expected, gradients = reference.backward(tape, wide_d, training=True)
        size = np.abs(wide_d)
        dots = (size * normal).sum(axis=0)
        # Of a sum of n products, and of what its factors are off.
        dot_error = (n + 1) * eps / 2 * dots + (size * error).sum(axis=0)
        total_error = n * eps / 2 * size.sum(axis=0)
        assert_within(dot, gradients[0], dot_error, message)
        assert_within(total, gradients[1], total_error, message)
        way = size + (size.sum(axis=0) + normal * dots) / n
        tolerance = (relative + 6 * eps / 2) * way
        tolerance = tolerance + (total_error + normal * dot_error + error * (dots + dot_error)) / n
        tolerance = tolerance * layer["gamma"] / std
        assert_within(dx, expected, tolerance, message)
        added = kernels.batch_norm_backward(
            kept, d, inverse_std, gamma, **sums, adds=True, out=VARIANTS[variant](d)
        )
        tolerance = tolerance + eps * (np.abs(expected) + size)
        assert_within(added, expected + wide_d, tolerance, message)
        assert_gaps_untouched(variant, y, kept, dx, added)


def test_layer_norm(kernels, variant):
    eps = float(np.finfo(kernels.dtype).eps)
    for rng, shape in cases(kernels):
        n = shape[1]
        x, d = (drawn(kernels, rng, shape, variant) for _ in range(2))
        gamma, beta = (vector(kernels, rng, n) for _ in range(2))
        layer = {"kind": "layer_normalization", "gamma": gamma.astype(wider(kernels))}
        layer |= {"beta": beta.astype(wider(kernels)), "epsilon": EPSILON}
        y, kept, inverse_std = kernels.layer_norm(
            x,
            gamma,
            beta,
            EPSILON,
            kept=room(kernels, shape, variant),
            out=room(kernels, shape, variant),
        )
        wide, wide_d = x.astype(wider(kernels)), d.astype(wider(kernels))
        expected, tape = reference.forward([layer], wide)
        std = np.sqrt(wide.var(axis=1, keepdims=True) + EPSILON)
        off = (n + 2) * eps / 2 * np.abs(wide).mean(axis=1, keepdims=True) / std
        relative = (n + 10) * eps / 2 + off**2
        normal = np.abs(tape[0][2][0])
        error = off + relative * normal
        message = f"{variant} {shape}"
        assert_within(inverse_std, 1 / std[:, 0], (relative / std)[:, 0], message)
        assert_within(kept, tape[0][2][0], error, message)
        tolerance = layer["gamma"] * error + eps * (np.abs(layer["gamma"] * normal) + beta)
        assert_within(y, expected, tolerance, message)

        dx = kernels.layer_norm_backward(
            kept, inverse_std, d, gamma, out=room(kernels, shape, variant)
        )
        expected, _ = reference.backward(tape, wide_d)
        size = np.abs(wide_d) * layer["gamma"]
        total, dots = size.sum(axis=1, keepdims=True), (size * normal).sum(axis=1, keepdims=True)
        dot_error = (n + 2) * eps / 2 * dots + (size * error).sum(axis=1, keepdims=True)
        tolerance = (relative + 6 * eps / 2) * (size + (total + normal * dots) / n)
        tolerance += (n + 1) * eps / 2 * total / n
        tolerance += (normal * dot_error + error * (dots + dot_error)) / n
        tolerance = tolerance / std
        assert_within(dx, expected, tolerance, message)
        added = kernels.layer_norm_backward(
            kept, inverse_std, d, gamma, adds=True, out=VARIANTS[variant](d)
        )
        tolerance = tolerance + eps * (np.abs(expected) + np.abs(wide_d))
        assert_within(added, expected + wide_d, tolerance, message)
        assert_gaps_untouched(variant, y, kept, dx, added)


def test_a_nan_stays_in_its_row_or_column(kernels):
    shape = (5, 2 * kernels.lanes)
    rng = np.random.default_rng(2)
    ones = np.ones(shape[1], kernels.dtype)
    for place in range(shape[1]):
        x = drawn(kernels, rng, shape, "aligned")
        x[3, place] = np.nan
        mean, variance = kernels.column_moments(x)
        y, kept = kernels.batch_norm(x, mean, kernels.inverse_std(variance, 0.1), ones, ones)
        by_column = np.zeros(shape, bool)
        by_column[:, place] = True
        assert (np.isnan(y) == by_column).all()
        assert (np.isnan(kept) == by_column).all()
        y, kept, inverse_std = kernels.layer_norm(x, ones, ones, 0.1)
        dx = kernels.layer_norm_backward(kept, inverse_std, np.ones_like(x), ones)
        by_row = np.zeros(shape, bool)
        by_row[3] = True
        for array in (y, kept, dx):
            assert (np.isnan(array) == by_row).all()


@pytest.mark.parametrize("dropped", [0, 1, 13107, 32768, 65535])
def test_dropout_is_the_twins(kernels, variant, dropped):
    for index, columns in enumerate((1, 7, 15, 16, 17, 63, 64, 65, 129)):
        shape, first_row = (1 + index % 3, columns), (0, 5, 2**40)[index % 3]
        key, number = (2**63 + index, index), index % 4
        factors = kernels.dropout(
            shape, dropped, number, key, first_row=first_row, out=room(kernels, shape, variant)
        )
        expected = reference.dropout_factors(
            shape, dropped, number, key, first_row, dtype=kernels.dtype
        )
        assert_bitwise_equal(np.array(factors), expected, f"{variant} {shape}")
        assert_gaps_untouched(variant, factors)


def test_products(kernels, variant):
    eps = float(np.finfo(kernels.dtype).eps)
    for rng, shape in cases(kernels):
        a, b, y = (drawn(kernels, rng, shape, variant) for _ in range(3))
        expected = a.astype(wider(kernels)) * b
        added = kernels.multiply(a, b, adds=True, out=VARIANTS[variant](y))
        tolerance = eps * (np.abs(expected) + np.abs(y))
        assert_within(added, expected + y, tolerance, f"{variant} {shape}")
        expected = a * b
        product = kernels.multiply(a, b, out=a)
        assert_bitwise_equal(np.array(product), expected)
        assert_gaps_untouched(variant, added, product)


def test_wrong_shapes_are_errors():
    kernels = Kernels()
    x, ones = np.ones((2, 3), "float32"), np.ones(3, "float32")
    with pytest.raises(ValueError, match="expected an array of shape"):
        kernels.layer_norm(x, ones[:2], ones, 0.1)
    with pytest.raises(ValueError, match="out must have shape"):
        kernels.multiply(x, x, out=x[:1])
    with pytest.raises(ValueError, match="whole vectors"):
        kernels.column_moments(x)
    with pytest.raises(ValueError, match="dropped must be less than 65536"):
        kernels.dropout((2, 3), 65536, 0, (1, 2))
    with pytest.raises(ValueError, match="expected a 2-D array of float32"):
        kernels.multiply(x.astype("float64"), x.astype("float64"))
