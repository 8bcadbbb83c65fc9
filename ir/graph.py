"""Graphs: an ordered list of nodes that is safe to edit while it is walked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from onnx import FunctionProto, GraphProto, ValueInfoProto

from .node import Node
from .tensor import Tensor
from .value import Value

if TYPE_CHECKING:
    from .model import Model


class Graph:
    """The main graph, a body of If, Loop or Scan, or the body of a function. Only the Rewriter changes one.

    A body shares the values of the graphs around it directly: reading one from inside is a use like any other.
    """

    def __init__(self, name: str = "", source: GraphProto | None = None, parent: Node | None = None) -> None:
        self.name = name
        self.source = source
        self.parent = parent
        """The node whose attribute holds this body; None for the main graph and functions."""
        self.owner: Model | Function | None = None
        self._inputs: list[Value] = []
        self._outputs: list[Value] = []
        self._output_infos: list[ValueInfoProto] = []
        self._initializers: dict[Value, int] = {}
        self._initializers_disordered = False
        self._value_infos: list[tuple[Value | None, ValueInfoProto]] = []
        self._first: Node | None = None
        self._last: Node | None = None
        self._count = 0

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Its inputs, in order."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """Its outputs, in order."""
        return tuple(self._outputs)

    @property
    def output_infos(self) -> tuple[ValueInfoProto, ...]:
        """What the file declares of the outputs, slot by slot: claims."""
        return tuple(self._output_infos)

    @property
    def initializers(self) -> tuple[Value, ...]:
        """The values that initializers hold, defaults of inputs included, in order."""
        if self._initializers_disordered:
            self._initializers = dict(sorted(self._initializers.items(), key=lambda item: item[1]))
            self._initializers_disordered = False
        return tuple(self._initializers)

    @property
    def value_infos(self) -> tuple[tuple[Value | None, ValueInfoProto], ...]:
        """What the file declares of intermediate values, but of those where `set_info` withdrew it; None stands for a
        name that nothing defines."""
        return tuple((value, info) for value, info in self._value_infos if value is None or value._info is not None)

    @property
    def nodes(self) -> Iterator[Node]:
        """The nodes in order. Nodes may be inserted and erased meanwhile: erased ones are not visited, new ones are if
        they come after the current one."""
        node = self._first
        while node is not None:
            if node._graph is self:
                yield node
            node = node._next

    @property
    def nodes_reversed(self) -> Iterator[Node]:
        """The nodes from the last to the first, with the same freedom to edit."""
        node = self._last
        while node is not None:
            if node._graph is self:
                yield node
            node = node._prev

    def append(self, node: Node) -> None:
        """Put a node that is linked nowhere at the end: for lowering and cloning, before a Rewriter watches."""
        node._graph = self
        node._prev = self._last
        if self._last is None:
            self._first = node
        else:
            self._last._next = node
        self._last = node
        self._count += 1

    def add_initializer(self, name: str, tensor: Tensor) -> Value:
        """Add an initializer of a name that is free: like `append`, for graphs in the making."""
        value = Value(name, self)
        value._tensor = tensor
        self._initializers[value] = len(self._initializers)
        return value

    def __len__(self) -> int:
        return self._count

    def values(self) -> Iterator[Value]:
        """Every value that the graph itself defines: inputs, initializers, outputs of nodes."""
        yield from self._inputs
        yield from (value for value in self.initializers if not value.is_input)
        for node in self.nodes:
            for value in node._outputs:
                if value._name:
                    yield value

    def walk_graphs(self) -> Iterator[Graph]:
        """This graph and all bodies inside it, outermost first."""
        yield self
        node = self._first  # as `nodes` does: many ask, few nodes have bodies
        while node is not None:
            bodies = node._bodies
            if node._graph is self and (node.bodies if bodies is None else bodies):
                yield from node.walk_bodies()
            node = node._next

    @property
    def root(self) -> Graph:
        """The outermost graph: the main graph, or the body of a function."""
        graph = self
        while graph.parent is not None and graph.parent.graph is not None:
            graph = graph.parent.graph
        return graph

    @property
    def depth(self) -> int:
        """How many bodies it lies in: 0 for the main graph and the body of a function."""
        count, graph = 0, self
        while graph.parent is not None and graph.parent.graph is not None:
            count, graph = count + 1, graph.parent.graph
        return count

    @property
    def is_function(self) -> bool:
        """Whether it is, or lies in, the body of a function, where constants are Constant nodes."""
        return isinstance(self.root.owner, Function)

    @property
    def is_function_body(self) -> bool:
        """Whether it is itself the body of a function: that has no initializers."""
        return isinstance(self.owner, Function)

    @property
    def opset(self) -> Mapping[str, int]:
        """The opset versions by domain that hold here; the standard domain is the empty string."""
        owner = self.root.owner
        return owner.opset if owner is not None else {}

    @property
    def label(self) -> str:
        """Where it is, as reports show it: `main`, `function NAME`, or `OUTER/NODE.ATTRIBUTE` for a body."""
        if self.parent is None:
            return f"function {self.owner.label}" if isinstance(self.owner, Function) else "main"
        outer = self.parent.graph
        attribute = next((a for a in self.parent.attributes.values() if self in a.graphs), None)
        place = "?" if attribute is None else attribute.name
        if attribute is not None and len(attribute.graphs) > 1:
            place += f"[{attribute.graphs.index(self)}]"
        return f"{outer.label if outer else '?'}/{self.parent.label}.{place}"

    def is_inside(self, other: Graph) -> bool:
        """Whether it is `other` or a body somewhere inside it: whether the values of `other` can be read here."""
        graph: Graph | None = self
        while graph is not None and graph is not other:
            graph = graph.parent.graph if graph.parent is not None else None
        return graph is other

    def __repr__(self) -> str:
        return f"Graph({self.label}, {self._count} nodes)"


class Function:
    """A model-local function: a body with opsets of its own."""

    def __init__(self, source: FunctionProto, body: Graph) -> None:
        self.source = source
        self.domain = source.domain
        self.name = source.name
        self.overload = source.overload
        self.body = body
        self._opset = {_standard(o.domain): o.version for o in source.opset_import}
        body.owner = self

    @property
    def opset(self) -> Mapping[str, int]:
        """The opset versions of its body by domain."""
        return self._opset

    @property
    def key(self) -> tuple[str, str, str]:
        """Domain, name and overload: what a node that calls it must match."""
        return ("" if self.domain == "ai.onnx" else self.domain, self.name, self.overload)

    @property
    def label(self) -> str:
        """Domain, name and overload in one word."""
        return f"{self.domain}.{self.name}" + (f":{self.overload}" if self.overload else "")


def _standard(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
