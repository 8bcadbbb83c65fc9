"""`fold` and its executor: one run where all goes well, and few more to find the node that it cannot run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import Backend, Model, Session, emit, lower
from onnxpress.passes.graph.fold import Fold
from onnxpress.passes.manager.manager import PassManager
from onnxpress.specs import model_of


class Watched:
    """onnxruntime, with a count of the models it was given, that refuses those with an operator of `broken`."""

    name = "watched"

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.prepared: list[Model] = []

    def prepare(
        self, model: Model, *, outputs: Sequence[str] | None = None, optimize: bool = False, threads: int = 1
    ) -> Session:
        self.prepared.append(model)
        if any(node.op_type in self.broken for graph in model.walk_graphs() for node in graph.nodes):
            raise ExecutionError("it hurts")
        return OrtBackend().prepare(model, outputs=outputs, optimize=optimize, threads=threads)


def fold(proto: ModelProto, backend: Backend) -> tuple[ModelProto, dict[str, str]]:
    """The result, and what failed for which reason."""
    model = lower(proto)
    report = PassManager([Fold()], backend=backend).run(model)
    after = emit(model)
    checker.check_model(after, full_check=True)
    return after, {remark.subject: remark.reason for remark in report.remarks if remark.kind == "failed"}


def ops(proto: ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def chain(count: int, *, odd: str = "", at: int = 0) -> ModelProto:
    """Independent constant nodes; the one at place `at` is of operator `odd`."""
    nodes = [
        helper.make_node(odd if odd and i == at else "Neg", [f"w{i}"], [f"n{i}"], name=f"node_{i}")
        for i in range(count)
    ]
    weights = [numpy_helper.from_array(np.float32([i, 1]), f"w{i}") for i in range(count)]
    total = helper.make_node("Sum", ["x", *(f"n{i}" for i in range(count))], ["y"])
    info = helper.make_tensor_value_info
    ports = [info("x", TensorProto.FLOAT, [2])], [info("y", TensorProto.FLOAT, [2])]
    graph = helper.make_graph([*nodes, total], "g", *ports, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_one_run_evaluates_everything() -> None:
    watched = Watched()
    after, _ = fold(chain(40), watched)
    assert ops(after) == ["Sum"]
    assert len(watched.prepared) == 1


@pytest.mark.parametrize("at", [0, 17, 31])
def test_a_fault_is_found_by_halves_and_costs_only_its_node(at: int) -> None:
    watched = Watched("Softplus")
    after, failed = fold(chain(32, odd="Softplus", at=at), watched)
    assert ops(after) == ["Softplus", "Sum"]
    assert failed == {f"node_{at}": "the executor could not evaluate it: it hurts"}
    assert len(watched.prepared) <= 2 * 5 + 1


def test_what_depends_on_a_fault_stays_with_it() -> None:
    before = """
        g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {3, 4}, float[2] c = {5, 6}> {
            s = Softplus(a)
            t = Add(s, b)
            u = Neg(c)
            v = Add(t, u)
            y = Add(x, v)
        }"""
    after, failed = fold(model_of(before), Watched("Softplus"))
    assert ops(after) == ["Softplus", "Add", "Add", "Add"]
    assert sorted(tensor.name for tensor in after.graph.initializer) == ["a", "b", "u"]
    assert list(failed) == ["Softplus:s"]


def test_an_executor_that_refuses_everything_is_asked_a_bounded_number_of_times() -> None:
    watched = Watched("Neg")
    after, failed = fold(chain(16), watched)
    assert after == chain(16)
    assert len(failed) == 16
    assert len(watched.prepared) == 2 * 16 - 1


def test_without_an_executor_nothing_is_evaluated() -> None:
    model = lower(chain(3))
    report = PassManager([Fold()]).run(model)
    assert emit(model) == chain(3)
    reasons = {remark.subject: remark.reason for remark in report.remarks}
    assert reasons["node_1"] == "constant, but there is no executor to evaluate it"
