"""Groups: the components of the graph over (value, axis), and the units in each that are cut at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ...model import Model
from ...node import Node
from ..shapes import Shapes
from . import layers, moves, reshapes
from .axes import Axis, Facts, Fix, Index
from .known import known_shapes

Mode = Literal["channel", "head"]
Rule = Callable[[Node, Facts], None]
_POINTWISE = (
    "Abs Add And Cast CastLike Ceil Celu Clip Cos Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual "
    "HardSigmoid HardSwish Identity IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu "
    "Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Swish Tanh ThresholdedRelu Where"
)
POINTWISE = tuple(_POINTWISE.split())
"""Operators that work element by element, with broadcasting."""
RULES: dict[str, Rule] = {
    **dict.fromkeys(POINTWISE, moves.pointwise),
    **dict.fromkeys(("Clip", "Dropout", "CastLike"), moves.clip),
    **dict.fromkeys(("Conv", "ConvTranspose"), layers.conv),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), layers.recurrent),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), layers.channelwise),
    **dict.fromkeys(
        ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), moves.pool
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization"), moves.along_axis),
    **dict.fromkeys(("Resize", "Upsample"), moves.resize),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "Flatten", "Reshape"), reshapes.reshape),
    **dict.fromkeys(
        ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd"),
        moves.reduce,
    ),
    "Gemm": layers.gemm,
    "MatMul": layers.matmul,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layers.last_axes),
    "Transpose": moves.transpose,
    "Concat": moves.concat,
    "Split": moves.split,
    "Slice": moves.slice_,
    "Pad": moves.pad,
    "Expand": moves.expand,
    "Gather": moves.gather,
    "Shape": moves.shape_of,
    "If": moves.branches,
}
_SEVERAL_OUTPUTS = ("Split", "LSTM", "GRU", "RNN", "If")


@dataclass
class Group:
    """Axes that are cut together, and how.

    `units[axis][i]` is the number of the unit that element `i` of the axis belongs to; `frozen[u]` says why unit `u`
    must stay, or is empty. Units that would empty an axis are frozen as well.
    """

    axes: list[Axis]
    units: dict[Axis, Index]
    frozen: list[str]
    fixes: list[Fix] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many units there are."""
        return len(self.frozen)

    @property
    def free(self) -> Index:
        """The units that can be cut."""
        return np.flatnonzero([not reason for reason in self.frozen])

    @property
    def constants(self) -> list[Axis]:
        """The axes of constants in it."""
        return [axis for axis in self.axes if axis.value.const is not None]

    def kept(self, axis: Axis, gone: NDArray[np.bool_]) -> Index:
        """The elements of an axis that stay if the units `gone` are cut."""
        return np.flatnonzero(~gone[self.units[axis]])

    def __str__(self) -> str:
        """What would be cut, and what follows."""
        values = [axis for axis in self.axes if axis.value.const is None]
        lines = [f"group of {self.count} units, {len(self.free)} free"]
        lines += self._lines("weights", self.constants)
        lines += self._lines("values", values)
        if self.fixes:
            lines.append(
                f"  numbers: {', '.join(dict.fromkeys(f'{fix.kind} of {fix.node.label}' for fix in self.fixes))}"
            )
        stays = Counter(reason for reason in self.frozen if reason)
        lines += [f"  {count} stay: {reason}" for reason, count in stays.items()]
        return "\n".join(lines)

    def _lines(self, title: str, axes: list[Axis]) -> list[str]:
        """The axes, with how many elements of each a unit has, if more than one."""
        each = [f"{axis!r}{self._per_unit(axis)}" for axis in axes]
        return [f"  {title}: {', '.join(each)}"] if each else []

    def _per_unit(self, axis: Axis) -> str:
        most = int(np.bincount(self.units[axis]).max(initial=0))
        return f" ({most} a unit)" if most > 1 else ""


