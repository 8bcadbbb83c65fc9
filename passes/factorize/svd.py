"""Singular value decomposition of matrices: plain, in the norm of the activations, and randomized.

W = U S V'; the best product of rank r is U_r S_r V_r' (Eckart, Young), its spectral error S_{r+1}. Weighted by second
moments C, trace(dW' C dW) is least for W V_r V_r', with V the eigenvectors of W' C W (SVD-LLM, Wang et al. 2024, seen
from the outputs): the expected squared error is the sum of the eigenvalues that are dropped, and no inverse of C is
needed. For n > k the same from the k x k side. Large matrices: subspace iteration (Halko et al. 2011).

A convolution k x k is one with r outputs, then one 1 x 1: the matrix is [c a b, n]. Groups have a matrix each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .factors import Factors, Float64, matrices

LARGE = 3000
"""Smaller side of a matrix from which on the decomposition is randomized."""
OVERSAMPLING = 16
STEPS = 3


@dataclass(frozen=True)
class Spectrum:
    """Of one matrix: its right vectors V [n, r] in order, and what each adds to the squared error if it is dropped.

    `rest` is what all vectors that are not there would add.
    """

    right: Float64
    values: Float64
    rest: float = 0.0

    def dropped(self, rank: int) -> float:
        """The squared error that is left at a rank."""
        return float(self.values[rank:].sum()) + self.rest


@dataclass(frozen=True)
class Svd:
    """The decomposition of the matrices of a kernel array, to be cut at any rank."""

    spectra: tuple[Spectrum, ...]

    @property
    def most(self) -> int:
        """The largest rank that it can be cut at."""
        return min(len(spectrum.values) for spectrum in self.spectra)

    def dropped(self, rank: int) -> float:
        """The expected squared error at a rank."""
        return sum(spectrum.dropped(rank) for spectrum in self.spectra)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(spectrum.right.nbytes for spectrum in self.spectra)

    def cut(self, kernel: Float64, rank: int) -> Factors:
        """The best factors of a rank for the kernel array that it is of."""
        _, _, c, a, b = kernel.shape
        right = np.stack([spectrum.right[:, :rank] for spectrum in self.spectra])
        first = (matrices(kernel) @ right).swapaxes(1, 2).reshape(len(right), rank, c, a, b)
        return Factors("svd", (rank,), (np.ascontiguousarray(first), right))


def decompose(kernel: Float64, gram: Float64 | None, most: int | None = None) -> Svd:
    """The decomposition, up to rank `most` if the matrices are large."""
    dense = matrices(kernel)
    found = [spectrum_of(dense[g], None if gram is None else gram[g], most) for g in range(len(dense))]
    return Svd(tuple(found))


def spectrum_of(matrix: Float64, gram: Float64 | None, most: int | None = None) -> Spectrum:
    """The spectrum of one matrix [k, n], weighted by C [k, k]."""
    k, n = matrix.shape
    if min(k, n) > LARGE and most is not None and 4 * most < min(k, n) * 3:
        return _randomized(matrix, gram, most)
    if gram is None:
        _, s, vt = np.linalg.svd(np.linalg.qr(matrix, mode="r") if k > 2 * n else matrix, full_matrices=False)
        return Spectrum(np.ascontiguousarray(vt.T), s**2)
    if n <= k:
        values, vectors = np.linalg.eigh(matrix.T @ gram @ matrix)
        return Spectrum(np.ascontiguousarray(vectors[:, ::-1]), np.maximum(values[::-1], 0))
    half = _root(gram) @ matrix
    values, vectors = np.linalg.eigh(half @ half.T)
    right = np.linalg.qr(half.T @ vectors[:, ::-1])[0]
    return Spectrum(right, np.maximum(values[::-1], 0))


def _root(gram: Float64) -> Float64:
    """R with R' R = C."""
    values, vectors = np.linalg.eigh(gram)
    return np.asarray(np.sqrt(np.maximum(values, 0))[:, None] * vectors.T)


def _randomized(matrix: Float64, gram: Float64 | None, most: int) -> Spectrum:
    """Subspace iteration on W' C W, which is never formed."""
    rng = np.random.default_rng(0)
    width = min(most + OVERSAMPLING, *matrix.shape)
    heavy = matrix if gram is None else gram @ matrix
    basis = np.linalg.qr(rng.standard_normal((matrix.shape[1], width)))[0]
    for _ in range(STEPS):
        basis = np.linalg.qr(heavy.T @ (matrix @ basis))[0]
    values, vectors = np.linalg.eigh((matrix @ basis).T @ (heavy @ basis))
    values = np.maximum(values[::-1], 0)
    total = float(np.einsum("kn,kn->", matrix, heavy))
    right = basis @ vectors[:, ::-1]
    return Spectrum(right, values, max(0.0, total - float(values.sum())))
