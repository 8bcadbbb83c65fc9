"""Selection: which units go, so that a goal is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ....ir.analysis.coupling import Group
from .scores import Order
from .sizes import Meter

Gone = NDArray[np.bool_]
FILL = 0.95
"""Of a group, at most, where some groups go before others."""


def nothing(groups: Sequence[Group]) -> list[Gone]:
    """No unit gone."""
    return [np.zeros(group.count, bool) for group in groups]


def allowed(group: Group, order: Order, count: int, align: int) -> Gone:
    """The first `count` units of an order, as far as no axis gets empty; so many that what stays is a multiple of
    `align`, if it was before."""
    count = min(count, len(order.units))
    if align > 1 and group.count % align == 0:
        count -= count % align
    gone = np.zeros(group.count, bool)
    gone[order.units[:count]] = True
    for unit in order.units[:count][::-1]:
        if all((~gone[group.units[axis]]).any() for axis in group.axes):
            break
        gone[unit] = False
    return gone


def by_share(groups: Sequence[Group], orders: Sequence[Order], share: float, align: int) -> list[Gone]:
    """The same share of every group."""
    return [
        allowed(group, order, int(share * group.count + 1e-9), align)
        for group, order in zip(groups, orders, strict=True)
    ]


def by_threshold(groups: Sequence[Group], orders: Sequence[Order], share: float, align: int) -> list[Gone]:
    """That share of all units of the model, those first that lose least."""
    steps = [np.diff(order.losses, prepend=0.0) for order in orders]
    total = sum(group.count for group in groups)
    every = np.sort(np.concatenate(steps)) if steps else np.zeros(0)
    count = min(int(share * total + 1e-9), len(every))
    threshold = every[count - 1] if count else -np.inf
    return [
        allowed(group, order, int((own <= threshold).sum()), align)
        for group, order, own in zip(groups, orders, steps, strict=True)
    ]


def from_the_outputs(
    groups: Sequence[Group],
    orders: Sequence[Order],
    depths: Sequence[int],
    is_enough: Callable[[Sequence[Gone]], bool],
    align: int,
) -> list[Gone]:
    """Of the deepest group first, as much as can go, and so on until it is enough; of the last one no more than that
    takes."""
    gone = nothing(groups)
    for number in sorted(range(len(groups)), key=lambda number: -depths[number]):
        group, order = groups[number], orders[number]
        low, high = 0, min(int(FILL * group.count), len(order.units))
        gone[number] = allowed(group, order, high, align)
        if not is_enough(gone):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            gone[number] = allowed(group, order, middle, align)
            low, high = (low, middle) if is_enough(gone) else (middle, high)
        gone[number] = allowed(group, order, high, align)
        break
    return gone


def by_cost(groups: Sequence[Group], orders: Sequence[Order], meter: Meter, keep: float, align: int) -> list[Gone]:
    """So many units that at most the share `keep` of the cost is left: always those next that lose least for what they
    save."""
    gone = nothing(groups)
    counts = [0] * len(groups)
    steps = [align if align > 1 and group.count % align == 0 else max(1, group.count // 64) for group in groups]
    rates: dict[int, float] = {}

    def look(number: int) -> None:
        rates.pop(number, None)
        group, order = groups[number], orders[number]
        upto = counts[number] + steps[number]
        if upto > len(order.units):
            return
        more = allowed(group, order, upto, align)
        if more.sum() < upto:
            return
        saved = meter.saved(gone, number, more)
        if saved <= 0:
            return
        lost = order.losses[upto - 1] - (order.losses[counts[number] - 1] if counts[number] else 0.0)
        rates[number] = float(lost) / saved

    for number in range(len(groups)):
        look(number)
    neighbours = _neighbours(groups, meter)
    while rates and meter.share(gone) > keep:
        best = min(rates, key=lambda number: (rates[number], number))
        counts[best] += steps[best]
        gone[best] = allowed(groups[best], orders[best], counts[best], align)
        for number in neighbours[best]:
            look(number)
    return gone


def _neighbours(groups: Sequence[Group], meter: Meter) -> list[set[int]]:
    found = [{number} for number in range(len(groups))]
    for weight in meter.weights:
        mine = {number for number, _ in weight.axes}
        for number in mine:
            found[number] |= mine
    return found
