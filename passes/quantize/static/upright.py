"""Weights behind Transpose, turned: products that read Transpose(w) read a constant.

Nobody else may read w or what is turned: a table that is tied to a product stays one weight, which is stored once.
"""

from __future__ import annotations

from functools import partial

from ....ir import DerivedTensor, Node, Value
from ...calibrate.ranges import Array
from ...manager.context import Context
from ...manager.weights import Outcome

PRODUCTS = ("Gemm", "MatMul")


def turn_weights(ctx: Context) -> None:
    """Let products read constants instead of Transpose of constants."""
    for graph in ctx.model.graph.walk_graphs():
        for node in list(graph.nodes):
            source = node.input(0) if node.is_op("Transpose") else None
            if source is not None and _is_weight_of_products(source, node):
                _turn(ctx, source, node)


def _is_weight_of_products(source: Value, node: Node) -> bool:
    """Whether `source` is a constant of `node` alone, whose result products alone read, as their second operand."""
    uses = node.outputs[0].uses
    alone = source.const is not None and not source.is_input and len(source.uses) == 1
    return alone and all(isinstance(use.user, Node) and use.user.is_op(*PRODUCTS) and use.slot == 1 for use in uses)


def _turn(ctx: Context, source: Value, node: Node) -> None:
    old = source.const
    assert old is not None
    perm = node.attr("perm", None) or tuple(reversed(range(len(old.shape))))
    compute = partial(_transposed, perm=tuple(perm))
    shape = tuple(old.shape[axis] for axis in perm)
    made = DerivedTensor("transpose", compute, (old,), old.dtype, shape)
    ctx.rewriter.replace_by_constant(node.outputs[0], made)
    ctx.rewriter.erase(node)
    ctx.weights.became(old, [made], Outcome.FOLDED)


def _transposed(array: Array, perm: tuple[int, ...]) -> Array:
    return array.transpose(perm)
