"""Warnings that the package gives."""

from __future__ import annotations

__all__ = ["DivergenceWarning"]


class DivergenceWarning(RuntimeWarning):
    """An epoch's loss was infinite or NaN: `Sequential.fit` says where that began.

    Training goes on; `cymlp.callbacks.TerminateOnNaN` ends it.

    Examples
    --------
    >>> import warnings
    >>> from cymlp import DivergenceWarning
    >>> warnings.simplefilter("error", DivergenceWarning)   # fit raises it  # doctest: +SKIP
    """
