"""Layers: what a network is built from. Each is a frozen description without arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from cymlp import _validate, activations
from cymlp._frozen import Frozen
from cymlp.activations import Identity
from cymlp.constraints import Constraint
from cymlp.initializers import GlorotUniform, Initializer, Zeros, initializer
from cymlp.regularizers import Regularizer

if TYPE_CHECKING:
    from cymlp.initializers import Initial

__all__ = [
    "Activation",
    "BatchNormalization",
    "Dense",
    "Dropout",
    "Layer",
    "LayerNormalization",
    "Residual",
]


class Layer(Frozen):
    """Base of all layers.

    Attributes
    ----------
    name : str
        Name of the kind of layer.
    """

    name: ClassVar[str]

    def _set(self, **values: Any) -> None:
        """Replace arguments by what they stand for, while the layer is being made."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _spec_or_none(name: str, value: Any, kind: type, example: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} must be None or {example}, got {value!r}")


class Dense(Layer):
    """A fully connected layer: activation(x @ kernel + bias).

    The kernel has the shape (inputs, units), the bias (units,).

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    activation : str or BaseActivation, default="identity"
        A name out of `cymlp.activations.ACTIVATIONS`, or an instance.
    use_bias : bool, default=True
        Whether there is a bias.
    kernel_initializer : str, Initializer or ndarray, default="glorot_uniform"
        A name out of `cymlp.initializers.INITIALIZERS`, an instance, or the values.
    bias_initializer : str, Initializer or ndarray, default="zeros"
        As for the kernel.
    kernel_regularizer, bias_regularizer : Regularizer, optional
        Penalties on the parameters, out of `cymlp.regularizers`; none by default.
    kernel_constraint : MaxNorm, optional
        What the kernel is brought back to after each step; nothing by default.
    trainable : bool, default=True
        Whether training moves the parameters.
    learning_rate_multiplier : float, default=1.0
        Times the optimizer's learning rate it is this layer's. Greater than 0.

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
    activation: activations.BaseActivation = Identity()
    use_bias: bool = True
    kernel_initializer: Initializer = GlorotUniform()
    bias_initializer: Initializer = Zeros()
    kernel_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None
    kernel_constraint: Constraint | None = None
    trainable: bool = True
    learning_rate_multiplier: float = 1.0

    if TYPE_CHECKING:
        # What the constructor takes is wider than what the layer then holds.
        def __init__(
            self,
            units: int,
            activation: str | activations.BaseActivation = "identity",
            use_bias: bool = True,
            kernel_initializer: Initial = "glorot_uniform",
            bias_initializer: Initial = "zeros",
            kernel_regularizer: Regularizer | None = None,
            bias_regularizer: Regularizer | None = None,
            kernel_constraint: Constraint | None = None,
            trainable: bool = True,
            learning_rate_multiplier: float = 1.0,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Validate the arguments and turn names into instances."""
        values: dict[str, Any] = {
            "units": _validate.integer("units", self.units, low=1, high=2**31 - 1),
            "activation": activations.resolve("activation", self.activation),
            "use_bias": _validate.boolean("use_bias", self.use_bias),
            "trainable": _validate.boolean("trainable", self.trainable),
            "learning_rate_multiplier": _validate.real(
                "learning_rate_multiplier", self.learning_rate_multiplier, low=0, closed="neither"
            ),
        }
        for name in ("kernel_initializer", "bias_initializer"):
            values[name] = initializer(name, getattr(self, name))
        for name in ("kernel_regularizer", "bias_regularizer"):
            _spec_or_none(name, getattr(self, name), Regularizer, "a regularizer such as L2(1e-4)")
        _spec_or_none(
            "kernel_constraint", self.kernel_constraint, Constraint, "a constraint, MaxNorm(...)"
        )
        self._set(**values)


class Activation(Layer):
    """An activation function as a layer of its own: f(x).

    Behind a dense layer without an activation it costs no more than an activation there.

    Parameters
    ----------
    activation : str or BaseActivation
        A name out of `cymlp.activations.ACTIVATIONS`, or an instance.

    Raises
    ------
    TypeError, ValueError
        If `activation` is not what it must be.

    Examples
    --------
    >>> from cymlp.layers import Activation
    >>> Activation("tanh")
    Activation(activation=Tanh())
    """

    name: ClassVar[str] = "activation"
    activation: activations.BaseActivation

    if TYPE_CHECKING:

        def __init__(self, activation: str | activations.BaseActivation) -> None: ...

    def __post_init__(self) -> None:
        """Validate the argument and turn a name into an instance."""
        self._set(activation=activations.resolve("activation", self.activation))


class Dropout(Layer):
    """Random zeros while training: y = x m / (1 - rate), where m is 0 with probability `rate`.

    In prediction and evaluation it does nothing. Which inputs are dropped follows from the
    network's seed, the layer, the step and the place of a sample in its batch: not from the number
    of threads, and training that goes on later drops what uninterrupted training would have.

    Parameters
    ----------
    rate : float
        Within [0, 1), taken to the nearest of 65536ths.

    Raises
    ------
    TypeError, ValueError
        If `rate` is not such a number.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
    2014; with the factor moved from prediction to training.

    Examples
    --------
    >>> from cymlp.layers import Dropout
    >>> Dropout(0.5)
    Dropout(rate=0.5)
    """

    name: ClassVar[str] = "dropout"
    rate: float

    def __post_init__(self) -> None:
        """Validate the argument."""
        self._set(rate=_validate.real("rate", self.rate, low=0, high=1))


