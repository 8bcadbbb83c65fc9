"""A graph as networkx sees it: for analysis (components, dominators, longest paths, drawing), never for storage."""

from __future__ import annotations

import networkx as nx

from ..graph import Graph
from ..node import Node
from ..value import Value


def dataflow(graph: Graph) -> nx.MultiDiGraph[Node | Value]:
    """The data flow of one graph.

    Its vertices are the nodes, the values that come in from outside (inputs, initializers, values of outer graphs), and
    the output values; an edge is a use, with the keys `value` and `slot` (None where a body of the reader captures the
    value). Changes of the graph do not show in it.
    """
    view: nx.MultiDiGraph[Node | Value] = nx.MultiDiGraph()
    view.add_nodes_from((*graph.inputs, *graph.initializers))
    for node in graph.nodes:
        view.add_node(node)
        for slot, value in enumerate(node.inputs):
            if value is not None:
                view.add_edge(_origin(value, graph), node, value=value, slot=slot)
        for value in captured(node):
            view.add_edge(_origin(value, graph), node, value=value, slot=None)
    for slot, value in enumerate(graph.outputs):
        if value.producer is not None:
            view.add_edge(value.producer, value, value=value, slot=slot)
    return view


def captured(node: Node) -> list[Value]:
    """The values of outer graphs that the bodies of a node read, each once."""
    inside = dict.fromkeys(node.walk_bodies())
    reads: dict[Value, None] = {}
    for graph in inside:
        for inner in graph.nodes:
            reads |= dict.fromkeys(value for value in inner.inputs if value is not None)
        reads |= dict.fromkeys(graph.outputs)
    return [value for value in reads if value.graph not in inside]


def _origin(value: Value, graph: Graph) -> Node | Value:
    return value.producer if value.producer is not None and value.graph is graph else value
