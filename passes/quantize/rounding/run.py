"""Rounding by the outputs of layers, for all weights of a model that are to be quantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...manager.context import Context
from ...manager.layer_rows import Cell, LayerRow
from ..plan import Plan
from .choice import Rounded, Task
from .observed import Grams, grams, need
from .options import Rounder
from .view import View, views

BY = "quantize-insert"
RULE = "rounding"


def rounded(ctx: Context, plans: Sequence[Plan], options: Rounder) -> list[Plan]:
    """The plans, with the grids that err least on held-out samples. Remarks say why others stay as they are."""
    found = {id(plan): readers_of(plan, options.memory) for plan in plans}
    known = [(plan, readers) for plan in plans if not isinstance(readers := found[id(plan)], str)]
    made = {id(plan): plan for plan in plans}
    moments = grams(ctx, [readers for _, readers in known], options.memory)
    for (plan, readers), each in zip(ctx.progress.track(known, "rounding"), moments, strict=True):
        if isinstance(each, str):
            found[id(plan)] = each
        else:
            made[id(plan)] = _rounded(ctx, plan, readers[0], each, options)
    for plan in plans:
        if isinstance(reason := found[id(plan)], str):
            ctx.remarks.missed(_name(plan), f"rounded to nearest: {reason}", rule=RULE)
    return list(made.values())


def readers_of(plan: Plan, memory: int) -> list[View] | str:
    """How the readers of a weight see it, or why rounding cannot go by their outputs."""
    if plan.graph.is_function:
        return "it lies in a function"
    readers = views(plan.readers, plan.tensor.shape)
    if isinstance(readers, str):
        return readers
    if (size := need(readers)) > memory:
        return f"second moments of its input would take {size} bytes, and moments={memory}"
    return readers


def _rounded(ctx: Context, plan: Plan, view: View, moments: Grams, options: Rounder) -> Plan:
    task = Task(plan.tensor.numpy(), plan.grid, view, moments.fit, moments.held)
    best = task.best(options.rounding, options.clip)
    tell(ctx, _name(plan), best)
    return replace(plan, grid=best.grid)


def tell(ctx: Context, name: str, best: Rounded) -> None:
    """A row of the report and a remark for a weight."""
    cells: dict[str, Cell] = {"rounding": best.how, "held-out error": best.error, "nearest's": best.nearest}
    ctx.layers.append(LayerRow(BY, name, cells))
    if best.how == "nearest":
        ctx.remarks.missed(name, "rounded to nearest: nothing errs less on held-out samples", rule=RULE)
        return
    share = best.error / best.nearest
    ctx.remarks.applied(name, f"{best.how}: {share:.3f} of nearest's error on held-out samples", rule=RULE)


def _name(plan: Plan) -> str:
    return f"{plan.graph.label}/{plan.value.name}"
