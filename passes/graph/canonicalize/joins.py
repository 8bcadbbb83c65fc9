"""Concat of Concat along one axis, and Slice of Slice along different axes, as one operator."""

from __future__ import annotations

from ....ir import Node, Value
from ...rewriting.driver import QUIET
from ...rewriting.pattern import any_input, op, var
from ...rewriting.rule import Builder, Match, Results, Rule
from .facts import NO, counted, growth, ints, merger
from .unneeded import slice_axes, slice_steps

X = var("x")


def _one_axis(match: Match) -> str:
    inner, outer = match.node("first"), match.root
    axis = _axis(outer, match)
    if axis is None or axis != _axis(inner, match):
        return NO
    if _is_flattened_by_its_reader(outer, axis, match):
        return f"{QUIET} what reads it takes it in"
    return "" if sum(value is inner.outputs[0] for value in outer.inputs) == 1 else f"{QUIET} it is read twice"


def _axis(node: Node, match: Match) -> int | None:
    found = counted([node.attr("axis", 1)], match.types.rank(node.outputs[0]))
    return None if found is None else found[0]


def _is_flattened_by_its_reader(node: Node, axis: int, match: Match) -> bool:
    reader = _only_reader(node)
    return reader is not None and _axis(reader, match) == axis and match.ctx.selects(reader)


def _only_reader(node: Node) -> Node | None:
    """The Concat of the same graph that alone reads what a Concat gives, once."""
    uses = tuple(node.outputs[0].uses)
    reader = uses[0].user if len(uses) == 1 else None
    is_plain = isinstance(reader, Node) and reader.is_op("Concat") and not reader.attributes["axis"].ref
    return reader if isinstance(reader, Node) and is_plain and reader.graph is node.graph else None


def _flat(match: Match, b: Builder) -> Results:
    """The outermost takes in all at once, however deep they lie: one by one would be quadratic."""
    inner, outer = match.node("first"), match.root
    axis = _axis(outer, match)
    joined, parts = [outer], list[Value | None]()
    todo = list(reversed(outer.inputs))
    while todo:
        value = todo.pop()
        node = None if value is None else value.producer
        if node is not None and (node is inner or _goes_in(node, axis, match)):
            joined.append(node)
            todo += reversed(node.inputs)
        else:
            parts.append(value)
    return b.copy(outer, *parts, origin=joined)


def _goes_in(node: Node, axis: int | None, match: Match) -> bool:
    """Whether a Concat somewhere inside, which nothing else reads, can be taken in as well."""
    is_plain = node.is_op("Concat") and not node.attributes["axis"].ref and not node.outputs[0].pinned
    return is_plain and _only_reader(node) is not None and _axis(node, match) == axis and match.ctx.selects(node)


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
    merger("concat-of-concat", any_input("Concat", op.Concat(X, ...).named("first")), _one_axis, _flat, since=4),
    merger("slice-of-slice", op.Slice(op.Slice(X, ...).named("first"), ...), _other_axes, _one_slice, since=10),
)