class BatchNormalization(Layer):
    """Inputs brought to mean 0 and variance 1 over the batch: gamma (x - m) / sqrt(v + eps) + beta.

    m and v are the mean and variance of each input, while training those over the batch. In
    prediction and evaluation they are moving averages, in which each step's unbiased variance
    counts; behind a dense layer without an activation they are then folded into its weights.

    Parameters
    ----------
    momentum : float, default=0.99
        Within [0, 1): moving = momentum * moving + (1 - momentum) * batch, at each step.
    epsilon : float, default=1e-3
        Greater than 0.
    center, scale : bool, default=True
        Whether beta and gamma are trained; otherwise they are 0 and 1.
    trainable : bool, default=True
        If not, training uses the moving averages and changes nothing here.
    learning_rate_multiplier : float, default=1.0
        Times the optimizer's learning rate it is this layer's. Greater than 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", 2015, algorithms 1 and 2.

    Examples
    --------
    >>> from cymlp.layers import BatchNormalization
    >>> BatchNormalization(momentum=0.9).epsilon
    0.001
    """

    name: ClassVar[str] = "batch_normalization"
    momentum: float = 0.99
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    trainable: bool = True
    learning_rate_multiplier: float = 1.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _validate.real("momentum", self.momentum, low=0, high=1)
        _check_norm(self)


class LayerNormalization(Layer):
    """Each sample's inputs brought to mean 0 and variance 1: gamma (x - m) / sqrt(v + eps) + beta.

    m and v are the mean and variance over a sample's inputs, while training and later.

    Parameters
    ----------
    epsilon : float, default=1e-3
        Greater than 0.
    center, scale : bool, default=True
        Whether beta and gamma are trained; otherwise they are 0 and 1.
    trainable : bool, default=True
        Whether training moves the parameters.
    learning_rate_multiplier : float, default=1.0
        Times the optimizer's learning rate it is this layer's. Greater than 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> from cymlp.layers import LayerNormalization
    >>> LayerNormalization().center
    True
    """

    name: ClassVar[str] = "layer_normalization"
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    trainable: bool = True
    learning_rate_multiplier: float = 1.0

    def __post_init__(self) -> None:
        """Validate the arguments."""
        _check_norm(self)


def _check_norm(layer: BatchNormalization | LayerNormalization) -> None:
    _validate.real("epsilon", layer.epsilon, low=0, closed="neither")
    _validate.real(
        "learning_rate_multiplier", layer.learning_rate_multiplier, low=0, closed="neither"
    )
    for name in ("center", "scale", "trainable"):
        _validate.boolean(name, getattr(layer, name))


class Residual(Layer):
    """The inputs plus what some layers make of them: x + f(x).

    Where f has another width than x, x goes through a dense layer without bias and activation
    first, the projection.

    Parameters
    ----------
    layers : sequence of Layer
        f, from its first layer to its last. At least one.
    kernel_initializer : str, Initializer or ndarray, default="glorot_uniform"
        Of the projection, as in `Dense`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be.

    References
    ----------
    K. He et al., "Deep residual learning for image recognition", 2016, equations 1 and 2.

    Examples
    --------
    >>> from cymlp.layers import Dense, LayerNormalization, Residual
    >>> block = Residual([LayerNormalization(), Dense(64, activation="relu"), Dense(64)])
    >>> len(block.layers)
    3
    """

    name: ClassVar[str] = "residual"
    layers: tuple[Layer, ...]
    kernel_initializer: Initializer = GlorotUniform()

    if TYPE_CHECKING:

        def __init__(
            self, layers: Iterable[Layer], kernel_initializer: Initial = "glorot_uniform"
        ) -> None: ...

    def __post_init__(self) -> None:
        """Validate the arguments."""
        self._set(
            layers=stack_of("layers", self.layers),
            kernel_initializer=initializer("kernel_initializer", self.kernel_initializer),
        )


def stack_of(name: str, layers: Any) -> tuple[Layer, ...]:
    """Return a sequence of at least one layer as a tuple.

    Parameters
    ----------
    name : str
        Of the argument, for errors.
    layers : iterable of Layer

    Returns
    -------
    tuple of Layer

    Raises
    ------
    TypeError, ValueError
        If it is not such a sequence; the error names the position.
    """
    if isinstance(layers, Layer) or not isinstance(layers, Iterable):
        raise TypeError(f"{name} must be a sequence of layers, got {layers!r}")
    stack = tuple(layers)
    if not stack:
        raise ValueError(f"{name} must have at least one layer, got none")
    for index, layer in enumerate(stack):
        if not isinstance(layer, Layer):
            raise TypeError(f"{name}[{index}] must be a layer such as Dense(10), got {layer!r}")
    return stack


def width_of(layers: Iterable[Layer], n_inputs: int | None) -> int | None:
    """Return the number of outputs of a stack of layers; None if it is not known.

    Parameters
    ----------
    layers : iterable of Layer
    n_inputs : int or None
        None: not known.

    Returns
    -------
    int or None
    """
    width = n_inputs
    for layer in layers:
        if isinstance(layer, Dense):
            width = layer.units
        elif isinstance(layer, Residual):
            width = width_of(layer.layers, width)
    return width
