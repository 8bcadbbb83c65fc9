"""Run passes until they change nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir import Graph
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option


@dataclass(frozen=True)
class Fixpoint(Pass):
    """Run the passes inside, in turn, until a whole round changes nothing."""

    name: ClassVar[str] = "fixpoint"
    effect: ClassVar[Effect] = Effect.EXACT
    takes_pipeline: ClassVar[bool] = True

    max: int = option(10, "rounds at most", low=1)
    inside: tuple[Pass, ...] = ()

    def run(self, graph: Graph, ctx: Context) -> None:
        """Rounds end early when one changes nothing; what is still restless after the last one is named."""
        restless: list[str] = []
        for _ in range(self.max):
            restless = [step.text for step in map(ctx.run, self.inside) if step.changed]
            if not restless:
                return
        ctx.remarks.missed(
            "model",
            f"not settled after {self.max} rounds: {', '.join(dict.fromkeys(restless))} still changed something",
            rule="max",
            suggestion="raise max, or leave out passes that undo each other",
        )
