"""The objective of rounding where inputs are quantized too: what a layer gives is compared with what it gave.

A layer y = x W reads x~ once those before it are quantized. The expected squared error of weights V is the quadratic

    E |x W - x~ V|^2 = tr V' A V - 2 tr V' C W + tr W' B W,    A = E[x~'x~], C = E[x~'x], B = E[x'x],

which but for a constant is tr (V - W*)' A (V - W*) with W* = A^-1 C W. So V is rounded as ever, from W* in place of W
and with A in place of H. With r I added to A, and r W to C W, the pull is towards W where inputs have no energy.

Source: the asymmetric calibration of GPTAQ (Li et al. 2025, arXiv 2504.02692); refits as in `calibrate/refit.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from ..repair.shift import Correction
from .lattice import Float64, damped, quadratic


@dataclass(frozen=True)
class Seen:
    """Of one set of samples A and C, `[groups, k, k]` (the same array where x~ is x); E[x~] and E[x], `[groups, k]`."""

    now: Float64
    cross: Float64
    mean_now: Float64
    mean_was: Float64

    @classmethod
    def same(cls, gram: Float64, mean: Float64) -> Seen:
        """Where nothing before the layer has changed."""
        return cls(gram, gram, mean, mean)

    @property
    def has_energy(self) -> bool:
        """Whether every group has seen something else than zeros."""
        return all(np.trace(gram) > 0 for gram in self.now)

    def damped(self, share: float) -> list[Float64]:
        """A of every group, with a share of the mean of its diagonal added to the diagonal."""
        return [damped(gram, share) for gram in self.now]

    def targets(self, weight: Float64, share: float) -> Float64:
        """W* for matrices `[groups, k, n]`, damped as A is; where W is zero, so is W*: pruned weights stay pruned."""
        if self.cross is self.now:
            return weight
        each = zip(self.damped(share), self.now, self.cross, weight, strict=True)
        found = np.stack([linalg.solve(a, c @ w + (a - now) @ w, assume_a="pos") for a, now, c, w in each])
        return np.where(weight == 0, 0, found)

    def error(self, was: Float64, weight: Float64, new: Float64) -> float:
        """E |x W - x~ V|^2, summed over outputs, of matrices W and V; `was` is B."""
        if self.cross is self.now:
            return sum(map(quadratic, new - weight, self.now))
        first, second = sum(map(quadratic, new, self.now)), sum(map(quadratic, weight, was))
        return max(0.0, first + second - 2 * float(np.einsum("gkn,gkn->", new, self.cross @ weight)))

    def shift(self, weight: Float64, new: Float64) -> Float64:
        """E[x] W - E[x~] V, of every output: `[groups * n]`."""
        return np.asarray((self.mean_was[:, None] @ weight - self.mean_now[:, None] @ new).reshape(-1))


@dataclass(frozen=True)
class Grams:
    """Of the samples to fit and of those held out, over all readers of a weight; `was` is B of the held out."""

    fit: Seen
    held: Seen
    was: Float64

    @property
    def drifted(self) -> bool:
        """Whether x~ is another than x."""
        return self.fit.cross is not self.fit.now

    def correction(self, weight: Float64, new: Float64) -> Correction:
        """What to add to the outputs of matrices W that are V now: the mean error on the samples to fit, of channels
        where that takes away some of the error on those held out."""
        amounts, judge = self.fit.shift(weight, new), self.held.shift(weight, new)
        saved = 2 * amounts * judge - np.square(amounts)
        helps = saved > 0
        error = self.held.error(self.was, weight, new)
        return Correction(np.where(helps, amounts, 0), float(saved[helps].sum()), error)
