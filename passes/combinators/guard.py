"""Run passes as a transaction: keep what they did only if the error stays within limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...errors import LimitError, UserError
from ...ir import Graph
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.judging import Metrics
from ..manager.options import option


@dataclass(frozen=True)
class Guard(Pass):
    """Run the passes inside, measure the error against the model before them, and keep or take back what they did.

    Measured is on the sample data, or on generated inputs, in the reference configuration. Rolling back undoes the
    journal: no copy of a weight is kept for it.
    """

    name: ClassVar[str] = "guard"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False
    takes_pipeline: ClassVar[bool] = True
    needs_judge: ClassVar[bool] = True

    rel_l2: float | None = option(None, "largest norm of the error over that of the outputs", low=0)
    max_abs: float | None = option(None, "largest absolute error", low=0)
    sqnr: float | None = option(None, "least signal to quantization noise", unit="dB")
    cosine: float | None = option(None, "least cosine similarity", low=-1, high=1)
    argmax: float | None = option(None, "least share of rows whose greatest element stays the greatest", low=0, high=1)
    unequal: float | None = option(None, "most elements that may differ", low=0)
    else_: Literal["rollback", "stop", "warn"] = option("rollback", "what to do where a limit is broken")
    inside: tuple[Pass, ...] = ()

    def __post_init__(self) -> None:
        if not self.limits:
            raise UserError("give at least one limit, as in guard{rel-l2=1e-2}(...)")

    @property
    def limits(self) -> Metrics:
        """The limits by metric."""
        given = {
            "rel-l2": self.rel_l2,
            "max-abs": self.max_abs,
            "sqnr": self.sqnr,
            "cosine": self.cosine,
            "argmax": self.argmax,
            "unequal": self.unequal,
        }
        return {metric: limit for metric, limit in given.items() if limit is not None}

    def run(self, graph: Graph, ctx: Context) -> None:
        """What cannot be measured is treated as a broken limit."""
        measurements = ctx.measurements
        before = None if measurements is None else measurements.outputs()
        checkpoint, version = ctx.checkpoint(), ctx.model.version
        for pass_ in self.inside:
            ctx.run(pass_)
        if ctx.model.version == version:
            return
        if measurements is None or before is None:
            broken: tuple[str, ...] = ("the error cannot be measured",)
        else:
            broken = measurements.judge.broken(measurements.since(before), self.limits)
        if not broken:
            return
        words = "; ".join(broken)
        if self.else_ == "stop":
            raise LimitError(f"guard stops the run: {words}")
        if self.else_ == "warn":
            ctx.remarks.failed("model", f"kept although {words}", rule="guard")
            return
        ctx.rollback(checkpoint)
        if measurements is not None and before is not None:
            measurements.remember(before)
        ctx.remarks.failed("model", f"rolled back: {words}", rule="guard")
