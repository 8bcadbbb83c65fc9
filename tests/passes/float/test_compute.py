"""Graphs that compute in 16 bits: where the Casts stand, and what stays in float32."""

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper, parser

from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.ir import emit, lower
from onnxpress.passes.float.float import Float
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.remarks import Kind
from onnxpress.specs import check_pass, models

RNG = np.random.default_rng(5)
W = RNG.standard_normal((32, 24)).astype(np.float32)
LAYER = "g (float[N,32] x) => (float[N,24] y) { z = MatMul(x, w) y = Relu(z) }"
HALF = TensorProto.FLOAT16


def samples(**shapes):
    return [{name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(3)]


def missed(report):
    return {r.subject.split("/")[-1]: r.reason for r in report.remarks if r.kind is Kind.MISSED and r.rule == "compute"}


def test_golden(model, to_half, reads):
    after, report = to_half(model(LAYER, w=W), data=samples(x=(4, 32)), compute=True)
    assert reads(
        after.graph,
        """x_1 = Cast<to = 10>(x)
        z = MatMul(x_1, w)
        y_1 = Relu(z)
        y = Cast<to = 1>(y_1)
        w: float16[32, 24]""",
    )
    assert not missed(report)


def test_one_cast_for_many_readers(model, to_half, reads):
    text = """g (float[N,32] x) => (float[N,24] y, float[N,24] z, int64[2] s)
        { y = MatMul(x, w) z = MatMul(x, w) s = Shape(y) }"""
    after = to_half(model(text, w=W), compute=True).model
    assert reads(
        after.graph,
        """x_1 = Cast<to = 10>(x)
        y_1 = MatMul(x_1, w)
        y = Cast<to = 1>(y_1)
        z_1 = MatMul(x_1, w)
        z = Cast<to = 1>(z_1)
        s = Shape(y_1)
        w: float16[32, 24]""",
    )


@pytest.mark.parametrize("perm", [[1, 0, 2], [1, 2, 0]])
@pytest.mark.parametrize("between", ["y = MatMul(t, w)", "i = Identity(t) y = MatMul(w, i)"])
def test_the_first_axis_is_moved_in_float32_before_a_product(model, perm, between):
    """onnxruntime ends the process when it loads such a model that moves it in 16 bits."""
    square = RNG.standard_normal((8, 8)).astype(np.float32)
    text = f"g (float[8,8,8] x) => (float[A,B,C] y) {{ r = Sqrt(x) t = Transpose<perm={perm}>(r) {between} }}"
    lowered = lower(model(text, w=square))
    report = PassManager([Float(compute=True)], backend=ReferenceBackend()).run(lowered)
    reason = "it stays in float32: onnxruntime would end the process: it moves the first axis for a MatMul"
    assert list(missed(report).values()).count(reason) == 1  # before anything loads it
    session = OrtBackend().prepare(lowered, optimize=True)
    assert session.run({"x": np.ones((8, 8, 8), np.float32)})["y"].shape == (8, 8, 8)


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
def test_what_is_scattered_is_combined_in_float32(model, to_half, run_model, op, reduction):
    text = f"""g (float[4,1] x, float[2,1] u) => (float[4,1] y)
        {{ a = Sqrt(x) b = Sqrt(u) s = {op}<reduction="{reduction}">(a, i, b) y = Sqrt(s) }}"""
    feeds = [{"x": np.full((4, 1), 4, np.float32), "u": np.full((2, 1), 9, np.float32)} for _ in range(2)]
    proto = model(text, opset=18, i=np.int64([[0], [2]]))
    after, report = to_half(proto, data=feeds, compute=True)
    expected = (
        [] if reduction == "none" else ["it stays in float32: onnxruntime combines what it scatters in float32 alone"]
    )
    assert list(missed(report).values()) == expected
    assert np.allclose(run_model(after, **feeds[0])["y"], run_model(proto, **feeds[0])["y"], atol=1e-2)


def test_other_transposes_take_16_bits(model, to_half):
    text = "g (float[8,8,8] x) => (float[A,B,C] y) { t = Transpose<perm=[0,2,1]>(x) y = MatMul(t, w) }"
    square = RNG.standard_normal((8, 8)).astype(np.float32)
    assert not missed(to_half(model(text, w=square), data=samples(x=(8, 8, 8)), compute=True).report)


def test_inputs_of_another_type_stay(model, to_half, run_model):
    """Scales of Resize are float32 in every opset, statistics of LayerNormalization too."""
    text = """g (float[1,2,3,3] x) => (float[1,2,6,6] y, float[1,2,6,1] m) {
        r = Resize<mode = "nearest">(x, , s)
        a = Mul(r, r)
        y, m = LayerNormalization(a, w)
    }"""
    before = model(text, s=np.array([1, 1, 2, 2], np.float32), w=np.ones(6, np.float32))
    (feed,) = samples(x=(1, 2, 3, 3))[:1]
    after = to_half(before, data=[feed], compute=True).model
    assert {t.name: t.data_type for t in after.graph.initializer} == {"s": TensorProto.FLOAT, "w": HALF}
    for name, value in run_model(after, **feed).items():
        np.testing.assert_allclose(value, run_model(before, **feed)[name], atol=2e-2)


IF = """g (bool b, float[N,32] x) => (float[N,24] y) {
    h = MatMul(x, w)
    c = If(b) <then_branch = t () => (float[N,24] u) { u = Mul(h, h) },
               else_branch = e () => (float[N,24] v) { v = OTHER }>
    y = Add(c, h) }"""


@pytest.mark.parametrize(("other", "is_half"), [("Add(h, h)", True), ("f.Mystery(h)", False)])
def test_branches_agree_on_a_type(other, is_half, model, to_half):
    """Where one branch has to give float32, both do, and what comes after casts again."""
    after = to_half(model(IF.replace("OTHER", other), w=W), compute=True, full_check=is_half).model
    (branch,) = [node for node in after.graph.node if node.op_type == "If"]
    types = [attribute.g.output[0].type.tensor_type.elem_type for attribute in branch.attribute]
    assert types == [HALF if is_half else TensorProto.FLOAT] * 2
    if is_half:
        assert [node.op_type for node in after.graph.node] == ["Cast", "MatMul", "If", "Add", "Cast"]


def test_loops_keep_float32_at_their_borders(model, to_half, run_model):
    text = """g (int64 n, float[2] x) => (float[2] y, float[K,2] z) {
        y, z = Loop(n, , x) <body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t, float[2] u) {
            d = Identity(c) t = Add(s, x) u = Mul(s, x) }> }"""
    before = model(text)
    after = to_half(before, compute=True, full_check=False).model
    (loop,) = [node for node in after.graph.node if node.op_type == "Loop"]
    body = loop.attribute[0].g
    assert {info.type.tensor_type.elem_type for info in (*body.input[2:], *body.output[1:])} == {TensorProto.FLOAT}
    assert [node.op_type for node in body.node].count("Cast") == 3
    feeds = {"n": np.array(3), "x": np.array([0.1, 0.2], np.float32)}
    for name, value in run_model(after, **feeds).items():
        np.testing.assert_allclose(value, run_model(before, **feeds)[name], rtol=2e-3)


def test_values_seen_out_of_range_stay(model, to_half, run_model):
    text = "g (float[N,32] x) => (float[N,24] y) { z = MatMul(x, w) a = Mul(z, z) b = Sqrt(a) y = MatMul(b, v) }"
    v = np.eye(24, dtype=np.float32)
    before, feeds = model(text, w=W * 200, v=v), samples(x=(4, 32))
    after, report = to_half(before, data=feeds, compute=True)
    assert missed(report).keys() == {"Mul:a", "Sqrt:b"}
    assert "'a' reached" in missed(report)["Mul:a"]
    np.testing.assert_allclose(run_model(after, **feeds[0])["y"], run_model(before, **feeds[0])["y"], rtol=2e-2, atol=2)
    blind, report = to_half(before, compute=True)
    assert "were not observed" in missed(report)["model"]
    overflowed = ReferenceBackend().prepare(lower(blind)).run(feeds[0])["y"]  # onnxruntime has no such Mul on the CPU
    assert not np.isfinite(overflowed).all()


def test_a_branch_that_no_sample_reaches_stays(model, to_half):
    feeds = [{"b": np.array(True), **feed} for feed in samples(x=(4, 32))]
    _, report = to_half(model(IF.replace("OTHER", "Add(h, h)"), w=W), data=feeds, compute=True)
    assert "reached by no sample" in missed(report)["Add:v"]


MASKED = """g (float[N,32] x, int64[N,24] m) => (float[N,24] y) {
    s = MatMul(x, w)
    f = Cast<to = 1>(m)
    i = Sub(one, f)
    a = Mul(i, low)
    t = Add(s, a)
    y = Softmax(t) }"""


@pytest.mark.parametrize("low", [-1e4, -3.4028235e38])
@pytest.mark.parametrize("has_data", [False, True])
def test_an_additive_mask_stays_though_no_sample_masks(low, has_data, model, to_half, run_model):
    before = model(MASKED, w=W, one=np.float32(1), low=np.float32(low))
    data = [{**feed, "m": np.ones((4, 24), np.int64)} for feed in samples(x=(4, 32))]
    after, report = to_half(before, data=data if has_data else None, compute=True)
    assert {"Cast:f", "Sub:i", "Mul:a", "Add:t", "Softmax:y"} >= missed(report).keys() - {"model"}
    mask = np.tile(np.arange(24) < 9, (4, 1)).astype(np.int64)
    feed = {**data[0], "m": mask}
    found = run_model(after, **feed)["y"]
    np.testing.assert_allclose(found, run_model(before, **feed)["y"], atol=5e-3)
    assert not found[:, 9:].any()


def test_an_epsilon_that_would_vanish_stays(model, to_half, run_model):
    text = "g (float[N,24] x) => (float[N,24] y) { a = Mul(x, x) b = Add(a, e) c = Sqrt(b) y = Div(x, c) }"
    before = model(text, e=np.float32(1e-12))
    after, report = to_half(before, compute=True)
    assert {"Add:b", "Sqrt:c", "Div:y"} <= missed(report).keys()
    zeros = np.zeros((1, 24), np.float32)
    np.testing.assert_array_equal(run_model(after, x=zeros)["y"], zeros)


def test_positions_stay(model, to_half, run_model):
    """A float16 counts to 2048."""
    text = "g (float[N] x) => (float[N] y) { s = Shape(x) n = Squeeze(s) f = Cast<to = 1>(n) y = Add(x, f) }"
    before = model(text)
    after = to_half(before, compute=True).model
    x = np.zeros(4097, np.float32)
    np.testing.assert_array_equal(run_model(after, x=x)["y"], run_model(before, x=x)["y"])


def test_a_limit_that_is_none_stays_none(model, to_half):
    text = "g (float[N,32] x) => (float[N,24] y) { z = MatMul(x, w) y = Clip(z, l, h) }"
    largest = np.finfo(np.float32).max
    after = to_half(model(text, w=W, l=np.float32(-0.5), h=largest), compute=True).model
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    assert held["l"] == np.float16(-0.5)
    assert held["h"] == np.float16(np.inf)


@pytest.mark.parametrize("pattern", ["MatMul:z", "z", "[yz]"])
def test_excluded(pattern, model, to_half):
    _, report = to_half(model(LAYER, w=W), compute=True, exclude=(pattern,))
    assert "exclude has" in missed(report)["MatMul:z"]
    assert not [remark for remark in report.remarks if remark.rule == "exclude"]


def test_part_of_a_model():
    """What `at` leaves out is not touched."""
    text = "g (float[N,32] x) => (float[N,24] y) { z = MatMul(x, w) y = Mul(z, z) }"
    before = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>' + text)
    before.graph.initializer.append(numpy_helper.from_array(W, "w"))
    lowered = lower(before)
    PassManager("at{ops=[MatMul]}(float{compute})", backend=OrtBackend()).run(lowered)
    nodes = emit(lowered).graph.node
    assert [node.op_type for node in nodes] == ["Cast", "MatMul", "Cast", "Mul"]


def test_what_the_executor_cannot_compute_is_stored(model, to_half):
    """onnxruntime has no MatMul in bfloat16 on the CPU."""
    before = model(LAYER, w=W)
    after, report = to_half(before, to="bfloat16", compute=True)
    assert after == to_half(before, to="bfloat16").model
    (failed,) = [remark for remark in report.remarks if remark.kind is Kind.FAILED]
    assert "does not compute in bfloat16" in failed.reason


def test_nothing_to_do(model, to_half):
    before = model("g (float16[N,32] x) => (float16[N,24] y) { y = MatMul(x, w) }", w=W.astype(np.float16))
    after, report = to_half(before, compute=True)
    assert after == before
    assert missed(report) == {"model": "nothing is left to compute in float16"}


@pytest.mark.parametrize("large", [False, True])
def test_promises_are_kept(large):
    passes = st.sampled_from([Float(compute=True), Float(compute=True, min_bytes=0)])
    checked = check_pass(passes, models=models(large=large), backend=None if large else OrtBackend())
    assert checked.changed > checked.examples // 3
    assert checked.judged > 10


def test_an_opset_is_not_raised_for_nothing(model, to_half):
    """bfloat16 needs opset 13; where every node is excluded nothing asks for it."""
    after = to_half(model(LAYER, opset=11, w=W), to="bfloat16", compute=True, exclude=("*",)).model
    assert [entry.version for entry in after.opset_import if not entry.domain] == [11]
