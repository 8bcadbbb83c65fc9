"""The size of a model's file, without making it: no weight is copied or computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from onnx import AttributeProto, NodeProto, TensorProto

from ..dtypes import packed_nbytes
from ..graph import Graph
from ..model import Model
from ..node import Node
from ..tensor import DerivedTensor, ExternalTensor, ProtoTensor, SparseTensor, Tensor
from .emit import emit, emit_node

_COMPUTED_BELOW = 4096


def file_size(model: Model) -> int:
    """Bytes that the model takes on disk: its file, plus the data of tensors that lie in other files.

    The emitted message is made with empty tensors; then the sizes of the real ones are put in, and the lengths of the
    messages around them follow.
    """
    scale = _Scale()
    proto = emit(model, scale.measure)
    order = iter(scale.sizes)
    grown = 0
    if proto.HasField("graph"):
        grown = _growth(proto.graph, _graph_growth(proto.graph, order))
    for function in proto.functions:
        grown += _growth(function, sum(_growth(n, _node_growth(n, order)) for n in function.node))
    return int(proto.ByteSize()) + grown + scale.outside


def node_size(node: Node) -> int:
    """Bytes that the file loses with a node, its bodies and tensors included."""
    scale = _Scale()
    proto = NodeProto()
    emit_node(node, proto, scale.measure)
    return _framed(int(proto.ByteSize()) + _node_growth(proto, iter(scale.sizes))) + scale.outside


def initializer_size(tensor: Tensor, name: str) -> int:
    """Bytes that the file loses with an initializer."""
    if isinstance(tensor, SparseTensor):
        return _framed(int(tensor.to_sparse_proto(name).ByteSize()))
    scale = _Scale()
    scale.measure(tensor, name)
    return _framed(scale.sizes[0]) + scale.outside


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
    """An emitter that weighs tensors instead of emitting them."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.outside = 0

    def measure(self, tensor: Tensor, name: str) -> TensorProto:
        self.sizes.append(_tensor_size(tensor, name))
        self.outside += tensor.length if isinstance(tensor, ExternalTensor) else 0
        return TensorProto()


def _tensor_size(tensor: Tensor, name: str) -> int:
    if isinstance(tensor, ProtoTensor | ExternalTensor):
        size = int(tensor.proto.ByteSize())
        if tensor.proto.name != name:
            size += _text(name) - (_text(tensor.proto.name) if tensor.proto.HasField("name") else 0)
        return size
    small = not isinstance(tensor, DerivedTensor) and tensor.nbytes < _COMPUTED_BELOW
    if small or tensor.dtype == TensorProto.STRING:
        return int(tensor.to_proto(name).ByteSize())
    return _raw_size(tensor.dtype, tensor.shape, name)


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


def _growth(message: Any, inner: int) -> int:
    """What a message adds to the one around it when its content grows by `inner` bytes."""
    size = int(message.ByteSize())
    return inner + _varint(size + inner) - _varint(size)


def _graph_growth(graph: Any, order: Iterator[int]) -> int:
    grown = sum(_growth(node, _node_growth(node, order)) for node in graph.node)
    return grown + sum(_growth(dense, next(order)) for dense in graph.initializer)


def _node_growth(node: Any, order: Iterator[int]) -> int:
    grown = 0
    for attribute in node.attribute:
        inner = 0
        if attribute.type == AttributeProto.TENSOR and not attribute.ref_attr_name:
            inner += _growth(attribute.t, next(order))
        elif attribute.type == AttributeProto.GRAPH and attribute.HasField("g"):
            inner += _growth(attribute.g, _graph_growth(attribute.g, order))
        for body in attribute.graphs:
            inner += _growth(body, _graph_growth(body, order))
        grown += _growth(attribute, inner)
    return grown
