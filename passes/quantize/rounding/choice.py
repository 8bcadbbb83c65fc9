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
from .gptq import Elimination, eliminated
from .lattice import Float64, Lattice, lattices, quadratic
from .options import Clip, Rounding
from .seen import Grams
from .view import Array, View

DAMPING = (0.01, 0.1)
"""Shares of the mean of H's diagonal: the first is GPTQ's own, the second is better where samples are few."""
FINE = 8
"""Bits from which on `auto` does not try adaround, which takes half the time: GPTQ and descent erred less for all but
one of the 67 weights of five models."""


@dataclass(frozen=True)
class Rounded:
    """A grid and how its codes were found. Errors are shares of the energy of the output, on held-out samples."""

    grid: Grid
    how: str
    error: float
    nearest: float


@dataclass(frozen=True)
class Task:
    """One weight on its grid, seen by `view`, with the moments of its inputs."""

    weight: Array
    grid: Grid
    view: View
    moments: Grams

    @cached_property
    def matrices(self) -> Float64:
        """Of the weight, `[groups, k, n]`."""
        return np.asarray(self.view.matrices(self.weight), np.float64)

    @cached_property
    def _energy(self) -> float:
        """E |x W|^2 on the held-out samples."""
        return sum(map(quadratic, self.matrices, self.moments.was))

    def decoded(self, grid: Grid) -> Float64:
        """The matrices that an executor has."""
        decoded = decode(encode(self.weight, grid), grid, self.weight.dtype)
        return np.asarray(self.view.matrices(decoded), np.float64)

    def error(self, grid: Grid) -> float:
        """E |x W - x~ V|^2 / E |x W|^2 on the held-out samples; 0 if the layer gives nothing there."""
        found = self.moments.held.error(self.moments.was, self.matrices, self.decoded(grid))
        return found / self._energy if self._energy > 0 else 0.0

    @cached_property
    def _nearest(self) -> float:
        return self.error(self.grid)

    def best(self, rounding: Rounding, clip: Clip) -> Rounded:
        """The best of what the options allow; nearest rounding on the grid as it is, if nothing is better."""
        return min(self._candidates(rounding, clip), key=lambda each: each.error)

    def _candidates(self, rounding: Rounding, clip: Clip) -> Iterator[Rounded]:
        """Nearest rounding first. GPTQ is cheap and tried on every ground, descent on that where GPTQ errs least."""
        yield Rounded(self.grid, "nearest", self._nearest, self._nearest)
        fit = self.moments.fit
        if not fit.has_energy:
            return
        grids = {"": self.grid}
        if clip == "auto":
            narrow = clipped(fit.targets(self.matrices, DAMPING[0]), self.grid, self.view, fit.now)
            grids[" with clipped ranges"] = narrow
            yield Rounded(narrow, "nearest with clipped ranges", self.error(narrow), self._nearest)
        grounds = [] if rounding == "nearest" else self._grounds(grids)
        if rounding in ("auto", "gptq"):
            found = [self._on(ground, "gptq", ground.eliminated()) for ground in grounds]
            yield from found
        if rounding == "auto":
            start, ground = min(zip(found, grounds, strict=True), key=lambda pair: pair[0].error)
            grounds = [ground]
            codes = self.view.matrices(encode(self.weight, start.grid))
            yield self._on(ground, "gptq and descent", ground.refined(codes))
        if rounding == "adaround" or (rounding == "auto" and self.grid.alphabet.bits < FINE):
            yield from (
                self._on(ground, "adaround", ground.neighbours())
                for ground in grounds
                if has_neighbours(ground.places[0])
            )

    def _grounds(self, grids: Mapping[str, Grid]) -> list[_Ground]:
        fit, weight = self.moments.fit, self.matrices
        made = [_Energy(fit.damped(share), fit.targets(weight, share)) for share in DAMPING]
        places = {tail: lattices(grid, self.view) for tail, grid in grids.items()}
        return [_Ground(tail, grid, places[tail], energy) for energy in made for tail, grid in grids.items()]

    def _on(self, ground: _Ground, how: str, codes: Array) -> Rounded:
        grid = ground.grid.choose(self.view.array(codes))
        return Rounded(grid, how + ground.tail, self.error(grid), self._nearest)


@dataclass(frozen=True)
class _Energy:
    """H of every group, and what is to be rounded, `[groups, k, n]`."""

    grams: list[Float64]
    targets: Float64

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

    def eliminated(self) -> Array:
        return eliminated(self.energy.eliminations, self.energy.targets, self.places)

    def refined(self, codes: Array) -> Array:
        each = zip(self.energy.targets, self.energy.grams, self.places, codes, strict=True)
        return np.stack([refined(*one) for one in each])

    def neighbours(self) -> Array:
        each = zip(self.energy.targets, self.energy.grams, self.places, strict=True)
        return np.stack([adaround(*one) for one in each])
