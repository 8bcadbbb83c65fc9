"""Tucker-2: 1 x 1 to i channels, k x k to o, 1 x 1 to n (Kim et al. 2016), by higher-order orthogonal iteration.

T[n, c, :, :] = sum_{i, o} A[i, c] K[o, i, :, :] B[n, o] with orthonormal A and B: each in turn spans the leading left
vectors of T projected onto the other.
"""

from __future__ import annotations

import numpy as np

from .factors import Factors, Float64

SWEEPS = 1


def tucker(kernel: Float64, inner: int, outer: int) -> Factors:
    """Factors with `inner` channels before the core and `outer` behind it."""
    found = [_tucker(kernel[g], inner, outer) for g in range(len(kernel))]
    return Factors("tucker", (inner, outer), tuple(np.stack(each) for each in zip(*found, strict=True)))


def _tucker(kernel: Float64, inner: int, outer: int) -> tuple[Float64, Float64, Float64]:
    a = _leading(kernel.swapaxes(0, 1), inner)
    b = _leading(kernel, outer)
    for _ in range(SWEEPS):
        b = _leading(np.einsum("ncxy,ci->nixy", kernel, a, optimize=True), outer)
        a = _leading(np.einsum("ncxy,no->coxy", kernel, b, optimize=True), inner)
    core = np.einsum("ncxy,ci,no->oixy", kernel, a, b, optimize=True)
    return np.ascontiguousarray(a.T), np.ascontiguousarray(core), b


def _leading(array: Float64, rank: int) -> Float64:
    """The leading left vectors of an array unfolded along its first axis."""
    flat = array.reshape(len(array), -1)
    _, vectors = np.linalg.eigh(flat @ flat.T)
    return np.ascontiguousarray(vectors[:, ::-1][:, :rank])
