"""Rules for the operators that move elements, or work on each by itself."""

from __future__ import annotations

import numpy as np

from ...node import Node
from ...value import Value
from .axes import Axis, Facts, constant_ints
from .layers import _pair, aligned
from .sizes import entries


def pointwise(node: Node, facts: Facts) -> None:
    """Element by element, with broadcasting."""
    aligned(facts, [value for value in node.inputs if value is not None], node.outputs[0])


def clip(node: Node, facts: Facts) -> None:
    """Element by element; of further operands the shape does not matter (CastLike) or they are numbers (Clip)."""
    x, y = node.input(0), node.outputs[0]
    if x is not None:
        aligned(facts, [x], y)
        for value in node.inputs[1:] if node.op_type == "CastLike" else ():
            for axis in facts.axes(value) if value is not None else ():
                facts.allow(axis)


def pool(node: Node, facts: Facts) -> None:
    """Channels pass, spatial axes stay."""
    x, y = node.input(0), node.outputs[0]
    if x is not None and len([v for v in node.outputs if v.name]) == 1:
        _pair(facts, x, 0, y, 0)
        _pair(facts, x, 1, y, 1)


def transpose(node: Node, facts: Facts) -> None:
    """Axes change places."""
    x, y = node.input(0), node.outputs[0]
    shape = facts.shape(x)
    if x is None or shape is None or facts.shape(y) is None:
        return
    for to, source in enumerate(node.attr("perm", list(range(len(shape)))[::-1])):
        _pair(facts, x, source, y, to)


def concat(node: Node, facts: Facts) -> None:
    """One after the other on one axis, side by side on the others."""
    y = node.outputs[0]
    out = facts.shape(y)
    inputs = [value for value in node.inputs if value is not None]
    shapes = [facts.shape(value) for value in inputs]
    if out is None or any(shape is None for shape in shapes):
        return
    along = node.attr("axis") % len(out)
    for axis, size in enumerate(out):
        sizes = [shape[axis] if shape is not None else None for shape in shapes]
        if size is None or None in sizes:
            continue
        start = 0
        for value, own in zip(inputs, sizes, strict=True):
            assert own is not None
            where = np.arange(own) + (start if axis == along else 0)
            facts.tie(facts.at(value, axis), facts.at(y, axis), np.arange(own), where)
            start += own


def split(node: Node, facts: Facts) -> None:
    """Pieces of one axis; the sizes are rewritten."""
    x = node.input(0)
    shape = facts.shape(x)
    if x is None or shape is None or any(facts.shape(y) is None for y in node.outputs):
        return
    along = node.attr("axis", 0) % len(shape)
    for axis, size in enumerate(shape):
        if size is None or any(facts.size(y, axis) is None for y in node.outputs):
            continue
        start = 0
        for y in node.outputs:
            own = facts.size(y, axis)
            assert own is not None
            first = start if axis == along else 0
            facts.tie(facts.at(x, axis), facts.at(y, axis), np.arange(first, first + own), np.arange(own))
            start += own
        if axis != along:
            continue
        if node.input(1) is not None and constant_ints(node.input(1)) is None:
            facts.freeze(facts.at(x, axis), "the sizes of a Split are computed")
        else:
            facts.fix("split", node, facts.at(x, axis))


def slice_(node: Node, facts: Facts) -> None:
    """A part of an axis; its bounds are rewritten. Only whole steps of constant bounds."""
    x, y = node.input(0), node.outputs[0]
    shape, out = facts.shape(x), facts.shape(y)
    if x is None or shape is None or out is None:
        return
    starts, ends = constant_ints(node.input(1)), constant_ints(node.input(2))
    axes = constant_ints(node.input(3)) if node.input(3) is not None else list(range(len(shape)))
    steps = constant_ints(node.input(4)) if node.input(4) is not None else None
    if axes is None or (node.input(4) is not None and steps is None):
        return
    axes = [axis % len(shape) for axis in axes]
    for axis, size in enumerate(shape):
        if axis not in axes:
            _pair(facts, x, axis, y, axis)
            continue
        if size is None or out[axis] is None or starts is None or ends is None:
            continue
        place = axes.index(axis)
        if place >= len(starts) or (steps is not None and steps[place] != 1):
            continue
        where = np.arange(size)[starts[place] : ends[place]]
        if len(where):
            facts.tie(facts.at(x, axis), facts.at(y, axis), where, np.arange(len(where)))
            facts.fix("slice", node, facts.at(x, axis), position=place)


def pad(node: Node, facts: Facts) -> None:
    """Axes that are not padded pass."""
    x, y = node.input(0), node.outputs[0]
    shape = facts.shape(x)
    pads = constant_ints(node.input(1)) if node.input(1) is not None else node.attr("pads")
    if x is None or shape is None or facts.shape(y) is None or node.input(3) is not None:
        return
    for axis in range(len(shape)):
        if pads is not None and pads[axis] == 0 == pads[axis + len(shape)]:
            _pair(facts, x, axis, y, axis)


def resize(node: Node, facts: Facts) -> None:
    """The first two axes pass; where sizes are given, that of the channels must be a number that can be rewritten."""
    x, y = node.input(0), node.outputs[0]
    shape = facts.shape(x)
    if x is None or shape is None or facts.shape(y) is None or node.attr("axes") is not None:
        return
    sizes = node.input(3) if node.op_type == "Resize" else None
    for axis in range(min(2, len(shape))):
        if facts.size(x, axis) is None or facts.size(x, axis) != facts.size(y, axis):
            continue
        if sizes is None or can_state(node, facts, sizes, axis, facts.at(x, axis)):
            _pair(facts, x, axis, y, axis)


