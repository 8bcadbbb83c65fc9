"""Narrower steps: numbers at the ends of a range are clipped so that the many others are rounded less.

For every step of a grid (of a tensor, a channel or a block) a few shrunken steps are tried, and the one is taken with
which nearest rounding adds the least expected squared error to the output of the layer. For the rows that a step is
for, that error is trace(dW' H dW) with their part of H; what rows of other blocks add to it is left out, as the steps
would not be independent of each other otherwise. Where steps change from row to row, it is sum_k H_kk dW_k^2.

Source: the search for clipped ranges of AWQ (Lin et al. 2023, arXiv 2306.00978), there on stored activations.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..levels import Grid
from .lattice import Float64, lattices
from .view import Array, View

FACTORS = tuple(round(1 - 0.05 * step, 2) for step in range(13))
"""Of the steps that clip nothing: down to 0.4."""
HALVES = (1.0, 0.5)
"""The same for steps that are powers of two, and stay so."""


def clipped(weight: Float64, grid: Grid, view: View, gram: Float64) -> Grid:
    """`grid` with the best of its steps shrunk; `weight` are the matrices `[groups, k, n]`, `gram` H `[groups, k, k]`.

    It is the same grid if nothing is gained.
    """
    first = grid.stored[0]
    owners = view.matrices(np.broadcast_to(grid.spread(np.arange(first.size).reshape(first.shape)), grid.shape))
    least = np.full(first.size, np.inf)
    best = np.ones(first.size)
    for factor in HALVES if _are_powers(first) else FACTORS:
        costs = np.zeros(first.size)
        for w, h, owner, lattice in zip(weight, gram, owners, lattices(grid, view), strict=True):
            narrow = replace(lattice, steps=lattice.steps * factor)
            _add_costs(costs, narrow.values(narrow.codes(w)) - w, h, owner)
        better = costs < least
        least[better], best[better] = costs[better], factor
    return grid if (best == 1).all() else shrunk(grid, best.reshape(first.shape))


def shrunk(grid: Grid, factors: Float64) -> Grid:
    """`grid` with its first steps times `factors`, of their shape; zero points stay, so zero stays exact."""
    first, *more = grid.stored
    tiny = np.finfo(first.dtype).tiny
    narrow = np.copysign(np.maximum(np.abs(first) * factors, tiny), first).astype(first.dtype)
    if not more:
        return replace(grid, array=narrow)
    return replace(grid, array=narrow * more[0], factors=(narrow, *more))


def _are_powers(steps: Array) -> bool:
    return bool((np.frexp(np.abs(steps))[0] == 0.5).all())


def _add_costs(costs: Float64, change: Float64, gram: Float64, owner: Array) -> None:
    """What the change of one matrix costs, added to the step that each element belongs to."""
    starts = np.flatnonzero(np.r_[True, (owner[1:] != owner[:-1]).any(1)])
    if len(starts) == len(change):
        costs += np.bincount(owner.ravel(), (np.diag(gram)[:, None] * change**2).ravel(), costs.size)
        return
    for start, stop in zip(starts, [*starts[1:], len(change)], strict=True):
        part = change[start:stop]
        cost = np.einsum("kn,kn->n", part, gram[start:stop, start:stop] @ part)
        costs += np.bincount(owner[start], cost, costs.size)
