"""The C kernels, one by one, against their NumPy twins: every ISA, dtype, size and alignment.

Tolerances are error bounds, not guesses: u = eps/2 is the unit roundoff, a sum of n products errs
by at most n*u*sum(abs(products)) to first order (N. Higham, *Accuracy and Stability of Numerical
Algorithms*, 2002, section 3.1), and every further operation by u of its result. Twins compute in
float64, or in long double where that is wider, so that their own rounding does not count.
"""

import subprocess

import numpy as np
import pytest
from conftest import DTYPES, ISAS, assert_within, build_c, row_strided, unaligned

from cymlp import _kernels
from cymlp import _reference as reference
from cymlp._kernels import ACTIVATIONS, KEEPS_Z, LOSSES, OPTIMIZERS, Kernels

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

LABEL_LOSSES = ("cross_entropy", "softmax_cross_entropy")
TARGETS = [(name, "dense") for name in LOSSES] + [(name, "labels") for name in LABEL_LOSSES]


def loss_case(rng, name, kind, shape, dtype):
    """Return a loss kernel's output and target arguments, of a spread that a network may reach."""
    if name in ("cross_entropy", "binary_cross_entropy"):
        out = rng.uniform(0, 1, shape)
        out[rng.uniform(size=shape) < 0.05] = 0.0
        out[rng.uniform(size=shape) < 0.05] = 1.0
    else:
        out = 4 * rng.standard_normal(shape)
    if kind == "labels":
        return out.astype(dtype), rng.integers(0, shape[1], shape[0]).astype("int32")
    if name in LABEL_LOSSES:
        target = rng.dirichlet(np.ones(shape[1]), shape[0])
    elif name == "squared_error":
        target = rng.standard_normal(shape)
    else:
        target = rng.uniform(0, 1, shape)
    return out.astype(dtype), target.astype(dtype)


def loss_tolerances(name, out, target, eps):
    """Return bounds on the errors of a loss's values and (unscaled) derivatives.

    `out` and `target` are wide. A value is a sum over the columns of terms that carry a few
    roundings each, in the element type at worst.
    """
    columns = out.shape[1]
    t = reference.dense_target(name, target, out)
    terms = columns / 2 + 6
    if name == "squared_error":
        value = ((out - t) ** 2).sum(axis=1)
        return eps * terms * value, eps * (np.abs(out) + np.abs(t))
    if name == "cross_entropy":
        y = np.maximum(out, eps)
        return eps * terms * (t * (1 + np.abs(np.log(y)))).sum(axis=1), 2 * eps * t / y
    if name == "binary_cross_entropy":
        y, rest = np.maximum(out, eps), np.maximum(1 - out, eps)
        value = (t * (1 + np.abs(np.log(y))) + (1 - t) * (1 + np.abs(np.log(rest)))).sum(axis=1)
        return eps * terms * value, 3 * eps * (t / y + (1 - t) / rest)
    if name == "softmax_cross_entropy":
        spread = np.abs(out - out.max(axis=1, keepdims=True))
        value = (t * (1 + spread + np.abs(out))).sum(axis=1) + np.log(columns)
        y = reference.softmax(out)
        # One more eps of t: the twin sums the targets, the kernel may take their sum to be one.
        return eps * terms * value, eps * ((terms + spread) * y + 2 * t + terms * y)
    value = (np.abs(out) + np.abs(t * out) + 1).sum(axis=1)
    return eps * terms * value, 4 * eps * (reference.sigmoid(out) + t)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("name", "kind"), TARGETS, ids=map("-".join, TARGETS))
