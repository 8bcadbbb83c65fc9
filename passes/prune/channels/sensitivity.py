"""Sensitivity: how much the outputs err when one group alone is cut makes the losses of groups comparable.

Of each group, alone, so many units go by its own order, a quarter to nearly all, and the rest is repaired as it will be
in the end. The mean over the sample data of the squared rel-L2 of the outputs is what they lose; between these counts
it is taken to grow in proportion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ....ir import clone_model
from ....ir.analysis.coupling import Group
from ...manager.context import Context
from .goals import relative_errors, tried
from .orders import NOTHING
from .scores import Order
from .select import Gone, allowed, nothing

PROBES = (0.25, 0.5, 0.75, 0.9375)
"""Shares of the units of a group that go to see what they cost."""


def by_sensitivity(
    ctx: Context, groups: Sequence[Group], orders: Sequence[Order], cut: Callable[[Sequence[Gone]], None]
) -> list[Order]:
    """The same orders, with losses in squared errors of the outputs after `cut`; what makes them no numbers stays."""
    original = clone_model(ctx.model, {})

    def lost(number: int, count: int) -> float:
        gone = nothing(groups)
        gone[number] = allowed(groups[number], orders[number].units[:count])
        with tried(ctx):
            cut(gone)
            return float(np.mean(np.square(list(relative_errors(ctx, original, ctx.model)))))

    found = []
    for number in ctx.progress.track(range(len(groups)), "allocation=sensitivity"):
        size = len(orders[number].units)
        counts = sorted({max(1, int(share * size)) for share in PROBES}) if size else []
        found.append(_measured(ctx, groups[number], orders[number], {count: lost(number, count) for count in counts}))
    return found


def _measured(ctx: Context, group: Group, order: Order, lost: Mapping[int, float]) -> Order:
    """The start of an order whose losses are numbers, never less with more units gone; the last pace goes on."""
    names = ", ".join(dict.fromkeys(axis.value.name for axis in group.constants))
    broken = min((count for count, error in lost.items() if not np.isfinite(error)), default=None)
    if broken is not None:
        ctx.remarks.missed(names, f"the outputs are no numbers without {broken} of it", rule="sensitivity")
    seen = {count: error for count, error in lost.items() if broken is None or count < broken}
    if not seen:
        return NOTHING
    ctx.remarks.applied(names, ", ".join(f"{n} gone: error {e**0.5:.3g}" for n, e in seen.items()), rule="sensitivity")
    counts = np.array([0, *seen])
    errors = np.maximum.accumulate([0.0, *seen.values()])
    upto = len(order.units) if broken is None else int(counts[-1])
    steps = np.arange(1, upto + 1)
    pace = (errors[-1] - errors[-2]) / (counts[-1] - counts[-2])
    beyond = np.maximum(0, steps - counts[-1]) * pace
    return Order(order.units[:upto], np.interp(steps, counts, errors) + beyond)
