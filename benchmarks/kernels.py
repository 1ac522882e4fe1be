"""Each kernel on its own beside what PyTorch has for it, on one thread.

    python benchmarks/kernels.py [--repeats N] [--only WORD] [--out DIR]

writes `kernels.md`, a table of times in microseconds. Both are called from Python, with float32
arrays that are there already: cymlp's kernels through `cymlp._kernels.Kernels`, PyTorch's by the
functions that its autograd calls where it has one for the derivative, and by autograd else. Where
PyTorch is not installed, its column is empty.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from cymlp._kernels import ACTIVATIONS, KEEPS_Z, LOSSES, OPTIMIZERS, Kernels
from machine import cores
from report import table

torch: Any = None
with suppress(ImportError):
    torch = import_module("torch")

KERNELS = Kernels()
BATCHES = ((256, 512), (128, 128))
PARAMETERS = 1_000_000
EPSILON = 1e-5

Call = Callable[[], Any]


def nothing() -> None:
    """Before a call that leaves its inputs as they are."""


@dataclass(frozen=True)
class Row:
    """What is compared. `reset` comes before each of cymlp's calls, and is not timed."""

    name: str
    shape: str
    ours: Call
    theirs: Call | None
    reset: Call = nothing


def seconds(call: Call, reset: Call, at_least: float = 0.004) -> float:
    """The median time of a call, of as many as fill some time."""
    times: list[float] = []
    stop = time.perf_counter() + at_least
    while not times or time.perf_counter() < stop:
        reset()
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measured(row: Row, repeats: int) -> list[str]:
    """In turns, after one of each to warm up."""
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(repeats + 1):
        times = seconds(row.ours, row.reset), row.theirs and seconds(row.theirs, nothing)
        if turn:
            ours.append(times[0])
            if times[1] is not None:
                theirs.append(times[1])
    mine = statistics.median(ours)
    cells = [row.name, row.shape, f"{mine * 1e6:.1f}", "-", "-"]
    if theirs:
        other = statistics.median(theirs)
        cells[3:] = [f"{other * 1e6:.1f}", f"{other / mine:.2f}"]
    return cells


def normals(*shape: int, seed: int = 0) -> np.ndarray:
    """Whole lines of a cache, as the arrays of both libraries are."""
    size = int(np.prod(shape))
    room = np.empty(size + 16, np.float32)
    start = (-room.ctypes.data % 64) // 4
    array = room[start : start + size].reshape(shape)
    array[...] = np.random.default_rng(seed).standard_normal(shape)
    return array


def tensors(*arrays: np.ndarray) -> list[Any]:
    return [torch.from_numpy(array.copy()) for array in arrays]


# ------------------------------------------------------------------------------- norms and dropout


def batch_norm(shape: tuple[int, int]) -> Row:
    x, d, out, kept, below = (normals(*shape, seed=k) for k in range(5))
    gamma, beta = normals(shape[1], seed=5), normals(shape[1], seed=6)

    def ours() -> None:
        mean, variance = KERNELS.column_moments(x)
        inverse_std = KERNELS.inverse_std(variance, EPSILON)
        KERNELS.batch_norm(x, mean, inverse_std, gamma, beta, kept=kept, out=out)
        total, dot = KERNELS.column_sums(d), KERNELS.column_sums(d, kept)
        KERNELS.batch_norm_backward(
            kept, d, inverse_std, gamma, total, dot, share=1 / len(x), out=below
        )

    def theirs(x: Any, d: Any, gamma: Any, beta: Any) -> None:
        _, mean, inverse_std = torch.native_batch_norm(
            x, gamma, beta, None, None, True, 0.1, EPSILON
        )
        torch.ops.aten.native_batch_norm_backward(
            d, x, gamma, None, None, mean, inverse_std, True, EPSILON, [True, True, True]
        )

    return row("batch norm, both ways", shape, ours, theirs, x, d, gamma, beta)


def layer_norm(shape: tuple[int, int]) -> Row:
    x, d, out, kept, below = (normals(*shape, seed=k) for k in range(5))
    gamma, beta = normals(shape[1], seed=5), normals(shape[1], seed=6)

    def ours() -> None:
        _, _, inverse_std = KERNELS.layer_norm(x, gamma, beta, EPSILON, kept=kept, out=out)
        KERNELS.layer_norm_backward(kept, inverse_std, d, gamma, out=below)
        KERNELS.column_sums(d)
        KERNELS.column_sums(d, kept)

    def theirs(x: Any, d: Any, gamma: Any, beta: Any) -> None:
        own = [shape[1]]
        _, mean, inverse_std = torch.native_layer_norm(x, own, gamma, beta, EPSILON)
        torch.ops.aten.native_layer_norm_backward(
            d, x, own, mean, inverse_std, gamma, beta, [True, True, True]
        )

    return row("layer norm, both ways", shape, ours, theirs, x, d, gamma, beta)


