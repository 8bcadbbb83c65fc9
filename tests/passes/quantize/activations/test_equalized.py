"""Channels are rescaled before static ranges are measured: what it saves, what is taken back, what is promised."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper

import onnxpress
from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Graph, Model, emit
from onnxpress.passes.equalize.rescale import rescale
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.bounds import LocalBound
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.rounding.options import Rounder
from onnxpress.passes.quantize.static.draft import Drafter
from onnxpress.passes.quantize.static.equalized import Factors
from onnxpress.passes.quantize.static.settings import Settings
from onnxpress.specs import check_pass
from onnxpress.specs.strategies_coupled import convolutional, transformer

from ...equalize.networks import CHANNELS, SKEW, layers, node, skewed

FORCED = QuantizeInsert(
    mode="static", equalize="true", latency="off", error=1e3, rounding="nearest", clip="none", min_bytes=0
)


def data(count: int = 8) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal((1, 3, 6, 6)).astype(np.float32)} for _ in range(count)]


def run(proto: ModelProto, **options: Any) -> tuple[Model, Any]:
    model = onnxpress.load(proto)
    settings = {"mode": "static", "latency": "off", "rounding": "nearest", "min_bytes": 0, **options}
    return model, PassManager([QuantizeInsert(**settings)], OrtBackend()).run(model, data=data())


def gated(activation: str = "HardSwish") -> ModelProto:
    """The second convolution reads what takes no factor in: by itself, or because a Sigmoid reads it too."""
    proto = layers([node(activation, "h")], {"w2": np.ones((4, CHANNELS, 3, 3)) / SKEW.reshape(1, -1, 1, 1)})
    proto.graph.node.append(node("Sigmoid", "m", out="s"))
    proto.graph.output.append(helper.make_tensor_value_info("s", 1, ["N", CHANNELS, "H", "W"]))
    return proto


def error(proto: ModelProto, after: Model, name: str = "y") -> float:
    """rel-L2 of one output on other samples."""
    before, found = (OrtBackend().prepare(model) for model in (onnxpress.load(proto), after))
    random = np.random.default_rng(2)
    off = size = 0.0
    for _ in range(8):
        feed = {"x": random.standard_normal((1, 3, 6, 6)).astype(np.float32)}
        a, b = before.run(feed)[name], found.run(feed)[name]
        off, size = off + float(np.square(a - b).sum()), size + float(np.square(a).sum())
    return float(np.sqrt(off / size))


def kinds(model: Model) -> list[str]:
    return [each.op_type for each in model.graph.nodes]


@pytest.mark.parametrize("models", [convolutional(), transformer()], ids=["convolutional", "transformer"])
def test_bounds_hold_in_the_scale_of_the_result(models: st.SearchStrategy[ModelProto]) -> None:
    checked = check_pass(FORCED, models=models, backend=OrtBackend(), max_examples=15)
    assert checked.changed > 8
    assert checked.judged > 8


def test_bounds_hold_for_skewed_weights() -> None:
    checked = check_pass(FORCED, models=skewed(convolutional()), backend=OrtBackend(), max_examples=15)
    assert checked.judged > 4


def test_channels_that_are_lost_otherwise_are_kept() -> None:
    proto = layers([node("Relu", "h")])
    plain, _ = run(proto, equalize="false", error=1e3)
    model, report = run(proto, error=1e3)
    assert error(proto, model) < error(proto, plain) / 10
    assert "Mul" not in kinds(model)
    said = [remark for remark in report.remarks if remark.rule == "equalize" and remark.subject == "model"]
    assert [remark.kind for remark in said] == ["applied"]
    assert kinds(model).count("QuantizeLinear") == kinds(plain).count("QuantizeLinear")


def test_a_mul_comes_only_if_the_limit_is_not_kept_without() -> None:
    proto = gated()
    loose, _ = run(proto, error=1e3)
    assert "Mul" not in kinds(loose)
    tight, _ = run(proto, error=0.05)
    assert kinds(tight).count("Mul") == 1
    assert "Conv" in kinds(tight)
    assert error(proto, tight) < 0.1 * error(proto, run(proto, error=1e3, equalize="false")[0])


def test_no_mul_breaks_a_chain_of_integers() -> None:
    """What the first convolution makes is in integers already."""
    assert "Mul" not in kinds(run(gated("Relu"), error=0.05, min_bytes=10**6)[0])


def test_a_mul_that_no_integers_read_is_taken_back() -> None:
    """Nor is anything else left of it, in the model or in the account of its weights."""
    proto = gated()
    model, report = run(proto, error=1e-9, min_bytes=10**6)
    assert any(remark.rule == "equalize" for remark in report.remarks)
    assert emit(model).SerializeToString(deterministic=True) == proto.SerializeToString(deterministic=True)
    assert {str(entry.outcome) for entry in report.weights} == {"kept"}


def test_muls_without_readers_in_integers_are_taken_back_and_said() -> None:
    """Of a choice that is empty."""

    @dataclass(frozen=True)
    class Unused(Pass):
        """Insert, and choose nothing."""

        name: ClassVar[str] = "unused"
        effect: ClassVar[Effect] = Effect.ROUNDING
        scope: ClassVar[Literal["graph", "model"]] = "model"

        def run(self, graph: Graph, ctx: Context) -> None:
            factors = Factors.none(ctx.model).plus(rescale(ctx, watches=True, fold=False, insert=True))
            assert len(factors.inserted) == 1
            factors.take_back_unused(ctx, [])
            assert not factors.inserted

    model = onnxpress.load(gated())
    report = PassManager([Unused()], OrtBackend()).run(model, data=data())
    assert "Mul" not in kinds(model)
    assert [remark.kind for remark in report.remarks if remark.rule == "insert"] == ["applied", "missed"]


def test_a_weight_that_is_excluded_keeps_its_numbers() -> None:
    proto = layers([node("Relu", "h")])
    model, _ = run(proto, error=1e3, exclude=("w2",))
    names = {value.name: value.const.numpy() for value in model.graph.values() if value.const is not None}
    np.testing.assert_array_equal(names["w2"], numpy_helper.to_array(proto.graph.initializer[2]))


def test_taking_a_mul_back_gives_the_model_as_it_was() -> None:
    @dataclass(frozen=True)
    class Twice(Pass):
        """Insert, and take back."""

        name: ClassVar[str] = "twice"
        effect: ClassVar[Effect] = Effect.ROUNDING
        scope: ClassVar[Literal["graph", "model"]] = "model"

        def run(self, graph: Graph, ctx: Context) -> None:
            done = rescale(ctx, watches=True, insert=True)
            found.append(len(done.inserted))
            for one in done.inserted:
                one.take_back(ctx)

    found: list[int] = []
    proto = gated()
    model = onnxpress.load(proto)
    PassManager([Twice()], OrtBackend()).run(model, data=data())
    assert found == [1]
    arrays = [{i.name: numpy_helper.to_array(i) for i in each.graph.initializer} for each in (proto, emit(model))]
    assert kinds(model) == [each.op_type for each in proto.graph.node]
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name])


def test_what_is_scaled_is_said() -> None:
    _, report = run(layers([node("Relu", "h")]), error=1e3)
    said: dict[str, LocalBound] = {bound.weight: bound for bound in report.bounds if bound.form == "scaled"}
    assert {"h", "m"} <= set(said)
    assert np.ptp(np.log2(said["m"].per_channel)) > 8
    assert {bound.value for bound in report.bounds if bound.form == "step"} >= {said["m"].value}


@pytest.mark.parametrize("folds", [False, True])
def test_what_a_draft_takes_over_is_what_it_would_measure(folds: bool) -> None:
    """Of the values that were not rescaled; to the last bit."""

    @dataclass(frozen=True)
    class Drafts(Pass):
        """Make drafts, and nothing of them."""

        name: ClassVar[str] = "drafts"
        effect: ClassVar[Effect] = Effect.ROUNDING
        scope: ClassVar[Literal["graph", "model"]] = "model"

        def run(self, graph: Graph, ctx: Context) -> None:
            settings = Settings("ort-cpu", "off", 1e-3, calibration="auto")
            drafter = Drafter(ctx, settings, settings.aim, Rounder())
            first = drafter.decided(drafter.refined(drafter.draft(())))
            done = rescale(ctx, watches=True, fold=folds, insert=not folds)
            touched = {axis.value for axis in done.powers} | {one.scaled for one in done.inserted}
            assert touched
            told, anew = drafter.draft(done.inserted, first, touched), drafter.draft(done.inserted)
            assert (told.ranges, told.shapes, told.error) == (anew.ranges, anew.shapes, anew.error)
            kept.append(len(told.ranges.keys() - touched))
            told, anew = drafter.refined(told), drafter.refined(anew)
            assert (told.cut, told.emitter.of) == (anew.cut, anew.emitter.of)
            nodes = {unit.node for unit in told.errors_before}
            assert not any({*unit.activations, *unit.outputs} & touched for unit in told.errors_before)
            assert nodes or folds

    kept: list[int] = []
    proto = layers([node("Relu", "h")]) if folds else gated()
    PassManager([Drafts()], OrtBackend()).run(onnxpress.load(proto), data=data())
    assert kept[0] > 0
