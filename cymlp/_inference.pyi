from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cymlp._program import Program
from cymlp._validate import SparseRows

def forward(
    program: Program,
    x: NDArray[Any] | SparseRows,
    outputs: Mapping[int, NDArray[Any]],
    n_threads: int = 0,
) -> None: ...
def predict(program: Program, x: object, n_threads: int = 0) -> NDArray[Any] | None: ...
def evaluate(
    program: Program,
    x: NDArray[Any] | SparseRows,
    labels: NDArray[np.int32] | None,
    values: NDArray[Any] | None,
    weight: NDArray[np.float64] | None,
    n_threads: int = 0,
) -> tuple[float, float, float]: ...

class Predictor:
    def __init__(self, program: Program, batch_size: int) -> None: ...
    def __call__(self, x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
    @property
    def batch_size(self) -> int: ...

class Room: ...