def dropout(shape: tuple[int, int]) -> Row:
    x, d, out, kept, below = (normals(*shape, seed=k) for k in range(5))

    def ours() -> None:
        KERNELS.dropout(shape, 13107, 0, (1, 2), out=kept)
        KERNELS.multiply(x, kept, out=out)
        KERNELS.multiply(d, kept, out=below)

    def theirs(x: Any, d: Any) -> None:
        _, mask = torch.native_dropout(x, 0.2, True)
        torch.ops.aten.native_dropout_backward(d, mask, 1.25)

    return row("dropout, both ways", shape, ours, theirs, x, d)


def row(
    name: str,
    shape: tuple[int, ...],
    ours: Call,
    theirs: Callable[..., Any] | None,
    *arrays: np.ndarray,
    reset: Call = nothing,
) -> Row:
    call = partial(theirs, *tensors(*arrays)) if torch and theirs else None
    return Row(name, " x ".join(f"{n:,}" for n in shape), ours, call, reset)


# ------------------------------------------------------------------------------------- activations


def activation_functions() -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """f(z), and the derivative by (d, z, y)."""
    if torch is None:
        return {}
    nn, aten = torch.nn.functional, torch.ops.aten
    selu = (1.6732632423543772, 1.0507009873554805)
    return {
        "relu": (torch.relu, lambda d, z, y: aten.threshold_backward(d, y, 0)),
        "sigmoid": (torch.sigmoid, lambda d, z, y: aten.sigmoid_backward(d, y)),
        "tanh": (torch.tanh, lambda d, z, y: aten.tanh_backward(d, y)),
        "softmax": (
            partial(torch.softmax, dim=1),
            lambda d, z, y: aten._softmax_backward_data(d, y, 1, torch.float32),
        ),
        "leaky_relu": (
            partial(nn.leaky_relu, negative_slope=0.3),
            lambda d, z, y: aten.leaky_relu_backward(d, y, 0.3, True),
        ),
        "elu": (
            partial(nn.elu, alpha=0.3),
            lambda d, z, y: aten.elu_backward(d, 0.3, 1, 1, True, y),
        ),
        "selu": (torch.selu, lambda d, z, y: aten.elu_backward(d, *selu, 1, True, y)),
        "gelu": (nn.gelu, lambda d, z, y: aten.gelu_backward(d, z)),
        "gelu_tanh": (
            partial(nn.gelu, approximate="tanh"),
            lambda d, z, y: aten.gelu_backward(d, z, approximate="tanh"),
        ),
        "silu": (nn.silu, lambda d, z, y: aten.silu_backward(d, z)),
        "mish": (nn.mish, lambda d, z, y: aten.mish_backward(d, z)),
        "softplus": (nn.softplus, lambda d, z, y: aten.softplus_backward(d, z, 1, 20)),
        "softsign": (nn.softsign, lambda d, z, y: d / (1 + z.abs()) ** 2),
        "hard_sigmoid": (nn.hardsigmoid, lambda d, z, y: aten.hardsigmoid_backward(d, z)),
        "exponential": (torch.exp, lambda d, z, y: d * y),
    }


def activations(shape: tuple[int, int]) -> Iterator[Row]:
    functions = activation_functions()
    for name, code in ACTIVATIONS.items():
        if name == "identity":
            continue
        z, out, d = normals(*shape, seed=1), normals(*shape, seed=2), normals(*shape, seed=3)
        room = d.copy()
        y = KERNELS.activate(code, z, alpha=0.3)
        kept = z if name in KEEPS_Z else y
        ours = partial(KERNELS.activate, code, z, alpha=0.3, out=out)
        forward, backward = functions.get(name, (None, None))
        yield row(name, shape, ours, forward, z)
        ours = partial(KERNELS.activate_backward, code, kept, room, alpha=0.3, out=room)
        reset = partial(np.copyto, room, d)
        yield row(f"{name}, derivative", shape, ours, backward, d, z, y, reset=reset)


# ------------------------------------------------------------------------------------------ losses


