"""`inline`: calls become what the functions are made of, weights are stored once, what would change meaning stays."""

from __future__ import annotations

import pytest
from onnx import ModelProto, checker, helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.ir.proto import file_size
from onnxpress.passes.graph.inline import Inline
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.report import Report
from onnxpress.specs import check_golden, check_pass, model_of, models


def inline(proto: ModelProto, pipeline: str = "inline") -> tuple[ModelProto, Report]:
    model = lower(proto)
    report = PassManager(pipeline, backend=OrtBackend()).run(model)
    after = emit(model)
    checker.check_model(after, full_check=True)
    return after, report


def ops(proto: ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def test_it_keeps_its_promises() -> None:
    checked = check_pass(Inline, models=models(max_steps=8).filter(lambda proto: len(proto.functions) > 0))
    assert checked.changed
    assert checked.compared


def test_a_call_becomes_what_the_function_does() -> None:
    before = """
        g (float[2] x) => (float[2] y) {
            a = local.twice(x)
            y = local.twice(a)
        }
        <opset_import: ["" : 17], domain: "local">
        twice (v) => (w) { n = Neg(v) w = Add(n, n) }"""
    after = """
        g (float[2] x) => (float[2] y) {
            n = Neg(x)
            a = Add(n, n)
            n_1 = Neg(a)
            y = Add(n_1, n_1)
        }"""
    found, _ = inline(model_of(before))
    assert ops(found) == ["Neg", "Add", "Neg", "Add"]
    assert not found.functions
    check_golden("inline", model_of(before), model_of(after))


def test_attributes_come_from_the_call_or_their_default_or_are_left_out() -> None:
    functions = """
        <opset_import: ["" : 17], domain: "local">
        soft <axis, alpha: float = 0.5> (v) => (w) {
            e = Elu<alpha: float = @alpha>(v)
            w = Softmax<axis: int = @axis>(e)
        }"""
    before = f"g (float[2,3] x) => (float[2,3] y) {{ a = local.soft<axis = 0>(x) y = local.soft(a) }} {functions}"
    found, _ = inline(model_of(before))
    attributes = [{a.name: helper.get_attribute_value(a) for a in node.attribute} for node in found.graph.node]
    assert attributes == [{"alpha": 0.5}, {"axis": 0}, {"alpha": 0.5}, {}]


def test_functions_that_call_functions() -> None:
    before = """
        g (float[2] x) => (float[2] y) { y = local.outer(x) }
        <opset_import: ["" : 17, "local" : 1], domain: "local">
        outer (v) => (w) { a = local.inner(v) w = Exp(a) }
        <opset_import: ["" : 17], domain: "local">
        inner (v) => (w) { w = Neg(v) }"""
    found, _ = inline(model_of(before))
    assert ops(found) == ["Neg", "Exp"]
    assert not found.functions


def test_an_omitted_input_is_omitted_inside() -> None:
    before = """
        g (float[2] x, float high) => (float[2] y) { y = local.clip(x, , high) }
        <opset_import: ["" : 17], domain: "local">
        clip (v, low, high) => (w) { w = Clip(v, low, high) }"""
    found, _ = inline(model_of(before))
    assert [list(node.input) for node in found.graph.node] == [["x", "", "high"]]


def test_a_weight_is_stored_once_however_often_it_is_called() -> None:
    text = "{" + ", ".join(["1.5"] * 64) + "}"
    before = model_of(f"""
        g (float[64] x, bool c) => (float[64] y) {{
            a = local.scale(x)
            b = local.scale(a)
            y = If(c) <then_branch = t () => (float[64] p) {{ p = local.scale(b) }},
                       else_branch = e () => (float[64] q) {{ q = Neg(b) }}>
        }}
        <opset_import: ["" : 17], domain: "local">
        scale (v) => (w) {{ k = Constant<value = float[64] {text}>() w = Mul(v, k) }}""")
    found, _ = inline(before)
    assert len(found.graph.initializer) == 1
    assert not found.functions
    assert file_size(lower(found)) < file_size(lower(before)) + 100


def test_the_same_function_in_two_opsets_of_one_meaning() -> None:
    before = """
        g (float[2] x) => (float[2] y) { y = local.f(x) }
        <opset_import: ["" : 13], domain: "local">
        f (v) => (w) { w = Neg(v) }"""
    found, _ = inline(model_of(before))
    assert ops(found) == ["Neg"]


STAY = {
    "another meaning": """
        g (float[2,3,4] x) => (float[2,3,4] y) { y = local.f(x) }
        <opset_import: ["" : 11], domain: "local">
        f (v) => (w) { w = Softmax(v) }""",
    "attribute": """
        g (float[2] x) => (float[2] y) { y = local.f<alpha = 2>(x) }
        <opset_import: ["" : 17], domain: "local">
        f <alpha> (v) => (w) { w = Elu<alpha: float = @alpha>(v) }""",
}


@pytest.mark.parametrize("reason", STAY)
def test_a_call_stays_and_it_is_said_why(reason: str) -> None:
    model = lower(model_of(STAY[reason]))
    report = PassManager("inline", backend=OrtBackend()).run(model)
    assert not report.changed
    assert any("not inlined" in remark.reason for remark in report.remarks)


def test_only_the_functions_that_are_meant() -> None:
    before = """
        g (float[2] x) => (float[2] y) { a = local.f(x) y = local.h(a) }
        <opset_import: ["" : 17], domain: "local">
        f (v) => (w) { w = Neg(v) }
        <opset_import: ["" : 17], domain: "local">
        h (v) => (w) { w = Abs(v) }"""
    found, report = inline(model_of(before), "inline{functions=[local.f nothing]}")
    assert ops(found) == ["Neg", "h"]
    assert any(remark.subject == "nothing" for remark in report.remarks)
