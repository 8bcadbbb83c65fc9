"""Chains of operators that give the same elements another shape or order: Reshape, Squeeze, Unsqueeze, Transpose."""

from __future__ import annotations

from ....ir import Node
from ...rewriting.driver import QUIET
from ...rewriting.pattern import op, var
from ...rewriting.rule import Builder, Match, Results, Rule
from .facts import NO, counted, growth, ints, merger, parameter, removal

X = var("x")
_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_LONGER = f"{QUIET} the file would grow"


# ---- order


def _orders(match: Match) -> list[int] | None:
    """The order that two Transposes make together; None if it is unknown."""
    first, second = match.node("first").attr("perm"), match.root.attr("perm")
    rank = next((len(order) for order in (first, second) if order is not None), match.types.rank(match["x"]))
    if rank is None:
        return None
    backwards = list(range(rank))[::-1]
    first, second = first or backwards, second or backwards
    return [first[axis] for axis in second] if len(first) == len(second) else None


def _undoes(match: Match) -> str:
    if match.root.attr("perm") is None and match.node("first").attr("perm") is None:
        return ""
    order = _orders(match)
    return "" if order is not None and order == sorted(order) else NO


def _composes(match: Match) -> str:
    return "" if _orders(match) is not None else NO


def _one_transpose(match: Match, b: Builder) -> Results:
    return b("Transpose", match["x"], attributes={"perm": _orders(match)})


# ---- shapes


def _is_back(match: Match) -> str:
    """Sizes are static, and after two steps what they were: the elements never changed their order."""
    before, after = match.types.static_shape(match["x"]), match.types.static_shape(match.root.outputs[0])
    return "" if before is not None and before == after else NO


def _target_stands(match: Match) -> str:
    target = ints(match.root.input(1))
    if target is None:
        return NO
    copied = [] if match.root.attr("allowzero", 0) else [place for place, want in enumerate(target) if want == 0]
    return "" if all(_has_place(match, place) for place in copied) else NO


def _has_place(match: Match, place: int) -> bool:
    """Whether `first` has at a place the size that `x` has there: it copies it, or both are static and the same."""
    first = match.node("first")
    if first.is_op("Reshape") and not first.attr("allowzero", 0):
        target = ints(first.input(1))
        if target is not None and place < len(target) and target[place] == 0:
            return True
    before, after = match.types.shape(match["x"]), match.types.shape(first.outputs[0])
    if before is None or after is None or place >= min(len(before), len(after)):
        return False
    return isinstance(before[place], int) and before[place] == after[place]


def _from_x(match: Match, b: Builder) -> Results:
    return b.copy(match.root, match["x"], *match.root.inputs[1:])


# ---- axes of size 1


def squeezed(node: Node, match: Match) -> tuple[int, ...] | None:
    """The axes that a Squeeze takes out, counted from the front; None if unknown."""
    source = node.input(0)
    assert source is not None
    axes = parameter(node, "axes", 1)
    if axes is not None and axes:
        return counted(axes, match.types.rank(source))
    shape = match.types.static_shape(source)
    if node.input(1) is not None or shape is None or axes is not None:
        return None
    return tuple(axis for axis, size in enumerate(shape) if size == 1)


def unsqueezed(node: Node, match: Match) -> tuple[int, ...] | None:
    """The axes that an Unsqueeze puts in, counted from the front of its output; None if unknown."""
    source, axes = node.input(0), parameter(node, "axes", 1)
    rank = None if source is None else match.types.rank(source)
    return None if axes is None else counted(axes, None if rank is None else rank + len(axes))


def _same_axes(match: Match) -> str:
    first, second = match.node("first"), match.root
    if first.is_op("Squeeze"):
        out, back = squeezed(first, match), unsqueezed(second, match)
    else:
        out, back = unsqueezed(first, match), squeezed(second, match)
    return "" if out is not None and out == back else NO


def _joint_axes(match: Match) -> list[int] | None:
    """The axes of two Squeezes or two Unsqueezes, as one of them would have them."""
    first, second = match.node("first"), match.root
    if second.is_op("Squeeze"):
        outer, inner = squeezed(first, match), squeezed(second, match)
    else:
        outer, inner = unsqueezed(second, match), unsqueezed(first, match)
    if outer is None or inner is None:
        return None
    left = [axis for axis in range(len(outer) + max(inner, default=0) + 1) if axis not in outer]
    return sorted([*outer, *(left[axis] for axis in inner)])


def _join(match: Match) -> str:
    axes = _joint_axes(match)
    if axes is None:
        return NO
    if match.opset < 13:
        return ""
    return _LONGER if growth(match, [axes], [match.root.input(1), match.node("first").input(1)]) > 0 else ""


def _one_of_two(match: Match, b: Builder) -> Results:
    axes = _joint_axes(match)
    assert axes is not None
    if match.opset < 13:
        return b(match.root.op_type, match["x"], attributes={"axes": axes})
    return b(match.root.op_type, match["x"], b.constant(axes, "axes"))


VIEWS: tuple[Rule, ...] = (
    removal("transpose-there-and-back", op.Transpose(op.Transpose(X).named("first")), _undoes),
    merger("transpose-of-transpose", op.Transpose(op.Transpose(X).named("first")), _composes, _one_transpose),
    removal("squeeze-of-unsqueeze", op.Squeeze(op.Unsqueeze(X, ...).named("first"), ...), _same_axes),
    removal("unsqueeze-of-squeeze", op.Unsqueeze(op.Squeeze(X, ...).named("first"), ...), _same_axes),
    removal("view-there-and-back", op[_VIEWS](op[_VIEWS](X, ...), ...), _is_back, since=5),
    merger("reshape-of-view", op.Reshape(op[_VIEWS](X, ...).named("first"), ...), _target_stands, _from_x, since=5),
    merger("squeeze-of-squeeze", op.Squeeze(op.Squeeze(X, ...).named("first"), ...), _join, _one_of_two),
    merger("unsqueeze-of-unsqueeze", op.Unsqueeze(op.Unsqueeze(X, ...).named("first"), ...), _join, _one_of_two),
)
