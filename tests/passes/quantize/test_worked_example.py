"""The step-size arithmetic on numbers that can be followed by hand; the page of the pass shows the same."""

import numpy as np

from onnxpress.passes.quantize.levels import decode, encode, steps

W = np.array([0.5, -1.27, 0.004, 0.006, 0.0, 1.0], np.float32)
LEVELS = [50, -127, 0, 1, 0, 100]
DECODED = [0.5, -1.27, 0.0, 0.01, 0.0, 1.0]


def test_symmetric_scale_is_the_peak_over_127():
    np.testing.assert_allclose(steps(W, (), np.dtype(np.float32)).array, [0.01], rtol=1e-6)


def test_a_weight_becomes_the_nearest_multiple_of_the_step():
    grid = steps(W, (), np.dtype(np.float32))
    levels = encode(W, grid)
    assert levels.tolist() == LEVELS
    np.testing.assert_allclose(decode(levels, grid, W.dtype), DECODED, rtol=1e-6)


def test_the_error_is_at_most_half_a_step_and_its_rmse_is_known():
    grid = steps(W, (), np.dtype(np.float32))
    error = W - decode(encode(W, grid), grid, W.dtype)
    assert np.abs(error).max() <= 0.005
    np.testing.assert_allclose(np.sqrt(np.mean(error**2)), 0.004 / np.sqrt(3), rtol=1e-4)


def test_the_rmse_of_many_weights_is_a_step_over_the_root_of_12():
    weight = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    grid = steps(weight, (), np.dtype(np.float32))
    error = weight - decode(encode(weight, grid), grid, weight.dtype)
    np.testing.assert_allclose(np.sqrt(np.mean(error**2)), grid.array[0] / np.sqrt(12), rtol=0.01)
