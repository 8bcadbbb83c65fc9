"""A small network, and what tests ask of it."""

from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper

import onnxpress
from onnxpress.ir import Model


def perceptron(inner: int = 16) -> ModelProto:
    """y = relu(relu(x A) B) C, with neurons of A that get weaker and weaker."""
    random = np.random.default_rng(0)
    a = random.standard_normal((8, inner)) * np.linspace(1, 0.01, inner)
    arrays = {"A": a, "B": random.standard_normal((inner, 12)), "C": random.standard_normal((12, 4))}
    nodes = [
        helper.make_node("MatMul", ["x", "A"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "B"], ["k"]),
        helper.make_node("Relu", ["k"], ["s"]),
        helper.make_node("MatMul", ["s", "C"], ["y"]),
    ]
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    x = helper.make_tensor_value_info("x", 1, ["N", 8])
    y = helper.make_tensor_value_info("y", 1, ["N", 4])
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def prune(model: Model, options: str, data: Any = None) -> Any:
    return onnxpress.PassManager(f"prune{{{options}}}", measure=False).run(model, data=data)


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    return {value.name: value.const.shape for value in model.graph.initializers if value.const is not None}


def feeds(count: int = 64) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal((4, 8)).astype(np.float32)} for _ in range(count)]


def error(a: Model, b: Model) -> float:
    return float(onnxpress.compare(a, b, data=feeds(8)).worst["rel-l2"].value)
