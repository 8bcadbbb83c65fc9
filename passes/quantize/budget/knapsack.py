"""The multiple-choice knapsack, exactly: one option of every item, of least total loss within a total cost.

    minimise  sum_i loss[i][j(i)]    subject to    sum_i cost[i][j(i)] <= room

Costs are whole numbers, losses floats of at least 0. Items go one by one, and of all partial choices those stay that no
other beats in cost and in loss (dynamic programming over lists of undominated states: Nemhauser, Ullmann 1969; for
multiple choice: Dyer, Kayal, Walsh 1984). A state goes as well if even the relaxed rest makes it no better than a whole
choice that is known: of the relaxation, in which an item may be split between two options, the least loss of the
items that are left is a convex piecewise linear function of the room that is left (Sinha, Zoltners 1979), and its last
corner within the room is a whole choice. So what is returned is an optimum, up to the rounding of sums of floats.

If more than `STATES` states were to be kept, those whose bound is worst are given up; `Solution.bound` is then the
least loss that any choice can have, and says how far from it the one returned may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

STATES = 1 << 17
"""States that are kept at most: so many bytes times 40 an item."""
ROUNDING = 1e-12
"""How much sums of losses may be off, of their size: no state is given up for less."""
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Option(NamedTuple):
    """One of the options of an item."""

    cost: int
    loss: float


@dataclass(frozen=True)
class Solution:
    """The option taken of every item, their sums, and a loss that no choice within the room is below."""

    picks: tuple[int, ...]
    cost: int
    loss: float
    bound: float

    @property
    def is_optimal(self) -> bool:
        """Whether it is proven that no choice is better, up to rounding."""
        return self.bound >= self.loss * (1 - ROUNDING)


def solve(items: Sequence[Sequence[Option]], room: int) -> Solution | None:
    """The choice of least loss within `room`; None if not even the cheapest options fit. ValueError for losses that are
    negative or not finite, or an item without options."""
    for options in items:
        if not options or not all(np.isfinite(one.loss) and one.loss >= 0 for one in options):
            raise ValueError("an item needs options, and their losses must be finite and at least 0")
    hulls = [hull(options) for options in items]
    # items whose options differ most in cost go first: what is left can be packed tightly
    order = sorted(range(len(items)), key=lambda i: hulls[i][0].cost - hulls[i][-1].cost)
    rests = _rests([hulls[i] for i in order])
    if rests[0].cheapest > room:
        return None
    search = _Search(room)
    for at, i in enumerate(order):
        search.extend(items[i], rests[at + 1])
    picks = [0] * len(items)
    for i, pick in zip(order, search.picks(), strict=True):
        picks[i] = pick
    cost = sum(options[pick].cost for options, pick in zip(items, picks, strict=True))
    loss = sum(options[pick].loss for options, pick in zip(items, picks, strict=True))
    return Solution(tuple(picks), cost, loss, min(loss, search.given_up))


def hull(options: Sequence[Option]) -> list[Option]:
    """The corners of the lower convex hull of the options, cheapest first: those that are best at some price."""
    found: list[Option] = []
    for option in sorted(options):
        if found and option.loss >= found[-1].loss:
            continue
        while len(found) > 1 and _slope(found[-2], found[-1]) <= _slope(found[-2], option):
            found.pop()
        found.append(option)
    return found


def _slope(cheap: Option, dear: Option) -> float:
    """The loss saved by a unit of cost."""
    return (cheap.loss - dear.loss) / (dear.cost - cheap.cost)


@dataclass(frozen=True)
class _Rest:
    """What the items that are left can do: the corners of the least relaxed loss against the room for them."""

    costs: Int64
    losses: Float64

    @property
    def cheapest(self) -> int:
        return int(self.costs[0])

    def relaxed(self, room: Int64) -> Float64:
        """At most the loss of what fits into `room`, which is at least that of the cheapest."""
        return np.asarray(np.interp(room, self.costs, self.losses), np.float64)

    def whole(self, room: Int64) -> Float64:
        """The loss of a choice that fits into `room`."""
        return self.losses[np.searchsorted(self.costs, room, side="right") - 1]


def _rests(hulls: Sequence[Sequence[Option]]) -> list[_Rest]:
    """For every number of items done, the rest: steps along the hulls of the others, the best value first."""
    steps = [
        (-_slope(a, b), i, b.cost - a.cost, a.loss - b.loss) for i, each in enumerate(hulls) for a, b in pairwise(each)
    ]
    steps.sort()
    owners, costs = (np.array([step[at] for step in steps], np.int64) for at in (1, 2))
    savings = np.array([step[3] for step in steps], np.float64)
    found = []
    for done in range(len(hulls) + 1):
        here = owners >= done
        cheapest = sum(corners[0].cost for corners in hulls[done:])
        least = sum(corners[-1].loss for corners in hulls[done:])
        saved = np.cumsum(savings[here][::-1])[::-1]  # from the right, so that the end is exact
        found.append(_Rest(cheapest + np.append(0, np.cumsum(costs[here])), least + np.append(saved, 0.0)))
    return found


class _Search:
    """The undominated partial choices, in order of cost, and how each was come by."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._costs: Int64 = np.zeros(1, np.int64)
        self._losses: Float64 = np.zeros(1)
        self._steps: list[tuple[NDArray[np.int32], NDArray[np.int16]]] = []
        self._best = np.inf
        self.given_up = np.inf
        """The least loss that a choice might have whose state was given up for want of room."""

    def extend(self, options: Sequence[Option], rest: _Rest) -> None:
        """Take one option of the next item; `rest` are the items behind it."""
        count = len(self._costs)
        costs = np.concatenate([self._costs + option.cost for option in options])
        losses = np.concatenate([self._losses + option.loss for option in options])
        parents = np.tile(np.arange(count, dtype=np.int32), len(options))
        picks = np.repeat(np.arange(len(options), dtype=np.int16), count)
        order = np.flatnonzero(costs + rest.cheapest <= self._room)
        order = order[np.lexsort((losses[order], costs[order]))]
        best_before = np.concatenate([[np.inf], np.minimum.accumulate(losses[order])[:-1]])
        order = order[losses[order] < best_before]
        left = self._room - costs[order]
        self._best = min(self._best, float((losses[order] + rest.whole(left)).min()))
        bounds = losses[order] + rest.relaxed(left)
        kept = bounds <= self._best * (1 + ROUNDING) + np.finfo(float).tiny
        order, bounds = order[kept], bounds[kept]
        if len(order) > STATES:
            order = self._narrowed(order, bounds)
        self._costs, self._losses = costs[order], losses[order]
        self._steps.append((parents[order], picks[order]))

    def _narrowed(self, order: NDArray[np.intp], bounds: Float64) -> NDArray[np.intp]:
        """The states with the least bounds."""
        ranks = np.argpartition(bounds, STATES)
        self.given_up = min(self.given_up, float(bounds[ranks[STATES:]].min()))
        return order[np.sort(ranks[:STATES])]

    def picks(self) -> list[int]:
        """The options of the best choice, item by item."""
        at, found = int(self._losses.argmin()), []
        for parents, picks in reversed(self._steps):
            found.append(int(picks[at]))
            at = int(parents[at])
        return found[::-1]
