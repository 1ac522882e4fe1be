"""Initial values: their distributions, their shapes, and what is refused."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from conftest import assert_bitwise_equal

from cymlp import Sequential, initializers
from cymlp.constraints import MaxNorm
from cymlp.initializers import (
    INITIALIZERS,
    Array,
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    RandomNormal,
    RandomUniform,
)
from cymlp.layers import Dense
from cymlp.regularizers import L1, L2, ElasticNet

SHAPE = (600, 200)
N_INPUTS, N_UNITS = SHAPE


def drawn(initializer, shape=SHAPE, seed=0):
    return initializer.sample(np.random.default_rng(seed), shape, *shape[:1], shape[-1])


#: Each initializer with its standard deviation and the largest value that it may give.
CUT = 2 / 0.87962566103423978
SCALES = [
    (GlorotUniform(), np.sqrt(2 / 800), np.sqrt(3)),
    (GlorotUniform(gain=3), 3 * np.sqrt(2 / 800), np.sqrt(3)),
    (GlorotNormal(), np.sqrt(2 / 800), CUT),
    (GlorotNormal(gain=0.5), 0.5 * np.sqrt(2 / 800), CUT),
    (HeUniform(), np.sqrt(2 / 600), np.sqrt(3)),
    (HeNormal(), np.sqrt(2 / 600), CUT),
    (LecunUniform(), np.sqrt(1 / 600), np.sqrt(3)),
    (LecunNormal(), np.sqrt(1 / 600), CUT),
    (RandomUniform(-2.0, 2.0), 2 / np.sqrt(3), np.sqrt(3)),
    (RandomNormal(0.3), 0.3, 6),
]


@pytest.mark.parametrize(("initializer", "stddev", "reach"), SCALES, ids=lambda x: str(x))
def test_distribution(initializer, stddev, reach):
    """Within five deviations of what 120 000 numbers give by chance, and to the very bounds."""
    values = drawn(initializer)
    assert values.shape == SHAPE and values.dtype == np.float64
    assert abs(values.mean()) < 5 * stddev / np.sqrt(values.size)
    assert abs(values.std() / stddev - 1) < 5 / np.sqrt(2 * values.size)
    assert np.abs(values).max() <= reach * stddev * (1 + 1e-12)
    if reach < 6:
        assert np.abs(values).max() > 0.998 * reach * stddev


def test_the_cut_normal_is_the_normal_that_is_cut():
    """The share of it within one deviation of the uncut normal: 0.6827 / 0.9545."""
    values = drawn(LecunNormal()) * np.sqrt(N_INPUTS) * 0.87962566103423978
    within = np.mean(np.abs(values) < 1)
    assert abs(within - 0.6826895 / 0.9544997) < 5 * np.sqrt(0.25 / values.size)


@pytest.mark.parametrize("shape", [(40, 40), (60, 7), (7, 60), (1, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_orthogonal(shape, gain):
    values = drawn(Orthogonal(gain), shape)
    assert values.shape == shape
    tall = values if shape[0] >= shape[1] else values.T
    np.testing.assert_allclose(tall.T @ tall, gain**2 * np.eye(min(shape)), atol=1e-12 * gain**2)


def test_orthogonal_has_no_preferred_sign():
    """Without the correction by the diagonal of R, LAPACK's first element is mostly negative."""
    signs = [drawn(Orthogonal(), (4, 4), seed)[0, 0] > 0 for seed in range(400)]
    assert 150 < sum(signs) < 250


@pytest.mark.parametrize("name", sorted(set(INITIALIZERS) - {"constant", "array"}))
def test_names(name):
    net = Sequential([Dense(3, kernel_initializer=name)], n_inputs=4, random_state=0)
    kernel, bias = net.get_weights()
    spec = INITIALIZERS[name]()
    assert Dense(3, kernel_initializer=name) == Dense(3, kernel_initializer=spec)
    assert spec.name == name
    assert (kernel == 0).all() == (name == "zeros")
    assert (bias == 0).all()


@pytest.mark.parametrize("name", ["constant", "array"])
def test_a_name_alone_is_not_enough_for_what_has_arguments(name):
    with pytest.raises(ValueError, match=r"kernel_initializer must be an instance, \w+\(\.\.\.\)"):
        Dense(3, kernel_initializer=name)


@pytest.mark.parametrize(
    "initializer", [GlorotNormal(), Orthogonal(), RandomUniform(), HeUniform()]
)
def test_a_layer_does_not_see_what_another_draws(initializer):
    """Cut normals draw as often as they must: the next layer starts from a stream of its own."""
    weights = []
    for first in (Constant(1.0), GlorotNormal(), RandomNormal()):
        layers = [Dense(6, kernel_initializer=first), Dense(5, kernel_initializer=initializer)]
        weights.append(Sequential(layers, n_inputs=3, random_state=7).get_weights()[2])
    assert_bitwise_equal(weights[1], weights[0])
    assert_bitwise_equal(weights[2], weights[0])
    again = drawn(initializer, (6, 5), seed=3)
    assert_bitwise_equal(again, drawn(initializer, (6, 5), seed=3))
    assert (again != drawn(initializer, (6, 5), seed=4)).any()


