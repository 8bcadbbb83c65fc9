"""The nodes that turn levels back into numbers, in either form.

`cast`: Cast, then Mul by the scales; onnxruntime folds it once, at load. Half precision is decoded in float and cast
down: onnxruntime has no Mul in half precision to fold, and a small scale would lose its bits there.
`dq`: DequantizeLinear; onnxruntime decodes at every call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from onnx import TensorProto

from ...errors import RewriteError
from ...ir import Graph, Node, Rewriter, Tensor, Value, tensor
from ...ir.dtypes import bits_of

FLOAT, DOUBLE, BFLOAT16 = int(TensorProto.FLOAT), int(TensorProto.DOUBLE), int(TensorProto.BFLOAT16)
Axes = tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """A weight in the file: its levels, their scales, and zero points where they are written; with the element type
    and the rank that it had, and the axes that the scales run along. `factors` are scales along input channels."""

    levels: Value
    scales: Value
    zeros: Value | None
    dtype: int
    axes: Axes
    rank: int
    factors: Value | None = None


@dataclass(frozen=True)
class Place:
    """Where new nodes go (before a node, or at the end of a graph) and what they stand for."""

    graph: Graph
    before: Node | None
    origin: Sequence[Node] = ()

    @classmethod
    def of(cls, node: Node) -> Place:
        """In front of `node`, on its behalf."""
        if node.graph is None:
            raise RewriteError(f"node {node.label!r} is erased")
        return cls(node.graph, node, (node,))

    def insert(
        self, rw: Rewriter, op_type: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any] | None = None
    ) -> Value:
        """The output of a new node."""
        node = rw.insert(
            op_type, inputs, attributes, before=self.before, graph=self.graph, outputs=["d"], origin=self.origin
        )
        return node.outputs[0]


class DecodeForm(ABC):
    """How levels are decoded."""

    name: ClassVar[str]
    operators: ClassVar[tuple[str, ...]]
    takes_factors: ClassVar[bool] = False
    """Whether a second set of scales can be multiplied in."""

    @abstractmethod
    def arithmetic(self, dtype: int) -> np.dtype[Any]:
        """The type of the scales of a weight of element type `dtype`, and of their products with the levels."""

    @abstractmethod
    def axes(self, axes: Axes) -> Axes:
        """Of the axes that are worth scales of their own, in order, those that the form can give some."""

    @abstractmethod
    def opset(self, axes: Axes, dtype: int) -> int:
        """The lowest opset in which the nodes exist."""

    @abstractmethod
    def reads_rows(self, axes: Axes, gathered: int, rank: int, index_rank: int | None) -> bool:
        """Whether a table of `rank` axes can be decoded after rows are gathered along the axis `gathered`."""

    @abstractmethod
    def scales(self, array: np.ndarray[Any, np.dtype[Any]], axes: Axes) -> Tensor:
        """The tensor of scales along `axes`, from an array of the weight's rank."""

    @abstractmethod
    def node_count(self, dtype: int, *, rows: bool) -> int:
        """How many nodes one decoding adds at most, of the whole weight or of rows."""

    @abstractmethod
    def whole(self, rw: Rewriter, stored: Stored, place: Place) -> Value:
        """Decode all of the weight."""

    @abstractmethod
    def rows(self, rw: Rewriter, stored: Stored, gather: Node) -> Value:
        """Decode what `gather` reads, and no more."""


