"""A MaxPool between integer convolutions runs in integers, in the layout in which it is fast; no other one does."""

from __future__ import annotations

import numpy as np
import pytest

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert

RNG = np.random.default_rng(8)
KERNEL = RNG.standard_normal((64, 64, 3, 3)).astype(np.float32) / 24
SHAPE = (1, 64, 24, 24)
POOL = "MaxPool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>"
CONV = "Conv<pads = [1,1,1,1]>"


def optimized_after(model, optimized, nodes, latency="profile"):
    source = model(f"g (float[1,64,24,24] x) => (float[1,64,12,12] y) {{ {nodes} }}", w=KERNEL, v=KERNEL[::-1].copy())
    lowered = lower(source)
    run = QuantizeInsert(mode="static", rounding="nearest", error=1.0, latency=latency)
    feeds = [{"x": RNG.standard_normal(SHAPE).astype(np.float32)} for _ in range(4)]
    PassManager([run], OrtBackend()).run(lowered, data=feeds)
    return optimized(emit(lowered))


@pytest.mark.parametrize("latency", ["profile", "measure"])
def test_between_convolutions(model, optimized, latency):
    found = optimized_after(model, optimized, f"c = {CONV}(x, w) r = Relu(c) p = {POOL}(r) y = {CONV}(p, v)", latency)
    assert found.count("QLinearConv") == 2
    assert "NhwcMaxPool" in found
    assert "MaxPool" not in found


def test_behind_something_else_the_convolution_is_in_float_too(model, optimized):
    """Quantized between the two, onnxruntime would have the pool in integers, in the wrong layout."""
    found = optimized_after(model, optimized, f"a = Abs(x) p = {POOL}(a) y = {CONV}(p, v)")
    assert not {"QuantizeLinear", "QLinearConv", "NhwcMaxPool"} & set(found)


def test_apart_from_what_is_quantized(model, optimized):
    found = optimized_after(model, optimized, f"a = Abs(x) p = {POOL}(a) e = Exp(p) y = {CONV}(e, v)")
    assert found.index("MaxPool") < found.index("Exp") < found.index("QuantizeLinear") < found.index("QLinearConv")
