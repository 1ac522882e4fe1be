"""What is timed, as data: every row of the table, with the target that it has to meet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

#: Seed of data, initial weights and the order of the batches.
SEED = 7

TRAINERS = ("cymlp", "jax", "torch", "sklearn", "numpy")
PREDICTORS = ("cymlp", "onnxruntime", "jax", "torch", "sklearn", "numpy")


@dataclass(frozen=True)
class Target:
    """What cymlp is to reach in a row.

    `measure` is one of: "ratio" (times as fast as `peer`, or as the best of them for "best"),
    "fma" (share of the machine's multiply-add limit), "ns" (nanoseconds per unit of work, at most),
    "speedup" (of two threads over one), "MB" and "ms" (at most).
    """

    measure: str
    value: float
    peer: str = ""


@dataclass(frozen=True)
class Task:
    """One piece of work, the same for every library."""

    name: str
    regime: str
    kind: str  # "train", "predict", or "predictor": bound to its buffers before the clock starts
    data: str  # a function of data.py
    sizes: tuple[int, ...]
    batch: int
    samples: int = 0  # at most this many, cut to whole batches; 0 for all of the set
    epochs: int = 1
    calls: int = 1  # of predict
    hidden: str = "relu"
    output: str = "softmax"
    loss: str = "cross_entropy"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    libraries: tuple[str, ...] = TRAINERS
    targets: tuple[Target, ...] = ()
    quick: bool = False  # whether it is in the subset
    cold: bool = False  # from the import to the trained model, each time in a new process
    threads: int = 1

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, units) of each layer."""
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))

    @property
    def activations(self) -> list[str]:
        """Of each layer."""
        return [self.hidden] * (len(self.sizes) - 2) + [self.output]

    @property
    def network(self) -> str:
        return written(self.sizes)

    @property
    def per(self) -> str:
        """What a time is stated per."""
        if self.cold:
            return "process"
        if self.kind != "train":
            return "call"
        return "step" if self.batch == 1 else "epoch"

    def units(self, samples: int) -> int:
        """How many of them one run has, over so many samples."""
        return {
            "process": 1,
            "call": self.calls,
            "step": self.epochs * math.ceil(samples / self.batch),
            "epoch": self.epochs,
        }[self.per]

    def flops(self, samples: int) -> float:
        """Multiplications and additions of a run, every factor taken for a number other than zero.

        Forward pass, weight gradient and, in all layers but the first, delta propagation.
        """
        products = [2.0 * inputs * units for inputs, units in self.layers]
        if self.kind != "train":
            return self.calls * self.batch * sum(products)
        return self.epochs * samples * (3 * sum(products) - products[0])

    def traffic(self, samples: int, cache: int) -> float:
        """Bytes that a run has to move at least, for all that is larger than `cache` bytes.

        The samples once an epoch; in each step, three arrays read and written with Adam, one with
        SGD; in each call, the weights.
        """
        parameters = 4.0 * sum(inputs * units for inputs, units in self.layers)
        rows = 4.0 * (self.sizes[0] + self.sizes[-1])
        if self.kind != "train":
            moved = [parameters, rows * self.batch]
            return self.calls * sum(each for each in moved if each > cache)
        steps = samples / self.batch
        state = parameters * (3 if self.optimizer == "adam" else 1)
        state_moved = 2 * state * steps if state > cache else 0.0
        data_moved = rows * samples if rows * samples > cache else 0.0
        return self.epochs * (state_moved + data_moved)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Task:
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        fields["targets"] = tuple(Target(**target) for target in fields["targets"])
        return cls(**fields)


def ratios(**factors: float) -> tuple[Target, ...]:
    return tuple(Target("ratio", factor, peer) for peer, factor in factors.items())


NARROW, WIDE, LARGE = (784, 128, 10), (784, 512, 512, 10), (2048, 2048, 2048, 10)
TUMOURS, DIGITS = (30, 64, 2), (64, 100, 10)
TRIPLES, XOR = (3, 3, 2), (2, 8, 1)
ONE_OUTPUT = (30, 64, 1)


def written(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))


def training(regime: str, data: str, sizes: tuple[int, ...], batch: int, **more: Any) -> Task:
    of_data = f"{data} " if regime in ("tabular", "cold start", "tiny") else ""
    name = f"{regime}, {of_data}{written(sizes)}, batch {batch}"
    return Task(name, regime, "train", data, sizes, batch, **more)


