"""Units: the sets of elements that have one factor, and the constants that take it in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ...ir import Model, Node, Value
from ...ir.analysis.coupling import moves as passing
from ...ir.analysis.coupling import reshapes
from ...ir.analysis.coupling.axes import Axis, Index
from ...ir.analysis.coupling.known import known_shapes
from ...ir.analysis.shapes import Shapes
from . import layers, moves
from .scales import Scales, Touch

Rule = Callable[[Node, Scales], None]
SINCE = 7
"""The opset from which on operators broadcast as numpy does."""
ADDITIVE = ("Add", "Sub", "Max", "Min", "Sum", "Mean")
RULES: dict[str, Rule] = {
    **dict.fromkeys(("Abs", "Dropout", "Identity", "LeakyRelu", "Neg", "PRelu", "Relu"), moves.homogeneous),
    **dict.fromkeys(ADDITIVE, moves.additive),
    **dict.fromkeys(("Mul", "Div"), moves.product),
    **dict.fromkeys(("Conv", "ConvTranspose"), layers.conv),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), layers.recurrent),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layers.last_axis),
    **dict.fromkeys(
        ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), passing.pool
    ),
    **dict.fromkeys(("Resize", "Upsample"), moves.resize),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "Flatten", "Reshape"), reshapes.reshape),
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"), moves.reduce
    ),
    **dict.fromkeys(("Shape", "Size"), moves.shape_of),
    "BatchNormalization": layers.batch_norm,
    "InstanceNormalization": layers.instance_norm,
    "Clip": moves.clip,
    "Concat": passing.concat,
    "Gather": moves.gather,
    "Gemm": layers.gemm,
    "If": passing.branches,
    "MatMul": layers.matmul,
    "Pad": moves.pad,
    "Slice": passing.slice_,
    "Split": passing.split,
    "Transpose": passing.transpose,
    "Where": moves.where,
}  # fmt: skip
_SEVERAL_OUTPUTS = ("Split", "LSTM", "GRU", "RNN", "If")


@dataclass(frozen=True)
class Units:
    """The elements of all axes by the unit that they belong to.

    `frozen[u]` says why unit `u` has the factor 1, or is empty; `groups[u]` is the number of the connected set of axes
    that it lies in. `of(touch)` are the units of a constant's numbers, in a shape that broadcasts to it.
    """

    touches: tuple[Touch, ...]
    numbers: dict[Axis, Index]
    frozen: list[str]
    groups: Index

    def of(self, touch: Touch) -> Index:
        """The units by which a constant is scaled."""
        return self.numbers[touch.axis][touch.index]

    @property
    def once(self) -> list[Touch]:
        """The touches without those of further readers of a constant, who need it with the same factors."""
        first = {touch.constant: (touch.node, touch.slot) for touch in reversed(self.touches)}
        return [touch for touch in self.touches if first[touch.constant] == (touch.node, touch.slot)]

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which units may have a factor."""
        return np.array([not reason for reason in self.frozen], bool)


def find_units(model: Model, shapes: Shapes, selects: Callable[[Node], bool]) -> Units:
    """The units of the main graph and its bodies; constants of nodes that are not selected stay, and so does what
    leaves the branches of an If that is not."""
    scales = Scales(known_shapes(model, shapes))
    for value in (*model.graph.inputs, *model.graph.outputs):
        scales.freeze_value(value, "it is an input or output of the model")
    later = list(_walk(model, scales, selects))
    for node in later:
        scales.said = set()
        if moves.is_open(node):
            moves.decide(node, scales, _stuck(scales))
        else:
            reshapes.decide(node, scales, "channel", _stuck(scales))
        _close(node, scales)
    _hold_constants(scales, selects)
    return _units(scales)


def _walk(model: Model, scales: Scales, selects: Callable[[Node], bool]) -> Iterator[Node]:
    """Apply the rules; gives the nodes that have to be decided when all else is known."""
    branches = {body for graph in model.graph.walk_graphs() for n in graph.nodes if n.is_op("If") for body in n.bodies}
    for graph in model.graph.walk_graphs():
        if graph is not model.graph and graph not in branches:
            for value in (*graph.inputs, *graph.outputs):
                scales.freeze_value(value, "it goes in or out of a loop")
        for value in graph.values():
            if value.const is None:
                scales.axes(value)
            if value.pinned:
                scales.freeze_value(value, value.pinned)
        for node in graph.nodes:
            if node.is_op("Constant"):
                continue
            scales.said = set()
            if moves.is_open(node) or (
                node.is_op("Reshape", "Flatten", "Squeeze", "Unsqueeze") and reshapes.is_open(node, scales)
            ):
                yield node
                continue
            if _is_plain(node) and (selects(node) or not node.bodies) and (rule := RULES.get(node.op_type)) is not None:
                rule(node, scales)
            _close(node, scales)


