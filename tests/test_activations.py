"""The specs of activations: names, parameters, a user's own; and the kernels against PyTorch."""

import dataclasses
import pickle

import numpy as np
import pytest
from conftest import DTYPES, assert_within

from cymlp import Sequential, _kernels, activations
from cymlp import _reference as reference
from cymlp._kernels import KEEPS_Z, Kernels
from cymlp.activations import (
    ACTIVATIONS,
    ELU,
    GELU,
    Activation,
    BaseActivation,
    GELUTanh,
    LeakyReLU,
    SiLU,
)
from cymlp.layers import Dense


def cube(z):
    return z**3


def slope_of_cube(z):
    return 3 * z**2


# ------------------------------------------------------------------------------------------ specs


def test_every_kernel_has_a_spec():
    assert {kind.name for kind in ACTIVATIONS.values()} == set(_kernels.ACTIVATIONS)


def test_every_spec_is_public():
    kinds = {kind.__name__ for kind in ACTIVATIONS.values()}
    assert kinds | {"Activation", "BaseActivation"} == set(activations.__all__)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_name_means_the_default_instance(name):
    activation = Dense(3, activation=name).activation
    assert activation == ACTIVATIONS[name]()
    assert activation.name == ("silu" if name == "swish" else name)
    assert isinstance(activation, BaseActivation)
    assert pickle.loads(pickle.dumps(activation)) == activation
    with pytest.raises(dataclasses.FrozenInstanceError):
        activation.alpha = 3.0


def test_defaults():
    assert LeakyReLU().alpha == 0.01
    assert ELU().alpha == 1.0
    assert ACTIVATIONS["swish"] is SiLU
    assert ACTIVATIONS["gelu"] is GELU
    assert ACTIVATIONS["gelu_tanh"] is GELUTanh


@pytest.mark.parametrize("kind", [LeakyReLU, ELU])
@pytest.mark.parametrize("alpha", [-0.1, np.nan, np.inf, 1e39, "steep", None, True, 1j, [0.1]])
def test_bad_alpha(kind, alpha):
    with pytest.raises((ValueError, TypeError), match="alpha must be a number of at least 0"):
        kind(alpha=alpha)


@pytest.mark.parametrize("kind", [LeakyReLU, ELU])
@pytest.mark.parametrize("alpha", [0, 0.3, 2, np.float32(0.5), float(np.finfo("float32").max)])
def test_alpha_reaches_the_core(kind, alpha):
    net = Sequential([Dense(3, activation=kind(alpha=alpha))], n_inputs=1, dtype="float64")
    net.set_weights([np.array([[-1.0, 0.0, 1.0]]), np.zeros(3)])
    expected = reference.activate(kind.name, np.array([[-1.0, 0.0, 1.0]]), float(alpha))
    np.testing.assert_allclose(net.predict(np.ones((1, 1))), expected, rtol=1e-15)


# -------------------------------------------------------------------------------- a user's own one


def test_own_activation():
    own = Activation(cube, slope_of_cube)
    assert own.name == "custom"
    assert own == Activation(forward=cube, derivative=slope_of_cube)
    assert own != Activation(cube, slope_of_cube, name="cube")
    assert Dense(3, activation=own).activation is own
    assert own.forward(2) == 8
    assert own.derivative(2) == 12
    assert pickle.loads(pickle.dumps(own)) == own
    with pytest.raises(dataclasses.FrozenInstanceError):
        own.forward = slope_of_cube


@pytest.mark.parametrize("argument", ["forward", "derivative"])
@pytest.mark.parametrize("value", [None, "cube", 3, (cube,)])
def test_own_activation_needs_functions(argument, value):
    functions = {"forward": cube, "derivative": slope_of_cube, argument: value}
    with pytest.raises(TypeError, match=f"^{argument} must be a function, got"):
        Activation(**functions)


@pytest.mark.parametrize(("name", "error"), [("", ValueError), (3, TypeError), (None, TypeError)])
def test_own_activation_needs_a_name(name, error):
    with pytest.raises(error, match="^name must be"):
        Activation(cube, slope_of_cube, name=name)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_own_activation_needs_a_name_of_its_own(name):
    """The core tells activations by their names."""
    with pytest.raises(ValueError, match="^name must be a name of its own"):
        Activation(cube, slope_of_cube, name=name)


@pytest.mark.parametrize("value", [Activation, BaseActivation(), cube, "custom"])
def test_what_is_no_activation(value):
    with pytest.raises((ValueError, TypeError), match="activation must be"):
        Dense(3, activation=value)


# ----------------------------------------------------------------------------------------- PyTorch

ALPHA = 0.3


def torch_function(torch, name):
    """Return PyTorch's activation of that name."""
    functional = torch.nn.functional
    return {
        "identity": lambda z: z * 1,
        "softmax": lambda z: functional.softmax(z, dim=1),
        "leaky_relu": lambda z: functional.leaky_relu(z, ALPHA),
        "elu": lambda z: functional.elu(z, ALPHA),
        "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
        "softplus": lambda z: functional.softplus(z, threshold=1e9),
        "hard_sigmoid": functional.hardsigmoid,
        "exponential": torch.exp,
        **{name: getattr(torch, name) for name in ("relu", "sigmoid", "tanh")},
    }.get(name) or getattr(functional, name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", _kernels.ACTIVATIONS)
def test_like_pytorch(name, dtype):
    """Forward and derivative, PyTorch in float64: within 8 eps of numbers that are about 1.

    Where the kernels are double, its own errors count too: it differentiates gelu_tanh with
    1 - tanh(v)**2, whose cancellation z * v'(z) magnifies, and its sixth of hardsigmoid's
    derivative is a float32.
    """
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    z = np.concatenate([rng.standard_normal((40, 33)), 8 * rng.standard_normal((40, 33))])
    z = z.astype(dtype)
    z[0, :3] = 0, -3, 3
    delta = rng.standard_normal(z.shape).astype(dtype)
    if name == "hard_sigmoid":  # where the output rounds to 1, the derivative is 0 already
        z = z[(np.abs(z) < 3 - 1e-5) | (np.abs(z) >= 3)][None]
        delta = delta.reshape(-1)[: z.size][None]
    code, kernels = _kernels.ACTIVATIONS[name], Kernels(dtype=dtype)
    alpha = float(z.dtype.type(ALPHA))
    y = kernels.activate(code, z, alpha=alpha)
    d = kernels.activate_backward(code, z if name in KEEPS_Z else y, delta, alpha=alpha)

    z_torch = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    y_torch = torch_function(torch, name)(z_torch)
    y_torch.backward(torch.tensor(delta, dtype=torch.float64))
    y_torch = y_torch.detach().numpy()
    bound = 8 * np.finfo(dtype).eps * np.maximum(1, np.abs(y_torch))
    assert_within(y, y_torch, bound, f"{name} forward")
    if name == "gelu_tanh":
        bound *= 1 + z.astype("float64") ** 2
    elif name == "hard_sigmoid":
        bound += np.finfo("float32").eps / 12
    bound *= np.maximum(1, np.abs(delta))
    assert_within(d, z_torch.grad.numpy(), bound, f"{name} backward")
