"""The working of a network: every number of a forward pass, a backward pass and an update."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cymlp import _validate, trace_page
from cymlp._anatomy import Anatomy
from cymlp._lower import code_of
from cymlp.activations import BaseActivation
from cymlp.data import Samples
from cymlp.layers import Activation, Dense, Dropout, Layer, Residual
from cymlp.losses import Loss
from cymlp.optimizers import LBFGS, Optimizer

if TYPE_CHECKING:
    import os

    from cymlp.model import Sequential

__all__ = ["LayerTrace", "ParameterTrace", "Trace", "explain"]

# Of the gradients of single samples, which are all in memory at once.
_MOST_NUMBERS = 50_000_000
# Weighted sums by layer, after I for the inputs; L is the loss.
_LETTERS = "JKMNPQRSTUVWXYZ"


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

        Parameters
        ----------
        path : str or path-like, optional
            A file to write it to as well.

        Returns
        -------
        str
        """
        text = json.dumps(self.to_dict())
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


def explain(
    net: Sequential,
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    gradients: Sequence[Any] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
) -> Trace:
    """Return every number of a forward pass, a backward pass and an update.

    All of them are the compiled core's. Nothing of the network changes. Layers do what they do in
    prediction: nothing is dropped, and batch normalization goes by its moving averages, so that
    each sample can be followed on its own.

    Parameters
    ----------
    net : Sequential
        Built; with y also compiled.
    X : array-like of shape (samples, n_inputs) or (n_inputs,)
        A small batch, or one sample.
    y : array-like of shape (samples,) or (samples, n_outputs), optional
        Targets, as the loss takes them; where X is one sample, its own. Without them there is the
        forward pass alone.
    sample_weight : array-like of shape (samples,), optional
        Weights in the average over the batch.
    gradients : list of array-like, optional
        In the order and of the shapes of `Sequential.get_weights`: what to take the step with
        instead of the gradients of this batch.
    names : dict of str to sequence of str, optional
        What to call the inputs and neurons: under ``"inputs"``, ``"outputs"`` or a layer's place,
        such as ``"layers[0]"``. By default inputs are I1, I2, ..., units J1, ..., K1, ..., by
        layer.

    Returns
    -------
    Trace

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be, before the network is built, with y also before
        `compile`, or if there are so many samples that the gradients of each would not fit in
        memory.
    RuntimeError
        If another thread trains the network.

    Examples
    --------
    >>> import cymlp
    >>> from cymlp import Sequential
    >>> from cymlp.layers import Dense
    >>> from cymlp.optimizers import SGD
    >>> net = Sequential([Dense(1)], n_inputs=2, random_state=0)
    >>> net.set_weights([[[2.0], [-1.0]], [0.5]])
    >>> net.compile(optimizer=SGD(learning_rate=0.1), loss="squared_error")
    >>> trace = cymlp.explain(net, [[1.0, 2.0]], [[2.5]])
    >>> trace.loss, trace.layers[0].weight_gradient.ravel()
    (2.0, array([-2., -4.], dtype=float32))
    >>> trace.layers[0].parameters["kernel"].updated.ravel()
    array([ 2.2, -0.6], dtype=float32)
    """
    from cymlp.model import Sequential

    if not isinstance(net, Sequential):
        raise TypeError(
            f"net must be a Sequential, got {type(net).__name__}; estimators have explain(...)"
        )
    net._require("explain", compiled=y is not None)
    for name, value in (("sample_weight", sample_weight), ("gradients", gradients)):
        if y is None and value is not None:
            raise ValueError(f"{name} needs y: without targets there is the forward pass alone")
    X, y = _as_batch(X, y)
    if y is None:
        x = _validate.inputs("X", X, net.dtype, net.n_inputs, net.input_scale)
        samples = Samples(x, None, None, None)
    else:
        samples = net._prepare(X, y, sample_weight)
    if len(samples) * net.n_parameters > _MOST_NUMBERS:
        raise ValueError(
            f"X must be a small batch, got {len(samples)} samples: the gradients of each one by "
            f"{net.n_parameters:,} parameters are more than {_MOST_NUMBERS:,} numbers"
        )
    anatomy = Anatomy(net)
    input_names, unit_names = _names_of(anatomy, net, names)
    samples = replace(samples, x=_scaled(samples.x, net))
    steps = _Steps(net, anatomy, samples, (X, y, sample_weight), gradients)
    outputs = anatomy.outputs(samples)
    losses, deltas = (None, None) if y is None else anatomy.deltas(samples)
    has_loss = y is not None
    return Trace(
        inputs=samples.x,
        targets=_target_rows(samples, net) if has_loss else None,
        sample_weight=samples.weight,
        input_names=input_names,
        layers=tuple(
            _layer_trace(anatomy, number, samples.x, outputs, deltas, unit_names, steps)
            for number in range(len(anatomy.parts))
        ),
        losses=losses,
        loss=net.evaluate(X, y, sample_weight)["loss"] if has_loss else None,
        penalty=net._validation_penalty if has_loss else 0.0,
        input_gradient=anatomy.input_gradients(samples) if has_loss else None,
        loss_function=net.loss if has_loss else None,
        is_fused=has_loss and anatomy.fused,
        optimizer=steps.optimizer,
        learning_rate=net.learning_rate if hasattr(steps.optimizer, "learning_rate") else None,
        step=net._network.iteration + 1,
        are_gradients_given=gradients is not None,
    )


