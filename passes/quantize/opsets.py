"""Plans that need a newer opset than their graph has: raise it where that is sound and pays, else let them go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from onnx import defs

from ...ir import Graph, Model
from ..graph.opset import raise_opset
from ..manager.context import Context
from ..manager.weights import Reason
from .decode import DecodeForm
from .plan import Plan, Refusal
from .written import NODE_BYTES, TENSOR_BYTES


class Wanting(Protocol):
    """What is to be done in a graph from some opset on, and the bytes that it saves."""

    @property
    def graph(self) -> Graph: ...

    @property
    def opset(self) -> int: ...

    @property
    def saved(self) -> int: ...


def raise_for(ctx: Context, plans: Sequence[Wanting]) -> str | None:
    """Raise the opset to what the plans need; the reason if it cannot be, or None. It must not cost more bytes than the
    plans save."""
    wanting = [plan for plan in plans if plan.opset > plan.graph.opset[""]]
    if not wanting:
        return None
    rw = ctx.rewriter
    mark, target = rw.mark(), max(plan.opset for plan in wanting)
    problem = raise_opset(ctx, target)
    added = sum(edit.kind in ("insert", "add-initializer") for edit in rw.journal[mark:])
    if problem is None and added * (NODE_BYTES + TENSOR_BYTES) >= sum(plan.saved for plan in wanting):
        rw.rollback(mark)
        return "the nodes that it changes would take more bytes than are saved"
    if problem is None:
        ctx.remarks.applied("model", f"opset raised to {target}; {added} nodes and constants added", rule="opset")
    return problem


def checked(model: Model, form: DecodeForm, plan: Plan, problem: str | None) -> Plan | Refusal:
    """The plan if its nodes exist in the opset of its graph, else a refusal; `problem` is why that was not raised."""
    now = plan.graph.opset[""]
    if plan.opset > now:
        hint = f"opset {plan.opset} is needed and {now} there: {problem or 'it was not raised'}"
        return Refusal(Reason.OPSET, True, hint)
    if plan.graph.is_function and not is_one_language(
        form.operators(plan.grid, plan.storage), now, model.opset.get("", now)
    ):
        return Refusal(Reason.OPSET, True, "the function has another opset than the model: give both the same")
    return plan


def is_one_language(operators: Sequence[str], function: int, model: int) -> bool:
    """Whether the operators are the same in both opsets, as onnx demands of those in functions."""
    return all(
        defs.get_schema(op_type, function).since_version == defs.get_schema(op_type, model).since_version
        for op_type in ("Constant", *operators)
    )
