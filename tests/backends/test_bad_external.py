"""External data that are missing, too short, elsewhere or damaged: always one line of UserError."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from onnxpress.backends.files import load_model
from onnxpress.errors import UserError

from .files import complaint

External = Callable[..., Path]
FLOAT = TensorProto.FLOAT


def test_sound_external_data(external: External) -> None:
    model = load_model(external())
    assert [value.name for value in model.graph.initializers] == ["first", "second"]


@pytest.mark.parametrize(
    ("location", "length", "words"),
    [
        ("none.bin", None, "there is no such file"),
        ("w.bin", 30_000, "bytes 16064 to 32064 are wanted, the file has 30000"),
        ("../outside.bin", None, "outside the model's folder"),
        ("sub/../../outside.bin", None, "outside the model's folder"),
        ("/etc/hostname", None, "outside the model's folder"),
        ("link.bin", None, "outside the model's folder"),
        ("linked/outside.bin", None, "outside the model's folder"),
        ("loop.bin", None, "external data 'loop.bin'"),
        ("", None, "no location"),
        (".", None, "there is no such file"),
        ("x" * 300, None, "external data"),
        ("a\0b", None, "external data"),
    ],
)
def test_external_data_that_cannot_be_used(
    external: External, tmp_path: Path, location: str, length: int | None, words: str
) -> None:
    path = external(location=location, length=length)
    (tmp_path / "outside.bin").write_bytes(bytes(40_000))
    (path.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    (path.parent / "linked").symlink_to(tmp_path)
    (path.parent / "loop.bin").symlink_to("loop.bin")
    assert words in complaint(path)


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("offset", "many", "no number"),
        ("offset", "-16", "bytes -16 to"),
        ("offset", str(2**70), "are wanted"),
        ("length", "15996", "length 15996 does not fit [4000], which needs 16000 bytes"),
        ("length", "1.5", "no number"),
    ],
)
def test_external_data_with_wrong_numbers(external: External, entry: str, value: str, words: str) -> None:
    path = external()
    proto = onnx.load(path, load_external_data=False)
    next(e for e in proto.graph.initializer[0].external_data if e.key == entry).value = value
    path.write_bytes(proto.SerializeToString())
    assert words in complaint(path)


@pytest.mark.parametrize("dtype", [TensorProto.STRING, TensorProto.UNDEFINED, 77])
def test_external_data_of_impossible_types(external: External, dtype: int) -> None:
    path = external()
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].data_type = dtype
    path.write_bytes(proto.SerializeToString())
    assert "initializer 'first'" in complaint(path)


@given(st.integers(0, 400), st.integers(0, 255))
def test_damaged_bytes_of_a_model_with_external_data(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "w.bin").write_bytes(bytes(64))
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.bin"), ("offset", "16"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    ports = [helper.make_tensor_value_info(name, FLOAT, [4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [tensor])
    content = bytearray(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )
    content[position % len(content)] = byte
    (folder / "m.onnx").write_bytes(content)
    try:
        words = str(load_model(folder / "m.onnx").path)
    except UserError as error:
        words = str(error)
    assert words.startswith(f"{folder / 'm.onnx'}")
    assert "\n" not in words
