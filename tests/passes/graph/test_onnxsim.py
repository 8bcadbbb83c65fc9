"""`onnxsim`: what comes back from onnx-simplifier is in the IR, or everything is as before and one line says why."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from onnx import ModelProto, checker, numpy_helper

import onnxpress as op
from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower, verify
from onnxpress.passes.graph import onnxsim
from onnxpress.specs import check_pass, model_of

CONV = """g (float[N,2,4,4] x) => (float[N,2,4,4] y)
    <float[2,2,1,1] w = {1, 2, 3, 4},
     float[2] g = {1, 2}, float[2] b = {1, 2}, float[2] m = {1, 2}, float[2] v = {1, 2}> {
    i = Identity(x) c = Conv(i, w) y = BatchNormalization(c, g, b, m, v)
}"""


def run(proto: ModelProto, pipeline: str = "onnxsim") -> tuple[ModelProto, op.Report]:
    model = op.load(proto)
    report = op.PassManager(pipeline, measure=False).run(model)
    verify(model)
    after = emit(model)
    checker.check_model(after, full_check=True)
    return after, report


def named() -> ModelProto:
    """A model with names and metadata to lose."""
    proto = model_of(CONV, ir_version=10)
    proto.producer_name = "somebody"
    proto.metadata_props.add(key="author", value="me")
    proto.graph.doc_string = "a graph"
    proto.graph.node[1].name = "my_conv"
    proto.graph.node[1].metadata_props.add(key="layer", value="1")
    return proto


def test_the_result_takes_the_place_of_the_main_graph():
    before = named()
    after, report = run(before)
    assert report.changed
    assert [node.op_type for node in after.graph.node] == ["Conv"]
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    assert (after.producer_name, after.metadata_props) == (before.producer_name, before.metadata_props)
    assert after.graph.doc_string == before.graph.doc_string
    assert after.graph.node[0].name == "my_conv"
    assert "take the place of" in next(iter(report.remarks)).reason
    feed = {"x": np.random.default_rng(0).standard_normal((3, 2, 4, 4)).astype(np.float32)}
    a, b = (OrtBackend().prepare(lower(model)).run(feed)["y"] for model in (before, after))
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_constants_that_stay_are_the_ones_that_were():
    text = """g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1, 2, 3, 4}> {
        i = Identity(x) j = Identity(i) y = MatMul(j, w) }"""
    model = op.load(model_of(text))
    (before,) = model.graph.initializers
    tensor = before.tensor
    assert op.PassManager("onnxsim", measure=False).run(model).changed
    assert [value.tensor for value in model.graph.initializers] == [tensor]


def taken_back(monkeypatch: pytest.MonkeyPatch, child: str, text: str = CONV) -> str:
    """Why what `child` writes is not kept."""
    monkeypatch.setattr(onnxsim, "_CHILD", "import sys, onnx\nmodel = onnx.load(sys.argv[1])\n" + child)
    before = model_of(text)
    after, report = run(before)
    assert after == before
    assert not report.changed
    (remark,) = report.remarks
    return remark.reason


SAVE = "\nonnx.save(model, sys.argv[2])"


@pytest.mark.parametrize(
    ("child", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "failed (exit code -11): it said nothing"),
        ("raise ValueError('no way')", "ValueError: no way"),
        ("model.graph.initializer[0].float_data[0] = 7" + SAVE, "rel-l2"),
        ("model.graph.node[1].doc_string = 'x' * 1000" + SAVE, "bytes more"),
        ("del model.graph.node[1].input[1]" + SAVE, "not valid"),
        ("model.graph.node[1].op_type = 'Cnov'" + SAVE, "not valid"),
        ("model.graph.input[0].name = model.graph.node[0].input[0] = 'z'" + SAVE, "changed the inputs or outputs"),
        ("model.graph.output[0].type.tensor_type.elem_type = 11" + SAVE, "changed the inputs or outputs"),
    ],
)
def test_what_is_not_good_is_taken_back(monkeypatch, child, words):
    assert words in taken_back(monkeypatch, child)


def test_random_nodes_stay():
    text = "g (float[2] x) => (float[2] y) { r = RandomNormal <shape = [2]> () i = Identity(x) y = Relu(i) }"
    after, report = run(model_of(text))
    assert after == model_of(text)
    assert "are others" in next(iter(report.remarks)).reason


def test_a_function_that_changed(monkeypatch):
    text = """g (float[N] x) => (float[N] y) { y = local.f(x) }
        <domain: "local", opset_import: ["" : 17]> f (a) => (b) { b = Neg(a) }"""
    child = "model.functions[0].node[0].op_type = 'Abs'" + SAVE
    assert "changed the model's functions" in taken_back(monkeypatch, child, text)


def test_an_output_that_is_an_input_or_used_inside(monkeypatch):
    monkeypatch.setattr(onnxsim, "_CHILD", "import sys, shutil; shutil.copy(sys.argv[1], sys.argv[2])")
    text = """g (float[N] x, float[2] d) => (float[N] y, float[N] z, float[2] u) <float[2] d = {1, 2}> {
        y = Neg(x) z = Abs(y) u = Identity(d) }"""
    before = model_of(text)
    after, _ = run(before)
    assert after == before


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(op.OnnxpressError, match="pip install onnx-simplifier"):
        run(model_of(CONV))


def test_it_is_for_whole_models():
    after, report = run(model_of(CONV), "at{ops=[Conv]}(onnxsim)")
    assert after == model_of(CONV)
    assert "the whole model only" in next(iter(report.remarks)).reason


def test_training_information_stays():
    before = model_of(CONV)
    before.training_info.add().update_binding.add(key="w", value="c")
    after, report = run(before)
    assert after == before
    assert "training information" in next(iter(report.remarks)).reason


def test_what_cannot_be_measured_is_not_replaced():
    before = model_of("g (float[N] x) => (float[N] y) { a = Identity(x) y = RandomNormalLike(a) }")
    after, report = run(before)
    assert after == before
    assert "could not be checked" in next(iter(report.remarks)).reason


def test_it_keeps_the_promises_of_passes():
    """Few examples: each takes several processes."""
    checked = check_pass(onnxsim.Onnxsim, backend=OrtBackend(), max_examples=5)
    assert checked.examples >= 5


def test_fuse_is_no_worse_than_its_model():
    """A block as PaddlePaddle writes them: onnx-simplifier folds the scale, `fuse` all of it."""
    rng = np.random.default_rng(0)
    proto = model_of(
        """g (float[N,4,8,8] x) => (float[N,4,8,8] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, w) m = Mul(s, c) a = Add(m, t) r = Relu(a) y = Conv(r, u) }"""
    )
    shapes = {"w": (4, 4, 3, 3), "u": (4, 4, 1, 1), "s": (1,), "t": (1,)}
    arrays = {name: rng.uniform(0.5, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    counts = {pipeline: len(run(proto, pipeline)[0].graph.node) for pipeline in ("onnxsim", "fuse")}
    assert counts["fuse"] == 3
    assert counts["fuse"] <= counts["onnxsim"]
