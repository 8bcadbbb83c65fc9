"""The arithmetic on numbers that can be followed by hand: those of the documentation (docs/quantization.md)."""

import numpy as np
import pytest

from onnxpress.passes.quantize.levels import decode, encode, steps
from onnxpress.passes.quantize.recipe import Recipe

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


EXAMPLES = {
    "symmetric": (Recipe("int8"), [50, -127, 0, 1, 0, 100], DECODED, 0.004, 0.0023),
    "minimum and maximum": (
        Recipe("uint8", symmetric=False),
        [199, 0, 143, 144, 143, 255],
        [0.4985, -1.2730, 0, 0.0089, 0, 0.9970],
        0.004,
        0.0027,
    ),
    "logarithmic": (
        Recipe("int4", levels="log2"),
        [13, 0, 7, 7, 7, 14],
        [0.635, -1.27, 0, 0, 0, 1.27],
        0.27,
        0.1233,
    ),
    "k-means": (Recipe("int2", levels="kmeans"), [2, 0, 1, 1, 1, 3], [0.5, -1.27, 0, 0, 0, 1], 0.006, 0.0029),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_documentation(name):
    recipe, codes, decoded, largest, rmse = EXAMPLES[name]
    grid = recipe.grid(W, (), np.dtype(np.float32))
    assert encode(W, grid).tolist() == codes
    found = decode(encode(W, grid), grid, W.dtype)
    np.testing.assert_allclose(found, decoded, atol=5e-5)
    np.testing.assert_allclose(np.abs(W - found).max(), largest, atol=5e-5)
    np.testing.assert_allclose(np.sqrt(np.mean((W - found) ** 2)), rmse, atol=5e-5)


def test_any_step_has_a_bound_of_its_half():
    found = np.rint(W / 0.05) * 0.05
    np.testing.assert_allclose(found, [0.5, -1.25, 0, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.mean((W - found) ** 2)), 0.0087, atol=5e-5)
    assert np.abs(W - found).max() <= 0.05 / 2
