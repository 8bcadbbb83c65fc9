"""Structured pruning, from the groups to the repaired model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import islice

import numpy as np

from ....ir import Model, Node, Value, clone_model
from ....ir.analysis.coupling import Group, couple
from ....ir.analysis.linear import Linear, all_linear_layers
from ...calibrate.stream import samples_of
from ...manager.context import Context, Feed
from . import select
from .absorb import Dead, Shift, absorb
from .bounds import Before, of_values_before, state, state_cuts
from .cut import cut
from .found import channels_in, holds, readers_of
from .goals import in_steps, within_error
from .levels import up_to
from .orders import orders_of
from .plan import DATA_CRITERIA, Plan
from .repair import readers, refit
from .scores import Order
from .sensitivity import by_sensitivity
from .sizes import Meter
from .statistics import norms, reestimate
from .widths import Part, parts_of


def prune_channels(ctx: Context, plan: Plan) -> None:
    """Cut and repair, in as many steps as are asked for; says what was cut and why other groups stay."""
    names = {graph.label: {value.name for value in graph.values()} for graph in ctx.model.graph.walk_graphs()}
    stated = len(ctx.bounds)
    for step in in_steps(plan) if plan.steps > 1 else (plan,):
        _prune_once(ctx, step)
    if plan.steps > 1:
        of_values_before(ctx, names, stated)


def _prune_once(ctx: Context, plan: Plan) -> None:
    every = couple(ctx.model, ctx.shapes(), plan.unit)
    groups = [group for group in every if len(group.free) and _is_meant(ctx, plan, group)]
    _explain(ctx, every)
    if not groups:
        ctx.remarks.missed("model", f"no {plan.unit} can be cut")
        return
    dead = Dead(ctx, groups) if plan.criterion == "zero" or not plan.repair else None
    if plan.criterion == "zero" and dead is not None:
        orders = [Order(units := np.flatnonzero(found), np.zeros(len(units))) for found in dead.units]
    else:
        orders = orders_of(ctx, plan, groups)
    if plan.allocation == "sensitivity":
        orders = by_sensitivity(ctx, groups, orders, lambda gone: _cut_and_repair(ctx, plan, groups, gone, ()))
    if plan.error is not None:
        plan = _with_share(ctx, plan, groups, orders, dead)
    _cut_as_planned(ctx, plan, groups, orders, dead)


def _with_share(ctx: Context, plan: Plan, groups: list[Group], orders: Sequence[Order], dead: Dead | None) -> Plan:
    """The plan, with the share that the limit on the error allows."""
    assert plan.error is not None
    limit, plan = plan.error, replace(plan, error=None)
    share = within_error(
        ctx, limit, lambda share: _cut_as_planned(ctx, replace(plan, sparsity=share), groups, orders, dead)
    )
    if share == 0:
        ctx.remarks.missed("model", f"nothing can be cut within an error of {limit}", rule="goal")
    return replace(plan, sparsity=share)


def _cut_as_planned(ctx: Context, plan: Plan, groups: list[Group], orders: Sequence[Order], dead: Dead | None) -> None:
    gone = _select(ctx, plan, groups, orders)
    shifts = list(dead.shifts(gone)) if dead is not None else []
    _cut_and_repair(ctx, plan, groups, gone, shifts)


def _first(ctx: Context) -> Feed | None:
    return next(islice(ctx.feeds(), 1), None)


def _is_meant(ctx: Context, plan: Plan, group: Group) -> bool:
    readers_ = readers_of(group)
    names = [axis.value.name for axis in group.constants] + [node.label for node in readers_]
    if any(fnmatchcase(name, pattern) for name in names for pattern in plan.exclude):
        return False
    return all(ctx.selects(node) for node in readers_) and holds(group, plan.unit, ctx.shapes())


def _select(ctx: Context, plan: Plan, groups: Sequence[Group], orders: Sequence[Order]) -> list[select.Gone]:
    """As few units as meet every goal: each goal takes so many from the start of each order, and the most counts."""
    if plan.criterion == "zero" and not plan.has_goal:
        parts = parts_of(groups, orders, plan.exact_align)
        return select.gone_of(groups, orders, parts, [len(part.counts) - 1 for part in parts])
    gone = up_to(ctx, plan, groups) if plan.threshold is not None else select.nothing(groups)
    parts = parts_of(groups, orders, plan.align)
    goals = []
    if plan.sparsity is not None:
        goals.append(_by_share(ctx, plan, groups, parts, plan.sparsity))
    for kind, keep in (("macs", plan.macs), ("bytes", plan.bytes_)):
        if keep is not None:
            goals.append(_by_cost(ctx, plan, groups, orders, parts, kind, keep))
    for places in goals:
        found = select.gone_of(groups, orders, parts, places)
        gone = [one | other for one, other in zip(gone, found, strict=True)]
    return gone


def _by_share(ctx: Context, plan: Plan, groups: Sequence[Group], parts: Sequence[Part], share: float) -> list[int]:
    if plan.allocation == "layer":
        return select.by_share(parts, share)
    if plan.allocation == "output-first":
        wanted = int(share * sum(group.count for group in groups) + 1e-9)
        return select.from_the_outputs(
            parts,
            _depths(ctx.model, groups),
            lambda places: sum(part.counts[place] for part, place in zip(parts, places, strict=True)) >= wanted,
        )
    return select.by_threshold(parts, share)


def _by_cost(
    ctx: Context,
    plan: Plan,
    groups: Sequence[Group],
    orders: Sequence[Order],
    parts: Sequence[Part],
    kind: str,
    keep: float,
) -> list[int]:
    meter = Meter(ctx.model, groups, kind, _first(ctx))

    def share(places: Sequence[int]) -> float:
        return meter.share(select.gone_of(groups, orders, parts, places))

    if plan.allocation == "output-first":
        found = select.from_the_outputs(parts, _depths(ctx.model, groups), lambda places: share(places) <= keep)
    else:
        found = select.by_cost(groups, parts, meter, keep)
    if share(found) > keep:
        what = f"{share(found):.3f} of the {kind} stay, not {keep}: no more can be cut"
        ctx.remarks.missed("model", what, rule="goal")
    return found


def _depths(model: Model, groups: Sequence[Group]) -> list[int]:
    """Of each group, the place of the last operator that reads one of its constants."""
    places = {node: place for place, node in enumerate(node for g in model.graph.walk_graphs() for node in g.nodes)}
    uses = [[use.user for axis in group.constants for use in axis.value.uses] for group in groups]
    return [max(places[user] for user in users if isinstance(user, Node)) for users in uses]


def _cut_and_repair(
    ctx: Context, plan: Plan, groups: list[Group], gone: Sequence[select.Gone], shifts: Sequence[Shift]
) -> None:
    copies: dict[Value, Value] = {}
    before = clone_model(ctx.model, copies) if plan.repair or plan.statistics else None
    pairs = list(_pairs(ctx.model, before, copies)) if before is not None else []
    constants = Before.of(ctx)
    kept = cut(ctx, groups, gone)
    state_cuts(ctx, kept)
    for group, units in zip(groups, gone, strict=True):
        if units.any():
            names = ", ".join(dict.fromkeys(axis.value.name for axis in group.constants))
            ctx.remarks.applied(names, f"{int(units.sum())} of {group.count} {plan.unit}s cut", rule="cut")
    absorb(ctx, shifts, kept, constants)
    if before is not None and plan.repair:
        done = refit(ctx, before, readers(pairs, kept), constants, ridge=plan.ridge)
        ctx.remarks.applied("model", f"{done} layers refitted", rule="refit")
    state(ctx, constants, groups, kept)
    if before is not None and plan.statistics:
        done = reestimate(ctx, before, norms(ctx, before, copies, kept))
        ctx.remarks.applied("model", f"{done} normalizations have new statistics", rule="statistics")


def _pairs(model: Model, before: Model, copies: Mapping[Value, Value]) -> Iterator[tuple[Linear, Linear]]:
    """Every layer of the copy with that of the model."""
    olds = {layer.node.outputs[0]: layer for layer in all_linear_layers(before)}
    for layer in all_linear_layers(model):
        yield olds[copies[layer.node.outputs[0]]], layer


def _explain(ctx: Context, groups: Sequence[Group]) -> None:
    """Why groups with weights of layers stay."""
    for group in groups:
        axes = channels_in(group)
        if axes and not len(group.free) and group.count > 1:
            names = ", ".join(dict.fromkeys(axis.value.name for axis in axes))
            ctx.remarks.missed(names, next(filter(None, group.frozen)), rule="frozen")


def check(ctx: Context, plan: Plan) -> None:
    """UserError unless there are the data that the plan needs."""
    if plan.criterion in DATA_CRITERIA:
        samples_of(ctx, f"criterion={plan.criterion}")
    if plan.allocation == "sensitivity":
        samples_of(ctx, "allocation=sensitivity")
    if plan.repair or plan.statistics:
        samples_of(ctx, f"repair={'refit' if plan.repair else 'statistics'}")
    if plan.error is not None:
        samples_of(ctx, "error")
