"""Every constant of 1000 bytes or more has one entry, with the reason if it stays; a weight that stays has a remark."""

import numpy as np
import pytest
from onnx import TensorProto, TrainingInfoProto, helper, numpy_helper

from onnxpress.passes.manager.remarks import Kind
from onnxpress.passes.manager.weights import Outcome, Reason

RNG = np.random.default_rng(3)
W = RNG.standard_normal((32, 24)).astype(np.float32)
BIG = RNG.standard_normal(600).astype(np.float32)
MATMUL = "g (float[N,32] x) => (float[N,24] y) { y = MatMul(x, w) }"


def entry_of(report, name="w"):
    (found,) = [entry for entry in report.weights if entry.name == name]
    return found


def missed(report, name="w"):
    return [remark for remark in report.remarks if remark.kind is Kind.MISSED and remark.subject == f"main/{name}"]


def holds(quantize, before, reason, *, name="w", remark=True, **options):
    """The constant is kept for `reason`, byte for byte; a remark says so if `remark`."""
    after, report = quantize(before, **options)
    entry = entry_of(report, name)
    assert (entry.outcome, entry.reason, entry.final_nbytes) == (Outcome.KEPT, reason, entry.nbytes)
    assert bool(missed(report, name)) == remark
    assert after.SerializeToString(deterministic=True) == before.SerializeToString(deterministic=True)
    return report


NOT_WEIGHTS = {
    "bias of Conv": ("g (float[1,2,5,5] x) => (float[1,600,4,4] y) { y = Conv(x, v, w) }", BIG, (600, 2, 2, 2)),
    "addend of Gemm": ("g (float[1,2] x) => (float[1,600] y) { y = Gemm(x, v, w) }", BIG, (2, 600)),
    "operand of Add": ("g (float[600] x) => (float[600] y) { y = Add(x, w) }", BIG, None),
    "slopes of PRelu": ("g (float[600] x) => (float[600] y) { y = PRelu(x, w) }", BIG, None),
    "an output alone": ("g (float[600] x) => (float[600] y, float[600] w) { y = Neg(x) }", BIG, None),
    "shape of it": ("g (float[600] x) => (float[600] y) { s = Shape(w) y = Expand(x, s) }", BIG, None),
}


@pytest.mark.parametrize("case", NOT_WEIGHTS)
def test_not_a_weight(case, model, quantize):
    text, array, other = NOT_WEIGHTS[case]
    more = {} if other is None else {"v": np.ones(other, np.float32)}
    _, report = quantize(model(text, w=array, **more))
    entry = entry_of(report)
    assert (entry.outcome, entry.reason) == (Outcome.KEPT, Reason.NOT_A_WEIGHT)
    assert not missed(report)


def test_bias_of_a_recurrent_layer(quantize, model):
    text = "g (float[T,1,4] x) => (float[T,1,1,200] y) { y = LSTM<hidden_size = 200>(x, w, r, b) }"
    arrays = {"w": np.ones((1, 800, 4), np.float32), "r": np.ones((1, 800, 200), np.float32)}
    _, report = quantize(model(text, **arrays, b=np.ones((1, 1600), np.float32)))
    assert entry_of(report, "b").reason is Reason.NOT_A_WEIGHT


def test_not_float(model, quantize):
    text = "g (int64[N] x) => (int64[N] y) { y = Gather(w, x) }"
    holds(quantize, model(text, w=np.arange(600)), Reason.NOT_FLOAT, remark=False)


def test_narrow_floats_do_not_get_smaller(model, quantize):
    before = model("g (float[N] x) => (float[N,600] y) { v = Cast<to = 1>(w) y = Mul(x, v) }", opset=19, ir=9)
    del before.graph.node[:], before.graph.output[0].type.tensor_type.shape.dim[1]
    before.graph.node.append(helper.make_node("Neg", ["x"], ["y"]))
    before.graph.node.append(helper.make_node("Cast", ["w"], ["v"], to=1))
    tensor = helper.make_tensor("w", TensorProto.FLOAT8E4M3FN, [2000], [0.0] * 2000)
    before.graph.initializer.append(tensor)
    holds(quantize, before, Reason.NO_GAIN, remark=False)


def test_overridable(model, quantize):
    before = model("g (float[N,32] x, float[32,24] w) => (float[N,24] y) { y = MatMul(x, w) }", w=W)
    report = holds(quantize, before, Reason.OVERRIDABLE)
    assert missed(report)[0].suggestion == "run freeze-defaults first"


def test_pinned(model, quantize):
    before = model(MATMUL, w=W)
    training = TrainingInfoProto()
    training.algorithm.name = "a"
    training.algorithm.node.append(helper.make_node("Neg", ["w"], ["new"]))
    training.algorithm.output.append(helper.make_tensor_value_info("new", TensorProto.FLOAT, (32, 24)))
    training.update_binding.add(key="w", value="new")
    before.training_info.append(training)
    holds(quantize, before, Reason.PINNED)


