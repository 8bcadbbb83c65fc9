"""The runner: one pass as a transaction, however deep it lies in combinators, with everything that holds for each."""

from __future__ import annotations

import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from ...errors import OnnxpressError, PassError, VerifyError
from ...ir import Edit, Graph, Model, verify
from .base import Effect, Pass, effect_of, keeps_interface
from .context import Chance, Context
from .foreign import foreign_code
from .instruments import Instrument
from .mistakes import words_of
from .report import Fate, Step
from .sweep import sweep
from .tamper import Snapshot
from .text import pass_text
from .watchdog import watch

if TYPE_CHECKING:
    from .judging import Metrics

VerifyEach = Literal["structure", "numbers", "off"]
EDITS_PER_NODE = 100
LEAST_EDIT_LIMIT = 100_000
"""A pass may make as many edits, and a hundred times as many as there are nodes if that is more: then it is stopped."""


_Interface = tuple[object, ...]
_T = TypeVar("_T")


@dataclass(eq=False, repr=False)
class Runner:
    """Runs passes over the model of `ctx` and keeps their times apart from the framework's own.

    `verify_each`: after every pass the structure of the model is verified (`structure`), the error is measured inside
    combinators too (`numbers`), or nothing is checked (`off`). A pass without a sign of life for `idle_limit` seconds
    is stopped.
    """

    ctx: Context
    seed: int = 0
    instruments: Sequence[Instrument] = ()
    verify_each: VerifyEach = "structure"
    idle_limit: float | None = None
    overhead: float = 0.0
    """Seconds of the framework so far, those of measuring left out."""
    _steps: list[Step] = field(default_factory=list)
    _snapshot: Snapshot | None = None
    _interface: tuple[int, _Interface] = (-1, ())
    """A version of the model, and its interface."""
    _counted: tuple[int, int] = (-1, 0)
    """A version of the model, and its nodes."""

    def __post_init__(self) -> None:
        self.ctx.run = self.run
        self._stdout = sys.stdout

    def run(self, pass_: Pass, *, measured: bool = False) -> Step:
        """Run one pass: sweep what it orphaned, verify, hold it to its interface and its effect.

        Raises PassError if it fails or breaks a promise; the model is then as it was before it.
        """
        started = time.perf_counter()
        text = pass_text(pass_)
        if not all(self._tell(lambda instrument: instrument.should_run(pass_, self.ctx.model))):
            return self._add(Step(pass_.name, text, str(effect_of(pass_)), 0.0, fate=Fate.SKIPPED))
        self._tell(lambda instrument: instrument.before(pass_, self.ctx.model))
        checkpoint, measurements = self.ctx.checkpoint(), self.ctx.measurements
        measured = measurements is not None and (measured or self.verify_each == "numbers")
        before = measurements.outputs() if measurements is not None and measured else None
        applied = len(self.ctx.rewriter.applications)
        self._count(started)
        outer, self._steps = self._steps, []
        overhead, measuring, claimed = self.overhead, self._measuring, self.ctx.analyses.claimed
        started = time.perf_counter()
        error: Metrics | None = None
        try:
            with self._acting(pass_, text):
                edits = self._transact(pass_)
            elapsed = time.perf_counter() - started
            verifying = self.overhead - overhead
            elapsed += self.ctx.analyses.claimed - claimed - verifying - (self._measuring - measuring)
            if measurements is not None and before is not None and edits:
                error = measurements.since(before) or None
                self._hold_exact(pass_, error or {})
        except BaseException as failure:
            self.ctx.rollback(checkpoint)
            self._fail(pass_, failure)
            raise
        finally:
            children, self._steps = self._steps, outer
        started = time.perf_counter()
        step = Step(
            pass_.name,
            text,
            str(effect_of(pass_)),
            elapsed,
            Counter(edit.kind for edit in edits),
            Counter(application.rule for application in self.ctx.rewriter.applications[applied:]),
            verify_seconds=verifying,
            measure_seconds=self._measuring - measuring,
            step_error=error,
            must_change=pass_.must_change,
            own_edits=sum(edit.by == pass_.name for edit in edits),
            children=tuple(children if edits else map(taken_back, children)),
        )
        self._tell(lambda instrument: instrument.after(pass_, self.ctx.model, bool(edits)))
        self._count(started)
        return self._add(step)

    def _fail(self, pass_: Pass, failure: BaseException) -> None:
        self._tell(lambda instrument: instrument.failed(pass_, self.ctx.model, failure))

    def _tell(self, event: Callable[[Instrument], _T]) -> list[_T]:
        """Let the instruments hear of something. They may print, also where the pass around them may not."""
        with redirect_stdout(self._stdout):
            return [event(instrument) for instrument in self.instruments]

    def _add(self, step: Step) -> Step:
        self._steps.append(step)
        return step

    @property
    def _measuring(self) -> float:
        """Seconds of measuring so far."""
        return 0.0 if self.ctx.measurements is None else self.ctx.measurements.seconds

    def _count(self, started: float) -> None:
        self.overhead += time.perf_counter() - started

    @contextmanager
    def _acting(self, pass_: Pass, text: str) -> Iterator[None]:
        """Let `pass_` be the one that acts and speaks, with chance of its own: seed, its text, how often it ran."""
        ctx = self.ctx
        by, chance = ctx.rewriter.by, ctx.chance
        ctx.rewriter.by = ctx.remarks.by = ctx.weights.by = pass_.name
        ctx.chance = Chance(self.seed, zlib.crc32(text.encode()), ctx.times_run[text])
        ctx.times_run[text] += 1
        try:
            yield
        finally:
            ctx.chance = chance
            ctx.rewriter.by = ctx.remarks.by = ctx.weights.by = by

    def _transact(self, pass_: Pass) -> Sequence[Edit]:
        """Run a pass and check what it left; returns its edits."""
        ctx, rewriter = self.ctx, self.ctx.rewriter
        started = time.perf_counter()
        interface, version = self._interface_of_now(), ctx.model.ir_version
        mark = rewriter.mark()
        snapshot = None if pass_.takes_pipeline or self.verify_each == "off" else self._snapshot_of_now()
        self._count(started)
        try:
            with self._limits(pass_):
                for graph in _graphs(pass_, ctx.model):
                    with foreign_code():
                        pass_.run(graph, ctx)
            self._sweep(mark)
            started = time.perf_counter()
            edits = rewriter.journal[mark:]
            if snapshot is not None:
                self._snapshot = snapshot.check(ctx.model, edits)
                if edits:
                    verify(ctx.model)
            now = self._interface_of_now(afresh=True)
            if keeps_interface(pass_) and now != interface:
                raise VerifyError("the inputs or outputs of the model changed, which the pass does not declare")
            self._count(started)
        except Exception as error:
            self._snapshot = None
            failure = _as_failure(pass_, error)
            if failure is error:
                raise  # the failure of a pass inside, with its own cause
            raise failure from error
        if ctx.model.ir_version != version and not pass_.takes_pipeline:
            ctx.remarks.applied("model", _raised(ctx.model, version), rule="ir-version")
        return edits

    def _interface_of_now(self, *, afresh: bool = False) -> _Interface:
        """Unless `afresh`, that which was found after the pass before."""
        model = self.ctx.model
        if afresh or self._interface[0] != model.version:
            self._interface = (model.version, _interface(model))
        return self._interface[1]

    def _snapshot_of_now(self) -> Snapshot:
        if self._snapshot is None or self._snapshot.version != self.ctx.model.version:
            self._snapshot = Snapshot(self.ctx.model)
        return self._snapshot

    @contextmanager
    def _limits(self, pass_: Pass) -> Iterator[None]:
        """Stop a pass that never ends."""
        if pass_.takes_pipeline:
            yield
            return
        rewriter = self.ctx.rewriter
        before = rewriter.edit_limit
        rewriter.edit_limit = rewriter.mark() + max(LEAST_EDIT_LIMIT, EDITS_PER_NODE * self._node_count())
        words = f"no sign of life for {self.idle_limit:g} s" if self.idle_limit is not None else ""
        try:
            with watch(self.idle_limit, self._pulse, words):
                yield
        finally:
            rewriter.edit_limit = before

    def _node_count(self) -> int:
        model = self.ctx.model
        if self._counted[0] != model.version:
            self._counted = (model.version, sum(map(len, model.walk_graphs())))
        return self._counted[1]

    def _pulse(self) -> object:
        """Something that changes while a pass is alive."""
        ctx = self.ctx
        return ctx.rewriter.mark(), ctx.model.version, len(ctx.remarks), ctx.progress.ticks

    def _sweep(self, mark: int) -> None:
        rewriter = self.ctx.rewriter
        if rewriter.mark() == mark:
            return
        scope, rewriter.may_touch = rewriter.may_touch, None
        try:
            sweep(rewriter, mark)
        finally:
            rewriter.may_touch = scope

    def _hold_exact(self, pass_: Pass, error: Metrics) -> None:
        unequal = error.get("unequal", 0.0)
        if effect_of(pass_) is Effect.EXACT and unequal > 0:
            words = f"it declares itself EXACT, but {unequal:g} elements of the outputs changed"
            raise _as_failure(pass_, PassError(words))


