"""Repair makes up for what passes did, and says what it leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper

import onnxpress
from onnxpress.errors import UserError
from onnxpress.ir import Graph, Model, tensor
from onnxpress.passes.factorize.factorize import Factorize
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.context import Context
from onnxpress.passes.prune.prune import Prune
from onnxpress.passes.repair.repair import Repair
from onnxpress.specs.check import check_pass
from onnxpress.specs.strategies_coupled import convolutional, transformer

INNER, OUT = 12, 5


def two_layers(*, biased: bool = True, middle: str = "Relu") -> ModelProto:
    """y = f(x A + a) B + b, or without a and b."""
    random = np.random.default_rng(0)
    shapes = {"A": (8, INNER), "a": (INNER,), "B": (INNER, OUT), "b": (OUT,)}
    held = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
        if biased or name.isupper()
    ]
    ends = ("p", "q") if biased else ("h", "y")
    nodes = [helper.make_node("MatMul", ["x", "A"], [ends[0]]), helper.make_node("MatMul", ["r", "B"], [ends[1]])]
    if biased:
        nodes += [helper.make_node("Add", ["p", "a"], ["h"]), helper.make_node("Add", ["b", "q"], ["y"])]
    nodes.append(helper.make_node(middle, ["h"], ["r"]))
    order = {"p": 0, "h": 1, "r": 2, "q": 3, "y": 4}
    nodes.sort(key=lambda node: order[node.output[0]])
    x = helper.make_tensor_value_info("x", 1, ["N", 8])
    y = helper.make_tensor_value_info("y", 1, ["N", OUT])
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feeds(count: int = 40, seed: int = 1) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    spread = np.geomspace(2, 0.05, 8)
    return [{"x": (random.standard_normal((8, 8)) * spread).astype(np.float32)} for _ in range(count)]


def run(proto: ModelProto, pipeline: str | list[Pass]) -> tuple[Model, Any]:
    model = onnxpress.load(proto)
    return model, onnxpress.PassManager(pipeline, measure=False).run(model, data=feeds())


def error(proto: ModelProto, model: Model) -> float:
    """On other inputs than those that were fitted to."""
    return float(onnxpress.compare(onnxpress.load(proto), model, data=feeds(8, seed=2)).worst["rel-l2"].value)


def weights(model: Model) -> dict[str, Any]:
    return {value.name: value.const.numpy() for value in model.graph.initializers if value.const is not None}


@dataclass(frozen=True)
class Spoil(Pass):
    """Mix the first matrix with itself: what it makes stays a linear map of what it made."""

    name: ClassVar[str] = "spoil"
    effect: ClassVar[Effect] = Effect.LEARNED

    def run(self, graph: Graph, ctx: Context) -> None:
        mix = np.eye(INNER) + np.random.default_rng(3).standard_normal((INNER, INNER)) / 10
        for value in graph.initializers:
            if value.name in ("A", "a") and value.const is not None:
                ctx.rewriter.set_tensor(value, tensor((value.const.numpy() @ mix).astype(np.float32)))


@pytest.mark.parametrize("biased", [True, False])
def test_what_a_linear_map_did_is_undone(biased: bool) -> None:
    proto = two_layers(biased=biased, middle="Identity")
    spoiled, _ = run(proto, [Spoil()])
    mended, _ = run(proto, [Repair(ridge=1e-9, inside=(Spoil(),))])
    assert error(proto, spoiled) > 0.1
    assert error(proto, mended) < 1e-4


@pytest.mark.parametrize("inside", ["prune{sparsity=0.4 repair=off}", "factorize{rank=3 refit=off whiten=off}"])
@pytest.mark.parametrize("biased", [True, False])
def test_the_error_falls(inside: str, biased: bool) -> None:
    proto = two_layers(biased=biased)
    plain, mended = run(proto, inside)[0], run(proto, f"repair({inside})")[0]
    assert error(proto, mended) < 0.9 * error(proto, plain)


def test_it_does_as_well_as_the_repair_of_prune() -> None:
    proto = two_layers()
    own, outside = run(proto, "prune{sparsity=0.4}")[0], run(proto, "repair(prune{sparsity=0.4 repair=off})")[0]
    assert error(proto, outside) <= 1.05 * error(proto, own)


def test_what_reads_nothing_new_stays() -> None:
    proto = two_layers()
    model, _ = run(proto, "repair(prune{sparsity=0.4 repair=off})")
    before, after = weights(onnxpress.load(proto)), weights(model)
    columns = {column.tobytes() for column in before["A"].T}
    assert all(column.tobytes() in columns for column in after["A"].T)
    assert not {column.tobytes() for column in after["B"].T} & {column.tobytes() for column in before["B"].T}


def test_a_bias_behind_a_product_takes_the_means() -> None:
    model, _ = run(two_layers(), "repair(prune{sparsity=0.4 repair=off})")
    assert [node.op_type for node in model.graph.nodes] == ["MatMul", "Add", "Relu", "MatMul", "Add"]
    assert not np.array_equal(weights(model)["b"], weights(onnxpress.load(two_layers()))["b"])


def test_a_mask_stays_and_it_is_said() -> None:
    pipeline = "prune{unit=weight sparsity=0.5 repair=off},repair(prune{sparsity=0.4 repair=off})"
    model, report = run(two_layers(), pipeline)
    assert (weights(model)["B"] == 0).any()
    assert any("would lose its form (weight)" in remark.reason for remark in report.remarks)


def test_first_factors_stay_and_it_is_said() -> None:
    _, report = run(two_layers(), "repair(prune{sparsity=0.2 repair=off},factorize{rank=1 refit=off})")
    assert any("no layer gave this output before" in remark.reason for remark in report.remarks)


def test_what_reads_the_same_as_before_stays() -> None:
    proto = two_layers()
    proto.graph.node.insert(0, helper.make_node("Identity", ["x"], ["same"]))
    proto.graph.node[1].input[0] = "same"
    model, report = run(proto, "repair(canonicalize)")
    assert report.changed
    for name, array in weights(onnxpress.load(proto)).items():
        np.testing.assert_array_equal(weights(model)[name], array)


def test_nothing_to_repair_is_said() -> None:
    _, report = run(two_layers(), "repair(fold)")
    assert not report.changed
    assert any("nothing changed" in remark.reason for remark in report.remarks)


def test_it_needs_data() -> None:
    model = onnxpress.load(two_layers())
    with pytest.raises(UserError, match="repair needs sample data"):
        onnxpress.PassManager("repair(prune{sparsity=0.4})").run(model)
    assert weights(model)["A"].shape == (8, INNER)


def test_account_says_refitted() -> None:
    _, report = run(two_layers(), "repair(prune{sparsity=0.4 repair=off exclude=[B]},factorize{rank=3 whiten=off})")
    assert {entry.outcome for entry in report.weights if entry.name == "B"} <= {"factorized", "refitted"}


@st.composite
def repairs(draw: Any) -> Repair:
    """Of two passes inside the second speaks of values of the first's result, which must be those of the original."""
    factorize = Factorize(rank=draw(st.integers(1, 3)), share=1.0, latency="any")
    alone = draw(st.booleans())
    prune = Prune(
        unit=draw(st.sampled_from(("channel", "head"))), sparsity=draw(st.sampled_from((0.3, 0.6))),
        repair=draw(st.sampled_from(("off", "auto"))) if alone else "off", steps=draw(st.sampled_from((1, 2))),
    )  # fmt: skip
    inside: tuple[Pass, ...] = draw(st.sampled_from(((prune,), (factorize,)))) if alone else (prune, factorize)
    return Repair(ridge=draw(st.sampled_from((None, 1e-3))), inside=inside)


@pytest.mark.parametrize("models", [convolutional(), transformer()], ids=["convolutional", "transformer"])
def test_bounds_hold(models: st.SearchStrategy[ModelProto]) -> None:
    checked = check_pass(repairs(), models=models, max_examples=15)
    assert checked.changed > 8
    assert checked.judged > 5
