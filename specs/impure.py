"""Which nodes of a message no pass may remove, merge or evaluate, by a list apart from the one that passes use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, defs, numpy_helper

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
PURE = frozenset(
    ("com.microsoft", name)
    for name in (
        "DequantizeLinear",
        "MatMulNBits",
        "MatMulIntegerToFloat",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QuantizeLinear",
    )
)
"""Operators that onnx does not know, and that compute nothing but a function of their inputs."""
_Functions = Mapping[tuple[str, str], FunctionProto]
_Names = frozenset[str]


def impure_nodes(model: ModelProto) -> Counter[str]:
    """How often nodes that draw random numbers (Dropout where a constant switches training on), or of an operator that
    onnx does not know, stand in the model.

    Bodies are counted once, functions as often as they are called: inlining one, or removing one that nobody calls,
    changes nothing.
    """
    functions = {(f.domain, f.name): f for f in model.functions}
    return Counter(_walk(model.graph, functions, frozenset()))


def _walk(graph: GraphProto | FunctionProto, functions: _Functions, outer: _Names) -> Iterator[str]:
    true = outer | set(_true_constants(graph))
    for node in graph.node:
        function = functions.get((node.domain, node.op_type))
        if function is not None:
            yield from _walk(function, functions, frozenset())
        elif _is_impure(node, true):
            yield f"{node.domain}::{node.op_type}"
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _walk(body, functions, true)


def _true_constants(graph: GraphProto | FunctionProto) -> Iterator[str]:
    """The names of constants that are true."""
    if isinstance(graph, GraphProto):
        yield from (tensor.name for tensor in graph.initializer if _is_true(tensor))
    for node in graph.node:
        if node.op_type == "Constant" and any(a.name == "value" and _is_true(a.t) for a in node.attribute):
            yield node.output[0]


def _is_true(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.BOOL and bool(numpy_helper.to_array(tensor).all())


def _is_impure(node: NodeProto, true: _Names) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return (node.domain, node.op_type) not in PURE and not defs.has(node.op_type, node.domain)
    if node.op_type == "Dropout":
        return len(node.input) > 2 and node.input[2] in true
    return node.op_type in RANDOM
