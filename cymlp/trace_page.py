"""A trace as one HTML page that draws it, steps through it, and computes it again when edited.

The page is made of the files of ``cymlp/page``, put into one another, and of a trace's numbers as
JSON. It fetches nothing. What the page works out for itself is not in it: products of what is.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from cymlp import _validate
from cymlp._lower import code_of, lower_loss, lower_optimizer, penalty_of
from cymlp.activations import Activation
from cymlp.layers import Dense, Residual
from cymlp.losses import CustomLoss

if TYPE_CHECKING:
    from cymlp.trace import LayerTrace, ParameterTrace, Trace

__all__ = ["in_notebook", "render"]

#: In this order: each uses what stands in those before it.
SCRIPTS = (
    "numbers.js",
    "activations.js",
    "losses.js",
    "optimizers.js",
    "network.js",
    "steps.js",
    "equations.js",
    "update_equations.js",
    "layout.js",
    "drawing.js",
    "pixels.js",
    "tables.js",
    "page.js",
)

# Of a page in a notebook, which holds it as text.
_LARGEST_IN_NOTEBOOK = 5_000_000
# Fewer inputs than 7 x 7 are hardly an image.
_SMALLEST_IMAGE = 49


def render(
    trace: Trace, *, image_shape: tuple[int, int] | None = None, title: str | None = None
) -> str:
    """Return a trace as an HTML page.

    Parameters
    ----------
    trace : Trace
    image_shape : (int, int), optional
        Height and width of inputs that are pixels. By default inputs are taken for a square image
        where their number is a square of at least 49; ``(0, 0)`` says that they are none.
    title : str, optional

    Returns
    -------
    str
    """
    files = resources.files("cymlp") / "page"
    script = "\n".join((files / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style = (files / "page.css").read_text(encoding="utf-8")
    described = describe(trace, _image_shape(image_shape, trace.inputs.shape[1]))
    described["title"] = title or "One step of a network"
    # Settings may be NumPy's scalars.
    data = json.dumps(
        described, separators=(",", ":"), allow_nan=False, default=lambda number: number.item()
    )
    parts = {
        "title": html.escape(described["title"]),
        "policy": f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'",
        "style": style,
        "data": data.replace("<", "\\u003c"),  # no name in it can end the element
        "script": script,
    }
    page = (files / "page.html").read_text(encoding="utf-8")
    # In one pass, so that nothing in a part is taken for the place of another one.
    first, *rest = page.split("{{")
    for piece in rest:
        name, _, text = piece.partition("}}")
        first += parts[name] + text
    return first


def in_notebook(trace: Trace) -> str:
    """Return a trace for a notebook: its page in a frame of its own, or text if that is too big."""
    page = render(trace)
    if len(page) > _LARGEST_IN_NOTEBOOK:
        return f"<pre>{html.escape(str(trace))}</pre>"
    # A sandbox without an origin: the page cannot reach the notebook, nor the notebook's style it.
    return (
        f'<iframe srcdoc="{html.escape(page)}" title="{html.escape(repr(trace))}" '
        'sandbox="allow-scripts" style="width: 100%; height: 720px; border: 0"></iframe>'
    )


def describe(trace: Trace, image_shape: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return what the page is told of a trace, as what JSON has."""
    reason = _why_fixed(trace)
    code, optimizer = None, {}
    if trace.optimizer is not None:
        code, _ = code_of(trace.optimizer)
        told = lower_optimizer(trace.optimizer)
        optimizer = told["step"] | {
            name: value
            for name, value in told.items()
            if name not in ("step", "schedule", "slot_values") and value is not None
        }
    loss: dict[str, Any] | None = None
    if trace.loss_function is not None:
        told = {} if isinstance(trace.loss_function, CustomLoss) else _loss(trace)
        loss = {
            "name": trace.loss_function.name,
            "isFused": trace.is_fused,
            "range": trace.loss_function.target_range,
        } | told
    return {
        "dtype": trace.inputs.dtype.name,
        "epsilon": float(np.finfo(trace.inputs.dtype).eps),
        "whyFixed": reason,
        "imageShape": image_shape,
        "inputNames": trace.input_names,
        "inputs": _packed(trace.inputs),
        "targets": _packed(trace.targets),
        "sampleWeight": _packed(trace.sample_weight),
        "layers": [_layer(layer, trace, reason is not None) for layer in trace.layers],
        "loss": loss,
        "losses": _packed(trace.losses),
        # JSON has no infinity: the page then has its own.
        "batchLoss": trace.loss if trace.loss is not None and math.isfinite(trace.loss) else None,
        "penalty": trace.penalty if math.isfinite(trace.penalty) else None,
        "inputGradient": _packed(trace.input_gradient),
        "optimizer": None if code is None else {"code": code, **optimizer},
        "optimizerName": None if trace.optimizer is None else repr(trace.optimizer),
        "learningRate": trace.learning_rate,
        "step": trace.step,
    }


