"""The pass `prune`: options, and the choice of what does the work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from ...errors import UserError
from ...ir import Graph
from ..graph.fold import Fold
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from .channels.prune_channels import Plan as ChannelPlan
from .channels.prune_channels import check as check_channels
from .channels.prune_channels import prune_channels
from .goal import largest
from .masks import plan as masks
from .masks.patterns import Pattern
from .masks.prune_masks import prune_masks


@dataclass(frozen=True)
class Prune(Pass):
    """Remove channels, attention heads, or single weights in patterns.

    Channels (filters, neurons, gates' hidden units) and attention heads are removed physically, together with
    everything that is coupled to them. Single weights are set to zero: any (`weight`), all but n of m in a row along
    the inputs (`n:m`), or blocks of the matrix.
    """

    name: ClassVar[str] = "prune"
    effect: ClassVar[Effect] = Effect.LOSSY
    idempotent: ClassVar[bool] = False

    unit: Literal["channel", "head", "weight", "n:m", "block"] = option("channel", "what goes")
    criterion: Literal["l1", "l2", "geometric-median", "random", "wanda", "obs", "zero"] = option(
        "l1", "what is unimportant; wanda and obs need sample data"
    )
    allocation: Literal["layer", "global", "sensitivity", "output-first"] = option(
        "layer", "whether sparsity is that of every layer, or of all; the last two are for weights and blocks"
    )
    sparsity: float | None = option(None, "share of the units that goes", low=0, high=1)
    macs: float | None = option(None, "share of the MACs of the model that stays", low=0, high=1)
    bytes_: float | None = option(None, "share of the bytes of the weights that stays", low=0, high=1)
    error: float | None = option(None, "rel-L2 error of the outputs on the data: as much goes as keeps it", low=0)
    threshold: float | None = option(None, "unit=weight: weights up to this in absolute value go", low=0)
    pattern: str = option("2:4", "unit=n:m: of how many weights in a row how many stay")
    block: str = option("4x4", "unit=block: inputs x outputs of a block")
    steps: int = option(1, "weights and blocks: steps with repair between, to a cubic schedule", low=1)
    align: int = option(1, "widths stay multiples of this where they are", low=1)
    repair: Literal["auto", "refit", "off"] = option(
        "auto", "adjust the weights that stay, by least squares on sample data; auto: if there are any"
    )
    ridge: float | None = option(
        None, "pull of the refit, of the mean variance (1e-4; for weights, of which there are more, 1e-2)", low=0
    )
    exclude: tuple[str, ...] = option((), "leave groups where a weight or a node matches one of these globs")

    def __post_init__(self) -> None:
        """UserError for options that contradict each other or the unit."""
        goals = [self.sparsity, self.macs, self.bytes_, self.error, self.threshold]
        masked = self.unit not in ("channel", "head")
        if self.sparsity == 1:
            raise UserError("prune: sparsity must be below 1: nothing would be left")
        if self.unit == "n:m" and any(goal is not None for goal in goals):
            raise UserError("prune: with unit=n:m the pattern says how much goes; a goal contradicts it")
        if self.unit != "n:m" and self.criterion != "zero" and all(goal is None for goal in goals):
            raise UserError("prune needs a goal: sparsity, macs, bytes or error; threshold with unit=weight")
        if masked and (self.macs is not None or self.bytes_ is not None):
            raise UserError(f"prune: unit={self.unit} leaves MACs and bytes as they are: give sparsity or error")
        if masked and self.criterion not in masks.CRITERIA:
            raise UserError(
                f"prune: criterion={self.criterion} is for channels; {self.unit} has {', '.join(masks.CRITERIA)}"
            )
        if not masked and self.allocation not in ("layer", "global"):
            raise UserError(
                f"prune: allocation={self.allocation} is for weights and blocks; {self.unit} has layer, global"
            )
        if self.threshold is not None and (self.unit != "weight" or sum(goal is not None for goal in goals) > 1):
            raise UserError("prune: threshold is for unit=weight, and the only goal then")
        if self.error is not None and (not masked or self.sparsity is not None):
            raise UserError("prune: error is for weights and blocks, and the only goal then")
        _numbers(self.pattern, ":", "pattern=N:M, with N below M")
        _numbers(self.block, "x", "block=KxN")
        n, m = _numbers(self.pattern, ":", "")
        if n >= m:
            raise UserError(f"prune: pattern={self.pattern}: N weights of M stay, so N must be below M")

    @property
    def needs_judge(self) -> bool:  # type: ignore[override]  # of some options
        """Whether it decides by measuring."""
        return self.error is not None

    def run(self, graph: Graph, ctx: Context) -> None:
        """Cut what the unit says."""
        if self.unit == "channel" or self.unit == "head":
            self._cut(ctx, self.unit)
        else:
            self._mask(ctx)

    def _repairs(self, ctx: Context) -> bool:
        return self.repair == "refit" or (
            self.repair == "auto" and ctx.samples is not None and self.criterion != "zero"
        )

    def _cut(self, ctx: Context, unit: Literal["channel", "head"]) -> None:
        assert self.allocation == "layer" or self.allocation == "global"
        plan = ChannelPlan(
            unit, self.criterion, self.allocation, self.sparsity, self.macs, self.bytes_, self.align,
            self._repairs(ctx), 1e-4 if self.ridge is None else self.ridge, self.exclude,
        )  # fmt: skip
        check_channels(ctx, plan)
        ctx.run(Fold())
        prune_channels(ctx, plan)

    def _mask(self, ctx: Context) -> None:
        n, m = _numbers(self.pattern, ":", "")
        rows, columns = _numbers(self.block, "x", "")
        assert self.unit == "weight" or self.unit == "n:m" or self.unit == "block"
        pattern = Pattern(self.unit, n, m, (rows, columns))

        def plan(share: float) -> masks.Plan:
            assert self.criterion != "geometric-median"
            assert self.criterion != "zero"
            return masks.Plan(
                pattern, self.criterion, self.allocation, share, self.threshold, self._repairs(ctx),
                1e-2 if self.ridge is None else self.ridge, self.steps, self.exclude,
            )  # fmt: skip

        masks.check(ctx, plan(0))
        ctx.run(Fold())
        if self.error is None:
            prune_masks(ctx, plan(self.sparsity or 0.0))
            return
        share = largest(ctx, self.error, lambda share: prune_masks(ctx, plan(share)))
        words = f"sparsity {share:.4f} keeps the error of the outputs at most {self.error:g}"
        (ctx.remarks.applied if share else ctx.remarks.missed)("model", words, rule="goal")


def _numbers(text: str, between: str, what: str) -> tuple[int, int]:
    found = re.fullmatch(rf"([1-9]\d*){between}([1-9]\d*)", text)
    if found is None:
        raise UserError(f"prune: {text!r} is not of the form {what}")
    return int(found[1]), int(found[2])
