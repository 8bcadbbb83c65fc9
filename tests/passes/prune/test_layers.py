"""Residual branches go as a whole: which are found, in which order, how many, and with what bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxpress
from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import UserError
from onnxpress.ir import Model, emit
from onnxpress.passes.prune.layers.plan import CRITERIA
from onnxpress.passes.prune.prune import Prune
from onnxpress.specs.check import check_pass
from onnxpress.specs.strategies_coupled import convolutional, transformer

SIZES = (1.0, 0.1, 10.0)
"""How much each of the three branches adds."""
Nodes = list[Any]


def feeds(count: int = 20) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal((3, 8)).astype(np.float32)} for _ in range(count)]


def network(width: int = 8, *, tail: bool = True) -> ModelProto:
    """Three blocks y = x + relu(x A) B, then a layer."""
    random = np.random.default_rng(0)
    nodes: Nodes = []
    arrays: dict[str, Any] = {}
    x = "x"
    for block, size in enumerate(SIZES):
        arrays |= {f"A{block}": random.normal(size=(8, 16)), f"B{block}": size / 16 * random.normal(size=(16, width))}
        nodes += [
            helper.make_node("MatMul", [x, f"A{block}"], [f"h{block}"], name=f"first{block}"),
            helper.make_node("Relu", [f"h{block}"], [f"r{block}"]),
            helper.make_node("MatMul", [f"r{block}", f"B{block}"], [f"f{block}"], name=f"second{block}"),
            helper.make_node("Add", [f"f{block}", x] if block == 1 else [x, f"f{block}"], [f"y{block}"]),
        ]
        x = f"y{block}"
    if tail:
        arrays["C"] = random.normal(size=(8, 5))
        nodes.append(helper.make_node("MatMul", [x, "C"], ["y"], name="last"))
    else:
        nodes[-1].output[0] = "y"
    return finished(nodes, arrays, 5 if tail else 8)


def finished(nodes: Nodes, arrays: dict[str, Any], width: int) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(options: str, proto: ModelProto | None = None, data: Any = None, **given: Any) -> tuple[Model, Any]:
    model = onnxpress.load(network() if proto is None else proto)
    report = onnxpress.PassManager(f"prune{{unit=layer {options}}}", measure=False, **given).run(model, data=data)
    return model, report


def left(model: Model) -> list[int]:
    """The blocks that are there."""
    names = {value.name for value in model.graph.initializers}
    return [block for block in range(len(SIZES)) if f"A{block}" in names]


@st.composite
def dropping(draw: Any) -> Prune:
    return Prune(
        unit="layer",
        criterion=draw(st.sampled_from(CRITERIA)),
        sparsity=draw(st.sampled_from((0.5, 0.99))),
        repair=draw(st.sampled_from(("off", "auto"))),
    )


@pytest.mark.parametrize("models", [convolutional(), transformer()], ids=["convolutional", "transformer"])
def test_bounds_hold(models: st.SearchStrategy[ModelProto]) -> None:
    checked = check_pass(dropping(), models=models, max_examples=15)
    assert checked.changed > 4
    assert checked.judged > 4


def error(options: str) -> float:
    proto = network()
    model, _ = run(f"repair=off {options}", proto, feeds())
    return float(onnxpress.compare(onnxpress.load(proto), model, data=feeds()).worst["rel-l2"].value)


def test_what_adds_least_goes_first() -> None:
    for share, blocks in ((0.34, [0, 2]), (0.67, [2])):
        model, _ = run(f"sparsity={share} criterion=mean-activation", data=feeds())
        assert left(model) == blocks


def test_what_the_outputs_need_least_goes_first() -> None:
    alone = [error(f"macs=0 exclude=[A{(block + 1) % 3} A{(block + 2) % 3}]") for block in range(3)]
    assert error("sparsity=0.34 criterion=output-error") == min(alone)
    assert min(alone) < sorted(alone)[1]


def test_by_weights_no_data_are_needed() -> None:
    weights = network()
    smallest = next(tensor for tensor in weights.graph.initializer if tensor.name == "A2")
    smallest.CopyFrom(numpy_helper.from_array(np.full((8, 16), 1e-3, np.float32), "A2"))
    for criterion in ("l1", "l2"):
        assert left(run(f"sparsity=0.34 criterion={criterion}", weights)[0]) == [0, 1]


def test_without_repair_the_sum_is_what_passes_by() -> None:
    proto = network(tail=False)
    model, report = run("macs=0", proto)
    x = feeds(1)[0]
    assert not left(model)
    np.testing.assert_array_equal(OrtBackend().prepare(model).run(x)["y"], x["x"])
    assert any("the branch goes" in remark.reason for remark in report.remarks)


def test_repair_helps() -> None:
    proto = network()
    lost = {}
    for repair in ("off", "refit"):
        model, _ = run(f"sparsity=0.67 criterion=output-error repair={repair}", proto, feeds())
        lost[repair] = onnxpress.compare(onnxpress.load(proto), model, data=feeds()).worst["rel-l2"].value
    assert lost["refit"] < lost["off"]


@pytest.mark.parametrize(("goal", "blocks"), [("macs=0.75", 2), ("macs=0.4", 1), ("bytes=0.75", 2), ("macs=0.01", 0)])
def test_goals_of_cost(goal: str, blocks: int) -> None:
    model, report = run(goal)
    assert len(left(model)) == blocks
    assert any("no more branches" in remark.reason for remark in report.remarks) == (goal == "macs=0.01")


def test_a_limit_on_the_error_is_held() -> None:
    proto = network()
    model, _ = run("error=0.2 criterion=output-error", proto, feeds())
    assert left(model) == [0, 2]
    worst = onnxpress.compare(onnxpress.load(proto), model, data=feeds()).worst["rel-l2"].value
    assert worst <= 0.2 * (1 + 1e-5)
    model, report = run("error=0.00001 criterion=output-error", proto, feeds())
    assert left(model) == [0, 1, 2]
    assert any("no branch can go" in remark.reason for remark in report.remarks)


def test_a_branch_inside_another_goes_with_it() -> None:
    """y = x + g(h), h = x A + f(x A): the outer one has the inner one."""
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(8, 8)) for name in ("A", "C")} | {"B": 0.01 * random.normal(size=(8, 8))}
    nodes = [
        helper.make_node("MatMul", ["x", "A"], ["a"]),
        helper.make_node("MatMul", ["a", "B"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["h"]),
        helper.make_node("MatMul", ["h", "C"], ["c"]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    proto = finished(nodes, arrays, 8)
    model, _ = run("sparsity=0.5 criterion=output-error repair=off", proto, feeds())
    assert {value.name for value in model.graph.initializers} == {"A", "C"}
    model, _ = run("macs=0", proto)
    assert not list(model.graph.initializers)


def array(model: Model, name: str) -> Any:
    return next(v.const.numpy() for v in model.graph.initializers if v.name == name and v.const is not None)


@pytest.mark.parametrize("how", ["exclude=[C A0 A1]", "exclude=[last A0 A1]"])
def test_what_is_left_out_is_not_refitted(how: str) -> None:
    proto = network()
    model, report = run(f"macs=0 repair=refit {how}", proto, feeds())
    assert left(model) == [0, 1]
    np.testing.assert_array_equal(array(model, "C"), array(onnxpress.load(proto), "C"))
    assert any("0 layers refitted" in remark.reason for remark in report.remarks)


def test_nothing_changes_where_the_pass_may_not_act() -> None:
    proto = network()
    model = onnxpress.load(proto)
    pipeline = "at{except=[first0 first1 last]}(prune{unit=layer macs=0 repair=refit})"
    onnxpress.PassManager(pipeline, measure=False).run(model, data=feeds())
    assert left(model) == [0, 1]
    np.testing.assert_array_equal(array(model, "C"), array(onnxpress.load(proto), "C"))


@pytest.mark.parametrize("why", ["wide", "read", "excluded", "elsewhere"])
def test_what_is_no_branch_stays(why: str) -> None:
    random = np.random.default_rng(0)
    arrays = {"A": random.normal(size=(8, 8)), "B": random.normal(size=(8, 8))}
    nodes = [helper.make_node("MatMul", ["x", "A"], ["a"]), helper.make_node("Add", ["x", "a"], ["y"])]
    options = "sparsity=0.99 macs=0"
    match why:
        case "wide":  # what passes by is broadcast
            nodes.insert(0, helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1))
            nodes[1].input[0] = nodes[2].input[0] = "m"
            nodes[2].input[1] = "s"
            nodes.insert(2, helper.make_node("Add", ["x", "a"], ["s"]))
        case "read":  # something else reads what the branch gives
            nodes[-1].output[0] = "s"
            nodes.append(helper.make_node("Mul", ["s", "a"], ["y"]))
        case "excluded":
            options += " exclude=[A]"
        case "elsewhere":  # both are branches of x, none passes by
            nodes[-1].input[0] = "b"
            nodes.insert(0, helper.make_node("MatMul", ["x", "B"], ["b"]))
    model, report = run(options, finished(nodes, arrays, 8))
    assert "A" in {value.name for value in model.graph.initializers}
    assert any("no residual branch" in remark.reason for remark in report.remarks)


def test_the_same_input_and_seed_give_the_same_bytes() -> None:
    made = [
        emit(run("sparsity=0.34 criterion=random", seed=seed)[0]).SerializeToString(deterministic=True)
        for seed in (1, 1, 2, 3, 4, 5, 6)
    ]
    assert made[0] == made[1]
    assert len(set(made)) > 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "needs a goal"),
        ("sparsity=0.5 criterion=obs", "criterion=obs is not for unit=layer"),
        ("sparsity=0.5 criterion=output-error", "needs sample data"),
        ("sparsity=0.5 criterion=mean-activation", "needs sample data"),
        ("sparsity=0.5 repair=refit", "needs sample data"),
        ("error=0.5", "needs sample data"),
        ("error=0.5 macs=0.5", "no other goal"),
        ("sparsity=0.5 steps=2", "takes no steps"),
        ("sparsity=0.5 align=2", "align is for unit=channel and head"),
        ("sparsity=0.5 allocation=global", "takes no steps"),
        ("threshold=0.5", "threshold is for"),
        ("sparsity=1", "must be below 1"),
    ],
)
def test_mistakes_are_told(options: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(options)
