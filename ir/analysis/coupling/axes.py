"""Which elements of which axes go together: ties, frozen elements, and the graph over (value, axis) that holds them.

An *axis* is a pair (value, axis); constants are values like any other. A *tie* says that element `i` of one axis can
only be cut together with element `j` of another. A *unit* is a connected set of elements: what is cut at once. A
*group* is a connected set of axes. An axis that an operator says nothing of is frozen: so an operator that is not
known, or a use of an axis that nobody thought of, can only keep a channel, never break a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ...node import Node
from ...value import Value
from ..shapes import Shapes

Index = NDArray[np.int64]


class Axis(NamedTuple):
    """One axis of one value."""

    value: Value
    axis: int

    def __repr__(self) -> str:
        return f"{self.value.name}[{self.axis}]"


@dataclass(frozen=True)
class Fix:
    """A number in a constant, or in an attribute, of `node` that counts elements of an axis.

    `kind` says which: `dim` (element `position` of the shape operand `holder` is the size of `axis`), `split` (of the
    sizes of a Split, whose outputs are axes), `slice` (starts and ends on `axis` of the input), `group` (of a
    depthwise convolution), `hidden` (of a recurrent layer).
    """

    kind: str
    node: Node
    axis: Axis
    size: int
    """How many elements the axis has before."""
    holder: Value | None = None
    position: int = 0


@dataclass
class Facts:
    """What the rules have said of one model."""

    shapes: Shapes
    graph: nx.MultiGraph[Axis] = field(default_factory=nx.MultiGraph)
    sizes: dict[Axis, int] = field(default_factory=dict)
    frozen: dict[Axis, list[tuple[Index, str]]] = field(default_factory=dict)
    fixes: list[Fix] = field(default_factory=list)
    said: set[Axis] = field(default_factory=set)
    """The axes that the rule of the present node has spoken of."""

    def shape(self, value: Value | None) -> tuple[int | None, ...] | None:
        """The sizes of a value, None for those that are no known number; None if not even the rank is known."""
        shape = None if value is None else self.shapes.shape(value)
        return None if shape is None else tuple(dim if isinstance(dim, int) else None for dim in shape)

    def axes(self, value: Value) -> list[Axis]:
        """The axes of known size of a value; it takes note of them."""
        found = []
        for axis, size in enumerate(self.shape(value) or ()):
            if size is not None:
                key = Axis(value, axis)
                self.sizes[key] = size
                self.graph.add_node(key)
                found.append(key)
        return found

    def size(self, value: Value | None, axis: int) -> int | None:
        """The size of one axis, if known."""
        shape = self.shape(value)
        return None if shape is None or not -len(shape) <= axis < len(shape) else shape[axis]

    def at(self, value: Value, axis: int) -> Axis:
        """An axis of known size, counted from the end if negative."""
        shape = self.shape(value)
        assert shape is not None
        size = shape[axis]
        assert size is not None
        key = Axis(value, axis % len(shape))
        self.sizes[key] = size
        return key

    def tie(self, a: Axis, b: Axis, ia: Index | None = None, ib: Index | None = None) -> None:
        """Elements `ia` of one axis go with elements `ib` of another, pair by pair; by default all, one to one."""
        ia = np.arange(self.sizes[a]) if ia is None else ia
        ib = np.arange(self.sizes[b]) if ib is None else ib
        assert len(ia) == len(ib), f"{a} and {b} are tied over {len(ia)} and {len(ib)} elements"
        self.graph.add_edge(a, b, ends=(a, b), ia=ia, ib=ib)
        self.said |= {a, b}

    def fix(self, kind: str, node: Node, axis: Axis, holder: Value | None = None, position: int = 0) -> None:
        """Take note of a number that counts elements of an axis."""
        self.fixes.append(Fix(kind, node, axis, self.sizes[axis], holder, position))

    def allow(self, axis: Axis) -> None:
        """The present node lets an axis be cut, and nothing follows from it."""
        self.said.add(axis)

    def freeze(self, axis: Axis, reason: str, elements: Index | None = None) -> None:
        """Elements of an axis (by default all) must stay."""
        where = np.arange(self.sizes[axis]) if elements is None else elements
        self.frozen.setdefault(axis, []).append((where, reason))
        self.said.add(axis)

    def freeze_value(self, value: Value, reason: str) -> None:
        """All axes of a value must stay."""
        for axis in self.axes(value):
            self.freeze(axis, reason)

    def freeze_unsaid(self, values: Iterable[Value], reason: str) -> None:
        """What the present node did not speak of must stay."""
        for value in values:
            for axis in self.axes(value):
                if axis not in self.said:
                    self.freeze(axis, reason)


def constant_ints(value: Value | None) -> list[int] | None:
    """The integers that a constant holds."""
    if value is None or value.const is None:
        return None
    array: Any = value.const.numpy()
    return [int(number) for number in array.reshape(-1)] if array.dtype.kind in "iu" else None
