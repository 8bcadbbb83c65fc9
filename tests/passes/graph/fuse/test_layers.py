"""`fuse`: layers absorb the constants and normalizations around them."""

from __future__ import annotations

from onnxpress.passes.manager.report import Report
from onnxpress.specs import check_golden, check_variants, model_of

X = "g (float[1,2,4,4] x) => (float[1,2,4,4] y)"
W = "float[2,2,1,1] w = {1, 2, 3, 4}"


def fused(before: str, after: str, opset: int = 17) -> Report:
    """The golden case, and all its variants: nothing is fused that must not be."""
    check_variants("fuse", model_of(before, opset=opset), rtol=1e-5)
    return check_golden("fuse", model_of(before, opset=opset), model_of(after, opset=opset))


def test_a_scale_after_a_convolution_goes_into_its_weight_and_bias():
    fused(
        f"{X} <{W}, float[2] b = {{1, 2}}, float[2,1,1] s = {{2, 10}}> {{ c = Conv(x, w, b) y = Mul(s, c) }}",
        f"{X} <float[2,2,1,1] w = {{2, 4, 30, 40}}, float[2] b = {{2, 20}}> {{ y = Conv(x, w, b) }}",
    )


def test_a_shift_after_a_convolution_becomes_its_bias():
    fused(
        f"{X} <{W}, float[1,2,1,1] t = {{1, 2}}> {{ c = Conv(x, w) y = Add(c, t) }}",
        f"{X} <{W}, float[2] w_bias = {{1, 2}}> {{ y = Conv(x, w, w_bias) }}",
    )


def test_a_normalization_goes_into_the_convolution_before_it():
    fused(
        f"""{X} <{W}, float[2] g = {{2, 1}}, float[2] b = {{1, 2}}, float[2] m = {{1, 3}}, float[2] v = {{3, 0}}> {{
            c = Conv(x, w) y = BatchNormalization <epsilon = 1.0> (c, g, b, m, v)
        }}""",
        f"{X} <{W}, float[2] w_bias = {{0, -1}}> {{ y = Conv(x, w, w_bias) }}",
    )
