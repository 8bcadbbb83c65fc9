"""Statistics as a few arrays: a row for each value that was observed, the bins of all histograms end to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .histogram import Histogram
from .ranges import MinMax, MovingAverage
from .statistics import Statistics

Array = np.ndarray[Any, np.dtype[Any]]


def pack(entries: Mapping[str, Statistics | None]) -> dict[str, Array]:
    """Arrays that hold `entries`; ValueError if statistics have no histogram."""
    there = [each for each in entries.values() if each is not None]
    histograms = [each.histogram for each in there if each.histogram is not None]
    if len(histograms) != len(there):
        raise ValueError("statistics without a histogram are not kept")
    numbers = [(s.minmax.low, s.minmax.high, s.average.momentum, s.average.low_sum, s.average.high_sum) for s in there]
    whole = [
        (s.minmax.left_out, s.average.samples, h.zeros, h.exponent, h.first, len(h.counts))
        for s, h in zip(there, histograms, strict=True)
    ]
    return {
        "names": np.array(list(entries), np.str_),
        "observed": np.array([each is not None for each in entries.values()], np.bool_),
        "numbers": np.array(numbers, np.float64).reshape(-1, 5),
        "whole": np.array(whole, np.int64).reshape(-1, 6),
        "counts": np.concatenate([np.zeros(0, np.int64), *(h.counts for h in histograms)]),
    }


def unpack(arrays: Mapping[str, Array]) -> dict[str, Statistics | None]:
    """The inverse of `pack`; KeyError or ValueError if the arrays are not what it gives."""
    names, observed = arrays["names"], arrays["observed"]
    numbers, whole, counts = arrays["numbers"], arrays["whole"], arrays["counts"]
    ends = np.cumsum(whole[:, 5])
    rows = len(whole)
    if len(names) != len(observed) or int(observed.sum()) != rows or len(counts) != (ends[-1] if rows else 0):
        raise ValueError("the arrays do not belong together")
    bins = np.split(counts, ends[:-1]) if rows else []
    found = [_statistics(*row) for row in zip(numbers.tolist(), whole.tolist(), bins, strict=True)]
    entries: dict[str, Statistics | None] = dict.fromkeys(names.tolist())
    entries.update(zip(names[observed].tolist(), found, strict=True))
    return entries


def _statistics(numbers: list[float], whole: list[int], counts: Array) -> Statistics:
    low, high, momentum, low_sum, high_sum = numbers
    left_out, samples, zeros, exponent, first, _ = whole
    made = Statistics()
    made.minmax = MinMax(low, high, left_out)
    made.average = MovingAverage(momentum, samples, low_sum, high_sum, left_out)
    made.histogram = Histogram(low, high, zeros, left_out, exponent, first, counts)
    return made
