"""What `fuse` leaves alone, and why it says so."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from onnxpress.ir import lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.specs import check_golden, check_variants, model_of

X = "g (float[1,2,4,4] x) => (float[1,2,4,4] y)"
W = "float[2,2,1,1] w = {1, 2, 3, 4}"
ONES = ", ".join(["1"] * 36)
NORM = "float[2] g = {2, 1}, float[2] b = {1, 2}, float[2] m = {1, 3}, float[2] v = {3, 1}"
LAYER_NORM = """
    m = ReduceMean <axes = [-1]> (x) d = Sub(x, m) q = Mul(d, d) s = ReduceMean <axes = [-1]> (q) e = Add(s, eps)
    r = Sqrt(e) n = Div(d, r) k = Mul(n, gain)"""

ALONE = {
    "a constant along the width": f"{X} <{W}, float[4] s = {{1, 2, 3, 4}}> {{ c = Conv(x, w) y = Mul(c, s) }}",
    "a constant as wide as there are channels, along the width": """
        g (float[1,2,2,2] x) => (float[1,2,2,2] y) <float[2,2,1,1] w = {1, 2, 3, 4}, float[2] s = {1, 2}> {
            c = Conv(x, w) y = Mul(c, s)
        }""",
    "a constant that makes more channels": """
        g (float[1,2,4,4] x) => (float[1,3,4,4] y) <float[1,2,1,1] w = {1, 2}, float[3,1,1] s = {1, 2, 3}> {
            c = Conv(x, w) y = Mul(c, s)
        }""",
    "a constant that makes more channels for the layer": """
        g (float[1,1,4,4] x) => (float[1,1,4,4] y) <float[1,3,1,1] w = {1, 2, 3}, float[3,1,1] s = {1, 2, 3}> {
            m = Mul(x, s) y = Conv(m, w)
        }""",
    "a constant that makes a batch": f"""g (float[1,2,4,4] x) => (float[2,2,4,4] y)
        <{W}, float[2,1,1,1] s = {{1, 2}}> {{ c = Conv(x, w) y = Mul(c, s) }}""",
    "a constant of higher rank": f"""g (float[1,2,4,4] x) => (float[1,1,2,4,4] y)
        <{W}, float[1,1,1,1,1] s = {{2}}> {{ c = Conv(x, w) y = Mul(c, s) }}""",
    "a layer that divides": f"{X} <{W}, float s = {{2}}> {{ c = Conv(x, w) y = Div(s, c) }}",
    "a bias that is computed": f"""g (float[1,2,4,4] x, float[2] b) => (float[1,2,4,4] y) <{W}, float s = {{2}}> {{
        c = Conv(x, w, b) y = Mul(c, s) }}""",
    "a shift before a convolution that pads": f"""{X} <float[2,2,3,3] w = {{{ONES}}}, float t = {{1}}> {{
        c = Add(x, t) y = Conv <pads = [1, 1, 1, 1]> (c, w) }}""",
    "a shift before a convolution that pads by itself": f"""{X} <float[2,2,3,3] w = {{{ONES}}}, float t = {{1}}> {{
        c = Add(x, t) y = Conv <auto_pad = "SAME_UPPER"> (c, w) }}""",
    "a shift before a transposed convolution": f"""{X} <float[2,2,3,3] w = {{{ONES}}}, float t = {{1}}> {{
        c = Add(x, t) y = ConvTranspose <pads = [1, 1, 1, 1]> (c, w) }}""",
    "a sum of matrices of rows": """g (float[2,2] x) => (float[2,2] y)
        <float[2,2] w = {1, 2, 3, 4}, float[2,1] t = {1, 2}> { c = MatMul(x, w) y = Add(c, t) }""",
    "a bias of a MatMul of higher rank": """g (float[2,2,2] x) => (float[2,2,2] y)
        <float[2,2] w = {1, 2, 3, 4}, float[2] t = {1, 2}> { c = MatMul(x, w) y = Add(c, t) }""",
    "integers": """g (int32[2,2] x) => (int32[2,2] y) <int32[2,2] w = {1, 2, 3, 4}, int32 s = {2}> {
        c = MatMul(x, w) y = Mul(c, s) }""",
    "integers that overflow otherwise": """g (int32[2] x) => (int32[2] y) <int32 s = {2}> {
        a = Div(x, s) y = Mul(a, s) }""",
    "edges padded": f"""g (float[1,2,4,4] x) => (float[1,2,5,4] y) <{W}, int64[8] p = {{0, 0, 1, 0, 0, 0, 0, 0}}> {{
        c = Pad <mode = "edge"> (x, p) y = Conv(c, w) }}""",
    "ones padded": f"""g (float[1,2,4,4] x) => (float[1,2,5,4] y)
        <{W}, int64[8] p = {{0, 0, 1, 0, 0, 0, 0, 0}}, float one = {{1}}> {{ c = Pad(x, p, one) y = Conv(c, w) }}""",
    "channels padded": """g (float[1,1,4,4] x) => (float[1,2,4,4] y)
        <float[2,2,1,1] w = {1, 2, 3, 4}, int64[8] p = {0, 1, 0, 0, 0, 0, 0, 0}> { c = Pad(x, p) y = Conv(c, w) }""",
    "a cut": f"""g (float[1,2,4,4] x) => (float[1,2,3,4] y) <{W}, int64[8] p = {{0, 0, -1, 0, 0, 0, 0, 0}}> {{
        c = Pad(x, p) y = Conv(c, w) }}""",
    "zeros for a maximum": """g (float[1,2,4,4] x) => (float[1,2,4,4] y) <int64[8] padding = {0, 0, 1, 0, 0, 0, 0, 1}> {
        c = Pad(x, padding) y = MaxPool <kernel_shape = [2, 2]> (c) }""",
    "zeros for a pooling that does not count its own": """g (float[1,2,4,4] x) => (float[1,2,5,5] y)
        <int64[8] padding = {0, 0, 1, 0, 0, 0, 0, 1}> {
        c = Pad(x, padding) y = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 0, 0]> (c) }""",
    "zeros as wide as the window of a pooling": """g (float[1,2,4,4] x) => (float[1,2,3,5] y)
        <int64[8] padding = {0, 0, 0, 0, 0, 0, 0, 2}> {
        c = Pad(x, padding) y = AveragePool <kernel_shape = [2, 2]> (c) }""",
    "zeros for a pooling that rounds up": """g (float[1,2,4,4] x) => (float[1,2,3,3] y)
        <int64[8] padding = {0, 0, 1, 0, 0, 0, 0, 1}> {
        c = Pad(x, padding) y = AveragePool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (c) }""",
    "two convolutions through a narrow middle": """g (float[1,3,2,2] x) => (float[1,3,2,2] y)
        <float[1,3,1,1] w = {1, 2, 3}, float[3,1,1,1] u = {1, 2, 3}> { c = Conv(x, w) y = Conv(c, u) }""",
    "two convolutions, zeros between them": f"""{X} <float[2,2,1,1] w = {{1, 2, 3, 4}}, float[2] b = {{1, 2}},
        float[2,2,3,3] u = {{{ONES}}}> {{ c = Conv(x, w, b) y = Conv <pads = [1, 1, 1, 1]> (c, u) }}""",
    "the end of a layer normalization": f"""g (float[2,2] x) => (float[2,2] y)
        <float eps = {{0.1}}, float[2] gain = {{2, 3}}, float[2,2] w = {{1, 2, 3, 4}}> {{
        {LAYER_NORM} y = MatMul(k, w) }}""",
    "the end of a Gelu": """g (float[2,2] x) => (float[2,2] y)
        <float one = {1}, float half = {0.5}, float[2,2] w = {1, 2, 3, 4}> {
        e = Erf(x) p = Add(e, one) q = Mul(x, p) h = Mul(q, half) y = MatMul(h, w) }""",
}
"""By what is in the way: models that stay as they are."""


@pytest.mark.parametrize("case", ALONE)
def test_left_alone(case):
    opset = 13
    model = model_of(ALONE[case], opset=opset)
    check_golden("fuse", model, model)
    check_variants("fuse", model, rtol=1e-5)


def reasons(text: str, opset: int = 17, **weights: np.ndarray) -> list[str]:
    """What is said of a model that stays as it is."""
    proto = model_of(text, opset=opset)
    for name, array in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    model = lower(proto)
    report = PassManager("fuse").run(model)
    assert not report.changed
    return [remark.reason for remark in report.remarks]


@pytest.mark.parametrize(
    ("scale", "weight", "words"),
    [
        (np.nan, 1, "holds NaN or Inf"),
        (np.inf, 1, "holds NaN or Inf"),
        (1e30, 1e30, "would overflow float32"),
        (1e-30, 1e-30, "would underflow float32"),
        (2, np.inf, "holds NaN or Inf"),
    ],
)
def test_numbers_that_do_not_fit(scale, weight, words):
    text = f"{X} {{ c = Conv(x, w) y = Mul(c, s) }}"
    found = reasons(text, w=np.full((2, 2, 1, 1), weight, np.float32), s=np.float32(scale).reshape(()))
    assert any(words in reason for reason in found)


def test_a_division_by_zero():
    text = f"{X} {{ c = Conv(x, w) y = Div(c, s) }}"
    found = reasons(text, w=np.ones((2, 2, 1, 1), np.float32), s=np.zeros((2, 1, 1), np.float32))
    assert any("divides by zero" in reason for reason in found)


def test_a_bias_that_overflows():
    text = f"{X} {{ c = Conv(x, w, b) y = Add(c, s) }}"
    big = np.full(2, 3e38, np.float32)
    found = reasons(text, w=np.ones((2, 2, 1, 1), np.float32), b=big, s=big.reshape(2, 1, 1))
    assert any("would overflow" in reason for reason in found)


def test_a_variance_below_zero():
    text = f"{X} {{ c = Conv(x, w) y = BatchNormalization(c, a, b, m, v) }}"
    two = {name: np.ones(2, np.float32) for name in "abm"}
    found = reasons(text, w=np.ones((2, 2, 1, 1), np.float32), v=-np.ones(2, np.float32), **two)
    assert any("give NaN or Inf" in reason for reason in found)


@pytest.mark.parametrize(
    ("opset", "outputs", "attributes"),
    [(17, "y, p, q", "<training_mode = 1>"), (9, "y, p, q, r, s", "")],
)
def test_a_normalization_that_trains(opset, outputs, attributes):
    extra = ", ".join(f"float[2] {name}" for name in outputs.split(", ")[1:])
    text = f"""g (float[1,2,4,4] x) => (float[1,2,4,4] y, {extra}) <{W}, {NORM}> {{
        c = Conv(x, w) {outputs} = BatchNormalization {attributes} (c, g, b, m, v) }}"""
    assert any("training mode" in reason for reason in reasons(text, opset))


def test_a_normalization_of_every_place_apart():
    text = f"{X} <{W}, {NORM}> {{ c = Conv(x, w) y = BatchNormalization <spatial = 0> (c, g, b, m, v) }}"
    assert any("every place apart" in reason for reason in reasons(text, 8))


def test_a_shared_weight_is_not_copied():
    text = """g (float[1,9,4,4] x) => (float[1,9,4,4] y, float[1,9,4,4] z) <float s = {2}> {
        z = Conv(x, w) c = Conv(z, w) y = Mul(c, s) }"""
    found = reasons(text, w=np.ones((9, 9, 1, 1), np.float32))
    assert any("would grow" in reason and "w has other readers" in reason for reason in found)


def test_a_scale_with_another_reader_stays():
    text = f"""g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z) <{W}, float s = {{2}}> {{
        c = Mul(x, s) y = Conv(c, w) z = Abs(c) }}"""
    assert reasons(text) == ["nothing can be fused"]


def test_a_weight_that_a_feed_can_override():
    text = f"g (float[1,2,4,4] x, {W}) => (float[1,2,4,4] y) <float s = {{2}}> {{ c = Conv(x, w) y = Mul(c, s) }}"
    assert any("a feed can override" in reason for reason in reasons(text))
