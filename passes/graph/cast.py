"""Cast a model to another opset, with a check.

Node by node: what means the same in both opsets stays as it is, source message and all; any other node is converted
alone by onnx's version converter and run beside the original on random inputs before it is believed. Nodes of bodies
and functions go along one by one. If one cannot be converted, or the executor takes no model of that opset, nothing is
changed and the reason is told.

ROUNDING: most conversions move an attribute into an input or back, which no bit notices. But a converted node may be
another kernel of the executor, which sums in another order (Softmax over several axes becomes one over the last of a
reshaped tensor: k = n for n elements on either side).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import ExecutionError
from ...ir import Graph
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from .opset import LOWEST, set_opset


@dataclass(frozen=True)
class Cast(Pass):
    """Take the model to another version of the standard operators, up or down, and check every converted node."""

    name: ClassVar[str] = "cast"
    effect: ClassVar[Effect] = Effect.ROUNDING
    uses_blas: ClassVar[bool] = False

    to: int = option(17, "the opset to come out", low=LOWEST)

    def run(self, graph: Graph, ctx: Context) -> None:
        """Convert all or nothing."""
        if ctx.is_narrowed:
            ctx.remarks.missed("model", "the opset is that of the whole model, and only a part of it may be touched")
            return
        now = ctx.model.opset.get("")
        opsets = [ctx.model.opset, *(function.opset for function in ctx.model.functions.values())]
        if now is None or all(opset.get("", self.to) == self.to for opset in opsets):
            ctx.remarks.missed("model", "no operators of the standard domain" if now is None else f"opset {now} is it")
            return
        before = ctx.rewriter.mark()
        runs = not _refusal(ctx)
        problem = set_opset(ctx, self.to)
        if problem is None and runs:
            problem = _refusal(ctx)
        if problem:
            ctx.rewriter.rollback(before)
            ctx.remarks.missed("model", f"opset {now} stays: {problem}", rule="opset")
            return
        erased = sum(edit.kind == "erase" for edit in ctx.rewriter.journal[before:])
        ctx.remarks.applied("model", f"opset {now} became {self.to}; {erased} nodes were converted", rule="opset")


def _refusal(ctx: Context) -> str:
    """Why the executor does not take the model as it is now; empty if it does, or if there is none.

    It may have the operator in one opset and not in another.
    """
    if ctx.backend is None:
        return ""
    try:
        ctx.backend.prepare(ctx.model)
    except ExecutionError as error:
        return str(error).splitlines()[0]
    return ""
