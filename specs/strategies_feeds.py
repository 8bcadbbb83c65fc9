"""Hypothesis strategies for what a model is fed with."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from onnx import ModelProto

from .strategies_scope import FLOAT, Draw
from .strategies_weights import array_of


@st.composite
def feeds(draw: Draw, model: ModelProto, *, defaults: bool = True) -> dict[str, Any]:
    """A feed for `model`: an array for each input without a default, and sometimes for others of floats if `defaults`.

    Defaults of other types may be axes and divisors, which bear no other value. A named dimension has one size in the
    whole feed, 0 to 3; integers lie from -3 to 3, which keeps the trip counts of drawn loops small; floats hold NaN,
    Inf and -0.0 now and then.
    """
    sizes: dict[str, int] = {}
    has_default = {tensor.name for tensor in model.graph.initializer}
    feed = {}
    for info in model.graph.input:
        dtype = info.type.tensor_type.elem_type
        if info.name in has_default and not (defaults and dtype == FLOAT and draw(st.integers(0, 3)) == 3):
            continue
        shape = [_size(draw, dim, sizes) for dim in info.type.tensor_type.shape.dim]
        feed[info.name] = array_of(dtype, shape, draw(st.integers(0, 40)))
    return feed


def _size(draw: Draw, dim: Any, sizes: dict[str, int]) -> int:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    if dim.dim_param not in sizes:
        sizes[dim.dim_param] = draw(st.sampled_from((2, 1, 3, 2, 1, 3, 0)))
    return sizes[dim.dim_param]
