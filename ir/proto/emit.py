"""Emission: from the IR to a ModelProto. What no pass touched is copied from its source message.

Absolute fidelity: an untouched model gives its source message, field by field, presence included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from ..attribute import Attribute
from ..graph import Function, Graph
from ..model import Model
from ..node import Node
from ..tensor import ExternalTensor, ProtoTensor, SparseTensor, Tensor
from ..value import Value

TensorEmitter = Callable[[Tensor, str], TensorProto]
_STRIPPED = "stripped"


def as_is(tensor: Tensor, name: str) -> TensorProto:
    """External tensors stay references, all others carry their data."""
    if isinstance(tensor, ExternalTensor):
        proto = TensorProto()
        proto.CopyFrom(tensor.proto)
        if proto.name != name:
            proto.name = name
        return proto
    return tensor.to_proto(name)


def emit(model: Model, tensors: TensorEmitter = as_is) -> ModelProto:
    """The message of a model; `tensors` decides what becomes of each dense constant."""
    proto = model_header(model)
    if model.source.HasField("graph"):
        emit_graph(model.graph, proto.graph, tensors)
    for function in model.functions.values():
        emit_function(function, proto.functions.add(), tensors)
    return proto


def model_header(model: Model) -> ModelProto:
    """The message of a model without its graph and functions."""
    proto: ModelProto = shell(model.source, ("graph", "functions", "opset_import", "ir_version"))
    if model.source.HasField("ir_version") or model.ir_version:
        proto.ir_version = model.ir_version
    _emit_opset(proto, model.source, model.opset)
    _set_metadata(proto, model._metadata)
    return proto


class Stripped:
    """An emitter for messages without weights: a tensor of more than `keep` bytes becomes a reference to nothing."""

    def __init__(self, keep: int) -> None:
        self.keep = keep

    def __call__(self, tensor: Tensor, name: str) -> TensorProto:
        if tensor.nbytes <= self.keep:
            return tensor.to_proto(name)
        proto = TensorProto(name=name, data_type=tensor.dtype, dims=tensor.shape, data_location=TensorProto.EXTERNAL)
        proto.external_data.add(key="location", value=_STRIPPED)
        return proto


def strip_weights(keep: int = 1024) -> TensorEmitter:
    """An emitter for messages without weights above `keep` bytes."""
    return Stripped(keep)


def _is_verbatim(tensor: Tensor, tensors: TensorEmitter) -> bool:
    """Whether `tensors` makes of a tensor in an attribute what stands in its source message."""
    return isinstance(tensor, ProtoTensor) and (
        tensors is as_is or (isinstance(tensors, Stripped) and tensor.nbytes <= tensors.keep)
    )


def shell(source: Any, apart: tuple[str, ...]) -> Any:
    """A copy of a message without some fields; what they hold is copied only if fields of a newer format are there."""
    copy = type(source)()
    fields = list(_present(source, apart))
    if len(UnknownFieldSet(source)) or any(_is_no_text(field, value) for field, value in fields):
        copy.CopyFrom(source)
        for name in apart:
            copy.ClearField(name)
        return copy
    for field, value in fields:
        _copy_field(copy, field, value)
    return copy


def _present(source: Any, apart: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    """The fields that a message has, without some: those are not even looked into, as they may hold much."""
    for field in source.DESCRIPTOR.fields:
        if field.name not in apart and (field.is_repeated or source.HasField(field.name)):
            value = getattr(source, field.name)
            if not field.is_repeated or len(value):
                yield field, value


def _is_no_text(field: Any, value: Any) -> bool:
    """Whether a text field holds bytes that are no UTF-8: protobuf reads them but lets nobody set them."""
    values = value if field.is_repeated else (value,)
    return bool(field.type == field.TYPE_STRING) and any(isinstance(item, bytes) for item in values)


def _copy_field(target: Message, field: Any, value: Any) -> None:
    if field.is_repeated:
        getattr(target, field.name).MergeFrom(value)
    elif field.message_type is not None:
        getattr(target, field.name).CopyFrom(value)
    else:
        setattr(target, field.name, value)


def _emit_opset(target: Any, source: Any, opset: Any) -> None:
    """Source entries in their order with the versions of now, then the new ones."""
    seen = set()
    for entry in source.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if domain in opset:
            copy = target.opset_import.add()
            copy.CopyFrom(entry)
            if entry.version != opset[domain] and domain not in seen:
                copy.version = opset[domain]
        seen.add(domain)
    for domain, version in opset.items():
        if domain not in seen:
            target.opset_import.add(domain=domain, version=version)


GRAPH_FIELDS = (
    "node",
    "initializer",
    "sparse_initializer",
    "input",
    "output",
    "value_info",
    "quantization_annotation",
)


def emit_graph(graph: Graph, target: GraphProto, tensors: TensorEmitter) -> None:
    """Write a graph into an empty message."""
    emit_graph_header(graph, target)
    for node in graph.nodes:
        emit_node(node, target.node.add(), tensors)
    for value in graph.initializers:
        tensor = value.tensor
        if isinstance(tensor, SparseTensor):
            target.sparse_initializer.add().CopyFrom(tensor.to_sparse_proto(value.name))
        elif tensor is not None:
            target.initializer.add().CopyFrom(tensors(tensor, value.name))


def emit_graph_header(graph: Graph, target: GraphProto) -> None:
    """Write all of a graph but nodes and initializers into an empty message."""
    source = graph.source
    if source is not None:
        target.CopyFrom(shell(source, GRAPH_FIELDS))
        gone = _gone(graph, source) if source.quantization_annotation else set()
        for annotation in source.quantization_annotation:
            if annotation.tensor_name not in gone:
                target.quantization_annotation.add().CopyFrom(annotation)
    else:
        target.name = graph.name
    for value in graph.inputs:
        _emit_info(value._info, value.name, target.input.add())
    for value, info in zip(graph.outputs, graph.output_infos, strict=True):
        _emit_info(info, value.name, target.output.add())
    _emit_value_infos(graph, target)


def _gone(graph: Graph, source: GraphProto) -> set[str]:
    """Names that the source defines and the graph no longer does."""
    before = {name for node in source.node for name in node.output}
    before |= {info.name for info in source.input} | {dense.name for dense in source.initializer}
    return before - {value.name for value in graph.values()}


def _emit_info(info: ValueInfoProto | None, name: str, target: ValueInfoProto) -> None:
    if info is not None:
        target.CopyFrom(info)
    if target.name != name:
        target.name = name


def _emit_value_infos(graph: Graph, target: Any) -> None:
    for value, info in graph.value_infos:
        if value is None:
            target.value_info.add().CopyFrom(info)
        elif value.graph is not None:
            _emit_info(info, value.name, target.value_info.add())


def emit_function(function: Function, target: FunctionProto, tensors: TensorEmitter) -> None:
    """Write a function into an empty message."""
    emit_function_header(function, target)
    for node in function.body.nodes:
        emit_node(node, target.node.add(), tensors)


def emit_function_header(function: Function, target: FunctionProto) -> None:
    """Write all of a function but its nodes into an empty message."""
    source, body = function.source, function.body
    target.CopyFrom(shell(source, ("node", "input", "output", "opset_import", "value_info")))
    target.input.extend(value.name for value in body.inputs)
    target.output.extend(value.name for value in body.outputs)
    _emit_opset(target, source, function.opset)
    _emit_value_infos(body, target)


def emit_node(node: Node, target: NodeProto, tensors: TensorEmitter) -> None:
    """Write a node into an empty message."""
    if node.source is not None and not _is_rewritten(node, tensors):
        target.CopyFrom(node.source)
        _fix_names(target.input, node._inputs)
        _fix_names(target.output, node._outputs)
        _set_metadata(target, node._metadata)
        return
    emit_node_header(node, target)
    for attribute in node.attributes.values():
        _emit_attribute(attribute, target.attribute.add(), tensors)


def emit_node_header(node: Node, target: NodeProto) -> None:
    """Write all of a node but its attributes into an empty message."""
    if node.source is None:
        target.op_type = node.op_type
        if node.name:
            target.name = node.name
        if node.domain:
            target.domain = node.domain
        if node.overload:
            target.overload = node.overload
    else:
        target.CopyFrom(shell(node.source, ("attribute", "input", "output")))
    target.input.extend(_names(node._inputs))
    target.output.extend(_names(node._outputs))
    _set_metadata(target, node._metadata)


def _set_metadata(target: Any, metadata: Mapping[str, str]) -> None:
    """Set entries of metadata, those that are there in their place."""
    entries = {entry.key: entry for entry in target.metadata_props} if metadata else {}
    for key, value in metadata.items():
        entry = entries.get(key)
        if entry is None:
            entry = target.metadata_props.add(key=key)
        entry.value = value


def _is_rewritten(node: Node, tensors: TensorEmitter) -> bool:
    """Whether attributes have to be written one by one."""
    return node.is_touched or any(
        attribute.graphs or (attribute.tensor is not None and not _is_verbatim(attribute.tensor, tensors))
        for attribute in node._attributes.values()
    )


def _names(values: list[Value | None] | list[Value]) -> list[str]:
    return ["" if value is None else value._name for value in values]


def _fix_names(field: Any, values: list[Value | None] | list[Value]) -> None:
    names = _names(values)
    if list(field) != names:
        del field[:]
        field.extend(names)


def _emit_attribute(attribute: Attribute, target: AttributeProto, tensors: TensorEmitter) -> None:
    if attribute.tensor is None and not attribute.graphs:
        target.CopyFrom(attribute.proto)
        return
    target.CopyFrom(shell(attribute.proto, ("t", "g", "graphs")))
    if attribute.tensor is not None:
        target.t.CopyFrom(tensors(attribute.tensor, attribute.proto.t.name))
    for graph in attribute.graphs:
        emit_graph(graph, target.g if attribute.proto.type == AttributeProto.GRAPH else target.graphs.add(), tensors)
