"""Rounding by the outputs of layers, for all weights of a model that are to be quantized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...calibrate.stream import samples_of
from ...manager.context import Context
from ...manager.layer_rows import Cell, LayerRow
from ..plan import Plan
from .choice import Clip, Rounded, Rounding, Task
from .observed import Grams, grams, need
from .view import View, views

BY = "quantize-insert"
RULE = "rounding"


@dataclass(frozen=True)
class Rounder:
    """What the options ask for; `memory` is for second moments, in bytes."""

    rounding: Rounding = "auto"
    clip: Clip = "auto"
    memory: int = 1 << 30

    def plans(self, ctx: Context, plans: Sequence[Plan]) -> list[Plan]:
        """The plans, with better grids where there are some; without data `auto` leaves all as it is.

        UserError if an option names a method and there are no data.
        """
        if self.rounding in ("gptq", "adaround"):
            samples_of(ctx, f"rounding={self.rounding}")
        if ctx.samples is None or (self.rounding == "nearest" and self.clip == "none"):
            return list(plans)
        found = {id(plan): self._readers(plan) for plan in plans}
        known = [(plan, readers) for plan in plans if not isinstance(readers := found[id(plan)], str)]
        made = {id(plan): plan for plan in plans}
        moments = grams(ctx, [readers for _, readers in known], self.memory)
        for (plan, readers), each in zip(ctx.progress.track(known, "rounding"), moments, strict=True):
            found[id(plan)] = each if isinstance(each, str) else readers
            if isinstance(each, Grams):
                made[id(plan)] = self._rounded(ctx, plan, readers[0], each)
        for plan in plans:
            if isinstance(reason := found[id(plan)], str):
                ctx.remarks.missed(_name(plan), f"rounded to nearest: {reason}", rule=RULE)
        return list(made.values())

    def _readers(self, plan: Plan) -> list[View] | str:
        """How the readers of a weight see it, or why rounding cannot go by their outputs."""
        if plan.graph.is_function:
            return "it lies in a function"
        readers = views(plan.readers, plan.tensor.shape)
        if isinstance(readers, str):
            return readers
        if (size := need(readers)) > self.memory:
            return f"second moments of its input would take {size} bytes, and moments={self.memory}"
        return readers

    def _rounded(self, ctx: Context, plan: Plan, view: View, moments: Grams) -> Plan:
        task = Task(plan.tensor.numpy(), plan.grid, view, moments.fit, moments.held)
        best = task.best(self.rounding, self.clip)
        _tell(ctx, plan, best)
        return replace(plan, grid=best.grid)


def _tell(ctx: Context, plan: Plan, best: Rounded) -> None:
    cells: dict[str, Cell] = {"rounding": best.how, "held-out error": best.error, "nearest's": best.nearest}
    ctx.layers.append(LayerRow(BY, _name(plan), cells))
    if best.how == "nearest":
        ctx.remarks.missed(_name(plan), "rounded to nearest: nothing errs less on held-out samples", rule=RULE)
        return
    share = best.error / best.nearest
    ctx.remarks.applied(_name(plan), f"{best.how}: {share:.3f} of nearest's error on held-out samples", rule=RULE)


def _name(plan: Plan) -> str:
    return f"{plan.graph.label}/{plan.value.name}"
