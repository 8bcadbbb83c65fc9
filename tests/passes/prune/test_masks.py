"""Masks on whole models: as much is zero as was asked for, the rest is adjusted, and the stated bounds hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxpress
from onnxpress.errors import UserError
from onnxpress.ir import emit
from onnxpress.ir.analysis.linear import all_linear_layers
from onnxpress.passes.prune.prune import Prune
from onnxpress.specs.check import check_pass
from onnxpress.specs.strategies_coupled import convolutional, transformer

RNG = np.random.default_rng(0)
SAMPLES = [{"x": RNG.normal(size=(4, 16)).astype(np.float32)} for _ in range(20)]


def network(**changed: Any) -> ModelProto:
    """Two layers with biases, of which the second is a Constant node; weights can be replaced by name."""
    weights = {
        "w": RNG.normal(size=(16, 12)).astype(np.float32),
        "b": RNG.normal(size=12).astype(np.float32),
        "v": RNG.normal(size=(8, 12)).astype(np.float32),
        "c": RNG.normal(size=8).astype(np.float32),
        **changed,
    }
    nodes = [
        helper.make_node("Constant", [], ["v"], value=numpy_helper.from_array(weights.pop("v"), "v")),
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v", "c"], ["y"], name="second", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(options: str, model: ModelProto | None = None, data: Any = None, **given: Any) -> tuple[Any, Any]:
    loaded = onnxpress.load(network() if model is None else model)
    report = onnxpress.PassManager(f"prune{{{options}}}", measure=False, **given).run(loaded, data=data)
    return loaded, report


def weights(model: Any) -> list[np.ndarray]:
    return [layer.matrices(layer.weight.const.numpy()) for layer in all_linear_layers(model)]


@st.composite
def masking(draw: Any) -> Prune:
    unit = draw(st.sampled_from(("weight", "block")))
    return Prune(
        unit=unit,
        criterion=draw(st.sampled_from(("l1", "l2", "random", "wanda", "obs"))),
        allocation=draw(st.sampled_from(("layer", "global", "output-first"))),
        sparsity=draw(st.sampled_from((0.2, 0.5, 0.8))),
        block=draw(st.sampled_from(("1x2", "4x4"))) if unit == "block" else "4x4",
        steps=draw(st.integers(1, 2)),
        repair=draw(st.sampled_from(("off", "auto"))),
    )


@pytest.mark.parametrize("models", [convolutional(), transformer()], ids=["convolutional", "transformer"])
def test_bounds_hold(models: st.SearchStrategy[ModelProto]) -> None:
    checked = check_pass(masking(), models=models, max_examples=15)
    assert checked.changed > 8
    assert checked.judged > 5


@pytest.mark.parametrize("criterion", ["l1", "l2", "random", "wanda", "obs"])
@pytest.mark.parametrize("repair", ["off", "refit"])
def test_as_much_is_zero_as_was_asked_for(criterion: str, repair: str) -> None:
    model, _ = run(f"unit=weight sparsity=0.5 criterion={criterion} repair={repair}", data=SAMPLES)
    assert [int((w == 0).sum()) for w in weights(model)] == [96, 48]


@pytest.mark.parametrize("criterion", ["l1", "wanda", "obs"])
def test_of_n_m_so_many_stay(criterion: str) -> None:
    model, report = run(f"unit=n:m pattern=1:4 criterion={criterion}", data=SAMPLES)
    for w in weights(model):
        assert ((w.reshape(-1, 4, w.shape[-1]) != 0).sum(axis=1) <= 1).all()
    assert {entry.form for entry in report.weights if entry.name == "w"} <= {"n:m"}


def test_channels_of_one_tap_are_in_a_row_in_convolutions() -> None:
    w = RNG.normal(size=(3, 4, 2, 2)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for data in (None, [{"x": RNG.normal(size=(1, 4, 5, 5)).astype(np.float32)}]):
        found, _ = run(f"unit=n:m pattern=2:4 criterion={'obs' if data else 'l1'}", model, data)
        kept = next(all_linear_layers(found)).weight.const.numpy()
        assert ((kept != 0).sum(axis=1) == 2).all()


def test_a_threshold_takes_what_is_not_above_it() -> None:
    w = np.full((16, 12), 0.5, np.float32)
    w[:3], w[3] = 0.25, -0.25
    model, _ = run("unit=weight threshold=0.25", network(w=w))
    assert (weights(model)[0][0] == np.where(np.abs(w) > 0.25, w, 0)).all()


@pytest.mark.parametrize("allocation", ["global", "sensitivity", "output-first"])
def test_other_allocations_reach_the_share_of_all(allocation: str) -> None:
    small = (RNG.normal(size=(16, 12)) / 100).astype(np.float32)
    data = None if allocation == "global" else SAMPLES
    model, _ = run(f"unit=weight sparsity=0.5 allocation={allocation}", network(w=small), data)
    first, second = weights(model)
    assert abs((first == 0).sum() + (second == 0).sum() - 144) <= 2
    if allocation == "global":
        assert (first == 0).sum() > 140, "the small weights go"
    if allocation == "output-first":
        assert (second == 0).mean() > 0.9


def test_repair_helps() -> None:
    model = network()
    reference = onnxpress.load(model)
    lost = {}
    for options in ("l1 repair=off", "l1", "obs"):
        found, _ = run(f"unit=weight sparsity=0.6 criterion={options}", model, SAMPLES)
        lost[options] = onnxpress.compare(reference, found, data=SAMPLES).worst["rel-l2"].value
    assert max(lost["obs"], lost["l1"]) < lost["l1 repair=off"]


def test_a_bias_that_moves_has_a_bound_though_its_weight_stays() -> None:
    model = network(v=np.zeros((8, 12), np.float32))
    _, report = run("unit=weight sparsity=0.5 criterion=l1", model, SAMPLES)
    assert {bound.form for bound in report.bounds if bound.value == "h"} == {"linear", "absolute"}
    assert {bound.form for bound in report.bounds if bound.value == "y"} <= {"absolute"}


def test_the_goal_of_an_error_is_held_and_nearly_reached() -> None:
    model = network()
    loaded = onnxpress.load(model)
    report = onnxpress.PassManager("prune{unit=weight error=0.2 criterion=obs}", samples=len(SAMPLES)).run(
        loaded, data=SAMPLES
    )
    assert report.after.error is not None
    assert 0.1 < report.after.error["rel-l2"] <= 0.2 * (1 + 1e-3)
    assert any("keeps the error" in remark.reason for remark in report.remarks)


def test_in_steps_what_went_stays_gone() -> None:
    model, _ = run("unit=weight sparsity=0.5 steps=3 criterion=l1", data=SAMPLES)
    assert [int((w == 0).sum()) for w in weights(model)] == [96, 48]


def test_the_same_input_and_seed_give_the_same_bytes() -> None:
    model = network()
    options = "unit=weight sparsity=0.5 criterion=random allocation=global"
    runs = [emit(run(options, model, seed=seed)[0]).SerializeToString(deterministic=True) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_shared_weights_are_masked_once_and_odd_ones_are_left() -> None:
    model = network()
    model.graph.node.append(helper.make_node("Gemm", ["x", "w", "b"], ["z"], name="third"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 12]))
    found, _ = run("unit=weight sparsity=0.5 criterion=obs", model, SAMPLES)
    assert [int((w == 0).sum()) for w in weights(found)] == [96, 48, 96]
    assert len({layer.weight for layer in all_linear_layers(found)}) == 2
    odd = RNG.normal(size=(16, 12)).astype(np.float32)
    odd[0, 0] = np.nan
    found, report = run("unit=weight sparsity=0.5", network(w=odd))
    assert np.array_equal(weights(found)[0][0], odd, equal_nan=True)
    assert any("NaN" in remark.reason for remark in report.remarks)


def test_all_zero_weights_and_single_ones_are_no_hindrance() -> None:
    zero = np.zeros((16, 12), np.float32)
    found, _ = run("unit=weight sparsity=0.5 criterion=obs", network(w=zero), SAMPLES)
    assert not weights(found)[0].any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("unit=weight", "needs a goal"),
        ("unit=weight sparsity=1", "must be below 1"),
        ("unit=weight sparsity=1.5", "above the highest value"),
        ("unit=weight macs=0.5", "leaves MACs and bytes as they are"),
        ("unit=n:m sparsity=0.5", "the pattern says how much goes"),
        ("unit=n:m pattern=4:2", "must be below M"),
        ("unit=n:m allocation=global", "no allocation can be given"),
        ("unit=weight sparsity=0.5 pattern=1:4", "pattern is for unit=n:m, not for unit=weight"),
        ("sparsity=0.5 block=2x2", "block is for unit=block, not for unit=channel"),
        ("unit=block sparsity=0.5 align=8", "align is for unit=channel and head, not for unit=block"),
        ("unit=n:m pattern=2-4", "not of the form pattern=N:M"),
        ("unit=block sparsity=0.5 block=4", "not of the form block=KxN"),
        ("unit=n:m pattern=2:5", "'w' has 16 inputs, which 5 does not divide"),
        ("unit=weight threshold=100", "would empty 'w', whose largest weight is"),
        ("unit=block threshold=1", "threshold is for weights, channels and heads"),
        ("unit=weight sparsity=0.5 error=0.1", "needs a goal, and one"),
        ("unit=weight sparsity=0.5 criterion=wanda", "needs sample data"),
        ("unit=weight sparsity=0.5 criterion=obs", "needs sample data"),
        ("unit=weight sparsity=0.5 allocation=sensitivity", "needs sample data"),
        ("unit=weight sparsity=0.5 criterion=zero", "criterion=zero is not for unit=weight"),
        ("unit=block sparsity=0.5 threshold=1", "needs a goal, and one"),
    ],
)
def test_mistakes_are_told(options: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(options)
