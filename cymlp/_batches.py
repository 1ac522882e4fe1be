"""Batches that come one at a time: the next one is prepared while the present one trains."""

from __future__ import annotations

import array
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from cymlp import _validate
from cymlp.data import Samples

__all__ = ["BatchStream", "Noted", "are_batches"]

# Seconds between two looks at pending signals: not everywhere does one end a wait for a lock.
_LOOK_EVERY = 0.03
# What a batch may consist of, for an error when it changes.
_KINDS = {"b": "booleans", "i": "integers", "u": "integers", "f": "real numbers"}


def are_batches(X: Any) -> bool:
    """Return whether X yields batches: it can be iterated over and is nothing like an array."""
    return (
        hasattr(X, "__iter__")
        and not hasattr(X, "__array__")
        and not _validate.is_sparse(X)
        and not isinstance(X, (Sequence, Mapping, Set, array.array, memoryview))
    )


class BatchStream:
    """Validated batches of some epochs; a thread of its own fetches and checks one ahead.

    The arrays that it hands on are its own: the iterator may fill its arrays again for the next
    batch. No more batches are fetched than the epochs have, and nothing is before the first one is
    asked for.

    Parameters
    ----------
    batches : iterable
        Of ``(X, y)`` or ``(X, y, sample_weight)``.
    prepare : callable
        ``prepare(X, y, sample_weight, within=...)`` gives `Samples`, or raises what is wrong.
    n_epochs : int
    steps_per_epoch : int or None
        Batches of an epoch. None: an epoch is one pass over `batches`, so they must be something
        that can be passed over again, or there must be one epoch. With a number, the epochs follow
        each other, and what can be passed over again is, wherever it ends.

    Raises
    ------
    ValueError
        If more than one pass is wanted over what gives only one.

    Examples
    --------
    >>> import numpy as np
    >>> from cymlp._batches import BatchStream
    >>> from cymlp.data import Samples
    >>> def prepare(X, y, sample_weight, within):
    ...     return Samples(np.array(X), None, np.array(y), None)
    >>> batches = (([[float(i)]], [[0.0]]) for i in range(4))
    >>> with BatchStream(batches, prepare, n_epochs=2, steps_per_epoch=2) as stream:
    ...     for _ in range(2):
    ...         print([samples.x.item() for samples in stream.epoch()])
    [0.0, 1.0]
    [2.0, 3.0]
    """

    def __init__(
        self,
        batches: Iterable[Any],
        prepare: Callable[..., Samples],
        n_epochs: int,
        steps_per_epoch: int | None,
    ) -> None:
        self._batches = batches
        self._prepare = prepare
        self._n_epochs = n_epochs
        self._steps = steps_per_epoch
        self._passes_once = hasattr(batches, "__next__")
        if self._passes_once and steps_per_epoch is None and n_epochs > 1:
            raise ValueError(
                f"steps_per_epoch must be given for {n_epochs} epochs of an X that can be passed "
                f"over only once, a {type(batches).__name__}"
            )
        self._fetched = 0
        self._form: tuple[int, str | None, bool] | None = None
        # Holds what the thread hands over: a batch, None at the end of an epoch, or an exception.
        self._slot: list[Samples | BaseException | None] = []
        self._turn = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> BatchStream:
        """Return the stream."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Have the thread end, after the batch that it is fetching, if it is; do not wait for it.

        It may be inside an iterator that never returns.
        """
        with self._turn:
            self._closed = True
            self._turn.notify_all()

    def epoch(self) -> Iterator[Samples]:
        """Yield the batches of the next epoch.

        Raises
        ------
        TypeError, ValueError
            If a batch is not what it must be, or missing; the error tells its number, from 0.
        BaseException
            What the iterator raised, with a note that tells the number.
        """
        if self._thread is None:
            # A daemon: a process must be able to end while an iterator blocks.
            self._thread = threading.Thread(target=self._run, name="cymlp batches", daemon=True)
            self._thread.start()
        while (item := self._take()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _take(self) -> Samples | BaseException | None:
        with self._turn:
            while not self._slot:
                self._turn.wait(_LOOK_EVERY)
            item = self._slot.pop()
            self._turn.notify_all()
            return item

    # What runs in the thread

    def _run(self) -> None:
        try:
            for item in self._items():
                if not self._hand_over(item):
                    return
        except BaseException as error:
            self._hand_over(error)

    def _hand_over(self, item: Samples | BaseException | None) -> bool:
        """Wait until an item has been taken; return whether more are wanted."""
        with self._turn:
            self._slot.append(item)
            self._turn.notify_all()
            while self._slot and not self._closed:
                self._turn.wait()
            return not self._closed

    def _items(self) -> Iterator[Samples | None]:
        """Yield the batches of all epochs, and None at the end of each."""
        iterator: Iterator[Any] | None = None
        for epoch in range(self._n_epochs):
            if self._steps is None:
                iterator, before = None, self._fetched
                while (samples := self._next(iterator := iterator or self._pass())) is not None:
                    yield samples
                if self._fetched == before:
                    self._missing(f"epoch {epoch}, counted from 0, has none")
            for _ in range(self._steps or 0):
                samples = self._next(iterator) if iterator else None
                if samples is None and not (iterator and self._passes_once):
                    samples = self._next(iterator := self._pass())
                if samples is None:
                    self._missing(f"steps_per_epoch * epochs are {self._steps} * {self._n_epochs}")
                yield samples
            yield None

    def _missing(self, why: str) -> NoReturn:
        raise ValueError(f"X ended before batch {self._fetched}: {why}")

    def _noted(self) -> Noted:
        return Noted(f"This came from X, in the place of batch {self._fetched}, counted from 0.")

    def _pass(self) -> Iterator[Any]:
        with self._noted():
            return iter(self._batches)

    def _next(self, iterator: Iterator[Any]) -> Samples | None:
        """Return the next batch, checked, or None at the end."""
        number = self._fetched
        with self._noted():
            try:
                batch = next(iterator)
            except StopIteration:
                return None
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            shown = type(batch).__name__
            if isinstance(batch, (tuple, list)):
                shown += f" of {len(batch)}"
            raise TypeError(
                f"batch {number} of X must be (X, y) or (X, y, sample_weight), got {shown}"
            )
        X, y, weight = batch if len(batch) == 3 else (*batch, None)
        samples = self._prepare(X, y, weight, within=f"batch {number}: ")
        self._check(samples, X, number)
        self._fetched += 1
        return replace(
            samples,
            x=_owned(samples.x, X),
            values=_owned(samples.values, y),
            weight=_owned(samples.weight, weight),
        )

    def _check(self, samples: Samples, X: Any, number: int) -> None:
        """Refuse a batch that is of another form than the first."""
        kind = _KINDS.get(getattr(getattr(X, "dtype", None), "kind", ""))
        has_labels = samples.labels is not None
        if self._form is None:
            self._form = samples.n_inputs, kind, has_labels
        n_inputs, first_kind, first_has_labels = self._form
        if samples.n_inputs != n_inputs:
            raise ValueError(
                f"batch {number}: X must have {n_inputs} columns, as batch 0 has, got "
                f"{samples.n_inputs}"
            )
        if kind and first_kind and kind != first_kind:
            raise TypeError(
                f"batch {number}: X must hold {first_kind}, as batch 0 does, got {kind}, {X.dtype}"
            )
        if has_labels != first_has_labels:
            forms = ("a row per sample", "class labels")
            raise ValueError(
                f"batch {number}: y must hold {forms[first_has_labels]}, as in batch 0, got "
                f"{forms[has_labels]}"
            )


class Noted:
    """What is raised within gets a note."""

    def __init__(self, note: str) -> None:
        self._note = note

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:  # as `add_note` does it, which Python 3.10 lacks
            notes = [*getattr(error, "__notes__", ()), self._note]
            error.__notes__ = notes


def _owned(values: Any, given: Any) -> Any:
    """Return an array that nobody else writes to."""
    if not isinstance(values, np.ndarray) or (values.flags.owndata and values is not given):
        return values
    return np.array(values, order="C")
