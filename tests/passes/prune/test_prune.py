"""Goals, mistakes, and what the pass says."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

import onnxpress
from onnxpress.errors import UserError
from onnxpress.ir import Model

from .perceptrons import error, feeds, perceptron, prune, shapes


@pytest.fixture
def model() -> Model:
    return onnxpress.load(perceptron())


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
    assert shapes(model) == {"A": (8, 12), "B": (12, 8), "C": (8, 4)}


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


@pytest.mark.parametrize("limit", [0.05, 0.1])
def test_the_largest_share_within_an_error(limit: float) -> None:
    original, model = (onnxpress.load(perceptron()) for _ in range(2))
    prune(model, f"error={limit} criterion=obs", feeds())
    width = shapes(model)["A"][1]
    assert width < 16
    assert error(original, model) <= limit * (1 + 1e-5)
    more = onnxpress.load(perceptron())
    prune(more, f"error={4 * limit} criterion=obs", feeds())
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


def test_what_is_taken_back_leaves_the_bounds_of_passes_before(model: Model) -> None:
    """The second cut narrows bounds of the first, in the list that both state theirs in."""
    first, guarded = "prune{sparsity=0.25}", "guard{rel-l2=1e-9}(prune{sparsity=0.5})"
    alone = onnxpress.PassManager(first).run(onnxpress.load(perceptron())).bounds
    report = onnxpress.PassManager(f"{first},{guarded}").run(model)
    assert shapes(model)["A"] == (8, 12)
    assert [(bound.value, bound.form) for bound in report.bounds] == [(bound.value, bound.form) for bound in alone]
    for bound, expected in zip(report.bounds, alone, strict=True):
        np.testing.assert_array_equal(bound.per_channel, expected.per_channel)
