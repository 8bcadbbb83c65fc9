"""The size of a model's file, without making it: no weight is copied or computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto

from ..attribute import Attribute
from ..dtypes import packed_nbytes
from ..graph import Function, Graph
from ..journal import Edit
from ..model import Model
from ..node import Node
from ..tensor import DerivedTensor, ExternalTensor, ProtoTensor, SparseTensor, Tensor
from ..value import Value
from .emit import GRAPH_FIELDS, emit_function_header, emit_graph_header, emit_node_header, model_header, shell

_COMPUTED_BELOW = 4096
_WRITTEN_BELOW = 1 << 16
_Part = TypeVar("_Part", bound=Node | Value)


def file_size(model: Model) -> int:
    """Bytes that the model takes on disk: its file, plus the data of tensors that lie in other files.

    What no pass touched weighs what its source message does; of the rest each message is made with empty tensors.
    """
    return FileMeter(model).size()


class FileMeter:
    """The size of a model's file through its changes: nodes and initializers that no edit touched are not weighed
    again."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: _Weights = {}

    def update(self, edits: Iterable[Edit]) -> None:
        """Take note of changes, all since the last note; nothing from before it may have been taken back."""
        for edit in edits:
            for part in (edit.subject, edit.partner):
                if isinstance(part, Node):
                    self._known.pop(part, None)
                elif isinstance(part, Value):  # its name stands wherever it is made or read
                    self._known.pop(part, None)
                    for user in (part._producer, *(use.user for use in part._uses)):
                        if isinstance(user, Node):
                            self._known.pop(user, None)

    def size(self) -> int:
        """Bytes that the model takes now."""
        model, scale = self._model, _Scale(self._known)
        size = int(model_header(model).ByteSize())
        if model.source.HasField("graph"):
            size += _framed(scale.graph(model.graph))
        for function in model.functions.values():
            size += 1 + _framed(scale.function(function))  # the field's number takes two bytes
        return size + scale.outside


def node_size(node: Node) -> int:
    """Bytes that the file loses with a node, its bodies and tensors included."""
    scale = _Scale()
    return _framed(scale.node(node)) + scale.outside


def initializer_size(tensor: Tensor, name: str) -> int:
    """Bytes that the file loses with an initializer."""
    if isinstance(tensor, SparseTensor):
        return _framed(int(tensor.to_sparse_proto(name).ByteSize()))
    scale = _Scale()
    return _framed(scale.tensor(tensor, name)) + scale.outside


def constant_size(dtype: int, shape: tuple[int, ...], name: str, graph: Graph, *, as_node: bool) -> int:
    """Bytes, at most, that the file grows by with a new constant of numbers in `graph`, `as_node` or as an initializer.

    In a body the lengths of the messages around it may get longer, too.
    """
    if not as_node:
        size = _framed(_raw_size(dtype, shape, name))
    else:
        value = _framed(_raw_size(dtype, shape, ""))
        attribute = _framed(_text("value") + 3 + value)
        size = _framed(_text("Constant") + _text(name) + attribute)
    return size + 3 * graph.depth * _varint(size)


_Weights = dict[Node | Value, tuple[int, int]]
"""Bytes of a node without bodies, or of an initializer, as a field; and those that lie in other files."""


class _Scale:
    """Weighs parts of a model, and counts the bytes that lie in other files; remembers in `known` what it weighed."""

    def __init__(self, known: _Weights | None = None) -> None:
        self.outside = 0
        self._known: _Weights = {} if known is None else known

    def graph(self, graph: Graph) -> int:
        """Bytes of a graph's message."""
        return _graph_header_size(graph) + self._sum(graph.initializers, self._held) + self._nodes(graph)

    def function(self, function: Function) -> int:
        """Bytes of a function's message."""
        proto = FunctionProto()
        emit_function_header(function, proto)
        return int(proto.ByteSize()) + self._nodes(function.body)

    def _nodes(self, graph: Graph) -> int:
        return self._sum(graph.nodes, self.node)

    def _sum(self, parts: Iterable[_Part], weigh: Callable[[_Part], int]) -> int:
        """Bytes of nodes or initializers as fields of a message."""
        known, total = self._known, 0
        for part in parts:
            found = known.get(part)
            if found is not None:
                total += found[0]
                self.outside += found[1]
                continue
            before = self.outside
            size = _framed(weigh(part))
            total += size
            if not (isinstance(part, Node) and part.bodies):  # what is inside changes without it
                known[part] = (size, self.outside - before)
        return total

    def _held(self, value: Value) -> int:
        tensor = value.tensor
        if isinstance(tensor, SparseTensor):
            return int(tensor.to_sparse_proto(value.name).ByteSize())
        assert tensor is not None  # it is an initializer
        return self.tensor(tensor, value.name)

    def tensor(self, tensor: Tensor, name: str) -> int:
        """Bytes of a tensor's message."""
        self.outside += tensor.length if isinstance(tensor, ExternalTensor) else 0
        return _tensor_size(tensor, name)

    def node(self, node: Node) -> int:
        """Bytes of a node's message."""
        source = node.source
        if source is not None and not (node.is_touched or node._metadata or node.bodies or _holds_much(node)):
            renamed = _names_size(node._inputs, source.input) + _names_size(node._outputs, source.output)
            return int(source.ByteSize()) + renamed
        return _node_header_size(node) + sum(_framed(self._attribute(one)) for one in node.attributes.values())

    def _attribute(self, attribute: Attribute) -> int:
        if attribute.tensor is None and not attribute.graphs:
            return int(attribute.proto.ByteSize())
        size = _attribute_header_size(attribute.proto)
        if attribute.tensor is not None:
            size += _framed(self.tensor(attribute.tensor, attribute.proto.t.name))
        return size + sum(_framed(self.graph(graph)) for graph in attribute.graphs)