# Samples


def _as_batch(X: Any, y: Any) -> tuple[Any, Any]:
    """Return one sample and its target as a batch of one; what is a batch as it is."""
    if _validate.is_sparse(X) or np.ndim(X) != 1:
        return X, y
    return [X] if isinstance(X, (list, tuple)) else np.asarray(X)[None, :], (
        None if y is None else [y] if np.ndim(y) < 2 else y
    )


def _scaled(x: np.ndarray | _validate.SparseRows, net: Sequential) -> np.ndarray:
    """Return samples as numbers of the network's dtype, its input scale applied."""
    if isinstance(x, _validate.SparseRows):  # which are scaled
        dense = np.zeros(x.shape, net.dtype)
        dense[np.repeat(np.arange(len(x)), np.diff(x.row_starts)), x.columns] = x.values
        return dense
    numbers = np.array(x, net.dtype)
    return numbers if net.input_scale == 1 else numbers * net.dtype.type(net.input_scale)


def _target_rows(samples: Samples, net: Sequential) -> np.ndarray:
    if samples.labels is not None:
        return np.eye(net.n_outputs, dtype=net.dtype)[samples.labels]
    assert samples.values is not None
    return samples.values


# Parameters


class _Steps:
    """The parameters of a network before and after a step, with all their gradients.

    Parameters
    ----------
    net : Sequential
    anatomy : Anatomy
    samples : Samples
    data : tuple
        X, y and sample_weight, as the network takes them.
    gradients : list of array-like, optional
        See `explain`.
    """

    def __init__(
        self,
        net: Sequential,
        anatomy: Anatomy,
        samples: Samples,
        data: tuple[Any, Any, Any],
        gradients: Sequence[Any] | None,
    ) -> None:
        assert net._plan is not None
        self.optimizer: Optimizer | None = None
        self.parameters: list[ParameterTrace] = []
        values = net.get_weights()
        count = len(values)
        singles: list[Any] = [None] * count
        averages: list[Any] = [None] * count
        after = None
        if data[1] is not None:
            each = [anatomy.gradients(samples.rows(i, i + 1)) for i in range(len(samples))]
            singles = [None if one[0] is None else np.stack(one) for one in zip(*each, strict=True)]
            averages = anatomy.gradients(samples)
            if gradients is None:
                gradients = net.gradients(*data)
            else:
                gradients = _validate.parameter_list(
                    "gradients", gradients, [value.shape for value in values], net.dtype
                )
            if not isinstance(net.optimizer, LBFGS):
                self.optimizer = net.optimizer
                after = copy.copy(net)
                after.apply_gradients(gradients)
        slots = () if self.optimizer is None else code_of(self.optimizer)[1]
        for i, parameter in enumerate(net._plan.parameters):
            moves = net._plan.is_trainable(parameter)
            updated, state = None, {}
            if after is not None:
                updated = after._network.get(parameter.op, parameter.name)
                state = {
                    slot: tuple(
                        each._network.get(parameter.op, f"{parameter.name}_slot{number}")
                        for each in (net, after)
                    )
                    for number, slot in enumerate(slots if moves else ())
                }
            trace = ParameterTrace(
                name=parameter.name,
                path=parameter.path,
                value=values[i],
                gradient_per_sample=singles[i],
                average=averages[i],
                gradient=gradients[i] if gradients is not None and parameter.is_trained else None,
                updated=updated,
                state=state,
                is_trainable=moves,
            )
            self.parameters.append(trace)

    def of(self, where: str) -> dict[str, ParameterTrace]:
        """Return the parameters of a layer, by their names."""
        return {p.name: p for p in self.parameters if p.path == f"{where}.{p.name}"}


