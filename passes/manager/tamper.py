"""Tampering: changes that a pass makes past the rewriter, which neither undo nor the changed flag would know of."""

from __future__ import annotations

from collections.abc import Sequence, Set

from ...errors import VerifyError
from ...ir import Edit, Graph, Model, Node, Tensor, Value

_Parts = tuple[object, ...]


class Snapshot:
    """What every node reads, makes and is, what every initializer holds, and all names, at one moment; no weight is
    copied."""

    def __init__(self, model: Model) -> None:
        self.version = model.version
        self._nodes: dict[Node, _Parts] = {}
        self._tensors: dict[Value, Tensor | None] = {}
        self._names: dict[Value, str] = {}
        for graph in model.walk_graphs():
            for node in graph.nodes:
                self._nodes[node] = _parts(node)
            for value in graph.initializers:
                self._tensors[value] = value.tensor
            for value in graph.values():
                self._names[value] = value._name

    def check(self, model: Model, edits: Sequence[Edit]) -> Snapshot:
        """The snapshot of now; VerifyError if it differs from this one in more than what `edits` changed."""
        now = Snapshot(model)
        touched = {edit.subject for edit in edits}
        touched.update(edit.partner for edit in edits if edit.partner is not None)
        for node, parts in now._nodes.items():
            before = self._nodes.get(node)
            if before is None:
                if not _is_accounted(node, touched):
                    raise VerifyError(f"node {node.label!r} was added past the rewriter")
            elif parts[:_IDENTITY] != before[:_IDENTITY] or (node not in touched and parts != before):
                raise VerifyError(f"node {node.label!r} was changed past the rewriter")
        for node in self._nodes.keys() - now._nodes.keys():
            if not _is_accounted(node, touched):
                raise VerifyError(f"node {node.label!r} was removed past the rewriter")
        for value, tensor in now._tensors.items():
            known = self._tensors.get(value, tensor)
            if tensor is not known and value not in touched:
                raise VerifyError(f"the initializer {value.name!r} was changed past the rewriter")
        for value, name in now._names.items():
            if self._names.get(value, name) != name and value not in touched:
                raise VerifyError(f"{self._names[value]!r} was renamed past the rewriter")
        return now


_IDENTITY = 4
"""The first parts of a node, which no edit can change."""


def _parts(node: Node) -> _Parts:
    attributes = tuple(node._attributes.items())
    return (
        node.op_type,
        node.domain,
        node.overload,
        node.name,
        tuple(node._inputs),
        tuple(node._outputs),
        tuple((name, id(attribute)) for name, attribute in attributes),
    )


def _is_accounted(node: Node, touched: Set[object]) -> bool:
    """Whether the journal knows of a node, or of one that it lies in."""
    here: Node | None = node
    graph: Graph | None
    while here is not None:
        if here in touched:
            return True
        graph = here.graph
        if graph is not None and graph.owner is not None and graph.owner in touched:
            return True  # a function that was removed
        here = graph.parent if graph is not None else None
    return False
