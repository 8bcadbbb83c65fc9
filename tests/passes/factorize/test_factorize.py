"""Goals, mistakes, odd weights, and what the pass says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper

import onnxpress
from onnxpress.errors import UserError
from onnxpress.ir import emit

from .layers import low, model
from .test_layers import close, factorized, ranks


def perceptron() -> ModelProto:
    """y = relu(x A) B, with inputs that lie near a plane, and weights with a decaying spectrum."""
    random = np.random.default_rng(0)
    a = (low(48, 64, 6) + 0.2 * random.standard_normal((48, 64))).astype(np.float32)
    b = (low(64, 40, 4, 1) + 0.2 * random.standard_normal((64, 40))).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "A"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "B"], ["y"]),
    ]
    return model(nodes, {"A": a, "B": b}, ["N", 48], 2)


def feeds(count: int = 16) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    basis = random.standard_normal((8, 48))
    return [{"x": (random.standard_normal((12, 8)) @ basis).astype(np.float32)} for _ in range(count)]


def error(a: Any, b: Any) -> float:
    return float(onnxpress.compare(a, b, data=feeds(4)).worst["rel-l2"].value)


@pytest.mark.parametrize("goal", ["macs", "bytes"])
def test_a_goal_is_reached_and_not_by_far(goal: str) -> None:
    proto = perceptron()
    made, report = factorized(proto, f"{goal}=0.6 latency=any", feeds())
    share = report.after.cost.parameters / report.before.cost.parameters
    assert 0.4 < share <= 0.6
    assert error(proto, made) < 0.1


@pytest.mark.parametrize("allowed", [0.01, 0.1, 0.3])
def test_the_error_of_the_outputs_is_kept(allowed: float) -> None:
    proto = perceptron()
    made, report = factorized(proto, f"error={allowed} latency=any", feeds())
    assert error(proto, made) <= allowed
    assert report.after.cost.parameters < report.before.cost.parameters


def test_knowing_the_inputs_helps() -> None:
    proto = perceptron()
    plain, aware = (factorized(proto, f"rank=8 whiten={switch}", feeds())[0] for switch in ("off", "on"))
    assert error(proto, aware) < 0.7 * error(proto, plain)


@pytest.mark.parametrize("count", [4, 100])
def test_refitting_does_not_harm_on_other_samples(count: int) -> None:
    proto = perceptron()
    seen, unseen = feeds(count + 8)[:count], feeds(count + 8)[count:]
    pipelines = (f"macs=0.3 latency=any refit={switch}" for switch in ("off", "on"))
    made = (factorized(proto, pipeline, seen)[0] for pipeline in pipelines)
    once, again = (float(onnxpress.compare(proto, one, data=unseen).worst["rel-l2"].value) for one in made)
    assert again < 1.01 * once


def test_what_cannot_be_reached_is_said() -> None:
    _, report = factorized(perceptron(), "macs=0 latency=any", feeds())
    assert any(remark.rule == "goal" and "no more can be" in remark.reason for remark in report.remarks)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("rank=4 macs=0.5", "one goal"),
        ("error=0.1", "--data"),
        ("rank=4 whiten=on", "--data"),
        ("rank=4 refit=on", "--data"),
        ("rank=0", "0"),
        ("energy=1.5", "1.5"),
        ("methods=[magic]", "magic"),
    ],
)
def test_mistakes_are_told_before_any_work(options: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        factorized(perceptron(), options)


def test_every_layer_has_its_row() -> None:
    _, report = factorized(perceptron(), "rank=9")
    assert {row.layer for row in report.layers} == {"A", "B"}
    for row in report.layers:
        assert row.cells["break_even"] == {"A": 27, "B": 24}[row.layer]
        assert row.cells["kept"] == "factorized"
        assert row.as_dict()["by"] == "factorize"
    assert {entry.name: str(entry.outcome) for entry in report.weights} == {"A": "factorized", "B": "factorized"}


def test_a_rank_that_does_not_pay_is_refused_with_its_reason() -> None:
    made, report = factorized(perceptron(), "rank=25")
    assert not report.changed
    assert all("75% of break-even" in str(row.cells["why"]) for row in report.layers)
    assert emit(made) == perceptron()


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (2, 2), (0, 5)])
def test_matrices_that_nothing_is_gained_on_stay(shape: tuple[int, int]) -> None:
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones(shape, np.float32)}, [4, shape[0]], 2)
    assert not factorized(proto)[1].changed
    assert not factorized(proto, "macs=0.5 latency=any")[1].changed


def test_a_matrix_of_zeros() -> None:
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.zeros((30, 40), np.float32)}, [4, 30], 2)
    for options in ("", "energy=0.9", "rank=2", "vbmf", "macs=0.5 latency=any"):
        made, _ = factorized(proto, options, feeds_of(30) if "macs" in options else None)
        close(proto, made, np.ones((4, 30), np.float32))


def feeds_of(width: int) -> list[dict[str, Any]]:
    return [{"x": np.random.default_rng(i).standard_normal((4, width)).astype(np.float32)} for i in range(4)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_stay_and_are_told(value: float) -> None:
    weight = np.full((30, 40), 1.0, np.float32)
    weight[3, 4] = value
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, [4, 30], 2)
    _, report = factorized(proto)
    assert not report.changed
    assert any("NaN or Inf" in remark.reason for remark in report.remarks)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_element_types(dtype: Any) -> None:
    weight = low(40, 48, 3, dtype=dtype)
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, [4, 40], 2)
    made, report = factorized(proto)
    assert ranks(report) == ["svd 3"]
    assert {tensor.const.numpy().dtype for tensor in made.graph.initializers if tensor.const} == {np.dtype(dtype)}


def test_a_weight_that_many_read_is_stored_once() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    proto = model(nodes, {"w": low(30, 30, 3)}, [4, 30], 2)
    made, report = factorized(proto)
    assert report.after.cost.parameters == 2 * 30 * 3
    close(proto, made, np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32))


def test_a_weight_with_another_reader_stays() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "w"], ["y"])]
    _, report = factorized(model(nodes, {"w": low(30, 30, 3)}, [30, 30], 2))
    assert not report.changed
    assert any("others read it too" in remark.reason for remark in report.remarks)


def test_factors_are_factorized_anew_and_not_nested() -> None:
    random = np.random.default_rng(0)
    a, b = low(40, 12, 4), random.standard_normal((12, 36)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
    proto = model(nodes, {"a": a, "b": b}, [5, 40], 2)
    made, report = factorized(proto)
    assert ranks(report) == ["svd 4"]
    assert [node.op_type for node in made.graph.nodes] == ["MatMul", "MatMul"]
    close(proto, made, random.standard_normal((5, 40)).astype(np.float32))
    assert not onnxpress.PassManager("factorize", measure=False).run(made).changed


def test_matrices_that_read_one_input_share_a_factor() -> None:
    random = np.random.default_rng(0)
    thin = random.standard_normal((48, 20))
    arrays = {name: (thin @ random.standard_normal((20, 32))).astype(np.float32) for name in "qkv"}
    nodes = [helper.make_node("MatMul", ["x", name], [name + "y"]) for name in "qkv"]
    nodes += [helper.make_node("Add", ["qy", "ky"], ["z"]), helper.make_node("Add", ["z", "vy"], ["y"])]
    proto = model(nodes, arrays, ["N", 48], 2)
    made, report = factorized(proto, "error=0.001 latency=any", feeds())
    assert [node.op_type for node in made.graph.nodes].count("MatMul") == 4
    assert any("shared by 3" in remark.reason for remark in report.remarks)
    assert sorted(value.const.shape for value in made.graph.initializers if value.const) == [(20, 32)] * 3 + [(48, 20)]
    assert error(proto, made) < 0.001


def test_excluded_weights_stay() -> None:
    _, report = factorized(perceptron(), "rank=4 exclude=[A]")
    assert [row.layer for row in report.layers] == ["B"]


def branches(weight: Any, in_other: Any) -> ModelProto:
    """x W if the sum of x is positive, else x V."""
    from onnx import numpy_helper

    out = [helper.make_tensor_value_info("t", 1, None)]

    def body(name: str, held: Any) -> Any:
        product = helper.make_node("MatMul", ["x", "w"], ["t"])
        constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(held, f"of {name}"))
        return helper.make_graph([constant, product], name, [], out)

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=body("yes", weight), else_branch=body("no", in_other)),
    ]
    return model(nodes, {"zero": np.zeros((), np.float32)}, [4, len(weight)], 2)


def test_bodies_and_constant_nodes() -> None:
    proto = branches(low(30, 30, 3), low(30, 30, 4, seed=1))
    made, report = factorized(proto)
    assert ranks(report) == ["svd 4", "svd 3"]
    for sign in (1, -1):
        close(proto, made, sign * np.abs(np.random.default_rng(0).standard_normal((4, 30))).astype(np.float32))


@pytest.mark.parametrize("goal", ["macs=0.5", "bytes=0.5", "error=0.2"])
def test_what_no_sample_reaches_stays(goal: str) -> None:
    random = np.random.default_rng(0)
    proto = branches(low(96, 96, 8), random.standard_normal((96, 96)).astype(np.float32))
    feeds = [{"x": np.abs(random.standard_normal((4, 96))).astype(np.float32)} for _ in range(4)]
    _, report = factorized(proto, f"{goal} latency=any", feeds)
    why = [str(row.cells["why"]) for row in report.layers if row.cells["kept"] == "as it was"]
    assert len(ranks(report)) == 1
    assert why == ["no output of a sample depends on it, so that its error cannot be seen"]


@pytest.mark.parametrize("fill", [0.0, 1.0, np.inf])
@pytest.mark.parametrize(
    "options", ["rank=3", "energy=0.99", "macs=0.5 latency=any", "bytes=0.5", "error=0.1 latency=any"]
)
def test_data_that_say_nothing_do_no_harm(fill: float, options: str) -> None:
    """All zero, one and the same row, or no row without Inf: a weight of rank 3 stays what it is."""
    x = np.full((4, 30), fill, np.float32)
    x[:, 1:] = fill if np.isfinite(fill) else 0
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": low(30, 40, 3)}, [4, 30], 2)
    made, _ = factorized(proto, options, [{"x": x}] * 4)
    close(proto, made, np.ones((4, 30), np.float32))
    if fill != 1.0:
        close(proto, made, np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32))


@pytest.mark.parametrize("n", [1, 2, 40])
@pytest.mark.parametrize("options", ["rank=1", "energy=0.9", "vbmf", "macs=0.9 latency=any", "bytes=0.9"])
def test_matrices_of_one_row_or_column(n: int, options: str) -> None:
    weight = np.random.default_rng(0).standard_normal((n, 40)).astype(np.float32)
    for held in (weight, weight.T):
        proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": held}, [4, len(held)], 2)
        made, report = factorized(proto, options, feeds_of(len(held)))
        if n == 1:
            assert not report.changed
            close(proto, made, np.ones((4, len(held)), np.float32))