def prediction(regime: str, how: str, sizes: tuple[int, ...], rows: int, **more: Any) -> Task:
    more = {"kind": "predict", "data": "gaussian", "quick": True, **more}
    of_data = "image " if more["data"] == "mnist" else ""
    name = f"{regime}, {of_data}{written(sizes)}, {how}"
    return Task(
        name, regime, sizes=sizes, batch=rows, samples=rows, libraries=PREDICTORS, **more
    )  # fmt: skip


def _tasks() -> Iterator[Task]:
    scales = Target("speedup", 1.8)

    images: dict[str, Any] = {"regime": "real images", "data": "mnist", "samples": 60_000}
    of_narrow = ratios(jax=2, torch=4, sklearn=4)
    of_wide = (*ratios(jax=1.5, torch=2, sklearn=3), scales)
    yield training(**images, sizes=NARROW, batch=32, targets=of_narrow, quick=True)
    yield training(**images, sizes=NARROW, batch=128, targets=of_narrow, quick=True)
    yield training(**images, sizes=WIDE, batch=128, targets=of_wide, quick=True)

    dense: dict[str, Any] = {"regime": "dense data", "data": "gaussian", "samples": 60_000}
    of_narrow, of_wide = (Target("fma", 0.65),), (Target("fma", 0.80), scales)
    yield training(**dense, sizes=NARROW, batch=32, targets=of_narrow)
    yield training(**dense, sizes=NARROW, batch=128, targets=of_narrow, quick=True)
    yield training(**dense, sizes=WIDE, batch=128, targets=of_wide, quick=True)

    of_large = (Target("fma", 0.85), *ratios(best=1.15), scales)
    for batch, steps in ((256, 8), (1024, 3)):
        yield training(
            "large", "gaussian", LARGE, batch,
            samples=batch * steps, targets=of_large, quick=batch == 256,
        )  # fmt: skip

    for data, sizes in (("breast_cancer", TUMOURS), ("digits", DIGITS)):
        of_32, of_200 = ratios(jax=2, torch=15, sklearn=15), ratios(jax=1.6, torch=6, sklearn=6)
        yield training("tabular", data, sizes, 32, epochs=50, targets=of_32, quick=True)
        yield training("tabular", data, sizes, 200, epochs=50, targets=of_200)
        yield training(
            "cold start", data, sizes, 32,
            epochs=50, cold=True, targets=ratios(jax=5), quick=data == "digits",
        )  # fmt: skip

    tiny: dict[str, Any] = {
        "regime": "tiny", "batch": 1, "samples": 10_000, "output": "sigmoid", "optimizer": "sgd",
        "learning_rate": 0.1, "targets": (Target("ns", 150), *ratios(torch=200)), "quick": True,
    }  # fmt: skip
    yield training(data="triples", sizes=TRIPLES, loss="squared_error", **tiny)
    yield training(data="xor", sizes=XOR, hidden="tanh", loss="binary_cross_entropy", **tiny)

    for sizes, output, data in (
        (ONE_OUTPUT, "sigmoid", "gaussian"),
        (NARROW, "softmax", "gaussian"),
        (NARROW, "softmax", "mnist"),
    ):
        one: dict[str, Any] = {
            "regime": "predict, one row", "sizes": sizes, "rows": 1, "calls": 2000,
            "output": output, "data": data,
        }  # fmt: skip
        yield prediction(how="predict", targets=ratios(onnxruntime=3), **one)
        yield prediction(
            how="prepared", kind="predictor", targets=ratios(onnxruntime=8), **one
        )  # fmt: skip

    of_many = (*ratios(onnxruntime=1.1), Target("fma", 0.9))
    for rows, calls in ((256, 20), (10_000, 1)):
        yield prediction(
            "predict, many rows", f"{rows} rows", WIDE, rows, calls=calls, targets=of_many
        )


TASKS = tuple(_tasks())
#: What is measured in new processes beside the tasks; see fresh.py.
FRESH_REGIMES = ("memory", "weight")
REGIMES = (*dict.fromkeys(task.regime for task in TASKS), *FRESH_REGIMES)


def chosen(only: Iterable[str] = (), quick: bool = False) -> list[Task]:
    """Return the tasks of some regimes, all by default; `quick` takes the subset, shortened."""
    tasks = [task for task in TASKS if not only or task.regime in only]
    if quick:
        tasks = [shortened(task) for task in tasks if task.quick]
    return tasks


def shortened(task: Task) -> Task:
    """Return a task with a tenth of the samples, epochs or calls, where it has many."""
    if task.kind != "train":
        return replace(task, calls=max(1, task.calls // 4))
    if task.samples >= 60_000:
        return replace(task, samples=task.samples // 10)
    if task.samples:
        return replace(task, samples=max(task.batch, task.samples // 4))
    return replace(task, epochs=max(1, task.epochs // 5)) if not task.cold else task
