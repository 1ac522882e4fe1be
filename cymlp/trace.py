"""The working of a network: every number of a forward pass, a backward pass and an update."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cymlp import _render, _validate, trace_page
from cymlp._notation import Latex, Notation
from cymlp._render import Section
from cymlp._working import working
from cymlp.activations import BaseActivation
from cymlp.layers import Activation, Dense, Layer
from cymlp.losses import Loss
from cymlp.optimizers import Optimizer

if TYPE_CHECKING:
    import os


__all__ = ["LayerTrace", "ParameterTrace", "Trace"]


@dataclass(frozen=True, eq=False)
class ParameterTrace:
    """An array of parameters, and what a step makes of it.

    Attributes
    ----------
    name, path : str
        Such as ``kernel`` and ``layers[0].kernel``.
    value : ndarray
        Before the step, in the shape of `Sequential.get_weights`.
    gradient_per_sample : ndarray of shape (samples, *value.shape), or None
        Derivatives of each sample's own loss, without penalties. None without targets, and of
        moving averages.
    average : ndarray or None
        Their average over the batch, weighted by the samples' weights.
    gradient : ndarray or None
        What the optimizer is given: the average and the derivatives of penalties, or the gradients
        that `explain` was called with.
    updated : ndarray or None
        After the step; None without an optimizer that takes one.
    state : dict of str to (ndarray, ndarray)
        What the optimizer keeps of it, such as ``velocity``, before and after the step.
    is_trainable : bool
        Whether a step moves it.
    """

    name: str
    path: str
    value: np.ndarray
    gradient_per_sample: np.ndarray | None
    average: np.ndarray | None
    gradient: np.ndarray | None
    updated: np.ndarray | None
    state: dict[str, tuple[np.ndarray, np.ndarray]]
    is_trainable: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the arrays as nested lists, by their names."""
        return {
            "value": self.value.tolist(),
            "is_trainable": self.is_trainable,
            "gradient_per_sample": _listed(self.gradient_per_sample),
            "average": _listed(self.average),
            "gradient": _listed(self.gradient),
            "updated": _listed(self.updated),
            "state": {
                name: {"before": before.tolist(), "after": after.tolist()}
                for name, (before, after) in self.state.items()
            },
        }


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """What a layer computes for some samples, there and back.

    Attributes
    ----------
    where : str
        Its place, such as ``layers[1]``; within a residual layer ``layers[1].layers[0]``.
    layer : Layer
        Its description.
    source : int
        The number of the layer in `Trace.layers` that it reads, -1 for the inputs.
    added : int or None
        Of a residual layer, the number of the one whose outputs are added.
    names : tuple of str
        What its units are called before the activation.
    pre_activation, activation : ndarray of shape (samples, units)
        Its weighted sums, or whatever it has before an activation, and its outputs.
    slope : ndarray of shape (samples, units), or None
        The activation's derivatives. None of softmax, which has a matrix of them.
    activation_gradient : ndarray of shape (samples, units), or None
        Derivatives of each sample's loss by the outputs. None without targets, and of the output
        layer where the loss is computed from its weighted sums.
    delta : ndarray of shape (samples, units), or None
        Derivatives of each sample's loss by `pre_activation`.
    parameters : dict of str to ParameterTrace
        By their names: kernel and bias, gamma and beta, ...
    """

    where: str
    layer: Layer
    source: int
    added: int | None
    names: tuple[str, ...]
    pre_activation: np.ndarray
    activation: np.ndarray
    slope: np.ndarray | None
    activation_gradient: np.ndarray | None
    delta: np.ndarray | None
    parameters: dict[str, ParameterTrace]

    @property
    def n_units(self) -> int:
        """Number of its outputs."""
        return self.activation.shape[1]

    @property
    def kernel_source(self) -> int:
        """The number of the layer whose outputs a kernel multiplies, -1 for the inputs.

        Of a residual layer's projection that is the one that is added.
        """
        return self.source if self.added is None else self.added

    @property
    def function(self) -> BaseActivation | None:
        """What it ends with; None for one without an activation."""
        if isinstance(self.layer, (Dense, Activation)) and self.layer.activation.name != "identity":
            return self.layer.activation
        return None

    @property
    def output_names(self) -> tuple[str, ...]:
        """What its outputs are called, such as ``relu(J1)``."""
        if self.function is None:
            return self.names
        return tuple(f"{self.function.name}({name})" for name in self.names)

    @property
    def weight_gradient(self) -> np.ndarray | None:
        """The kernel's gradient, of shape (inputs, units), averaged over the batch."""
        return self._of("kernel", "average")

    @property
    def bias_gradient(self) -> np.ndarray | None:
        """The bias's gradient, of shape (units,), averaged over the batch."""
        return self._of("bias", "average")

    @property
    def weight_gradient_per_sample(self) -> np.ndarray | None:
        """The kernel's gradients of shape (samples, inputs, units)."""
        return self._of("kernel", "gradient_per_sample")

    @property
    def bias_gradient_per_sample(self) -> np.ndarray | None:
        """The bias's gradients of shape (samples, units)."""
        return self._of("bias", "gradient_per_sample")

    def _of(self, parameter: str, what: str) -> Any:
        return getattr(self.parameters[parameter], what) if parameter in self.parameters else None

    def to_dict(self) -> dict[str, Any]:
        """Return all that there is as what JSON has."""
        return {
            "where": self.where,
            "kind": self.layer.name,
            "settings": _settings(self.layer),
            "activation_function": None if self.function is None else _described(self.function),
            "source": self.source,
            "added": self.added,
            "names": list(self.names),
            "output_names": list(self.output_names),
            "pre_activation": self.pre_activation.tolist(),
            "activation": self.activation.tolist(),
            "slope": _listed(self.slope),
            "activation_gradient": _listed(self.activation_gradient),
            "delta": _listed(self.delta),
            "parameters": {name: each.to_dict() for name, each in self.parameters.items()},
        }


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """What `explain` found; printed, it is the working, line by line.

    Attributes
    ----------
    inputs : ndarray of shape (samples, n_inputs)
        As the network sees them, an `input_scale` applied.
    targets : ndarray of shape (samples, n_outputs), or None
        Class labels as rows of zeros and a one.
    sample_weight : ndarray of shape (samples,), or None
    input_names : tuple of str
    layers : tuple of LayerTrace
        From the first to the last, those of a residual layer before itself.
    losses : ndarray of shape (samples,), float64, or None
        Each sample's own loss, without penalties; None without targets.
    loss : float or None
        Of the batch: their average and the penalties, as `Sequential.evaluate` returns it.
    penalty : float
        What of it is penalties.
    input_gradient : ndarray of shape (samples, n_inputs), or None
        Derivatives of each sample's loss by `inputs`.
    loss_function : Loss or None
    is_fused : bool
        Whether the loss is computed from the weighted sums of the output layer.
    optimizer : Optimizer or None
        What takes the step; None where none is taken.
    learning_rate : float or None
        Of the step; None of an optimizer that has none.
    step : int
        The step's number, from 1.
    are_gradients_given : bool
        Whether the step is taken with gradients that `explain` was called with.

    Examples
    --------
    >>> import cymlp
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> net = Sequential([Dense(2, activation="relu"), Dense(1)], n_inputs=1, random_state=0)
    >>> net.set_weights([[[2.0, -1.0]], [0.5, 0.0], [[3.0], [1.0]], [0.0]])
    >>> net.compile(optimizer="sgd", loss="squared_error")
    >>> trace = cymlp.explain(net, [1.0], [7.0])
    >>> trace.layers[0].pre_activation, trace.layers[0].activation
    (array([[ 2.5, -1. ]], dtype=float32), array([[2.5, 0. ]], dtype=float32))
    >>> trace.layers[0].delta, trace.layers[0].weight_gradient
    (array([[1.5, 0. ]], dtype=float32), array([[1.5, 0. ]], dtype=float32))
    """

    inputs: np.ndarray
    targets: np.ndarray | None
    sample_weight: np.ndarray | None
    input_names: tuple[str, ...]
    layers: tuple[LayerTrace, ...]
    losses: np.ndarray | None
    loss: float | None
    penalty: float
    input_gradient: np.ndarray | None
    loss_function: Loss | None
    is_fused: bool
    optimizer: Optimizer | None
    learning_rate: float | None
    step: int
    are_gradients_given: bool

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.inputs)

    def __repr__(self) -> str:
        """Return what it is a trace of."""
        samples = f"{len(self)} sample{'s' * (len(self) != 1)}"
        parts = f"{len(self.layers)} layer{'s' * (len(self.layers) != 1)}"
        loss = "" if self.loss is None else f", loss {self.loss:.6g}"
        return f"<Trace of {samples} through {parts}{loss}>"

    def __str__(self) -> str:
        """Return the working as text, as `to_text` does by default."""
        return self.to_text()

    def to_text(self, *, digits: int = 6, most: int = 8) -> str:
        """Return the working as text, a line per neuron and per derivative.

        Parameters
        ----------
        digits : int, default=6
            Significant digits of the numbers, from 1 to 17.
        most : int, default=8
            Terms of a sum, and units of a layer, that are written out: those that contribute most.
            Of the others it is said how many they are and what they sum to.

        Returns
        -------
        str

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be.

        Examples
        --------
        >>> import cymlp
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(1, activation="relu")], n_inputs=2, random_state=0)
        >>> net.set_weights([[[2.0], [-1.0]], [0.5]])
        >>> print(cymlp.explain(net, [1.0, 2.0]).to_text(digits=3))
        Network
        =======
        2 inputs, float32.
        layers[0]: dense, 1 unit, relu.
        <BLANKLINE>
        Forward
        =======
        I1 = 1
        I2 = 2
        <BLANKLINE>
        layers[0]: dense, 1 unit, relu
          J1 = I1*w(I1,J1) + I2*w(I2,J1) + b(J1) = 1*2 + 2*(-1) + 0.5 = 0.5
          relu(J1) = max(0.5, 0) = 0.5
        """
        return self._rendered(_render.as_text, Notation, digits, most)

    def to_markdown(self, *, digits: int = 6, most: int = 8) -> str:
        """Return the working as Markdown, its equations as TeX between dollar signs.

        GitHub, Jupyter and pandoc set these.

        Parameters
        ----------
        digits, most : int
            See `to_text`.

        Returns
        -------
        str

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be.
        """
        return self._rendered(_render.as_markdown, Latex, digits, most)

    def to_latex(self, *, digits: int = 6, most: int = 8) -> str:
        """Return the working as a LaTeX document, which compiles as it stands.

        Names with other letters than Latin ones need XeLaTeX or LuaLaTeX, and a font that has them.

        Parameters
        ----------
        digits, most : int
            See `to_text`.

        Returns
        -------
        str

        Raises
        ------
        TypeError, ValueError
            If an argument is not what it must be.
        """
        return self._rendered(_render.as_latex, Latex, digits, most)

    def _rendered(
        self,
        render: Callable[[Iterable[Section]], str],
        notation: type[Notation],
        digits: int,
        most: int,
    ) -> str:
        digits = _validate.integer("digits", digits, low=1, high=17)
        most = _validate.integer("most", most, low=1)
        with np.errstate(all="ignore"):  # numbers that overflow are shown like any other
            return render(working(self, notation(digits, most)))

    def to_dict(self) -> dict[str, Any]:
        """Return the trace as what JSON has: numbers, strings, lists and dictionaries.

        Returns
        -------
        dict
            The attributes by their names, arrays as nested lists, layers and their parameters as
            dictionaries; of loss, activations and optimizer the ``name`` and the ``settings``.

        Examples
        --------
        >>> import cymlp
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
        >>> net.set_weights([[[2.0]], [0.5]])
        >>> cymlp.explain(net, [1.0]).to_dict()["layers"][0]["activation"]
        [[2.5]]
        """
        return {
            "format": "cymlp trace 1",
            "dtype": self.inputs.dtype.name,
            "inputs": self.inputs.tolist(),
            "targets": _listed(self.targets),
            "sample_weight": _listed(self.sample_weight),
            "input_names": list(self.input_names),
            "layers": [layer.to_dict() for layer in self.layers],
            "losses": _listed(self.losses),
            "loss": self.loss,
            "penalty": self.penalty,
            "input_gradient": _listed(self.input_gradient),
            "loss_function": None if self.loss_function is None else _described(self.loss_function),
            "is_fused": self.is_fused,
            "optimizer": None if self.optimizer is None else _described(self.optimizer),
            "learning_rate": self.learning_rate,
            "step": self.step,
            "are_gradients_given": self.are_gradients_given,
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the trace as JSON, as `to_dict` has it.

        Numbers that are not finite are NaN and Infinity in it, as `json` writes and reads them.

        Parameters
        ----------
        path : str or path-like, optional
            A file to write it to as well.

        Returns
        -------
        str
        """
        text = json.dumps(self.to_dict(), default=_number)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def to_html(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        image_shape: tuple[int, int] | None = None,
    ) -> str:
        """Return the trace as a page that draws the network and goes through the computation.

        One file that fetches nothing. In it samples, targets, parameters and the learning rate can
        be edited, and everything is computed again, in double precision.

        Parameters
        ----------
        path : str or path-like, optional
            A file to write it to as well.
        image_shape : (int, int), optional
            Height and width of inputs that are pixels, which are then drawn as an image. By default
            inputs are taken for a square image where their number is a square of at least 49;
            ``(0, 0)`` says that they are none.

        Returns
        -------
        str

        Raises
        ------
        TypeError, ValueError
            If `image_shape` is not a height and a width whose product is the number of inputs.

        Examples
        --------
        >>> import cymlp
        >>> from cymlp import Sequential
        >>> from cymlp.layers import Dense
        >>> net = Sequential([Dense(1)], n_inputs=1, random_state=0)
        >>> page = cymlp.explain(net, [1.0]).to_html()
        >>> page.splitlines()[0]
        '<!doctype html>'
        """
        page = trace_page.render(self, image_shape=image_shape)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def _repr_html_(self) -> str:
        """Return the page in a frame, as notebooks show it."""
        return trace_page.in_notebook(self)


# What JSON has


def _listed(array: np.ndarray | None) -> list[Any] | None:
    return None if array is None else array.tolist()


def _number(value: Any) -> Any:
    """Return a scalar of NumPy, which a setting may be, as one that JSON has."""
    return value.item()


def _described(spec: Any) -> dict[str, Any]:
    return {"name": spec.name, "settings": _settings(spec)}


def _settings(spec: Any) -> dict[str, Any]:
    """Return what a description is made with; what JSON does not have as its repr."""
    plain = (bool, int, float, str, type(None), np.number)
    return {
        f.name: value if isinstance(value, plain) else repr(value)
        for f in fields(spec)
        for value in [getattr(spec, f.name)]
    }
