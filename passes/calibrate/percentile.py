"""Percentile: the range that leaves out a given share of the numbers.

Of N numbers other than zero at most floor((1 - p) N) lie outside, p being the percentile: half of them below and half
above, or all of them by magnitude (symmetric). Exact zeros do not count, as every range holds them: otherwise the
range of a sparse value would be its zeros. The ends are edges of bins, so a range is at most a bin wider at each end
than it must be; with p = 100 it is that of the least and the greatest number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .histogram import Bins
from .ranges import Range


def percentile_range(bins: Bins, percentile: float, *, symmetric: bool = False) -> Range:
    """The range that holds `percentile` (50 to 100) percent of the numbers; symmetric: cut at one magnitude."""
    total = int(bins.counts.sum())
    share = (100 - percentile) / 100
    if symmetric:
        peak = _cut(_magnitudes(bins), int(share * total), max(-bins.low, bins.high))
        return bins.range(max(-peak, bins.low), min(peak, bins.high))
    allowed = int(share / 2 * total)
    below = bins.counts[bins.left < 0][::-1]
    above = bins.counts[bins.right > 0]
    return bins.range(-_cut(below, allowed, -bins.low), _cut(above, allowed, bins.high))


def _cut(counts: NDArray[np.int64], allowed: int, end: float) -> float:
    """The least edge of the bins counted from zero outwards beyond which at most so many lie; at most `end`."""
    beyond = np.cumsum(counts[::-1])
    return min(end, float(len(counts) - np.searchsorted(beyond, allowed, side="right")))


def _magnitudes(bins: Bins) -> NDArray[np.int64]:
    """The counts by magnitude, from zero outwards."""
    below, above = bins.counts[bins.left < 0][::-1], bins.counts[bins.right > 0]
    both = np.zeros(max(len(below), len(above)), np.int64)
    both[: len(below)] += below
    both[: len(above)] += above
    return both
