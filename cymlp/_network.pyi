from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

class Network:
    def __init__(self, n_inputs: int, layers: list[dict[str, Any]], dtype: DTypeLike) -> None: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def arrays(self) -> list[dict[str, NDArray[Any]]]: ...
    @property
    def iteration(self) -> int: ...
    @property
    def watch(self) -> dict[str, Any]: ...
    @property
    def isa(self) -> str: ...
    @property
    def n_outputs(self) -> int: ...
    def get(self, layer: int, name: str) -> NDArray[Any]: ...
    def set(self, layer: int, name: str, value: NDArray[Any]) -> None: ...
    def set_all(self, names: Sequence[str], values: Sequence[NDArray[Any]]) -> None: ...
    def slot_names(self) -> list[str]: ...
    def compile(
        self,
        loss: int,
        output_activation: int,
        optimizer: int,
        n_slots: int,
        settings: Mapping[str, float],
        accuracy_threshold: float | None,
    ) -> None: ...
    def restore_iteration(self, iteration: int) -> None: ...
    def train(
        self,
        x: NDArray[Any],
        labels: NDArray[np.int32] | None,
        values: NDArray[Any] | None,
        weight: NDArray[np.float64] | None,
        order: NDArray[np.int64] | None,
        batch_size: int,
        tick: Callable[[int, float, float], object] | None = None,
        n_threads: int = 0,
    ) -> tuple[float, float]: ...
    def gradients(
        self,
        x: NDArray[Any],
        labels: NDArray[np.int32] | None,
        values: NDArray[Any] | None,
        weight: NDArray[np.float64] | None,
        n_threads: int = 0,
    ) -> list[NDArray[Any]]: ...
    def apply_gradients(self, gradients: Sequence[NDArray[Any]]) -> None: ...
    def forward(
        self, x: NDArray[Any], outputs: Sequence[NDArray[Any] | None], n_threads: int = 0
    ) -> None: ...
    def evaluate(
        self,
        x: NDArray[Any],
        labels: NDArray[np.int32] | None,
        values: NDArray[Any] | None,
        weight: NDArray[np.float64] | None,
        n_threads: int = 0,
    ) -> tuple[float, float]: ...
