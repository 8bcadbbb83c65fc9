"""Equality of constants by content: element type, shape, and every bit.

A constant of few elements is its own key. Of others a sample of elements is looked at first; only where samples agree
are they read as a whole, once each, for a digest. So the time is linear in what must be read, however many are alike.
"""

from __future__ import annotations

import hashlib
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
    """Keys of constants: equal for equal ones, and different for others as far as SHA-256 goes. `equal` is the last
    word, and asked of two constants with one key it says yes."""

    def __init__(self) -> None:
        self._keys: dict[Tensor, Key | None] = {}
        self._sole: dict[Key, Tensor] = {}
        """The first constant of each probe, of which nothing more need be known while it is the only one."""
        self._numbers: dict[Key, dict[bytes, int]] = {}
        """By probe: the digests of its constants, numbered. The first one has number 0."""

    def key(self, tensor: Tensor) -> Key | None:
        """The key; None for what is not compared: sparse tensors and strings."""
        if tensor not in self._keys:
            self._keys[tensor] = self._find(tensor)
        return self._keys[tensor]

    def _find(self, tensor: Tensor) -> Key | None:
        key = probe(tensor)
        if key is None or tensor.size < 2 * _PROBES:
            return key
        sole = self._sole.setdefault(key, tensor)
        if sole is tensor:
            return (*key, 0)
        numbers = self._numbers.setdefault(key, {})
        if not numbers:
            numbers[_digest(sole)] = 0
        return (*key, numbers.setdefault(_digest(tensor), len(numbers)))


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


def _digest(tensor: Tensor) -> bytes:
    return hashlib.sha256(_bytes(tensor).data).digest()