def can_state(node: Node, facts: Facts, holder: Value, position: int, axis: Axis) -> bool:
    """Whether a shape operand says the size of an axis in a way that follows it, or can be rewritten."""
    entry = entries(holder).get(position)
    if entry is None:
        return False
    if entry.dim is not None:  # a size that is read off a value: right if that axis goes with this one
        value, index = entry.dim
        if facts.size(value, index) != facts.sizes[axis]:
            return False
        facts.tie(facts.at(value, index), axis)
        return True
    facts.fix("dim", node, axis, holder, position)
    return True


def expand(node: Node, facts: Facts) -> None:
    """Broadcast to a shape that is rewritten."""
    x, y, shape = node.input(0), node.outputs[0], node.input(1)
    out, own = facts.shape(y), facts.shape(x)
    if x is None or shape is None or out is None or own is None:
        return
    width = facts.size(shape, 0)
    for axis, size in enumerate(out):
        back = len(out) - axis
        mine = own[-back] if len(own) >= back else 1
        if size is None or mine is None or width is None:
            continue
        position = axis - (len(out) - width)
        if position >= 0:
            entry = entries(shape).get(position)
            is_one = entry is not None and entry.number == 1
            if not is_one and not can_state(node, facts, shape, position, facts.at(y, axis)):
                continue
        if mine == size and len(own) >= back:
            facts.tie(facts.at(x, -back), facts.at(y, axis))
        else:
            facts.allow(facts.at(y, axis))


def gather(node: Node, facts: Facts) -> None:
    """Axes that are not indexed pass; rows by constant numbers stay (they would have to be renumbered)."""
    x, indices, y = node.input(0), node.input(1), node.outputs[0]
    shape, picks, out = facts.shape(x), facts.shape(indices), facts.shape(y)
    if x is None or shape is None or picks is None or out is None:
        return
    along = node.attr("axis", 0) % len(shape)
    for axis in range(len(shape)):
        if axis != along:
            _pair(facts, x, axis, y, axis if axis < along else axis + len(picks) - 1)


def shape_of(node: Node, facts: Facts) -> None:
    """Shape: axes whose sizes nobody picks may change."""
    x = node.input(0)
    shape = facts.shape(x)
    if x is None or shape is None or node.attr("start", 0) or node.attr("end") is not None:
        return
    picked = _picked(node.outputs[0], len(shape))
    for axis in facts.axes(x):
        if picked is not None and axis.axis not in picked:
            facts.allow(axis)


def _picked(sizes: Value, rank: int) -> set[int] | None:
    """The places of a tensor of sizes that are read; None if that cannot be told."""
    found: set[int] = set()
    for use in sizes.uses:
        reader = use.user
        if not isinstance(reader, Node):
            return None
        starts, ends, axes, steps = (constant_ints(reader.input(slot)) for slot in (1, 2, 3, 4))
        numbers = np.arange(rank)
        if reader.is_op("Size"):
            continue  # the rank
        if reader.is_op("Cast", "Identity"):
            inner = _picked(reader.outputs[0], rank)
        elif reader.is_op("Gather") and starts is not None:
            inner = {int(number) for number in numbers[starts]}
        elif reader.is_op("Slice") and starts and ends and not any(axes or ()) and _is_said(reader, axes, steps):
            inner = {int(number) for number in numbers[starts[0] : ends[0] : (steps or [1])[0]]}
        else:
            inner = None
        if inner is None:
            return None
        found |= inner
    return found


def _is_said(node: Node, axes: list[int] | None, steps: list[int] | None) -> bool:
    """Whether what a Slice reads of axes and steps is known."""
    return (node.input(3) is None or axes is not None) and (node.input(4) is None or steps is not None)


def reduce(node: Node, facts: Facts) -> None:
    """Axes that are not reduced pass; a sum lets zeros go."""
    x, y = node.input(0), node.outputs[0]
    shape = facts.shape(x)
    if x is None or shape is None or facts.shape(y) is None:
        return
    axes = constant_ints(node.input(1)) if node.input(1) is not None else node.attr("axes")
    if axes is None:
        return
    gone = {axis % len(shape) for axis in axes}
    to = 0
    for axis, size in enumerate(shape):
        if axis not in gone:
            _pair(facts, x, axis, y, to)
            to += 1
            continue
        to += bool(node.attr("keepdims", 1))
        if size is not None and node.op_type in ("ReduceSum", "ReduceL1", "ReduceL2"):
            facts.allow(facts.at(x, axis))


def along_axis(node: Node, facts: Facts) -> None:
    """Softmax and its kind, LpNormalization: the axis that it normalizes over stays."""
    x, y = node.input(0), node.outputs[0]
    shape = facts.shape(x)
    graph = node.graph
    if x is None or shape is None or graph is None:
        return
    new = graph.opset.get("", 0) >= 13
    first = node.attr("axis", -1 if new else 1) % len(shape)
    for axis in range(len(shape)):
        if axis != first if new else axis < first:
            _pair(facts, x, axis, y, axis)


def branches(node: Node, facts: Facts) -> None:
    """If: what comes out goes together with what each branch gives, where these are of one size."""
    for place, y in enumerate(node.outputs):
        given = [body.outputs[place] for body in node.bodies]
        out = facts.shape(y)
        shapes = [facts.shape(value) for value in given]
        for axis, size in enumerate(out or ()):
            if size is not None and all(shape is not None and shape[axis] == size for shape in shapes):
                for value in given:
                    facts.tie(facts.at(value, axis), facts.at(y, axis))
        for value in given:
            facts.freeze_unsaid([value], f"If needs the whole axis ({node.label})")
