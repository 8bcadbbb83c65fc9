"""Rules are applied where they fit and nowhere else: readers, outputs, bodies, opsets, scopes, rules that fight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from onnx import parser

import onnxpress as op
from onnxpress.ir import Graph, Model, lower, verify
from onnxpress.passes.combinators.at import At
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.context import Context
from onnxpress.passes.rewriting import driver
from onnxpress.passes.rewriting.driver import apply_rules, can_stand_for
from onnxpress.passes.rewriting.pattern import any_of, const, every, maybe, scalar, var, zeros
from onnxpress.passes.rewriting.pattern import op as call
from onnxpress.passes.rewriting.rule import Builder, Match, Rule

X, Y = var("x"), var("y")


def the_x(match: Match, b: Builder) -> op.Value:
    return match["x"]


def stands(match: Match) -> str:
    return can_stand_for(match.root.outputs[0], match["x"])


NEG_PAIR = Rule("neg-pair", call.Neg(call.Neg(X)), the_x, stands)


def model_of(text: str, *, opset: int = 17) -> Model:
    return lower(parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}'))


def run(model: Model, rules: Sequence[Rule], *, around: Any = None) -> op.Report:
    @dataclass(frozen=True)
    class Rules(Pass):
        """Apply the rules."""

        name: ClassVar[str] = "rules"
        effect: ClassVar[Effect] = Effect.EXACT

        def run(self, graph: Graph, ctx: Context) -> None:
            apply_rules(ctx, rules)

    report = op.PassManager([Rules() if around is None else around((Rules(),))]).run(model)
    verify(model)
    onnx.checker.check_model(op.ir.emit(model), full_check=True)
    return report


def kinds(model: Model) -> list[str]:
    return [node.op_type for graph in model.walk_graphs() for node in graph.nodes]


def test_a_rule_is_applied_until_it_fits_nowhere():
    nodes = "a = Neg(x) b = Neg(a) c = Neg(b) d = Neg(c) e = Abs(d) y = Abs(e)"
    model = model_of(f"g (float[2] x) => (float[2] y) {{ {nodes} }}")
    report = run(model, [NEG_PAIR])
    assert kinds(model) == ["Abs", "Abs"]
    assert report.steps[0].rules == {"neg-pair": 2}


def test_inner_nodes_that_others_read_stay():
    model = model_of("g (float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) y = Add(a, b) }")
    assert not run(model, [NEG_PAIR]).changed
    shared = Rule("neg-pair", call.Neg(call.Neg(X)), the_x, stands, exclusive=False)
    run(model, [shared])
    assert kinds(model) == ["Neg", "Add"]


def test_inner_nodes_that_are_outputs_stay():
    model = model_of("g (float[2] x) => (float[2] a, float[2] y) { a = Neg(x) b = Neg(a) y = Abs(b) }")
    assert not run(model, [NEG_PAIR]).changed


def test_inner_nodes_that_a_body_reads_stay():
    model = model_of(
        """g (float[2] x, bool c) => (float[2] y) {
            a = Neg(x) b = Neg(a)
            r = If (c) <
                then_branch = t () => (float[2] u) { u = Abs(a) },
                else_branch = e () => (float[2] v) { v = Abs(x) }
            >
            y = Add(r, b)
        }"""
    )
    assert not run(model, [NEG_PAIR]).changed


def test_an_input_cannot_stand_for_an_output():
    model = model_of("g (float[2] x) => (float[2] y) { a = Neg(x) y = Neg(a) }")
    assert not run(model, [NEG_PAIR]).changed


def test_names_of_outputs_are_kept():
    model = model_of("g (float[2] x) => (float[2] y) { a = Abs(x) b = Neg(a) y = Neg(b) }")
    run(model, [NEG_PAIR])
    assert kinds(model) == ["Abs"]
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_rules_reach_into_bodies_and_a_pattern_ends_at_its_graph():
    model = model_of(
        """g (float[2] x, bool c) => (float[2] y) {
            a = Neg(x)
            y = If (c) <
                then_branch = t () => (float[2] u) { p = Neg(x) q = Neg(p) u = Abs(q) },
                else_branch = e () => (float[2] v) { s = Neg(a) v = Abs(s) }
            >
        }"""
    )
    report = run(model, [NEG_PAIR])
    assert report.steps[0].rules == {"neg-pair": 1}
    assert kinds(model) == ["Neg", "If", "Abs", "Neg", "Abs"]


@pytest.mark.parametrize(("since", "until", "changed"), [(1, 16, False), (17, 17, True), (18, 99, False)])
def test_a_rule_holds_in_its_opsets_alone(since, until, changed):
    model = model_of("g (float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) y = Abs(b) }")
    rule = Rule("neg-pair", call.Neg(call.Neg(X)), the_x, stands, since=since, until=until)
    assert run(model, [rule]).changed == changed


def test_a_guard_declines_with_a_reason():
    model = model_of("g (float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) y = Abs(b) }")
    report = run(model, [Rule("neg-pair", call.Neg(call.Neg(X)), the_x, lambda match: "not today")])
    assert [(remark.subject, remark.reason) for remark in report.remarks] == [("Neg:b", "not today")]
    quiet = run(model, [Rule("neg-pair", call.Neg(call.Neg(X)), the_x, lambda match: "- of no interest")])
    assert not list(quiet.remarks)


def test_the_scope_of_at_is_kept():
    text = "g (float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) c = Abs(b) d = Neg(c) e = Neg(d) y = Abs(e) }"
    model = model_of(text)
    run(model, [NEG_PAIR], around=lambda inside: At(nodes=("d", "e"), inside=inside))
    assert kinds(model) == ["Neg", "Neg", "Abs", "Abs"]


def test_rules_that_fight_are_named(monkeypatch):
    monkeypatch.setattr(driver, "LEAST_FUEL", 30)
    monkeypatch.setattr(driver, "FUEL_PER_NODE", 1)
    model = model_of("g (float[2] x) => (float[2] y) { a = Neg(x) y = Abs(a) }")
    there = Rule("there", call.Neg(X), lambda m, b: b("Sub", b.constant(np.array(0, np.float32)), m["x"]))
    back = Rule("back", call.Sub(scalar(0.0), X), lambda m, b: b("Neg", m["x"]))
    report = run(model, [there, back])
    (failed,) = (remark for remark in report.remarks if remark.kind == "failed")
    assert failed.reason == "rules undo each other without end: back, there"


# ---- patterns


@pytest.mark.parametrize("operands", ["x, two", "two, x"])
def test_operators_that_commute_match_in_both_orders(operands):
    model = model_of(f"g (float[2] x) => (float[2] y) <float two = {{2}}> {{ a = Mul({operands}) y = Abs(a) }}")
    double = Rule("double", call.Mul(X, scalar(2.0)), lambda match, b: b("Add", match["x"], match["x"]))
    run(model, [double])
    assert kinds(model) == ["Add", "Abs"]


def test_those_that_do_not_match_in_their_order_alone():
    model = model_of("g (float[2] x) => (float[2] y) <float two = {2}> { a = Sub(two, x) y = Abs(a) }")
    assert not run(model, [Rule("sub", call.Sub(X, scalar(2.0)), the_x)]).changed


def test_a_hole_is_one_value():
    twice = Rule("twice", call.Add(X, X), lambda match, b: b("Abs", match["x"]))
    model = model_of("g (float[2] x, float[2] z) => (float[2] y) { a = Add(x, z) y = Abs(a) }")
    assert not run(model, [twice]).changed


def test_constants_scalars_alternatives_and_what_may_be_left_out():
    nodes = "a = Mul(x, w) b = Div(a, one) c = Clip(b, one) y = Abs(c)"
    text = f"g (float[2] x) => (float[2] y) <float[2] w = {{1, 2}}, float one = {{1}}> {{ {nodes} }}"
    found: list[str] = []

    def note(name: str) -> Any:
        def guard(match: Match) -> str:
            found.append(name)
            return "- only looking"

        return guard

    rules = [
        Rule("const", call.Mul(X, const("w")), the_x, note("const")),
        Rule("scalar", call.Mul(X, scalar(1.0)), the_x, note("scalar of two elements")),
        Rule("near", call.Div(X, scalar(1.001, rel=0.01)), the_x, note("near")),
        Rule("exact", call.Div(X, scalar(1.001)), the_x, note("not equal")),
        Rule("any", call.Clip(any_of(call.Mul(X), call.Div(X, Y)), ...), the_x, note("second alternative")),
        Rule("none", call.Clip(any_of(call.Mul(X, Y), call.Add(X, Y)), ...), the_x, note("no alternative")),
        Rule("left-out", call.Clip(X, Y, maybe(var("z"))), the_x, note("left out")),
        Rule("rest", call.Clip(X, ...), the_x, note("rest")),
        Rule("short", call.Clip(X), the_x, note("too few")),
    ]
    assert not run(model_of(text), rules).changed
    assert set(found) == {"const", "near", "second alternative", "left out", "rest"}


@pytest.mark.parametrize(
    ("content", "fitting"),
    [
        ("1, 1", {"ones"}),
        ("1, 2", set()),
        ("0, 0", {"zero", "zeros"}),
        ("-0.0, -0.0", {"minus zero", "zeros"}),
        ("0, -0.0", {"zeros"}),
        ("nan, nan", set()),
    ],
)
def test_what_all_elements_of_a_constant_are(content, fitting):
    model = model_of("g (float[2] x) => (float[2] y) <float[2] c = {1, 1}> { y = Add(x, c) }")
    numbers = np.array([float(word) for word in content.split(",")], np.float32)
    op.ir.Rewriter(model).set_tensor(model.graph.initializers[0], op.ir.tensor(numbers))
    found: list[str] = []
    holes = {"ones": every(1, "c"), "zero": every(0, "c"), "minus zero": every(-0.0, "c"), "zeros": zeros("c")}
    rules = [
        Rule(name, call.Add(X, hole), the_x, lambda match, name=name: found.append(name) or "- only looking")
        for name, hole in holes.items()
    ]
    assert not run(model, rules).changed
    assert set(found) == fitting


def test_nodes_that_are_known_to_fit_come_first_and_the_others_after_a_change():
    model = model_of("g (float[2] x) => (float[2] y, float[2] z) { a = Neg(x) y = Abs(a) b = Neg(x) z = Abs(b) }")
    abs_of_neg = Rule("abs-of-neg", call.Abs(call.Neg(X)), lambda match, b: b("Abs", match["x"]))
    visited: list[str] = []

    def guard(match: Match) -> str:
        visited.append(match.root.outputs[0].name)
        return ""

    last = list(model.graph.nodes)[-1]

    @dataclass(frozen=True)
    class Rules(Pass):
        """Apply the rule."""

        name: ClassVar[str] = "rules"
        effect: ClassVar[Effect] = Effect.EXACT

        def run(self, graph: Graph, ctx: Context) -> None:
            apply_rules(ctx, [abs_of_neg._replace(guard=guard)], [last])

    assert op.PassManager([Rules()]).run(model).changed
    assert visited == ["z", "y"]
