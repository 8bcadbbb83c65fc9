"""`activations=`: what a target computes in integers with a type is quantized, the rest only with `latency=off`."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import onnxpress
from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import UserError
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.static import opened
from onnxpress.passes.quantize.targets.profile import profile
from onnxpress.specs.nearness import Nearness

from .test_static_golden import KERNEL, RNG, W, feeds_of, quantized

TEXT = "g (float[4,8] x) => (float[4,6] y) { h = MatMul(x, w) y = Sigmoid(h) }"
ONNX_TYPES = {
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "uint16": TensorProto.UINT16,
    "int16": TensorProto.INT16,
}


def activation_types(model):
    """Of the zero points of all Q."""
    held = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {held[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"}


@pytest.mark.parametrize("kind", ONNX_TYPES)
@pytest.mark.parametrize("target", ["ort-cpu", "generic"])
def test_activations_have_the_type(kind, target, model):
    source = model(TEXT, w=W)
    data = feeds_of(source)
    lowered, report = quantized(source, data, mode="static", activations=kind, target=target)
    made = emit(lowered)
    onnx.checker.check_model(made, full_check=True)
    assert activation_types(made) == {ONNX_TYPES[kind]}
    assert made.opset_import[0].version == (21 if "16" in kind else 17)
    before, after = (OrtBackend().prepare(lower(one)).run(data[0])["y"] for one in (source, made))
    assert 0 < np.linalg.norm(before - after) < 0.02 * np.linalg.norm(before)
    finding = Nearness(source, made, data[0], report.bounds, native=True).judge()
    assert finding.ratio <= 1, str(finding)
    assert {row.cells["as"] for row in report.layers if "as" in row.cells} == {kind}


def test_sixteen_bits_are_nearer(model):
    source = model("g (float[1,8,5,5] x) => (float[1,6,3,3] y) { y = Conv(x, w) }", w=KERNEL)
    data = feeds_of(source)
    noise = {}
    for kind in ("uint8", "uint16"):
        _, report = quantized(source, data, mode="static", activations=kind)
        noise[kind] = min(row.cells["SQNR dB"] for row in report.layers if "SQNR dB" in row.cells)
    assert noise["uint16"] > noise["uint8"] + 40  # 6 dB a bit


@pytest.mark.parametrize("kind", ["int8", "uint16", "int16"])
def test_what_may_stay_unfused_is_not_emitted(kind, model):
    """Nothing is quantized where time counts."""
    source = model(TEXT, w=W)
    data = feeds_of(source)
    for latency in ("profile", "measure"):
        lowered = lower(source)
        options = {"mode": "static", "activations": kind, "latency": latency, "rounding": "nearest"}
        report = PassManager([QuantizeInsert(**options)], OrtBackend()).run(lowered, data=data)
        made = emit(lowered)
        assert not activation_types(made)
        assert made.opset_import[0].version == 17
        assert any(f"in integers where activations are {kind}" in remark.reason for remark in report.remarks)


@pytest.mark.parametrize("op_type", sorted(profile("ort-cpu").rules))
def test_onnxruntime_fuses_what_the_profile_says(op_type, model, optimized):
    """Every operator of it, in the session of this host."""
    source = model(alone(op_type), **constants_of(op_type))
    assert not decodes_inside(source, "uint8", optimized)


@pytest.mark.parametrize("op_type", ["Add", "Concat", "Conv", "Gemm", "MatMul", "Mul", "Sigmoid", "Softmax"])
@pytest.mark.parametrize("kind", ["uint16", "int16"])
def test_it_has_no_operators_of_sixteen_bits(op_type, kind, model, optimized):
    assert decodes_inside(model(alone(op_type), **constants_of(op_type)), kind, optimized)


def test_int8_of_two_readers_is_decoded(model, optimized):
    """Why the profile is not sure of it: with one reader onnxruntime turns it into uint8."""
    one = "g (float[1,4,6,6] x) => (float[1,3,4,4] y) { a = Sigmoid(x) b = Conv(a, k) y = Sigmoid(b) }"
    two = one.replace("float[1,3,4,4] y", "float[1,3,4,4] y, float[1,4,6,6] z").replace("}", "z = Exp(a) }")
    kernel = constants_of("Conv")["k"]
    assert not decodes_inside(model(one, k=kernel), "int8", optimized)
    assert decodes_inside(model(two, k=kernel), "int8", optimized)
    assert "QLinearConv" in optimized(quantized_as(model(two, k=kernel), "uint8"))


def quantized_as(source, kind):
    data = [{"x": RNG.standard_normal((1, 4, 6, 6)).astype(np.float32)} for _ in range(3)]
    made = emit(quantized(source, data, mode="static", activations=kind)[0])
    assert activation_types(made) == {ONNX_TYPES[kind]}
    return made


def decodes_inside(source, kind, optimized):
    """Whether something is quantized again behind what is decoded."""
    left = optimized(quantized_as(source, kind))
    return left.index("DequantizeLinear") < len(left) - 1 - left[::-1].index("QuantizeLinear")


def alone(op_type):
    """The operator between values that are quantized, so that all it could fuse with is there."""
    made = {
        "Conv": "b = Conv(a, k)",
        "MatMul": "b = MatMul(a, m)",
        "Gemm": "f = Flatten(a) b = Gemm(f, g)",
        "Add": "b = Add(a, a)",
        "Mul": "b = Mul(a, a)",
        "Concat": "b = Concat<axis = 1>(a, a)",
        "AveragePool": "b = AveragePool<kernel_shape = [2, 2]>(a)",
        "MaxPool": "b = MaxPool<kernel_shape = [2, 2]>(a)",
        "Reshape": "b = Reshape(a, i)",
        "Slice": "b = Slice(a, o, t)",
        "Split": "b, c = Split<axis = 1>(a)",
        "Squeeze": "b = Squeeze(a, o)",
        "Unsqueeze": "b = Unsqueeze(a, o)",
        "Expand": "b = Expand(a, e)",
        "Tile": "b = Tile(a, r)",
        "DepthToSpace": "b = DepthToSpace<blocksize = 2>(a)",
        "Resize": 'b = Resize<mode = "nearest">(a, , u)',
    }.get(op_type, f"b = {op_type}(a)")
    rank = {"MatMul": 4, "Gemm": 2, "Flatten": 2, "Reshape": 2, "Squeeze": 3, "Unsqueeze": 5}.get(op_type, 4)
    shape = ",".join("pqrst"[:rank])
    more = " z = Sigmoid(c)" if op_type == "Split" else ""
    outputs = f"float[{shape}] y" + (f", float[{shape}] z" if more else "")
    return f"g (float[1,4,6,6] x) => ({outputs}) {{ a = Sigmoid(x) {made} y = Sigmoid(b){more} }}"


def constants_of(op_type):
    floats = {
        "Conv": {"k": (3, 4, 3, 3)},
        "MatMul": {"m": (6, 5)},
        "Gemm": {"g": (144, 6)},
    }
    whole = {
        "Reshape": {"i": [4, 36]},
        "Slice": {"o": [0, 0], "t": [1, 2]},
        "Squeeze": {"o": [0]},
        "Unsqueeze": {"o": [0]},
        "Expand": {"e": [2, 4, 6, 6]},
        "Tile": {"r": [1, 2, 1, 1]},
    }
    held = {key: RNG.standard_normal(shape).astype(np.float32) for key, shape in floats.get(op_type, {}).items()}
    held |= {key: np.array(numbers, np.int64) for key, numbers in whole.get(op_type, {}).items()}
    return held | ({"u": np.float32([1, 1, 2, 2])} if op_type == "Resize" else {})


def test_below_opset_21_the_runtime_has_q_and_dq_of_its_own(model, monkeypatch):
    """Where the opset cannot be raised."""
    raised = opened.raise_opset
    monkeypatch.setattr(opened, "raise_opset", lambda ctx, opset: "no way" if opset == 21 else raised(ctx, opset))
    source = model("g (float[4,8] x) => (float[4,6] y) { h = MatMul(x, w) y = Add(h, b) }", w=W, b=W[0])
    data = feeds_of(source)
    lowered, _ = quantized(source, data, mode="static", activations="uint16")
    made = emit(lowered)
    onnx.checker.check_model(made, full_check=True)
    assert {node.domain for node in made.graph.node if node.op_type == "QuantizeLinear"} == {"com.microsoft"}
    assert {(one.domain, one.version) for one in made.opset_import} >= {("", 17), ("com.microsoft", 1)}
    before, after = (OrtBackend().prepare(lower(one)).run(data[0])["y"] for one in (source, made))
    assert 0 < np.linalg.norm(before - after) < 0.02 * np.linalg.norm(before)
    again = PassManager([QuantizeInsert(mode="static")], OrtBackend()).run(lower(made), data=data)
    assert not again.changed
    _, report = quantized(source, data, mode="static", activations="uint16", target="generic")
    assert any(remark.reason == "no way" for remark in report.remarks)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("activations=int8", "activations is for mode=static, not for weight-only"),
        ("mode=dynamic activations=int8", "activations is for mode=static, not for dynamic"),
        ("mode=static target=tensorrt activations=uint8", "TensorRT takes activations=int8, not uint8"),
        ("mode=static target=litert activations=int16", "takes activations=int8, not int16"),
        ("mode=static format=qoperator activations=uint16", "takes activations=uint8, not uint16"),
        ("mode=static format=qoperator activations=int8", "takes activations=uint8, not int8"),
        ("mode=static format=qoperator target=generic activations=int16", "activations=uint8 or int8, not int16"),
        ("mode=static activations=int4", "uint16"),
    ],
)
def test_a_type_that_a_target_forbids_is_a_mistake(options, words):
    with pytest.raises(UserError, match=words):
        onnxpress.PassManager(f"quantize-insert{{{options}}}")
