"""A histogram of fixed size that grows its range without the data being read again, and merges exactly.

Bins are as wide as a power of two, 2^e, and start at zero on both sides: a number x lies in bin trunc(|x| / 2^e), on
its side. Doubling the width joins pairs of bins, since trunc(trunc(a) / 2) = trunc(a / 2). So with e the least exponent
at which what was seen fits into 4096 bins, all that is kept is a function of the numbers alone, whatever their order
and however they were divided among histograms. At least 2048 bins are in use.

Exact zeros are counted apart: every quantizer represents them, and after a Relu they are the bulk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pieces import Piece, pieces
from .ranges import Range

Array = np.ndarray[Any, np.dtype[Any]]
_LOG_BINS = 12
BINS = 1 << _LOG_BINS
"""Bins at most: 32 kB. With fewer, `entropy` could not judge ranges much narrower than the whole."""
_FINEST = -1000
"""The least exponent: numbers below 2^-1000 lie in the first bin."""
_NARROW = range(-126, 128)
"""Exponents of the normal powers of two of float32."""


@dataclass(frozen=True)
class Bins:
    """The bins of a histogram in units of their width, from the lowest; the outermost end at the numbers seen."""

    exponent: int
    """The width is 2^exponent."""
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    counts: NDArray[np.int64]
    low: float
    """The least number seen, or 0 if that is less; in units of the width."""
    high: float
    """The greatest number seen, or 0 if that is greater; in units of the width."""

    def range(self, low: float, high: float) -> Range:
        """The range between two places given in units of the width."""
        return Range(math.ldexp(low, self.exponent), math.ldexp(high, self.exponent))


@dataclass
class Histogram:
    """Counts of the finite numbers seen, in at most `BINS` bins; see the module.

    `counts[i]` is of bin `first + i`; bin k >= 0 holds [k w, (k + 1) w) but no zeros, bin k < 0 holds (k w, (k + 1) w],
    with w = 2^exponent. `low` and `high` are the least and the greatest number, as `MinMax` has them.
    """

    low: float = float("inf")
    high: float = float("-inf")
    zeros: int = 0
    left_out: int = 0
    exponent: int = _FINEST
    first: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def update(self, array: Array) -> None:
        """Take the numbers of one sample into account; NaN and Inf are left out and counted."""
        self.left_out += int(np.size(array))
        for piece in pieces(array):
            self.left_out -= piece.numbers.size
            self._grow(piece.low, piece.high)
            self._take(piece)

    def merge(self, other: Histogram) -> None:
        """Take into account what another has seen: the result is that of one histogram that saw all."""
        self.left_out += other.left_out
        self.zeros += other.zeros
        self._grow(other.low, other.high)
        self._add(other.exponent, other.first, other.counts)

    @property
    def count(self) -> int:
        """How many finite numbers were seen, zeros included."""
        return self.zeros + int(self.counts.sum())

    def range(self) -> Range | None:
        """From the least to the greatest, with zero; None if no finite number was seen."""
        return Range.around(self.low, self.high) if self.low <= self.high else None

    def bins(self) -> Bins:
        """The bins, without zeros; empty if nothing else was seen."""
        edges = np.arange(self.first, self.first + len(self.counts) + 1, dtype=np.float64)
        low, high = (math.ldexp(x, -self.exponent) if math.isfinite(x) else 0.0 for x in (self.low, self.high))
        clipped = np.clip(edges, low, high)
        return Bins(self.exponent, clipped[:-1], clipped[1:], self.counts.copy(), min(low, 0.0), max(high, 0.0))

    def _take(self, piece: Piece) -> None:
        """Count numbers that the bins reach."""
        numbers = piece.numbers
        zeros = numbers.size - int(np.count_nonzero(numbers))
        self.zeros += zeros
        if zeros == numbers.size:
            return
        narrow = numbers.dtype == np.float32 and -self.exponent in _NARROW
        scale = (np.float32 if narrow else np.float64)(math.ldexp(1.0, -self.exponent))
        places = (numbers * scale).astype(np.intp)  # exact, but for what is less than a bin anyway; cut towards zero
        if piece.low < 0:
            places -= numbers < 0
        places -= self.first
        counted = np.bincount(places, minlength=len(self.counts))
        if zeros:  # they lie in bin 0, which may be one more than there are
            counted[-self.first] -= zeros
        self.counts += counted[: len(self.counts)]

    def _grow(self, low: float, high: float) -> None:
        """Make room for numbers from `low` to `high`."""
        self.low, self.high = min(self.low, low), max(self.high, high)
        if not (self.low < 0 or self.high > 0):
            return
        exponent, first, end = _layout(self.low, self.high)
        if (exponent, first, end - first) == (self.exponent, self.first, len(self.counts)):
            return
        old = self.exponent, self.first, self.counts
        self.exponent, self.first, self.counts = exponent, first, np.zeros(end - first, np.int64)
        self._add(*old)

    def _add(self, exponent: int, first: int, counts: NDArray[np.int64]) -> None:
        """Add counts of bins that are as wide as these, or narrower."""
        places = np.arange(first, first + len(counts)) >> (self.exponent - exponent)
        np.add.at(self.counts, places - self.first, counts)


def _layout(low: float, high: float) -> tuple[int, int, int]:
    """The exponent, the first bin and the end of the bins for numbers from `low` to `high`, not both zero."""
    largest = math.frexp(max(-low, high))[1]
    exponent = max(largest - _LOG_BINS, _FINEST)
    first, end = _span(low, high, exponent)
    if end - first > BINS:
        exponent += 1
        first, end = _span(low, high, exponent)
    return exponent, first, end


def _span(low: float, high: float, exponent: int) -> tuple[int, int]:
    first = int(math.ldexp(low, -exponent)) - 1 if low < 0 else 0
    end = int(math.ldexp(high, -exponent)) + 1 if high > 0 else 0
    return first, end
