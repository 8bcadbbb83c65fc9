"""Second moments of the inputs of a linear layer: all that a least-squares objective in its weights needs.

For rows x of a layer y = x W the expected squared error of a change dW is trace(dW' E[x'x] dW): it is known from
E[x'x] alone, whatever the number of samples, and so are ridge regression, SVD in the norm of the activations (SVD-LLM,
Wang et al. 2024), GPTQ and OBS (Frantar et al. 2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...ir.analysis.linear import Linear
from .shrinkage import Shrinkage

Array = np.ndarray[Any, np.dtype[Any]]
ROWS = 8192
"""Rows of one sample that are taken at most, evenly spaced."""
_BLOCK = 2048
_ENOUGH = 256


class Moments:
    """E[x'x] and E[x] of the rows that meet the matrices of `layer`, as sums over `count` rows.

    `second` is float64 `[groups, k, k]`, `first` `[groups, k]`. Rows with NaN or Inf are left out and counted.
    """

    def __init__(self, layer: Linear, rows: int = ROWS) -> None:
        self.layer = layer
        self.rows = rows
        self.count = 0
        self.left_out = 0
        self.first: NDArray[np.float64] = np.zeros((layer.groups, layer.k))
        self._second: NDArray[np.float64] = np.zeros((layer.groups, layer.k, layer.k))
        self._waiting = Waiting(layer.k)
        self._shrinkage = Shrinkage(layer.groups)

    @staticmethod
    def nbytes_for(layer: Linear) -> int:
        """Bytes that the moments of a layer take."""
        return 8 * layer.groups * layer.k * (layer.k + 1)

    def update(self, array: Array) -> None:
        """Take the rows of one sample into account."""
        for rows in blocks(self.layer.rows(array, self.rows)):
            with np.errstate(invalid="ignore"):  # Inf of both signs
                kept, sums = rows, rows.sum(axis=1)
            if not np.isfinite(sums).all():
                kept = rows[:, np.isfinite(rows).all(axis=(0, 2))]
                self.left_out += rows.shape[1] - kept.shape[1]
                sums = kept.sum(axis=1)
            self.count += kept.shape[1]
            self.first += sums
            self._shrinkage.update(kept)
            if self._waiting.add(kept):
                self._multiply()

    def merge(self, other: Moments) -> None:
        """Take over what another one has seen of the same layer."""
        self.count += other.count
        self.left_out += other.left_out
        self.first += other.first
        self._second += other.second
        self._shrinkage.merge(other._shrinkage)

    @property
    def second(self) -> NDArray[np.float64]:
        """The sum of x'x, of shape [groups, k, k]."""
        self._multiply()
        return self._second

    def _multiply(self) -> None:
        for (rows,) in self._waiting.taken():
            self._second += rows.swapaxes(1, 2) @ rows

    @property
    def mean(self) -> NDArray[np.float64]:
        """E[x], of shape [groups, k]; zero if nothing was seen."""
        return self.first / max(1, self.count)

    @property
    def gram(self) -> NDArray[np.float64]:
        """E[x'x], of shape [groups, k, k]; zero if nothing was seen."""
        return self.second / max(1, self.count)

    def ridge(self) -> float:
        """What to add to E[x'x], as a share of the mean of its diagonal, for the noise of few rows."""
        return self._shrinkage.ridge(self.gram, self.count)

    def squared_error(self, change: Array) -> NDArray[np.float64]:
        """E[(x dW)^2] of every output, of shape [groups, n], for a change dW of the matrices `[groups, k, n]`."""
        wide = np.asarray(change, np.float64)
        return np.asarray(np.einsum("gkn,gkn->gn", wide, self.gram @ wide))


class Waiting:
    """Rows that wait until there are as many as they are long, or `_ENOUGH`: few large products instead of many small
    ones, for no more memory than a second moment takes, nor much more for many samples than for few."""

    def __init__(self, length: int) -> None:
        self._enough, self._count = min(length, _ENOUGH), 0
        self._parts: list[tuple[NDArray[np.float64], ...]] = []

    def add(self, *rows: NDArray[np.float64]) -> bool:
        """Take rows `[groups, r, k]` that belong together; whether there are enough now."""
        self._parts.append(rows)
        self._count += rows[0].shape[1]
        return self._count >= self._enough

    def taken(self) -> Iterator[list[NDArray[np.float64]]]:
        """All that wait, joined, and no longer waiting; nothing if none do."""
        parts, self._parts, self._count = self._parts, [], 0
        if parts:
            yield [each[0] if len(each) == 1 else np.concatenate(each, axis=1) for each in zip(*parts, strict=True)]


def blocks(rows: Array) -> Iterator[NDArray[np.float64]]:
    """Rows `[groups, r, k]` in blocks that fit into a cache."""
    for start in range(0, rows.shape[1], _BLOCK):
        yield rows[:, start : start + _BLOCK].astype(np.float64, order="C")
