from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

def leave_zeros_out(samples: float | None = None, made: float | None = None) -> None: ...
def forward(
    x: NDArray[_Real],
    kernel: NDArray[_Real],
    bias: NDArray[_Real],
    activation: int,
    *,
    alpha: float = 0.0,
    isa: str | None = None,
    n_threads: int = 1,
    narrow: bool = False,
) -> NDArray[_Real]: ...
def propagate(
    delta: NDArray[_Real],
    kernel: NDArray[_Real],
    y_below: NDArray[_Real],
    activation_below: int,
    *,
    isa: str | None = None,
    n_threads: int = 1,
    narrow: bool = False,
) -> NDArray[_Real]: ...
def gradient(
    x: NDArray[_Real],
    delta: NDArray[_Real],
    *,
    isa: str | None = None,
    n_threads: int = 1,
    narrow: bool = False,
) -> tuple[NDArray[_Real], NDArray[_Real]]: ...
