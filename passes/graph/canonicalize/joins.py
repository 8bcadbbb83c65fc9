"""Concats of Concats along one axis, and Slice of Slice along different axes, as one operator.

A tree of Concats becomes one at once, at its root: joined two at a time, the parts of a deep one would be listed anew
for each level.
"""

from __future__ import annotations

from ....ir import Node, Value
from ...rewriting.driver import QUIET
from ...rewriting.pattern import any_input, op, var
from ...rewriting.rule import Builder, Match, Results, Rule
from .facts import NO, counted, growth, ints, merger, untouchable
from .unneeded import slice_axes, slice_steps

X = var("x")


def _is_part(inner: Node | None, outer: Node, match: Match) -> bool:
    """Whether `inner` is a Concat along the axis of `outer` that nothing else reads, and that may go."""
    if inner is None or not inner.is_op("Concat") or inner.graph is not outer.graph:
        return False
    made = inner.outputs[0]
    rank = match.types.rank(outer.outputs[0])
    axis = counted([inner.attr("axis", 1)], rank)
    return (
        axis is not None
        and axis == counted([outer.attr("axis", 1)], rank)
        and [use.user for use in made.uses] == [outer]
        and not made.pinned
        and match.ctx.selects(inner)
        and not untouchable((inner,), match)
    )


def _is_root(match: Match) -> str:
    inner, outer = match.node("first"), match.root
    if not _is_part(inner, outer, match):
        return NO
    readers = [use.user for use in outer.outputs[0].uses]
    if len(readers) == 1 and isinstance(reader := readers[0], Node) and _absorbs(reader, outer, match):
        return f"{QUIET} what reads it takes it in"
    return ""


def _absorbs(outer: Node, inner: Node, match: Match) -> bool:
    """Whether the rule fits a Concat and one that it reads, so that both go into one."""
    return (
        outer.is_op("Concat")
        and _is_part(inner, outer, match)
        and match.ctx.selects(outer)
        and not outer.outputs[0].pinned
        and not untouchable((outer,), match)
    )


def _flat(match: Match, b: Builder) -> Results:
    root = match.root
    joined: list[Node] = [root]
    parts: list[Value | None] = []
    todo = [(value, root) for value in reversed(root.inputs)]
    while todo:
        value, reader = todo.pop()
        inner = None if value is None else value.producer
        if inner is not None and _is_part(inner, reader, match):
            joined.append(inner)
            todo += [(value, inner) for value in reversed(inner.inputs)]
        else:
            parts.append(value)
    return b.copy(root, *parts, origin=joined)


Bounds = list[tuple[int, int, int, int]]
"""Axis, start, end and step of each."""


def _bounds(node: Node, rank: int | None) -> Bounds | None:
    starts, ends, axes, steps = ints(node.input(1)), ints(node.input(2)), slice_axes(node, rank), slice_steps(node)
    if starts is None or ends is None or axes is None or steps is None:
        return None
    return list(zip(axes, starts, ends, steps or (1,) * len(axes), strict=True))


def _both_bounds(match: Match) -> Bounds | None:
    rank = match.types.rank(match["x"])
    first, second = _bounds(match.node("first"), rank), _bounds(match.root, rank)
    if first is None or second is None or {part[0] for part in first} & {part[0] for part in second}:
        return None
    return sorted([*first, *second])


def _columns(bounds: Bounds) -> list[list[int]]:
    """Starts, ends, axes and, unless all are 1, steps."""
    axes, starts, ends, steps = (list(column) for column in zip(*bounds, strict=True))
    return [starts, ends, axes, *([steps] if set(steps) != {1} else [])]


def _other_axes(match: Match) -> str:
    bounds = _both_bounds(match)
    if not bounds:
        return NO
    dropped = [*match.root.inputs[1:], *match.node("first").inputs[1:]]
    return f"{QUIET} the file would grow" if growth(match, _columns(bounds), dropped) > 0 else ""


def _one_slice(match: Match, b: Builder) -> Results:
    bounds = _both_bounds(match)
    assert bounds is not None
    names = ("starts", "ends", "axes", "steps")
    return b("Slice", match["x"], *map(b.constant, _columns(bounds), names))


JOINS: tuple[Rule, ...] = (
    merger("concat-of-concat", any_input("Concat", op.Concat(X, ...).named("first")), _is_root, _flat, since=4),
    merger("slice-of-slice", op.Slice(op.Slice(X, ...).named("first"), ...), _other_axes, _one_slice, since=10),
)
