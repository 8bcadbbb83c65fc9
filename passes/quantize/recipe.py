"""What grids are made of: the options of weight types, checked, and the grid of a weight along given axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...errors import UserError
from .alphabet import AFFINE, SYMMETRIC, Alphabet
from .levels import Array, Block, Grid, steps

Granularity = Literal["auto", "tensor", "channel", "block"]
WeightType = Literal["int8", "uint8", "int4", "uint4", "int2", "uint2", "int16", "float8e4m3fn", "float8e5m2"]


@dataclass(frozen=True)
class Recipe:
    """The type of codes, what shares a step, and whether there are zero points."""

    type: WeightType = "int8"
    granularity: Granularity = "auto"
    block: int = 32
    symmetric: bool = True

    def check(self) -> None:
        """UserError for options that contradict each other."""
        if not self.symmetric and self.type not in AFFINE:
            raise UserError(f"type={self.type} has no zero points: leave out symmetric=false")

    @property
    def alphabet(self) -> Alphabet:
        """That of the type."""
        return SYMMETRIC[self.type] if self.symmetric else AFFINE[self.type]

    @property
    def shares(self) -> Granularity:
        """What shares a step: `auto` is blocks for codes of less than 8 bits, else channels."""
        if self.granularity != "auto":
            return self.granularity
        return "block" if self.alphabet.bits < 8 else "channel"

    @property
    def takes_factors(self) -> bool:
        """Whether input channels may have scales of their own beside those of output channels."""
        return self.symmetric and self.shares != "block"

    def grid(self, weight: Array, axes: tuple[int, ...], arithmetic: np.dtype[Any], block: Block | None) -> Grid:
        """The grid of `weight` with steps along `axes`."""
        return steps(weight, axes, arithmetic, alphabet=self.alphabet, block=block, affine=not self.symmetric)
