"""Reading models: whatever is wrong with a file ends in one line that names the file, the fault and the way out."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError
from onnx import ModelProto

from ..errors import UserError, VerifyError
from ..ir import Model, lower, verify
from .soundness import check_graphs, check_message
from .wire import Place, raw_sizes

_T = TypeVar("_T")
PROTOBUF_LIMIT = 2**31 - 1
"""Bytes that a protobuf message can take at most."""
_LARGE = 1 << 22
"""Bytes of a message from which on it takes less time to find the sizes of its weights than to copy them."""
_NO_MODEL = "not an ONNX model, or a damaged one"
_MAGIC = {
    b"version https://git-lfs": "a Git LFS pointer, not the model itself: fetch it with `git lfs pull`",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
}


def load_model(path: str | os.PathLike[str]) -> Model:
    """The model in a file; its external data stay there until they are asked for.

    Raises UserError if the file cannot be read or holds no sound ONNX model.
    """
    where = Path(path)
    return _named(str(where), lambda: _model(*_read(where), where))


def model_from(source: str | os.PathLike[str] | bytes | ModelProto) -> Model:
    """A model from a path, the bytes of a file, or a message (which must not be changed afterwards).

    Raises UserError as `load_model` does.
    """
    if isinstance(source, ModelProto):
        return _named("the given ModelProto", lambda: _model(source, {}, None))
    if isinstance(source, bytes):
        return _named("the given bytes", lambda: _model(*_parse(memoryview(source)), None))
    return load_model(source)


def parse_file(path: Path) -> ModelProto:
    """The message in a file, not checked beyond its encoding. Raises UserError."""
    return _named(str(path), lambda: _read(path)[0])


def _named(name: str, work: Callable[[], _T]) -> _T:
    """What `work` returns; its complaints begin with `name`."""
    try:
        return work()
    except (UserError, VerifyError) as error:
        raise UserError(f"{name}: {error}") from error


def _model(proto: ModelProto, sizes: Mapping[Place, int], path: Path | None) -> Model:
    externals = check_message(proto, sizes)
    model = lower(proto, path)
    model.externals = externals
    check_graphs(model)
    verify(model)
    return model


def _read(path: Path) -> tuple[ModelProto, Mapping[Place, int]]:
    size = _size_of(path)
    if size == 0:
        raise UserError("the file is empty")
    if size > PROTOBUF_LIMIT:
        raise UserError(f"{size} bytes: an ONNX file holds at most 2 GiB, larger models keep weights in external data")
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as data,
        ):
            return _parse(data)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from error


def _size_of(path: Path) -> int:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError("there is no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise UserError("is a folder; give the .onnx file in it")
    if not stat.S_ISREG(status.st_mode):
        raise UserError("is no regular file")
    return status.st_size


def _parse(data: memoryview) -> tuple[ModelProto, Mapping[Place, int]]:
    """The message, and the bytes of `raw_data` in its main graph, if it is worth finding them."""
    try:
        proto: ModelProto = ModelProto.FromString(data)
    except DecodeError:
        raise UserError(_kind_of(bytes(data[:1024]))) from None
    if not proto.HasField("graph"):
        raise UserError(_kind_of(bytes(data[:1024])))
    return proto, raw_sizes(data) if len(data) > _LARGE else {}


def _kind_of(head: bytes) -> str:
    """What a file that is no model seems to be, by its first bytes."""
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        text = head[: error.start].decode() if error.start > len(head) - 4 else "\0"
    if not all(letter.isprintable() or letter.isspace() for letter in text):
        return _NO_MODEL
    kinds = {"{": "JSON", "[": "JSON", "<": "HTML or XML"}
    return f"a text file ({kinds.get(text.lstrip()[:1], 'plain text')}), not an ONNX model"
