"""`dedupe`: of equal constants one remains, wherever it is seen, and every reader keeps its bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import emit, lower
from onnxpress.passes.graph import content
from onnxpress.passes.graph.dedupe import Dedupe
from onnxpress.passes.manager.manager import PassManager
from onnxpress.specs import check_golden, check_pass, check_variants, model_of

GOLDEN = {
    "in one graph": (
        "g (float[2] x) => (float[2] y) <float[2] p = {1, 2}, float[2] q = {1, 2}> { a = Add (x, p) y = Mul (a, q) }",
        "g (float[2] x) => (float[2] y) <float[2] p = {1, 2}> { a = Add (x, p) y = Mul (a, p) }",
    ),
    "Constant nodes": (
        """g (float[2] x) => (float[2] y) {
            p = Constant <value = float[2] {1, 2}> () a = Add (x, p)
            q = Constant <value = float[2] {1, 2}> () y = Mul (a, q)
        }""",
        """g (float[2] x) => (float[2] y) {
            p = Constant <value = float[2] {1, 2}> () a = Add (x, p) y = Mul (a, p)
        }""",
    ),
    "in a body and around it": (
        """g (bool c, float[2] x) => (float[2] y) <float[2] p = {1, 2}> {
            a = Add (x, p)
            y = If (c) <then_branch = t () => (float[2] r) <float[2] q = {1, 2}> { r = Mul (a, q) },
                        else_branch = e () => (float[2] s) { s = Neg (a) }>
        }""",
        """g (bool c, float[2] x) => (float[2] y) <float[2] p = {1, 2}> {
            a = Add (x, p)
            y = If (c) <then_branch = t () => (float[2] r) { r = Mul (a, p) },
                        else_branch = e () => (float[2] s) { s = Neg (a) }>
        }""",
    ),
    "in two branches": (
        """g (bool c, float[2] x) => (float[2] y) {
            y = If (c) <then_branch = t () => (float[2] r) <float[2] p = {1, 2}> { r = Mul (x, p) },
                        else_branch = e () => (float[2] s) <float[2] q = {1, 2}> { s = Add (x, q) }>
        }""",
        """g (bool c, float[2] x) => (float[2] y) <float[2] p_1 = {1, 2}> {
            y = If (c) <then_branch = t () => (float[2] r) { r = Mul (x, p_1) },
                        else_branch = e () => (float[2] s) { s = Add (x, p_1) }>
        }""",
    ),
}
KEPT = {
    "other bits": "g (float x) => (float y) <float p = {0}, float q = {-0.0}> { a = Add (x, p) y = Sub (a, q) }",
    "another shape": """
        g (float[1] x) => (float[1] y) <float p = {1}, float[1] q = {1}> { a = Add (x, p) y = Mul (a, q) }""",
    "another type": """
        g (float x, int32 i) => (float y, int32 j) <float p = {0}, int32 q = {0}> { y = Add (x, p) j = Add (i, q) }""",
    "what a feed can override": """
        g (float x, float q = {1}) => (float y) <float p = {1}> { a = Add (x, p) y = Mul (a, q) }""",
    "an output of a body": """
        g (bool c) => (float[1] y) <float[1] p = {1}> {
            y = If (c) <then_branch = t () => (float[1] r) { r = Constant <value = float[1] {1}> () },
                        else_branch = e () => (float[1] s) { s = Neg (p) }>
        }""",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    before, after = GOLDEN[name]
    check_golden("dedupe", model_of(before), model_of(after))


@pytest.mark.parametrize("name", KEPT)
def test_it_keeps(name: str) -> None:
    check_golden("dedupe", model_of(KEPT[name]), model_of(KEPT[name]))


@pytest.mark.parametrize("name", GOLDEN)
def test_variants_of_the_golden_cases_stay_right(name: str) -> None:
    check_variants("dedupe", model_of(GOLDEN[name][0]))


def test_it_keeps_its_promises() -> None:
    assert check_pass(Dedupe).changed > 0


def large(count: int, *, last: float = 0.0) -> ModelProto:
    """A chain of so many MatMuls with the same weight of 256 kB, but for the last element of the last one."""
    weight = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    weights = [numpy_helper.from_array(weight, f"w{i}") for i in range(count - 1)]
    other = weight.copy()
    other[-1, -1] += last
    weights.append(numpy_helper.from_array(other, f"w{count - 1}"))
    nodes = [helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"]) for i in range(count)]
    infos = [helper.make_tensor_value_info(f"h{i}", TensorProto.FLOAT, ["n", 256]) for i in (0, count)]
    return helper.make_model(helper.make_graph(nodes, "g", infos[:1], infos[1:], weights), ir_version=8)


@pytest.mark.parametrize(("last", "left"), [(0.0, 1), (1.0, 2)])
def test_large_weights_are_compared_to_the_last_element(last: float, left: int) -> None:
    model = lower(large(5, last=last))
    report = PassManager([Dedupe()], backend=OrtBackend()).run(model)
    assert len(model.graph.initializers) == left
    assert report.after.file_bytes == emit(model).ByteSize()
    (remark,) = report.remarks
    assert remark.bytes_at_stake == (5 - left) * 256 * 256 * 4
    assert sum(entry.final_nbytes for entry in report.weights) == left * 256 * 256 * 4


def test_an_initializer_that_only_a_branch_reads_is_not_lost() -> None:
    model = model_of("""
        g (bool c, float[2] x) => (float[2] y) <float[2] only = {3, 4}> {
            y = If (c) <then_branch = t () => (float[2] r) { r = Mul (x, only) },
                        else_branch = e () => (float[2] s) { s = Neg (x) }>
        }""")
    check_golden("dedupe,dce", model, model)


WORDS = (
    0x00000000, 0x80000000, 0x3F800000, 0x7F800000, 0x7FC00000, 0x7FC00001, 0xFFC00000, 0x7F800001,
)  # fmt: skip
"""Bits of both zeros, 1, infinity, and NaNs of several payloads, signs and kinds."""
SHAPES = ([], [1], [2], [130], [13, 10], [65, 2], [0], [0, 3], [9, 33])
"""Also some that are too large to be looked at as a whole at first."""


@st.composite
def constants(draw: st.DrawFn) -> list[TensorProto]:
    """Constants of which many are equal, and others differ in one element, in shape or in type alone."""
    drawn = []
    for number in range(draw(st.integers(2, 8))):
        dims = draw(st.sampled_from(SHAPES))
        bits = np.full(int(np.prod(dims)), draw(st.sampled_from(WORDS[:3])), np.uint32)
        if bits.size and draw(st.booleans()):
            bits[draw(st.integers(0, bits.size - 1))] = draw(st.sampled_from(WORDS))
        dtype = draw(st.sampled_from([TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT32]))
        drawn.append(TensorProto(name=f"w{number}", data_type=dtype, dims=dims, raw_data=bits.tobytes()))
    return drawn


@given(constants(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_one_remains_of_each_type_shape_and_bits(weights: list[TensorProto], collide: bool) -> None:
    """Even where all checksums are the same."""
    nodes = [helper.make_node("Identity", [one.name], [f"y{one.name}"]) for one in weights]
    outputs = [helper.make_tensor_value_info(f"y{one.name}", one.data_type, list(one.dims)) for one in weights]
    graph = helper.make_graph(nodes, "g", [], outputs, weights)
    model = lower(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    before = [(one.data_type, tuple(one.dims), one.raw_data) for one in weights]
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            patch.setattr(content, "_checksum", lambda tensor: 0)
        PassManager("dedupe").run(model)
    assert len(model.graph.initializers) == len(set(before))
    left = [node.inputs[0].const for node in model.graph.nodes]
    assert [(one.dtype, one.shape, one.numpy().tobytes()) for one in left] == before
