"""The least-squares problem of one layer: what its weights should be, whatever was done to the layers before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from ...calibrate.refit import Refit
from .least_squares import Float64


@dataclass(frozen=True)
class Problem:
    """For every group: the loss `tr((V - best)' second (V - best))` of weights V `[groups, k, n]`.

    `second` `[groups, k, k]` is the covariance of the inputs as they are now if a bias takes the means, else the
    second moment, with a ridge on its diagonal. `size` is the root mean square of each input, `[groups, k]`.
    """

    second: Float64
    best: Float64
    size: Float64
    output: Float64
    """Mean of the outputs before, `[groups, n]`."""
    mean: Float64
    """Mean of the inputs as they are now, `[groups, k]`."""

    @classmethod
    def of(cls, fits: Sequence[Refit], weights: Float64, *, ridge: float, centred: bool, repaired: bool) -> Problem:
        """From the moments of all layers that read the same weights; not `repaired`, `best` is what they are."""
        count = max(1, sum(fit.count for fit in fits))
        mean_old = np.asarray(sum(fit.first_old for fit in fits)) / count
        mean_new = np.asarray(sum(fit.first_new for fit in fits)) / count
        raw = np.asarray(sum(fit.second for fit in fits)) / count
        cross = np.asarray(sum(fit.cross for fit in fits)) / count
        size = np.sqrt(np.einsum("gkk->gk", raw))
        second = raw - mean_new[:, :, None] * mean_new[:, None, :] if centred else raw
        cross = cross - mean_new[:, :, None] * mean_old[:, None, :] if centred else cross
        k = second.shape[1]
        scale = np.einsum("gkk->g", second) / max(1, k)
        pull = np.where(scale > 0, ridge * scale, 1.0)[:, None, None] * np.eye(k)
        second = second + pull
        best = weights
        if repaired:
            target = cross @ weights + pull @ weights
            best = np.stack([linalg.solve(c, t, assume_a="pos") for c, t in zip(second, target, strict=True)])
        output = np.einsum("gk,gkn->gn", mean_old, weights)
        return cls(second, best, size, output, mean_new)

    def shift(self, weights: Float64) -> Float64:
        """What the bias takes of the means with new weights `[groups, k, n]`; of shape `[groups, n]`."""
        return np.asarray(self.output - np.einsum("gk,gkn->gn", self.mean, weights))
