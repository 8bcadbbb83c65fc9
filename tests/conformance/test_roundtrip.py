"""Lowering and emission lose nothing: every model of onnx's backend tests comes back byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, TensorProto, numpy_helper

import onnxpress
from onnxpress.ir import emit, lower, verify
from onnxpress.ir.proto import file_size
from onnxpress.ir.text import parse, print_model

from ..messages import without_defaults


def serialized(model: ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def test_it_comes_back(any_case: Any) -> None:
    """Byte for byte through the IR and an empty pipeline, and as an equal message through the full text."""
    proto = any_case.load()
    before = serialized(proto)
    model = lower(proto, any_case.path)
    verify(model)
    onnxpress.PassManager("", measure=False).run(model)
    assert serialized(emit(model)) == before
    assert file_size(model) == len(before)
    again = parse(print_model(model, full=True), weights=model)
    assert without_defaults(emit(again)) == without_defaults(proto)


def test_external_data_come_back(case_with_weights: Any, tmp_path: Path) -> None:
    """The message is the same, and so are the bytes that it refers to, also once it is saved elsewhere."""
    source, target = tmp_path / "source" / "model.onnx", tmp_path / "target" / "model.onnx"
    source.parent.mkdir()
    target.parent.mkdir()
    weights = {dense.name: numpy_helper.to_array(dense) for dense in case_with_weights.load().graph.initializer}
    source.write_bytes(serialized(with_external_data(case_with_weights.load(), source.with_suffix(".data"))))
    reference = onnx.load(source, load_external_data=False)
    model = onnxpress.load(source)
    assert serialized(emit(model)) == serialized(reference)
    for value in model.graph.initializers:
        assert value.tensor is not None
        assert value.tensor.numpy().tobytes() == weights[value.name].tobytes()
    onnxpress.save(model, target, external_above=0)
    assert serialized(onnx.load(target)) == serialized(onnx.load(source))
    references = onnx.load(target, load_external_data=False).graph.initializer
    assert all(dense.data_location == TensorProto.EXTERNAL for dense in references if weights[dense.name].nbytes)


def with_external_data(proto: ModelProto, path: Path) -> ModelProto:
    """A copy whose initializers lie in the file `path`, with gaps between them."""
    model = ModelProto()
    model.CopyFrom(proto)
    with path.open("wb") as file:
        for dense in model.graph.initializer:
            data = numpy_helper.from_array(numpy_helper.to_array(dense)).raw_data
            file.write(b"gap")
            entries = {"location": path.name, "offset": str(file.tell()), "length": str(len(data))}
            file.write(data)
            dense.CopyFrom(
                TensorProto(
                    name=dense.name, dims=dense.dims, data_type=dense.data_type, data_location=TensorProto.EXTERNAL
                )
            )
            for key, text in entries.items():
                dense.external_data.add(key=key, value=text)
    return model
