"""The C kernels, one by one, against their NumPy twins: every ISA, dtype, size and alignment.

Tolerances are error bounds, not guesses: u = eps/2 is the unit roundoff, a sum of n products errs
by at most n*u*sum(abs(products)) to first order (N. Higham, *Accuracy and Stability of Numerical
Algorithms*, 2002, section 3.1), and every further operation by u of its result. Twins compute in
float64, or in long double where that is wider, so that their own rounding does not count.
"""

import re
import subprocess

import numpy as np
import pytest
from conftest import DTYPES, ISAS, assert_within, row_strided, unaligned

from cymlp import _kernels
from cymlp import _reference as reference
from cymlp._kernels import ACTIVATIONS, KEEPS_Z, LOSSES, OPTIMIZERS, Kernels
from cymlp._reference import N_SLOTS

SMALL = range(1, 41)
VARIANTS = {"aligned": np.array, "unaligned": unaligned, "strided": row_strided}

#: Bounds on an activation's error in units in the last place, wherever the result is a normal
#: number. `test_elementary.py` measures them for all of float32: sigmoid 1.83, tanh 1.36. Of some
#: ten million numbers of either dtype the worst: elu 2.37, selu 3.11, gelu 4.77, silu 2.56, mish
#: 2.81, softplus 1.86, softsign 1.50, hard_sigmoid 1.33, exponential 1.54. For gelu_tanh see
#: `ulp_bound`.
ULP = {
    "identity": 0.0,
    "relu": 0.0,
    "sigmoid": 2.0,
    "tanh": 1.5,
    "leaky_relu": 0.5,
    "elu": 2.5,
    "selu": 3.5,
    "gelu": 5.0,
    "gelu_tanh": 3.0,
    "silu": 3.0,
    "mish": 3.0,
    "softplus": 2.0,
    "softsign": 1.5,
    "hard_sigmoid": 1.5,
    "exponential": 1.6,
}

#: Bounds on a derivative's error in eps, where it is at most about 1, as all are but exponential's;
#: with the rounding of its product with dL/dy. 1 - y*y and others cancel: what is left of the
#: roundings does not shrink with the result. Measured as above, without that product: elu 0.75,
#: selu 1.76, gelu 1.38, gelu_tanh 2.24, silu 2.02, mish 2.31, softplus 0.92, softsign 0.94.
SLOPE_EPS = {
    "identity": 0.0,
    "relu": 0.0,
    "sigmoid": 2.0,
    "tanh": 2.0,
    "leaky_relu": 0.5,
    "elu": 1.5,
    "selu": 3.0,
    "gelu": 2.0,
    "gelu_tanh": 3.0,
    "silu": 3.0,
    "mish": 3.0,
    "softplus": 1.5,
    "softsign": 1.5,
    "hard_sigmoid": 0.5,
    "exponential": 0.5,
}


@pytest.fixture(params=[f"{isa}-{dtype}" for isa in ISAS for dtype in DTYPES])
def kernels(request):
    isa, dtype = request.param.split("-")
    return Kernels(isa=isa, dtype=dtype)


def wider(kernels):
    """Return the dtype in which the twin computes."""
    return np.dtype("float64") if kernels.dtype == "float32" else np.dtype(np.longdouble)


def eps_of(kernels):
    """Return the distance from 1 to the next number; twice the unit roundoff."""
    return float(np.finfo(kernels.dtype).eps)


def tiny_of(kernels):
    """Return the smallest normal number: below it a kernel may flush to zero."""
    return float(np.finfo(kernels.dtype).tiny)


def edge_sizes(kernels):
    """Return sizes around every edge at which a kernel changes from one code path to another."""
    edges = {kernels.tile_rows, 2 * kernels.lanes, kernels.block_rows}
    multiples = {k * edge for edge in edges for k in (1, 2, 4)}
    return sorted({m + step for m in multiples for step in (-1, 0, 1) if m + step > max(SMALL)})


def alpha_for(kernels):
    """Return a parameter for activations, one that the dtype holds."""
    return float(kernels.dtype.type(0.3))


def ulp_bound(name, z):
    """Return the bound on the activation's error for each z, in units in the last place.

    gelu_tanh is z * sigmoid(v) with a cubic v(z). For large negative v a relative error in v makes
    one abs(v) times as large in the result; v carries five roundings. The worst of ten million
    numbers: 2.5 * abs(v).
    """
    if name != "gelu_tanh":
        return np.full(z.shape, ULP[name])
    x = np.minimum(np.abs(z.astype("float64")), 22)
    return ULP[name] + 3 * np.where(z < 0, np.sqrt(8 / np.pi) * (x + 0.044715 * x**3), 0)


def shapes(kernels):
    """Return (rows, columns): all sizes 1..40 in either place, and pairs around the edges."""
    small = [(rows, 1 + (7 * rows + k) % 40) for rows in SMALL for k in (0, 13, 29)]
    small += [(1 + (11 * columns) % 40, columns) for columns in SMALL]
    edges = edge_sizes(kernels)
    return small + [(size, 17) for size in edges] + [(3, size) for size in edges]


