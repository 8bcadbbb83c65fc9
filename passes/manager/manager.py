"""The pass manager: runs a pipeline over a model, verifies after every pass, and writes down what it cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ...errors import OnnxpressError, PassError, VerifyError
from ...ir import Backend, Edit, Graph, Model, Rewriter, verify
from ...ir.analysis.cost import cost
from ...ir.proto import file_size
from .base import Effect, Pass
from .context import Context, Feed, Progress, Silent
from .remarks import Remarks
from .report import Report, State, Step
from .sweep import sweep
from .text import Pipeline, parse_pipeline
from .weights import WeightAccount

Pins = Mapping[str, tuple[int, ...]]


class Judge(Protocol):
    """Measures a model against the original that it was made with."""

    @property
    def description(self) -> str:
        """What it measures on, as the report says it."""
        ...

    @property
    def pins(self) -> Pins | None:
        """Shapes of inputs at which MACs are counted."""
        ...

    def error(self, model: Model, *, deployment: bool = False) -> tuple[Mapping[str, float] | None, str]:
        """The worst value of every metric; or None and the reason why nothing could be measured."""
        ...


class Instrument(Protocol):
    """Hears of every pass. Later ones: timing trees, reproducers."""

    def before(self, pass_: Pass, model: Model) -> None:
        """`pass_` is about to run."""
        ...

    def after(self, pass_: Pass, model: Model, changed: bool) -> None:
        """`pass_` has run, and the model is verified."""
        ...


@dataclass
class PassManager:
    """Runs a pipeline, given as text or as passes.

    `backend` evaluates constants; without one `fold` leaves them.
    """

    pipeline: str | Sequence[Pass]
    backend: Backend | None = None
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    progress: Progress = field(default_factory=Silent)
    instruments: Sequence[Instrument] = ()

    def __post_init__(self) -> None:
        self.passes = (
            parse_pipeline(self.pipeline) if isinstance(self.pipeline, str) else Pipeline(tuple(self.pipeline))
        )

    def run(self, model: Model, *, data: Iterable[Feed] | None = None, judge: Judge | None = None) -> Report:
        """Run the passes over `model`, which is changed in place, and report.

        `judge` measures the error against the original after each pass; without one nothing is measured. Raises
        PassError if a pass fails, leaves an unsound graph, or breaks its promise of being EXACT under the judge's eyes;
        the model is then as it was before that pass.
        """
        rewriter = Rewriter(model)
        ctx = Context(
            model,
            rewriter,
            self.backend,
            Remarks(),
            WeightAccount(model),
            np.random.default_rng(self.seed),
            data,
            self.progress,
        )
        report = Report(
            str(self.passes), self.seed, judge.description if judge else "", self.versions, _state(model, judge, False)
        )
        steps: list[Step] = []
        for pass_ in self.progress.track(list(self.passes), "passes"):
            steps.append(self._step(pass_, ctx, judge, steps[-1].after if steps else report.before))
        report.steps = steps
        report.remarks = list(ctx.remarks)
        report.weights = ctx.weights.entries(model)
        report.bounds = list(ctx.bounds)
        if judge is not None and report.changed:
            report.deployment_error, _ = judge.error(model, deployment=True)
        return report

    def _step(self, pass_: Pass, ctx: Context, judge: Judge | None, before: State) -> Step:
        for instrument in self.instruments:
            instrument.before(pass_, ctx.model)
        start, mark = time.perf_counter(), ctx.rewriter.mark()
        edits = run_pass(pass_, ctx)
        seconds = time.perf_counter() - start
        after = _state(ctx.model, judge, True) if edits else before
        if pass_.effect is Effect.EXACT and _unequal(after) > 0 and _unequal(before) == 0:
            ctx.rewriter.rollback(mark)
            raise PassError(
                f"pass {pass_.name!r} declares itself EXACT, but {_unequal(after):g} elements of the outputs changed"
            )
        for instrument in self.instruments:
            instrument.after(pass_, ctx.model, bool(edits))
        text = str(Pipeline((pass_,)))
        return Step(text, str(pass_.effect), seconds, bool(edits), Counter(edit.kind for edit in edits), after)


def run_pass(pass_: Pass, ctx: Context) -> Sequence[Edit]:
    """Run one pass as a transaction: sweep what it orphaned, verify, hold it to its interface; returns its edits."""
    rewriter = ctx.rewriter
    rewriter.by = ctx.remarks.by = ctx.weights.by = pass_.name
    interface, version = _interface(ctx.model), ctx.model.ir_version
    mark, account, bounds = rewriter.mark(), ctx.weights.mark(), len(ctx.bounds)
    try:
        for graph in _graphs(pass_, ctx.model):
            pass_.run(graph, ctx)
        sweep(rewriter, mark)
        edits = rewriter.journal[mark:]
        if edits:
            verify(ctx.model)
        if pass_.keeps_interface and _interface(ctx.model) != interface:
            raise VerifyError("the inputs or outputs of the model changed, which the pass does not declare")
    except BaseException as error:
        rewriter.rollback(mark)
        ctx.weights.restore(account)
        del ctx.bounds[bounds:]
        if isinstance(error, Exception) and not (isinstance(error, OnnxpressError) and error.exit_code == 2):
            words = str(error) or "no message"
            raise PassError(f"pass {pass_.name!r} failed: {type(error).__name__}: {words}") from error
        raise
    if ctx.model.ir_version != version:
        raised = f"IR version raised from {version} to {ctx.model.ir_version}"
        if any(value.tensor is not None for value in ctx.model.graph.inputs):
            raised += ", where a feed may override weights that are inputs too: freeze-defaults makes them constants"
        ctx.remarks.applied("model", raised, rule="ir-version")
    return edits


def _unequal(state: State) -> float:
    """Elements of the outputs that differ from the original's, as far as was measured."""
    return 0.0 if state.error is None else state.error.get("unequal", 0.0)


def _graphs(pass_: Pass, model: Model) -> Iterable[Graph]:
    if pass_.scope == "model":
        return [model.graph]
    return list(model.walk_graphs())


def _interface(model: Model) -> tuple[object, ...]:
    graph = model.graph
    inputs = [(value.name, None if value.type is None else value.type.SerializeToString()) for value in graph.inputs]
    infos = zip(graph.outputs, graph.output_infos, strict=True)
    return (inputs, [(value.name, info.type.SerializeToString()) for value, info in infos])


def _state(model: Model, judge: Judge | None, changed: bool) -> State:
    pins = None if judge is None else judge.pins
    error, why = (None, "not asked for") if judge is None or not changed else judge.error(model)
    return State(cost(model, pins), file_size(model), error, why)
