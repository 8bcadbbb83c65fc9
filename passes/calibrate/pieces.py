"""The finite numbers of an array, piece by piece: an observer works on what fits into a cache, and copies no array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