def taken_back(step: Step) -> Step:
    """A step of which nothing was kept, nor of those inside it."""
    fate = Fate.ROLLED_BACK if step.changed else step.fate
    return step._replace(fate=fate, children=tuple(map(taken_back, step.children)))


def _as_failure(pass_: Pass, error: Exception) -> Exception:
    """The error of a failed pass: those of the user and of limits as they are, those of passes inside too."""
    if isinstance(error, OnnxpressError) and error.exit_code in (1, 2):
        return error
    if isinstance(error, PassError) and error.failed_pass is not None:
        return error
    words = words_of(error) or "no message"
    kind = "" if isinstance(error, PassError) else f"{type(error).__name__}: "
    failure = PassError(f"pass {pass_.name!r} failed: {kind}{words}")
    failure.failed_pass = pass_
    return failure


def _raised(model: Model, version: int) -> str:
    words = f"IR version raised from {version} to {model.ir_version}"
    if any(value.tensor is not None for value in model.graph.inputs):
        words += ", where a feed may override weights that are inputs too: freeze-defaults makes them constants"
    return words


def _graphs(pass_: Pass, model: Model) -> Iterable[Graph]:
    if pass_.scope == "model":
        return [model.graph]
    return list(model.walk_graphs())


def _interface(model: Model) -> _Interface:
    graph = model.graph
    inputs = [(value.name, None if value.type is None else value.type.SerializeToString()) for value in graph.inputs]
    infos = zip(graph.outputs, graph.output_infos, strict=True)
    return (inputs, [(value.name, info.type.SerializeToString()) for value, info in infos])
