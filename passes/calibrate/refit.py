"""Refit: new weights for a layer whose input has changed, so that its output is nearest to what it was.

Something before a layer was pruned, quantized or factorized; of its input x (k numbers) x~ (k~ numbers, perhaps fewer)
is left. The weights that minimise E|x~ W~ + b~ - x W - b|^2 follow from moments alone, by ridge regression:

    W~ = (C~ + r I)^-1 D W,    b~ = b + E[x] W - E[x~] W~,

with C~ the covariance of x~, D the covariance of x~ and x, and r a share of the mean of C~'s diagonal. With k~ = k and
r > 0 the ridge pulls towards W itself rather than towards zero, so that directions without data keep their weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from ...ir.analysis.linear import Linear
from .moments import ROWS, Waiting, blocks
from .shrinkage import Shrinkage

Array = np.ndarray[Any, np.dtype[Any]]
Float64 = NDArray[np.float64]
RIDGE = 1e-4
"""Of the mean of the diagonal."""


class Refit:
    """Moments of the inputs of one layer before (`old`) and after (`new`) a change: an observer of pairs.

    The two layers have the same number of groups, and rows that belong together. Rows with NaN or Inf are left out.
    """

    def __init__(self, old: Linear, new: Linear, rows: int = ROWS) -> None:
        self.old, self.new, self.rows = old, new, rows
        self.count = 0
        self.left_out = 0
        groups, k_old, k_new = old.groups, old.k, new.k
        self.first_old: Float64 = np.zeros((groups, k_old))
        self.first_new: Float64 = np.zeros((groups, k_new))
        self._second: Float64 = np.zeros((groups, k_new, k_new))
        self._cross: Float64 = np.zeros((groups, k_new, k_old))
        self._waiting = Waiting(k_new)
        self._shrinkage = Shrinkage(groups)

    @staticmethod
    def nbytes_for(old: Linear, new: Linear) -> int:
        """Bytes that the moments of a layer take."""
        return 8 * new.groups * (new.k + 1) * (new.k + old.k)

    def update(self, before: Array, after: Array) -> None:
        """Take the rows of one sample into account."""
        pairs = zip(blocks(self.old.rows(before, self.rows)), blocks(self.new.rows(after, self.rows)), strict=True)
        for old, new in pairs:
            finite = np.isfinite(old).all(axis=(0, 2)) & np.isfinite(new).all(axis=(0, 2))
            self.left_out += int((~finite).sum())
            if not finite.all():
                old, new = old[:, finite], new[:, finite]
            self.count += new.shape[1]
            self.first_old += old.sum(axis=1)
            self.first_new += new.sum(axis=1)
            self._shrinkage.update(new)
            if self._waiting.add(old, new):
                self._multiply()

    @property
    def second(self) -> Float64:
        """The sum of x~'x~, of shape [groups, k~, k~]."""
        self._multiply()
        return self._second

    @property
    def cross(self) -> Float64:
        """The sum of x~'x, of shape [groups, k~, k]."""
        self._multiply()
        return self._cross

    def _multiply(self) -> None:
        for old, new in self._waiting.taken():
            self._second += new.swapaxes(1, 2) @ new
            self._cross += new.swapaxes(1, 2) @ old

    def merge(self, other: Refit) -> None:
        """Take over what another one has seen of the same layers."""
        self.count += other.count
        self.left_out += other.left_out
        self.first_old += other.first_old
        self.first_new += other.first_new
        self._second += other.second
        self._cross += other.cross
        self._shrinkage.merge(other._shrinkage)

    def ridge(self) -> float:
        """What to add to E[x~'x~], as a share of the mean of its diagonal, for the noise of few rows."""
        return self._shrinkage.ridge(self.second / max(1, self.count), self.count)

    def error(self, old: Float64, new: Float64, *, bias: bool = False) -> float:
        """The sum over all rows of |x~ W~ - x W|^2 - |x W|^2, for matrices W and W~; with `bias` its part that no bias
        can take."""
        second, cross = self.second @ new, self.cross @ old
        found = float(np.einsum("gkn,gkn->", new, second) - 2 * np.einsum("gkn,gkn->", new, cross))
        return found - self.count * float((self.shift(old, new) ** 2).sum()) if bias else found

    def shift(self, old: Float64, new: Float64) -> Float64:
        """E[x] W - E[x~] W~, of shape [groups, n]: what the bias gains."""
        count = max(1, self.count)
        before, after = self.first_old / count, self.first_new / count
        return np.asarray(np.einsum("gk,gkn->gn", before, old) - np.einsum("gk,gkn->gn", after, new))

    def solve(
        self, matrices: Array, *, ridge: float = RIDGE, bias: bool = True, prior: Float64 | None = None
    ) -> tuple[Float64, Float64]:
        """The new matrices `[groups, k~, n]` for the old ones `[groups, k, n]`, and what is added to the bias
        `[groups, n]`; without `bias`, which the layer may not be able to take, that is zero and nothing is centred.

        The ridge pulls towards `prior` `[groups, k~, n]`: by default the old matrices (k~ = k), or zeros. It comes back
        before any row was seen.
        """
        old = np.asarray(matrices, np.float64)
        count = max(1, self.count)
        mean_old, mean_new = self.first_old / count, self.first_new / count
        covariance, cross = self.second / count, self.cross / count
        if bias:
            covariance = covariance - mean_new[:, :, None] * mean_new[:, None, :]
            cross = cross - mean_new[:, :, None] * mean_old[:, None, :]
        if prior is None:
            prior = old if self.old.k == self.new.k else np.zeros((old.shape[0], self.new.k, old.shape[2]))
        found = np.stack([_ridge(c, d @ w, p, ridge) for c, d, w, p in zip(covariance, cross, old, prior, strict=True)])
        shift = self.shift(old, found)
        return found, shift if bias else np.zeros_like(shift)


def _ridge(covariance: Float64, target: Float64, prior: Float64, ridge: float) -> Float64:
    """argmin of tr(W' C W) - 2 tr(W' T) + r |W - P|^2."""
    k = covariance.shape[0]
    scale = float(np.trace(covariance)) / max(1, k)
    if not scale > 0:
        return prior
    r = ridge * scale
    system = covariance + r * np.eye(k)
    return np.asarray(linalg.solve(system, target + r * prior, assume_a="pos" if ridge > 0 else "sym"))
