"""What is kept through changes says the same as what is made anew: sizes, shapes, costs, what tampering shows by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, parser, shape_inference

from onnxpress.backends import default_backend
from onnxpress.ir import Edit, Graph, Model, Value, emit, lower, strip_weights, verify
from onnxpress.ir.analysis.cache import Analyses
from onnxpress.ir.analysis.cost import CostMeter, cost
from onnxpress.ir.analysis.shapes import Shapes, infer_shapes
from onnxpress.ir.proto import FileMeter, file_size, outline
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.tamper import Snapshot
from onnxpress.passes.manager.text import parse_pipeline
from onnxpress.specs import models

from .editing import Editor

ANY_MODEL = models(impure=True)


@given(st.data(), ANY_MODEL)
def test_what_is_kept_through_edits_is_what_a_fresh_look_finds(data: st.DataObject, proto: ModelProto) -> None:
    model = lower(proto)
    editor = Editor(data.draw, model)
    files, costs, snapshot = FileMeter(model), CostMeter(model), Snapshot(model)
    for _ in range(data.draw(st.integers(1, 4))):
        edits = some_edits(data.draw, editor)
        verify(model)
        files.update(edits)
        costs.update(edits, same_values=False)
        snapshot = snapshot.check(model, edits)
        assert files.size() == file_size(model) == FileMeter(lower(emit(model))).size() == emit(model).ByteSize()
        assert costs.cost() == cost(model) == cost(lower(emit(model)))
        assert vars(snapshot) == vars(Snapshot(model))


def some_edits(draw: Callable[..., Any], editor: Editor) -> list[Edit]:
    """Make a few edits, some of which are taken back; returns those that stay."""
    start = editor.rewriter.mark()
    for _ in range(draw(st.integers(0, 3))):
        editor.edit()
        mark = editor.rewriter.mark()
        for _ in range(draw(st.integers(0, 2))):
            editor.edit()
        if draw(st.booleans()):
            editor.rewriter.rollback(mark)
    return editor.rewriter.journal[start:]


@given(st.data(), ANY_MODEL)
def test_shapes_are_kept_only_where_they_are_those_of_the_changed_model(data: st.DataObject, proto: ModelProto) -> None:
    model = lower(proto)
    editor, analyses = Editor(data.draw, model), Analyses(model)
    for _ in range(data.draw(st.integers(1, 4))):
        kept, anew = analyses.shapes(), infer_shapes(model)
        for graph in model.walk_graphs():
            for value in graph.values():
                assert ranks_and_numbers(kept, value) == ranks_and_numbers(anew, value)
        some_edits(data.draw, editor)


@dataclass(frozen=True)
class Look(Pass):
    """Compare the types that are kept with those that are inferred anew."""

    name: ClassVar[str] = "look"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        """A kept type is asked for before each change, and compared after it."""
        kept, anew = ctx.shapes(), infer_shapes(ctx.model)
        for value in graph.values():
            assert ranks_and_numbers(kept, value) == ranks_and_numbers(anew, value), value


@given(ANY_MODEL)
def test_passes_keep_types_only_where_they_are_those_of_the_changed_model(proto: ModelProto) -> None:
    passes = parse_pipeline("fold,dedupe,canonicalize,cse,dedupe,canonicalize")
    PassManager([Look(), *(one for pass_ in passes for one in (pass_, Look()))], default_backend()).run(lower(proto))


SHARED = """<ir_version: 8, opset_import: ["" : 17]> g ({kind}[N, 3] x) => ({kind}[N, 3] y)
    <{kind}[3] a = {{1, 2, 3}}, {kind}[3] b = {{1, 2, 3}}, {kind}[3] one = {{1, 1, 1}}>
    {{ p = Add (x, a)  q = Mul (p, one)  y = Add (q, b) }}"""


@pytest.mark.parametrize(
    ("kind", "passes", "kept"),
    [
        ("float", "dedupe", True),
        ("int64", "dedupe", True),
        ("float", "canonicalize", True),
        ("int64", "canonicalize", False),  # sizes may come of these, which inference follows
    ],
)
def test_equal_constants_and_floats_of_one_type_are_exchanged_without_new_inference(
    kind: str, passes: str, kept: bool
) -> None:
    model = lower(parser.parse_model(SHARED.format(kind=kind)))
    types, version = model.types_version, model.version
    assert PassManager(passes).run(model).changed
    assert (model.version > version, model.types_version == types) == (True, kept)


def ranks_and_numbers(shapes: Shapes, value: Value) -> tuple[int | None, list[bool | int] | None]:
    """What does not depend on the names that inference invents for sizes."""
    shape = shapes.shape(value)
    return shapes.dtype(value), None if shape is None else [isinstance(dim, str) or dim for dim in shape]


@given(st.data(), ANY_MODEL)
def test_the_outline_says_what_the_message_without_its_claims_says(data: st.DataObject, proto: ModelProto) -> None:
    model = lower(proto)
    editor = Editor(data.draw, model)
    for _ in range(data.draw(st.integers(1, 3))):
        assert inferred(ModelProto.FromString(outline(model))) == inferred(without_claims(model))
        editor.edit()


@given(ANY_MODEL)
def test_inferred_types_belong_to_the_values_of_their_graph(proto: ModelProto) -> None:
    model = lower(proto)
    shapes = infer_shapes(model)
    message, graphs = inferred(without_claims(model))
    assert bool(shapes.problem) == bool(message)
    for graph, types in zip(model.graph.walk_graphs(), graphs, strict=True):
        for value in graph.values():
            found = shapes.type(value)
            assert (None if found is None else found.SerializeToString()) == types.get(value.name), value


Types = dict[str, bytes]


def inferred(proto: ModelProto) -> tuple[str, list[Types]]:
    """The words of inference if it fails, and the types by name in every graph, outermost first."""
    try:
        proto, words = shape_inference.infer_shapes(proto, data_prop=True), ""
    except Exception as error:  # bare RuntimeErrors of many kinds
        words = str(error)
    return words, [types_in(graph) for graph in graphs_of(proto.graph)]


def types_in(graph: GraphProto) -> Types:
    infos = (*graph.output, *graph.value_info, *graph.input)
    return {info.name: info.type.SerializeToString() for info in infos if info.type.WhichOneof("value")}


def graphs_of(graph: GraphProto) -> list[GraphProto]:
    found = [graph]
    for node in graph.node:
        for attribute in node.attribute:
            bodies = [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs
            found += [inner for body in bodies for inner in graphs_of(body)]
    return found


def without_claims(model: Model) -> ModelProto:
    """The whole message, stripped of weights and then of what it claims."""
    proto = emit(model, strip_weights())
    for info in proto.graph.input:
        for dim in info.type.tensor_type.shape.dim if info.type.HasField("tensor_type") else ():
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                dim.ClearField("dim_value")
    for graph in graphs_of(proto.graph):
        del graph.value_info[:]
        for sparse in graph.sparse_initializer:
            graph.initializer.append(placeholder(sparse.values, sparse.dims))
        del graph.sparse_initializer[:]
        for info in graph.output:
            if info.type.HasField("tensor_type"):
                info.type.tensor_type.ClearField("shape")
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            if attribute.name == "sparse_value":
                dense = placeholder(attribute.sparse_tensor.values, attribute.sparse_tensor.dims)
                attribute.CopyFrom(AttributeProto(name="value", type=AttributeProto.TENSOR, t=dense))
    return proto


def placeholder(values: TensorProto, dims: Any) -> TensorProto:
    return TensorProto(name=values.name, data_type=values.data_type, dims=dims, data_location=TensorProto.EXTERNAL)
