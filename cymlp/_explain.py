"""How a trace of a network is taken: `explain`."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cymlp import _inference, _validate
from cymlp._anatomy import Anatomy, scaled_inputs
from cymlp._lower import code_of
from cymlp._network import MOST_ROWS_BACK
from cymlp.data import Samples
from cymlp.inspection import inputs_alone
from cymlp.layers import Activation, Dense, Dropout, Residual
from cymlp.optimizers import LBFGS, Optimizer
from cymlp.trace import LayerTrace, ParameterTrace, Trace

if TYPE_CHECKING:
    from cymlp.model import Sequential

__all__ = ["explain"]

# Of the gradients of single samples, which are all in memory at once.
_MOST_NUMBERS = 50_000_000
# Weighted sums by layer, after I for the inputs; L is the loss.
_LETTERS = "JKMNPQRSTUVWXYZ"


def explain(
    net: Any,
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
    net : Sequential, MLPClassifier or MLPRegressor
        A built network, with y also compiled, or a fitted estimator.
    X : array-like of shape (samples, n_inputs) or (n_inputs,)
        A small batch, or one sample.
    y : array-like of shape (samples,) or (samples, n_outputs), optional
        Targets, as the loss takes them; where X is one sample, its own. Without them there is the
        forward pass alone.
    sample_weight : array-like of shape (samples,), optional
        Weights in the average over the batch.
    gradients : list of array-like, optional
        In the order and of the shapes of `Sequential.get_weights`: what to take the step with
        instead of the gradients of this batch. Not with `LBFGS`, which takes no single steps.
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
        `compile`, or if there are more than 4096 samples, or so many that the gradients of each
        would not fit in memory.
    RuntimeError
        If the network is being trained: by another thread, or by the call that a callback is in
        the middle of.

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
    if not hasattr(net, "_require"):
        if hasattr(net, "explain"):
            return net.explain(X, y, sample_weight, gradients=gradients, names=names)
        raise TypeError(f"net must be a Sequential or an estimator, got {type(net).__name__}")
    net._require("explain", compiled=y is not None)
    for name, value in (("sample_weight", sample_weight), ("gradients", gradients)):
        if y is None and value is not None:
            raise ValueError(f"{name} needs y: without targets there is the forward pass alone")
    if gradients is not None:
        net._require_steps("explain with gradients")
    X, y = _as_batch(X, y)
    has_loss = y is not None
    given = net._prepare(X, y, sample_weight) if has_loss else inputs_alone(net, X)
    if len(given) > MOST_ROWS_BACK:
        raise ValueError(
            f"X must be a small batch, of at most {MOST_ROWS_BACK} samples, got {len(given)}"
        )
    if len(given) * net.n_parameters > _MOST_NUMBERS:
        raise ValueError(
            f"X must be a small batch, got {len(given)} samples: the gradients of each one by "
            f"{net.n_parameters:,} parameters are more than {_MOST_NUMBERS:,} numbers"
        )
    anatomy = Anatomy(net)
    input_names, unit_names = _names_of(anatomy, net, names)
    inputs = scaled_inputs(given.x, net)
    samples = replace(given, x=inputs)
    steps = _Steps(net, anatomy, given, samples, gradients, has_loss=has_loss)
    outputs = anatomy.outputs(samples)
    losses, deltas, loss, penalty = None, None, None, 0.0
    if has_loss:
        losses, deltas = anatomy.deltas(samples)
        scored = (given.x, given.labels, given.values, given.weight)
        loss, _, penalty = _inference.evaluate(net._network, *scored)
    return Trace(
        inputs=inputs,
        targets=_target_rows(samples, net) if has_loss else None,
        sample_weight=samples.weight,
        input_names=input_names,
        layers=tuple(
            _layer_trace(anatomy, number, inputs, outputs, deltas, unit_names, steps)
            for number in range(len(anatomy.parts))
        ),
        losses=losses,
        loss=loss,
        penalty=penalty,
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
    given, samples : Samples
        As the network takes them, and as the anatomy does.
    gradients : list of array-like, optional
        See `explain`.
    has_loss : bool
        Whether there are targets: gradients, and a step.
    """

    def __init__(
        self,
        net: Sequential,
        anatomy: Anatomy,
        given: Samples,
        samples: Samples,
        gradients: Sequence[Any] | None,
        *,
        has_loss: bool,
    ) -> None:
        assert net._plan is not None
        self.optimizer: Optimizer | None = None
        self.parameters: list[ParameterTrace] = []
        values = net.get_weights()
        count = len(values)
        singles: list[Any] = [None] * count
        averages: list[Any] = [None] * count
        after = None
        if has_loss:
            alone = replace(samples, weight=None)
            each = [anatomy.gradients(alone.rows(i, i + 1)) for i in range(len(samples))]
            singles = [None if one[0] is None else np.stack(one) for one in zip(*each, strict=True)]
            averages = anatomy.gradients(samples)
            if gradients is None:
                gradients = net._gradients(given, False, 0)
            else:
                gradients = _validate.parameter_list(
                    "gradients", gradients, [value.shape for value in values], net.dtype
                )
            if not isinstance(net.optimizer, LBFGS):
                self.optimizer = net.optimizer
                after = copy.copy(net)
                after._step(gradients)
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
    slope: np.ndarray | None = np.ones_like(before)
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
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"names must be a dict of lists of names, got {type(given).__name__}")
    given = dict(given or {})
    if "outputs" in given:
        where = _named_part(anatomy)
        if where in given:
            raise ValueError(
                f"names must not have both 'outputs' and {where!r}, which are the same"
            )
        if where is not None:
            given[where] = given.pop("outputs")
    used = {str(name) for names in given.values() if _is_list(names) for name in names}

    def take(key: str, letter: str, count: int) -> tuple[str, ...]:
        names = given.pop(key, None)
        if names is None:
            return tuple(f"{letter}{i}" for i in range(1, count + 1))
        if not _is_list(names) or len(names := list(names)) != count:
            found = f"{len(names)} of them" if isinstance(names, list) else repr(names)
            raise ValueError(f"names[{key!r}] must be a list of {count} names, got {found}")
        return tuple(map(_printable, names))

    # Letters that the user's own names begin with are left to these.
    letters = iter([c for c in _LETTERS if not any(re.fullmatch(rf"{c}\d+", n) for n in used)])
    inputs = take("inputs", "I", net.n_inputs)
    names: list[tuple[str, ...]] = []
    called: list[tuple[str, ...]] = []  # as who reads them calls them
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
        if function is None or function.name == "identity":
            called.append(names[-1])
        else:
            called.append(tuple(f"{function.name}({name})" for name in names[-1]))
    if given:
        known = ["inputs", "outputs", *(p.where for p in anatomy.parts
                                        if isinstance(p.layer, (Dense, Residual)))]  # fmt: skip
        raise ValueError(f"names must have keys among {known}, got {[*given]}")
    return inputs, names


def _named_part(anatomy: Anatomy) -> str | None:
    """Return the place of the layer whose units the outputs are; None if they are the inputs."""
    number = len(anatomy.parts) - 1
    while number >= 0 and not isinstance(anatomy.parts[number].layer, (Dense, Residual)):
        number, _ = anatomy.sources(anatomy.parts[number])
    return anatomy.parts[number].where if number >= 0 else None


def _is_list(names: Any) -> bool:
    return isinstance(names, Iterable) and not isinstance(names, (str, bytes))


def _printable(name: Any) -> str:
    """Return a name on one line, whatever does not print as its code."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in " ".join(str(name).split())
    )
