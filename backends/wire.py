"""Protobuf's wire format, as far as lengths can be read from it: to look at data in a copy of them takes longer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

Place = tuple[int, int]
"""Which field of a GraphProto, and which of its elements."""
INITIALIZER, NODE = GraphProto.INITIALIZER_FIELD_NUMBER, GraphProto.NODE_FIELD_NUMBER
_WORTH = 1 << 12
"""Bytes of a node from which on it takes less time to find the size of its tensor than to copy it."""
_BYTES = 2
"""The wire type of what has a length: bytes, texts, messages."""
_FIXED = {1: 8, 5: 4}
"""Bytes of the wire types that have no other form."""


def varint(text: bytes | memoryview, position: int) -> tuple[int, int]:
    """The number that begins at `position`, and where it ends."""
    value = shift = 0
    while True:
        byte = text[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def fields(text: bytes | memoryview, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message that have a length: number, and where the content begins and ends; up to the first group,
    which onnx has none of."""
    position = begin
    while position < end:
        tag, position = varint(text, position)
        kind = tag & 7
        if kind == _BYTES:
            length, position = varint(text, position)
            yield tag >> 3, position, position + length
            position += length
        elif kind == 0:
            position = varint(text, position)[1]
        elif kind in _FIXED:
            position += _FIXED[kind]
        else:
            return


def raw_sizes(model: memoryview) -> dict[Place, int]:
    """Bytes of `raw_data` in the main graph of a ModelProto: of each initializer, and of the tensor in each large node
    that holds just one, as a Constant does. What is missing has none, or it is not known, as of all behind a field that
    onnx has not."""
    sizes: dict[Place, int] = {}
    met = Counter[int]()
    for number, begin, end in fields(model, 0, len(model)):
        if number == ModelProto.GRAPH_FIELD_NUMBER:
            for inner, first, last in fields(model, begin, end):
                size = None
                if inner == INITIALIZER:
                    size = _raw_size(model, first, last)
                elif inner == NODE and last - first >= _WORTH:
                    size = _raw_size_in_node(model, first, last)
                if size is not None:
                    sizes[inner, met[inner]] = size
                met[inner] += 1
    return sizes


def _raw_size_in_node(text: memoryview, begin: int, end: int) -> int | None:
    found = [
        (first, last)
        for number, start, stop in fields(text, begin, end)
        if number == NodeProto.ATTRIBUTE_FIELD_NUMBER
        for inner, first, last in fields(text, start, stop)
        if inner == AttributeProto.T_FIELD_NUMBER
    ]
    return _raw_size(text, *found[0]) if len(found) == 1 else None


def _raw_size(text: memoryview, begin: int, end: int) -> int | None:
    size = None
    for number, first, last in fields(text, begin, end):
        if number == TensorProto.RAW_DATA_FIELD_NUMBER:
            size = last - first
    return size