def _is_plain(node: Node) -> bool:
    """Whether the rules speak of a node: of the standard, with one output, and no value in two places."""
    extra = [value for value in node.outputs[1:] if value.name and not value.is_dead]
    read = [value for value in node.inputs if value is not None and value.const is None]
    return (
        not node.domain
        and not any(attribute.ref for attribute in node.attributes.values())
        and (not extra or node.op_type in _SEVERAL_OUTPUTS)
        and (len(set(read)) == len(read) or node.op_type in (*ADDITIVE, "Concat"))
        and node.graph is not None
        and node.graph.opset.get("", 0) >= SINCE
    )


def _close(node: Node, scales: Scales) -> None:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None and value.name]
    scales.freeze_unsaid((v for v in values if v.const is None), f"no factor passes through {node.label}")


def _stuck(scales: Scales) -> set[Axis]:
    """Axes that are tied to a wholly frozen axis."""
    found: set[Axis] = set()
    for axis, reasons in scales.frozen.items():
        if axis not in found and any(len(where) == scales.sizes[axis] for where, _ in reasons):
            found |= nx.node_connected_component(scales.graph, axis) if axis in scales.graph else {axis}
    return found


def _hold_constants(scales: Scales, selects: Callable[[Node], bool]) -> None:
    """Freeze what constants tie that take no factor in, or that their readers need with different ones."""
    for axis in list(scales.graph.nodes):
        if axis.value.const is not None:
            scales.freeze(axis, "it is a constant that takes in no factor")
    by_constant: dict[Value, list[Touch]] = {}
    for touch in scales.touches:
        by_constant.setdefault(touch.constant, []).append(touch)
    for constant, touches in by_constant.items():
        if not all(selects(touch.node) for touch in touches):
            _freeze(scales, touches, f"{constant.name} is not selected")
        elif len(constant.uses) > 1 and not _tie_shared(scales, constant, touches):
            _freeze(scales, touches, f"{constant.name} has other readers")


def _freeze(scales: Scales, touches: Iterable[Touch], reason: str) -> None:
    for touch in touches:
        scales.freeze(touch.axis, reason)


def _tie_shared(scales: Scales, constant: Value, touches: list[Touch]) -> bool:
    """Let all readers of a constant need it with the same factors, if they read it in the same way."""
    by_use = [[t for t in touches if t.node is use.user and t.slot == use.slot] for use in constant.uses]
    first = by_use[0]
    for other in by_use[1:]:
        if len(other) != len(first) or not all(map(_is_alike, first, other)):
            return False
    for other in by_use[1:]:
        for a, b in zip(first, other, strict=True):
            scales.tie(a.axis, b.axis)
    return True


def _is_alike(a: Touch, b: Touch) -> bool:
    same = a.power == b.power and a.role == b.role and a.index.shape == b.index.shape
    return same and bool((a.index == b.index).all()) and len(np.unique(a.index)) == a.index.max(initial=-1) + 1


def _units(scales: Scales) -> Units:
    starts: dict[Axis, int] = {}
    total = 0
    for axis in scales.graph.nodes:
        starts[axis] = total
        total += scales.sizes[axis]
    rows: list[Index] = [np.zeros(0, np.int64)]
    columns = rows.copy()
    for _, _, data in scales.graph.edges(data=True):
        first, second = data["ends"]  # of an undirected edge either end may come first
        rows.append(data["ia"] + starts[first])
        columns.append(data["ib"] + starts[second])
    row, column = np.concatenate(rows), np.concatenate(columns)
    pairs = coo_matrix((np.ones(len(row), bool), (row, column)), (total, total))
    count, labels = connected_components(pairs, directed=False)
    numbers = {axis: labels[start : start + scales.sizes[axis]].astype(np.int64) for axis, start in starts.items()}
    frozen = [""] * count
    for axis, reasons in scales.frozen.items():
        for where, reason in reasons:
            for unit in np.unique(numbers[axis][where]):
                frozen[unit] = frozen[unit] or f"{axis!r}: {reason}"
    groups = np.zeros(count, np.int64)
    for number, component in enumerate(nx.connected_components(scales.graph)):
        for axis in component:
            groups[numbers[axis]] = number
    return Units(tuple(scales.touches), numbers, frozen, groups)
