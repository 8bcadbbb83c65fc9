"""Ranges of least divergence, against the divergence spelled out level by level."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxpress.passes.calibrate.entropy import divergence, entropy_range
from onnxpress.passes.calibrate.grid import Grid
from onnxpress.passes.calibrate.histogram import Bins, Histogram
from onnxpress.passes.calibrate.ranges import Range

from .arrays import Array, ordinary


def bins_of(array: Array) -> Bins:
    histogram = Histogram()
    histogram.update(array)
    return histogram.bins()


def spelled_out(bins: Bins, low: float, high: float, bits: int, symmetric: bool) -> float:
    """KL(P || Q), in loops."""
    if symmetric:
        scale = max(-low, high) / (2 ** (bits - 1) - 1)
        least, most = -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1
    else:
        scale = (high - low) / (2**bits - 1)
        least = round(low / scale)
        most = least + 2**bits - 1
    rows = [((a + b) / 2, int(n)) for a, b, n in zip(bins.left.tolist(), bins.right.tolist(), bins.counts, strict=True)]
    inside = [(x, n) for x, n in rows if low <= x <= high]
    p = [float(n) for _, n in inside]
    p[0] += sum(n for x, n in rows if x < low)
    p[-1] += sum(n for x, n in rows if x > high)
    members: dict[int, list[int]] = {}
    for index, (x, _) in enumerate(inside):
        members.setdefault(min(max(round(x / scale), least), most), []).append(index)
    q = [0.0] * len(p)
    for indices in members.values():
        shared = [i for i in indices if p[i] > 0]
        for i in shared:
            q[i] = sum(inside[j][1] for j in indices) / len(shared) or 1.0
    return sum(a / sum(p) * math.log(a / sum(p) * sum(q) / b) for a, b in zip(p, q, strict=True) if a > 0)


@given(ordinary(500), st.sampled_from([4, 8]), st.booleans(), st.floats(0.1, 1), st.floats(0.1, 1))
def test_the_divergence_is_that_of_the_definition(array: Array, bits: int, symmetric: bool, a: float, b: float) -> None:
    bins = bins_of(array)
    low, high = a * bins.low, b * bins.high
    grid = Grid.of(low, high, bits, symmetric=symmetric)
    middles = (bins.left + bins.right) / 2
    if not bins.counts[(middles >= low) & (middles <= high)].any():
        assert divergence(bins, low, high, grid) == np.inf
        return
    expected = spelled_out(bins, low, high, bits, symmetric)
    np.testing.assert_allclose(divergence(bins, low, high, grid), expected, rtol=1e-6, atol=1e-9)


@settings(deadline=None)
@given(ordinary(), st.sampled_from([4, 8]), st.booleans())
def test_the_range_is_better_than_the_whole_and_no_wider(array: Array, bits: int, symmetric: bool) -> None:
    bins = bins_of(array)
    found = entropy_range(bins, bits, symmetric=symmetric)
    low, high = (math.ldexp(x, -bins.exponent) for x in (found.low, found.high))
    assert bins.low <= low <= 0 <= high <= bins.high
    here = divergence(bins, low, high, Grid.of(low, high, bits, symmetric=symmetric))
    whole = divergence(bins, bins.low, bins.high, Grid.of(bins.low, bins.high, bits, symmetric=symmetric))
    assert here <= whole


def test_even_numbers_keep_their_range_and_an_outlier_is_cut_off() -> None:
    even = np.linspace(-1, 2, 100_000, dtype=np.float32)
    assert entropy_range(bins_of(even), 8) == Range(-1, 2)
    rng = np.random.default_rng(0)
    bulk = rng.normal(size=100_000).astype(np.float32)
    for symmetric in (False, True):
        found = entropy_range(bins_of(np.append(bulk, np.float32(40))), 8, symmetric=symmetric)
        assert 3 < found.high < 10
        assert -6 < found.low < -3


@given(ordinary(), st.booleans(), st.integers(-60, 60))
def test_powers_of_two_scale_the_range(array: Array, symmetric: bool, power: int) -> None:
    one = entropy_range(bins_of(array), 8, symmetric=symmetric)
    other = entropy_range(bins_of(np.ldexp(array.astype(np.float64), power)), 8, symmetric=symmetric)
    assert other == Range(math.ldexp(one.low, power), math.ldexp(one.high, power))
