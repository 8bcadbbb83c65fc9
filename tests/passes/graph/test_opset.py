"""Raising the opset: the model computes what it did, and what need not change does not."""

import numpy as np
import pytest
from onnx import ModelProto, checker, parser

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import Backend, Rewriter, emit, lower, verify
from onnxpress.passes.graph.opset import raise_opset
from onnxpress.passes.graph.same_operator import means_the_same
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.remarks import Remarks
from onnxpress.passes.manager.sweep import sweep
from onnxpress.passes.manager.weights import WeightAccount

BACKEND = OrtBackend()


def model(text: str, opset: int) -> ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "f" : 1]>{text}')


def raised(proto: ModelProto, target: int, backend: Backend | None = BACKEND) -> tuple[ModelProto, str | None]:
    lowered = lower(proto)
    rewriter = Rewriter(lowered)
    account = WeightAccount(lowered)
    ctx = Context(lowered, rewriter, backend, Remarks(), account)
    problem = raise_opset(ctx, target)
    sweep(rewriter, 0)
    verify(lowered)
    return emit(lowered), problem


CONVERTED = {
    "Softmax over the last axis": (11, "y = Softmax<axis = 3>(x)", (2, 3, 4, 5)),
    "Softmax over three axes": (11, "y = Softmax(x)", (2, 3, 4, 5)),
    "Softmax of unknown rank": (11, "s = Shape(x) t = Reshape(x, s) y = LogSoftmax<axis = 2>(t)", (2, 3, 4, 5)),
    "Squeeze": (11, "t = Unsqueeze<axes = [0, -1]>(x) u = Squeeze<axes = [0]>(t) y = Squeeze(u)", (2, 3, 4, 5)),
    "Split": (11, "p, q = Split<axis = 1, split = [1, 2]>(x) y = Concat<axis = 1>(q, p, q)", (2, 3, 4, 5)),
    "ReduceSum": (11, "y = ReduceSum<axes = [2], keepdims = 0>(x)", (2, 3, 4, 5)),
    "Clip": (10, "y = Clip<min = -0.5, max = 0.25>(x)", (2, 3, 4, 5)),
    "Pad": (10, "y = Pad<pads = [0, 0, 1, 2, 0, 0, 1, 0], value = 2.0>(x)", (2, 3, 4, 5)),
    "Dropout": (10, "y = Dropout(x)", (2, 3, 4, 5)),
}
SAME = {
    "types alone": (12, "t = Relu(x) u = Neg(t) y = Add(x, u)", 13),
    "an attribute is new": (11, "t = Cast<to = 7>(x) y = ArgMax(t)", 13),
    "attributes left out": (10, "u = ReduceSum(x) y = Squeeze(u)", 13),
    "constants": (10, "c = Constant<value = float {1.0}>() y = Mul(x, c)", 13),
    "far up": (13, "t = Relu(x) u = Sigmoid(t) y = Transpose(u)", 21),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_converted_nodes_compute_the_same(case):
    opset, body, shape = CONVERTED[case]
    dims = "E,F,G" if case == "ReduceSum" else "E,F,G,H"
    before = model(f"g (float[A,B,C,D] x) => (float[{dims}] y) {{ {body} }}", opset)
    before.metadata_props.add(key="kept", value="yes")
    after, problem = raised(before, 13)
    assert problem is None
    assert [(entry.domain, entry.version) for entry in after.opset_import] == [("", 13), ("f", 1)]
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    assert after.metadata_props == before.metadata_props
    checker.check_model(after, full_check=True)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    old, new = (BACKEND.prepare(lower(proto)).run({"x": x})["y"] for proto in (before, after))
    np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("case", SAME)
def test_nodes_that_mean_the_same_stay(case):
    opset, body, target = SAME[case]
    before = model(f"g (float[2,3] x) => (float[2,3] y) {{ {body} }}", opset)
    after, problem = raised(before, target, backend=None)
    assert problem is None
    assert after.graph == before.graph
    assert after.opset_import[0].version == target


DECLINED: dict[str, tuple[int, int, str, Backend | None, str]] = {
    "too old": (6, 13, "y = Relu(x)", BACKEND, "opset 6 is too old"),
    "no executor": (11, 13, "y = Softmax(x)", None, "no executor"),
    "another rule for coordinates": (10, 13, 'y = Resize<mode = "linear">(x, r)', BACKEND, "other numbers"),
}


@pytest.mark.parametrize("case", DECLINED)
def test_declined(case):
    opset, target, body, backend, words = DECLINED[case]
    text = f"""g (float[1,1,3,3] x) => (float[A,B,C,D] y)
        <int64[4] s = {{1, 1, 3, 3}}, float[4] r = {{1.0, 1.0, 1.7, 2.0}}> {{ {body} }}"""
    before = model(text, opset)
    after, problem = raised(before, target, backend)
    assert problem is not None
    assert words in problem
    assert after.SerializeToString() == before.SerializeToString()


FUNCTION = """g (float[2,3] x) => (float[2,3] y) {{ y = f.layer{call}(x) }}
    <domain: "f", opset_import: ["" : 11]> layer {head} (a) => (b) {{ b = {body}(a) }}"""


def test_functions_go_along():
    before = model(FUNCTION.format(call="", head="", body="Softmax<axis = 1>"), 11)
    after, problem = raised(before, 13)
    assert problem is None
    assert after.functions[0].opset_import[0].version == 13
    checker.check_model(after)
    x = np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)
    old, new = (BACKEND.prepare(lower(proto)).run({"x": x})["y"] for proto in (before, after))
    np.testing.assert_array_equal(old, new)


def test_what_reads_an_attribute_of_a_function_is_not_converted():
    """And the model, whose main graph had been raised by then, is as it was."""
    before = model(FUNCTION.format(call="<n = 1>", head="<n>", body="Softmax<axis: int = @n>"), 11)
    after, problem = raised(before, 13)
    assert problem is not None
    assert "in function f.layer" in problem
    assert "attribute of its function" in problem
    assert after.SerializeToString() == before.SerializeToString()


CHANGED = {
    "its attribute became an input": "Squeeze<axes = [1]>(x)",
    "its attribute counts another way": "Softmax<axis = 1>(x)",
    "a default changed": "Hardmax(x)",
    "a default is gone": "Clip(x)",
    "odd padding moved to the other side": 'ConvTranspose<auto_pad = "SAME_UPPER">(x, x)',
}


@pytest.mark.parametrize("case", CHANGED)
def test_what_means_another_thing_is_told(case):
    proto = model(f"g (float[2,3] x) => (float[2,3] y) {{ y = {CHANGED[case]} }}", 10)
    assert not means_the_same(next(lower(proto).graph.nodes), 10, 13)
