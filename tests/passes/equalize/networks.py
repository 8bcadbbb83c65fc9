"""Networks whose channels reach very differently far."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
CHANNELS = 8
SKEW = 2.0 ** np.array([6, -5, 0, 3, -7, 1, 0, -2])
OTHERS = [0, 1, 2, 3]


@st.composite
def skewed(draw: Any, models: st.SearchStrategy[ModelProto]) -> ModelProto:
    """A drawn network with weights that differ by powers of two and other factors, some zero, huge, tiny or NaN."""
    model = draw(models)
    random = np.random.default_rng(draw(st.integers(0, 99)))
    odd = draw(st.sampled_from(([], [0.0], [0.0, 1e-44, 3e38, np.nan, np.inf])))
    constants = [
        *model.graph.initializer,
        *(a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute),
    ]
    for tensor in constants:
        array = numpy_helper.to_array(tensor).copy()
        if array.dtype == np.float32 and array.ndim:
            axis = int(random.integers(array.ndim))
            shape = [-1 if place == axis else 1 for place in range(array.ndim)]
            factors = np.float32(10) ** random.integers(-4, 5, array.shape[axis]).astype(np.float32)
            factors[random.random(len(factors)) < 0.1] = odd[int(random.integers(len(odd)))] if odd else 1
            with np.errstate(all="ignore"):
                tensor.CopyFrom(numpy_helper.from_array(array * factors.reshape(shape), tensor.name))
    return model


def layers(
    between: list[Any], arrays: dict[str, Array] | None = None, *, last: str = "m", grouped: int = 1, opset: int = 17
) -> ModelProto:
    """Two convolutions with `between` from `h` to `m`; the channels of `h` differ as `SKEW` says, and are read so."""
    random = np.random.default_rng(0)
    w1 = random.uniform(0.5, 1, (CHANNELS, 3, 1, 1)) * SKEW.reshape(-1, 1, 1, 1)
    w2 = random.uniform(0.5, 1, (4, CHANNELS // grouped, 3, 3))
    if grouped == 1:
        w2 = w2 / SKEW.reshape(1, -1, 1, 1)
    held = {"w1": w1, "b1": random.standard_normal(CHANNELS) * SKEW, "w2": w2, **(arrays or {})}
    nodes = [helper.make_node("Conv", ["x", "w1", "b1"], ["h"]), *between]
    nodes.append(helper.make_node("Conv", [last, "w2"], ["y"], group=grouped))
    tensors = [
        numpy_helper.from_array(a if a.dtype == np.int64 else a.astype(np.float32), name) for name, a in held.items()
    ]
    x = helper.make_tensor_value_info("x", 1, ["N", 3, 6, 6])
    y = helper.make_tensor_value_info("y", 1, ["N", 4, "H", "W"])
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(kind: str, *inputs: str, out: str = "m", **attributes: Any) -> Any:
    """A node with one output."""
    return helper.make_node(kind, list(inputs), [out], **attributes)


def spread(array: Array, axis: int) -> float:
    """How far the ranges of channels along an axis lie apart, in powers of two."""
    rest = tuple(place for place in range(array.ndim) if place != axis)
    return float(np.ptp(np.log2(np.abs(array).max(axis=rest))))
