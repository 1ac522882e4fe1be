"""ONNX Runtime: a graph of Gemm nodes, all optimisations, sequential execution.

Prepared, input and output are bound to NumPy arrays (for one row a fifth to two fifths faster than
`run`; no difference for many). Tried, and slower: `OrtValue` arguments (8 times for one row).
"""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from data import Arrays
from peers import Job, Unsupported
from workloads import Task

OPERATORS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softmax": "Softmax"}


def model(task: Task, weights: list[np.ndarray]) -> bytes:
    nodes, value = [], "x"
    for i, activation in enumerate(task.activations):
        last = i == len(task.layers) - 1
        nodes.append(helper.make_node("Gemm", [value, f"kernel{i}", f"bias{i}"], [f"z{i}"]))
        value = "y" if last else f"y{i}"
        nodes.append(helper.make_node(OPERATORS[activation], [f"z{i}"], [value]))
    names = [f"{name}{i}" for i in range(len(task.layers)) for name in ("kernel", "bias")]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, task.sizes[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, task.sizes[-1]])],
        [numpy_helper.from_array(w, name) for w, name in zip(weights, names, strict=True)],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


class Prediction:
    def __init__(self, task: Task, arrays: Arrays) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        serialized = model(task, arrays.weights)
        self.session = onnxruntime.InferenceSession(
            serialized, options, providers=["CPUExecutionProvider"]
        )
        self.feed, self.calls = {"x": arrays.X}, task.calls

    def reset(self) -> None:
        pass

    def run(self) -> None:
        run, feed = self.session.run, self.feed
        for _ in range(self.calls):
            (out,) = run(["y"], feed)
        self.out = out

    def result(self) -> list[np.ndarray]:
        return [self.out]


class PreparedPrediction(Prediction):
    def __init__(self, task: Task, arrays: Arrays) -> None:
        super().__init__(task, arrays)
        self.x = arrays.X  # kept: the binding has its address only
        self.out = np.empty((len(arrays.X), task.sizes[-1]), np.float32)
        self.binding = self.session.io_binding()
        self.binding.bind_cpu_input("x", self.x)
        self.binding.bind_output("y", "cpu", 0, np.float32, self.out.shape, self.out.ctypes.data)

    def run(self) -> None:
        run, binding = self.session.run_with_iobinding, self.binding
        for _ in range(self.calls):
            run(binding)


def job(task: Task, arrays: Arrays) -> Job:
    if task.kind == "train":
        raise Unsupported("it is for inference")
    return (PreparedPrediction if task.kind == "predictor" else Prediction)(task, arrays)
