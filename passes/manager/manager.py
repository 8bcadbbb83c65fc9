"""The pass manager: runs a pipeline over a model and writes down what every pass did and cost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ...errors import LimitError
from ...ir import Backend, Model, Rewriter
from .base import Effect, Pass, effect_of, walk_passes
from .context import Context, Counted, Feed, Progress, Silent
from .instruments import Instrument
from .remarks import Remarks
from .report import Report, State, Step
from .runner import Runner, VerifyEach, taken_back
from .text import Pipeline, parse_pipeline
from .threads import no_more_than_pay
from .weights import WeightAccount

if TYPE_CHECKING:
    from .judging import Judge, Measurements, Metrics
    from .prices import PriceMeter

IDLE_LIMIT = 1800.0
"""Seconds without a sign of life after which a pass is stopped."""


@dataclass(eq=False, repr=False)
class PassManager:
    """Runs a pipeline, given as text or as passes.

    `backend` evaluates constants; without one `fold` leaves them. `budget` maps metrics to limits of the error against
    the original: the pass that breaks one is rolled back, or the run stops (`over_budget`).
    """

    pipeline: str | Sequence[Pass]
    backend: Backend | None = None
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    progress: Progress = field(default_factory=Silent)
    instruments: Sequence[Instrument] = ()
    verify_each: VerifyEach = "structure"
    budget: Metrics = field(default_factory=dict)
    over_budget: Literal["rollback", "stop"] = "rollback"
    idle_limit: float | None = IDLE_LIMIT
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of inputs at which MACs are counted; without any, those of the judge's first feed."""
    count_prices: bool = True
    """Whether the report tells nodes, MACs and bytes after each pass, and what became of each weight; one that nobody
    will read does without, in less time."""

    def __post_init__(self) -> None:
        self.passes = (
            parse_pipeline(self.pipeline) if isinstance(self.pipeline, str) else Pipeline(tuple(self.pipeline))
        )

    @property
    def needs_judge(self) -> bool:
        """Whether the run decides by measuring."""
        return bool(self.budget) or any(inner.needs_judge for pass_ in self.passes for inner in walk_passes(pass_))

    def run(
        self,
        model: Model,
        *,
        data: Iterable[Feed] | None = None,
        judge: Judge | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Report:
        """Run the passes over `model`, which is changed in place, and report.

        With `provenance`, what it says of the run is written into a model that was changed, and what made each node.

        `judge` measures the error after each pass, against the original and against the model before the pass; without
        one nothing is measured. Raises PassError if a pass fails, leaves an unsound graph, or breaks its promise of
        being EXACT under the judge's eyes, and LimitError if a limit says stop; the model is then as it was before that
        pass.
        """
        with no_more_than_pay(self.passes, model):
            run = _Run(self, model, data, judge)
            report = run.report()
        if provenance is not None and report.changed:
            from .provenance import write_provenance

            write_provenance(run.rewriter, provenance)
        return report


NO_SAMPLE_FITS = "no sample fits the inputs as they are now: pin generated ones to their shape, or give data"


class _Run:
    """One run of a pass manager."""

    def __init__(self, manager: PassManager, model: Model, data: Iterable[Feed] | None, judge: Judge | None) -> None:
        started = time.perf_counter()
        self.manager, self.model, self.judge = manager, model, judge
        self.measurements = None if judge is None or judge.unmeasured else _measurements(judge, model)
        self.rewriter = Rewriter(model)
        self.ctx = Context(
            model,
            self.rewriter,
            manager.backend,
            Remarks(),
            WeightAccount(model),
            data,
            Counted(manager.progress),
            measurements=self.measurements,
        )
        self.runner = Runner(self.ctx, manager.seed, manager.instruments, manager.verify_each, manager.idle_limit)
        pins = manager.shapes or (judge.pins if judge is not None else None)
        self.meter = _price_meter(self.ctx, pins) if manager.count_prices else None
        why = judge.unmeasured if judge is not None else "not asked for"
        self.before = self._state(None, why)
        if manager.count_prices:
            _doubt(self.ctx)
        self.runner.overhead += time.perf_counter() - started

    def report(self) -> Report:
        """Run all passes."""
        manager, ctx, judge = self.manager, self.ctx, self.judge
        steps: list[Step] = []
        state = self.before
        for pass_ in ctx.progress.track(list(manager.passes), "passes"):
            steps.append(self._step(pass_, state))
            state = steps[-1].after or state
        return Report(
            ",".join(step.text for step in steps),
            manager.seed,
            judge.description if judge else "",
            manager.versions,
            self.before,
            steps,
            list(ctx.remarks),
            ctx.weights.entries(self.model) if manager.count_prices else (),
            list(ctx.bounds),
            list(ctx.layers),
            self._deployment_error(steps),
            self.runner.overhead - ctx.analyses.claimed,
        )

    def _step(self, pass_: Pass, before: State) -> Step:
        """Run a pass of the pipeline, and take it back if it breaks the budget."""
        checkpoint = self.ctx.checkpoint()
        outputs = None if self.measurements is None else self.measurements.outputs()
        step = self.runner.run(pass_, measured=True)
        if not step.changed:
            return step._replace(after=before)
        error = None if self.measurements is None else self.measurements.from_original() or None
        broken = self._broken(error)
        if broken:
            self.ctx.rollback(checkpoint)
            if outputs is not None and self.measurements is not None:
                self.measurements.remember(outputs)
            return self._over_budget(step, before, broken)
        started = time.perf_counter()
        if self.meter is not None:
            exact = effect_of(pass_) is Effect.EXACT
            self.meter.update(self.rewriter.journal[checkpoint.journal :], same_values=exact)
        refusal = "" if self.measurements is None else self.measurements.outputs().refusal
        why = NO_SAMPLE_FITS if error is None and not self.before.unmeasured else self.before.unmeasured
        after = self._state(error, refusal or why)
        self.runner.overhead += time.perf_counter() - started
        return step._replace(after=after)

    def _broken(self, error: Metrics | None) -> tuple[str, ...]:
        limits = self.manager.budget
        if not limits:
            return ()
        if error is None or self.judge is None:
            return (f"the error could not be measured: {self.before.unmeasured or NO_SAMPLE_FITS}",)
        return self.judge.broken(error, limits)

    def _over_budget(self, step: Step, before: State, broken: Sequence[str]) -> Step:
        words = f"over the budget: {'; '.join(broken)}"
        if self.manager.over_budget == "stop":
            raise LimitError(f"pass {step.text!r} is {words}")
        self.ctx.remarks.by = step.name
        self.ctx.remarks.failed("model", f"rolled back, {words}", rule="budget")
        return taken_back(step)._replace(after=before)

    def _deployment_error(self, steps: Sequence[Step]) -> Metrics | None:
        if self.judge is None or self.measurements is None or not any(step.changed for step in steps):
            return None
        now = self.judge.run(self.model, deployment=True)
        return self.judge.error(self.judge.original(deployment=True), now) or None

    def _state(self, error: Metrics | None, unmeasured: str) -> State:
        return State(None if self.meter is None else self.meter.price(), error, unmeasured)


def _measurements(judge: Judge, model: Model) -> Measurements:
    """Those of the original, with which a run begins."""
    from .judging import Measurements

    made = Measurements(judge, model)
    made.remember(judge.original())
    return made


def _doubt(ctx: Context) -> None:
    """Say which declared outputs are wrong; passes do not believe them."""
    from ...ir.analysis.claims import wrong_outputs

    ctx.remarks.by = "input"
    for output, declared, inferred in wrong_outputs(ctx.model, ctx.analyses.shapes(ahead=True)):
        words = f"the file declares {declared}, and it is {inferred}"
        ctx.remarks.missed(output, words, rule="claim", suggestion="the pass shapes corrects that")
    ctx.remarks.by = ""


def _price_meter(ctx: Context, pins: Mapping[str, tuple[int, ...]] | None) -> PriceMeter:
    """One that shares the inference of shapes with the passes."""
    from .prices import PriceMeter

    return PriceMeter(ctx.model, pins, partial(ctx.analyses.shapes, ahead=True))
