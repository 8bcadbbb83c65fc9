"""fixpoint, repeat, at and guard: what they run, where, and what is left when they take something back."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnxpress as op
from onnxpress.backends.judge import Judge
from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import LimitError, PassError, UserError
from onnxpress.ir import Graph, Model, Session, emit, lower
from onnxpress.passes.combinators.at import At
from onnxpress.passes.combinators.fixpoint import Fixpoint
from onnxpress.passes.combinators.guard import Guard
from onnxpress.passes.combinators.repeat import Repeat
from onnxpress.passes.graph.dce import Dce
from onnxpress.passes.graph.fold import Fold
from onnxpress.passes.manager.base import Effect, Pass, effect_of, is_idempotent
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.report import Fate

from .conftest import Stretch, chain_proto

DATA = [{"x": np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)}]


def run(passes: Sequence[Pass], model: Model, **options: Any) -> op.Report:
    return op.PassManager(passes, **options).run(model, data=DATA)


def message(model: Model) -> bytes:
    return bytes(emit(model).SerializeToString(deterministic=True))


def changed_weights(model: Model) -> set[str]:
    before = {tensor.name: tensor.raw_data for tensor in chain_proto().graph.initializer}
    return {tensor.name for tensor in emit(model).graph.initializer if tensor.raw_data != before[tensor.name]}


# ---- fixpoint and repeat


def test_a_fixpoint_ends_with_the_round_that_changes_nothing(chain):
    (step,) = run([Fixpoint(inside=(Fold(), Dce()))], chain).steps
    assert [child.name for child in step.children] == ["fold", "dce"]
    assert not step.changed


def test_a_fixpoint_that_does_not_settle_says_so(chain):
    report = run([Fixpoint(max=3, inside=(Stretch(),))], chain)
    assert len(report.steps[0].children) == 3
    assert [remark.rule for remark in report.remarks] == ["max"]
    assert "stretch still changed something" in report.remarks[0].reason


def test_each_repetition_has_chance_of_its_own(chain):
    once, twice, again = lower(chain_proto()), lower(chain_proto()), lower(chain_proto())
    jitter = Stretch(jitter=True)
    run([jitter], once)
    run([Repeat(2, (jitter,))], twice)
    run([jitter, jitter], again)
    first = [value.tensor.numpy() for value in once.graph.initializers if value.tensor is not None]
    second = [value.tensor.numpy() for value in twice.graph.initializers if value.tensor is not None]
    original = [value.tensor.numpy() for value in chain.graph.initializers if value.tensor is not None]
    assert all((b / a != a / o).any() for o, a, b in zip(original, first, second, strict=True))
    assert message(twice) == message(again)


def test_the_promise_of_a_combinator_is_the_weakest_inside():
    assert effect_of(Fixpoint(inside=(Fold(), Guard(rel_l2=1.0, inside=(Stretch(),))))) is Effect.LEARNED
    assert effect_of(Repeat(inside=(Fold(), Dce()))) is Effect.EXACT
    assert not is_idempotent(Repeat(inside=(Fold(), Dce())))
    assert is_idempotent(Fixpoint(inside=(Fold(),)))


# ---- at


@given(st.lists(st.sampled_from(["scale0", "scale1", "scale[23]", "v1", "*", "s*3", "nothing"]), max_size=3), st.data())
def test_nothing_changes_outside_of_at(patterns, data):
    model = lower(chain_proto())
    left_out = data.draw(st.lists(st.sampled_from(["scale1", "v2", "*3"]), max_size=2))
    run([At(nodes=tuple(patterns), except_=tuple(left_out), inside=(Stretch(),))], model)
    names = {index: (f"scale{index}", f"v{index}") for index in range(4)}

    def matches(index: int, globs: Sequence[str]) -> bool:
        return any(fnmatchcase(name, pattern) for name in names[index] for pattern in globs)

    wanted = {f"w{i}" for i in range(4) if (not patterns or matches(i, patterns)) and not matches(i, left_out)}
    assert changed_weights(model) == wanted


def test_a_pass_that_does_not_ask_is_refused_and_taken_back(chain):
    before = message(chain)
    with pytest.raises(PassError, match=r"pass 'stretch' failed: RewriteError: node 'scale0' is out of the scope"):
        run([At(nodes=("scale2",), inside=(Stretch(asks=False),))], chain)
    assert message(chain) == before


def test_a_pattern_that_matches_nothing_is_said(chain):
    report = run([At(nodes=("scal1",), ops=("Mull",), inside=(Stretch(),))], chain)
    assert [str(remark.subject) for remark in report.remarks] == ["scal1", "Mull"]
    assert "did you mean 'scale1'?" in report.remarks[0].reason
    assert "did you mean 'Mul'?" in report.remarks[1].reason


def test_what_is_made_inside_may_be_acted_on(chain):
    @dataclass(frozen=True)
    class Wrap(Pass):
        """Put an Identity behind scale1, then erase what is called Identity."""

        name: ClassVar[str] = "wrap"
        effect: ClassVar[Effect] = Effect.EXACT

        def run(self, graph: Graph, ctx: Context) -> None:
            node = next(node for node in graph.nodes if node.name == "scale1")
            made = ctx.rewriter.insert("Identity", [node.outputs[0]], graph=graph)
            assert ctx.selects(made)
            ctx.rewriter.erase(made)

    assert run([At(nodes=("scale1",), inside=(Wrap(),))], chain).steps[0].edits == {"insert": 1, "erase": 1}


def test_at_with_real_passes():
    model = lower(chain_proto())
    report = op.PassManager("at{nodes=[scale2]}(quantize-insert{min-bytes=0})").run(model, data=DATA)
    reasons = {str(entry.reason) for entry in report.weights}
    assert reasons <= {"an option excludes it", "done"}


# ---- guard


def test_guard_keeps_what_is_within_its_limits(chain):
    (step,) = run([Guard(rel_l2=0.5, inside=(Stretch(),))], chain).steps
    assert step.changed
    assert changed_weights(chain) == {"w0", "w1", "w2", "w3"}


@pytest.mark.parametrize("behind", [(), (Stretch(jitter=True),), (Stretch(jitter=True), Fold(), Dce())])
def test_after_a_rollback_the_bytes_are_those_of_the_pipeline_without_the_guard(behind):
    with_guard, without = lower(chain_proto()), lower(chain_proto())
    bad = Guard(rel_l2=1e-3, inside=(Stretch(by=1.5, jitter=True), Stretch(jitter=True)))
    report = run([Stretch(jitter=True), bad, *behind], with_guard)
    run([Stretch(jitter=True), *behind], without)
    assert message(with_guard) == message(without)
    assert [child.fate for child in report.steps[1].children] == [Fate.ROLLED_BACK] * 2
    assert any(remark.kind == "failed" and "rolled back: rel-l2" in remark.reason for remark in report.remarks)


def test_guards_nest(chain):
    inner = Guard(rel_l2=1e-3, inside=(Stretch(by=2.0),))
    outer = Guard(rel_l2=0.1, inside=(inner, Stretch(by=1.001)))
    report = run([outer], chain)
    assert report.steps[0].changed
    assert 1e-3 < report.after.error["rel-l2"] < 1e-2


def test_guard_stops_the_run(chain):
    before = message(chain)
    with pytest.raises(LimitError, match=r"guard stops the run: rel-l2 .* allowed 0\.001"):
        run([Guard(rel_l2=1e-3, else_="stop", inside=(Stretch(by=2.0),))], chain)
    assert message(chain) == before


def test_guard_warns(chain):
    report = run([Guard(rel_l2=1e-3, else_="warn", inside=(Stretch(by=2.0),))], chain)
    assert report.steps[0].changed
    assert [str(remark.kind) for remark in report.remarks] == ["failed"]


def test_guard_measures_against_the_model_before_it(chain):
    report = run([Stretch(by=2.0), Guard(rel_l2=0.1, inside=(Stretch(by=1.01),))], chain)
    assert report.steps[1].changed
    assert report.steps[1].step_error["rel-l2"] < 0.1 < report.after.error["rel-l2"]


def test_what_cannot_be_measured_is_not_kept(chain):
    from onnxpress.passes.manager.manager import PassManager

    report = PassManager([Guard(rel_l2=0.5, inside=(Stretch(),))]).run(chain)
    assert not report.changed
    assert "cannot be measured" in next(iter(report.remarks)).reason


def test_a_guard_without_a_limit_is_no_guard():
    with pytest.raises(UserError, match="at least one limit"):
        Guard(inside=(Fold(),))
    with pytest.raises(UserError, match="at least one limit"):
        op.PassManager("guard(fold)")


def test_guard_is_written_with_else():
    manager = op.PassManager("guard{rel-l2=0.01 else=stop}(fold)")
    assert str(manager._manager.passes) == "guard{rel-l2=0.01 else=stop}(fold)"


# ---- sessions


class Counting(OrtBackend):
    """Counts sessions, and remembers those that are alive."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "alive", weakref.WeakSet())
        object.__setattr__(self, "most", 0)
        object.__setattr__(self, "made", 0)

    def prepare(self, model: Model, **options: Any) -> Any:
        session = super().prepare(model, **options)
        self.alive.add(session)
        object.__setattr__(self, "made", self.made + 1)
        object.__setattr__(self, "most", max(self.most, len(self.alive)))
        return session


def test_one_session_at_a_time_and_no_output_computed_twice(chain):
    backend = Counting()
    judge = Judge(chain, backend, samples=DATA)
    assert (backend.made, backend.most) == (1, 1)
    from onnxpress.passes.manager.manager import PassManager

    guards = [Guard(rel_l2=1e-3, inside=(Stretch(by=2.0),)), Guard(rel_l2=0.5, inside=(Stretch(),))]
    PassManager(guards).run(chain, judge=judge)
    # one for each guard's result; at the end one each of the original and the result as deployed
    assert backend.made == 1 + 2 + 2
    assert backend.most == 1


def test_a_session_is_a_session(chain):
    session: Session = Counting().prepare(chain)
    found: Mapping[str, Any] = session.run(DATA[0])
    assert set(found) == {"v3"}
