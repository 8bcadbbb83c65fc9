"""Run passes until they change nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir import Graph
from ..manager.base import Effect, Pass, is_idempotent
from ..manager.context import Context
from ..manager.options import option


@dataclass(frozen=True)
class Fixpoint(Pass):
    """Run the passes inside, in turn, until none of them changes anything."""

    name: ClassVar[str] = "fixpoint"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False
    takes_pipeline: ClassVar[bool] = True

    max: int = option(10, "rounds at most", low=1)
    inside: tuple[Pass, ...] = ()

    def run(self, graph: Graph, ctx: Context) -> None:
        """It ends where each pass has found nothing to do since the last change, the pass that made that change
        included, if it is idempotent. What is still restless after the last round is named."""
        settled = 0
        for _ in range(self.max):
            restless: list[str] = []
            for pass_ in self.inside:
                step = ctx.run(pass_)
                settled = settled + 1 if not step.changed else int(is_idempotent(pass_))
                restless += [step.text] if step.changed else []
                if settled >= len(self.inside):
                    return
        ctx.remarks.missed(
            "model",
            f"not settled after {self.max} rounds: {', '.join(dict.fromkeys(restless))} still changed something",
            rule="max",
            suggestion="raise max, or leave out passes that undo each other",
        )
