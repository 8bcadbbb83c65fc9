"""Operators that change nothing, each by what its constants and the static sizes of its input say.

Where a Reshape has one size to infer, it fails on some empty inputs; what takes its place does not. A sum or a mean
of floats stays, be it of one number: onnx's reference evaluator begins with 0, and makes 0 of -0.
"""

from __future__ import annotations

from onnx import TensorProto

from ....ir import Node
from ....ir.analysis.purity import Purity
from ...rewriting.pattern import op, var
from ...rewriting.rule import Match, Rule
from .facts import NO, counted, ints, parameter, removal

INTEGERS = (TensorProto.INT32, TensorProto.INT64)
TO_THE_END = 2**31 - 1
X = var("x")


def _always(match: Match) -> str:
    return ""


def _keeps_shape(match: Match) -> bool:
    """Whether the sizes are static and the same before and after: then nothing is moved by what only views."""
    before = match.types.static_shape(match["x"])
    return before is not None and before == match.types.static_shape(match.root.outputs[0])


def _dropout(match: Match) -> str:
    mask = match.root.outputs[1] if len(match.root.outputs) > 1 else None
    is_unread = mask is None or mask.is_dead
    return "" if is_unread and Purity(match.ctx.model).is_pure(match.root) else NO


def _cast(match: Match) -> str:
    return "" if match.root.attr("to") == match.types.dtype(match["x"]) else NO


def _cast_like(match: Match) -> str:
    return "" if match.types.dtype(match["like"]) == match.types.dtype(match["x"]) else NO


def _reshape(match: Match) -> str:
    if _keeps_shape(match):
        return ""
    target, shape = ints(match.root.input(1)), match.types.shape(match["x"])
    if target is None or shape is None or len(target) != len(shape) or target.count(-1) > 1:
        return NO
    copies = not match.root.attr("allowzero", 0)
    same = (want == -1 or (want == 0 and copies) or want == size for want, size in zip(target, shape, strict=True))
    return "" if all(same) else NO


def _flatten(match: Match) -> str:
    is_flat = match.types.rank(match["x"]) == 2 and match.root.attr("axis", 1) in (1, -1)
    return "" if is_flat or _keeps_shape(match) else NO


def _squeeze(match: Match) -> str:
    return "" if _keeps_shape(match) else NO


def _unsqueeze(match: Match) -> str:
    return "" if parameter(match.root, "axes", 1) == () else NO


def _transpose(match: Match) -> str:
    order, rank = match.root.attr("perm"), match.types.rank(match["x"])
    if order is None:
        return "" if rank is not None and rank < 2 else NO
    return "" if list(order) == list(range(len(order))) else NO


def _slice(match: Match) -> str:
    node, shape = match.root, match.types.shape(match["x"])
    starts, ends = parameter(node, "starts", 1), parameter(node, "ends", 2)
    axes, steps = slice_axes(node, None if shape is None else len(shape)), slice_steps(node)
    if starts is None or ends is None or axes is None or steps is None or any(starts) or set(steps) - {1}:
        return NO
    for axis, end in zip(axes, ends, strict=True):
        size = shape[axis] if shape is not None and axis < len(shape) else None
        if end < TO_THE_END and not (isinstance(size, int) and end >= size):
            return NO
    return ""


def slice_axes(node: Node, rank: int | None) -> tuple[int, ...] | None:
    """The axes of a Slice in the order of its bounds, counted from the front; None if unknown."""
    starts, axes = parameter(node, "starts", 1), parameter(node, "axes", 3)
    if starts is None or (axes is None and node.input(3) is not None):
        return None
    axes = tuple(range(len(starts))) if axes is None else axes
    if counted(axes, rank) is None or len(axes) != len(starts):
        return None
    return tuple(axis if axis >= 0 or rank is None else axis + rank for axis in axes)


def slice_steps(node: Node) -> tuple[int, ...] | None:
    """The steps of a Slice, () if it has none; None if unknown."""
    return () if node.input(4) is None else ints(node.input(4))


def _pad(match: Match) -> str:
    pads = parameter(match.root, "pads", 1)
    return "" if pads is not None and not any(pads) else NO


def _expand(match: Match) -> str:
    if _keeps_shape(match):
        return ""
    target, shape = ints(match.root.input(1)), match.types.shape(match["x"])
    if target is None or shape is None or len(target) > len(shape):
        return NO
    tail = shape[len(shape) - len(target) :]
    return "" if all(want in (1, size) for want, size in zip(target, tail, strict=True)) else NO


def _tile(match: Match) -> str:
    repeats = ints(match.root.input(1))
    return "" if repeats is not None and set(repeats) <= {1} else NO


def _split(match: Match) -> str:
    return "" if len(match.root.outputs) == 1 else NO


def _reduces_nothing(match: Match) -> str:
    """Without axes a reduction goes over all, or over none if it says so; then these compute nothing."""
    axes = match.root.input(1)
    has_none = axes is None or ints(axes) == ()
    return "" if has_none and match.root.attr("noop_with_empty_axes", 0) == 1 else NO


def _sums_nothing(match: Match) -> str:
    return _reduces_nothing(match) if match.types.dtype(match["x"]) in INTEGERS else NO


UNNEEDED: tuple[Rule, ...] = (
    removal("identity", op.Identity(X), _always),
    removal("dropout", op.Dropout(X, ...), _dropout),
    removal("cast-to-same", op.Cast(X), _cast, since=6),
    removal("cast-like-same", op.CastLike(X, var("like")), _cast_like),
    removal("reshape-to-same", op.Reshape(X, ...), _reshape, since=5),
    removal("flatten-to-same", op.Flatten(X), _flatten),
    removal("squeeze-of-nothing", op.Squeeze(X, ...), _squeeze),
    removal("unsqueeze-of-nothing", op.Unsqueeze(X, ...), _unsqueeze),
    removal("transpose-in-order", op.Transpose(X), _transpose),
    removal("slice-of-all", op.Slice(X, ...), _slice),
    removal("pad-of-nothing", op.Pad(X, ...), _pad, since=2),
    removal("expand-to-same", op.Expand(X, ...), _expand),
    removal("tile-once", op.Tile(X, ...), _tile, since=6),
    removal("concat-of-one", op.Concat(X), _always, since=4),
    removal("split-into-one", op.Split(X, ...), _split, since=2),
    removal("of-one", op["Max", "Min", "Mean"](X), _always),
    removal("sum-of-nothing", op.ReduceSum(X, ...), _sums_nothing, since=13),
    removal("reduce-nothing", op["ReduceMax", "ReduceMin", "ReduceProd"](X, ...), _reduces_nothing, since=18),
)
