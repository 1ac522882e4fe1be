"""Many small networks trained side by side: ensembles, folds, searches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from cymlp import _validate
from cymlp._batches import Noted, are_batches
from cymlp._fit import Fit, Plan, checked_callbacks, checked_epochs, checked_validation_freq
from cymlp._program import look_with
from cymlp._threads import get_num_threads
from cymlp.callbacks import Callback
from cymlp.data import Samples, parted
from cymlp.history import History
from cymlp.model import Sequential
from cymlp.progress import resolve_verbose

__all__ = ["fit_many"]

# Seconds between two looks at what the threads have done, and at pending signals: not everywhere
# does one end a wait for a thread.
_LOOK_EVERY = 0.03


def fit_many(
    nets: Iterable[Sequential],
    X: Any,
    y: Any,
    *,
    subsets: Iterable[Any] | None = None,
    epochs: int = 1,
    batch_size: int = 32,
    validation_data: Any = None,
    validation_split: float = 0.0,
    validation_freq: int | Collection[int] = 1,
    shuffle: bool = True,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | str | None = None,
    initial_epoch: int = 0,
    callbacks: Callable[[int], Iterable[Callback] | None] | None = None,
    verbose: int | str = "auto",
    n_threads: int | None = None,
) -> list[History]:
    """Train many networks on the same samples, or on subsets of them, side by side.

    Each is, bit for bit, what its own ``net.fit(X, y, ...)`` would make of it, and is trained by
    one thread. That is the way to keep all cores busy with networks too small to share one among
    them: members of an ensemble, folds of a cross-validation, candidates of a search. A few
    networks that are wide, or trained on large batches (from about a million operations a step),
    share their own work well: there, one `Sequential.fit` after the other takes less memory and
    leaves no core idle while the last one ends.

    Parameters
    ----------
    nets : sequence of Sequential
        Distinct and compiled. Those that are not built are, before anything is trained.
    X : array-like of shape (samples, n_inputs)
        As for `Sequential.fit`, but for batches. Checked and converted once for all networks of the
        same loss, dtype, input scale and widths.
    y : array-like of shape (samples,) or (samples, n_outputs)
        Targets, as all the losses take them.
    subsets : sequence of array-like of int, optional
        For each network the rows that it is trained on, from 0, in this order and as often as they
        are named; None for all. Weights, `validation_split` and ``class_weight="balanced"`` are of
        the subset. While a network is trained there is a copy of its rows.
    epochs, batch_size, validation_data, validation_split, validation_freq, shuffle
        As for `Sequential.fit`.
    sample_weight, class_weight, initial_epoch
        As for `Sequential.fit`.
    callbacks : callable(i), optional
        Returns the callbacks of ``nets[i]``, None for none. They keep what they know of one fit, so
        no two networks may have the same one. They are called by the thread that trains their
        network, while others train others.
    verbose : {0, 1, "auto"}, default="auto"
        0 is silent, 1 shows one progress bar that counts networks; "auto" is 1 in a terminal.
    n_threads : int, optional
        At most so many networks at a time, from 1 to 1024. By default what `get_num_threads` says.
        With 1, they are trained by the calling thread.

    Returns
    -------
    list of History
        In the order of `nets`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it must be, or a network not compiled. Nothing is trained then.
    KeyboardInterrupt
        On Ctrl-C, as soon as in `Sequential.fit`.
    BaseException
        The first one that a callback, a loss or metric in Python or the training raised, with a
        note that tells the network's number. In all cases every network is then as its last
        finished batch left it; those that had not begun are built and no more.
    RuntimeError
        If another call trains one of the networks.

    Warns
    -----
    DivergenceWarning
        As `Sequential.fit` does, with the network's number.

    Examples
    --------
    An ensemble, each member of which is trained on a bootstrap sample:

    >>> import numpy as np
    >>> from cymlp import Sequential, fit_many
    >>> from cymlp.layers import Dense
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = (X[:, 0] > X[:, 1]).astype(int)
    >>> nets = [Sequential([Dense(8, "tanh"), Dense(2, "softmax")], random_state=i)
    ...         for i in range(5)]
    >>> for net in nets:
    ...     net.compile("adam", "cross_entropy")
    >>> subsets = [rng.integers(0, len(X), len(X)) for _ in nets]
    >>> histories = fit_many(nets, X, y, subsets=subsets, epochs=50, verbose=0)
    >>> len(histories), len(histories[0].epoch)
    (5, 50)
    >>> mean = np.mean([net.predict(X) for net in nets], axis=0)
    >>> bool((mean.argmax(axis=1) == y).mean() > 0.95)
    True
    """
    nets = _checked_nets(nets)
    if are_batches(X):
        raise TypeError(f"X must be an array, not yield batches, got {type(X).__name__}")
    epochs, initial_epoch = checked_epochs(epochs, initial_epoch)
    plan = Plan(
        epochs,
        initial_epoch,
        _validate.integer("batch_size", batch_size, low=1),
        _validate.boolean("shuffle", shuffle),
        checked_validation_freq(validation_freq),
        n_threads=1,
    )
    validation_split = _validate.real("validation_split", validation_split, low=0, high=1)
    n_threads = _validate.thread_count("n_threads", n_threads) or get_num_threads()
    level, bar = resolve_verbose(verbose)
    if level == 2:
        raise ValueError(f'verbose must be 0, 1 or "auto", got {verbose!r}')
    data = _Data(X, y, sample_weight, validation_data, validation_split, class_weight)
    rows_of = [None] * len(nets) if subsets is None else _listed("subsets", subsets, len(nets))
    callbacks_of = _checked_callbacks(callbacks, len(nets))
    jobs = [
        data.job(number, net, rows_of[number], plan, callbacks_of[number])
        for number, net in enumerate(nets)
    ]
    for job in jobs:
        with _noted(job.number):
            job.fit.model.build(job.n_inputs)
    show = bar(total=len(jobs), unit=" nets", dynamic_ncols=True) if level else None
    try:
        return _train(jobs, min(n_threads, len(jobs)), show)
    finally:
        if show is not None:
            show.close()


# Checks


def _noted(number: int) -> Noted:
    return Noted(f"This came from nets[{number}].")


def _listed(name: str, values: Any, n_nets: int) -> list[Any]:
    if not isinstance(values, Iterable):
        raise TypeError(f"{name} must have an entry for each network, got {values!r}")
    values = list(values)
    if len(values) != n_nets:
        raise ValueError(
            f"{name} must have an entry for each of the {n_nets} networks, got {len(values)}"
        )
    return values


def _checked_nets(nets: Any) -> list[Sequential]:
    if isinstance(nets, Sequential) or not isinstance(nets, Iterable):
        raise TypeError(f"nets must be a list of Sequentials, got {nets!r}")
    nets = list(nets)
    numbers: dict[int, int] = {}
    for number, net in enumerate(nets):
        if not isinstance(net, Sequential):
            raise TypeError(f"nets[{number}] must be a Sequential, got {net!r}")
        first = numbers.setdefault(id(net), number)
        if first != number:
            raise ValueError(
                f"nets must be distinct, got the same one as nets[{first}] and nets[{number}]"
            )
        if not net.compiled:
            raise ValueError(
                f"nets[{number}] needs a loss and an optimizer: call compile(...) first"
            )
    return nets


def _checked_callbacks(callbacks: Any, n_nets: int) -> list[list[Callback]]:
    """Return the callbacks of each network."""
    if not callable(callbacks):
        if callbacks is not None and (not isinstance(callbacks, Sequence) or callbacks):
            raise TypeError(
                "callbacks must be a function that returns the callbacks of nets[i], which keep "
                f"what they know of one fit, for i, got {callbacks!r}"
            )
        return [[] for _ in range(n_nets)]
    found = []
    owners: dict[int, int] = {}
    for number in range(n_nets):
        with _noted(number):
            found.append(checked_callbacks(callbacks(number), verbose=0))
        for callback in found[number]:
            owner = owners.setdefault(id(callback), number)
            if owner != number:
                raise ValueError(
                    f"callbacks({number}) must be of that network alone, got one of "
                    f"callbacks({owner}): {callback!r}"
                )
    return found


def _checked_rows(name: str, rows: Any, n_samples: int) -> np.ndarray:
    """Return the rows of a subset as a private array."""
    array = _validate.numeric(name, rows)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be 1-D and not empty, got shape {array.shape}")
    if array.dtype.kind not in "iu":
        hint = ": numpy.flatnonzero(mask) has those of a mask" if array.dtype.kind == "b" else ""
        raise TypeError(f"{name} must hold row numbers, integers, got {array.dtype}{hint}")
    low, high = array.min(), array.max()
    if low < 0 or high >= n_samples:
        raise ValueError(
            f"{name} must hold row numbers from 0 to {n_samples - 1}, got "
            f"{low if low < 0 else high}"
        )
    return np.array(array, np.intp)


# Samples


class _Job(NamedTuple):
    """A fit to come; `whole` has the inputs that a subset's rows are of."""

    number: int
    fit: Fit
    n_inputs: int
    whole: Samples | None
    splits: bool

    @property
    def cost(self) -> int:
        """How long it takes, roughly, beside others."""
        assert self.fit.samples is not None
        return self.fit.model.n_parameters * len(self.fit.samples)

    def run(self) -> History:
        fit = self.fit
        picked = fit.samples, fit.validation
        with _noted(self.number):
            try:
                if self.whole is not None:
                    fit.samples = self._with_inputs(fit.samples)
                    if self.splits:
                        fit.validation = self._with_inputs(fit.validation)
                return fit.run()
            finally:
                fit.samples, fit.validation = picked

    def _with_inputs(self, picked: Samples | None) -> Samples:
        assert picked is not None and self.whole is not None
        assert isinstance(picked.x, np.ndarray)
        x = self.whole.inputs_at(picked.x[:, 0])
        if isinstance(x, np.ndarray) and x.dtype != np.uint8:  # a mapped file's may be of any dtype
            x = x.astype(self.fit.model.dtype, copy=False)
        return replace(picked, x=x)


