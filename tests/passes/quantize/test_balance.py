"""Scales of input channels: when they are taken, what they are worth, and that they cost no exactness."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.passes.manager.weights import Outcome
from onnxpress.passes.quantize.balance import balanced
from onnxpress.passes.quantize.levels import decode, encode, steps

K, N = 48, 40
TEXT = {
    "MatMul": f"g (float[M,{K}] x) => (float[M,{N}] y) {{ y = MatMul(x, w) }}",
    "Gemm": f"g (float[M,{K}] x) => (float[M,{N}] y) {{ y = Gemm<transB = 1>(x, w) }}",
    "behind Transpose": f"g (float[M,{K}] x) => (float[M,{N}] y) {{ t = Transpose(w) y = MatMul(x, t) }}",
    "Conv": f"g (float[M,{K},5,5] x) => (float[M,{N},3,3] y) {{ y = Conv(x, w) }}",
    "ConvTranspose": f"g (float[M,{K},5,5] x) => (float[M,{N},7,7] y) {{ y = ConvTranspose(x, w) }}",
}
SHAPES = {
    "MatMul": (K, N),
    "Gemm": (N, K),
    "behind Transpose": (N, K),
    "Conv": (N, K, 3, 3),
    "ConvTranspose": (K, N, 3, 3),
}


def skewed(op, seed=0, orders=12):
    """A weight whose columns were rescaled by up to 2^orders, and the inverse scales, which x is to carry."""
    rng = np.random.default_rng(seed)
    shape = SHAPES[op]
    scales = np.exp2(rng.uniform(0, orders, K)).astype(np.float32)
    along = [K if at == shape.index(K) else 1 for at in range(len(shape))]
    return rng.standard_normal(shape).astype(np.float32) * scales.reshape(along), 1 / scales


def inputs(op, inverse):
    rng = np.random.default_rng(9)
    x = rng.standard_normal((6, K, 5, 5) if "Conv" in op else (6, K)).astype(np.float32)
    return x * (inverse[:, None, None] if "Conv" in op else inverse)


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("op", TEXT)
def test_a_rescaled_network_loses_no_more_than_the_original(op, model, quantize, run_model):
    weight, inverse = skewed(op)
    proto, x = model(TEXT[op], w=weight), inputs(op, inverse)
    expected = run_model(proto, x=x)["y"]
    with_ = relative(run_model(quantize(proto).model, x=x)["y"], expected)
    without = relative(run_model(quantize(proto, balance=False).model, x=x)["y"], expected)
    assert with_ < 0.02  # ~ 1 / 127 of a normal weight's peak, and powers of two miss by up to sqrt(2)
    assert without > 5 * with_


@pytest.mark.parametrize("op", TEXT)
def test_levels_times_both_scales_are_what_the_bound_was_computed_from(op, model, quantize, run_model):
    weight, inverse = skewed(op)
    proto, x = model(TEXT[op], w=weight), inputs(op, inverse)
    made, report = quantize(proto)
    assert [node.op_type for node in made.graph.node][:3] == ["Cast", "Mul", "Mul"]
    (bound,) = [one for one in report.bounds if one.form == "linear"]
    y, quantized = run_model(proto, x=x)["y"], run_model(made, x=x)["y"]
    error = np.moveaxis(np.abs(y - quantized), bound.axis % y.ndim, -1).reshape(-1, N).max(0)
    assert (error <= bound.per_channel * np.abs(x).max() * (1 + 1e-4)).all()


def test_onnxruntime_folds_both_products_at_load(model, quantize, optimized):
    assert optimized(quantize(model(TEXT["MatMul"], w=skewed("MatMul")[0])).model) == ["MatMul"]


@pytest.mark.parametrize("op", TEXT)
def test_ordinary_weights_get_scales_of_output_channels_alone(op, model, quantize):
    made, _ = quantize(model(TEXT[op], w=skewed(op, orders=0)[0]))
    assert sum(node.op_type == "Mul" for node in made.graph.node) == 1


def test_readers_that_disagree_about_the_input_axis_get_none(model, quantize):
    text = "g (float[M,40] x) => (float[M,40] y, float[M,40] z) { y = MatMul(x, w) z = Gemm<transB = 1>(x, w) }"
    weight = np.random.default_rng(1).standard_normal((40, 40)) * np.exp2(np.linspace(0, 12, 40))
    made, _ = quantize(model(text, w=weight.astype(np.float32)))
    assert sum(node.op_type == "Mul" for node in made.graph.node) == 1


def test_quantizing_again_changes_nothing(model, quantize):
    once, _ = quantize(model(TEXT["MatMul"], w=skewed("MatMul")[0]), min_bytes=0)
    again, report = quantize(once, min_bytes=0)
    assert again.graph == once.graph
    assert not [one for one in report.weights if one.outcome is Outcome.QUANTIZED and one.by == "quantize-insert"]


def test_dequantize_linear_has_one_set_of_scales(model, quantize):
    made, _ = quantize(model(TEXT["MatMul"], w=skewed("MatMul")[0]), form="dq")
    assert [node.op_type for node in made.graph.node] == ["DequantizeLinear", "MatMul"]


@st.composite
def matrices(draw):
    """Matrices whose rows and columns differ by many orders, with zeros, zero columns and denormals among them."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    dtype = draw(st.sampled_from([np.float32, np.float64, np.float16]))
    shape = draw(st.integers(1, 20)), draw(st.integers(2, 20))
    low, high = draw(st.sampled_from([(-3, 3), (-40, 20), (-149, 100)])) if dtype is not np.float16 else (-12, 8)
    weight = rng.standard_normal(shape) * np.exp2(rng.integers(low, high, (1, shape[1])))
    weight *= rng.random(shape) < draw(st.sampled_from([1.0, 0.5, 0.1]))
    weight[:, rng.integers(shape[1])] *= draw(st.sampled_from([0.0, -1.0]))
    return weight.astype(dtype)


@given(matrices())
def test_error_is_half_a_step_and_the_product_is_exact(weight):
    arithmetic = np.dtype(np.float64 if weight.dtype == np.float64 else np.float32)
    made = balanced(weight, steps(weight, (0,), arithmetic), 1)
    levels = encode(weight, made)
    decoded = decode(levels, made, weight.dtype)
    assert (np.abs(levels.astype(int)) <= 127).all()
    assert (decoded[weight == 0] == 0).all()
    rounding = 2.0 ** -(11 if weight.dtype == np.float16 else 22)
    smallest = float(np.finfo(weight.dtype).smallest_subnormal)
    exact = weight.astype(np.float64)
    allowed = made.array.astype(np.float64) / 2 * (1 + 1e-5) + rounding * np.abs(exact) + smallest
    assert (np.abs(exact - decoded.astype(np.float64)) <= allowed).all()
    if made.factors:
        rows, columns = made.factors
        two = np.multiply(np.multiply(levels, rows, dtype=arithmetic), columns, dtype=arithmetic)
        np.testing.assert_array_equal(two.astype(weight.dtype), decoded)
        assert (np.frexp(columns)[0] == 0.5).all()
        assert columns.min() >= 1


@given(matrices())
def test_the_expected_error_of_the_weight_does_not_grow(weight):
    arithmetic = np.dtype(np.float64 if weight.dtype == np.float64 else np.float32)
    plain = steps(weight, (0,), arithmetic)
    made = balanced(weight, plain, 1)
    assert made.squared_error() <= plain.squared_error() * (1 + 1e-6)
