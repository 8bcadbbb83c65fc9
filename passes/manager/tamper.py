"""Tampering: changes that a pass makes past the rewriter, which neither undo nor the changed flag would know of.

Every node, initializer and name is looked at after every pass, as a change past the rewriter may be anywhere; but only
what the journal accounts for is written down anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from operator import attrgetter

from ...errors import VerifyError
from ...ir import Attribute, Edit, Function, Graph, Model, Node, Tensor, Value

_identity = attrgetter("op_type", "domain", "overload", "name")
"""What no edit can change of a node."""
_name, _tensor = attrgetter("_name"), attrgetter("_tensor")

_Parts = tuple[object, list[Value | None], list[Value], list[tuple[str, Attribute]]]


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
                self._tensors[value] = value._tensor
            for value in _values(graph):
                self._names[value] = value._name
        self._all = _everything(model)

    def check(self, model: Model, edits: Sequence[Edit]) -> Snapshot:
        """Move on to the model of now; VerifyError if it differs in more than what `edits` changed: then the snapshot
        is of no more use."""
        everything = _everything(model)
        if edits or everything != self._all:
            self._compare(model, edits)
            self._all = everything
        self.version = model.version
        return self

    def _compare(self, model: Model, edits: Sequence[Edit]) -> None:
        touched = {edit.subject for edit in edits}
        touched.update(edit.partner for edit in edits if edit.partner is not None)
        self._forget(touched)
        nodes = tensors = names = 0
        for graph in model.walk_graphs():
            for node in graph.nodes:
                nodes += 1
                self._check_node(node, touched)
            for value in graph._initializers:
                tensors += 1
                self._check_tensor(value, touched)
            for value in _values(graph):
                names += 1
                if self._names.get(value) != value._name:
                    self._check_name(value, touched)
        if (nodes, tensors, names) != (len(self._nodes), len(self._tensors), len(self._names)):
            self._settle(model, touched)

    def _check_node(self, node: Node, touched: Set[object]) -> None:
        before = self._nodes.get(node)
        if before is None:
            if not _is_accounted(node, touched):
                raise VerifyError(f"node {node.label!r} was added past the rewriter")
        elif before == _parts(node):
            return
        elif node not in touched or before[0] != _identity(node):
            raise VerifyError(f"node {node.label!r} was changed past the rewriter")
        self._nodes[node] = _parts(node)

    def _check_tensor(self, value: Value, touched: Set[object]) -> None:
        tensor = value._tensor
        if value not in self._tensors or self._tensors[value] is not tensor:
            if value in self._tensors and value not in touched:
                raise VerifyError(f"the initializer {value.name!r} was changed past the rewriter")
            self._tensors[value] = tensor

    def _check_name(self, value: Value, touched: Set[object]) -> None:
        before = self._names.get(value)
        if before is not None and value not in touched:
            raise VerifyError(f"{before!r} was renamed past the rewriter")
        self._names[value] = value._name

    def _forget(self, touched: Iterable[object]) -> None:
        """Forget what the journal says is gone."""
        for part in touched:
            if isinstance(part, Node) and part.graph is None:
                self._forget_node(part)
            elif isinstance(part, Function):
                for node in part.body.nodes:
                    self._forget_node(node)
            elif isinstance(part, Value) and part._tensor is None:
                self._tensors.pop(part, None)
                if part.graph is None:
                    self._names.pop(part, None)

    def _forget_node(self, node: Node) -> None:
        self._nodes.pop(node, None)
        for value in node._outputs:
            self._names.pop(value, None)
        for graph in node.walk_bodies():
            for value in graph._initializers:
                self._tensors.pop(value, None)
            for value in _values(graph):
                self._names.pop(value, None)
            for inner in graph.nodes:
                self._nodes.pop(inner, None)

    def _settle(self, model: Model, touched: Set[object]) -> None:
        """Find what else is gone; VerifyError for a node that nobody erased."""
        now = Snapshot(model)
        for node in self._nodes.keys() - now._nodes.keys():
            if not _is_accounted(node, touched):
                raise VerifyError(f"node {node.label!r} was removed past the rewriter")
        self._nodes, self._tensors, self._names = now._nodes, now._tensors, now._names


def _parts(node: Node) -> _Parts:
    """What a node is now, in lists of its own."""
    return _identity(node), [*node._inputs], [*node._outputs], [*node._attributes.items()]


def _everything(model: Model) -> list[object]:
    """All that a snapshot holds, in one list that is quickly made and compared."""
    found: list[object] = []
    values: list[Value] = []
    for graph in model.walk_graphs():
        values += graph._inputs
        values += graph._initializers
        found.append(graph)
        found += map(_tensor, graph._initializers)
        for node in graph.nodes:
            values += node._outputs
            found += (node, len(node._inputs))
            found += _identity(node)
            found += node._inputs
            found += node._outputs
            found += node._attributes.values()
    return [found, values, [*map(_name, values)]]


def _values(graph: Graph) -> Iterator[Value]:
    """Every value that a graph defines, those without a name too."""
    yield from graph._inputs
    yield from (value for value in graph._initializers if not value.is_input)
    for node in graph.nodes:
        yield from node._outputs


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
