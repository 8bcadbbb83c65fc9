"""Types and shapes of values, by onnx's shape inference on an outline of the model.

What the file declares of intermediate values and outputs is left out first: those are claims. So what comes out rests
on graph inputs, weights and the operators alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    TensorShapeProto,
    TypeProto,
    ValueInfoProto,
    shape_inference,
)

from ..dtypes import packed_nbytes
from ..graph import Graph
from ..model import Model
from ..proto import outline
from ..value import Value

Shape = tuple[int | str | None, ...]


class Shapes:
    """What inference found; `problem` holds its words if it failed as a whole (then only weights are known)."""

    def __init__(self, found: dict[Value, ValueInfoProto], problem: str = "") -> None:
        self._found = found
        self._shapes: dict[Value, Shape | None] = {}
        self.problem = problem

    def type(self, value: Value) -> TypeProto | None:
        """The type of a value, or None if unknown."""
        info = self._found.get(value)
        return None if info is None else info.type

    def dtype(self, value: Value) -> int | None:
        """The element type of a tensor value, or None if unknown."""
        tensor = value.tensor or value.const
        if tensor is not None:
            return tensor.dtype
        found = self.type(value)
        return (found.tensor_type.elem_type or None) if found is not None and found.HasField("tensor_type") else None

    def shape(self, value: Value) -> Shape | None:
        """The shape of a tensor value, names for symbols, None for unknown dims; None if the rank is unknown."""
        tensor = value.const
        if tensor is not None:
            return tensor.shape
        if value not in self._shapes:
            found = self.type(value)
            self._shapes[value] = None if found is None else shape_of(found)
        return self._shapes[value]

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
    if not type_.HasField("tensor_type"):
        return None
    tensor = type_.tensor_type
    return tuple(map(_dim, tensor.shape.dim)) if tensor.HasField("shape") else None


def _dim(dim: TensorShapeProto.Dimension) -> int | str | None:
    number: int = dim.dim_value
    return number if number or dim.HasField("dim_value") else dim.dim_param or None


def infer_shapes(model: Model, pins: Mapping[str, tuple[int, ...]] | None = None) -> Shapes:
    """Infer the types of all values of the main graph and the bodies in it; `pins` fixes shapes of inputs by name."""
    message = outline(model, pins)
    problem = ""
    try:
        proto = shape_inference.infer_shapes(message, data_prop=True)
    except Exception as error:  # the inference library raises bare RuntimeErrors of many kinds
        problem = f"onnx shape inference failed: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        proto = ModelProto.FromString(message)
    found: dict[Value, ValueInfoProto] = {}
    _collect(model.graph, proto.graph, found)
    return Shapes(found, problem)


def _collect(graph: Graph, proto: GraphProto, found: dict[Value, ValueInfoProto]) -> None:
    infos = {info.name: info for info in proto.value_info}
    for info in (*proto.output, *proto.input):
        if info.type.WhichOneof("value") is not None:
            infos[info.name] = info
    for value in graph.values():
        info = infos.get(value._name)
        if info is not None:
            found[value] = info
    for index, node in enumerate(graph.nodes):
        if node.bodies:
            bodies = [body for attribute in proto.node[index].attribute for body in _bodies(attribute)]
            for body, body_proto in zip(node.bodies, bodies, strict=True):
                _collect(body, body_proto, found)


def _bodies(attribute: AttributeProto) -> list[GraphProto]:
    if attribute.type == AttributeProto.GRAPH:
        return [attribute.g]
    return list(attribute.graphs) if attribute.type == AttributeProto.GRAPHS else []