class _Data:
    """The samples of all fits, prepared once for networks that want the same of them."""

    def __init__(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation_data: Any,
        validation_split: float,
        class_weight: Any,
    ) -> None:
        self._given = X, y, sample_weight
        self._validation_data = validation_data
        self._parts = validation_split, class_weight
        self._prepared: dict[Hashable, tuple[Samples, Samples | None]] = {}
        self._parted: dict[Hashable, tuple[Samples, Samples | None]] = {}

    def job(
        self, number: int, net: Sequential, rows: Any, plan: Plan, callbacks: list[Callback]
    ) -> _Job:
        with _noted(number):
            loss: Any = net.loss
            try:
                hash(loss)
            except TypeError:  # a function of the user's may be an object without one
                loss = id(loss)
            wants = net.n_inputs, net.n_outputs, net.dtype, net.input_scale, loss
            if wants not in self._prepared:
                prepared = net._prepare(*self._given)
                self._prepared[wants] = (
                    prepared,
                    net._prepare_validation(self._validation_data, prepared.n_inputs),
                )
            whole, validation = self._prepared[wants]
            n_inputs, splits = whole.n_inputs, False
            if rows is None:
                if wants not in self._parted:
                    self._parted[wants] = parted(whole, validation, *self._parts, net.n_outputs)
                samples, validation = self._parted[wants]
            else:
                rows = _checked_rows(f"subsets[{number}]", rows, len(whole))
                splits = validation is None
                samples, validation = parted(
                    whole.picked(rows), validation, *self._parts, net.n_outputs
                )
                splits = splits and validation is not None
            plan = plan._replace(batch_size=min(plan.batch_size, len(samples)))
            fit = Fit(net, samples, validation, plan, callbacks)
            fit.within = f"nets[{number}]: "
            return _Job(number, fit, n_inputs, None if rows is None else whole, splits)


