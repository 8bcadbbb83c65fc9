"""What the pass says of its choice, group by group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..manager.context import Context
from .choose import Balance, Choice
from .scales import Role, Touch

Int64 = NDArray[np.int64]


def explain(ctx: Context, balance: Balance, choice: Choice, held: Int64) -> None:
    """A remark for every group of channels that constants both make and read."""
    units, free, done = balance.units, balance.units.free, 0
    groups = balance.groups()
    for group, touches in groups.items():
        mine = np.flatnonzero(units.groups == group)
        subject = f"{_names(touches, Role.MAKES)} -> {_names(touches, Role.READS)}"
        powers = choice.powers[mine]
        if powers.any():
            done += 1
            before, after = choice.spread[group]
            words = (
                f"{np.count_nonzero(powers)} of {len(mine)} channels by 2^{powers.min()} to 2^{powers.max()}: "
                f"their ranges lay within 2^{before:.1f}, and lie within 2^{after:.1f}"
            )
            ctx.remarks.applied(subject, words, rule="equalize")
        elif not free[mine].any():
            ctx.remarks.missed(subject, next(filter(None, (units.frozen[unit] for unit in mine))), rule="frozen")
        elif group not in choice.spread:
            chosen = balance.watches and balance.alpha is None
            words = "no factors are expected to save error" if chosen else "no channel has ranges that can be compared"
            ctx.remarks.missed(subject, words, rule="error")
        elif np.isin(mine, held).any():
            ctx.remarks.missed(subject, "its constants would leave the range of their type", rule="range")
    if not groups:
        ctx.remarks.missed("model", "no channels that constants both make and read", rule="nothing")
    elif not done:
        ctx.remarks.missed("model", "the ranges of all channels that can be rescaled are balanced", rule="balanced")


def _names(touches: list[Touch], role: Role) -> str:
    names = list(dict.fromkeys(touch.constant.name for touch in touches if touch.role is role))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
