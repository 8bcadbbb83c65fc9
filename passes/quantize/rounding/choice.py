"""Which rounding a weight gets: the one with which its layers err least on samples that were held out.

Methods fit the second moments of most samples; a second set of moments, of the others, judges. The error judged is
that of the numbers which an executor will decode. Whatever is chosen, it is never worse there than nearest rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..levels import Grid, decode, encode
from .clip import clipped
from .descent import adaround, has_neighbours, refined
from .gptq import Elimination
from .lattice import Float64, Lattice, damped, lattices, quadratic
from .options import Clip, Rounding
from .view import Array, View

DAMPING = (0.01, 0.1)
"""Shares of the mean of H's diagonal: the first is GPTQ's own, the second is better where samples are few."""


@dataclass(frozen=True)
class Rounded:
    """A grid and how its codes were found. Errors are shares of the energy of the output, on held-out samples."""

    grid: Grid
    how: str
    error: float
    nearest: float


@dataclass(frozen=True)
class Task:
    """One weight on its grid, seen by `view`, with E[x'x] of the samples to fit and of those held out."""

    weight: Array
    grid: Grid
    view: View
    fit: Float64
    held: Float64

    @cached_property
    def matrices(self) -> Float64:
        """Of the weight, `[groups, k, n]`."""
        return np.asarray(self.view.matrices(self.weight), np.float64)

    @cached_property
    def _energy(self) -> float:
        """trace(W' H W) on the held-out samples."""
        return sum(map(quadratic, self.matrices, self.held))

    def error(self, grid: Grid) -> float:
        """trace(dW' H dW) / trace(W' H W) on the held-out samples; 0 if the layer gives nothing there."""
        decoded = decode(encode(self.weight, grid), grid, self.weight.dtype)
        change = np.asarray(self.view.matrices(decoded), np.float64) - self.matrices
        return sum(map(quadratic, change, self.held)) / self._energy if self._energy > 0 else 0.0

    @cached_property
    def _nearest(self) -> float:
        return self.error(self.grid)

    def best(self, rounding: Rounding, clip: Clip) -> Rounded:
        """The best of what the options allow; nearest rounding on the grid as it is, if nothing is better."""
        return min(self._candidates(rounding, clip), key=lambda each: each.error)

    def _candidates(self, rounding: Rounding, clip: Clip) -> Iterator[Rounded]:
        """Nearest rounding first. GPTQ is cheap and tried on every ground, descent on that where GPTQ errs least."""
        yield Rounded(self.grid, "nearest", self._nearest, self._nearest)
        if not all(np.trace(gram) > 0 for gram in self.fit):
            return
        grids = {"": self.grid}
        if clip == "auto":
            narrow = clipped(self.matrices, self.grid, self.view, self.fit)
            grids[" with clipped ranges"] = narrow
            yield Rounded(narrow, "nearest with clipped ranges", self.error(narrow), self._nearest)
        grounds = [] if rounding == "nearest" else self._grounds(grids)
        if rounding in ("auto", "gptq"):
            found = [self._on(ground, "gptq", ground.eliminated(self.matrices)) for ground in grounds]
            yield from found
        if rounding == "auto":
            start, ground = min(zip(found, grounds, strict=True), key=lambda pair: pair[0].error)
            grounds = [ground]
            codes = self.view.matrices(encode(self.weight, start.grid))
            yield self._on(ground, "gptq and descent", ground.refined(self.matrices, codes))
        if rounding in ("auto", "adaround"):
            yield from (
                self._on(ground, "adaround", ground.neighbours(self.matrices))
                for ground in grounds
                if has_neighbours(ground.places[0])
            )

    def _grounds(self, grids: Mapping[str, Grid]) -> list[_Ground]:
        made = [_Energy([damped(gram, share) for gram in self.fit]) for share in DAMPING]
        places = {tail: lattices(grid, self.view) for tail, grid in grids.items()}
        return [_Ground(tail, grid, places[tail], energy) for energy in made for tail, grid in grids.items()]

    def _on(self, ground: _Ground, how: str, codes: Array) -> Rounded:
        grid = ground.grid.choose(self.view.array(codes))
        return Rounded(grid, how + ground.tail, self.error(grid), self._nearest)


@dataclass(frozen=True)
class _Energy:
    """H of every group."""

    grams: list[Float64]

    @cached_property
    def eliminations(self) -> list[Elimination]:
        return [Elimination(gram) for gram in self.grams]


@dataclass(frozen=True)
class _Ground:
    """What a method starts from: a grid, with its lattices and what to say of it, and H. Codes are `[groups, k, n]`."""

    tail: str
    grid: Grid
    places: list[Lattice]
    energy: _Energy

    def eliminated(self, weight: Float64) -> Array:
        each = zip(self.energy.eliminations, weight, self.places, strict=True)
        return np.stack([elimination.codes(w, place) for elimination, w, place in each])

    def refined(self, weight: Float64, codes: Array) -> Array:
        return np.stack([refined(*each) for each in zip(weight, self.energy.grams, self.places, codes, strict=True)])

    def neighbours(self, weight: Float64) -> Array:
        return np.stack([adaround(*each) for each in zip(weight, self.energy.grams, self.places, strict=True)])