# Training


class _Stopped(BaseException):
    """Another thread's fit, or the calling thread, has raised."""


def _train(jobs: list[_Job], n_threads: int, show: Any) -> list[History]:
    """Run the fits, so many at a time."""
    histories: list[History] = [History()] * len(jobs)
    done: list[int] = []

    def update() -> None:
        if show is not None:
            show.update(len(done) - show.n)

    if n_threads <= 1:
        for job in jobs:
            histories[job.number] = job.run()
            done.append(job.number)
            update()
        return histories
    # The longest first: what comes last is short, and no thread waits long for it.
    queue = deque(sorted(jobs, key=lambda job: -job.cost))
    stopping = False
    errors: list[BaseException] = []

    def look() -> None:
        if stopping:
            raise _Stopped

    # Whoever is in work, to be waited for: `Thread.join`, once a signal has raised in it, takes the
    # thread for dead (bpo-45274). Entered before `stopping` is read, and read after that is set.
    in_work: list[threading.Event] = []

    def work() -> None:
        nonlocal stopping
        ended = threading.Event()
        in_work.append(ended)
        look_with(look)
        try:
            while not stopping:
                try:
                    job = queue.popleft()
                except IndexError:
                    return
                histories[job.number] = job.run()
                done.append(job.number)
        except _Stopped:
            pass
        except BaseException as error:
            errors.append(error)
            stopping = True
        finally:
            look_with(None)
            ended.set()

    # Daemons, as a process must be able to end while a callback blocks. With the caller's context,
    # in which NumPy keeps its error state.
    threads = [
        threading.Thread(target=copy_context().run, args=(work,), name="cymlp fits", daemon=True)
        for _ in range(n_threads)
    ]
    try:
        for thread in threads:
            thread.start()
        while len(done) < len(jobs) and not stopping:
            for ended in tuple(in_work):
                ended.wait(_LOOK_EVERY)
                update()
    finally:
        stopping = True
        for ended in in_work:
            while not ended.wait(_LOOK_EVERY):
                pass
    update()
    if errors:
        raise errors[0]
    return histories
