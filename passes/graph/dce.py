"""Dead code elimination: what no output needs goes.

A node goes if nothing reads its outputs and it is pure; an initializer if nothing reads it and it is no default of an
input; a function if nothing calls it. Every output is computed as before, so the pass is EXACT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...ir import Graph
from ...ir.analysis.purity import Purity
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.sweep import call_key, erase_if_dead


@dataclass(frozen=True)
class Dce(Pass):
    """Remove nodes, initializers and functions that no output depends on."""

    name: ClassVar[str] = "dce"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False
    scope: ClassVar[Literal["graph", "model"]] = "model"

    def run(self, graph: Graph, ctx: Context) -> None:
        """One walk from the last node to the first, bodies after the node that holds them, is enough."""
        purity = Purity(ctx.model)
        nodes = sum(_sweep_graph(root, ctx, purity) for root in list(ctx.model.roots()))
        functions = initializers = 0
        if not ctx.is_narrowed:  # what belongs to no node is left where only some nodes are meant
            functions = _sweep_functions(ctx)
            initializers = sum(_sweep_initializers(g, ctx) for g in list(ctx.model.walk_graphs()))
        for count, what in ((nodes, "nodes"), (initializers, "initializers"), (functions, "functions")):
            if count:
                ctx.remarks.applied(what, f"{count} removed", rule=what)
        if not nodes + functions + initializers:
            ctx.remarks.missed("model", "nothing is dead")


def _sweep_graph(graph: Graph, ctx: Context, purity: Purity) -> int:
    count = 0
    for node in graph.nodes_reversed:
        if ctx.selects(node) and erase_if_dead(node, ctx.rewriter, purity):
            count += 1
            continue
        for body in node.bodies:
            count += _sweep_graph(body, ctx, purity)
    return count


def _sweep_initializers(graph: Graph, ctx: Context) -> int:
    dead = [value for value in graph.initializers if value.is_dead and not value.is_input]
    for value in dead:
        ctx.rewriter.remove_initializer(value)
    return len(dead)


def _sweep_functions(ctx: Context) -> int:
    """Remove the functions that no live graph calls, directly or through others."""
    functions = ctx.model.functions
    live = set()
    todo: list[Graph] = [ctx.model.graph]
    while todo:
        for graph in todo.pop().walk_graphs():
            for node in graph.nodes:
                function = functions.get(call_key(node))
                if function is not None and function not in live:
                    live.add(function)
                    todo.append(function.body)
    dead = [function for function in functions.values() if function not in live]
    for function in dead:
        ctx.rewriter.remove_function(function)
    return len(dead)
