"""Copies of nodes for another place: what inlining a body or a function puts into the graph around it."""

from __future__ import annotations

from .clone import Mapping, clone_node
from .graph import Graph
from .links import outward_uses
from .node import Node
from .value import Use, Value


def detached_copy(node: Node, mapping: Mapping, *, keep_names: bool) -> tuple[Node, list[tuple[Value, Use]]]:
    """A copy of `node` and its bodies that stands in no graph, and the uses by which it will read values outside.

    `mapping` says what stands for the values that it reads; the outputs of the copy are added to it. Without
    `keep_names` neither the copy nor the nodes in its bodies have names, which must not stand twice in a model; as
    source messages hold them, these are left behind too.
    """
    copy = clone_node(node, Graph(), mapping)
    copy._graph = None
    for value in copy.outputs:
        value._graph = None
    bodies = dict.fromkeys(copy.walk_bodies())
    links = outward_uses(copy, bodies)
    for value, use in links:
        del value._uses[use]
    if not keep_names:
        for inner in (copy, *(inner for body in bodies for inner in body.nodes)):
            inner.name, inner.source, inner._source_attributes = "", None, None
    return copy, links
