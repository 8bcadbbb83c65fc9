"""The part of a model that some of its values need."""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence, Sequence
from typing import Any

from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto

from ..errors import ExecutionError
from .messages import bodies_of, walk_inside

_Key = tuple[str, str, str]


def excerpt(proto: ModelProto, outputs: Sequence[str]) -> None:
    """Cut the main graph of a message down to what computes `outputs`, which become its outputs, in this order.

    Nodes, constants, inputs and functions that they do not need go; the outputs keep no declared type, which is only a
    claim. Raises ExecutionError if the main graph has no value of such a name.
    """
    graph = proto.graph
    _check_names(graph, outputs)
    needed = set(outputs)
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if needed.isdisjoint(node.output):
            del graph.node[index]
        else:
            needed.update(read_by(node))
    _retain(graph.initializer, [tensor.name in needed for tensor in graph.initializer])
    _retain(graph.sparse_initializer, [sparse.values.name in needed for sparse in graph.sparse_initializer])
    _retain(graph.input, [info.name in needed for info in graph.input])
    defined = {name for node in graph.node for name in node.output}
    _retain(graph.value_info, [info.name in defined for info in graph.value_info])
    del graph.output[:], graph.quantization_annotation[:]
    graph.output.extend(ValueInfoProto(name=name) for name in outputs)
    called = _called(proto)
    _retain(proto.functions, [_key(function) in called for function in proto.functions])


def read_by(node: NodeProto) -> Iterable[str]:
    """The names that a node reads, and all that its bodies mention."""
    yield from node.input
    for body in bodies_of(node):
        yield from (info.name for info in body.output)
        for inner in body.node:
            yield from read_by(inner)


def _called(proto: ModelProto) -> set[_Key]:
    """The functions that the main graph calls, directly or not."""
    functions = {_key(function): function for function in proto.functions}
    called: set[_Key] = set()
    todo: list[GraphProto | FunctionProto] = [proto.graph]
    while todo:
        for graph in walk_inside(todo.pop()):
            for node in graph.node:
                key = (node.domain, node.op_type, node.overload)
                if key in functions and key not in called:
                    called.add(key)
                    todo.append(functions[key])
    return called


def _key(function: FunctionProto) -> _Key:
    return function.domain, function.name, function.overload


def _check_names(graph: GraphProto, outputs: Sequence[str]) -> None:
    known = {name for node in graph.node for name in node.output}
    known |= {tensor.name for tensor in graph.initializer} | {info.name for info in graph.input}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    for name in outputs:
        if not name or name not in known:
            raise ExecutionError(f"the main graph has no value {name!r}")


def _retain(field: MutableSequence[Any], keep: Sequence[bool]) -> None:
    for index in range(len(field) - 1, -1, -1):
        if not keep[index]:
            del field[index]
