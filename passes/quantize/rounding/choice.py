"""Which rounding a weight gets: the one with which its layers err least on samples that were held out.

Methods fit the second moments of most samples; a second set of moments, of the others, judges. The error judged is
that of the numbers which an executor will decode. Whatever is chosen, it is never worse there than nearest rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from ..levels import Grid, decode, encode
from .clip import clipped
from .descent import adaround, has_neighbours, refined
from .gptq import Elimination
from .lattice import Float64, Lattice, damped, lattices, quadratic
from .view import Array, View

Rounding = Literal["auto", "nearest", "gptq", "adaround"]
Clip = Literal["auto", "none"]
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

    def best(self, rounding: Rounding, clip: Clip) -> Rounded:
        """The best of what the options allow; nearest rounding on the grid as it is, if nothing is better."""
        nearest = self.error(self.grid)
        best = Rounded(self.grid, "nearest", nearest, nearest)
        for how, grid in self._candidates(rounding, clip):
            error = self.error(grid)
            if error < best.error:
                best = Rounded(grid, how, error, nearest)
        return best

    def _candidates(self, rounding: Rounding, clip: Clip) -> Iterator[tuple[str, Grid]]:
        if not all(np.trace(gram) > 0 for gram in self.fit):
            return
        grids = {"": self.grid}
        if clip == "auto":
            narrow = clipped(self.matrices, self.grid, self.view, self.fit)
            yield "nearest with clipped ranges", narrow
            grids[" with clipped ranges"] = narrow
        for share in DAMPING if rounding != "nearest" else ():
            methods = _Methods([damped(gram, share) for gram in self.fit], rounding)
            for tail, grid in grids.items():
                for how, codes in methods.codes(self.matrices, lattices(grid, self.view)):
                    yield how + tail, grid.choose(self.view.array(codes))


class _Methods:
    """The methods that an option asks for, for one H of every group."""

    def __init__(self, grams: Sequence[Float64], rounding: Rounding) -> None:
        self._grams, self._rounding = grams, rounding
        self._eliminations = [Elimination(gram) for gram in grams] if rounding in ("auto", "gptq") else []

    def codes(self, weight: Float64, places: Sequence[Lattice]) -> Iterator[tuple[str, Array]]:
        """Codes `[groups, k, n]`, by method."""
        if self._eliminations:
            found = [each.codes(w, place) for each, w, place in zip(self._eliminations, weight, places, strict=True)]
            yield "gptq", np.stack(found)
            if self._rounding == "auto":
                better = [refined(*each) for each in zip(weight, self._grams, places, found, strict=True)]
                yield "gptq and descent", np.stack(better)
        if self._rounding in ("auto", "adaround") and has_neighbours(places[0]):
            yield "adaround", np.stack([adaround(*each) for each in zip(weight, self._grams, places, strict=True)])
