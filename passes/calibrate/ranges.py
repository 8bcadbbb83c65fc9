"""Ranges of values on sample data: what a quantizer of activations needs to know of a value.

An observer sees one array at a time and keeps statistics of fixed size; two observers that saw different samples can
be merged into one that saw all. NaN and Inf are left out and counted. Zero lies in every range, since padding, masks
and Relu need it exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .pieces import pieces

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`, low <= high."""

    low: float
    high: float

    @classmethod
    def around(cls, low: float, high: float) -> Range:
        """From the lesser of `low` and 0 to the greater of `high` and 0."""
        return cls(min(low, 0.0), max(high, 0.0))

    @property
    def peak(self) -> float:
        """The greatest magnitude."""
        return max(-self.low, self.high)


@dataclass
class MinMax:
    """The least and the greatest finite number seen. Merging is exact, in any order."""

    low: float = float("inf")
    high: float = float("-inf")
    left_out: int = 0

    def update(self, array: Array) -> None:
        """Take the numbers of one sample into account; NaN and Inf are left out and counted."""
        self.left_out += int(np.size(array))
        for piece in pieces(array):
            self.left_out -= piece.numbers.size
            self.low, self.high = min(self.low, piece.low), max(self.high, piece.high)

    def merge(self, other: MinMax) -> None:
        """Take into account what another has seen."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.left_out += other.left_out

    def range(self) -> Range | None:
        """From the least to the greatest, with zero; None if no finite number was seen."""
        return Range.around(self.low, self.high) if self.low <= self.high else None


MOMENTUM = 0.99
"""What the average keeps of its weights when a sample comes."""


@dataclass
class MovingAverage:
    """The average of the samples' minima and maxima; of n samples the i-th weighs momentum^(n - i).

    Weights are divided by their sum, so that the first sample counts no more than the others (Kingma and Ba 2015, as
    in Adam). Order matters: `merge` gives what comes of this one's samples followed by the other's, up to rounding. A
    sample without a finite number is not counted.
    """

    momentum: float = MOMENTUM
    samples: int = 0
    low_sum: float = 0.0
    high_sum: float = 0.0
    left_out: int = 0

    def update(self, array: Array) -> None:
        """Take the minimum and the maximum of one sample into account."""
        sample = MinMax()
        sample.update(array)
        self.add(sample)

    def add(self, sample: MinMax) -> None:
        """Take what was seen of one sample into account."""
        self.left_out += sample.left_out
        if sample.low <= sample.high:
            self._append(1, sample.low, sample.high)

    def merge(self, other: MovingAverage) -> None:
        """Take into account what another has seen, as if it had come after; ValueError if its momentum is another."""
        if other.momentum != self.momentum:
            raise ValueError(f"averages with momentum {self.momentum} and {other.momentum} cannot be merged")
        self.left_out += other.left_out
        self._append(other.samples, other.low_sum, other.high_sum)

    def _append(self, samples: int, low_sum: float, high_sum: float) -> None:
        kept = self.momentum**samples
        self.samples += samples
        self.low_sum = kept * self.low_sum + low_sum
        self.high_sum = kept * self.high_sum + high_sum

    def range(self) -> Range | None:
        """From the average minimum to the average maximum, with zero; None if no finite number was seen."""
        if not self.samples:
            return None
        p, n = self.momentum, self.samples
        weights = float(n) if p == 1 else (1 - p**n) / (1 - p)
        return Range.around(self.low_sum / weights, self.high_sum / weights)


@dataclass
class Outside:
    """How many numbers lie outside a range, exactly: what a quantizer of that range saturates.

    Inf lies outside; NaN is left out and counted.
    """

    within: Range
    below: int = 0
    above: int = 0
    count: int = 0
    left_out: int = 0

    def update(self, array: Array) -> None:
        """Count the numbers of one sample."""
        numbers = np.asarray(array)
        infinite = np.isinf(numbers)
        positive = int(np.count_nonzero(numbers[infinite] > 0))
        self.above += positive
        self.below += int(infinite.sum()) - positive
        finite = 0
        for piece in pieces(numbers):
            finite += piece.numbers.size
            # np.float64: against a float of Python, numpy would round the limit to the array's type
            if piece.low < self.within.low:
                self.below += int(np.count_nonzero(piece.numbers < np.float64(self.within.low)))
            if piece.high > self.within.high:
                self.above += int(np.count_nonzero(piece.numbers > np.float64(self.within.high)))
        self.count += finite + int(infinite.sum())
        self.left_out += numbers.size - finite - int(infinite.sum())

    def merge(self, other: Outside) -> None:
        """Take into account what another has counted; ValueError if its range is another."""
        if other.within != self.within:
            raise ValueError(f"counts outside of {self.within} and {other.within} cannot be merged")
        self.below += other.below
        self.above += other.above
        self.count += other.count
        self.left_out += other.left_out

    @property
    def share(self) -> float:
        """The share of all numbers that lie outside; 0 if none were seen."""
        return (self.below + self.above) / max(1, self.count)
