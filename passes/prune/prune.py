"""The pass `prune`: options, and the choice of what does the work."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from ...errors import UserError
from ...ir import Graph
from ..graph.fold import Fold
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from .channels import plan as channels
from .channels.goals import within_error
from .channels.prune_channels import check, prune_channels
from .channels.sizes import given_total, total
from .layers import plan as layers
from .layers.prune_layers import check as check_layers
from .layers.prune_layers import prune_layers
from .masks import plan as masks
from .masks.patterns import Pattern
from .masks.prune_masks import prune_masks
from .mistakes import check_options


@dataclass(frozen=True)
class Prune(Pass):
    """Remove channels, attention heads, residual branches, or single weights in patterns.

    Channels (filters, neurons, gates' hidden units) and attention heads are removed physically, together with
    everything that is coupled to them; residual branches as a whole. Single weights are set to zero: any (`weight`),
    all but n of m in a row along the inputs (`n:m`), or blocks of the matrix.
    """

    name: ClassVar[str] = "prune"
    effect: ClassVar[Effect] = Effect.LOSSY
    idempotent: ClassVar[bool] = False

    unit: Literal["channel", "head", "layer", "weight", "n:m", "block"] = option("channel", "what goes")
    criterion: Literal[channels.Criterion, "output-error"] = option(
        "l1", "what is unimportant; those that look at activations need sample data"
    )
    allocation: channels.Allocation = option(
        "layer", "whether sparsity is that of every layer, or how else it is shared"
    )
    sparsity: float | None = option(None, "share of the units that goes", low=0, high=1)
    macs: float | None = option(None, "share of the MACs of the model that stays", low=0, high=1)
    bytes_: float | None = option(None, "share of the bytes of the weights that stays", low=0, high=1)
    error: float | None = option(None, "rel-L2 of the outputs on sample data that the share may cost", low=0)
    threshold: float | None = option(
        None,
        "weights up to this go, or units whose criterion is up to it",
        low=0,
    )
    pattern: str = option("2:4", "unit=n:m: how many weights stay of how many in a row")
    block: str = option("4x4", "unit=block: inputs x outputs of a block")
    tables: bool = option(False, "weights and blocks: of tables that Gather reads too, by magnitude")
    steps: int = option(1, "prune and repair in so many steps", low=1)
    align: int | Literal["auto"] = option(
        "auto",
        "widths stay multiples of this where they are (auto: those of convolutions become multiples of 4, 8 or 16)",
        low=1,
    )
    repair: Literal["auto", "refit", "statistics", "off"] = option(
        "auto",
        "refit what reads the units that go, by least squares on sample data (auto: if there are any), or only "
        "re-estimate BatchNormalizations",
    )
    ridge: float | None = option(
        None, "pull of the refit, as a share of the mean variance; by the data of each layer if it is not given", low=0
    )
    exclude: tuple[str, ...] = option((), "leave groups where a weight or a node matches one of these globs")

    def __post_init__(self) -> None:
        """UserError for options that contradict the unit or each other."""
        n, m = _numbers(self.pattern, ":", "pattern=N:M")
        _numbers(self.block, "x", "block=KxN")
        if n >= m:
            raise UserError(f"prune: pattern={self.pattern}: N weights of M stay, so N must be below M")
        check_options(self)

    @property
    def must_change(self) -> bool:
        """An error that is allowed may allow nothing; and there may be no dead channel."""
        return self.error is None and self.criterion != "zero"

    def run(self, graph: Graph, ctx: Context) -> None:
        """Prune what the unit says."""
        match self.unit:
            case "channel" | "head":
                self._cut(ctx, self.unit)
            case "layer":
                self._drop(ctx)
            case _:
                self._mask(ctx, self.unit)

    def _is_repaired(self, ctx: Context) -> bool:
        return self.repair == "refit" or (
            self.repair == "auto" and ctx.samples is not None and self.criterion != "zero"
        )

    def _cut(self, ctx: Context, unit: Literal["channel", "head"]) -> None:
        assert self.criterion != "output-error"
        plan = channels.Plan(
            unit, self.criterion, self.allocation, self.sparsity, self.macs, self.bytes_, self.align,
            self._is_repaired(ctx), self.ridge, self.exclude, self.error, self.steps, self.threshold,
            self.repair == "statistics",
        )  # fmt: skip
        check(ctx, plan)
        macs, bytes_ = self._fold(ctx)
        prune_channels(ctx, replace(plan, macs=macs, bytes_=bytes_))

    def _drop(self, ctx: Context) -> None:
        plan = layers.Plan(
            self.criterion, self.sparsity, self.macs, self.bytes_, self.error, self._is_repaired(ctx), self.ridge,
            self.exclude,
        )  # fmt: skip
        check_layers(ctx, plan)
        macs, bytes_ = self._fold(ctx)
        prune_layers(ctx, replace(plan, macs=macs, bytes_=bytes_))

    def _fold(self, ctx: Context) -> tuple[float | None, float | None]:
        """Find the weights that the file computes; the goals for MACs and bytes, which speak of the model as it was
        given, as shares of what it is now."""
        feed = next(ctx.feeds(), None)
        goals = {"macs": self.macs, "bytes": self.bytes_}
        given = {kind: given_total(ctx.model, kind, feed) for kind, goal in goals.items() if goal is not None}
        ctx.run(Fold())
        for kind, whole in given.items():
            goal = goals[kind]
            assert goal is not None
            goals[kind] = min(1.0, goal * whole / (total(ctx.model, kind, feed) or 1.0))
        return goals["macs"], goals["bytes"]

    def _mask(self, ctx: Context, unit: Literal["weight", "n:m", "block"]) -> None:
        pattern = Pattern(unit, *_numbers(self.pattern, ":"), _numbers(self.block, "x"))

        def plan(share: float) -> masks.Plan:
            return masks.Plan(
                pattern, self.criterion, self.allocation, share, self.threshold, self._is_repaired(ctx),
                self.ridge, self.steps, self.exclude, self.tables,
            )  # fmt: skip

        def cut(share: float) -> None:
            ctx.chance = ctx.chance.afresh()
            prune_masks(ctx, plan(share))

        masks.check(ctx, plan(0))
        ctx.run(Fold())
        if self.error is None:
            prune_masks(ctx, plan(self.sparsity or 0.0))
            return
        share = within_error(ctx, self.error, cut)
        if share:
            cut(share)
            ctx.remarks.applied("model", f"sparsity {share:.4f} keeps the error at most {self.error:g}", rule="goal")
        else:
            ctx.remarks.missed("model", f"no sparsity keeps the error at most {self.error:g}", rule="goal")


def _numbers(text: str, between: str, form: str = "") -> tuple[int, int]:
    found = re.fullmatch(rf"([1-9]\d*){between}([1-9]\d*)", text)
    if found is None:
        raise UserError(f"prune: {text!r} is not of the form {form}")
    return int(found[1]), int(found[2])
