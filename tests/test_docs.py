"""The page on building blocks names all there are, and its example runs."""

import inspect
import re

import pytest
from conftest import SOURCE_TREE

from cymlp import (
    activations,
    callbacks,
    constraints,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)

pytestmark = pytest.mark.skipif(SOURCE_TREE is None, reason="these tests stand in no source tree")

#: Bases, which nobody uses as they are.
BASES = {"BaseActivation", "Constraint", "Initializer", "Layer", "Loss", "Metric", "Optimizer"} | {
    "Regularizer",
    "Schedule",
    "StochasticOptimizer",
}


def page():
    return (SOURCE_TREE / "docs" / "building-blocks.md").read_text(encoding="utf-8")


def section(module):
    """Return the part of the page on a module, from its title on."""
    parts = re.split(r"^## ", page(), flags=re.M)
    (found,) = [part for part in parts if f"`{module.__name__}`" in part.splitlines()[0]]
    return found


@pytest.mark.parametrize(
    "module",
    [
        activations,
        callbacks,
        constraints,
        initializers,
        layers,
        losses,
        metrics,
        optimizers,
        regularizers,
        schedules,
    ],
    ids=lambda module: module.__name__,
)
def test_every_class_has_its_place(module):
    classes = {name for name in module.__all__ if inspect.isclass(getattr(module, name))}
    named = set(re.findall(r"`(\w+)`", section(module)))
    assert classes - BASES <= named, "classes that the page does not name"


@pytest.mark.parametrize(
    ("module", "registry"),
    [
        (activations, "ACTIVATIONS"),
        (initializers, "INITIALIZERS"),
        (losses, "LOSSES"),
        (metrics, "METRICS"),
        (optimizers, "OPTIMIZERS"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_name_has_its_place(module, registry):
    names = set(getattr(module, registry)) - {"constant", "array"}  # which need an argument
    assert names <= set(re.findall(r"`(\w+)`", section(module)))


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", page(), flags=re.S)
    namespace = {}
    exec(compile(example, "building-blocks.md", "exec"), namespace)
    namespace["net"].build(4)
    assert namespace["net"].compiled
