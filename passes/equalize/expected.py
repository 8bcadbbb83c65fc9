"""The squared error that 8 bits are expected to make in a layer, as a function of the factors of its input.

Rounding to a step d makes an error of variance d^2 / 12, independent of the rest. Of y = x W, with one scale for x and
one for each column of W, and factors s_k,

    E |dy|^2 = d_x^2 / 12 sum_kn (s_k W_kn)^2  +  sum_n d_n^2 / 12 sum_k E x_k^2 / s_k^2,
    d_x = (max_k high_k / s_k - min_k low_k / s_k) / 255,   d_n = max_k abs(s_k W_kn) / 127.

It is too large where numbers are much smaller than a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...ir.analysis.linear import linear_of
from ..calibrate.pieces import by_channels
from .scales import Touch

Array = np.ndarray[Any, np.dtype[Any]]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
T = TypeVar("T")


class Reach:
    """How far every element along one axis reaches in all samples: its least and greatest finite number, and the mean
    of its squares."""

    def __init__(self, axis: int, size: int) -> None:
        self.axis = axis
        self.low: Float64 = np.zeros(size)
        self.high: Float64 = np.zeros(size)
        self._squares: Float64 = np.zeros(size)
        self._count: Float64 = np.zeros(size)

    def update(self, array: Array) -> None:
        """Take one sample into account."""
        for piece in by_channels(array, self.axis):
            numbers, where, rest = piece.numbers.astype(np.float64), piece.where, 1 - piece.axis
            finite = np.isfinite(numbers)
            if finite.all():
                self._count[where] += numbers.shape[rest]
            else:
                numbers[~finite] = 0
                self._count[where] += finite.sum(axis=rest)
            self.low[where] = np.minimum(self.low[where], numbers.min(axis=rest))
            self.high[where] = np.maximum(self.high[where], numbers.max(axis=rest))
            self._squares[where] += piece.squares(numbers)

    def merge(self, other: Reach) -> None:
        """Take into account what another has seen."""
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        self._squares += other._squares
        self._count += other._count

    def scaled(self, powers: Int64) -> Reach:
        """What would be seen of the elements divided by powers of two."""
        found = Reach(self.axis, len(self.low))
        found.low, found.high = np.ldexp(self.low, -powers), np.ldexp(self.high, -powers)
        found._squares, found._count = np.ldexp(self._squares, -2 * powers), self._count
        return found

    @property
    def logs(self) -> Float64:
        """log2 of the largest absolute number; -inf where all was zero."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log2(np.maximum(self.high, -self.low)))

    @property
    def mean_square(self) -> Float64:
        """E x^2."""
        return self._squares / np.maximum(1, self._count)


@dataclass(frozen=True)
class Expected:
    """What the error of one layer follows from: `squares` of the weights and `largest`, by channel and column."""

    reach: Reach
    squares: Float64
    largest: Float64
    """`[channels, groups * n]`; 0 where a channel does not meet a column."""
    taps: int
    """How often a column meets a channel."""

    @classmethod
    def of(cls, touch: Touch, reach: Reach) -> Expected | None:
        """Of a linear layer that reads what `reach` has seen; None if the touch is of no layer, or of no numbers."""
        layer = linear_of(touch.node)
        if layer is None or layer.slot != touch.slot or not np.isfinite(touch.tensor.numpy()).all():
            return None
        matrices = np.abs(layer.matrices(touch.tensor.numpy().astype(np.float64)))
        channels = layer.matrices(np.broadcast_to(touch.index, touch.tensor.shape))[:, :, 0]
        squares, largest = np.zeros((2, len(reach.low), layer.groups * layer.n))
        for group, (matrix, rows) in enumerate(zip(matrices, channels, strict=True)):
            columns = slice(group * layer.n, (group + 1) * layer.n)
            np.add.at(squares[:, columns], rows, matrix**2)
            np.maximum.at(largest[:, columns], rows, matrix)
        return cls(reach, squares.sum(axis=1), largest, layer.k // len(np.unique(channels[0])))

    def ratio(self, powers: Int64) -> float:
        """The error for factors of these powers of two, of that without factors; 1 where there is none."""
        base = self._error(np.zeros_like(powers))
        return self._error(powers) / base if base else 1.0

    def _error(self, powers: Int64) -> float:
        factors = np.ldexp(1.0, powers)
        step = ((self.reach.high / factors).max() - (self.reach.low / factors).min()) / 255
        inputs = step**2 * (factors**2 * self.squares).sum()
        steps = (factors[:, None] * self.largest).max(axis=0) / 127
        rows = (self.largest > 0).astype(np.float64)  # of a grouped convolution only its own group
        weights = self.taps * (steps**2 * (rows * (self.reach.mean_square / factors**2)[:, None]).sum(axis=0)).sum()
        return float(inputs + weights) / 12


ALPHAS = (0.25, 0.5, 0.75, 1.0)
GAIN = 0.9
"""Channels are scaled if that is expected to leave less than this share of the squared error."""


def best(
    layers: Mapping[Touch, Expected], choices: Iterable[T], powers_for: Callable[[T], Mapping[Touch, Int64]]
) -> tuple[T, float] | None:
    """The choice of which the powers leave the least of the errors, and how much: the mean over the layers, each by
    its own error; of equal ones the first. None if that is no gain."""
    if not layers:
        return None

    def share(choice: T) -> float:
        powers = powers_for(choice)
        return float(np.mean([layer.ratio(powers[touch]) for touch, layer in layers.items()]))

    least, found = min(((share(choice), choice) for choice in choices), key=lambda pair: pair[0])
    return (found, least) if least < GAIN else None
