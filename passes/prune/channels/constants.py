"""Elements of values that are the same number in every run: what zero weights leave of a channel.

A layer whose weights for a channel are zero gives its bias there, an activation makes f(bias) of it, a normalization
shifts it. This is followed along one axis of each value through layers, operators that work element by element (run by
the executor on one number a channel), pooling and what moves elements. Of what is not known here nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....errors import ExecutionError
from ....ir import Node, Tensor, Value, tensor
from ....ir.analysis.coupling import POINTWISE
from ....ir.analysis.coupling.reshapes import match
from ....ir.analysis.linear import Linear, linear_of
from ....ir.analysis.shapes import Shapes
from ....ir.dtypes import numpy_dtype
from ...graph.evaluate import run_nodes
from ...manager.context import Context
from ...rewriting.layers import bias_of

Float64 = NDArray[np.float64]
Known = NDArray[np.bool_]


@dataclass(frozen=True)
class Elements:
    """Along `axis` of a value: the numbers, and which of them are known."""

    axis: int
    numbers: Float64
    known: Known

    @property
    def zero(self) -> Known:
        """Which elements are known to be 0."""
        return np.asarray(self.known & (self.numbers == 0))


class Constants:
    """The elements of values that are constant along one of their axes."""

    def __init__(self, ctx: Context, shapes: Shapes) -> None:
        self._ctx = ctx
        self._shapes = shapes
        self._found: dict[Value, Elements] = {}
        for graph in ctx.model.graph.walk_graphs():
            for node in graph.nodes:
                if not node.domain and len([y for y in node.outputs if y.name and not y.is_dead]) == 1:
                    self._node(node)

    def at(self, value: Value, axis: int) -> Elements | None:
        """The constant elements along an axis of a value; None if none is known."""
        found = self._found.get(value)
        return found if found is not None and found.axis == axis else None

    def _node(self, node: Node) -> None:
        layer = linear_of(node)
        made: Elements | None = None
        if layer is not None and layer.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            made = self._layer(layer)
        elif (node.op_type in POINTWISE and node.op_type != "Dropout") or node.op_type == "BatchNormalization":
            made = self._pointwise(node)
        elif node.op_type in _MOVES:
            made = _MOVES[node.op_type](self, node)
        if made is not None and made.known.any():
            self._found[node.outputs[0]] = made

    def _rank(self, value: Value) -> int | None:
        shape = self._shapes.shape(value)
        return None if shape is None else len(shape)

    def _of(self, node: Node, slot: int = 0) -> Elements | None:
        value = node.input(slot)
        return None if value is None else self._found.get(value)

    # ---- layers

    def _layer(self, layer: Linear) -> Elements | None:
        """The bias, where all weights on what varies are zero, plus what constants give where no padding cuts in."""
        rank = self._rank(layer.node.outputs[0])
        bias = bias_of(layer)
        if layer.weight.const is None or rank is None or bias is None:
            return None
        axis = 1 if layer.op_type != "MatMul" else rank - 1 if layer.slot == 1 else rank - 2
        axis = 0 if layer.op_type == "Gemm" and layer.slot == 0 else axis
        numbers, known = rows_of(layer, self._contracted(layer))
        weights = layer.matrices(layer.weight.const.numpy()).astype(np.float64)
        zero = known & (numbers == 0) if not is_unpadded(layer) else known
        varies = (np.abs(weights) * ~zero[:, :, None]).sum(axis=1)
        given = np.einsum("gkn,gk->gn", weights, np.where(zero, numbers, 0))
        if layer.op_type == "ConvTranspose":
            taps = layer.n // layer.shape[1]
            varies = varies.reshape(layer.groups, -1, taps).sum(axis=2)
            given = np.zeros_like(varies)
        factor = float(layer.node.attr("alpha", 1.0)) if layer.op_type == "Gemm" else 1.0
        return Elements(axis, factor * given.reshape(-1) + bias, varies.reshape(-1) == 0)

    def _contracted(self, layer: Linear) -> Elements | None:
        axis = contracted_axis(layer, self._rank(layer.x))
        return None if axis is None else self.at(layer.x, axis)

    def contracted(self, layer: Linear) -> Elements | None:
        """The constant elements of the axis of its input that a layer sums over."""
        return self._contracted(layer)

    # ---- element by element

    def _pointwise(self, node: Node) -> Elements | None:
        """The operator itself, on one number a channel; a product with 0 is 0."""
        rank, y = self._rank(node.outputs[0]), node.outputs[0]
        inputs = [value for value in node.inputs if value is not None]
        if node.op_type == "BatchNormalization":
            inputs = inputs[:1]
        varying = [value for value in inputs if value.const is None]
        places = {(self._rank(v) or 0) - e.axis for v in varying if (e := self._found.get(v)) is not None}
        if rank is None or len(places) != 1 or rank < next(iter(places)):
            return None
        axis = rank - places.pop()
        size = next(len(e.numbers) for v in varying if (e := self._found.get(v)) is not None)
        known, zero = np.ones(size, bool), np.zeros(size, bool)
        feeds: dict[Value, Tensor] = {}
        for value in varying:
            elements, dtype = self._found.get(value), self._ctx.shapes().dtype(value)
            if dtype is None or (self._rank(value) or 0) > rank or (elements and len(elements.numbers) != size):
                return None
            known &= elements.known if elements is not None else False
            zero |= elements.zero if elements is not None else False
            numbers = np.where(elements.known, elements.numbers, 0) if elements is not None else np.zeros(size)
            shape = [-1 if place == axis else 1 for place in range(rank)]
            feeds[value] = tensor(numbers.reshape(shape).astype(numpy_dtype(dtype)))
        try:
            array = run_nodes([node], [y], feeds, self._ctx)[y].numpy()
        except ExecutionError:
            return None
        if array.ndim != rank or array.size != size or array.shape[axis] != size:
            return None
        numbers = array.reshape(-1).astype(np.float64)
        known &= np.isfinite(numbers)
        if node.op_type == "Mul":
            known, numbers = known | zero, np.where(zero, 0, numbers)
        return Elements(axis, numbers, known)

    # ---- what moves elements

    def _pool(self, node: Node) -> Elements | None:
        found = self._of(node)
        if found is None or found.axis != 1:
            return None
        padded = any(node.attr("pads", [])) or node.attr("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
        whole = not node.attr("ceil_mode", 0) and not (padded and node.attr("count_include_pad", 0))
        return found if whole else Elements(1, found.numbers, found.zero)

    def _transpose(self, node: Node) -> Elements | None:
        found, rank = self._of(node), self._rank(node.outputs[0])
        if found is None or rank is None:
            return None
        perm = list(node.attr("perm", list(range(rank))[::-1]))
        return Elements(perm.index(found.axis), found.numbers, found.known)

    def _concat(self, node: Node) -> Elements | None:
        parts = [(value, self._found.get(value)) for value in node.inputs if value is not None]
        axes = {elements.axis for _, elements in parts if elements is not None}
        rank = self._rank(node.outputs[0])
        if rank is None or axes != {node.attr("axis") % rank}:
            return None
        axis = axes.pop()
        numbers, known = [], []
        for value, elements in parts:
            size = (self._shapes.shape(value) or (None,) * rank)[axis]
            if not isinstance(size, int):
                return None
            numbers.append(np.zeros(size) if elements is None else elements.numbers)
            known.append(np.zeros(size, bool) if elements is None else elements.known)
        return Elements(axis, np.concatenate(numbers), np.concatenate(known))

    def _reshape(self, node: Node) -> Elements | None:
        """Where the axis keeps its elements, or is merged with others into one."""
        found, x, y = self._of(node), node.input(0), node.outputs[0]
        old, new = None if x is None else self._shapes.shape(x), self._shapes.shape(y)
        if found is None or old is None or new is None:
            return None
        for left, right in match(old, new):
            sizes = [dim for axis in left if isinstance(dim := old[axis], int)]
            wide = [axis for axis in right if new[axis] != 1]
            if found.axis not in left or len(wide) != 1 or len(sizes) != len(left):
                continue
            place = left.index(found.axis)
            after, total = int(np.prod(sizes[place + 1 :])), int(np.prod(sizes))
            where = np.arange(total) // after % sizes[place]
            return Elements(wide[0], found.numbers[where], found.known[where])
        return None


_MOVES: dict[str, Callable[[Constants, Node], Elements | None]] = {
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), Constants._pool),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), Constants._reshape),
    "Transpose": Constants._transpose,
    "Concat": Constants._concat,
}


def contracted_axis(layer: Linear, rank: int | None) -> int | None:
    """The axis of its input that a layer sums over."""
    if rank is None:
        return None
    match layer.op_type:
        case "Conv" | "ConvTranspose":
            return 1
        case "MatMul":
            return rank - 1 if layer.slot == 1 or rank == 1 else rank - 2
        case "Gemm":
            transposed = bool(layer.node.attr("transA" if layer.slot else "transB", 0))
            return int(transposed != bool(layer.slot))
    return 2


def rows_of(layer: Linear, elements: Elements | None) -> tuple[Float64, Known]:
    """The numbers that meet each row of the matrices, and which are known: both `[groups, k]`."""
    if elements is None:
        return np.zeros((layer.groups, layer.k)), np.zeros((layer.groups, layer.k), bool)
    numbers, known = elements.numbers, elements.known
    if layer.op_type in ("Conv", "ConvTranspose"):
        taps = layer.groups * layer.k // len(numbers)
        shape = (layer.groups, layer.k)
        return np.repeat(numbers, taps).reshape(shape), np.repeat(known, taps).reshape(shape)
    shape = (layer.groups, layer.k)
    return np.broadcast_to(numbers, shape), np.broadcast_to(known, shape)


def is_unpadded(layer: Linear) -> bool:
    """Whether every output sees whole windows of the input, so that a constant channel gives a constant."""
    if layer.op_type == "Conv":
        return layer.node.attr("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not any(layer.node.attr("pads", []))
    return layer.op_type in ("MatMul", "Gemm")
