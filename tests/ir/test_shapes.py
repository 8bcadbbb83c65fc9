"""Inferred shapes: what they say is true of every run, and no claim of the file is believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import SparseTensor, Value, lower, tensor
from onnxpress.ir.analysis.shapes import Shapes, infer_shapes
from onnxpress.ir.dtypes import onnx_dtype
from onnxpress.specs import feeds, model_of, models


def shapes_of(proto: ModelProto, **pins: tuple[int, ...]) -> dict[str, tuple[int | str | None, ...] | None]:
    model = lower(proto)
    shapes = infer_shapes(model, pins)
    return {value.name: shapes.shape(value) for graph in model.walk_graphs() for value in graph.values()}


@given(st.data())
def test_what_is_inferred_is_true_of_a_run(data: st.DataObject) -> None:
    proto = data.draw(models())
    feed = data.draw(feeds(proto, defaults=False))
    model = lower(proto)
    shapes = infer_shapes(model)
    values = [value for value in model.graph.values() if value.name and is_tensor(value, shapes)]
    try:
        found = OrtBackend().prepare(model, outputs=[value.name for value in values]).run(feed)
    except ExecutionError:
        assume(False)
    sizes: dict[str, int] = {}
    for value in values:
        agrees(value, shapes, found[value.name], sizes)


def is_tensor(value: Value, shapes: Shapes) -> bool:
    """Whether it is a tensor when it is asked for; sparse ones come out in a form of their own."""
    type_ = shapes.type(value)
    return type_ is not None and type_.HasField("tensor_type") and not isinstance(value.const, SparseTensor)


def agrees(value: Value, shapes: Shapes, result: Any, sizes: dict[str, int]) -> None:
    array = np.asarray(result)
    assert shapes.dtype(value) in (None, onnx_dtype(array.dtype)), value
    shape = shapes.shape(value)
    if shape is None:
        return
    assert len(shape) == array.ndim, value
    if not array.size:  # of a loop that takes no turn, onnxruntime does not know the other dimensions
        return
    for dim, size in zip(shape, array.shape, strict=True):
        expected = sizes.setdefault(dim, size) if isinstance(dim, str) else size if dim is None else dim
        assert expected == size, (value, shape, array.shape)
    if shapes.static_shape(value) is not None and array.dtype != object:
        assert shapes.nbytes(value) == tensor(array).nbytes


def test_claims_are_not_believed() -> None:
    proto = model_of("g (float[2, 3] x) => (float[7, 7] y) <float[9] a> { a = Neg(x) y = Abs(a) }")
    assert [info.name for info in proto.graph.value_info] == ["a"]
    assert shapes_of(proto) == {"x": (2, 3), "a": (2, 3), "y": (2, 3)}


def test_shapes_follow_from_computed_sizes() -> None:
    proto = model_of("""
        g (float[2, 3, 4] x) => (float[n, m] y) <int64[1] rest = {-1}> {
            sizes = Shape <start = 0, end = 1> (x)
            target = Concat <axis = 0> (sizes, rest)
            y = Reshape(x, target)
        }""")
    assert shapes_of(proto)["y"] == (2, 12)


def test_a_symbol_goes_through_and_a_pin_replaces_it() -> None:
    proto = model_of("g (float[n, 3] x) => (float[n, 3] y) { y = Neg(x) }")
    assert shapes_of(proto)["y"] == ("n", 3)
    assert shapes_of(proto, x=(5, 3))["y"] == (5, 3)


@pytest.mark.parametrize("dim", ["0", "-1"])
def test_an_impossible_dimension_of_an_input_is_an_unknown_one(dim: str) -> None:
    proto = model_of("g (float[7, 3] x) => (float[n, 3] y) { y = Neg(x) }")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = int(dim)
    rows, columns = shapes_of(proto)["y"] or ()
    assert not isinstance(rows, int)
    assert columns == 3


def test_bodies_are_inferred_and_functions_are_entered() -> None:
    proto = model_of("""
        g (bool c, float[2, 3] x) => (float[n] y) {
            y = If(c) <then_branch = t () => (float[n] p) { s = Neg(x) p = Flatten(s) },
                       else_branch = e () => (float[n] q) { q = local.f(x) }>
        }
        <domain: "local", opset_import: ["" : 17]> f (u) => (v) { v = Transpose <perm = [1, 0]> (u) }""")
    shapes = shapes_of(proto)
    assert (shapes["s"], shapes["p"], shapes["q"]) == ((2, 3), (2, 3), (3, 2))


def test_a_model_that_cannot_be_inferred_says_so_and_keeps_what_its_weights_say() -> None:
    model = lower(model_of("g (float[2] x) => (float[2] y) <float[4] w = {1, 2, 3, 4}> { y = Neg(x) }"))
    model.source.graph.node.add(op_type="Unknown", domain="nowhere")
    model._opset.clear()
    shapes = infer_shapes(model)
    assert shapes.problem.startswith("onnx shape inference failed: ")
    (weight,) = model.graph.initializers
    assert shapes.static_shape(weight) == (4,)
    assert shapes.nbytes(weight) == 16


@pytest.mark.parametrize(
    ("dtype", "dims", "nbytes"),
    [
        (TensorProto.INT4, [3], 2),
        (TensorProto.FLOAT16, [3], 6),
        (TensorProto.BOOL, [], 1),
        (TensorProto.STRING, [3], None),
        (TensorProto.STRING, [0], 0),
        (TensorProto.FLOAT, ["n"], None),
    ],
)
def test_bytes_are_those_of_a_file(dtype: int, dims: list[int | str], nbytes: int | None) -> None:
    info = helper.make_tensor_value_info("x", dtype, dims)
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [info], [info])
    graph.output[0].name = "y"
    if dims == [0]:  # a graph input of no elements is taken for one of unknown size, so let it be a constant
        graph.initializer.append(helper.make_tensor("x", dtype, dims, []))
        del graph.input[:]
    model = lower(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    (node,) = model.graph.nodes
    assert infer_shapes(model).nbytes(node.outputs[0]) == nbytes
