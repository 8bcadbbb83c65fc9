"""References to external data: where they point, and whether they may."""

from __future__ import annotations

import math
import os
from pathlib import Path

from onnx import TensorProto

from ...errors import UserError
from ..dtypes import bits_of, name_of, packed_nbytes
from ..tensor import DataFile, ExternalTensor

Files = dict[Path, DataFile]
_KEPT = 256
"""Data files of a model whose mapping is kept: old exporters write one file a weight, and each takes a handle."""


def external_tensor(proto: TensorProto, folder: Path | None, files: Files | None = None) -> ExternalTensor:
    """The tensor that a reference stands for; the file must be inside `folder`, and long enough.

    `files` are the data files met so far, so that each is mapped once. Raises UserError if the file is missing, too
    short, not readable or outside the folder, links followed.
    """
    entries = {entry.key: entry.value for entry in proto.external_data}
    location = entries.get("location", "")
    where = f"tensor {proto.name!r}: external data {location!r}"
    if folder is None:
        raise UserError(f"{where}: the model has no folder to look in; load it from its file")
    if not location:
        raise UserError(f"{where}: no location is given")
    if not bits_of(proto.data_type):
        raise UserError(f"{where}: elements of type {name_of(proto.data_type)} cannot be external")
    if any(dim < 0 for dim in proto.dims):
        raise UserError(f"{where}: the shape {list(proto.dims)} is impossible")
    path = _inside(folder, location, where)
    files = {} if files is None else files
    if path not in files:
        files[path] = DataFile(path, keep=len(files) < _KEPT)
    offset, given = _number(entries, "offset", where), _number(entries, "length", where)
    length = packed_nbytes(proto.data_type, math.prod(proto.dims))
    if given is not None and given != length:
        raise UserError(f"{where}: length {given} does not fit {list(proto.dims)}, which needs {length} bytes")
    begin, size = offset or 0, files[path].size
    if begin < 0 or begin + length > size:
        raise UserError(f"{where}: bytes {begin} to {begin + length} are wanted, the file has {size}")
    return ExternalTensor(proto, files[path], begin, length)


def _number(entries: dict[str, str], key: str, where: str) -> int | None:
    try:
        return int(entries[key]) if entries.get(key) else None
    except ValueError as error:
        raise UserError(f"{where}: {key} {entries[key]!r} is no number") from error


def _inside(folder: Path, location: str, where: str) -> Path:
    try:
        root = folder.resolve()
        path = (root / location).resolve()
        there, readable = path.is_file(), os.access(path, os.R_OK)
    except (OSError, RuntimeError, ValueError) as error:  # too long, links in a circle, a zero byte
        raise UserError(f"{where}: this is no usable file name: {error}") from error
    if Path(location).is_absolute() or not path.is_relative_to(root):
        raise UserError(f"{where}: the file lies outside the model's folder, which is refused")
    if not there:
        raise UserError(f"{where}: there is no such file in {folder}")
    if not readable:
        raise UserError(f"{where}: the file cannot be read: permission denied")
    return path
