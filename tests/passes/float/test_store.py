"""Constants stored in 16 bits: what the graph is then, what the numbers are, and what the executor makes of it."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from onnx import numpy_helper

from onnxpress.passes.float.float import Float
from onnxpress.passes.manager.weights import Outcome
from onnxpress.specs import check_pass, models

RNG = np.random.default_rng(5)
W = RNG.standard_normal((32, 24)).astype(np.float32)
BIAS = RNG.standard_normal(24).astype(np.float32)
MATMUL = "g (float[N,32] x) => (float[N,24] y) { y = MatMul(x, w) }"
ADD = "g (float[N,32] x) => (float[N,24] y) { z = MatMul(x, w) y = Add(z, b) }"
TABLE = "g (int64[N] i) => (float[N,24] y) { y = Gather(w, i) }"
BRANCH = """g (bool b, float[N,32] x) => (float[N,24] y) {
    y = If(b) <then_branch = t () => (float[N,24] u) { u = MatMul(x, w) },
               else_branch = e () => (float[N,24] v) { v = MatMul(x, w) }> }"""

CASES = {
    "a weight and a bias": (
        ADD,
        {},
        """w = Cast<to = 1>(h)
        z = MatMul(x, w)
        b = Cast<to = 1>(h_1)
        y = Add(z, b)
        h: float16[32, 24]
        h_1: float16[24]""",
    ),
    "bfloat16": (
        MATMUL,
        {"to": "bfloat16"},
        """w = Cast<to = 1>(h)
        y = MatMul(x, w)
        h: bfloat16[32, 24]""",
    ),
    "rows of a table are gathered first": (
        TABLE,
        {},
        """d = Gather(h, i)
        y = Cast<to = 1>(d)
        h: float16[32, 24]""",
    ),
    "what two branches read is cast once, before them": (
        BRANCH,
        {},
        """w = Cast<to = 1>(h)
        y = If(b)
        h: float16[32, 24]""",
    ),
}


@pytest.mark.parametrize("as_constants", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_golden(case, as_constants, model, to_half, reads):
    text, options, expected = CASES[case]
    constants = {"w": W, **({"b": BIAS} if text is ADD else {})}
    after = to_half(model(text, as_constants=as_constants, **constants), **options).model
    assert reads(after.graph, expected)


def test_doubles_become_doubles_again(model, to_half, reads):
    text = "g (double[N,32] x) => (double[N,24] y) { y = MatMul(x, w) }"
    after = to_half(model(text, w=W.astype(np.float64))).model
    assert reads(after.graph, "w = Cast<to = 11>(h)\ny = MatMul(x, w)\nh: float16[32, 24]")


def test_what_a_branch_holds_is_cast_there_and_folded(model, to_half, optimized):
    before = model(BRANCH, w=W)
    weight = before.graph.initializer.pop()
    then, other = (attribute.g for attribute in before.graph.node[0].attribute)
    then.initializer.append(weight)
    other.node.insert(0, onnx.helper.make_node("Constant", [], ["w"], value=weight))
    after, report = to_half(before)
    assert {entry.graph: entry.outcome for entry in report.weights} == {
        "main/If:y.then_branch": Outcome.NARROWED,
        "main/If:y.else_branch": Outcome.NARROWED,
    }
    assert set(optimized(after)) == {"If", "MatMul"}


def test_in_a_function(model, to_half, optimized):
    text = """g (float[N,32] x) => (float[N,24] y) { y = f.layer(x) }
    <domain: "f", opset_import: ["" : 17]>
    layer (x) => (y) { w = Constant<value = float[1] {1.0}>() y = MatMul(x, w) }"""
    before = model(text)
    before.functions[0].node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(W, "w"))
    after, _ = to_half(before)
    assert [node.op_type for node in after.functions[0].node] == ["Constant", "Cast", "MatMul"]
    assert optimized(after) == ["MatMul"]


def test_the_executor_folds_the_casts(model, to_half, optimized):
    before = model(ADD, w=W, b=BIAS)
    assert optimized(to_half(before).model) == optimized(before)


@pytest.mark.parametrize(("to", "dtype"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
def test_stored_numbers_are_the_nearest(to, dtype, model, to_half, run_model):
    before = model(MATMUL, w=W)
    after, report = to_half(before, to=to)
    (stored,) = (numpy_helper.to_array(tensor) for tensor in after.graph.initializer)
    np.testing.assert_array_equal(stored.view(np.uint16), W.astype(dtype).view(np.uint16))
    (bound,) = report.bounds
    moved = np.abs(W.astype(np.float64) - W.astype(dtype).astype(np.float64))
    np.testing.assert_allclose(bound.per_channel, moved.sum(0), rtol=1e-12)
    x = RNG.standard_normal((9, 32)).astype(np.float32)
    error = np.abs(run_model(after, x=x)["y"] - run_model(before, x=x)["y"])
    assert (error <= bound.per_channel * np.abs(x).max() + 1e-5).all()


def test_special_numbers_stay_what_they_are(model, to_half):
    weight = W.copy()
    weight[0, :8] = [np.nan, np.inf, -np.inf, -0.0, 1e-40, 65504, 6e-8, -1e-9]
    after, report = to_half(model(MATMUL, w=weight))
    (stored,) = (numpy_helper.to_array(tensor) for tensor in after.graph.initializer)
    expected = np.array([np.nan, np.inf, -np.inf, -0.0, 0, 65504, 2.0**-24, -0.0], np.float16)
    np.testing.assert_array_equal(stored[0, :8], expected)
    assert np.signbit(stored[0, [3, 7]]).all()
    assert np.isfinite(report.bounds[0].per_channel).all()
    assert "2 of 768 numbers became 0" in next(iter(report.remarks)).reason


def test_running_again_changes_nothing(model, to_half):
    once = to_half(model(ADD, w=W, b=BIAS)).model
    for to in ("float16", "bfloat16"):
        again, report = to_half(once, to=to)
        assert again == once
        (remark,) = report.remarks
        assert remark.reason == f"no constant was stored in {to}: none is of float32 or float64"


def test_opset_is_raised_for_bfloat16_alone(model, to_half):
    before = model(ADD, opset=9, ir=4, w=W, b=BIAS)
    assert to_half(before).model.opset_import[0].version == 9
    assert to_half(before, to="bfloat16").model.opset_import[0].version == 13


STORED = st.builds(Float, to=st.sampled_from(["float16", "bfloat16"]), min_bytes=st.sampled_from([0, 64]))


def test_the_bounds_hold():
    checked = check_pass(STORED, models=models())
    assert checked.changed > checked.examples // 3
    assert checked.judged > 10
