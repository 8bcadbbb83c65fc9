"""The numbers that a quantizer of n bits represents, and what it errs on a histogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .histogram import Bins

Float64 = NDArray[np.float64]
_POINT = 1e-4
"""Steps: a bin that is narrower is a point."""


@dataclass(frozen=True)
class Grid:
    """The numbers `step * k` for integers k from `least` to `most`; zero is among them."""

    step: float
    least: int
    most: int

    @classmethod
    def of(cls, low: float, high: float, bits: int, *, symmetric: bool) -> Grid:
        """The quantizer of a range low <= 0 <= high, low < high.

        Affine: 2^bits - 1 steps, the zero point rounded to an integer. Symmetric: 2^(bits - 1) - 1 steps on either
        side up to the greater magnitude.
        """
        if symmetric:
            most = 2 ** (bits - 1) - 1
            return cls(max(-low, high) / most, -most, most)
        steps = 2**bits - 1
        step = (high - low) / steps
        least = round(low / step)
        return cls(step, least, least + steps)

    def nearest(self, numbers: Float64) -> Float64:
        """The k of each number, as floats."""
        return self._nearest(numbers / self.step)

    def _nearest(self, u: Float64) -> Float64:
        return np.minimum(np.maximum(np.rint(u), self.least), self.most)

    def squared_error(self, bins: Bins) -> float:
        """The sum of the squared errors of the numbers in a histogram, taken to be spread evenly within each bin.

        In units of the step, the integral of (u - k(u))^2 from 0 to u is k/12 + (u - k)^3 / 3, with k the nearest
        level: beyond the last level too, where the error is that of saturation.
        """
        left, right = bins.left / self.step, bins.right / self.step
        width = right - left
        middle = (left + right) / 2
        point = (middle - self._nearest(middle)) ** 2
        whole = width >= _POINT
        spread = (self._integral(right) - self._integral(left)) / np.where(whole, width, 1)
        return float(bins.counts @ np.where(whole, spread, point)) * self.step**2

    def _integral(self, u: Float64) -> Float64:
        k = self._nearest(u)
        off = u - k
        return k / 12 + off * off * off / 3
