"""Factors of a kernel array: what every method gives, how well it does, and the best last factor for given others.

The weight of any linear layer is a kernel array T of shape [g, n, c, a, b]: groups, outputs and inputs of a group, the
first spatial axis, and the others together; of a matrix a = b = 1. A method writes T as an einsum of small arrays. With
C the second moment of the rows that meet it (patches, k = c a b numbers), the expected squared error of the output is
trace(dT' C dT), where dT is the error as matrices [g, k, n]; without data C is the identity.

T is linear in the last factor Q: as matrices, T = D Q with a design D that the other factors make. So the best Q is
that of least squares, (D' C D)^-1 D' C T.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Float64 = NDArray[np.float64]
SPECS = {
    "svd": "grcab,gnr->gncab",
    "nmf": "grcab,gnr->gncab",
    "spatial": "grca,gnrb->gncab",
    "tucker": "gic,goiab,gno->gncab",
    "cp": "grc,gra,grb,gnr->gncab",
    "depthwise": "gcmab,gncm->gncab",
}
"""How each method multiplies its factors."""
TINY = 1e-12
"""Of the mean of a diagonal: what keeps systems of equations solvable."""


@dataclass(frozen=True)
class Factors:
    """A product that stands for a kernel array."""

    method: str
    ranks: tuple[int, ...]
    arrays: tuple[Float64, ...]

    @property
    def size(self) -> int:
        """Numbers in all factors."""
        return sum(array.size for array in self.arrays)

    def product(self) -> Float64:
        """The kernel array [g, n, c, a, b]."""
        return np.asarray(np.einsum(SPECS[self.method], *self.arrays, optimize=True))

    def rounded(self, dtype: np.dtype[np.generic]) -> Factors:
        """The factors as they are stored.

        What is below the square of the type's rounding is zero, of the largest number of a factor: it changes nothing
        that rounding leaves, and such numbers, or their products, are subnormal, which runs several times slower.
        """
        return Factors(self.method, self.ranks, tuple(_stored(array, dtype) for array in self.arrays))


def _stored(array: Float64, dtype: np.dtype[np.generic]) -> Float64:
    info = np.finfo(np.dtype(dtype.name))
    least = max(float(info.tiny), float(info.eps) ** 2 * float(np.abs(array).max(initial=0.0)))
    return np.asarray(np.where(np.abs(array) < least, 0.0, array).astype(dtype).astype(np.float64))


def matrices(kernel: Float64) -> Float64:
    """The matrices [g, k, n] of a kernel array."""
    return np.asarray(kernel.reshape(*kernel.shape[:2], -1).swapaxes(1, 2))


def weighted(gram: Float64 | None, dense: Float64) -> Float64:
    """C M for matrices M [g, k, n]."""
    return dense if gram is None else gram @ dense


def ridged(second: Float64, ridge: float) -> Float64:
    """Second moments with a share of their mean added to the diagonal."""
    k = second.shape[1]
    mean = np.trace(second, axis1=1, axis2=2) / k
    return np.asarray(second + max(ridge, 1e-10) * mean[:, None, None] * np.eye(k))


def squared_error(kernel: Float64, approximation: Float64, gram: Float64 | None) -> float:
    """trace(dT' C dT)."""
    change = matrices(kernel - approximation)
    return max(0.0, float(np.einsum("gkn,gkn->", change, weighted(gram, change))))


def energy(kernel: Float64, gram: Float64 | None) -> float:
    """trace(T' C T)."""
    dense = matrices(kernel)
    return max(0.0, float(np.einsum("gkn,gkn->", dense, weighted(gram, dense))))


def design(factors: Factors) -> Float64:
    """The matrices D [g, k, m] by which the last factor is multiplied."""
    first, *_ = factors.arrays
    match factors.method:
        case "spatial":
            g, r, c, a = first.shape
            b = factors.arrays[1].shape[3]
            return np.asarray(np.einsum("grca,bd->gcabrd", first, np.eye(b)).reshape(g, c * a * b, r * b))
        case "tucker":
            found = np.einsum("gic,goiab->gcabo", *factors.arrays[:2], optimize=True)
        case "cp":
            found = np.einsum("grc,gra,grb->gcabr", *factors.arrays[:3])
        case "depthwise":
            g, c, m, a, b = first.shape
            return np.asarray(np.einsum("gcmab,cd->gcabdm", first, np.eye(c)).reshape(g, c * a * b, c * m))
        case _:
            found = first.transpose(0, 2, 3, 4, 1)
    return np.asarray(found.reshape(found.shape[0], -1, found.shape[-1]))


def with_best_last(factors: Factors, kernel: Float64, gram: Float64 | None) -> Factors:
    """The same with the last factor of least squares."""
    made = design(factors)
    heavy = weighted(gram, made)
    system = made.swapaxes(1, 2) @ heavy
    target = heavy.swapaxes(1, 2) @ matrices(kernel)
    best = np.stack([solved(s, t) for s, t in zip(system, target, strict=True)])
    last = factors.arrays[-1]
    return Factors(factors.method, factors.ranks, (*factors.arrays[:-1], best.swapaxes(1, 2).reshape(last.shape)))


def solved(system: Float64, target: Float64) -> Float64:
    """The solution of a symmetric system that may be singular."""
    scale = float(np.trace(system)) / max(1, len(system))
    if not scale > 0:
        return np.zeros_like(target)
    try:
        return np.asarray(linalg.cho_solve(linalg.cho_factor(system), target))
    except linalg.LinAlgError:
        return _least_solution(system, target, scale)


def _least_solution(system: Float64, target: Float64, scale: float) -> Float64:
    values, vectors = np.linalg.eigh(system)
    usable = values > TINY * max(float(values[-1]), scale)
    inverse = np.where(usable, 1 / np.where(usable, values, 1), 0)
    return np.asarray(vectors @ (inverse[:, None] * (vectors.T @ target)))
