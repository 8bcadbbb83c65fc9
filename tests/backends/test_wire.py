"""Sizes of weights are read from the wire as protobuf reads them."""

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxpress.backends.reading import model_from
from onnxpress.backends.wire import INITIALIZER, NODE, raw_sizes
from onnxpress.errors import UserError

GROUP = b"\xfb\x07\xfc\x07"
"""Begin and end of a group, field 127."""


def tensors():
    large = numpy_helper.from_array(np.zeros((1100, 1000), np.float32), "large")
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [2], [1.0, 2.0])
    empty = numpy_helper.from_array(np.zeros((0, 3), np.float32), "empty")
    twice = TensorProto.FromString(
        TensorProto(name="twice", dims=[4], data_type=TensorProto.INT8, raw_data=b"12").SerializeToString()
        + TensorProto(raw_data=b"1234").SerializeToString()
    )
    return [large, typed, empty, twice]


def model(weights):
    nodes = [NodeProto(op_type="Identity", input=["x"], output=["y"])]
    ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])] for name in "xy"]
    return helper.make_model(helper.make_graph(nodes, "g", *ports, weights), ir_version=10)


def as_protobuf_has_them(message):
    weights = {(INITIALIZER, place): tensor for place, tensor in enumerate(message.graph.initializer)}
    return {place: len(tensor.raw_data) for place, tensor in weights.items() if tensor.HasField("raw_data")}


def test_sizes_are_those_that_protobuf_has():
    message = model(tensors())
    expected = {(INITIALIZER, 0): 4_400_000, (INITIALIZER, 2): 0, (INITIALIZER, 3): 4}
    assert raw_sizes(memoryview(message.SerializeToString())) == as_protobuf_has_them(message) == expected


def test_large_constants_are_found_in_their_nodes():
    """Small ones are not looked for, nor those of a node that holds several."""
    large, typed, empty, _ = tensors()
    nodes = [helper.make_node("Constant", [], [name], value=held) for name, held in (("a", large), ("b", empty))]
    nodes.append(helper.make_node("Two", [], ["c"], domain="custom", first=large, second=large))
    nodes.append(helper.make_node("One", [], ["d"], domain="custom", before=1, value=large, after=[2.0]))
    nodes.append(helper.make_node("Constant", [], ["e"], value=helper.make_tensor("long", 1, [2000], [1.5] * 2000)))
    message = model([typed, large])
    message.graph.node.extend(nodes)
    expected = {(INITIALIZER, 1): 4_400_000, (NODE, 1): 4_400_000, (NODE, 4): 4_400_000}
    assert raw_sizes(memoryview(message.SerializeToString())) == expected


def test_a_graph_in_two_parts_is_one():
    parts = (
        model(tensors()[:1]).SerializeToString()
        + ModelProto(graph=GraphProto(initializer=tensors()[1:])).SerializeToString()
    )
    assert raw_sizes(memoryview(parts)) == as_protobuf_has_them(ModelProto.FromString(parts))


def test_the_last_data_count():
    first = TensorProto(name="w", dims=[4], data_type=TensorProto.INT8, raw_data=b"12").SerializeToString()
    whole = first + TensorProto(raw_data=b"1234").SerializeToString()
    graph = b"\x2a" + bytes([len(whole)]) + whole
    text = b"\x3a" + bytes([len(graph)]) + graph
    assert raw_sizes(memoryview(text)) == as_protobuf_has_them(ModelProto.FromString(text)) == {(INITIALIZER, 0): 4}


def test_behind_a_group_nothing_is_known():
    text = GROUP + model(tensors()).SerializeToString()
    assert len(ModelProto.FromString(text).graph.initializer) == 4
    assert raw_sizes(memoryview(text)) == {}
    assert model_from(text).graph.initializers[0].tensor.nbytes == 4_400_000


@pytest.mark.parametrize("before", [b"", GROUP])
@pytest.mark.parametrize("change", [-4, 4])
def test_a_large_weight_of_another_size_is_a_damaged_file(before, change):
    message = model(tensors())
    large = message.graph.initializer[0]
    large.raw_data = bytes(len(large.raw_data) + change)
    with pytest.raises(UserError, match=f"takes 4400000 bytes; it has {4_400_000 + change}: a damaged file"):
        model_from(before + message.SerializeToString())


@pytest.mark.parametrize("change", [-4, 4])
def test_so_is_a_large_constant_of_another_size(change):
    message = model([])
    node = helper.make_node("Constant", [], ["c"], value=tensors()[0])
    node.attribute[0].t.raw_data = bytes(4_400_000 + change)
    message.graph.node.append(node)
    with pytest.raises(UserError, match=f"takes 4400000 bytes; it has {4_400_000 + change}: a damaged file"):
        model_from(message.SerializeToString())
