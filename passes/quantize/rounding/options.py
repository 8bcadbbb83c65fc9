"""What the options of rounding ask for. Nothing of what does the work is loaded before there is work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...calibrate.stream import samples_of
from ...manager.context import Context
from ..plan import Plan

if TYPE_CHECKING:
    from ..static.coder import Coder
    from ..static.units import Unit

Rounding = Literal["auto", "nearest", "gptq", "adaround"]
Clip = Literal["auto", "none"]


@dataclass(frozen=True)
class Rounder:
    """Which methods are tried, whether ranges may be clipped, and how many bytes second moments may take."""

    rounding: Rounding = "auto"
    clip: Clip = "auto"
    memory: int = 1 << 30

    def units(self, ctx: Context, coder: Coder, units: Sequence[Unit], *, corrects: bool) -> None:
        """Better levels for the weights of units, and biases if it `corrects` those; without data all stay as it is."""
        if ctx.samples is None or not (self._rounds or corrects):
            return
        from .integers import rounded_units

        rounded_units(ctx, coder, units, self if self._rounds else None, corrects=corrects)

    @property
    def _rounds(self) -> bool:
        return self.rounding != "nearest" or self.clip != "none"

    def plans(self, ctx: Context, plans: Sequence[Plan]) -> list[Plan]:
        """The plans, with better grids where there are some; without data `auto` leaves all as it is.

        UserError if an option names a method and there are no data.
        """
        if self.rounding in ("gptq", "adaround"):
            samples_of(ctx, f"rounding={self.rounding}")
        if ctx.samples is None or not self._rounds:
            return list(plans)
        from .run import rounded

        return rounded(ctx, plans, self)
