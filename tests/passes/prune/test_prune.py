"""Goals, mistakes, and what the pass says."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

import onnxpress
from onnxpress.errors import UserError
from onnxpress.ir import Model


@pytest.fixture
def model() -> Model:
    return onnxpress.load(perceptron())


def perceptron(inner: int = 16) -> ModelProto:
    """y = relu(relu(x A) B) C, with neurons of A that get weaker and weaker."""
    random = np.random.default_rng(0)
    a = random.standard_normal((8, inner)) * np.linspace(1, 0.01, inner)
    arrays = {"A": a, "B": random.standard_normal((inner, 12)), "C": random.standard_normal((12, 4))}
    nodes = [
        helper.make_node("MatMul", ["x", "A"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "B"], ["k"]),
        helper.make_node("Relu", ["k"], ["s"]),
        helper.make_node("MatMul", ["s", "C"], ["y"]),
    ]
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    x = helper.make_tensor_value_info("x", 1, ["N", 8])
    y = helper.make_tensor_value_info("y", 1, ["N", 4])
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def prune(model: Model, options: str, data: Any = None) -> Any:
    return onnxpress.PassManager(f"prune{{{options}}}", measure=False).run(model, data=data)


def shapes(model: Model) -> dict[str, tuple[int, ...]]:
    return {value.name: value.const.shape for value in model.graph.initializers if value.const is not None}


def feeds(count: int = 64) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal((4, 8)).astype(np.float32)} for _ in range(count)]


def error(a: Model, b: Model) -> float:
    return float(onnxpress.compare(a, b, data=feeds(8)).worst["rel-l2"].value)


def test_a_share_of_every_group_goes(model: Model) -> None:
    prune(model, "sparsity=0.25")
    assert shapes(model) == {"A": (8, 12), "B": (12, 9), "C": (9, 4)}


def test_the_weakest_neurons_go(model: Model) -> None:
    before = next(v.const.numpy() for v in model.graph.initializers if v.name == "A" and v.const is not None)
    prune(model, "sparsity=0.25")
    after = next(v.const.numpy() for v in model.graph.initializers if v.name == "A" and v.const is not None)
    np.testing.assert_array_equal(after, before[:, :12])


def test_widths_stay_multiples(model: Model) -> None:
    prune(model, "sparsity=0.3 align=4")
    assert shapes(model) == {"A": (8, 12), "B": (12, 12), "C": (12, 4)}


def test_excluded_groups_stay(model: Model) -> None:
    prune(model, "sparsity=0.5 exclude=[A]")
    assert shapes(model) == {"A": (8, 16), "B": (16, 6), "C": (6, 4)}


@pytest.mark.parametrize("goal", ["macs", "bytes"])
def test_a_goal_is_reached_and_not_by_far(model: Model, goal: str) -> None:
    report = prune(model, f"{goal}=0.5")
    share = report.after.cost.parameters / report.before.cost.parameters  # the same for both: only products
    assert 0.4 < share <= 0.5


def test_of_several_goals_each_holds(model: Model) -> None:
    report = prune(model, "sparsity=0.25 bytes=0.9")
    assert shapes(model)["A"][1] <= 12
    assert report.after.cost.parameters <= 0.9 * report.before.cost.parameters


def test_what_cannot_be_reached_is_said(model: Model) -> None:
    report = prune(model, "macs=0")
    assert any(remark.rule == "goal" for remark in report.remarks)


@pytest.mark.parametrize("criterion", ["l1", "wanda", "obs"])
def test_repair_helps(criterion: str) -> None:
    original, plain, mended = (onnxpress.load(perceptron()) for _ in range(3))
    prune(plain, f"sparsity=0.5 criterion={criterion} repair=off", feeds())
    prune(mended, f"sparsity=0.5 criterion={criterion}", feeds())
    assert error(original, mended) < 0.9 * error(original, plain)


def test_second_order_beats_chance() -> None:
    original, random, obs = (onnxpress.load(perceptron()) for _ in range(3))
    prune(random, "sparsity=0.5 criterion=random", feeds())
    prune(obs, "sparsity=0.5 criterion=obs", feeds())
    assert error(original, obs) < error(original, random)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "needs a goal"),
        ("sparsity=1", "below 1"),
        ("sparsity=1.5", "1.5"),
        ("sparsity=-0.1", "-0.1"),
        ("sparsity=0.5 criterion=obs", "--data"),
        ("sparsity=0.5 criterion=wanda", "--data"),
        ("sparsity=0.5 repair=refit", "--data"),
        ("error=0.1", "--data"),
        ("criterion=zero steps=2", "at once"),
    ],
)
def test_mistakes_are_told_before_any_work(model: Model, options: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        prune(model, options)
    assert shapes(model)["A"] == (8, 16)


def test_a_model_without_heads_is_left_and_told(model: Model) -> None:
    report = prune(model, "unit=head sparsity=0.5")
    assert not report.changed
    assert any("no head can be cut" in remark.reason for remark in report.remarks)


DATA_CRITERIA = ("wanda", "obs", "redundancy", "mean-activation", "activation-frequency")


@pytest.mark.parametrize("criterion", DATA_CRITERIA)
def test_criteria_that_look_at_activations_need_data(model: Model, criterion: str) -> None:
    with pytest.raises(UserError, match="--data"):
        prune(model, f"sparsity=0.5 criterion={criterion}")
    assert shapes(model)["A"] == (8, 16)


def chosen(proto: ModelProto, criterion: str, count: int) -> list[int]:
    """The neurons of A that stay."""
    model = onnxpress.load(proto)
    before = next(v.const.numpy() for v in model.graph.initializers if v.name == "A" and v.const is not None)
    prune(model, f"sparsity={count / before.shape[1]} criterion={criterion} repair=off exclude=[C]", feeds())
    after = next(v.const.numpy() for v in model.graph.initializers if v.name == "A" and v.const is not None)
    return [int(np.flatnonzero((before == column[:, None]).all(axis=0))[0]) for column in after.T]


def with_first(change: Any) -> ModelProto:
    """The perceptron with other weights in A."""
    proto = perceptron()
    held = next(tensor for tensor in proto.graph.initializer if tensor.name == "A")
    array = np.random.default_rng(3).standard_normal((8, 16)).astype(np.float32)
    change(array)
    held.CopyFrom(numpy_helper.from_array(array, "A"))
    return proto


def test_the_least_active_neurons_go() -> None:
    def quiet(array: Any) -> None:
        array[:, [2, 5]] *= 0.01

    assert chosen(with_first(quiet), "mean-activation", 2) == [n for n in range(16) if n not in (2, 5)]


def test_a_neuron_that_repeats_another_goes() -> None:
    def repeat(array: Any) -> None:
        array[:, 7] = 2 * array[:, 3]

    assert len({3, 7} & set(chosen(with_first(repeat), "redundancy", 1))) == 1


def test_the_least_scaled_channels_go() -> None:
    random = np.random.default_rng(0)
    scale = np.array([1, 0.1, 2, 0.2], np.float32)
    arrays = {"A": random.standard_normal((4, 3, 1, 1)), "B": random.standard_normal((2, 4, 1, 1))}
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    held += [numpy_helper.from_array(array, name) for name, array in (("s", scale), ("o", np.ones(4, np.float32)))]
    nodes = [
        helper.make_node("Conv", ["x", "A"], ["h"]),
        helper.make_node("BatchNormalization", ["h", "s", "o", "o", "o"], ["n"]),
        helper.make_node("Conv", ["n", "B"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", 1, ["N", 3, 4, 4])
    y = helper.make_tensor_value_info("y", 1, ["N", 2, 4, 4])
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    model = onnxpress.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    prune(model, "sparsity=0.5 criterion=bn-scale")
    left = next(v.const.numpy() for v in model.graph.initializers if v.name == "s" and v.const is not None)
    np.testing.assert_array_equal(left, [1, 2])


def test_without_normalization_the_criterion_says_so(model: Model) -> None:
    report = prune(model, "sparsity=0.5 criterion=bn-scale")
    assert any(remark.rule == "criterion" for remark in report.remarks)
    assert shapes(model)["A"] == (8, 16)


@pytest.mark.parametrize("limit", [0.05, 0.2])
def test_the_largest_share_within_an_error(limit: float) -> None:
    original, model = (onnxpress.load(perceptron()) for _ in range(2))
    prune(model, f"error={limit} criterion=obs", feeds())
    width = shapes(model)["A"][1]
    assert width < 16
    assert error(original, model) <= limit * (1 + 1e-5)
    more = onnxpress.load(perceptron())
    prune(more, f"error={2 * limit} criterion=obs", feeds())
    assert shapes(more)["A"][1] < width


def test_an_error_goes_with_no_other_goal(model: Model) -> None:
    with pytest.raises(UserError, match="no other goal"):
        prune(model, "error=0.1 sparsity=0.5", feeds())


@pytest.mark.parametrize("goal", ["sparsity=0.5", "macs=0.5"])
def test_steps_reach_the_goal(goal: str) -> None:
    once, slowly = (onnxpress.load(perceptron(64)) for _ in range(2))
    prune(once, f"{goal} criterion=obs", feeds())
    report = prune(slowly, f"{goal} criterion=obs steps=4", feeds())
    a, b = shapes(once)["A"][1], shapes(slowly)["A"][1]
    assert abs(a - b) <= 4
    assert sum(remark.rule == "refit" for remark in report.remarks) == 4


def test_a_limit_goes_with_no_other_goal(model: Model) -> None:
    with pytest.raises(UserError, match="no other goal"):
        prune(model, "error=0.1 threshold=0.5", feeds())


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
