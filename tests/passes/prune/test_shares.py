"""Thresholds, and how a share is shared out among groups: by sensitivity, and from the outputs."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

import onnxpress
from onnxpress.errors import UserError
from onnxpress.ir import Model
from onnxpress.ir.analysis.cost import cost

from .perceptrons import feeds, perceptron, prune, shapes


@pytest.fixture
def model() -> Model:
    return onnxpress.load(perceptron())


def levels(model: Model, criterion: str) -> Any:
    """Of each neuron of A, what the criterion says on its own scale."""
    a = next(v.const.numpy() for v in model.graph.initializers if v.name == "A" and v.const is not None)
    hidden = np.maximum(np.concatenate([feed["x"] for feed in feeds()]) @ a, 0)
    return {
        "l1": np.abs(a).mean(axis=0),
        "l2": np.sqrt((a.astype(np.float64) ** 2).mean(axis=0)),
        "mean-activation": hidden.mean(axis=0),
        "activation-frequency": (hidden > 0).mean(axis=0),
    }[criterion]


@pytest.mark.parametrize("criterion", ["l1", "l2", "mean-activation", "activation-frequency"])
def test_a_threshold_takes_what_is_not_above_it(model: Model, criterion: str) -> None:
    found = np.sort(levels(model, criterion))
    limit = float(found[4] + found[5]) / 2
    data = feeds() if "activation" in criterion else None
    prune(model, f"threshold={limit} criterion={criterion} repair=off exclude=[C]", data)
    assert shapes(model)["A"] == (8, 11)
    assert (levels(model, criterion) > limit).all()


def test_thresholds_and_shares_both_hold(model: Model) -> None:
    limit = float(np.sort(levels(model, "l1"))[5])
    prune(model, f"threshold={limit * 1.001} sparsity=0.25 exclude=[C]")
    assert shapes(model)["A"] == (8, 10)
    prune(model, "threshold=0 sparsity=0.5 exclude=[C]")
    assert shapes(model)["A"] == (8, 5)


def test_a_threshold_that_would_empty_a_layer_is_an_error(model: Model) -> None:
    with pytest.raises(UserError, match="threshold=100 would empty A, B, whose largest channel has l1"):
        prune(model, "threshold=100")
    assert shapes(model)["A"] == (8, 16)


def net(gains: tuple[float, float]) -> ModelProto:
    """y = relu(x A) B + relu(x C) D, the two by their gains."""
    random = np.random.default_rng(0)
    arrays = {name: random.standard_normal((8, 16)) for name in ("A", "C")}
    arrays |= {name: gain * random.standard_normal((16, 4)) for name, gain in zip("BD", gains, strict=True)}
    nodes = [
        helper.make_node("MatMul", ["x", "A"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "B"], ["u"]),
        helper.make_node("MatMul", ["x", "C"], ["k"]),
        helper.make_node("Relu", ["k"], ["s"]),
        helper.make_node("MatMul", ["s", "D"], ["v"]),
        helper.make_node("Add", ["u", "v"], ["y"]),
    ]
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    x = helper.make_tensor_value_info("x", 1, ["N", 8])
    y = helper.make_tensor_value_info("y", 1, ["N", 4])
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("goal", ["sparsity=0.4", "macs=0.6", "bytes=0.6"])
@pytest.mark.parametrize("criterion", ["l1", "obs"])
def test_by_sensitivity_the_group_goes_that_the_outputs_do_not_need(goal: str, criterion: str) -> None:
    for gains, needed in (((1.0, 0.01), "A"), ((0.01, 1.0), "C")):
        model = onnxpress.load(net(gains))
        prune(model, f"{goal} criterion={criterion} allocation=sensitivity repair=off", feeds())
        found = {name: shape[1] for name, shape in shapes(model).items() if name in "AC"}
        assert found.pop(needed) == 16
        assert found.popitem()[1] <= 4


@pytest.mark.parametrize("goal", ["sparsity=0.6", "macs=0.3", "bytes=0.3"])
def test_from_the_outputs_the_last_layer_goes_first(goal: str) -> None:
    model = onnxpress.load(perceptron())
    report = prune(model, f"{goal} allocation=output-first")
    found = shapes(model)
    left, size = found["A"][1], sum(int(np.prod(shape)) for shape in found.values())
    assert found["C"][0] == 1, "12 neurons by 0.95, so one is left"
    assert left == 16 + 12 - int(0.6 * 28) - 1 if "sparsity" in goal else size <= 0.3 * 368 < size + 9
    assert not any(remark.rule == "goal" for remark in report.remarks)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("threshold=0.5 criterion=obs", "has no scale that a threshold could speak of; l1, l2, bn-scale"),
        ("threshold=0.5 steps=2", "threshold takes no steps"),
        ("sparsity=0.5 allocation=sensitivity", "allocation=sensitivity needs sample data"),
        ("sparsity=0.5 criterion=output-error", "criterion=output-error is not for unit=channel"),
    ],
)
def test_mistakes_in_what_is_combined_are_told(model: Model, options: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        prune(model, options)


def test_a_group_without_which_the_outputs_are_no_numbers_stays() -> None:
    """y = log(100 h0 - the others): h0 = relu(0 x + 1) has the least weights, and would go first."""
    random = np.random.default_rng(0)
    a, b = random.standard_normal((8, 8)), np.full((8, 1), -0.01)
    a[:, 0], b[0] = 0, 100
    arrays = {"A": a, "bias": np.eye(8)[0], "B": b}
    nodes = [
        helper.make_node("Gemm", ["x", "A", "bias"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "B"], ["s"]),
        helper.make_node("Log", ["s"], ["y"]),
    ]
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    x = helper.make_tensor_value_info("x", 1, ["N", 8])
    graph = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("y", 1, ["N", 1])], held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for allocation, width in (("global", 4), ("sensitivity", 8)):
        model = onnxpress.load(proto)
        report = prune(model, f"sparsity=0.5 allocation={allocation} repair=off", feeds())
        assert shapes(model)["A"] == (8, width)
        told = any("no numbers without" in remark.reason for remark in report.remarks)
        assert told == (allocation == "sensitivity")


@pytest.mark.parametrize("second", ["error=0.9 criterion=obs", "sparsity=0.7 allocation=sensitivity"])
def test_cuts_that_are_tried_leave_bounds_of_before(second: str) -> None:
    """The bound of s is that of the first pass: as many numbers as channels are left by both."""
    model = onnxpress.load(perceptron())
    pipeline = f"prune{{sparsity=0.25 repair=off}},prune{{{second} repair=off}}"
    report = onnxpress.PassManager(pipeline, measure=False).run(model, data=feeds())
    left = shapes(model)["B"][1]
    assert left < 9
    assert {len(bound.per_channel) for bound in report.bounds if (bound.value, bound.form) == ("k", "linear")} == {left}


def test_in_steps_shares_are_found_anew() -> None:
    model = onnxpress.load(perceptron())
    prune(model, "sparsity=0.5 allocation=sensitivity steps=3", feeds())
    found = shapes(model)
    assert found["A"][1] + found["C"][0] == pytest.approx(14, abs=3)


def test_a_goal_holds_by_the_count_of_the_report() -> None:
    """The file computes the shape of what the last layer reads, so that its MACs are not known before fold."""
    proto = perceptron(64)
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes[:-1])
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.array(numbers), name) for name, numbers in (("flat", [-1]), ("width", [12]))
    )
    proto.graph.node.extend([
        helper.make_node("Shape", ["x"], ["sizes"], start=0, end=1),
        helper.make_node("Reshape", ["sizes", "flat"], ["rows"]),
        helper.make_node("Concat", ["rows", "width"], ["target"], axis=0),
        helper.make_node("Reshape", ["s", "target"], ["t"], allowzero=1),
        helper.make_node("MatMul", ["t", "C"], ["y"]),
    ])  # fmt: skip
    model, pins = onnxpress.load(proto), {"x": (4, 8)}
    before = cost(model, pins)
    assert before.macs_unknown == 1
    assert before.macs == 4 * 64 * (8 + 12)
    prune(model, "macs=0.5 repair=off", feeds(1))
    assert cost(model, pins).macs_unknown == 0
    assert 0.45 * before.macs < cost(model, pins).macs <= 0.5 * before.macs
