"""Models of one layer whose weight is a product of given rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper


def model(nodes: Sequence[Any], arrays: dict[str, Any], x: Sequence[Any], y: int | None = None) -> ModelProto:
    """A model of `nodes` from x to y."""
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    dtype = held[0].data_type
    entry = helper.make_tensor_value_info("x", dtype, list(x))
    leave = helper.make_tensor_value_info("y", dtype, None if y is None else [None] * y)
    graph = helper.make_graph(list(nodes), "g", [entry], [leave], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def low(k: int, n: int, rank: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    """A matrix [k, n] of a rank."""
    random = np.random.default_rng(seed)
    return (random.standard_normal((k, rank)) @ random.standard_normal((rank, n))).astype(dtype)
