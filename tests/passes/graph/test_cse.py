"""`cse`: what is computed twice is computed once, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto

from onnxpress.passes.graph.cse import Cse
from onnxpress.specs import check_golden, check_pass, check_variants, model_of, models

GOLDEN = {
    "the same operator on the same values": (
        "g (float[2] x) => (float[2] y) { a = Exp (x) b = Exp (x) y = Add (a, b) }",
        "g (float[2] x) => (float[2] y) { a = Exp (x) y = Add (a, a) }",
    ),
    "chains": (
        """g (float[2] x) => (float[2] y) {
            a = Exp (x) c = Neg (a) b = Exp (x) d = Neg (b) y = Add (c, d)
        }""",
        "g (float[2] x) => (float[2] y) { a = Exp (x) c = Neg (a) y = Add (c, c) }",
    ),
    "equal small constants": (
        """g (float[2] x) => (float[2] y) <float p = {2}, float q = {2}> {
            a = Mul (x, p) b = Mul (x, q) y = Add (a, b)
        }""",
        "g (float[2] x) => (float[2] y) <float p = {2}> { a = Mul (x, p) y = Add (a, a) }",
    ),
    "a node of a body that stands outside already": (
        """g (bool c, float[2] x) => (float[2] y, float[2] z) {
            z = Exp (x)
            y = If (c) <then_branch = t () => (float[2] p) { a = Exp (x) p = Neg (a) },
                        else_branch = e () => (float[2] q) { b = Exp (x) q = Abs (b) }>
        }""",
        """g (bool c, float[2] x) => (float[2] y, float[2] z) {
            z = Exp (x)
            y = If (c) <then_branch = t () => (float[2] p) { p = Neg (z) },
                        else_branch = e () => (float[2] q) { q = Abs (z) }>
        }""",
    ),
    "an output takes the place of an inner value": (
        "g (float[2] x) => (float[2] y, float[2] z) { a = Exp (x) y = Neg (a) z = Exp (x) }",
        "g (float[2] x) => (float[2] y, float[2] z) { z = Exp (x) y = Neg (z) }",
    ),
}
KEPT = {
    "random numbers": """
        g (float[2] x) => (float[2] y) { a = RandomNormalLike (x) b = RandomNormalLike (x) y = Add (a, b) }""",
    "coin flips": "g (float[2] x) => (float[2] y) { a = Bernoulli (x) b = Bernoulli (x) y = Add (a, b) }",
    "other attributes": """
        g (float[2] x) => (float[2] y) { a = Elu <alpha = 1.0> (x) b = Elu <alpha = 2.0> (x) y = Add (a, b) }""",
    "two outputs, which are two values": "g (float[2] x) => (float[2] y, float[2] z) { y = Exp (x) z = Exp (x) }",
    "constants of other bits": """
        g (float[2] x) => (float[2] y) <float p = {0}, float q = {-0.0}> {
            a = Mul (x, p) b = Mul (x, q) y = Add (a, b)
        }""",
    "branches beside each other": """
        g (bool c, float[2] x) => (float[2] y) {
            y = If (c) <then_branch = t () => (float[2] p) { a = Exp (x) p = Neg (a) },
                        else_branch = e () => (float[2] q) { b = Exp (x) q = Abs (b) }>
        }""",
    "an output of a body, which must be its own": """
        g (bool c, float[2] x) => (float[2] y, float[2] z) {
            z = Exp (x)
            y = If (c) <then_branch = t () => (float[2] p) { p = Exp (x) },
                        else_branch = e () => (float[2] q) { q = Abs (x) }>
        }""",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    before, after = GOLDEN[name]
    check_golden("cse", model_of(before), model_of(after))


@pytest.mark.parametrize("name", KEPT)
def test_it_keeps(name: str) -> None:
    check_golden("cse", model_of(KEPT[name]), model_of(KEPT[name]))


@pytest.mark.parametrize("name", GOLDEN)
def test_variants_of_the_golden_cases_stay_right(name: str) -> None:
    check_variants("cse", model_of(GOLDEN[name][0]))


def test_a_node_with_other_readers_is_not_lost() -> None:
    before = "g (float[2] x) => (float[2] y, float[2] z) { a = Exp (x) b = Exp (x) y = Neg (b) z = Add (b, a) }"
    after = "g (float[2] x) => (float[2] y, float[2] z) { a = Exp (x) y = Neg (a) z = Add (a, a) }"
    check_golden("cse", model_of(before), model_of(after))


def test_where_it_may_not_act_nothing_is_merged() -> None:
    model = model_of("g (float[2] x) => (float[2] y) { a = Exp (x) b = Exp (x) y = Add (a, b) }")
    check_golden("at{ops=[Add]}(cse)", model, model)


@st.composite
def with_doubles(draw: Callable[[st.SearchStrategy[Any]], Any]) -> ModelProto:
    """A drawn model in which some nodes stand twice, and readers read the one or the other."""
    proto: ModelProto = draw(models())
    nodes: list[NodeProto] = []
    renamed: dict[str, str] = {}
    for node in proto.graph.node:
        twin = NodeProto()
        twin.CopyFrom(node)
        for slot, name in enumerate(twin.input):
            if name in renamed and draw(st.booleans()):
                twin.input[slot] = renamed[name]
        nodes.append(twin)
        if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
            continue
        if draw(st.booleans()):
            again = NodeProto()
            again.CopyFrom(twin)
            again.name = ""
            again.output[:] = [f"{name}_again" if name else "" for name in node.output]
            renamed |= {name: f"{name}_again" for name in node.output if name}
            nodes.append(again)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return proto


def test_it_keeps_its_promises() -> None:
    checked = check_pass(Cse, models=with_doubles())
    assert checked.changed > checked.examples // 4
