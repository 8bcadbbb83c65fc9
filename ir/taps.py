"""Taps: a copy of a model from which any inner value can be read, those of bodies too. No weight is copied.

A value of a body becomes a further output of the node that holds the body, and so on outwards. Of an If that takes the
other branch an empty tensor comes out; of a Loop or Scan the values of all iterations, stacked.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import helper

from .analysis.shapes import Shapes
from .attribute import Attribute
from .clone import clone_model
from .dtypes import numpy_dtype
from .graph import Graph
from .model import Model
from .names import Names
from .node import Node
from .tensor import Array, tensor
from .value import Use, Value


def tapped(model: Model, values: Iterable[Value], shapes: Shapes) -> tuple[Model, dict[Value, str]]:
    """A copy of `model`, and the names by which the values can be asked for as outputs (`Backend.prepare`).

    A 0-d value of a body comes out with one axis. Left out are values that cannot be read: those of functions, of
    bodies of SequenceMap, of a Scan that names axes of its outputs, of an If below opset 11, of bodies inside loops and
    loops inside bodies, and those of bodies of which `shapes` does not know the element type and the rank (in loops:
    all sizes).
    """
    mapping: dict[Value, Value] = {}
    copy = clone_model(model, mapping)
    maker = _Maker(Names(copy.roots()), shapes)
    names: dict[Value, str] = {}
    for value in dict.fromkeys(values):
        outermost = maker.export(mapping[value], value) if value in mapping else None
        if outermost is not None:
            names[value] = outermost.name
    return copy, names


_IF_OF_ANY_SHAPE = 11
"""The opset from which on the branches of an If may differ in shape."""


class _Maker:
    def __init__(self, names: Names, shapes: Shapes) -> None:
        self._names = names
        self._shapes = shapes

    def export(self, value: Value, original: Value) -> Value | None:
        """The value of the main graph that holds `value`, which stands for `original`."""
        here, around = value, _bodies_around(value)
        if not around:
            return value
        dtype, shape = self._shapes.dtype(original), self._shapes.shape(original)
        if dtype is None or shape is None or not all(map(_can_have_more_outputs, around)):
            return None
        loops = sum(graph.parent is not None and graph.parent.op_type != "If" for graph in around)
        if loops and (len(around) > 1 or not all(isinstance(dim, int) for dim in shape)):
            return None
        if not shape:
            here = self._node(around[0], "Reshape", [here, self._constant(around[0], np.array([-1]))])
        empty = np.empty((0,) * max(1, len(shape)), numpy_dtype(dtype))
        for graph in around:
            node = graph.parent
            assert node is not None
            assert node.graph is not None
            self._add_output(graph, self._node(graph, "Identity", [here]), dtype)
            for other in node.bodies if node.op_type == "If" else ():
                if other is not graph:
                    self._add_output(other, self._constant(other, empty), dtype)
            if node.op_type != "If":
                empty = empty[None]
            here = self._value(node.graph, "tap")
            here._producer = node
            node._outputs.append(here)
        return here

    def _constant(self, graph: Graph, array: Array) -> Value:
        return self._node(graph, "Constant", [], {"value": Attribute.of("value", tensor(array))})

    def _value(self, graph: Graph, hint: str) -> Value:
        made = Value(self._names.fresh(graph, hint), graph)
        self._names.take(graph, made.name)
        return made

    def _node(
        self, graph: Graph, op_type: str, inputs: list[Value | None], attributes: dict[str, Attribute] | None = None
    ) -> Value:
        """The output of a new node at the end of a graph."""
        made = self._value(graph, "tap")
        node = Node(op_type, inputs, [made], attributes or {})
        made._producer = node
        for slot, read in enumerate(inputs):
            if read is not None:
                read._uses[Use(node, slot)] = len(read._uses)
        graph.append(node)
        return made

    @staticmethod
    def _add_output(graph: Graph, value: Value, dtype: int) -> None:
        value._uses[Use(graph, len(graph._outputs))] = 0
        graph._outputs.append(value)
        graph._output_infos.append(helper.make_tensor_value_info(value.name, dtype, None))


def _bodies_around(value: Value) -> list[Graph]:
    """The bodies that a value lies in, innermost first."""
    found = []
    graph = value.graph
    while graph is not None and graph.parent is not None:
        found.append(graph)
        graph = graph.parent.graph
    return found


def _can_have_more_outputs(graph: Graph) -> bool:
    node = graph.parent
    if node is None or node.domain or graph.is_function:
        return False
    if node.op_type == "Scan":
        return not {"scan_output_axes", "scan_output_directions"} & node.attributes.keys()
    if node.op_type == "If":
        return graph.opset.get("", 0) >= _IF_OF_ANY_SHAPE
    return node.op_type == "Loop"
