"""What is kept of a value: enough for every way to find its range, in a size that no number of samples changes."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from .entropy import entropy_range
from .histogram import Histogram
from .mse import mse_range
from .percentile import percentile_range
from .ranges import MinMax, MovingAverage, Range

Array = np.ndarray[Any, np.dtype[Any]]
Method = Literal["minmax", "average", "percentile", "entropy", "mse"]
"""How a range is found; see the modules of these names, and `ranges.py` for the first two."""
METHODS: tuple[Method, ...] = get_args(Method)
PERCENTILE = 99.99


class Statistics:
    """Observes minimum, maximum, their averages over the samples and, if asked for, a histogram."""

    def __init__(self, *, histogram: bool = True) -> None:
        self.minmax = MinMax()
        self.average = MovingAverage()
        self.histogram = Histogram() if histogram else None

    @staticmethod
    def need_histogram(method: Method) -> bool:
        """Whether a method finds its range in the histogram."""
        return method not in ("minmax", "average")

    def update(self, array: Array) -> None:
        """Take the numbers of one sample into account; NaN and Inf are left out and counted."""
        sample = MinMax()
        sample.update(array)
        self.minmax.merge(sample)
        self.average.add(sample)
        if self.histogram is not None:
            self.histogram.update(array)

    def merge(self, other: Statistics) -> None:
        """Take into account what another has seen after this one; ValueError if one has a histogram and one not."""
        self.minmax.merge(other.minmax)
        self.average.merge(other.average)
        if self.histogram is not None and other.histogram is not None:
            self.histogram.merge(other.histogram)
        elif self.histogram is not other.histogram:
            raise ValueError("statistics with and without a histogram cannot be merged")

    def range(
        self, method: Method, *, percentile: float = PERCENTILE, bits: int = 8, symmetric: bool = False
    ) -> Range | None:
        """The range that a method finds, with zero in it; None if no finite number was seen.

        `bits` is for `entropy` and `mse`, `symmetric` for all that cut: the range is cut at one magnitude. The less far
        end stays what was seen, so that a range without negative numbers can be told. ValueError if the method needs a
        histogram and there is none.
        """
        whole = self.minmax.range()
        if method == "average":
            return self.average.range()
        if whole is None or method == "minmax" or whole.peak == 0:
            return whole
        if self.histogram is None:
            raise ValueError(f"{method} needs a histogram")
        bins = self.histogram.bins()
        if method == "percentile":
            return percentile_range(bins, percentile, symmetric=symmetric)
        find = entropy_range if method == "entropy" else mse_range
        return find(bins, bits, symmetric=symmetric)
