"""The numbers of an array, piece by piece: an observer works on what fits into a cache, and copies no array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
PIECE = 1 << 16
"""Numbers in a piece."""


@dataclass(frozen=True)
class Piece:
    """Finite numbers, at least one, and the least and the greatest of them."""

    numbers: Array
    """One axis; float32 where that holds every number of the array's type, else float64 (rounded from 64-bit ints)."""
    low: float
    high: float


def pieces(array: Array) -> Iterator[Piece]:
    """The finite numbers of `array` in no order; NaN and Inf are left out. TypeError if it holds no real numbers."""
    whole = np.asarray(array)
    dtype = next((t for t in (np.float32, np.float64) if np.can_cast(whole.dtype, t)), None)
    if dtype is None:
        raise TypeError(f"an array of {whole.dtype} has no range")
    flat = whole.ravel(order="K")
    for start in range(0, flat.size, PIECE):
        numbers = flat[start : start + PIECE].astype(dtype, copy=False)
        low, high = float(numbers.min()), float(numbers.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            numbers = numbers[np.isfinite(numbers)]
            if not numbers.size:
                continue
            low, high = float(numbers.min()), float(numbers.max())
        yield Piece(numbers, low, high)


@dataclass(frozen=True)
class Channels:
    """Some numbers of some channels, as a matrix: channels are what `axis` runs along, 0 or 1."""

    numbers: Array
    where: slice
    """Which channels they are."""
    axis: int

    def squares(self, numbers: Array) -> Array:
        """The sums of squares by channel, of numbers of the same shape."""
        return np.asarray(np.einsum("ij,ij->i" if self.axis == 0 else "ij,ij->j", numbers, numbers))


def by_channels(array: Array, axis: int) -> Iterator[Channels]:
    """All numbers of `array`, NaN and Inf too, with `axis` for channels."""
    axis %= array.ndim
    count, inner = array.shape[axis], prod(array.shape[axis + 1 :])
    if not array.size:
        return
    if inner == 1:
        rows, step = array.reshape(-1, count), max(1, PIECE // count)
        for start in range(0, len(rows), step):
            yield Channels(rows[start : start + step], slice(0, count), 1)
        return
    step = max(1, PIECE // inner)
    for one in array.reshape(-1, count, inner):
        for start in range(0, count, step):
            where = slice(start, min(start + step, count))
            for left in range(0, inner, PIECE):
                yield Channels(one[where, left : left + PIECE], where, 0)
