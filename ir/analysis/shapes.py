"""Types and shapes of values, by onnx's shape inference on a message without weights.

What the file declares of intermediate values and outputs is left out first: those are claims. So what comes out rests
on graph inputs, weights and the operators alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import AttributeProto, SparseTensorProto, TensorProto, TypeProto, shape_inference

from ..dtypes import packed_nbytes
from ..graph import Graph
from ..model import Model
from ..proto import emit, strip_weights
from ..value import Value

Shape = tuple[int | str | None, ...]


class Shapes:
    """What inference found; `problem` holds its words if it failed as a whole (then only weights are known)."""

    def __init__(self, types: dict[Value, TypeProto], problem: str = "") -> None:
        self._types = types
        self.problem = problem

    def type(self, value: Value) -> TypeProto | None:
        """The type of a value, or None if unknown."""
        return self._types.get(value)

    def dtype(self, value: Value) -> int | None:
        """The element type of a tensor value, or None if unknown."""
        tensor = value.tensor or value.const
        if tensor is not None:
            return tensor.dtype
        found = self._types.get(value)
        return (found.tensor_type.elem_type or None) if found is not None and found.HasField("tensor_type") else None

    def shape(self, value: Value) -> Shape | None:
        """The shape of a tensor value, names for symbols, None for unknown dims; None if the rank is unknown."""
        tensor = value.const
        if tensor is not None:
            return tensor.shape
        found = self._types.get(value)
        return None if found is None else shape_of(found)

    def static_shape(self, value: Value) -> tuple[int, ...] | None:
        """The shape if every dimension is a known number."""
        shape = self.shape(value)
        if shape is None:
            return None
        numbers = tuple(dim for dim in shape if isinstance(dim, int))
        return numbers if len(numbers) == len(shape) else None

    def nbytes(self, value: Value) -> int | None:
        """Bytes of the data of a tensor of known type and shape (strings: None)."""
        dtype, shape = self.dtype(value), self.static_shape(value)
        if dtype is None or shape is None:
            return None
        count = 1
        for dim in shape:
            count *= dim
        return packed_nbytes(dtype, count) or (0 if count == 0 else None)


def shape_of(type_: TypeProto) -> Shape | None:
    """The shape that a tensor type states; None if it is no tensor or states no rank."""
    if not type_.HasField("tensor_type") or not type_.tensor_type.HasField("shape"):
        return None
    dims: list[int | str | None] = []
    for dim in type_.tensor_type.shape.dim:
        kind = dim.WhichOneof("value")
        dims.append(dim.dim_value if kind == "dim_value" else (dim.dim_param or None) if kind == "dim_param" else None)
    return tuple(dims)


def infer_shapes(model: Model, pins: Mapping[str, tuple[int, ...]] | None = None) -> Shapes:
    """Infer the types of all values of the main graph and the bodies in it; `pins` fixes shapes of inputs by name."""
    proto = emit(model, strip_weights())
    _prepare(proto.graph)
    for info in proto.graph.input:
        if pins and info.name in pins:
            _pin(info.type, pins[info.name])
        else:
            _forget_impossible(info.type)
    problem = ""
    try:
        proto = shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:  # the inference library raises bare RuntimeErrors of many kinds
        problem = f"onnx shape inference failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    types: dict[Value, TypeProto] = {}
    _collect(model.graph, proto.graph, types)
    return Shapes(types, problem)


def _prepare(graph: Any) -> None:
    """Leave claims out, and let dense tensors stand for sparse ones, which inference takes for another type."""
    del graph.value_info[:]
    for sparse in graph.sparse_initializer:
        graph.initializer.add().CopyFrom(_dense(sparse))
    del graph.sparse_initializer[:]
    for info in graph.output:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for attribute in node.attribute:
            for body in _bodies(attribute):
                _prepare(body)
            if attribute.name == "sparse_value" and attribute.type == AttributeProto.SPARSE_TENSOR:
                dense = _dense(attribute.sparse_tensor)
                attribute.CopyFrom(AttributeProto(name="value", type=AttributeProto.TENSOR, t=dense))


def _dense(sparse: SparseTensorProto) -> TensorProto:
    values = sparse.values
    return TensorProto(
        name=values.name, data_type=values.data_type, dims=sparse.dims, data_location=TensorProto.EXTERNAL
    )


def _bodies(attribute: AttributeProto) -> list[Any]:
    if attribute.type == AttributeProto.GRAPH:
        return [attribute.g]
    return list(attribute.graphs) if attribute.type == AttributeProto.GRAPHS else []


def _pin(type_: TypeProto, shape: tuple[int, ...]) -> None:
    del type_.tensor_type.shape.dim[:]
    for dim in shape:
        type_.tensor_type.shape.dim.add(dim_value=dim)


def _forget_impossible(type_: TypeProto) -> None:
    """Exporters write 0 or -1 for a dimension that they do not know."""
    for dim in type_.tensor_type.shape.dim if type_.HasField("tensor_type") else ():
        if dim.HasField("dim_value") and dim.dim_value <= 0:
            dim.ClearField("dim_value")


def _collect(graph: Graph, proto: Any, types: dict[Value, TypeProto]) -> None:
    by_name = {value.name: value for value in graph.values()}
    for info in (*proto.input, *proto.value_info, *proto.output):
        value = by_name.get(info.name)
        if value is not None and info.type.WhichOneof("value") is not None:
            types.setdefault(value, info.type)
    for node, node_proto in zip(graph.nodes, proto.node, strict=True):
        if not node.bodies:
            continue
        protos = [body for attribute in node_proto.attribute for body in _bodies(attribute)]
        for body, body_proto in zip(node.bodies, protos, strict=True):
            _collect(body, body_proto, types)
