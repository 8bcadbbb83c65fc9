"""Affine quantization of activations: x ~ (q - z) s with integers q.

From a range [low, high], widened to hold zero so that zero (padding!) is exact: s = (high - low) / (levels - 1), z the
level of zero, rounded. Inside the range |x - (q - z) s| <= s / 2, up to the rounding of z that moves the range by at
most half a step; outside it saturates. Symmetric: z = 0 and s = max|x| / top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...calibrate.ranges import Array, Range

TYPES: dict[str, np.dtype[Any]] = {
    "uint8": np.dtype(np.uint8),
    "int8": np.dtype(np.int8),
    "uint16": np.dtype(np.uint16),
    "int16": np.dtype(np.int16),
}


@dataclass(frozen=True)
class Affine:
    """The parameters of one value: `scale` is a float32, `zero` a level of `dtype`."""

    scale: float
    zero: int
    dtype: np.dtype[Any]

    @property
    def low(self) -> float:
        """The least number that is represented."""
        return (int(np.iinfo(self.dtype).min) - self.zero) * self.scale

    @property
    def high(self) -> float:
        """The greatest number that is represented."""
        return (int(np.iinfo(self.dtype).max) - self.zero) * self.scale

    def rounded(self, array: Array) -> Array:
        """What quantizing and decoding make of numbers, in float32."""
        numbers = np.asarray(array, np.float32)
        return self._decoded(numbers, np.empty_like(numbers))

    def error(self, numbers: Array, out: Array) -> Array:
        """What quantizing and decoding add to float32 numbers, written to `out`."""
        return np.subtract(self._decoded(numbers, out), numbers, out=out)

    def _decoded(self, numbers: Array, out: Array) -> Array:
        """In place: a copy at every step would leave the cache. What is beyond all numbers saturates as well."""
        info, scale = np.iinfo(self.dtype), np.float32(self.scale)
        with np.errstate(over="ignore"):
            np.divide(numbers, scale, out=out)
        np.rint(out, out=out)
        np.clip(out, np.float32(int(info.min) - self.zero), np.float32(int(info.max) - self.zero), out=out)
        return np.multiply(out, scale, out=out)

    def levels(self, array: Array) -> Array:
        """The levels of numbers."""
        info = np.iinfo(self.dtype)
        with np.errstate(over="ignore"):  # what is beyond all numbers saturates as well
            ratio = np.asarray(array, np.float32) / np.float32(self.scale)
        return np.asarray(np.clip(np.rint(ratio) + self.zero, info.min, info.max).astype(self.dtype))


def affine(range_: Range, dtype: np.dtype[Any], *, symmetric: bool) -> Affine:
    """The parameters for a range; of a range of zeros the scale is 1. A scale is never below the smallest normal
    number, which executors may flush to zero."""
    low, high = min(0.0, range_.low), max(0.0, range_.high)
    info = np.iinfo(dtype)
    tiny = float(np.finfo(np.float32).tiny)
    if low == high:
        return Affine(1.0, 0 if symmetric or info.min == 0 else int(info.min), dtype)
    if symmetric:
        middle = 0 if info.min < 0 else (int(info.max) + 1) // 2
        scale = float(np.float32(max(-low, high) / (int(info.max) - middle)))
        return Affine(max(scale, tiny), middle, dtype)
    scale = max(float(np.float32((high - low) / (int(info.max) - int(info.min)))), tiny)
    zero = int(np.clip(np.rint(int(info.min) - low / scale), info.min, info.max))
    return Affine(scale, zero, dtype)
