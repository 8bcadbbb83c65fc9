"""Selection: how many units of each part go, so that a goal is met; as places among the counts that it allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ....ir.analysis.coupling import Group
from .scores import Order
from .sizes import Meter
from .widths import Index, Part

Gone = NDArray[np.bool_]
FILL = 0.95
"""Of a part, at most, where some go before others."""
STRIDES = 64
"""In so many steps at most a part goes, where any number of units may go."""


def nothing(groups: Sequence[Group]) -> list[Gone]:
    """No unit gone."""
    return [np.zeros(group.count, bool) for group in groups]


def allowed(group: Group, units: Index) -> Gone:
    """These units, which are given from the first to go, but for the last of each axis that would be empty."""
    gone = np.zeros(group.count, bool)
    gone[units] = True
    for axis in group.axes:
        mine = group.units[axis]
        if gone[mine].all():
            gone[units[np.isin(units, mine)][-1]] = False
    return gone


def gone_of(
    groups: Sequence[Group], orders: Sequence[Order], parts: Sequence[Part], places: Sequence[int]
) -> list[Gone]:
    """The units that go, of every group."""
    chosen = nothing(groups)
    for part, place in zip(parts, places, strict=True):
        chosen[part.group][part.units[: part.counts[place]]] = True
    return [
        allowed(group, order.units[mine[order.units]])
        for group, order, mine in zip(groups, orders, chosen, strict=True)
    ]


def by_share(parts: Sequence[Part], share: float) -> list[int]:
    """The same share of every part."""
    return _rounded(parts, [share * part.width for part in parts])


def by_threshold(parts: Sequence[Part], share: float) -> list[int]:
    """That share of all units of the model, those first that lose least."""
    steps = [np.diff(part.losses, prepend=0.0) for part in parts]
    every = np.sort(np.concatenate(steps)) if steps else np.zeros(0)
    count = min(int(share * sum(part.width for part in parts) + 1e-9), len(every))
    threshold = every[count - 1] if count else -np.inf
    return _rounded(parts, [int((own <= threshold).sum()) for own in steps])


def _rounded(parts: Sequence[Part], wanted: Sequence[float]) -> list[int]:
    """The nearest counts that there are; then the next of those that are least above what was wanted for their width,
    until as many units go as would with any counts, if so many can."""
    places = [part.nearest(count) for part, count in zip(parts, wanted, strict=True)]
    missing = sum(
        min(int(count + 1e-9), len(part.units)) - int(part.counts[place])
        for part, place, count in zip(parts, places, wanted, strict=True)
    )
    while missing > 0 and (above := _next_counts(parts, places, wanted)):
        least = min(above, key=lambda number: (above[number], number))
        places[least] += 1
        missing -= int(np.diff(parts[least].counts)[places[least] - 1])
    return places


def _next_counts(parts: Sequence[Part], places: Sequence[int], wanted: Sequence[float]) -> dict[int, float]:
    """How far the next count of a part is above what was wanted; where any number may go only if no others are left."""
    left = [number for number, part in enumerate(parts) if places[number] + 1 < len(part.counts)]
    aligned = [number for number in left if not parts[number].is_free]
    return {
        number: (parts[number].counts[places[number] + 1] - wanted[number]) / parts[number].width
        for number in aligned or left
    }


def from_the_outputs(
    parts: Sequence[Part], depths: Sequence[int], is_enough: Callable[[Sequence[int]], bool]
) -> list[int]:
    """Of the deepest group first, as much as can go, and so on until it is enough; of the last part no more than that
    takes."""
    places = [0] * len(parts)
    for number in sorted(range(len(parts)), key=lambda number: -depths[parts[number].group]):
        low, high = 0, parts[number].at_most(int(FILL * parts[number].width))
        places[number] = high
        if not is_enough(places):
            continue
        while high - low > 1:
            middle = places[number] = (low + high) // 2
            low, high = (low, middle) if is_enough(places) else (middle, high)
        places[number] = high
        break
    return places


def by_cost(groups: Sequence[Group], parts: Sequence[Part], meter: Meter, keep: float) -> list[int]:
    """So many units that at most the share `keep` of the cost is left: always those next that lose least for what they
    save."""
    gone = nothing(groups)
    places = [0] * len(parts)
    strides = [max(1, part.width // STRIDES) if part.is_free else 1 for part in parts]
    rates: dict[int, float] = {}

    def units(number: int, place: int) -> Gone:
        part = parts[number]
        more = gone[part.group].copy()
        more[part.units[: part.counts[place]]] = True
        return more

    def look(number: int) -> None:
        rates.pop(number, None)
        part, upto = parts[number], places[number] + strides[number]
        if upto >= len(part.counts):
            return
        more = units(number, upto)
        if any(more[each].all() for each in groups[part.group].units.values()):
            return
        saved = meter.saved(gone, part.group, more)
        if saved > 0:
            rates[number] = (part.loss(upto) - part.loss(places[number])) / saved

    for number in range(len(parts)):
        look(number)
    neighbours = _neighbours(parts, meter)
    while rates and meter.share(gone) > keep:
        best = min(rates, key=lambda number: (rates[number], number))
        places[best] += strides[best]
        gone[parts[best].group] = units(best, places[best])
        for number in neighbours[best]:
            look(number)
    return places


def _neighbours(parts: Sequence[Part], meter: Meter) -> list[set[int]]:
    """The parts of groups that share a weight with that of each part."""
    of_group: dict[int, set[int]] = {}
    for number, part in enumerate(parts):
        of_group.setdefault(part.group, set()).add(number)
    near: dict[int, set[int]] = {group: set(mine) for group, mine in of_group.items()}
    for weight in meter.weights:
        together = set().union(*(of_group[group] for group, _ in weight.axes))
        for group, _ in weight.axes:
            near[group] |= together
    return [near[part.group] for part in parts]
