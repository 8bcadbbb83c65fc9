"""The goal of an error: the most that can go while the outputs stay within a limit, by bisection."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import UserError
from ..manager.context import Context

STEPS = 7
"""Halvings of what is not known yet: the share is known to 1/128."""


def largest(ctx: Context, limit: float, cut: Callable[[float], None], *, metric: str = "rel-l2") -> float:
    """Run `cut` with the largest share that keeps the error of the outputs on the sample data at most `limit`, and
    return it; with 0, and nothing done, if none does. UserError where the error cannot be measured."""
    measurements = ctx.measurements
    if measurements is None:
        raise UserError("a goal error=... needs the error to be measured: give --data FILE.npz")
    before, start = measurements.outputs(), ctx.checkpoint()
    good, bad = 0.0, 1.0
    for _ in ctx.progress.track(range(STEPS), f"{metric} {limit:g}"):
        share = (good + bad) / 2
        ctx.chance = ctx.chance.afresh()
        cut(share)
        error = measurements.since(before).get(metric, float("inf"))
        ctx.rollback(start)
        good, bad = (share, bad) if error <= limit else (good, share)
    if good:
        ctx.chance = ctx.chance.afresh()
        cut(good)
    else:
        measurements.remember(before)
    return good
