"""Other numbers for layers: in constants, wherever they are kept, and in biases, also where there are none yet."""

from __future__ import annotations

from itertools import dropwhile

import numpy as np
from numpy.typing import NDArray

from ...ir import Node, Rewriter, Tensor, Value, tensor
from ...ir.analysis.linear import Linear
from ..manager.context import Context
from ..manager.weights import Outcome

Float64 = NDArray[np.float64]


def put(rewriter: Rewriter, value: Value, made: Tensor) -> None:
    """Let a constant hold another tensor, wherever it is kept."""
    if value.producer is not None:
        for name in list(value.producer.attributes):
            if name != "value":
                rewriter.set_attribute(value.producer, name, None)
        rewriter.set_attribute(value.producer, "value", made)
    else:
        rewriter.set_tensor(value, made)
    if value.type is not None:
        rewriter.set_info(value, None)


def output_axis(layer: Linear) -> int:
    """The axis of the weight along which its outputs run."""
    match layer.op_type:
        case "Conv":
            return 0
        case "ConvTranspose":
            return 1
        case "MatMul" | "Gemm":
            transposed = layer.node.op_type == "Gemm" and bool(layer.node.attr("transB" if layer.slot else "transA", 0))
            return int(transposed != bool(layer.slot))
    return 1


def bias_of(layer: Linear) -> Float64 | None:
    """The bias of every output channel, 0 if there is none; None if it is computed or runs along another axis."""
    n = layer.shape[output_axis(layer)] * (layer.groups if layer.op_type == "ConvTranspose" else 1)
    value = None if layer.bias is None else layer.node.input(layer.bias)
    if value is None:
        return np.zeros(n)
    if value.const is None or (layer.op_type == "Gemm" and layer.slot == 0):
        return None
    array = value.const.numpy().astype(np.float64)
    if array.size not in (1, n) or (array.ndim > 1 and array.shape[-1] != array.size):
        return None
    factor = float(layer.node.attr("beta", 1.0)) if layer.op_type == "Gemm" else 1.0
    return np.asarray(factor * np.broadcast_to(array.reshape(-1), (n,)))


def add_to_bias(
    ctx: Context,
    node: Node,
    slot: int | None,
    amounts: Float64,
    form: str = "absorbed",
    outcome: Outcome = Outcome.PRUNED,
) -> Node:
    """In the bias, where the operator has one; else by an Add behind it, which takes the name of its output.

    Returns the node that stands for `node` now.
    """
    graph, weight = node.graph, node.input(1)
    assert graph is not None
    assert weight is not None
    assert weight.const is not None
    dtype = weight.const.numpy().dtype
    as_node = weight.producer is not None
    value = node.input(slot) if slot is not None else None
    if slot is not None:
        beta = float(node.attr("beta", 1.0)) if node.op_type == "Gemm" else 1.0
        if value is None or not beta:
            if node.op_type == "Gemm":
                ctx.rewriter.set_attribute(node, "beta", 1.0)
            made, name = tensor(amounts.astype(dtype)), f"{weight.name}_bias"
        else:
            assert value.const is not None
            held = value.const.numpy()
            made, name = tensor((held.astype(np.float64) + amounts / beta).astype(dtype)), value.name
            ctx.weights.became(value.const, [made], outcome, form=form)
        return _set_input(ctx, node, slot, ctx.rewriter.constant(graph, made, name, before=node, as_node=as_node))
    made = tensor(amounts.astype(dtype))
    constant = ctx.rewriter.constant(graph, made, f"{weight.name}_bias", before=node, as_node=as_node)
    y = node.outputs[0]
    add = ctx.rewriter.insert(
        "Add", [constant, constant], before=_next(node), graph=graph, outputs=[y.name], origin=[node]
    )
    ctx.rewriter.take_over(y, add.outputs[0])
    ctx.rewriter.set_input(add, 0, y)
    return node


def _set_input(ctx: Context, node: Node, slot: int, value: Value) -> Node:
    if slot < len(node.inputs):
        ctx.rewriter.set_input(node, slot, value)
        return node
    made = ctx.rewriter.insert(
        node.op_type, [*node.inputs, value], node.attributes, before=node, outputs=[y.name for y in node.outputs],
        origin=[node],
    )  # fmt: skip
    ctx.rewriter.take_over(node.outputs[0], made.outputs[0])
    ctx.rewriter.erase(node)
    return made


def _next(node: Node) -> Node | None:
    """The node that comes after this one in its graph."""
    assert node.graph is not None
    nodes = dropwhile(lambda each: each is not node, node.graph.nodes)
    next(nodes)
    return next(nodes, None)
