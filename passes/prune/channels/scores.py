"""Criteria: how much is lost with each unit of a group, and in which order units go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....ir import Model, Node
from ....ir.analysis.coupling import Axis, Group
from ....ir.analysis.linear import Linear, all_linear_layers
from ...calibrate.moments import Moments
from ...rewriting.layers import output_axis

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """Units of a group from the first to go, and what is lost in all when the first i + 1 are gone (never less)."""

    units: NDArray[np.int64]
    losses: Float64


def ordered(losses: Float64, free: NDArray[np.int64]) -> Order:
    """The free units by their own losses, which add up."""
    units = free[np.argsort(losses[free], kind="stable")]
    return Order(units, np.cumsum(losses[units]))


def producers(model: Model, groups: Sequence[Group]) -> dict[int, list[tuple[Linear, Axis]]]:
    """The layers whose outputs are units of a group, by the number of the group."""
    owner = {axis: number for number, group in enumerate(groups) for axis in group.axes}
    found: dict[int, list[tuple[Linear, Axis]]] = {}
    for layer in all_linear_layers(model):
        axis = Axis(layer.weight, output_axis(layer))
        if axis in owner:
            found.setdefault(owner[axis], []).append((layer, axis))
    return found


def consumers(model: Model, groups: Sequence[Group]) -> dict[int, list[tuple[Linear, NDArray[np.int64]]]]:
    """The layers that contract units of a group, with the unit of each row of their matrices: int `[groups, k]`."""
    owner = {axis: number for number, group in enumerate(groups) for axis in group.axes}
    found: dict[int, list[tuple[Linear, NDArray[np.int64]]]] = {}
    for layer in all_linear_layers(model):
        axis = Axis(layer.weight, 2 if layer.op_type in ("LSTM", "GRU", "RNN") else 1 - output_axis(layer))
        if axis not in owner or (layer.op_type == "Conv" and layer.groups > 1 and layer.shape[1] == 1):
            continue
        if layer.op_type == "ConvTranspose" and layer.groups > 1:
            continue
        number = owner[axis]
        units = groups[number].units[axis]
        taps = layer.k // len(units) if layer.op_type != "ConvTranspose" else 1
        rows = np.broadcast_to(np.repeat(units, taps), (layer.groups, layer.k))
        found.setdefault(number, []).append((layer, rows))
    return found


Places = list[tuple[Axis, Float64]]
"""Scores of the elements along each of some axes of a group: on the natural scale of a criterion."""


def relative(group: Group, places: Places) -> Float64:
    """Of each unit, the sum over the axes of its share of all scores along it."""
    losses = np.zeros(group.count)
    for axis, found in places:
        np.add.at(losses, group.units[axis], found / (found.sum() or 1))
    return losses


def largest(group: Group, places: Places) -> Float64:
    """Of each unit, the largest score of its elements; infinite of those that have none."""
    levels = np.full(group.count, -np.inf)
    for axis, found in places:
        np.maximum.at(levels, group.units[axis], found)
    return np.where(np.isneginf(levels), np.inf, levels)


def magnitude(made_by: Sequence[tuple[Linear, Axis]], power: int) -> Places:
    """The mean of |w| (or w^2) of the weights that make an element."""
    found = []
    for layer, axis in made_by:
        array = np.abs(_rows(layer, axis)) ** power
        found.append((axis, array.mean(axis=1)))
    return found


def geometric_median(made_by: Sequence[tuple[Linear, Axis]]) -> Places:
    """The sum of distances of the weights of an element to those of all others (He et al. 2019): small where it is a
    mean."""
    found = []
    for layer, axis in made_by:
        rows = _rows(layer, axis)
        squares = (rows**2).sum(axis=1)
        found.append((axis, np.sqrt(np.maximum(0, squares[:, None] + squares[None] - 2 * rows @ rows.T)).sum(axis=1)))
    return found


def _rows(layer: Linear, axis: Axis) -> Float64:
    """The weights of each element along an axis of the weight, one row each."""
    assert layer.weight.const is not None
    array = np.moveaxis(layer.weight.const.numpy().astype(np.float64), axis.axis, 0)
    return array.reshape(array.shape[0], -1)


def bn_scale(group: Group) -> Places:
    """|scale| of the BatchNormalizations that units go through (Liu et al. 2017)."""
    found = []
    for axis in group.constants:
        reads = [(use.user, use.slot) for use in axis.value.uses if isinstance(use.user, Node)]
        if any(node.is_op("BatchNormalization") and slot == 1 for node, slot in reads):
            assert axis.value.const is not None
            found.append((axis, np.abs(axis.value.const.numpy().astype(np.float64))))
    return found


class Activity:
    """How active each element of an axis of a value is: an observer of that value.

    `mean` is E|x|, `frequency` the share of positions where x > 0.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.count = 0
        self.total: Float64 = np.zeros(1)
        self.positive: Float64 = np.zeros(1)

    def update(self, array: NDArray[np.generic]) -> None:
        """Take one sample into account."""
        rows = np.moveaxis(np.asarray(array), self.axis, 0).reshape(array.shape[self.axis], -1)
        self.count += rows.shape[1]
        self.total = (self.total if self.total.size else np.zeros(len(rows))) + np.abs(rows).sum(
            axis=1, dtype=np.float64
        )
        self.positive = (self.positive if self.positive.size else np.zeros(len(rows))) + (rows > 0).sum(axis=1)

    @property
    def mean(self) -> Float64:
        """E|x|."""
        return self.total / max(1, self.count)

    @property
    def frequency(self) -> Float64:
        """P(x > 0)."""
        return self.positive / max(1, self.count)


