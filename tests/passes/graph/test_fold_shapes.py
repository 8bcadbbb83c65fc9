"""`fold` on computed shapes: what is static is stored, what is dynamic stays so, at every size."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, checker

from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import emit, lower
from onnxpress.ir.analysis.facts import find_facts
from onnxpress.ir.analysis.shapes import infer_shapes
from onnxpress.ir.backend import Session
from onnxpress.ir.proto import file_size
from onnxpress.passes.manager.manager import PassManager
from onnxpress.specs import check_golden, model_of
from onnxpress.specs.bits import differing

from .shape_chains import shape_chains

SIZES = [(2, 3, 4), (1, 1, 1), (0, 3, 1), (3, 0, 2), (2, 3, 6), (0, 0, 0)]


def folded(proto: ModelProto, pipeline: str = "fold") -> ModelProto:
    model = lower(proto)
    PassManager(pipeline, backend=OrtBackend()).run(model)
    return emit(model)


def ops(proto: ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def feed(a: int, b: int, c: int) -> dict[str, Any]:
    rng = np.random.default_rng(a + 7 * b)
    return {
        "x": rng.standard_normal((a, b, 6)).astype(np.float32),
        "z": rng.standard_normal((b, c)).astype(np.float32),
    }


@pytest.mark.parametrize("backend", [OrtBackend(), ReferenceBackend()], ids=lambda backend: type(backend).__name__)
@given(proto=shape_chains())
def test_chains_keep_their_bits_at_every_size(backend: OrtBackend, proto: ModelProto) -> None:
    try:
        old = backend.prepare(lower(proto))
    except ExecutionError:
        return  # it sees that the model fails whatever it is fed
    expected = {sizes: outputs for sizes in SIZES if (outputs := outputs_of(old, sizes)) is not None}
    if not expected:
        return  # it fails whatever it is fed: then so may the result
    for pipeline in ("fold", "simplify"):
        after = folded(proto, pipeline)
        checker.check_model(after, full_check=True)
        assert file_size(lower(after)) <= file_size(lower(proto))
        new = backend.prepare(lower(after))
        for sizes, outputs in expected.items():
            assert not differing(outputs, new.run(feed(*sizes))), (pipeline, sizes)


def outputs_of(session: Session, sizes: tuple[int, int, int]) -> Mapping[str, Any] | None:
    try:
        return session.run(feed(*sizes))
    except ExecutionError:
        return None


@given(shape_chains(), st.sampled_from(SIZES))
def test_facts_hold_in_every_run(proto: ModelProto, sizes: tuple[int, int, int]) -> None:
    """Every size and element that facts state is that of the run; unknown sizes are those of the value they name."""
    model = lower(proto)
    facts = find_facts(model, infer_shapes(model))
    values = [value for value in model.graph.values() if not value.is_initializer]
    tapped = [value for value in values if value.producer is not None and not value.producer.is_op("If")]
    session = OrtBackend().prepare(model, outputs=[value.name for value in tapped])
    try:
        found = {**session.run(feed(*sizes)), **feed(*sizes)}
    except ExecutionError:
        return
    known = {atom: found[key[0].name].shape[key[1]] for atom, key in facts.atoms.keys().items() if key[0].name in found}
    for value in tapped:
        shape, actual = facts.shape(value), found[value.name]
        if shape is not None:
            assert len(shape) == actual.ndim
            for size, number in zip(shape, actual.shape, strict=True):
                assert facts.atoms.value(size, known) in (None, number), (value, shape, actual.shape)
                assert number or not facts.is_positive(size), (value, shape, actual.shape)
        elements = facts.elements(value)
        if elements is not None:
            assert elements.shape == actual.shape
            for item, number in zip(elements.flat, actual.flat, strict=True):
                assert item is None or facts.atoms.value(item, known) in (None, number), (value, elements, actual)


# ---- what it does


def test_a_reshape_to_sizes_of_its_input_gets_a_constant_target() -> None:
    before = """
        g (float[B,S,24] x) => (float[B,S,4,6] y)
        <int64 zero = {0}, int64 one = {1}, int64[1] at = {0}, int64[2] rest = {4,6}> {
            s = Shape(x)
            b0 = Gather(s, zero)
            b = Unsqueeze(b0, at)
            t0 = Gather(s, one)
            t = Unsqueeze(t0, at)
            target = Concat<axis = 0>(b, t, rest)
            y = Reshape(x, target)
        }"""
    after = """
        g (float[B,S,24] x) => (float[B,S,4,6] y) <int64[4] target = {0,0,4,6}> {
            y = Reshape(x, target)
        }"""
    check_golden("fold", model_of(before), model_of(after))


def test_one_size_is_inferred_where_the_others_are_numbers() -> None:
    before = """
        g (float[B,S,24] x) => (float[N,24] y)
        <int64 zero = {0}, int64 one = {1}, int64[1] at = {0}, int64[1] rest = {24}> {
            s = Shape(x)
            b0 = Gather(s, zero)
            t0 = Gather(s, one)
            n0 = Mul(b0, t0)
            n = Unsqueeze(n0, at)
            target = Concat<axis = 0>(n, rest)
            y = Reshape(x, target)
        }"""
    after = "g (float[B,S,24] x) => (float[N,24] y) <int64[2] target = {-1,24}> { y = Reshape(x, target) }"
    check_golden("fold", model_of(before), model_of(after))


def test_static_sizes_are_stored_and_an_expand_to_the_same_shape_goes() -> None:
    before = """
        g (float[N,3] x, float[3] w) => (float[N,3] y) <int64[1] one = {1}> {
            s = Shape(x)
            c = Gather<axis = 0>(s, one)
            e = Expand(w, c)
            y = Add(x, e)
        }"""
    after = "g (float[N,3] x, float[3] w) => (float[N,3] y) { y = Add(x, w) }"
    check_golden("fold", model_of(before), model_of(after))


def test_a_slice_of_everything_goes() -> None:
    before = """
        g (float[N,3] x) => (float[N,3] y) <int64[1] zero = {0}, int64[1] all = {9223372036854775807}> {
            s = Slice(x, zero, all)
            y = Neg(s)
        }"""
    check_golden("fold", model_of(before), model_of("g (float[N,3] x) => (float[N,3] y) { y = Neg(x) }"))


def test_what_a_matmul_forces_is_known_before_it() -> None:
    """The batch of m is that of x wherever the MatMul behind the Reshape succeeds."""
    before = """
        g (float[B,S,4] x, float[C,1,1] m, float[4,4] w) => (float[B,S,4] y)
        <int64 zero = {0}, int64 one = {1}, int64[1] at = {0}, int64[1] open = {-1}, int64[3] split = {0,0,4}> {
            a = Mul(x, m)
            h = Reshape(a, split)
            s = Shape(x)
            b0 = Gather(s, zero)
            b = Unsqueeze(b0, at)
            t0 = Gather(s, one)
            t = Unsqueeze(t0, at)
            target = Concat<axis = 0>(b, t, open)
            r = Reshape(h, target)
            y = MatMul(r, w)
        }"""
    after = folded(model_of(before))
    assert ops(after) == ["Mul", "MatMul"]


# ---- what it leaves

KEPT = {
    "a size that could be 0 beside an inferred one": """
        g (float[B,H,W,8] x) => (float[N,B,8] y)
        <int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2}, int64[1] at = {0}, int64[1] c = {8}> {
            s = Shape(x)
            b0 = Gather(s, i0)
            b = Unsqueeze(b0, at)
            h = Gather(s, i1)
            w = Gather(s, i2)
            n0 = Mul(h, w)
            n = Unsqueeze(n0, at)
            target = Concat<axis = 0>(n, b, c)
            y = Reshape(x, target)
        }""",
    "sizes of one name in two inputs": """
        g (float[N,3] x, float[N,3] z) => (float[N,3] y) {
            s = Shape(z)
            y = Expand(x, s)
        }""",
    "sizes of one name in one input": """
        g (float[N,N] x) => (bool[1] y) <int64[1] i0 = {0}, int64[1] i1 = {1}> {
            s = Shape(x)
            a = Gather(s, i0)
            b = Gather(s, i1)
            y = Equal(a, b)
        }""",
    "a slice that might cut": """
        g (float[N,3] x) => (float[M,3] y) <int64[1] zero = {0}, int64[1] end = {5}> {
            t = Slice(x, zero, end)
            y = Neg(t)
        }""",
    "half precision": """
        g (float16[N,3] x) => (float16[N,3] y) <int64[1] zero = {0}, int64[1] all = {9223372036854775807}> {
            a = Add(x, x)
            s = Slice(a, zero, all)
            y = Add(s, s)
        }""",
}


@pytest.mark.parametrize("what", KEPT)
def test_nothing_is_proven(what: str) -> None:
    before = model_of(KEPT[what])
    assert ops(folded(before)) == ops(before)


def test_a_declared_shape_of_an_intermediate_value_is_a_claim() -> None:
    before = model_of("""
        g (float[N] x) => (int64[1] y) <float[3] a> {
            a = Abs(x)
            y = Shape(a)
        }""")
    assert ops(folded(before)) == ["Abs", "Shape"]
    data = {"x": np.zeros(5, np.float32)}
    assert OrtBackend().prepare(lower(folded(before))).run(data)["y"].tolist() == [5]


def test_a_target_that_others_read_stays_for_them() -> None:
    before = model_of("""
        g (float[B,6] x) => (float[B,2,3] y, int64[3] target) <int64[1] zero = {0}, int64[2] rest = {2,3}> {
            s = Shape(x)
            b = Gather(s, zero)
            target = Concat<axis = 0>(b, rest)
            y = Reshape(x, target)
        }""")
    after = folded(before)
    assert file_size(lower(after)) <= file_size(lower(before))
    for batch in (0, 1, 4):
        data = {"x": np.zeros((batch, 6), np.float32)}
        assert OrtBackend().prepare(lower(after)).run(data)["target"].tolist() == [batch, 2, 3]


def test_sizes_named_by_an_input_are_tried_apart() -> None:
    """x and z share the name b for a size; nobody checks it, so feeds may break it."""
    text = """
        g (float[b,1] x, float[b,1] z) => (float[c,1] y) {
            s = Shape(z)
            e = Expand(x, s)
            y = Neg(e)
        }"""
    after = folded(model_of(text))
    for m, n in itertools.product((1, 3), (1, 3)):
        data = {"x": np.ones((m, 1), np.float32), "z": np.ones((n, 1), np.float32)}
        assert OrtBackend().prepare(lower(after)).run(data)["y"].shape == (max(m, n), 1)
