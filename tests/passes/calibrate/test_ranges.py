"""Observers of ranges: what they keep is what all numbers together say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.passes.calibrate import pieces
from onnxpress.passes.calibrate.ranges import MinMax, MovingAverage, Outside, Range

from .arrays import Array, arrays, finite


@given(st.lists(arrays(), max_size=4), st.integers(0, 4))
def test_minimum_and_maximum_are_those_of_all_numbers(seen: list[Array], split: int) -> None:
    first, second = MinMax(), MinMax()
    for array in seen[:split]:
        first.update(array)
    for array in seen[split:]:
        second.update(array)
    first.merge(second)
    numbers = finite(*seen)
    assert first.left_out == sum(array.size for array in seen) - numbers.size
    if not numbers.size:
        assert first.range() is None
        return
    assert (first.low, first.high) == (numbers.min(), numbers.max())
    assert first.range() == Range(min(numbers.min(), 0), max(numbers.max(), 0))


def test_arrays_of_several_pieces_with_holes() -> None:
    array = np.full(3 * pieces.PIECE + 5, np.nan, np.float32)
    array[0], array[pieces.PIECE], array[-1] = 2, np.inf, -7
    observer = MinMax()
    observer.update(array)
    assert (observer.low, observer.high, observer.left_out) == (-7, 2, array.size - 2)


def test_what_is_no_number_is_refused() -> None:
    for array in (np.array(["a"]), np.array(["a"], object), np.array([1j])):
        with pytest.raises(TypeError, match="has no range"):
            MinMax().update(array)


@given(
    st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10)), max_size=8),
    st.integers(0, 8),
    st.sampled_from([1.0, 0.99, 0.5]),
)
def test_the_average_weighs_samples_by_age_and_merges_in_order(
    samples: list[tuple[float, float]], split: int, momentum: float
) -> None:
    first, second = MovingAverage(momentum), MovingAverage(momentum)
    for numbers in samples[:split]:
        first.update(np.array(numbers))
    for numbers in samples[split:]:
        second.update(np.array(numbers))
    first.merge(second)
    found = first.range()
    if not samples:
        assert found is None
        return
    weights = [momentum ** (len(samples) - 1 - i) for i in range(len(samples))]
    low = np.average([min(numbers) for numbers in samples], weights=weights)
    high = np.average([max(numbers) for numbers in samples], weights=weights)
    assert found is not None
    np.testing.assert_allclose([found.low, found.high], [min(low, 0), max(high, 0)], rtol=1e-9, atol=1e-12)


def test_the_average_leaves_out_samples_without_numbers() -> None:
    average = MovingAverage()
    for array in (np.array([-1.0, 3.0]), np.array([np.nan]), np.zeros(0), np.array([-3.0, 5.0, np.inf])):
        average.update(array)
    assert (average.samples, average.left_out) == (2, 2)
    found = average.range()
    assert found is not None
    assert -3 < found.low < -2 < 4 < found.high < 5  # the later sample weighs a little more


def test_averages_of_other_momentum_do_not_merge() -> None:
    with pytest.raises(ValueError, match="momentum"):
        MovingAverage(0.9).merge(MovingAverage(0.5))


@given(st.lists(arrays(), max_size=3), st.floats(-100, 0), st.floats(0, 100), st.integers(0, 3))
def test_what_lies_outside_is_counted_exactly(seen: list[Array], low: float, high: float, split: int) -> None:
    first, second = Outside(Range(low, high)), Outside(Range(low, high))
    for array in seen[:split]:
        first.update(array)
    for array in seen[split:]:
        second.update(array)
    first.merge(second)
    numbers = np.concatenate([np.zeros(0), *(array.astype(np.float64).ravel() for array in seen)])
    numbers, nans = numbers[~np.isnan(numbers)], int(np.isnan(numbers).sum())
    below, above = int((numbers < low).sum()), int((numbers > high).sum())
    assert (first.below, first.above, first.count, first.left_out) == (below, above, numbers.size, nans)
    assert first.share == (below + above) / max(1, numbers.size)


def test_limits_are_not_rounded_to_the_type_of_the_numbers() -> None:
    limit = 0.1  # below the float32 next to it
    outside = Outside(Range(0, limit))
    outside.update(np.array([0.1], np.float32))
    assert (outside.above, outside.below) == (1, 0)
    with pytest.raises(ValueError, match="cannot be merged"):
        outside.merge(Outside(Range(0, 1)))
