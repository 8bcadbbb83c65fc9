"""`check_variants` makes the cases that rewrites overlook, and finds those that do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from onnx import ModelProto

from onnxpress.errors import PassError
from onnxpress.ir import Graph, Node, Value, tensor
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.registry import register_pass
from onnxpress.specs import check_variants, model_of
from onnxpress.specs.negatives import variants
from onnxpress.specs.validity import fault_of

NEGATIONS = "g (float[2] x) => (float[2] y) { a = Neg(x) y = Neg(a) }"
TWICE = "g (float[2, 3] x) => (float[2, 3] y) <float[3] w = {1, 2, 3}> { a = Mul(x, w) y = Relu(a) }"


def pairs(graph: Graph) -> list[tuple[Node, Node]]:
    """Each Neg that reads a Neg, with the one that it reads."""
    found = [(node, node.inputs[0].producer) for node in graph.nodes if node.is_op("Neg") and node.inputs[0]]
    return [(outer, inner) for outer, inner in found if inner is not None and inner.is_op("Neg")]


def source_of(inner: Node) -> Value:
    source = inner.inputs[0]
    assert source is not None
    return source


def right(graph: Graph, ctx: Context) -> None:
    for outer, inner in pairs(graph):
        ctx.rewriter.replace(outer.outputs[0], source_of(inner))


def deletes_the_inner_one(graph: Graph, ctx: Context) -> None:
    for outer, inner in pairs(graph):
        readers = [use for use in inner.outputs[0].uses if use.user is not outer]
        right(graph, ctx)
        for use in readers:
            if isinstance(use.user, Node):
                ctx.rewriter.set_input(use.user, use.slot, source_of(inner))


def bakes_the_first_size(graph: Graph, ctx: Context) -> None:
    for node in graph.nodes:
        if node.is_op("Relu") and node.graph is graph and not graph.is_function:
            zero = ctx.rewriter.constant(graph, tensor(np.zeros((2, 3), np.float32)), "zero")
            made = ctx.rewriter.insert("Max", [node.inputs[0], zero], before=node)
            ctx.rewriter.replace(node.outputs[0], made.outputs[0])
            ctx.rewriter.erase(node)


def takes_defaults_for_constants(graph: Graph, ctx: Context) -> None:
    for node in graph.nodes:
        weight = node.input(1)
        if node.is_op("Mul") and weight is not None and weight.tensor is not None:
            name = ctx.rewriter.constant(graph, tensor(weight.tensor.numpy() * 1), "copy")
            ctx.rewriter.set_input(node, 1, name)


def test_the_variants_are_valid_and_each_has_its_difference() -> None:
    model = model_of(TWICE)
    made = {variant.what: variant.model for variant in variants(model)}
    assert made.keys() == {
        "a has another reader",
        "a is an output",
        "a is captured by a body",
        "all sizes are open",
        "w can be overridden",
        "all lies in a body",
        "all lies in a function",
        "the opset is 7",
        "the opset is 13",
    }
    assert not any(map(fault_of, made.values()))
    assert all(variant != model for variant in made.values())


def run(rewrite: Callable[[Graph, Context], None], model: ModelProto) -> None:
    @dataclass(frozen=True)
    class Trial(Pass):
        """Do what the test says."""

        name: ClassVar[str] = f"negatives-{rewrite.__name__}".replace("_", "-")
        effect: ClassVar[Effect] = Effect.EXACT
        scope: ClassVar = "graph"

        def run(self, graph: Graph, ctx: Context) -> None:
            rewrite(graph, ctx)

    register_pass(Trial)
    check_variants(Trial.name, model)


def test_a_right_rewrite_passes() -> None:
    run(right, model_of(NEGATIONS))


@pytest.mark.parametrize(
    ("rewrite", "text", "words"),
    [
        (deletes_the_inner_one, NEGATIONS, "a has another reader"),
        (bakes_the_first_size, TWICE, "all sizes are open"),
        (takes_defaults_for_constants, TWICE, "w can be overridden"),
    ],
)
def test_a_wrong_rewrite_is_found_where_it_is_wrong(
    rewrite: Callable[[Graph, Context], None], text: str, words: str
) -> None:
    with pytest.raises((AssertionError, PassError), match=words):
        run(rewrite, model_of(text))
