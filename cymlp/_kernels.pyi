from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ACTIVATIONS: dict[str, int]
KEEPS_Z: frozenset[str]
LOSSES: dict[str, int]
OPTIMIZERS: dict[str, int]
ELEMENTS: dict[str, int]
DTYPES: dict[str, int]

def element(dtype: np.dtype[Any]) -> tuple[int, bool]: ...
def known_isas() -> list[str]: ...
def available_isas() -> list[str]: ...
def active_isa() -> str: ...
def select_isa(name: str) -> None: ...

class Kernels:
    def __init__(self, isa: str | None = None, dtype: DTypeLike = "float32") -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def tile_rows(self) -> int: ...
    @property
    def lanes(self) -> int: ...
    @property
    def panel_vecs(self) -> int: ...
    @property
    def block_rows(self) -> int: ...
    def activate(
        self, code: int, z: NDArray[Any], *, alpha: float = 0.0, out: NDArray[Any] | None = None
    ) -> NDArray[Any]: ...
    def activate_backward(
        self,
        code: int,
        kept: NDArray[Any],
        d: NDArray[Any],
        *,
        alpha: float = 0.0,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]: ...
    def loss(
        self,
        code: int,
        out: NDArray[Any],
        target: NDArray[Any],
        scale: NDArray[np.float64],
        *,
        parameter: float = 0.0,
        smoothing: float = 0.0,
        unit: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[Any]]: ...
    def column_sums(self, x: NDArray[Any], other: NDArray[Any] | None = None) -> NDArray[Any]: ...
    def column_moments(self, x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]: ...
    def inverse_std(self, variance: NDArray[Any], epsilon: float) -> NDArray[Any]: ...
    def batch_norm(
        self,
        x: NDArray[Any],
        mean: NDArray[Any],
        inverse_std: NDArray[Any],
        gamma: NDArray[Any],
        beta: NDArray[Any],
        *,
        kept: NDArray[Any] | None = None,
        out: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any]]: ...
    def batch_norm_backward(
        self,
        kept: NDArray[Any],
        d: NDArray[Any],
        inverse_std: NDArray[Any],
        gamma: NDArray[Any],
        total: NDArray[Any],
        dot: NDArray[Any],
        *,
        share: float,
        adds: bool = False,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]: ...
    def layer_norm(
        self,
        x: NDArray[Any],
        gamma: NDArray[Any],
        beta: NDArray[Any],
        epsilon: float,
        *,
        kept: NDArray[Any] | None = None,
        out: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...
    def layer_norm_backward(
        self,
        kept: NDArray[Any],
        inverse_std: NDArray[Any],
        d: NDArray[Any],
        gamma: NDArray[Any],
        *,
        adds: bool = False,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]: ...
    def dropout(
        self,
        shape: tuple[int, int],
        dropped: int,
        number: int,
        key: tuple[int, int],
        *,
        first_row: int = 0,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]: ...
    def multiply(
        self,
        a: NDArray[Any],
        b: NDArray[Any],
        *,
        adds: bool = False,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]: ...
    def convert(self, x: NDArray[Any], scale: float = 1.0) -> NDArray[Any]: ...
    def all_finite(self, x: NDArray[Any]) -> bool: ...
    def sum_of_squares(self, w: NDArray[Any]) -> float: ...
    def sum_of_abs(self, w: NDArray[Any]) -> float: ...
    def move_average(self, decay: float, w: NDArray[Any], average: NDArray[Any]) -> None: ...
    def update(
        self,
        code: int,
        g: NDArray[Any],
        w: NDArray[Any],
        slots: Sequence[NDArray[Any]],
        *,
        step: int = 1,
        momentum_decay: float = 0.0,
        **settings: float,
    ) -> None: ...
