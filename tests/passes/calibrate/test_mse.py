"""Ranges of least squared error, against errors measured on the numbers themselves."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.passes.calibrate.grid import Grid
from onnxpress.passes.calibrate.histogram import Bins, Histogram
from onnxpress.passes.calibrate.mse import mse_range
from onnxpress.passes.calibrate.ranges import Range

from .arrays import Array, ordinary

BITS = st.sampled_from([2, 4, 8, 16])


def histogram_of(array: Array) -> Histogram:
    made = Histogram()
    made.update(array)
    return made


def measured(array: Array, within: Range, bits: int, symmetric: bool) -> float:
    """The mean squared error of a quantizer, spelled out."""
    x = array.astype(np.float64)
    if symmetric:
        least, most = -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1
        scale, zero = max(-within.low, within.high) / most, 0
    else:
        least, most = 0, 2**bits - 1
        scale = (within.high - within.low) / most
        zero = -round(within.low / scale)
    levels = np.clip(np.rint(x / scale) + zero, least, most)
    return float(np.square(x - scale * (levels - zero)).mean())


@given(st.integers(0, 99), BITS, st.booleans(), st.floats(0.1, 1), st.floats(0.1, 1))
def test_the_error_of_bins_is_that_of_numbers_spread_over_them(
    seed: int, bits: int, symmetric: bool, a: float, b: float
) -> None:
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.uniform(-1000, 1000, 21))
    counts = rng.integers(0, 50, 20)
    bins = Bins(0, edges[:-1], edges[1:], counts, float(edges[0]), float(edges[-1]))
    within = Range(min(a * edges[0], 0), max(b * edges[-1], 0))
    spread = (np.arange(20_000) + 0.5) / 20_000
    each = [measured(p + (q - p) * spread, within, bits, symmetric) for p, q in pairwise(edges)]
    grid = Grid.of(within.low, within.high, bits, symmetric=symmetric)
    np.testing.assert_allclose(grid.squared_error(bins), counts @ each, rtol=1e-2 if bits == 16 else 1e-4)


@settings(deadline=None)
@given(ordinary(), BITS, st.booleans())
def test_no_range_of_a_dense_grid_errs_noticeably_less(array: Array, bits: int, symmetric: bool) -> None:
    histogram = histogram_of(array)
    found = mse_range(histogram.bins(), bits, symmetric=symmetric)
    whole = histogram.range()
    assert whole is not None
    factors = np.geomspace(1 / 64, 1, 40)
    choices = [
        Range(max(whole.low, -f * whole.peak), min(whole.high, f * whole.peak)) if symmetric
        else Range(f * whole.low, g * whole.high)
        for f in factors for g in (factors if not symmetric and whole.low < 0 < whole.high else [f])
    ]  # fmt: skip
    least = min(measured(array, choice, bits, symmetric) for choice in choices)
    assert measured(array, found, bits, symmetric) <= 1.05 * least
    assert whole.low <= found.low <= 0 <= found.high <= whole.high


@given(ordinary(), st.booleans(), st.integers(-60, 60))
def test_powers_of_two_scale_the_range(array: Array, symmetric: bool, power: int) -> None:
    one = mse_range(histogram_of(array).bins(), 8, symmetric=symmetric)
    other = mse_range(histogram_of(np.ldexp(array.astype(np.float64), power)).bins(), 8, symmetric=symmetric)
    assert other == Range(math.ldexp(one.low, power), math.ldexp(one.high, power))


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_constant_is_represented(symmetric: bool) -> None:
    for constant in (3.0, -0.7):
        array = np.full(100, constant, np.float32)
        found = mse_range(histogram_of(array).bins(), 8, symmetric=symmetric)
        assert measured(array, found, 8, symmetric) < 1e-12