def couple(model: Model, shapes: Shapes, mode: Mode = "channel") -> list[Group]:
    """The groups of the main graph and its bodies that hold a constant; `mode` says which of two axes that a reshape
    merges is cut: the wider one (`channel`) or the first (`head`)."""
    facts = Facts(known_shapes(model, shapes))
    for value in (*model.graph.inputs, *model.graph.outputs):
        facts.freeze_value(value, "it is an input or output of the model")
    later: list[Node] = []
    branches = {body for graph in model.graph.walk_graphs() for n in graph.nodes if n.is_op("If") for body in n.bodies}
    for graph in model.graph.walk_graphs():
        if graph is not model.graph and graph not in branches:
            for value in (*graph.inputs, *graph.outputs):
                facts.freeze_value(value, "it goes in or out of a loop")
        for value in graph.values():
            facts.axes(value)
            if value.pinned:
                facts.freeze_value(value, value.pinned)
        for node in graph.nodes:
            if node.op_type == "Constant" and not node.domain:
                continue
            facts.said = set()
            if node.is_op("Reshape", "Flatten", "Squeeze", "Unsqueeze") and reshapes.is_open(node, facts):
                later.append(node)
                continue
            _apply(node, facts, RULES.get(node.op_type) if not node.domain else None)
    for node in later:
        facts.said = set()
        stuck = _stuck(facts)
        reshapes.decide(node, facts, mode, stuck)
        _close(node, facts)
    return list(_groups(facts))


def _apply(node: Node, facts: Facts, rule: Rule | None) -> None:
    extra = [value for value in node.outputs[1:] if value.name and not value.is_dead]
    references = any(attribute.ref for attribute in node.attributes.values())
    if rule is not None and not references and (not extra or node.op_type in _SEVERAL_OUTPUTS):
        rule(node, facts)
    _close(node, facts)


def _close(node: Node, facts: Facts) -> None:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None and value.name]
    known = node.op_type in RULES and not node.domain
    reason = f"{node.op_type} needs the whole axis" if known else f"{node.op_type} is not known"
    facts.freeze_unsaid(values, f"{reason} ({node.label})")


def _stuck(facts: Facts) -> set[Axis]:
    """Axes that are tied to a wholly frozen axis."""
    found: set[Axis] = set()
    for axis, reasons in facts.frozen.items():
        if axis not in found and any(len(where) == facts.sizes[axis] for where, _ in reasons):
            found |= nx.node_connected_component(facts.graph, axis) if axis in facts.graph else {axis}
    return found


def _groups(facts: Facts) -> Iterator[Group]:
    fixes: dict[Axis, list[Fix]] = {}
    for fix in facts.fixes:
        fixes.setdefault(fix.axis, []).append(fix)
    for component in nx.connected_components(facts.graph):
        axes = sorted(component, key=lambda axis: _order(facts, axis))
        if any(axis.value.const is not None for axis in axes):
            yield _group(facts, axes, [fix for axis in axes for fix in fixes.get(axis, ())])


def _order(facts: Facts, axis: Axis) -> tuple[bool, str, int]:
    return (axis.value.const is None, axis.value.name, axis.axis)


def _group(facts: Facts, axes: list[Axis], fixes: list[Fix]) -> Group:
    starts: dict[Axis, int] = {}
    total = 0
    for axis in axes:
        starts[axis] = total
        total += facts.sizes[axis]
    rows: list[Index] = []
    columns: list[Index] = []
    for _, _, data in facts.graph.edges(axes, data=True):
        first, second = data["ends"]  # of an undirected edge either end may come first
        rows.append(data["ia"] + starts[first])
        columns.append(data["ib"] + starts[second])
    row, column = (np.concatenate(each) if each else np.zeros(0, np.int64) for each in (rows, columns))
    count, labels = _connected(total, row, column)
    units = {axis: labels[start : start + facts.sizes[axis]] for axis, start in starts.items()}
    frozen = [""] * count
    for axis in axes:
        for where, reason in facts.frozen.get(axis, ()):
            for unit in np.unique(units[axis][where]):
                frozen[unit] = frozen[unit] or f"{axis!r}: {reason}"
        if facts.sizes[axis] and len(np.unique(units[axis])) == 1:
            unit = units[axis][0]
            frozen[unit] = frozen[unit] or f"{axis!r} would be empty"
    return Group(axes, units, frozen, fixes)


def _connected(total: int, row: Index, column: Index) -> tuple[int, Index]:
    """How many connected sets `total` elements form with the given pairs, and the number of the set of each."""
    labels = np.arange(total)
    while True:
        least = np.minimum(labels[row], labels[column])
        new = labels.copy()
        np.minimum.at(new, labels[row], least)
        np.minimum.at(new, labels[column], least)
        new = new[new]  # halves the way to the least element
        if (new == labels).all():
            break
        labels = new
    names, numbers = np.unique(labels, return_inverse=True)
    return len(names), numbers.astype(np.int64)
