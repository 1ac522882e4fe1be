from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cymlp._batch import Described
from cymlp._updates import Updates
from cymlp._validate import SparseRows

MOST_ROWS_BACK: int

def shuffled(n_samples: int, shuffle: tuple[int, int]) -> NDArray[np.int64]: ...

class Network(Updates):
    @property
    def iteration(self) -> int: ...
    @property
    def team(self) -> int: ...
    @property
    def by_units(self) -> bool: ...
    @property
    def shares(self) -> list[float]: ...
    @property
    def divergence(self) -> tuple[int, int] | None: ...
    def set_all(self, names: Sequence[tuple[int, str]], values: Sequence[NDArray[Any]]) -> None: ...
    def compile(
        self,
        loss: int | None,
        output_activation: int | None,
        optimizer: int,
        n_slots: int,
        settings: Mapping[str, Any],
        accuracy_threshold: float | None,
        *,
        loss_parameter: float = 0.0,
        loss_smoothing: float = 0.0,
        loss_unit: Sequence[float] | NDArray[Any] | None = None,
        loss_function: Callable[..., tuple[NDArray[Any], NDArray[Any]]] | None = None,
    ) -> None: ...
    def restore_iteration(self, iteration: int) -> None: ...
    def set_learning_rate(self, rate: float, keeps_velocity: bool = False) -> None: ...
    def describe(
        self,
        x: NDArray[Any] | SparseRows,
        labels: NDArray[np.int32] | None,
        values: NDArray[Any] | None,
        weight: NDArray[np.float64] | None,
    ) -> Described: ...
    def train(
        self,
        samples: Described,
        batch_size: int,
        results: list[tuple[float, float, float]],
        *,
        n_epochs: int = 1,
        shuffle: tuple[int, int] | None = None,
        order: NDArray[np.int64] | None = None,
        by_count: bool = False,
        tick: Callable[[int, float, float], object] | None = None,
        every_batch: bool = False,
        n_threads: int = 0,
    ) -> None: ...
    def gradients(
        self, samples: Described, training: bool, n_threads: int = 0
    ) -> tuple[tuple[float, float, float], dict[tuple[int, str], NDArray[Any]]]: ...
    def input_gradients(
        self, samples: Described, of_targets: bool, n_threads: int = 0
    ) -> NDArray[Any]: ...
    def deltas(
        self, samples: Described, n_threads: int = 0
    ) -> tuple[NDArray[np.float64], list[NDArray[Any]]]: ...
    def apply_gradients(
        self, names: Sequence[tuple[int, str]], gradients: Sequence[NDArray[Any]]
    ) -> None: ...
