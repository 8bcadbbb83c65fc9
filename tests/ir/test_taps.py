"""Taps: inner values come out, of bodies too, and the model computes what it did."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import emit, lower, verify
from onnxpress.ir.analysis.shapes import infer_shapes
from onnxpress.ir.taps import tapped
from onnxpress.specs import feeds, model_of, models
from onnxpress.specs.bits import differing

HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
BRANCHES = """
    g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <
            then_branch = t () => (float[2] a) { n = Neg (x) a = Exp (n) },
            else_branch = e () => (float[2] b) {
                inner = Not (c)
                b = If (inner) <
                    then_branch = tt () => (float[2] aa) { deep = Abs (x) aa = Sqrt (deep) },
                    else_branch = ee () => (float[2] bb) { bb = Identity (x) }
                >
            }
        >
    }"""
LOOP = """
    g (int64 trips, bool go, float[2] x) => (float[2] y) {
        y = Loop (trips, go, x) <body = b (int64 i, bool in_go, float[2] state) => (bool out_go, float[2] next) {
            out_go = Identity (in_go)
            twice = Add (state, state)
            next = Neg (twice)
        }>
    }"""


def read(text: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All inner values by name."""
    model = lower(model_of(text))
    inner = [v for graph in model.walk_graphs() for node in graph.nodes for v in node.outputs]
    copy, names = tapped(model, inner, infer_shapes(model))
    verify(copy)
    found = OrtBackend().prepare(copy, outputs=list(names.values())).run(feed)
    return {value.name: found[name] for value, name in names.items()}


def test_values_of_branches_come_out_where_the_branch_is_taken() -> None:
    x = np.array([1, -4], np.float32)
    taken = read(BRANCHES, {"c": np.array(True), "x": x})
    assert np.array_equal(taken["n"], -x)
    assert {name for name, value in taken.items() if not value.size} == {"inner", "b", "deep", "aa", "bb"}
    other = read(BRANCHES, {"c": np.array(False), "x": x})
    assert np.array_equal(other["deep"], [1, 4])
    assert np.array_equal(other["aa"], [1, 2])
    assert not other["n"].size
    assert not other["bb"].size


def test_values_of_a_loop_come_out_stacked() -> None:
    found = read(LOOP, {"trips": np.array(3), "go": np.array(True), "x": np.array([1, 2], np.float32)})
    assert np.array_equal(found["twice"], [[2, 4], [-4, -8], [8, 16]])
    assert np.array_equal(found["y"], [-8, -16])


@given(st.data())
def test_any_model_computes_the_same_with_all_taps(data: st.DataObject) -> None:
    proto = data.draw(models())
    feed = data.draw(feeds(proto, defaults=False))
    model, backend = lower(proto), OrtBackend()
    types = infer_shapes(model)
    # onnxruntime may leave half precision unrounded between two nodes, but not in an output
    assume(not any(types.dtype(v) in HALF for graph in model.walk_graphs() for v in graph.values()))
    try:
        before = backend.prepare(model).run(feed)
    except ExecutionError:
        assume(False)
    inner = [
        v
        for graph in model.graph.walk_graphs()
        for node in graph.nodes
        for v in node.outputs
        if v.name and v.const is None
    ]
    copy, names = tapped(model, inner, types)
    verify(copy)
    assert emit(model) == proto
    assert {v for v in inner if v.graph is model.graph} <= names.keys()
    outputs = [*before, *(name for name in names.values() if name not in before)]
    assert not differing(before, backend.prepare(copy, outputs=outputs).run(feed))
