"""Lowering and emission: what no pass touched comes out as it went in, and bad input is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxpress.errors import UserError
from onnxpress.ir import ExternalTensor, Rewriter, emit, lower, strip_weights, tensor
from onnxpress.ir.proto import file_size
from onnxpress.specs import model_of, models


def data_of(proto: ModelProto) -> bytes:
    return proto.SerializeToString(deterministic=True)


@given(models(impure=True))
def test_an_untouched_model_comes_out_byte_for_byte(proto: ModelProto) -> None:
    before = data_of(proto)
    model = lower(proto)
    assert data_of(emit(model)) == before
    assert file_size(model) == len(before)
    assert data_of(proto) == before


@given(models(impure=True, large=True))
def test_stripped_models_differ_in_their_weights_alone(proto: ModelProto) -> None:
    stripped = emit(lower(proto), strip_weights(keep=64))
    assert all(len(t.raw_data) <= 64 for t in stripped.graph.initializer)
    assert [t.dims for t in stripped.graph.initializer] == [t.dims for t in proto.graph.initializer]
    assert [n.op_type for n in stripped.graph.node] == [n.op_type for n in proto.graph.node]
    assert stripped.graph.input == proto.graph.input


def test_everything_else_that_a_file_says_survives_an_edit() -> None:
    proto = model_of("g (float[2] x) => (float[2] y) { a = Neg(x) y = Abs(a) }")
    proto.producer_name, proto.doc_string, proto.domain, proto.model_version = "maker", "words", "org.example", 7
    proto.metadata_props.add(key="k", value="v")
    proto.graph.doc_string = "a graph"
    proto.graph.metadata_props.add(key="g", value="h")
    proto.graph.node[1].doc_string = "a node"
    proto.graph.node[1].metadata_props.add(key="n", value="m")
    proto.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [2]))
    proto.graph.quantization_annotation.add(tensor_name="a")
    proto.graph.quantization_annotation.add(tensor_name="y")
    model = lower(proto)
    rewriter = Rewriter(model)
    neg, _ = model.graph.nodes
    rewriter.replace(neg.outputs[0], model.graph.inputs[0])
    rewriter.erase(neg)
    after = emit(model)
    expected = ModelProto()
    expected.CopyFrom(proto)
    del expected.graph.node[0]
    expected.graph.node[0].input[0] = "x"
    del expected.graph.value_info[:]
    del expected.graph.quantization_annotation[0]
    assert after == expected


def test_fields_of_a_newer_format_survive() -> None:
    future = b"\xfa\x3e\x03new"  # field 1007, of bytes
    proto = model_of("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    for message in (proto, proto.graph, proto.graph.node[0]):
        message.MergeFromString(future)
    model = lower(proto)
    Rewriter(model).set_attribute(next(model.graph.nodes), "extra", 1)
    assert data_of(emit(model)).count(b"new") == 3


def test_opset_imports_keep_their_order_and_spelling() -> None:
    proto = model_of("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    del proto.opset_import[:]
    proto.opset_import.extend([helper.make_opsetid("other", 2), helper.make_opsetid("ai.onnx", 17)])
    model = lower(proto)
    assert dict(model.opset) == {"other": 2, "": 17}
    rewriter = Rewriter(model)
    rewriter.set_opset(model, "", 18)
    rewriter.set_opset(model, "new", 1)
    assert [(o.domain, o.version) for o in emit(model).opset_import] == [("other", 2), ("ai.onnx", 18), ("new", 1)]


def test_constants_that_a_pass_made_are_written_as_raw_data() -> None:
    model = lower(model_of("g (float[2] x) => (float[2] y) { y = Neg(x) }"))
    value = Rewriter(model).constant(model.graph, tensor(np.float32([1, 2])), "w")
    (made,) = emit(model).graph.initializer
    assert made == numpy_helper.from_array(np.float32([1, 2]), "w")
    assert value.const is not None
    assert file_size(model) == emit(model).ByteSize()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("g (float x) => (float y) { y = Neg(z) }", "node 'Neg:y' reads 'z', which nothing defines"),
        ("g (float x) => (float y) { z = Neg(x) }", "the output 'y' of graph 'g' is defined by nothing"),
        ("g (float x) => (float y) { y = Neg(x) y = Abs(x) }", "'y' is defined twice in graph 'g', .* node 'Abs:y'"),
        ("g (float x, float x) => (float y) { y = Neg(x) }", "two inputs of graph 'g' are called 'x'"),
        ("g (float x) => (float y) <float w = {1}, float w = {2}> { y = Neg(x) }", "two initializers of graph 'g'"),
        (
            "g (float x) => (float y) { y = LeakyRelu <alpha = 1.0, alpha = 2.0> (x) }",
            "has the attribute 'alpha' twice",
        ),
        (
            "g (float x) => (float y) { y = local.f(x) } "
            '<domain: "local", opset_import: ["" : 17]> f (a) => (b) { c = Neg(a) }',
            "the output 'b' of function local.f is defined by nothing",
        ),
    ],
)
def test_names_that_do_not_resolve_are_one_clear_error(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        lower(model_of(text))
    assert "\n" not in str(caught.value)


# ---- external data


def external_model(folder: Path, **entries: object) -> ModelProto:
    proto = model_of("g (float[2] x) => (float[2] y) <float[2] w = {0, 0}> { y = Add(x, w) }")
    (held,) = proto.graph.initializer
    held.CopyFrom(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL))
    for key, value in ({"location": "w.bin", "offset": 4, "length": 8} | entries).items():
        held.external_data.add(key=key, value=str(value))
    (folder / "w.bin").write_bytes(np.float32([9, 1, 2]).tobytes())
    return proto


def test_external_data_are_read_where_they_lie_and_stay_there(tmp_path: Path) -> None:
    proto = external_model(tmp_path)
    model = lower(proto, tmp_path / "m.onnx")
    (value,) = model.graph.initializers
    assert isinstance(value.const, ExternalTensor)
    assert value.const.numpy().tolist() == [1, 2]
    assert not value.const.numpy().flags.writeable
    assert emit(model) == proto
    assert file_size(model) == proto.ByteSize() + 8


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"offset": 8}, "bytes 8 to 16 are wanted, the file has 12"),
        ({"length": 4}, r"length 4 does not fit \[2\], which needs 8 bytes"),
        ({"offset": "four"}, "offset 'four' is no number"),
        ({"location": "other.bin"}, "there is no such file"),
        ({"location": "../w.bin"}, "lies outside the model's folder"),
        ({"location": ""}, "no location is given"),
    ],
)
def test_external_data_that_are_not_there_are_one_clear_error(
    tmp_path: Path, entries: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        lower(external_model(tmp_path, **entries), tmp_path / "m.onnx")
    assert str(caught.value).startswith("tensor 'w': external data ")


def test_external_data_need_the_file_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="load it from its file"):
        lower(external_model(tmp_path))


_NOTES = {
    "in UTF-8": b"\x62\x05clear",
    "in no UTF-8": b"\x62\x04\xff\xfe\xfd\xfc",
    "of a newer format": b"\xfa\x3e\x03new",
}
"""Fields of a TensorProto as they lie in a file: two doc strings, and field 1007, which is not known."""


@pytest.mark.parametrize("note", _NOTES.values(), ids=_NOTES)
@pytest.mark.parametrize("elements", [1 << 14, (1 << 14) - 1, 1 << 19])
def test_a_weight_of_any_size_weighs_what_its_message_does(elements: int, note: bytes) -> None:
    weight = numpy_helper.from_array(np.zeros(elements, np.float32), "w")
    weight.metadata_props.add(key="source", value="drawn")
    weight.MergeFromString(note)
    graph = helper.make_graph([helper.make_node("Neg", ["w"], ["y"])], "g", [], [], [weight])
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [elements]))
    proto = helper.make_model(graph)
    assert file_size(lower(proto)) == proto.ByteSize()
