"""Make the defaults of inputs constants.

An initializer that is also an input of the main graph can be overridden by a feed, so no pass may take it for a
constant. Files of IR version 3 list all their weights that way. This pass takes such inputs out of the interface: on
every feed that does not override them the outputs are the same, so it is EXACT, and the only pass here that changes
the interface. A model below IR version 4 is raised to 4, where initializers need not be inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir import Graph, Node
from ..manager.base import Effect, Pass
from ..manager.context import Context


@dataclass(frozen=True)
class FreezeDefaults(Pass):
    """Make inputs that have a default constants: they leave the model's interface."""

    name: ClassVar[str] = "freeze-defaults"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False
    keeps_interface: ClassVar[bool] = False

    def run(self, graph: Graph, ctx: Context) -> None:
        """Unlist every input of the main graph that has a default."""
        defaults = [value for value in graph.inputs if value.tensor is not None]
        for value in defaults:
            if value.pinned:
                ctx.remarks.missed(value.name, value.pinned)
                continue
            if not all(ctx.selects(use.user) for use in value.uses if isinstance(use.user, Node)):
                continue
            ctx.rewriter.unlist_input(value)
            ctx.remarks.applied(value.name, "its default is now a constant", rule="unlist")
        if not defaults:
            ctx.remarks.missed("model", "no input has a default")