def _node_header_size(node: Node) -> int:
    """Bytes of a node without its attributes."""
    source = node.source
    if source is None or node._metadata or len(UnknownFieldSet(source)):
        return _written_header_size(node)
    size = sum(_text("" if value is None else value._name) for value in (*node._inputs, *node._outputs))
    for field, text in source.ListFields():
        if field.name in ("input", "output", "attribute"):
            continue
        if not isinstance(text, str):
            return _written_header_size(node)
        size += _text(text)
    return size


def _written_header_size(node: Node) -> int:
    proto = NodeProto()
    emit_node_header(node, proto)
    return int(proto.ByteSize())


def _attribute_header_size(proto: AttributeProto) -> int:
    """Bytes of an attribute without its tensor and graphs: as a rule a name and a type."""
    fields = {field.name for field, _ in proto.ListFields()} - {"t", "g", "graphs"}
    if fields != {"name", "type"} or not isinstance(proto.name, str) or len(UnknownFieldSet(proto)):
        return int(shell(proto, ("t", "g", "graphs")).ByteSize())
    return _text(proto.name) + 3


def _holds_much(node: Node) -> bool:
    """Whether the size of a node is better counted by parts: a tensor in it is large, or lies in another file."""
    for attribute in node._attributes.values():
        tensor = attribute.tensor
        if tensor is not None and (isinstance(tensor, ExternalTensor) or tensor.nbytes >= _COMPUTED_BELOW):
            return True
    return False


def _names_size(values: Sequence[Value | None], before: Sequence[str]) -> int:
    """Bytes by which the names of values outweigh those of the source message."""
    names = ["" if value is None else value._name for value in values]
    return 0 if names == before else sum(map(_text, names)) - sum(map(_text, before))


def _graph_header_size(graph: Graph) -> int:
    """Bytes of a graph without its nodes and initializers."""
    source = graph.source
    if source is None or source.quantization_annotation:
        proto = GraphProto()
        emit_graph_header(graph, proto)
        return int(proto.ByteSize())
    infos: list[tuple[Value | None, ValueInfoProto | None]] = [(value, value._info) for value in graph.inputs]
    infos += zip(graph.outputs, graph.output_infos, strict=True)
    infos += ((value, info) for value, info in graph.value_infos if value is None or value.graph is not None)
    return int(shell(source, GRAPH_FIELDS).ByteSize()) + sum(_framed(_info_size(info, value)) for value, info in infos)


def _info_size(info: ValueInfoProto | None, value: Value | None) -> int:
    """Bytes of what is declared of a value, under its name of now."""
    size, before = (0, "") if info is None else (int(info.ByteSize()), info.name)
    if value is None or value._name == before:
        return size
    return size + _text(value._name) - (_text(before) if info is not None and info.HasField("name") else 0)


def _tensor_size(tensor: Tensor, name: str) -> int:
    if isinstance(tensor, ProtoTensor | ExternalTensor):
        size = _source_size(tensor)
        if tensor.proto.name != name:
            size += _text(name) - (_text(tensor.proto.name) if tensor.proto.HasField("name") else 0)
        return size
    small = not isinstance(tensor, DerivedTensor) and tensor.nbytes < _COMPUTED_BELOW
    if small or tensor.dtype == TensorProto.STRING:
        return int(tensor.to_proto(name).ByteSize())
    return _raw_size(tensor.dtype, tensor.shape, name)


def _source_size(tensor: ProtoTensor | ExternalTensor) -> int:
    """Bytes of a tensor's source message; much of `raw_data` is counted and not read."""
    if isinstance(tensor, ExternalTensor):
        return int(tensor.proto.ByteSize())
    proto = tensor.proto
    if tensor.nbytes < _WRITTEN_BELOW or not proto.HasField("raw_data"):
        return tensor.message_size
    if _holds_data_alone(proto):
        is_unnamed = proto.HasField("name") and not proto.name
        return _raw_size(tensor.dtype, tensor.shape, proto.name) + 2 * is_unnamed
    return int(shell(proto, ("raw_data",)).ByteSize()) + _framed(tensor.nbytes)


def _holds_data_alone(proto: TensorProto) -> bool:
    """Whether a message with raw data has nothing else but name, type and dimensions."""
    return not (
        proto.HasField("segment")
        or proto.HasField("doc_string")
        or proto.HasField("data_location")
        or any(getattr(proto, field) for field in _OTHER_LISTS)
        or len(UnknownFieldSet(proto))
    )


_OTHER_LISTS = tuple({field.name for field in TensorProto.DESCRIPTOR.fields if field.is_repeated} - {"dims"})


def _raw_size(dtype: int, shape: tuple[int, ...], name: str) -> int:
    """Bytes of a TensorProto that holds its elements in `raw_data`."""
    dims = sum(1 + _varint(dim) for dim in shape)
    nbytes = packed_nbytes(dtype, math.prod(shape))
    return dims + 2 + (_text(name) if name else 0) + 1 + _varint(nbytes) + nbytes


def _framed(size: int) -> int:
    """With the tag and length before it."""
    return 1 + _varint(size) + size


def _text(name: str) -> int:
    length = len(name.encode())
    return 1 + _varint(length) + length


def _varint(number: int) -> int:
    return max(1, (number.bit_length() + 6) // 7)
