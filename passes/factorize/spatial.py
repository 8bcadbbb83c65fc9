"""Spatial separation: a convolution a x b is one a x 1 with r outputs, then one 1 x b (Jaderberg et al. 2014).

T[n, c, i, j] = sum_r P[r, c, i] Q[n, r, j]: a matrix of rows (c, i) and columns (n, j), cut by its SVD. Strides,
dilations and pads belong to the axis that they are of; zeros that the second one pads are what the first one, which has
no bias, gives for zeros.
"""

from __future__ import annotations

import numpy as np

from .factors import Factors, Float64


def basis(kernel: Float64) -> Float64:
    """The left vectors [g, (c a), m] of the matrices, in order."""
    g, n, c, a, b = kernel.shape
    flat = kernel.transpose(0, 2, 3, 1, 4).reshape(g, c * a, n * b)
    if c * a <= n * b:
        return np.ascontiguousarray(np.linalg.eigh(flat @ flat.swapaxes(1, 2))[1][:, :, ::-1])
    right = np.linalg.eigh(flat.swapaxes(1, 2) @ flat)[1][:, :, ::-1]
    return np.asarray(np.linalg.qr(flat @ right)[0])


def spatial(kernel: Float64, rank: int, left: Float64 | None = None) -> Factors:
    """The best factors of a rank without regard to data; `left` is the basis, if it is known."""
    g, n, c, a, b = kernel.shape
    flat = kernel.transpose(0, 2, 3, 1, 4).reshape(g, c * a, n * b)
    first = (basis(kernel) if left is None else left)[:, :, :rank]
    last = first.swapaxes(1, 2) @ flat
    return Factors(
        "spatial",
        (rank,),
        (
            np.ascontiguousarray(first.reshape(g, c, a, rank).transpose(0, 3, 1, 2)),
            np.ascontiguousarray(last.reshape(g, rank, n, b).transpose(0, 2, 1, 3)),
        ),
    )
