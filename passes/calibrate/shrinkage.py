"""Shrinkage: how far second moments of a sample are to be trusted (Ledoit and Wolf 2004).

Of n rows of k numbers with covariance S, the estimate (1 - rho) S + rho mu I, with mu the mean of the diagonal, is
nearest to the truth in expectation for rho = b / d, where d = |S - mu I|^2 and b = (E|x|^4 - |S|^2) / n, x without its
mean. Up to a factor that is S + r mu I with r = rho / (1 - rho), elsewhere called a ridge. E|x - m|^4 follows from sums
over x that are taken once: with q = |x|^2 those of q^2 and q x.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
MOST = 0.5
"""The estimate is never further than half-way from the sample."""


class Shrinkage:
    """The sums for rows in `groups` of `k` numbers."""

    def __init__(self, groups: int, k: int) -> None:
        self._fourth: Float64 = np.zeros(groups)
        self._third: Float64 = np.zeros((groups, k))

    def update(self, rows: Float64) -> None:
        """Take rows `[groups, r, k]` into account."""
        squares = np.einsum("grk,grk->gr", rows, rows)
        self._fourth += (squares**2).sum(axis=1)
        self._third += np.einsum("gr,grk->gk", squares, rows)

    def merge(self, other: Shrinkage) -> None:
        """Take over what another one has seen."""
        self._fourth += other._fourth
        self._third += other._third

    def ridge(self, gram: Float64, mean: Float64, count: int) -> float:
        """r for moments E[x'x] `[groups, k, k]` of so many rows, of x - `mean`; the same for all groups."""
        k = gram.shape[1]
        size = np.einsum("gk,gk->g", mean, mean)
        along = np.einsum("gk,gkl,gl->g", mean, gram, mean)
        trace = np.einsum("gkk->g", gram)
        fourth = self._fourth / count + 4 * along + 2 * trace * size - 3 * size**2
        fourth = fourth - 4 * np.einsum("gk,gk->g", self._third, mean) / count
        covariance = gram - mean[:, :, None] * mean[:, None, :]
        squared = np.einsum("gkl,gkl->g", covariance, covariance)
        spread = float((squared - (trace - size) ** 2 / k).sum())
        noise = float(np.maximum(fourth - squared, 0).sum()) / count
        rho = MOST if noise >= MOST * spread else noise / spread
        return rho / (1 - rho)
