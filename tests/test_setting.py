"""Settings: what `cymlp explain` reads, and an error for each thing that is wrong in it."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from cymlp.exceptions import SettingError
from cymlp.setting import WORKED_EXAMPLE, explain_setting, read_setting

EXAMPLE = json.loads(Path(__file__).with_name("data").joinpath("worked_example.json").read_text())

REQUIRED = ("layers", "weights", "sample", "target", "loss", "learning_rate")


def setting(**changes):
    """Return the worked example with some members changed, and those that are ... left out."""
    changed = {**copy.deepcopy(WORKED_EXAMPLE), **changes}
    return {name: value for name, value in changed.items() if value is not ...}


def test_the_worked_example_is_the_notes():
    network, update = EXAMPLE["network"], EXAMPLE["update"]
    for ours, name in zip(WORKED_EXAMPLE["weights"], ("W1", "b1", "W2", "b2"), strict=True):
        np.testing.assert_array_equal(np.array(ours), np.array(network[name]).T)
        average = update["average"][f"d{name}"]
        number = ("W1", "b1", "W2", "b2").index(name)
        np.testing.assert_array_equal(
            np.array(WORKED_EXAMPLE["gradients"][number]), np.array(average).T
        )
    assert WORKED_EXAMPLE["sample"] == EXAMPLE["sample"]["x"]
    assert WORKED_EXAMPLE["target"] == EXAMPLE["sample"]["target"]
    assert WORKED_EXAMPLE["learning_rate"] == update["learning_rate"]


def test_a_setting_is_explained():
    trace = explain_setting(setting(gradients=...))
    assert trace.inputs.dtype == np.float64
    np.testing.assert_allclose(
        trace.layers[0].weight_gradient, np.array(EXAMPLE["exact"]["dW1"]).T, atol=1e-9
    )
    for layer, (weight, bias) in zip(
        explain_setting(setting()).layers, (("W1", "b1"), ("W2", "b2")), strict=True
    ):
        after = EXAMPLE["update"]["after_exact"]
        kernel = layer.parameters["kernel"].updated
        np.testing.assert_allclose(kernel, np.array(after[weight]).T, atol=1e-8)
        np.testing.assert_allclose(layer.parameters["bias"].updated, after[bias], atol=1e-8)


def test_everything_that_may_be_given():
    given = setting(
        sample=[[1, 2, 3], [4, 5, 6]],
        target=[1, 0],
        layers=[{"units": 3, "activation": "tanh", "use_bias": False}, {"units": 2}],
        weights=[WORKED_EXAMPLE["weights"][i] for i in (0, 2, 3)],
        loss="hinge",
        optimizer="adam",
        dtype="float32",
        sample_weight=[1, 3],
        gradients=...,
        names={"inputs": ["a", "b", "c"]},
    )
    trace = explain_setting(given)
    assert len(trace) == 2 and trace.inputs.dtype == np.float32
    assert list(trace.layers[0].parameters) == ["kernel"]
    assert trace.optimizer.name == "adam" and trace.input_names == ("a", "b", "c")
    np.testing.assert_array_equal(trace.sample_weight, [1, 3])


@pytest.mark.parametrize("name", REQUIRED)
def test_what_is_missing_is_named(name):
    with pytest.raises(SettingError, match=f"^missing: {name}$"):
        explain_setting(setting(**{name: ...}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": []}, "unknown: layer; known are layers, weights"),
        ({"layers": []}, "layers must be a list of at least one layer, got a list of 0"),
        ({"layers": {}}, "layers must be a list of at least one layer, got an object"),
        ({"layers": [3]}, "layers[0] must be an object with units, got 3"),
        ({"layers": [{}]}, "layers[0]: missing: units"),
        ({"layers": [{"units": 3, "size": 1}]}, "layers[0]: unknown: size; known are units"),
        ({"layers": [{"units": 0}]}, "layers[0]: units must be an integer of at least 1"),
        ({"layers": [{"units": 3, "activation": "step"}]}, "layers[0]: activation must be one of"),
        ({"layers": [{"units": 3, "activation": 1}]}, "layers[0]: activation must be a name"),
        ({"layers": [{"units": 2**31 - 1}]}, "weights must have 2 arrays, got 4"),
        ({"weights": 3}, "weights must be a list of arrays"),
        ({"weights": [[1]] * 4}, "weights[0] must have shape (3, 3), got (1,)"),
        ({"weights": [[[1, 2], [3]], 0, 0, 0]}, "weights[0] must be a rectangular array"),
        ({"weights": [None] * 4}, "weights[0] must be an array, got None"),
        ({"sample": []}, "sample must be a list of numbers, or of such lists, got shape (0,)"),
        ({"sample": "abc"}, "sample must be an array, got 'abc'"),
        ({"sample": [1, 2]}, "weights[0] must have shape (2, 3), got (3, 3)"),
        ({"sample": [1e999, 0, 0]}, "sample must be finite, got inf"),
        ({"target": [1]}, "target must have shape (1, 2)"),
        ({"target": None}, "target must not have missing values"),
        ({"loss": 3}, "loss must be a name, got 3"),
        ({"loss": "regret"}, "loss must be one of squared_error"),
        ({"learning_rate": 0}, "learning_rate must be a number greater than 0"),
        ({"learning_rate": "fast"}, "learning_rate must be a number greater than 0"),
        ({"optimizer": "lbfgs"}, "optimizer must be one of adadelta"),
        ({"optimizer": []}, "optimizer must be one of adadelta"),
        ({"dtype": "int8"}, "dtype must be one of float32, float64"),
        ({"sample_weight": [1, 2]}, "sample_weight must have as many rows as sample"),
        ({"gradients": [1]}, "gradients must have 4 arrays, got 1"),
        ({"names": 3}, "names must be a dict of lists of names, got int"),
        ({"names": {"inputs": ["a"]}}, "names['inputs'] must be a list of 3 names, got 1 of them"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(SettingError) as raised:
        explain_setting(setting(**changes))
    assert str(raised.value).startswith(message)


def test_settings_are_read(tmp_path):
    path = tmp_path / "setting.json"
    path.write_text(json.dumps(WORKED_EXAMPLE), encoding="utf-8")
    assert read_setting(path) == WORKED_EXAMPLE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON: Expecting value"),
        (b"[1, 2]", "must be a JSON object, got a list of 2"),
        (b"null", "must be a JSON object, got null"),
        (b'{"sample": NaN}', "not JSON: NaN is not a number of JSON"),
        (b"\xff\xfe{}", "not UTF-8 text"),
        (b"[" * 100_000, "not JSON: "),
        (b'{"sample": ' + b"9" * 5000 + b"}", "not JSON: "),
    ],
    ids=lambda value: value[:10].hex() if isinstance(value, bytes) else "",
)
def test_files_that_are_no_settings(tmp_path, content, message):
    path = tmp_path / "setting.json"
    path.write_bytes(content)
    with pytest.raises(SettingError) as raised:
        read_setting(path)
    assert str(raised.value).startswith(f"{path}: {message}")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SettingError, match="No such file"):
        read_setting(tmp_path / "none.json")
    with pytest.raises(SettingError, match="directory"):
        read_setting(tmp_path)
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(100_000_001)
    with pytest.raises(SettingError, match="larger than 100 MB"):
        read_setting(path)
