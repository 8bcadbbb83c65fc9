"""Element types: names, bits and numpy counterparts of `onnx.TensorProto.DataType`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from onnx import TensorProto, helper

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})


@cache
def name_of(dtype: int) -> str:
    """The lower-case name of an element type, e.g. `float`, `int4`."""
    return str(TensorProto.DataType.Name(dtype)).lower() if dtype in TensorProto.DataType.values() else f"dtype{dtype}"


@cache
def dtype_named(name: str) -> int:
    """The inverse of `name_of`."""
    return int(name[5:]) if name.startswith("dtype") else int(TensorProto.DataType.Value(name.upper()))


@cache
def numpy_dtype(dtype: int) -> np.dtype[Any]:
    """The numpy dtype (ml_dtypes for the narrow ones) of an element type; strings are objects."""
    return np.dtype(object) if dtype == TensorProto.STRING else helper.tensor_dtype_to_np_dtype(dtype)


@cache
def onnx_dtype(dtype: np.dtype[Any]) -> int:
    """The element type of a numpy dtype."""
    return int(TensorProto.STRING) if dtype.kind in "OUS" else int(helper.np_dtype_to_tensor_dtype(dtype))


@cache
def bits_of(dtype: int) -> int:
    """Bits that one element takes in a file; 0 for strings."""
    if dtype in (TensorProto.STRING, TensorProto.UNDEFINED) or dtype not in TensorProto.DataType.values():
        return 0
    name = name_of(dtype)
    for tail, bits in (("int4", 4), ("int2", 2), ("float4e2m1", 4)):
        if name.endswith(tail):
            return bits
    return numpy_dtype(dtype).itemsize * 8


def packed_nbytes(dtype: int, count: int) -> int:
    """Bytes that `count` elements take in a file, narrow types packed; 0 for strings."""
    return (bits_of(dtype) * count + 7) // 8


def is_float(dtype: int) -> bool:
    """Whether the element type is one of float, double, float16, bfloat16."""
    return dtype in _FLOATS