def assert_gap_untouched(array, variant, shape):
    """Assert that nothing was written behind the rows of what `row_strided` made."""
    if variant == "strided":
        assert np.isnan(array.base[:, shape[1] :]).all(), f"{shape}: written past a row's end"


def test_table_describes_itself(kernels):
    assert kernels.isa in _kernels.available_isas()
    assert kernels.dtype in DTYPES
    for name in ("tile_rows", "lanes", "block_rows"):
        assert getattr(kernels, name) >= 1, name


# -------------------------------------------------------------------------------------- activations


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activate(kernels, name, variant):
    rng = np.random.default_rng(1)
    alpha = alpha_for(kernels)
    for shape in shapes(kernels):
        z = VARIANTS[variant]((4 * rng.standard_normal(shape)).astype(kernels.dtype))
        before = z.copy()
        y = kernels.activate(ACTIVATIONS[name], z, alpha=alpha, out=VARIANTS[variant](z))
        assert y.dtype == kernels.dtype
        assert (z == before).all(), f"{shape}: the input was modified"
        assert_gap_untouched(y, variant, shape)
        expected = reference.activate(name, before.astype(wider(kernels)), alpha)
        if name == "softmax":
            # exp errs by a few ulp, its argument by u*abs(z - max), the sum by one u per term.
            spread = np.abs(before - before.max(axis=1, keepdims=True))
            tolerance = eps_of(kernels) * (4 + spread + shape[1] / 2) * expected
        else:
            size = np.abs(expected)
            tolerance = ulp_bound(name, before) * eps_of(kernels) * size
            tolerance[size < tiny_of(kernels)] = tiny_of(kernels)
        assert_within(y, expected, tolerance, f"{name} of {variant} {shape}")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activate_backward(kernels, name, variant):
    rng = np.random.default_rng(2)
    alpha = alpha_for(kernels)
    for shape in shapes(kernels):
        z = rng.standard_normal(shape).astype(kernels.dtype)
        y = VARIANTS[variant](z if name in KEEPS_Z else reference.activate(name, z, alpha))
        delta = VARIANTS[variant](rng.standard_normal(shape).astype(kernels.dtype))
        actual = kernels.activate_backward(
            ACTIVATIONS[name], y, delta, alpha=alpha, out=VARIANTS[variant](delta)
        )
        assert_gap_untouched(actual, variant, shape)
        wide_y, wide_delta = y.astype(wider(kernels)), delta.astype(wider(kernels))
        expected = reference.activate_backward(name, wide_y, wide_delta, alpha)
        size = np.abs(wide_delta)
        if name == "softmax":
            size = np.abs(wide_y) * (size + (size * wide_y).sum(axis=1, keepdims=True))
            size *= shape[1] + 6
        elif name == "exponential":
            size = np.abs(wide_delta * wide_y)
        tolerance = SLOPE_EPS.get(name, 1.0) * eps_of(kernels) * size
        assert_within(actual, expected, tolerance, f"{name} of {variant} {shape}")


