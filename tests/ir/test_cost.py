"""Costs: parameters and bytes as the file holds them, MACs as the formulas of the layers say."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import pytest
from hypothesis import given
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from onnxpress.ir import lower
from onnxpress.ir.analysis.cost import Cost, cost
from onnxpress.specs import model_of, models


def cost_of(text: str, **pins: tuple[int, ...]) -> Cost:
    return cost(lower(model_of(text)), pins)


def nodes_in(nodes: list[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from nodes_in(attribute.g.node)


def graphs_in(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            yield from graphs_in(attribute.g)


@given(models(impure=True, large=True))
def test_parameters_and_bytes_are_those_of_the_file(proto: ModelProto) -> None:
    nodes = list(nodes_in([*proto.graph.node, *(node for f in proto.functions for node in f.node)]))
    held = [tensor for graph in graphs_in(proto.graph) for tensor in graph.initializer]
    count = sum(prod(tensor.dims) for tensor in held)
    count += sum(prod(sparse.dims) for sparse in proto.graph.sparse_initializer)
    for attribute in (a for node in nodes for a in node.attribute if not a.ref_attr_name):
        if attribute.type == attribute.TENSOR:
            count += prod(attribute.t.dims)
        elif attribute.name.startswith(("value_", "sparse_value")):
            count += prod(attribute.sparse_tensor.dims) if attribute.type == attribute.SPARSE_TENSOR else 0
            count += max(len(attribute.floats), len(attribute.ints), attribute.name in ("value_float", "value_int"))
    found = cost(lower(proto))
    assert found.parameters == count
    assert found.nodes == sum(node.op_type != "Constant" or node.attribute[0].ref_attr_name != "" for node in nodes)
    if all(t.data_type == TensorProto.FLOAT for t in held) and not any(n.op_type == "Constant" for n in nodes):
        assert found.weight_bytes >= 4 * sum(prod(tensor.dims) for tensor in held)


LAYERS = {
    "MatMul": ("float[5, 2, 3] x", "float[3, 4] w", "MatMul(x, w)", 5 * 2 * 3 * 4),
    "Gemm": ("float[2, 3] x", "float[4, 3] w", "Gemm <transB = 1> (x, w)", 2 * 3 * 4),
    "Gemm, transposed": ("float[3, 2] x", "float[3, 4] w", "Gemm <transA = 1> (x, w)", 2 * 3 * 4),
    "Conv": ("float[1, 4, 8, 8] x", "float[6, 4, 3, 3] w", "Conv(x, w)", 6 * 6 * 6 * 4 * 9),
    "Conv in groups": ("float[1, 4, 8, 8] x", "float[6, 2, 3, 3] w", "Conv <group = 2> (x, w)", 6 * 6 * 6 * 2 * 9),
    "ConvTranspose": ("float[1, 4, 8, 8] x", "float[4, 6, 3, 3] w", "ConvTranspose(x, w)", 64 * 4 * 6 * 9),
    "elementwise": ("float[4] x", "float[4] w", "Mul(x, w)", 0),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_macs_of_a_layer(layer: str) -> None:
    x, w, call, macs = LAYERS[layer]
    found = cost_of(f"g ({x}, {w}) => (float y) {{ y = {call} }}")
    assert (found.macs, found.macs_unknown) == (macs, 0)


def test_macs_of_a_recurrent_layer_are_those_of_all_its_steps() -> None:
    found = cost_of(
        "g (float[7, 2, 5] x, float[1, 12, 5] w, float[1, 12, 3] r) => (float y)"
        "{ y = LSTM <hidden_size = 3> (x, w, r) }"
    )
    assert found.macs == 7 * 2 * (12 * 5 + 12 * 3)


IF = """
    g (bool c, float[2, 3] x, float[3, 4] w, float[3, 4] v) => (float y) {
        y = If(c) <then_branch = t () => (float p) { p = MatMul(x, w) },
                   else_branch = e () => (float q) { a = MatMul(x, w) b = MatMul(x, v) q = Add(a, b) }>
    }"""


def test_of_an_if_the_dearer_branch_counts() -> None:
    found = cost_of(IF)
    assert (found.macs, found.nodes) == (2 * 2 * 3 * 4, 5)


def test_unknown_shapes_are_counted_apart_and_pins_make_them_known() -> None:
    text = "g (float[n, 3] x, float[3, 4] w) => (float[n, 4] y) { y = MatMul(x, w) }"
    assert (cost_of(text).macs, cost_of(text).macs_unknown) == (0, 1)
    assert (cost_of(text, x=(5, 3)).macs, cost_of(text, x=(5, 3)).macs_unknown) == (60, 0)


def test_a_call_of_a_function_is_of_unknown_cost() -> None:
    found = cost_of("""
        g (float[2, 3] x, float[3, 4] w) => (float y) { y = local.f(x, w) }
        <domain: "local", opset_import: ["" : 17]> f (a, b) => (c) { c = MatMul(a, b) }""")
    assert (found.macs, found.macs_unknown, found.nodes) == (0, 1, 2)


def test_a_weight_that_two_nodes_read_counts_once_and_constant_nodes_are_no_nodes() -> None:
    found = cost_of("""
        g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
            c = Constant <value = float[3] {1, 2, 3}> ()
            a = Add(x, w)
            y = Mul(a, w)
        }""")
    assert (found.nodes, found.parameters, found.weight_bytes) == (2, 5, 20)
