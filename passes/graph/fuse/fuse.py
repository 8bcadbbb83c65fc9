"""Fuse constants into layers, and layers into each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ....ir import Graph
from ...manager.base import Effect, Pass
from ...manager.context import Context
from ...rewriting.driver import apply_rules
from ...rewriting.rule import Rule
from .absorb import absorb_rules
from .convolutions import convolution_rules
from .maps import map_rules
from .normalizations import normalization_rules
from .pads import pad_rules
from .past import past_rules
from .room import Room


def rules() -> list[Rule]:
    """The rules of one run: they share the room that they save in the file."""
    room = Room()
    families = (map_rules, absorb_rules, past_rules, normalization_rules, pad_rules, convolution_rules)
    return [rule for family in families for rule in family(room)]


@dataclass(frozen=True)
class Fuse(Pass):
    """Let layers absorb the constants, normalizations and paddings around them."""

    name: ClassVar[str] = "fuse"
    effect: ClassVar[Effect] = Effect.ROUNDING
    uses_blas: ClassVar[bool] = False

    def run(self, graph: Graph, ctx: Context) -> None:
        """Apply all rules until none fits."""
        if not apply_rules(ctx, rules()):
            ctx.remarks.missed("model", "nothing can be fused")
