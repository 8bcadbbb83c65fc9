"""A model's message with its weights left out, and the bytes of the whole message, one weight at a time.

A protobuf message cannot be serialised in parts, and with gigabytes inside it takes several copies and many seconds.
So the message is emitted with a short token where the data of a weight belong and serialised as it is; a walk over
that small text then puts the data in the place of the tokens and mends the lengths of the messages around them. The
result is what serialising the full message would give, byte for byte.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from ..errors import VerifyError
from ..ir import ExternalTensor, Model, ProtoTensor, Tensor, emit
from ..ir.dtypes import packed_nbytes
from ..ir.proto.emit import as_is, shell
from .messages import reference_of
from .wire import varint

DATA_FIELDS = (
    "raw_data",
    "float_data",
    "double_data",
    "int32_data",
    "int64_data",
    "uint64_data",
    "external_data",
    "data_location",
)
"""The fields of a TensorProto that say where its data are, or hold them (strings apart)."""
SMALL = 1024
"""Bytes from which on a weight is worth a token, an external reference or a placeholder."""
_COPIED = 1 << 15
"""Bytes up to which copying data that are then dropped takes less time than copying all other fields one by one."""
_MODEL = {ModelProto.GRAPH_FIELD_NUMBER: "graph", ModelProto.FUNCTIONS_FIELD_NUMBER: "function"}
_GRAPH = {GraphProto.NODE_FIELD_NUMBER: "node", GraphProto.INITIALIZER_FIELD_NUMBER: "tensor"}
_ATTRIBUTE = {
    AttributeProto.T_FIELD_NUMBER: "tensor",
    AttributeProto.G_FIELD_NUMBER: "graph",
    AttributeProto.GRAPHS_FIELD_NUMBER: "graph",
}
_WAY = {
    "model": _MODEL,
    "graph": _GRAPH,
    "function": {FunctionProto.NODE_FIELD_NUMBER: "node"},
    "node": {NodeProto.ATTRIBUTE_FIELD_NUMBER: "attribute"},
    "attribute": _ATTRIBUTE,
    "tensor": {TensorProto.RAW_DATA_FIELD_NUMBER: "data"},
}
"""The way to `raw_data`: kind of message, number of field, kind of what is in it."""


class Pieces(NamedTuple):
    """A serialised message: bytes, and tensors whose data stand there."""

    parts: tuple[bytes | Tensor, ...]
    nbytes: int
    """Bytes of the whole."""

    def blocks(self) -> Iterator[memoryview]:
        """The bytes in order; the data of one tensor at a time are in memory."""
        for part in self.parts:
            yield data_of(part) if isinstance(part, Tensor) else memoryview(part)


class Skeleton:
    """The message of a model, free to be edited, with tokens for the data of its large weights.

    `refers` says of an external tensor whether it stays a reference; by default all do.
    """

    def __init__(self, model: Model, refers: Callable[[ExternalTensor], bool] = lambda _: True) -> None:
        self._token = os.urandom(16)
        self._refers = refers
        self._tensors: list[Tensor] = []
        self._number: dict[int, int] = {}
        self.externals: dict[tuple[str, str, str], ExternalTensor] = {}
        """The tensors behind the references that the message holds."""
        self.proto = emit(model, self._emit)

    def weight_of(self, proto: TensorProto) -> Tensor | None:
        """The weight whose token stands in a tensor of the message; None if it holds its own data or a reference."""
        if proto.data_location == TensorProto.EXTERNAL or not proto.HasField("raw_data"):
            return None
        data = proto.raw_data
        return self._tensors[int.from_bytes(data[16:])] if data.startswith(self._token) else None

    def pieces(self) -> Pieces:
        """The serialised message (deterministic, as protobuf calls it)."""
        text = self.proto.SerializeToString(deterministic=True)
        parts, nbytes = self._splice(text, 0, len(text), "model")
        return Pieces(tuple(parts), nbytes)

    def _emit(self, tensor: Tensor, name: str) -> TensorProto:
        if isinstance(tensor, ExternalTensor) and self._refers(tensor):
            proto = as_is(tensor, name)
            self.externals[reference_of(proto)] = tensor
            return proto
        if tensor.nbytes <= SMALL or tensor.dtype == TensorProto.STRING:
            return tensor.to_proto(name)
        proto = _header(tensor, name)
        if id(tensor) not in self._number:
            self._number[id(tensor)] = len(self._tensors)
            self._tensors.append(tensor)
        proto.raw_data = self._token + self._number[id(tensor)].to_bytes(4)
        return proto

    def _splice(self, text: bytes, begin: int, end: int, kind: str) -> tuple[list[bytes | Tensor], int]:
        """The bytes from `begin` to `end`, a message of this kind, with data for tokens; and how many they are."""
        parts: list[bytes | Tensor] = []
        total = 0
        copied = position = begin
        while position < end:
            field = position
            tag, position = varint(text, position)
            if tag & 7 != 2:
                position = _skip(text, position, tag & 7)
                continue
            length, start = varint(text, position)
            position = start + length
            inner = _WAY[kind].get(tag >> 3)
            if inner is None or text.find(self._token, start, position) < 0:
                continue
            inside, nbytes = self._inside(text, start, position, inner)
            head = text[copied:field] + _as_varint(tag) + _as_varint(nbytes)
            parts += [head, *inside]
            total += len(head) + nbytes
            copied = position
        parts.append(text[copied:end])
        return parts, total + end - copied

    def _inside(self, text: bytes, begin: int, end: int, kind: str) -> tuple[list[bytes | Tensor], int]:
        if kind not in ("tensor", "data"):
            return self._splice(text, begin, end, kind)
        number = text.index(self._token, begin) + len(self._token)
        tensor = self._tensors[int.from_bytes(text[number : number + 4])]
        if _is_typed(tensor):
            whole = tensor.to_proto(TensorProto.FromString(text[begin:end]).name).SerializeToString(deterministic=True)
            return [whole], len(whole)
        return ([tensor], tensor.nbytes) if kind == "data" else self._splice(text, begin, end, kind)


def data_of(tensor: Tensor) -> memoryview:
    """The data of a tensor as a file holds them: little-endian, narrow types packed. Not for strings."""
    data = _data_of(tensor)
    if len(data) != tensor.nbytes:
        raise VerifyError(f"{tensor!r} holds {len(data)} bytes instead of {tensor.nbytes}")
    return data


def _data_of(tensor: Tensor) -> memoryview:
    if isinstance(tensor, ExternalTensor):
        return tensor.raw().data
    if isinstance(tensor, ProtoTensor) and tensor.proto.HasField("raw_data"):
        return memoryview(tensor.proto.raw_data)
    array = tensor.numpy()
    whole = packed_nbytes(tensor.dtype, 8) == 8 * array.itemsize
    if whole and sys.byteorder == "little":
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return memoryview(numpy_helper.from_array(array).raw_data)


def _is_typed(tensor: Tensor) -> bool:
    """Whether the data are numbers in a field of their type, and not `raw_data`."""
    return isinstance(tensor, ProtoTensor) and not tensor.proto.HasField("raw_data")


def _header(tensor: Tensor, name: str) -> TensorProto:
    """The message of a tensor but for its data."""
    if not isinstance(tensor, ProtoTensor | ExternalTensor):
        return TensorProto(name=name, data_type=tensor.dtype, dims=tensor.shape)
    if tensor.nbytes > _COPIED:
        proto: TensorProto = shell(tensor.proto, DATA_FIELDS)
        if proto.name != name:
            proto.name = name
    else:
        proto = as_is(tensor, name)
        for field in DATA_FIELDS:
            proto.ClearField(field)
    if isinstance(tensor, ProtoTensor) and tensor.proto.HasField("data_location"):
        proto.data_location = tensor.proto.data_location  # some writers say that data are inline
    return proto


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _skip(text: bytes, position: int, wire_type: int) -> int:
    """Where a number that is no length-delimited field ends: a varint, or 8 or 4 bytes."""
    if wire_type == 0:
        return varint(text, position)[1]
    return position + (8 if wire_type == 1 else 4)
