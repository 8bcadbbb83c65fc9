"""A Softmax in float over an axis that its kernel would transpose is written in single steps, where that is faster."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import parser

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Rewriter, emit, lower, verify
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.static.spelled import STEPS, spell_softmax

RNG = np.random.default_rng(11)
KERNEL = RNG.standard_normal((64, 64, 3, 3)).astype(np.float32) / 24
NUMBERS = st.floats(-(2.0**99), 2.0**99, width=32) | st.sampled_from([np.inf, -np.inf])


def detector(model, axis, shape="1,64,24,24"):
    nodes = f"c = Conv<pads = [1,1,1,1]>(x, w) y = Softmax<axis = {axis}>(c)"
    return model(f"g (float[{shape}] x) => (float[{shape}] y) {{ {nodes} }}", w=KERNEL)


def quantized(source, latency="profile"):
    lowered = lower(source)
    shape = [dim.dim_value for dim in source.graph.input[0].type.tensor_type.shape.dim]
    feeds = [{"x": RNG.standard_normal(shape).astype(np.float32)} for _ in range(4)]
    run = QuantizeInsert(mode="static", latency=latency, rounding="nearest", error=1.0)
    report = PassManager([run], OrtBackend()).run(lowered, data=feeds)
    verify(lowered)
    return emit(lowered), feeds, report


def test_an_axis_before_others_is_spelled_out(model, run_model):
    source = detector(model, 1)
    made, feeds, report = quantized(source)
    ops = [node.op_type for node in made.graph.node]
    assert ops[-STEPS:] == ["ReduceMax", "Sub", "Exp", "ReduceSum", "Div"]
    assert "Softmax" not in ops
    assert any(remark.rule == "spelled" and "Softmax is spelled out" in remark.reason for remark in report.remarks)
    y, found = (run_model(one, **feeds[0])["y"] for one in (source, made))
    assert np.linalg.norm(y - found) < 0.05 * np.linalg.norm(y)


@pytest.mark.parametrize(("axis", "latency"), [(-1, "profile"), (2, "profile"), (1, "off")])
def test_others_stay(model, axis, latency):
    """Over the last axis, and the one before it, the kernel is fast; and without times nothing is known to be slow."""
    made, _, report = quantized(detector(model, axis), latency)
    assert [node.op_type for node in made.graph.node].count("Softmax") == 1
    assert not any(remark.rule == "spelled" for remark in report.remarks)


def test_a_model_that_stays_in_float_keeps_its_softmax(model):
    source = model("g (float[1,64,24,24] x) => (float[1,64,24,24] y) { y = Softmax<axis = 1>(x) }")
    made, _, report = quantized(source)
    assert not report.changed
    assert made == source


def test_in_a_branch_whose_output_it_is(model, run_model):
    inside = "c = Conv<pads = [1,1,1,1]>(x, w) a = Softmax<axis = 1>(c)"
    source = model(
        f"""g (float[1,64,24,24] x, bool which) => (float[1,64,24,24] y) {{
            y = If(which) <then_branch = t () => (float[1,64,24,24] a) {{ {inside} }},
                           else_branch = e () => (float[1,64,24,24] b) {{ b = Exp(x) }}>
        }}""",
        w=KERNEL,
    )
    feeds = [
        {"x": RNG.standard_normal((1, 64, 24, 24)).astype(np.float32), "which": np.array(i != 3)} for i in range(4)
    ]
    lowered = lower(source)
    run = QuantizeInsert(mode="static", rounding="nearest", error=1.0)
    report = PassManager([run], OrtBackend()).run(lowered, data=feeds)
    verify(lowered)
    assert any(remark.rule == "spelled" for remark in report.remarks)
    for feed in feeds:
        y, found = (run_model(one, **feed)["y"] for one in (source, emit(lowered)))
        assert np.linalg.norm(y - found) < 0.05 * np.linalg.norm(y)


@given(
    opset=st.sampled_from([13, 17, 18]),
    axis=st.integers(-3, 2),
    values=st.lists(NUMBERS, min_size=12, max_size=12),
)
def test_it_is_the_softmax_for_all_numbers(opset, axis, values):
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
    g (float[2,3,2] x) => (float[2,3,2] y) {{ y = Softmax<axis = {axis}>(x) }}"""
    source, written = lower(parser.parse_model(text)), lower(parser.parse_model(text))
    (node,) = written.graph.nodes
    spell_softmax(Rewriter(written), node)
    verify(written)
    feed = {"x": np.array(values, np.float32).reshape(2, 3, 2)}
    y, found = (OrtBackend().prepare(one).run(feed)["y"] for one in (source, written))
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-37)
