"""Means by channel, against those of all numbers at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.passes.calibrate.means import Means


@given(st.integers(0, 99), st.integers(-3, 2), st.integers(1, 4), st.integers(0, 4), st.booleans())
def test_means_are_those_of_all_finite_numbers(seed: int, axis: int, samples: int, split: int, holes: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = [3, 4, 5]
    seen = [rng.normal(1, 2, shape).astype(np.float32) for _ in range(samples)]
    if holes:
        for array in seen:
            array[rng.random(shape) < 0.2] = rng.choice([np.nan, np.inf, -np.inf])
    first, second = Means(axis), Means(axis)
    for array in seen[:split]:
        first.update(array)
    for array in seen[split:]:
        second.update(array)
    first.merge(second)
    whole = np.stack([np.moveaxis(array, axis, 0).reshape(shape[axis], -1) for array in seen]).astype(np.float64)
    finite = np.isfinite(whole)
    expected = whole.sum((0, 2), where=finite) / np.maximum(1, finite.sum((0, 2)))
    np.testing.assert_allclose(first.mean, expected, rtol=1e-12, atol=1e-14)
    assert first.left_out == int((~finite).sum())


def test_finite_numbers_beyond_the_range_of_their_type_have_a_mean() -> None:
    means = Means(-1)
    means.update(np.full((100, 2), 60000, np.float16))
    assert means.mean.tolist() == [60000, 60000]
    assert means.left_out == 0


def test_samples_of_other_channels_are_refused() -> None:
    means = Means(1)
    assert means.mean.size == 0
    means.update(np.ones((1, 2)))
    with pytest.raises(ValueError, match="3 channels after 2"):
        means.update(np.ones((1, 3)))
