"""Products run in integers wherever weights and activations are: Constant nodes, Transpose, bodies, old opsets."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.specs.nearness import Nearness

from .test_static_golden import RNG, quantized

W = RNG.standard_normal((32, 24)).astype(np.float32)
KERNEL = (RNG.standard_normal((4, 4, 3, 3)) / 6).astype(np.float32)
N = np.array(3)

CASES = {
    "opset 11": ("g (float[5,32] x) => (float[5,24] y) { h = MatMul(x, w) y = Sigmoid(h) }", {"opset": 11}),
    "opset 9": ("g (float[1,4,6,6] x) => (float[1,4,6,6] y) { y = Conv<pads = [1,1,1,1]>(x, k) }", {"opset": 9}),
    "Transpose": ("g (float[5,24] x) => (float[5,32] y) { t = Transpose<perm = [1,0]>(w) y = MatMul(x, t) }", {}),
    "Transpose, Gemm": (
        "g (float[5,24] x) => (float[5,32] y) { t = Transpose(w) h = Gemm(x, t) y = Relu(h) }",
        {},
    ),
    "shared": (
        "g (float[5,32] x) => (float[5,24] y, float[5,24] z) { y = MatMul(x, w) s = Sigmoid(x) z = MatMul(s, w) }",
        {},
    ),
    "outputs of units are outputs": (
        """g (float[1,4,6,6] x) => (float[1,4,6,6] c, float[1,4,6,6] r, float[1,4,6,6] y) {
            c = Conv<pads = [1,1,1,1]>(x, k) r = Relu(c) y = Conv<pads = [1,1,1,1]>(r, k) }""",
        {},
    ),
    "several inputs": (
        "g (float[5,32] x, float[5,24] z) => (float[5,24] y) { h = MatMul(x, w) y = Add(h, z) }",
        {},
    ),
    "a size that varies": (
        "g (float[N,4,H,6] x) => (float[N,4,H,6] y) { c = Conv<pads = [1,1,1,1]>(x, k) y = Relu(c) }",
        {"sizes": {"N": 2, "H": 5}},
    ),
    "branches": (
        """g (float[5,32] x, bool b) => (float[5,24] y) { h = Sigmoid(x)
            y = If(b) <then_branch = t () => (float[5,24] u) { u = MatMul(h, w) },
                       else_branch = e () => (float[5,24] v) { m = MatMul(h, w) v = Sigmoid(m) }> }""",
        {},
    ),
    "Loop": (
        """g (float[1,4,6,6] x, int64 n) => (float[1,4,6,6] y, float[K,1,4,6,6] z) {
            t = Constant<value = bool {1}>() h = Relu(x)
            y, z = Loop(n, t, x) <body = b (int64 i, bool c, float[1,4,6,6] s) =>
                                          (bool d, float[1,4,6,6] u, float[1,4,6,6] v) {
                d = Identity(c) a = Conv<pads = [1,1,1,1]>(s, k) e = Conv<pads = [1,1,1,1]>(h, k)
                f = Add(a, e) u = Tanh(f) v = Relu(f) }> }""",
        {},
    ),
    "Scan": (
        """g (float[5,1,32] x, float[1,32] q) => (float[5,1,24] y) { p = Sigmoid(q)
            y = Scan<num_scan_inputs = 1, body = s (float[1,32] a) => (float[1,24] u) {
                m = Add(a, p) u = MatMul(m, w) }>(x) }""",
        {},
    ),
}


def source_of(name, model, as_constants):
    text, options = CASES[name]
    held = {key: array for key, array in {"w": W, "k": KERNEL}.items() if f"{key})" in text}
    return model(text, opset=options.get("opset", 17), as_constants=as_constants, **held)


def data_of(name, source, count=4):
    sizes = CASES[name][1].get("sizes", {})
    made = []
    for number in range(count):
        feed = {}
        for port in source.graph.input:
            kind = port.type.tensor_type
            shape = [dim.dim_value or sizes[dim.dim_param] for dim in kind.shape.dim]
            floats = RNG.standard_normal(shape).astype(np.float32)
            feed[port.name] = {onnx.TensorProto.FLOAT: floats, onnx.TensorProto.INT64: N}.get(
                kind.elem_type, np.array(number % 2 == 0)
            )
        made.append(feed)
    return made


@pytest.mark.parametrize("format_", ["qdq", "qoperator"])
@pytest.mark.parametrize("as_constants", [False, True], ids=["initializer", "constant"])
@pytest.mark.parametrize("name", CASES)
def test_products_run_in_integers(name, as_constants, format_, model, optimized):
    """All of them, in onnxruntime; the interface is kept, the numbers are near and within what is promised."""
    source = source_of(name, model, as_constants)
    data = data_of(name, source)
    lowered, report = quantized(source, data, mode="static", format=format_, min_bytes=0)
    made = emit(lowered)
    onnx.checker.check_model(made, full_check=True)
    assert (made.graph.input, made.graph.output) == (source.graph.input, source.graph.output)
    left = optimized(made)
    assert not {"MatMul", "Gemm", "Conv", "FusedConv", "FusedGemm"} & set(left), left
    products = [one for one in left if one.startswith(("QLinearConv", "QLinearMatMul", "QGemm", "MatMulInteger"))]
    asked = sum(node.op_type in ("MatMul", "Gemm", "Conv") for graph in graphs(source.graph) for node in graph.node)
    assert len(products) == asked
    for feed in data[:2]:
        before, after = (OrtBackend().prepare(lower(one), optimize=True).run(feed) for one in (source, made))
        for key, y in before.items():
            assert np.linalg.norm(y - after[key]) < 0.05 * np.linalg.norm(y)
    finding = Nearness(source, made, data[0], report.bounds, native=True).judge()
    assert finding.ratio <= 1, str(finding)


MATRICES = [name for name, (text, _) in CASES.items() if "MatMul" in text or "Gemm" in text]


@pytest.mark.parametrize("as_constants", [False, True], ids=["initializer", "constant"])
@pytest.mark.parametrize("name", MATRICES)
def test_products_are_quantized_dynamically(name, as_constants, model, optimized):
    source = source_of(name, model, as_constants)
    data = data_of(name, source)
    made = emit(quantized(source, data, mode="dynamic", min_bytes=0)[0])
    onnx.checker.check_model(made, full_check=True)
    left = optimized(made)
    assert not {"MatMul", "Gemm", "FusedGemm", "MatMulInteger"} & set(left), left
    stored = [t for graph in graphs(made.graph) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert len(stored) == 1
    for feed in data[:2]:
        before, after = (OrtBackend().prepare(lower(one), optimize=True).run(feed) for one in (source, made))
        for key, y in before.items():
            assert np.linalg.norm(y - after[key]) < 0.05 * np.linalg.norm(y)


def graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def test_a_weight_of_two_readers_is_stored_once(model):
    source = source_of("shared", model, False)
    made = emit(quantized(source, data_of("shared", source), mode="static")[0])
    assert [list(t.dims) for t in made.graph.initializer if t.data_type == onnx.TensorProto.INT8 and t.dims[1:]] == [
        [32, 24]
    ]


def test_what_is_never_run_stays_in_float_and_says_so(model):
    source = source_of("branches", model, False)
    data = [{**feed, "b": np.array(True)} for feed in data_of("branches", source)]
    _, report = quantized(source, data, mode="static")
    assert any("never seen on the data" in remark.reason for remark in report.remarks)


def test_a_value_of_a_body_that_cannot_be_observed_stays_in_float(model):
    """The rows of a Loop that differ in number from turn to turn cannot be stacked."""
    source = model(
        """g (float[A,32] x, int64 n) => (float[A,32] y) { t = Constant<value = bool {1}>()
            y = Loop(n, t, x) <body = b (int64 i, bool c, float[A,32] s) => (bool d, float[A,32] u) {
                d = Identity(c) m = MatMul(s, v) u = Tanh(m) }> }""",
        v=RNG.standard_normal((32, 32)).astype(np.float32),
    )
    data = [{"x": RNG.standard_normal((2, 32)).astype(np.float32), "n": N}]
    lowered, report = quantized(source, data, mode="static")
    assert not any(node.op_type == "QuantizeLinear" for graph in lowered.walk_graphs() for node in graph.nodes)
    assert any("cannot be observed" in remark.reason for remark in report.remarks)