def test_loss(kernels, name, kind, variant):
    rng = np.random.default_rng(5)
    eps = eps_of(kernels)
    for shape in shapes(kernels):
        out, target = loss_case(rng, name, kind, shape, kernels.dtype)
        out = VARIANTS[variant](out)
        if kind == "dense":
            target = VARIANTS[variant](target)
        scale = rng.uniform(0, 1, shape[0])
        before = out.copy(), target.copy(), scale.copy()
        values, delta = kernels.loss(LOSSES[name], out, target, scale)
        assert values.dtype == "float64"
        assert delta.dtype == kernels.dtype
        for argument, copied in zip((out, target, scale), before, strict=True):
            assert (argument == copied).all(), f"{shape}: an input was modified"

        wide = out.astype(wider(kernels))
        wide_target = target if kind == "labels" else target.astype(wider(kernels))
        wide_scale = scale.astype(wider(kernels))[:, None]
        value_error, delta_error = loss_tolerances(name, wide, wide_target, eps)
        message = f"{name} of {variant} {shape}"
        expected = reference.loss_values(name, wide, wide_target, eps)
        assert_within(values, expected, value_error, message)
        expected = wide_scale * reference.loss_deltas(name, wide, wide_target, eps)
        tolerance = wide_scale * delta_error + eps * np.abs(expected)
        assert_within(delta, expected, tolerance, f"derivative of {message}")


