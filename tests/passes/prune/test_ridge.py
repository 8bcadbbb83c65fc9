"""The ridge of masked layers, which the data choose."""

from __future__ import annotations

import numpy as np

from onnxpress.ir import lower
from onnxpress.ir.analysis.linear import linear_layers
from onnxpress.passes.calibrate.halves import Halves
from onnxpress.passes.prune.masks.least_squares import adjust
from onnxpress.passes.prune.masks.problem import Problem
from onnxpress.passes.prune.masks.ridge import TRIED, best_ridge

from .perceptrons import perceptron

K, N = 24, 12
RANDOM = np.random.default_rng(0)
MIXED = RANDOM.standard_normal((K, K)) * np.geomspace(1, 0.1, K)
W = RANDOM.standard_normal((K, N)).astype(np.float32)
STAYS = np.abs(W) > 0.7


def halves(samples: int) -> Halves:
    _, layer, _ = linear_layers(lower(perceptron(inner=K)).graph)
    found = Halves(layer, layer)
    for _ in range(samples):
        x = RANDOM.standard_normal((4, K)) @ MIXED
        found.update(x, x)
    return found


def loss(seen: Halves, ridge: float) -> float:
    """Of weights adjusted under the mask, on what the samples come from."""
    problem = Problem.of([seen.whole()], W[None], ridge=ridge, centred=False, repaired=True)
    change = adjust(problem.best[0], problem.second[0], STAYS) - W
    return float(np.linalg.norm(MIXED @ change) ** 2)


def test_fewer_samples_are_trusted_less() -> None:
    few, many = (best_ridge([halves(samples)], W[None], STAYS[None], centred=False) for samples in (10, 1000))
    assert many < few


def test_unseen_samples_gain() -> None:
    seen = halves(10)
    ridge = best_ridge([seen], W[None], STAYS[None], centred=False)
    assert loss(seen, ridge) < loss(seen, TRIED[0])
    assert loss(seen, ridge) < 1.2 * min(loss(seen, other) for other in TRIED)


def test_one_sample_cannot_be_judged_by_another() -> None:
    seen = halves(1)
    assert best_ridge([seen], W[None], STAYS[None], centred=False) == max(1e-2, seen.whole().ridge())
