"""The order of layers: how many of them lie before each on the longest way from an input of the model."""

from __future__ import annotations

from collections.abc import Collection

from ....ir import Graph, Model, Node, Value


def depths(model: Model, layers: Collection[Node]) -> dict[Node, int]:
    """For each of `layers` in the main graph and its bodies, how many of them it depends on, one behind the other.

    What a loop carries from turn to turn is not followed: the layers of a body come in the order in which one turn
    computes them, and what reads the results of the loop comes behind all of them.
    """
    found: dict[Node, int] = {}
    of: dict[Value, int] = {}

    def visit(graph: Graph, start: int) -> int:
        """The largest depth behind a node of `graph`, the inputs of which have the depth `start`."""
        of.update(dict.fromkeys(graph.inputs, start))
        deepest = start
        for node in graph.nodes:
            depth = max((of.get(value, 0) for value in node.inputs if value is not None), default=0)
            if node in layers:
                found[node] = depth
                depth += 1
            depth = max([depth, *(visit(body, depth) for body in node.bodies)])
            of.update(dict.fromkeys(node.outputs, depth))
            deepest = max(deepest, depth)
        return deepest

    visit(model.graph, 0)
    return found
