"""Orders: for every group, in which order its units go, by the criterion that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ....ir import Value
from ....ir.analysis.coupling import Axis, Group
from ....ir.analysis.coupling.known import known_shapes
from ....ir.analysis.linear import Linear
from ...calibrate.moments import Moments
from ...calibrate.stream import observe
from ...manager.context import Context
from . import scores
from .constants import contracted_axis
from .plan import ACTIVITY, DATA_CRITERIA, Plan
from .scores import Order, Places

NOTHING = Order(np.zeros(0, np.int64), np.zeros(0))
MOMENTS = 1 << 30
"""Bytes of second moments that are held at a time."""


def orders_of(ctx: Context, plan: Plan, groups: Sequence[Group]) -> list[Order]:
    """The order of each group; of those that the criterion says nothing of, an empty one."""
    if plan.criterion in DATA_CRITERIA and plan.criterion not in ACTIVITY:
        return _from_moments(ctx, plan, groups)
    if plan.criterion == "random":
        return [scores.ordered(ctx.rng.random(group.count), group.free) for group in groups]
    needs_place = plan.criterion in (*ACTIVITY, "bn-scale")
    return [
        NOTHING if needs_place and not places else scores.ordered(scores.relative(group, places), group.free)
        for group, places in zip(groups, places_of(ctx, plan, groups), strict=True)
    ]


def places_of(ctx: Context, plan: Plan, groups: Sequence[Group]) -> list[Places]:
    """Scores of the elements of each group, along all axes that the criterion looks at."""
    if plan.criterion in ACTIVITY:
        return _activities(ctx, plan, groups)
    if plan.criterion == "bn-scale":
        return [_bn_scale(ctx, group) for group in groups]
    made_by = scores.producers(ctx.model, groups)
    every = [made_by.get(number, ()) for number in range(len(groups))]
    if plan.criterion == "geometric-median":
        return [scores.geometric_median(made) for made in every]
    return [scores.magnitude(made, 1 if plan.criterion == "l1" else 2) for made in every]


def _bn_scale(ctx: Context, group: Group) -> Places:
    places = scores.bn_scale(group)
    if not places:
        names = ", ".join(dict.fromkeys(axis.value.name for axis in group.constants))
        ctx.remarks.missed(names, "no BatchNormalization behind it", rule="criterion")
    return places


def _activities(ctx: Context, plan: Plan, groups: Sequence[Group]) -> list[Places]:
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
    is_mean = plan.criterion == "mean-activation"
    return [
        [
            (axis, seen.mean if is_mean else seen.frequency)
            for axis, seen in by_group.get(number, {}).items()
            if seen.count
        ]
        for number in range(len(groups))
    ]


def _from_moments(ctx: Context, plan: Plan, groups: Sequence[Group]) -> list[Order]:
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
