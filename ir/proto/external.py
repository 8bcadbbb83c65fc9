"""References to external data: where they point, and whether they may."""

from __future__ import annotations

import math
from pathlib import Path

from onnx import TensorProto

from ...errors import UserError
from ..dtypes import bits_of, name_of, packed_nbytes
from ..tensor import ExternalTensor


def external_tensor(proto: TensorProto, folder: Path | None) -> ExternalTensor:
    """The tensor that a reference stands for; the file must be inside `folder`, and long enough.

    Raises UserError if the file is missing, too short or outside the folder, links followed.
    """
    entries = {entry.key: entry.value for entry in proto.external_data}
    location = entries.get("location", "")
    where = f"tensor {proto.name!r}: external data {location!r}"
    if folder is None:
        raise UserError(f"{where}: the model has no folder to look in; load it from its file")
    if not location:
        raise UserError(f"{where}: no location is given")
    path = _inside(folder, location, where)
    try:
        offset = int(entries.get("offset", 0))
        given = int(entries["length"]) if "length" in entries else None
    except ValueError as error:
        raise UserError(f"{where}: offset or length is no number") from error
    size = path.stat().st_size
    if bits_of(proto.data_type) == 0 or any(dim < 0 for dim in proto.dims):
        raise UserError(f"{where}: elements of type {name_of(proto.data_type)}{list(proto.dims)} cannot lie in a file")
    length = packed_nbytes(proto.data_type, math.prod(proto.dims))
    if given is not None and given != length:
        raise UserError(f"{where}: length {given} does not fit {list(proto.dims)}, which needs {length} bytes")
    if offset < 0 or offset + length > size:
        raise UserError(f"{where}: bytes {offset} to {offset + length} are wanted, the file has {size}")
    return ExternalTensor(proto, path, offset, length)


def _inside(folder: Path, location: str, where: str) -> Path:
    root = folder.resolve()
    try:
        path = (root / location).resolve()
        found = path.is_file()
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: that is no name of a file: {error}") from error
    if Path(location).is_absolute() or not path.is_relative_to(root):
        raise UserError(f"{where}: the file lies outside the model's folder, which is refused")
    if not found:
        raise UserError(f"{where}: there is no such file in {folder}")
    return path
