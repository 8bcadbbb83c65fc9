"""The choice of units: the fastest that keeps the outputs within an error.

If the fastest choice of all is within it, that is it. Else every unit's own error e_u is measured, and the sum of
squares stands for the error of a choice: min time + m sum e_u^2 is a minimum cut for every price m, and the least m
whose choice is within the limit is taken. What a choice really costs is measured; where the sum was too small (errors
add up, too) the limit of the sum is lowered, and where it was too large it is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from ...manager.context import Context
from .cut import Costs, chosen
from .trial import Trials
from .units import Unit

SENSITIVITY_SAMPLES = 4
"""Samples on which the error of each unit is measured;"""
LEAST_SAMPLES, NUMBERS = 2, 200_000
"""or as few as have so many numbers in the outputs of the model: a map of every pixel is seen well on less."""
GROUP = 8
"""Units that are tried together."""
SMALL_SHARE = 0.01
"""Of the squared limit: what a group may cost and not be looked into."""
TRIALS = 96
"""How many trials the errors of units may take, however many units there are: a trial runs the model several times."""
ROOM = 0.75
"""Of the limit: for what runs in integers, if not all of it can. As errors add up that leaves 0.66 to weights that are
only stored; and samples by which nothing was chosen err by more."""
NEAR = 0.9
"""Of what there is room for: from where on it is used up."""
ROUNDS, STEPS = 6, 32
"""How many choices are tried as a whole, and how many limits of the sum are looked at."""
CLOSE = 1.02
"""Limits of the sum between which there is nothing to be found."""


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


def choose(
    ctx: Context,
    units: Sequence[Unit],
    costs: Costs,
    trials: Trials,
    limit: float,
    first: Choice,
    known: Mapping[Unit, float] | None = None,
) -> Choice:
    """The choice among `units` whose error is at most `limit`, `first` being the fastest; none of them if no choice
    is. `known` are errors of units alone that need not be measured."""
    best = first.units
    if first.error <= limit or not best:
        return first
    if trials.problem:
        ctx.remarks.missed("model", f"not all can run in integers: {trials.problem}", rule="executor")
    own = dict(known or {})
    own |= sensitivity(ctx, [unit for unit in best if not unit.is_mover and unit not in own], trials, limit)
    found = largest(lambda aim: _within(units, best, costs, own, aim), trials, ROOM * limit)
    return Choice([], 0.0, own) if found is None else replace(found, sensitivity=own)


def largest(within: Callable[[float], Sequence[Unit]], trials: Trials, limit: float) -> Choice | None:
    """The choice `within` the largest limit of the sum whose error is at most `limit`, nearly; None if there is none.
    Errors may add up to more than the sum says or to less: the limit of the sum is moved until one keeps `limit` and a
    slightly larger one does not."""
    fine: Choice | None = None
    aim, low, high = limit, 0.0, inf
    errors: dict[frozenset[Unit], float] = {}
    for _ in range(STEPS):
        units = within(aim)
        key = frozenset(units)
        if key not in errors:
            if len(errors) == ROUNDS:
                break
            errors[key] = trials.error(units)
        error = errors[key]
        if error <= limit:
            fine, low = Choice(units, error, {}), aim
        else:
            high = aim
        if NEAR * limit < error <= limit or high < low * CLOSE:
            break
        if fine is None:
            aim *= min(0.8, limit / error)
        elif high == inf:
            aim *= min(2.0, max(1.25, limit / error if error else 2.0))
        else:
            aim = (low * high) ** 0.5
    return fine


def sensitivity(ctx: Context, units: Sequence[Unit], trials: Trials, limit: float) -> dict[Unit, float]:
    """The error of every unit alone, in at most `TRIALS` trials. Neighbours are tried together first; the groups that
    cost most are halved, until their squared errors are small shares of the limit's or no trial is left, and each unit
    of a group gets an even part of its error."""
    size = max(GROUP, -(-2 * len(units) // TRIALS))
    groups = [units[start : start + size] for start in range(0, len(units), size)]
    parts = [_Part.tried(group, trials) for group in ctx.progress.track(groups, "sensitivity of groups")]
    for _ in ctx.progress.track(range((TRIALS - len(parts)) // 2), "sensitivity"):
        worst = max((part for part in parts if part.is_open(limit)), key=lambda part: part.error, default=None)
        if worst is None:
            break
        parts.remove(worst)
        parts += worst.halves(trials)
    return {unit: part.error / len(part.units) ** 0.5 for part in parts for unit in part.units}


@dataclass(frozen=True, eq=False)
class _Part:
    """Neighbours, and their error together."""

    units: Sequence[Unit]
    error: float

    @classmethod
    def tried(cls, units: Sequence[Unit], trials: Trials) -> _Part:
        """With the error that they have."""
        samples = trials.samples_with(NUMBERS, LEAST_SAMPLES, SENSITIVITY_SAMPLES)
        return cls(units, trials.error(units, samples))

    def is_open(self, limit: float) -> bool:
        """Whether its units are to be told apart."""
        return len(self.units) > 1 and self.error**2 > limit**2 * SMALL_SHARE

    def halves(self, trials: Trials) -> list[_Part]:
        """Its two halves."""
        middle = len(self.units) // 2
        return [_Part.tried(part, trials) for part in (self.units[:middle], self.units[middle:])]


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
