"""Run passes a number of times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir import Graph
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option


@dataclass(frozen=True)
class Repeat(Pass):
    """Run the passes inside, in turn, a number of times."""

    name: ClassVar[str] = "repeat"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False
    takes_pipeline: ClassVar[bool] = True

    times: int = option(2, "how often", low=1)
    inside: tuple[Pass, ...] = ()

    def run(self, graph: Graph, ctx: Context) -> None:
        """Every round runs, whether the one before changed anything or not: a pass draws other chance in each."""
        for _ in range(self.times):
            for pass_ in self.inside:
                ctx.run(pass_)
