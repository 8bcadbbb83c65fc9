"""Arrays for constants, from one small number each, so that they are cheap to draw and shrink to zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import SparseTensorProto, TensorProto, helper, numpy_helper

from ..ir.dtypes import numpy_dtype

_WORDS = ("", "a", "onnx", "zwölf")
_SPECIAL = (np.nan, np.inf, -0.0, -np.inf)


def array_of(dtype: int, shape: Sequence[int], seed: int) -> Any:
    """An array: zeros for seed 0, ones for 1, else random; every fifth seed holds NaN, Inf and -0.0 where it can."""
    kind = numpy_dtype(dtype)
    if seed < 2 and kind.kind != "O":
        return np.full(shape, seed, kind)
    rng = np.random.default_rng(seed)
    if kind.kind == "O":
        return np.array(_WORDS, object)[rng.integers(0, len(_WORDS), shape)]
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if kind.kind in "iu":
        return rng.integers(0 if kind.kind == "u" else -3, 4, shape).astype(kind)
    array = np.asarray(rng.standard_normal(shape))
    if seed % 5 == 0:
        where = rng.integers(0, 4, shape) == 0
        array = np.where(where, np.array(_SPECIAL)[rng.integers(0, 4, shape)], array)
    return np.asarray(array.astype(kind))


def to_tensor(array: Any, *, raw: bool = True) -> TensorProto:
    """A message that holds `array`, as raw bytes or in the field of its type."""
    made = numpy_helper.from_array(np.asarray(array))
    if raw or array.dtype.kind not in "fib" or array.dtype == np.float16:
        return made
    return helper.make_tensor("", made.data_type, made.dims, array.reshape(-1).tolist())


def sparse_of(array: Any, name: str) -> SparseTensorProto:
    """The sparse form of `array`, whose zeros are left out, negative ones too."""
    where = np.flatnonzero(array)
    proto = SparseTensorProto(dims=array.shape)
    proto.values.CopyFrom(numpy_helper.from_array(array.reshape(-1)[where], name))
    proto.indices.CopyFrom(numpy_helper.from_array(where.astype(np.int64), ""))
    return proto
