"""MatMulNBits agrees with the float product of what the grid decodes, and stands where it can and nowhere else."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import UserError
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.levels import decode, encode
from onnxpress.passes.quantize.nbits import NBits
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.recipe import Recipe

RNG = np.random.default_rng(2)
W = RNG.standard_normal((48, 24)).astype(np.float32)
OPS = {
    "MatMul": "y = MatMul(x, w)",
    "behind Transpose": "t = Transpose(w) y = MatMul(x, t)",
    "Gemm": "y = Gemm(x, w)",
    "Gemm of a transposed weight": "y = Gemm<transB = 1>(x, w)",
    "Gemm with a bias": "y = Gemm<transB = 1>(x, w, c)",
}
TRANSPOSED = ("behind Transpose", "Gemm of a transposed weight", "Gemm with a bias")


@st.composite
def cases(draw):
    """A layer: K inputs, N outputs, an operator, and options."""
    inner, outer = draw(st.integers(1, 90)), draw(st.integers(8, 40))
    op, batch = draw(st.sampled_from(list(OPS))), draw(st.integers(1, 9))
    bits, block = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from([16, 32, 64]))
    return inner, outer, op, batch, bits, block, draw(st.booleans()), draw(st.integers(0, 99))


@settings(max_examples=150)
@given(case=cases())
def test_it_agrees_with_the_float_product_of_what_is_decoded(case, model):
    inner, outer, op, batch, bits, block, symmetric, seed = case
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((outer, inner) if op in TRANSPOSED else (inner, outer)).astype(np.float32)
    weight *= rng.random(weight.shape) < 0.9
    text = f"g (float[M,{inner}] x) => (float[M,{outer}] y) {{ {OPS[op]} }}"
    bias = rng.standard_normal(outer).astype(np.float32)
    proto = model(text, w=weight, **({"c": bias} if "c)" in OPS[op] else {}))
    lowered = lower(proto)
    options = {"type": f"int{bits}", "format": "nbits", "block": block, "symmetric": symmetric, "min_bytes": 0}
    report = PassManager([QuantizeInsert(**options)], backend=OrtBackend()).run(lowered)
    operators = {node.op_type for node in emit(lowered).graph.node}
    assume("MatMulNBits" in operators)  # tiny weights do not get smaller by it
    assert operators <= {"MatMulNBits", "Add"}
    axis = int(op in TRANSPOSED)
    grid = NBits.of(Recipe(f"int{bits}", "block", block, symmetric), 0).grid(weight, axis)
    decoded = decode(encode(weight, grid), grid, weight.dtype)
    matrix = decoded.T if axis else decoded
    x = rng.standard_normal((batch, inner)).astype(np.float32)
    y = OrtBackend().prepare(lowered).run({"x": x})["y"]
    added = bias.astype(np.float64) if "c)" in OPS[op] else 0.0
    exact = x.astype(np.float64) @ matrix.astype(np.float64) + added
    sizes = np.abs(x).astype(np.float64) @ np.abs(matrix).astype(np.float64) + np.abs(added)
    assert (np.abs(y - exact) <= 2 * (inner + 2) * 2.0**-24 * sizes + 1e-30).all()
    (bound,) = report.bounds
    error = np.abs(x.astype(np.float64) @ (matrix.astype(np.float64) - (weight.T if axis else weight)))
    assert (error <= bound.per_channel * np.abs(x).max() * (1 + 1e-6) + 1e-30).all()


def test_what_is_written(model, quantize):
    """K = 48 makes two blocks of 32, the last filled with the middle code; codes and zero points are packed by rows."""
    text = "g (float[M,48] x) => (float[M,24] y) { y = MatMul(x, w) }"
    after, report = quantize(model(text, w=W), type="int4", format="nbits", symmetric=False)
    (node,) = after.graph.node
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert (node.domain, node.op_type) == ("com.microsoft", "MatMulNBits")
    assert attributes == {"K": 48, "N": 24, "bits": 4, "block_size": 32, "accuracy_level": 0}
    assert {(o.domain, o.version) for o in after.opset_import} >= {("", 17), ("com.microsoft", 1)}
    shapes = [tuple(numpy_helper.to_array(tensor).shape) for tensor in after.graph.initializer]
    assert shapes == [(24, 2, 16), (24, 2), (24, 1)]
    assert (numpy_helper.to_array(after.graph.initializer[0])[:, 1, 8:] == 0x88).all()
    assert "decoded while it is multiplied" in report.remarks[-1].reason


def test_what_does_not_get_smaller_by_it_is_decoded_and_a_remark_says_so(model, quantize):
    """13 inputs are padded to a block of 128."""
    text = "g (float[M,13] x) => (float[M,100] y) { y = MatMul(x, w) }"
    weight = RNG.standard_normal((13, 100)).astype(np.float32)
    after, report = quantize(model(text, w=weight), format="nbits", type="int8", block=128)
    assert [node.op_type for node in after.graph.node] == ["Cast", "Mul", "MatMul"]
    assert "not in MatMulNBits: it would not get smaller" in report.remarks[-1].reason


REFUSED = {
    "Gemm reads it|transposes or scales": "y = Gemm<alpha = 0.5>(x, w)",
    "transposes or scales what it multiplies": "t = Transpose(x) y = Gemm<transA = 1>(t, w)",
    "others read it": "a = Add(w, w) b = MatMul(x, w) r = ReduceSum<keepdims = 0>(a) y = Add(b, r)",
    "its readers sum over different axes": "a = MatMul(x, w) t = Transpose(w) b = MatMul(a, t) y = MatMul(b, w)",
    "in another shape": "s = Constant<value_ints = [48, 24]>() v = Reshape(w, s) y = MatMul(x, v)",
    "MatMul reads it in another shape": "n = Identity(w) p, q = Split<axis = 1, num_outputs = 2>(n) "
    "r = Concat<axis = 1>(p, q) y = MatMul(x, r)",
}


@pytest.mark.parametrize("why", REFUSED)
def test_other_readers_get_the_decoded_weight_and_a_remark_says_why(why, model, quantize, run_model):
    weight = W.reshape(-1) if "another shape" in why and "MatMul" not in why else W
    text = f"g (float[M,48] x) => (float[M,24] y) {{ {REFUSED[why]} }}"
    before = model(text, opset=18, w=weight)
    after, report = quantize(before, type="int8", format="nbits")
    assert "MatMulNBits" not in [node.op_type for node in after.graph.node]
    (told,) = [remark.reason for remark in report.remarks if "not in MatMulNBits" in remark.reason]
    assert any(part in told for part in why.removeprefix("MatMul reads it ").split("|"))
    x = RNG.standard_normal((3, 48)).astype(np.float32)
    y, decoded = run_model(before, x=x)["y"], run_model(after, x=x)["y"]
    assert np.linalg.norm(decoded - y) < 0.02 * np.linalg.norm(y)


def test_it_stands_in_branches_and_reads_what_they_capture(model, quantize, run_model):
    text = """g (bool b, float[N,48] x) => (float[N,24] y) {
        y = If(b) <then_branch = t () => (float[N,24] u) { u = MatMul(x, w) },
                  else_branch = e () => (float[N,24] v) { n = Neg(x) v = Gemm(n, w) }> }"""
    before = model(text, w=W)
    after, _ = quantize(before, type="int8", format="nbits")
    inner = [node.op_type for attribute in after.graph.node[0].attribute for node in attribute.g.node]
    assert inner == ["MatMulNBits", "Neg", "MatMulNBits"] or sorted(inner) == ["MatMulNBits", "MatMulNBits", "Neg"]
    x = RNG.standard_normal((3, 48)).astype(np.float32)
    for chosen in (True, False):
        feeds = {"b": np.array(chosen), "x": x}
        np.testing.assert_allclose(run_model(after, **feeds)["y"], run_model(before, **feeds)["y"], atol=0.2)


def test_running_again_changes_nothing(model, quantize):
    text = "g (float[M,48] x) => (float[M,24] y) { y = MatMul(x, w) }"
    once, _ = quantize(model(text, w=W), format="nbits", type="int4", min_bytes=0)
    again, report = quantize(once, format="nbits", type="int4", min_bytes=0)
    assert again == once
    assert [remark.reason for remark in report.remarks] == ["no weight was quantized"]


@pytest.mark.parametrize(("kind", "level", "is_slow"), [("int4", 0, False), ("int8", 0, True), ("int8", 4, False)])
def test_a_remark_says_what_is_slow(kind, level, is_slow, model, quantize):
    text = "g (float[M,48] x) => (float[M,24] y) { y = MatMul(x, w) }"
    _, report = quantize(model(text, w=W), format="nbits", type=kind, accuracy_level=level)
    assert ("slowly" in report.remarks[-1].reason) == is_slow


def test_an_accuracy_level_without_it_is_a_mistake():
    with pytest.raises(UserError, match="accuracy-level is for format=nbits"):
        QuantizeInsert(accuracy_level=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "int16"}, "takes type=int8, uint8, int4, uint4, int2, uint2, not int16"),
        ({"granularity": "channel"}, "scales per block, not granularity=channel"),
        ({"block": 24}, "a block of 16, 32, 64, ..., not 24"),
        ({"block": 8}, "a block of 16, 32, 64, ..., not 8"),
    ],
)
def test_what_it_has_no_room_for_is_said(options, message):
    with pytest.raises(UserError, match=message):
        QuantizeInsert(format="nbits", **options)
