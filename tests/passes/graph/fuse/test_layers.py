"""`fuse`: what each rule makes, and that it holds back or stays right wherever something else is different."""

from __future__ import annotations

import pytest
from onnx import checker

from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.specs import check_golden, check_variants, model_of

X = "g (float[1,2,4,4] x) => (float[1,2,4,4] y)"
W = "float[2,2,1,1] w = {1, 2, 3, 4}"
PADDED = "Conv <pads = [1, 1, 1, 1]>"
SQUARE = [1, 2, 3, 4, 5, 6, 7, 8, 9] * 4
BIG = f"float[2,2,3,3] w = {{{', '.join(str(n) for n in SQUARE)}}}"
TWICE = f"float[2,2,3,3] w = {{{', '.join(str(2 * n) for n in SQUARE)}}}"

GOLDEN = {
    "a scale goes into weight and bias": (
        f"{X} <{W}, float[2] b = {{1, 2}}, float[2,1,1] s = {{2, 10}}> {{ c = Conv(x, w, b) y = Mul(s, c) }}",
        f"{X} <float[2,2,1,1] w = {{2, 4, 30, 40}}, float[2] b = {{2, 20}}> {{ y = Conv(x, w, b) }}",
    ),
    "a divisor goes into the weight": (
        f"{X} <{W}, float s = {{2}}> {{ c = Conv(x, w) y = Div(c, s) }}",
        f"{X} <float[2,2,1,1] w = {{0.5, 1, 1.5, 2}}> {{ y = Conv(x, w) }}",
    ),
    "a shift becomes the bias": (
        f"{X} <{W}, float[1,2,1,1] t = {{1, 2}}> {{ c = Conv(x, w) y = Add(c, t) }}",
        f"{X} <{W}, float[2] w_bias = {{1, 2}}> {{ y = Conv(x, w, w_bias) }}",
    ),
    "a difference negates": (
        f"{X} <{W}, float[2] b = {{1, 2}}, float t = {{1}}> {{ c = Conv(x, w, b) y = Sub(t, c) }}",
        f"{X} <float[2,2,1,1] w = {{-1, -2, -3, -4}}, float[2] b = {{0, -1}}> {{ y = Conv(x, w, b) }}",
    ),
    "a chain of maps goes into the layer": (
        f"""{X} <{W}, float[2] b = {{1, 2}}, float[2,1,1] s = {{2, 10}}, float t = {{1}}, float d = {{2}}> {{
            c = Conv(x, w, b) m = Mul(s, c) a = Sub(m, t) y = Div(a, d)
        }}""",
        f"{X} <float[2,2,1,1] w = {{1, 2, 15, 20}}, float[2] b = {{0.5, 9.5}}> {{ y = Conv(x, w, b) }}",
    ),
    "of a chain of maps those go that fit": (
        """g (float[2,2,2] x) => (float[2,2,2] y)
        <float[2,2] w = {1, 2, 3, 4}, float s = {2}, float d = {4}, float[2] t = {1, 2}> {
            c = MatMul(x, w) m = Mul(c, s) e = Div(m, d) y = Add(e, t)
        }""",
        """g (float[2,2,2] x) => (float[2,2,2] y) <float[2] t = {1, 2}, float[2,2] w = {0.5, 1, 1.5, 2}> {
            e = MatMul(x, w) y = Add(e, t)
        }""",
    ),
    "a normalization goes into the layer before it": (
        f"""{X} <{W}, float[2] g = {{2, 1}}, float[2] b = {{1, 2}}, float[2] m = {{1, 3}}, float[2] v = {{3, 0}}> {{
            c = Conv(x, w) y = BatchNormalization <epsilon = 1.0> (c, g, b, m, v)
        }}""",
        f"{X} <{W}, float[2] w_bias = {{0, -1}}> {{ y = Conv(x, w, w_bias) }}",
    ),
    "a scale before a padded layer": (
        f"{X} <{BIG}, float s = {{2}}> {{ c = Mul(x, s) y = {PADDED} (c, w) }}",
        f"{X} <{TWICE}> {{ y = {PADDED} (x, w) }}",
    ),
    "a shift before a layer that does not pad": (
        f"{X} <{W}, float[2,1,1] t = {{1, 10}}> {{ c = Add(x, t) y = Conv(c, w) }}",
        f"{X} <{W}, float[2] w_bias = {{21, 43}}> {{ y = Conv(x, w, w_bias) }}",
    ),
    "a normalization before a layer that does not pad": (
        f"""{X} <{W}, float[2] g = {{2, 1}}, float[2] b = {{1, 2}}, float[2] m = {{1, 3}}, float[2] v = {{3, 0}}> {{
            c = BatchNormalization <epsilon = 1.0> (x, g, b, m, v) y = Conv(c, w)
        }}""",
        f"{X} <{W}, float[2] w_bias = {{-2, -4}}> {{ y = Conv(x, w, w_bias) }}",
    ),
    "a difference before a layer that does not pad": (
        f"{X} <{W}, float[2,1,1] t = {{1, 10}}> {{ c = Sub(t, x) y = Conv(c, w) }}",
        f"{X} <float[2,2,1,1] w = {{-1, -2, -3, -4}}, float[2] w_bias = {{21, 43}}> {{ y = Conv(x, w, w_bias) }}",
    ),
    "a scale passes a shift to reach a padded layer": (
        f"""{X} <{BIG}, float s = {{2}}, float[2,1,1] t = {{1, 3}}> {{
            m = Mul(x, s) a = Add(m, t) y = {PADDED} (a, w)
        }}""",
        f"{X} <float[2,1,1] t = {{0.5, 1.5}}, {TWICE}> {{ v0 = Add(x, t) y = {PADDED} (v0, w) }}",
    ),
    "groups": (
        """g (float[1,4,3,3] x) => (float[1,2,3,3] y)
        <float[2,2,1,1] w = {1, 2, 3, 4}, float[4,1,1] s = {1, 10, 100, 1000}> {
            m = Mul(x, s) y = Conv <group = 2> (m, w)
        }""",
        """g (float[1,4,3,3] x) => (float[1,2,3,3] y) <float[2,2,1,1] w = {1, 20, 300, 4000}> {
            y = Conv <group = 2> (x, w)
        }""",
    ),
    "a transposed convolution with groups": (
        """g (float[1,2,3,3] x) => (float[1,4,3,3] y)
        <float[2,2,1,1] w = {1, 2, 3, 4}, float[4,1,1] s = {1, 10, 100, 1000}> {
            c = ConvTranspose <group = 2> (x, w) y = Mul(c, s)
        }""",
        """g (float[1,2,3,3] x) => (float[1,4,3,3] y) <float[2,2,1,1] w = {1, 20, 300, 4000}> {
            y = ConvTranspose <group = 2> (x, w)
        }""",
    ),
    "beta of a Gemm": (
        """g (float[3,2] x) => (float[3,2] y) <float[2,2] w = {1, 2, 3, 4}, float[2] b = {1, 2}, float[2] s = {2, 10}> {
            c = Gemm <beta = 0.5, transB = 1> (x, w, b) y = Mul(c, s)
        }""",
        """g (float[3,2] x) => (float[3,2] y) <float[2,2] w = {2, 4, 30, 40}, float[2] b = {1, 10}> {
            y = Gemm <transB = 1> (x, w, b)
        }""",
    ),
    "a MatMul of two matrices with a bias is a Gemm": (
        """g (float[3,2] x) => (float[3,2] y) <float[2,2] w = {1, 2, 3, 4}, float[2] t = {1, 2}> {
            c = MatMul(x, w) y = Add(t, c)
        }""",
        """g (float[3,2] x) => (float[3,2] y) <float[2,2] w = {1, 2, 3, 4}, float[2] w_bias = {1, 2}> {
            y = Gemm(x, w, w_bias)
        }""",
    ),
    "scales around a MatMul of any rank": (
        """g (float[2,3,2] x) => (float[2,3,2] y)
        <float[2,2] w = {1, 2, 3, 4}, float[2] s = {2, 10}, float[2] t = {1, 3}> {
            a = Mul(x, s) c = MatMul(a, w) y = Mul(c, t)
        }""",
        "g (float[2,3,2] x) => (float[2,3,2] y) <float[2,2] w = {2, 12, 30, 120}> { y = MatMul(x, w) }",
    ),
    "factors": (
        "g (float[N,2] x) => (float[N,2] y) <float[2] a = {2, 3}, float b = {4}> { c = Mul(x, a) y = Div(c, b) }",
        "g (float[N,2] x) => (float[N,2] y) <float[2] a_1 = {0.5, 0.75}> { y = Mul(x, a_1) }",
    ),
    "terms": (
        "g (float[N,2] x) => (float[N,2] y) <float[2] a = {2, 3}, float b = {4}> { c = Sub(a, x) y = Sub(c, b) }",
        "g (float[N,2] x) => (float[N,2] y) <float[2] a_1 = {-2, -1}> { y = Sub(a_1, x) }",
    ),
    "three maps are two": (
        """g (float[N,2] x) => (float[N,2] y) <float a = {2}, float[2] b = {3, 4}, float[2] c = {5, 6}> {
            p = Add(x, a) q = Mul(p, b) y = Sub(q, c)
        }""",
        """g (float[N,2] x) => (float[N,2] y) <float[2] a_1 = {3, 4}, float[2] c_1 = {1, 2}> {
            v0 = Mul(x, a_1) y = Add(v0, c_1)
        }""",
    ),
    "zero added": (
        "g (float[N,2] x) => (float[N,2] y) <float z = {0}> { a = Abs(x) b = Add(z, a) y = Sqrt(b) }",
        "g (float[N,2] x) => (float[N,2] y) { a = Abs(x) y = Sqrt(a) }",
    ),
    "a scale after a normalization without a layer": (
        f"""{X} <float[2] g = {{2, 1}}, float[2] b = {{1, 2}}, float[2] m = {{1, 3}}, float[2] v = {{3, 0}},
            float[2,1,1] s = {{3, 5}}> {{
            a = Abs(x) n = BatchNormalization(a, g, b, m, v) y = Mul(n, s)
        }}""",
        f"""{X} <float[2] m = {{1, 3}}, float[2] v = {{3, 0}}, float[2] g = {{6, 5}}, float[2] b = {{3, 10}}> {{
            a = Abs(x) y = BatchNormalization(a, g, b, m, v)
        }}""",
    ),
    "a difference after a normalization without a layer": (
        f"""{X} <float[2] g = {{2, 1}}, float[2] b = {{1, 2}}, float[2] m = {{1, 3}}, float[2] v = {{3, 0}},
            float t = {{5}}> {{
            a = Abs(x) n = BatchNormalization(a, g, b, m, v) y = Sub(t, n)
        }}""",
        f"""{X} <float[2] m = {{1, 3}}, float[2] v = {{3, 0}}, float[2] g = {{-2, -1}}, float[2] b = {{4, 3}}> {{
            a = Abs(x) y = BatchNormalization(a, g, b, m, v)
        }}""",
    ),
    "two normalizations without a layer": (
        f"""{X} <float[2] g = {{2, 1}}, float[2] b = {{1, 2}}, float[2] m = {{1, 3}}, float[2] v = {{3, 0}},
            float[2] h = {{4, 6}}, float[2] c = {{1, 1}}, float[2] o = {{0, 1}}, float[2] u = {{3, 3}}> {{
            a = Abs(x) n = BatchNormalization(a, g, b, m, v) y = BatchNormalization <epsilon = 1.0> (n, h, c, o, u)
        }}""",
        f"""{X} <float[2] m = {{1, 3}}, float[2] v = {{3, 0}}, float[2] g = {{4, 3}}, float[2] b = {{3, 4}}> {{
            a = Abs(x) y = BatchNormalization(a, g, b, m, v)
        }}""",
    ),
    "zeros padded before a convolution": (
        f"""g (float[1,2,4,4] x) => (float[1,2,5,6] y) <{W}, int64[8] p = {{0, 0, 1, 0, 0, 0, 0, 2}}> {{
            a = Pad(x, p) y = Conv(a, w)
        }}""",
        f"g (float[1,2,4,4] x) => (float[1,2,5,6] y) <{W}> {{ y = Conv <pads = [1, 0, 0, 2]> (x, w) }}",
    ),
    "zeros padded before a pooling that counts them": (
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y) <int64[8] padding = {0, 0, 1, 0, 0, 0, 0, 1}> {
            a = Pad(x, padding) y = AveragePool <kernel_shape = [2, 2]> (a)
        }""",
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y) {
            y = AveragePool <kernel_shape = [2, 2], pads = [1, 0, 0, 1], count_include_pad = 1> (x)
        }""",
    ),
    "a scale that several layers read goes into each": (
        f"""g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z)
        <{W}, {BIG.replace(" w ", " u ")}, float s = {{2}}> {{
            c = Mul(x, s) y = Conv(c, w) z = {PADDED} (c, u)
        }}""",
        f"""g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z)
        <float[2,2,1,1] w = {{2, 4, 6, 8}}, {TWICE.replace(" w ", " u ")}> {{
            y = Conv(x, w) z = {PADDED} (x, u)
        }}""",
    ),
    "a pointwise convolution behind another": (
        f"""g (float[1,2,4,4] x) => (float[1,1,4,4] y) <{W}, float[2] b = {{1, 2}}, float[1,2,1,1] u = {{1, 10}}> {{
            c = Conv(x, w, b) y = Conv(c, u)
        }}""",
        """g (float[1,2,4,4] x) => (float[1,1,4,4] y) <float[1,2,1,1] u = {31, 42}, float[1] u_bias = {21}> {
            y = Conv(x, u, u_bias)
        }""",
    ),
}
"""By what happens: before and after."""


@pytest.mark.parametrize("case", GOLDEN)
def test_golden(case):
    before, after = (model_of(text) for text in GOLDEN[case])
    check_golden("fuse", before, named_alike(before, after))


@pytest.mark.parametrize("case", GOLDEN)
def test_every_variant_is_right(case):
    check_variants("fuse", model_of(GOLDEN[case][0]), rtol=1e-5)


def test_a_chain_of_maps_goes_in_one_step():
    model = lower(model_of(GOLDEN["a chain of maps goes into the layer"][0]))
    assert PassManager("fuse").run(model).steps[0].rules == {"scale-after-layer": 1}


def named_alike(before, after):
    """The expected model with v0 called as the pass calls it."""
    model = lower(before)
    PassManager("fuse").run(model)
    made = emit(model)
    checker.check_model(made, full_check=True)
    for expected, found in zip(after.graph.node, made.graph.node, strict=False):
        if expected.output[0] == "v0":
            new = found.output[0]
            for node in after.graph.node:
                node.input[:] = [new if name == "v0" else name for name in node.input]
                node.output[:] = [new if name == "v0" else name for name in node.output]
    return after