def _why_fixed(trace: Trace) -> str | None:
    """Return why the page cannot compute a trace again, or None if it can."""
    for layer in trace.layers:
        if isinstance(layer.function, Activation):
            return (
                f"{layer.where} has an activation of your own, {layer.function.name}, which this "
                "page cannot compute: nothing can be edited."
            )
    if isinstance(trace.loss_function, CustomLoss):
        return "The loss is a function of your own, which this page cannot compute."
    return None


def _loss(trace: Trace) -> dict[str, Any]:
    assert trace.loss_function is not None
    told = lower_loss(trace.loss_function, trace.layers[-1].n_units)
    unit = told.get("loss_unit")
    return {
        "parameter": told.get("loss_parameter", 0.0),
        "smoothing": told.get("loss_smoothing", 0.0),
        "unit": None if unit is None else [float(number) for number in unit],
    }


def _layer(layer: LayerTrace, trace: Trace, is_fixed: bool) -> dict[str, Any]:
    """Return what the page is told of a layer; is_fixed: that it cannot compute anything."""
    spec = layer.layer
    function = layer.function
    constraint = getattr(spec, "kernel_constraint", None)
    return {
        "where": layer.where,
        "kind": spec.name,
        "source": layer.source,
        "added": layer.added,
        "names": layer.names,
        "outputNames": None if function is None else layer.output_names,
        "activation": "identity" if function is None else function.name,
        "alpha": float(getattr(function, "alpha", 0.0)),
        "epsilon": float(getattr(spec, "epsilon", 0.0)),
        "rateFactor": float(getattr(spec, "learning_rate_multiplier", 1.0)),
        "maxNorm": 0.0 if constraint is None else float(constraint.max_value),
        "parameters": {
            name: _parameter(each, trace, is_fixed)
            | {"penalty": penalty_of(getattr(spec, f"{name}_regularizer", None))}
            for name, each in layer.parameters.items()
        },
        "preActivation": _packed(layer.pre_activation) if _has_sums(layer) else None,
        "activationValues": _packed(layer.activation),
        "slope": None if function is None else _packed(layer.slope),
        "activationGradient": _packed(layer.activation_gradient),
        "delta": _packed(layer.delta),
    }


def _has_sums(layer: LayerTrace) -> bool:
    """Return whether a layer has other numbers before its activation than behind it."""
    return isinstance(layer.layer, (Dense, Residual)) and layer.function is not None


def _parameter(parameter: ParameterTrace, trace: Trace, is_fixed: bool) -> dict[str, Any]:
    given = trace.are_gradients_given or is_fixed
    return {
        "path": parameter.path,
        "value": _packed(parameter.value),
        "isTrainable": parameter.is_trainable,
        "gradient": _packed(parameter.gradient) if given else None,
        "state": {name: _packed(before) for name, (before, _) in parameter.state.items()},
    }


def _packed(array: np.ndarray | None) -> dict[str, Any] | None:
    """Return an array as its shape and its numbers, little-endian; one number if all are equal."""
    if array is None:
        return None
    shape = list(array.shape)
    if array.size and math.isfinite(array.flat[0]) and (array == array.flat[0]).all():
        return {"shape": shape, "fill": float(array.flat[0])}
    code = f"f{array.dtype.itemsize}"
    numbers = np.ascontiguousarray(array, f"<{code}").tobytes()
    return {"shape": shape, code: base64.b64encode(numbers).decode()}


def _image_shape(shape: tuple[int, int] | None, n_inputs: int) -> tuple[int, int] | None:
    if shape is None:
        side = math.isqrt(n_inputs)
        return (side, side) if side * side == n_inputs >= _SMALLEST_IMAGE else None
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise TypeError(f"image_shape must be (height, width), got {shape!r}")
    height, width = (_validate.integer("image_shape", side, low=0) for side in shape)
    if height * width == 0:
        return None
    if height * width != n_inputs:
        raise ValueError(f"image_shape must have {n_inputs} pixels, got {height} x {width}")
    return height, width


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
