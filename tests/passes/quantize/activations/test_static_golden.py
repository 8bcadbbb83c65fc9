"""Small graphs before and after: the definition of the rewrites of `mode=static` and `mode=dynamic`."""

import numpy as np
import pytest

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert

from ..test_golden import lined_up, text

RNG = np.random.default_rng(3)
W = RNG.standard_normal((8, 6)).astype(np.float32)
KERNEL = RNG.standard_normal((6, 8, 3, 3)).astype(np.float32)
BIAS = RNG.standard_normal(6).astype(np.float32)

CASES = {
    "Conv with Relu": (
        "g (float[1,8,5,5] x) => (float[1,6,5,5] y) { c = Conv<pads = [1,1,1,1]>(x, w, b) y = Relu(c) }",
        {"w": KERNEL, "b": BIAS},
        "static",
        """q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        w_1 = DequantizeLinear<axis = 0>(q_2, s_2, z_2)
        w_2 = DequantizeLinear<axis = 0>(q_3, s_3)
        c = Conv<pads = [1, 1, 1, 1]>(d, w_1, w_2)
        d_1 = Relu(c)
        q_1 = QuantizeLinear(d_1, s_1, z_1)
        y = DequantizeLinear(q_1, s_1, z_1)""",
    ),
    "MatMul leaves its output in float": (
        "g (float[4,8] x) => (float[4,6] y) { y = MatMul(x, w) }",
        {"w": W},
        "static",
        """q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        w_1 = DequantizeLinear<axis = 1>(q_1, s_1, z_1)
        y = MatMul(d, w_1)""",
    ),
    "MatMul, dynamic": (
        "g (float[4,8] x) => (float[4,6] y) { y = MatMul(x, w) }",
        {"w": W},
        "dynamic",
        """q, s, z = DynamicQuantizeLinear(x)
        d = Mul(s, s_1)
        d_1 = MatMulInteger(q, q_1, z)
        d_2 = Cast<to = 1>(d_1)
        y = Mul(d_2, d)""",
    ),
}


def quantized(model, feeds, **options):
    lowered = lower(model)
    manager = PassManager([QuantizeInsert(latency="off", error=10.0, rounding="nearest", **options)], OrtBackend())
    return lowered, manager.run(lowered, data=feeds)


def feeds_of(model, count=4):
    dims = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return [{name: RNG.standard_normal(shape).astype(np.float32) for name, shape in dims.items()} for _ in range(count)]


def nodes_of(model):
    return "\n".join(line for line in text(model).splitlines() if " = " in line)


@pytest.mark.parametrize("name", CASES)
def test_golden(name, model):
    before, weights, mode, expected = CASES[name]
    source = model(before, **weights)
    lowered, _ = quantized(source, feeds_of(source), mode=mode, min_bytes=0)
    assert nodes_of(emit(lowered)) == lined_up(expected)


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_near(name, model, run_model):
    before, weights, mode, _ = CASES[name]
    source = model(before, **weights)
    feeds = feeds_of(source)
    lowered, _ = quantized(source, feeds, mode=mode)
    for feed in feeds:
        y, found = (run_model(one, **feed)["y"] for one in (source, emit(lowered)))
        assert 0 < np.linalg.norm(y - found) < 0.02 * np.linalg.norm(y)


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_onnxruntime_fuses_what_is_emitted(mode, model, optimized):
    source = model("g (float[4,8] x) => (float[4,6] y) { y = MatMul(x, w) }", w=W)
    lowered, _ = quantized(source, feeds_of(source), mode=mode)
    found = optimized(emit(lowered))
    assert "MatMul" not in found
    assert {"MatMulIntegerToFloat", "DynamicQuantizeMatMul"} & set(found)


def test_a_convolution_becomes_one_integer_operator(model, optimized):
    before, weights, _, _ = CASES["Conv with Relu"]
    source = model(before, **weights)
    lowered, _ = quantized(source, feeds_of(source), mode="static")
    found = optimized(emit(lowered))
    assert found.count("QLinearConv") == found.count("QuantizeLinear") == found.count("DequantizeLinear") == 1
    assert not {"Conv", "FusedConv", "Relu"} & set(found)


def test_running_again_changes_nothing(model):
    source = model("g (float[4,8] x) => (float[4,6] y) { y = MatMul(x, w) }", w=W)
    feeds = feeds_of(source)
    once, _ = quantized(source, feeds, mode="static")
    twice, report = quantized(emit(once), feeds, mode="static")
    assert not report.changed
    assert any("quantized already" in remark.reason for remark in report.remarks)
    assert emit(twice) == emit(once)


def test_a_bias_beyond_int32_makes_its_channel_coarser(model, run_model):
    """s_x s_w b would not fit: the scale of that channel's weight is raised."""
    weights = {"w": KERNEL * np.float32(1e-7), "b": np.float32([1e4, 0, 0, 0, 0, -1e4])}
    source = model("g (float[1,8,5,5] x) => (float[1,6,3,3] y) { y = Conv(x, w, b) }", **weights)
    feeds = feeds_of(source)
    lowered, _ = quantized(source, feeds, mode="static")
    y, found = (run_model(one, **feeds[0])["y"] for one in (source, emit(lowered)))
    assert np.abs(y - found)[:, [0, 5]].max() < 100
    assert np.abs(y - found).max() < 100


def test_what_others_read_is_quantized_once(model):
    source = model(
        "g (float[4,8] x) => (float[4,6] y, float[4,6] z) { h = Sigmoid(x) y = MatMul(h, w) z = MatMul(h, v) }",
        w=W,
        v=W[::-1].copy(),
    )
    lowered, _ = quantized(source, feeds_of(source), mode="static")
    assert sum(node.op_type == "QuantizeLinear" for node in emit(lowered).graph.node) == 2  # x, and h


def test_inside_branches(model, run_model):
    source = model(
        """g (float[4,8] x, bool c) => (float[4,6] y) {
            y = If(c) <then_branch = t () => (float[4,6] a) { a = MatMul(x, w) },
                       else_branch = e () => (float[4,6] b) { b = MatMul(x, v) }>
        }""",
        w=W,
        v=W[::-1].copy(),
    )
    feeds = [
        {**feed, "c": np.array(i % 2 == 0)}
        for i, feed in enumerate({"x": RNG.standard_normal((4, 8)).astype(np.float32)} for _ in range(4))
    ]
    lowered, report = quantized(source, feeds, mode="static")
    assert report.changed
    for feed in feeds[:2]:
        y, found = (run_model(one, **feed)["y"] for one in (source, emit(lowered)))
        assert 0 < np.linalg.norm(y - found) < 0.02 * np.linalg.norm(y)


def test_products_behind_each_other_run_dynamically(model, run_model):
    source = model("g (float[4,8] x) => (float[4,8] y) { h = MatMul(x, w) y = MatMul(h, w) }", w=np.eye(8, dtype="f"))
    feeds = feeds_of(source)
    lowered, _ = quantized(source, feeds, mode="dynamic", min_bytes=0)
    assert [node.op_type for node in emit(lowered).graph.node].count("MatMulInteger") == 2
    assert np.abs(run_model(emit(lowered), **feeds[0])["y"] - feeds[0]["x"]).max() < 0.1
