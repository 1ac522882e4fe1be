"""What a running fit shows: a bar per epoch, a line per epoch, or nothing."""

from __future__ import annotations

import operator
import sys
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["EpochProgress", "resolve_verbose"]

# A plain {bar}: with a width in it, tqdm's notebook widget would not find its place.
_BAR_FORMAT = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}, {rate_fmt}{postfix}"
_MIN_INTERVAL = 0.05


class EpochProgress:
    """Progress of a fit, told epoch by epoch.

    Parameters
    ----------
    n_epochs : int
        How many epochs the fit will take.
    n_samples : int or None
        How many samples an epoch has; None where that is seen at its end.
    verbose : {0, 1, 2, "auto"}, default="auto"
        0 shows nothing. 1 shows a tqdm bar per epoch on stderr, a widget in a notebook, with the
        running loss and metrics, samples per second and the time left. 2 prints one line per
        epoch on stdout. "auto" is 1 where stderr is a terminal and tqdm is installed, else 0.

    Attributes
    ----------
    verbose : int
        0, 1 or 2: what "auto" came to.
    enabled : bool
        Whether anything is shown. If not, no call does anything, and the caller need not make it.

    Raises
    ------
    ValueError
        If `verbose` is something else.
    ImportError
        If `verbose` is 1 and tqdm is not installed.

    Examples
    --------
    >>> from cymlp.progress import EpochProgress
    >>> progress = EpochProgress(n_epochs=2, n_samples=1000, verbose=2)
    >>> progress.start_epoch(0)
    >>> progress.update(500, {"loss": 0.7})
    >>> progress.end_epoch({"loss": 0.5, "accuracy": 0.75})   # doctest: +ELLIPSIS
    Epoch 1/2  loss 0.5000  accuracy 0.7500  [... s, ... samples/s]
    >>> progress.close()
    """

    def __init__(self, n_epochs: int, n_samples: int | None, verbose: int | str = "auto") -> None:
        self.verbose, self._tqdm = resolve_verbose(verbose)
        self.enabled = self.verbose != 0
        self._n_epochs = n_epochs
        self._n_samples = n_samples
        self._n_done = 0
        self._title = ""
        self._started = 0.0
        self._bar: Any = None

    def start_epoch(self, epoch: int) -> None:
        """Begin the epoch number `epoch` of this fit, counted from zero."""
        if not self.enabled:
            return
        number = str(epoch + 1).rjust(len(str(self._n_epochs)))
        self._title = f"Epoch {number}/{self._n_epochs}"
        self._started = time.perf_counter()
        if self.verbose == 1:
            self._bar = self._tqdm(
                total=self._n_samples,
                desc=self._title,
                unit=" samples",
                unit_scale=True,
                mininterval=_MIN_INTERVAL,
                miniters=1,
                dynamic_ncols=True,
                bar_format=_BAR_FORMAT,
            )

    def update(self, samples_done: int, logs: Mapping[str, float]) -> None:
        """Show that `samples_done` samples of the epoch are done, with the values so far."""
        self._n_done = samples_done
        if self._bar is not None:
            self._bar.set_postfix_str(_joined(logs, ", "), refresh=False)
            self._bar.update(samples_done - self._bar.n)

    def end_epoch(self, logs: Mapping[str, float]) -> None:
        """End the epoch with its final values."""
        n_samples = self._n_done if self._n_samples is None else self._n_samples
        if self._bar is not None:
            self.update(n_samples, logs)
            self.close()
        elif self.verbose == 2:
            seconds = time.perf_counter() - self._started
            rate = _with_prefix(n_samples / max(seconds, 1e-9))
            # Flushed: whoever reads a log through a pipe follows the training too.
            print(
                f"{self._title}  {_joined(logs, '  ')}  [{seconds:.2f} s, {rate}samples/s]",
                flush=True,
            )

    def close(self) -> None:
        """Leave the bar as it stands, finished or not; the cursor is on a new line afterwards."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def resolve_verbose(verbose: int | str) -> tuple[int, Any]:
    """Return the number that `verbose` means here and, for 1, the class of the bars.

    Raises what `EpochProgress` raises.
    """
    if isinstance(verbose, str):
        if verbose != "auto":
            raise ValueError(_invalid(verbose))
        if not _is_terminal(sys.stderr):
            return 0, None
        try:
            return 1, _import_tqdm()
        except ImportError:
            return 0, None
    try:
        level = operator.index(verbose)
    except TypeError:
        raise ValueError(_invalid(verbose)) from None
    if level not in (0, 1, 2):
        raise ValueError(_invalid(verbose))
    return level, _import_tqdm() if level == 1 else None


def _invalid(verbose: object) -> str:
    return f'verbose: expected 0, 1, 2 or "auto", got {verbose!r}'


def _is_terminal(stream: Any) -> bool:
    """Tell whether `stream` is a terminal; a process without a console has None for a stream."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def _import_tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError(
            "verbose=1 needs tqdm; install it with: pip install tqdm (or pass verbose=2 or 0)"
        ) from error
    return tqdm


def _joined(logs: Mapping[str, float], separator: str) -> str:
    return separator.join(f"{name} {_short(value)}" for name, value in logs.items())


def _short(value: float) -> str:
    """Four decimals, or an exponent where they would show next to nothing of the value."""
    ordinary = value == 0 or 1e-3 <= abs(value) < 1e5
    return format(value, ".4f" if ordinary else ".3e")


def _with_prefix(value: float) -> str:
    for limit, prefix in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f} {prefix} "
    return f"{value:.0f} "
