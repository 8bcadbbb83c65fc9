"""What the options of rounding ask for. Nothing of what does the work is loaded before there is work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
Sequential = Literal["auto", "true", "false"]
CarryOut = Callable[[Sequence[Plan]], None]


@dataclass(frozen=True)
class Rounder:
    """Which methods are tried, whether ranges may be clipped, and how many bytes second moments may take."""

    rounding: Rounding = "auto"
    clip: Clip = "auto"
    memory: int = 1 << 30
    sequential: Sequential = "auto"
    corrects: bool = False
    """Whether biases are corrected too."""

    def is_sequential(self, bits: int) -> bool:
        """Whether layers come one after the other, where the narrowest codes have so many bits."""
        return self.rounding != "nearest" and (self.sequential == "true" or (self.sequential == "auto" and bits < 8))

    def units(self, ctx: Context, coder: Coder, units: Sequence[Unit]) -> None:
        """Better levels for the weights of units, and better biases; without data all stay as it is."""
        if ctx.samples is None or not (self.rounds or self.corrects):
            return
        from .integers import rounded_units

        rounded_units(ctx, coder, units, self)

    def weights(self, ctx: Context, coder: Coder, units: Sequence[Unit]) -> None:
        """Better levels for the weights of units, that the choice of those that run in integers goes by."""
        from .integers import rounded_weights

        rounded_weights(ctx, coder, units, self)

    @property
    def rounds(self) -> bool:
        """Whether weights may get other codes than the nearest."""
        return self.rounding != "nearest" or self.clip != "none"

    def plans(self, ctx: Context, plans: Sequence[Plan], carry_out: CarryOut) -> list[Plan]:
        """The plans, with better grids where there are some; without data `auto` leaves all as it is. `carry_out`
        changes the model as some plans say.

        UserError if an option names a method and there are no data.
        """
        if self.rounding in ("gptq", "adaround"):
            samples_of(ctx, f"rounding={self.rounding}")
        if self.sequential == "true":
            samples_of(ctx, "sequential=true")
        if ctx.samples is None or not self.rounds:
            return list(plans)
        from .run import rounded

        return rounded(ctx, plans, self, carry_out)
