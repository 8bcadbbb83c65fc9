"""Shrinkage: how far second moments of a sample are to be trusted (Ledoit and Wolf 2004).

Of n rows of k numbers with second moments S = E[x'x], the estimate (1 - rho) S + rho mu I, with mu the mean of the
diagonal, is nearest to the truth in expectation for rho = b / d, where d = |S - mu I|^2 and b = (E|x|^4 - |S|^2) / n.
Up to a factor that is S + r mu I with r = rho / (1 - rho), elsewhere called a ridge.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
MOST = 0.5
"""The estimate is never further than half-way from the sample."""


class Shrinkage:
    """The sum of |x|^4 over rows in `groups`."""

    def __init__(self, groups: int) -> None:
        self._fourth: Float64 = np.zeros(groups)

    def update(self, rows: Float64) -> None:
        """Take rows `[groups, r, k]` into account."""
        self._fourth += (np.einsum("grk,grk->gr", rows, rows) ** 2).sum(axis=1)

    def merge(self, other: Shrinkage) -> None:
        """Take over what another one has seen."""
        self._fourth += other._fourth

    def ridge(self, gram: Float64, count: int) -> float:
        """r for moments E[x'x] `[groups, k, k]` of so many rows; the same for all groups."""
        rows = max(1, count)
        squared = np.einsum("gkl,gkl->g", gram, gram)
        spread = float((squared - np.einsum("gkk->g", gram) ** 2 / gram.shape[1]).sum())
        noise = float(np.maximum(self._fourth / rows - squared, 0).sum()) / rows
        rho = MOST if noise >= MOST * spread else noise / spread
        return rho / (1 - rho)
