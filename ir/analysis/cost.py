"""What a model costs: nodes, parameters, bytes of weights, multiply-accumulates (MACs)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..graph import Graph
from ..journal import Edit
from ..model import Model
from ..node import Node
from ..value import Value
from .shapes import Shapes, infer_shapes

Dims = tuple[int, ...]
_Read = tuple[Value | Dims | None, ...]


class Cost(NamedTuple):
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
    return CostMeter(model, pins).cost()


class CostMeter:
    """The cost of a model through its changes: shapes are inferred again only where MACs may have changed.

    Without `pins`, `shapes` may give those of the model as it is now, so that others share the inference.
    """

    def __init__(
        self,
        model: Model,
        pins: Mapping[str, tuple[int, ...]] | None = None,
        shapes: Callable[[], Shapes] | None = None,
    ) -> None:
        self._model = model
        self._pins = pins
        self._shapes = shapes
        self._macs: dict[Node, int | None] = {}
        self._read: dict[Node, _Read] = {}
        self._infer()

    def update(self, edits: Sequence[Edit], *, same_values: bool) -> None:
        """Take note of changes; `same_values` says that every value that is still there is the same as before, so that
        nodes which no edit touches multiply as much as before."""
        if all(map(self._keeps_shapes, edits)):
            return
        if not same_values or None in self._macs.values() or any(map(self._may_multiply, edits)):
            self._infer()

    def _keeps_shapes(self, edit: Edit) -> bool:
        """Whether a change leaves the shape of every value that is still there: of the nodes that it leaves, it lets
        only such read something else whose results have shapes that follow from those of their inputs alone."""
        node = edit.subject
        if not isinstance(node, Node):
            return edit.kind in _HARMLESS
        if edit.kind == "insert":
            return node.domain == "" and node.op_type not in _RULES and not node.bodies
        return edit.kind == "erase" or (edit.kind == "set-input" and self._reads_alike(node))

    def _reads_alike(self, node: Node) -> bool:
        return node.domain == "" and self._read.get(node) == _read_by(node)

    def _may_multiply(self, edit: Edit) -> bool:
        """Whether a change is of a node that has MACs, or of more than one node: not where it reads constants of the
        same shapes as before, and else the same values."""
        node = edit.subject
        if not isinstance(node, Node):
            return edit.kind not in _HARMLESS
        if edit.kind == "erase" or (edit.kind == "set-input" and self._reads_alike(node)):
            return False
        multiplies = node.op_type in _RULES or bool(node.bodies)
        return multiplies or (edit.kind == "insert" and node.domain != "")

    def cost(self) -> Cost:
        """The cost of the model as it is now."""
        nodes = parameters = nbytes = 0
        for graph in self._model.walk_graphs():
            tensors = [v._tensor for v in graph.initializers]
            for node in graph.nodes:
                constant = node.constant if node.op_type == "Constant" else None
                nodes += constant is None
                tensors += [constant] if constant else [a.tensor for a in node._attributes.values()]
            held = [t for t in tensors if t is not None]
            parameters += sum(t.size for t in held)
            nbytes += sum(t.nbytes for t in held)
        macs, unknown = self._graph_macs(self._model.graph)
        return Cost(nodes, parameters, nbytes, macs, unknown)

    def _infer(self) -> None:
        shapes = self._shapes() if self._shapes and not self._pins else infer_shapes(self._model, self._pins)
        self._macs, self._read = {}, {}
        for graph in self._model.graph.walk_graphs():
            for node in graph.nodes:
                if (node.domain, node.op_type, node.overload) in self._model.functions:
                    self._macs[node] = None
                elif node.op_type in _RULES:
                    self._macs[node] = node_macs(node, shapes)
                    self._read[node] = _read_by(node)

    def _graph_macs(self, graph: Graph) -> tuple[int, int]:
        total = unknown = 0
        for node in graph.nodes:
            if node.bodies:
                inner = [self._graph_macs(body) for body in node.bodies]
                total += max(macs for macs, _ in inner)
                unknown += max(count for _, count in inner)
            else:
                macs = self._macs.get(node, 0)
                total, unknown = (total, unknown + 1) if macs is None else (total + macs, unknown)
        return total, unknown


def _read_by(node: Node) -> _Read:
    """What a node reads: of constants, and of what is computed from them element by element, the shapes."""
    return tuple(None if value is None else _shape_of_constant(value) or value for value in node.inputs)


def _shape_of_constant(value: Value, depth: int = 4) -> Dims | None:
    """The shape of a constant, or of a stored weight that few operators turn into what it stands for."""
    if value.const is not None:
        return value.const.shape
    node = value.producer
    if node is None or not depth or not node.is_op(*_ELEMENTWISE):
        return None
    reads = node.inputs if node.is_op("Mul", "Sub") else node.inputs[:1]
    shapes = [None if read is None else _shape_of_constant(read, depth - 1) for read in reads]
    known = [shape for shape in shapes if shape is not None]
    try:
        return tuple(np.broadcast_shapes(*known)) if known and len(known) == len(shapes) else None
    except ValueError:
        return None


_ELEMENTWISE = ("Cast", "DequantizeLinear", "Identity", "Mul", "Sub")
"""How weights are stored smaller: levels, scales and zero points."""


_HARMLESS = frozenset({"add-initializer", "remove-initializer", "rename", "set-output", "set-info", "set-ir-version"})


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
