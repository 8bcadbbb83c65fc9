"""Weights are found wherever they are, decoded once for all readers, and folded by onnxruntime when it loads them."""

import numpy as np
import pytest
from onnx import helper, numpy_helper, parser

from onnxpress.passes.manager.weights import Outcome, Reason

RNG = np.random.default_rng(7)
W = RNG.standard_normal((32, 24)).astype(np.float32)

IN_MAIN = {
    "matmul": "g (float[N,32] x) => (float[N,24] y) { y = MatMul(x, w) }",
    "transposed": "g (float[N,24] x) => (float[N,32] y) { t = Transpose<perm = [1,0]>(w) y = MatMul(x, t) }",
    "identity": "g (float[N,32] x) => (float[N,24] y) { t = Identity(w) y = MatMul(x, t) }",
    "widened": "g (double[N,32] x) => (double[N,24] y) { t = Cast<to = 11>(w) y = MatMul(x, t) }",
    "left": "g (float[24,N] x) => (float[32,N] y) { y = MatMul(w, x) }",
    "gemm": "g (float[M,24] x) => (float[M,32] y) { y = Gemm<transB = 1, alpha = -0.5>(x, w) }",
    "gemm-left": "g (float[32,N] x) => (float[24,N] y) { y = Gemm<transA = 1>(w, x) }",
    "table": "g (int64[A,B] x) => (float[A,B,24] y) { y = Gather(w, x) }",
    "columns": "g (int64[A,B] x) => (float[32,A,B] y) { y = Gather<axis = 1>(w, x) }",
    "tied": """g (int64[A] i, float[N,24] x) => (float[A,24] y, float[N,32] z)
        { y = Gather(w, i) t = Transpose<perm = [1,0]>(w) z = MatMul(x, t) }""",
    "shared": "g (float[N,32] x) => (float[N,24] y, float[N,24] z) { y = MatMul(x, w) n = Neg(x) z = MatMul(n, w) }",
    "an output": "g (float[N,32] x) => (float[N,24] y, float[32,24] w) { y = MatMul(x, w) }",
    "a bias too": "g (float[32,32] x) => (float[32,24] y) { z = MatMul(x, w) y = Add(z, w) }",
    "captured": """g (bool b, float[N,32] x) => (float[N,24] y) {
        y = If(b) <then_branch = t () => (float[N,24] u) { u = MatMul(x, w) },
                   else_branch = e () => (float[N,24] v) { v = Gemm(x, w) }> }""",
    "in a loop": """g (int64 n, float[4,32] x) => (float[K,4,24] y) {
        c = Constant<value = bool {1}>()
        y = Loop(n, c) <body = l (int64 i, bool a) => (bool r, float[4,24] u)
            { r = Identity(a) u = MatMul(x, w) }> }""",
    "scanned": """g (float[5,1,32] x) => (float[5,1,24] y) {
        y = Scan<num_scan_inputs = 1, body = s (float[1,32] a) => (float[1,24] u) { u = MatMul(a, w) }>(x) }""",
    "squeezed": """g (float[N,32] x) => (float[N,24] y) {
        a = Constant<value = int64[1] {0}>() t = Unsqueeze(w, a) u = Squeeze(t, a) y = MatMul(x, u) }""",
    "halves": """g (float[N,16] x) => (float[N,48] y) {
        p, q = Split<axis = 0>(w) t = Concat<axis = 1>(p, q) y = MatMul(x, t) }""",
}


@pytest.mark.parametrize("as_constants", [False, True], ids=["initializer", "constant"])
@pytest.mark.parametrize("case", IN_MAIN)
def test_found_and_folded(case, as_constants, model, quantize, optimized):
    """One copy in int8 is left, and no node decodes at run time but for the rows of a table."""
    before = model(IN_MAIN[case], opset=15, as_constants=as_constants, w=W)
    after, report = quantize(before)
    entry = next(entry for entry in report.weights if entry.name == "w")
    assert (entry.outcome, entry.reason, entry.form) == (Outcome.QUANTIZED, Reason.DONE, "cast")
    assert len(after.SerializeToString()) < len(before.SerializeToString())
    assert [t.dims for t in after.graph.initializer if t.data_type == 3] == [[32, 24]]
    assert not any(t.data_type == 1 and np.prod(t.dims) > 32 for t in after.graph.initializer)
    left = optimized(after)
    assert left.count("Mul") == left.count("Cast") == (case in ("table", "columns", "tied"))


RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.mark.parametrize("op", RECURRENT)
def test_recurrent_weights(op, quantize, optimized):
    """W and R of a layer in two directions get a scale for every direction and gate."""
    hidden, gates = 16, RECURRENT[op]
    w, r = (RNG.standard_normal((2, gates * hidden, n)).astype(np.float32) for n in (24, hidden))
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[T,1,24] x) => (float[T,2,1,16] y)
        {{ y = {op}<hidden_size = 16, direction = "bidirectional">(x, w, r) }}"""
    before = parser.parse_model(text)
    before.graph.initializer.extend([numpy_helper.from_array(w, "w"), numpy_helper.from_array(r, "r")])
    after, report = quantize(before)
    assert [entry.outcome for entry in report.weights] == [Outcome.QUANTIZED] * 2
    scales = [list(t.dims) for t in after.graph.initializer if t.data_type == 1]
    assert scales == [[2, gates * hidden, 1]] * 2
    assert set(optimized(after)) <= {op, "DynamicQuantizeLSTM"}


def test_gates_put_in_order(model, quantize, optimized):
    """What exporters do to the weights of an LSTM (slices, joined in another order) is followed."""
    w, r = (RNG.standard_normal((64, n)).astype(np.float32) for n in (24, 16))
    parts = "".join(
        f"""{n}0 = Slice({n}, z, a) {n}1 = Slice({n}, c, d) {n}2 = Slice({n}, a, c)
            {n}j = Concat<axis = 0>({n}0, {n}1, {n}2) {n}u = Unsqueeze({n}j, z) """
        for n in "wr"
    )
    constants = "".join(
        f"{n} = Constant<value = int64[1] {{{v}}}>() " for n, v in zip("zacd", (0, 16, 48, 64), strict=True)
    )
    branch = "{name} () => (float[T,1,1,16] {out}) {{ {body} {out} = LSTM<hidden_size = 16>(x, wu, ru) }}"
    then, other = (branch.format(name=n, out=o, body=constants + parts) for n, o in ("tu", "ev"))
    text = f"""g (float[T,1,24] x, bool b) => (float[T,1,1,16] y) {{
        y = If(b) <then_branch = {then}, else_branch = {other}> }}"""
    after, report = quantize(model(text, w=w, r=r))
    assert [entry.outcome for entry in report.weights] == [Outcome.QUANTIZED] * 2
    assert [list(t.dims) for t in after.graph.initializer if t.data_type == 1] == [[64, 1]] * 2
    assert set(optimized(after)) == {"If", "LSTM"}


FUNCTIONS = """g (float[N,32] x) => (float[N,24] y) {{ {call} }}
    <domain: "f", opset_import: ["" : {opset}]> layer (a{argument}) => (b) {{ b = MatMul(a, w) }}"""


def test_constant_in_a_function(model, quantize, optimized, run_model):
    """It stays a Constant node, with the decoding in the function."""
    before = model(FUNCTIONS.format(call="t = f.layer(x) y = Neg(t)", argument="", opset=17))
    before.functions[0].node.insert(0, helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(W)))
    after, report = quantize(before)
    assert [(entry.graph, entry.outcome) for entry in report.weights] == [("function f.layer", Outcome.QUANTIZED)]
    assert [node.op_type for node in after.functions[0].node] == ["Constant", "Constant", "Cast", "Mul", "MatMul"]
    assert not set(optimized(after)) & {"Cast", "Mul"}
    x = RNG.standard_normal((3, 32)).astype(np.float32)
    np.testing.assert_allclose(run_model(after, x=x)["y"], run_model(before, x=x)["y"], atol=0.2)


def test_argument_of_a_function(model, quantize, optimized):
    """A weight that is handed to a function is decoded outside; the function is not touched."""
    before = model(FUNCTIONS.format(call="y = f.layer(x, w)", argument=", w", opset=17), w=W)
    after, report = quantize(before)
    assert [(entry.graph, entry.outcome) for entry in report.weights] == [("main", Outcome.QUANTIZED)]
    assert after.functions == before.functions
    assert not set(optimized(after)) & {"Cast", "Mul"}


def test_result_of_a_function(model, quantize):
    """A constant that a function hands out is a weight if the caller reads it as one."""
    text = """g (float[N,32] x) => (float[N,24] y) { t = f.table() y = MatMul(x, t) }
        <domain: "f", opset_import: ["" : 17]> table () => (w) { w = Identity(c) }"""
    before = model(text)
    before.functions[0].node.insert(0, helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(W)))
    report = quantize(before).report
    assert [(entry.graph, entry.outcome) for entry in report.weights] == [("function f.table", Outcome.QUANTIZED)]


def test_in_a_branch(model, quantize, optimized):
    """A weight that a branch holds is decoded there, whether it is an initializer or a Constant node."""
    text = """g (bool b, float[N,32] x) => (float[N,24] y) {
        y = If(b) <then_branch = t () => (float[N,24] u) { u = MatMul(x, w) },
                   else_branch = e () => (float[N,24] v) { v = MatMul(x, w) }> }"""
    before = model(text, w=W)
    weight = before.graph.initializer.pop()
    then, other = (attribute.g for attribute in before.graph.node[0].attribute)
    then.initializer.append(weight)
    other.node.insert(0, helper.make_node("Constant", [], ["w"], value=weight))
    after, report = quantize(before)
    assert {entry.graph: entry.outcome for entry in report.weights} == {
        "main/If:y.then_branch": Outcome.QUANTIZED,
        "main/If:y.else_branch": Outcome.QUANTIZED,
    }
    for attribute in after.graph.node[0].attribute:
        assert [node.op_type for node in attribute.g.node] == ["Cast", "Mul", "MatMul"]
    assert set(optimized(after)) == {"If", "MatMul"}
