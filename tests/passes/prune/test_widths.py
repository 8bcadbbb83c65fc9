"""Widths of convolutions: multiples that they are fast at, and the goals still hold."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper

import onnxpress
from onnxpress.errors import UserError
from onnxpress.ir.analysis.coupling import couple
from onnxpress.ir.analysis.shapes import infer_shapes
from onnxpress.passes.prune.channels.scores import Order
from onnxpress.passes.prune.channels.select import by_share, gone_of
from onnxpress.passes.prune.channels.widths import parts_of

from .perceptrons import prune, shapes


def convolutions(*widths: int, join: bool = False) -> ModelProto:
    """Convolutions of 3 channels to each width in turn, or side by side and joined, then one to 5."""
    random = np.random.default_rng(0)
    held, nodes, seen, width = [], [], ["x"], 3

    def layer(source: str, inputs: int, outputs: int) -> str:
        name = f"W{len(held)}"
        array = random.standard_normal((outputs, inputs, 3, 3)).astype(np.float32)
        held.append(numpy_helper.from_array(array, name))
        nodes.append(helper.make_node("Conv", [source, name], [f"c{name}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{name}"], [f"r{name}"]))
        return f"r{name}"

    for outputs in widths:
        seen.append(layer("x" if join else seen[-1], 3 if join else width, outputs))
        width = outputs
    source = seen[-1]
    if join:
        nodes.append(helper.make_node("Concat", seen[1:], ["joined"], axis=1))
        source, width = "joined", sum(widths)
    y = layer(source, width, 5)
    x = helper.make_tensor_value_info("x", 1, ["N", 3, 8, 8])
    out = helper.make_tensor_value_info(y, 1, ["N", 5, 8, 8])
    graph = helper.make_graph(nodes, "g", [x], [out], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outputs_of(proto: ModelProto, options: str) -> list[int]:
    model = onnxpress.load(proto)
    prune(model, options)
    return [shape[0] for _, shape in sorted(shapes(model).items())]


def test_wide_convolutions_keep_multiples_of_sixteen() -> None:
    assert outputs_of(convolutions(64, 128), "sparsity=0.3") == [48, 80, 5]


def test_narrower_ones_keep_multiples_of_eight_and_four() -> None:
    assert outputs_of(convolutions(40, 24), "sparsity=0.3") == [24, 16, 5]


def test_few_channels_may_be_any_number() -> None:
    assert outputs_of(convolutions(6, 7), "sparsity=0.3") == [5, 5, 5]


def test_a_width_that_is_no_multiple_becomes_one() -> None:
    assert outputs_of(convolutions(50), "sparsity=0.3") == [32, 5]


def test_one_leaves_every_width_open() -> None:
    assert outputs_of(convolutions(64, 50), "sparsity=0.3 align=1") == [45, 35, 5]


def test_each_input_of_a_concat_has_a_width_of_its_own() -> None:
    assert outputs_of(convolutions(32, 16, join=True), "sparsity=0.3") == [24, 8, 5]


def test_what_goes_by_a_threshold_goes() -> None:
    proto = convolutions(16)
    array = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    array[3] = 0
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "W0"))
    assert outputs_of(proto, "threshold=0") == [15, 5]
    assert outputs_of(proto, "threshold=0 align=4") == [16, 5]


def test_a_wrong_word_is_an_error() -> None:
    with pytest.raises(UserError, match="auto or a whole number of at least 1"):
        onnxpress.PassManager("prune{sparsity=0.3 align=always}")


@example([3, 4], 0.5, 4)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.floats(0, 0.95), st.sampled_from(["auto", 1, 4, 8]))
def test_as_many_go_as_with_any_widths_if_they_can(widths: list[int], share: float, align: Any) -> None:
    model = onnxpress.load(convolutions(*widths))
    groups = [group for group in couple(model, infer_shapes(model)) if len(group.free)]
    orders = [Order(group.free, np.arange(1.0, len(group.free) + 1)) for group in groups]
    parts = parts_of(groups, orders, align)
    places = by_share(parts, share)
    gone = sum(int(units.sum()) for units in gone_of(groups, orders, parts, places))
    wanted = sum(int(share * group.count + 1e-9) for group in groups)
    most = sum(min(int(part.counts[-1]), part.width - 1) for part in parts)
    assert gone >= min(wanted, most)
    for part, place in zip(parts, places, strict=True):
        stays = part.width - int(part.counts[place])
        assert stays == part.width or stays % _multiple(part.width, align) == 0


def _multiple(width: int, align: str | int) -> int:
    if isinstance(align, int):
        return align if width % align == 0 else 1
    return 16 if width >= 64 else 8 if width >= 32 else 4 if width >= 8 else 1
