"""Descriptions are frozen dataclasses: equal by their fields, copied, pickled, never changed."""

import copy
import dataclasses
import inspect
import pickle

import pytest

from cymlp import activations, layers, losses, metrics, optimizers
from cymlp._frozen import Frozen


class Base(Frozen):
    """No field."""


class Plain(Base):
    """No field either: it shares the ``__init__`` of its base."""

    kind = "plain"


class Scaled(Base):
    """One field, which it checks."""

    scale: float
    doubled: float = dataclasses.field(default=0.0, kw_only=True)

    def __post_init__(self):
        if self.scale < 0:
            raise ValueError("scale must not be negative")
        object.__setattr__(self, "doubled", 2 * self.scale)


class Shifted(Scaled):
    """One field more."""

    shift: float = 0.0


def test_fields_come_from_the_whole_line_of_classes():
    assert [f.name for f in dataclasses.fields(Shifted)] == ["scale", "doubled", "shift"]
    assert dataclasses.fields(Plain) == ()
    assert list(inspect.signature(Shifted).parameters) == ["scale", "shift", "doubled"]
    assert (Shifted.__match_args__, Plain.__match_args__) == (("scale", "shift"), ())
    assert (Shifted(1.5, 2.0).doubled, Shifted(1.5, 2.0).shift) == (3.0, 2.0)


def test_equality_and_hash_go_by_class_and_fields():
    assert Plain() == Plain() != Base()
    assert Scaled(1.0) == Scaled(1.0) != Scaled(2.0)
    assert Scaled(1.0) != Shifted(1.0)
    assert Scaled(1.0) != 1.0
    assert len({Scaled(1.0), Scaled(1.0), Shifted(1.0), Plain(), Base(), Plain()}) == 4


def test_repr_is_the_call():
    assert repr(Shifted(1.0)) == "Shifted(scale=1.0, doubled=2.0, shift=0.0)"
    assert repr(Plain()) == "Plain()"


@pytest.mark.parametrize("made", [Scaled(1.0), Plain(), activations.ReLU(), losses.Huber(2.0)])
@pytest.mark.parametrize("name", ["scale", "delta", "kind", "anything"])
def test_nothing_can_be_set_or_deleted(made, name):
    before = dict(vars(made))
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to field '{name}'"):
        setattr(made, name, 3)
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot delete field '{name}'"):
        delattr(made, name)
    assert vars(made) == before


def test_a_check_that_fails_leaves_nothing():
    with pytest.raises(ValueError, match="negative"):
        Scaled(-1.0)
    with pytest.raises(TypeError, match="positional argument"):
        Plain(1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
        Scaled(1.0, size=2)


@pytest.mark.parametrize(
    "made",
    [
        layers.Dense(3, activation="relu"),
        losses.Quantile((0.1, 0.9)),
        metrics.Accuracy(name="hits"),
        optimizers.Adam(0.01, ema_decay=0.9),
        Shifted(1.0, 2.0),
    ],
)
def test_copies_are_equal(made):
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other == made
        assert hash(other) == hash(made)
    assert dataclasses.replace(made) == made


def test_replace_checks_again():
    with pytest.raises(ValueError, match="learning_rate"):
        dataclasses.replace(optimizers.Adam(), learning_rate=-1.0)
    assert dataclasses.replace(optimizers.Adam(), learning_rate=0.5).learning_rate == 0.5
