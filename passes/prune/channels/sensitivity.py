"""Sensitivity: how much the outputs err when one group alone is cut makes the losses of groups comparable.

A quarter of each group goes by its own order, without repair; the mean over the sample data of the squared rel-L2 of
the outputs is what these units lose. The losses of the others are in proportion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ....ir import clone_model
from ....ir.analysis.coupling import Group
from ...manager.context import Context
from .cut import cut
from .goals import relative_errors
from .orders import NOTHING
from .scores import Order
from .select import allowed, nothing

PROBE = 0.25
"""Share of a group that goes to see what it costs."""


def by_sensitivity(ctx: Context, groups: Sequence[Group], orders: Sequence[Order]) -> list[Order]:
    """The same orders, with losses in squared errors of the outputs; what makes them no numbers stays."""
    original = clone_model(ctx.model, {})
    found = []
    for number in ctx.progress.track(range(len(groups)), "allocation=sensitivity"):
        group, order = groups[number], orders[number]
        gone = nothing(groups)
        gone[number] = allowed(group, order, max(1, int(PROBE * group.count)), 1)
        count = int(gone[number].sum())
        if not count:
            found.append(order)
            continue
        moment = ctx.checkpoint()
        cut(ctx, groups, gone)
        lost = float(np.mean(np.square(list(relative_errors(ctx, original, ctx.model)))))
        ctx.rollback(moment)
        found.append(_scaled(ctx, group, order, count, lost))
    return found


def _scaled(ctx: Context, group: Group, order: Order, count: int, lost: float) -> Order:
    names = ", ".join(dict.fromkeys(axis.value.name for axis in group.constants))
    if not np.isfinite(lost):
        ctx.remarks.missed(names, "the outputs are no numbers without it", rule="sensitivity")
        return NOTHING
    ctx.remarks.applied(names, f"error {lost**0.5:.3g} with {count} of {group.count} gone", rule="sensitivity")
    own = order.losses[count - 1]
    steps = order.losses * (lost / own) if own > 0 else lost * np.arange(1, len(order.units) + 1) / count
    return replace(order, losses=steps)