# Layers


def _layer_trace(
    anatomy: Anatomy,
    number: int,
    inputs: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    deltas: Mapping[str, np.ndarray] | None,
    unit_names: Sequence[tuple[str, ...]],
    steps: _Steps,
) -> LayerTrace:
    part = anatomy.parts[number]
    source, added = anatomy.sources(part)
    before = outputs[part.sums or part.outputs]
    delta = None if deltas is None else deltas[part.sums or part.outputs]
    if isinstance(part.layer, Activation):
        before = inputs if source < 0 else outputs[anatomy.parts[source].outputs]
    slope = np.ones_like(before)
    if isinstance(part.layer, (Dense, Activation)):
        slope = anatomy.slopes(part.layer.activation, before)
    return LayerTrace(
        where=part.where,
        layer=part.layer,
        source=source,
        added=added,
        names=unit_names[number],
        pre_activation=before,
        activation=outputs[part.outputs],
        slope=slope,
        activation_gradient=None if deltas is None else deltas.get(part.readers),
        delta=delta,
        parameters=steps.of(part.where),
    )


# Names


def _names_of(
    anatomy: Anatomy, net: Sequential, given: Mapping[str, Sequence[str]] | None
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return what the inputs are called, and of each part what it has before an activation."""
    assert net.n_inputs is not None
    given = dict(given or {})
    if "outputs" in given:
        last = anatomy.parts[-1]
        given.setdefault(last.where, given.pop("outputs"))

    def take(key: str, letter: str, count: int) -> tuple[str, ...]:
        names = given.pop(key, None)
        if names is None:
            return tuple(f"{letter}{i}" for i in range(1, count + 1))
        if isinstance(names, str) or len(names) != count:
            raise ValueError(
                f"names[{key!r}] must be {count} strings, got {names!r}"
                + ("" if isinstance(names, str) else f" ({len(names)})")
            )
        return tuple(map(str, names))

    inputs = take("inputs", "I", net.n_inputs)
    names: list[tuple[str, ...]] = []
    called: list[tuple[str, ...]] = []  # as who reads them calls them
    letters = iter(_LETTERS)
    for part in anatomy.parts:
        source, _ = anatomy.sources(part)
        below = inputs if source < 0 else called[source]
        if isinstance(part.layer, (Dense, Residual)):
            count = anatomy.width(part)
            names.append(take(part.where, next(letters, f"H{len(names)}_"), count))
        elif isinstance(part.layer, (Activation, Dropout)):
            names.append(below)
        else:
            names.append(tuple(f"norm({name})" for name in below))
        function = getattr(part.layer, "activation", None)
        linear = function is None or function.name == "identity"
        called.append(names[-1] if linear else tuple(f"{function.name}({n})" for n in names[-1]))
    if given:
        known = ["inputs", "outputs", *(p.where for p in anatomy.parts
                                        if isinstance(p.layer, (Dense, Residual)))]  # fmt: skip
        raise ValueError(f"names must have keys among {known}, got {sorted(given)}")
    return inputs, names


# What JSON has


def _listed(array: np.ndarray | None) -> list[Any] | None:
    return None if array is None else array.tolist()


def _described(spec: Any) -> dict[str, Any]:
    return {"name": spec.name, "settings": _settings(spec)}


def _settings(spec: Any) -> dict[str, Any]:
    """Return what a description is made with; what JSON does not have as its repr."""
    plain = (bool, int, float, str, type(None))
    return {
        f.name: value if isinstance(value, plain) else repr(value)
        for f in fields(spec)
        for value in [getattr(spec, f.name)]
    }
