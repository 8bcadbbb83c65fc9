"""What the text says of a large tensor: a digest of its data as they are stored, and where the data are found again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from onnx import TensorProto

from ..tensor import ProtoTensor, Tensor

Find = Callable[[str], TensorProto | None]
"""Gives a message whose stored data have the digest, or None."""

Keep = Callable[[str, TensorProto], None]
"""Is told of a digest and a message whose stored data have it."""

FIELDS = ("raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
"""The fields of a TensorProto that store elements."""


def stored_fields(message: TensorProto) -> list[str]:
    """The fields that store elements of this tensor: one, unless it is malformed or empty."""
    return [field for field in FIELDS if len(getattr(message, field))]


def usual_field(dtype: int) -> str:
    """The field that the text takes for granted."""
    return "string_data" if dtype == TensorProto.STRING else "raw_data"


def message_of(tensor: Tensor) -> TensorProto:
    """The message that stores a tensor: the one it came in, if it came in one."""
    return tensor.proto if isinstance(tensor, ProtoTensor) else tensor.to_proto("")


def digest_of(message: TensorProto) -> str:
    """SHA-256 of element type, shape, and data as stored, so that two equal digests mean the same bytes in a file."""
    digest = hashlib.sha256(f"{message.data_type}{list(message.dims)}".encode())
    for field in stored_fields(message):
        digest.update(f" {field} ".encode())
        digest.update(message.raw_data if field == "raw_data" else _alone(message, field))
    return digest.hexdigest()


def copy_data(source: TensorProto, target: TensorProto) -> None:
    """Copy the stored data, not the name nor anything else."""
    for field in stored_fields(source):
        if field == "raw_data":
            target.raw_data = source.raw_data
        else:
            getattr(target, field).MergeFrom(getattr(source, field))


def _alone(source: TensorProto, field: str) -> bytes:
    """One repeated field of data in its wire form."""
    alone = TensorProto()
    getattr(alone, field).MergeFrom(getattr(source, field))
    wire: bytes = alone.SerializeToString(deterministic=True)
    return wire
