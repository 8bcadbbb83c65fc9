"""Bias correction: what rounding moves outputs by on the mean goes into the bias, if other samples agree."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import onnxpress
from onnxpress.errors import UserError
from onnxpress.ir import Graph, Model, emit, lower
from onnxpress.ir.analysis.linear import linear_of
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.options import option
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.repair.bias import Original, correct_biases
from onnxpress.passes.quantize.repair.rows import row_sums
from onnxpress.passes.quantize.repair.shift import Shift
from onnxpress.specs.check import check_pass
from onnxpress.specs.strategies_coupled import convolutional, transformer

K, N = 64, 24
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TwiceTheSamples(QuantizeInsert):
    """On the drawn feed twice, so that there is one to judge a correction on."""

    def run(self, graph: Graph, ctx: Context) -> None:
        ctx.samples = [feed for feed in ctx.samples or () for _ in range(2)]
        super().run(graph, ctx)


@pytest.mark.parametrize("models", [convolutional(), transformer()], ids=["convolutional", "transformer"])
def test_the_bounds_hold(models: st.SearchStrategy[ModelProto]) -> None:
    checked = check_pass(TwiceTheSamples(min_bytes=0), models=models, max_examples=12)
    assert checked.judged > 8


def model(kind: str = "MatMul", *, bias: bool = False, behind: bool = False, more: bool = False) -> ModelProto:
    """One layer; `behind` adds a bias with an Add, `more` reads the output of the layer once more."""
    random = np.random.default_rng(0)
    shape = {"MatMul": (K, N), "Gemm": (K, N), "Conv": (N, K, 3, 3)}[kind]
    weights = {"w": random.standard_normal(shape)} | ({"b": random.standard_normal(N)} if bias or behind else {})
    out = "h" if behind else "y"
    nodes = [helper.make_node(kind, ["x", "w", *(["b"] if bias else [])], [out])]
    if behind:
        nodes.append(helper.make_node("Add", ["b", "h"], ["y"]))
    outputs = [helper.make_tensor_value_info("y", 1, None)]
    if more:
        nodes.append(helper.make_node("Relu", [out], ["z"]))  # of h where there is one
        outputs.append(helper.make_tensor_value_info("z", 1, None))
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    x = helper.make_tensor_value_info("x", 1, ["N", K, 5, 5] if kind == "Conv" else ["N", K])
    graph = helper.make_graph(nodes, "g", [x], outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feeds(kind: str = "MatMul", mean: float = 3.0, count: int = 16) -> list[dict[str, Array]]:
    random = np.random.default_rng(1)
    shape = (4, K, 5, 5) if kind == "Conv" else (16, K)
    return [{"x": (mean + random.standard_normal(shape)).astype(np.float32)} for _ in range(count)]


def quantized(proto: ModelProto, options: str, data: Any = None) -> tuple[Model, Any]:
    found = onnxpress.load(proto)
    report = onnxpress.PassManager(f"quantize-insert{{rounding=nearest clip=none {options}}}", measure=False).run(
        found, data=data
    )
    return found, report


def error(a: ModelProto, b: Model, data: Iterable[Any]) -> float:
    return float(onnxpress.compare(onnxpress.load(a), b, data=list(data)).worst["rel-l2"].value)


@pytest.mark.parametrize(
    ("case", "adds"),
    [
        ({"kind": "MatMul"}, 1),
        ({"kind": "MatMul", "more": True}, 1),
        ({"kind": "MatMul", "behind": True}, 1),
        ({"kind": "MatMul", "behind": True, "more": True}, 2),
        ({"kind": "Gemm"}, 0),
        ({"kind": "Gemm", "bias": True}, 0),
        ({"kind": "Conv"}, 0),
        ({"kind": "Conv", "bias": True}, 0),
    ],
    ids=str,
)
def test_outputs_come_nearer_where_inputs_have_a_mean(case: dict[str, Any], adds: int) -> None:
    proto, data, other = model(**case), feeds(case["kind"]), feeds(case["kind"], count=24)[16:]
    plain, _ = quantized(proto, "bias-correction=false", data)
    mended, report = quantized(proto, "bias-correction=true", data)
    assert error(proto, mended, other) < 0.6 * error(proto, plain, other)
    assert [remark.kind for remark in report.remarks if remark.rule == "bias"] == ["applied"]
    assert sum(node.op_type == "Add" for node in mended.graph.nodes) == adds


def test_inputs_without_a_mean_leave_the_bias() -> None:
    data = [{"x": sign * feed["x"]} for feed in feeds(mean=0.0) for sign in (1, 1, -1, -1)]
    _, report = quantized(model(), "bias-correction=true", data)
    (remark,) = [remark for remark in report.remarks if remark.rule == "bias"]
    assert remark.kind == "missed"
    assert "held-out" in remark.reason


def test_halves_that_disagree_leave_the_bias() -> None:
    data = [{"x": (-1) ** at * feed["x"]} for at, feed in enumerate(feeds())]
    _, report = quantized(model(), "bias-correction=true", data)
    assert [remark.kind for remark in report.remarks if remark.rule == "bias"] == ["missed"]


def test_one_sample_cannot_judge() -> None:
    _, report = quantized(model(), "", feeds(count=1))
    (remark,) = [remark for remark in report.remarks if remark.rule == "bias"]
    assert "two samples" in remark.reason


def test_it_needs_data_if_it_is_asked_for() -> None:
    with pytest.raises(UserError, match="--data"):
        quantized(model(), "bias-correction=true")
    _, report = quantized(model(), "")
    assert not any(remark.rule == "bias" for remark in report.remarks)


def test_what_is_shared_is_not_moved_for_others() -> None:
    proto = model(bias=True, kind="Gemm")
    proto.graph.node.append(helper.make_node("Identity", ["b"], ["c"]))
    proto.graph.output.append(helper.make_tensor_value_info("c", 1, [N]))
    mended, report = quantized(proto, "bias-correction=true", feeds())
    assert any(remark.rule == "bias" and remark.kind == "applied" for remark in report.remarks)
    found = onnxpress.compare(onnxpress.load(proto), mended, data=feeds(count=2))
    assert found.outputs["c"]["max-abs"] == 0


def test_quantized_inputs_count_too() -> None:
    """Inputs that saturate have a mean error of their own."""
    proto, data = model(kind="Gemm", bias=True), feeds()
    errors = []
    for rounded in (False, True):
        found = onnxpress.load(proto)
        manager = onnxpress.PassManager([Clipping(rounded=rounded)], measure=False)
        manager.run(found, data=data)
        y = reference(proto, data[-1]["x"])
        errors.append(float(np.square(reference(emit(found), clipped(data[-1]["x"])) - y).mean()))
    assert errors[1] < 0.3 * errors[0]


def clipped(x: Array) -> Array:
    return np.asarray(np.minimum(x, 1))


@dataclass(frozen=True)
class Clipping(QuantizeInsert):
    """Corrects for inputs that are clipped at 1."""

    rounded: bool = option(False, "whether to correct for it")

    def run(self, graph: Graph, ctx: Context) -> None:
        original = Original.of(ctx)
        node = original.layers[0].place.node
        super().run(graph, ctx)
        correct_biases(ctx, original, by="test", rounded={node: clipped} if self.rounded else None)


def reference(proto: ModelProto, x: Array) -> Array:
    return np.asarray(ReferenceEvaluator(proto).run(None, {"x": x})[0])


@given(st.data())
def test_sums_of_rows_are_those_of_the_rows(data: st.DataObject) -> None:
    draw = data.draw
    rank, groups = draw(st.integers(1, 2)), draw(st.sampled_from((1, 2)))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    attributes = {
        "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
        "dilations": [draw(st.integers(1, 2)) for _ in range(rank)],
        "group": groups,
    }
    if draw(st.booleans()):
        attributes["pads"] = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    else:
        attributes["auto_pad"] = draw(st.sampled_from(("SAME_UPPER", "SAME_LOWER", "VALID")))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    w = numpy_helper.from_array(random.standard_normal((4, 6 // groups, *kernel)).astype(np.float32), "w")
    x = helper.make_tensor_value_info("x", 1, ["N", 6, *"HW"[:rank]])
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    graph = helper.make_graph([node], "g", [x], [helper.make_tensor_value_info("y", 1, None)], [w])
    layer = linear_of(next(lower(helper.make_model(graph)).graph.nodes))
    assert layer is not None
    array = random.standard_normal((2, 6, *(draw(st.integers(5, 9)) for _ in range(rank))))
    sums, count = row_sums(layer, array)
    rows = layer.rows(array)
    assert count == rows.shape[1]
    np.testing.assert_allclose(sums, rows.sum(axis=1), atol=1e-12)


@given(st.integers(0, 99), st.booleans())
def test_a_correction_never_errs_more_on_the_other_half(seed: int, rounds: bool) -> None:
    random = np.random.default_rng(seed)
    layer = linear_of(next(lower(model()).graph.nodes))
    assert layer is not None
    w = random.standard_normal((K, N))
    new = np.rint(w * 4) / 4
    halves: list[list[Array]] = [[], []]

    def rounded(x: Array) -> Array:
        return np.asarray(np.floor(x * 2) / 2)

    shift = Shift(layer, rounded if rounds else None)
    for at in range(6):
        x = random.standard_normal((5, K)) + random.standard_normal(K)
        shift.update(x)
        halves[at % 2].append(x @ w - (rounded(x) if rounds else x) @ new)
    found = shift.correction(w, new)
    assert found is not None
    first, second = (np.concatenate(half) for half in halves)
    taken = found.amounts != 0
    np.testing.assert_allclose(found.amounts[taken], first.mean(axis=0)[taken], rtol=1e-9)
    before, after = np.square(second).mean(axis=0), np.square(second - found.amounts).mean(axis=0)
    assert (after <= before * (1 + 1e-12)).all()
    assert found.saved == pytest.approx(float((before - after).sum()))
