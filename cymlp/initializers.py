"""Initial values of kernels and biases.

Each draws from a generator that the network keys by its seed and the parameter's place, so that
a layer's initial values do not depend on how many numbers another layer has drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cymlp import _validate

__all__ = ["GlorotUniform", "HeUniform", "Initializer", "Zeros"]


@dataclass(frozen=True)
class Initializer:
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


INITIALIZERS: dict[str, type[Initializer]] = {
    kind.name: kind for kind in (GlorotUniform, HeUniform, Zeros)
}
