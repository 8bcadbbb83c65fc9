"""The arithmetic of levels, against plain numpy on whole arrays."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.passes.quantize.blocks import parts
from onnxpress.passes.quantize.levels import absolute_errors, decode, encode, fit, steps

DTYPES = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)


@st.composite
def weights(draw, dtypes=DTYPES):
    """Arrays of several ranks with channels of very different size, zeros among them."""
    dtype = draw(st.sampled_from(dtypes))
    shape = tuple(draw(st.lists(st.integers(1, 7), max_size=4)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    low, high = (-320, 300) if dtype is np.float64 else (-7, 4) if dtype is np.float16 else (-44, 37)
    exponent = rng.integers(low, high, shape[:1] or ()) if draw(st.booleans()) else np.zeros(shape[:1])
    scale = np.power(10.0, exponent).reshape(exponent.shape + (1,) * (len(shape) - exponent.ndim))
    kept = rng.random(shape) < draw(st.sampled_from([1.0, 0.5, 0.0]))
    return np.where(kept, rng.standard_normal(shape) * scale, 0).astype(dtype)


def arithmetic_of(weight):
    return np.dtype(np.float64 if weight.dtype == np.float64 else np.float32)


def all_axes(weight, data):
    return tuple(sorted(data.draw(st.sets(st.sampled_from(range(weight.ndim))) if weight.ndim else st.just(set()))))


@given(weights(), st.data())
def test_error_is_at_most_half_a_step(weight, data):
    made = steps(weight, all_axes(weight, data), arithmetic_of(weight))
    levels = encode(weight, made)
    assert levels.dtype == np.int8
    assert (np.abs(levels.astype(int)) <= 127).all()
    assert (levels[weight == 0] == 0).all()
    assert fit(made, weight.dtype)
    rounding = 2.0 ** -(8 if weight.dtype == ml_dtypes.bfloat16 else 11 if weight.dtype == np.float16 else 22)
    exact = weight.astype(np.float64)
    error = np.abs(exact - decode(levels, made, weight.dtype).astype(np.float64))
    smallest = float(ml_dtypes.finfo(weight.dtype).smallest_subnormal)
    allowed = made.array.astype(np.float64) / 2 * (1 + 1e-5) + rounding * np.abs(exact) + smallest
    assert (error <= allowed).all()


@given(weights(), st.data())
def test_the_largest_of_a_channel_gets_the_largest_level(weight, data):
    """Else a step could be smaller, and the error with it."""
    axes = all_axes(weight, data)
    made = steps(weight, axes, arithmetic_of(weight))
    peaks = np.abs(weight.astype(np.float64)).max(tuple(a for a in range(weight.ndim) if a not in axes), keepdims=True)
    levels = np.abs(encode(weight, made).astype(int)).max(
        tuple(a for a in range(weight.ndim) if a not in axes), keepdims=True
    )
    normal = peaks >= 127 * 2 * np.finfo(arithmetic_of(weight)).tiny
    assert (levels[normal] == 127).all()
    assert (made.array[peaks == 0] == 1).all()
    assert (made.array >= np.finfo(made.array.dtype).tiny).all()


@given(weights(), st.data())
def test_errors_in_parts_are_those_of_the_whole(weight, data):
    """Summing and looking for the largest part by part gives what one look at the whole array gives."""
    kept = all_axes(weight, data)
    summed = tuple(axis for axis in all_axes(weight, data) if axis not in kept)
    made = steps(weight, kept, arithmetic_of(weight))
    whole = np.abs(weight.astype(np.float64) - decode(encode(weight, made), made, weight.dtype).astype(np.float64))
    expected = whole.sum(summed, keepdims=True).max(
        tuple(axis for axis in range(weight.ndim) if axis not in kept), initial=0
    )
    found = absolute_errors(weight, made, summed, kept)
    assert found.shape == tuple(weight.shape[axis] for axis in kept)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(st.lists(st.integers(0, 9), max_size=4).map(tuple), st.integers(1, 50))
def test_parts_cover_everything_once(shape, limit):
    seen = np.zeros(shape, int)
    for part in parts(shape, limit):
        assert seen[part].size <= limit
        assert seen[part].flags.c_contiguous
        seen[part] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_shows(bad):
    weight = np.ones((4, 3), np.float32)
    weight[2, 1] = bad
    array = steps(weight, (0,), np.dtype(np.float32)).array
    assert np.isfinite(array).ravel().tolist() == [True, True, False, True]


def test_a_step_that_leads_out_of_range_shows():
    """127 times the step of the largest float rounds up to infinity."""
    weight = np.array([np.finfo(np.float32).max], np.float32)
    made = steps(weight, (), np.dtype(np.float32))
    with np.errstate(over="ignore"):
        assert fit(made, weight.dtype) == np.isfinite(made.array * np.float32(127)).all()
    assert not fit(steps(np.array([1e300]), (), np.dtype(np.float64)), np.dtype(np.float32))
