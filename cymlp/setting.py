"""Settings: a network with its weights, a sample and a target, as JSON that `cymlp explain` reads.

A setting is an object with these members, of which the first six must be there:

=================  ==============================================================================
``layers``         a list of objects: ``units``, and if they are not linear ``activation``, by its
                   name; ``use_bias`` false where there is none
``weights``        a list of arrays as `Sequential.get_weights` returns them: of each layer the
                   kernel, a row per input, and the bias
``sample``         a list of numbers, or a list of samples
``target``         its targets, as the loss takes them; of several samples a list of theirs
``loss``           a name out of `cymlp.losses`
``learning_rate``  a number greater than 0
``optimizer``      a name out of `cymlp.optimizers`; by default sgd
``dtype``          float64, the default, or float32
``sample_weight``  a list of numbers, one for each sample
``gradients``      what to take the step with instead, like ``weights``
``names``          names of inputs and neurons, as `cymlp.explain` takes them
=================  ==============================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from cymlp import _validate
from cymlp._lower import plan_layers
from cymlp.exceptions import SettingError
from cymlp.layers import Dense, Layer
from cymlp.model import Sequential
from cymlp.optimizers import LBFGS, OPTIMIZERS
from cymlp.trace import Trace

if TYPE_CHECKING:
    import os

__all__ = ["WORKED_EXAMPLE", "explain_setting", "read_setting"]

#: The example that the library was asked for with: worked by hand, its last step with the average
#: gradient of a batch of which this sample is one.
WORKED_EXAMPLE: dict[str, Any] = {
    "layers": [{"units": 3, "activation": "relu"}, {"units": 2, "activation": "sigmoid"}],
    "weights": [
        [[0.1, -0.3, 0.5], [0.2, 0.4, 0.6], [-0.1, -0.2, -0.3]],
        [-0.1, -0.2, 0.1],
        [[0.1, -0.3], [-0.1, 0.2], [-0.2, 0.3]],
        [-0.1, 0.2],
    ],
    "sample": [1.0, 2.0, 3.0],
    "target": [1.0, 0.0],
    "loss": "squared_error",
    "learning_rate": 0.01,
    "gradients": [
        [[-0.028701, 0.0, 0.106903], [-0.057403, 0.0, 0.106945], [-0.086104, 0.0, 0.213849]],
        [-0.028701, 0.0, 0.071283],
        [[-0.006961, 0.007247], [0.0, 0.0], [-0.118169, 0.123196]],
        [-0.13901, 0.144936],
    ],
}

_REQUIRED = ("layers", "weights", "sample", "target", "loss", "learning_rate")
_OPTIONAL = ("optimizer", "dtype", "sample_weight", "gradients", "names")
_OF_A_LAYER = ("units", "activation", "use_bias")
# A page, a JSON and a text are made of a setting, all of them in memory.
_MOST_BYTES = 100_000_000


def read_setting(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a setting from a file.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict
        What the file has; `explain_setting` checks it.

    Raises
    ------
    SettingError
        If the file cannot be read, is larger than 100 MB, or is not a JSON object.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SettingError(f"{path}: larger than {_MOST_BYTES // 1_000_000} MB")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: not UTF-8 text ({error.reason})") from None
    try:
        setting = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{path}: not JSON: {error}") from None
    if not isinstance(setting, dict):
        raise SettingError(f"{path}: must be a JSON object, got {_kind(setting)}")
    return setting


def explain_setting(setting: Mapping[str, Any]) -> Trace:
    """Return the trace of a setting.

    Parameters
    ----------
    setting : dict
        As the module describes it.

    Returns
    -------
    Trace

    Raises
    ------
    SettingError
        If something is missing, misshapen or not known; the error names the member.

    Examples
    --------
    >>> from cymlp.setting import WORKED_EXAMPLE, explain_setting
    >>> explain_setting(WORKED_EXAMPLE)
    <Trace of 1 sample through 2 layers, loss 0.345787>
    """
    missing = [name for name in _REQUIRED if name not in setting]
    if missing:
        raise SettingError(f"missing: {', '.join(missing)}")
    unknown = [name for name in setting if name not in (*_REQUIRED, *_OPTIONAL)]
    if unknown:
        raise SettingError(
            f"unknown: {', '.join(unknown)}; known are {', '.join((*_REQUIRED, *_OPTIONAL))}"
        )
    layers = _layers(setting["layers"])
    samples = _checked("", lambda: _rows("sample", setting["sample"]))
    dtype = _checked("", lambda: _validate.dtype("dtype", setting.get("dtype", "float64")))
    # Before there is a network: units that no weights are there for would take memory for nothing.
    shapes = [parameter.shape for parameter in plan_layers(layers, samples.shape[1]).parameters]
    weights = _checked(
        "", lambda: _validate.parameter_list("weights", setting["weights"], shapes, dtype)
    )
    net = Sequential(layers, n_inputs=samples.shape[1], dtype=dtype, random_state=0)
    net.set_weights(weights)
    name = setting.get("optimizer", "sgd")
    if not isinstance(name, str) or name not in OPTIMIZERS or OPTIMIZERS[name] is LBFGS:
        known = ", ".join(sorted(known for known in OPTIMIZERS if known != LBFGS.name))
        raise SettingError(f"optimizer must be one of {known}, got {name!r}")
    kind: Any = OPTIMIZERS[name]
    optimizer = _checked("", lambda: kind(learning_rate=setting["learning_rate"]))
    if not isinstance(setting["loss"], str):
        raise SettingError(f"loss must be a name, got {_kind(setting['loss'])}")
    _checked("", lambda: net.compile(optimizer=optimizer, loss=setting["loss"]))
    target = setting["target"]
    several = np.ndim(setting["sample"]) == 2
    trace: Trace = _checked(
        "",
        lambda: net.explain(
            samples,
            target if several else [target],
            setting.get("sample_weight"),
            gradients=setting.get("gradients"),
            names=setting.get("names"),
        ),
        {"X": "sample", "y": "target"},
    )
    return trace


def _layers(value: Any) -> list[Layer]:
    if not isinstance(value, list) or not value:
        raise SettingError(f"layers must be a list of at least one layer, got {_kind(value)}")
    layers: list[Layer] = []
    for number, each in enumerate(value):
        where = f"layers[{number}]"
        if not isinstance(each, dict):
            raise SettingError(f"{where} must be an object with units, got {_kind(each)}")
        if "units" not in each:
            raise SettingError(f"{where}: missing: units")
        unknown = [name for name in each if name not in _OF_A_LAYER]
        if unknown:
            raise SettingError(
                f"{where}: unknown: {', '.join(unknown)}; known are {', '.join(_OF_A_LAYER)}"
            )
        if not isinstance(each.get("activation", ""), str):
            raise SettingError(f"{where}: activation must be a name, got {each['activation']!r}")
        layers.append(_checked(where, partial(Dense, **each)))
    return layers


def _rows(name: str, value: Any) -> np.ndarray:
    """Return one sample or several as rows."""
    array = _validate.numeric(name, value)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(
            f"{name} must be a list of numbers, or of such lists, got shape {array.shape}"
        )
    return array if array.ndim == 2 else array[None, :]


def _checked(
    where: str, function: Callable[[], Any], words: Mapping[str, str] | None = None
) -> Any:
    """Return what a function does; its errors are those of the setting, in its words."""
    try:
        return function()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        message = str(error)
        for ours, theirs in (words or {}).items():
            message = re.sub(rf"\b{ours}\b", theirs, message)
        raise SettingError(f"{where}: {message}" if where else message) from None


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    return f"a list of {len(value)}" if isinstance(value, list) else json.dumps(value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")
