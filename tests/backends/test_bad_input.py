"""Files that are no sound model: always one line of UserError, or a model; never another exception."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from onnxpress.backends.files import model_from
from onnxpress.errors import UserError
from onnxpress.ir import emit

from .files import complaint

FLOAT = TensorProto.FLOAT


def loads_or_complains(content: bytes) -> None:
    """Either one line of complaint, or a model that is written back as protobuf itself would write it."""
    try:
        written = emit(model_from(content)).SerializeToString(deterministic=True)
    except UserError as error:
        words = str(error)
    else:
        assert written == ModelProto.FromString(content).SerializeToString(deterministic=True)
        return
    assert words.startswith("the given bytes: ")
    assert "\n" not in words


def small_model() -> ModelProto:
    """A body, a function, a Constant, a sparse and a dense weight, and descriptions, in 600 bytes."""
    body = helper.make_graph(
        [helper.make_node("Add", ["x", "b"], ["t"], name="inside")],
        "then",
        [],
        [helper.make_tensor_value_info("t", FLOAT, None)],
        [numpy_helper.from_array(np.ones(3, np.float32), "b")],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["e"])], "else", [], [helper.make_tensor_value_info("e", FLOAT, None)]
    )
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(np.ones(3, np.float32)))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function(
        "own", "F", ["x"], ["y"], [constant, helper.make_node("Add", ["x", "w"], ["y"])], imports
    )
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(2, np.float32), "sparse"), numpy_helper.from_array(np.array([0, 2]), ""), [3]
    )
    nodes = [
        helper.make_node("If", ["which"], ["y"], then_branch=body, else_branch=other),
        helper.make_node("F", ["y"], ["z"], domain="own"),
        helper.make_node("Add", ["z", "sparse"], ["out"], doc_string="a sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", FLOAT, ["n"])],
        [helper.make_tensor_value_info("out", FLOAT, None)],
        [numpy_helper.from_array(np.array(True), "which")],
        sparse_initializer=[sparse],
        value_info=[helper.make_tensor_value_info("y", FLOAT, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=imports, functions=[function], ir_version=9, producer_name="tests")
    helper.set_model_props(model, {"key": "value"})
    return model


SMALL = small_model()
BYTES = SMALL.SerializeToString()


# ---- files that are something else


def test_missing_and_strange_files(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(2**31)
    cases = {
        tmp_path: "is a folder",
        tmp_path / "none.onnx": "there is no such file",
        tmp_path / "empty.onnx" / "m.onnx": "there is no such file",
        tmp_path / "empty.onnx": "the file is empty",
        tmp_path / "pipe.onnx": "is no regular file",
        tmp_path / "loop.onnx": "cannot be read",
        tmp_path / ("x" * 300): "cannot be read",
        tmp_path / "a\0b": "cannot be read",
        tmp_path / "huge.onnx": "holds at most 2 GiB",
    }
    for path, words in cases.items():
        assert words in complaint(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read any file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(BYTES)
    path.chmod(0)
    assert "Permission denied" in complaint(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
        (b'{"model": 1}', "a text file (JSON)"),
        (b"<!DOCTYPE html><html>404</html>", "a text file (HTML or XML)"),
        ("Straße ".encode() * 400, "a text file (plain text)"),
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
        (b"\x1f\x8b" + bytes(100), "gzip"),
        (bytes(1000), "not an ONNX model"),
        (np.random.default_rng(0).bytes(5000), "not an ONNX model"),
        (b"\x08\x07", "not an ONNX model"),
    ],
)
def test_other_kinds_of_files(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert words in complaint(path)


def test_every_truncation() -> None:
    for length in range(len(BYTES)):
        loads_or_complains(BYTES[:length])


def test_truncations_of_real_models(real: Path) -> None:
    content = real.read_bytes()
    for length in np.random.default_rng(0).integers(0, len(content), 12):
        loads_or_complains(content[:length])


@given(st.lists(st.tuples(st.integers(0, len(BYTES) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@example([(BYTES.index(b"tests"), 0xFF)])
@example([(BYTES.index(b"a sum"), 0xFF)])
def test_damaged_bytes(changes: list[tuple[int, int]]) -> None:
    content = bytearray(BYTES)
    for position, byte in changes:
        content[position] = byte
    loads_or_complains(bytes(content))


@given(st.integers(0, len(BYTES)), st.integers(0, len(BYTES)), st.binary(max_size=8))
def test_cut_and_pasted_bytes(begin: int, end: int, between: bytes) -> None:
    loads_or_complains(BYTES[:begin] + between + BYTES[end:])


# ---- messages that are no sound model


def then_branch(m: ModelProto) -> AttributeProto:
    return next(attribute for attribute in m.graph.node[0].attribute if attribute.name == "then_branch")


def no_opset(m: ModelProto) -> None:
    m.ClearField("opset_import")


def no_ir_version(m: ModelProto) -> None:
    m.ClearField("ir_version")


def late_ir_version(m: ModelProto) -> None:
    m.ir_version = 99


def late_opset(m: ModelProto) -> None:
    m.opset_import[0].version = 999


def opset_zero(m: ModelProto) -> None:
    m.opset_import[0].version = 0


def other_domain(m: ModelProto) -> None:
    m.opset_import[0].domain = "com.elsewhere"


def two_opsets(m: ModelProto) -> None:
    m.opset_import.add(domain="ai.onnx", version=16)


def function_without_opset(m: ModelProto) -> None:
    m.functions[0].ClearField("opset_import")


def same_function_twice(m: ModelProto) -> None:
    m.functions.append(m.functions[0])


def function_in_a_circle(m: ModelProto) -> None:
    m.functions[0].node.add(op_type="F", domain="own", input=["y"], output=["again"])


def negative_size(m: ModelProto) -> None:
    then_branch(m).g.initializer[0].dims[0] = -3


def unknown_type(m: ModelProto) -> None:
    m.graph.initializer[0].data_type = 77


def too_few_bytes(m: ModelProto) -> None:
    then_branch(m).g.initializer[0].raw_data = bytes(11)


def too_few_bytes_in_a_function(m: ModelProto) -> None:
    m.functions[0].node[0].attribute[0].t.raw_data = bytes(16)


def too_many_numbers(m: ModelProto) -> None:
    m.graph.initializer[0].ClearField("raw_data")
    m.graph.initializer[0].int32_data.extend([1, 1])


def raw_and_typed(m: ModelProto) -> None:
    m.graph.initializer[0].int32_data.append(1)


def no_data(m: ModelProto) -> None:
    m.graph.initializer[0].ClearField("raw_data")


def raw_strings(m: ModelProto) -> None:
    m.graph.initializer[0].data_type = TensorProto.STRING


def segments(m: ModelProto) -> None:
    m.graph.initializer[0].segment.begin = 0


def sparse_index_outside(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].indices.raw_data = np.array([0, 3]).tobytes()


def sparse_of_other_length(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "sparse"))


def sparse_external(m: ModelProto) -> None:
    m.graph.sparse_initializer[0].values.data_location = TensorProto.EXTERNAL


def external_without_a_folder(m: ModelProto) -> None:
    m.graph.initializer[0].data_location = TensorProto.EXTERNAL
    m.graph.initializer[0].external_data.add(key="location", value="w.bin")


def attribute_without_type(m: ModelProto) -> None:
    then_branch(m).ClearField("type")


def attribute_without_graph(m: ModelProto) -> None:
    then_branch(m).ClearField("g")


def attribute_of_other_type(m: ModelProto) -> None:
    then_branch(m).type = AttributeProto.TENSOR


def unsorted_nodes(m: ModelProto) -> None:
    first = onnx.NodeProto()
    first.CopyFrom(m.graph.node[0])
    del m.graph.node[0]
    m.graph.node.append(first)


def a_circle(m: ModelProto) -> None:
    then_branch(m).g.node[0].input[1] = "out"


def unknown_name(m: ModelProto) -> None:
    m.graph.node[1].input[0] = "nowhere"


def name_twice(m: ModelProto) -> None:
    m.graph.node[2].output[0] = "z"


def unknown_output(m: ModelProto) -> None:
    m.graph.output[0].name = "nowhere"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_opset, "imports no operator set"),
        (no_ir_version, "no graph or no IR version"),
        (late_ir_version, "IR version 99 is newer than onnx"),
        (late_opset, "ai.onnx in version 999, but onnx"),
        (opset_zero, "ai.onnx in version 0"),
        (other_domain, "is of domain ai.onnx, which opset_import lacks (it has com.elsewhere 17, own 1)"),
        (two_opsets, "ai.onnx in two versions, 17 and 16"),
        (function_without_opset, "imports no operator set"),
        (same_function_twice, "the function own.F twice"),
        (function_in_a_circle, "call each other in a circle, which ONNX does not allow: own.F -> own.F"),
        (negative_size, "initializer 'b' has the impossible shape [-3]"),
        (unknown_type, "initializer 'which' has the unknown element type 77"),
        (too_few_bytes, "initializer 'b' is float [3], which takes 12 bytes; it has 11"),
        (too_few_bytes_in_a_function, "attribute 'value' of node 'Constant:w' is float [3]"),
        (too_many_numbers, "is bool [], which takes 1 entries of int32_data; it has 2"),
        (raw_and_typed, "holds both raw data and int32_data"),
        (no_data, "which takes 1 entries of int32_data; it has 0"),
        (raw_strings, "holds strings as raw data"),
        (segments, "is stored in segments"),
        (sparse_index_outside, "sparse initializer 'sparse' has indices outside its shape [3]"),
        (sparse_of_other_length, "has indices of shape [2] for 1 values"),
        (sparse_external, "is sparse and has external data"),
        (external_without_a_folder, "the model has no folder to look in"),
        (attribute_without_type, "attribute 'then_branch' of node 'If:y' does not hold what its type says"),
        (attribute_without_graph, "does not hold what its type says"),
        (attribute_of_other_type, "does not hold what its type says"),
        (unsorted_nodes, "'y' is not defined before it is read"),
        (a_circle, "'out' is not defined before it is read"),
        (unknown_name, "reads 'nowhere', which nothing defines"),
        (name_twice, "'z' is defined twice"),
        (unknown_output, "the output 'nowhere'"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_unsound_messages(tmp_path: Path, damage: Callable[[ModelProto], None], words: str) -> None:
    proto = ModelProto()
    proto.CopyFrom(SMALL)
    damage(proto)
    if damage is external_without_a_folder:
        with pytest.raises(UserError, match=words):
            model_from(proto)
        return
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert words in complaint(path)
