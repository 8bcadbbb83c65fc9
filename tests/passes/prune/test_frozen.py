"""An axis that an operator reduces or normalizes over stays, whole, and the page lists the reason; others pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

import onnxpress
from onnxpress.ir import Model

WIDTH = 8
OVER_CHANNELS: dict[str, dict[str, Any]] = {
    "Softmax": {"axis": 1},
    "LogSoftmax": {"axis": 1},
    "Hardmax": {"axis": 1},
    "LayerNormalization": {"axis": 1},
    "RMSNormalization": {"axis": 1},
    "ReduceMean": {"axes": [1]},
    "ReduceMax": {"axes": [1]},
    "ReduceMin": {"axes": [1]},
    "ReduceProd": {"axes": [1]},
    "LRN": {"size": 3},
    "LpNormalization": {"axis": 1},
    "GroupNormalization": {"num_groups": 2},
    "Gather": {},
}
PASSING: dict[str, dict[str, Any]] = {
    "Softmax": {"axis": 2},
    "LayerNormalization": {"axis": -1},
    "RMSNormalization": {"axis": -1},
    "LpNormalization": {"axis": 2},
    "ReduceMean": {"axes": [2, 3]},
    "ReduceMax": {"axes": [2, 3]},
    "InstanceNormalization": {},
    "BatchNormalization": {},
    "GlobalAveragePool": {},
    "ReduceSum": {"axes": [1]},
    "ReduceL2": {"axes": [1]},
    "PRelu": {},
}
PER_CHANNEL = {"InstanceNormalization": 2, "BatchNormalization": 4, "GroupNormalization": 2}
"""How many constants of one number a channel an operator reads."""


def network(op: str, attributes: dict[str, Any]) -> ModelProto:
    """Two convolutions, and an operator between them; what it gives is added to all channels if it is narrower."""
    random = np.random.default_rng(0)
    arrays = {"A": random.normal(size=(WIDTH, 3, 1, 1)), "B": random.normal(size=(4, WIDTH, 1, 1))}
    more = [f"c{place}" for place in range(PER_CHANNEL.get(op, 0))]
    arrays |= {name: random.uniform(0.5, 1.5, WIDTH) for name in more}
    if op == "PRelu":
        more, arrays["slope"] = ["slope"], random.uniform(0, 1, (WIDTH, 1, 1))
    if op in ("LayerNormalization", "RMSNormalization"):
        more, arrays["scale"] = ["scale"], np.ones((6,) if attributes["axis"] == -1 else (WIDTH, 6, 6))
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    attributes = dict(attributes)
    if op == "ReduceSum":
        more, axes = ["axes"], attributes.pop("axes")
        held.append(numpy_helper.from_array(np.array(axes), "axes"))
    made = helper.make_node(op, ["h", *more], ["m"], **attributes)
    if op == "Gather":
        held.append(numpy_helper.from_array(np.arange(WIDTH)[::-1].copy(), "places"))
        made = helper.make_node("Gather", ["h", "places"], ["m"], axis=1)
    nodes = [
        helper.make_node("Conv", ["x", "A"], ["h"]),
        made,
        helper.make_node("Add", ["h", "m"], ["s"]),
        helper.make_node("Conv", ["s", "B"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", 1, ["N", 3, 6, 6])
    y = helper.make_tensor_value_info("y", 1, ["N", 4, 6, 6])
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    opset = {"GroupNormalization": 18, "RMSNormalization": 23}.get(op, 17)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def pruned(op: str, attributes: dict[str, Any]) -> tuple[Model, Any]:
    model = onnxpress.load(network(op, attributes))
    report = onnxpress.PassManager("prune{sparsity=0.5}", measure=False).run(model)
    return model, report


def width(model: Model) -> int:
    return next(v.const.shape[0] for v in model.graph.initializers if v.name == "A" and v.const is not None)


@pytest.mark.parametrize("op", OVER_CHANNELS)
def test_what_is_reduced_or_normalized_over_stays(op: str) -> None:
    model, report = pruned(op, OVER_CHANNELS[op])
    assert width(model) == WIDTH
    reasons = [remark.reason for remark in report.remarks if remark.rule == "frozen"]
    assert any(f"{op} needs the whole axis" in reason or f"{op} is not known" in reason for reason in reasons)


@pytest.mark.parametrize("op", PASSING)
def test_other_axes_pass(op: str) -> None:
    model, _ = pruned(op, PASSING[op])
    assert width(model) == WIDTH // 2
    found = onnxpress.compare(onnxpress.load(network(op, PASSING[op])), model)
    assert found.checked
    assert not found.mismatches
