"""Refinement at fixed ranks: alternating least squares in the norm of the activations.

T is linear in each factor while the others stay. The last has a closed form; the others improve by a few steps of
conjugate gradients on their normal equations, whose operators are einsums. No step makes the error larger.
"""

from __future__ import annotations

import numpy as np

from .factors import SPECS, Factors, Float64, matrices, squared_error, weighted, with_best_last

STEPS = 6
EXACT = ("svd",)
"""Methods whose factors are the best already."""
NON_NEGATIVE = ("nmf",)


def refined(factors: Factors, kernel: Float64, gram: Float64 | None, sweeps: int) -> Factors:
    """Factors that are at least as good."""
    if factors.method in NON_NEGATIVE or (factors.method in EXACT and not len(factors.arrays) > 2):
        return factors
    best = with_best_last(factors, kernel, gram)
    error = squared_error(kernel, best.product(), gram)
    given = squared_error(kernel, factors.product(), gram)
    if given < error:
        best, error = factors, given
    for _ in range(sweeps):
        now = best
        for slot in range(len(now.arrays) - 1):
            now = _improved(now, slot, kernel, gram)
        now = with_best_last(now, kernel, gram)
        after = squared_error(kernel, now.product(), gram)
        if not after < error:
            return best
        done = after > 0.999 * error
        best, error = now, after
        if done:
            break
    return best


def _improved(factors: Factors, slot: int, kernel: Float64, gram: Float64 | None) -> Factors:
    """One factor after some steps of conjugate gradients."""
    arrays = list(factors.arrays)
    spec = SPECS[factors.method]
    own = spec.split("->")[0].split(",")[slot]
    others = [name for place, name in enumerate(spec.split("->")[0].split(",")) if place != slot]
    rest = [array for place, array in enumerate(arrays) if place != slot]

    def forward(array: Float64) -> Float64:
        return np.asarray(np.einsum(f"{own},{','.join(others)}->gncab", array, *rest, optimize=True))

    def backward(residual: Float64) -> Float64:
        heavy = weighted(gram, matrices(residual)).swapaxes(1, 2).reshape(residual.shape)
        return np.asarray(np.einsum(f"gncab,{','.join(others)}->{own}", heavy, *rest, optimize=True))

    x = arrays[slot].copy()
    residual = backward(kernel - forward(x))
    direction, size = residual, float((residual**2).sum())
    for _ in range(STEPS):
        if not size > 0:
            break
        image = backward(forward(direction))
        curvature = float((direction * image).sum())
        if not curvature > 0:
            break
        step = size / curvature
        x = x + step * direction
        residual = residual - step * image
        size, before = float((residual**2).sum()), size
        direction = residual + size / before * direction
    arrays[slot] = x
    return Factors(factors.method, factors.ranks, tuple(arrays))
