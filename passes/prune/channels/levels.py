"""Thresholds: units go that a criterion, on its own scale, puts at or below a number everywhere.

The scale of `l1` is the mean absolute weight of the layers that make a unit, of `l2` the root mean square, of
`bn-scale` the absolute scale, of `mean-activation` E abs(x), of `activation-frequency` how often x > 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....errors import UserError
from ....ir.analysis.coupling import Group
from ...manager.context import Context
from .orders import places_of
from .plan import Plan
from .scores import Float64, largest, ordered
from .select import Gone, gone_of
from .widths import parts_of


def up_to(ctx: Context, plan: Plan, groups: Sequence[Group]) -> list[Gone]:
    """What goes of each group; UserError if an axis would be empty."""
    assert plan.threshold is not None
    limit = plan.threshold**2 if plan.criterion == "l2" else plan.threshold
    found: list[Gone] = []
    for group, places in zip(groups, places_of(ctx, plan, groups), strict=True):
        levels = largest(group, places)
        goes = np.isin(np.arange(group.count), group.free) & (levels <= limit)
        _check(plan, group, goes, levels)
        order = ordered(levels, group.free)
        parts = parts_of([group], [order], plan.exact_align)
        taken = [part.at_most(goes[part.units].sum()) for part in parts]
        found += gone_of([group], [order], parts, taken)
    return found


def _check(plan: Plan, group: Group, goes: Gone, levels: Float64) -> None:
    empty = [axis for axis in group.axes if goes[group.units[axis]].all()]
    if empty:
        names = ", ".join(dict.fromkeys(axis.value.name for axis in group.constants))
        top = float(levels[goes].max())
        raise UserError(
            f"prune: threshold={plan.threshold:g} would empty {names}, whose largest {plan.unit} has "
            f"{plan.criterion} {top**0.5 if plan.criterion == 'l2' else top:.4g}: "
            f"lower it, or leave it out with exclude=[NAME ...]"
        )
