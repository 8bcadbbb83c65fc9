"""Structured pruning, from the groups to the repaired model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ....errors import UserError
from ....ir import Model, Node, Value, clone_model
from ....ir.analysis.coupling import Axis, Group, couple
from ....ir.analysis.coupling.known import known_shapes
from ....ir.analysis.linear import Linear, all_linear_layers, linear_of
from ...calibrate.moments import Moments
from ...calibrate.stream import observe, samples_of
from ...manager.context import Context, Feed
from . import scores, select
from .absorb import Dead, Shift, absorb
from .bounds import Before, state, state_cuts
from .constants import contracted_axis
from .cut import cut
from .goals import in_steps, within_error
from .plan import Plan
from .repair import readers, refit
from .scores import Order
from .sizes import Meter

ACTIVITY = ("mean-activation", "activation-frequency")
DATA_CRITERIA = ("wanda", "obs", "redundancy", *ACTIVITY)
NOTHING = Order(np.zeros(0, np.int64), np.zeros(0))
MOMENTS = 1 << 30
"""Bytes of second moments that are held at a time."""


def prune_channels(ctx: Context, plan: Plan) -> None:
    """Cut and repair, in as many steps as are asked for; says what was cut and why other groups stay."""
    for step in in_steps(plan) if plan.steps > 1 else (plan,):
        _prune_once(ctx, step)


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
        orders = _orders(ctx, plan, groups)
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
    readers_ = [use.user for axis in group.constants for use in axis.value.uses if isinstance(use.user, Node)]
    names = [axis.value.name for axis in group.constants] + [node.label for node in readers_]
    if any(fnmatchcase(name, pattern) for name in names for pattern in plan.exclude):
        return False
    if not all(ctx.selects(node) for node in readers_):
        return False
    has_layer = any(linear_of(node) is not None for node in readers_)
    return has_layer and (plan.unit == "channel" or _holds_heads(ctx, group))


def _holds_heads(ctx: Context, group: Group) -> bool:
    """Whether its units run along a batch axis of a product of two computed matrices."""
    for axis in group.axes:
        shape = ctx.shapes().shape(axis.value)
        is_batch = axis.value.const is None and shape is not None and axis.axis < len(shape) - 2
        for use in axis.value.uses if is_batch else ():
            if isinstance(use.user, Node) and use.user.is_op("MatMul") and linear_of(use.user) is None:
                return True
    return False


def _orders(ctx: Context, plan: Plan, groups: Sequence[Group]) -> list[Order]:
    if plan.criterion in ACTIVITY:
        return _orders_by_activity(ctx, plan, groups)
    if plan.criterion in DATA_CRITERIA:
        return _orders_from_data(ctx, plan, groups)
    made_by = scores.producers(ctx.model, groups)
    found = []
    for number, group in enumerate(groups):
        match plan.criterion:
            case "l1" | "l2":
                losses = scores.magnitude(group, made_by.get(number, ()), 1 if plan.criterion == "l1" else 2)
            case "geometric-median":
                losses = scores.geometric_median(group, made_by.get(number, ()))
            case "bn-scale":
                scales = scores.bn_scale(ctx.model, group)
                if scales is None:
                    names = ", ".join(dict.fromkeys(axis.value.name for axis in group.constants))
                    ctx.remarks.missed(names, "no BatchNormalization behind it", rule="criterion")
                    found.append(NOTHING)
                    continue
                losses = scales
            case _:
                losses = ctx.rng.random(group.count)
        found.append(scores.ordered(losses, group.free))
    return found


def _orders_by_activity(ctx: Context, plan: Plan, groups: Sequence[Group]) -> list[Order]:
    shapes = known_shapes(ctx.model, ctx.shapes())
    by_group: dict[int, dict[Axis, scores.Activity]] = {}
    observers: dict[Value, list[scores.Activity]] = {}
    for number, layers_ in scores.consumers(ctx.model, groups).items():
        for layer, _ in layers_:
            rank = len(shapes.shape(layer.x) or ())
            place = contracted_axis(layer, rank)
            if place is None or Axis(layer.x, place) in by_group.get(number, {}):
                continue
            seen = by_group.setdefault(number, {})[Axis(layer.x, place)] = scores.Activity(place)
            observers.setdefault(layer.x, []).append(seen)
    observe(ctx, observers, purpose=f"criterion={plan.criterion}")
    found = []
    for number, group in enumerate(groups):
        losses, is_seen = np.zeros(group.count), False
        for axis, seen in by_group.get(number, {}).items():
            if seen.count:
                each = seen.mean if plan.criterion == "mean-activation" else seen.frequency
                np.add.at(losses, group.units[axis], each / (each.sum() or 1))
                is_seen = True
        found.append(scores.ordered(losses, group.free) if is_seen else NOTHING)
    return found


def _orders_from_data(ctx: Context, plan: Plan, groups: Sequence[Group]) -> list[Order]:
    read_by = scores.consumers(ctx.model, groups)
    found: dict[int, Order] = {}
    for batch in _batches(read_by):
        moments = {layer: Moments(layer) for number in batch for layer, _ in read_by[number]}
        by_input: dict[Value, list[Moments]] = {}
        for layer, each in moments.items():
            by_input.setdefault(layer.x, []).append(each)
        left_out = observe(ctx, by_input, purpose=f"criterion={plan.criterion}")
        seen = {layer: each for layer, each in moments.items() if layer.x not in left_out and each.count}
        for number in ctx.progress.track(batch, plan.criterion):
            found[number] = scores.second_order(
                groups[number], read_by[number], seen, refitted=plan.criterion != "wanda",
                redundancy=plan.criterion == "redundancy", ridge=plan.ridge,
            )  # fmt: skip
    return [found.get(number, NOTHING) for number in range(len(groups))]


def _batches(read_by: dict[int, list[tuple[Linear, NDArray[np.int64]]]]) -> list[list[int]]:
    found: list[list[int]] = []
    room = 0
    for number, layers in read_by.items():
        need = sum(Moments.nbytes_for(layer) for layer, _ in layers)
        if not found or need > room:
            found.append([])
            room = MOMENTS
        found[-1].append(number)
        room -= need
    return found


def _select(ctx: Context, plan: Plan, groups: Sequence[Group], orders: Sequence[Order]) -> list[select.Gone]:
    """As few units as meet every goal: each goal takes so many from the start of each order, and the most counts."""
    gone = select.nothing(groups)
    if plan.criterion == "zero" and not plan.has_goal:
        return [
            select.allowed(group, order, group.count, plan.align) for group, order in zip(groups, orders, strict=True)
        ]
    if plan.sparsity is not None:
        choose = select.by_share if plan.allocation == "layer" else select.by_threshold
        gone = choose(groups, orders, plan.sparsity, plan.align)
    for kind, keep in (("macs", plan.macs), ("bytes", plan.bytes_)):
        if keep is None:
            continue
        meter = Meter(ctx.model, groups, kind, _first(ctx))
        found = select.by_cost(groups, orders, meter, keep, plan.align)
        if meter.share(found) > keep:
            what = f"{meter.share(found):.3f} of the {kind} stay, not {keep}: no more can be cut"
            ctx.remarks.missed("model", what, rule="goal")
        gone = [one | other for one, other in zip(gone, found, strict=True)]
    return gone


def _cut_and_repair(
    ctx: Context, plan: Plan, groups: list[Group], gone: Sequence[select.Gone], shifts: Sequence[Shift]
) -> None:
    copies: dict[Value, Value] = {}
    before: Model | None = None
    pairs: list[tuple[Linear, Linear]] = []
    if plan.repair:
        before = clone_model(ctx.model, copies)
        olds = {layer.node.outputs[0]: layer for layer in all_linear_layers(before)}
        for layer in all_linear_layers(ctx.model):
            old = olds.get(copies[layer.node.outputs[0]])
            if old is not None:
                pairs.append((old, layer))
    constants = Before.of(ctx)
    kept = cut(ctx, groups, gone)
    state_cuts(ctx, kept)
    for group, units in zip(groups, gone, strict=True):
        if units.any():
            names = ", ".join(dict.fromkeys(axis.value.name for axis in group.constants))
            ctx.remarks.applied(names, f"{int(units.sum())} of {group.count} {plan.unit}s cut", rule="cut")
    absorb(ctx, shifts, kept, constants)
    if before is not None:
        done = refit(ctx, before, readers(pairs, kept), constants, ridge=plan.ridge)
        ctx.remarks.applied("model", f"{done} layers refitted", rule="refit")
    state(ctx, constants, groups, kept)


def _explain(ctx: Context, groups: Sequence[Group]) -> None:
    """Why groups with weights of layers stay."""
    for group in groups:
        layers_ = [
            (axis, use.user)
            for axis in group.constants
            for use in axis.value.uses
            if isinstance(use.user, Node) and linear_of(use.user) is not None
        ]
        if layers_ and not len(group.free) and group.count > 1 and _counts_channels(layers_):
            names = ", ".join(dict.fromkeys(axis.value.name for axis, _ in layers_))
            ctx.remarks.missed(names, next(filter(None, group.frozen)), rule="frozen")


def _counts_channels(layers_: Sequence[tuple[Axis, Node]]) -> bool:
    return any(node.op_type not in ("Conv", "ConvTranspose") or axis.axis < 2 for axis, node in layers_)


def check(ctx: Context, plan: Plan) -> None:
    """UserError unless there is a goal that can be met, and the data for it."""
    if plan.criterion in DATA_CRITERIA:
        samples_of(ctx, f"criterion={plan.criterion}")
    if plan.repair:
        samples_of(ctx, "repair=refit")
    if plan.criterion != "zero" and not plan.has_goal:
        raise UserError("prune needs a goal: sparsity, macs, bytes or error")
    if plan.error is not None:
        samples_of(ctx, "error")
        if (plan.sparsity, plan.macs, plan.bytes_, plan.steps) != (None, None, None, 1):
            raise UserError("prune: error finds the share by itself: it goes with no other goal, nor with steps")
    if plan.steps > 1 and plan.criterion == "zero":
        raise UserError("prune: criterion=zero takes no steps: what is dead goes at once")
    if plan.sparsity == 1:
        raise UserError("prune: sparsity must be below 1: nothing would be left")
