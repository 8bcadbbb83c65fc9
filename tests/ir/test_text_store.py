"""Where the text form gets large tensors from: a model, a folder, files of external data."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxpress.errors import UserError
from onnxpress.ir import Model, emit, lower
from onnxpress.ir.text import TextError, parse, print_model, save_weights


def linear(weight: TensorProto) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="layer")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weights_of(model: Model) -> list[TensorProto]:
    return list(emit(model).graph.initializer)


WEIGHT = onnx.numpy_helper.from_array(np.arange(100, dtype=np.float32).reshape(10, 10), "w")


def test_weights_from_a_folder(tmp_path: Path) -> None:
    model = lower(linear(WEIGHT))
    save_weights(model, tmp_path / "weights")
    text = print_model(model, full=True)
    assert weights_of(parse(text, weights=tmp_path / "weights")) == weights_of(model)
    assert len(list((tmp_path / "weights").iterdir())) == 1


def test_a_missing_weight_is_named() -> None:
    text = print_model(lower(linear(WEIGHT)), full=True)
    digest = re.search(r"sha256:\w+", text)
    assert digest
    for weights in (None, parse("graph g {}"), "no/such/folder"):
        with pytest.raises(TextError, match=f"hold no tensor {digest.group()}"):
            parse(text, weights=weights)


def test_a_weight_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    model = lower(linear(WEIGHT))
    save_weights(model, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match="does not hold the tensor that its name says"):
        parse(print_model(model, full=True), weights=tmp_path)
    file.write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match="cannot be read as a tensor"):
        parse(print_model(model, full=True), weights=tmp_path)


def test_a_weight_of_another_shape_is_refused() -> None:
    model = lower(linear(WEIGHT))
    text = print_model(model, full=True).replace("f32[10,10]", "f32[100]")
    with pytest.raises(TextError, match=r"the tensor of this digest is f32\[10, 10\]"):
        parse(text, weights=model)


def test_weights_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="weights cannot be written to"):
        save_weights(lower(linear(WEIGHT)), tmp_path / "file")


def test_the_way_a_weight_is_stored_is_kept() -> None:
    stored = helper.make_tensor("w", TensorProto.FLOAT, [10, 10], np.arange(100.0))
    model, other = lower(linear(stored)), lower(linear(WEIGHT))
    text = print_model(model, full=True)
    assert "= f32[10,10] float_data sha256:" in text
    assert weights_of(parse(text, weights=model)) == weights_of(model)
    with pytest.raises(TextError, match="hold no tensor"):
        parse(text, weights=other)


def test_external_data_stay_references(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.raw_data)
    proto = TensorProto(name="w", dims=[10, 10], data_type=1, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.bin"), ("offset", "0"), ("checksum", "?")):
        proto.external_data.add(key=key, value=value)
    path = tmp_path / "model.onnx"
    model = lower(linear(proto), path)
    text = print_model(model, full=True)
    assert 'external {"location" = "w.bin" "offset" = "0" "checksum" = "?"}' in text
    for back in (parse(text, weights=model), parse(text, path=path)):
        assert weights_of(back) == weights_of(model)
        assert back.graph.initializers[0].tensor.digest() == lower(linear(WEIGHT)).graph.initializers[0].tensor.digest()
