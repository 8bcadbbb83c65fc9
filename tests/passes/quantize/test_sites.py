"""Ways that a constant takes to an operator that reads it as a weight, and ways that lead to none."""

import numpy as np
import pytest

from onnxpress.ir import lower
from onnxpress.passes.quantize.sites import Finder
from onnxpress.passes.quantize.static.opened import is_quantized

W = np.ones((4, 6), np.float32)

FOUND = {
    "selected by a branch": (
        """g (bool b, float[N,4] x) => (float[N,6] y) {
            t = If(b) <then_branch = t () => (float[4,6] u) { u = Identity(w) },
                       else_branch = e () => (float[4,6] v) { v = Neg(w) }>
            y = MatMul(x, t) }""",
        ["MatMul"],
    ),
    "carried through a loop": (
        """g (int64 n, float[4,4] x) => (float[K,4,6] y) { c = Constant<value = bool {1}>()
            v, y = Loop(n, c, w) <body = l (int64 i, bool a, float[4,6] s) => (bool r, float[4,6] t, float[4,6] u)
                { r = Identity(a) t = Identity(s) u = MatMul(x, s) }> }""",
        ["MatMul"],
    ),
    "state of a scan": (
        """g (float[5,1,4] x) => (float[4,6] v, float[5,1,6] y) { v, y = Scan<num_scan_inputs = 1,
            body = s (float[4,6] t, float[1,4] a) => (float[4,6] t, float[1,6] u) { u = MatMul(a, t) }>(w, x) }""",
        ["MatMul"],
    ),
    "layers of a scan": (
        """g (float[1,6] x) => (float[4,1] y) { y = Scan<num_scan_inputs = 1,
            body = s (float[6] a) => (float[1] u) { u = MatMul(x, a) }>(w) }""",
        ["MatMul"],
    ),
    "two readers": (
        "g (float[N,4] x) => (float[N,6] y, float[N,6] z) { y = MatMul(x, w) z = Gemm(x, w) }",
        ["MatMul", "Gemm"],
    ),
    "behind a call of a call": (
        """g (float[N,4] x) => (float[N,6] y) { y = f.outer(x, w) }
            <domain: "f", opset_import: ["" : 17, "f" : 1]> outer (a, b) => (c) { c = f.inner(b, a) }
            <domain: "f", opset_import: ["" : 17]> inner (b, a) => (c) { c = MatMul(a, b) }""",
        ["MatMul"],
    ),
    "an einsum": ('g (float[N,4] x) => (float[N,6] y) { y = Einsum<equation = "ik,kj->ij">(x, w) }', ["Einsum"]),
}
NOT_FOUND = {
    "first state of a loop": """g (int64 n) => (float[4,6] y) { c = Constant<value = bool {1}>()
        y = Loop(n, c, w) <body = l (int64 i, bool a, float[4,6] s) => (bool r, float[4,6] u)
            { r = Identity(a) t = Transpose(s) p = MatMul(s, t) u = MatMul(p, s) }> }""",
    "what is known about it": """g (float[N,4] x) => (float[N,6] y) {
        s = Shape(w) t = Cast<to = 1>(s) u = ReduceSum(t) y = Mul(x, u) }""",
    "indices": "g (float[N] x) => (float[A] y) { t = Cast<to = 7>(w) y = Gather(x, t) }",
    "a bias": "g (float[N,4] x, float[4,6] a) => (float[N,6] y) { y = Gemm(x, a, w) }",
}


def readers(proto):
    lowered = lower(proto)
    value = next(v for v in lowered.graph.initializers if v.name == "w")
    return Finder(lowered).readers(value, value.tensor)


@pytest.mark.parametrize("case", FOUND)
def test_found(case, model):
    text, expected = FOUND[case]
    assert [site.node.op_type for site in readers(model(text, w=W)).sites] == expected


@pytest.mark.parametrize("case", NOT_FOUND)
def test_not_found(case, model):
    found = readers(model(NOT_FOUND[case], w=W))
    assert not found.sites
    assert not found.computed


def test_a_function_that_calls_itself_ends(model):
    text = """g (float[N,4] x) => (float[N,6] y) { y = f.layer(x, w) }
        <domain: "f", opset_import: ["" : 17, "f" : 1]> layer (a, b) => (c) { c = f.layer(a, b) }"""
    assert not readers(model(text, w=W)).sites


def test_a_long_chain_needs_no_deep_stack(model):
    chain = " ".join(f"t{i + 1} = Identity(t{i})" for i in range(3000))
    proto = model(f"g (float[N,4] x) => (float[N,6] y) {{ t0 = Identity(w) {chain} y = MatMul(x, t3000) }}", w=W)
    assert len(readers(proto).sites) == 1


def test_a_product_of_integers_is_no_decoding(model):
    """As models compute sizes and rates: it must not look like a scale of codes, which means a quantized model."""
    proto = model(
        "g (int64 n, float[1,4] x) => (int64 m, float[1,6] y) { m = Mul(n, k) y = MatMul(x, w) }", w=W, k=np.array(7)
    )
    assert not is_quantized(lower(proto))
    decoded = "g (float[1,4] x) => (float[1,6] y) { f = Cast<to=1>(q) w = Mul(f, s) y = MatMul(x, w) }"
    assert is_quantized(lower(model(decoded, q=W.astype(np.int8), s=np.float32([0.5]))))
