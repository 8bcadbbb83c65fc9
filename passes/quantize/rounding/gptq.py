"""GPTQ: rows of a matrix are rounded one after the other, and those that are still free make up for the error.

If row i is rounded with the error e_i, the change of the free rows that keeps trace(dW' H dW) least is known in closed
form (optimal brain surgeon). With the upper Cholesky factor U of the inverse, H^-1 = U' U, all those steps are

    w_j -= U_ij (w_i - round(w_i)) / U_ii    for all j > i.

Rows go by the diagonal of H, the largest first, while many are left to make up for them. Within a block the rows are
updated at once, the rest by one matrix product after the block.

What is exactly zero stays so, as other rows can make up for that as well (SparseGPT: Frantar and Alistarh 2023,
arXiv 2301.00774): pruned weights stay pruned. U is the inverse of the upper R with H = R R': no inverse of H is formed.

Source: Frantar, Ashkboos, Hoefler, Alistarh: GPTQ, ICLR 2023 (arXiv 2210.17323).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg

from .lattice import Float64, Lattice
from .view import Array

BLOCK = 64
"""Rows between two products with the rest of the matrix."""


class Elimination:
    """The order of the rows and the factor U for one H `[k, k]`, which is positive definite (LinAlgError if not)."""

    def __init__(self, gram: Float64) -> None:
        self.order = np.argsort(-np.diag(gram), kind="stable")
        backwards = self.order[::-1]
        lower = linalg.cholesky(gram[np.ix_(backwards, backwards)], lower=True, check_finite=False)
        self.factor: Float64 = linalg.lapack.dtrtri(lower[::-1, ::-1])[0]


def eliminated(eliminations: Sequence[Elimination], weight: Float64, places: Sequence[Lattice]) -> Array:
    """Codes `[groups, k, n]` for matrices of one alphabet: a row of all groups at a time, since a depthwise convolution
    has many groups of a few numbers each."""
    order = _stacked([each.order for each in eliminations])
    factor = _stacked([each.factor for each in eliminations])

    def in_turn(arrays: Array) -> Array:
        """`[k, groups, n]`, in the order in which rows are rounded."""
        return np.take_along_axis(arrays, order[:, :, None], axis=1).swapaxes(0, 1)

    zeros = [each.zeros for each in places if each.zeros is not None]
    steps = in_turn(_stacked([each.steps for each in places]))
    lattice = Lattice(places[0].alphabet, steps, in_turn(_stacked(zeros)) if zeros else None)
    weight = in_turn(weight)
    free, codes = weight.copy(), np.empty(weight.shape, lattice.alphabet.held)
    for start in range(0, len(free), BLOCK):
        stop = min(start + BLOCK, len(free))
        errors = np.empty((stop - start, *free.shape[1:]))
        for i in range(start, stop):
            codes[i] = lattice.codes(np.where(weight[i] == 0, 0, free[i]), i)
            errors[i - start] = (free[i] - lattice.values(codes[i], i)) / factor[:, i, i, None]
            free[i + 1 : stop] -= factor[:, i, i + 1 : stop].T[:, :, None] * errors[i - start]
        free[stop:] -= (factor[:, start:stop, stop:].swapaxes(1, 2) @ errors.swapaxes(0, 1)).swapaxes(0, 1)
    found = np.empty((weight.shape[1], *weight.shape[::2]), codes.dtype)
    np.put_along_axis(found, order[:, :, None], codes.swapaxes(0, 1), axis=1)
    return found


def _stacked(arrays: Sequence[Array]) -> Array:
    """On a new first axis; a single one is not copied."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
