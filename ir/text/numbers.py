"""Floats that keep every bit: hexadecimal values, NaNs as their bit pattern, and exact access to protobuf fields.

A protobuf float that passes through a Python float loses the signalling bit of a NaN, so patterns are taken from and
put into the wire form of the field.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from google.protobuf.message import Message
from onnx import TensorProto

from ..dtypes import bits_of, name_of, numpy_dtype

Bits = np.ndarray[Any, np.dtype[Any]]
_ZEROS = re.compile(r"\.?0*p")
_PATTERN = re.compile(r"0x[0-9a-f]+")
_NARROW = 16


def float_words(patterns: Bits, dtype: int, full: bool) -> list[str]:
    """The words for unsigned bit patterns of a float element type: exact if `full`, else decimal and for people.

    A pattern that its value does not give again (a NaN, an idle bit) stands for itself: `0x7fc00001`.
    """
    with np.errstate(all="ignore"):
        floats = patterns.view(numpy_dtype(dtype))
        values = floats.astype(np.float64)
        again = values.astype(floats.dtype).view(patterns.dtype) == patterns
    if not full:
        return [_decimal(value, dtype) for value in values.tolist()]
    digits = (bits_of(dtype) + 3) // 4
    return [
        _hexadecimal(value) if same and not math.isnan(value) else f"0x{pattern:0{digits}x}"
        for pattern, value, same in zip(patterns.tolist(), values.tolist(), again.tolist(), strict=True)
    ]


def float_pattern(word: str, dtype: int) -> int:
    """The bit pattern that a word stands for. Raises ValueError if the element type has no such value.

    Decimals are rounded to types of 16 bits or more; in narrower ones they must be exact.
    """
    bits = bits_of(dtype)
    if _PATTERN.fullmatch(word):
        if int(word, 16) >> bits:
            raise ValueError(f"{word} has more than the {bits} bits of {name_of(dtype)}")
        return int(word, 16)
    value = _value_of(word)
    with np.errstate(all="ignore"):
        made = np.array([value]).astype(numpy_dtype(dtype))
        back = float(made.astype(np.float64)[0])
    same = back == value or (math.isnan(back) and math.isnan(value))
    if not same and (bits < _NARROW or not math.isfinite(back)):
        raise ValueError(f"{word} is no value of {name_of(dtype)}")
    return int(made.view(f"u{made.itemsize}")[0])


def field_patterns(message: Message, field: str) -> Bits:
    """The bit patterns of a float or double field of a message."""
    described = message.DESCRIPTOR.fields_by_name[field]
    size = 8 if described.type == described.TYPE_DOUBLE else 4
    if not described.is_repeated and not message.HasField(field):
        return np.zeros(1, f"<u{size}")
    alone = type(message)()
    alone.CopyFrom(message)
    alone.DiscardUnknownFields()
    for other, _ in message.ListFields():
        if other.name != field:
            alone.ClearField(other.name)
    wire = np.frombuffer(alone.SerializeToString(), np.uint8)
    if not described.is_repeated:
        found = wire[len(wire) - size :]
    elif described.GetOptions().packed:
        found = wire[len(wire) - size * len(getattr(message, field)) :]
    else:
        found = wire.reshape(-1, 1 + size)[:, 1:]
    return np.ascontiguousarray(found).reshape(-1).view(f"<u{size}")


def set_field(message: Message, field: str, patterns: list[int]) -> None:
    """Put bit patterns into a float or double field of a message."""
    described = message.DESCRIPTOR.fields_by_name[field]
    size = 8 if described.type == described.TYPE_DOUBLE else 4
    body = np.array(patterns, f"<u{size}").tobytes()
    if described.is_repeated:
        wire = _varint(described.number << 3 | 2) + _varint(len(body)) + body
    else:
        wire = _varint(described.number << 3 | (1 if size == 8 else 5)) + body
    message.MergeFromString(wire)


def _decimal(value: float, dtype: int) -> str:
    return repr(value) if dtype == TensorProto.DOUBLE else str(np.float32(value))


def _hexadecimal(value: float) -> str:
    """`float.hex` without trailing zeros."""
    return _ZEROS.sub("p", value.hex()) if math.isfinite(value) else str(value)


def _value_of(word: str) -> float:
    try:
        value = float.fromhex(word) if "x" in word else float(word)
    except OverflowError:
        value = math.inf
    if math.isinf(value) and "inf" not in word:
        raise ValueError(f"{word} is beyond the range of a double")
    return value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
