"""Halves: the moments of every other sample apart, so that a fit to one half can be judged by the other.

Few samples fit too well: the ridge that a refit should have is the one that does best on samples that it has not seen.
Of a layer so wide that both halves and their sum take too much memory, the moments of all samples are kept instead; its
ridge is what few rows make necessary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...ir import Model, Value
from ...ir.analysis.linear import Linear
from ..manager.context import Context
from . import stages
from .refit import Float64, Refit
from .stream import observe_pairs

TRIED = (1 / 16, 1.0, 16.0)
"""Ridges that are tried, in units of what few rows make necessary."""
COLUMNS = 128
"""Outputs that a ridge is tried on, evenly spaced."""


class Halves:
    """The moments of every other sample apart: two `parts`, or one, of all samples, where two take too much memory."""

    def __init__(self, old: Linear, new: Linear) -> None:
        self.parts = tuple(Refit(old, new) for _ in range(2 if _can_divide(old, new) else 1))
        self._turn = 0

    @staticmethod
    def nbytes_for(old: Linear, new: Linear) -> int:
        """Bytes that the halves and their sum take, or what is kept instead."""
        return (3 if _can_divide(old, new) else 1) * Refit.nbytes_for(old, new)

    @property
    def is_divided(self) -> bool:
        """Whether one half can be judged by the other: there are samples for both."""
        return len(self.parts) == 2 and all(part.count for part in self.parts)

    @property
    def count(self) -> int:
        """Rows that were seen."""
        return sum(part.count for part in self.parts)

    def update(self, before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> None:
        """Take the rows of one sample into account."""
        self.parts[self._turn].update(before, after)
        self._turn = (self._turn + 1) % len(self.parts)

    def whole(self) -> Refit:
        """The moments of all samples."""
        if len(self.parts) == 1:
            return self.parts[0]
        found = Refit(self.parts[0].old, self.parts[0].new)
        for part in self.parts:
            found.merge(part)
        return found

    def best_ridge(
        self, dense: Float64, least: float, *, bias: bool = False, prior: Float64 | None = None
    ) -> float | None:
        """The ridge that does best on the other half, towards the matrices `prior` (by default those of before,
        `dense`); None if these themselves do, or if there is one sample alone. With `bias` means do not count.
        `least`, as of few rows, where the memory did not allow halves."""
        if not self.is_divided:
            return least if len(self.parts) == 1 else None
        one, other = self.parts
        step = max(1, -(-dense.shape[2] // COLUMNS))
        old, now = dense[:, :, ::step], (dense if prior is None else prior)[:, :, ::step]
        errors: dict[float | None, float] = {None: sum(part.error(old, now, bias=bias) for part in self.parts)}
        for ridge in (factor * least for factor in TRIED):
            solved = (part.solve(old, ridge=ridge, bias=bias, prior=now)[0] for part in (other, one))
            errors[ridge] = sum(
                part.error(old, made, bias=bias) for part, made in zip((one, other), solved, strict=True)
            )
        return min(errors, key=lambda ridge: errors[ridge])

    def refitted(self, old: Float64, now: Float64, *, ridge: float | None, bias: bool) -> tuple[Refit, Float64 | None]:
        """The moments of all samples, and the matrices that lose least, with a given `ridge` or the best; None instead
        of these where none are better than those of `now`. `old` are those of before; with `bias` means do not count.
        """
        fit = self.whole()
        if ridge is None:
            ridge = self.best_ridge(old, fit.ridge(), bias=bias, prior=now)
        return fit, None if ridge is None else fit.solve(old, ridge=ridge, bias=bias, prior=now)[0]


def _can_divide(old: Linear, new: Linear) -> bool:
    return 3 * Refit.nbytes_for(old, new) <= stages.MEMORY


def observed_halves(
    ctx: Context, before: Model, layers: Iterable[tuple[Linear, Linear]], *, purpose: str
) -> list[Halves]:
    """Of layers of the model `before` and of that of now, what both read in the samples; without any row where that
    cannot be observed."""
    found = [Halves(old, new) for old, new in layers]
    pairs: dict[tuple[Value, Value], list[Halves]] = {}
    for halves in found:
        pairs.setdefault((halves.parts[0].old.x, halves.parts[0].new.x), []).append(halves)
    observe_pairs(ctx, before, pairs, purpose=purpose)
    return found
