"""`dce`: what no output needs goes, unless it does more than compute."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, checker, numpy_helper

from onnxpress.ir import emit, lower
from onnxpress.passes.graph.dce import Dce
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.report import Report
from onnxpress.specs import check_golden, impure_nodes, model_of, models


def dce(proto: ModelProto) -> tuple[ModelProto, Report]:
    model = lower(proto)
    report = PassManager([Dce()]).run(model)
    after = emit(model)
    checker.check_model(after)
    return after, report


def same(before: str, after: str) -> None:
    check_golden("dce", model_of(before), model_of(after))


def test_dead_chains_initializers_and_constants_go() -> None:
    same(
        """
        g (float[2] x) => (float[2] y) <float[2] dead = {1, 2}, float[2] live = {1, 2}> {
            c = Constant <value = float {1}> ()
            a = Add(x, dead)
            b = Mul(a, c)
            y = Add(x, live)
        }""",
        "g (float[2] x) => (float[2] y) <float[2] live = {1, 2}> { y = Add(x, live) }",
    )


def test_one_live_output_keeps_a_node() -> None:
    text = "g (float[2] x) => (float[1] a) { a, b = Split <axis = 0> (x) }"
    report = check_golden("dce", model_of(text), model_of(text))
    assert [remark.reason for remark in report.remarks] == ["nothing is dead"]


def test_inputs_stay_with_and_without_a_default() -> None:
    text = "g (float[2] x, float[2] unused, float[2] w = {1, 2}) => (float[2] y) { y = Neg(x) }"
    same(text, text)


def test_a_dead_if_goes_with_what_only_its_bodies_read() -> None:
    same(
        """
        g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
            captured = Neg(x)
            dead = If(c) <then_branch = t () => (float[2] p) { p = Add(captured, w) },
                          else_branch = e () => (float[2] q) { q = Identity(w) }>
            y = Abs(x)
        }""",
        "g (bool c, float[2] x) => (float[2] y) { y = Abs(x) }",
    )


@pytest.mark.parametrize("impure", ["p = RandomNormalLike(captured)", "p = local.Mystery(captured)"])
def test_a_dead_if_that_does_more_than_compute_stays_with_what_it_reads(impure: str) -> None:
    text = f"""
        g (bool c, float[2] x) => (float[2] y) {{
            captured = Neg(x)
            dead = If(c) <then_branch = t () => (float[2] p) {{ {impure} }},
                          else_branch = e () => (float[2] q) {{ q = Identity(captured) }}>
            y = Abs(x)
        }}"""
    same(text, text)


def test_a_value_that_only_a_branch_reads_is_alive() -> None:
    text = """
        g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
            captured = Neg(x)
            y = If(c) <then_branch = t () => (float[2] p) { p = Add(captured, w) },
                       else_branch = e () => (float[2] q) { q = Identity(x) }>
        }"""
    same(text, text)


def test_what_is_dead_inside_bodies_goes() -> None:
    same(
        """
        g (int64 n, bool go, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
            outside = Neg(x)
            y = Loop(n, go, x) <body = b (int64 i, bool k, float[2] s) => (bool k2, float[2] s2) {
                k2 = Identity(k)
                inside = Add(outside, w)
                s2 = Neg(s)
            }>
        }""",
        """
        g (int64 n, bool go, float[2] x) => (float[2] y) {
            y = Loop(n, go, x) <body = b (int64 i, bool k, float[2] s) => (bool k2, float[2] s2) {
                k2 = Identity(k)
                s2 = Neg(s)
            }>
        }""",
    )


FUNCTIONS = """
    <domain: "local", opset_import: ["" : 17, "local" : 1]> outer (a) => (b) { b = local.inner(a) }
    <domain: "local", opset_import: ["" : 17]> inner (a) => (b) { b = Neg(a) dead = Abs(a) }
    <domain: "local", opset_import: ["" : 17]> noisy (a) => (b) { b = RandomNormalLike(a) }"""


def test_functions_that_nobody_calls_go_and_those_inside_are_cleaned() -> None:
    same(
        "g (float[2] x) => (float[2] y) { y = local.outer(x) unread = local.inner(x) }" + FUNCTIONS,
        """
        g (float[2] x) => (float[2] y) { y = local.outer(x) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]> outer (a) => (b) { b = local.inner(a) }
        <domain: "local", opset_import: ["" : 17]> inner (a) => (b) { b = Neg(a) }""",
    )
    same(
        "g (float[2] x) => (float[2] y) { unread = local.outer(x) y = Neg(x) }" + FUNCTIONS,
        "g (float[2] x) => (float[2] y) { y = Neg(x) }",
    )


def test_a_dead_call_of_a_function_that_draws_random_numbers_stays() -> None:
    before = model_of("g (float[2] x) => (float[2] y) { unread = local.noisy(x) y = Neg(x) }" + FUNCTIONS)
    after, _ = dce(before)
    assert [node.op_type for node in after.graph.node] == ["noisy", "Neg"]
    assert [function.name for function in after.functions] == ["noisy"]


def test_what_training_information_names_stays() -> None:
    before = model_of("g (float[2] x) => (float[2] y) <float[2] state = {1, 2}> { moved = Neg(state) y = Abs(x) }")
    before.training_info.add().update_binding.add(key="state", value="moved")
    assert dce(before)[0] == before


def test_opset_imports_stay() -> None:
    before = model_of("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    assert dce(before)[0].opset_import == before.opset_import


def bodies_of(graph: GraphProto | FunctionProto) -> list[GraphProto]:
    return [body for node in graph.node for attribute in node.attribute for body in (attribute.g, *attribute.graphs)]


def reads_of(graph: GraphProto | FunctionProto) -> set[str]:
    """What the graph and the bodies in it read or give out."""
    outputs = {output if isinstance(output, str) else output.name for output in graph.output}
    return outputs.union(*(node.input for node in graph.node), *map(reads_of, bodies_of(graph)))


def unread_nodes(graph: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    read = reads_of(graph)
    yield from (node for node in graph.node if not read.intersection(node.output))
    for body in bodies_of(graph):
        yield from unread_nodes(body)


def is_impure(node: NodeProto, model: ModelProto) -> bool:
    """Whether the node is impure or holds or calls something that is; constants it reads are taken to be true."""
    alone = ModelProto(functions=model.functions)
    alone.graph.node.add().CopyFrom(node)
    alone.graph.initializer.extend(numpy_helper.from_array(np.array(True), name) for name in reads_of(alone.graph))
    return bool(impure_nodes(alone))


@given(models(impure=True))
def test_all_that_is_left_without_a_reader_is_impure(proto: ModelProto) -> None:
    after, _ = dce(proto)
    for graph in (after.graph, *after.functions):
        assert all(is_impure(node, after) for node in unread_nodes(graph))
    inputs = {info.name for info in after.graph.input}
    assert {tensor.name for tensor in after.graph.initializer} <= reads_of(after.graph) | inputs
