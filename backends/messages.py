"""Walks over a ModelProto: every graph in it, and every tensor with the place that it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from ..ir import Model
from .wire import INITIALIZER, NODE, Place


class Role(Enum):
    """What a tensor is to its graph."""

    INITIALIZER = "initializer"
    CONSTANT = "constant"
    """The value of a Constant node."""
    ATTRIBUTE = "attribute"
    """In an attribute of any other node."""
    SPARSE = "sparse"
    """The values or indices of a sparse tensor."""


_Holder = TensorProto | SparseTensorProto | tuple[NodeProto, AttributeProto]


class Held(NamedTuple):
    """A tensor in a message."""

    tensor: TensorProto
    role: Role
    holder: _Holder
    """The initializer that it is or is a part of, or the node and its attribute."""
    place: Place | None = None
    """Where it is in the main graph, if it is an initializer or in a node of that."""

    @property
    def label(self) -> str:
        """How messages call it."""
        if isinstance(self.holder, TensorProto):
            return f"initializer {self.holder.name!r}"
        return (
            _sparse_label(self.holder) if isinstance(self.holder, SparseTensorProto) else _attribute_label(*self.holder)
        )


def walk_graphs(model: ModelProto) -> Iterator[GraphProto | FunctionProto]:
    """The main graph, the functions, the graphs of training information, and every body inside them."""
    training = (graph for info in model.training_info for graph in (info.initialization, info.algorithm))
    return walk_inside(model.graph, *model.functions, *training)


def walk_inside(*graphs: GraphProto | FunctionProto) -> Iterator[GraphProto | FunctionProto]:
    """These graphs and every body inside them."""
    todo = [*graphs]
    while todo:
        graph = todo.pop()
        yield graph
        for node in graph.node:
            todo.extend(bodies_of(node))


def bodies_of(node: NodeProto) -> list[GraphProto]:
    """The graphs in the attributes of a node."""
    found: list[GraphProto] = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        found += attribute.graphs
    return found


def walk_sparse(model: ModelProto) -> Iterator[tuple[SparseTensorProto, str]]:
    """Every sparse tensor with its label."""
    for graph in walk_graphs(model):
        if isinstance(graph, GraphProto):
            for sparse in graph.sparse_initializer:
                yield sparse, _sparse_label(sparse)
        for node in graph.node:
            for attribute in node.attribute:
                for sparse in _sparse_in(attribute):
                    yield sparse, _attribute_label(node, attribute)


def walk_tensors(model: ModelProto) -> Iterator[Held]:
    """Every tensor of a model, those inside sparse ones too."""
    main = model.graph
    for graph in walk_graphs(model):
        if isinstance(graph, GraphProto):
            for number, tensor in enumerate(graph.initializer):
                yield Held(tensor, Role.INITIALIZER, tensor, (INITIALIZER, number) if graph is main else None)
            for sparse in graph.sparse_initializer:
                yield from _parts_of(sparse, sparse)
        for number, node in enumerate(graph.node):
            role = Role.CONSTANT if is_constant(node) else Role.ATTRIBUTE
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield Held(attribute.t, role, (node, attribute), (NODE, number) if graph is main else None)
                for tensor in attribute.tensors:
                    yield Held(tensor, role, (node, attribute))
                for sparse in _sparse_in(attribute):
                    yield from _parts_of(sparse, (node, attribute))


def _parts_of(sparse: SparseTensorProto, holder: _Holder) -> Iterator[Held]:
    yield Held(sparse.values, Role.SPARSE, holder)
    yield Held(sparse.indices, Role.SPARSE, holder)


def is_constant(node: NodeProto) -> bool:
    """Whether a node is a Constant of the standard domain."""
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx")


def reference_of(tensor: TensorProto) -> tuple[str, str, str]:
    """Location, offset and length of an external tensor, as they are written."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return entries.get("location", ""), entries.get("offset", ""), entries.get("length", "")


def by_location(tensors: Iterable[TensorProto]) -> dict[str, list[TensorProto]]:
    """Those of the tensors that are external, by the location that they name."""
    found: dict[str, list[TensorProto]] = {}
    for tensor in tensors:
        if tensor.data_location == TensorProto.EXTERNAL:
            found.setdefault(reference_of(tensor)[0], []).append(tensor)
    return found


def externals_in(model: ModelProto) -> dict[str, list[TensorProto]]:
    """The external tensors of a message by location."""
    return by_location(held.tensor for held in walk_tensors(model))


def externals_of(model: Model) -> Mapping[str, Sequence[TensorProto]]:
    """Those of the message that a model came from: it never changes, so they are looked for once."""
    if model.externals is None:
        model.externals = externals_in(model.source)
    return model.externals


def _sparse_in(attribute: AttributeProto) -> list[SparseTensorProto]:
    single = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
    return [*single, *attribute.sparse_tensors]


def _sparse_label(sparse: SparseTensorProto) -> str:
    return f"sparse initializer {sparse.values.name!r}"


def _attribute_label(node: NodeProto, attribute: AttributeProto) -> str:
    name = node.name or f"{node.op_type}:{node.output[0] if node.output else ''}"
    return f"attribute {attribute.name!r} of node {name!r}"
