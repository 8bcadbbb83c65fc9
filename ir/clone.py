"""Copies of graphs and models. Tensors and source messages are shared: a copy never costs a weight."""

from __future__ import annotations

from .attribute import Attribute
from .graph import Function, Graph
from .model import Model
from .node import Node
from .value import Use, Value

Mapping = dict[Value, Value]


def clone_model(model: Model, mapping: Mapping | None = None) -> Model:
    """A model of the same content, to be changed apart from the first; `mapping` learns what stands for its values."""
    mapping = {} if mapping is None else mapping
    functions = [clone_function(function) for function in model.functions.values()]
    made = Model(clone_graph(model.graph, None, mapping), functions, model.source, model.path)
    made._ir_version, made._opset = model.ir_version, dict(model.opset)
    made._metadata = dict(model._metadata)
    return made


def clone_function(function: Function) -> Function:
    """A function of the same content."""
    copy = Function(function.source, clone_graph(function.body, None, {}))
    copy._opset = dict(function.opset)
    return copy


def clone_graph(graph: Graph, parent: Node | None, mapping: Mapping) -> Graph:
    """A copy of `graph` in which every value of `mapping` is replaced; the values of the copy are added to it."""
    copy = Graph(graph.name, graph.source, parent)
    for value in graph.inputs:
        made = clone_value(value, copy, mapping)
        made._is_input = True
        copy._inputs.append(made)
    for position, value in enumerate(graph.initializers):
        made = mapping[value] if value.is_input else clone_value(value, copy, mapping)
        made._tensor = value.tensor
        copy._initializers[made] = position
    for node in graph.nodes:
        clone_node(node, copy, mapping)
    for slot, value in enumerate(graph.outputs):
        made = mapping.get(value, value)
        copy._outputs.append(made)
        made._uses[Use(copy, slot)] = len(made._uses)
    copy._output_infos = list(graph.output_infos)
    copy._value_infos = [(None if v is None else mapping.get(v, v), info) for v, info in graph.value_infos]
    return copy


def clone_node(node: Node, graph: Graph, mapping: Mapping) -> Node:
    """A copy of `node` at the end of `graph`, its inputs and the values that its bodies capture mapped."""
    inputs = [None if value is None else mapping.get(value, value) for value in node.inputs]
    outputs = [clone_value(value, graph, mapping) for value in node.outputs]
    attributes: dict[str, Attribute] = {}
    copy = Node(
        node.op_type,
        inputs,
        outputs,
        attributes,
        domain=node.domain,
        overload=node.overload,
        name=node.name,
        source=node.source,
        origin=node._origin,
        made_by=node.made_by,
    )
    copy._metadata = dict(node._metadata)
    if node.is_touched:
        copy._source_attributes = None
    for name, attribute in node.attributes.items():
        bodies = tuple(clone_graph(body, copy, mapping) for body in attribute.graphs)
        attributes[name] = Attribute(attribute.proto, attribute.tensor, bodies) if bodies else attribute
    for value in outputs:
        value._producer = copy
    for slot, read in enumerate(inputs):
        if read is not None:
            read._uses[Use(copy, slot)] = len(read._uses)
    graph.append(copy)
    return copy


def clone_value(value: Value, graph: Graph, mapping: Mapping) -> Value:
    """A value of the same name and declaration in `graph`, with no producer and no uses yet."""
    made = Value(value.name, graph)
    made._info = value._info
    made.pinned = value.pinned
    mapping[value] = made
    return made
