"""One module per library, each with a `job` function, and one protocol for all of them."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from typing import Any, Protocol

import numpy as np

#: Module here -> name in the tables.
NAMES = {
    "cymlp": "cymlp",
    "jax": "JAX",
    "torch": "PyTorch",
    "sklearn": "scikit-learn",
    "onnxruntime": "ONNX Runtime",
    "numpy": "NumPy",
}
#: Distributions whose names differ from their modules'.
DISTRIBUTIONS = {"sklearn": "scikit-learn"}


class Job(Protocol):
    """A task in one library's hands, made by ``job(task, arrays)`` of its module.

    The construction is the one-off part: arrays in the library's own form, models, compilation.
    """

    def reset(self) -> None:
        """Bring back the initial weights and a new optimizer. Not timed."""

    def run(self) -> None:
        """Train for all epochs, or predict for all calls. Timed."""

    def result(self) -> list[np.ndarray]:
        """Return the weights as ``[kernel, bias, ...]``, or the last outputs as the only item."""


class Unsupported(Exception):
    """The library, in this version, cannot do the task; the message says why."""


def load(name: str) -> Any:
    return importlib.import_module(f"peers.{name}")


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def version(name: str) -> str:
    try:
        return importlib.metadata.version(DISTRIBUTIONS.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        return "from the tree"  # cymlp, imported from where it was built


def environment(threads: int) -> dict[str, str]:
    """Return the variables that hold every library to a number of threads.

    JAX has no count of its own beside the flag: its pool has a thread per CPU of the process's
    affinity, which the worker sets before it imports anything.
    """
    eigen = "true" if threads > 1 else "false"
    flags = f"--xla_cpu_multi_thread_eigen={eigen} intra_op_parallelism_threads={threads}"
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
              "VECLIB_MAXIMUM_THREADS", "NPROC")  # fmt: skip
    fixed = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "MKL_DYNAMIC": "FALSE"}
    return dict.fromkeys(counts, str(threads)) | fixed
