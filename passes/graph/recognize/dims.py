"""Sizes of single dimensions, followed through operators where shape inference gives up.

onnx's inference names a size anew whenever two symbols meet in an Add, or a shape is computed from sizes. Here a size
is followed back to where it comes from, so that two values are seen to have the same rows: what runs at all has one of
two sizes that broadcast, or 1; a slice of the first n rows of a table has n rows or fewer.
"""

from __future__ import annotations

import math

from ....ir import Node, Value
from ...rewriting.constants import array_of
from ...rewriting.rule import Types
from .extents import BROADCAST, UNARY
from .numbers import number_of

Dim = int | str | None
_LEAST = "\0min "
"""Begins the name of the least of a number and another size: of a table of so many rows, the first n."""
_DEPTH = 400


class Dims:
    """Dimensions by value and axis (from the front); remembered for as long as the types hold."""

    def __init__(self, types: Types) -> None:
        self.types = types
        self.known: dict[tuple[Value, int], Dim] = {}
        self.depth = 0

    def rank(self, value: Value) -> int | None:
        """The rank as inferred, or as a permutation tells it."""
        node = value.producer
        perm = node.attr("perm") if node is not None and node.is_op("Transpose") else None
        return self.types.rank(value) if perm is None else len(perm)

    def shape(self, value: Value) -> tuple[Dim, ...] | None:
        """All dimensions; None if the rank is unknown."""
        rank = self.rank(value)
        return None if rank is None else tuple(self.dim(value, axis) for axis in range(rank))

    def dim(self, value: Value | None, axis: int) -> Dim:
        """The size of a dimension: a number, a name, or None if nothing is known."""
        if value is None:
            return None
        shape = self.types.shape(value)
        axis = axis + len(shape) if axis < 0 and shape is not None else axis
        inferred = shape[axis] if shape is not None and 0 <= axis < len(shape) else None
        if axis < 0 or isinstance(inferred, int) or (inferred is not None and not inferred.startswith("unk__")):
            return inferred
        key = (value, axis)
        if key not in self.known:
            if self.depth > _DEPTH:
                return inferred
            self.depth += 1
            followed = self._follow(value, axis)
            self.depth -= 1
            self.known[key] = inferred if followed is None else followed
        return self.known[key]

    def _follow(self, value: Value, axis: int) -> Dim:
        node = value.producer
        if node is None or node.domain or node.outputs[0] is not value:
            return None
        if node.op_type in UNARY:
            return self.dim(node.inputs[0], axis)
        if node.op_type in BROADCAST:
            return self._broadcast(node, value, axis)
        match node.op_type:
            case "MatMul":
                return self._matmul(node, axis)
            case "Attention":
                return self._attention(node, axis)
            case "Transpose":
                return self._transpose(node, axis)
            case "Gather":
                return self._gather(node, axis)
            case "Slice":
                return self._slice(node, axis)
            case "Reshape":
                return self._reshape(node, axis)
        return None

    def _broadcast(self, node: Node, value: Value, axis: int) -> Dim:
        rank = self.rank(value)
        ranks = [None if one is None else self.rank(one) for one in node.inputs]
        if rank is None or None in ranks:
            return None
        found = {
            self.dim(one, axis - rank + own)
            for one, own in zip(node.inputs, ranks, strict=True)
            if own is not None and axis - rank + own >= 0
        } - {1}
        # Where n is 1, at most n is 1; else they broadcast to n.
        found = {dim for dim in found if not (isinstance(dim, str) and dim.startswith(_LEAST) and _of(dim) in found)}
        return (found.pop() if found else 1) if len(found) <= 1 else None

    def _matmul(self, node: Node, axis: int) -> Dim:
        a, b = node.inputs[0], node.inputs[1]
        ranks = [None if one is None else self.rank(one) for one in (a, b)]
        if ranks[0] is None or ranks[1] is None or ranks[0] < 2 or ranks[1] < 2:
            return None
        rank = max(ranks[0], ranks[1])
        if axis == rank - 1:
            return self.dim(b, ranks[1] - 1)
        if axis == rank - 2 or ranks[1] == 2:
            return self.dim(a, axis - rank + ranks[0])
        found = {
            self.dim(one, axis - rank + own) for one, own in ((a, ranks[0]), (b, ranks[1])) if axis - rank + own >= 0
        }
        found -= {1}
        return (found.pop() if found else 1) if len(found) <= 1 else None

    def _attention(self, node: Node, axis: int) -> Dim:
        """Of four dimensions, or of three with the heads in attributes."""
        heads = node.attr("q_num_heads")
        last = 3 if heads is None else 2
        if axis == last and heads != node.attr("kv_num_heads"):
            return None
        return self.dim(node.inputs[2] if axis == last else node.inputs[0], axis)

    def _transpose(self, node: Node, axis: int) -> Dim:
        perm = node.attr("perm")
        return None if perm is None or axis >= len(perm) else self.dim(node.inputs[0], perm[axis])

    def _gather(self, node: Node, axis: int) -> Dim:
        data, indices = node.inputs[0], node.inputs[1]
        rank = None if indices is None else self.rank(indices)
        if rank is None or node.attr("axis", 0) != 0:
            return None
        return self.dim(indices, axis) if axis < rank else self.dim(data, axis - rank + 1)

    def _slice(self, node: Node, axis: int) -> Dim:
        """A slice of a table: its other sizes stay, and the first n of an axis are at most n."""
        table, parts = node.inputs[0], [elements_of(node.input(slot)) for slot in range(1, 5)]
        if table is None or table.const is None or any(part is None or len(part) != 1 for part in parts[:3]):
            return None
        starts, ends, axes, steps = (None if part is None else part[0] for part in parts)
        if axes != axis:
            return table.const.shape[axis] if isinstance(axes, int) and axes >= 0 else None
        source = dim_read_by(ends) if isinstance(ends, Value) else None
        if source is None or starts != 0 or steps not in (None, 1):
            return None
        of = self.dim(*source)
        return None if of is None else f"{_LEAST}{table.const.shape[axis]} {of}"

    def _reshape(self, node: Node, axis: int) -> Dim:
        x, wanted = node.inputs[0], elements_of(node.input(1))
        if x is None or wanted is None or axis >= len(wanted) or node.attr("allowzero", 0):
            return None
        element = self._element(x, wanted, axis)
        if element != -1:
            return element
        shape = self.shape(x)
        if shape is None:
            return None
        others = [self._element(x, wanted, other) for other in range(len(wanted)) if other != axis]
        return _quotient(list(shape), others)

    def _element(self, x: Value, wanted: list[int | Value], axis: int) -> Dim:
        element = wanted[axis]
        if isinstance(element, int):
            return self.dim(x, axis) if element == 0 else element
        source = dim_read_by(element)
        return None if source is None else self.dim(*source)


