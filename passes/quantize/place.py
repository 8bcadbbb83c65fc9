"""Where new nodes go, and the constants that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import RewriteError
from ...ir import Graph, Node, Rewriter, Tensor, Value

Shared = dict[tuple[Graph, str], Value]
"""Constants by the graph that holds them and their digest."""


@dataclass(frozen=True)
class Place:
    """Where new nodes go (before a node, or at the end of a graph) and what they stand for."""

    graph: Graph
    before: Node | None
    origin: Sequence[Node] = ()
    shared: Shared = field(default_factory=dict)

    @classmethod
    def of(cls, node: Node, shared: Shared) -> Place:
        """In front of `node`, on its behalf."""
        if node.graph is None:
            raise RewriteError(f"node {node.label!r} is erased")
        return cls(node.graph, node, (node,), shared)

    def insert(
        self, rw: Rewriter, op_type: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any] | None = None
    ) -> Value:
        """The output of a new node."""
        node = rw.insert(
            op_type, inputs, attributes, before=self.before, graph=self.graph, outputs=["d"], origin=self.origin
        )
        return node.outputs[0]

    def constant(self, rw: Rewriter, content: Tensor, hint: str) -> Value:
        """An initializer of the graph that holds `content`: one for all that ask for the same. In a function it is a
        Constant node of its own, for these have an order."""
        if self.graph.is_function:
            return rw.constant(self.graph, content, hint, before=self.before)
        key = self.graph, content.digest()
        if key not in self.shared:
            self.shared[key] = rw.constant(self.graph, content, hint, before=self.before)
        return self.shared[key]
