"""Coordinate descent: one row after the other takes the numbers that are best while all other rows stay.

With E = V - W the error of the present numbers V, trace(E' H E) as a function of element (i, j) alone is a parabola
with its vertex at V_ij - (H E)_ij / H_ii. So the best number is the one nearest to the vertex, no step can make the
objective larger, and where no step changes anything every single code is the best one beside the others.
What is exactly zero stays so: pruned weights stay pruned.

`adaround` starts from the nearest numbers and allows the two neighbours of every weight alone: down or up, the choice
that AdaRound (Nagel et al., ICML 2020, arXiv 2004.10568) learns. AdaRound relaxes it to a rectified sigmoid, because it
goes by the gradient of samples; with second moments the objective is a quadratic that one can descend on exactly,
without learning rate, annealing or chance. `refined` allows all numbers, and starts where another method ended
(as QuantEase does: Behdin et al. 2023, arXiv 2309.01885).
"""

from __future__ import annotations

import numpy as np

from ..alphabet import Book, Integers
from .lattice import Float64, Lattice
from .view import Array

SWEEPS = 8
"""Times that every row gets its turn at most."""
FEW = 1e-3
"""Of all codes: when no more change in a sweep, it was the last."""
BLOCK = 32
"""Rows between two products with the whole error."""


def adaround(weight: Float64, gram: Float64, lattice: Lattice) -> Array:
    """Codes `[k, n]` of numbers next to the weights; `gram` is H `[k, k]`, with a positive diagonal."""
    nearest = lattice.codes(weight)
    low, high = neighbours(weight, lattice, nearest)
    return _descend(weight, gram, lattice, nearest, low, high)


def refined(weight: Float64, gram: Float64, lattice: Lattice, codes: Array) -> Array:
    """Codes `[k, n]` that are no worse than `codes`, and mostly better."""
    return _descend(weight, gram, lattice, codes)


def has_neighbours(lattice: Lattice) -> bool:
    """Whether one code more is one number more, so that down and up can be told."""
    return isinstance(lattice.alphabet, Integers | Book)


def neighbours(weight: Float64, lattice: Lattice, nearest: Array) -> tuple[Array, Array]:
    """The lower and the higher code of the two numbers next to each weight; twice the same where it lies outside."""
    alphabet = lattice.alphabet
    first, last = (alphabet.first, alphabet.last) if isinstance(alphabet, Integers) else (0, _entries(alphabet) - 1)
    values, wide = lattice.values(nearest), nearest.astype(np.int64)
    up = np.where(lattice.steps < 0, -1, 1)
    other = wide + up * np.sign(weight - values).astype(np.int64)
    low, high = (np.clip(end(wide, other), first, last) for end in (np.minimum, np.maximum))
    return low.astype(alphabet.held), high.astype(alphabet.held)


def _entries(alphabet: object) -> int:
    if not isinstance(alphabet, Book):
        raise TypeError(f"{alphabet} has no codes in order")
    return int(alphabet.entries.size)


def _descend(
    weight: Float64, gram: Float64, lattice: Lattice, start: Array, low: Array | None = None, high: Array | None = None
) -> Array:
    codes = start.copy()
    error = lattice.values(codes) - weight
    for _ in range(SWEEPS):
        moves = 0
        for first in range(0, len(codes), BLOCK):
            stop = min(first + BLOCK, len(codes))
            pull = gram[first:stop] @ error
            for i in range(first, stop):
                vertex = weight[i] + error[i] - pull[i - first] / gram[i, i]
                best = lattice.codes(np.where(weight[i] == 0, 0, vertex), i)
                if low is not None and high is not None:
                    best = np.clip(best, low[i], high[i])
                moved = np.flatnonzero(best != codes[i])
                if not moved.size:
                    continue
                moves, codes[i] = moves + moved.size, best
                step = (lattice.values(best, i) - weight[i] - error[i])[moved]
                error[i, moved] += step
                pull[i + 1 - first :, moved] += np.outer(gram[i + 1 : stop, i], step)
        if moves <= FEW * codes.size:
            break
    return codes