def extreme_values(dtype):
    """Return finite numbers of every magnitude: zeros, denormals, where exp overflows, maxima."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(3)
    exponents = np.linspace(np.log2(info.tiny) - 10, np.log2(info.max) - 0.01, 20_000)
    magnitudes = np.concatenate(
        [
            [0.0, info.smallest_subnormal, info.tiny, info.eps, 1.0, info.max],
            np.exp2(exponents),
            rng.uniform(0, 20, 20_000),
            rng.uniform(80, 110, 1000),
            rng.uniform(690, 760, 1000),
        ]
    ).astype(dtype)
    assert np.isfinite(magnitudes).all()
    return np.concatenate([magnitudes, -magnitudes])


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n != "softmax"])
def test_activations_are_accurate(kernels, name):
    """No NaN for any finite input, and within a few ulp wherever the result is a normal number."""
    if np.finfo(wider(kernels)).eps == eps_of(kernels):
        pytest.skip("no type here is wider than float64")
    z, largest = extreme_values(kernels.dtype), np.finfo(kernels.dtype).max
    y = kernels.activate(ACTIVATIONS[name], z[None], alpha=alpha_for(kernels))[0]
    assert not np.isnan(y).any()
    with np.errstate(over="ignore"):
        expected = reference.activate(name, z.astype(wider(kernels)), alpha_for(kernels))
    fits = np.abs(expected) <= largest
    assert np.isinf(y[~fits]).all()
    z, y, expected = z[fits], y[fits], expected[fits]
    below = np.nextafter(np.abs(expected).astype(kernels.dtype), kernels.dtype.type(0))
    one_ulp = np.spacing(below).astype(expected.dtype)
    error = np.abs(y - expected)
    normal = np.abs(expected) >= tiny_of(kernels)
    in_ulp = error[normal] / one_ulp[normal]
    print(f"{name} {kernels.isa} {kernels.dtype}: {in_ulp.max():.2f} ulp")
    worst = (in_ulp - ulp_bound(name, z[normal])).argmax()
    assert (in_ulp <= ulp_bound(name, z[normal])).all(), (
        f"{in_ulp[worst]} ulp at {z[normal][worst]!r}"
    )
    assert (error[~normal] <= tiny_of(kernels)).all()


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n != "softmax"])
def test_derivatives_are_accurate(kernels, name):
    """No NaN for any finite input, and within a few eps of one that is at most about 1."""
    z, alpha = extreme_values(kernels.dtype), alpha_for(kernels)
    y = kernels.activate(ACTIVATIONS[name], z[None], alpha=alpha)
    kept = (z[None] if name in KEEPS_Z else y)[np.isfinite(y)][None]
    slope = kernels.activate_backward(ACTIVATIONS[name], kept, np.ones_like(kept), alpha=alpha)
    wide = kept.astype(wider(kernels))
    expected = reference.activate_backward(name, wide, np.ones_like(wide), alpha)
    size = np.abs(expected) if name == "exponential" else 1
    assert_within(slope, expected, SLOPE_EPS[name] * eps_of(kernels) * size, name)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_a_nan_is_nan(kernels, name):
    """In its row of a softmax, in its element elsewhere; in the derivative where z is kept."""
    z = np.ones((3, 2 * kernels.lanes + 1), dtype=kernels.dtype)
    for place in range(z.shape[1]):
        one = z.copy()
        one[1, place] = np.nan
        expected = np.isnan(one)
        if name == "softmax":
            expected[1] = True
        y = kernels.activate(ACTIVATIONS[name], one, alpha=0.3)
        assert (np.isnan(y) == expected).all()
        if name in KEEPS_Z:
            slope = kernels.activate_backward(ACTIVATIONS[name], one, z, alpha=0.3)
            assert (np.isnan(slope) == expected).all()


def test_what_is_kept():
    assert {name for name in ACTIVATIONS if reference.keeps_z(name)} == KEEPS_Z
    assert {"gelu", "gelu_tanh", "silu", "mish"} == KEEPS_Z


def test_softmax_of_extreme_rows(kernels):
    info = np.finfo(kernels.dtype)
    z = np.array(
        [
            [info.max, -info.max, 0.0],
            [-info.max, -info.max, -info.max],
            [info.max, info.max, info.max],
            [info.smallest_subnormal, -info.smallest_subnormal, -0.0],
            [-1000.0, 0.0, -1000.0],
        ],
        dtype=kernels.dtype,
    )
    expected = np.array([[1, 0, 0], [1 / 3] * 3, [1 / 3] * 3, [1 / 3] * 3, [0, 1, 0]])
    y = kernels.activate(ACTIVATIONS["softmax"], z)
    np.testing.assert_allclose(y, expected, rtol=2 * eps_of(kernels), atol=tiny_of(kernels))
    delta = np.ones_like(z)
    assert np.isfinite(kernels.activate_backward(ACTIVATIONS["softmax"], y, delta)).all()


@pytest.mark.parametrize("columns", [1, 2, 10, 17, 1000])
def test_softmax_of_wide_ranges(kernels, columns):
    rng = np.random.default_rng(4)
    z = (rng.standard_normal((50, columns)) * np.exp2(np.arange(50) - 10)[:, None]).astype(
        kernels.dtype
    )
    y = kernels.activate(ACTIVATIONS["softmax"], z)
    assert np.isfinite(y).all()
    assert (y >= 0).all()
    assert (y <= 1).all()
    np.testing.assert_allclose(y.sum(axis=1, dtype="float64"), 1, rtol=columns * eps_of(kernels))


# ------------------------------------------------------------------------------------------- losses

#: Per loss what it may be told: numbers that both dtypes hold; `unit` is drawn where it is True.
TOLD = {
    "huber": [{"parameter": 0.75}],
    "quantile": [{"unit": True}],
    "tweedie": [{"parameter": 1.5}, {"parameter": 1.125}],
    "exponential_tweedie": [{"parameter": 1.5}, {"parameter": 1.875}],
    "cross_entropy": [{}, {"smoothing": 0.125, "unit": True}],
    "softmax_cross_entropy": [{}, {"smoothing": 0.125}, {"unit": True}],
    "binary_cross_entropy": [{}, {"smoothing": 0.125}],
    "sigmoid_binary_cross_entropy": [{}, {"smoothing": 0.125}],
    "focal": [{"parameter": 2.0, "smoothing": 0.25}, {"parameter": 1.5, "smoothing": 0.625}],
    "sigmoid_focal": [
        {"parameter": 2.0, "smoothing": 0.25},
        {"parameter": 0.5, "smoothing": 0.625},
    ],
}
MEANS = ("poisson", "gamma", "tweedie")
PROBABILITIES = ("cross_entropy", "binary_cross_entropy", "kl_divergence", "focal")
OVER_CLASSES = ("cross_entropy", "kl_divergence", "softmax_cross_entropy", "softmax_kl_divergence")
LABEL_LOSSES = ("cross_entropy", "softmax_cross_entropy", "hinge", "focal", "sigmoid_focal")
CASES = [
    (name, kind, told)
    for name in LOSSES
    for kind in ("dense", "labels")[: 1 + (name in LABEL_LOSSES)]
    for told in TOLD.get(name, [{}])
]
LOSS_CASES = pytest.mark.parametrize(
    ("name", "kind", "told"),
    CASES,
    ids=["-".join([name, kind, *map(str, told.values())]) for name, kind, told in CASES],
)


def told_in(told, rng, columns, dtype):
    """Return what a loss is told, with the numbers per column drawn."""
    if "unit" not in told:
        return told
    return {**told, "unit": rng.uniform(0.1, 0.9, columns).astype(dtype)}


def loss_case(rng, name, kind, shape, dtype):
    """Return a loss kernel's output and target arguments, of a spread that a network may reach."""
    if name in MEANS or name in PROBABILITIES:
        out = rng.uniform(0, 4 if name in MEANS else 1, shape)
        out[rng.uniform(size=shape) < 0.05] = 0.0
        out[rng.uniform(size=shape) < 0.05] = 1.0
    else:
        out = 4 * rng.standard_normal(shape)
    if kind == "labels":
        return out.astype(dtype), rng.integers(0, shape[1], shape[0]).astype("int32")
    if name in OVER_CLASSES:
        target = rng.dirichlet(np.ones(shape[1]), shape[0])
        target[rng.uniform(size=shape[0]) < 0.2] = np.eye(shape[1])[0]
    elif name.endswith(MEANS):
        target = rng.gamma(2, 1, shape)
        if not name.endswith("gamma"):
            target[rng.uniform(size=shape) < 0.3] = 0
    elif name == "hinge":
        target = rng.choice([-1.0, 0.0, 1.0], shape)
    elif name in ("absolute_error", "huber", "log_cosh", "quantile", "squared_error"):
        target = rng.standard_normal(shape)
        same = rng.uniform(size=shape) < 0.05
        target[same] = out[same] = 0.5
    else:
        target = rng.uniform(0, 1, shape)
        target[rng.uniform(size=shape) < 0.2] = 0.0
        target[rng.uniform(size=shape) < 0.2] = 1.0
    return out.astype(dtype), target.astype(dtype)


