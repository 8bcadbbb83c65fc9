"""Equality of constants by content: element type, shape, and every bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnx import TensorProto

from ...ir import SparseTensor, Tensor

_PROBES = 64
"""Elements that are looked at before all are."""
Key = tuple[Any, ...]


def probe(tensor: Tensor) -> Key | None:
    """What equal tensors have in common, found without reading large ones; None for what is not compared: sparse
    tensors and strings."""
    if isinstance(tensor, SparseTensor) or tensor.dtype == TensorProto.STRING:
        return None
    flat = tensor.numpy().reshape(-1)
    return (tensor.dtype, tensor.shape, flat[:: max(1, flat.size // _PROBES)][: 2 * _PROBES].tobytes())


class Contents:
    """Gives tensors numbers: the same number for the same content, and no other. Only what agrees in its probe is read
    whole, once, so the work is linear in the bytes."""

    def __init__(self) -> None:
        self._alike: dict[Key, _Alike] = {}
        self._count = 0

    def number(self, tensor: Tensor) -> int | None:
        """The number of what a tensor holds; None for what is not compared."""
        key = probe(tensor)
        if key is None:
            return None
        alike = self._alike.get(key)
        if alike is None:
            self._alike[key] = _Alike(tensor, {}, self._next())
            return self._count
        if tensor is alike.first:
            return alike.number
        if not alike.numbers:
            alike.numbers[alike.first.digest()] = alike.number
        return alike.numbers.get(digest := tensor.digest()) or alike.numbers.setdefault(digest, self._next())

    def _next(self) -> int:
        self._count += 1
        return self._count


@dataclass
class _Alike:
    """Tensors of one probe: the first of them, the numbers of digests once there are several, and that of the first."""

    first: Tensor
    numbers: dict[str, int]
    number: int
