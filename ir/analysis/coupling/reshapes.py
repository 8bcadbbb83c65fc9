"""Rules for Reshape and its kind: axes that keep their elements, and those that are split or merged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...node import Node
from ...value import Value
from .axes import Axis, Facts
from .moves import can_state
from .sizes import entries


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
    return can_state(node, facts, holder, axis.axis, axis)


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
