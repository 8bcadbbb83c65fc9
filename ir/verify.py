"""The structural verifier: what must hold of every model between two passes."""

from __future__ import annotations

from ..errors import VerifyError
from .graph import Graph
from .model import Model
from .node import Node
from .value import Value

_Names = dict[str, Value]
_Scopes = tuple[_Names, ...]
"""The names that are defined so far, innermost graph first."""


def verify(model: Model) -> None:
    """Raise VerifyError unless the model is sound.

    Holds: nodes stand in topological order; every name that would be written resolves, by lexical scope, to the very
    value meant; no name is defined twice in a graph; the recorded uses are the real ones; initializers and functions
    sit where the format allows them; graphs import the domains that they use.
    """
    uses: dict[Value, int] = {}
    for root in model.roots():
        _graph(root, (), uses)
    for graph in model.walk_graphs():
        for value in graph.values():
            if len(value._uses) != uses.get(value, 0):
                raise VerifyError(f"{graph.label}: the recorded uses of {value.name!r} are not the real ones")


def _graph(graph: Graph, outer: _Scopes, uses: dict[Value, int]) -> None:
    own: _Names = {}
    scopes = (own, *outer)
    for value in graph.inputs:
        _define(graph, own, value)
        if not value.is_input:
            raise VerifyError(f"{graph.label}: {value.name!r} does not know that it is an input")
    for value in graph.initializers:
        if graph.is_function_body:
            raise VerifyError(f"{graph.label}: a function cannot have the initializer {value.name!r}")
        if value.is_input and own.get(value.name) is not value:
            raise VerifyError(f"{graph.label}: {value.name!r} takes itself for an input")
        if not value.is_input:
            _define(graph, own, value)
    count, opset = 0, graph.opset
    for node in graph.nodes:
        count += 1
        if node.domain not in opset:
            raise VerifyError(f"{graph.label}: node {node.label!r} is of domain {node.domain!r}, which is not imported")
        _node(graph, node, scopes, uses)
        for value in node._outputs:
            if value._producer is not node:
                raise VerifyError(f"{graph.label}: {value.name!r} does not know its producer {node.label!r}")
            if value._name:
                _define(graph, own, value)
    if count != len(graph):
        raise VerifyError(f"{graph.label}: {count} nodes are linked, {len(graph)} counted")
    if not graph.is_function_body and len(graph.outputs) != len(graph.output_infos):
        raise VerifyError(f"{graph.label}: {len(graph.outputs)} outputs, {len(graph.output_infos)} declared")
    for slot, value in enumerate(graph.outputs):
        _use(graph, scopes, value, graph, slot, uses)


def _node(graph: Graph, node: Node, scopes: _Scopes, uses: dict[Value, int]) -> None:
    for slot, value in enumerate(node._inputs):
        if value is not None:
            _use(graph, scopes, value, node, slot, uses)
    for body in node.bodies:
        if body.parent is not node:
            raise VerifyError(f"{graph.label}: a body of {node.label!r} does not know its node")
        _graph(body, scopes, uses)


def _define(graph: Graph, own: _Names, value: Value) -> None:
    if value._graph is not graph:
        raise VerifyError(f"{graph.label}: {value.name!r} does not know its graph")
    if value._name in own:
        raise VerifyError(f"{graph.label}: {value.name!r} is defined twice")
    own[value._name] = value


def _use(graph: Graph, scopes: _Scopes, value: Value, user: Node | Graph, slot: int, uses: dict[Value, int]) -> None:
    """Count a use that is both real and recorded: as many recorded ones then means the same ones."""
    found = scopes[0].get(value._name)
    if found is None:
        found = next((scope[value._name] for scope in scopes if value._name in scope), None)
    if found is not value:
        reader = user.label if isinstance(user, Node) else "output"
        why = "is not defined before it is read" if found is None else "is hidden by another value of that name"
        raise VerifyError(f"{graph.label}: {value.name!r} {why} (by {reader}, slot {slot})")
    if (user, slot) not in value._uses:
        home = value.graph or graph
        raise VerifyError(f"{home.label}: the recorded uses of {value.name!r} are not the real ones")
    uses[value] = uses.get(value, 0) + 1
