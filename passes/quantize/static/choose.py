"""The choice of units: the fastest that keeps the outputs within an error.

If the fastest choice of all is within it, that is it. Else every unit's own error e_u is measured, and the sum of
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
GROUP = 8
"""Units that are tried together."""
SMALL_SHARE = 0.01
"""Of the squared limit: what a group may cost and not be looked into."""
_ROUNDS = 8


@dataclass(frozen=True)
class Choice:
    """What runs in integers, its error on the samples, and that of every unit alone where it was asked for."""

    units: Sequence[Unit]
    error: float
    sensitivity: Mapping[Unit, float]


def fastest(units: Sequence[Unit], costs: Costs, trials: Trials) -> Choice:
    """The fastest choice among `units`, whatever its error."""
    best = chosen(units, costs)
    return Choice(best, trials.error(best), {})


def choose(ctx: Context, units: Sequence[Unit], costs: Costs, trials: Trials, limit: float, first: Choice) -> Choice:
    """The choice among `units` whose error is at most `limit`, `first` being the fastest; none of them if no choice
    is."""
    best = first.units
    if first.error <= limit or not best:
        return first
    if trials.problem:
        ctx.remarks.missed("model", f"not all can run in integers: {trials.problem}", rule="executor")
    own = sensitivity(ctx, [unit for unit in best if not unit.is_mover], trials, limit)
    aim = limit
    for _ in range(_ROUNDS):
        found = _within(units, best, costs, own, aim)
        error = trials.error(found)
        if error <= limit:
            return Choice(found, error, own)
        aim *= min(0.8, limit / error)
    return Choice([], 0.0, own)


def sensitivity(ctx: Context, units: Sequence[Unit], trials: Trials, limit: float) -> dict[Unit, float]:
    """The error of every unit alone. Neighbours are tried together first: a group whose squared error is a small share
    of the limit's is not looked into, and each of its units gets an even part of it."""
    found: dict[Unit, float] = {}
    groups = [units[start : start + GROUP] for start in range(0, len(units), GROUP)]
    for group in ctx.progress.track(groups, "sensitivity"):
        todo = [group]
        while todo:
            part = todo.pop()
            error = trials.error(part, SENSITIVITY_SAMPLES)
            if len(part) == 1 or error**2 <= limit**2 * SMALL_SHARE:
                found.update(dict.fromkeys(part, error / len(part) ** 0.5))
            else:
                middle = len(part) // 2
                todo += [part[middle:], part[:middle]]
    return found


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
