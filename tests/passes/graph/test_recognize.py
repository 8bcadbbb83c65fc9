"""What is spelled out becomes an operator, what only looks like it does not, and the numbers are those of before."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, printer

import onnxpress as op
from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import Backend, emit, lower, verify
from onnxpress.ir.analysis.shapes import infer_shapes
from onnxpress.ir.dtypes import numpy_dtype
from onnxpress.passes.graph.recognize.attention_view import find_attention
from onnxpress.specs.golden import check_golden, model_of
from onnxpress.specs.negatives import check_variants

from .recognize_cases import CASES, NEAR_MISSES

EXECUTORS = (OrtBackend(), ReferenceBackend())


def recognized(proto: onnx.ModelProto, pipeline: str = "recognize", backend: Backend | None = None):
    model = lower(proto)
    report = op.PassManager(pipeline, backend=backend or OrtBackend()).run(model)
    verify(model)
    return emit(model), report


@pytest.mark.parametrize("name", CASES)
def test_golden(name):
    case = CASES[name]
    check_golden(
        f"{case.pipeline},dce", model_of(case.before, opset=case.opset), model_of(case.after, opset=case.opset)
    )


@pytest.mark.parametrize("name", CASES)
def test_variants_of_the_golden_cases_compute_the_same(name):
    case = CASES[name]
    reports = check_variants(case.pipeline, model_of(case.before, opset=case.opset), rtol=2e-6)
    assert reports[""].changed
    assert all(report.after.cost.nodes <= report.before.cost.nodes for report in reports.values())


@pytest.mark.parametrize("executor", EXECUTORS, ids=lambda executor: executor.name.split()[0])
@pytest.mark.parametrize("name", CASES)
def test_the_operator_rounds_no_worse_than_its_counts(name, executor):
    """Against the spelled-out graph in float64: both stay within k u times the sum of absolute terms, here k = 32 for
    sums of up to four elements, and at most 8 for the others; the terms are at most 1 + x^2."""
    case = CASES[name]
    before, after = (model_of(text, opset=case.opset) for text in (case.before, case.after))
    rng = np.random.default_rng(0)
    feed = {
        info.name: (3 * rng.standard_normal([dim.dim_value or 3 for dim in info.type.tensor_type.shape.dim]))
        for info in before.graph.input
    }
    feed = {name: value.astype(np.float32) for name, value in feed.items()}
    double = {name: value.astype(np.float64) for name, value in feed.items()}
    (exact,) = ReferenceBackend().prepare(lower(in_type(before, onnx.TensorProto.DOUBLE))).run(double).values()
    try:
        (found,) = executor.prepare(lower(after)).run(feed).values()
    except ExecutionError:
        pytest.skip(f"{executor.name} has no kernel")
    k, unit = 32 if "Normalization" in name or "Attention" in name else 8, np.finfo(np.float32).eps / 2
    greatest = max(np.abs(value).max() for value in feed.values())
    assert (np.abs(found - exact) <= k * unit * (1 + greatest**2)).all()


def in_type(proto: onnx.ModelProto, dtype: int) -> onnx.ModelProto:
    """The same graph on another type; constants are rounded to float32 first."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for info in (*copy.graph.input, *copy.graph.output):
        info.type.tensor_type.elem_type = dtype
    for tensor in copy.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(numpy_dtype(dtype))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return copy


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_stay(name):
    opset, text = NEAR_MISSES[name]
    before = model_of(text, opset=opset)
    after, report = recognized(before, "recognize{ops=[all]}")
    assert printer.to_text(after) == printer.to_text(before)
    assert not report.changed


def test_the_opset_is_raised_on_request_alone_and_no_further_than_of_use():
    case = CASES["Gelu"]
    before = model_of(case.before, opset=17)
    after, report = recognized(before)
    assert not report.changed
    (missed,) = report.remarks
    assert missed.suggestion == "recognize{opset=20}"
    for limit, opset, ops in ((19, 17, ["Div", "Erf", "Add", "Mul", "Mul"]), (20, 20, ["Gelu"]), (24, 20, ["Gelu"])):
        after, _ = recognized(before, f"recognize{{opset={limit}}}")
        assert [node.op_type for node in after.graph.node] == ops
        assert after.opset_import[0].version == opset
        assert after.ir_version == before.ir_version


