"""Equality of constants by content: element type, shape, and every bit.

A sample of elements is looked at first; where samples agree the constants are read as a whole, for a checksum, and
where checksums agree they are compared bit by bit. So the time is linear in what must be read, however many are alike,
and no two different constants ever count as equal. Tensors never change: what was found stays with them.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ...ir import SparseTensor, Tensor

_PROBES = 64
"""Elements that are looked at before all are."""
_BLOCK = 1 << 20
"""Bytes that are compared at a time."""
Key = tuple[Any, ...]


def probe(tensor: Tensor) -> Key:
    """What equal tensors have in common, found by looking at some elements of large ones."""
    found: Key | None = getattr(tensor, "_probe", None)
    if found is None:
        flat = tensor.numpy().reshape(-1)
        some = flat[:: max(1, flat.size // _PROBES)][: 2 * _PROBES]
        tensor._probe = found = (tensor.dtype, tensor.shape, some.tobytes())
    return found


class Contents:
    """Gives tensors numbers: the same number for the same content, and no other. Only what agrees in its probe is read
    whole, so the work is linear in the bytes."""

    def __init__(self) -> None:
        self._numbers: dict[Tensor, int | None] = {}
        self._lone: dict[Key, Tensor | None] = {}
        """The only tensor of a type and shape, which nobody needs to look into; None where there were several."""
        self._alike: dict[Key, _Alike] = {}
        self._count = 0

    def number(self, tensor: Tensor) -> int | None:
        """The number of what a tensor holds; None for what is not compared: sparse tensors and strings."""
        if tensor not in self._numbers:
            self._numbers[tensor] = self._find(tensor)
        return self._numbers[tensor]

    def _find(self, tensor: Tensor) -> int | None:
        if isinstance(tensor, SparseTensor) or tensor.dtype == TensorProto.STRING:
            return None
        kind = (tensor.dtype, tensor.shape)
        if kind in self._lone:
            first, self._lone[kind] = self._lone[kind], None
            if first is not None:
                self._alike[probe(first)] = _Alike(first)
            alike = self._alike.setdefault(probe(tensor), _Alike(tensor))
            twin = None if alike.first is tensor else alike.twin(tensor)
            if twin is not None:
                return self._numbers[twin]
        else:
            self._lone[kind] = tensor
        self._count += 1
        return self._count


class _Alike:
    """Tensors of one probe: the first of them, and once there are several, one of each content by checksum."""

    def __init__(self, first: Tensor) -> None:
        self.first = first
        self.known: dict[int, list[Tensor]] = {}

    def twin(self, tensor: Tensor) -> Tensor | None:
        """The one that has the content of `tensor`; None if it is the first of its content."""
        if tensor.size < 2 * _PROBES:  # the probe holds all of it
            return self.first
        if not self.known:
            self.known[_checksum(self.first)] = [self.first]
        same_sum = self.known.setdefault(_checksum(tensor), [])
        twin = next((one for one in same_sum if _equal(one, tensor)), None)
        if twin is None:
            same_sum.append(tensor)
        return twin


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one type and shape hold the same bits."""
    left, right = _bytes(a), _bytes(b)
    blocks = (slice(at, at + _BLOCK) for at in range(0, len(left), _BLOCK))
    return all(np.array_equal(left[block], right[block]) for block in blocks)


def _checksum(tensor: Tensor) -> int:
    found: int | None = getattr(tensor, "_checksum", None)
    if found is None:
        tensor._checksum = found = zlib.crc32(_bytes(tensor).data)
    return found


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    return np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)
