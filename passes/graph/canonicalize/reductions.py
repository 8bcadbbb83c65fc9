"""Operators that drop an axis and a Squeeze or Unsqueeze behind them: whether an axis stays is theirs to say."""

from __future__ import annotations

import numpy as np

from ....ir import tensor
from ...rewriting.driver import QUIET
from ...rewriting.pattern import const, op, var
from ...rewriting.rule import Builder, Match, Results, Rule
from .facts import NO, counted, growth, ints, merger, parameter
from .views import squeezed, unsqueezed

X = var("x")
_REDUCTIONS = tuple(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
)
_DROPS_AXES = (*_REDUCTIONS, "ArgMax", "ArgMin")


def _reduced(match: Match) -> tuple[int, ...] | None:
    """The axes that the reduction `first` goes over; None if unknown."""
    node, rank = match.node("first"), match.types.rank(match["x"])
    if node.is_op("ArgMax", "ArgMin"):
        return counted([node.attr("axis", 0)], rank)
    axes = parameter(node, "axes", 1)
    if axes:
        return counted(axes, rank)
    is_all = axes is None and node.input(1) is None and not node.attr("noop_with_empty_axes", 0)
    return tuple(range(rank)) if is_all and rank is not None else None


def _keeps(match: Match) -> bool:
    return bool(match.node("first").attr("keepdims", 1))


def _puts_back(match: Match) -> str:
    axes = _reduced(match)
    return "" if not _keeps(match) and axes is not None and axes == unsqueezed(match.root, match) else NO


def _takes_out(match: Match) -> str:
    axes = _reduced(match)
    return "" if _keeps(match) and axes is not None and axes == squeezed(match.root, match) else NO


def _keeping(match: Match, b: Builder) -> Results:
    return b.copy(match.node("first"), *match.node("first").inputs, attributes={"keepdims": None})


def _dropping(match: Match, b: Builder) -> Results:
    return b.copy(match.node("first"), *match.node("first").inputs, attributes={"keepdims": 0})


def _picks_one(match: Match) -> str:
    node, index = match.node("first"), match["index"].const
    if index is None or index.shape or ints(match["index"]) is None:
        return NO
    axis = counted([node.attr("axis", 0)], match.types.rank(match["x"]))
    if axis is None or axis != unsqueezed(match.root, match):
        return NO
    grows = growth(match, [(0,)], [match["index"], match.root.input(1)]) > 0
    return f"{QUIET} the file would grow" if grows else ""


def _pick_a_slice(match: Match, b: Builder) -> Results:
    index = match["index"].const
    assert index is not None
    content = b.constant(tensor(np.asarray(index.numpy()).reshape(1)), "index")
    return b.copy(match.node("first"), match["x"], content)


_REDUCED = op[_DROPS_AXES](X, ...).named("first")
REDUCTIONS: tuple[Rule, ...] = (
    merger("reduce-unsqueeze", op.Unsqueeze(_REDUCED, ...), _puts_back, _keeping),
    merger("reduce-squeeze", op.Squeeze(_REDUCED, ...), _takes_out, _dropping),
    merger(
        "gather-unsqueeze", op.Unsqueeze(op.Gather(X, const("index")).named("first"), ...), _picks_one, _pick_a_slice
    ),
)
