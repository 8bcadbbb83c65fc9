"""The size of a model's file, without making it: no weight is copied or computed."""

from __future__ import annotations

import math

from onnx import FunctionProto, GraphProto, NodeProto, TensorProto

from ..attribute import Attribute
from ..dtypes import packed_nbytes
from ..graph import Function, Graph
from ..model import Model
from ..node import Node
from ..tensor import DerivedTensor, ExternalTensor, ProtoTensor, SparseTensor, Tensor
from ..value import Value
from .emit import (
    emit_function_header,
    emit_graph_header,
    emit_node_header,
    is_as_source,
    model_header,
    shell,
)

_COMPUTED_BELOW = 4096
_WRITTEN_BELOW = 1 << 16


def file_size(model: Model) -> int:
    """Bytes that the model takes on disk: its file, plus the data of tensors that lie in other files.

    What no pass touched weighs what its source message does; of the rest each message is made with empty tensors.
    """
    scale = _Scale()
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


class _Scale:
    """Weighs parts of a model, and counts the bytes that lie in other files."""

    def __init__(self) -> None:
        self.outside = 0

    def graph(self, graph: Graph) -> int:
        """Bytes of a graph's message."""
        proto = GraphProto()
        emit_graph_header(graph, proto)
        return int(proto.ByteSize()) + sum(map(self.held, graph.initializers)) + self._nodes(graph)

    def function(self, function: Function) -> int:
        """Bytes of a function's message."""
        proto = FunctionProto()
        emit_function_header(function, proto)
        return int(proto.ByteSize()) + self._nodes(function.body)

    def held(self, value: Value) -> int:
        """Bytes of an initializer with the tag and length before it."""
        tensor = value.tensor
        if isinstance(tensor, SparseTensor):
            return _framed(int(tensor.to_sparse_proto(value.name).ByteSize()))
        return 0 if tensor is None else _framed(self.tensor(tensor, value.name))

    def tensor(self, tensor: Tensor, name: str) -> int:
        """Bytes of a tensor's message."""
        self.outside += tensor.length if isinstance(tensor, ExternalTensor) else 0
        return _tensor_size(tensor, name)

    def _nodes(self, graph: Graph) -> int:
        return sum(_framed(self.node(node)) for node in graph.nodes)

    def node(self, node: Node) -> int:
        """Bytes of a node's message."""
        if node.source is not None and is_as_source(node) and not any(map(_holds_much, node.attributes.values())):
            return int(node.source.ByteSize())
        proto = NodeProto()
        emit_node_header(node, proto)
        return int(proto.ByteSize()) + sum(_framed(self._attribute(one)) for one in node.attributes.values())

    def _attribute(self, attribute: Attribute) -> int:
        if attribute.tensor is None and not attribute.graphs:
            return int(attribute.proto.ByteSize())
        size = int(shell(attribute.proto, ("t", "g", "graphs")).ByteSize())
        if attribute.tensor is not None:
            size += _framed(self.tensor(attribute.tensor, attribute.proto.t.name))
        return size + sum(_framed(self.graph(graph)) for graph in attribute.graphs)


def _holds_much(attribute: Attribute) -> bool:
    """Whether the size of an attribute is better counted by parts: its tensor is large, or lies in another file."""
    tensor = attribute.tensor
    return tensor is not None and (isinstance(tensor, ExternalTensor) or tensor.nbytes >= _COMPUTED_BELOW)


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
    if tensor.nbytes < _WRITTEN_BELOW or not tensor.proto.HasField("raw_data"):
        return tensor.message_size
    return int(shell(tensor.proto, ("raw_data",)).ByteSize()) + _framed(tensor.nbytes)


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
