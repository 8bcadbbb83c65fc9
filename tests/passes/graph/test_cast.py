"""Another opset: the model computes what it did, keeps what it said, or stays as it was for a reason."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, printer

import onnxpress as op
from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import Backend, emit, lower, verify
from onnxpress.specs.golden import check_golden, model_of
from onnxpress.specs.negatives import check_variants

IO = "(float[2,3,4,6] x) => (float[A,B,C,D] y)"
GOLDEN = {
    "Squeeze, up": (
        12,
        13,
        "g (float[2,1,3] x) => (float[2,3] y) { y = Squeeze<axes = [1]>(x) }",
        "g (float[2,1,3] x) => (float[2,3] y) <int64[1] y_c = {1}> { y = Squeeze(x, y_c) }",
    ),
    "a default that is spelled out, down": (
        14,
        13,
        "g (float[2,3] x) => (float[6] y) <int64[1] s = {-1}> { y = Reshape<allowzero = 0>(x, s) }",
        "g (float[2,3] x) => (float[6] y) <int64[1] s = {-1}> { y = Reshape(x, s) }",
    ),
    "BatchNormalization, whose inputs were renamed": (
        9,
        15,
        "g (float[N,2] x, float[2] s) => (float[N,2] y) { y = BatchNormalization(x, s, s, s, s) }",
        "g (float[N,2] x, float[2] s) => (float[N,2] y) { y = BatchNormalization(x, s, s, s, s) }",
    ),
}
UP = {
    "Softmax": (11, "y = Softmax<axis = 2>(x)"),
    "Split without sizes": (13, "a, b = Split<axis = 3>(x) y = Add(a, b)"),
    "pooling that rounds up": (11, "y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)"),
    "a reduction": (13, "y = ReduceMean<axes = [2, 3]>(x)"),
    "clipping": (10, "y = Clip<min = -0.5, max = 0.5>(x)"),
    "a branch": (
        12,
        "c = ReduceMax<keepdims = 0>(x) z = Sub(c, c) t = Greater(c, z) y = If (t) < "
        "then_branch = p () => (float[A,B,C,D] u) { u = Softmax<axis = 1>(x) }, "
        "else_branch = e () => (float[A,B,C,D] v) { v = LogSoftmax<axis = 1>(x) } >",
    ),
}


def cast(proto: onnx.ModelProto, to: int, backend: Backend | None = None) -> tuple[onnx.ModelProto, op.Report]:
    model = lower(proto)
    report = op.PassManager(f"cast{{to={to}}}", backend=backend or OrtBackend()).run(model)
    verify(model)
    return emit(model), report


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    now, to, before, after = GOLDEN[name]
    check_golden(f"cast{{to={to}}}", model_of(before, opset=now), model_of(after, opset=to))
    assert check_variants(f"cast{{to={to}}}", model_of(before, opset=now), rtol=1e-6)[""].changed


@pytest.mark.parametrize("to", [17, 21, 24])
@pytest.mark.parametrize("name", UP)
def test_upwards_the_same_is_computed(name, to):
    now, body = UP[name]
    before = model_of(f"g {IO} {{ {body} }}", opset=now)
    before.graph.node[0].metadata_props.add(key="kept", value="yes")
    after, report = cast(before, to)
    assert report.changed, list(report.remarks)
    assert after.opset_import[0].version == to
    assert after.ir_version == before.ir_version
    onnx.checker.check_model(after, full_check=True)
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 6)).astype(np.float32)
    old, new = (OrtBackend().prepare(lower(proto)).run({"x": x})["y"] for proto in (before, after))
    np.testing.assert_allclose(old, new, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("to", [13, 17])
def test_there_and_back_is_the_same_model(to):
    before = model_of("g (float[2,3] x) => (float[2,3] y) { t = Relu(x) y = Softmax<axis = -1>(t) }", opset=15)
    there, _ = cast(before, to)
    assert there.opset_import[0].version == to
    assert printer.to_text(cast(there, 15)[0]) == printer.to_text(before)


DECLINED = {
    "an operator that is not there yet": (17, 13, "y = LayerNormalization(x, w)", "LayerNormalization"),
    "more than the attribute can say": (14, 13, "y = Reshape<allowzero = 1>(x, s)", "Reshape"),
    "beyond what is known": (17, 99, "y = Relu(x)", "the newest is"),
    "too old to tell": (6, 13, "y = Relu(x)", "too old"),
}


@pytest.mark.parametrize("name", DECLINED)
def test_declined_with_a_reason(name):
    now, to, body, words = DECLINED[name]
    text = f"g {IO} <float[6] w = {{1, 1, 1, 1, 1, 1}}, int64[4] s = {{2, 3, 4, 6}}> {{ {body} }}"
    before = model_of(text, opset=now)
    after, report = cast(before, to)
    assert after.SerializeToString() == before.SerializeToString()
    (remark,) = report.remarks
    assert words in remark.reason
    assert f"opset {now} stays" in remark.reason


def test_what_the_executor_does_not_take_is_declined():
    """onnxruntime loads no opset from the future, whatever onnx knows."""
    newest = onnx.defs.onnx_opset_version()
    before = model_of("g (float[2] x) => (float[2] y) { y = Relu(x) }", opset=17)

    class Old(OrtBackend):
        def prepare(self, model, *, outputs=None, optimize=False, threads=1):
            if model.opset.get("", 0) > 20:
                raise ExecutionError("opset 20 is the last")
            return super().prepare(model, outputs=outputs, optimize=optimize, threads=threads)

    after, report = cast(before, newest, Old())
    assert after.SerializeToString() == before.SerializeToString()
    assert any("opset 20 is the last" in remark.reason for remark in report.remarks)
    assert cast(before, 20, Old())[1].changed


def test_nothing_to_do_is_said():
    _, report = cast(model_of("g (float[2] x) => (float[2] y) { y = Relu(x) }", opset=17), 17)
    assert not report.changed
    assert [remark.reason for remark in report.remarks] == ["opset 17 is it"]


def test_functions_go_along_and_calls_of_them_stay():
    text = """g (float[2,3] x) => (float[2,3] y) { y = local.layer(x) }
    <domain: "local", opset_import: ["" : 11]> layer (a) => (b) { b = Softmax<axis = 1>(a) }"""
    before = model_of(text, opset=11)
    after, _ = cast(before, 17)
    assert after.functions[0].opset_import[0].version == 17
    assert after.graph == before.graph
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    old, new = (ReferenceBackend().prepare(lower(proto)).run({"x": x})["y"] for proto in (before, after))
    np.testing.assert_allclose(old, new, rtol=1e-6)
    assert helper.find_min_ir_version_for([helper.make_opsetid("", 11)]) <= after.ir_version
