"""How the range of each activation is found: by what readers make of it, on samples that did not give the ranges."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnxpress
from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Graph
from onnxpress.passes.calibrate.ranges import Range
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.static.affine import TYPES, affine
from onnxpress.passes.quantize.static.ranges import Every, Judge, Shares, chosen_ranges, shares_of
from onnxpress.passes.quantize.static.units import Units, values_of
from onnxpress.passes.quantize.targets.profile import profile
from onnxpress.specs import model_of

WIDTH = 8
AIM = profile("ort-cpu")


def quantizer(low: float, high: float) -> Any:
    return affine(Range(low, high), TYPES["uint8"], symmetric=False)


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_the_judge_adds_up_what_a_product_with_independent_columns_errs(seed: int, parts: int) -> None:
    random = np.random.default_rng(seed)
    x = random.standard_normal((40, WIDTH)).astype(np.float32) * 3
    weight = np.diag(random.uniform(0.1, 5, WIDTH))
    quantizers = [quantizer(-9, 9), quantizer(-2, 2)]
    judge = Judge(quantizers, Shares(-1, np.square(weight).sum(axis=1)))
    for part in np.array_split(x, parts):
        judge.update(part)
    for found, one in zip(judge.errors, quantizers, strict=True):
        assert found == pytest.approx(np.square((one.rounded(x) - x).astype(np.float64) @ weight).sum(), rel=1e-4)
    assert judge.best == int(np.argmin(judge.errors))


def test_what_is_not_finite_is_left_out() -> None:
    judge = Judge([quantizer(-1, 1)], Shares())
    judge.update(np.array([np.nan, np.inf, -np.inf, 0], np.float32))
    assert judge.errors.tolist() == [0.0]


@pytest.mark.parametrize("count", range(5))
def test_halves_are_all(count: int) -> None:
    samples = [{"x": number} for number in range(count)]
    halves = [list(Every(samples, start)) for start in (0, 1)]
    assert sorted(feed["x"] for half in halves for feed in half) == list(range(count))
    assert [len(half) for half in halves] == [Every(samples, start).__length_hint__() for start in (0, 1)]


def looked_at(text: str, feeds: list[dict[str, Any]]) -> tuple[dict[str, Range], dict[str, Shares]]:
    """What is chosen for the values of a model, and what their errors count."""
    ranges: dict[str, Range] = {}
    shares: dict[str, Shares] = {}

    @dataclass(frozen=True)
    class Look(Pass):
        """Look, and change nothing."""

        name: ClassVar[str] = "look"
        effect: ClassVar[Effect] = Effect.EXACT
        scope: ClassVar[Literal["graph", "model"]] = "model"

        def run(self, graph: Graph, ctx: Context) -> None:
            units = Units(ctx.model, AIM, ctx.shapes()).found
            values = list(values_of(units))
            ranges.update((value.name, found) for value, found in chosen_ranges(ctx, units, values, AIM).items())
            for value in values:
                readers = [unit for unit in units if value in unit.activations]
                shares[value.name] = shares_of(value, readers)

    PassManager([Look()], OrtBackend()).run(onnxpress.load(model_of(text)), data=feeds)
    return ranges, shares


@pytest.mark.parametrize(("weight", "is_cut"), [(0.01, True), (1.0, False)])
def test_a_rare_number_is_cut_off_where_little_is_made_of_it(weight: float, is_cut: bool) -> None:
    """Two of 64,000 numbers are 30 times as large as the others."""
    random = np.random.default_rng(4)
    feeds = [{"x": random.uniform(0, 1, (2000, 2)).astype(np.float32)} for _ in range(16)]
    for feed in feeds[:2]:
        feed["x"][7, 0] = 30
    text = f"g (float[2000,2] x) => (float[2000,2] y) <float[2,2] w = {{{weight},{weight},1,1}}> {{ y = MatMul(x, w) }}"
    ranges, _ = looked_at(text, feeds)
    assert (ranges["x"].high < 20) == is_cut


def test_one_sample_judges_nothing() -> None:
    text = "g (float[4,2] x) => (float[4,2] y) <float[2,2] w = {1,2,3,4}> { y = MatMul(x, w) }"
    ranges, _ = looked_at(text, [{"x": np.ones((4, 2), np.float32)}])
    assert not ranges


def test_errors_count_by_the_weights_that_they_meet() -> None:
    text = """g (float[1,4,2,2] x) => (float[1,2,2,2] y, float[1,4,2,2] z) <float[2,2,1,1] w = {1,2,3,4}>
        { y = Conv <group = 2> (x, w) z = Sigmoid(x) }"""
    _, shares = looked_at(text, [{"x": np.ones((1, 4, 2, 2), np.float32)}])
    squares = np.array([1, 4, 9, 16])
    assert shares["x"].axis == -3
    np.testing.assert_allclose(shares["x"].weights, 1 + squares / squares.mean())
    assert shares["y"].weights is None
