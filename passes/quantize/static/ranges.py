"""Ranges of activations, and the choice of how each is found.

Cutting a range makes the steps of all numbers smaller and clips a few. Which of the methods a value gets is told by
what the layers that read it make of that on other samples than those that gave the ranges: for y = x W and errors e of
x that are independent from channel to channel,

    E |dy|^2 = sum_k E e_k^2 sum_n W_kn^2,

so the squared error of each channel counts by the squares of the weights that it meets; by 1 for readers without
weights. The shares of all readers, each of mean 1, are added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import length_hint
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ....ir import Value
from ...calibrate.calibrate import observed
from ...calibrate.pieces import by_channels
from ...calibrate.ranges import Array, Range
from ...calibrate.statistics import PERCENTILE, Method, Statistics
from ...calibrate.stream import Observer, observe, samples_of
from ...manager.context import Context, Feed
from ..targets.profile import Profile
from .affine import TYPES, Affine, affine
from .units import Unit

Calibration = Literal["auto", "minmax", "average", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse")
"""Among which `auto` chooses; of equal ones the first is taken."""
PURPOSE = "ranges"
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Every:
    """Every second sample, from one on."""

    samples: Iterable[Feed]
    start: int

    def __iter__(self) -> Iterator[Feed]:
        return islice(iter(self.samples), self.start, None, 2)

    def __length_hint__(self) -> int:
        return max(0, length_hint(self.samples) - self.start + 1) // 2


class Judge:
    """Adds up the squared errors that each of several quantizers makes of a value, weighted by channel."""

    def __init__(self, quantizers: Sequence[Affine], shares: Shares) -> None:
        self.quantizers, self.shares = quantizers, shares
        self.errors: Float64 = np.zeros(len(quantizers))

    def update(self, array: Array) -> None:
        """Take one sample into account; NaN and Inf are left out."""
        axis, weights = self.shares.axis, self.shares.weights
        for piece in by_channels(array.reshape(1, -1), 0) if weights is None else by_channels(array, axis):
            x = piece.numbers.astype(np.float32, copy=False)
            if not np.isfinite(x).all():
                x = np.where(np.isfinite(x), x, np.float32(0))
            error = np.empty_like(x)
            for number, quantizer in enumerate(self.quantizers):
                squares = piece.squares(quantizer.error(x, error)).astype(np.float64)
                self.errors[number] += squares.sum() if weights is None else squares @ weights[piece.where]

    @property
    def best(self) -> int:
        """Which errs least."""
        return int(np.argmin(self.errors))


@dataclass(frozen=True)
class Shares:
    """What the squared errors of a value count: by channel along `axis` from the end, or 1."""

    axis: int = -1
    weights: Float64 | None = None


def shares_of(value: Value, readers: Sequence[Unit]) -> Shares:
    """By all readers; 1 where they do not agree on where the channels are."""
    found = [_squares(unit) for unit in readers if unit.weight >= 0]
    places = {(axis, len(weights)) for axis, weights in found}
    if len(places) != 1:
        return Shares()
    (axis, size), others = places.pop(), len(readers) - len(found)
    total = np.full(size, float(others))
    for _, weights in found:
        mean = weights.mean()
        total += weights / mean if mean > 0 else weights
    return Shares(axis, total)


def _squares(unit: Unit) -> tuple[int, Float64]:
    """Where the channels of the input of a product are, and the sums of the squares of the weights that they meet."""
    value = unit.node.inputs[unit.weight]
    assert value is not None
    assert value.const is not None
    squares = np.square(value.const.numpy(), dtype=np.float64)
    if unit.node.op_type == "Conv":
        groups = unit.node.attr("group", 1)
        by_group = squares.reshape(groups, squares.shape[0] // groups, squares.shape[1], -1)
        return 1 - squares.ndim, by_group.sum(axis=(1, 3)).reshape(-1)
    transposed = unit.node.op_type == "Gemm" and unit.node.attr("transB", 0)
    return -1, squares.sum(axis=0 if transposed else 1)


def chosen_ranges(ctx: Context, units: Sequence[Unit], values: Sequence[Value], aim: Profile) -> dict[Value, Range]:
    """The range of each value by the method that errs least on held-out samples, found on all; none are chosen if there
    are less than two samples."""
    dtype = TYPES[aim.activation_type]

    def by(method: Method, statistics: Statistics) -> Range | None:
        bits = dtype.itemsize * 8
        return statistics.range(method, percentile=PERCENTILE, bits=bits, symmetric=aim.is_symmetric)

    samples = samples_of(ctx, PURPOSE)
    if next(iter(Every(samples, 1)), None) is None:
        return {}
    found = observed(ctx, values, purpose=PURPOSE, samples=Every(samples, 0))
    readers: dict[Value, list[Unit]] = {}
    for unit in units:
        for value in unit.activations:
            readers.setdefault(value, []).append(unit)
    judges: dict[Value, Judge] = {}
    others: dict[Value, Statistics] = {}
    for value, statistics in ctx.progress.track(list(found.items()), PURPOSE):
        ranges = [within for method in METHODS if (within := by(method, statistics)) is not None]
        if len(ranges) == len(METHODS):
            quantizers = [affine(within, dtype, symmetric=aim.is_symmetric) for within in ranges]
            judges[value] = Judge(quantizers, shares_of(value, readers.get(value, ())))
            others[value] = Statistics()
    observers: Mapping[Value, Sequence[Observer]] = {value: (judges[value], others[value]) for value in judges}
    observe(ctx, observers, purpose=PURPOSE, samples=Every(samples, 1))
    chosen: dict[Value, Range] = {}
    for value, judge in judges.items():
        found[value].merge(others[value])
        within = by(METHODS[judge.best], found[value])
        if within is not None:
            chosen[value] = within
    return chosen
