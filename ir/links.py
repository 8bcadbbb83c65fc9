"""The mechanics of linking: nodes into the list of a graph, and uses to values. Only the Rewriter calls this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import RewriteError
from .graph import Graph
from .names import Names
from .node import Node
from .value import Use, Value


class Links:
    """Links and unlinks, keeping `names` right. A use that comes back after an undo gets its old position again."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self._position = 1 << 40  # above every position that lowering gave out

    def next_position(self) -> int:
        """A position after all others, for a new use or initializer."""
        self._position += 1
        return self._position

    def place(
        self, node: Node, graph: Graph, before: Node | None, links: list[tuple[Value, Use, int]] | None = None
    ) -> None:
        """Put a node before another one, or at the end, and link it with what it reads (at given positions)."""
        previous = graph._last if before is None else before._prev
        node._graph, node._prev, node._next = graph, previous, before
        if previous is None:
            graph._first = node
        else:
            previous._next = node
        if before is None:
            graph._last = node
        else:
            before._prev = node
        graph._count += 1
        for value in all_values(node):
            value._graph = value._graph or graph
            if value._name:
                self.names.take(graph, value._name)
        if links is None:
            links = [(v, Use(node, slot), -1) for slot, v in enumerate(node._inputs) if v is not None]
        for value, use, position in links:
            self.link(value, use, None if position < 0 else position)

    def take_out(self, node: Node) -> list[tuple[Value, Use, int]]:
        """Unlink a node from its graph and from every value around it; returns the links."""
        graph = node._graph
        if graph is None:
            raise RewriteError(f"node {node.label!r} is erased already")
        inside = dict.fromkeys(node.walk_bodies() if node.bodies else ())
        links = [(value, use, self.unlink(value, use)) for value, use in outward_uses(node, inside)]
        if node._prev is None:
            graph._first = node._next
        else:
            node._prev._next = node._next
        if node._next is None:
            graph._last = node._prev
        else:
            node._next._prev = node._prev
        graph._count -= 1
        node._graph = None
        for value in all_values(node):
            if value._name:
                self.names.release(graph, value._name)
        for value in node._outputs:
            value._graph = None
        return links

    def link(self, value: Value, use: Use, position: int | None = None) -> None:
        """Add a use, last or at the position that it had."""
        if position is None:
            position = self.next_position()
        else:
            value._disordered = True
        value._uses[use] = position

    @staticmethod
    def unlink(value: Value, use: Use) -> int:
        """Remove a use; returns its position."""
        return value._uses.pop(use)


def next_alive(node: Node) -> Node | None:
    """The next node of the list that is not erased."""
    following = node._next
    while following is not None and following._graph is None:
        following = following._next
    return following


def outward_uses(node: Node, inside: Mapping[Graph, None]) -> list[tuple[Value, Use]]:
    """The uses by which a node and its bodies, all of which are `inside`, read values around them."""
    found = [(value, Use(node, slot)) for slot, value in enumerate(node._inputs) if value is not None]
    for graph in inside:
        for inner in graph.nodes:
            found += [
                (v, Use(inner, slot)) for slot, v in enumerate(inner._inputs) if v is not None and v.graph not in inside
            ]
        found += [(v, Use(graph, slot)) for slot, v in enumerate(graph._outputs) if v.graph not in inside]
    return found


def all_values(node: Node) -> Iterable[Value]:
    """What a node computes, and the values of its bodies."""
    if not node.bodies:
        return node._outputs
    return [*node._outputs, *(value for graph in node.walk_bodies() for value in graph.values())]
