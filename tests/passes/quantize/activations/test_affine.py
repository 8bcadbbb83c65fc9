"""Parameters of activations: zero is exact, a step is off by half at most, and what is clipped is counted exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.passes.calibrate.ranges import Range
from onnxpress.passes.quantize.static.affine import TYPES, affine
from onnxpress.passes.quantize.static.ledger import Coding

ENDS = st.floats(-(2.0**90), 2.0**90, width=32)
DTYPES = st.sampled_from(list(TYPES.values()))


def ranges():
    return st.tuples(ENDS, ENDS).map(lambda pair: Range(min(pair), max(pair)))


@given(ranges(), DTYPES, st.booleans())
def test_zero_is_exact(within, dtype, symmetric):
    found = affine(within, dtype, symmetric=symmetric)
    assert found.rounded(np.zeros(3, np.float32)).tolist() == [0, 0, 0]
    assert np.iinfo(dtype).min <= found.zero <= np.iinfo(dtype).max


@given(ranges(), DTYPES, st.booleans(), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_inside_the_range_a_number_is_off_by_half_a_step(within, dtype, symmetric, places):
    found = affine(within, dtype, symmetric=symmetric)
    low, high = max(found.low, min(0.0, within.low)), min(found.high, max(0.0, within.high))
    x = np.clip(np.float32(low) + np.array(places, np.float32) * np.float32(high - low), found.low, found.high)
    x = x.astype(np.float32)
    error = np.abs(found.rounded(x).astype(np.float64) - x)
    assert (error <= found.scale * (0.5 + 2.0**-5) + 4 * np.spacing(np.abs(x)) + 1e-44).all()


@given(ranges(), DTYPES)
def test_the_range_is_covered_but_for_the_rounding_of_the_zero_point(within, dtype):
    found = affine(within, dtype, symmetric=False)
    room = found.scale * 0.51 + 1e-5 * max(abs(within.low), abs(within.high))
    assert found.low <= min(0.0, within.low) + room
    assert found.high >= max(0.0, within.high) - room


def test_symmetric_parameters_have_no_zero_point():
    assert affine(Range(-1.0, 3.0), np.dtype(np.int8), symmetric=True).zero == 0
    assert affine(Range(-1.0, 3.0), np.dtype(np.int8), symmetric=True).scale == pytest.approx(3 / 127)
    assert affine(Range(-1.0, 3.0), np.dtype(np.uint8), symmetric=True).zero == 128


@pytest.mark.parametrize("within", [Range(0, 0), Range(1e-44, 1e-44), Range(5, 5), Range(-2, -2), Range(-1e-40, 0)])
def test_constants_and_denormal_ranges_have_a_normal_scale(within):
    found = affine(within, np.dtype(np.uint8), symmetric=False)
    assert found.scale >= np.finfo(np.float32).tiny
    assert np.isfinite(found.rounded(np.float32([within.low]))).all()


def test_a_positive_range_has_the_least_level_for_zero():
    """By which runtimes see that a Relu in front is redundant."""
    assert affine(Range(0.5, 3.0), np.dtype(np.uint8), symmetric=False).zero == 0
    assert affine(Range(0.5, 3.0), np.dtype(np.int8), symmetric=False).zero == -128


def test_saturation_is_counted_exactly():
    coding = Coding(affine(Range(0.0, 2.55), np.dtype(np.uint8), symmetric=False))
    coding.update(np.array([0, 1, 2.55, 2.556, 2.6, -0.006, -0.004, np.nan, np.inf]))
    coding.update(np.array([3.0]))
    assert (coding.count, coding.outside) == (8, 4)
    assert coding.saturation == 4 / 8


def test_sqnr_is_the_ratio_of_powers_in_decibels():
    coding = Coding(affine(Range(-1.28, 1.27), np.dtype(np.uint8), symmetric=False))
    x = np.float64([0.004, -0.004, 1.004])
    coding.update(x)
    noise = np.square(np.float64([0.004, -0.004, 0.004])).sum()
    assert coding.sqnr == pytest.approx(10 * np.log10(np.square(x).sum() / noise), rel=1e-3)
