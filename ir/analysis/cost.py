"""What a model costs: nodes, parameters, bytes of weights, multiply-accumulates (MACs)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..graph import Graph
from ..model import Model
from ..node import Node
from .shapes import Shapes, infer_shapes

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """The price of one model.

    `nodes` counts all graphs and functions, Constant nodes left out; `parameters` and `weight_bytes` count every
    constant once; `macs` is for one run at the shapes given, of which `macs_unknown` nodes have no part because their
    shapes do not follow from the inputs'. Of an If the dearer branch counts, of a loop one turn.
    """

    nodes: int
    parameters: int
    weight_bytes: int
    macs: int
    macs_unknown: int


def cost(model: Model, pins: Mapping[str, tuple[int, ...]] | None = None) -> Cost:
    """The cost of a model, with the shapes of inputs fixed by `pins`."""
    nodes = parameters = nbytes = 0
    for graph in model.walk_graphs():
        tensors = [v.tensor for v in graph.initializers]
        for node in graph.nodes:
            nodes += node.constant is None
            tensors += [node.constant] if node.constant else [a.tensor for a in node.attributes.values()]
        parameters += sum(t.size for t in tensors if t is not None)
        nbytes += sum(t.nbytes for t in tensors if t is not None)
    macs, unknown = _graph_macs(model.graph, infer_shapes(model, pins), model)
    return Cost(nodes, parameters, nbytes, macs, unknown)


def node_macs(node: Node, shapes: Shapes) -> int | None:
    """MACs of one node without bodies; 0 for operators that multiply no weights, None if a shape is unknown."""
    rule = _RULES.get(node.op_type)
    if rule is None or node.domain not in ("", "com.microsoft"):
        return 0
    dims = [None if v is None else shapes.static_shape(v) for v in (*node.inputs, *node.outputs)]
    try:
        return rule(node, dims[: len(node.inputs)], dims[len(node.inputs) :])
    except (TypeError, IndexError):  # a dimension that the rule needs is not known
        return None


def _graph_macs(graph: Graph, shapes: Shapes, model: Model) -> tuple[int, int]:
    total = unknown = 0
    for node in graph.nodes:
        if node.bodies:
            inner = [_graph_macs(body, shapes, model) for body in node.bodies]
            total += max(macs for macs, _ in inner)
            unknown += max(count for _, count in inner)
        elif (node.domain, node.op_type, node.overload) in model.functions:
            unknown += 1
        else:
            macs = node_macs(node, shapes)
            total, unknown = (total, unknown + 1) if macs is None else (total + macs, unknown)
    return total, unknown


_Known = list[Dims | None]


def _size(dims: Dims | None) -> int:
    if dims is None:
        raise TypeError("unknown shape")
    return math.prod(dims)


def _conv(node: Node, inputs: _Known, outputs: _Known) -> int:
    weight = inputs[3 if node.op_type == "QLinearConv" else 1]
    return _size(outputs[0]) * _size(weight[1:] if weight else None)


def _conv_transpose(node: Node, inputs: _Known, outputs: _Known) -> int:
    weight = inputs[1]
    return _size(inputs[0]) * _size(weight[1:] if weight else None)


def _matmul(node: Node, inputs: _Known, outputs: _Known) -> int:
    left = inputs[0]
    return _size(outputs[0]) * _size(left[-1:] if left else None)


def _gemm(node: Node, inputs: _Known, outputs: _Known) -> int:
    left = inputs[0]
    if left is None:
        raise TypeError("unknown shape")
    return _size(outputs[0]) * left[0 if node.attr("transA", 0) else 1]


def _recurrent(node: Node, inputs: _Known, outputs: _Known) -> int:
    """Every element of W and R is used once a step and sample (layout 0: x is [steps, batch, features])."""
    x = inputs[0]
    return _size(x[:2] if x else None) * (_size(inputs[1]) + _size(inputs[2]))


_RULES: dict[str, Callable[[Node, _Known, _Known], int]] = {
    "Conv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "MatMulNBits": _matmul,
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
