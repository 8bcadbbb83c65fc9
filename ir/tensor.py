"""Tensors: immutable, read-only constants, whose bytes are touched only when somebody asks for them.

Each kind knows how to become a numpy array and a TensorProto: bytes kept from the file (`ProtoTensor`), a slice of a
memory-mapped external file (`ExternalTensor`), an array made by a pass (`ArrayTensor`), a tensor that is computed
when it is asked for (`DerivedTensor`), and a sparse one (`SparseTensor`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from onnx import SparseTensorProto, TensorProto, numpy_helper

from ..errors import UserError
from .dtypes import name_of, numpy_dtype, onnx_dtype, packed_nbytes

Array = np.ndarray[Any, np.dtype[Any]]
_SMALL = 4096
"""Bytes of elements up to which a tensor of the file keeps its array."""


class Tensor:
    """A constant with an element type (`onnx.TensorProto.DataType`) and a shape: the base of all kinds.

    It is no `ABC`, since asking for the kind of a tensor, which is done everywhere, would take five times as long.
    """

    __slots__ = ("_checksum", "_numbers", "_outline", "_probe", "dtype", "shape")

    dtype: int
    shape: tuple[int, ...]
    _outline: bytes
    """What `proto.outline` once wrote of it."""
    _probe: tuple[Any, ...]
    _checksum: int
    """What once told it from others by content: some of its elements, and a sum of all."""
    _numbers: tuple[float, ...] | None
    """What rules once found all elements to be."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its data in a file, narrow types packed."""
        return packed_nbytes(self.dtype, self.size)

    def numpy(self) -> Array:
        """The elements, as a read-only array of `shape` (ml_dtypes for narrow types)."""
        raise NotImplementedError

    def to_proto(self, name: str) -> TensorProto:
        """A TensorProto that holds the elements in `raw_data`."""
        array = self.numpy()
        proto = numpy_helper.from_array(array, name)
        if proto.data_type != self.dtype:
            raise TypeError(f"tensor {name!r} computes {array.dtype}, not {name_of(self.dtype)}")
        return proto

    def digest(self) -> str:
        """SHA-256 of element type, shape and elements."""
        import hashlib  # loads OpenSSL, 3 MB

        head = f"{name_of(self.dtype)}{list(self.shape)}".encode()
        array = self.numpy()
        found = hashlib.sha256(head)
        if array.dtype == object:
            found.update(repr(array.tolist()).encode())
        else:
            found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return found.hexdigest()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({name_of(self.dtype)}{list(self.shape)})"


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


@cache
def _is_plain(dtype: int) -> bool:
    """Whether bytes of a file are elements as numpy has them here: not where several share a byte."""
    return sys.byteorder == "little" and packed_nbytes(dtype, 8) == 8 * numpy_dtype(dtype).itemsize


class ProtoTensor(Tensor):
    """A tensor whose data stay in the TensorProto that they came in."""

    __slots__ = ("_array", "_message_size", "proto")

    def __init__(self, proto: TensorProto) -> None:
        self.proto = proto
        self._array: Array | None = None
        self._message_size: int | None = None
        self.dtype = proto.data_type
        self.shape = tuple(proto.dims)

    @property
    def nbytes(self) -> int:
        """Bytes of its data; for strings the sum of their lengths."""
        if self.dtype == TensorProto.STRING:
            return sum(map(len, self.proto.string_data))
        return super().nbytes

    @property
    def message_size(self) -> int:
        """Bytes of its source message. Counted once: protobuf writes the whole message to count it."""
        if self._message_size is None:
            self._message_size = int(self.proto.ByteSize())
        return self._message_size

    def numpy(self) -> Array:
        """The elements, as a read-only array; that of a small tensor is kept, since many look into those."""
        if self._array is not None:
            return self._array
        proto = self.proto
        if _is_plain(self.dtype) and proto.HasField("raw_data") and not proto.HasField("segment"):
            array = np.frombuffer(proto.raw_data, numpy_dtype(self.dtype)).reshape(self.shape)
        else:
            array = _read_only(np.asarray(numpy_helper.to_array(proto)).reshape(self.shape))
        if array.nbytes <= _SMALL:
            self._array = array
        return array

    def to_proto(self, name: str) -> TensorProto:
        """A copy of the source message under the name `name`."""
        proto = TensorProto()
        proto.CopyFrom(self.proto)
        if proto.name != name:
            proto.name = name
        return proto


class DataFile:
    """A file of weights, memory-mapped when a tensor in it is first read.

    With `keep` the mapping stays, so that its tensors stay readable though the file be removed, as saving in place
    does. A mapping holds a file handle, of which a system grants a thousand or so.
    """

    __slots__ = ("_bytes", "_keep", "path", "size")

    def __init__(self, path: Path, keep: bool) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._keep = keep
        self._bytes: Array | None = None

    def read(self, offset: int, length: int) -> Array:
        """Bytes of the file, as a uint8 array of shape (length,). Raises UserError if it has vanished."""
        if not length:
            return np.empty(0, np.uint8)
        mapped = self._bytes
        if mapped is None:
            try:
                mapped = np.memmap(self.path, np.uint8, "r")
            except OSError as error:
                raise UserError(f"{self.path}: the data of weights cannot be read: {error.strerror}") from error
        if self._keep:
            self._bytes = mapped
        return mapped[offset : offset + length]


