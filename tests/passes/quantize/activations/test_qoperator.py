"""`format=qoperator` against `format=qdq`: the same numbers, in one integer operator for each group."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnxpress
from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import UserError
from onnxpress.ir import emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.passes.quantize.targets.profile import names, profile
from onnxpress.specs import check_pass, feeds, models
from onnxpress.specs.qoperators import is_qoperator, spelled_out

from ..test_golden import lined_up
from .test_static_golden import BIAS, KERNEL, RNG, W, feeds_of, nodes_of, quantized

TAKES = [name for name in names() if profile(name).qoperators]
GOLDEN = {
    "Conv with Relu": (
        "g (float[1,8,5,5] x) => (float[1,6,5,5] y) { c = Conv<pads = [1,1,1,1]>(x, w, b) y = Relu(c) }",
        {"w": KERNEL, "b": BIAS},
        """x_quantized = QuantizeLinear(x, s, z)
        y_quantized = QLinearConv<pads = [1, 1, 1, 1]>(x_quantized, s, z, q_2, s_2, z_2, s_1, z_1, q_3)
        y = DequantizeLinear(y_quantized, s_1, z_1)""",
    ),
    "Clip that the levels do not clip to": (
        "g (float[1,8,5,5] x) => (float[1,6,3,3] y) { c = Conv(x, w) y = Clip(c, low, high) }",
        {"w": KERNEL, "low": np.float32(1), "high": np.float32(4)},
        """x_quantized = QuantizeLinear(x, s, z)
        c_1 = QLinearConv(x_quantized, s, z, q_2, s_2, z_2, s_1, z_1)
        y_quantized = Clip(c_1, limit, limit_1)
        y = DequantizeLinear(y_quantized, s_1, z_1)""",
    ),
    "MatMul leaves its output in float": (
        "g (float[4,8] x) => (float[4,6] y) { y = MatMul(x, w) }",
        {"w": W},
        """x_quantized = QuantizeLinear(x, s, z)
        y = MatMulIntegerToFloat(x_quantized, q_1, s, s_1, z, z_1)""",
    ),
    "Levels go through movers; what float reads is decoded": (
        """g (float[4,8] x) => (float[8,4] y, float[4,8] e) {
            a = Sigmoid(x) e = Exp(a) t = Transpose<perm = [1, 0]>(a) y = Sigmoid(t)
        }""",
        {},
        """x_quantized = QuantizeLinear(x, s, z)
        a_quantized = QLinearSigmoid(x_quantized, s, z, s_1, z_1)
        a = DequantizeLinear(a_quantized, s_1, z_1)
        e = Exp(a)
        t_quantized = Transpose<perm = [1, 0]>(a_quantized)
        y_quantized = QLinearSigmoid(t_quantized, s_2, z_2, s_3, z_3)
        y = DequantizeLinear(y_quantized, s_3, z_3)""",
    ),
    "A float value gives its name to the levels": (
        "g (float[4,8] x) => (float[4,6] y) { h = Exp(x) y = MatMul(h, w) }",
        {"w": W},
        """h_float = Exp(x)
        h_quantized = QuantizeLinear(h_float, s, z)
        y = MatMulIntegerToFloat(h_quantized, q_1, s, s_1, z, z_1)""",
    ),
}
IMAGE = (1, 4, 6, 6)
OPERATORS = {
    "Conv": ("y = Conv<pads = [1,1,1,1]>(x, k)", {"k": RNG.standard_normal((3, 4, 3, 3))}),
    "Conv, depthwise": ("y = Conv<group = 4>(x, k, c)", {"k": RNG.standard_normal((4, 1, 3, 3)), "c": BIAS[:4]}),
    "MatMul": ("m = MatMul(x, k) y = Sigmoid(m)", {"k": RNG.standard_normal((6, 5))}),
    "MatMul of activations": ("a = Sigmoid(x) m = MatMul(a, a) y = Sigmoid(m)", {}),
    "Gemm": (
        "f = Flatten(x) m = Gemm<transB = 1>(f, k, c) y = Sigmoid(m)",
        {"k": RNG.standard_normal((6, 144)), "c": BIAS},
    ),
    "Gemm, in float": ("f = Flatten(x) y = Gemm(f, k)", {"k": RNG.standard_normal((144, 6))}),
    "Gemm, in float with a bias": ("f = Flatten(x) y = Gemm(f, k, c)", {"k": RNG.standard_normal((144, 6)), "c": BIAS}),
    "Add": ("a = Sigmoid(x) y = Add(x, a)", {}),
    "Add of a constant": ("y = Add(x, k)", {"k": RNG.standard_normal((4, 1, 1))}),
    "Add with Relu": ("a = Sigmoid(x) b = Add(x, a) y = Relu(b)", {}),
    "Mul": ("a = Sigmoid(x) b = Add(a, a) y = Mul(b, a)", {}),
    "AveragePool": ("y = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]>(x)", {}),
    "AveragePool of padding": ("y = AveragePool<kernel_shape = [2,2], pads = [1,1,0,0], count_include_pad = 1>(x)", {}),
    "GlobalAveragePool": ("y = GlobalAveragePool(x)", {}),
    "LeakyRelu": ("y = LeakyRelu<alpha = 0.2>(x)", {}),
    "Sigmoid": ("y = Sigmoid(x)", {}),
    "Softmax": ("y = Softmax<axis = 1>(x)", {}),
    "Concat": ("a = Sigmoid(x) y = Concat<axis = 1>(x, a)", {}),
}
"""Of every operator that a target has in integers, one or more uses."""


def both(source, data, **options):
    """The model in either format."""
    return [emit(quantized(source, data, mode="static", format=name, **options)[0]) for name in ("qdq", "qoperator")]


def deployed(model, feed):
    return OrtBackend().prepare(lower(model), optimize=True).run(feed)


def steps_apart(a, b):
    """The largest difference in steps of the last decoding."""
    (step,) = {
        float(onnx.numpy_helper.to_array(held))
        for node in a.graph.node[-1:]
        for held in a.graph.initializer
        if node.op_type == "DequantizeLinear" and held.name == node.input[1]
    } or {0.0}
    return lambda x, y: np.abs(x - y).max() / step if step else np.abs(x - y).max() / np.abs(x).max()


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name, model):
    text, weights, expected = GOLDEN[name]
    source = model(text, **weights)
    lowered, _ = quantized(source, feeds_of(source), mode="static", format="qoperator", min_bytes=0)
    assert nodes_of(emit(lowered)) == lined_up(expected)


def test_every_operator_of_every_target_is_tried():
    used = set().union(*(operators_of(text) for text, _ in OPERATORS.values()))
    assert used >= {op_type for name in TAKES for op_type in profile(name).qoperators}


def wrapped(text):
    shape = "p,q" if "Flatten" in text else "p,q,r,s"
    return f"g (float[1,4,6,6] x) => (float[{shape}] y) {{ {text} }}"


def operators_of(text):
    return {node.op_type for node in onnx.parser.parse_graph(wrapped(text)).node}


def known_to(target):
    """The uses whose operators the target has in integers; Relu and Flatten go with others."""
    known = {*profile(target).qoperators, *profile(target).absorbed, "Flatten"}
    return [name for name, (text, _) in OPERATORS.items() if operators_of(text) <= known]


@pytest.mark.parametrize(
    ("name", "target"), [(name, target) for target in ("ort-cpu", "ort-cpu-arm") for name in known_to(target)]
)
def test_the_operator_gives_the_numbers_of_the_group(name, target, model):
    """In the deployment session, where onnxruntime fuses the groups of qdq, and spelled out to the bit."""
    text, weights = OPERATORS[name]
    source = model(wrapped(text), **{key: np.asarray(w, np.float32) for key, w in weights.items()})
    data = [{"x": RNG.standard_normal(IMAGE).astype(np.float32)} for _ in range(6)]
    qdq, found = both(source, data, target=target)
    onnx.checker.check_model(found, full_check=True)
    assert any(is_qoperator(node) for node in found.graph.node)
    apart = steps_apart(qdq, found)
    for feed in data:
        assert apart(deployed(qdq, feed)["y"], deployed(found, feed)["y"]) <= 1.001
    plain = spelled_out(found)
    assert not any(is_qoperator(node) for node in plain.graph.node)
    for feed in data[:2]:
        a, b = (OrtBackend().prepare(lower(one)).run(feed)["y"] for one in (qdq, plain))
        np.testing.assert_array_equal(a, b)


@given(st.data())
def test_spelled_out_it_is_the_other_format(data):
    """Whatever the model: the numbers of qdq, to the bit."""
    source = data.draw(models(large=True))
    feed = data.draw(feeds(source))
    target = data.draw(st.sampled_from(TAKES))
    try:
        OrtBackend().prepare(lower(source)).run(feed)
        qdq, found = both(source, [feed], target=target)
    except onnxpress.OnnxpressError:
        return
    operators = [node.op_type for node in found.graph.node if is_qoperator(node)]
    if operators and target != "generic":  # generic leaves more in float than with qdq
        a, b = (OrtBackend().prepare(lower(one)).run(feed) for one in (qdq, spelled_out(found)))
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def operators_only():
    return st.builds(
        QuantizeInsert,
        mode=st.just("static"),
        format=st.just("qoperator"),
        latency=st.just("off"),
        error=st.just(1e3),
        target=st.sampled_from(TAKES),
        rounding=st.just("nearest"),
    )


def test_promises_are_kept():
    checked = check_pass(operators_only(), models=models(large=True), backend=OrtBackend())
    assert checked.judged > checked.examples / 5


def test_it_runs_in_fewer_nodes_and_bytes_on_a_real_network():
    from .test_targets import DATA, DEMO

    sizes = {}
    for name in ("qdq", "qoperator"):
        loaded = onnxpress.load(DEMO)
        text = f"simplify,quantize-insert{{mode=static format={name} latency=off error=1 rounding=nearest}}"
        onnxpress.PassManager(text, measure=False).run(loaded, data=DATA)
        made = emit(loaded)
        sizes[name] = (len(made.graph.node), made.ByteSize())
    assert sizes["qoperator"][0] < sizes["qdq"][0] / 2
    assert sizes["qoperator"][1] < sizes["qdq"][1]


def test_running_again_changes_nothing(model):
    source = model("g (float[4,8] x) => (float[4,6] y) { y = MatMul(x, w) }", w=W)
    data = feeds_of(source)
    once, _ = quantized(source, data, mode="static", format="qoperator")
    for options in ({"mode": "static", "format": "qoperator"}, {"mode": "static"}, {"mode": "dynamic"}, {}):
        twice = lower(emit(once))
        report = PassManager([QuantizeInsert(**options)], OrtBackend()).run(twice, data=data)
        assert not report.changed, options


def test_what_has_no_integer_operator_stays_and_says_why(model):
    source = model(
        "g (float[1,8,5,5] x) => (float[1,8,4,4] y, float[1,6] z) { y = AveragePool<kernel_shape = [2,2]>(x) "
        "f = GlobalAveragePool(x) r = Flatten(f) z = Gemm(r, w, b) }",
        w=W,
        b=BIAS,
    )
    _, report = quantized(source, feeds_of(source), mode="static", format="qoperator", target="generic")
    reasons = " ".join(remark.reason for remark in report.remarks)
    assert "no integer operator for AveragePool" in reasons
    assert "QLinearMatMul has no bias" in reasons


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("format=qoperator", "format=qoperator is for mode=static, not for weight-only"),
        ("mode=dynamic format=qoperator", "mode=dynamic is written in integer operators anyway"),
        ("mode=static format=qoperator target=tensorrt", "TensorRT does not take format=qoperator"),
        ("mode=static format=qoperator target=litert", "does not take format=qoperator"),
    ],
)
def test_where_it_means_nothing_it_is_a_mistake(options, words):
    with pytest.raises(UserError, match=words):
        onnxpress.PassManager(f"quantize-insert{{{options}}}")
