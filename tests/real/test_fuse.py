"""`fuse` on real models: valid, never larger, near in both configurations, with fewer nodes than others make."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

import onnxpress as op
from onnxpress.specs.validity import fault_of

from .conftest import RealModel, path_of

PIPELINE = "fold,dce,fuse"
NODES = {"ppocr4_det": 214, "ppocr4_rec": 298, "ppocr_cls": 176, "magika": 93}
"""Nodes at most, Constants not counted."""
NEAR = {"rel-l2": 2e-5, "max-abs": 2e-5}
"""One of the two holds for every output: some are all but zero on generated inputs."""


def test_result_is_valid_and_never_larger(real_model: RealModel, compressed_by: Any) -> None:
    result = compressed_by(PIPELINE)
    assert not fault_of(result.after)
    assert (result.after.graph.input, result.after.graph.output) == (
        result.before.graph.input,
        result.before.graph.output,
    )
    assert len(result.after_bytes) <= result.before.ByteSize()
    assert nodes_of(result.after) <= NODES.get(real_model.name, nodes_of(result.before))


@pytest.mark.parametrize("optimize", [False, True], ids=["reference", "deployment"])
def test_result_is_near(real_model: RealModel, compressed_by: Any, optimize: bool) -> None:
    result = compressed_by(PIPELINE)
    comparison = op.compare(result.before, result.after, optimize=optimize)
    assert comparison.checked
    assert not comparison.mismatches
    for sample in comparison.samples:
        for name, values in sample.items():
            assert any(values[metric] <= limit for metric, limit in NEAR.items()), (name, values)


@pytest.mark.parametrize("name", ["ppocr4_det", "ppocr4_rec", "ppocr_cls"])
def test_fewer_nodes_than_onnx_simplifier_makes(name: str) -> None:
    counts = []
    for pipeline in (PIPELINE, "onnxsim"):
        model = op.load(path_of(name))
        assert op.PassManager(pipeline, measure=False).run(model).changed
        counts.append(nodes_of(op.ir.emit(model)))
    assert counts[0] < counts[1] < nodes_of(onnx.load(path_of(name)))


def nodes_of(proto: onnx.ModelProto) -> int:
    """Nodes of the main graph and of bodies, Constants not counted."""
    graphs = [proto.graph]
    count = 0
    while graphs:
        for node in graphs.pop().node:
            count += node.op_type != "Constant"
            graphs += [body for a in node.attribute for body in (a.g, *a.graphs) if body.node]
    return count
