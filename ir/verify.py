"""The structural verifier: what must hold of every model between two passes."""

from __future__ import annotations

from collections import ChainMap

from ..errors import VerifyError
from .graph import Graph
from .model import Model
from .node import Node
from .value import Use, Value

_Scope = ChainMap[str, Value]


def verify(model: Model) -> None:
    """Raise VerifyError unless the model is sound.

    Holds: nodes stand in topological order; every name that would be written resolves, by lexical scope, to the very
    value meant; no name is defined twice in a graph; the recorded uses are the real ones; initializers and functions
    sit where the format allows them; graphs import the domains that they use.
    """
    uses: dict[Value, set[Use]] = {}
    for root in model.roots():
        _graph(root, ChainMap(), uses)
    for graph in model.walk_graphs():
        for value in graph.values():
            if set(value._uses) != uses.pop(value, set()):
                raise VerifyError(f"{graph.label}: the recorded uses of {value.name!r} are not the real ones")


def _graph(graph: Graph, outer: _Scope, uses: dict[Value, set[Use]]) -> None:
    own: dict[str, Value] = {}
    scope = outer.new_child(own)
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
    count = 0
    for node in graph.nodes:
        count += 1
        _node(graph, node, scope, uses)
        for value in node.outputs:
            if value.producer is not node:
                raise VerifyError(f"{graph.label}: {value.name!r} does not know its producer {node.label!r}")
            if value.name:
                _define(graph, own, value)
    if count != len(graph):
        raise VerifyError(f"{graph.label}: {count} nodes are linked, {len(graph)} counted")
    if not graph.is_function_body and len(graph.outputs) != len(graph.output_infos):
        raise VerifyError(f"{graph.label}: {len(graph.outputs)} outputs, {len(graph.output_infos)} declared")
    for slot, value in enumerate(graph.outputs):
        _use(graph, scope, value, Use(graph, slot), uses)


def _node(graph: Graph, node: Node, scope: _Scope, uses: dict[Value, set[Use]]) -> None:
    if node.domain not in graph.opset:
        raise VerifyError(f"{graph.label}: node {node.label!r} is of domain {node.domain!r}, which is not imported")
    for slot, value in enumerate(node.inputs):
        if value is not None:
            _use(graph, scope, value, Use(node, slot), uses)
    for body in node.bodies:
        if body.parent is not node:
            raise VerifyError(f"{graph.label}: a body of {node.label!r} does not know its node")
        _graph(body, scope, uses)


def _define(graph: Graph, own: dict[str, Value], value: Value) -> None:
    if value.graph is not graph:
        raise VerifyError(f"{graph.label}: {value.name!r} does not know its graph")
    if value.name in own:
        raise VerifyError(f"{graph.label}: {value.name!r} is defined twice")
    own[value.name] = value


def _use(graph: Graph, scope: _Scope, value: Value, use: Use, uses: dict[Value, set[Use]]) -> None:
    found = scope.get(value.name)
    if found is not value:
        reader = use.user.label if isinstance(use.user, Node) else "output"
        why = "is not defined before it is read" if found is None else "is hidden by another value of that name"
        raise VerifyError(f"{graph.label}: {value.name!r} {why} (by {reader}, slot {use.slot})")
    uses.setdefault(value, set()).add(use)
