"""Operators that move elements and compute nothing, evaluated by numpy.

Nothing is rounded, so every executor gives these bits, and none need be loaded for them: what `fold` meets in real
models is little else. A Cast belongs to them where each number is the same in both types, and so do ConstantOfShape
and Shape, which ask for none. What a rule does not take, or fails on, is left to the executor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ...ir import Node
from ...ir.dtypes import numpy_dtype
from ...ir.tensor import Array

_NUMBERS = "biuf"
"""The kinds of numpy's own numbers that are compared as numbers."""
_COLUMNS = 64
"""Columns of a matrix that are transposed at once."""
Rule = Callable[..., Array | None]
"""Takes the node and its inputs; numpy's errors, and None, say that the executor must be asked."""


def can_move(node: Node) -> bool:
    """Whether there is a rule for a node, which may yet leave it to the executor."""
    return node.op_type in _RULES and not node.domain


def moved(node: Node, inputs: Sequence[Array | None]) -> Array | None:
    """The only output of a node of the standard domain, None if it is left to the executor."""
    rule = _RULES.get(node.op_type)
    if rule is None or node.domain or any(array is not None and array.dtype == object for array in inputs):
        return None
    try:
        found = rule(node, *inputs)
    except (AttributeError, IndexError, TypeError, ValueError):  # it fails, or has a form that the rule does not know
        return None
    return found if found is None or found.base is None else found.copy()  # not a part of something large


def _axes(node: Node, axes: Array | None) -> tuple[int, ...] | None:
    """Axes, which were an attribute before they became an input."""
    given = node.attr("axes") if axes is None else axes
    return None if given is None else tuple(map(int, given))


def _identity(node: Node, data: Array) -> Array:
    return data


def _cast(node: Node, data: Array) -> Array | None:
    """None if a number is another one in the new type, or NaN, of which there are many."""
    to = node.attr("to")
    if data.dtype.kind not in _NUMBERS or not isinstance(to, int):
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        cast = data.astype(numpy_dtype(to))
        same = cast.dtype.kind in _NUMBERS and np.array_equal(cast.astype(data.dtype), data)
    return cast if same else None


def _concat(node: Node, *parts: Array) -> Array:
    return np.concatenate(parts, axis=node.attr("axis"))


def _filled(node: Node, shape: Array) -> Array:
    value = node.attr("value")
    return np.full(shape.tolist(), np.float32(0) if value is None else value.numpy().reshape(()))


def _expand(node: Node, data: Array, shape: Array) -> Array:
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(map(int, shape))))


def _gather(node: Node, data: Array, indices: Array) -> Array:
    return np.take(data, indices, axis=node.attr("axis", 0))


def _reshape(node: Node, data: Array, shape: Array) -> Array | None:
    sizes = [int(size) for size in shape]
    if min(sizes, default=0) < -1:
        return None
    if not node.attr("allowzero", 0):
        sizes = [data.shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    return data.reshape(sizes)


def _shape(node: Node, data: Array) -> Array:
    return np.array(data.shape[node.attr("start", 0) : node.attr("end")], np.int64)


def _slice(
    node: Node,
    data: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    first: Sequence[int] = node.attr("starts") if starts is None else starts.tolist()
    last: Sequence[int] = node.attr("ends") if ends is None else ends.tolist()
    strides: Sequence[int] = [1] * len(first) if steps is None else steps.tolist()
    places = normalize_axis_tuple(_axes(node, axes) or range(len(first)), data.ndim)
    parts = [slice(None)] * data.ndim
    for place, start, end, step in zip(places, first, last, strides, strict=True):
        parts[place] = slice(start, end, step)
    return data[tuple(parts)]


def _squeeze(node: Node, data: Array, axes: Array | None = None) -> Array:
    return np.squeeze(data, _axes(node, axes))


def _transpose(node: Node, data: Array) -> Array:
    turned = np.transpose(data, node.attr("perm"))
    if turned.ndim != 2 or turned.flags.c_contiguous:
        return turned
    made = np.empty(turned.shape, turned.dtype)
    for start in range(0, made.shape[1], _COLUMNS):  # a few lines of the cache each, which numpy would not keep
        made[:, start : start + _COLUMNS] = turned[:, start : start + _COLUMNS]
    return made


def _unsqueeze(node: Node, data: Array, axes: Array | None = None) -> Array | None:
    places = _axes(node, axes)
    return None if places is None else np.expand_dims(data, places)


_RULES: dict[str, Rule] = {
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Gather": _gather,
    "Identity": _identity,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
