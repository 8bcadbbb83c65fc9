"""Books of numbers that are not equally far apart.

`log2`: 0 and +-2^-k, so that a multiplication is a shift (Miyashita, Lee, Murmann 2016). `nf4`: the quantiles of the
normal distribution that QLoRA uses (Dettmers et al. 2023). `kmeans`: the numbers that make the squared error of one
weight least, by Lloyd's algorithm in one dimension (Lloyd 1982; as in Deep Compression, Han, Mao, Dally 2016).

K-means runs on a histogram of the weight, whose every bin is a point at the mean of what is in it, with the weight of
the squared steps. Up to 16 numbers it starts at the best clusters of 512 groups of neighbours, found by dynamic
programming (Wang, Song 2011), beyond that where the cube root of the density has equal shares, which is best for many
numbers (Panter, Dite 1951). So it is deterministic, and weights with no more different numbers than the book has are
exact. If a weight has zeros, 0 stays in the book.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .alphabet import Array, Book
from .blocks import parts
from .levels import Grid

NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
BINS = 1 << 13
ROUNDS = 200
GROUPS = 512
FEW = 16
"""Numbers up to which the start is searched: the work grows with numbers times groups squared."""
Numbers = NDArray[np.float64]


def log2_book(bits: int) -> Book:
    """0 and +-2^-k for k from 0 to 2^(bits-1) - 2."""
    sizes = np.exp2(-np.arange((1 << (bits - 1)) - 1.0))
    return Book(np.sort(np.concatenate([-sizes, [0.0], sizes])).astype(np.float32), bits, "log2 levels")


def nf4_book() -> Book:
    """NormalFloat of 4 bits."""
    return Book(np.array(NF4, np.float32), 4, "nf4 levels")


def kmeans_book(weight: Array, grid: Grid, bits: int) -> Book:
    """The book of 2^`bits` numbers at most for `weight`, as a multiple of the steps of `grid`."""
    masses, sums, has_zeros = _histogram(weight, grid)
    filled = masses > 0
    entries = _lloyd(masses[filled], sums[filled], 1 << bits, has_zeros)
    return Book(np.unique(entries.astype(np.float32)), bits, "k-means levels")


def _histogram(weight: Array, grid: Grid) -> tuple[Numbers, Numbers, bool]:
    """Of every bin of [-1, 1] the mass and the sum of the ratios to the steps, each with the weight of the squared
    step; and whether any number is 0, which has a bin of its own in the middle."""
    masses, sums, has_zeros = np.zeros(2 * BINS + 1), np.zeros(2 * BINS + 1), False
    largest = float(grid.array.max())
    for part in parts(weight.shape):
        steps = grid.spread(grid.array, part).astype(np.float64)
        ratios = np.asarray(np.divide(weight[part], steps, dtype=np.float64))
        shares = np.broadcast_to(np.square(steps / largest), ratios.shape).reshape(-1)
        ratios = ratios.reshape(-1)
        distance = np.minimum(np.floor(np.abs(ratios) * BINS) + 1, BINS)
        index = (BINS + np.sign(ratios) * distance).astype(np.intp)
        masses += np.bincount(index, shares, masses.size)
        sums += np.bincount(index, shares * ratios, masses.size)
        has_zeros = has_zeros or bool((ratios == 0).any())
    return masses, sums, has_zeros


def _lloyd(masses: Numbers, sums: Numbers, count: int, pins_zero: bool) -> Numbers:
    """The centres of at most `count` clusters of points, in ascending order."""
    points = sums / masses
    if points.size <= count:
        return points
    centres = _start(masses, sums, count)
    mass, total = (np.concatenate([[0.0], np.cumsum(one)]) for one in (masses, sums))
    for _ in range(ROUNDS):
        if pins_zero:
            centres[np.abs(centres).argmin()] = 0
        ends = np.concatenate([[0], np.searchsorted(points, (centres[1:] + centres[:-1]) / 2), [points.size]])
        inside = np.diff(mass[ends])
        moved = np.where(inside > 0, np.diff(total[ends]) / np.where(inside > 0, inside, 1), centres)
        if pins_zero:
            moved[np.abs(moved).argmin()] = 0
        if np.array_equal(moved, centres):
            break
        centres = np.sort(moved)
    return centres


def _start(masses: Numbers, sums: Numbers, count: int) -> Numbers:
    """Where Lloyd's algorithm starts: the best clusters of groups of neighbours, or for many clusters one in each of as
    many groups. Groups have equal shares of the cube root of the density."""
    groups = max(count, GROUPS) if count <= FEW else count
    shares = np.cumsum(np.cbrt(masses))
    first = np.unique(np.searchsorted(shares, np.arange(groups) / groups * shares[-1], side="right"))
    mass, total = np.add.reduceat(masses, first), np.add.reduceat(sums, first)
    return _best_clusters(mass, total, count) if count <= FEW else total / mass


def _best_clusters(masses: Numbers, sums: Numbers, count: int) -> Numbers:
    """The centres of the `count` clusters of points in ascending order whose squared error is least, by dynamic
    programming over their ends: what lies within a cluster is its squares less its sum squared over its mass."""
    mass, total = (np.concatenate([[0.0], np.cumsum(one)]) for one in (masses, sums))
    inside = mass - mass[:, None]
    gain = np.square(total - total[:, None]) / np.where(inside > 0, inside, 1)
    gain[inside < 0] = -np.inf  # a cluster does not end before it starts
    best, starts = gain[0], []
    for _ in range(count - 1):
        through = best[:, None] + gain
        starts.append(through.argmax(0))
        best = through.max(0)
    ends = [masses.size]
    for start in reversed(starts):
        ends.append(int(start[ends[-1]]))
    cuts = np.unique([0, *ends])
    return np.asarray(np.diff(total[cuts]) / np.diff(mass[cuts]))
