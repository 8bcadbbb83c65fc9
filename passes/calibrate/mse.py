"""MSE: the range whose quantizer errs least, in the mean of squares, rounding and saturation taken together."""

from __future__ import annotations

import numpy as np

from .grid import Grid
from .histogram import Bins
from .ranges import Range
from .search import cheapest


def mse_range(bins: Bins, bits: int, *, symmetric: bool = False) -> Range:
    """The range of least expected squared error for a quantizer of so many bits; never worse than the whole range."""
    kept = bins.counts > 0
    seen = Bins(bins.exponent, bins.left[kept], bins.right[kept], bins.counts[kept], bins.low, bins.high)

    def cost(low: float, high: float) -> float:
        return Grid.of(low, high, bits, symmetric=symmetric).squared_error(seen) if low < high else np.inf

    return bins.range(*cheapest(bins.low, bins.high, cost, symmetric=symmetric))