def loss_tolerances(name, out, t, eps, *, parameter=0.0, smoothing=0.0, unit=None):
    """Return bounds on the errors of a loss's values and (unscaled) derivatives.

    `out` and `t` are wide. A value is a sum over the columns of terms that carry a few roundings
    each, in the element type at worst. A power errs by that of its logarithm.
    """
    columns = out.shape[1]
    terms = columns / 2 + 6
    w = 1 if unit is None else unit
    y, rest = np.maximum(out, eps), np.maximum(1 - out, eps)
    size, error = 1 + np.abs(out), np.abs(out - t)
    if name == "squared_error":
        value, delta = error**2, np.abs(out) + np.abs(t)
    elif name == "absolute_error":
        value, delta = error, 0 * error
    elif name == "huber":
        delta = np.minimum(error, parameter)
        value = delta * error
    elif name == "log_cosh":
        value = np.where(error < 0.5, error**2 / 2, error + 1)
        delta = 3 * np.tanh(error)
    elif name == "quantile":
        value, delta = error, 0 * error + 1
    elif name == "poisson":
        value, delta = y + t * (1 + np.abs(np.log(y))), 2 * (1 + t / y)
    elif name == "gamma":
        value, delta = t / y + 1 + np.abs(np.log(y)), 3 * (1 + t / y) / y
    elif name in ("tweedie", "exponential_tweedie"):
        z = np.log(y) if name == "tweedie" else out
        a, b = t * np.exp((1 - parameter) * z), np.exp((2 - parameter) * z)
        value = (a / (parameter - 1) + b / (2 - parameter)) * (1 + np.abs(z))
        delta = 4 * (a + b) * (1 + np.abs(z)) / (y if name == "tweedie" else 1)
    elif name == "exponential_poisson":
        value, delta = np.exp(out) + np.abs(t * out), 3 * (np.exp(out) + t)
    elif name == "exponential_gamma":
        value, delta = t * np.exp(-out) + np.abs(out), 4 * (1 + t * np.exp(-out))
    elif name == "cross_entropy":
        t = w * ((1 - smoothing) * t + smoothing / columns)
        value, delta = t * (1 + np.abs(np.log(y))), (4 if smoothing else 2) * t / y
    elif name == "binary_cross_entropy":
        t = (1 - smoothing) * t + smoothing / 2
        value = t * (1 + np.abs(np.log(y))) + (1 - t) * (1 + np.abs(np.log(rest)))
        delta = 3 * (t / y + (1 - t) / rest)
        if smoothing:  # 1 - t errs by an ulp of t
            value, delta = value + t * np.abs(np.log(rest)), delta + t / rest + 2 * t / y
    elif name == "hinge":
        value, delta = size, 0 * size
    elif name == "kl_divergence":
        log_t = np.abs(np.log(np.where(t > 0, t, 1)))
        value, delta = t * (1 + log_t + np.abs(np.log(y))), t / y
    elif name in ("focal", "sigmoid_focal"):
        p, q = (y, rest) if name == "focal" else (reference.sigmoid(out), reference.sigmoid(-out))
        wrong = t * q + (1 - t) * p
        share = (smoothing * t + (1 - smoothing) * (1 - t)) * wrong**parameter
        share *= 1 + parameter * (1 + np.abs(np.log(wrong)))
        if name == "focal":
            entropy = t * (1 + np.abs(np.log(p))) + (1 - t) * (1 + np.abs(np.log(q)))
            delta = 6 * share * (parameter * entropy / wrong + t / p + (1 - t) / q)
        else:
            entropy = size + np.abs(t * out)
            delta = 6 * share * (parameter * entropy * p * q / wrong + (1 - t) * p + t * q)
        value = share * entropy
    elif name in ("softmax_cross_entropy", "softmax_kl_divergence"):
        log_t = np.abs(np.log(np.where(t > 0, t, 1))) if name == "softmax_kl_divergence" else 0
        t = w * ((1 - smoothing) * t + smoothing / columns)
        spread = np.abs(out - out.max(axis=1, keepdims=True))
        value = t * (1 + spread + np.abs(out) + log_t) + np.log(columns) / columns
        y = reference.softmax(out)
        # One more eps of t: the twin sums the targets, the kernel may take their sum to be one.
        delta = (terms + spread) * y + (4 if smoothing else 2) * t + terms * y
    else:
        value = size + np.abs(t * out)
        delta = 4 * (reference.sigmoid(out) + t + smoothing)
    return eps * terms * value.sum(axis=1), eps * delta


