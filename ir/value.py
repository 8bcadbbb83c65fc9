"""Values: the edges of the graph, and who uses them."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, NamedTuple

from onnx import TypeProto, ValueInfoProto

from .tensor import Tensor

if TYPE_CHECKING:
    from .graph import Graph
    from .node import Node


class Use(NamedTuple):
    """One reading of a value: input `slot` of a node, or output `slot` of a graph."""

    user: Node | Graph
    slot: int


class Value:
    """What a node produces, a graph takes in, or an initializer holds. Only the Rewriter changes one."""

    __slots__ = ("_disordered", "_graph", "_info", "_is_input", "_name", "_producer", "_tensor", "_uses", "pinned")

    def __init__(self, name: str, graph: Graph | None = None) -> None:
        self._name = name
        self._graph = graph
        self._producer: Node | None = None
        self._tensor: Tensor | None = None
        self._is_input = False
        self._info: ValueInfoProto | None = None
        self._uses: dict[Use, int] = {}
        self._disordered = False
        self.pinned = ""
        """Why the value may be neither removed nor taken for a constant though the graph would allow it; else empty."""

    @property
    def name(self) -> str:
        """Its name in the file; empty for an output that a node leaves out."""
        return self._name

    @property
    def graph(self) -> Graph | None:
        """The graph that defines it; None once it is erased."""
        return self._graph

    @property
    def producer(self) -> Node | None:
        """The node that computes it; None for inputs and initializers."""
        return self._producer

    @property
    def is_input(self) -> bool:
        """Whether it is an input of its graph."""
        return self._is_input

    @property
    def is_initializer(self) -> bool:
        """Whether an initializer holds it (perhaps as the default of an input)."""
        return self._tensor is not None

    @property
    def tensor(self) -> Tensor | None:
        """What its initializer holds: a constant, or the default of an input."""
        return self._tensor

    @property
    def const(self) -> Tensor | None:
        """The tensor that the value is on every run, if it is one: of an initializer that no feed can override, or of
        a Constant node that reads no attribute of a function."""
        node = self._producer
        if node is not None:
            return node.constant if node.op_type == "Constant" and not self.pinned else None
        return None if self._is_input or self.pinned else self._tensor

    @property
    def type(self) -> TypeProto | None:
        """The declared type: a fact for graph inputs, a claim for all else."""
        return None if self._info is None or not self._info.HasField("type") else self._info.type

    @property
    def uses(self) -> tuple[Use, ...]:
        """Who reads it, in order of insertion, across all scopes."""
        if self._disordered:
            self._uses = dict(sorted(self._uses.items(), key=lambda item: item[1]))
            self._disordered = False
        return tuple(self._uses)

    def is_read_only_by(self, users: Container[Node | Graph]) -> bool:
        """Whether all that read it, if anything does, are among `users`; looks no further than to the first other."""
        return all(use.user in users for use in self._uses)

    @property
    def is_dead(self) -> bool:
        """Whether nothing reads it and nothing pins it."""
        return not self._uses and not self.pinned

    @property
    def needs_constant_node(self) -> bool:
        """Whether a constant in its place must be a Constant node: in a function, which has no initializers, and as an
        output of a body, where onnx's type inference looks at nodes alone."""
        graph = self._graph
        return graph is not None and (
            graph.is_function or (graph.parent is not None and any(use.user is graph for use in self._uses))
        )

    def __repr__(self) -> str:
        return f"%{self._name}"
