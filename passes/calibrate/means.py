"""The mean of a value per channel: what the bias of the next layer needs when the weight, or the value, is changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = np.ndarray[Any, np.dtype[Any]]


class Means:
    """E[x] for every index along `axis`, as sums in double precision. NaN and Inf are left out and counted.

    Every sample has the same number of indices there; the mean of a channel is over all its finite numbers.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.left_out = 0
        self.sums: NDArray[np.float64] = np.zeros(0)
        self.counts: NDArray[np.int64] = np.zeros(0, np.int64)

    def update(self, array: Array) -> None:
        """Take the numbers of one sample into account; ValueError if its channels are others in number."""
        numbers = np.asarray(array)
        axis = self.axis % numbers.ndim
        others = tuple(i for i in range(numbers.ndim) if i != axis)
        channels = numbers.shape[axis]
        sums = numbers.sum(others, np.float64)
        counts = np.full(channels, numbers.size // max(1, channels))
        if not np.isfinite(sums).all():
            finite = np.isfinite(numbers)
            sums = numbers.sum(others, np.float64, where=finite)
            counts = finite.sum(others)
            self.left_out += numbers.size - int(counts.sum())
        self._add(sums, counts)

    def merge(self, other: Means) -> None:
        """Take into account what another has seen."""
        self.left_out += other.left_out
        self._add(other.sums, other.counts)

    def _add(self, sums: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
        if not len(counts):
            return
        if not len(self.counts):
            self.sums, self.counts = np.zeros_like(sums), np.zeros_like(counts)
        if len(counts) != len(self.counts):
            raise ValueError(f"{len(counts)} channels after {len(self.counts)}")
        self.sums = self.sums + sums
        self.counts = self.counts + counts

    @property
    def mean(self) -> NDArray[np.float64]:
        """The means by channel; 0 for a channel without a finite number, empty if nothing was seen."""
        return self.sums / np.maximum(1, self.counts)
