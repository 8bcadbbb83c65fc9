"""CP: T as a sum of r terms of rank one (Lebedev et al. 2015): 1 x 1, depthwise a x 1, depthwise 1 x b, 1 x 1.

By alternating least squares from the leading vectors of every unfolding; a little ridge keeps terms from cancelling.
"""

from __future__ import annotations

import numpy as np

from .factors import Factors, Float64

SWEEPS = 12
RIDGE = 1e-8


def cp(kernel: Float64, rank: int) -> Factors:
    """Factors of so many terms."""
    found = [_cp(kernel[g], rank) for g in range(len(kernel))]
    return Factors("cp", (rank,), tuple(np.stack(each) for each in zip(*found, strict=True)))


def _cp(kernel: Float64, rank: int) -> tuple[Float64, Float64, Float64, Float64]:
    _n, _c, _a, _b = kernel.shape
    rng = np.random.default_rng(0)
    modes = [_start(np.moveaxis(kernel, axis, 0), rank, rng) for axis in range(4)]
    for _ in range(SWEEPS):
        for axis in range(4):
            others = [modes[other] for other in range(4) if other != axis]
            gram = np.ones((rank, rank))
            for other in others:
                gram *= other.T @ other
            gram += RIDGE * max(float(np.trace(gram)) / rank, 1e-300) * np.eye(rank)
            flat = np.einsum("xyzw,yr,zr,wr->xr", np.moveaxis(kernel, axis, 0), *others, optimize=True)
            modes[axis] = np.linalg.solve(gram, flat.T).T
            if axis:
                modes[axis] = modes[axis] / np.maximum(np.linalg.norm(modes[axis], axis=0), 1e-300)
                if axis == 3:
                    modes[0] = _last(kernel, modes)
    outputs, inputs, first, second = modes
    return tuple(np.ascontiguousarray(m) for m in (inputs.T, first.T, second.T, outputs))  # type: ignore[return-value]


def _last(kernel: Float64, modes: list[Float64]) -> Float64:
    """The outputs' factor, which carries the scale, for the others as they are."""
    rank = modes[1].shape[1]
    gram = np.ones((rank, rank))
    for other in modes[1:]:
        gram *= other.T @ other
    gram += RIDGE * max(float(np.trace(gram)) / rank, 1e-300) * np.eye(rank)
    flat = np.einsum("xyzw,yr,zr,wr->xr", kernel, *modes[1:], optimize=True)
    return np.asarray(np.linalg.solve(gram, flat.T).T)


def _start(array: Float64, rank: int, rng: np.random.Generator) -> Float64:
    flat = array.reshape(len(array), -1)
    _, vectors = np.linalg.eigh(flat @ flat.T)
    known = vectors[:, ::-1][:, :rank]
    more = rng.standard_normal((len(array), rank - known.shape[1])) / np.sqrt(len(array))
    return np.concatenate([known, more], axis=1)
