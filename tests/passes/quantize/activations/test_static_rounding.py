"""Weights of units that run in integers: rounded by outputs on the target's grid, and biases that take up the mean."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import UserError
from onnxpress.ir import Graph, emit, lower
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.report import Report
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.targets.profile import profile
from onnxpress.specs.check import check_pass
from onnxpress.specs.strategies_coupled import convolutional, transformer

RNG = np.random.default_rng(5)
MIXING = RNG.standard_normal((3, 16)).astype(np.float32)
W = RNG.standard_normal((16, 16)).astype(np.float32)
BIAS = RNG.standard_normal(16).astype(np.float32)
KERNEL = RNG.standard_normal((16, 16, 3)).astype(np.float32)
Array = np.ndarray[Any, np.dtype[Any]]
Feeds = list[dict[str, Array]]

MATMUL = "g (float[N,16] x) => (float[N,16] y) { y = MatMul(x, w) }"
GEMM = "g (float[N,16] x) => (float[N,16] y) { y = Gemm(x, w, b) }"
TURNED = "g (float[N,16] x) => (float[N,16] y) { y = Gemm<transB = 1>(x, w, b) }"
CONV = "g (float[N,16,4] x) => (float[N,16,4] y) { y = Conv<pads = [1, 1]>(x, w, b) }"
GROUPED = "g (float[N,16,4] x) => (float[N,16,4] y) { y = Conv<pads = [1, 1], group = 2>(x, w, b) }"
WAYS: dict[str, tuple[str, dict[str, Array]]] = {
    "matmul": (MATMUL, {"w": W}),
    "gemm": (GEMM, {"w": W, "b": BIAS}),
    "turned": (TURNED, {"w": np.ascontiguousarray(W.T), "b": BIAS}),
    "conv": (CONV, {"w": KERNEL, "b": BIAS}),
    "grouped": (GROUPED, {"w": KERNEL[:, :8], "b": BIAS}),
}


def feeds(text: str, count: int = 16, mean: float = 0.0) -> Feeds:
    """Inputs of which 16 channels are mixed from three, none far from the others, so that steps of inputs are small."""
    rng, made = np.random.default_rng(1), []
    for _ in range(count):
        rows = (mean + np.tanh(rng.standard_normal((40, 3))) @ MIXING).astype(np.float32)
        made.append({"x": rows if "16,4]" not in text else rows.reshape(10, 4, 16).transpose(0, 2, 1).copy()})
    return made


def quantized(proto: ModelProto, data: Feeds | None, **options: Any) -> tuple[ModelProto, Report]:
    lowered = lower(proto)
    given = {"mode": "static", "latency": "off", "error": 10.0, "min_bytes": 0, "bias_correction": "false"} | options
    report = PassManager([QuantizeInsert(**given)], OrtBackend()).run(lowered, data=data)
    return emit(lowered), report


def stored(made: ModelProto, text: str) -> tuple[Array, Array]:
    """The levels of the weight, of its shape, and its scales, such that they broadcast."""
    held = {one.name: numpy_helper.to_array(one) for one in made.graph.initializer}
    for node in made.graph.node:
        levels = held.get(node.input[0 if node.op_type == "DequantizeLinear" else 1]) if len(node.input) > 1 else None
        if levels is None or levels.dtype != np.int8 or not levels.ndim:
            continue
        if node.op_type == "DequantizeLinear":
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            return levels, held[node.input[1]].reshape([-1 if i == axis else 1 for i in range(levels.ndim)])
        scales = next(held[mul.input[1]] for mul in made.graph.node if mul.op_type == "Mul" and mul.input[1] in held)
        return (levels.T, scales[:, None]) if "transB" in text else (levels, scales)
    raise AssertionError("no weight in levels")


def reasons(report: Report, rule: str = "rounding") -> list[str]:
    return [remark.reason for remark in report.remarks if remark.rule == rule]


@pytest.mark.parametrize("way", WAYS)
def test_layers_err_less_than_with_nearest_rounding(way: str, model: Any) -> None:
    text, weights = WAYS[way]
    proto, data = model(text, **weights), feeds(text)
    nearest, _ = quantized(proto, data, rounding="nearest", clip="none")
    after, report = quantized(proto, data)
    (row,) = [row.cells for row in report.layers if "rounding" in row.cells]
    assert row["held-out error"] < 0.7 * row["nearest's"]
    errors = []
    for made in (nearest, after):
        levels, scales = stored(made, text)
        in_float = model(text, **{**weights, "w": levels.astype(np.float32) * scales})
        old, new = (OrtBackend().prepare(lower(one)) for one in (proto, in_float))
        errors.append(sum(float(np.square(old.run(feed)["y"] - new.run(feed)["y"]).sum()) for feed in data))
    assert errors[1] < 0.8 * errors[0]


def test_units_are_chosen_by_what_outputs_lose_with_rounded_weights(model: Any) -> None:
    proto, data = model(MATMUL, w=W), feeds(MATMUL)
    before = OrtBackend().prepare(lower(proto))

    def lost(made: ModelProto) -> float:
        after = OrtBackend().prepare(lower(made))
        pairs = [(before.run(feed)["y"], after.run(feed)["y"]) for feed in data]
        return float(sum(np.square(a - b).sum() for a, b in pairs) / sum(np.square(a).sum() for a, _ in pairs)) ** 0.5

    nearest = {"rounding": "nearest", "clip": "none"}
    errors = [lost(quantized(proto, data, **options)[0]) for options in (nearest, {})]
    assert errors[1] < 0.9 * errors[0]
    limit = float(np.sqrt(np.prod(errors)))
    in_float, _ = quantized(proto, data, error=limit, **nearest)
    after, report = quantized(proto, data, error=limit)
    assert [sum(node.op_type == "QuantizeLinear" for node in made.graph.node) for made in (in_float, after)] == [0, 1]
    assert lost(after) <= limit
    assert sum("with weights rounded by the outputs of layers" in reason for reason in reasons(report)) == 1
    assert len([row for row in report.layers if "rounding" in row.cells]) == 1


@settings(deadline=None, max_examples=40)
@given(
    case=st.sampled_from(
        [*[("static", way) for way in WAYS], *[("dynamic", way) for way in ("matmul", "gemm", "turned")]]
    ),
    target=st.sampled_from(["ort-cpu", "ort-cpu-avx2", "tensorrt", "litert"]),
    rounding=st.sampled_from(["nearest", "adaround", "gptq", "auto"]),
    corrects=st.sampled_from(["true", "false"]),
    exponent=st.integers(-8, 8),
)
def test_codes_are_as_near_as_the_method_promises(
    case: tuple[str, str], target: str, rounding: str, corrects: str, exponent: int, model: Any
) -> None:
    """Within half a step and an ulp with nearest, within one step with adaround, and levels that the target has."""
    mode, way = case
    text, weights = WAYS[way]
    weights = {name: array * np.float32(2.0**exponent) for name, array in weights.items()}
    after, _ = quantized(
        model(text, **weights), feeds(text, 4), mode=mode, target=target, rounding=rounding, clip="none",
        bias_correction=corrects,
    )  # fmt: skip
    levels, scales = stored(after, text)
    assert np.abs(levels.astype(int)).max() <= profile(target).weight_levels
    off = np.abs(levels * scales.astype(np.float64) - weights["w"]) / scales
    most = {"nearest": 0.5, "adaround": 1.0}.get(rounding, np.inf)
    assert off.max() <= most * (1 + 1e-5)


@dataclass(frozen=True)
class OnMoreSamples(QuantizeInsert):
    """On the drawn feed and smaller multiples, so that there are some to judge by; counts what came of it."""

    seen: ClassVar[Counter[str]] = Counter()

    def run(self, graph: Graph, ctx: Context) -> None:
        (feed,) = ctx.samples or ()
        floats = {name for name, array in feed.items() if np.asarray(array).dtype.kind == "f"}
        ctx.samples = [
            {n: a * a.dtype.type(k) if n in floats else a for n, a in feed.items()} for k in (1, 0.9, 0.8, 0.7)
        ]
        super().run(graph, ctx)
        self.seen.update(str(row.cells["rounding"]).split()[0] for row in ctx.layers if "rounding" in row.cells)
        self.seen.update(remark.kind for remark in ctx.remarks if remark.rule == "bias")


@pytest.mark.parametrize("sequential", ["true", "false"])
@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_the_bounds_hold(mode: Any, sequential: Any) -> None:
    """Of weights whose codes data chose, and of biases that data moved."""
    OnMoreSamples.seen.clear()
    pass_ = OnMoreSamples(
        mode=mode, latency="off", error=1e3, min_bytes=0, bias_correction="true", sequential=sequential
    )
    for models in (convolutional(), transformer()):
        check_pass(pass_, models=models, backend=OrtBackend(), max_examples=3)
    assert OnMoreSamples.seen["applied"]
    assert OnMoreSamples.seen["gptq"] + OnMoreSamples.seen["adaround"] > 2


def test_a_mean_goes_into_the_bias(model: Any) -> None:
    text, weights = WAYS["conv"]
    proto, data, other = model(text, **weights), feeds(text, mean=4.0), feeds(text, 24, mean=4.0)[16:]
    errors = {}
    for corrects in ("false", "true"):
        after, report = quantized(proto, data, rounding="nearest", clip="none", bias_correction=corrects)
        old, new = (OrtBackend().prepare(lower(one)) for one in (proto, after))
        off = [old.run(feed)["y"] - new.run(feed)["y"] for feed in other]
        errors[corrects] = float(np.abs(np.mean(off, axis=(0, 1, 3))).max())
    assert errors["true"] < 0.5 * errors["false"]
    assert [remark.kind for remark in report.remarks if remark.rule == "bias"] == ["applied"]


def test_the_add_behind_a_product_takes_the_mean_if_it_is_in_float(model: Any) -> None:
    text = "g (float[N,16] x) => (float[N,16] y) { h = MatMul(x, w) y = Add(h, b) }"
    proto, data = model(text, w=W, b=BIAS), feeds(text, mean=4.0)
    given = {"rounding": "nearest", "clip": "none", "bias_correction": "true"}
    _, report = quantized(proto, data, **given)
    assert reasons(report, "bias") == ["its bias stays: it has none that is added to its sums"]
    for mode in ("static", "dynamic"):
        after, report = quantized(proto, data, mode=mode, exclude=("y",), **given)
        assert any("bias corrected" in reason for reason in reasons(report, "bias")), mode
        (moved,) = [numpy_helper.to_array(one) for one in after.graph.initializer if one.name.startswith("b")]
        assert not np.array_equal(moved, BIAS)


def test_a_bias_takes_up_the_mean_of_the_input_alone_where_the_weight_is_exact(model: Any) -> None:
    """A step per channel represents a weight of one input exactly: what the input rounds to is all the error."""
    text = "g (float[N,1] x) => (float[N,8] y) { y = Gemm(x, w, b) }"
    proto = model(text, w=RNG.standard_normal((1, 8)).astype(np.float32), b=np.zeros(8, np.float32))
    levels = np.float32([[0], [255], [100.3]]) / np.float32(255)  # the last is always rounded down
    _, report = quantized(proto, [{"x": levels}] * 8, bias_correction="auto")
    expected = "bias corrected: takes away what the rounding of its input makes on the mean (its weight is exact)"
    assert f"{expected} on held-out samples" in reasons(report, "bias")


def test_what_inputs_lose_anyway_is_not_looked_for(model: Any) -> None:
    """Weights that are levels themselves lose nothing."""
    levels = RNG.integers(-127, 127, W.shape)
    levels[0] = 127
    _, report = quantized(model(MATMUL, w=levels.astype(np.float32) / 64), feeds(MATMUL))
    (reason,) = reasons(report)
    assert "of what the rounding of its input does" in reason
    assert not [row for row in report.layers if "rounding" in row.cells]


def test_a_bias_near_the_end_of_int32_keeps_its_steps(model: Any, run_model: Any) -> None:
    weights = {"w": KERNEL * np.float32(1e-7), "b": np.float32([1e4, -1e4] + [0] * 14)}
    proto, data = model(CONV, **weights), feeds(CONV)
    coarse, _ = quantized(proto, data, rounding="nearest", clip="none")
    after, _ = quantized(proto, data, rounding="nearest", bias_correction="true")
    assert stored(after, CONV)[1].tobytes() == stored(coarse, CONV)[1].tobytes()
    assert np.abs(run_model(proto, **data[0])["y"] - run_model(after, **data[0])["y"]).max() < 100


def test_a_weight_and_a_bias_of_two_readers(model: Any, run_model: Any) -> None:
    """Biases are in steps of the inputs, which differ here by a thousand."""
    text = """g (float[N,16] x) => (float[N,16] y, float[N,16] z) {
        y = Gemm(x, w, b) k = Mul(x, c) z = Gemm(k, w, b)
    }"""
    proto = model(text, w=W, b=BIAS, c=np.float32(1e-3))
    data = feeds(text)
    after, _ = quantized(proto, data, bias_correction="true")
    for name in "yz":
        old, new = (run_model(one, **data[0])[name] for one in (proto, after))
        assert np.abs(old - new).max() < 0.1 * np.abs(old).max()


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_a_method_needs_data(mode: str, model: Any) -> None:
    with pytest.raises(UserError, match="sample data"):
        quantized(model(MATMUL, w=W), None, mode=mode, rounding="gptq")
