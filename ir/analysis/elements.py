"""What is known of the elements of small integer and boolean tensors: numbers, sizes, or nothing.

`Elements` is an array of objects: an int (0 and 1 for booleans), a `Poly` over unknown sizes, or None. Each rule is
exact: an element that is not None has that value in every run in which the operator does not fail. Sizes are taken to
be below 2**31, so that they are not cut where a model casts them to int32; numbers that leave their type are dropped.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from onnx import TensorProto

from ..node import Node
from ..value import Value
from .dims import Dim

Elements = np.ndarray[Any, np.dtype[np.object_]]
Shape = tuple[Dim, ...]
MAX_ELEMENTS = 128
RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT64: (-(2**63), 2**63 - 1),
    TensorProto.INT32: (-(2**31), 2**31 - 1),
    TensorProto.BOOL: (0, 1),
}
"""The types whose elements are followed, and the numbers that they hold."""


class Known(Protocol):
    """What rules ask of the values that a node reads."""

    def shape(self, value: Value | None) -> Shape | None: ...

    def elements(self, value: Value | None) -> Elements | None: ...

    def dtype(self, value: Value) -> int | None: ...

    def is_positive(self, size: Dim) -> bool: ...


def array(items: object, shape: tuple[int, ...] | None = None) -> Elements:
    """An array of objects."""
    made = np.empty(len(items) if isinstance(items, list | tuple) else (), object)
    made[...] = items
    return made if shape is None else made.reshape(shape)


def blank(value: Value | None, known: Known) -> Elements | None:
    """The elements of a value, all None if only their number is known."""
    found = known.elements(value)
    if found is not None or value is None:
        return found
    shape = known.shape(value)
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    sizes = tuple(int(dim) for dim in shape if isinstance(dim, int))
    return np.full(sizes, None, object) if int(np.prod(sizes)) <= MAX_ELEMENTS else None


def items(elements: Elements) -> list[Dim | None]:
    """The elements in order."""
    found: list[Dim | None] = elements.reshape(-1).tolist()
    return found


def numbers(elements: Elements | None) -> list[int] | None:
    """The elements in order if all are numbers."""
    if elements is None or not all(isinstance(item, int) for item in elements.flat):
        return None
    return [int(item) for item in elements.flat]


def slice_bounds(node: Node, known: Known) -> list[tuple[int, Dim | None, Dim | None, int]] | None:
    """Axis, start, end and step for each axis that a Slice names; None if axes or steps are unknown."""
    rank = known.shape(node.input(0))
    if len(node.inputs) > 1:
        starts, ends = blank(node.input(1), known), blank(node.input(2), known)
        axes = numbers(known.elements(node.input(3))) if node.input(3) else None
        steps = numbers(known.elements(node.input(4))) if node.input(4) else None
        if (node.input(3) and axes is None) or (node.input(4) and steps is None):
            return None
    else:
        starts, ends = array(list(node.attr("starts", []))), array(list(node.attr("ends", [])))
        axes, steps = node.attr("axes"), None
    if rank is None or starts is None or ends is None or starts.shape != ends.shape or starts.ndim != 1:
        return None
    axes = list(range(len(starts))) if axes is None else [axis + len(rank) if axis < 0 else axis for axis in axes]
    steps = [1] * len(starts) if steps is None else steps
    if not len(axes) == len(steps) == len(starts) or 0 in steps:
        return None
    return list(zip(axes, starts, ends, steps, strict=True))
