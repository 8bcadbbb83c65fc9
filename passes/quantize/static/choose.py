"""The choice of units: the fastest that keeps the outputs within an error.

If the fastest choice of all is within it, that is it. Else every unit's own error is measured, e_u, and the sum of
squares stands for the error of a choice: min time + m sum e_u^2 is a minimum cut for every price m, and the least m
whose choice is within the limit is taken. What a choice really costs is measured; where the sum was too small (errors
add up, too) the limit of the sum is lowered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...manager.context import Context
from .cut import Costs, chosen
from .trial import Trials
from .units import Unit

SENSITIVITY_SAMPLES = 4
"""Samples on which the error of each unit is measured."""
_ROUNDS = 8


@dataclass(frozen=True)
class Choice:
    """What runs in integers, its error on the samples, and that of every unit alone where it was asked for."""

    units: Sequence[Unit]
    error: float
    sensitivity: Mapping[Unit, float]


def choose(ctx: Context, units: Sequence[Unit], costs: Costs, trials: Trials, limit: float) -> Choice:
    """The choice among `units` whose error is at most `limit`; none of them if no choice is."""
    best = chosen(units, costs)
    error = trials.error(best)
    if error <= limit or not best:
        return Choice(best, error, {})
    own = {unit: _alone(unit, best, trials) for unit in ctx.progress.track(best, "sensitivity") if not unit.is_mover}
    aim = limit
    for _ in range(_ROUNDS):
        found = _within(units, best, costs, own, aim)
        error = trials.error(found)
        if error <= limit:
            return Choice(found, error, own)
        aim *= min(0.8, limit / error)
    return Choice([], 0.0, own)


def _alone(unit: Unit, among: Sequence[Unit], trials: Trials) -> float:
    return trials.error([unit], SENSITIVITY_SAMPLES)


def _within(
    units: Sequence[Unit], best: Sequence[Unit], costs: Costs, own: Mapping[Unit, float], limit: float
) -> Sequence[Unit]:
    """The fastest choice whose errors' squares sum up to at most the square of `limit`."""

    def total(choice: Sequence[Unit]) -> float:
        return sum(own.get(unit, 0.0) ** 2 for unit in choice)

    def at(price: float) -> list[Unit]:
        return chosen(units, costs, lambda unit: price * own.get(unit, 0.0) ** 2)

    low, high = 0.0, 1.0
    while total(at(high)) > limit**2 and high < 1e18:
        low, high = high, high * 10
    for _ in range(12):
        middle = (low * high) ** 0.5 if low else high / 10
        if total(at(middle)) > limit**2:
            low = middle
        else:
            high = middle
    return at(high)
