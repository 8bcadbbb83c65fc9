"""Between numpy and onnxruntime: element types that its Python binding does not know, strings, byte order.

Arrays of bfloat16, float8, float4, int4 and int2 (of ml_dtypes) travel as OrtValues over their bytes; int4 and narrower
are packed as in a file.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper
from onnxruntime import OrtValue

from ..errors import ExecutionError
from ..ir import Port, Tensor
from ..ir.dtypes import bits_of, dtype_named, name_of, numpy_dtype, packed_nbytes
from ..ir.tensor import Array
from .skeleton import data_of

_NATIVE = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.FLOAT16,
        TensorProto.BOOL,
        TensorProto.STRING,
        *(dtype_named(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)),
    }
)
_TENSOR = "tensor("


def dtype_of(type_name: str) -> int | None:
    """The element type behind onnxruntime's name of a type, e.g. `tensor(float)`; None if it is no tensor."""
    return dtype_named(type_name[len(_TENSOR) : -1]) if type_name.startswith(_TENSOR) else None


def is_foreign(dtype: int | None) -> bool:
    """Whether onnxruntime's binding cannot turn arrays of this element type into tensors and back."""
    return dtype is not None and dtype not in _NATIVE


def as_fed(value: Any, port: Port) -> Any:
    """A feed in the form that onnxruntime takes. Raises ExecutionError if it is not of the port's element type."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_plain(np.asarray(item)) for item in value]
    array = np.asarray(value)
    if port.dtype is None:
        return _plain(array)
    want = numpy_dtype(port.dtype)
    if array.dtype.newbyteorder("=") != want and not (want.kind == "O" and array.dtype.kind in "OUS"):
        raise ExecutionError(f"input {port.name!r} is {array.dtype.name}, the model takes {name_of(port.dtype)}")
    if is_foreign(port.dtype):
        return _over(memoryview(numpy_helper.from_array(array).raw_data), port.dtype, array.shape)
    return _plain(array)


def weight_value(tensor: Tensor) -> OrtValue:
    """A weight as onnxruntime takes it from memory; it refers to bytes that it keeps alive."""
    return _over(data_of(tensor), tensor.dtype, tensor.shape)


def as_array(value: OrtValue) -> Array | None:
    """The content of a tensor, copied; None if an optional is empty."""
    if not value.has_value():
        return None
    dtype = value.element_type()
    if not is_foreign(dtype):
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    data = ctypes.string_at(value.data_ptr(), packed_nbytes(dtype, math.prod(shape)))
    return numpy_helper.to_array(TensorProto(data_type=dtype, dims=shape, raw_data=data))


def _plain(array: Array) -> Array:
    """An array in native byte order; strings as objects of type str."""
    if array.dtype.kind not in "OUS":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    texts = [item.decode() if isinstance(item, bytes) else str(item) for item in array.flat]
    return np.array(texts, dtype=object).reshape(array.shape)


def _over(data: memoryview, dtype: int, shape: tuple[int, ...]) -> OrtValue:
    """A tensor over bytes as a file holds them."""
    bits = bits_of(dtype)
    buffer: Array = np.frombuffer(data, np.uint8)
    if bits < 8:
        # The binding takes the shape from the array, one byte an element, and reads the packed bytes at its start.
        packed, buffer = buffer, np.zeros(math.prod(shape), np.uint8)
        buffer[: packed_nbytes(dtype, buffer.size)] = packed
    words = buffer.view(f"u{bits // 8}") if bits > 8 else buffer
    return OrtValue.ortvalue_from_numpy_with_onnx_type(words.reshape(shape), dtype)
