"""The range of least cost: a search over its ends, from coarse to fine.

The range is cut at one magnitude first. Then, unless it is to be symmetric, its ends move in turn until neither gains.
A range is left only for one that costs less, so the result is never worse than the whole range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Cost = Callable[[float, float], float]
"""What a range from `low` to `high` costs; infinite if it is not to be taken."""
_COARSE = [2 ** (-i / 4) for i in range(1, 41)]
_FINE = [2 ** (1 / n) for n in (8, 16, 32, 64)]
_ROUNDS = 6


def cheapest(low: float, high: float, cost: Cost, *, symmetric: bool = False) -> tuple[float, float]:
    """The ends of the range of least cost within low <= 0 <= high; equal costs: the widest."""
    peak = max(-low, high)

    def at_magnitude(factor: float) -> tuple[float, float]:
        return max(low, -factor * peak), min(high, factor * peak)

    best = at_magnitude(_factor(lambda factor: cost(*at_magnitude(factor))))
    if symmetric:
        return best
    moves = _COARSE
    for _ in range(_ROUNDS):
        before = best
        best = best[0], _end(best[1], high, lambda end: cost(best[0], end), moves)  # noqa: B023 - called at once
        best = _end(best[0], low, lambda end: cost(end, best[1]), moves), best[1]  # noqa: B023
        if best == before:
            break
        moves = []
    return best


def _end(place: float, furthest: float, cost: Callable[[float], float], moves: Sequence[float]) -> float:
    """A better place for one end: one of the moves from the furthest place towards zero, or nearby, or zero."""
    if furthest == 0:
        return furthest
    factor = _factor(lambda factor: cost(factor * furthest), moves, place / furthest)
    return 0.0 if cost(0.0) < cost(factor * furthest) else factor * furthest


def _factor(cost: Callable[[float], float], moves: Sequence[float] = _COARSE, start: float = 1.0) -> float:
    """The factor of least cost, at most 1: `start`, one of the moves, or near the best of these."""
    best, least = _better(cost, moves, start, cost(start))
    for step in _FINE:
        best, least = _better(cost, [best / step, min(1.0, best * step)], best, least)
    return best


def _better(cost: Callable[[float], float], choices: Sequence[float], best: float, least: float) -> tuple[float, float]:
    for choice in choices:
        price = cost(choice)
        if price < least:
            best, least = choice, price
    return best, least
