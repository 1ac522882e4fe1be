"""Initial values of kernels and biases.

Each draws from a generator that the network keys by its seed and the parameter's place, so that
a layer's initial values do not depend on how many numbers another layer has drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from cymlp import _validate
from cymlp._frozen import Frozen

__all__ = [
    "Array",
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "Zeros",
]

# The standard deviation of a standard normal variable that is cut off at -2 and 2:
# sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)), with the normal density phi and distribution Phi.
_CUT_STDDEV = 0.87962566103423978


class Initializer(Frozen):
    """Base of all initializers.

    Attributes
    ----------
    name : str
        What `Dense` accepts instead of an instance.
    """

    name: ClassVar[str]

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values.

        Parameters
        ----------
        rng : numpy.random.Generator
        shape : tuple of int
            (n_inputs, n_units) for a kernel, (n_units,) for a bias.
        n_inputs, n_units : int
            Of the layer.

        Returns
        -------
        ndarray of the given shape, float64
        """
        raise TypeError(f"{type(self).__name__} does not define sample")


def _cut_normal(rng: np.random.Generator, shape: tuple[int, ...], stddev: float) -> np.ndarray:
    """Return normal numbers within two of their deviations; what is left has the deviation stddev.

    Numbers are drawn from N(0, s^2), s = stddev / 0.8796..., and drawn again while they are beyond
    2 s: "truncated normal" of TensorFlow and Keras.
    """
    values = rng.standard_normal(shape)
    while (beyond := np.abs(values) > 2).any():
        values[beyond] = rng.standard_normal(np.count_nonzero(beyond))
    return values * (stddev / _CUT_STDDEV)


class GlorotUniform(Initializer):
    """Uniform within (-l, l), l = gain * sqrt(6 / (n_inputs + n_units)).

    Parameters
    ----------
    gain : float, default=1.0
        Greater than 0.

    Raises
    ------
    TypeError, ValueError
        If `gain` is not a number greater than 0.

    References
    ----------
    X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import GlorotUniform
    >>> kernel = GlorotUniform().sample(np.random.default_rng(0), (3, 3), 3, 3)
    >>> bool(abs(kernel).max() < 1)
    True
    """

    name: ClassVar[str] = "glorot_uniform"
    gain: float = 1.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("gain", self.gain, low=0, closed="neither")

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        limit = self.gain * np.sqrt(6 / (n_inputs + n_units))
        return rng.uniform(-limit, limit, shape)


class GlorotNormal(Initializer):
    """Truncated normal of standard deviation gain * sqrt(2 / (n_inputs + n_units)).

    The numbers are cut off at two deviations of what they are drawn from, as in Keras.

    Parameters
    ----------
    gain : float, default=1.0
        Greater than 0.

    Raises
    ------
    TypeError, ValueError
        If `gain` is not a number greater than 0.

    References
    ----------
    X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import GlorotNormal
    >>> kernel = GlorotNormal().sample(np.random.default_rng(0), (50, 50), *(50, 50))
    >>> bool(0.13 < kernel.std() < 0.15)
    True
    """

    name: ClassVar[str] = "glorot_normal"
    gain: float = 1.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("gain", self.gain, low=0, closed="neither")

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        stddev = self.gain * np.sqrt(2 / (n_inputs + n_units))
        return _cut_normal(rng, shape, stddev)


class HeUniform(Initializer):
    """Uniform within (-l, l), l = sqrt(6 / n_inputs): keeps the scale through ReLU layers.

    References
    ----------
    K. He et al., "Delving deep into rectifiers", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import HeUniform
    >>> kernel = HeUniform().sample(np.random.default_rng(0), (6, 3), 6, 3)
    >>> bool(abs(kernel).max() < 1)
    True
    """

    name: ClassVar[str] = "he_uniform"

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        limit = np.sqrt(6 / n_inputs)
        return rng.uniform(-limit, limit, shape)


class HeNormal(Initializer):
    """Truncated normal of standard deviation sqrt(2 / n_inputs): for ReLU layers.

    The numbers are cut off at two deviations of what they are drawn from, as in Keras.

    References
    ----------
    K. He et al., "Delving deep into rectifiers", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import HeNormal
    >>> kernel = HeNormal().sample(np.random.default_rng(0), (50, 50), *(50, 50))
    >>> bool(0.19 < kernel.std() < 0.21)
    True
    """

    name: ClassVar[str] = "he_normal"

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        return _cut_normal(rng, shape, np.sqrt(2 / n_inputs))


