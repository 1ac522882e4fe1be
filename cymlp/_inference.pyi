from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cymlp._program import Program
from cymlp._validate import SparseRows

_Predict = TypeVar("_Predict", bound=Callable[..., NDArray[Any]])

def forward(
    program: Program,
    x: NDArray[Any] | SparseRows,
    outputs: Mapping[int, NDArray[Any]],
    n_threads: int = 0,
) -> None: ...
def predict_ready(program: Program, x: object, n_threads: int = 0) -> NDArray[Any] | None: ...
def compiled_first(method: _Predict) -> _Predict: ...
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
