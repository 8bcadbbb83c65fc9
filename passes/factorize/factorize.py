"""The pass `factorize`: options, and the choice of what does the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...errors import ExecutionError, UserError
from ...ir import Graph
from ..graph.fold import Fold
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from .plan import ALLOCATED, Goal, Plan, check, goal_of
from .run import factorize

Switch = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Factorize(Pass):
    """Replace weights by products of thin factors.

    Matrices, convolutions, tables and the input matrices of recurrent layers become two or more smaller ones: fewer
    MACs and fewer bytes, in any runtime. With sample data the error of the outputs is made small, not that of the
    weights. Without a goal only what is of low rank up to rounding is factorized.

    LOSSY: for y = x W, norm2(dy) <= sigma_max(W - AB) norm2(x) and abs(dy_j) <= sum_i abs(W - AB)_ij max abs(x_i), plus
    what a bias is moved by.
    """

    name: ClassVar[str] = "factorize"
    effect: ClassVar[Effect] = Effect.LOSSY
    idempotent: ClassVar[bool] = False

    rank: int | None = option(None, "rank of every factorization", low=1)
    energy: float | None = option(None, "least rank that keeps this share of the squares", low=0, high=1)
    vbmf: bool = option(False, "the rank that variational Bayesian matrix factorization finds")
    macs: float | None = option(None, "share of the MACs of the model that stays", low=0, high=1)
    bytes_: float | None = option(None, "share of the bytes of the weights that stays", low=0, high=1)
    error: float | None = option(None, "rel-L2 of the outputs on the sample data that is allowed", low=0)
    methods: tuple[str, ...] = option(
        ("svd", "spatial", "tucker"), "which may be used; all but svd and nmf are for convolutions",
        choices=("svd", "spatial", "tucker", "cp", "depthwise", "nmf"),
    )  # fmt: skip
    share: float = option(0.75, "share of break-even that a layer may cost at most", low=0, high=1)
    whiten: Switch = option("auto", "weigh errors by second moments of the inputs; auto: if there are sample data")
    refit: Switch = option("auto", "refit each layer to the outputs of the original; auto: where errors are weighed")
    refine: int = option(3, "sweeps of alternating least squares at the end", low=0)
    shared: bool = option(True, "matrices that read the same input may share their first factor")
    ridge: float | None = option(None, "added to second moments, of their mean; by default by their noise", low=0)
    latency: Literal["auto", "measure", "any"] = option(
        "auto", "measure: keep only what runs faster here; auto: by an estimate where macs or error is the goal"
    )
    exclude: tuple[str, ...] = option((), "leave weights if their name or that of a reader matches one of these globs")

    @property
    def must_change(self) -> bool:
        """An error that is allowed may allow nothing, and there may be nothing of low rank."""
        goals = (self.rank, self.energy, self.macs, self.bytes_)
        return self.error is None and any(goal is not None for goal in goals)

    def run(self, graph: Graph, ctx: Context) -> None:
        """Plan, and carry it out."""
        given: dict[Goal, float | None] = {
            "rank": self.rank, "energy": self.energy, "vbmf": 1.0 if self.vbmf else None, "macs": self.macs,
            "bytes": self.bytes_, "error": self.error,
        }  # fmt: skip
        goal, number = goal_of(given)
        has_data = ctx.samples is not None
        whiten = self.whiten == "on" or (self.whiten == "auto" and has_data and goal not in ("exact", "vbmf"))
        refit = self.refit == "on" or (self.refit == "auto" and whiten and goal in ALLOCATED)
        plan = Plan(
            goal, number, self.methods, self.share, whiten, refit, self.refine, self.shared, self.ridge, self.latency,
            self.exclude,
        )  # fmt: skip
        check(ctx, plan)
        ctx.run(Fold())
        try:
            factorize(ctx, plan)
        except ExecutionError as error:
            raise UserError(f"factorize: the sample data cannot be run: {error}") from error
