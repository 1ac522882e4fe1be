"""Layers: what a network is built from. Each is a frozen description without arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from cymlp import _validate
from cymlp.activations import ACTIVATIONS, Activation, BaseActivation, Identity
from cymlp.initializers import INITIALIZERS, GlorotUniform, Initializer, Zeros
from cymlp.regularizers import L2

__all__ = ["Dense", "Layer"]


@dataclass(frozen=True)
class Layer:
    """Base of all layers.

    Attributes
    ----------
    name : str
        Name of the kind of layer.
    """

    name: ClassVar[str]


@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer: activation(x @ kernel + bias).

    The kernel has the shape (inputs, units), the bias (units,).

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    activation : str or BaseActivation, default="identity"
        A name or an instance of what `cymlp.activations` has; `cymlp.activations.Activation` makes
        one of your own functions.
    kernel_initializer : str or Initializer, default="glorot_uniform"
        One of glorot_uniform, he_uniform, zeros, or an instance.
    bias_initializer : str or Initializer, default="zeros"
        As for the kernel.
    kernel_regularizer : L2, optional
        A penalty on the kernel's weights; none by default.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    Examples
    --------
    >>> from cymlp.layers import Dense
    >>> Dense(128, activation="relu").activation
    ReLU()
    """

    name: ClassVar[str] = "dense"
    units: int
    activation: BaseActivation = Identity()
    kernel_initializer: Initializer = GlorotUniform()
    bias_initializer: Initializer = Zeros()
    kernel_regularizer: L2 | None = None

    if TYPE_CHECKING:
        # What the constructor takes is wider than what the layer then holds.
        def __init__(
            self,
            units: int,
            activation: str | BaseActivation = "identity",
            kernel_initializer: str | Initializer = "glorot_uniform",
            bias_initializer: str | Initializer = "zeros",
            kernel_regularizer: L2 | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Validate the arguments and turn names into instances."""
        values: dict[str, Any] = {
            "units": _validate.integer("units", self.units, low=1, high=2**31 - 1),
            "activation": _validate.spec("activation", self.activation, ACTIVATIONS, Activation),
        }
        for name in ("kernel_initializer", "bias_initializer"):
            values[name] = _validate.spec(name, getattr(self, name), INITIALIZERS)
        if not isinstance(self.kernel_regularizer, (L2, type(None))):
            raise TypeError(
                f"kernel_regularizer must be None or an L2(...), got {self.kernel_regularizer!r}"
            )
        for name, value in values.items():
            object.__setattr__(self, name, value)