@LOSS_CASES
def test_loss(kernels, name, kind, told):
    rng = np.random.default_rng(5)
    eps = eps_of(kernels)
    for index, shape in enumerate(shapes(kernels)):
        variant = list(VARIANTS)[(index + index // 3) % 3]
        out, target = loss_case(rng, name, kind, shape, kernels.dtype)
        out = VARIANTS[variant](out)
        if kind == "dense":
            target = VARIANTS[variant](target)
        scale = rng.uniform(0, 1, shape[0])
        settings = told_in(told, rng, shape[1], kernels.dtype)
        before = out.copy(), target.copy(), scale.copy()
        values, delta = kernels.loss(LOSSES[name], out, target, scale, **settings)
        assert values.dtype == "float64"
        assert delta.dtype == kernels.dtype
        for argument, copied in zip((out, target, scale), before, strict=True):
            assert (argument == copied).all(), f"{shape}: an input was modified"

        wide = out.astype(wider(kernels))
        if kind == "labels":
            wide_target = reference.one_hot(target, shape[1], wide.dtype)
        else:
            wide_target = target.astype(wide.dtype)
        if "unit" in settings:
            settings = {**settings, "unit": settings["unit"].astype(wide.dtype)}
        wide_scale = scale.astype(wider(kernels))[:, None]
        value_error, delta_error = loss_tolerances(name, wide, wide_target, eps, **settings)
        message = f"{name} of {variant} {shape}"
        expected = reference.loss_values(name, wide, wide_target, eps, **settings)
        assert_within(values, expected, value_error, message)
        expected = wide_scale * reference.loss_deltas(name, wide, wide_target, eps, **settings)
        tolerance = wide_scale * delta_error + eps * np.abs(expected)
        assert_within(delta, expected, tolerance, f"derivative of {message}")


@LOSS_CASES
def test_loss_of_extremes_is_no_nan(kernels, name, kind, told):
    z = extreme_values(kernels.dtype)
    columns = 4
    out = z[: z.size // columns * columns].reshape(-1, columns)
    if name in ("cross_entropy", "binary_cross_entropy", "kl_divergence"):
        out = np.clip(np.abs(out), 0, 1)
    rng = np.random.default_rng(6)
    if kind == "labels":
        target = rng.integers(0, columns, len(out)).astype("int32")
    else:
        target = reference.one_hot(rng.integers(0, columns, len(out)), columns, kernels.dtype)
    settings = told_in(told, rng, columns, kernels.dtype)
    values, delta = kernels.loss(LOSSES[name], out, target, np.ones(len(out)), **settings)
    assert not np.isnan(values).any()
    if not name.endswith(MEANS):
        assert (values >= 0).all()
    assert not np.isnan(delta).any()
    if name != "squared_error":
        assert np.isfinite(delta).all()


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "kl_divergence"])
def test_probability_of_zero_is_clipped(kernels, loss):
    """A target that the output rules out costs log(eps), with the slope 1/eps."""
    eps = eps_of(kernels)
    out = np.array([[0.0]], dtype=kernels.dtype)
    target = np.array([[1.0]], dtype=kernels.dtype)
    values, delta = kernels.loss(LOSSES[loss], out, target, np.ones(1))
    np.testing.assert_allclose(values, -np.log(eps), rtol=4 * eps)
    np.testing.assert_allclose(delta, -1 / eps, rtol=2 * eps)


def test_fused_losses_where_probabilities_round(kernels):
    """What is lost in an output of 0, 1 or infinity is not lost in a loss of its logits."""
    z = np.array([[-50.0], [50.0]], kernels.dtype)
    told = {"parameter": 2.0, "smoothing": 0.25}
    values, delta = kernels.loss(LOSSES["sigmoid_focal"], z, np.zeros_like(z), np.ones(2), **told)
    small = np.exp(-50.0)
    np.testing.assert_allclose(values, [0.75 * small**3, 0.75 * 50], atol=tiny_of(kernels))
    np.testing.assert_allclose(delta[:, 0], [2.25 * small**3, 0.75], atol=tiny_of(kernels))
    z, t = np.array([[-80.0, 0.0]], kernels.dtype), np.array([[0.25, 0.75]], kernels.dtype)
    values, delta = kernels.loss(LOSSES["softmax_kl_divergence"], z, t, np.ones(1))
    expected = 20 + 0.25 * np.log(0.25) + 0.75 * np.log(0.75)
    np.testing.assert_allclose(values, expected, rtol=4 * eps_of(kernels))
    np.testing.assert_allclose(delta, [[-0.25, 0.25]], rtol=eps_of(kernels))
    z, t = np.array([[-1000.0], [1000.0]], kernels.dtype), np.ones((2, 1), kernels.dtype)
    values, delta = kernels.loss(LOSSES["exponential_poisson"], z, t, np.ones(2))
    assert values[0] == 1000
    assert delta[0] == -1
    assert values[1] > 1e38
    assert np.isfinite(delta).all()


def test_slopes_at_kinks_are_zero(kernels):
    y = np.array([[1.0, 2.0, -1.0]], kernels.dtype)
    for name, target, told in (
        ("absolute_error", y, {}),
        ("huber", y, {"parameter": 0.5}),
        ("log_cosh", y, {}),
        ("quantile", y, {"unit": np.full(3, 0.25, kernels.dtype)}),
        ("hinge", np.sign(y), {}),
    ):
        values, delta = kernels.loss(LOSSES[name], y, target, np.ones(1), **told)
        assert values == 0, name
        assert (delta == 0).all(), name


@LOSS_CASES
def test_loss_of_a_row_does_not_depend_on_the_others(kernels, name, kind, told):
    """Bit for bit, wherever a row stands in a batch: threads may cut a batch anywhere."""
    rng = np.random.default_rng(8)
    for columns in (1, 2, 3, 10, 17):
        out, target = loss_case(rng, name, kind, (37, columns), kernels.dtype)
        scale = rng.uniform(0, 1, 37)
        settings = told_in(told, rng, columns, kernels.dtype)
        values, delta = kernels.loss(LOSSES[name], out, target, scale, **settings)
        for b in range(37):
            one = slice(b, b + 1)
            value, slope = kernels.loss(LOSSES[name], out[one], target[one], scale[one], **settings)
            assert value[0] == values[b], (columns, b)
            assert (slope[0] == delta[b]).all(), (columns, b)


@pytest.mark.parametrize("columns", [1, 3, 4, 17])
def test_squares_beyond_float32_have_a_loss(columns):
    for isa in ISAS:
        out = np.full((2, columns), 1e30, dtype="float32")
        target = np.zeros((2, columns), dtype="float32")
        kernels = Kernels(isa=isa, dtype="float32")
        values, delta = kernels.loss(LOSSES["squared_error"], out, target, np.ones(2))
        np.testing.assert_allclose(values, columns * 0.5e60, rtol=1e-6)
        assert (delta == out).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("columns", [1, 5, 17])
def test_loss_of_a_nan_is_nan(kernels, name, columns):
    """In the value and in the derivative, and in no other row."""
    told = told_in(TOLD.get(name, [{}])[-1], np.random.default_rng(9), columns, kernels.dtype)
    for place in range(columns):
        out = np.full((3, columns), 0.5, dtype=kernels.dtype)
        out[1, place] = np.nan
        values, delta = kernels.loss(LOSSES[name], out, np.ones_like(out), np.ones(3), **told)
        assert np.isnan(values).tolist() == [False, True, False]
        assert np.isnan(delta).any(axis=1).tolist() == [False, True, False]


# --------------------------------------------------------------------------------------- optimizers

_ADAM = {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "step": 3}
_RMSPROP = {"learning_rate": 0.1, "beta_2": 0.9, "epsilon": 1e-8}
HYPERPARAMETERS = {
    "gradient": {},
    "accumulate": {},
    "sgd": {"learning_rate": 0.1},
    "momentum": {"learning_rate": 0.1, "momentum": 0.9},
    "nesterov": {"learning_rate": 0.1, "momentum": 0.9},
    "adam": _ADAM,
    "amsgrad": _ADAM,
    "nadam": {**_ADAM, "momentum_decay": 4e-3},
    "rmsprop": _RMSPROP,
    "rmsprop_momentum": {**_RMSPROP, "momentum": 0.9},
    "centered_rmsprop": _RMSPROP,
    "centered_rmsprop_momentum": {**_RMSPROP, "momentum": 0.9},
    "adagrad": {"learning_rate": 0.1, "epsilon": 1e-10},
    "adadelta": {"learning_rate": 1.0, "beta_2": 0.9, "epsilon": 1e-6},
    "lion": {"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.99},
    "rprop": {"eta_minus": 0.5, "eta_plus": 1.2, "smallest_step": 0.01, "largest_step": 0.9},
}
SHAPES = {
    "plain": {},
    "l2": {"l2": 0.1},
    "l1": {"l1": 0.1},
    "clip_value": {"clip_value": 0.5, "l2": 0.1},
    "gradient_scale": {"gradient_scale": 0.25},
    "weight_decay": {"weight_decay": 0.1},
    "decoupled_decay": {"decoupled_decay": 0.1},
    "all": {
        "l2": 0.1,
        "l1": 0.05,
        "gradient_scale": 0.5,
        "clip_value": 0.4,
        "weight_decay": 0.2,
        "decoupled_decay": 0.3,
    },
}


def random_slots(rng, name, size, dtype):
    """Return three slots: moments of any sign, and such of squares of at least 0.1."""
    moments = [rng.standard_normal(size) for _ in range(3)]
    squares = [rng.uniform(0.1, 1, size) for _ in range(3)]
    slots = list(moments)
    if name in ("adam", "amsgrad", "nadam"):
        slots[1:] = squares[1:]
    elif "rmsprop" in name or name in ("adagrad", "adadelta"):
        slots[0] = squares[0]
        if "centered" in name:  # as no gradients can give less
            slots[0] += moments[1] ** 2
        if name == "adadelta":
            slots[1] = squares[1]
    elif name == "rprop":
        slots[0][::3] = 0
        slots[1] = squares[1]
    return [slot.astype(dtype) for slot in slots]


def step_bound(name, settings, g, slots, new):
    """Return what the terms of a step add up to, where none cancels another one.

    From bounds of the gradient, and the slots before and after.
    """
    rate = settings.get("learning_rate", 0.0)
    if name in ("gradient", "accumulate", "sgd"):
        return rate * g
    if name in ("momentum", "nesterov"):
        return rate * (np.abs(slots[0]) + 2 * g)
    if name in ("adam", "amsgrad", "nadam"):
        return rate * (np.abs(slots[0]) + 2 * g) / np.sqrt(new[1]) / (1 - 0.9**3)
    if "rmsprop" in name:
        root, condition = np.sqrt(new[0]), 1
        if "centered" in name:  # the difference of two numbers
            mean = np.abs(slots[1]) + g
            root = np.sqrt(new[0] - new[1] ** 2)
            condition = 1 + (new[0] + mean**2) / root**2
        velocity = 0.9 * np.abs(slots[N_SLOTS[name] - 1]) if "momentum" in name else 0
        return rate * (velocity + condition * g / root)
    if name == "adagrad":
        return rate * g / np.sqrt(new[0])
    if name == "adadelta":
        return rate * np.sqrt(slots[1] + settings["epsilon"]) / np.sqrt(new[0]) * g
    return {"lion": rate, "rprop": 0.9}[name] * np.ones_like(g)


@pytest.mark.parametrize("place", [np.ascontiguousarray, unaligned], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update(kernels, name, shape, place):
    rng = np.random.default_rng(7)
    settings = {**HYPERPARAMETERS[name], **SHAPES[shape]}
    eps, wide, n_slots = eps_of(kernels), wider(kernels), N_SLOTS[name]
    for size in [*SMALL, *edge_sizes(kernels), 32 * kernels.lanes + 1]:
        g, w = (place(rng.standard_normal(size).astype(kernels.dtype)) for _ in range(2))
        w[::5] = 0
        slots = [place(slot) for slot in random_slots(rng, name, size, kernels.dtype)]
        g_before, w_wide = g.copy(), w.astype(wide)
        before = [slot.copy() for slot in slots]
        slots_wide = [slot.astype(wide) for slot in slots]
        kernels.update(OPTIMIZERS[name], g, w, slots, **settings)
        message = f"{name} of {size}"
        assert (g == g_before).all(), f"{message}: the gradient was modified"
        for slot, unused in zip(slots[n_slots:], before[n_slots:], strict=True):
            assert (slot == unused).all(), f"{message}: an unused slot was modified"

        g_wide = g.astype(wide)
        expected_w, expected = reference.update(name, g_wide, w_wide, slots_wide, **settings)
        # A handful of roundings, each of a number no larger than the sum of all that go in; the
        # constants (momentum, betas, rates) carry one rounding too. Quotients have a denominator
        # above 0.3 here, which squares of at least 0.1 see to.
        g_size = np.abs(g_wide) + 0.1 + 0.3 * np.abs(w_wide)
        step_size = step_bound(name, settings, g_size, slots_wide, expected)
        keeps = name in ("gradient", "accumulate")
        tolerance = 0 if keeps else 8 * eps * step_size + 2 * eps * np.abs(w_wide)
        assert_within(w, expected_w, tolerance, message)
        for s in range(n_slots):
            # Averages of gradients, squares of such, or quotients.
            bound = np.abs(slots_wide[s]) + g_size + g_size**2
            if name == "rprop":
                bound = np.ones_like(g_size)
            if "rmsprop" in name and "momentum" in name and s == n_slots - 1:
                bound = step_size / settings["learning_rate"]
            if name == "adadelta" and s == 1:
                bound = slots_wide[s] + step_size**2
            assert_within(slots[s], expected[s], 8 * eps * bound, f"slot {s} of {message}")


def test_update_of_nothing_moves_nothing(kernels):
    """Zero gradients and zero slots leave the weights, Adam's 0 / (sqrt(0) + epsilon) included.

    The zeros behind a matrix's columns stay zeros so; Rprop's step sizes are what they begin with.
    """
    for name in OPTIMIZERS:
        g, w, *slots = np.zeros((5, 19), dtype=kernels.dtype)
        w += 1
        slots[1] += 0.1 if name == "rprop" else 0
        kernels.update(OPTIMIZERS[name], g, w, slots, **HYPERPARAMETERS[name])
        assert (w == 1).all(), name
        for slot in slots if name != "rprop" else slots[::2]:
            assert not slot.any(), name


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "gradient"])
@pytest.mark.parametrize("shape", SHAPES)
def test_update_by_a_nan_is_nan(kernels, name, shape):
    """And no other parameter is touched by it; clipping does not hide it."""
    g, w, *slots = np.ones((5, 19), dtype=kernels.dtype)
    g[7] = np.nan
    kernels.update(OPTIMIZERS[name], g, w, slots, **HYPERPARAMETERS[name], **SHAPES[shape])
    moved = slots[0] if name == "accumulate" else w
    assert np.flatnonzero(np.isnan(moved)).tolist() == [7]


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "gradient"])
def test_update_by_any_finite_gradient_is_a_number(kernels, name):
    """Squares that overflow make an infinite average, whose quotients are small numbers."""
    largest = np.finfo(kernels.dtype).max
    g = np.array([largest, -largest, largest**0.75, tiny_of(kernels), -0.0] * 4, kernels.dtype)
    w, *slots = np.zeros((4, len(g)), kernels.dtype)
    slots[1] += 0.1 if name == "rprop" else 0
    for _ in range(2):
        kernels.update(OPTIMIZERS[name], g / 4, w, slots, **HYPERPARAMETERS[name])
        assert not np.isnan(w).any()
    if re.match("ada|amsgrad|nadam", name) or name in ("rmsprop", "centered_rmsprop"):
        assert not w[np.abs(g) == largest].any()  # divided by infinity


