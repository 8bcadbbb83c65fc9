"""What factors pass through, what takes them in, and what is left alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxpress
from onnxpress.errors import UserError
from onnxpress.ir import Model, emit
from onnxpress.passes.equalize.equalize import Equalize
from onnxpress.passes.equalize.expected import Expected, Reach
from onnxpress.specs.check import check_pass
from onnxpress.specs.strategies_coupled import convolutional, transformer

from .networks import CHANNELS, layers, node, skewed, spread


@pytest.mark.parametrize("models", [convolutional(), transformer()], ids=["convolutional", "transformer"])
def test_the_function_stays(models: st.SearchStrategy[ModelProto]) -> None:
    checked = check_pass(Equalize, models=skewed(models), max_examples=15)
    assert checked.changed > 8
    assert checked.judged > 8


def run(proto: ModelProto, options: str = "", data: Any = None) -> tuple[Model, Any]:
    model = onnxpress.load(proto)
    text = options if options.endswith(")") else f"equalize{{{options}}}" if options else "equalize"
    return model, onnxpress.PassManager(text, measure=False).run(model, data=data)


def weight(model: Model, name: str) -> Any:
    return next(value.const.numpy() for value in model.graph.values() if value.name == name and value.const is not None)


def is_same_to_the_bit(before: ModelProto, after: Model) -> bool:
    """Powers of two change no digit, so the outputs are equal where nothing underflows."""
    found = onnxpress.compare(onnxpress.load(before), after, limits=["unequal=0"])
    return bool(found.checked and not found.broken and not found.mismatches)


PASSING = {
    "relu": [node("Relu", "h")],
    "leaky": [node("LeakyRelu", "h", alpha=0.1)],
    "abs": [node("Abs", "h")],
    "clip at zero": [node("Clip", "h", "zero")],
    "max with zero": [node("Max", "h", "zero")],
    "where": [
        node("ReduceMax", "x0", out="top"),
        node("Greater", "top", "zero", out="is"),
        node("Where", "is", "h", "zero"),
    ],
    "max pool": [node("MaxPool", "h", kernel_shape=[2, 2], pads=[1, 1, 1, 1])],
    "average pool": [node("AveragePool", "h", kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)],
    "pad": [node("Pad", "h", "pads")],
    "pad, reflected": [node("Pad", "h", "pads", mode="reflect")],
    "resize": [node("Resize", "h", "", "twice")],
    "reduce": [node("ReduceMax", "h", axes=[2], out="r"), node("Add", "h", "r")],
    "transpose": [node("Transpose", "h", perm=[0, 2, 3, 1], out="t"), node("Transpose", "t", perm=[0, 3, 1, 2])],
    "reshape": [node("Reshape", "h", "flat", out="f"), node("Reshape", "f", "square")],
    "split and concat": [
        helper.make_node("Split", ["h"], ["a", "b"], axis=1),
        node("Concat", "a", "b", axis=1),
    ],
    "gather": [node("Gather", "h", "order", axis=1)],
    "add a constant": [node("Add", "h", "c")],
    "subtract from a constant": [node("Sub", "c", "h")],
    "multiply": [node("Mul", "h", "c")],
    "divide": [node("Div", "h", "c")],
    "multiply by a number": [node("Mul", "h", "half")],
    "gate": [
        node("GlobalAveragePool", "x0", out="p"), node("Conv", "p", "wg", out="q"), node("Sigmoid", "q", out="s"),
        node("Mul", "s", "h"),
    ],
    "prelu": [node("PRelu", "h", "c")],
    "batch norm": [node("BatchNormalization", "h", "g", "o", "e", "v")],
    "depthwise": [node("Conv", "h", "wd", "c", group=CHANNELS)],
    "residual": [node("Conv", "h", "ws", out="i"), node("Add", "h", "i")],
}  # fmt: skip
ARRAYS = {
    "zero": np.zeros(()),
    "half": np.full((1,), 0.5),
    "c": np.arange(1, CHANNELS + 1.0).reshape(-1, 1, 1),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "twice": np.array([1, 1, 2, 2.0]),
    "flat": np.array([0, 0, 36]),
    "square": np.array([0, 0, 6, 6]),
    "order": np.array([0, 1, 6, 3, 4, 5, 2, 7]),
    "g": np.arange(1, CHANNELS + 1.0),
    "o": np.arange(CHANNELS) - 3.5,
    "e": np.arange(CHANNELS) - 2.5,
    "wg": np.ones((CHANNELS, 3, 1, 1)),
    "wd": np.ones((CHANNELS, 1, 1, 1)),
    "ws": np.eye(CHANNELS)[:, :, None, None],
    "v": np.full(CHANNELS, 2.0),
}


def case(between: list[Any]) -> ModelProto:
    """The case with the constants that it reads."""
    read = {name for each in between for name in each.input}
    arrays = {name: array for name, array in ARRAYS.items() if name in read}
    if any(each.op_type == "Conv" for each in between) and "c" in arrays:
        arrays["c"] = arrays["c"].reshape(-1)
    for each in between:
        each.input[:] = ["x" if name == "x0" else name for name in each.input]
    return layers(between, arrays)


@pytest.mark.parametrize("between", PASSING.values(), ids=PASSING)
def test_factors_pass(between: list[Any]) -> None:
    proto = case(between)
    model, report = run(proto)
    assert is_same_to_the_bit(proto, model)
    assert report.changed
    assert spread(weight(model, "w1"), 0) < 3 < spread(weight(onnxpress.load(proto), "w1"), 0)


HOLDING = {
    "sigmoid": [node("Sigmoid", "h")],
    "relu6": [node("Clip", "h", "zero", "six")],
    "softmax": [node("Softmax", "h", axis=1)],
    "hard swish": [node("HardSwish", "h")],
    "norm": [node("InstanceNormalization", "h", "c", "c")],
    "pad with ones": [node("Pad", "h", "pads", "six")],
    "add a number": [node("Add", "h", "six")],
    "square": [node("Mul", "h", "h")],
    "sum of channels": [node("ReduceSum", "h", "axes", out="r"), node("Mul", "r", "c")],
    "shift of channels": [node("Resize", "h", "", "more")],
}
HELD = {**ARRAYS, "six": np.full((), 6.0), "axes": np.array([1]), "more": np.array([1, 1.1, 1, 1])}


@pytest.mark.parametrize("between", HOLDING.values(), ids=HOLDING)
def test_factors_do_not_pass(between: list[Any]) -> None:
    read = {name for each in between for name in each.input}
    arrays = {name: array for name, array in HELD.items() if name in read}
    if any(each.op_type == "InstanceNormalization" for each in between):
        arrays["c"] = arrays["c"].reshape(-1)
    proto = layers(between, arrays)
    model, _ = run(proto)
    np.testing.assert_array_equal(weight(model, "w1"), weight(onnxpress.load(proto), "w1"))
    assert is_same_to_the_bit(proto, model)


@pytest.mark.parametrize("grouped", [2, 4])
def test_inputs_of_grouped_convolutions_have_factors_of_their_own(grouped: int) -> None:
    proto = layers([node("Relu", "h")], grouped=grouped)
    model, _ = run(proto)
    assert is_same_to_the_bit(proto, model)
    assert spread(weight(model, "w1"), 0) < 8 < spread(weight(onnxpress.load(proto), "w1"), 0)


def test_what_lies_apart_by_powers_of_two_becomes_equal() -> None:
    plain = run(layers([node("Relu", "h")]))[0]
    w1 = weight(plain, "w1")
    np.testing.assert_array_equal(np.sort(np.unique(np.rint(np.log2(w1 / w1.max())))), [-1, 0])
    assert spread(weight(plain, "w2"), 1) < 1.5


@pytest.mark.parametrize("odd", [0.0, np.nan, np.inf])
def test_channels_that_are_dead_or_no_numbers_stay(odd: float) -> None:
    proto = layers([node("Relu", "h")])
    array = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    array[1] = odd
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w1"))
    model, report = run(proto)
    assert report.changed
    np.testing.assert_array_equal(weight(model, "w1")[1], array[1])
    np.testing.assert_array_equal(weight(model, "w2")[:, 1], weight(onnxpress.load(proto), "w2")[:, 1])


def test_channels_with_subnormal_weights_stay() -> None:
    proto = layers([node("Relu", "h")])
    array = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    array[0, 0] = 3e-45
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w1"))
    model, report = run(proto)
    assert report.changed
    np.testing.assert_array_equal(weight(model, "w1")[0], array[0])


def test_weights_of_float16_stay() -> None:
    proto = layers([node("Relu", "h")])
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for info in (*proto.graph.input, *proto.graph.output):
        info.type.tensor_type.elem_type = TensorProto.FLOAT16
    _, report = run(proto)
    assert not report.changed


def test_weights_that_inputs_override_stay() -> None:
    proto = layers([node("Relu", "h")])
    proto.graph.input.append(helper.make_tensor_value_info("w1", 1, [CHANNELS, 3, 1, 1]))
    assert not run(proto)[1].changed


def test_channels_that_are_an_output_stay() -> None:
    proto = layers([node("Relu", "h")])
    proto.graph.output.append(helper.make_tensor_value_info("h", 1, ["N", CHANNELS, "H", "W"]))
    _, report = run(proto)
    assert not report.changed
    assert any("output of the model" in remark.reason for remark in report.remarks)


def shared(second: str) -> ModelProto:
    """Two inputs through one convolution and Relu each, and a second one with the weight `second`."""
    proto = layers([node("Relu", "h")])
    more = [helper.make_node("Conv", ["x2", "w1", "b1"], ["h2"]), node("Relu", "h2", out="m2")]
    more.append(helper.make_node("Conv", ["m2", second], ["y2"]))
    proto.graph.node.extend(more)
    proto.graph.input.append(helper.make_tensor_value_info("x2", 1, ["N", 3, 6, 6]))
    proto.graph.output.append(helper.make_tensor_value_info("y2", 1, ["N", 4, "H", "W"]))
    other = 5 * numpy_helper.to_array(proto.graph.initializer[2])
    proto.graph.initializer.append(numpy_helper.from_array(other, "w3"))
    return proto


@pytest.mark.parametrize("second", ["w2", "w3"])
def test_readers_of_one_weight_have_one_factor(second: str) -> None:
    proto = shared(second)
    model, report = run(proto)
    assert report.changed
    assert is_same_to_the_bit(proto, model)
    assert spread(weight(model, "w1"), 0) < 2


def test_a_weight_that_something_else_reads_stays() -> None:
    proto = layers([node("Relu", "h")])
    proto.graph.node.append(node("Abs", "w1", out="w"))
    proto.graph.output.append(helper.make_tensor_value_info("w", 1, [CHANNELS, 3, 1, 1]))
    _, report = run(proto)
    assert not report.changed
    assert any("other readers" in remark.reason for remark in report.remarks)


def test_layers_in_bodies_and_what_they_capture() -> None:
    proto = layers([node("Relu", "h")])
    reader = proto.graph.node.pop()
    inside = helper.make_node("Conv", ["m", "w2"], ["z"])
    out = helper.make_tensor_value_info("z", 1, None)
    other = helper.make_graph([helper.make_node("Conv", ["m", "w4"], ["z"])], "b", [], [out])
    branch = helper.make_graph([inside], "a", [], [out])
    cond = [node("ReduceMax", "x", keepdims=0, out="top"), node("Greater", "top", "zero", out="c")]
    proto.graph.node.extend(
        [*cond, helper.make_node("If", ["c"], list(reader.output), then_branch=branch, else_branch=other)]
    )
    w2 = numpy_helper.to_array(proto.graph.initializer[2])
    proto.graph.initializer.extend(
        [numpy_helper.from_array(2 * w2, "w4"), numpy_helper.from_array(np.float32(0), "zero")]
    )
    model, report = run(proto)
    assert report.changed
    assert is_same_to_the_bit(proto, model)
    assert spread(weight(model, "w4"), 1) < 1.5


def test_only_what_is_selected_changes() -> None:
    proto = layers([node("Relu", "h")])
    assert not run(proto, "at{ops=[Relu]}(equalize)")[1].changed
    assert run(proto, "at{ops=[Conv]}(equalize)")[1].changed


def feeds(low: float = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    return [{"x": random.uniform(low, 1, (1, 3, 6, 6)).astype(np.float32)} for _ in range(4)]


def test_activations_are_balanced_against_weights() -> None:
    proto = layers([node("Relu", "h")])
    model, report = run(proto, "criterion=activations", feeds())
    assert report.changed
    assert is_same_to_the_bit(proto, model)
    assert spread(weight(model, "w2"), 1) < 3


def test_alpha_moves_the_range_into_the_weights() -> None:
    spreads = []
    for alpha in (0.0, 0.5, 1.0):
        model, _ = run(layers([node("Relu", "h")], {"w2": np.ones((4, CHANNELS, 3, 3))}), f"alpha={alpha}")
        spreads.append((spread(weight(model, "w1"), 0), spread(weight(model, "w2"), 1)))
    assert spreads[0][1] < 1.5 < spreads[0][0]
    assert spreads[2][0] < 1.5 < spreads[2][1]


@pytest.mark.parametrize("options", ["criterion=activations", "insert"])
def test_activations_need_data(options: str) -> None:
    with pytest.raises(UserError, match="--data"):
        run(layers([node("Relu", "h")]), options)


def test_insertion_is_for_activations() -> None:
    with pytest.raises(UserError, match="criterion=weights"):
        run(layers([node("Relu", "h")]), "criterion=weights insert")


def gated() -> ModelProto:
    """What the second convolution reads takes no factor in, for a Sigmoid reads it too."""
    proto = layers([node("Relu", "h")], {"w2": np.ones((4, CHANNELS, 3, 3))})
    proto.graph.node.append(node("Sigmoid", "m", out="s"))
    proto.graph.output.append(helper.make_tensor_value_info("s", 1, ["N", CHANNELS, "H", "W"]))
    return proto


def kinds(model: Model) -> list[str]:
    return [each.op_type for each in model.graph.nodes]


def test_a_mul_is_inserted_on_request() -> None:
    proto = gated()
    assert "Mul" not in kinds(run(proto, "criterion=activations", feeds())[0])
    model, report = run(proto, "insert", feeds())
    assert kinds(model).count("Mul") == 1
    assert is_same_to_the_bit(proto, model)
    assert any(remark.rule == "insert" and remark.kind == "applied" for remark in report.remarks)
    np.testing.assert_array_equal(weight(model, "w1"), weight(onnxpress.load(proto), "w1"))


def test_one_mul_serves_all_layers_that_read_a_value() -> None:
    proto = gated()
    proto.graph.node.append(helper.make_node("Conv", ["m", "w3"], ["y3"]))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((4, CHANNELS, 1, 1), np.float32), "w3"))
    proto.graph.output.append(helper.make_tensor_value_info("y3", 1, ["N", 4, "H", "W"]))
    model, _ = run(proto, "insert", feeds())
    assert kinds(model).count("Mul") == 1
    assert is_same_to_the_bit(proto, model)


def test_no_mul_where_no_error_is_saved() -> None:
    proto = gated()
    flat = numpy_helper.from_array(np.ones((CHANNELS, 3, 1, 1), np.float32), "w1")
    proto.graph.initializer[0].CopyFrom(flat)
    proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.zeros(CHANNELS, np.float32), "b1"))
    _, report = run(proto, "insert", feeds())
    assert not report.changed


@given(st.integers(0, 10**6))
def test_the_expected_error_is_that_of_rounding(seed: int) -> None:
    """Measured on uniform inputs; of numbers much smaller than a step less is lost."""
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, (500, 64)) * 2.0 ** random.integers(-1, 2, 64)
    w = random.standard_normal((64, 48)) * 2.0 ** random.integers(-1, 2, (64, 1))
    powers = random.integers(-1, 2, 64)
    reach = Reach(1, 64)
    reach.update(x)
    expected = Expected(reach, np.square(w).sum(axis=1), np.abs(w), 1)
    errors = [measured(x, w, each) for each in (np.zeros(64, np.int64), powers)]
    assert expected.ratio(powers) == pytest.approx(errors[1] / errors[0], rel=0.2)


def measured(x: Any, w: Any, powers: Any) -> float:
    a, b = x / 2.0**powers, w * 2.0 ** powers[:, None]
    step = (a.max() - a.min()) / 255
    steps = np.abs(b).max(axis=0) / 127
    return float(np.square((np.rint(a / step) * step) @ (np.rint(b / steps) * steps) - x @ w).mean())


def test_a_balanced_model_is_left_alone() -> None:
    proto = layers([node("Relu", "h")])
    once, _ = run(proto)
    _, report = run(emit(once))
    assert not report.changed
    assert any(remark.rule == "balanced" for remark in report.remarks)


def test_it_says_what_it_did() -> None:
    _, report = run(layers([node("Relu", "h")]))
    (remark,) = [remark for remark in report.remarks if remark.kind == "applied"]
    assert remark.subject == "w1 -> w2"
    assert f"of {CHANNELS} channels" in remark.reason
