"""Writing models: same bytes, atomic, external data by digest, nothing left behind."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx import ModelProto, TensorProto, numpy_helper

from onnxpress.backends.files import check_writable, load_model, model_from, save_model
from onnxpress.backends.skeleton import Skeleton
from onnxpress.errors import UserError
from onnxpress.ir import DerivedTensor, Model, Rewriter, Tensor, emit, tensor
from onnxpress.ir.proto import file_size
from onnxpress.specs import models

from .files import arrays, change, names

External = Callable[..., Path]


def plain_bytes(path: Path) -> bytes:
    return onnx.load(path, load_external_data=False).SerializeToString(deterministic=True)


def half(model: Model, name: str) -> DerivedTensor:
    """A weight of a model in float16, computed when it is asked for."""
    source = next(value.tensor for value in model.graph.initializers if value.name == name)
    assert source is not None
    return DerivedTensor("half", lambda a: a.astype(np.float16), (source,), TensorProto.FLOAT16, source.shape)


# ---- the bytes


@given(models())
def test_pieces_are_what_protobuf_would_serialise(proto: ModelProto) -> None:
    model = model_from(proto)
    pieces = Skeleton(model).pieces()
    text = b"".join(pieces.blocks())
    assert text == emit(model).SerializeToString(deterministic=True)
    assert pieces.nbytes == len(text) == file_size(model)


def test_pieces_of_weights_everywhere(everywhere: ModelProto) -> None:
    model = model_from(everywhere)
    pieces = Skeleton(model).pieces()
    assert sum(isinstance(part, Tensor) for part in pieces.parts) == 5
    assert b"".join(pieces.blocks()) == everywhere.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(2000, dtype=np.float32),
        np.arange(4000, dtype=np.int64).reshape(2000, 2)[:, 1],
        np.arange(6000).reshape(60, 100).T.astype(np.int16, order="F"),
        np.zeros((3, 0, 2000), np.float64),
        np.arange(3001).astype("int4"),
        np.linspace(0, 1, 999).astype("bfloat16"),
        np.array(["a", "ü" * 2000], dtype=object),
        np.array(2.5),
    ],
    ids=lambda a: f"{a.dtype.str}{list(a.shape)}",
)
def test_made_weights_have_the_bytes_that_onnx_gives_them(array: np.ndarray, everywhere: ModelProto) -> None:
    model = model_from(everywhere)
    change(model, "main", tensor(array))
    pieces = Skeleton(model).pieces()
    text = b"".join(pieces.blocks())
    assert text == emit(model).SerializeToString(deterministic=True)
    assert len(text) == pieces.nbytes == file_size(model)
    assert np.array_equal(numpy_helper.to_array(ModelProto.FromString(text).graph.initializer[0]), array)


def test_typed_data_stay_typed(tmp_path: Path, everywhere: ModelProto) -> None:
    typed = everywhere.graph.initializer[0]
    values = numpy_helper.to_array(typed)
    typed.ClearField("raw_data")
    typed.float_data.extend(values)
    model = model_from(everywhere)
    save_model(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == everywhere.SerializeToString(deterministic=True)
    save_model(model, tmp_path / "e.onnx", external_above=0)
    assert not onnx.load(tmp_path / "e.onnx", load_external_data=False).graph.initializer[0].float_data
    assert np.array_equal(arrays(tmp_path / "e.onnx")["main"], values)


@pytest.mark.parametrize("rows", [4, 40, 4000])
def test_weights_that_say_that_they_are_inline_keep_saying_it(rows: int) -> None:
    """Some tools set the field to its default: two bytes for every weight, in all sizes that are treated apart."""
    weight = numpy_helper.from_array(np.zeros((rows, 16), np.float32), "w")
    weight.data_location = TensorProto.DEFAULT
    x = onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", rows])
    y = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16])
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    model = model_from(proto)
    pieces = Skeleton(model).pieces()
    assert b"".join(pieces.blocks()) == proto.SerializeToString(deterministic=True)
    assert pieces.nbytes == file_size(model)


# ---- files


def test_real_models_keep_their_bytes(real: Path, tmp_path: Path) -> None:
    model = load_model(real)
    saved = save_model(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == plain_bytes(real)
    assert names(tmp_path) == {"m.onnx"}
    assert saved.bytes_onnx == (tmp_path / "m.onnx").stat().st_size == file_size(model)
    assert saved.bytes_data == 0


def test_real_models_with_external_data(real: Path, tmp_path: Path) -> None:
    saved = save_model(load_model(real), tmp_path / "m.onnx", external_above=0)
    assert saved.bytes_onnx + saved.bytes_data == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert saved.bytes_data > saved.bytes_onnx
    back = onnx.load(tmp_path / "m.onnx")
    for node in back.graph.node:
        del node.attribute[:]
    before = onnx.load(real)
    for one, other in zip(before.graph.initializer, back.graph.initializer, strict=True):
        assert one.name == other.name
        assert numpy_helper.to_array(one).tobytes() == numpy_helper.to_array(other).tobytes()


def test_external_data_are_named_by_their_digest_and_aligned(tmp_path: Path, everywhere: ModelProto) -> None:
    model = model_from(everywhere)
    large = np.arange(1 << 18, dtype=np.float32)
    change(model, "main", tensor(large))
    saved = save_model(model, tmp_path / "net.v2.onnx", external_above=0)
    (data,) = saved.files[1:]
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    assert data.name == f"net.v2.{digest[:16]}.data"
    proto = onnx.load(saved.files[0], load_external_data=False)
    entries = {entry.key: entry.value for entry in proto.graph.initializer[0].external_data}
    assert int(entries["offset"]) % 4096 == 0
    offsets = [int(x) for x in re.findall(r'key: "offset"\s+value: "(\d+)"', str(proto))]
    assert len(offsets) == 5
    assert all(offset % 64 == 0 for offset in offsets)
    assert np.array_equal(arrays(saved.files[0])["main"], large)


def test_the_threshold_decides(tmp_path: Path, everywhere: ModelProto) -> None:
    model = model_from(everywhere)
    size = len(everywhere.SerializeToString())
    assert save_model(model, tmp_path / "m.onnx", external_above=size).bytes_data == 0
    assert save_model(model, tmp_path / "m.onnx", external_above=size - 1).bytes_data > 0
    with pytest.raises(UserError, match="external_above is -1"):
        save_model(model, tmp_path / "m.onnx", external_above=-1)


def test_a_shared_weight_is_written_once(tmp_path: Path, everywhere: ModelProto) -> None:
    model = model_from(everywhere)
    rewriter = Rewriter(model)
    shared = tensor(np.ones(10_000, np.float32))
    for name in ("a", "b"):
        rewriter.constant(model.graph, shared, name)
    saved = save_model(model, tmp_path / "m.onnx", external_above=0)
    assert 40_000 < saved.bytes_data < 60_000


def test_overwriting_removes_the_old_data_file_unless_another_model_needs_it(
    tmp_path: Path, everywhere: ModelProto
) -> None:
    model = model_from(everywhere)
    path = tmp_path / "m.onnx"
    (old,) = save_model(model, path, external_above=0).files[1:]
    (tmp_path / "m.0123456789abcdef.data").write_bytes(b"not of this model")
    change(model, "main", tensor(np.ones(400, np.float32)))
    twin = tmp_path / "twin.onnx"
    twin.write_bytes(path.read_bytes())
    (new,) = save_model(model, path, external_above=0).files[1:]
    assert names(tmp_path) == {"m.onnx", "twin.onnx", old.name, new.name, "m.0123456789abcdef.data"}
    twin.unlink()
    assert save_model(model, path).bytes_data == 0
    assert names(tmp_path) == {"m.onnx", old.name, "m.0123456789abcdef.data"}


def test_data_files_stay_while_a_model_beside_them_cannot_be_read(tmp_path: Path, everywhere: ModelProto) -> None:
    model = model_from(everywhere)
    (old,) = save_model(model, tmp_path / "m.onnx", external_above=0).files[1:]
    (tmp_path / "other.onnx").write_text("perhaps this needs it")
    save_model(model, tmp_path / "m.onnx")
    assert old.exists()


def test_writing_twice_changes_nothing(tmp_path: Path, everywhere: ModelProto) -> None:
    model = model_from(everywhere)
    first = save_model(model, tmp_path / "m.onnx", external_above=0)
    content = {path: path.read_bytes() for path in first.files}
    stamp = first.files[1].stat().st_mtime_ns
    assert save_model(model, tmp_path / "m.onnx", external_above=0) == first
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content
    assert first.files[1].stat().st_mtime_ns == stamp


def test_a_data_file_is_never_overwritten(tmp_path: Path, everywhere: ModelProto) -> None:
    model = model_from(everywhere)
    saved = save_model(model, tmp_path / "m.onnx", external_above=0)
    saved.files[1].write_bytes(b"somebody else's")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="its name is the digest of other content"):
        save_model(model, tmp_path / "m.onnx", external_above=0)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_permissions(tmp_path: Path, everywhere: ModelProto) -> None:
    path = tmp_path / "m.onnx"
    mask = os.umask(0o027)
    try:
        save_model(model_from(everywhere), path)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o604)
    save_model(model_from(everywhere), path)
    assert path.stat().st_mode & 0o777 == 0o604


# ---- models that came with external data


def test_untouched_external_data_are_taken_over_byte_for_byte(external: External, tmp_path: Path) -> None:
    source = external()
    model = load_model(source)
    assert emit(model).SerializeToString(deterministic=True) == plain_bytes(source)
    saved = save_model(model, tmp_path / "new.onnx")
    (data,) = saved.files[1:]
    assert re.fullmatch(r"new\.[0-9a-f]{16}\.data", data.name)
    assert data.read_bytes() == (source.parent / "w.bin").read_bytes()
    before, after = (onnx.load(path, load_external_data=False) for path in (source, tmp_path / "new.onnx"))
    for proto in after.graph.initializer:
        assert proto.external_data[0].value == data.name
        proto.external_data[0].value = "w.bin"
    assert after == before
    assert names(source.parent) == {"m.onnx", "w.bin"}


def test_in_place_untouched_changes_nothing(external: External) -> None:
    source = external()
    before = {path: path.read_bytes() for path in source.parent.iterdir()}
    saved = save_model(load_model(source), source, in_place=True)
    assert {path: path.read_bytes() for path in source.parent.iterdir()} == before
    assert saved.files == (source, source.parent / "w.bin")


def test_changed_external_data_are_laid_out_anew(external: External, tmp_path: Path) -> None:
    source = external()
    model = load_model(source)
    want = {"first": arrays(source)["first"].astype(np.float16), "second": arrays(source)["second"]}
    change(model, "first", half(model, "first"))
    saved = save_model(model, tmp_path / "new.onnx")
    assert saved.bytes_data == 16000 + 8000
    found = arrays(tmp_path / "new.onnx")
    assert all(np.array_equal(found[name], want[name]) and found[name].dtype == want[name].dtype for name in want)


def test_in_place_changes_leave_the_foreign_data_file_and_replace_the_own_one(external: External) -> None:
    source = external()
    want = arrays(source)
    model = load_model(source)
    change(model, "first", half(model, "first"))
    (first,) = save_model(model, source, in_place=True).files[1:]
    assert names(source.parent) == {"m.onnx", "w.bin", first.name}
    again = load_model(source)
    change(again, "second", half(again, "second"))
    (second,) = save_model(again, source, in_place=True).files[1:]
    assert names(source.parent) == {"m.onnx", "w.bin", second.name}
    assert all(np.array_equal(array, want[name].astype(np.float16)) for name, array in arrays(source).items())


def test_a_model_is_readable_after_its_data_file_was_replaced(external: External, tmp_path: Path) -> None:
    source = external()
    model = load_model(source)
    change(model, "first", half(model, "first"))
    save_model(model, source, in_place=True)
    model = load_model(source)
    change(model, "first", tensor(np.ones(4000, np.float32)))
    save_model(model, source, in_place=True)
    save_model(model, tmp_path / "copy.onnx")
    assert np.array_equal(arrays(tmp_path / "copy.onnx")["second"], arrays(source)["second"])


def test_training_information_keeps_its_external_data(external: External, tmp_path: Path) -> None:
    source = external()
    proto = onnx.load(source, load_external_data=False)
    proto.training_info.add().initialization.initializer.append(proto.graph.initializer[0])
    source.write_bytes(proto.SerializeToString())
    saved = save_model(load_model(source), tmp_path / "new.onnx")
    after = onnx.load(tmp_path / "new.onnx", load_external_data=False)
    reference = after.training_info[0].initialization.initializer[0].external_data[0]
    assert (reference.key, reference.value) == ("location", saved.files[1].name)


# ---- places that cannot be written to


def test_places_that_cannot_be_written_to(external: External, tmp_path: Path) -> None:
    source = external()
    model = load_model(source)
    (tmp_path / "link.onnx").symlink_to(source)
    (tmp_path / "folder.onnx").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "kept.onnx").touch(mode=0o444)
    cases = {
        tmp_path / "nowhere" / "m.onnx": "there is no folder",
        tmp_path / "folder.onnx": "is a folder",
        tmp_path / "pipe.onnx": "is no regular file",
        tmp_path / "kept.onnx": "is read-only",
        source: "is the model that was read",
        tmp_path / "link.onnx": "is the model that was read",
        source.parent / "w.bin": "holds external data of",
        f"{tmp_path}/new/": "names a folder",
        tmp_path / ("x" * 300): "File name too long",
        tmp_path / "a\0b.onnx": "null byte",
    }
    before = names(tmp_path)
    for path, words in cases.items():
        with pytest.raises(UserError, match=words) as caught:
            check_writable(path, model)
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match=words):
            save_model(model, path)
    assert names(tmp_path) == before
    check_writable(source, model, in_place=True)
    with pytest.raises(UserError, match="holds external data of"):
        check_writable(source.parent / "w.bin", model, in_place=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write to any folder")
def test_a_closed_folder(tmp_path: Path, everywhere: ModelProto) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="is not writable"):
            save_model(model_from(everywhere), tmp_path / "m.onnx")
    finally:
        tmp_path.chmod(0o700)
