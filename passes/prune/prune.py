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
from .channels.sizes import total
from .masks import plan as masks
from .masks.patterns import Pattern
from .masks.prune_masks import prune_masks

CHANNEL_RIDGE, MASK_RIDGE = 1e-4, 1e-2
"""There are more single weights than channels, and so more that fits chance."""


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
    criterion: channels.Criterion = option("l1", "what is unimportant; those that look at activations need sample data")
    allocation: Literal["layer", "global", "sensitivity", "output-first"] = option(
        "layer", "whether sparsity is that of every layer, or of all; the last two are for weights and blocks"
    )
    sparsity: float | None = option(None, "share of the units that goes", low=0, high=1)
    macs: float | None = option(None, "share of the MACs of the model that stays", low=0, high=1)
    bytes_: float | None = option(None, "share of the bytes of the weights that stays", low=0, high=1)
    error: float | None = option(None, "rel-L2 of the outputs on sample data that the share may cost", low=0)
    threshold: float | None = option(None, "unit=weight: weights up to this in absolute value go", low=0)
    pattern: str = option("2:4", "unit=n:m: how many weights stay of how many in a row")
    block: str = option("4x4", "unit=block: inputs x outputs of a block")
    steps: int = option(1, "prune and repair in so many steps", low=1)
    align: int = option(1, "widths stay multiples of this where they are", low=1)
    repair: Literal["auto", "refit", "off"] = option(
        "auto", "refit what reads the units that go, by least squares on sample data; auto: if there are any"
    )
    ridge: float | None = option(
        None, f"pull of the refit, of the mean variance; {CHANNEL_RIDGE}, or {MASK_RIDGE} for weights", low=0
    )
    exclude: tuple[str, ...] = option((), "leave groups where a weight or a node matches one of these globs")

    def __post_init__(self) -> None:
        """UserError for options that contradict the unit or each other."""
        n, m = _numbers(self.pattern, ":", "pattern=N:M")
        _numbers(self.block, "x", "block=KxN")
        if n >= m:
            raise UserError(f"prune: pattern={self.pattern}: N weights of M stay, so N must be below M")
        if self.unit == "channel" or self.unit == "head":
            self._check_channels()
        else:
            self._check_masks()

    def _check_channels(self) -> None:
        if self.allocation not in ("layer", "global"):
            words = f"allocation={self.allocation} is for weights and blocks; {self.unit} has layer and global"
            raise UserError(f"prune: {words}")
        if self.threshold is not None:
            raise UserError("prune: threshold is for unit=weight")

    def _check_masks(self) -> None:
        unit = self.unit
        goals = [goal for goal in (self.sparsity, self.threshold, self.error) if goal is not None]
        if self.macs is not None or self.bytes_ is not None:
            raise UserError(f"prune: unit={unit} leaves MACs and bytes as they are: give sparsity or error")
        if unit == "n:m" and goals:
            raise UserError("prune: with unit=n:m the pattern says how much goes: no other goal can be given")
        if unit != "n:m" and len(goals) != 1:
            raise UserError(f"prune: unit={unit} needs a goal, and one: sparsity, error, or threshold for weights")
        if unit == "block" and self.threshold is not None:
            raise UserError("prune: threshold is for unit=weight")
        if self.sparsity == 1:
            raise UserError("prune: sparsity must be below 1: nothing would be left")
        if self.criterion not in masks.CRITERIA:
            words = f"criterion={self.criterion} is for channels; {unit} has {', '.join(masks.CRITERIA)}"
            raise UserError(f"prune: {words}")

    def run(self, graph: Graph, ctx: Context) -> None:
        """Prune what the unit says."""
        if self.unit == "channel" or self.unit == "head":
            self._cut(ctx, self.unit)
        else:
            self._mask(ctx, self.unit)

    def _is_repaired(self, ctx: Context) -> bool:
        return self.repair == "refit" or (
            self.repair == "auto" and ctx.samples is not None and self.criterion != "zero"
        )

    def _cut(self, ctx: Context, unit: Literal["channel", "head"]) -> None:
        assert self.allocation == "layer" or self.allocation == "global"
        ridge = CHANNEL_RIDGE if self.ridge is None else self.ridge
        plan = channels.Plan(
            unit, self.criterion, self.allocation, self.sparsity, self.macs, self.bytes_, self.align,
            self._is_repaired(ctx), ridge, self.exclude, self.error, self.steps,
        )  # fmt: skip
        check(ctx, plan)
        feed = next(ctx.feeds(), None)
        kinds = [kind for kind, goal in (("macs", self.macs), ("bytes", self.bytes_)) if goal is not None]
        given = {kind: total(ctx.model, kind, feed) for kind in kinds}
        ctx.run(Fold())
        scale = {kind: whole / (total(ctx.model, kind, feed) or 1.0) for kind, whole in given.items()}
        macs, bytes_ = _scaled(self.macs, scale.get("macs")), _scaled(self.bytes_, scale.get("bytes"))
        prune_channels(ctx, replace(plan, macs=macs, bytes_=bytes_))

    def _mask(self, ctx: Context, unit: Literal["weight", "n:m", "block"]) -> None:
        pattern = Pattern(unit, *_numbers(self.pattern, ":"), _numbers(self.block, "x"))
        ridge = MASK_RIDGE if self.ridge is None else self.ridge

        def plan(share: float) -> masks.Plan:
            return masks.Plan(
                pattern, self.criterion, self.allocation, share, self.threshold, self._is_repaired(ctx), ridge,
                self.steps, self.exclude,
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


def _scaled(goal: float | None, factor: float | None) -> float | None:
    """A share of the model as it was given, as a share of the folded one."""
    return None if goal is None or factor is None else min(1.0, goal * factor)


def _numbers(text: str, between: str, form: str = "") -> tuple[int, int]:
    found = re.fullmatch(rf"([1-9]\d*){between}([1-9]\d*)", text)
    if found is None:
        raise UserError(f"prune: {text!r} is not of the form {form}")
    return int(found[1]), int(found[2])
