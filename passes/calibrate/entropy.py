"""Entropy: the range that keeps most of what the distribution tells (Migacz, "8-bit inference with TensorRT", 2017).

P is the distribution in the bins within a range, what lies outside moved into the outermost of them. Q is what is
left of it after quantization: what lies inside, the mass of each level spread evenly over those of its bins where P is
not zero. The range with the least divergence KL(P || Q) is taken. Wider ranges have fewer bins to a level less to lose
by clipping, narrower ones less by rounding.

Other than the usual code: the levels are those of the quantizer, affine or symmetric, so zero is one of them, and both
ends are searched; exact zeros, which lose nothing, do not count; where numbers were clipped into a bin in which none
lay, so that P is not zero and Q is, Q has one number; nothing else is smoothed. In a range of fewer bins than levels
rounding does not show, and it is not taken: n bits need a range of at least 2^n bins.
"""

from __future__ import annotations

import numpy as np

from .grid import Grid
from .histogram import Bins
from .ranges import Range
from .search import cheapest


def entropy_range(bins: Bins, bits: int, *, symmetric: bool = False) -> Range:
    """The range of least divergence for a quantizer of so many bits."""

    def cost(low: float, high: float) -> float:
        if not low < high:
            return np.inf
        grid = Grid.of(low, high, bits, symmetric=symmetric)
        whole = (low, high) == (bins.low, bins.high)
        return divergence(bins, low, high, grid) if whole or grid.step >= 1 else np.inf

    return bins.range(*cheapest(bins.low, bins.high, cost, symmetric=symmetric))


def divergence(bins: Bins, low: float, high: float, grid: Grid) -> float:
    """KL(P || Q) in nats for the range from `low` to `high`; infinite if it holds no number."""
    middles = (bins.left + bins.right) / 2
    start, end = np.searchsorted(middles, low, side="left"), np.searchsorted(middles, high, side="right")
    inside = bins.counts[start:end]
    if not inside.any():
        return np.inf
    clipped = inside.copy()
    clipped[0] += bins.counts[:start].sum()
    clipped[-1] += bins.counts[end:].sum()
    levels = (grid.nearest(middles[start:end]) - grid.least).astype(np.intp)
    there = clipped > 0
    mass = np.bincount(levels, weights=inside)
    places = np.bincount(levels, weights=there)
    known = mass[levels[there]] / places[levels[there]]
    q = np.where(known > 0, known, 1)
    p = clipped[there]
    return float(p @ np.log(p / q) / p.sum() + np.log(q.sum() / p.sum()))
