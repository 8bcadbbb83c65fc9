"""Packed and looked-up codes wherever weights lie: in functions, in branches, shared, of other element types."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from onnxpress.passes.manager.weights import Outcome

RNG = np.random.default_rng(6)
W = RNG.standard_normal((64, 48)).astype(np.float32)
X = RNG.standard_normal((3, 64)).astype(np.float32)
WAYS = [
    {"type": "int4"},
    {"type": "uint4", "symmetric": False},
    {"type": "uint8", "symmetric": False},
    {"type": "float8e4m3fn"},
    {"type": "int4", "levels": "nf4"},
    {"type": "int4", "levels": "kmeans"},
]
pytestmark = pytest.mark.parametrize("options", WAYS, ids=lambda way: "-".join(map(str, way.values())))


def is_near(a, b):
    """Four bits err by a few percent."""
    return np.linalg.norm(np.float64(a) - b) < 0.15 * np.linalg.norm(b)


def test_in_a_function(options, model, quantize, run_model, optimized):
    """Tables and codes are Constant nodes there, each before what reads it."""
    text = """g (float[N,64] x) => (float[N,48] y) { t = f.layer(x) y = Neg(t) }
        <domain: "f", opset_import: ["" : 17]> layer (a) => (b) { c = MatMul(a, w) d = MatMul(a, v) b = Add(c, d) }"""
    before = model(text)
    for name, weight in (("w", W), ("v", W * 2)):
        tensor = numpy_helper.from_array(weight)
        before.functions[0].node.insert(0, helper.make_node("Constant", [], [name], value=tensor))
    after, report = quantize(before, **options)
    assert [entry.outcome for entry in report.weights] == [Outcome.QUANTIZED] * 2
    assert not after.graph.initializer
    assert set(optimized(after)) <= {"MatMul", "Gemm", "Neg"}
    assert is_near(run_model(after, x=X)["y"], run_model(before, x=X)["y"])


def test_in_branches(options, model, quantize, run_model, optimized):
    text = """g (bool b, float[N,64] x) => (float[N,48] y) {
        y = If(b) <then_branch = t () => (float[N,48] u) { u = MatMul(x, w) },
                   else_branch = e () => (float[N,48] v) { v = Gemm(x, w) }> }"""
    before = model(text, w=W)
    weight = before.graph.initializer.pop()
    for attribute in before.graph.node[0].attribute:
        attribute.g.initializer.append(weight)
    after, _ = quantize(before, **options)
    assert set(optimized(after)) == {"If", "MatMul", "Gemm"}
    for chosen in (True, False):
        feeds = {"b": np.array(chosen), "x": X}
        assert is_near(run_model(after, **feeds)["y"], run_model(before, **feeds)["y"])


def test_captured_by_branches_and_read_as_a_table(options, model, quantize, run_model):
    """One copy for all."""
    text = """g (bool b, float[N,64] x, int64[M] i) => (float[N,48] y, float[M,48] z) {
        z = Gather(w, i)
        y = If(b) <then_branch = t () => (float[N,48] u) { u = MatMul(x, w) },
                   else_branch = e () => (float[N,48] v) { n = Neg(x) v = MatMul(n, w) }> }"""
    before = model(text, w=W)
    after, _ = quantize(before, **options)
    assert sum(len(tensor.raw_data) >= W.size // 2 for tensor in after.graph.initializer) == 1
    feeds = {"b": np.array(False), "x": X, "i": np.array([5, 0])}
    first, second = run_model(before, **feeds), run_model(after, **feeds)
    assert all(is_near(second[name], first[name]) for name in "yz")


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_other_element_types(kind, options, model, quantize, run_model, optimized):
    name = {np.float16: "float16", np.float64: "double"}[kind]
    text = f"g ({name}[N,64] x) => ({name}[N,48] y) {{ y = MatMul(x, w) }}"
    before = model(text, w=W.astype(kind))
    after, _ = quantize(before, **options)
    y, decoded = (run_model(one, x=X.astype(kind))["y"] for one in (before, after))
    assert decoded.dtype == y.dtype
    assert is_near(decoded, y)


def test_weights_of_a_recurrent_layer(options, model, quantize, run_model):
    text = """g (float[T,1,64] x) => (float[T,1,1,32] y) { y = GRU<hidden_size = 32>(x, w, r) }"""
    w, r = (RNG.standard_normal((1, 96, n)).astype(np.float32) / 8 for n in (64, 32))
    before = model(text, w=w, r=r)
    after, report = quantize(before, **options)
    assert [entry.outcome for entry in report.weights] == [Outcome.QUANTIZED] * 2
    x = RNG.standard_normal((5, 1, 64)).astype(np.float32)
    assert is_near(run_model(after, x=x)["y"], run_model(before, x=x)["y"])
