"""Where something can be added to every output channel of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....ir import Node, Tensor, Value, tensor
from ....ir.analysis.linear import linear_of
from ....ir.dtypes import numpy_dtype
from ...manager.context import Context
from ...manager.weights import Outcome
from .shift import Float64

SLOT = 2
"""The bias of Conv and Gemm."""


@dataclass(frozen=True)
class Place:
    """A layer by its node: `channels` of its output along `axis`, the element type, and the `factor` of the product."""

    node: Node
    axis: int
    channels: int
    dtype: int
    factor: float = 1.0


def place_of(node: Node, rank: int | None) -> Place | None:
    """The place of a layer with a constant weight and, if it has a bias, one along its channels; else None.

    `rank` is that of its output.
    """
    layer = linear_of(node)
    if layer is None or layer.weight.const is None or layer.slot != 1 or rank is None:
        return None
    dtype = layer.weight.const.dtype
    match node.op_type:
        case "MatMul":
            return Place(node, rank - 1, layer.n, dtype)
        case "Conv" | "Gemm":
            channels = layer.groups * layer.n
        case _:
            return None
    bias = node.input(SLOT)
    if bias is not None and not _is_along(bias.const, channels):
        return None
    return Place(node, 1, channels, dtype, float(node.attr("alpha", 1.0)) if node.op_type == "Gemm" else 1.0)


def _is_along(bias: Tensor | None, channels: int) -> bool:
    return bias is not None and bias.size == channels == bias.shape[-1]


def add(ctx: Context, place: Place, amounts: Float64) -> Value:
    """Add to the bias, to that of an Add behind a MatMul, or by a new Add; returns the value that has moved."""
    node = place.node
    if node.op_type == "MatMul":
        behind = add_behind(place)
        if behind is None:
            return _new_add(ctx, place, amounts)
        adder, slot = behind
        _swap(ctx, adder, slot, amounts)
        return adder.outputs[0]
    bias = node.input(SLOT)
    beta = float(node.attr("beta", 1.0)) if node.op_type == "Gemm" else 1.0
    if bias is not None and beta:
        _swap(ctx, node, SLOT, amounts / beta)
        return node.outputs[0]
    if not beta:
        ctx.rewriter.set_attribute(node, "beta", 1.0)
    return _give_bias(ctx, place, amounts)


def _swap(ctx: Context, node: Node, slot: int, amounts: Float64) -> None:
    """Let a node read another constant at a slot; who else read the one before keeps it."""
    value, graph = node.input(slot), node.graph
    assert value is not None
    assert value.const is not None
    assert graph is not None
    old = value.const
    numbers = old.numpy().astype(np.float64)
    made = tensor(numbers + amounts.reshape(numbers.shape), old.dtype)
    as_node = value.producer is not None
    ctx.rewriter.set_input(node, slot, ctx.rewriter.constant(graph, made, value.name, before=node, as_node=as_node))
    if value.is_dead:
        ctx.weights.became(old, [made], Outcome.FOLDED)


def _give_bias(ctx: Context, place: Place, amounts: Float64) -> Value:
    """A bias for a layer that has none: a node with one more input takes its place where the slot is missing."""
    node, graph = place.node, place.node.graph
    assert graph is not None
    made = ctx.rewriter.constant(graph, tensor(amounts, place.dtype), f"{node.outputs[0].name}_bias", before=node)
    if len(node.inputs) > SLOT:
        ctx.rewriter.set_input(node, SLOT, made)
        return node.outputs[0]
    new = ctx.rewriter.insert(
        node.op_type, [*node.inputs, made], node.attributes, before=node, outputs=[node.outputs[0].name], origin=[node]
    )
    ctx.rewriter.take_over(node.outputs[0], new.outputs[0])
    ctx.rewriter.erase(node)
    return new.outputs[0]


def add_behind(place: Place) -> tuple[Node, int] | None:
    """The Add that alone reads the output of a MatMul and adds a constant along its channels, and the slot of that."""
    uses = place.node.outputs[0].uses
    user = uses[0].user if len(uses) == 1 else None
    if not isinstance(user, Node) or not user.is_op("Add"):
        return None
    other = user.input(1 - uses[0].slot)
    fits = other is not None and _is_along(other.const, place.channels) and user.graph is place.node.graph
    return (user, 1 - uses[0].slot) if fits else None


def _new_add(ctx: Context, place: Place, amounts: Float64) -> Value:
    node, y = place.node, place.node.outputs[0]
    graph = node.graph
    assert graph is not None
    constant = ctx.rewriter.constant(graph, tensor(amounts, place.dtype), f"{y.name}_bias", before=node)
    nodes = list(graph.nodes)
    after = nodes[nodes.index(node) + 1 :]
    adder = ctx.rewriter.insert(
        "Add", [constant, constant], before=after[0] if after else None, graph=graph, outputs=[y.name], origin=[node]
    )
    ctx.rewriter.take_over(y, adder.outputs[0])
    ctx.rewriter.set_input(adder, 0, y)
    return adder.outputs[0]


def cast_of(place: Place, amounts: Float64) -> Float64:
    """The amounts as the element type of the layer holds them."""
    return amounts.astype(numpy_dtype(place.dtype)).astype(np.float64)
