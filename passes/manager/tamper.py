"""Tampering: changes that a pass makes past the rewriter, which neither undo nor the changed flag would know of.

Every node, initializer and name is looked at after every pass, as a change past the rewriter may be anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from operator import attrgetter

from ...errors import VerifyError
from ...ir import Edit, Graph, Model, Node, Tensor, Value

_identity = attrgetter("op_type", "domain", "overload", "name")
"""What no edit can change of a node."""
_name = attrgetter("_name")


class Snapshot:
    """What every node reads, makes and is, what every initializer holds, and all names, at one moment; no weight is
    copied."""

    def __init__(self, model: Model) -> None:
        self.version = model.version
        self._nodes: dict[Node, tuple[object, ...]] = {}
        """Of each node its identity, how many values it reads, those, what it makes, and its attributes."""
        self._tensors: dict[Value, Tensor | None] = {}
        values: list[Value] = []
        for graph in model.walk_graphs():
            self._tensors.update((value, value._tensor) for value in graph._initializers)
            values += graph._inputs
            values += graph._initializers
            for node in graph.nodes:
                reads, makes = node._inputs, node._outputs
                self._nodes[node] = (_identity(node), len(reads), *reads, *makes, *node._attributes.values())
                values += makes
        self._names: dict[Value, str] = dict(zip(values, map(_name, values), strict=True))

    def check(self, model: Model, edits: Sequence[Edit]) -> Snapshot:
        """The snapshot of now; VerifyError if it differs from this one in more than what `edits` changed."""
        now = Snapshot(model)
        touched = {part for edit in edits for part in (edit.subject, edit.partner) if part is not None}
        if now._nodes != self._nodes:
            self._check_nodes(now._nodes, touched)
        for value, tensor in now._tensors.items():
            if self._tensors.get(value, tensor) is not tensor and value not in touched:
                raise VerifyError(f"the initializer {value.name!r} was changed past the rewriter")
        for value, name in now._names.items():
            before = self._names.get(value, name)
            if before != name and value not in touched:
                raise VerifyError(f"{before!r} was renamed past the rewriter")
        return now

    def _check_nodes(self, now: dict[Node, tuple[object, ...]], touched: Set[object]) -> None:
        for node, parts in now.items():
            before = self._nodes.get(node)
            if before is None:
                if not _is_accounted(node, touched):
                    raise VerifyError(f"node {node.label!r} was added past the rewriter")
            elif before != parts and (node not in touched or before[0] != parts[0]):
                raise VerifyError(f"node {node.label!r} was changed past the rewriter")
        for node in self._nodes.keys() - now.keys():
            if not _is_accounted(node, touched):
                raise VerifyError(f"node {node.label!r} was removed past the rewriter")


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
