"""The elements of a tensor as words, and back, without the loss of a bit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from ..dtypes import bits_of
from .lexer import Lexer, Token
from .numbers import Bits, field_patterns, float_pattern, float_words, set_field
from .types import short_name
from .words import string_text

_HALVES: dict[int, int] = {TensorProto.COMPLEX64: TensorProto.FLOAT, TensorProto.COMPLEX128: TensorProto.DOUBLE}
_FLOAT_FIELDS = {"float_data": TensorProto.FLOAT, "double_data": TensorProto.DOUBLE}
_LIMITS = {"int32_data": (-(2**31), 2**31 - 1), "int64_data": (-(2**63), 2**63 - 1), "uint64_data": (0, 2**64 - 1)}


def element_words(message: TensorProto, field: str, full: bool) -> list[str] | None:
    """What `field` of a tensor holds: for `raw_data` and for people the elements, else the entries of the field.

    Complex numbers are pairs. None if the words would not give the same bytes again: the data are malformed.
    """
    if field == "string_data":
        return [string_text(value, full) for value in message.string_data]
    if field == "raw_data" or not full:
        return _raw_words(message, _raw(message, field), full)
    if field in _FLOAT_FIELDS:
        return float_words(field_patterns(message, field), _FLOAT_FIELDS[field], full)
    return [str(value) for value in getattr(message, field)]


def read_elements(lexer: Lexer, target: TensorProto, field: str) -> None:
    """Take `[elements]`, or one without brackets, into `field` of a tensor whose type and shape are known."""
    if field == "raw_data":
        _read_raw(lexer, target)
    elif field == "string_data":
        target.string_data.extend([lexer.string_bytes() for _ in lexer.items()])
    elif field in _FLOAT_FIELDS:
        dtype = _FLOAT_FIELDS[field]
        set_field(target, field, [read_float(lexer, dtype) for _ in lexer.items()])
    else:
        entries = [lexer.integer("an entry", *_LIMITS[field]) for _ in lexer.items()]
        getattr(target, field).extend(entries)


def read_float(lexer: Lexer, dtype: int) -> int:
    """Take a number, as the bit pattern of a float element type."""
    return float_of(lexer, lexer.expect_kind("number", "a number"), dtype)


def float_of(lexer: Lexer, token: Token, dtype: int) -> int:
    """The bit pattern of a float element type that a number already taken stands for."""
    return lexer.checked(lambda: float_pattern(token.text, dtype), token)


def _raw(message: TensorProto, field: str) -> bytes:
    """What would stand in `raw_data`, if the tensor stored its elements there."""
    if field == "raw_data":
        return message.raw_data
    if field in _FLOAT_FIELDS:
        return field_patterns(message, field).tobytes()
    size = max(1, bits_of(message.data_type) // 8)
    entries = [entry % (1 << 8 * size) for entry in getattr(message, field)]
    return np.array(entries, f"<u{size}").tobytes() if size <= 8 else b""


def _raw_words(message: TensorProto, raw: bytes, full: bool) -> list[str] | None:
    dtype, count = _scalars(message)
    bits = bits_of(dtype)
    patterns = _unpacked(raw, bits, count) if bits else None
    if patterns is None:
        return None
    kind = short_name(dtype)
    if kind == "bool":
        return None if patterns.max(initial=0) > 1 else ["true" if bit else "false" for bit in patterns.tolist()]
    if kind.startswith("u"):
        return [str(pattern) for pattern in patterns.tolist()]
    if kind.startswith("i"):
        sign = 1 << (bits - 1)
        return [str((pattern ^ sign) - sign) for pattern in patterns.tolist()]
    return float_words(patterns, dtype, full)


def _read_raw(lexer: Lexer, target: TensorProto) -> None:
    dtype, count = _scalars(target)
    bits, token = bits_of(dtype), lexer.token
    if not bits or count < 0:
        raise lexer.error(f"a tensor of type {short_name(dtype)} and shape {list(target.dims)} cannot hold elements")
    read = _pattern_reader(lexer, dtype, bits)
    patterns = [read() for _ in lexer.items()]
    if len(patterns) != count:
        raise lexer.error(f"the shape needs {count} elements, here are {len(patterns)}", token)
    target.raw_data = _packed(patterns, bits)


def _pattern_reader(lexer: Lexer, dtype: int, bits: int) -> Callable[[], int]:
    """Takes one element and gives its bit pattern."""
    kind = short_name(dtype)
    if kind == "bool":
        return lambda: _read_bool(lexer)
    if kind.startswith("u"):
        return lambda: lexer.integer("an element", 0, (1 << bits) - 1)
    if kind.startswith("i"):
        half, mask = 1 << (bits - 1), (1 << bits) - 1
        return lambda: lexer.integer("an element", -half, half - 1) & mask
    return lambda: read_float(lexer, dtype)


def _read_bool(lexer: Lexer) -> int:
    if not lexer.at("true", "false"):
        raise lexer.error("true or false is expected")
    return int(lexer.take().text == "true")


def _scalars(message: TensorProto) -> tuple[int, int]:
    """Element type and number of elements, with complex ones taken as two floats."""
    count = math.prod(message.dims) if all(dim >= 0 for dim in message.dims) else -1
    half = _HALVES.get(message.data_type)
    return (message.data_type, count) if half is None else (half, 2 * count)


def _unpacked(raw: bytes, bits: int, count: int) -> Bits | None:
    """The bit patterns in `raw_data`, low bits first; None if they are not `count`, or the padding is not zero."""
    per_byte = max(1, 8 // bits)
    if count < 0 or len(raw) != (-(-count // per_byte) if bits < 8 else count * bits // 8):
        return None
    if bits >= 8:
        return np.frombuffer(raw, f"<u{bits // 8}")
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    patterns = (np.frombuffer(raw, np.uint8)[:, None] >> shifts & np.uint8((1 << bits) - 1)).reshape(-1)
    return None if patterns[count:].any() else patterns[:count]


def _packed(patterns: list[int], bits: int) -> bytes:
    if bits >= 8:
        return np.array(patterns, f"<u{bits // 8}").tobytes()
    per_byte = 8 // bits
    padded = patterns + [0] * (-len(patterns) % per_byte)
    return bytes(
        sum(pattern << bits * place for place, pattern in enumerate(padded[start : start + per_byte]))
        for start in range(0, len(padded), per_byte)
    )