def loss_functions() -> dict[str, Callable[..., Any]]:
    """Of outputs and targets; the sum over rows, whose derivative autograd is asked for."""
    if torch is None:
        return {}
    nn = torch.nn.functional

    def gamma(y: Any, t: Any) -> Any:
        return (t / y + y.log()).sum()

    def exponential_gamma(z: Any, t: Any) -> Any:
        return (t * torch.exp(-z) + z).sum()

    def tweedie(y: Any, t: Any) -> Any:
        return (2 * y.sqrt() + 2 * t / y.sqrt()).sum()

    def exponential_tweedie(z: Any, t: Any) -> Any:
        half = torch.exp(0.5 * z)
        return (2 * half + 2 * t / half).sum()

    def log_cosh(y: Any, t: Any) -> Any:
        e = y - t
        return (e + nn.softplus(-2 * e) - 0.6931471805599453).sum()

    def quantile(y: Any, t: Any) -> Any:
        e = t - y
        return torch.maximum(0.9 * e, -0.1 * e).sum()

    def focal(y: Any, t: Any) -> Any:
        p = torch.where(t > 0.5, y, 1 - y)
        return ((1 - p) ** 2 * nn.binary_cross_entropy(y, t, reduction="none")).sum()

    def sigmoid_focal(z: Any, t: Any) -> Any:
        p = torch.sigmoid(z)
        other = p + t - 2 * p * t
        return (other**2 * nn.binary_cross_entropy_with_logits(z, t, reduction="none")).sum()

    def hinge(y: Any, t: Any) -> Any:
        return (1 - t * y).clamp(min=0).sum()

    def kl_divergence(y: Any, t: Any) -> Any:
        return nn.kl_div(y.log(), t, reduction="sum")

    def softmax_kl_divergence(z: Any, t: Any) -> Any:
        return nn.kl_div(nn.log_softmax(z, 1), t, reduction="sum")

    def cross_entropy(y: Any, t: Any) -> Any:
        return -(t * y.log()).sum()

    summed = {"reduction": "sum"}
    return {
        "squared_error": partial(nn.mse_loss, **summed),
        "absolute_error": partial(nn.l1_loss, **summed),
        "huber": partial(nn.huber_loss, **summed),
        "log_cosh": log_cosh,
        "quantile": quantile,
        "poisson": partial(nn.poisson_nll_loss, log_input=False, **summed),
        "gamma": gamma,
        "tweedie": tweedie,
        "cross_entropy": cross_entropy,
        "binary_cross_entropy": partial(nn.binary_cross_entropy, **summed),
        "hinge": hinge,
        "kl_divergence": kl_divergence,
        "focal": focal,
        "softmax_cross_entropy": partial(nn.cross_entropy, **summed),
        "softmax_kl_divergence": softmax_kl_divergence,
        "sigmoid_binary_cross_entropy": partial(nn.binary_cross_entropy_with_logits, **summed),
        "sigmoid_focal": sigmoid_focal,
        "exponential_poisson": partial(nn.poisson_nll_loss, log_input=True, **summed),
        "exponential_gamma": exponential_gamma,
        "exponential_tweedie": exponential_tweedie,
    }


