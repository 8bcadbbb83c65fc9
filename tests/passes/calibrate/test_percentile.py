"""Percentile ranges against the sorted numbers themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.passes.calibrate.histogram import Histogram
from onnxpress.passes.calibrate.percentile import percentile_range
from onnxpress.passes.calibrate.ranges import Range

from .arrays import Array, ordinary

PERCENTILES = st.one_of(st.sampled_from([50.0, 99.0, 99.9, 100.0]), st.floats(50, 100))


def found(array: Array, percentile: float, *, symmetric: bool = False) -> tuple[Range, float]:
    """The range, and the width of a bin."""
    histogram = Histogram()
    histogram.update(array)
    return percentile_range(histogram.bins(), percentile, symmetric=symmetric), math.ldexp(1, histogram.exponent)


def end(magnitudes: Array, allowed: int) -> float:
    """The least end beyond which at most so many lie."""
    return float(np.sort(np.append(magnitudes, 0))[::-1][min(allowed, magnitudes.size)])


@given(ordinary(), PERCENTILES)
def test_affine_ends_are_those_of_the_sorted_numbers(array: Array, percentile: float) -> None:
    within, width = found(array, percentile)
    numbers = array[array != 0].astype(np.float64)
    allowed = int((100 - percentile) / 100 / 2 * numbers.size)
    assert (numbers < within.low).sum() <= allowed
    assert (numbers > within.high).sum() <= allowed
    assert end(-numbers[numbers < 0], allowed) <= -within.low <= end(-numbers[numbers < 0], allowed) + width
    assert end(numbers[numbers > 0], allowed) <= within.high <= end(numbers[numbers > 0], allowed) + width


@given(ordinary(), PERCENTILES)
def test_the_symmetric_end_is_that_of_the_sorted_magnitudes(array: Array, percentile: float) -> None:
    within, width = found(array, percentile, symmetric=True)
    numbers = array[array != 0].astype(np.float64)
    allowed = int((100 - percentile) / 100 * numbers.size)
    assert (np.abs(numbers) > within.peak).sum() <= allowed
    assert end(np.abs(numbers), allowed) <= within.peak <= end(np.abs(numbers), allowed) + width
    assert within == Range(max(-within.peak, min(numbers.min(), 0)), min(within.peak, max(numbers.max(), 0)))


@given(ordinary(), PERCENTILES, PERCENTILES, st.booleans())
def test_a_higher_percentile_has_no_narrower_range(array: Array, one: float, other: float, symmetric: bool) -> None:
    narrow, _ = found(array, min(one, other), symmetric=symmetric)
    wide, _ = found(array, max(one, other), symmetric=symmetric)
    assert wide.low <= narrow.low <= 0 <= narrow.high <= wide.high


@pytest.mark.parametrize("symmetric", [False, True])
@given(array=ordinary())
def test_all_of_the_numbers_are_those_from_the_least_to_the_greatest(array: Array, symmetric: bool) -> None:
    within, _ = found(array, 100, symmetric=symmetric)
    assert within == Range(min(float(array.min()), 0), max(float(array.max()), 0))


def test_zeros_do_not_count() -> None:
    sparse = np.zeros(100_000, np.float32)
    sparse[:4] = 1, 2, 3, -1
    assert found(sparse, 99)[0] == Range(-1, 3)
