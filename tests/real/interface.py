"""Which axes of weights go together with an input or output of a model: read off the operators alone.

Written without the coupling analysis, to hold it to account. Axes of values are joined (union-find), more of them than
need be: where a reshape splits or merges axes all of these are, and where an operator is not spoken of, axes of equal
places and sizes. Axes of size one, and of a size that is not known, are nobody's: what is only joined through them
counts as free of the interface.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnxpress.ir import Model, Node, Value
from onnxpress.ir.analysis.coupling.known import known_shapes
from onnxpress.ir.analysis.shapes import infer_shapes

LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN")
RECURRENT = LAYERS[4:]
MOVES_NOTHING = ("Shape", "Constant", "ConstantOfShape", "Range", "Loop", "Scan")
Axis = tuple[Value, int]


class Interface:
    """The axes of a model that are joined, and those among them that reach its inputs or outputs."""

    def __init__(self, model: Model) -> None:
        self._shapes = known_shapes(model, infer_shapes(model))
        self._parents: dict[Axis, Axis] = {}
        for graph in model.graph.walk_graphs():
            for node in graph.nodes:
                if not node.domain:
                    self._join_node(node)
        ends = [(value, axis) for value in (*model.graph.inputs, *model.graph.outputs) for axis in self._axes(value)]
        self._touched = {self._root(end) for end in ends}

    def touches(self, value: Value, axis: int) -> bool:
        """Whether an axis goes together with one of an input or output."""
        return self._root((value, axis)) in self._touched

    def _size(self, value: Value | None, axis: int) -> int | None:
        shape = None if value is None else self._shapes.shape(value)
        if shape is None or not -len(shape) <= axis < len(shape):
            return None
        size = shape[axis]
        return size if isinstance(size, int) else None

    def _axes(self, value: Value) -> list[int]:
        return [axis for axis in range(self._rank(value)) if (self._size(value, axis) or 0) > 1]

    def _rank(self, value: Value | None) -> int:
        shape = None if value is None else self._shapes.shape(value)
        return 0 if shape is None else len(shape)

    def _root(self, axis: Axis) -> Axis:
        while axis in self._parents:
            axis = self._parents[axis]
        return axis

    def _join(self, a: Value | None, i: int, b: Value | None, j: int) -> None:
        if a is None or b is None or (self._size(a, i) or 0) < 2 or (self._size(b, j) or 0) < 2:
            return
        first, second = self._root((a, i % self._rank(a))), self._root((b, j % self._rank(b)))
        if first != second:
            self._parents[first] = second

    def _join_node(self, node: Node) -> None:
        x, y = node.input(0), node.outputs[0]
        w = node.input(1)
        match node.op_type:
            case "Conv" | "ConvTranspose":
                out, inner = (0, 1) if node.op_type == "Conv" else (1, 0)
                self._join(x, 1, w, inner)
                self._join(w, out, y, 1)
                if node.attr("group", 1) > 1:
                    for axis in (0, 1):
                        self._join(w, axis, x, 1)
                        self._join(w, axis, y, 1)
                    self._join(x, 1, y, 1)
            case "MatMul":
                self._join(x, -1, w, -2 if self._rank(w) > 1 else 0)
                self._join(w, -1, y, -1)
                self._join(x, -2, y, -2)
                for back in range(3, self._rank(y) + 1):
                    self._join(x, -back, y, -back)
                    self._join(w, -back, y, -back)
            case "Gemm":
                ta, tb = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))
                self._join(x, 0 if ta else 1, w, 1 if tb else 0)
                self._join(w, 0 if tb else 1, y, 1)
                self._join(x, 1 if ta else 0, y, 0)
            case "LSTM" | "GRU" | "RNN":
                self._join(x, 2, w, 2)
                r = node.input(2)
                for value, axis in ((w, 1), (r, 1), *((state, -1) for state in self._states(node))):
                    self._join(value, axis, r, 2)
            case "Transpose":
                for to, source in enumerate(node.attr("perm", list(range(self._rank(x)))[::-1])):
                    self._join(x, source, y, to)
            case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze":
                for old, new in _runs(self._dims(x), self._dims(y)):
                    axes: list[tuple[Value | None, int]] = [*((x, axis) for axis in old), *((y, axis) for axis in new)]
                    for other in axes[1:]:
                        self._join(*axes[0], *other)
            case "Gather":
                along = node.attr("axis", 0) % max(1, self._rank(x))
                for axis in range(self._rank(x)):
                    if axis != along:
                        self._join(x, axis, y, axis if axis < along else axis + self._rank(w) - 1)
            case "If":
                for body in node.bodies:
                    for inner, outer in zip(body.outputs, node.outputs, strict=True):
                        for axis in self._axes(outer):
                            self._join(inner, axis, outer, axis)
            case kind if kind.startswith("Reduce") and not node.attr("keepdims", 1):
                self._reduced(node)
            case kind if kind not in MOVES_NOTHING:
                self._side_by_side(node)

    @staticmethod
    def _states(node: Node) -> Iterator[Value]:
        for value in (node.input(5), node.input(6), *node.outputs):
            if value is not None and value.name:
                yield value

    def _dims(self, value: Value | None) -> list[int | str | None]:
        return list((self._shapes.shape(value) if value is not None else None) or ())

    def _reduced(self, node: Node) -> None:
        x, y, given = node.input(0), node.outputs[0], node.input(1)
        axes = given.const.numpy().tolist() if given is not None and given.const is not None else node.attr("axes")
        gone = {axis % max(1, self._rank(x)) for axis in axes or ()}
        for to, axis in enumerate(axis for axis in range(self._rank(x)) if axis not in gone):
            self._join(x, axis, y, to)

    def _side_by_side(self, node: Node) -> None:
        """Element by element with broadcasting, piece by piece, or unknown: axes counted from the end."""
        channelwise = node.op_type in ("BatchNormalization", "InstanceNormalization")
        for value in node.inputs[1:] if channelwise else ():
            self._join(value, 0, node.outputs[0], 1)
        for value in node.inputs[:1] if channelwise else node.inputs:
            for y in node.outputs:
                for back in range(1, min(self._rank(value), self._rank(y)) + 1):
                    self._join(value, -back, y, -back)


def _runs(old: Sequence[int | str | None], new: Sequence[int | str | None]) -> list[tuple[list[int], list[int]]]:
    """Axes before and after a reshape that hold the same elements: equal ones at both ends, and what is between."""
    a = [axis for axis, size in enumerate(old) if size != 1]
    b = [axis for axis, size in enumerate(new) if size != 1]
    found: list[tuple[list[int], list[int]]] = []
    for end in (0, -1):
        while a and b and old[a[end]] is not None and old[a[end]] == new[b[end]]:
            found.append(([a.pop(end)], [b.pop(end)]))
    sized = [axis for axis in a if isinstance(old[axis], int)], [axis for axis in b if isinstance(new[axis], int)]
    return [*found, sized] if sized[0] and sized[1] else found


def weights_of(node: Node) -> Iterator[tuple[Value, tuple[int, ...]]]:
    """The weights of a layer, each with the axes that count inputs, outputs or hidden units."""
    for slot, value in enumerate(node.inputs):
        if node.op_type not in LAYERS or value is None or value.const is None or len(value.const.shape) < 2:
            continue
        rank = len(value.const.shape)
        if node.op_type in ("Conv", "ConvTranspose") and slot == 1:
            yield value, (0, 1)
        elif node.op_type in RECURRENT and slot in (1, 2):
            yield value, (1, 2)
        elif node.op_type in ("MatMul", "Gemm") and slot < 2:
            yield value, (rank - 2, rank - 1)


def free_axes(model: Model) -> dict[str, tuple[Value, list[int]]]:
    """By the names of weights of layers: the axes of more than one element that are free of the interface."""
    interface = Interface(model)
    found = {}
    for graph in model.graph.walk_graphs():
        for node in graph.nodes:
            for value, axes in weights_of(node):
                assert value.const is not None
                free = [axis for axis in axes if value.const.shape[axis] > 1 and not interface.touches(value, axis)]
                if free:
                    found[value.name] = (value, free)
    return found
