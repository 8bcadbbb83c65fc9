"""Lowering: from an ONNX ModelProto into the IR. No weight is copied; source messages are kept by reference."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable
from pathlib import Path

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from ...errors import UserError
from ..attribute import Attribute
from ..graph import Function, Graph
from ..model import Model
from ..node import Node
from ..origin import Origin
from ..tensor import ProtoTensor, SparseTensor, Tensor
from ..value import Use, Value
from .external import Files, external_tensor

_Scope = ChainMap[str, Value]
_GRAPH_TYPES = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def lower(proto: ModelProto, path: Path | None = None) -> Model:
    """The IR of a message.

    `path` is the file it was read from: external data are looked for beside it. The message must not be changed
    afterwards. Raises UserError where names do not resolve or external data are not there.
    """
    lowering = _Lowering(None if path is None else path.parent)
    functions = [lowering.function(function) for function in proto.functions]
    model = Model(lowering.graph(proto.graph, None, ChainMap()), functions, proto, path)
    _pin_training(model)
    return model


class _Lowering:
    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.files: Files = {}

    def function(self, proto: FunctionProto) -> Function:
        body = Graph(proto.name)
        scope = _Scope({name: _input(body, name) for name in proto.input})
        infos = {info.name: info for info in proto.value_info}
        self._nodes(body, proto.node, scope)
        _outputs(body, proto.output, scope, f"function {proto.domain}.{proto.name}")
        _value_infos(body, infos.values(), scope)
        return Function(proto, body)

    def graph(self, proto: GraphProto, parent: Node | None, outer: _Scope) -> Graph:
        graph = Graph(proto.name, proto, parent)
        own: dict[str, Value] = {}
        for info in proto.input:
            if info.name in own:
                raise UserError(f"two inputs of graph {proto.name!r} are called {info.name!r}")
            own[info.name] = _input(graph, info.name)
            own[info.name]._info = info
        for dense in proto.initializer:
            self._initializer(graph, own, dense.name, self.tensor(dense))
        for sparse in proto.sparse_initializer:
            self._initializer(graph, own, sparse.values.name, SparseTensor(sparse))
        scope = outer.new_child(own)
        self._nodes(graph, proto.node, scope)
        _outputs(graph, (info.name for info in proto.output), scope, f"graph {proto.name!r}")
        graph._output_infos = list(proto.output)
        _value_infos(graph, proto.value_info, scope)
        return graph

    def _initializer(self, graph: Graph, own: dict[str, Value], name: str, tensor: Tensor) -> None:
        value = own.get(name)
        if value is not None and value._tensor is not None:
            raise UserError(f"two initializers of graph {graph.name!r} are called {name!r}")
        if value is None:
            value = own[name] = Value(name, graph)
        value._tensor = tensor
        graph._initializers[value] = len(graph._initializers)

    def tensor(self, proto: TensorProto) -> Tensor:
        if proto.data_location == TensorProto.EXTERNAL:
            return external_tensor(proto, self.folder, self.files)
        return ProtoTensor(proto)

    def _nodes(self, graph: Graph, protos: Iterable[NodeProto], scope: _Scope) -> None:
        """Two rounds, so that a body sees every value of the graph around it: outputs first, then the rest."""
        own = scope.maps[0]
        made: list[tuple[Node, NodeProto]] = []
        for proto in protos:
            node = Node(
                proto.op_type, [], [], {}, domain=proto.domain, overload=proto.overload, name=proto.name, source=proto
            )
            for name in proto.output:
                value = Value(name, graph)
                value._producer = node
                node._outputs.append(value)
                if not name:
                    continue
                if name in own:
                    raise UserError(
                        f"{name!r} is defined twice in graph {graph.name!r}, the second time by node {node.label!r}"
                    )
                own[name] = value
            node._origin = Origin(node.label)
            graph.append(node)
            made.append((node, proto))
        for node, proto in made:
            for slot, name in enumerate(proto.input):
                read = (own.get(name) or _resolve(scope, name, node)) if name else None
                node._inputs.append(read)
                if read is not None:
                    read._uses[Use(node, slot)] = len(read._uses)
            for attribute in proto.attribute:
                if attribute.name in node._attributes:
                    raise UserError(f"node {node.label!r} has the attribute {attribute.name!r} twice")
                node._attributes[attribute.name] = self._attribute(attribute, node, scope)

    def _attribute(self, proto: AttributeProto, node: Node, scope: _Scope) -> Attribute:
        if proto.type == AttributeProto.TENSOR and proto.HasField("t") and not proto.ref_attr_name:
            return Attribute(proto, self.tensor(proto.t))
        if proto.type in _GRAPH_TYPES and not proto.ref_attr_name:
            bodies = (proto.g,) if proto.type == AttributeProto.GRAPH else tuple(proto.graphs)
            return Attribute(proto, None, tuple(self.graph(body, node, scope) for body in bodies))
        return Attribute(proto)


def _input(graph: Graph, name: str) -> Value:
    value = Value(name, graph)
    value._is_input = True
    graph._inputs.append(value)
    return value


def _resolve(scope: _Scope, name: str, node: Node) -> Value:
    value = scope.get(name)
    if value is None:
        raise UserError(f"node {node.label!r} reads {name!r}, which nothing defines")
    return value


def _outputs(graph: Graph, names: Iterable[str], scope: _Scope, where: str) -> None:
    for slot, name in enumerate(names):
        value = scope.get(name)
        if value is None:
            raise UserError(f"the output {name!r} of {where} is defined by nothing")
        graph._outputs.append(value)
        value._uses[Use(graph, slot)] = len(value._uses)


def _value_infos(graph: Graph, infos: Iterable[ValueInfoProto], scope: _Scope) -> None:
    own = scope.maps[0]
    for info in infos:
        value = own.get(info.name)
        graph._value_infos.append((value, info))
        if value is not None and value._info is None:
            value._info = info


def _pin_training(model: Model) -> None:
    """What training information names is state: neither constant nor dead."""
    names = {name for training in model.source.training_info for name in _training_names(training)}
    if names:
        for graph in model.graph.walk_graphs():
            for value in _defined(graph):
                if value.name in names:
                    value.pinned = "training information names it"


def _training_names(training: object) -> Iterable[str]:
    for binding in ("initialization_binding", "update_binding"):
        for entry in getattr(training, binding):
            yield from (entry.key, entry.value)
    for part in ("initialization", "algorithm"):
        yield from _graph_names(getattr(training, part))


def _graph_names(graph: GraphProto) -> Iterable[str]:
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _graph_names(body)
    yield from (output.name for output in graph.output)


def _defined(graph: Graph) -> Iterable[Value]:
    yield from graph._inputs
    yield from graph._initializers
    for node in graph.nodes:
        yield from node._outputs