def test_what_cannot_be_raised_is_declined_with_a_reason():
    case = CASES["HardSwish, attributes"]
    after, report = recognized(model_of(case.before, opset=6), "recognize{opset=14}")
    assert after.opset_import[0].version == 6
    assert [node.op_type for node in after.graph.node] == ["HardSigmoid", "Mul"]
    assert any("opset 6 is too old" in remark.reason for remark in report.remarks)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_the_executor_does_not_run_is_declined(dtype):
    before = in_type(model_of(CASES["Gelu"].before, opset=20), onnx.TensorProto.DataType.Value(dtype.upper()))
    after, report = recognized(before)
    runs = not any("does not run" in remark.reason for remark in report.remarks)
    assert report.changed == runs
    onnx.checker.check_model(after, full_check=True)


def test_the_root_of_two_of_a_float32_is_none_in_double():
    before = in_type(model_of(CASES["Gelu"].before, opset=20), onnx.TensorProto.DOUBLE)
    assert not recognized(before)[1].changed
    (root,) = (tensor for tensor in before.graph.initializer if tensor.name == "root")
    root.CopyFrom(numpy_helper.from_array(np.sqrt(np.array(2.0)), "root"))
    assert any("does not run Gelu of double" in remark.reason for remark in recognized(before)[1].remarks)


def test_the_slope_of_hard_sigmoid_is_too_short_for_double():
    before = model_of(CASES["HardSigmoid"].before.replace("float", "double"), opset=13)
    _, report = recognized(before)
    assert not report.changed
    assert any("double" in remark.reason for remark in report.remarks)


def test_the_scale_of_attention_is_too_short_for_double():
    """onnxruntime multiplies q and k by the root of the scale, rounded to float32."""
    case = CASES["Attention with the split into heads"]
    before = in_type(model_of(case.before, opset=case.opset), onnx.TensorProto.DOUBLE)
    _, report = recognized(before, "recognize{opset=23}")
    assert not report.changed
    assert any("float32" in remark.reason for remark in report.remarks)


@pytest.mark.parametrize(("number", "changed"), [("0.00001", True), ("0.0", True), ("-0.1", False)])
def test_the_epsilon_is_read_from_the_graph(number, changed):
    case = CASES["LayerNormalization"]
    after, report = recognized(model_of(case.before.replace("0.00001", number), opset=17))
    assert report.changed == changed
    if changed:
        (epsilon,) = (a.f for a in after.graph.node[0].attribute if a.name == "epsilon")
        assert epsilon == np.float32(float(number))


def test_float16_normalizations_keep_their_type():
    case = CASES["LayerNormalization"]
    before = in_type(model_of(case.before, opset=17), onnx.TensorProto.FLOAT16)
    after, report = recognized(before)
    assert [node.op_type for node in after.graph.node] == ["LayerNormalization"]
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float16)
    found = EXECUTORS[0].prepare(lower(after)).run({"x": x})["y"]
    assert found.dtype == np.float16
    double = x.astype(np.float64)
    d = double - double.mean(-1, keepdims=True)
    w, b = np.array([1.0, 2.0, 0.5, -1.0]), np.array([0.5, -0.5, 0.0, 1.0])
    exact = d / np.sqrt((d**2).mean(-1, keepdims=True) + np.float16(1e-5)) * w + b
    np.testing.assert_allclose(found, exact, atol=8 * 2**-11)
    assert report.changed


def test_a_part_of_the_model_raises_no_opset():
    before = model_of(CASES["Gelu"].before, opset=17)
    after, report = recognized(before, "at{ops=[Mul Erf Div Add]}(recognize{opset=20})")
    assert printer.to_text(after) == printer.to_text(before)
    assert any("whole model" in remark.reason for remark in report.remarks)


def test_the_view_of_attention():
    model = lower(model_of(CASES["Attention with the split into heads"].before, opset=14))
    (view,) = find_attention(model.graph, infer_shapes(model))
    assert (view.heads, view.head_size, view.scale, view.mask) == (2, 4, 0.5, None)
    assert [value.name for value in (view.q, view.k, view.v)] == ["qh", "k4", "vh"]
    assert view.k_perm == (0, 2, 3, 1)
    assert view.softmax.outputs[0].name == "p"
    assert view.root.outputs[0].name == "z"
    assert {node.op_type for node in view.nodes} == {"MatMul", "Softmax", "Mul", "Transpose"}


def test_a_softmax_of_scores_alone_is_no_attention():
    model = lower(model_of("g (float[2,2,3,4] q, float[2,2,4,4] v) => (float[2,2,3,4] y) { y = MatMul(q, v) }"))
    assert not list(find_attention(model.graph, infer_shapes(model)))
