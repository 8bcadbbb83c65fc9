"""Which nodes may be evaluated ahead, merged or removed: those that are pure.

The schema decides (`OpSchema.node_determinism`). Nodes with bodies and calls of functions are as pure as the nodes
inside. One table corrects the schema where the specification is finer. An operator without a schema is never pure.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from onnx import defs

from ..graph import Function, Graph
from ..model import Model
from ..node import Node

_DETERMINISTIC = defs.OpSchema.NodeDeterminism.Deterministic
_BY_BODY = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def _always(node: Node, version: int) -> bool:
    return True


def _dropout(node: Node, version: int) -> bool:
    """Opsets 7 to 11 know inference only; from 12 on an input switches training on, absent meaning off. Before 7 an
    attribute does (`is_test`)."""
    if version < 7:
        return bool(node.attr("is_test", 0))
    switch = node.input(2)
    if version < 12 or switch is None:
        return True
    return switch.const is not None and not switch.const.numpy().any()


CORRECTIONS: dict[str, Callable[[Node, int], bool]] = {
    "Dropout": _dropout,
    "AffineGrid": _always,  # a fixed formula of theta and size; marked through the functions that its body is made of
    "DepthToSpace": _always,  # moves elements; opset 28 has no mark
    "SpaceToDepth": _always,  # moves elements; opset 28 has no mark
}
"""Operators of the standard domain whose purity the specification states and the schema does not."""


@cache
def _schema_says(op_type: str, version: int, domain: str) -> bool:
    try:
        schema = defs.get_schema(op_type, version, domain)
    except defs.SchemaError:
        return False
    return not schema.deprecated and schema.node_determinism == _DETERMINISTIC  # type: ignore[attr-defined]  # not in the stubs


class Purity:
    """Answers for the nodes of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._functions: dict[Function, bool] = {}

    def is_pure(self, node: Node) -> bool:
        """Whether the outputs depend on inputs and attributes alone and nothing else happens."""
        graph = node.graph
        function = self._model.functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            return self._function_is_pure(function)
        version = graph.opset.get(node.domain) if graph is not None else None
        if version is None:
            return False
        if node.domain == "" and node.op_type in _BY_BODY:
            return bool(node.bodies) and all(self._graph_is_pure(body) for body in node.bodies)
        if node.domain == "" and node.op_type in CORRECTIONS and _has_schema(node.op_type, version):
            return CORRECTIONS[node.op_type](node, version)
        return not node.bodies and _schema_says(node.op_type, version, node.domain)

    def _graph_is_pure(self, graph: Graph) -> bool:
        return all(self.is_pure(node) for node in graph.nodes)

    def _function_is_pure(self, function: Function) -> bool:
        if function not in self._functions:
            self._functions[function] = False  # a function that calls itself is not pure
            self._functions[function] = self._graph_is_pure(function.body)
        return self._functions[function]


@cache
def _has_schema(op_type: str, version: int) -> bool:
    return bool(defs.has(op_type, version, ""))
