"""Ranks from a spectrum alone: numerical, by energy, and by variational Bayes.

The last is the global analytic solution of fully observed variational Bayesian matrix factorization with the noise
estimated (Nakajima, Sugiyama, Babacan and Tomioka 2013, "Global analytic solution of fully-observed variational
Bayesian matrix factorization", theorem 2 and section 5): singular values below a threshold that noise of the estimated
variance explains are dropped.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from .factors import Float64


def numerical(values: Float64, shape: tuple[int, int], eps: float) -> int:
    """How many singular values are larger than what storing the matrix in a type of that `eps` explains.

    Rounding every element moves singular values by a few eps of the largest; what computed it, by its sums' length.
    """
    if not len(values) or not values[0] > 0:
        return 0
    width = 8.0 if eps > 1e-4 else max(8.0, 2 * max(shape) ** 0.5)
    return int((values > width * eps * values[0]).sum())


def by_energy(squares: Float64, share: float, rest: float = 0.0) -> int:
    """The least rank whose squares make up that share of their sum."""
    total = float(squares.sum()) + rest
    if not total > 0:
        return 0
    kept = np.concatenate([[0.0], np.cumsum(squares)])
    return int(np.searchsorted(kept, share * total * (1 - 1e-12)))


def variational(values: Float64, shape: tuple[int, int]) -> int:
    """The rank that variational Bayes finds in a matrix of these singular values."""
    low, high = min(shape), max(shape)
    values = values[:low]
    if not len(values) or not values[0] > 0:
        return 0
    alpha = low / high
    tau = 2.5129 * np.sqrt(alpha)
    threshold = (1 + tau) * (1 + alpha / tau)
    total = float((values**2).sum())
    most = min(int(np.ceil(low / (1 + alpha))) - 1, len(values) - 1)
    upper = total / (low * high)
    lower = max(values[most + 1] ** 2 / (high * threshold) if most + 1 < len(values) else 0.0,
                float((values[most:] ** 2).mean()) / high)  # fmt: skip
    lower = max(lower, 1e-12 * upper)
    if not lower < upper:
        variance = upper
    else:
        found = minimize_scalar(
            lambda log: _free_energy(float(np.exp(log)), values, low, high, alpha, threshold),
            bounds=(np.log(lower), np.log(upper)), method="bounded",
        )  # fmt: skip
        variance = float(np.exp(found.x))
    return int((values > np.sqrt(high * variance * threshold)).sum())


def _free_energy(variance: float, values: Float64, low: int, high: int, alpha: float, threshold: float) -> float:
    """The objective of the noise variance, up to a constant."""
    x = values**2 / (high * variance)
    large, small = x[x > threshold], x[x <= threshold]
    tau = 0.5 * (large - (1 + alpha) + np.sqrt((large - (1 + alpha)) ** 2 - 4 * alpha))
    found = float((small - np.log(np.maximum(small, 1e-300))).sum()) + float((large - tau).sum())
    found += float(np.log((tau + 1) / large).sum()) + alpha * float(np.log(tau / alpha + 1).sum())
    return found + (low - len(values)) * float(np.log(variance))
