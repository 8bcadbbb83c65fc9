"""Digests of what a run depends on: the content of a model, wherever its weights lie, and sample data as it is fed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from onnx import TensorProto

from .model import Model
from .proto import emit
from .tensor import Tensor


def model_digest(model: Model) -> str:
    """SHA-256 of a model: of its message, in which digests stand for the contents of tensors. No path goes in."""
    proto = emit(model, _digested)
    return hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()


def _digested(tensor: Tensor, name: str) -> TensorProto:
    digest = bytes.fromhex(tensor.digest())
    return TensorProto(name=name, data_type=tensor.dtype, dims=tensor.shape, raw_data=digest)


def data_digest(feeds: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of feeds in their order: names, types, shapes and elements; one feed in memory at a time."""
    digest = hashlib.sha256()
    for feed in feeds:
        for name in sorted(feed):
            _add(digest, name, feed[name])
        digest.update(b"\n")
    return digest.hexdigest()


def _add(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{name} {value.dtype.str} {value.dtype.name} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, np.ndarray):
        digest.update(f"{name} object {value.shape} {value.ravel().tolist()!r}".encode())
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _add(digest, f"{name}[{index}]", item)
    else:
        digest.update(f"{name} {value!r}".encode())