def test_given_values(dtype):
    kernel = np.arange(6.0).reshape(2, 3)
    for given in (
        kernel,
        kernel.astype("float32"),
        kernel.astype("int8"),
        np.asfortranarray(kernel),
    ):
        layer = Dense(3, kernel_initializer=given, bias_initializer=np.array([1, 2, 3]))
        assert layer.kernel_initializer == Array(kernel)
        assert hash(layer) == hash(copy.deepcopy(layer))
        assert pickle.loads(pickle.dumps(layer)) == layer
        weights = Sequential([layer], n_inputs=2, dtype=dtype).get_weights()
        assert_bitwise_equal(weights, [kernel.astype(dtype), np.array([1, 2, 3], dtype)])
    assert len(repr(Dense(300, kernel_initializer=np.zeros((300, 300))))) < 300


def test_given_values_are_copied():
    kernel = np.ones((2, 3))
    layer = Dense(3, kernel_initializer=kernel)
    kernel[:] = 7
    assert (Sequential([layer], n_inputs=2).get_weights()[0] == 1).all()


def test_what_does_not_fit_a_layer_is_said_with_its_place():
    def build(**initializer):
        net = Sequential([Dense(4), Dense(3, **initializer)])
        try:
            net.build(5)
        finally:
            assert not net.built

    with pytest.raises(
        ValueError, match=r"^layers\[1\]: kernel_initializer: .*\(4, 3\), got \(3, 4\)"
    ):
        build(kernel_initializer=np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"^layers\[1\]: bias_initializer: .*\(3,\), got \(4,\)"):
        build(bias_initializer=np.zeros(4))
    with pytest.raises(
        ValueError, match=r"^layers\[1\]: bias_initializer: orthogonal is for kernels"
    ):
        build(bias_initializer="orthogonal")
    with pytest.raises(ValueError, match=r"layers\[1\]: bias_initializer holds values too large"):
        build(bias_initializer=Constant(1e300))


@pytest.mark.parametrize(
    ("create", "match"),
    [
        (lambda: GlorotNormal(gain=0), "gain"),
        (lambda: Orthogonal(gain=-1), "gain"),
        (lambda: Orthogonal(gain="1"), "gain"),
        (lambda: RandomNormal(stddev=-0.1), "stddev"),
        (lambda: RandomUniform(1, 1), "high"),
        (lambda: RandomUniform(0.5, 0.4), "high"),
        (lambda: RandomUniform(np.nan, 1), "low must be a finite number"),
        (lambda: RandomUniform(-1.7e308, 1.7e308), "high - low"),
        (lambda: Constant(np.inf), "value must be a finite number"),
        (lambda: Constant("1"), "value"),
        (lambda: Constant(None), "value"),
        (lambda: Array([1.0, np.nan]), "values must be finite"),
        (lambda: Array(3.0), "values must be"),
        (lambda: Array(np.zeros((2, 2, 2))), "values must be"),
        (lambda: Array([]), "values must be"),
        (lambda: Array([[1.0], [1.0, 2.0]]), "values must be"),
        (lambda: Array(["a"]), "values must be numeric"),
        (lambda: Dense(3, kernel_initializer=np.array(["a"])), "^kernel_initializer: values"),
        (lambda: Dense(3, kernel_initializer=np.zeros((1, 2, 3))), "^kernel_initializer: values"),
        (lambda: Dense(3, bias_initializer=[0.0, 1.0]), "bias_initializer must be one of"),
        (lambda: L1(-1), "strength"),
        (lambda: L1(None), "strength"),
        (lambda: L2(1, per_batch=1), "per_batch"),
        (lambda: ElasticNet(-1, 1), "l1"),
        (lambda: ElasticNet(1, float("inf")), "l2"),
        (lambda: MaxNorm(0), "max_value"),
        (lambda: MaxNorm(float("nan")), "max_value"),
        (lambda: MaxNorm(True), "max_value"),
    ],
)  # fmt: skip
def test_bad_specs(create, match):
    with pytest.raises((ValueError, TypeError), match=match) as info:
        create()
    assert info.value.__suppress_context__ or info.value.__context__ is None


@pytest.mark.parametrize("spec", [Constant(1), Array([1.0]), L1(1), ElasticNet(1, 2), MaxNorm(3)])
def test_specs_are_frozen(spec):
    field = dataclasses.fields(spec)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(spec, field, 1)
    assert spec == copy.deepcopy(spec) and hash(spec) == hash(copy.deepcopy(spec))


def test_all_are_exported():
    kinds = {kind.__name__ for kind in INITIALIZERS.values()}
    assert kinds | {"Initializer"} == set(initializers.__all__)
