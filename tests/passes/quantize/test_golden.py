"""Small graphs before and after: the definition of the rewrite."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress.passes.quantize.levels import Grid, encode

RNG = np.random.default_rng(5)
W = RNG.standard_normal((32, 24)).astype(np.float32)
TABLE = RNG.standard_normal((32, 64)).astype(np.float32)
KERNEL = RNG.standard_normal((24, 8, 3, 3)).astype(np.float32)


def lines(graph):
    """The nodes as `y = Op<attribute = value>(x)`, then the constants as `name: type[shape]`."""
    for node in graph.node:
        attributes = [f"{a.name} = {helper.get_attribute_value(a)}" for a in node.attribute]
        shown = f"<{', '.join(attributes)}>" if attributes else ""
        yield f"{', '.join(node.output)} = {node.op_type}{shown}({', '.join(node.input)})"
    for tensor in graph.initializer:
        yield f"{tensor.name}: {TensorProto.DataType.Name(tensor.data_type).lower()}{list(tensor.dims)}"


def text(model):
    return "\n".join(lines(model.graph))


def lined_up(expected):
    return "\n".join(line.strip() for line in expected.strip().splitlines())


CASES = {
    "MatMul": (
        "g (float[N,32] x) => (float[N,24] y) { y = MatMul(x, w) }",
        W,
        {},
        """d = Cast<to = 1>(q)
        w = Mul(d, s)
        y = MatMul(x, w)
        q: int8[32, 24]
        s: float[24]""",
    ),
    "MatMul with DequantizeLinear": (
        "g (float[N,32] x) => (float[N,24] y) { y = MatMul(x, w) }",
        W,
        {"form": "dq"},
        """w = DequantizeLinear<axis = -1>(q, s)
        y = MatMul(x, w)
        q: int8[32, 24]
        s: float[24]""",
    ),
    "Gemm with DequantizeLinear, with zero points": (
        "g (float[N,24] x) => (float[N,32] y) { y = Gemm<transB = 1>(x, w) }",
        W,
        {"form": "dq"},
        """w = DequantizeLinear<axis = -2>(q, s, z)
        y = Gemm<transB = 1>(x, w)
        q: int8[32, 24]
        s: float[32]
        z: int8[32]""",
    ),
    "Conv": (
        "g (float[N,8,9,9] x) => (float[N,24,7,7] y) { y = Conv(x, w) }",
        KERNEL,
        {},
        """d = Cast<to = 1>(q)
        w = Mul(d, s)
        y = Conv(x, w)
        q: int8[24, 8, 3, 3]
        s: float[24, 1, 1, 1]""",
    ),
    "ConvTranspose": (
        "g (float[N,24,9,9] x) => (float[N,8,11,11] y) { y = ConvTranspose(x, w) }",
        KERNEL,
        {},
        """d = Cast<to = 1>(q)
        w = Mul(d, s)
        y = ConvTranspose(x, w)
        q: int8[24, 8, 3, 3]
        s: float[8, 1, 1]""",
    ),
    "half precision is decoded in float": (
        "g (float16[N,32] x) => (float16[N,24] y) { y = MatMul(x, w) }",
        W.astype(np.float16),
        {},
        """d = Cast<to = 1>(q)
        d_1 = Mul(d, s)
        w = Cast<to = 10>(d_1)
        y = MatMul(x, w)
        q: int8[32, 24]
        s: float[24]""",
    ),
    "table whose rows differ in size: gathered first, with a scale per row": (
        "g (int64[N] x) => (float[N,64] y) { y = Gather(w, x) }",
        TABLE * np.logspace(0, 3, 32, dtype=np.float32)[:, None],
        {},
        """d = Gather(q, x)
        d_1 = Gather(s, x)
        d_2 = Cast<to = 1>(d)
        y = Mul(d_2, d_1)
        q: int8[32, 64]
        s: float[32, 1]""",
    ),
    "table whose columns differ in size: a scale per column": (
        "g (int64[N] x) => (float[N,64] y) { y = Gather(w, x) }",
        TABLE * np.logspace(0, 3, 64, dtype=np.float32),
        {},
        """d = Gather(q, x)
        d_1 = Cast<to = 1>(d)
        y = Mul(d_1, s)
        q: int8[32, 64]
        s: float[64]""",
    ),
    "table with DequantizeLinear: a scale per column, as one per row has no axis": (
        "g (int64[N] x) => (float[N,64] y) { y = Gather(w, x) }",
        TABLE * np.logspace(0, 3, 32, dtype=np.float32)[:, None],
        {"form": "dq"},
        """d = Gather(q, x)
        y = DequantizeLinear<axis = -1>(d, s)
        q: int8[32, 64]
        s: float[64]""",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(case, model, quantize):
    source, weight, options, expected = CASES[case]
    after = quantize(model(source, w=weight), **options).model
    assert text(after) == lined_up(expected)


def test_tied_table_is_stored_once(model, quantize):
    """An embedding and the projection back read one copy: rows for the one, all of it for the other."""
    source = """g (int64[N] i, float[M,64] x) => (float[N,64] y, float[M,32] z)
        { y = Gather(w, i) t = Transpose<perm = [1, 0]>(w) z = MatMul(x, t) }"""
    after = quantize(model(source, w=TABLE)).model
    assert text(after) == lined_up(
        """d = Cast<to = 1>(q)
        w = Mul(d, s)
        d_2 = Gather(q, i)
        d_3 = Gather(s, i)
        d_4 = Cast<to = 1>(d_2)
        y = Mul(d_4, d_3)
        t = Transpose<perm = [1, 0]>(w)
        z = MatMul(x, t)
        q: int8[32, 64]
        s: float[32, 1]"""
    )


def test_stored_numbers(model, quantize):
    """Levels and scales are those of the formula."""
    after = quantize(model("g (float[N,32] x) => (float[N,24] y) { y = MatMul(x, w) }", w=W)).model
    levels, scales = (numpy_helper.to_array(tensor) for tensor in after.graph.initializer)
    expected = np.abs(W).max(0) / np.float32(127)
    np.testing.assert_array_equal(scales, expected)
    np.testing.assert_array_equal(levels, np.rint(W / expected))
    np.testing.assert_array_equal(levels, encode(W, Grid((32, 24), (1,), expected[None])))
    assert np.abs(levels * scales - W).max() <= expected.max() / 2 * (1 + 1e-6)
