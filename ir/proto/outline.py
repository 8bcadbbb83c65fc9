"""The outline of a model: the message that shape inference needs, as bytes.

It holds nodes, small constants, and what graph inputs declare; weights are placeholders, and the claims of the file
about other values are left out. Inference is asked for again after every round of rewriting, so the message is joined
from bytes and not built of objects: attributes and tensors never change and keep theirs, only names are written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from onnx import AttributeProto, FunctionProto, ModelProto, SparseTensorProto, TensorProto, TypeProto, ValueInfoProto

from ..attribute import Attribute
from ..graph import Graph
from ..model import Model
from ..node import Node
from ..tensor import ProtoTensor, SparseTensor, Tensor
from ..value import Value
from .emit import Stripped, emit_function

_STRIP = Stripped(1024)
"""Constants up to this size go in: inference computes with the sizes that they hold."""
_SHORT = 128
"""Lengths below this take one byte."""
_ATTRIBUTE = 5
_NAME_OF_TENSOR = b"\x42"
"""The tag of a tensor's name."""
_NAMES = 1 << 16
"""How many names are remembered as they were written."""
_TYPE = b"\xa0\x01"
"""The tag of an attribute's type."""


def outline(model: Model, pins: Mapping[str, tuple[int, ...]] | None = None) -> bytes:
    """The serialised outline; `pins` fixes shapes of inputs of the main graph by name."""
    header = ModelProto(ir_version=model.ir_version)
    for domain, version in model.opset.items():
        header.opset_import.add(domain=domain, version=version)
    parts = [header.SerializeToString(), _framed(7, _Writer().graph(model.graph, pins or {}))]
    for function in model.functions.values():
        proto = FunctionProto()
        emit_function(function, proto, _STRIP)
        parts.append(_framed(25, proto.SerializeToString()))
    return b"".join(parts)


class _Writer:
    """Writes graphs; remembers the operators that it has written."""

    def __init__(self) -> None:
        self._heads: dict[tuple[str, str, str], bytes] = {}

    def graph(self, graph: Graph, pins: Mapping[str, tuple[int, ...]] | None = None) -> bytes:
        """The fields of a graph; with `pins` the main graph, whose inputs are fixed or freed of impossible sizes."""
        parts = [self.node(node) for node in graph.nodes]
        for value in graph.initializers:
            if value.tensor is not None:
                parts.append(_framed(5, _tensor(value.tensor) + _NAME_OF_TENSOR + _counted(value.name)))
        for value in graph.inputs:
            parts.append(_framed(11, _input(value, pins).SerializeToString()))
        for value, info in zip(graph.outputs, graph.output_infos, strict=True):
            parts.append(_framed(12, _output(value, info).SerializeToString()))
        return b"".join(parts)

    def node(self, node: Node) -> bytes:
        """A node with the tag and length before it, but for its own name and what people wrote about it."""
        reads = ["" if value is None else value._name for value in node._inputs]
        makes = [value._name for value in node._outputs]
        kept = node._outline
        if kept is not None and kept[0] == reads and kept[1] == makes and kept[2] is node._attributes:
            return kept[3]
        parts = [b"\x0a" + _counted(name) for name in reads]
        parts += [b"\x12" + _counted(name) for name in makes]
        key = (node.op_type, node.domain, node.overload)
        parts.append(self._heads.get(key) or self._head(key))
        for attribute in node._attributes.values():
            parts.append(getattr(attribute, "_outline", None) or self._attribute(attribute))
        written = _framed(1, b"".join(parts))
        if not node.bodies:
            node._outline = (reads, makes, node._attributes, written)
        return written

    def _head(self, key: tuple[str, str, str]) -> bytes:
        op_type, domain, overload = (word.encode() for word in key)
        written = _framed(4, op_type) + (_framed(7, domain) if domain else b"")
        self._heads[key] = written = written + (_framed(8, overload) if overload else b"")
        return written

    def _attribute(self, attribute: Attribute) -> bytes:
        """An attribute with the tag and length before it; those without graphs keep it."""
        if attribute.graphs:
            number = 6 if attribute.proto.type == AttributeProto.GRAPH else 11
            bodies = b"".join(_framed(number, self.graph(body)) for body in attribute.graphs)
            return _framed(_ATTRIBUTE, _head_of_attribute(attribute) + bodies)
        attribute._outline = written = _framed(_ATTRIBUTE, _plain_attribute(attribute))
        return written


def _plain_attribute(attribute: Attribute) -> bytes:
    proto, tensor = attribute.proto, attribute.tensor
    if proto.name == "sparse_value" and proto.type == AttributeProto.SPARSE_TENSOR:
        dense = AttributeProto(name="value", type=AttributeProto.TENSOR, t=_dense(proto.sparse_tensor))
        return bytes(dense.SerializeToString())
    if tensor is None or (isinstance(tensor, ProtoTensor) and tensor.nbytes <= _STRIP.keep):
        return bytes(proto.SerializeToString())
    return _head_of_attribute(attribute) + _framed(5, _tensor(tensor))


def _head_of_attribute(attribute: Attribute) -> bytes:
    """Name and type."""
    return _framed(1, attribute.name.encode()) + _TYPE + _varint(attribute.proto.type)


def _tensor(tensor: Tensor) -> bytes:
    """The fields of a tensor under any name: a name that is written behind them counts."""
    written: bytes | None = getattr(tensor, "_outline", None)
    if written is None:
        proto = _dense(tensor.proto) if isinstance(tensor, SparseTensor) else _STRIP(tensor, "")
        tensor._outline = written = bytes(proto.SerializeToString())
    return written


def _dense(sparse: SparseTensorProto) -> TensorProto:
    """A dense tensor that stands for a sparse one, which inference takes for another type."""
    values = sparse.values
    return TensorProto(
        name=values.name, data_type=values.data_type, dims=sparse.dims, data_location=TensorProto.EXTERNAL
    )


def _input(value: Value, pins: Mapping[str, tuple[int, ...]] | None) -> ValueInfoProto:
    info = ValueInfoProto(name=value.name, type=value.type)
    if pins is None:
        return info
    if value.name in pins:
        _pin(info.type, pins[value.name])
    else:
        _forget_impossible(info.type)
    return info


def _output(value: Value, info: ValueInfoProto) -> ValueInfoProto:
    claim = ValueInfoProto(name=value.name, type=info.type if info.HasField("type") else None)
    if claim.type.HasField("tensor_type"):
        claim.type.tensor_type.ClearField("shape")
    return claim


def _pin(type_: TypeProto, shape: Iterable[int]) -> None:
    del type_.tensor_type.shape.dim[:]
    for dim in shape:
        type_.tensor_type.shape.dim.add(dim_value=dim)


def _forget_impossible(type_: TypeProto) -> None:
    """Exporters write 0 or -1 for a dimension that they do not know."""
    for dim in type_.tensor_type.shape.dim if type_.HasField("tensor_type") else ():
        if dim.HasField("dim_value") and dim.dim_value <= 0:
            dim.ClearField("dim_value")


@lru_cache(_NAMES)
def _counted(name: str) -> bytes:
    """A name with its length before it: each comes again with every inference."""
    written = name.encode()
    return _varint(len(written)) + written


def _framed(number: int, message: bytes) -> bytes:
    """A message as a field, with its tag and length."""
    length = len(message)
    if number < 16 and length < _SHORT:
        return bytes((number << 3 | 2, length)) + message
    return _varint(number << 3 | 2) + _varint(length) + message


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= _SHORT:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
