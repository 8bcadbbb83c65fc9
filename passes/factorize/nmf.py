"""Non-negative factors of a non-negative matrix: what was a sum of parts stays one (Lee and Seung 1999).

By hierarchical alternating least squares (Cichocki and Phan 2009): column by column, each the best that is not
negative. Starts from the absolute leading vectors (Boutsidis and Gallopoulos 2008).
"""

from __future__ import annotations

import numpy as np

from .factors import Factors, Float64, matrices

SWEEPS = 100


def nmf(kernel: Float64, rank: int) -> Factors:
    """Factors of a rank; the kernel array has no negative element."""
    _, _, c, a, b = kernel.shape
    found = [_nmf(matrix, rank) for matrix in matrices(kernel)]
    first = np.stack([left.T for left, _ in found]).reshape(len(found), rank, c, a, b)
    return Factors("nmf", (rank,), (first, np.stack([right.T for _, right in found])))


def _nmf(matrix: Float64, rank: int) -> tuple[Float64, Float64]:
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    tiny = 1e-6 * float(matrix.mean() or 1)
    left = np.maximum(np.abs(u[:, :rank]) * np.sqrt(s[:rank]), tiny)
    right = np.maximum(np.abs(vt[:rank]) * np.sqrt(s[:rank, None]), tiny)
    for _ in range(SWEEPS):
        _improve(left, matrix @ right.T, right @ right.T)
        _improve(right.T, matrix.T @ left, left.T @ left)
    return left, right


def _improve(columns: Float64, target: Float64, gram: Float64) -> None:
    for j in range(columns.shape[1]):
        if gram[j, j] > 0:
            columns[:, j] = np.maximum(0, columns[:, j] + (target[:, j] - columns @ gram[:, j]) / gram[j, j])