def loss_inputs(name: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Outputs that the loss takes, and targets."""
    rng = np.random.default_rng(4)
    out, t = normals(*shape, seed=5), normals(*shape, seed=6)
    if name in ("hinge",):
        t[...] = np.sign(t)
    elif "focal" in name or "binary" in name:
        t[...] = t > 0
    elif "entropy" in name or "divergence" in name:
        t[...] = rng.dirichlet(np.ones(shape[1]), shape[0])
    elif any(word in name for word in ("poisson", "gamma", "tweedie")):
        t[...] = rng.gamma(2, 1, shape)
    if name in ("poisson", "gamma", "tweedie"):
        out[...] = np.exp(out)
    elif name in ("binary_cross_entropy", "focal"):
        out[...] = 1 / (1 + np.exp(-out))
    elif name in ("cross_entropy", "kl_divergence"):
        out[...] = KERNELS.activate(ACTIVATIONS["softmax"], out)
    return out, t


def losses() -> Iterator[Row]:
    functions = loss_functions()
    for name, code in LOSSES.items():
        of_classes = name.startswith("softmax") or name in ("cross_entropy", "kl_divergence")
        for shape in ((256, 10),) if of_classes else ((256, 10), (256, 1)):
            out, t = loss_inputs(name, shape)
            scale = np.ones(len(out))
            settings: dict[str, Any] = {}
            if name == "huber":
                settings["parameter"] = 1.0
            elif "focal" in name:
                settings.update(parameter=2.0, smoothing=0.25)
            elif "tweedie" in name:
                settings["parameter"] = 1.5
            elif name == "quantile":
                settings["unit"] = np.full(shape[1], 0.9, np.float32)

            def theirs(function: Callable[..., Any], y: Any, t: Any) -> Any:
                return torch.autograd.grad(function(y, t), y)

            call = partial(theirs, functions[name]) if functions else None
            line = row(name, shape, partial(KERNELS.loss, code, out, t, scale, **settings), None)
            if call:
                y, target = tensors(out, t)
                line = Row(
                    line.name, line.shape, line.ours, partial(call, y.requires_grad_(), target)
                )
            yield line
    out, labels = normals(256, 10), np.arange(256, dtype=np.int32) % 10
    ours = partial(KERNELS.loss, LOSSES["softmax_cross_entropy"], out, labels, np.ones(256))
    yield Row("softmax_cross_entropy of labels", "256 x 10", ours, labels_by_torch(out, labels))


def labels_by_torch(out: np.ndarray, labels: np.ndarray) -> Call | None:
    if torch is None:
        return None
    y = torch.from_numpy(out).requires_grad_()
    t = torch.from_numpy(labels.astype(np.int64))
    return lambda: torch.autograd.grad(torch.nn.functional.cross_entropy(y, t), y)


# -------------------------------------------------------------------------------------- optimizers


def optimizers() -> Iterator[Row]:
    adam = {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "step": 10}
    rmsprop = {"learning_rate": 1e-3, "beta_2": 0.99, "epsilon": 1e-8}
    sgd = {"learning_rate": 1e-3}
    ways: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
        "sgd": ("sgd", sgd, "SGD", {"fused": True}),
        "momentum": ("momentum", {**sgd, "momentum": 0.9}, "SGD", {"momentum": 0.9, "fused": True}),
        "nesterov": (
            "nesterov",
            {**sgd, "momentum": 0.9},
            "SGD",
            {"momentum": 0.9, "nesterov": True, "fused": True},
        ),
        "adam": ("adam", adam, "Adam", {"fused": True}),
        "adamw": ("adam", {**adam, "decoupled_decay": 1e-2}, "AdamW", {"fused": True}),
        "amsgrad": ("amsgrad", adam, "Adam", {"amsgrad": True, "fused": True}),
        "nadam": ("nadam", {**adam, "momentum_decay": 4e-3}, "NAdam", {"foreach": True}),
        "rmsprop": ("rmsprop", rmsprop, "RMSprop", {"foreach": True}),
        "rmsprop_momentum": (
            "rmsprop_momentum",
            {**rmsprop, "momentum": 0.9},
            "RMSprop",
            {"momentum": 0.9, "foreach": True},
        ),
        "centered_rmsprop": (
            "centered_rmsprop",
            rmsprop,
            "RMSprop",
            {"centered": True, "foreach": True},
        ),
        "centered_rmsprop_momentum": (
            "centered_rmsprop_momentum",
            {**rmsprop, "momentum": 0.9},
            "RMSprop",
            {"centered": True, "momentum": 0.9, "foreach": True},
        ),
        "adagrad": (
            "adagrad",
            {"learning_rate": 1e-3, "epsilon": 1e-10},
            "Adagrad",
            {"fused": True},
        ),
        "adadelta": (
            "adadelta",
            {"learning_rate": 1e-3, "beta_2": 0.9, "epsilon": 1e-6},
            "Adadelta",
            {"foreach": True},
        ),
        "lion": ("lion", {**sgd, "beta_1": 0.9, "beta_2": 0.99}, "", {}),
        "rprop": (
            "rprop",
            {"eta_minus": 0.5, "eta_plus": 1.2, "smallest_step": 1e-6, "largest_step": 50},
            "Rprop",
            {"foreach": True},
        ),
    }
    for name, (own, settings, theirs, options) in ways.items():
        g, w = normals(PARAMETERS, seed=1), normals(PARAMETERS, seed=2)
        slots = [np.full_like(w, 0.01) for _ in range(3)]
        ours = partial(KERNELS.update, OPTIMIZERS[own], g, w, slots, **settings)
        call = None
        if torch and theirs:
            parameter = torch.nn.Parameter(torch.from_numpy(w.copy()))
            parameter.grad = torch.from_numpy(g.copy())
            call = getattr(torch.optim, theirs)([parameter], lr=1e-3, **options).step
        yield Row(name, f"{PARAMETERS:,}", ours, call)


# ------------------------------------------------------------------------------------------- table


def rows() -> Iterator[Row]:
    for shape in BATCHES:
        yield batch_norm(shape)
        yield layer_norm(shape)
        yield dropout(shape)
    for shape in BATCHES:
        yield from activations(shape)
    yield from losses()
    yield from optimizers()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time cymlp's kernels beside PyTorch's.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", metavar="WORD", help="rows with it in their name")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores(1))
    version = "not installed"
    if torch:
        torch.set_num_threads(1)
        version = torch.__version__
    lines = [measured(row, options.repeats) for row in rows() if options.only in row.name]
    text = [
        "# Kernels",
        "",
        f"Microseconds, medians of {options.repeats} turns, {KERNELS.isa}, one thread, float32, "
        f"PyTorch {version}.",
        "",
        *table(["kernel", "shape", "cymlp", "PyTorch", "times as fast"], lines),
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "kernels.md").write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
