"""Ranges of values on sample data: what a quantizer of activations needs to know of a value.

An observer sees one array at a time and keeps statistics of fixed size; two observers that saw different samples can
be merged into one that saw all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`, low <= high."""

    low: float
    high: float


class RangeObserver(Protocol):
    """An `Observer` that knows a range in the end."""

    def update(self, array: Array) -> None:
        """Take the numbers of one sample into account; NaN and Inf are left out and counted."""
        ...

    def merge(self, other: Self) -> None:
        """Take into account what another observer of the same kind has seen."""
        ...

    def range(self) -> Range | None:
        """The range to be represented; None if no finite number was seen."""
        ...


@dataclass
class MinMax:
    """The least and the greatest finite number seen."""

    low: float = float("inf")
    high: float = float("-inf")
    left_out: int = 0

    def update(self, array: Array) -> None:
        """Take the numbers of one sample into account; NaN and Inf are left out and counted."""
        numbers = np.asarray(array)
        low, high = float(numbers.min(initial=np.inf)), float(numbers.max(initial=-np.inf))
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = np.isfinite(numbers)
            self.left_out += int(numbers.size - finite.sum())
            low = float(numbers.min(initial=np.inf, where=finite))
            high = float(numbers.max(initial=-np.inf, where=finite))
        self.low, self.high = min(self.low, low), max(self.high, high)

    def merge(self, other: MinMax) -> None:
        """Take into account what another has seen."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.left_out += other.left_out

    def range(self) -> Range | None:
        """From the least to the greatest; None if no finite number was seen."""
        return Range(self.low, self.high) if self.low <= self.high else None
