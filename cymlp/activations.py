"""Activation functions: what a layer does to its weighted sums.

Each class is a frozen description without arrays; the kernels of ``src/`` do the work. `Dense`
takes an instance, or the class's `name` for one with its default parameters: identity, relu,
leaky_relu, elu, selu, gelu, gelu_tanh, silu (or swish), mish, softplus, sigmoid, hard_sigmoid,
tanh, softsign, exponential, softmax. `Activation` wraps two functions of your own.

Training keeps a layer's outputs. For gelu, gelu_tanh, silu and mish, whose derivative the output
does not tell, it keeps the weighted sums too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

from cymlp import _validate
from cymlp._frozen import Frozen

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Activation",
    "BaseActivation",
    "Exponential",
    "GELUTanh",
    "HardSigmoid",
    "Identity",
    "LeakyReLU",
    "Mish",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
]

#: Parameters must be finite in either dtype: the largest number of float32.
_LARGEST = (2 - 2**-23) * 2.0**127


class BaseActivation(Frozen):
    """Base of all activations.

    Attributes
    ----------
    name : str
        What `Dense` accepts instead of an instance.
    """

    name: ClassVar[str]


class Identity(BaseActivation):
    """The weighted sum itself: f(z) = z.

    Examples
    --------
    >>> from cymlp.activations import Identity
    >>> Identity().name
    'identity'
    """

    name: ClassVar[str] = "identity"


class ReLU(BaseActivation):
    """Rectified linear unit: f(z) = max(z, 0), with f'(0) = 0.

    References
    ----------
    V. Nair and G. Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010.

    Examples
    --------
    >>> from cymlp.activations import ReLU
    >>> ReLU().name
    'relu'
    """

    name: ClassVar[str] = "relu"


class LeakyReLU(BaseActivation):
    """Leaky rectified linear unit: f(z) = z for z > 0, else alpha * z; f'(0) = alpha.

    Parameters
    ----------
    alpha : float, default=0.01
        The slope below zero, at least 0.

    Raises
    ------
    TypeError, ValueError
        If `alpha` is not a number of at least 0.

    References
    ----------
    A. L. Maas, A. Y. Hannun and A. Y. Ng, "Rectifier nonlinearities improve neural network acoustic
    models", 2013.

    Examples
    --------
    >>> from cymlp.activations import LeakyReLU
    >>> LeakyReLU(alpha=0.2)
    LeakyReLU(alpha=0.2)
    """

    name: ClassVar[str] = "leaky_relu"
    alpha: float = 0.01

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("alpha", self.alpha, low=0, high=_LARGEST, closed="both")


class ELU(BaseActivation):
    """Exponential linear unit: f(z) = z for z > 0, else alpha * (exp(z) - 1); f'(0) = alpha.

    Parameters
    ----------
    alpha : float, default=1.0
        How far below zero the outputs reach, at least 0.

    Raises
    ------
    TypeError, ValueError
        If `alpha` is not a number of at least 0.

    References
    ----------
    D.-A. Clevert, T. Unterthiner and S. Hochreiter, "Fast and accurate deep network learning by
    exponential linear units (ELUs)", 2016.

    Examples
    --------
    >>> from cymlp.activations import ELU
    >>> ELU()
    ELU(alpha=1.0)
    """

    name: ClassVar[str] = "elu"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("alpha", self.alpha, low=0, high=_LARGEST, closed="both")


class SELU(BaseActivation):
    """Scaled exponential linear unit: f(z) = s * z for z > 0, else s * a * (exp(z) - 1).

    With s = 1.05070098... and a = 1.67326324... layers keep outputs of mean 0 and variance 1, if
    their weights have mean 0 and variance 1 / inputs.

    References
    ----------
    G. Klambauer et al., "Self-normalizing neural networks", 2017.

    Examples
    --------
    >>> from cymlp.activations import SELU
    >>> SELU().name
    'selu'
    """

    name: ClassVar[str] = "selu"


class GELU(BaseActivation):
    """Gaussian error linear unit: f(z) = z * Phi(z), Phi the normal distribution function.

    Phi(z) = (1 + erf(z / sqrt(2))) / 2 is computed to the dtype's precision, without an
    approximation; `GELUTanh` is the one that older models were trained with.

    References
    ----------
    D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)", 2016.

    Examples
    --------
    >>> from cymlp.activations import GELU
    >>> GELU().name
    'gelu'
    """

    name: ClassVar[str] = "gelu"


class GELUTanh(BaseActivation):
    """GELU's approximation f(z) = z/2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))).

    It is within 0.0005 of `GELU`.

    References
    ----------
    D. Hendrycks and K. Gimpel, "Gaussian error linear units (GELUs)", 2016, section 2.

    Examples
    --------
    >>> from cymlp.activations import GELUTanh
    >>> GELUTanh().name
    'gelu_tanh'
    """

    name: ClassVar[str] = "gelu_tanh"


class SiLU(BaseActivation):
    """Sigmoid-weighted linear unit, or swish: f(z) = z / (1 + exp(-z)).

    `Dense` knows it as "swish" too.

    References
    ----------
    S. Elfwing, E. Uchibe and K. Doya, "Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning", 2018. P. Ramachandran, B. Zoph and Q. V. Le,
    "Searching for activation functions", 2017.

    Examples
    --------
    >>> from cymlp.activations import SiLU
    >>> SiLU().name
    'silu'
    """

    name: ClassVar[str] = "silu"


class Mish(BaseActivation):
    """f(z) = z * tanh(log(1 + exp(z))).

    References
    ----------
    D. Misra, "Mish: a self regularized non-monotonic activation function", 2020.

    Examples
    --------
    >>> from cymlp.activations import Mish
    >>> Mish().name
    'mish'
    """

    name: ClassVar[str] = "mish"


class Softplus(BaseActivation):
    """f(z) = log(1 + exp(z)), a smooth ReLU: greater than 0, with the sigmoid as its derivative.

    References
    ----------
    C. Dugas et al., "Incorporating second-order functional knowledge for better option pricing",
    2000.

    Examples
    --------
    >>> from cymlp.activations import Softplus
    >>> Softplus().name
    'softplus'
    """

    name: ClassVar[str] = "softplus"


class Sigmoid(BaseActivation):
    """Logistic function: f(z) = 1 / (1 + exp(-z)), between 0 and 1.

    With `cymlp.losses.BinaryCrossEntropy` the loss is computed from z itself, which stays exact
    where f(z) rounds to 0 or 1.

    Examples
    --------
    >>> from cymlp.activations import Sigmoid
    >>> Sigmoid().name
    'sigmoid'
    """

    name: ClassVar[str] = "sigmoid"


class HardSigmoid(BaseActivation):
    """Piecewise linear sigmoid: f(z) = min(max(z + 3, 0), 6) / 6, with f'(-3) = f'(3) = 0.

    The form of PyTorch and Keras 3.

    References
    ----------
    A. Howard et al., "Searching for MobileNetV3", 2019, section 5.2.

    Examples
    --------
    >>> from cymlp.activations import HardSigmoid
    >>> HardSigmoid().name
    'hard_sigmoid'
    """

    name: ClassVar[str] = "hard_sigmoid"


class Tanh(BaseActivation):
    """Hyperbolic tangent: f(z) = tanh(z), between -1 and 1.

    Examples
    --------
    >>> from cymlp.activations import Tanh
    >>> Tanh().name
    'tanh'
    """

    name: ClassVar[str] = "tanh"


class Softsign(BaseActivation):
    """f(z) = z / (1 + abs(z)), between -1 and 1; nears them more slowly than tanh.

    References
    ----------
    X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010.

    Examples
    --------
    >>> from cymlp.activations import Softsign
    >>> Softsign().name
    'softsign'
    """

    name: ClassVar[str] = "softsign"


class Exponential(BaseActivation):
    """f(z) = exp(z), greater than 0: for outputs that are rates or scales.

    Infinite from z = 88.73 (float32) or 709.79 (float64) on.

    Examples
    --------
    >>> from cymlp.activations import Exponential
    >>> Exponential().name
    'exponential'
    """

    name: ClassVar[str] = "exponential"


class Softmax(BaseActivation):
    """Probabilities that sum to one: f(z)_j = exp(z_j) / sum_k exp(z_k).

    With `cymlp.losses.CrossEntropy` the loss is computed from z itself, which stays exact where a
    probability rounds to 0. With any other loss the full Jacobian is used.

    Examples
    --------
    >>> from cymlp.activations import Softmax
    >>> Softmax().name
    'softmax'
    """

    name: ClassVar[str] = "softmax"


_KINDS: tuple[type[BaseActivation], ...] = (
    Identity,
    ReLU,
    LeakyReLU,
    ELU,
    SELU,
    GELU,
    GELUTanh,
    SiLU,
    Mish,
    Softplus,
    Sigmoid,
    HardSigmoid,
    Tanh,
    Softsign,
    Exponential,
    Softmax,
)
ACTIVATIONS: dict[str, type[BaseActivation]] = {kind.name: kind for kind in _KINDS} | {
    "swish": SiLU
}


class Activation(BaseActivation):
    """An activation of your own: any function of each weighted sum, with its derivative.

    Parameters
    ----------
    forward : callable
        ``forward(z) -> y``, element by element: takes an ndarray of shape (rows, units) of the
        network's dtype, and returns one of the same shape.
    derivative : callable
        ``derivative(z) -> dy/dz``, likewise.
    name : str, default="custom"
        What it is called in summaries; no name of a built-in activation.

    Raises
    ------
    TypeError
        If `forward` or `derivative` is not callable, or `name` not a string.
    ValueError
        If `name` is empty or that of a built-in activation.

    Notes
    -----
    The two are called with NumPy arrays in the middle of training, which costs more than the
    built-in kernels do. They should not change z. A network can be pickled if they can: functions
    of a module can, lambdas cannot.

    Examples
    --------
    The squared ReLU of D. So et al., "Primer", 2021:

    >>> import numpy as np
    >>> from cymlp.activations import Activation
    >>> squared_relu = Activation(
    ...     forward=lambda z: np.maximum(z, 0) ** 2,
    ...     derivative=lambda z: 2 * np.maximum(z, 0),
    ...     name="squared_relu",
    ... )
    >>> squared_relu.forward(np.array([-1.0, 3.0]))
    array([0., 9.])
    """

    forward: Callable[[Any], Any]
    derivative: Callable[[Any], Any]
    name: str = field(default="custom", kw_only=True)  # type: ignore[misc]

    def __post_init__(self) -> None:
        """Validate the arguments."""
        for argument in ("forward", "derivative"):
            _validate.function(argument, getattr(self, argument))
        _validate.new_name("name", self.name, ACTIVATIONS)


def resolve(name: str, value: Any) -> BaseActivation:
    """Return an activation: an instance, or the default one of a name.

    Parameters
    ----------
    name : str
        Of the argument, for errors.
    value : str or BaseActivation

    Returns
    -------
    BaseActivation

    Raises
    ------
    TypeError, ValueError
        If `value` is neither; the error lists the known names.
    """
    return _validate.spec(name, value, ACTIVATIONS, Activation)
