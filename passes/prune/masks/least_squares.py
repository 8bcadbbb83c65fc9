"""Least squares under a mask: what is lost with each weight, and the weights that stay adjusted to the loss.

Of a layer y = x W the loss of a change dW is tr(dW' C dW), with C the second moment (or covariance) of x and a ridge.
All that is needed is C and the best dense weights W. If the weights outside a set S of one output go and the rest is
adjusted, the loss is that of

    w_S = (C_SS)^-1 (C w)_S,

and one more weight i of S costs w_i^2 / [(C_SS)^-1]_ii (optimal brain surgeon, Hassibi and Stork 1993; by outputs,
Frantar and Alistarh 2022). `iterate` removes weights in rounds with this saliency, exactly, output by output. Large
layers share the work between their outputs: `scan` goes through the inputs once with one inverse for all (SparseGPT,
Frantar and Alistarh 2023), and `descend` adjusts all of them at once by conjugate gradients under the mask, whose only
large product is C times the weights (as ALPS does, Meng et al. 2024).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from .patterns import Array, Mask, Pattern

Float64 = NDArray[np.float64]
ROUNDS = 3
BLOCK = 128
ITERATED = 2e11
"""Multiplications that `iterate` may take for all layers of a model, about; beyond that it is `scan`."""
_FACTORED = 2e9
"""Multiplications that `adjust` may take for a layer; beyond that it is `descend`."""
TOLERANCE = 1e-3
"""Of `descend`: norm2 of the gradient that is left, preconditioned, as a share of that of no weights at all."""
STEPS = 200
"""Of `descend`, at most; the loss falls with each, so that fewer do no harm."""


def remove(
    weights: Float64, second: Float64, pattern: Pattern, share: float, *, iterated: bool
) -> tuple[Float64, Mask]:
    """New weights `[k, n]` and which of them stay, by second-order saliency; `second` is C `[k, k]`, ridge included.

    Weights that are zero are gone already and stay so."""
    if iterated:
        return iterate(weights, second, pattern, share)
    found, stays = scan(weights, second, pattern, share)
    return adjust(weights, second, stays, start=found), stays


def work_of(groups: int, k: int, n: int) -> float:
    """What `iterate` takes for a layer, about, to compare with `ITERATED`."""
    return groups * n * float(k) ** 3


def iterate(weights: Float64, second: Float64, pattern: Pattern, share: float) -> tuple[Float64, Mask]:
    """In rounds: what costs least goes, the rest is adjusted."""
    stays = weights != 0
    found = weights
    for done in np.arange(1, ROUNDS + 1) / ROUNDS:
        now, part = pattern.between(float(done), share)
        stays &= now.stay(np.where(stays, _saliency(found, second, stays), -1.0), part)
        found = adjust(weights, second, stays)
    return found, stays


def _saliency(weights: Float64, second: Float64, stays: Mask) -> Float64:
    """What each weight costs if it goes as well; 0 for those that are gone."""
    found = np.zeros(weights.shape)
    if stays.all():
        inverse = _inverse_diagonal(second)
        return np.asarray(weights**2 / inverse[:, None])
    for column, kept in enumerate(stays.T):
        if kept.any():
            found[kept, column] = weights[kept, column] ** 2 / _inverse_diagonal(second[np.ix_(kept, kept)])
    return found


def _inverse_diagonal(matrix: Float64) -> Float64:
    lower = linalg.solve_triangular(np.linalg.cholesky(matrix), np.eye(len(matrix)), lower=True, check_finite=False)
    return np.asarray(np.einsum("ij,ij->j", lower, lower))


def adjust(weights: Float64, second: Float64, stays: Mask, start: Float64 | None = None) -> Float64:
    """The weights that lose least of those under the mask; `start` is near them, if any are known."""
    if _work(stays) > _FACTORED:
        return descend(weights, second, stays, np.where(stays, weights, 0.0) if start is None else start)
    target = second @ weights
    found = np.zeros(weights.shape)
    for column, kept in enumerate(stays.T):
        if kept.all():
            found[:, column] = weights[:, column]
        elif kept.any():
            factor = linalg.cho_factor(second[np.ix_(kept, kept)], lower=True, overwrite_a=True, check_finite=False)
            found[kept, column] = linalg.cho_solve(factor, target[kept, column], check_finite=False)
    return found


def descend(weights: Float64, second: Float64, stays: Mask, start: Float64) -> Float64:
    """The same by conjugate gradients, preconditioned with the diagonal of C, for all outputs together."""
    scale = 1 / np.diag(second)[:, None]
    found = start.copy()
    left = stays * (second @ (weights - found))
    direction = scale * left
    size = np.einsum("kn,kn->n", left, direction)
    target = stays * (second @ weights)
    enough = TOLERANCE**2 * np.einsum("kn,kn->n", target, scale * target)
    for _ in range(STEPS):
        open_ = size > enough
        if not open_.any():
            break
        image = stays * (second @ direction)
        step = np.where(open_, size / np.where(open_, np.einsum("kn,kn->n", direction, image), 1), 0)
        found += step * direction
        left -= step * image
        ahead = scale * left
        before, size = size, np.einsum("kn,kn->n", left, ahead)
        direction = ahead + size / np.where(before > 0, before, 1) * direction
    return found


def _work(stays: Mask) -> float:
    return float((stays.sum(axis=0, dtype=np.float64) ** 3).sum() / 3)


def scan(weights: Float64, second: Float64, pattern: Pattern, share: float) -> tuple[Float64, Mask]:
    """Through the inputs in blocks: each block chooses what goes, and what comes after it takes up the loss."""
    upper = np.linalg.cholesky(np.linalg.inv(second)).T
    scale = np.diag(upper)
    found, alive = weights.copy(), weights != 0
    stays = alive.copy()
    for start in range(0, len(weights), _step(pattern)):
        rows = slice(start, min(start + _step(pattern), len(weights)))
        cost = np.where(alive[rows], found[rows] ** 2 / scale[rows, None] ** 2, -1.0)
        stays[rows] &= pattern.stay(cost, share)
        errors = np.zeros_like(found[rows])
        for place, row in enumerate(range(rows.start, rows.stop)):
            errors[place] = np.where(stays[row], 0, found[row]) / scale[row]
            found[row] = np.where(stays[row], found[row], 0)
            found[row + 1 : rows.stop] -= np.outer(upper[row, row + 1 : rows.stop], errors[place])
        found[rows.stop :] -= upper[rows, rows.stop :].T @ errors
    return found, stays


def _step(pattern: Pattern) -> int:
    """Inputs of a block: about 128, and whole groups or blocks of the pattern."""
    unit = {"weight": 1, "n:m": pattern.m, "block": pattern.block[0]}[pattern.unit]
    return max(1, BLOCK // unit) * unit


def loss(change: Array, second: Float64) -> float:
    """tr(dW' C dW): the expected squared error of a change of the weights."""
    return float(np.einsum("kn,kn->", change, second @ change))
