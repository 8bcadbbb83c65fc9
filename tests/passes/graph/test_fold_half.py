"""Half precision: onnxruntime has few kernels for it and puts casts to float around the others, of which it then drops
those that follow each other. So what stands in the graph is not rounded where a stored constant is."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.remarks import Kind

OPERATORS = ("Add", "Mul", "Sqrt", "Transpose", "Reshape", "Concat", "Exp", "Identity", "Sub")


def chain(operators: list[str], seed: int) -> ModelProto:
    """x times what the operators make of two constants, in float16."""
    rng = np.random.default_rng(seed)
    weights = [numpy_helper.from_array(rng.random((8, 8)).astype(np.float16), name) for name in "ab"]
    weights.append(numpy_helper.from_array(np.array([8, -1]), "shape"))
    nodes, current = [], "a"
    for index, operator in enumerate(operators):
        second = {"Reshape": ["shape"], "Add": ["b"], "Mul": ["b"], "Sub": ["b"]}.get(operator, [])
        axis = {"axis": 0} if operator == "Concat" else {}
        nodes.append(helper.make_node(operator, [current, *second], [f"t{index}"], **axis))
        current = f"t{index}"
    nodes.append(helper.make_node("Mul", ["x", current], ["y"]))
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [8, 8]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@given(st.lists(st.sampled_from(OPERATORS), min_size=1, max_size=4), st.integers(0, 9))
def test_outputs_keep_their_bits(operators: list[str], seed: int) -> None:
    proto, backend = chain(operators, seed), OrtBackend()
    x = {"x": np.random.default_rng(seed + 1).standard_normal((8, 8)).astype(np.float16)}
    expected = backend.prepare(lower(proto)).run(x)["y"]
    model = lower(proto)
    PassManager("fold{limit=1MB}", backend=backend).run(model)
    assert backend.prepare(lower(emit(model))).run(x)["y"].tobytes() == expected.tobytes()


def test_what_only_moves_elements_is_folded() -> None:
    model = lower(chain(["Transpose", "Reshape"], 0))
    PassManager("fold", backend=OrtBackend()).run(model)
    assert [node.op_type for node in model.graph.nodes] == ["Mul"]


def test_what_computes_stays_and_says_why() -> None:
    model = lower(chain(["Sqrt", "Transpose"], 0))
    report = PassManager("fold", backend=OrtBackend()).run(model)
    assert [node.op_type for node in model.graph.nodes] == ["Sqrt", "Transpose", "Mul"]
    reasons = [remark.reason for remark in report.remarks if remark.kind is Kind.MISSED]
    assert any("half precision" in reason for reason in reasons)
