"""What holds of every pass that runs: budgets, effects, limits, instruments, times, and no change past the rewriter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import onnxpress as op
from onnxpress.errors import LimitError, PassError
from onnxpress.ir import Graph, Model, Node, emit, lower, tensor
from onnxpress.passes.combinators.fixpoint import Fixpoint
from onnxpress.passes.combinators.repeat import Repeat
from onnxpress.passes.graph.dce import Dce
from onnxpress.passes.graph.fold import Fold
from onnxpress.passes.manager import runner
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.instruments import Instrument
from onnxpress.passes.manager.report import Fate

from .conftest import Stretch, chain_proto

DATA = [{"x": np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)}]


def run(passes: Sequence[Pass], model: Model, **options: Any) -> op.Report:
    return op.PassManager(passes, **options).run(model, data=DATA)


def message(model: Model) -> bytes:
    return bytes(emit(model).SerializeToString(deterministic=True))


def made(act: Callable[[Graph, Context], None], **traits: Any) -> Pass:
    """A pass that does `act`."""

    @dataclass(frozen=True)
    class Acting(Pass):
        """Act."""

        name: ClassVar[str] = "acting"
        effect: ClassVar[Effect] = traits.get("effect", Effect.LEARNED)

        def run(self, graph: Graph, ctx: Context) -> None:
            act(graph, ctx)

    return Acting()


# ---- the budget


def test_a_pass_over_the_budget_is_taken_back_and_the_others_run(chain):
    report = run([Stretch(by=1.001), Stretch(by=2.0), Stretch(by=1.002)], chain, budget=["rel-l2=0.1"])
    assert [step.fate for step in report.steps] == [Fate.RAN, Fate.ROLLED_BACK, Fate.RAN]
    assert report.steps[1].after == report.steps[0].after
    assert report.after.error["rel-l2"] < 0.1
    alike = lower(chain_proto())
    run([Stretch(by=1.001), Stretch(by=1.002)], alike)
    assert message(chain) == message(alike)


def test_over_the_budget_the_run_can_stop(chain):
    with pytest.raises(LimitError, match=r"pass 'stretch\{by=2\}' is over the budget: rel-l2 .*, allowed 0\.1"):
        run([Stretch(by=1.001), Stretch(by=2.0)], chain, budget=["rel-l2=0.1"], over_budget="stop")


def test_the_budget_counts_the_error_against_the_original(chain):
    report = run([Stretch(by=1.02)] * 3, chain, budget=["rel-l2=0.2"])
    assert [step.fate for step in report.steps] == [Fate.RAN, Fate.RAN, Fate.ROLLED_BACK]


def test_each_step_is_measured_against_the_step_before_and_the_original(chain):
    first, second = run([Stretch(by=1.1), Stretch(by=1.1)], chain).steps
    assert first.step_error == first.after.error
    assert second.step_error["rel-l2"] == pytest.approx(1.1**4 - 1, rel=1e-5)
    assert second.after.error["rel-l2"] == pytest.approx(1.1**8 - 1, rel=1e-5)


def test_what_cannot_be_measured_is_over_any_budget(chain):
    from onnxpress.passes.manager.manager import PassManager

    report = PassManager([Stretch()], budget={"rel-l2": 1.0}).run(chain)
    assert [step.fate for step in report.steps] == [Fate.ROLLED_BACK]
    assert "could not be measured" in next(iter(report.remarks)).reason


def test_over_the_budget_those_inside_are_taken_back_too(chain):
    report = run([Repeat(1, (Stretch(by=2.0),))], chain, budget=["rel-l2=0.1"])
    assert [step.fate for step in (report.steps[0], *report.steps[0].children)] == [Fate.ROLLED_BACK] * 2


# ---- effects


def lie(graph: Graph, ctx: Context) -> None:
    weight = graph.initializers[0]
    assert weight.tensor is not None
    ctx.rewriter.set_tensor(weight, tensor(weight.tensor.numpy() * np.float32(1.5)))


def test_an_exact_pass_that_lies_is_caught(chain):
    before = message(chain)
    with pytest.raises(PassError, match="declares itself EXACT, but"):
        run([made(lie, effect=Effect.EXACT)], chain)
    assert message(chain) == before


def test_inside_combinators_it_is_caught_where_numbers_are_asked_for(chain):
    liar = made(lie, effect=Effect.EXACT)
    with pytest.raises(PassError, match="pass 'acting' failed: it declares itself EXACT") as caught:
        run([Repeat(1, (liar, Stretch()))], chain, verify_each="numbers")
    assert caught.value.failed_pass is liar
    assert run([Repeat(1, (liar, Stretch()))], chain).changed


# ---- passes that do not end


def test_a_pass_that_edits_for_ever_is_stopped(chain, monkeypatch):
    monkeypatch.setattr(runner, "LEAST_EDIT_LIMIT", 500)

    def rewrite_for_ever(graph: Graph, ctx: Context) -> None:
        weight = graph.initializers[0]
        while weight.tensor is not None:
            ctx.rewriter.set_tensor(weight, weight.tensor)

    before = message(chain)
    with pytest.raises(PassError, match=r"pass 'acting' failed: RewriteError: it has made \d+ edits and does not stop"):
        run([made(rewrite_for_ever)], chain)
    assert message(chain) == before


def test_a_pass_that_shows_no_sign_of_life_is_stopped(chain):
    def sleep(graph: Graph, ctx: Context) -> None:
        while True:
            pass

    with pytest.raises(PassError, match=r"pass 'acting' failed: no sign of life for 0\.1 s"):
        run([made(sleep)], chain, idle_limit=0.1)


def test_progress_is_a_sign_of_life(chain):
    import time

    def work(graph: Graph, ctx: Context) -> None:
        for _ in ctx.progress.track(range(8), "work"):
            time.sleep(0.05)

    assert not run([made(work)], chain, idle_limit=0.2).changed


# ---- changes past the rewriter


def sets_the_operator(graph: Graph, ctx: Context) -> None:
    next(graph.nodes).op_type = "Add"


def swaps_an_input(graph: Graph, ctx: Context) -> None:
    node = next(graph.nodes)
    node._inputs.reverse()


def swaps_a_tensor(graph: Graph, ctx: Context) -> None:
    graph.initializers[0]._tensor = tensor(np.zeros(16, np.float32))


def appends_a_node(graph: Graph, ctx: Context) -> None:
    graph.append(Node("Relu", [graph.inputs[0]], [], {}))


def unlinks_a_node(graph: Graph, ctx: Context) -> None:
    first = next(graph.nodes)
    graph._first = first._next


def renames_a_weight(graph: Graph, ctx: Context) -> None:
    graph.initializers[0]._name = "other"


def hides_it_behind_an_edit(graph: Graph, ctx: Context) -> None:
    lie(graph, ctx)
    sets_the_operator(graph, ctx)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (sets_the_operator, "node 'scale0' was changed"),
        (swaps_an_input, "node 'scale0' was changed"),
        (swaps_a_tensor, "initializer 'w0' was changed"),
        (appends_a_node, "was added"),
        (unlinks_a_node, "node 'scale0' was removed"),
        (renames_a_weight, "'w0' was renamed"),
        (hides_it_behind_an_edit, "node 'scale0' was changed"),
    ],
)
def test_changes_past_the_rewriter_are_caught(act, words, chain):
    with pytest.raises(PassError, match=f"{words} past the rewriter"):
        run([made(act)], chain, measure=False)


# ---- instruments


class Notes(Instrument):
    def __init__(self, skip: str = "") -> None:
        self.seen: list[str] = []
        self.skip = skip

    def should_run(self, pass_: Pass, model: Model) -> bool:
        return pass_.name != self.skip

    def before(self, pass_: Pass, model: Model) -> None:
        self.seen.append(f"before {pass_.name}")

    def after(self, pass_: Pass, model: Model, changed: bool) -> None:
        self.seen.append(f"after {pass_.name} {changed}")

    def failed(self, pass_: Pass, model: Model, error: BaseException) -> None:
        self.seen.append(f"failed {pass_.name}")


def test_instruments_hear_of_every_pass_in_order(chain):
    notes = Notes()
    run([Repeat(1, (Dce(), Stretch()))], chain, instruments=[notes])
    assert notes.seen == [
        "before repeat",
        "before dce",
        "after dce False",
        "before stretch",
        "after stretch True",
        "after repeat True",
    ]


def test_of_a_failure_the_innermost_pass_is_heard_first(chain):
    notes = Notes()

    def fail(graph: Graph, ctx: Context) -> None:
        raise KeyError("lost")

    with pytest.raises(PassError, match="pass 'acting' failed: KeyError: 'lost'"):
        run([Fixpoint(inside=(made(fail),))], chain, instruments=[notes])
    assert notes.seen == ["before fixpoint", "before acting", "failed acting", "failed fixpoint"]


def test_an_instrument_can_keep_a_pass_from_running(chain):
    report = run([Stretch(), Fold()], chain, instruments=[Notes("stretch")])
    assert [step.fate for step in report.steps] == [Fate.SKIPPED, Fate.RAN]
    assert not report.changed


# ---- the report


def test_times_and_counts_form_a_tree(chain):
    report = run([Repeat(3, (Stretch(), Dce()))], chain)
    (step,) = report.steps
    assert sum(child.seconds for child in step.children) <= step.seconds
    assert step.rules == {"stretch": 12}
    assert step.edits == {"set-tensor": 12}
    assert [child.after for child in step.children] == [None] * 6
    assert report.overhead_seconds > 0
    assert len(report.as_dict()["steps"][0]["steps"]) == 6


def test_prices_that_nobody_reads_are_not_counted(chain):
    counted = lower(emit(chain))
    whole = run([Stretch(by=1.001), Dce()], counted)
    report = run([Stretch(by=1.001), Dce()], chain, count_prices=False)
    assert message(chain) == message(counted)
    assert [step.edits for step in report.steps] == [step.edits for step in whole.steps]
    assert report.after.error == whole.after.error
    assert not report.weights
    for state in (report.before, report.after):
        assert state.price is None
        with pytest.raises(RuntimeError, match="count no prices"):
            _ = state.cost


def test_applications_are_numbered_and_can_be_taken_back_one_by_one(chain):
    from onnxpress.ir import Rewriter

    rewriter = Rewriter(chain)
    before = message(chain)
    for node in chain.graph.nodes:
        with rewriter.apply("rule", node):
            weight = node.inputs[1]
            assert weight is not None
            rewriter.set_tensor(weight, tensor(np.ones(16, np.float32)))
    assert [(a.number, a.rule, a.subject) for a in rewriter.applications] == [
        (index + 1, "rule", f"scale{index}") for index in range(4)
    ]
    rewriter.rollback(rewriter.applications[1].mark)
    assert [a.number for a in rewriter.applications] == [1]
    rewriter.rollback(0)
    assert message(chain) == before


def test_an_application_that_raises_leaves_nothing(chain):
    from onnxpress.ir import Rewriter

    rewriter, before = Rewriter(chain), message(chain)

    def insert_and_fail() -> None:
        with rewriter.apply("rule", next(chain.graph.nodes)):
            rewriter.insert("Identity", [chain.graph.inputs[0]], graph=chain.graph)
            raise KeyError

    with pytest.raises(KeyError):
        insert_and_fail()
    assert message(chain) == before
    assert not rewriter.applications
