"""CP: T as a sum of r terms of rank one (Lebedev et al. 2015): 1 x 1, depthwise a x 1, depthwise 1 x b, 1 x 1.

By alternating least squares from the leading vectors of every unfolding; a little ridge keeps terms from cancelling.
"""

from __future__ import annotations

import numpy as np

from .factors import Factors, Float64

SWEEPS = 30
RIDGE = 1e-8


def cp(kernel: Float64, rank: int) -> Factors:
    """Factors of so many terms."""
    found = [_cp(kernel[g], rank) for g in range(len(kernel))]
    return Factors("cp", (rank,), tuple(np.stack(each) for each in zip(*found, strict=True)))


def _cp(kernel: Float64, rank: int) -> tuple[Float64, Float64, Float64, Float64]:
    rng = np.random.default_rng(0)
    modes = [_start(np.moveaxis(kernel, axis, 0), rank, rng) for axis in range(4)]
    flat = kernel.reshape(len(kernel), -1)
    modes[0] = _outputs(flat, modes)
    for _ in range(SWEEPS):
        seen = (flat.T @ modes[0]).reshape(*kernel.shape[1:], rank)
        for axis, sums in ((1, "cabr,ar,br->cr"), (2, "cabr,cr,br->ar"), (3, "cabr,cr,ar->br")):
            others = [modes[other] for other in (1, 2, 3) if other != axis]
            found = _solved(
                [modes[0], *others], np.einsum(sums, seen, *others, optimize=["einsum_path", (0, 1), (0, 1)])
            )
            modes[axis] = found / np.maximum(np.linalg.norm(found, axis=0), 1e-300)
        modes[0] = _outputs(flat, modes)
    outputs, inputs, first, second = modes
    return tuple(np.ascontiguousarray(m) for m in (inputs.T, first.T, second.T, outputs))  # type: ignore[return-value]


def _outputs(flat: Float64, modes: list[Float64]) -> Float64:
    """The outputs' factor, which carries the scale, of least squares for the others."""
    terms = np.einsum("cr,ar,br->cabr", *modes[1:]).reshape(flat.shape[1], -1)
    return _solved(modes[1:], flat @ terms)


def _solved(others: list[Float64], sums: Float64) -> Float64:
    """The factor of one mode, from sums of the array over all others."""
    one, two, three = others
    rank = one.shape[1]
    gram = (one.T @ one) * (two.T @ two) * (three.T @ three)
    gram += RIDGE * max(float(np.trace(gram)) / rank, 1e-300) * np.eye(rank)
    return np.asarray(np.linalg.solve(gram, sums.T).T)


def _start(array: Float64, rank: int, rng: np.random.Generator) -> Float64:
    flat = array.reshape(len(array), -1)
    _, vectors = np.linalg.eigh(flat @ flat.T)
    known = vectors[:, ::-1][:, :rank]
    more = rng.standard_normal((len(flat), rank - known.shape[1])) / np.sqrt(len(flat))
    return np.concatenate([known, more], axis=1)
