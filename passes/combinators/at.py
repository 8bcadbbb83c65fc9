"""Narrow where passes may act."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import did_you_mean
from ...ir import Graph
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from ..manager.selection import Selection, names_of


@dataclass(frozen=True)
class At(Pass):
    """Let the passes inside act on some nodes only.

    A node is called by its name, the names of its outputs and the names of the nodes that it came from; a node in a
    body also by those of the nodes around it. Patterns are globs with `*`, `?` and `[...]`.
    """

    name: ClassVar[str] = "at"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False
    takes_pipeline: ClassVar[bool] = True

    nodes: tuple[str, ...] = option((), "patterns of names; none means every node")
    ops: tuple[str, ...] = option((), "patterns of operators, as Conv or com.microsoft.*; none means every operator")
    except_: tuple[str, ...] = option((), "patterns of names to leave out")
    inside: tuple[Pass, ...] = ()

    def run(self, graph: Graph, ctx: Context) -> None:
        """Run the passes inside; say which patterns match nothing."""
        selection = Selection(self.nodes, self.ops, self.except_)
        nodes = [node for one in ctx.model.walk_graphs() for node in one.nodes]
        for pattern in selection.idle(nodes):
            is_operator = pattern in self.ops
            known = (node.op_type for node in nodes) if is_operator else names_of(nodes)
            what = "no operator of the model" if is_operator else "no node"
            ctx.remarks.missed(pattern, f"{what} is called so{did_you_mean(pattern, known)}", rule="pattern")
        with ctx.narrowed(selection):
            for pass_ in self.inside:
                ctx.run(pass_)
