"""Layers one after the other: each makes up for what those before it do to its inputs."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import UserError
from onnxpress.ir import emit, lower, verify
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.report import Report
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.rounding.order import depths
from onnxpress.passes.quantize.rounding.seen import Seen

RNG = np.random.default_rng(6)
A, B, C = (RNG.standard_normal((24, 24)).astype(np.float32) for _ in range(3))
BIAS = RNG.standard_normal(24).astype(np.float32)
CHAIN = """g (float[N,24] x) => (float[N,24] y) {
  p = MatMul(x, a)  q = Relu(p)  r = MatMul(q, b)  s = Relu(r)  y = Gemm(s, c, v)
}"""
WEIGHTS = {"a": A, "b": B, "c": C, "v": BIAS}
Array = np.ndarray[Any, np.dtype[Any]]
Feeds = list[dict[str, Array]]


def feeds(count: int, seed: int = 1) -> Feeds:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((6, 24))
    return [{"x": (rng.standard_normal((32, 6)) @ mixing).astype(np.float32)} for _ in range(count)]


def quantized(proto: ModelProto, data: Feeds, **options: Any) -> tuple[ModelProto, Report]:
    lowered = lower(proto)
    given_ = {"min_bytes": 0, "balance": False, "bias_correction": "false"} | options
    report = PassManager([QuantizeInsert(**given_)], backend=OrtBackend()).run(lowered, data=data)
    verify(lowered)
    return emit(lowered), report


def error(before: ModelProto, after: ModelProto, data: Feeds) -> float:
    old, new = (OrtBackend().prepare(lower(proto)) for proto in (before, after))
    return sum(float(np.square(old.run(feed)["y"] - new.run(feed)["y"]).sum()) for feed in data)


@pytest.mark.parametrize("options", [{"type": "int4"}, {"type": "int2", "form": "cast"}], ids=str)
def test_outputs_come_nearer_than_with_each_layer_alone(options: dict[str, Any], model: Any) -> None:
    proto, data, other = model(CHAIN, opset=21, ir=10, **WEIGHTS), feeds(24), feeds(8, seed=2)
    errors = {}
    for sequential in ("true", "false"):
        after, report = quantized(proto, data, sequential=sequential, granularity="channel", **options)
        rows = [row.cells for row in report.layers if "rounding" in row.cells]
        assert len(rows) == 3
        assert all(row["held-out error"] <= row["nearest's"] for row in rows)
        errors[sequential] = error(proto, after, other)
    assert errors["true"] < 0.9 * errors["false"]


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_units_that_run_in_integers(mode: str, model: Any) -> None:
    proto, data, other = model(CHAIN, **WEIGHTS), feeds(24), feeds(8, seed=2)
    errors = {}
    for sequential in ("true", "false"):
        after, report = quantized(
            proto, data, mode=mode, latency="off", error=10.0, sequential=sequential, bias_correction="true"
        )
        assert sum("rounding" in row.cells for row in report.layers) == 3
        errors[sequential] = error(proto, after, other)
    nearest, _ = quantized(proto, data, mode=mode, latency="off", error=10.0, rounding="nearest", clip="none")
    assert errors["true"] < 1.1 * errors["false"]
    assert errors["true"] < error(proto, nearest, other)


def test_the_model_is_what_it_was_between_layers(model: Any) -> None:
    """Moments of what lies before a layer change walks, not results: the first layer is rounded as if it were alone."""
    proto, data = model(CHAIN, opset=21, ir=10, **WEIGHTS), feeds(8)
    whole, _ = quantized(proto, data, type="int4", sequential="true", bias_correction="false")
    few, report = quantized(proto, data, type="int4", sequential="true", moments=5 * 8 * 24 * 25 + 8 * 2 * 25 * 24)
    assert whole == few
    assert not [remark for remark in report.remarks if "moments=" in remark.reason]
    _, report = quantized(proto, data, type="int4", sequential="true", moments=5 * 8 * 24 * 24)
    assert len([remark for remark in report.remarks if "moments=" in remark.reason]) == 3


def test_what_is_zero_stays_zero(model: Any) -> None:
    pruned = {name: np.where(RNG.random(w.shape) < 0.5, 0, w) for name, w in WEIGHTS.items()}
    proto, data = model(CHAIN, opset=21, ir=10, **pruned), feeds(8)
    after, _ = quantized(proto, data, type="int8", sequential="true", form="dq")
    held = [numpy_helper.to_array(one) for one in after.graph.initializer]
    codes = [array for array in held if array.dtype == np.int8 and array.shape == (24, 24)]
    for name in "abc":
        assert any(found.any() and not found[pruned[name] == 0].any() for found in codes)


@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
def test_biases_take_what_layers_before_do_on_the_mean(kind: str, model: Any) -> None:
    """Two bits move the mean of what lies behind; the last bias makes up for it."""
    text = CHAIN if kind == "Gemm" else CHAIN.replace("y = Gemm(s, c, v)", "y = MatMul(s, c)")
    proto, data, other = model(text, opset=21, ir=10, **WEIGHTS), feeds(24), feeds(24, seed=2)
    off = {}
    for corrects in ("true", "false"):
        after, report = quantized(
            proto, data, type="int2", granularity="channel", sequential="true", bias_correction=corrects
        )
        old, new = (OrtBackend().prepare(lower(one)) for one in (proto, after))
        off[corrects] = np.mean([old.run(feed)["y"] - new.run(feed)["y"] for feed in other], axis=(0, 1))
        told = [remark.subject for remark in report.remarks if remark.rule == "bias"]
        assert len(told) == len(set(told)) == (3 if corrects == "true" else 0)
    assert np.square(off["true"]).sum() < 0.7 * np.square(off["false"]).sum()


def test_auto_is_for_few_bits_and_nearest_has_no_order(model: Any) -> None:
    proto, data = model(CHAIN, opset=21, ir=10, **WEIGHTS), feeds(8)
    for type_, same in (("int4", "true"), ("int8", "false")):
        given_ = {"type": type_, "granularity": "channel"}
        assert quantized(proto, data, **given_)[0] == quantized(proto, data, sequential=same, **given_)[0]
    with pytest.raises(UserError, match="sequential=true is for rounding"):
        QuantizeInsert(sequential="true", rounding="nearest")
    with pytest.raises(UserError, match="sequential=true needs sample data"):
        PassManager([QuantizeInsert(sequential="true")], backend=OrtBackend()).run(lower(proto))


def test_depths(model: Any) -> None:
    text = """g (float[N,24] x, bool t) => (float[N,24] z) {
      p = MatMul(x, a)  q = MatMul(x, b)  r = Add(p, q)  s = MatMul(r, c)
      y = If (t) <then_branch = f () => (float[N,24] m) { m = MatMul(s, a) },
                  else_branch = e () => (float[N,24] n) { k = Neg(q)  n = MatMul(k, a) }>
      z = MatMul(y, b)
    }"""
    lowered = lower(model(text, a=A, b=B, c=C))
    layers = [node for graph in lowered.graph.walk_graphs() for node in graph.nodes if node.op_type == "MatMul"]
    found = {node.outputs[0].name: depth for node, depth in depths(lowered, layers).items()}
    assert found == {"p": 0, "q": 0, "s": 1, "m": 2, "n": 1, "z": 3}


@given(st.integers(0, 9999), st.integers(1, 3), st.booleans())
def test_the_objective_is_the_squared_error(seed: int, groups: int, drifted: bool) -> None:
    rng = np.random.default_rng(seed)
    k, n, rows = 5, 4, 30
    was = rng.standard_normal((groups, rows, k))
    now = was + 0.1 * rng.standard_normal(was.shape) if drifted else was
    old, new = rng.standard_normal((2, groups, k, n))
    old[:, 0] = 0
    gram, cross, before = (a.swapaxes(1, 2) @ b / rows for a, b in ((now, now), (now, was), (was, was)))
    seen = Seen(gram, cross if drifted else gram, now.mean(1), was.mean(1))
    expected = np.square(was @ old - now @ new).sum() / rows
    np.testing.assert_allclose(seen.error(before, old, new), expected)
    np.testing.assert_allclose(seen.shift(old, new), (was @ old - now @ new).mean(1).reshape(-1), atol=1e-12)
    target = seen.targets(old, 1e-6)
    assert not target[:, 0].any()
    if drifted:
        free = np.linalg.solve(gram[0], cross[0] @ old[0])
        np.testing.assert_allclose(target[0, 1:], free[1:], rtol=1e-3, atol=1e-3)
    else:
        assert target is old
