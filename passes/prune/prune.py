"""The pass `prune`: options, and the choice of what does the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...ir import Graph
from ..graph.fold import Fold
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from .channels.plan import Criterion, Plan
from .channels.prune_channels import check, prune_channels


@dataclass(frozen=True)
class Prune(Pass):
    """Remove channels or attention heads.

    Channels (filters, neurons, gates' hidden units) and attention heads are removed physically, together with
    everything that is coupled to them.
    """

    name: ClassVar[str] = "prune"
    effect: ClassVar[Effect] = Effect.LOSSY
    idempotent: ClassVar[bool] = False

    unit: Literal["channel", "head"] = option("channel", "what goes")
    criterion: Criterion = option("l1", "what is unimportant; those that look at activations need sample data")
    allocation: Literal["layer", "global"] = option("layer", "whether sparsity is that of every layer, or of all")
    sparsity: float | None = option(None, "share of the units that goes", low=0, high=1)
    macs: float | None = option(None, "share of the MACs of the model that stays", low=0, high=1)
    bytes_: float | None = option(None, "share of the bytes of the weights that stays", low=0, high=1)
    error: float | None = option(None, "rel-L2 of the outputs on sample data that the share may cost", low=0)
    steps: int = option(1, "cut and repair in so many steps", low=1)
    align: int = option(1, "widths stay multiples of this where they are", low=1)
    repair: Literal["auto", "refit", "off"] = option(
        "auto", "refit what reads the units that go, by least squares on sample data; auto: if there are any"
    )
    ridge: float = option(1e-4, "pull of the refit, of the mean variance", low=0)
    exclude: tuple[str, ...] = option((), "leave groups where a weight or a node matches one of these globs")

    def run(self, graph: Graph, ctx: Context) -> None:
        """Cut what the unit says."""
        is_repaired = self.repair == "refit" or (
            self.repair == "auto" and ctx.samples is not None and self.criterion != "zero"
        )
        plan = Plan(
            self.unit, self.criterion, self.allocation, self.sparsity, self.macs, self.bytes_, self.align, is_repaired,
            self.ridge, self.exclude, self.error, self.steps,
        )  # fmt: skip
        check(ctx, plan)
        ctx.run(Fold())
        prune_channels(ctx, plan)
