"""Equality of constants by content: element type, shape, and every bit.

A constant of few elements is its own key. Of others a sample of elements is looked at first; where samples agree they
are read as a whole, for a checksum, and where checksums agree they are compared bit by bit. So the time is linear in
what must be read, however many are alike, and no two different constants ever count as equal.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ...ir import SparseTensor, Tensor

_PROBES = 64
"""Elements that are looked at before all are; up to twice as many are all that there are."""
_BLOCK = 1 << 20
"""Bytes that are compared at a time."""
Key = tuple[Any, ...]


class Contents:
    """Keys of constants: one for equal ones, different ones for all others."""

    def __init__(self) -> None:
        self._keys: dict[Tensor, Key | None] = {}
        self._sole: dict[Key, Tensor] = {}
        """The first constant of each sample, of which nothing more need be known while it is the only one."""
        self._kinds: dict[Key, dict[int, list[Tensor]]] = {}
        """By sample, then by checksum: one constant of each content."""

    def key(self, tensor: Tensor) -> Key | None:
        """The key; None for what is not compared: sparse tensors and strings."""
        if tensor not in self._keys:
            self._keys[tensor] = self._find(tensor)
        return self._keys[tensor]

    def _find(self, tensor: Tensor) -> Key | None:
        sample = probe(tensor)
        if sample is None or tensor.size < 2 * _PROBES:
            return sample
        first = self._sole.setdefault(sample, tensor)
        if first is tensor:
            return (sample, None)
        kinds = self._kinds.setdefault(sample, {})
        if not kinds:
            kinds[_checksum(first)] = [first]
        found = _checksum(tensor)
        known = kinds.setdefault(found, [])
        twin = next((one for one in known if equal(one, tensor)), None)
        if twin is None:
            known.append(tensor)
            return (sample, found, len(known))
        return self._keys[twin]


def probe(tensor: Tensor) -> Key | None:
    """What equal tensors have in common, found without reading large ones; None for what is not compared."""
    if isinstance(tensor, SparseTensor) or tensor.dtype == TensorProto.STRING:
        return None
    flat = tensor.numpy().reshape(-1)
    return (tensor.dtype, tensor.shape, flat[:: max(1, flat.size // _PROBES)][: 2 * _PROBES].tobytes())


def equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one type and shape hold the same bits. Nothing is copied."""
    if a is b:
        return True
    left, right = _bytes(a), _bytes(b)
    blocks = (slice(at, at + _BLOCK) for at in range(0, len(left), _BLOCK))
    return all(np.array_equal(left[block], right[block]) for block in blocks)


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(_bytes(tensor).data)
