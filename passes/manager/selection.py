"""Selections: which nodes the passes inside `at{...}(...)` may act on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from ...ir import Edit, Node


class Selection:
    """Nodes by glob patterns: of names, of operators, and of names to leave out. No pattern means any.

    A node is called by its name, the names of its outputs, and the names of the nodes that it came from; what lies in a
    body is called by the nodes around it too. Nodes that are made while the selection holds belong to it.
    """

    def __init__(self, nodes: tuple[str, ...] = (), ops: tuple[str, ...] = (), excluded: tuple[str, ...] = ()) -> None:
        self.nodes = nodes
        self.ops = ops
        self.excluded = excluded
        self._made: set[Node] = set()

    def selects(self, node: Node) -> bool:
        """Whether the passes inside may act on `node`."""
        if node in self._made:
            return True
        return (
            (not self.nodes or _any_match(_names(node), self.nodes))
            and (not self.ops or _any_match(_operator(node), self.ops))
            and not _any_match(_names(node), self.excluded)
        )

    def listen(self, edit: Edit) -> None:
        """Take note of new nodes: a listener of the journal."""
        if edit.kind == "insert" and isinstance(edit.subject, Node):
            self._made.add(edit.subject)

    def idle(self, nodes: Iterable[Node]) -> list[str]:
        """The patterns that match none of `nodes`."""
        names, operators = set[str](), set[str]()
        for node in nodes:
            names.update(_names(node))
            operators.update(_operator(node))
        wanted = [(pattern, names) for pattern in (*self.nodes, *self.excluded)]
        wanted += [(pattern, operators) for pattern in self.ops]
        return [pattern for pattern, known in wanted if not _any_match(known, (pattern,))]


def names_of(nodes: Iterable[Node]) -> list[str]:
    """What the given nodes can be called by."""
    return list(dict.fromkeys(name for node in nodes for name in _names(node)))


def _names(node: Node) -> Iterator[str]:
    here: Node | None = node
    while here is not None:
        yield here.label
        yield from (value.name for value in here.outputs if value.name)
        yield from here.origin
        here = here.graph.parent if here.graph is not None else None


def _operator(node: Node) -> tuple[str, ...]:
    return (node.op_type, f"{node.domain or 'ai.onnx'}.{node.op_type}")


def _any_match(names: Iterable[str], patterns: tuple[str, ...]) -> bool:
    return bool(patterns) and any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
