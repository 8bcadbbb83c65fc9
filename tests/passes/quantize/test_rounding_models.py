"""Rounding by outputs in models: who is reached, who is left and why, and what data have to do with it."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import UserError
from onnxpress.ir import emit, lower, verify
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.report import Report
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert

RNG = np.random.default_rng(4)
MIXING = RNG.standard_normal((3, 16)).astype(np.float32)
W = RNG.standard_normal((16, 40)).astype(np.float32)
OPTIONS: dict[str, Any] = {"type": "int4", "min_bytes": 0, "balance": False}
Feeds = list[dict[str, Any]]

MATMUL = "g (float[N,16] x) => (float[N,40] y) { y = MatMul(x, w) }"
TRANSPOSED = "g (float[N,16] x) => (float[N,40] y) { t = Transpose<perm=[1,0]>(w)  y = MatMul(x, t) }"
LEFT = "g (float[16,N] x) => (float[40,N] y) { y = MatMul(w, x) }"
GEMM = "g (float[N,16] x) => (float[N,40] y) { y = Gemm<transB=1, alpha=0.5>(x, w) }"
CONV = "g (float[N,16,4] x) => (float[N,40,M] y) { y = Conv<pads=[1,1], strides=[2]>(x, w) }"
GROUPED = "g (float[N,16,4] x) => (float[N,40,4] y) { y = Conv<group=2>(x, w) }"
UP = "g (float[N,16,4] x) => (float[N,40,M] y) { y = ConvTranspose<strides=[2]>(x, w) }"
LSTM = "g (float[N,1,16] x) => (float[N,1,1,12] y) { y, h, c = LSTM<hidden_size=12>(x, w, r) }"
BRANCHES = """g (float[N,16] x, bool b) => (float[N,40] y) {
  y = If (b) <then_branch = t () => (float[N,40] p) { p = MatMul(x, w) },
              else_branch = e () => (float[N,40] q) { n = Neg(x)  q = MatMul(n, w) }>
}"""
LOOP = """g (float[10,16,4] x) => (float[10,40,4] y) {
  m = Constant<value_int=2>()
  s, y0 = Loop(m, , x) <body = l (int64 i, bool c, float[10,16,4] v) => (bool d, float[10,16,4] u, float[10,40,4] z) {
    d = Identity(c)  u = Neg(v)  z = Conv(v, w)
  }>
  k = Constant<value_int=0>()
  y = Gather<axis=0>(y0, k)
}"""
RESHAPED = "g (float[N,8] x) => (float[N,80] y) { v = Reshape(w, s)  y = MatMul(x, v) }"
INPUT = RNG.standard_normal((1, 48, 16)).astype(np.float32)
RECURRENT = 0.3 * RNG.standard_normal((1, 48, 12)).astype(np.float32)
KERNEL = RNG.standard_normal((40, 16, 3)).astype(np.float32)
WAYS = {
    "matmul": (MATMUL, {"w": W}),
    "transposed": (TRANSPOSED, {"w": np.ascontiguousarray(W.T)}),
    "left": (LEFT, {"w": np.ascontiguousarray(W.T)}),
    "gemm": (GEMM, {"w": np.ascontiguousarray(W.T)}),
    "conv": (CONV, {"w": KERNEL}),
    "grouped": (GROUPED, {"w": KERNEL[:, :8, :1]}),
    "up": (UP, {"w": KERNEL.transpose(1, 0, 2)}),
    "lstm": (
        LSTM,
        {"w": INPUT, "r": RECURRENT},
    ),
    "branches": (BRANCHES, {"w": W}),
    "loop": (LOOP, {"w": KERNEL[..., :1]}),
}


def feeds(text: str, count: int = 8) -> Feeds:
    """Inputs of which 16 channels are mixed from three, wherever the channels lie."""
    rng = np.random.default_rng(1)
    made: Feeds = []
    for index in range(count):
        rows = (rng.standard_normal((40, 3)) @ MIXING).astype(np.float32)
        if ",16,4] x" in text:
            x = rows.reshape(10, 4, 16).transpose(0, 2, 1)
        else:
            x = rows.T if "[16,N] x" in text else rows[:, None] if "[N,1,16] x" in text else rows
        made.append({"x": np.ascontiguousarray(x), **({"b": np.array(index % 2 == 0)} if "bool b" in text else {})})
    return made


def quantized(proto: ModelProto, data: Feeds | None, **options: Any) -> tuple[ModelProto, Report]:
    lowered = lower(proto)
    manager = PassManager([QuantizeInsert(**{**OPTIONS, **options})], backend=OrtBackend())
    report = manager.run(lowered, data=data)
    verify(lowered)
    return emit(lowered), report


def error(before: ModelProto, after: ModelProto, data: Feeds) -> float:
    old, new = (OrtBackend().prepare(lower(proto)) for proto in (before, after))
    return sum(float(np.square(old.run(feed)["y"] - new.run(feed)["y"]).sum()) for feed in data)


def reasons(report: Report) -> dict[str, str]:
    return {remark.subject: remark.reason for remark in report.remarks if remark.rule == "rounding"}


@pytest.mark.parametrize("way", WAYS)
def test_outputs_err_less_than_with_nearest_rounding(way, model):
    text, weights = WAYS[way]
    proto, data = model(text, opset=21, ir=10, **weights), feeds(text)
    nearest, _ = quantized(proto, data, rounding="nearest", clip="none")
    after, report = quantized(proto, data)
    assert "gptq" in reasons(report)["main/w"]
    assert error(proto, after, data) < 0.7 * error(proto, nearest, data)
    (row,) = [row for row in report.layers if row.layer == "main/w"]
    assert 0 < row.cells["held-out error"] < row.cells["nearest's"]


def test_a_weight_of_two_readers_suits_both(model):
    """The moments of both inputs count: what one sees has no energy where the other has."""
    text = "g (float[N,16] x, float[N,16] z) => (float[N,40] y) { p = MatMul(x, w)  q = MatMul(z, w)  y = Add(p, q) }"
    proto, rng = model(text, opset=21, ir=10, w=W), np.random.default_rng(2)
    halves = [np.where(np.arange(16) < 8, feed["x"], 0) for feed in feeds(MATMUL)]
    data = [
        {"x": half, "z": np.roll(half, 8, 1) * rng.choice([-1, 1], (len(half), 1)).astype(np.float32)}
        for half in halves
    ]
    nearest, _ = quantized(proto, data, rounding="nearest", clip="none")
    after, _ = quantized(proto, data)
    alone = [{**feed, name: 0 * feed[name]} for feed in data for name in "xz"]
    for one in (alone[::2], alone[1::2]):
        assert error(proto, after, one) < 0.7 * error(proto, nearest, one)


def test_without_data_auto_is_nearest_and_a_method_is_an_error(model):
    proto = model(MATMUL, opset=21, ir=10, w=W)
    plain, report = quantized(proto, None, rounding="nearest", clip="none")
    assert quantized(proto, None)[0] == plain
    assert not reasons(report)
    for rounding in ("gptq", "adaround"):
        with pytest.raises(UserError, match=f"rounding={rounding} needs sample data"):
            quantized(proto, None, rounding=rounding)


def test_memory_for_moments_changes_walks_and_not_results(model):
    text = "g (float[N,16] x) => (float[N,40] y) { p = MatMul(x, v)  y = MatMul(p, w) }"
    weights = {"v": RNG.standard_normal((16, 16)).astype(np.float32), "w": W}
    proto, data = model(text, opset=21, ir=10, **weights), feeds(text)
    one = 2 * 8 * 16 * 17
    after, _ = quantized(proto, data)
    assert quantized(proto, data, moments=one)[0] == after
    least, report = quantized(proto, data, moments=one - 1)
    assert least == quantized(proto, None)[0]
    assert set(reasons(report).values()) == {
        f"rounded to nearest: second moments of its input would take {one} bytes, and moments={one - 1}"
    }


@pytest.mark.parametrize(
    ("text", "weights", "count", "reason"),
    [
        (MATMUL, {"w": W}, 1, "it takes two samples at least"),
        ("g (int64[N] x) => (float[N,40] y) { y = Gather(w, x) }", {"w": W}, 2, "Gather reads it"),
        ("g (float[N,16] x) => (float[N,40] y) { p = MatMul(x, w)  y = Mul(p, w) }", {"w": W}, 2, "Mul reads it"),
        (LSTM.replace("w, r", "k, w"), {"w": RECURRENT, "k": INPUT}, 2, "LSTM reads it"),
        (RESHAPED, {"w": W, "s": np.array([8, 80])}, 2, "MatMul reads it"),
    ],
    ids=["one sample", "table", "other use", "recurrence", "reshaped"],
)  # fmt: skip
def test_what_is_left_to_nearest_says_why(text, weights, count, reason, model):
    proto = model(text, opset=21, ir=10, **weights)
    data = [{"x": np.arange(9)}] * count if "int64" in text else feeds(text, count)
    if "[N,8]" in text:
        data = [{"x": feed["x"][:, :8]} for feed in data]
    if "Mul(p" in text:
        data = [{"x": feed["x"][:16]} for feed in data]
    after, report = quantized(proto, data, rounding="auto")
    assert reason in reasons(report)["main/w"]
    assert after == quantized(proto, None)[0] or "k" in weights


def test_a_function_is_left_to_nearest(model):
    text = """g (float[N,16] x) => (float[N,40] y) { y = f.layer(x) }
    <domain: "f", opset_import: ["" : 21]> layer (x) => (y) { y = MatMul(x, w) }"""
    proto = model(text, opset=21, ir=10)
    proto.functions[0].node.insert(0, helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(W)))
    _, report = quantized(proto, feeds(MATMUL))
    assert list(reasons(report).values()) == ["rounded to nearest: it lies in a function"]
