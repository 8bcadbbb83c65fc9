"""Common subexpression elimination: what is computed twice is computed once.

Two nodes are the same if they are pure, apply one operator with the same attributes to the same values (small constants
count as the same if they are equal), and have the same outputs. Readers of the second read the first. A node of a body
may be one that stands before it in a graph around it. The same operator on the same bits gives the same bits: EXACT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...ir import Graph, Node, Value
from ...ir.analysis.purity import Purity
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..rewriting.driver import can_stand_for
from .content import Contents, Key

_SMALL = 1024
"""Bytes up to which constants are compared by what they hold; larger ones are one if `dedupe` made them one."""


@dataclass(frozen=True)
class Cse(Pass):
    """Compute once what is computed twice."""

    name: ClassVar[str] = "cse"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False
    scope: ClassVar[Literal["graph", "model"]] = "model"

    def run(self, graph: Graph, ctx: Context) -> None:
        """One walk in the order of the nodes: readers of a merged node come after it."""
        merger = _Merger(ctx, Purity(ctx.model))
        for root in list(ctx.model.roots()):
            merger.walk(root)
        if merger.merged:
            ctx.remarks.applied("nodes", f"{merger.merged} computed before already", rule="merge")
        else:
            ctx.remarks.missed("model", "nothing is computed twice")


class _Merger:
    def __init__(self, ctx: Context, purity: Purity) -> None:
        self.ctx = ctx
        self.purity = purity
        self.merged = 0
        self._contents = Contents()
        self._constants: dict[int, Value] = {}
        self._known: dict[Key, Node] = {}
        """The nodes before the present one, in its graph and those around it, by what they compute."""

    def walk(self, graph: Graph) -> None:
        """Merge in a graph and its bodies."""
        entered: list[Key] = []
        for node in graph.nodes:
            for body in node.bodies:
                self.walk(body)
            if node.bodies or node.constant is not None or not node.inputs:
                continue
            first = self._first_like(node, entered)
            if first is not None and self._may_merge(node, first):
                self._merge(node, first)
        for key in entered:
            del self._known[key]

    def _first_like(self, node: Node, entered: list[Key]) -> Node | None:
        """The node that computes the same, if there is one; attributes are read of what agrees in all else."""
        call = self._call(node)
        first = self._known.get(call)
        if first is None:
            key = call
        else:
            key = (call, self._attributes(node))
            first = first if self._attributes(first) == key[1] else self._known.get(key)
        if first is None:
            self._known[key] = node
            entered.append(key)
        return first

    def _may_merge(self, node: Node, first: Node) -> bool:
        if not self.ctx.selects(node) or any(map(can_stand_for, node.outputs, first.outputs)):
            return False
        return self.purity.is_pure(node) and self.purity.is_pure(first)

    def _merge(self, node: Node, first: Node) -> None:
        rewriter = self.ctx.rewriter
        with rewriter.apply("merge", node):
            for old, new in zip(node.outputs, first.outputs, strict=True):
                rewriter.replace(old, new)
            rewriter.erase(node)
        self.merged += 1

    def _call(self, node: Node) -> Key:
        outputs = tuple(bool(value.name) for value in node.outputs)
        reads = tuple(None if value is None else self._canonical(value) for value in node.inputs)
        return (node.domain, node.op_type, node.overload, outputs, reads)

    def _attributes(self, node: Node) -> Key:
        return tuple(
            (name, attribute.proto.SerializeToString(deterministic=True))
            if attribute.tensor is None
            else (name, self._contents.number(attribute.tensor) or attribute.tensor)
            for name, attribute in sorted(node.attributes.items())
        )

    def _canonical(self, value: Value) -> Value:
        """The first of the small constants that are equal to `value`; else itself."""
        tensor = value.const
        content = None if tensor is None or tensor.nbytes > _SMALL else self._contents.number(tensor)
        return value if content is None else self._constants.setdefault(content, value)
