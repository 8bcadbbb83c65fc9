"""What only a Concat reads has its parameters, so that nothing is rounded twice."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert

RNG = np.random.default_rng(2)
KERNELS = {name: (RNG.standard_normal((8, 8, 1, 1)) * size).astype(np.float32) for name, size in (("w", 1), ("v", 9))}

BODIES = {
    "read by it alone": ("a = Conv(x, w) b = Conv(x, v) y = Concat<axis = 1>(a, b)", 1),
    "through a mover": (
        "a = Conv(x, w) t = Transpose<perm = [0,1,3,2]>(a) b = Conv(x, v) y = Concat<axis = 1>(t, b)",
        1,
    ),
    "read by others too": ("a = Conv(x, w) b = Conv(x, v) c = Add(a, b) y = Concat<axis = 1>(a, c)", 3),
    "twice the same": ("a = Conv(x, w) b = Sigmoid(a) c = Concat<axis = 1>(b, b) y = Add(c, c)", 3),
}
"""Models with a Concat, and how many different scales there are beside that of x."""


def quantized(source, feeds):
    lowered = lower(source)
    run = QuantizeInsert(mode="static", latency="off", rounding="nearest", error=10.0)
    PassManager([run], OrtBackend()).run(lowered, data=feeds)
    return emit(lowered)


@pytest.mark.parametrize("name", BODIES)
def test_how_many_scales(name, model, run_model):
    body, expected = BODIES[name]
    source = model(f"g (float[1,8,4,4] x) => (float[1,16,4,4] y) {{ {body} }}", **KERNELS)
    feeds = [{"x": RNG.standard_normal((1, 8, 4, 4)).astype(np.float32)} for _ in range(4)]
    made = quantized(source, feeds)
    held = {one.name: numpy_helper.to_array(one) for one in made.graph.initializer}
    coded = [node for node in made.graph.node if node.op_type == "QuantizeLinear"]
    scales = {float(held[node.input[1]]) for node in coded if node.input[0] != "x"}
    assert len(scales) == expected
    y, found = (run_model(one, **feeds[0])["y"] for one in (source, made))
    assert np.linalg.norm(y - found) < 0.05 * np.linalg.norm(y)
