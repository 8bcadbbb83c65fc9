"""What the options of rounding ask for. Nothing of what does the work is loaded before there is work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...calibrate.stream import samples_of
from ...manager.context import Context
from ..plan import Plan

Rounding = Literal["auto", "nearest", "gptq", "adaround"]
Clip = Literal["auto", "none"]


@dataclass(frozen=True)
class Rounder:
    """Which methods are tried, whether ranges may be clipped, and how many bytes second moments may take."""

    rounding: Rounding = "auto"
    clip: Clip = "auto"
    memory: int = 1 << 30

    def plans(self, ctx: Context, plans: Sequence[Plan]) -> list[Plan]:
        """The plans, with better grids where there are some; without data `auto` leaves all as it is.

        UserError if an option names a method and there are no data.
        """
        if self.rounding in ("gptq", "adaround"):
            samples_of(ctx, f"rounding={self.rounding}")
        if ctx.samples is None or (self.rounding == "nearest" and self.clip == "none"):
            return list(plans)
        from .run import rounded

        return rounded(ctx, plans, self)
