"""What grids are made of: the options of weight types, checked, and the grid of a weight along given axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ...errors import UserError
from .alphabet import AFFINE, SYMMETRIC, Alphabet, Book
from .books import kmeans_book, log2_book, nf4_book
from .levels import Array, Block, Grid, steps

Granularity = Literal["auto", "tensor", "channel", "block"]
Levels = Literal["linear", "pow2", "log2", "kmeans", "nf4"]
WeightType = Literal["int8", "uint8", "int4", "uint4", "int2", "uint2", "int16", "float8e4m3fn", "float8e5m2"]
NARROW = ("int4", "uint4", "int2", "uint2")
BOOK_BITS: dict[str, tuple[str, ...]] = {"log2": NARROW, "kmeans": (*NARROW, "int8", "uint8"), "nf4": NARROW[:2]}
"""The types that books of each kind may have: only their width matters."""


@dataclass(frozen=True)
class Recipe:
    """The type of codes, what shares a step, and whether there are zero points."""

    type: WeightType = "int8"
    granularity: Granularity = "auto"
    block: int = 32
    symmetric: bool = True
    levels: Levels = "linear"

    def check(self) -> None:
        """UserError for options that contradict each other."""
        if not self.symmetric and (self.type not in AFFINE or self.levels in BOOK_BITS):
            what = f"type={self.type}" if self.type not in AFFINE else f"levels={self.levels}"
            raise UserError(f"{what} has no zero points: leave out symmetric=false")
        allowed = BOOK_BITS.get(self.levels)
        if allowed is not None and self.type not in allowed:
            raise UserError(f"levels={self.levels} takes type={', '.join(allowed)}, not {self.type}")
        if self.levels == "pow2" and self.type not in AFFINE:
            raise UserError(f"levels=pow2 takes type={', '.join(AFFINE)}, not {self.type}")

    @property
    def is_book(self) -> bool:
        """Whether numbers are looked up."""
        return self.levels in BOOK_BITS

    @property
    def alphabet(self) -> Alphabet:
        """That of the type and the levels; of k-means one of its width, whose numbers are still to be found."""
        if self.levels == "nf4":
            return nf4_book()
        if self.levels == "log2":
            return log2_book(SYMMETRIC[self.type].bits)
        if self.levels == "kmeans":
            return Book(np.array([-1, 0, 1], np.float32), SYMMETRIC[self.type].bits)
        return SYMMETRIC[self.type] if self.symmetric else AFFINE[self.type]

    @property
    def shares(self) -> Granularity:
        """What shares a step: `auto` is blocks for codes of less than 8 bits, else channels, as for k-means,
        which makes up for much of what blocks are for."""
        if self.granularity != "auto":
            return self.granularity
        return "block" if self.alphabet.bits < 8 and self.levels != "kmeans" else "channel"

    @property
    def takes_factors(self) -> bool:
        """Whether input channels may have scales of their own beside those of output channels."""
        return self.symmetric and self.levels == "linear" and self.shares != "block"

    def grid(
        self,
        weight: Array,
        axes: tuple[int, ...],
        arithmetic: np.dtype[Any],
        block: Block | None = None,
        *,
        may_be_negative: bool = True,
    ) -> Grid:
        """The grid of `weight` with steps along `axes`; without zero points those of few levels are negative where that
        makes them smaller, if they may be."""
        alphabet = self.alphabet
        signed = may_be_negative and self.symmetric and alphabet.bits < 8 and not self.is_book
        is_plain = self.levels == "kmeans" and not axes  # by a power of two nothing is rounded: what is exact stays so
        powers = self.levels == "pow2" or is_plain
        grid = steps(
            weight, axes, arithmetic, alphabet=AFFINE[self.type] if signed else alphabet, block=block,
            affine=not self.symmetric, signed=signed, powers=powers,
        )  # fmt: skip
        if self.levels != "kmeans" or not np.isfinite(grid.array).all():
            return grid
        return replace(grid, alphabet=kmeans_book(weight, grid, alphabet.bits))
