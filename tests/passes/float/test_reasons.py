"""What is not stored in 16 bits, and why: constants of 1000 bytes or more have an entry, and a remark if they stay."""

import numpy as np
import pytest
from onnx import numpy_helper

from onnxpress.passes.manager.remarks import Kind
from onnxpress.passes.manager.weights import Outcome, Reason

RNG = np.random.default_rng(3)
W = RNG.standard_normal((32, 24)).astype(np.float32)
BIG = RNG.standard_normal(600).astype(np.float32)
MATMUL = "g (float[N,32] x) => (float[N,24] y) { y = MatMul(x, w) }"
ADD = "g (float[600] x) => (float[600] y) { y = Add(x, w) }"


def entry_of(report, name="w"):
    (found,) = [entry for entry in report.weights if entry.name == name]
    return found


def holds(to_half, before, reason, hint="", *, remark=True, **options):
    """The constant is kept for `reason`, byte for byte; a remark says so if `remark`."""
    after, report = to_half(before, **options)
    entry = entry_of(report)
    assert (entry.outcome, entry.reason, entry.final_nbytes) == (Outcome.KEPT, reason, entry.nbytes)
    found = [r for r in report.remarks if r.kind is Kind.MISSED and r.subject == "main/w"]
    assert bool(found) == remark
    assert all(hint in one.suggestion for one in found)
    assert after.SerializeToString(deterministic=True) == before.SerializeToString(deterministic=True)


def with_one(number, array=W):
    changed = array.copy()
    changed.flat[7] = number
    return changed


def test_overflow(model, to_half):
    holds(to_half, model(MATMUL, w=with_one(1e5)), Reason.OUT_OF_RANGE, "1 of 768 numbers are beyond 65504")
    holds(to_half, model(MATMUL, w=with_one(3.4028e38)), Reason.OUT_OF_RANGE, "largest of bfloat16", to="bfloat16")
    assert entry_of(to_half(model(MATMUL, w=with_one(1e38)), to="bfloat16").report).outcome is Outcome.NARROWED


@pytest.mark.parametrize("size", [1e-40, 1e-9, 1e-6])
def test_numbers_that_are_too_small(size, model, to_half):
    """float16 has too few bits for them; bfloat16 has the range of float32, down to its denormal numbers."""
    before = model(MATMUL, w=W * np.float32(size))
    holds(to_half, before, Reason.OUT_OF_RANGE, "too small")
    if size > 1e-38:
        assert entry_of(to_half(before, to="bfloat16").report).outcome is Outcome.NARROWED


def test_a_number_that_vanishes_matters_where_somebody_may_divide_by_it(model, to_half):
    holds(to_half, model(ADD, w=with_one(1e-9, BIG)), Reason.OUT_OF_RANGE, "divide")
    assert entry_of(to_half(model(MATMUL, w=with_one(1e-9))).report).outcome is Outcome.NARROWED


@pytest.mark.parametrize("text", [ADD, "g (int64[N] i) => (float[N] y) { y = Gather(w, i) }"])
def test_numbers_that_count_something(text, model, to_half):
    """2049 is no float16, and 255.5 no bfloat16."""
    holds(to_half, model(text, w=np.arange(3000, dtype=np.float32)[-600:]), Reason.INEXACT, "no longer what they count")
    halves = np.arange(600, dtype=np.float32) / 2
    assert entry_of(to_half(model(text, w=halves)).report).outcome is Outcome.NARROWED
    holds(to_half, model(text, w=halves), Reason.INEXACT, to="bfloat16")


def test_overridable(model, to_half):
    text = "g (float[N,32] x, float[32,24] w) => (float[N,24] y) { y = MatMul(x, w) }"
    holds(to_half, model(text, w=W), Reason.OVERRIDABLE, "freeze-defaults")


@pytest.mark.parametrize(
    "options", [{"min_bytes": 5000}, {"exclude": ("w",)}, {"exclude": ("no", "MatMul:*")}, {"exclude": ("[vw]",)}]
)
def test_excluded(options, model, to_half):
    hint = "min-bytes is 5000" if "min_bytes" in options else "exclude has"
    holds(to_half, model(MATMUL, w=W), Reason.EXCLUDED, hint, **options)


def test_exclude_that_matches_nothing_is_said(model, to_half):
    _, report = to_half(model(MATMUL, w=W), exclude=("embed.*",))
    (remark,) = [remark for remark in report.remarks if remark.kind is Kind.MISSED]
    assert "'embed.*' matches no constant" in remark.reason


def test_dead(model, to_half):
    holds(to_half, model("g (float[N] x) => (float[N] y) { y = Neg(x) }", w=W), Reason.DEAD, remark=False)


@pytest.mark.parametrize("dtype", [np.int64, np.float16])
def test_types_that_are_left(dtype, model, to_half):
    text = "g (int64[N] i) => (T[N] y) { y = Gather(w, i) }".replace("T", np.dtype(dtype).name)
    reason = Reason.NOT_FLOAT if dtype is np.int64 else Reason.NO_GAIN
    holds(to_half, model(text, w=np.arange(600).astype(dtype)), reason, remark=False)


def test_sparse(model, to_half):
    before = model(MATMUL)
    sparse = before.graph.sparse_initializer.add(dims=[32, 24])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(400, np.float32), "w"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(400), ""))
    holds(to_half, before, Reason.SPARSE, full_check=False)  # onnx infers no MatMul of a sparse tensor


def test_scales_of_quantized_numbers(model, to_half):
    """Their error would come on top of the bound that quantization has stated."""
    text = "g (float[N,4] x) => (float[N,600] y) { d = Cast<to = 1>(q) v = Mul(d, w) y = MatMul(x, v) }"
    levels = RNG.integers(-127, 127, (4, 600)).astype(np.int8)
    holds(to_half, model(text, q=levels, w=BIG), Reason.NOT_A_WEIGHT, "scale")


def test_function_of_another_opset(model, to_half):
    """onnx does not take operators that differ in the two, but onnxruntime does: it must not get worse."""
    text = """g (float[N,32] x) => (float[N,24] y) { y = f.layer(x) }
    <domain: "f", opset_import: ["" : 17]>
    layer (x) => (y) { w = Constant<value = float[1] {1.0}>() y = MatMul(x, w) }"""
    before = model(text, opset=21, ir=10)
    before.functions[0].node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(W, "w"))
    _, report = to_half(before, full_check=None)
    assert entry_of(report).reason is Reason.OPSET


@pytest.mark.parametrize("shape", [(0,), (0, 24), ()])
def test_little_or_nothing_to_store(shape, model, to_half):
    dims = f"[{','.join(map(str, shape))}]" if shape else ""
    before = model(
        f"g (float[N,24] x) => (float[N,24] y, float{dims} w) {{ y = Neg(x) }}", w=np.ones(shape, np.float32)
    )
    after, report = to_half(before, min_bytes=0)
    assert after == before
    assert [remark.reason for remark in report.remarks] == ["no constant was stored in float16"]
