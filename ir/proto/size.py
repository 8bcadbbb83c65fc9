"""The size of a model's file, without making it: no weight is copied or computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx import AttributeProto, TensorProto

from ..model import Model
from ..tensor import DerivedTensor, ExternalTensor, ProtoTensor, Tensor
from .emit import emit

_COMPUTED_BELOW = 4096


def file_size(model: Model) -> int:
    """Bytes that the model takes on disk: its file, plus the data of tensors that lie in other files.

    The emitted message is made with empty tensors; then the sizes of the real ones are put in, and the lengths of the
    messages around them follow.
    """
    sizes: list[int] = []
    outside = 0

    def measure(tensor: Tensor, name: str) -> TensorProto:
        nonlocal outside
        sizes.append(_tensor_size(tensor, name))
        outside += tensor.length if isinstance(tensor, ExternalTensor) else 0
        return TensorProto()

    proto = emit(model, measure)
    order = iter(sizes)
    grown = 0
    if proto.HasField("graph"):
        grown = _growth(proto.graph, _graph_growth(proto.graph, order))
    for function in proto.functions:
        grown += _growth(function, sum(_growth(n, _node_growth(n, order)) for n in function.node))
    return int(proto.ByteSize()) + grown + outside


def _tensor_size(tensor: Tensor, name: str) -> int:
    if isinstance(tensor, ProtoTensor | ExternalTensor):
        size = int(tensor.proto.ByteSize())
        if tensor.proto.name != name:
            size += _text(name) - (_text(tensor.proto.name) if tensor.proto.HasField("name") else 0)
        return size
    small = not isinstance(tensor, DerivedTensor) and tensor.nbytes < _COMPUTED_BELOW
    if small or tensor.dtype == TensorProto.STRING:
        return int(tensor.to_proto(name).ByteSize())
    dims = sum(1 + _varint(dim) for dim in tensor.shape)
    return dims + 2 + (_text(name) if name else 0) + 1 + _varint(tensor.nbytes) + tensor.nbytes


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
