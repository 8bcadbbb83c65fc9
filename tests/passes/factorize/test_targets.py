"""Refitting makes up for a changed input as far as samples can tell, and leaves weights alone where they cannot."""

from __future__ import annotations

import numpy as np
from onnx import helper

from onnxpress.ir import lower
from onnxpress.ir.analysis.linear import Linear, linear_layers
from onnxpress.passes.calibrate.halves import Halves

from .layers import model

K, N = 12, 5
RANDOM = np.random.default_rng(0)
W = RANDOM.standard_normal((K, N)).astype(np.float32)


def layer() -> Linear:
    (found,) = linear_layers(lower(model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": W}, [4, K], 2)).graph)
    return found


def halves(mixed: np.ndarray, noise: float, samples: int) -> Halves:
    """Moments of x and of x~ = x M + noise."""
    found = Halves(layer(), layer())
    for _ in range(samples):
        x = RANDOM.standard_normal((20, K))
        found.update(x, x @ mixed + noise * RANDOM.standard_normal(x.shape))
    return found


def test_what_can_be_made_up_for_is() -> None:
    mixed = np.eye(K) + 0.2 * RANDOM.standard_normal((K, K))
    seen = halves(mixed, 0.1, 200)
    ridge = seen.best_ridge(W[None], seen.whole().ridge())
    assert ridge is not None
    wanted, _ = seen.whole().solve(W[None], ridge=ridge, bias=False)
    assert np.linalg.norm(mixed @ wanted[0] - W) < 0.1 * np.linalg.norm(mixed @ W - W)


def test_what_few_samples_cannot_tell_is_left_alone() -> None:
    seen = halves(np.eye(K), 0.05, 2)
    assert seen.best_ridge(W[None], 1e-4) is None
    assert halves(np.eye(K), 0.0, 1).best_ridge(W[None], 1e-4) is None


def test_the_halves_are_every_other_sample_and_the_whole_is_all() -> None:
    seen = halves(np.eye(K), 0.3, 5)
    assert [part.count for part in seen.parts] == [60, 40]
    assert seen.whole().count == 100
    np.testing.assert_allclose(seen.whole().cross, sum(part.cross for part in seen.parts))