@pytest.mark.parametrize(("name", "kind"), TARGETS, ids=map("-".join, TARGETS))
def test_loss_of_extremes_is_no_nan(kernels, name, kind):
    z = extreme_values(kernels.dtype)
    columns = 4
    out = z[: z.size // columns * columns].reshape(-1, columns)
    if name in ("cross_entropy", "binary_cross_entropy"):
        out = np.clip(np.abs(out), 0, 1)
    rng = np.random.default_rng(6)
    if kind == "labels":
        target = rng.integers(0, columns, len(out)).astype("int32")
    else:
        target = reference.one_hot(rng.integers(0, columns, len(out)), columns, kernels.dtype)
    values, delta = kernels.loss(LOSSES[name], out, target, np.ones(len(out)))
    assert not np.isnan(values).any()
    assert (values >= 0).all()
    assert not np.isnan(delta).any()
    if "cross_entropy" in name:
        assert np.isfinite(delta).all()


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_probability_of_zero_is_clipped(kernels, loss):
    """A target that the output rules out costs log(eps), with the slope 1/eps."""
    eps = eps_of(kernels)
    out = np.array([[0.0]], dtype=kernels.dtype)
    target = np.array([[1.0]], dtype=kernels.dtype)
    values, delta = kernels.loss(LOSSES[loss], out, target, np.ones(1))
    np.testing.assert_allclose(values, -np.log(eps), rtol=4 * eps)
    np.testing.assert_allclose(delta, -1 / eps, rtol=2 * eps)


@pytest.mark.parametrize(("name", "kind"), TARGETS, ids=map("-".join, TARGETS))
def test_loss_of_a_row_does_not_depend_on_the_others(kernels, name, kind):
    """Bit for bit, wherever a row stands in a batch: threads may cut a batch anywhere."""
    rng = np.random.default_rng(8)
    for columns in (1, 2, 3, 10, 17):
        out, target = loss_case(rng, name, kind, (37, columns), kernels.dtype)
        scale = rng.uniform(0, 1, 37)
        values, delta = kernels.loss(LOSSES[name], out, target, scale)
        for b in range(37):
            one = slice(b, b + 1)
            value, slope = kernels.loss(LOSSES[name], out[one], target[one], scale[one])
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
    for place in range(columns):
        out = np.full((3, columns), 0.5, dtype=kernels.dtype)
        out[1, place] = np.nan
        values, delta = kernels.loss(LOSSES[name], out, np.ones_like(out), np.ones(3))
        assert np.isnan(values).tolist() == [False, True, False]
        assert np.isnan(delta).any(axis=1).tolist() == [False, True, False]


# --------------------------------------------------------------------------------------- optimizers

HYPERPARAMETERS = {
    "gradient": {"l2": 0.1},
    "accumulate": {"l2": 0.1},
    "sgd": {"learning_rate": 0.1, "l2": 0.1},
    "momentum": {"learning_rate": 0.1, "momentum": 0.9, "l2": 0.1},
    "nesterov": {"learning_rate": 0.1, "momentum": 0.9, "l2": 0.1},
    "adam": {
        "learning_rate": 0.1,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-8,
        "l2": 0.1,
        "step": 3,
    },
}


@pytest.mark.parametrize("place", [np.ascontiguousarray, unaligned], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("l2", [0.0, 0.1], ids=["plain", "l2"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update(kernels, name, l2, place):
    rng = np.random.default_rng(7)
    settings = {**HYPERPARAMETERS[name], "l2": l2}
    eps, wide = eps_of(kernels), wider(kernels)
    for size in [*SMALL, *edge_sizes(kernels)]:
        g, w, slot0 = (place(rng.standard_normal(size).astype(kernels.dtype)) for _ in range(3))
        slot1 = place(rng.uniform(0.1, 1, size).astype(kernels.dtype))
        g_before, w_wide, slots_wide = (
            g.copy(),
            w.astype(wide),
            [slot0.astype(wide), slot1.astype(wide)],
        )
        slots_before = slot0.copy(), slot1.copy()
        kernels.update(OPTIMIZERS[name], g, w, [slot0, slot1, slot1], **settings)
        message = f"{name} of {size}"
        assert (g == g_before).all(), f"{message}: the gradient was modified"
        n_slots = reference.N_SLOTS[name]
        for slot, before in list(zip((slot0, slot1), slots_before, strict=True))[n_slots:]:
            assert (slot == before).all(), f"{message}: an unused slot was modified"

        g_wide = g.astype(wide)
        expected_w, expected_slots = reference.update(name, g_wide, w_wide, slots_wide, **settings)
        # A handful of roundings, each of a number no larger than the sum of all that go in; the
        # constants (momentum, betas, rates) carry one rounding too. Adam's quotient has a
        # denominator above 0.3 here, which v = 0.1 at least sees to.
        g_size = np.abs(g_wide) + l2 * np.abs(w_wide)
        size_of_slots = [np.abs(slots_wide[0]) + g_size, slots_wide[1] + g_size**2]
        step_size = settings.get("learning_rate", 0.0) * (np.abs(slots_wide[0]) + 2 * g_size)
        if name == "adam":
            step_size = step_size / np.sqrt(slots_wide[1]) / (1 - 0.9**3)
        tolerance = 8 * eps * step_size + eps * np.abs(w_wide)
        keeps = name in ("gradient", "accumulate")
        assert_within(w, expected_w, 0 if keeps else tolerance, message)
        for slot, expected, bound in zip(
            (slot0, slot1), expected_slots, size_of_slots, strict=False
        ):
            assert_within(slot, expected, 4 * eps * bound, f"slot of {message}")


def test_update_of_nothing_moves_nothing(kernels):
    """Zero gradients and zero slots leave the weights, Adam's 0 / (sqrt(0) + epsilon) included."""
    for name in OPTIMIZERS:
        g, w, slot0, slot1 = np.zeros((4, 19), dtype=kernels.dtype)
        w += 1
        settings = {**HYPERPARAMETERS[name], "l2": 0.0}
        kernels.update(OPTIMIZERS[name], g, w, [slot0, slot1, slot1], **settings)
        assert (w == 1).all(), name
        assert not slot0.any(), name
        assert not slot1.any(), name


# ---------------------------------------------------------------------------------------- arguments


def test_names_have_distinct_codes():
    for table, names in (
        (ACTIVATIONS, {*ULP, "softmax"}),
        (
            LOSSES,
            {"squared_error", "cross_entropy", "binary_cross_entropy", *reference.FUSED.values()},
        ),
        (OPTIMIZERS, set(reference.N_SLOTS)),
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


def test_tables_from_c(tmp_path):
    """The same once more without Python, as `make test-arm` does it for a foreign CPU."""
    program = build_c("test_kernels", tmp_path)
    process = subprocess.run([program], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.split("\n")[:-1] == [
        f"{isa} {dtype}: 0 failures" for isa in ISAS for dtype in DTYPES
    ]