class CastForm(DecodeForm):
    """Cast and Mul."""

    name: ClassVar[str] = "cast"
    operators: ClassVar[tuple[str, ...]] = ("Cast", "Mul", "Gather")
    takes_factors: ClassVar[bool] = True

    def arithmetic(self, dtype: int) -> np.dtype[Any]:
        return np.dtype(np.float64 if dtype == DOUBLE else np.float32)

    def axes(self, axes: Axes) -> Axes:
        return axes

    def opset(self, axes: Axes, dtype: int) -> int:
        """Mul broadcasts from 7 on; bfloat16 came with 13."""
        return 13 if dtype == BFLOAT16 else 7

    def reads_rows(self, axes: Axes, gathered: int, rank: int, index_rank: int | None) -> bool:
        """Scales along the gathered axis are gathered too; those along later axes line up from the right."""
        return all(axis >= gathered for axis in axes)

    def scales(self, array: np.ndarray[Any, np.dtype[Any]], axes: Axes) -> Tensor:
        """Axes of length 1 in front are left out: they broadcast."""
        return tensor(array.reshape(array.shape[min(axes, default=array.ndim) :]))

    def node_count(self, dtype: int, *, rows: bool) -> int:
        return 2 + rows + (bits_of(dtype) < 32)

    def whole(self, rw: Rewriter, stored: Stored, place: Place) -> Value:
        return _product(rw, stored.levels, stored.scales, stored.dtype, place, stored.factors)

    def rows(self, rw: Rewriter, stored: Stored, gather: Node) -> Value:
        place = Place.of(gather)
        levels, scales = _gather(rw, stored.levels, gather), stored.scales
        if gather.attr("axis", 0) % stored.rank in stored.axes:
            scales = place.insert(rw, "Gather", [scales, gather.input(1)])  # it is their first axis
        return _product(rw, levels, scales, stored.dtype, place)


class DequantizeForm(DecodeForm):
    """DequantizeLinear, which gives float; other types are cast from it."""

    name: ClassVar[str] = "dq"
    operators: ClassVar[tuple[str, ...]] = ("DequantizeLinear", "Cast", "Gather")

    def arithmetic(self, dtype: int) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def axes(self, axes: Axes) -> Axes:
        """One at most: the last, as batches and directions come first."""
        return axes[-1:]

    def opset(self, axes: Axes, dtype: int) -> int:
        """Per tensor from 10 on; per axis, and bfloat16, from 13 on."""
        return 13 if axes or dtype == BFLOAT16 else 10

    def reads_rows(self, axes: Axes, gathered: int, rank: int, index_rank: int | None) -> bool:
        """The axis of the scales, which is counted from the right, must come after the gathered one. A one-dimensional
        input would be decoded per tensor whatever its axis, so rows must have two axes at least."""
        return not axes or (axes[0] > gathered and (rank > 2 or bool(index_rank)))

    def scales(self, array: np.ndarray[Any, np.dtype[Any]], axes: Axes) -> Tensor:
        return tensor(array.reshape([array.shape[axis] for axis in axes]))

    def node_count(self, dtype: int, *, rows: bool) -> int:
        return 1 + (dtype != FLOAT)

    def whole(self, rw: Rewriter, stored: Stored, place: Place) -> Value:
        return _dequantized(rw, stored.levels, stored, place)

    def rows(self, rw: Rewriter, stored: Stored, gather: Node) -> Value:
        return _dequantized(rw, _gather(rw, stored.levels, gather), stored, Place.of(gather))


FORMS: dict[str, DecodeForm] = {form.name: form for form in (CastForm(), DequantizeForm())}
"""By name, as the option `form` gives it."""


def _gather(rw: Rewriter, table: Value, gather: Node) -> Value:
    """What `gather` would read of another table."""
    return Place.of(gather).insert(rw, "Gather", [table, gather.input(1)], gather.attributes)


def _product(
    rw: Rewriter, levels: Value, scales: Value, dtype: int, place: Place, factors: Value | None = None
) -> Value:
    arithmetic = DOUBLE if dtype == DOUBLE else FLOAT
    product = place.insert(rw, "Cast", [levels], {"to": arithmetic})
    for one in (scales, factors):
        if one is not None:
            product = place.insert(rw, "Mul", [product, one])
    return _cast(rw, product, arithmetic, dtype, place)


def _dequantized(rw: Rewriter, levels: Value, stored: Stored, place: Place) -> Value:
    inputs = [levels, stored.scales] + ([] if stored.zeros is None else [stored.zeros])
    axis = {"axis": stored.axes[0] - stored.rank} if stored.axes else None
    return _cast(rw, place.insert(rw, "DequantizeLinear", inputs, axis), FLOAT, stored.dtype, place)


def _cast(rw: Rewriter, value: Value, dtype: int, to: int, place: Place) -> Value:
    return value if to == dtype else place.insert(rw, "Cast", [value], {"to": to})
