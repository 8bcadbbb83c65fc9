"""Copies: equal, apart, and without a copy of any weight."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from onnx import ModelProto

from onnxpress.ir import Model, Rewriter, clone_model, emit, lower, tensor, verify
from onnxpress.specs import model_of, models


def data_of(model: Model) -> bytes:
    return emit(model).SerializeToString(deterministic=True)


def edit(model: Model) -> None:
    """Change everything that there is."""
    rewriter = Rewriter(model)
    for graph in list(model.walk_graphs()):
        for node in graph.nodes:
            rewriter.set_attribute(node, "extra", 1)
            for slot in range(len(node.inputs)):
                rewriter.set_input(node, slot, None)
        for value in graph.initializers:
            rewriter.set_tensor(value, tensor(np.float32([3])))
        rewriter.constant(graph, tensor(np.float32([4])), "added")
    rewriter.set_ir_version(9)
    rewriter.set_opset(model, "added", 1)


@given(models(impure=True))
def test_a_copy_is_equal_and_apart(proto: ModelProto) -> None:
    model = lower(proto)
    copy = clone_model(model)
    verify(copy)
    verify(model)
    assert data_of(copy) == data_of(model)
    edit(copy)
    verify(model)
    assert data_of(model) == proto.SerializeToString(deterministic=True)
    changed = data_of(copy)
    edit(model)
    assert data_of(copy) == changed


@given(models(impure=True))
def test_a_copy_of_an_edited_model_is_equal(proto: ModelProto) -> None:
    model = lower(proto)
    edit(model)
    copy = clone_model(model)
    verify(copy)
    assert data_of(copy) == data_of(model)
    mine = {value for graph in model.walk_graphs() for value in graph.values()}
    assert not any(value in mine for graph in copy.walk_graphs() for value in graph.values())


@given(models())
def test_tensors_are_shared(proto: ModelProto) -> None:
    model = lower(proto)
    copy = clone_model(model)
    for graph, other in zip(model.walk_graphs(), copy.walk_graphs(), strict=True):
        for value, twin in zip(graph.initializers, other.initializers, strict=True):
            assert twin.tensor is value.tensor


def test_pins_and_values_of_outer_graphs_are_copied() -> None:
    proto = model_of("""
        g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
            y = If(c) <then_branch = t () => (float[2] p) { p = Add(x, w) },
                       else_branch = e () => (float[2] q) { q = Neg(x) }>
        }""")
    proto.training_info.add().update_binding.add(key="w", value="w")
    model = lower(proto)
    copy = clone_model(model)
    (weight,) = copy.graph.initializers
    assert weight.pinned == model.graph.initializers[0].pinned != ""
    (branch,) = copy.graph.nodes
    (add,) = branch.bodies[0].nodes
    assert add.inputs == (copy.graph.inputs[1], weight)
    assert [use.user for use in weight.uses] == [add]
