"""Rounding by the outputs of layers, for all weights of a model that are to be quantized."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ....ir.analysis.shapes import Shapes
from ...manager.context import Context
from ...manager.layer_rows import Cell, LayerRow
from ..levels import Grid
from ..plan import Plan
from ..repair.bias import tell as tell_bias
from ..repair.places import Place, place_of
from ..repair.shift import Correction
from .choice import Rounded, Task
from .observed import Halves, Pairs, grams, need
from .options import CarryOut, Rounder
from .seen import Grams
from .sequential import Line
from .view import View, views

BY = "quantize-insert"
RULE = "rounding"
Made = Mapping[Plan, Plan]
Known = Mapping[Plan, Sequence[View]]


def rounded(ctx: Context, plans: Sequence[Plan], options: Rounder, carry_out: CarryOut) -> list[Plan]:
    """The plans, with the grids that err least on held-out samples. Remarks say why others stay as they are.

    `carry_out` changes the model as plans say, for what comes behind them.
    """
    is_sequential = options.is_sequential(min((plan.grid.alphabet.bits for plan in plans), default=8))
    kind = Pairs if is_sequential else Halves
    found = {plan: readers_of(plan, options.memory, kind) for plan in plans}
    known = {plan: readers for plan, readers in found.items() if not isinstance(readers, str)}
    made, shapes = {plan: plan for plan in plans}, ctx.shapes()
    moments = _one_after_the_other if is_sequential else _each_alone
    for plan, each in moments(ctx, made, known, options.memory, carry_out):
        if isinstance(each, str):
            found[plan] = each
        else:
            made[plan] = _rounded(ctx, shapes, plan, known[plan][0], each, options)
    for plan, reason in found.items():
        if isinstance(reason, str):
            ctx.remarks.missed(_name(plan), f"rounded to nearest: {reason}", rule=RULE)
    return list(made.values())


def _each_alone(
    ctx: Context, made: Made, known: Known, memory: int, carry_out: CarryOut
) -> Iterable[tuple[Plan, Grams | str]]:
    """The moments of each weight in the model as it is."""
    moments = grams(ctx, list(known.values()), memory)
    return zip(ctx.progress.track(list(known), "rounding"), moments, strict=True)


def _one_after_the_other(
    ctx: Context, made: Made, known: Known, memory: int, carry_out: CarryOut
) -> Iterable[tuple[Plan, Grams | str]]:
    """The same where each sees the others as `made` has them by then."""

    def stand(done: Sequence[Plan]) -> None:
        carry_out([made[plan] for plan in made if plan not in known or plan in done])

    return Line(ctx, known, stand, memory).moments()


def readers_of(plan: Plan, memory: int, kind: type[Halves] | type[Pairs] = Halves) -> list[View] | str:
    """How the readers of a weight see it, or why rounding cannot go by their outputs."""
    if plan.graph.is_function:
        return "it lies in a function"
    readers = views(plan.readers, plan.tensor.shape)
    if isinstance(readers, str):
        return readers
    if (size := need(readers, kind)) > memory:
        return f"second moments of its input would take {size} bytes, and moments={memory}"
    return readers


def _rounded(ctx: Context, shapes: Shapes, plan: Plan, view: View, moments: Grams, options: Rounder) -> Plan:
    task = Task(plan.tensor.numpy(), plan.grid, view, moments)
    best = task.best(options.rounding, options.clip)
    tell(ctx, _name(plan), best)
    if not moments.drifted:
        return replace(plan, grid=best.grid)
    found = _shift(ctx, shapes, plan, task, best.grid) if options.corrects else None
    return replace(plan, grid=best.grid, settled=True, shift=found)


def _shift(ctx: Context, shapes: Shapes, plan: Plan, task: Task, grid: Grid) -> tuple[Place, Correction] | None:
    """What is added to the outputs of the only reader of a weight, and where, if it takes that and it pays."""
    node = plan.readers.sites[0].node
    shape = shapes.shape(node.outputs[0])
    place = place_of(node, None if shape is None else len(shape))
    if plan.nbits is not None or len(plan.value.uses) > 1 or place is None:
        return None
    found = task.moments.correction(task.matrices, task.decoded(grid))
    return (place, found) if tell_bias(ctx, node.label, found) else None


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