class ExternalTensor(Tensor):
    """A tensor whose data are a slice of a file beside the model."""

    __slots__ = ("file", "length", "offset", "proto")

    def __init__(self, proto: TensorProto, file: DataFile, offset: int, length: int) -> None:
        self.proto = proto
        self.file = file
        self.offset = offset
        self.length = length
        self.dtype = proto.data_type
        self.shape = tuple(proto.dims)

    @property
    def path(self) -> Path:
        """The file, as an absolute path without links."""
        return self.file.path

    def raw(self) -> Array:
        """The bytes, as a memory-mapped uint8 array of shape (length,)."""
        return self.file.read(self.offset, self.length)

    def numpy(self) -> Array:
        """The elements: a read-only view of the file, unpacked (so copied) where the type is narrower than a byte."""
        raw = self.raw()
        if _is_plain(self.dtype):
            return _read_only(raw.view(numpy_dtype(self.dtype)).reshape(self.shape))
        inline = TensorProto(dims=self.shape, data_type=self.dtype, raw_data=raw.tobytes())
        return _read_only(numpy_helper.to_array(inline))

    def to_proto(self, name: str) -> TensorProto:
        """A TensorProto that holds the data inline."""
        proto = TensorProto()
        proto.CopyFrom(self.proto)
        proto.ClearField("external_data")
        proto.ClearField("data_location")
        proto.raw_data = self.raw().tobytes()
        proto.name = name
        return proto


class ArrayTensor(Tensor):
    """A tensor made by a pass, held as an array that is handed over: nobody writes to it any more."""

    __slots__ = ("_array",)

    def __init__(self, array: Array) -> None:
        self._array = _read_only(np.asarray(array, order="C").view())
        self.dtype = onnx_dtype(self._array.dtype)
        self.shape = self._array.shape

    @property
    def nbytes(self) -> int:
        """Bytes of its data; for strings the sum of their UTF-8 lengths."""
        if self.dtype == TensorProto.STRING:
            return sum(len(s if isinstance(s, bytes) else str(s).encode()) for s in self._array.flat)
        return super().nbytes

    def numpy(self) -> Array:
        """The elements, as a read-only array."""
        return self._array


class DerivedTensor(Tensor):
    """A tensor computed from others whenever it is asked for, so that a big model never holds two copies of itself.

    `compute` gets the arrays of `sources` and must return an array of the stated type and shape.
    """

    __slots__ = ("compute", "op", "sources")

    def __init__(
        self, op: str, compute: Callable[..., Array], sources: tuple[Tensor, ...], dtype: int, shape: tuple[int, ...]
    ) -> None:
        self.op = op
        self.compute = compute
        self.sources = sources
        self.dtype = dtype
        self.shape = shape

    def numpy(self) -> Array:
        """The elements, computed now."""
        array = np.asarray(self.compute(*(source.numpy() for source in self.sources)))
        if array.shape != self.shape or onnx_dtype(array.dtype) != self.dtype:
            raise TypeError(f"derived tensor {self.op!r} computes {array.dtype}{list(array.shape)}, not {self!r}")
        return _read_only(array.view())


class SparseTensor(Tensor):
    """A tensor in ONNX's sparse (COO) form."""

    __slots__ = ("proto",)

    def __init__(self, proto: SparseTensorProto) -> None:
        self.proto = proto
        self.dtype = proto.values.data_type
        self.shape = tuple(proto.dims)

    @property
    def nbytes(self) -> int:
        """Bytes of its values and indices."""
        return ProtoTensor(self.proto.values).nbytes + ProtoTensor(self.proto.indices).nbytes

    def numpy(self) -> Array:
        """The elements, dense."""
        dense = np.zeros(self.shape, numpy_dtype(self.dtype))
        values, indices = numpy_helper.to_array(self.proto.values), numpy_helper.to_array(self.proto.indices)
        where = np.unravel_index(indices, self.shape) if indices.ndim == 1 else tuple(indices.T)
        dense[where] = values
        return _read_only(dense)

    def to_sparse_proto(self, name: str) -> SparseTensorProto:
        """A copy of the source message under the name `name`."""
        proto = SparseTensorProto()
        proto.CopyFrom(self.proto)
        if proto.values.name != name:
            proto.values.name = name
        return proto


def tensor(array: Any, dtype: int | None = None) -> ArrayTensor:
    """A tensor from anything that numpy takes, cast to the ONNX element type `dtype` if given."""
    made = np.asarray(array)
    return ArrayTensor(made if dtype is None else made.astype(numpy_dtype(dtype)))
