"""A model is not made slower: choices that are timed as a whole on a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.static import timing
from onnxpress.passes.quantize.static.timing import DOUBT, comparison, interleaved, outside_of

RNG = np.random.default_rng(5)
TEXT = """g (float[4,64] x) => (float[4,64] y) {
    a = MatMul(x, w) b = Exp(a) c = Sqrt(b) d = Log(c) y = Gemm(d, v)
}"""


@dataclass
class Clock:
    """Seconds that pass when something runs."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Slowed:
    """A session whose runs take the seconds that are laid down."""

    session: object
    clock: Clock
    seconds: float

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, feeds):
        self.clock.seconds += self.seconds
        return self.session.run(feeds)


@dataclass
class Executor:
    """onnxruntime on a clock by which MatMul alone takes half its time in integers and Gemm nearly as much as in float,
    and a whole model what `price` says."""

    clock: Clock
    price: object
    inner: OrtBackend = field(default_factory=OrtBackend)

    @property
    def name(self):
        return self.inner.name

    def prepare(self, model, **options):
        ops = [node.op_type for node in model.graph.nodes]
        alone = (1.9e-3 if "Gemm" in ops else 1e-3) if "DequantizeLinear" in ops else 2e-3
        seconds = self.price(ops) if "Exp" in ops else alone
        return Slowed(self.inner.prepare(model, **options), self.clock, seconds)


def quantized(model, price, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "now", clock)
    weights = {name: RNG.standard_normal((64, 64)).astype(np.float32) * 0.05 for name in "wv"}
    lowered = lower(model(TEXT, **weights))
    options = {"calibration": "minmax", "rounding": "nearest", "bias_correction": "false"}
    run = QuantizeInsert(mode="static", latency="measure", error=1.0, **options)
    feeds = [{"x": RNG.standard_normal((4, 64)).astype(np.float32)} for _ in range(4)]
    report = PassManager([run], Executor(clock, price)).run(lowered, data=feeds)
    ops = [node.op_type for node in emit(lowered).graph.node]
    return ops, [remark.reason for remark in report.remarks if remark.rule == "latency"]


def test_what_is_faster_is_kept_with_its_ratio(model, monkeypatch):
    ops, said = quantized(model, lambda ops: 2.0 if "QuantizeLinear" not in ops else 1.0, monkeypatch)
    assert ops.count("QuantizeLinear") == 2
    assert said == ["measured as a whole: 1e+06 us for 2e+06 us, a ratio of 0.500 (0.500 to 0.500)"]


def test_a_model_that_is_slower_as_a_whole_stays_in_float(model, monkeypatch):
    ops, said = quantized(model, lambda ops: 1.0 + 0.1 * ops.count("QuantizeLinear"), monkeypatch)
    assert "QuantizeLinear" not in ops
    assert said == [
        "nothing runs in integers: the model would be slower than in float: "
        "1.2e+06 us for 1e+06 us, a ratio of 1.200 (1.200 to 1.200)"
    ]


def test_what_pays_least_is_taken_back_first(model, monkeypatch):
    ops, said = quantized(model, lambda ops: [1.0, 0.5, 3.0][ops.count("QuantizeLinear")], monkeypatch)
    assert ops.count("QuantizeLinear") == 1
    assert said == [
        "measured as a whole: 5e+05 us for 1e+06 us, a ratio of 0.500 (0.500 to 0.500)",
        "1 units are taken back, with which the model would be slower than in float: "
        "3e+06 us for 1e+06 us, a ratio of 3.000 (3.000 to 3.000)",
    ]


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60), st.data())
def test_an_interval_holds_the_median_and_orders_its_ends(before, data):
    after = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=len(before), max_size=len(before)))
    found = comparison(before, after)
    ratios = [b / a for a, b in zip(before, after, strict=True)]
    assert found.low <= found.ratio <= found.high
    assert found.ratio == pytest.approx(np.median(ratios))
    outside = outside_of(len(ratios))
    assert sum(ratio < found.low for ratio in ratios) <= outside < sum(ratio <= found.low for ratio in ratios)
    assert sum(ratio > found.high for ratio in ratios) <= outside < sum(ratio >= found.high for ratio in ratios)
    assert comparison(before, before).is_slower is False


@given(st.integers(1, 400))
def test_the_interval_is_as_sure_as_it_says_and_no_wider(count):
    """P(fewer than k of n fair coins show heads) for k = outside, in exact numbers."""
    k = outside_of(count)
    below = sum(comb(count, i) for i in range(k))
    assert below <= DOUBT * 2**count
    assert below + comb(count, k) > DOUBT * 2**count or k == (count - 1) // 2


def test_runs_take_turns(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "now", clock)
    order = []

    def run(name, seconds):
        order.append(name)
        clock.seconds += seconds

    taken = interleaved([lambda: run("a", 1.0), lambda: run("b", 2.0)], seconds=12, least=1, most=100)
    assert order == ["a", "b"] * (2 + len(taken[0]))
    assert set(taken[0]) == {1.0}
    assert set(taken[1]) == {2.0}
    assert len(taken[0]) == 2  # two turns warm up, and two more fill the time
