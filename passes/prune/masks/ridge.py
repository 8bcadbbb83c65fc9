"""The ridge of a layer: how far the second moments of few samples are to be trusted.

Weights adjusted with too small a ridge fit what is peculiar to the samples. Under a mask of the same share, by
magnitude, weights are adjusted on every other sample and judged on the rest, and the other way round: the ridge that
does best there is taken. Which weights the mask takes hardly moves it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...calibrate.halves import Halves
from ...calibrate.refit import Refit
from .least_squares import Float64, adjust
from .patterns import Mask
from .problem import Problem

TRIED = tuple(float(10 ** (power / 2)) for power in range(-8, 1))
"""As shares of the mean of the diagonal: half decades from 1e-4 to 1."""
FIRST = TRIED.index(1e-2)
COLUMNS = 16
"""Outputs that are looked at, evenly spaced."""


def best_ridge(halves: Sequence[Halves], weights: Float64, stays: Mask, *, centred: bool) -> float:
    """For weights `[groups, k, n]` that all layers of `halves` read, of which those of `stays` will be kept.

    Without samples for two halves, what so few rows make necessary (Ledoit and Wolf), but at least 1e-2."""
    parts = [part for part in zip(*(each.parts for each in halves), strict=True) if any(fit.count for fit in part)]
    if len(parts) < 2:
        return max(TRIED[FIRST], *(each.whole().ridge() for each in halves))
    step = max(1, -(-weights.shape[2] // COLUMNS))
    weights, stays = weights[:, :, ::step], stays[:, :, ::step]

    def error(place: int) -> float:
        if place not in range(len(TRIED)):
            return np.inf
        one, other = parts
        return sum(
            _error(made_of, judged, weights, stays, TRIED[place], centred)
            for made_of, judged in ((one, other), (other, one))
        )

    return TRIED[_lowest(error, FIRST)]


def _error(
    made_of: Sequence[Refit], judged: Sequence[Refit], weights: Float64, stays: Mask, ridge: float, centred: bool
) -> float:
    problem = Problem.of(made_of, weights, ridge=ridge, centred=centred, repaired=True)
    groups = zip(problem.best, problem.second, stays, strict=True)
    found = np.stack([adjust(best, second, kept) for best, second, kept in groups])
    return sum(fit.error(weights, found, bias=centred) for fit in judged)


def _lowest(error: Callable[[int], float], place: int) -> int:
    """Downhill from a place, one step at a time."""
    known = {place: error(place)}
    for step in (1, -1):
        while True:
            ahead = place + step
            if ahead not in known:
                known[ahead] = error(ahead)
            if not known[ahead] < known[place]:
                break
            place = ahead
    return place
