"""Widths: how many units may go, so that convolutions keep the widths that they are fast at.

Convolutions of runtimes work on blocks of channels, as many as a register holds (8 or 16), and in onnxruntime leave
that layout where a width is no multiple of 4: a narrower layer can then be slower. Units of a group that are together
on every axis are a *part* of it, and the number that stays of each part decides the widths of all axes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ....ir import Node
from ....ir.analysis.coupling import Axis, Group
from .found import channels_in
from .scores import Float64, Order

Align = int | Literal["auto"]
Index = NDArray[np.int64]
STEPS = ((64, 16), (32, 8), (8, 4))
"""Channels from which on widths are multiples of what, with `align=auto`: so a step is at most a half, and mostly a
quarter, of the width. Fewer channels than that can have any width."""


@dataclass(frozen=True)
class Part:
    """Units of one group, how many of them may go, and what that loses."""

    group: int
    width: int
    """How many units there are, those that must stay too."""
    units: Index
    """Those that can go, from the first to go."""
    losses: Float64
    """What is lost in all when the first i + 1 are gone."""
    counts: Index
    """How many may go, from 0 on."""

    @property
    def is_free(self) -> bool:
        """Whether any number of units may go."""
        return len(self.counts) == len(self.units) + 1

    def at_most(self, count: float) -> int:
        """The place among the counts of the largest that is not above `count`."""
        return int(np.searchsorted(self.counts, count + 1e-9, side="right")) - 1

    def nearest(self, count: float) -> int:
        """The place of the count that is nearest to `count`, of two the larger; rounded down where any may go."""
        low = self.at_most(count)
        if self.is_free or low + 1 == len(self.counts):
            return low
        return low + int(self.counts[low + 1] - count <= count - self.counts[low])

    def loss(self, place: int) -> float:
        """What is lost in all with so many gone."""
        return float(self.losses[self.counts[place] - 1]) if self.counts[place] else 0.0


def parts_of(groups: Sequence[Group], orders: Sequence[Order], align: Align) -> list[Part]:
    """The parts of all groups; a group of which any number may go is one part."""
    return [part for number, group in enumerate(groups) for part in _parts(number, group, orders[number], align)]


def _parts(number: int, group: Group, order: Order, align: Align) -> Iterator[Part]:
    aligned = _aligned_axes(group) if align == "auto" else channels_in(group)
    labels = _labels(group) if aligned and align != 1 else np.zeros(group.count, np.int64)
    steps = np.diff(order.losses, prepend=0.0)
    for label in range(int(labels.max(initial=-1)) + 1):
        mine = labels == label
        is_in = mine[order.units]
        width = int(mine.sum())
        step = _step(width, _elements(group, aligned, mine), align)
        counts = _counts(width, int(is_in.sum()), step)
        yield Part(number, width, order.units[is_in], np.cumsum(steps[is_in]), counts)


def _aligned_axes(group: Group) -> list[Axis]:
    """Those of the kernels of two-dimensional convolutions."""
    return [
        axis
        for axis in channels_in(group)
        if len(axis.value.const.shape if axis.value.const is not None else ()) == 4
        and any(isinstance(use.user, Node) and use.user.is_op("Conv") for use in axis.value.uses)
    ]


def _labels(group: Group) -> Index:
    """Equal numbers for units that are on the same axes, with as many elements on each."""
    places = np.stack([np.bincount(group.units[axis], minlength=group.count) for axis in group.axes])
    return np.unique(places, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _elements(group: Group, aligned: Sequence[Axis], mine: NDArray[np.bool_]) -> int:
    """How many elements each of these units has on the axes that are aligned: the greatest common divisor; 0 if none
    is on them."""
    unit = int(np.flatnonzero(mine)[0])
    return gcd(*(int((group.units[axis] == unit).sum()) for axis in aligned))


def _step(width: int, each: int, align: Align) -> int:
    """A multiple of how many units stays, of `width` that have `each` elements."""
    if not each:
        return 1
    if align == "auto":
        step = next((step for least, step in STEPS if width * each >= least), 1)
        return step // gcd(step, each)
    return align if width % align == 0 else 1


def _counts(width: int, free: int, step: int) -> Index:
    """How many may go of `free`, so that a multiple of `step` stays, or all that there are."""
    if step == 1:
        return np.arange(free + 1)
    last = (width - 1) // step * step
    return np.array([0, *(width - stays for stays in range(last, 0, -step) if width - stays <= free)], np.int64)
