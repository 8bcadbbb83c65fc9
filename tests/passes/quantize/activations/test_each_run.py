"""Products that stand alone among floats get the ranges of each run, and what reads them there in integers does not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import ModelProto

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Graph, emit, lower
from onnxpress.ir.analysis.shapes import infer_shapes
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.static import draft
from onnxpress.passes.quantize.static.cut import Free
from onnxpress.passes.quantize.static.each_run import alone, without_movers
from onnxpress.passes.quantize.static.units import Units
from onnxpress.passes.quantize.targets.profile import profile
from onnxpress.specs import check_pass
from onnxpress.specs.strategies_coupled import transformer

RNG = np.random.default_rng(7)
SIZE = 256
MATRICES = {name: (RNG.standard_normal((SIZE, SIZE)) / 16).astype(np.float32) for name in "wv"}
BIAS = RNG.standard_normal(SIZE).astype(np.float32)

ALONE = {
    "one": ("e = Exp(x) y = MatMul(e, w)", {"y"}),
    "two readers": ("e = Exp(x) f = MatMul(e, w) g = MatMul(e, v) h = Exp(f) i = Exp(g) y = Sub(h, i)", {"f", "g"}),
    "one behind the other": ("e = Exp(x) f = MatMul(e, w) y = MatMul(f, v)", set()),
    "one behind the other, in float between": ("f = MatMul(x, w) e = Exp(f) y = MatMul(e, v)", {"f", "y"}),
    "another reads its input in integers": ("e = Exp(x) f = MatMul(e, w) g = Exp(f) y = Add(e, e)", set()),
    "its input is made in integers": ("e = Sigmoid(x) y = MatMul(e, w)", set()),
    "its weight is read by known ranges too": ("e = Exp(x) f = MatMul(e, w) s = Sigmoid(x) y = MatMul(s, w)", set()),
    "a Gemm": ("e = Exp(x) y = Gemm(e, w, b)", set()),
    "behind a mover, without a bias": ("e = Exp(x) t = Transpose(e) y = MatMul(t, w)", set()),
    "behind a mover of its own, with a bias": ("e = Exp(x) t = Transpose(e) f = MatMul(t, w) y = Sub(f, x)", set()),
}
"""Bodies of models, and the products of which the inputs get ranges of their own."""


def source(body: str, model: Any) -> Any:
    text = f"g (float[{SIZE},{SIZE}] x) => (float[{SIZE},{SIZE}] y) {{ {body} }}"
    held = {**MATRICES, "b": BIAS}
    return model(text, **{name: held[name] for name in held if f"{name})" in body or f"{name}," in body})


def units(proto: ModelProto) -> list[Any]:
    lowered = lower(proto)
    return Units(lowered, profile("ort-cpu"), infer_shapes(lowered)).found


@pytest.mark.parametrize("name", ALONE)
def test_what_stands_alone(name: str, model: Any) -> None:
    body, expected = ALONE[name]
    found = without_movers(units(source(body, model)))
    assert {unit.node.outputs[0].name for unit in alone(found)} == expected


@pytest.mark.parametrize("more", ["", "s = Sigmoid(t)"])
def test_movers_in_front_of_a_bias_stay_in_float(more: str, model: Any) -> None:
    """But not where another unit reads what they move."""
    body = f"e = Exp(x) t = Transpose(e) f = MatMul(t, w) {more} g = Sub(b, f) y = Exp(g)"
    found = units(source(body.replace("Sub(b, f)", "Add(f, b)"), model))
    kept = without_movers([unit for unit in found if not unit.node.is_op("Add")])
    assert any(unit.node.is_op("Transpose") for unit in kept) is bool(more)
    assert len(alone(kept)) == (not more)


def quantized(proto: ModelProto, **options: Any) -> tuple[list[str], list[str], ModelProto]:
    lowered = lower(proto)
    feeds = [{"x": RNG.standard_normal((SIZE, SIZE)).astype(np.float32)} for _ in range(3)]
    run = QuantizeInsert(mode="static", error=10.0, rounding="nearest", **options)
    report = PassManager([run], OrtBackend()).run(lowered, data=feeds)
    made = emit(lowered)
    return [node.op_type for node in made.graph.node], [remark.reason for remark in report.remarks], made


def test_the_range_of_a_run_is_taken_and_said(model: Any, run_model: Any, optimized: Any) -> None:
    proto = source("e = Exp(x) f = MatMul(e, w) y = Add(f, b)", model)
    ops, said, made = quantized(proto)
    assert ops.count("DynamicQuantizeLinear") == 1
    assert "QuantizeLinear" not in ops
    assert any("with ranges of each run" in reason for reason in said)
    assert any("in the ranges of each run" in reason for reason in said)
    assert "DynamicQuantizeMatMul" in optimized(made)
    wide = {"x": RNG.uniform(8, 9, (SIZE, SIZE)).astype(np.float32)}
    y, found = (run_model(one, **wide)["y"] for one in (proto, made))
    assert np.linalg.norm(y - found) < 0.05 * np.linalg.norm(y)


OTHERS: list[dict[str, str]] = [
    {"calibration": "minmax"},
    {"latency": "off"},
    {"format": "qoperator"},
    {"target": "ort-cpu-arm"},
    {"target": "generic"},
]


@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_other_settings_keep_ranges_of_the_data(options: dict[str, str], model: Any) -> None:
    ops, _, _ = quantized(source(ALONE["one"][0], model), **options)
    assert "DynamicQuantizeLinear" not in ops
    assert "QuantizeLinear" in ops


@dataclass(frozen=True)
class Looked(QuantizeInsert):
    """Counts the operators of what comes of it."""

    ops: ClassVar[Counter[str]] = Counter()

    def run(self, graph: Graph, ctx: Context) -> None:
        super().run(graph, ctx)
        self.ops.update(node.op_type for node in ctx.model.graph.nodes)


def test_the_bounds_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """With both kinds of ranges in a model, whatever they cost."""
    monkeypatch.setattr(draft, "_costs", lambda *args: Free())
    Looked.ops.clear()
    run = Looked(mode="static", error=1e3, rounding="nearest", clip="none", min_bytes=0)
    models: st.SearchStrategy[ModelProto] = transformer()
    checked = check_pass(run, models=models, backend=OrtBackend(), max_examples=15)
    assert checked.judged > 8
    assert Looked.ops["DynamicQuantizeLinear"] > 2
