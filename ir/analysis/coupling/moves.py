"""Rules for the operators that move elements, or work on each by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
        if sizes is None or _can_state(node, facts, sizes, axis, facts.at(x, axis)):
            _pair(facts, x, axis, y, axis)


def _can_state(node: Node, facts: Facts, holder: Value, position: int, axis: Axis) -> bool:
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
            if not is_one and not _can_state(node, facts, shape, position, facts.at(y, axis)):
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
    picked: set[int] = set()
    for use in node.outputs[0].uses:
        reader = use.user
        if not isinstance(reader, Node):
            return
        numbers = np.arange(len(shape))
        starts, ends = (constant_ints(reader.input(slot)) for slot in (1, 2))
        if reader.is_op("Gather") and starts is not None:
            picked |= {int(number) for number in numbers[starts]}
        elif reader.is_op("Slice") and starts is not None and ends is not None and len(reader.inputs) < 5:
            picked |= {int(number) for number in numbers[starts[0] : ends[0]]}
        else:
            return
    for axis in facts.axes(x):
        if axis.axis not in picked:
            facts.allow(axis)


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
        if size is not None and node.op_type in ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare"):
            facts.allow(facts.at(x, axis))


def along_axis(node: Node, facts: Facts) -> None:
    """Softmax and its kind: the axis that it normalizes over stays."""
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


def reshape(node: Node, facts: Facts) -> None:
    """Squeeze, Unsqueeze, Flatten and Reshape where axes keep their elements: they pass."""
    for block in _blocks(node, facts):
        _tie_block(node, facts, block, 0, 0)


def is_open(node: Node, facts: Facts) -> bool:
    """Whether a reshape splits or merges an axis: which of the pieces is cut has to be decided."""
    return any(len(block.old) > 1 or len(block.new) > 1 for block in _blocks(node, facts))


def decide(node: Node, facts: Facts, mode: str, stuck: set[Axis]) -> None:
    """A reshape that splits or merges: of several axes the one that is cut is the first that is not stuck (`head`), or
    the widest (`channel`); the others stay."""
    for block in _blocks(node, facts):
        old, new = _open_axes(facts, block.x, block.old, stuck), _open_axes(facts, block.y, block.new, stuck)
        if not old or not new or (len(block.old) > 1 and len(block.new) > 1):
            continue
        _tie_block(node, facts, block, _choice(mode, old), _choice(mode, new))


def _choice(mode: str, axes: list[tuple[int, int]]) -> int:
    place, _ = axes[0] if mode == "head" else max(axes, key=lambda at: at[1])
    return place


@dataclass(frozen=True)
class _Block:
    """Runs of axes of `x` and `y` that hold the same elements; axes of size one are left out."""

    x: Value
    y: Value
    old: list[int]
    new: list[int]


def _open_axes(facts: Facts, value: Value, axes: list[int], stuck: set[Axis]) -> list[tuple[int, int]]:
    """Place in the run and size of the axes that may be cut."""
    if len(axes) == 1:
        return [(0, facts.sizes[facts.at(value, axes[0])])]
    found = [(place, facts.at(value, axis)) for place, axis in enumerate(axes)]
    return [(place, facts.sizes[axis]) for place, axis in found if axis not in stuck]


def _blocks(node: Node, facts: Facts) -> list[_Block]:
    x, y = node.input(0), node.outputs[0]
    old, new = facts.shapes.shape(x) if x is not None else None, facts.shapes.shape(y)
    if x is None or old is None or new is None:
        return []
    found = []
    for left, right in match(old, new):
        left = [axis for axis in left if old[axis] != 1]
        right = [axis for axis in right if new[axis] != 1]
        if left and right and all(isinstance(old[axis], int) for axis in left):
            found.append(_Block(x, y, left, right))
    return found


def _tie_block(node: Node, facts: Facts, block: _Block, a: int, b: int) -> None:
    """Tie the axes at places `a` and `b` of the two runs, if the shape operand can follow."""
    old = [facts.sizes[facts.at(block.x, axis)] for axis in block.old]
    new = [facts.sizes[facts.at(block.y, axis)] for axis in block.new]
    xa, ya = facts.at(block.x, block.old[a]), facts.at(block.y, block.new[b])
    if node.op_type == "Reshape" and not _follows(node, facts, block.old[a], ya, alone=len(new) == 1):
        return
    numbers = np.arange(math.prod(old))
    ia = numbers // math.prod(old[a + 1 :]) % old[a]
    ib = numbers // math.prod(new[b + 1 :]) % new[b]
    pairs = np.unique(np.stack([ia, ib]), axis=1)
    facts.tie(xa, ya, pairs[0], pairs[1])


def _follows(node: Node, facts: Facts, source: int, axis: Axis, *, alone: bool) -> bool:
    """Whether the size of an axis in the shape operand of a Reshape follows, or can be rewritten."""
    holder = node.input(1)
    entry = entries(holder).get(axis.axis)
    if holder is None or entry is None:
        return False
    if entry.number == -1:
        return True
    if entry.number == 0 and not node.attr("allowzero", 0):
        return axis.axis == source and alone
    return _can_state(node, facts, holder, axis.axis, axis)


Dims = tuple[int | str | None, ...]


def match(old: Dims, new: Dims) -> list[tuple[list[int], list[int]]]:
    """Runs of axes before and after a reshape that hold the same elements, from both ends as far as sizes are known."""
    found, i, j = _runs(old, new)
    back, _, _ = _runs(old[i:][::-1], new[j:][::-1])
    last_old, last_new = len(old) - 1, len(new) - 1
    return found + [([last_old - a for a in left][::-1], [last_new - b for b in right][::-1]) for left, right in back]


def _runs(old: Dims, new: Dims) -> tuple[list[tuple[list[int], list[int]]], int, int]:
    """Runs from the start, and where they end."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        if isinstance(old[i], str) and old[i] == new[j]:
            i, j = i + 1, j + 1
            continue
        run = _run(old[i:], new[j:])
        if run is None:
            break
        a, b = run
        found.append((list(range(i, i + a)), list(range(j, j + b))))
        i, j = i + a, j + b
    return found, i, j


def _run(old: Dims, new: Dims) -> tuple[int, int] | None:
    """The fewest leading axes of both that hold as many elements."""
    a = b = 0
    p = q = 1
    while a == 0 or b == 0 or p != q:
        takes_old = a == 0 or (b > 0 and p < q)
        dims, at = (old, a) if takes_old else (new, b)
        dim = dims[at] if at < len(dims) else None
        if not isinstance(dim, int) or dim < 1:
            return None
        if takes_old:
            p, a = p * dim, a + 1
        else:
            q, b = q * dim, b + 1
    return a, b
