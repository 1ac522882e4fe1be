"""PyTorch eager: `nn.Sequential` on logits, fused Adam, rows by index, no DataLoader.

Tried, and not faster: Adam with `foreach` or without both (1.5 times the time), SGD with either
(10% slower), `X[rows]` for `index_select` (5%), layers without modules (no difference).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from data import Arrays
from peers import Job
from workloads import Task

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def network(task: Task, with_output: bool) -> nn.Sequential:
    modules: list[nn.Module] = []
    for (inputs, units), activation in zip(task.layers, task.activations, strict=True):
        modules.append(nn.Linear(inputs, units))
        if activation in ACTIVATIONS:
            modules.append(ACTIVATIONS[activation]())
    fused_output = {"cross_entropy": 0, "binary_cross_entropy": 1}  # modules the loss replaces
    if with_output:
        modules += [nn.Softmax(dim=1)] if task.output == "softmax" else []
    elif fused_output.get(task.loss, 0):
        modules.pop()
    return nn.Sequential(*modules)


def set_weights(net: nn.Sequential, weights: list[np.ndarray]) -> None:
    with torch.no_grad():
        for parameter, w in zip(net.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(w).T if w.ndim == 2 else torch.from_numpy(w))


def half_squared_error(y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return nn.functional.mse_loss(y, t, reduction="sum") / (2 * len(t))


class Training:
    def __init__(self, task: Task, arrays: Arrays) -> None:
        self.task, self.arrays = task, arrays
        self.X, self.y = torch.from_numpy(arrays.X), torch.from_numpy(arrays.y)
        self.order = torch.from_numpy(arrays.order)
        self.loss: Any = {
            "cross_entropy": nn.functional.cross_entropy,
            "binary_cross_entropy": nn.functional.binary_cross_entropy_with_logits,
            "squared_error": half_squared_error,
        }[task.loss]

    def reset(self) -> None:
        task = self.task
        self.net = network(task, with_output=False)
        set_weights(self.net, self.arrays.weights)
        parameters, rate = self.net.parameters(), task.learning_rate
        if task.optimizer == "adam":
            self.optimizer: Any = torch.optim.Adam(parameters, lr=rate, fused=True)
        else:
            self.optimizer = torch.optim.SGD(parameters, lr=rate, foreach=False)

    def run(self) -> None:
        X, y, net, loss, optimizer = self.X, self.y, self.net, self.loss, self.optimizer
        for order in self.order:
            for rows in order.split(self.task.batch):
                optimizer.zero_grad(set_to_none=True)
                loss(net(X.index_select(0, rows)), y.index_select(0, rows)).backward()
                optimizer.step()

    def result(self) -> list[np.ndarray]:
        return [p.detach().numpy().T for p in self.net.parameters()]


class Prediction:
    def __init__(self, task: Task, arrays: Arrays) -> None:
        self.x, self.calls = arrays.X, task.calls
        self.net = network(task, with_output=True).eval()
        set_weights(self.net, arrays.weights)

    def reset(self) -> None:
        pass

    @torch.inference_mode()
    def run(self) -> None:
        net, x = self.net, self.x
        for _ in range(self.calls):
            out = net(torch.from_numpy(x)).numpy()
        self.out = out

    def result(self) -> list[np.ndarray]:
        return [self.out]


def job(task: Task, arrays: Arrays) -> Job:
    if torch.get_num_threads() != task.threads or torch.get_num_interop_threads() != 1:
        torch.set_num_threads(task.threads)
        torch.set_num_interop_threads(1)
    return (Training if task.kind == "train" else Prediction)(task, arrays)
