"""The histogram: a function of the numbers alone, however they came, and of fixed size."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.passes.calibrate import pieces
from onnxpress.passes.calibrate.histogram import BINS, Histogram
from onnxpress.passes.calibrate.ranges import Range

from .arrays import Array, arrays, finite


def of(*seen: Array) -> Histogram:
    made = Histogram()
    for array in seen:
        made.update(array)
    return made


def state(histogram: Histogram) -> tuple[object, ...]:
    h = histogram
    return h.low, h.high, h.zeros, h.left_out, h.exponent, h.first, h.counts.tolist()


@given(st.lists(arrays(), max_size=4), st.integers(0, 4), st.randoms())
def test_merging_and_order_make_no_difference(seen: list[Array], split: int, random: object) -> None:
    whole = of(*seen)
    merged = of(*seen[:split])
    merged.merge(of(*seen[split:]))
    assert state(merged) == state(whole)
    assert state(of(*sorted(seen, key=lambda array: random.random()))) == state(whole)  # type: ignore[attr-defined]


@given(st.lists(arrays(), max_size=3))
def test_every_number_is_counted_in_its_bin(seen: list[Array]) -> None:
    histogram, numbers = of(*seen), finite(*seen)
    assert histogram.count == numbers.size
    assert histogram.zeros == int((numbers == 0).sum())
    assert histogram.left_out == sum(array.size for array in seen) - numbers.size
    assert len(histogram.counts) <= BINS
    places = [math.trunc(math.ldexp(x, -histogram.exponent)) - (x < 0) for x in numbers.tolist() if x]
    expected = np.bincount(np.array(places, int) - histogram.first, minlength=len(histogram.counts))
    assert histogram.counts.tolist() == expected.tolist()
    if numbers.size:
        assert histogram.range() == Range(min(numbers.min(), 0), max(numbers.max(), 0))


@given(arrays())
def test_bins_lie_where_their_numbers_do_and_are_as_narrow_as_can_be(array: Array) -> None:
    histogram, numbers = of(array), finite(array)
    numbers = numbers[numbers != 0]
    bins = histogram.bins()
    unit = np.ldexp(numbers, -histogram.exponent)
    for left, right, count in zip(bins.left, bins.right, bins.counts, strict=True):
        assert left <= right
        assert int(((unit >= left) & (unit <= right)).sum()) >= count
    if np.abs(numbers).max(initial=0) > 1e-290:
        halved = np.trunc(2 * unit) - (unit < 0)
        assert max(halved.max() + 1, 0) - min(halved.min(), 0) > BINS


@given(arrays())
def test_the_negative_of_an_array_has_the_mirrored_histogram(array: Array) -> None:
    numbers = finite(array)
    one, other = of(numbers), of(-numbers)
    assert one.counts.tolist() == other.counts[::-1].tolist()
    assert (one.exponent, one.zeros) == (other.exponent, other.zeros)


def test_ranges_that_grow_from_denormal_to_huge() -> None:
    tiny, huge = np.float64(5e-324), np.finfo(np.float64).max
    numbers = [tiny, -tiny, 1e-300, np.float32(1e-45), 1.0, -huge, huge]
    histogram = of(*(np.array([x]) for x in numbers))
    assert state(histogram) == state(of(np.array(numbers)))
    assert histogram.count == len(numbers)
    assert histogram.range() == Range(-huge, huge)


def test_arrays_of_several_pieces() -> None:
    array = np.random.default_rng(0).normal(size=(3, pieces.PIECE)).astype(np.float32)
    array[2] *= 1000
    assert state(of(array)) == state(of(*array))
    assert of(array).count == array.size


def test_nothing_and_zeros_have_no_bins() -> None:
    assert Histogram().range() is None
    assert not len(Histogram().bins().counts)
    histogram = of(np.zeros(3), np.array([-0.0]))
    assert (histogram.zeros, histogram.range()) == (4, Range(0, 0))
    assert not len(histogram.bins().counts)