class LecunUniform(Initializer):
    """Uniform within (-l, l), l = sqrt(3 / n_inputs): keeps the scale of linear layers.

    References
    ----------
    Y. LeCun, L. Bottou, G. Orr and K. Mueller, "Efficient BackProp", 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import LecunUniform
    >>> kernel = LecunUniform().sample(np.random.default_rng(0), (3, 3), *(3, 3))
    >>> bool(abs(kernel).max() < 1)
    True
    """

    name: ClassVar[str] = "lecun_uniform"

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        limit = np.sqrt(3 / n_inputs)
        return rng.uniform(-limit, limit, shape)


class LecunNormal(Initializer):
    """Truncated normal of standard deviation sqrt(1 / n_inputs): for SELU layers.

    The numbers are cut off at two deviations of what they are drawn from, as in Keras.

    References
    ----------
    Y. LeCun, L. Bottou, G. Orr and K. Mueller, "Efficient BackProp", 1998.

    G. Klambauer et al., "Self-normalizing neural networks", 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import LecunNormal
    >>> kernel = LecunNormal().sample(np.random.default_rng(0), (50, 50), *(50, 50))
    >>> bool(0.13 < kernel.std() < 0.15)
    True
    """

    name: ClassVar[str] = "lecun_normal"

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        return _cut_normal(rng, shape, np.sqrt(1 / n_inputs))


class Orthogonal(Initializer):
    """Gain times a matrix of orthonormal columns or, where it has more columns, rows.

    The matrix is uniformly distributed among all such: Q of the QR decomposition of a normal
    matrix, each column times the sign of its element on the diagonal of R.

    Parameters
    ----------
    gain : float, default=1.0
        Greater than 0.

    Raises
    ------
    TypeError, ValueError
        If `gain` is not a number greater than 0.

    References
    ----------
    A. Saxe, J. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks", 2014; F. Mezzadri, "How to generate random matrices from the
    classical compact groups", 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import Orthogonal
    >>> kernel = Orthogonal().sample(np.random.default_rng(0), (4, 3), *(4, 3))
    >>> np.allclose(kernel.T @ kernel, np.eye(3))
    True
    """

    name: ClassVar[str] = "orthogonal"
    gain: float = 1.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("gain", self.gain, low=0, closed="neither")

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        if len(shape) != 2:
            raise ValueError(f"orthogonal is for kernels, which are 2-D, not for shape {shape}")
        tall = rng.standard_normal((max(shape), min(shape)))
        q, r = np.linalg.qr(tall)
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return self.gain * (q if shape[0] >= shape[1] else q.T)


class RandomNormal(Initializer):
    """Normal of a fixed standard deviation.

    Parameters
    ----------
    stddev : float, default=0.05
        At least 0.

    Raises
    ------
    TypeError, ValueError
        If `stddev` is not a number of at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import RandomNormal
    >>> kernel = RandomNormal(stddev=0.01).sample(np.random.default_rng(0), (50, 50), *(50, 50))
    >>> bool(0.009 < kernel.std() < 0.011)
    True
    """

    name: ClassVar[str] = "random_normal"
    stddev: float = 0.05

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("stddev", self.stddev, low=0)

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        return self.stddev * rng.standard_normal(shape)


class RandomUniform(Initializer):
    """Uniform within fixed bounds, [low, high).

    Parameters
    ----------
    low : float, default=-0.05
    high : float, default=0.05
        Greater than `low`.

    Raises
    ------
    TypeError, ValueError
        If the bounds are not numbers, or not in order.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import RandomUniform
    >>> kernel = RandomUniform(0, 1).sample(np.random.default_rng(0), (50, 50), *(50, 50))
    >>> bool(0.48 < kernel.mean() < 0.52)
    True
    """

    name: ClassVar[str] = "random_uniform"
    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        """Validate the arguments."""
        low = _validate.real("low", self.low, low=-np.inf, closed="neither")
        high = _validate.real("high", self.high, low=low, closed="neither")
        if high - low == np.inf:
            raise ValueError(f"high - low must be finite, got {high:g} and {low:g}")

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        return rng.uniform(self.low, self.high, shape)


