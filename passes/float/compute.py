"""Compute in 16 bits: observe, choose, convert, and say what was done and what was not."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph.opset import raise_opset
from ..manager.context import Context
from .choose import Choice, choose
from .convert import convert
from .formats import Format
from .observe import observed


def compute(ctx: Context, format: Format, exclude: Sequence[str]) -> Choice:
    """Let the nodes of the main graph and of the bodies in it compute in `format`, where they can; says which do."""
    mark = ctx.rewriter.mark()
    problem = raise_opset(ctx, format.opset)
    if problem:
        ctx.remarks.missed("model", f"nothing computes in {format.name}: {problem}", rule="opset")
        return Choice()
    choice = choose(ctx, format, observed(ctx, format), exclude)
    if not choice.halves:
        _explain(ctx, choice)
        ctx.rewriter.rollback(mark)
        ctx.remarks.missed("model", f"nothing is left to compute in {format.name}", rule="compute")
        return choice
    problem = convert(ctx, format, choice)
    if problem:
        ctx.rewriter.rollback(mark)
        ctx.remarks.failed("model", f"the executor does not compute in {format.name}: {problem}", rule="compute")
        return Choice(excluding=choice.excluding)
    if ctx.samples is None:
        hint = "give --data: what overflows on it stays in float32"
        ctx.remarks.missed("model", "the ranges of values were not observed", rule="compute", suggestion=hint)
    _explain(ctx, choice)
    kept = sum(bool(slots.outputs) for slots in choice.slots.values()) - len(choice.halves)
    what = f"{len(choice.halves)} nodes compute in {format.name}; {kept} that could stay in float32"
    ctx.remarks.applied("model", what, rule="compute")
    return choice


def _explain(ctx: Context, choice: Choice) -> None:
    for node, reason in choice.refused:
        label = "" if node.graph is None else node.graph.label
        ctx.remarks.missed(f"{label}/{node.label}", f"it stays in float32: {reason}", rule="compute")