def test_squares_that_rounding_makes_negative_are_none(kernels):
    """Centered: a gradient that never changes has no variance."""
    g, w, *slots = np.zeros((5, 40), dtype=kernels.dtype)
    g += np.linspace(0.1, 3, 40)
    for _ in range(200):
        kernels.update(
            OPTIMIZERS["centered_rmsprop"], g, w, slots, **HYPERPARAMETERS["centered_rmsprop"]
        )
    assert np.isfinite(w).all()


@pytest.mark.parametrize("place", [np.ascontiguousarray, unaligned], ids=["aligned", "unaligned"])
def test_sums_and_average(kernels, place):
    rng = np.random.default_rng(8)
    eps, wide = eps_of(kernels), wider(kernels)
    for size in [*SMALL, *edge_sizes(kernels)]:
        w, average = (place(rng.standard_normal(size).astype(kernels.dtype)) for _ in range(2))
        squares, sizes = (w.astype(wide) ** 2).sum(), np.abs(w.astype(wide)).sum()
        assert abs(kernels.sum_of_squares(w) - squares) <= size * eps * squares
        assert abs(kernels.sum_of_abs(w) - sizes) <= size * eps * sizes
        expected = 0.9 * average.astype(wide) + (1 - wide.type(0.9)) * w
        bound = np.abs(average) + np.abs(w)
        before = w.copy()
        kernels.move_average(0.9, w, average)
        assert_within(average, expected, 4 * eps * bound.astype(wide))
        assert (w == before).all()
        kernels.move_average(0.0, w, average)
        assert (average == w).all()


