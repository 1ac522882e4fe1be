"""What this installation of cymlp is and runs on."""

from __future__ import annotations

import platform

import numpy as np

from cymlp import _kernels, _threads
from cymlp._version import __version__


def show_config(mode: str = "print") -> dict[str, str] | None:
    """Show the version, instruction set, OpenMP, threads and compiler.

    Parameters
    ----------
    mode : {"print", "dict"}, default="print"
        Whether to print the entries or to return them.

    Returns
    -------
    dict of str to str, or None
        The entries where `mode` is "dict".

    Raises
    ------
    ValueError
        If `mode` is something else.

    Examples
    --------
    >>> import cymlp
    >>> sorted(cymlp.show_config(mode="dict"))
    ['compiler', 'cymlp', 'isa', 'isas available', 'numpy', 'openmp', 'python', 'threads']
    """
    if mode not in ("print", "dict"):
        raise ValueError(f"mode must be 'print' or 'dict', got {mode!r}")
    build = _threads.build_info()
    entries = {
        "cymlp": __version__,
        "isa": _kernels.active_isa(),
        "isas available": ", ".join(_kernels.available_isas()),
        "openmp": "yes" if build["openmp"] else "no (serial build)",
        "threads": str(_threads.get_num_threads()),
        "compiler": build["compiler"],
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    if mode == "dict":
        return entries
    width = max(map(len, entries))
    for name, value in entries.items():
        print(f"{name:{width}}  {value}")
    return None
