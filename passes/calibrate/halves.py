"""Halves: the moments of every other sample apart, so that a fit to one half can be judged by the other.

Few samples fit too well: the ridge that a refit should have is the one that does best on samples that it has not seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ir.analysis.linear import Linear
from .refit import Float64, Refit

TRIED = (1 / 16, 1.0, 16.0)
"""Ridges that are tried, in units of what few rows make necessary."""
COLUMNS = 128
"""Outputs that a ridge is tried on, evenly spaced."""


class Halves:
    """The moments of every other sample apart."""

    def __init__(self, old: Linear, new: Linear) -> None:
        self.parts = (Refit(old, new), Refit(old, new))
        self._turn = 0

    @staticmethod
    def nbytes_for(old: Linear, new: Linear) -> int:
        """Bytes that the halves and their sum take."""
        return 3 * Refit.nbytes_for(old, new)

    @property
    def count(self) -> int:
        """Rows that were seen."""
        return sum(part.count for part in self.parts)

    def update(self, before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> None:
        """Take the rows of one sample into account."""
        self.parts[self._turn].update(before, after)
        self._turn = 1 - self._turn

    def whole(self) -> Refit:
        """The moments of all samples."""
        found = Refit(self.parts[0].old, self.parts[0].new)
        for part in self.parts:
            found.merge(part)
        return found

    def best_ridge(
        self, dense: Float64, least: float, *, bias: bool = False, prior: Float64 | None = None
    ) -> float | None:
        """The ridge that does best on the other half, towards the matrices `prior` (by default those of before,
        `dense`); None if these themselves do. With `bias` means do not count."""
        one, other = self.parts
        if not (one.count and other.count):
            return None
        step = max(1, -(-dense.shape[2] // COLUMNS))
        old, now = dense[:, :, ::step], (dense if prior is None else prior)[:, :, ::step]
        errors: dict[float | None, float] = {None: sum(part.error(old, now, bias=bias) for part in self.parts)}
        for ridge in (factor * least for factor in TRIED):
            solved = (part.solve(old, ridge=ridge, bias=bias, prior=now)[0] for part in (other, one))
            errors[ridge] = sum(
                part.error(old, made, bias=bias) for part, made in zip((one, other), solved, strict=True)
            )
        return min(errors, key=lambda ridge: errors[ridge])