# ---------------------------------------------------------------------------------------- arguments


def test_names_have_distinct_codes():
    for table, names in (
        (ACTIVATIONS, {*ULP, "softmax"}),
        (
            LOSSES,
            {
                *("squared_error", "absolute_error", "huber", "log_cosh", "quantile", "hinge"),
                *(loss for _, loss in reference.FUSED),
                *reference.FUSED.values(),
            },
        ),
        (OPTIMIZERS, set(N_SLOTS)),
    ):
        assert set(table) == names
        assert len(set(table.values())) == len(table)


def test_unknown_code_is_an_error(kernels):
    z = np.ones((2, 2), dtype=kernels.dtype)
    for code in (-1, 1000):
        with pytest.raises(ValueError, match="code"):
            kernels.activate(code, z)
        with pytest.raises(ValueError, match="code"):
            kernels.activate_backward(code, z, z)
        with pytest.raises(ValueError, match="code"):
            kernels.loss(code, z, z, np.ones(2))
        with pytest.raises(ValueError, match="code"):
            kernels.update(code, z[0], z[0].copy(), [z[0].copy()] * 3)


def test_unknown_isa_and_dtype():
    with pytest.raises(ValueError, match=r"isa.*generic"):
        Kernels(isa="mmx")
    with pytest.raises((ValueError, TypeError), match="dtype"):
        Kernels(dtype="int32")


# ------------------------------------------------------------------------------------------- from C


def test_tables_from_c(c_program):
    """The same once more without Python, as `make test-arm` does it for a foreign CPU."""
    process = subprocess.run([c_program("test_kernels")], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.split("\n")[:-1] == [
        f"{isa} {dtype}: 0 failures" for isa in ISAS for dtype in DTYPES
    ]
