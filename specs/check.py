"""`check_pass`: hold a pass to everything that passes promise, on drawn models and inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st
from onnx import ModelProto, ValueInfoProto, printer

from ..backends.judge import Judge
from ..backends.ort import OrtBackend
from ..backends.reference import ReferenceBackend
from ..errors import ExecutionError, LimitError, PassError, UserError, VerifyError
from ..ir import Backend, Model, emit, lower, verify
from ..passes.manager.base import Effect, Pass, effect_of, is_idempotent, keeps_interface, walk_passes
from ..passes.manager.manager import PassManager
from ..passes.manager.report import Report
from .bits import differing
from .impure import impure_nodes
from .nearness import Nearness
from .strategies import models as drawn_models
from .strategies_feeds import feeds
from .strategies_options import passes
from .strategies_scope import Draw
from .validity import fault_of

SEED = 0
WIDTH = 400
"""Letters of a line in a shown example, above which weights are cut off."""
NO_OPERATOR = "No implementation for operator"
"""How onnx's reference evaluator says that it lacks one."""
Feed = Mapping[str, Any]
PassSource = Pass | Callable[[], Pass] | st.SearchStrategy[Pass]
"""A pass, its class (whose options are drawn), another way to make one, or a strategy."""


class BrokenPromiseError(AssertionError):
    """A pass did what it promises not to do; says which promise, and where."""


@dataclass(frozen=True)
class Trial:
    """One run of a pass, and a feed that the original accepts: what a bound is judged on."""

    before: ModelProto
    after: ModelProto
    report: Report
    backend: Backend
    feed: Feed


Bound = Callable[[Trial], float]
"""The largest error of a rewritten value over the bound that the pass states for it: at most 1 if the promise holds."""


@dataclass
class Checked:
    """What a check has seen: drawn models, those that the pass changed, and runs with outputs to compare."""

    examples: int = 0
    changed: int = 0
    compared: int = 0
    refused: int = 0
    """Runs that the pass itself refused with a UserError or stopped with a LimitError: it needs what is not there, or
    other sample data, since the original refuses them too."""
    judged: int = 0
    """Runs in which the generic judge weighed the numbers of a changed model."""


