"""Depthwise separation: a depthwise convolution of m filters a channel, then one 1 x 1.

T[n, c, :, :] = sum_m D[c, m, :, :] B[n, c, m]: of each input channel a matrix of rows n and columns (a, b), cut by SVD.
"""

from __future__ import annotations

import numpy as np

from .factors import Factors, Float64


def depthwise(kernel: Float64, filters: int) -> Factors:
    """Factors with so many filters a channel."""
    g, n, c, a, b = kernel.shape
    flat = kernel.transpose(0, 2, 1, 3, 4).reshape(g, c, n, a * b)
    u, s, vt = np.linalg.svd(flat, full_matrices=False)
    first = vt[:, :, :filters].reshape(g, c, filters, a, b)
    last = (u * s[:, :, None])[..., :filters].transpose(0, 2, 1, 3)
    return Factors("depthwise", (filters,), (np.ascontiguousarray(first), np.ascontiguousarray(last)))
