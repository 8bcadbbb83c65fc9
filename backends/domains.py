"""Which values the integer inputs of a model may take, read off what the graph does with them.

Integers flow unchanged through Cast, Reshape, the data of Gather and the like, and shifted through Add and Sub of a
constant.
Where they end up decides, in this order:

1. an index (Gather, Scatter, a label of a loss, ...) stays inside the axis it indexes;
2. what is compared for equality with constants takes their values and one other; against a table of many (a one-hot
   encoding spelled out), the positions of the table;
3. what is subtracted from a constant (`1 - mask`), made a bool or one-hot encoded is 0 or 1;
4. what serves as a size is 1 or 2, so that no output explodes.

These are hints for drawing inputs, never facts to rewrite by: a session still decides whether it takes a feed. Names
play no part. Dimensions suffice; the values of large constants are not looked at.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from .interface import Array

Size = int | str | tuple[str, int] | None
"""A fixed size, a symbol, an unnamed free axis of an input, or unknown."""

T = TypeVar("T")
_SMALL = 64
_STANDARD = ("", "ai.onnx", "ai.onnx.ml")
_KEEPS_FIRST = frozenset({
    "Cast", "CastLike", "Compress", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements",
    "GatherND", "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu",
    "Unsqueeze",
})  # fmt: skip
_KEEPS_ALL = {"Concat": 0, "Where": 1, "Max": 0, "Min": 0}
"""Operators that keep the elements of all inputs from this slot on."""
_SIZE_SLOTS = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2), "ConstantOfShape": (0,),
    "Expand": (1,), "HammingWindow": (0,), "HannWindow": (0,), "Loop": (0,), "MaxUnpool": (2,), "OneHot": (1,),
    "Pad": (1,), "Range": (0, 1, 2), "Reshape": (1,), "Resize": (3,), "Tile": (1,), "TopK": (1,),
}  # fmt: skip
_FLAG_SLOTS = {"OneHot": (0,), "Not": (0,), "And": (0, 1), "Or": (0, 1), "Xor": (0, 1), "Compress": (1,)}
_CONSTANT_KEEPS_VALUES = frozenset({"Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape"})


@dataclass(frozen=True)
class Index:
    """Values `low`, ..., `low + size - 1`."""

    size: Size
    low: int = 0


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: tuple[int, ...]


Domain = Index | Choice

FLAG = Choice((0, 1))
SIZE = Choice((1, 2))


@dataclass(frozen=True)
class _Flow:
    """A value that holds elements of the input `name`, each plus `shift`."""

    name: str
    shift: int = 0


@dataclass
class _Scope:
    """What is known of the values that a graph sees, outer ones included."""

    flows: ChainMap[str, tuple[_Flow, ...]] = field(default_factory=ChainMap)
    shapes: ChainMap[str, tuple[Size, ...]] = field(default_factory=ChainMap)
    constants: ChainMap[str, Array | None] = field(default_factory=ChainMap)
    """The values of constants; None if there are many of them, or they are elsewhere."""

    def inner(self) -> _Scope:
        return _Scope(self.flows.new_child(), self.shapes.new_child(), self.constants.new_child())


def integer_domains(model: ModelProto, names: Iterable[str]) -> dict[str, tuple[Domain, ...]]:
    """For each named input of `model`, the domains of the strongest kind that its uses ask for; none if unknown.

    `model` may be stripped of its weights. Values must lie in all `Index` domains of an input at once.
    """
    wanted = set(names)
    if not wanted:
        return {}
    walk = _Walk({(f.domain, f.name, f.overload): f for f in model.functions})
    graph = _with_shapes(model).graph
    scope = _Scope()
    scope.flows.update({name: (_Flow(name),) for name in wanted})
    walk.graph(graph, scope, is_main=True)
    return {name: walk.strongest(name) for name in wanted}


def _with_shapes(model: ModelProto) -> ModelProto:
    """The model with inferred shapes where inference manages; without them only fewer tables are known."""
    try:
        return onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        return model


@dataclass
class _Walk:
    functions: Mapping[tuple[str, str, str], onnx.FunctionProto]
    indices: dict[str, dict[Index, None]] = field(default_factory=dict)
    equals: dict[str, dict[int, None]] = field(default_factory=dict)
    choices: dict[str, dict[Choice, None]] = field(default_factory=dict)

    def strongest(self, name: str) -> tuple[Domain, ...]:
        if name in self.indices:
            return tuple(self.indices[name])
        if name in self.equals:
            values = tuple(self.equals[name])
            return (Choice((*values, max(values) + 1)),)
        choices = self.choices.get(name, {})
        return (FLAG,) if FLAG in choices else tuple(choices)

    def graph(self, graph: GraphProto, scope: _Scope, *, is_main: bool = False) -> None:
        for tensor in graph.initializer:
            _learn_constant(tensor.name, tensor, scope)
        for sparse in graph.sparse_initializer:
            scope.shapes[sparse.values.name] = tuple(sparse.dims)
        for info in (*graph.value_info, *graph.output):
            _learn_shape(info, scope, free=False)
        for info in graph.input:
            _learn_shape(info, scope, free=is_main)
        for node in graph.node:
            self.node(node, scope)

    def node(self, node: NodeProto, scope: _Scope) -> None:
        if (function := self.functions.get((node.domain, node.op_type, node.overload))) is not None:
            self._call(node, function, scope)
            return
        bodies = {a.name: a.g for a in node.attribute if a.type == AttributeProto.GRAPH}
        for body in bodies.values():
            self._body(node, body, scope)
        if node.domain not in _STANDARD:
            return
        if node.op_type == "Constant":
            _learn_constant_node(node, scope)
        elif node.op_type in _CONSTANT_KEEPS_VALUES and node.input[0] in scope.constants:
            scope.constants[node.output[0]] = scope.constants[node.input[0]]
        flows = [scope.flows.get(name, ()) if name else () for name in node.input]
        if any(flows):
            self._uses(node, flows, scope)
            passed = tuple(dict.fromkeys(_passed(node, flows, scope)))
            if passed:
                scope.flows.update(dict.fromkeys(filter(None, node.output), passed))

    def _body(self, node: NodeProto, body: GraphProto, scope: _Scope) -> None:
        inner = scope.inner()
        if node.op_type in ("Loop", "Scan"):
            for outer, own in zip(node.input, body.input, strict=False):
                inner.flows[own.name] = scope.flows.get(outer, ())
        self.graph(body, inner)
        if node.op_type == "If":
            for outer_name, own in zip(node.output, body.output, strict=False):
                flows = inner.flows.get(own.name, ())
                scope.flows[outer_name] = (*scope.flows.get(outer_name, ()), *flows)

    def _call(self, node: NodeProto, function: onnx.FunctionProto, scope: _Scope) -> None:
        inner = _Scope()
        for outer, own in zip(node.input, function.input, strict=False):
            _pass_on(scope.flows, outer, inner.flows, own)
            _pass_on(scope.shapes, outer, inner.shapes, own)
            _pass_on(scope.constants, outer, inner.constants, own)
        for info in function.value_info:
            _learn_shape(info, inner, free=False)
        for each in function.node:
            self.node(each, inner)
        for outer_name, own in zip(node.output, function.output, strict=False):
            _pass_on(inner.flows, own, scope.flows, outer_name)

    def _uses(self, node: NodeProto, flows: Sequence[tuple[_Flow, ...]], scope: _Scope) -> None:
        """Note what the node asks of the integers it reads."""
        for slot, low, size in _index_slots(node, scope):
            for flow in flows[slot] if slot < len(flows) else ():
                self.indices.setdefault(flow.name, {})[Index(size, low - flow.shift)] = None
        if node.op_type == "Equal":
            for slot in (0, 1):
                self._equal(flows[slot], node.input[1 - slot], scope)
        flags = _FLAG_SLOTS.get(node.op_type, ())
        if node.op_type == "Sub" and node.input[0] in scope.constants:
            flags = (1,)
        if node.op_type == "Cast" and _attribute(node, "to") == TensorProto.BOOL:
            flags = (0,)
        for slots, choice in ((flags, FLAG), (_SIZE_SLOTS.get(node.op_type, ()), SIZE)):
            for slot in slots:
                for flow in flows[slot] if slot < len(flows) else ():
                    self.choices.setdefault(flow.name, {})[choice] = None

    def _equal(self, flows: tuple[_Flow, ...], other: str, scope: _Scope) -> None:
        if other not in scope.constants:
            return
        values, shape = _integers(other, scope), scope.shapes.get(other)
        for flow in flows:
            if values:
                self.equals.setdefault(flow.name, {}).update(dict.fromkeys(v - flow.shift for v in values))
            elif shape is not None:
                count = math.prod(d for d in shape if isinstance(d, int))
                self.indices.setdefault(flow.name, {})[Index(count, -flow.shift)] = None


def _integers(name: str, scope: _Scope) -> list[int]:
    """The values of an integer constant; none if they are not at hand."""
    constant = scope.constants.get(name)
    return [int(v) for v in constant.ravel()] if constant is not None and constant.dtype.kind in "iu" else []


def _pass_on(outer: Mapping[str, T], name: str, inner: MutableMapping[str, T], own: str) -> None:
    if name in outer:
        inner[own] = outer[name]


def _passed(node: NodeProto, flows: Sequence[tuple[_Flow, ...]], scope: _Scope) -> Iterable[_Flow]:
    """The flows that come out of a node: those whose elements it keeps or shifts."""
    if node.op_type in _KEEPS_FIRST:
        yield from flows[0]
    for each in flows[_KEEPS_ALL.get(node.op_type, len(flows)) :]:
        yield from each
    if node.op_type in ("Add", "Sub"):
        sign = 1 if node.op_type == "Add" else -1
        for slot in (0, 1) if node.op_type == "Add" else (0,):
            addend = _integers(node.input[1 - slot], scope)
            if len(addend) == 1:
                yield from (_Flow(f.name, f.shift + sign * addend[0]) for f in flows[slot])


def _index_slots(node: NodeProto, scope: _Scope) -> list[tuple[int, int, Size]]:
    """Slots whose elements are positions: (slot, lowest value, number of values)."""
    data = scope.shapes.get(node.input[0]) if node.input else None
    axis = _attribute(node, "axis") or 0
    if node.op_type in ("Gather", "GatherElements", "ScatterElements", "Scatter"):
        return [(1, 0, _axis(data, axis))]
    if node.op_type in ("GatherND", "ScatterND"):
        return [(1, 0, _smallest(data))]
    if node.op_type == "ArrayFeatureExtractor":
        return [(1, 0, _axis(data, -1))]
    if node.op_type in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"):
        return [(1, 0, _axis(data, 1))]
    if node.op_type == "ReverseSequence":
        return [(1, 1, _axis(data, _attribute(node, "time_axis") or 0))]
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return [(4, 1, _axis(data, 1 if _attribute(node, "layout") else 0))]
    return []


def _axis(shape: tuple[Size, ...] | None, axis: int) -> Size:
    return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None


def _smallest(shape: tuple[Size, ...] | None) -> Size:
    """The smallest size of all axes; unknown if one of them is."""
    sizes = [d for d in shape or () if isinstance(d, int)]
    return min(sizes) if shape and len(sizes) == len(shape) else None


def _attribute(node: NodeProto, name: str) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), 0)


def _learn_shape(info: onnx.ValueInfoProto, scope: _Scope, *, free: bool) -> None:
    """Note a declared shape; an unnamed free axis gets the identity (name, axis) if `free`."""
    if not info.type.tensor_type.HasField("shape"):
        return
    shape: list[Size] = []
    for axis, dim in enumerate(info.type.tensor_type.shape.dim):
        size: Size = dim.dim_value if dim.dim_value > 0 else dim.dim_param or None
        shape.append((info.name, axis) if free and size in (None, "?") else size)
    scope.shapes[info.name] = tuple(shape)


def _learn_constant(name: str, tensor: TensorProto, scope: _Scope) -> None:
    scope.shapes[name] = tuple(tensor.dims)
    inline = tensor.data_location != TensorProto.EXTERNAL and tensor.data_type != TensorProto.STRING
    small = inline and math.prod(tensor.dims) <= _SMALL
    scope.constants[name] = numpy_helper.to_array(tensor) if small else None


def _learn_constant_node(node: NodeProto, scope: _Scope) -> None:
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            continue  # the call of the function gives it
        value: Any = onnx.helper.get_attribute_value(attribute)
        if attribute.name == "value":
            _learn_constant(node.output[0], value, scope)
        elif attribute.name == "sparse_value":
            scope.shapes[node.output[0]] = tuple(value.dims)
        elif attribute.name in ("value_int", "value_ints"):
            scope.constants[node.output[0]] = np.array(value, dtype=np.int64)
            scope.shapes[node.output[0]] = np.shape(value)