def check_pass(
    pass_or_factory: PassSource,
    *,
    models: st.SearchStrategy[ModelProto] | None = None,
    backend: Backend | None = None,
    bound: Bound | None = None,
    max_examples: int | None = None,
) -> Checked:
    """Draw models and inputs, run the pass on them, and raise BrokenPromiseError with the smallest example of a fault.

    Checked is that the result verifies and passes the full check of `onnx.checker`; that it changed through the
    rewriter alone; that inputs and outputs keep names, order and types unless the pass says otherwise; that random
    and unknown nodes are all still there; that the same input and seed give the same bytes; that running again changes
    nothing if the pass is idempotent; and that its effect holds:
    EXACT outputs are equal to the bit in the reference configuration of the executor that evaluated the constants,
    those of a ROUNDING or LOSSY pass are as near as rounding and the reported `LocalBound`s explain (`nearness`),
    or as `bound` says if it is given, and LEARNED promises nothing.

    Options of a class are drawn from their annotations (`strategies_options`); sample data are the drawn feed. Without
    `backend` all this is done once with onnxruntime and once with onnx's reference evaluator. Feeds that the
    original refuses are discarded; it is a fault if all are, for then nothing was checked. Models are those of the
    strategy `models`, by default a quarter of them with random and unknown nodes, and a quarter with large weights.
    """
    checked = Checked()
    backends = (OrtBackend(), ReferenceBackend()) if backend is None else (backend,)

    @settings(
        max_examples=max_examples or settings().max_examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(_samples(_default_models() if models is None else models), _passes(pass_or_factory))
    def examine(sample: Sample, pass_: Pass) -> None:
        checked.examples += 1
        for executor in backends:
            _Examination(pass_, sample, executor, bound, checked).run()

    examine()
    if not checked.compared:
        why = "the pass refused every drawn model" if checked.refused else "the executors refused every drawn model"
        raise BrokenPromiseError(f"nothing was checked: {why}")
    return checked


class Sample:
    """A drawn model with a feed, shown in onnx's text form."""

    def __init__(self, model: ModelProto, feed: Feed) -> None:
        self.model = model
        self.feed = feed

    def __repr__(self) -> str:
        lines = f"Sample(\n{printer.to_text(self.model)}\nfeed={dict(self.feed)})".splitlines()
        return "\n".join(line if len(line) < WIDTH else f"{line[:WIDTH]} ..." for line in lines)


@st.composite
def _samples(draw: Draw, models: st.SearchStrategy[ModelProto]) -> Sample:
    model = draw(models)
    return Sample(model, draw(feeds(model)))


def _default_models() -> st.SearchStrategy[ModelProto]:
    return st.integers(0, 3).flatmap(lambda number: drawn_models(impure=number == 3, large=number == 2))


def _passes(source: PassSource) -> st.SearchStrategy[Pass]:
    if isinstance(source, st.SearchStrategy):
        return source
    if isinstance(source, Pass):
        return st.just(source)
    if isinstance(source, type):
        assert issubclass(source, Pass)
        return passes(source)
    return st.builds(source)


@dataclass
class _Examination:
    """One pass on one sample with one executor."""

    pass_: Pass
    sample: Sample
    backend: Backend
    bound: Bound | None
    checked: Checked

    def run(self) -> None:
        try:
            model, report = self._apply(self.sample.model)
        except (UserError, LimitError):
            self.checked.refused += 1
            return
        self.checked.changed += report.changed
        after = emit(model)
        self._is_sound(model, after)
        unchanged = _bytes(after) == _bytes(self.sample.model)
        self._require(report.changed or unchanged, "it changed the model past the rewriter")
        self._keeps_interface(after)
        self._keeps_impure_nodes(after)
        self._is_deterministic(after)
        if is_idempotent(self.pass_):
            self._is_idempotent(after)
        if not impure_nodes(self.sample.model):
            self._keeps_effect(after, report)

    def _require(self, holds: bool, promise: str) -> None:
        if not holds:
            raise BrokenPromiseError(f"{self.pass_.name} with {self.backend.name}: {promise}")

    def _apply(self, proto: ModelProto) -> tuple[Model, Report]:
        model = lower(proto)
        measures = any(inner.needs_judge for inner in walk_passes(self.pass_))
        judge = Judge(model, self.backend, samples=[self.sample.feed]) if measures else None
        try:
            manager = PassManager([self.pass_], backend=self.backend, seed=SEED)
            return model, manager.run(model, data=[self.sample.feed], judge=judge)
        except PassError as error:
            if isinstance(error.__cause__, ExecutionError) and not self._is_accepted():
                raise UserError("the original refuses the sample data as well") from error
            raise BrokenPromiseError(f"with {self.backend.name}: {error}") from error

    def _is_sound(self, model: Model, after: ModelProto) -> None:
        try:
            verify(model)
        except VerifyError as error:
            raise BrokenPromiseError(f"{self.pass_.name}: the result is not sound: {error}") from error
        if not fault_of(self.sample.model):
            fault = fault_of(after)
            self._require(not fault, f"the result is not valid: {fault}")

    def _keeps_interface(self, after: ModelProto) -> None:
        before = self.sample.model
        if keeps_interface(self.pass_):
            self._require(_ports(after.graph.input) == _ports(before.graph.input), "the inputs changed")
            self._require(_ports(after.graph.output) == _ports(before.graph.output), "the outputs changed")

    def _keeps_impure_nodes(self, after: ModelProto) -> None:
        before, now = impure_nodes(self.sample.model), impure_nodes(after)
        self._require(before == now, f"random and unknown nodes were {dict(before)} and are {dict(now)}")

    def _is_deterministic(self, after: ModelProto) -> None:
        again = emit(self._apply(self.sample.model)[0])
        self._require(_bytes(again) == _bytes(after), "the same model and seed gave other bytes")

    def _is_idempotent(self, after: ModelProto) -> None:
        model, report = self._apply(after)
        self._require(not report.changed, f"it changes its own result: {[dict(step.edits) for step in report.steps]}")
        self._require(_bytes(emit(model)) == _bytes(after), "its own result gives other bytes")

    def _keeps_effect(self, after: ModelProto, report: Report) -> None:
        names = {info.name for info in after.graph.input}
        feed = {name: value for name, value in self.sample.feed.items() if name in names}
        try:
            expected = self._outputs(self.sample.model, feed)
        except ExecutionError:
            return
        result = self._result(after, feed)
        if result is None:
            return
        self.checked.compared += 1
        match effect_of(self.pass_):
            case Effect.EXACT:
                self._is_exact(expected, result)
            case Effect.ROUNDING | Effect.LOSSY:
                if self.bound is not None:
                    ratio = self.bound(Trial(self.sample.model, after, report, self.backend, feed))
                    self._require(ratio <= 1, f"an error is {ratio} times its bound")
                    target(ratio, label=f"error / bound, {self.backend.name}")
                elif report.changed:
                    self._is_near(after, report, feed, expected, result)
            case Effect.LEARNED:
                pass

    def _is_exact(self, expected: Feed, result: Feed) -> None:
        common = {name: value for name, value in expected.items() if name in result or keeps_interface(self.pass_)}
        wrong = differing(common, result)
        shown = {name: (expected[name], result.get(name)) for name in wrong}
        self._require(not wrong, f"outputs are not equal to the bit, before and after: {shown}")

    def _is_near(self, after: ModelProto, report: Report, feed: Feed, expected: Feed, result: Feed) -> None:
        """No further off than rounding and the reported bounds explain, by the judge that knows nothing of the pass."""
        lossy = effect_of(self.pass_) is Effect.LOSSY
        try:
            nearness = Nearness(self.sample.model, after, feed, report.bounds if lossy else (), native=lossy)
            finding = nearness.judge()
            if not lossy and finding.ratio <= 1:
                finding = max(finding, nearness.executed(expected, result), key=lambda found: found.ratio)
        except ExecutionError:
            return
        self.checked.judged += 1
        unstated = "" if finding.is_stated or not lossy else ", and the pass reports no bound for it"
        self._require(finding.ratio <= 1, f"{finding}{unstated}")
        target(finding.ratio, label=f"error / bound, {self.backend.name}")

    def _outputs(self, proto: ModelProto, feed: Feed) -> Feed:
        return self.backend.prepare(lower(proto)).run(feed)

    def _is_accepted(self) -> bool:
        try:
            self._outputs(self.sample.model, self.sample.feed)
        except ExecutionError:
            return False
        return True

    def _result(self, after: ModelProto, feed: Feed) -> Feed | None:
        """The outputs of the result; None if onnx's reference evaluator has no such operator, which is its own gap.

        A default that nothing reads is not fed, since onnxruntime drops such inputs.
        """
        unread = {value.name for value in lower(after).graph.inputs if value.is_dead and value.is_initializer}
        try:
            return self._outputs(after, {name: value for name, value in feed.items() if name not in unread})
        except ExecutionError as error:
            if isinstance(self.backend, ReferenceBackend) and NO_OPERATOR in str(error):
                return None
            raise BrokenPromiseError(f"{self.pass_.name}: {self.backend.name} refuses the result: {error}") from error


def _ports(infos: Sequence[ValueInfoProto]) -> list[tuple[str, bytes]]:
    return [(info.name, info.type.SerializeToString(deterministic=True)) for info in infos]


def _bytes(proto: ModelProto) -> bytes:
    return bytes(proto.SerializeToString(deterministic=True))
