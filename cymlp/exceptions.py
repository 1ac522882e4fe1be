"""Errors and warnings that the package gives."""

from __future__ import annotations

__all__ = ["DivergenceWarning", "SettingError"]


class DivergenceWarning(RuntimeWarning):
    """An epoch's loss was infinite or NaN: `Sequential.fit` says where that began.

    Training goes on; `cymlp.callbacks.TerminateOnNaN` ends it.

    Examples
    --------
    >>> import warnings
    >>> from cymlp import DivergenceWarning
    >>> warnings.simplefilter("error", DivergenceWarning)   # fit raises it  # doctest: +SKIP
    """


class SettingError(ValueError):
    """A setting that `cymlp explain` cannot use: the message names what is wrong in it.

    Examples
    --------
    >>> from cymlp.exceptions import SettingError
    >>> from cymlp.setting import explain_setting
    >>> try:
    ...     explain_setting({"layers": [{"units": 1}], "loss": "squared_error"})
    ... except SettingError as error:
    ...     print(error)
    missing: weights, sample, target, learning_rate
    """