class Constant(Initializer):
    """The same value everywhere.

    Parameters
    ----------
    value : float
        Finite.

    Raises
    ------
    TypeError, ValueError
        If `value` is not a finite number.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import Constant
    >>> Constant(0.1).sample(np.random.default_rng(0), (2,), 3, 2)
    array([0.1, 0.1])
    """

    name: ClassVar[str] = "constant"
    value: float

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("value", self.value, low=-np.inf, closed="neither")

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        return np.full(shape, float(self.value))


class Ones(Initializer):
    """All ones.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import Ones
    >>> Ones().sample(np.random.default_rng(0), (2,), 3, 2)
    array([1., 1.])
    """

    name: ClassVar[str] = "ones"

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        return np.ones(shape)


class Zeros(Initializer):
    """All zeros: the default of biases.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import Zeros
    >>> Zeros().sample(np.random.default_rng(0), (2,), 3, 2)
    array([0., 0.])
    """

    name: ClassVar[str] = "zeros"

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return initial values; see `Initializer.sample`."""
        return np.zeros(shape)


class Array(Initializer):
    """Given values.

    They are kept as nested tuples, so that a layer stays a description that can be compared and
    hashed. `Dense` makes an instance of any array that stands in the place of an initializer.

    Parameters
    ----------
    values : array-like of shape (n_inputs, n_units) for a kernel, (n_units,) for a bias
        Finite real numbers. Whether the shape fits is known, and checked, when a network is built.

    Raises
    ------
    TypeError, ValueError
        If `values` are not finite real numbers in one or two dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp.initializers import Array
    >>> Array([0.5, -0.5])
    Array(<2 values>)
    >>> Array([0.5, -0.5]).sample(np.random.default_rng(0), (2,), 3, 2)
    array([ 0.5, -0.5])
    """

    name: ClassVar[str] = "array"
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Validate the values and make tuples of them."""
        array = _validate.finite("values", self.values)
        if array.ndim not in (1, 2) or array.size == 0:
            raise ValueError(
                "values must be (n_inputs, n_units) of a kernel or (n_units,) of a bias, got shape "
                f"{array.shape}"
            )
        rows = array.tolist()
        values = tuple(map(tuple, rows)) if array.ndim == 2 else tuple(rows)
        object.__setattr__(self, "values", values)

    def __repr__(self) -> str:
        """Return the shape alone: there may be millions of values."""
        return f"Array(<{' x '.join(map(str, np.shape(self.values)))} values>)"

    def sample(
        self, rng: np.random.Generator, shape: tuple[int, ...], n_inputs: int, n_units: int
    ) -> np.ndarray:
        """Return the values; see `Initializer.sample`."""
        values = np.array(self.values)
        if values.shape != shape:
            raise ValueError(f"the values must have shape {shape}, got {values.shape}")
        return values


if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    #: What a layer takes for an initializer.
    Initial: TypeAlias = str | Initializer | ArrayLike

INITIALIZERS: dict[str, type[Initializer]] = {
    kind.name: kind
    for kind in (
        GlorotUniform,
        GlorotNormal,
        HeUniform,
        HeNormal,
        LecunUniform,
        LecunNormal,
        Orthogonal,
        RandomUniform,
        RandomNormal,
        Constant,
        Zeros,
        Ones,
        Array,
    )
}


def initializer(name: str, value: Any) -> Initializer:
    """Return an initializer: an instance, the default one of a name, or `Array` of an array.

    Parameters
    ----------
    name : str
        Of the argument, for errors.
    value : str, Initializer or array

    Returns
    -------
    Initializer

    Raises
    ------
    TypeError, ValueError
        If `value` is none of these.
    """
    if hasattr(value, "__array__"):
        try:
            return Array(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
    return _validate.spec(name, value, INITIALIZERS)


def initial_values(
    name: str,
    initializer: Initializer,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    n_inputs: int,
    n_units: int,
    dtype: np.dtype,
) -> np.ndarray:
    """Return what an initializer draws, in a dtype; errors begin with name."""
    try:
        values = initializer.sample(rng, shape, n_inputs, n_units)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return _validate.finite(name, values, dtype)
