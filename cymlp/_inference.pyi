from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cymlp._program import Program

def forward(program: Program, x: NDArray[Any], outputs: Sequence[NDArray[Any] | None]) -> None: ...
def evaluate(
    program: Program,
    x: NDArray[Any],
    labels: NDArray[np.int32] | None,
    values: NDArray[Any] | None,
    weight: NDArray[np.float64] | None,
) -> tuple[float, float]: ...