def _of(least: str) -> Dim:
    """The size in the name of the least of a number and a size."""
    name = least.removeprefix(_LEAST).split(" ", 1)[1]
    return int(name) if name.isdigit() else name


def _quotient(of: list[Dim], by: list[Dim]) -> Dim:
    """The product of sizes over that of others, if it is a number or a single name."""
    if None in of or None in by:
        return None
    for name in [one for one in by if isinstance(one, str)]:
        if name not in of:
            return None
        of.remove(name)
    number = math.prod(dim for dim in of if isinstance(dim, int))
    over = math.prod(dim for dim in by if isinstance(dim, int))
    names = [dim for dim in of if isinstance(dim, str)]
    if over == 0 or number % over or len(names) > 1 or (names and number != over):
        return None
    return names[0] if names else number // over


def elements_of(value: Value | None) -> list[int | Value] | None:
    """The elements of a shape: numbers, or values of shape (1,) that hold them."""
    if value is None:
        return None
    if value.const is not None:
        array = array_of(value.const)
        return None if array is None or array.dtype.kind not in "iu" else [int(one) for one in array.reshape(-1)]
    node = value.producer
    if node is None or not node.is_op("Concat"):
        return [value] if dim_read_by(value) is not None else None
    found: list[int | Value] = []
    for part in node.inputs:
        inner = None if part is None or part.producer is node else elements_of(part)
        if inner is None:
            return None
        found += inner
    return found


def dim_read_by(value: Value) -> tuple[Value, int] | None:
    """The value and axis whose size a value of shape (1,) is: Unsqueeze(Gather(Shape(x), axis)), or Shape of one."""
    node = value.producer
    scalar = False
    if node is not None and node.is_op("Unsqueeze"):
        node, scalar = (None if node.inputs[0] is None else node.inputs[0].producer), True
    if node is None or node.inputs[0] is None:
        return None
    if node.is_op("Shape") and not scalar:
        start, end = int(node.attr("start", 0)), node.attr("end")
        return (node.inputs[0], start) if start >= 0 and end == start + 1 else None
    index = node.input(1)
    if not node.is_op("Gather") or node.attr("axis", 0) != 0 or index is None or index.const is None:
        return None
    shape, which = node.inputs[0].producer, number_of(index)
    if len(index.const.shape) != (0 if scalar else 1) or which is None or which < 0:
        return None
    if shape is None or not shape.is_op("Shape") or shape.attributes or shape.inputs[0] is None:
        return None
    return shape.inputs[0], int(which)
