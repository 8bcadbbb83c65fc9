"""Canonicalization: one spelling for what can be written in many ways, that of the fewest nodes.

Operators that change nothing go, and pairs that undo or repeat each other become one operator or none. Every rule keeps
every output to the bit, for all sizes that its guard does not rule out: EXACT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ....ir import Graph
from ...manager.base import Effect, Pass
from ...manager.context import Context
from ...rewriting.driver import apply_rules
from .casts import CASTS
from .joins import JOINS
from .neutral import NEUTRAL
from .pairs import PAIRS
from .reductions import REDUCTIONS
from .unneeded import UNNEEDED
from .views import VIEWS

RULES = (*UNNEEDED, *NEUTRAL, *PAIRS, *CASTS, *VIEWS, *REDUCTIONS, *JOINS)


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Take out operators that change nothing, and make one of pairs."""

    name: ClassVar[str] = "canonicalize"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False
    scope: ClassVar[Literal["graph", "model"]] = "model"

    def run(self, graph: Graph, ctx: Context) -> None:
        """Apply the rules until none fits."""
        if not apply_rules(ctx, RULES):
            ctx.remarks.missed("model", "nothing is spelled longer than it must be")
