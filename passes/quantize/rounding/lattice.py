"""The numbers that the elements of one matrix may be rounded to, and the objective that rounding makes small.

For rows x of a layer y = x W and a change dW of its matrix, the expected squared error of y is the quadratic

    E |x dW|^2 = trace(dW' H dW),    H = E[x' x],

in which the columns of W do not meet: every column is a problem of its own with the same H, and the methods here work
on all columns at once, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..alphabet import Alphabet
from ..levels import Grid
from .view import Array, View

Float64 = NDArray[np.float64]
Rows = slice | int | NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Lattice:
    """For a matrix `[k, n]`: numbers of `alphabet`, of which zero points `[k, n]` are taken off, times steps `[k, n]`.

    Arithmetic is in float64: what an executor will get differs from it by rounding.
    """

    alphabet: Alphabet
    steps: Float64
    zeros: Array | None = None

    def codes(self, values: Float64, rows: Rows = slice(None)) -> Array:
        """The codes of the numbers nearest to `values`, which stand in some rows."""
        codes = self.alphabet.nearest(values / self.steps[rows], self._zeros(rows))
        return codes.astype(self.alphabet.held)

    def values(self, codes: Array, rows: Rows = slice(None)) -> Float64:
        """What codes in some rows stand for."""
        return self.alphabet.numbers(codes, self._zeros(rows), self.steps.dtype) * self.steps[rows]

    def _zeros(self, rows: Rows) -> Array | None:
        return None if self.zeros is None else self.zeros[rows]


def damped(gram: Float64, share: float) -> Float64:
    """`gram`, with a share of the mean of its diagonal added to the diagonal: samples do not say all of inputs."""
    made = gram.copy()
    made[np.diag_indices_from(made)] += share * float(np.trace(gram)) / max(1, len(gram))
    return made


def quadratic(change: Float64, gram: Float64) -> float:
    """trace(dW' H dW): the expected squared error, summed over the outputs."""
    return float(np.einsum("kn,kn->", change, gram @ change))


def lattices(grid: Grid, view: View) -> list[Lattice]:
    """The lattice of every matrix that `view` sees in the weight of `grid`."""
    steps = _spread(grid, view, grid.array).astype(np.float64)
    zeros = None if grid.zeros is None else _spread(grid, view, grid.zeros)
    return [Lattice(grid.alphabet, one, None if zeros is None else zeros[i]) for i, one in enumerate(steps)]


def _spread(grid: Grid, view: View, array: Array) -> Array:
    return view.matrices(np.broadcast_to(grid.spread(array), grid.shape))