RIDGE = 1e-4
"""Of the mean variance of an input, so that what never varies has an inverse."""


def second_order(
    group: Group,
    read_by: Sequence[tuple[Linear, NDArray[np.int64]]],
    moments: Mapping[Linear, Moments],
    *,
    refitted: bool,
    redundancy: bool = False,
    ridge: float | None = None,
) -> Order:
    """Greedy order by what the consumers' outputs lose, relative to what they vary by: E|dy|^2 / E|y|^2.

    With `refitted` the loss is what is left after the other weights were refitted (OBS, in blocks of a unit), else that
    of leaving the unit out (Wanda's, with covariances inside a unit). The means are taken to be absorbed into a bias.
    With `redundancy` the loss is the share of the variance of a unit that no combination of the others gives.
    `ridge` is by default what the rows that were seen make necessary, at least `RIDGE`.
    """
    kind = _Redundancy if redundancy else _Consumer
    ridges = {layer: max(RIDGE, one.ridge()) if ridge is None else ridge for layer, one in moments.items()}
    blocks = [
        kind(layer, units, moments[layer], g, ridges[layer])
        for layer, units in read_by
        for g in range(layer.groups)
        if layer in moments
    ]
    left = list(group.free)
    if not refitted:
        losses = np.zeros(group.count)
        for block in blocks:
            losses += block.plain(group.count)
        return ordered(losses, group.free)
    order: list[int] = []
    losses_so_far: list[float] = []
    total = 0.0
    while left:
        found = np.zeros(group.count)
        for block in blocks:
            found += block.losses(group.count)
        best = min(left, key=lambda unit: (found[unit], unit))
        total += max(0.0, float(found[best]))
        for block in blocks:
            block.remove(best)
        left.remove(best)
        order.append(int(best))
        losses_so_far.append(total)
    return Order(np.array(order, np.int64), np.array(losses_so_far))


class _Consumer:
    """One matrix that reads units of a group, as units go."""

    def __init__(self, layer: Linear, units: NDArray[np.int64], moments: Moments, g: int, ridge: float) -> None:
        assert layer.weight.const is not None
        self.weight = layer.matrices(layer.weight.const.numpy())[g].astype(np.float64)
        mean = moments.mean[g]
        covariance = moments.gram[g] - np.outer(mean, mean)
        self.scale = float(np.einsum("kn,kl,ln->", self.weight, covariance, self.weight)) * layer.groups
        self.covariance = covariance + ridge * max(float(np.trace(covariance)) / len(mean), 1e-30) * np.eye(len(mean))
        self.inverse = np.linalg.inv(self.covariance)
        self.rows = {int(unit): np.flatnonzero(units[g] == unit) for unit in np.unique(units[g])}

    def plain(self, count: int) -> Float64:
        """E|dy|^2 if a unit is left out and nothing else changes."""
        found = np.zeros(count)
        for unit, rows in self.rows.items():
            w = self.weight[rows]
            found[unit] = np.einsum("kn,kl,ln->", w, self.covariance[np.ix_(rows, rows)], w)
        return found / (self.scale or 1)

    def losses(self, count: int) -> Float64:
        """E|dy|^2 if a unit is left out and the weights of the others are refitted."""
        found = np.zeros(count)
        for unit, rows in self.rows.items():
            w = self.weight[rows]
            found[unit] = np.einsum("kn,kn->", w, np.linalg.solve(self.inverse[np.ix_(rows, rows)], w))
        return found / (self.scale or 1)

    def remove(self, unit: int) -> None:
        """Leave a unit out and refit the others."""
        rows = self.rows.pop(int(unit), None)
        if rows is None:
            return
        columns = self.inverse[:, rows]
        gain = np.linalg.solve(columns[rows], columns.T).T
        self.weight -= gain @ self.weight[rows]
        self.inverse -= gain @ columns.T


class _Redundancy(_Consumer):
    """What a layer reads, as units go: how much of each is a combination of the others."""

    def losses(self, count: int) -> Float64:
        """The share of the variance of a unit that is not explained by those that are left."""
        found = np.zeros(count)
        for unit, rows in self.rows.items():
            alone = np.diag(np.linalg.inv(self.inverse[np.ix_(rows, rows)]))
            found[unit] = float(np.mean(alone / np.diag(self.covariance)[rows]))
        return found
