"""Purity: the schema's word, bodies and functions by what is inside, and every correction with its reason."""

from __future__ import annotations

import pytest
from onnx import defs

from onnxpress.ir import Model, lower
from onnxpress.ir.analysis.purity import Purity
from onnxpress.specs import model_of
from onnxpress.specs.impure import RANDOM

FUNCTIONS = """
    <domain: "local", opset_import: ["" : 17]> quiet (a) => (b) { b = Neg(a) }
    <domain: "local", opset_import: ["" : 17, "local" : 1]> around (a) => (b) { b = local.noisy(a) }
    <domain: "local", opset_import: ["" : 17]> noisy (a) => (b) { b = RandomNormalLike(a) }
    <domain: "local", opset_import: ["" : 17, "local" : 1]> endless (a) => (b) { b = local.endless(a) }"""


def is_pure(body: str, *, opset: int = 17, initializers: str = "float r = {0.5}, bool t = {1}, bool f = {0}") -> bool:
    text = f"g (float[2, 3] x, bool c) => (float[2, 3] y) <{initializers}> {{ {body} }} {FUNCTIONS}"
    model = lower(model_of(text, opset=opset))
    last = list(model.graph.nodes)[-1]
    return Purity(model).is_pure(last)


@pytest.mark.parametrize("op_type", sorted(RANDOM - {"Multinomial", "RandomNormal", "RandomUniform"}))
def test_random_operators_are_impure(op_type: str) -> None:
    assert not is_pure(f"y = {op_type}(x)")


@pytest.mark.parametrize(
    "call", ["Multinomial(x)", "RandomNormal<shape = [2, 3]>()", "RandomUniform<shape = [2, 3]>()"]
)
def test_random_sources_are_impure(call: str) -> None:
    assert not is_pure(f"y = {call}")


def test_the_schema_knows_no_other_random_operator() -> None:
    """If onnx adds one, `RANDOM` and the strategies want it too."""
    random = defs.OpSchema.NodeDeterminism.NonDeterministic
    marked = {s.name for s in defs.get_all_schemas() if s.domain == "" and s.node_determinism == random}
    assert marked == RANDOM | {"If", "Loop", "Scan", "SequenceMap", "Dropout", "AffineGrid"}


@pytest.mark.parametrize(
    ("opset", "body", "pure"),
    [
        (6, "y = Dropout(x)", False),  # trains unless told otherwise
        (6, "y = Dropout <is_test = 1> (x)", True),
        (7, "y = Dropout(x)", True),
        (11, "y = Dropout <ratio = 0.5> (x)", True),
        (12, "y = Dropout(x)", True),
        (17, "y = Dropout(x, r)", True),
        (17, "y = Dropout(x, r, f)", True),
        (17, "y = Dropout(x, r, t)", False),
        (17, "y = Dropout(x, r, c)", False),  # an input of the model decides
        (17, "y = DepthToSpace <blocksize = 1> (x)", True),
        (17, "y = SpaceToDepth <blocksize = 1> (x)", True),
        (20, "y = AffineGrid(x, x)", True),
        (17, "y = AffineGrid(x, x)", False),  # there is no such operator yet
    ],
)
def test_corrections_of_the_schema(opset: int, body: str, pure: bool) -> None:
    assert is_pure(body, opset=opset) is pure


def test_a_switch_that_a_feed_can_override_is_no_constant() -> None:
    text = "g (float[2] x, bool f = {0}) => (float[2] y) <float r = {0.5}> { y = Dropout(x, r, f) }"
    model = lower(model_of(text))
    assert not Purity(model).is_pure(next(model.graph.nodes))


@pytest.mark.parametrize("body", ["y = local.missing(x)", "y = Missing(x)"])
def test_operators_without_a_schema_are_impure(body: str) -> None:
    assert not is_pure(body)


@pytest.mark.parametrize(
    ("function", "pure"), [("quiet", True), ("noisy", False), ("around", False), ("endless", False)]
)
def test_a_call_is_as_pure_as_its_function(function: str, pure: bool) -> None:
    assert is_pure(f"y = local.{function}(x)") is pure


@pytest.mark.parametrize(
    ("inside", "pure"), [("p = Neg(x)", True), ("p = RandomNormalLike(x)", False), ("p = local.around(x)", False)]
)
def test_an_if_is_as_pure_as_its_bodies(inside: str, pure: bool) -> None:
    body = (
        f"y = If(c) <then_branch = t () => (float p) {{ {inside} }}, else_branch = e () => (float q) {{ q = Abs(x) }}>"
    )
    assert is_pure(body) is pure


def test_a_domain_that_is_not_imported_is_impure() -> None:
    model: Model = lower(model_of("g (float[2] x) => (float[2] y) { y = Neg(x) }"))
    model._opset.clear()
    assert not Purity(model).is_pure(next(model.graph.nodes))