def test_no_gain(model, quantize):
    """One weight for every channel: the scales would take more than is saved."""
    text = "g (float[N,600,H,W] x) => (float[N,600,H,W] y) { y = Conv<group = 600>(x, w) }"
    holds(quantize, model(text, w=BIG.reshape(600, 1, 1, 1)), Reason.NO_GAIN)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite(bad, model, quantize):
    weight = W.copy()
    weight[3, 4] = bad
    holds(quantize, model(MATMUL, w=weight), Reason.NON_FINITE)


def test_out_of_range(model, quantize):
    """The largest level would be decoded to infinity."""
    largest = np.finfo(np.float32).max
    peaks = [np.float32(largest * (1 - k * 2.0**-24)) for k in range(64)]
    with np.errstate(over="ignore"):
        peak = next(p for p in peaks if np.isinf(p / np.float32(127) * np.float32(127)))
    weight = W.copy()
    weight[3, 4] = peak
    holds(quantize, model(MATMUL, w=weight), Reason.OUT_OF_RANGE)


@pytest.mark.parametrize(
    "options", [{"min_bytes": 5000}, {"exclude": ("w",)}, {"exclude": ("no", "MatMul:*")}, {"exclude": ("[vw]",)}]
)
def test_excluded(options, model, quantize):
    report = holds(quantize, model(MATMUL, w=W), Reason.EXCLUDED, **options)
    assert any(word in missed(report)[0].suggestion for word in ("min-bytes", "exclude"))


def test_exclude_that_matches_nothing_is_said(model, quantize):
    _, report = quantize(model(MATMUL, w=W), exclude=("embed.*",))
    assert entry_of(report).outcome is Outcome.QUANTIZED
    (remark,) = [remark for remark in report.remarks if remark.kind is Kind.MISSED]
    assert "'embed.*' matches no weight" in remark.reason


def test_sparse(model, quantize):
    before = model(MATMUL)
    values = numpy_helper.from_array(np.ones(400, np.float32), "w")
    sparse = before.graph.sparse_initializer.add(dims=[32, 24])
    sparse.values.CopyFrom(values)
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(400), ""))
    holds(quantize, before, Reason.SPARSE, full_check=False)  # onnx infers no MatMul of a sparse tensor


def test_below_opset_7(model, quantize):
    """Mul does not broadcast there as it does later, and onnxruntime has none."""
    holds(quantize, model(MATMUL, opset=6, ir=3, as_constants=True, w=W), Reason.OPSET)


def test_dead(model, quantize):
    holds(quantize, model("g (float[N] x) => (float[N] y) { y = Neg(x) }", w=W), Reason.DEAD, remark=False)


def test_computed_weight(model, quantize):
    """A weight that is still to be computed is left to `fold`, and the remark says so."""
    text = "g (float[N,32] x) => (float[N,24] y) { v = Exp(w) y = MatMul(x, v) }"
    report = holds(quantize, model(text, w=W), Reason.NOT_RECOGNIZED)
    assert "run fold first" in missed(report)[0].suggestion


def test_unknown_operator(model, quantize):
    before = model("g (float[N,32] x) => (float[N,24] y) { y = f.Mystery(x, w) }", w=W)
    report = holds(quantize, before, Reason.NOT_RECOGNIZED)
    assert "f.Mystery" in missed(report)[0].suggestion


def test_tensor_in_an_attribute(model, quantize):
    before = model("g (float[N,32] x) => (float[N,32] y) { y = f.Mystery(x) }")
    before.graph.node[0].attribute.append(helper.make_attribute("table", numpy_helper.from_array(W)))
    after, report = quantize(before)
    assert [(e.name, e.reason) for e in report.weights] == [("y.table", Reason.NOT_RECOGNIZED)]
    assert after == before


def test_nothing_to_do_is_said(model, quantize):
    report = quantize(model("g (float[N] x) => (float[N] y) { y = Neg(x) }")).report
    assert [remark.reason for remark in report.remarks] == ["no weight was quantized"]


def test_old_model_is_raised_to_ir_version_4(model, quantize, run_model):
    """Constants of a model of IR version 3 are in Constant nodes; the new initializers need version 4."""
    before = model(MATMUL, opset=8, ir=3, as_constants=True, w=W)
    after, report = quantize(before)
    assert after.ir_version == 4
    assert entry_of(report).outcome is Outcome.QUANTIZED
    x = RNG.standard_normal((2, 32)).astype(np.float32)
    np.testing.assert_allclose(run_model(after, x=x)["y"], run_model(before, x=x)["y"], atol=0.2)
