"""Integer operators spelled out give the numbers that onnx recorded for them, and what has none is left alone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from onnx import ModelProto, parser

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import lower
from onnxpress.specs.qoperators import is_qoperator, spelled_out


def recorded():
    """The cases of onnx itself; not those with scales in half precision, which onnxruntime does not run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the numpy code that makes the recorded outputs
        from onnx.backend.test.case.node import collect_testcases

        made = collect_testcases(None)
    return [case for case in made if case.name.startswith("test_qlinear") and "float16" not in case.name]


CASES = recorded()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_recorded_outputs(case):
    model = ModelProto()
    model.CopyFrom(case.model)
    model.opset_import[0].version = max(13, model.opset_import[0].version)  # where scales may run along an axis
    plain = spelled_out(model)
    assert not any(is_qoperator(node) for node in plain.graph.node)
    for inputs, outputs in case.data_sets:
        feed = {port.name: value for port, value in zip(case.model.graph.input, inputs, strict=True)}
        found = OrtBackend().prepare(lower(plain)).run(feed)
        for port, expected in zip(case.model.graph.output, outputs, strict=True):
            apart = np.abs(found[port.name].astype(int) - expected.astype(int))
            assert apart.max() <= 1  # a tie may be rounded either way


def test_there_are_cases():
    assert {case.model.graph.node[0].op_type for case in CASES} == {"QLinearConv", "QLinearMatMul"}


def test_a_mover_of_levels_moves_numbers():
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[2,3] x) => (float[3,2] y)
        <float s = {0.5}, uint8 z = {3}> {
            x_quantized = QuantizeLinear(x, s, z)
            y_quantized = Transpose<perm = [1, 0]>(x_quantized)
            y = DequantizeLinear(y_quantized, s, z)
        }"""
    )
    plain = spelled_out(model)
    assert [node.op_type for node in plain.graph.node] == [
        "QuantizeLinear", "DequantizeLinear", "Transpose", "QuantizeLinear", "DequantizeLinear",
    ]  # fmt: skip
    x = np.float32([[0, 1.3, -9], [100, -1.2, 2.25]])
    a, b = (OrtBackend().prepare(lower(one)).run({"x": x})["y"] for one in (model, plain))
    np.testing.assert_array_equal(a, b)


def decoded_in(model: ModelProto) -> list[str]:
    return [node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"]


def test_levels_are_decoded_once_whoever_reads_them():
    """As the first operand and as the second, under the name that they stand for: the judge knows them by it."""
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[2,3] x) => (uint8[2,3] r)
        <float s = {0.5}, uint8 z = {3}> {
            u_quantized = QuantizeLinear(x, s, z)
            v_quantized = com.microsoft.QLinearSigmoid(u_quantized, s, z, s, z)
            w_quantized = com.microsoft.QLinearMul(u_quantized, s, z, v_quantized, s, z, s, z)
            r = com.microsoft.QLinearAdd(v_quantized, s, z, w_quantized, s, z, s, z)
        }"""
    )
    assert decoded_in(spelled_out(model)) == ["u", "v", "w"]


def test_scales_of_other_names_and_the_same_content_decode_the_same():
    """A mover shares the scale of what it moves, and its reader may have one of its own for the same numbers."""
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[2,3] x) => (uint8[3,2] r)
        <float s = {0.5}, uint8 z = {3}, float t = {0.5}, uint8 y = {3}> {
            u_quantized = QuantizeLinear(x, s, z)
            v_quantized = Transpose<perm = [1, 0]>(u_quantized)
            w_quantized = Transpose<perm = [1, 0]>(v_quantized)
            r = com.microsoft.QLinearAdd(v_quantized, t, y, v_quantized, t, y, s, z)
        }"""
    )
    assert decoded_in(spelled_out(model)) == ["u", "v"]


def test_what_has_no_levels_is_left_alone():
    model = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Exp(x) }')
    assert spelled_out(model) is model
