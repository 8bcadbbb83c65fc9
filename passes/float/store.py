"""Constants stored in 16 bits: each becomes a 16-bit constant and a Cast to what it was.

onnxruntime folds such a Cast once, when it loads the model, and then computes as before. Rows of a table are gathered
before they are cast, so that a table stays narrow in memory too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...ir import DerivedTensor, Graph, Node, Value
from ...ir.dtypes import name_of
from ..manager.context import Context
from ..manager.weights import Outcome, Reason
from ..quantize.error_bounds import Change, bounds_of
from ..quantize.explain import Held, explain_kept
from ..quantize.opsets import is_one_language, raise_for
from ..quantize.plan import Refusal
from ..quantize.rewrite import first_readers
from ..quantize.sites import Finder, Site
from ..quantize.weight_only import held_constants
from .formats import Format
from .plan import HINT, Plan, Planner

BY = "float"
OPERATORS = ("Cast", "Gather")
Decision = tuple[Held, Plan | Refusal]


def store(ctx: Context, format: Format, min_bytes: int, exclude: Sequence[str], excluding: Collection[str] = ()) -> int:
    """Store the constants of all graphs in `format`, account for every one, and say how many were changed.

    Those of less than `min_bytes` and those that match a glob of `exclude` are left. The globs `excluding` have
    excluded something already.
    """
    planner = Planner(Finder(ctx.model), format, min_bytes, exclude, ctx.selects)
    held = ctx.progress.track(list(held_constants(ctx.model)), "constants")
    decisions = [(one, planner.decide(*one)) for one in held]
    problem = raise_for(ctx, _plans(decisions))
    decisions = [(one, _checked(ctx, plan, problem)) for one, plan in decisions]
    left = [pattern for pattern in exclude if pattern not in excluding]
    explain_kept(ctx, decisions, left, lambda kept: kept.nbytes // 2, "constant that could be rounded")
    plans = _plans(decisions)
    first = first_readers(plans)
    for plan in ctx.progress.track(plans, "round"):
        with ctx.rewriter.apply("store", *_readers(plan)):
            _rewrite(ctx, format, plan, first[plan.value])
    return len(plans)


def _plans(decisions: Sequence[Decision]) -> list[Plan]:
    return [decision for _, decision in decisions if isinstance(decision, Plan)]


def _readers(plan: Plan) -> list[Node]:
    return list(dict.fromkeys(use.user for use in plan.value.uses if isinstance(use.user, Node)))


def _checked(ctx: Context, plan: Plan | Refusal, problem: str | None) -> Plan | Refusal:
    """The plan if its nodes exist in the opset of its graph; `problem` is why that was not raised."""
    if isinstance(plan, Refusal):
        return plan
    now, main = plan.graph.opset.get("", 0), ctx.model.opset.get("", 0)
    if plan.opset > now:
        hint = f"opset {plan.opset} is needed and {now} there: {problem or 'it was not raised'}"
        return Refusal(Reason.OPSET, hint=hint)
    if plan.graph.is_function and not is_one_language(OPERATORS, now, main):
        return Refusal(Reason.OPSET, hint="the function has another opset than the model: give both the same")
    return plan


def _rewrite(ctx: Context, format: Format, plan: Plan, first: Node | None) -> None:
    """Store one constant; `first` is its first reader, before which it is cast."""
    rw, value, wide = ctx.rewriter, plan.value, plan.tensor.dtype
    name, readers = f"{plan.graph.label}/{value.name}", _readers(plan)
    made = DerivedTensor(format.name, format.rounded, (plan.tensor,), format.dtype, plan.tensor.shape)
    narrow = rw.constant(plan.graph, made, HINT, before=first)
    decoded = None
    if plan.is_read_whole:
        origin = () if value.producer is None else (value.producer,)
        decoded = _insert(ctx, "Cast", [narrow], {"to": wide}, first, plan.graph, origin)
    rows: dict[Site, Value] = {}
    for site in plan.rows:
        where = site.node, site.node.graph, (site.node,)
        gathered = _insert(ctx, "Gather", [narrow, site.node.input(1)], site.node.attributes, *where)
        rows[site] = _insert(ctx, "Cast", [gathered], {"to": wide}, *where)
        rw.take_over(site.node.outputs[0], rows[site])
        rw.erase(site.node)
    if decoded is not None:
        rw.take_over(value, decoded)
    ctx.weights.became(plan.tensor, [made], Outcome.NARROWED, form=format.name)
    errors, rank = format.error_sums(plan.tensor.numpy()), len(plan.tensor.shape)
    ctx.bounds.extend(bounds_of(Change(BY, value.name, plan.readers, rank, 0, errors), decoded, rows))
    ctx.remarks.applied(name, _what(plan, format, readers), rule="store", bytes_at_stake=plan.saved)


def _insert(
    ctx: Context,
    op_type: str,
    inputs: Sequence[Value | None],
    attributes: Mapping[str, Any],
    before: Node | None,
    graph: Graph | None,
    origin: Sequence[Node],
) -> Value:
    """The output of a new node before another, or at the end of a graph."""
    node = ctx.rewriter.insert(op_type, inputs, attributes, before=before, graph=graph, outputs=["d"], origin=origin)
    return node.outputs[0]


def _what(plan: Plan, format: Format, readers: Sequence[Node]) -> str:
    labels = [f"{node.op_type} {node.label}" for node in readers] or ["an output"]
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    lost = f"; {plan.toll.vanished} of {plan.toll.count} numbers became 0" if plan.toll.vanished else ""
    return f"{name_of(plan.tensor.dtype)} to {format.name}, for {labels[0]}{more}{lost}"
