"""The base of all descriptions (layers, losses, optimizers, ...): frozen, equal by their fields.

Its subclasses are dataclasses without the decorator. `dataclass(frozen=True)` writes and compiles
six methods for each class, which for a hundred classes was most of the time that `import cymlp`
took. Here five of them are shared, and the sixth, ``__init__``, is that of the base where a class
adds no field.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_):
        """Stand in for what Python 3.10 lacks and only type checkers read."""
        return lambda cls: cls


_with_init = dataclass(eq=False, repr=False)


def _values(description: Frozen) -> tuple[Any, ...]:
    return tuple(getattr(description, item.name) for item in fields(description))


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Frozen:
    """A dataclass whose fields are set once, by ``__init__`` and ``__post_init__``.

    Examples
    --------
    >>> from cymlp._frozen import Frozen
    >>> class Point(Frozen):
    ...     x: float
    ...     y: float = 0.0
    >>> Point(1.0), Point(1.0) == Point(1.0, 0.0)
    (Point(x=1.0, y=0.0), True)
    >>> Point(1.0).x = 2.0
    Traceback (most recent call last):
        ...
    dataclasses.FrozenInstanceError: cannot assign to field 'x'
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make a dataclass of the subclass, if it has fields that its base has not."""
        super().__init_subclass__(**kwargs)
        kinds = map(str, cls.__annotations__.values())
        if not all(kind.startswith(("ClassVar", "typing.ClassVar")) for kind in kinds):
            _with_init(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field for the first time; refuse anything else."""
        if name in self.__dict__ or name not in self.__dataclass_fields__:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        """Refuse."""
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        """Tell whether other is of the same class, with equal fields."""
        if not isinstance(other, Frozen) or other.__class__ is not self.__class__:
            return NotImplemented
        return _values(self) == _values(other)

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash((self.__class__, *_values(self)))

    def __repr__(self) -> str:
        """Return the call that makes an equal one."""
        shown = (f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"


# Not by a decorator: type checkers would take it for a dataclass that is not frozen.
_with_init(Frozen)
