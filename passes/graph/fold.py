"""Fold constants: what depends on constants alone is evaluated once, by the executor.

A node is constant if it is pure, all that it reads is constant (what its bodies capture included), and it reads no
attribute of a function. All constant regions of the model are evaluated together, normally in one run; the results
replace the nodes. Sizes are inferred first: what would make the file grow by more than `limit` stays computed, and so
does a value of unknown size. The pass is EXACT in the reference configuration of the executor that evaluated, and
ROUNDING elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ...ir import Graph, Node, SparseTensor, Tensor, Value
from ...ir.proto import initializer_size, node_size
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from ..manager.units import Size
from ..manager.weights import Outcome
from .evaluate import evaluate, region_sizes
from .region import Choice, find_region


@dataclass(frozen=True)
class Fold(Pass):
    """Evaluate what depends on constants alone, and turn Constant nodes into initializers."""

    name: ClassVar[str] = "fold"
    effect: ClassVar[Effect] = Effect.EXACT

    limit: Size = option(0, "bytes that the file may grow by", low=0)

    def run(self, graph: Graph, ctx: Context) -> None:
        """Fold in rounds: one makes sizes known that the next one needs; most models need one."""
        done = _lift_constants(ctx)
        room, blocked = int(self.limit), set[Node]()
        while True:
            region = find_region(ctx.model, ctx.selects, blocked)
            sizes = region_sizes(region, ctx.model)
            choice = region.choose(sizes, room)
            values = choice.values
            if not values:
                break
            room -= choice.grown
            tensors, faults = evaluate(region.nodes, values, ctx)
            blocked |= faults
            _account(choice, tensors, ctx)
            for value, tensor in tensors.items():
                with ctx.rewriter.apply("evaluate", *filter(None, [value.producer])):
                    ctx.rewriter.replace_by_constant(value, tensor)
            done += len(tensors)
            _erase_dead(choice, ctx)
        region.explain(sizes, ctx.remarks)
        if not done:
            ctx.remarks.missed("model", "nothing is constant that is not stored as a constant already")
        else:
            ctx.remarks.applied("model", f"{done} values are now stored constants", rule="fold")


def _account(choice: Choice, tensors: Mapping[Value, Tensor], ctx: Context) -> None:
    """Tell the account of weights which constants went into which results."""
    for source in choice.freed():
        into = [tensors[value] for value in choice.reached(source) if value in tensors]
        if source.const is not None and into:
            ctx.weights.became(source.const, into, Outcome.FOLDED)


def _erase_dead(choice: Choice, ctx: Context) -> None:
    for node in reversed(list(choice.nodes)):
        if node.graph is not None and all(value.is_dead for value in node.outputs):
            ctx.rewriter.erase(node)


def _lift_constants(ctx: Context) -> int:
    """Turn Constant nodes into initializers, where they can be; returns how many."""
    count = 0
    for graph in ctx.model.walk_graphs():
        for node in graph.nodes:
            tensor = node.constant
            if tensor is None or not (
                ctx.selects(node) and _can_be_lifted(node.outputs[0]) and _lift_pays(node, tensor)
            ):
                continue
            with ctx.rewriter.apply("lift-constant", node):
                ctx.rewriter.replace_by_constant(node.outputs[0], tensor)
                ctx.rewriter.erase(node)
            count += 1
    return count


def _can_be_lifted(value: Value) -> bool:
    return not (value.is_dead or value.pinned or value.needs_constant_node)


def _lift_pays(node: Node, tensor: Tensor) -> bool:
    """Whether the initializer is no larger than the node: lists of small integers are shorter as attributes. A sparse
    constant stays one."""
    if isinstance(tensor, SparseTensor):
        return False
    if "value" in node.attributes:
        return True
    return initializer_size(tensor, node.outputs[0].name) <= node_size(node)
