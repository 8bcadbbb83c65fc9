"""Allocation: which choice for which site, so that a goal is met at the least error.

For a multiplier m every site takes the choice that minimises error + m cost: those of the lower convex hull of its
choices, in order of how much error a saved unit costs. A goal for the cost is met by the least multiplier; the last
step is then taken site by site, and what one large step saved too much is given back where it saves most error. Sites
that read one input may also share their first factor: together they take what is less, the sum of their own best or the
best that is shared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .study import Choice, Study


@dataclass(frozen=True)
class Pick:
    """What some sites become: one, or several with a shared first factor. Without a choice they stay."""

    studies: tuple[Study, ...]
    choice: Choice | None
    error: float
    """Weighted."""
    cost: float


@dataclass(frozen=True)
class Item:
    """Sites of which each has picks of its own, and which as a whole may have shared ones."""

    own: tuple[tuple[Pick, ...], ...]
    shared: tuple[Pick, ...] = ()

    def best(self, multiplier: float) -> list[Pick]:
        """The picks of least error + multiplier * cost."""
        apart = [min(picks, key=lambda pick: pick.error + multiplier * pick.cost) for picks in self.own]
        if not self.shared:
            return apart
        together = min(self.shared, key=lambda pick: pick.error + multiplier * pick.cost)
        value = sum(pick.error + multiplier * pick.cost for pick in apart)
        return [together] if together.error + multiplier * together.cost < value else apart

    def near(self, now: Sequence[Pick]) -> Iterator[list[Pick]]:
        """What the sites may become instead: one of them something else, or all together."""
        if len(now) == len(self.own):
            for place, picks in enumerate(self.own):
                for pick in picks:
                    yield [*now[:place], pick, *now[place + 1 :]]
        elif len(self.own) > 1:
            yield [picks[0] for picks in self.own]
        yield from ([pick] for pick in self.shared)


def item_of(
    studies: Sequence[Study], shared: Sequence[Choice], cost: Callable[[Sequence[Study], Choice | None], float]
) -> Item:
    """The picks of sites. Errors of shared choices are weighted sums already."""
    own = []
    for study in studies:
        picks = [Pick((study,), None, 0.0, cost([study], None))]
        picks += [Pick((study,), one, study.weight * one.error, cost([study], one)) for one in study.choices]
        own.append(tuple(picks))
    all_ = tuple(studies)
    return Item(tuple(own), tuple(Pick(all_, one, one.error, cost(all_, one)) for one in shared))


def multipliers(items: Sequence[Item]) -> list[float]:
    """All at which some pick changes, ascending, with 0 before and infinity behind."""
    found = {0.0}
    for item in items:
        for picks in (*item.own, item.shared):
            found.update(_slopes([(pick.cost, pick.error) for pick in picks]))
    ordered = sorted(found)
    return [*ordered, (ordered[-1] or 1e-30) * 4]


def _slopes(points: Sequence[tuple[float, float]]) -> list[float]:
    """Of the lower hull of points (cost, error): the multipliers at which one gives way to the next cheaper."""
    hull: list[tuple[float, float]] = []
    for cost, error in sorted(points, key=lambda point: (-point[0], point[1])):
        if hull and error >= hull[-1][1] and cost == hull[-1][0]:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-2], (cost, error)):
            hull.pop()
        hull.append((cost, error))
    return [max(0.0, _slope(one, other)) for one, other in itertools.pairwise(hull)]


def _slope(dear: tuple[float, float], cheap: tuple[float, float]) -> float:
    return (cheap[1] - dear[1]) / max(dear[0] - cheap[0], 1e-300)


def picks_at(items: Sequence[Item], multiplier: float) -> list[Pick]:
    """All picks at a multiplier, ties for what is cheaper."""
    return [pick for item in items for pick in item.best(multiplier * (1 + 1e-9))]


def to_goal(items: Sequence[Item], fixed: float, goal: float) -> list[Pick]:
    """The picks of least error whose cost is at most `goal`, with what is `fixed`; the cheapest if none are."""
    steps = multipliers(items)
    low, high = 0, len(steps) - 1

    def cost(picks: Sequence[Pick]) -> float:
        return fixed + sum(pick.cost for pick in picks)

    if cost(picks_at(items, 0.0)) <= goal:
        return picks_at(items, 0.0)
    while high - low > 1:
        middle = (low + high) // 2
        if cost(picks_at(items, steps[middle])) <= goal:
            high = middle
        else:
            low = middle
    now = [item.best(steps[low] * (1 + 1e-9)) for item in items]
    after = [item.best(steps[high] * (1 + 1e-9)) for item in items]
    order = sorted(
        (i for i in range(len(items)) if now[i] != after[i]),
        key=lambda i: sum(p.error for p in after[i]) - sum(p.error for p in now[i]),
    )
    for i in order:
        if cost([pick for picks in now for pick in picks]) <= goal:
            break
        now[i] = after[i]
    _use_up(items, now, goal - cost([pick for picks in now for pick in picks]))
    return [pick for picks in now for pick in picks]


def _use_up(items: Sequence[Item], now: list[list[Pick]], room: float) -> None:
    """Change picks, the one that saves most error first, as long as what they cost fits into the room."""
    while True:
        found: tuple[float, int, list[Pick]] | None = None
        for i, item in enumerate(items):
            cost, error = sum(pick.cost for pick in now[i]), sum(pick.error for pick in now[i])
            for other in item.near(now[i]):
                saved = error - sum(pick.error for pick in other)
                if saved > (0.0 if found is None else found[0]) and sum(pick.cost for pick in other) - cost <= room:
                    found = saved, i, other
        if found is None:
            return
        _, i, other = found
        room -= sum(pick.cost for pick in other) - sum(pick.cost for pick in now[i])
        now[i] = other


class Search:
    """The picks along the multipliers, and their errors as measured, which more or less grow with the multiplier."""

    def __init__(self, items: Sequence[Item], measure: Callable[[Sequence[Pick]], float]) -> None:
        self._items, self._measure = items, measure
        self._steps = multipliers(items)
        self._known: dict[int, float] = {}

    def cheapest(self, goal: float) -> list[Pick]:
        """The cheapest picks whose measured error is at most `goal`; nothing changes if there are none."""
        low = max((step for step, error in self._known.items() if error <= goal), default=-1)
        over = (step for step, error in self._known.items() if error > goal and step > low)
        high = min(over, default=len(self._steps))
        while high - low > 1:
            middle = (low + high) // 2
            if self._error(middle) <= goal:
                low = middle
            else:
                high = middle
        return picks_at(self._items, self._steps[low] if low >= 0 else 0.0)

    def _error(self, step: int) -> float:
        if step not in self._known:
            picks = picks_at(self._items, self._steps[step])
            is_changed = any(pick.choice is not None for pick in picks)
            self._known[step] = self._measure(picks) if is_changed else 0.0
        return self._known[step]
