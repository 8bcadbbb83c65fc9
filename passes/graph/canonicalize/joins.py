"""Concat of Concat along one axis, and Slice of Slice along different axes, as one operator."""

from __future__ import annotations

from ....ir import Node
from ...rewriting.driver import QUIET
from ...rewriting.pattern import any_input, op, var
from ...rewriting.rule import Builder, Match, Results, Rule
from .facts import NO, counted, growth, ints, merger
from .unneeded import slice_axes, slice_steps

X = var("x")


def _one_axis(match: Match) -> str:
    inner, outer = match.node("first"), match.root
    rank = match.types.rank(outer.outputs[0])
    axes = [counted([node.attr("axis", 1)], rank) for node in (inner, outer)]
    if axes[0] is None or axes[0] != axes[1]:
        return NO
    return "" if sum(value is inner.outputs[0] for value in outer.inputs) == 1 else f"{QUIET} it is read twice"


def _flat(match: Match, b: Builder) -> Results:
    inner = match.node("first")
    parts = [part for value in match.root.inputs for part in (inner.inputs if value is inner.outputs[0] else [value])]
    return b.copy(match.root, *parts)


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
