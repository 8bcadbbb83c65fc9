"""Evaluating constant nodes: a model made of them alone, run by the executor of the context."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from onnx import ModelProto, TensorProto

from ...errors import ExecutionError
from ...ir import Graph, Model, Node, Tensor, Value, clone_function, clone_node, tensor
from ...ir.analysis.shapes import Shapes, infer_shapes
from ...ir.proto import constant_size
from ..manager.context import Context
from .moves import moved
from .region import Bytes, Region, Sizes, closure, sources_of

UNKNOWN_SIZE = "the size of its result is unknown"
UNROUNDED_HALF = "onnxruntime computes half precision in float and may not round it before the next operator"
"""So a stored result, which is rounded, would change the outputs."""
HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_MOVERS = (
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Reshape",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip
"""Operators that compute nothing new, so that there is nothing to round."""


def region_sizes(region: Region, model: Model) -> Sizes:
    """What every value of a region weighs, or why it must not be evaluated."""
    sizes: dict[Value, Bytes | str] = {}
    for nodes in _by_opset(region.nodes):
        copy, mapping = _region_model(nodes, model, {})
        shapes = infer_shapes(copy)
        sizes |= {value: _bytes(value, mapping[value], shapes) for node in nodes for value in node.outputs}
    return sizes


def _bytes(value: Value, copy: Value, shapes: Shapes) -> Bytes | str:
    data, dtype, shape = shapes.nbytes(copy), shapes.dtype(copy), shapes.static_shape(copy)
    if data is None or dtype is None or shape is None or value.graph is None:
        return UNKNOWN_SIZE
    if dtype in HALF and (value.producer is None or not value.producer.is_op(*_MOVERS)):
        return UNROUNDED_HALF
    return Bytes(data, constant_size(dtype, shape, value.name, value.graph, as_node=value.needs_constant_node))


def evaluate(nodes: list[Node], values: list[Value], ctx: Context) -> tuple[dict[Value, Tensor], set[Node]]:
    """The tensors of `values`, computed by `nodes`, and the nodes that the executor failed on.

    What only moves elements is done here. One run for all others; if it fails, halves, until the nodes at fault stand
    alone: they get a remark, and what depends on them is left out.
    """
    results: dict[Value, Tensor] = {}
    faults: set[Node] = set()
    for group in _by_opset(closure(values, nodes)):
        rest = [node for node in group if not _is_moved(node, results)]
        if ctx.backend is not None:
            _evaluate(rest, set(values), results, faults, ctx)
            continue
        for node in rest:
            ctx.remarks.missed(node.label, "constant, but there is no executor to evaluate it")
        faults.update(rest)
    return {value: results[value] for value in values if value in results}, faults


def _is_moved(node: Node, results: dict[Value, Tensor]) -> bool:
    """Whether a node only moves elements that are known; then its output is among the results."""
    inputs = [None if value is None else results.get(value) or value.const for value in node.inputs]
    if any(known is None and value is not None for known, value in zip(inputs, node.inputs, strict=True)):
        return False
    found = moved(node, [None if known is None else known.numpy() for known in inputs])
    if found is not None:
        results[node.outputs[0]] = tensor(found)
    return found is not None


def _evaluate(
    nodes: list[Node], wanted: set[Value], results: dict[Value, Tensor], faults: set[Node], ctx: Context
) -> None:
    nodes = _without_dependents(nodes, faults)
    if not nodes:
        return
    inside = set(nodes)
    outputs = [v for node in nodes for v in node.outputs if v.name and (v in wanted or _leaves(v, inside))]
    try:
        results.update(run_nodes(nodes, outputs, results, ctx))
    except ExecutionError as error:
        if len(nodes) == 1:
            faults.add(nodes[0])
            ctx.remarks.failed(nodes[0].label, f"the executor could not evaluate it: {error}")
            return
        half = len(nodes) // 2
        _evaluate(nodes[:half], wanted, results, faults, ctx)
        _evaluate(nodes[half:], wanted, results, faults, ctx)


def run_nodes(
    nodes: list[Node], outputs: list[Value], known: Mapping[Value, Tensor], ctx: Context
) -> dict[Value, Tensor]:
    """The tensors of `outputs`, computed by `nodes` alone where `known` values are what they are said to be.

    ExecutionError if the executor fails.
    """
    model, mapping = _region_model(nodes, ctx.model, known)
    names = [mapping[value].name for value in outputs]
    assert ctx.backend is not None
    found: dict[str, Any] = ctx.backend.prepare(model, outputs=names).run({})
    return {value: tensor(found[name]) for value, name in zip(outputs, names, strict=True)}


def _leaves(value: Value, inside: set[Node]) -> bool:
    """Whether somebody outside reads the value."""
    return any(not isinstance(use.user, Node) or use.user not in inside for use in value.uses)


def _without_dependents(nodes: list[Node], faults: set[Node]) -> list[Node]:
    lost = set(faults)
    kept = []
    for node in nodes:
        if any(value.producer in lost for value in sources_of([node])):
            lost.add(node)
        else:
            kept.append(node)
    faults |= lost
    return kept


def _by_opset(nodes: Iterable[Node]) -> list[list[Node]]:
    groups: dict[object, list[Node]] = {}
    for node in nodes:
        opset = node.graph.opset if node.graph is not None else {}
        groups.setdefault(tuple(sorted(opset.items())), []).append(node)
    return list(groups.values())


def _region_model(nodes: list[Node], model: Model, known: Mapping[Value, Tensor]) -> tuple[Model, dict[Value, Value]]:
    """A model of copies of `nodes`, with what they read as initializers; and which copy stands for which value."""
    opset = nodes[0].graph.opset if nodes and nodes[0].graph is not None else {}
    proto = ModelProto(ir_version=max(model.ir_version, 4))
    for domain, version in {**model.opset, **opset}.items():
        proto.opset_import.add(domain=domain, version=version)
    proto.graph.name = "constants"
    graph = Graph("constants")
    functions = [clone_function(function) for function in model.functions.values()]
    copy = Model(graph, functions, proto)
    fresh = _fresh_names(nodes)
    mapping: dict[Value, Value] = {}
    for source in sources_of(nodes):
        constant = known.get(source) or source.const
        if constant is None:
            raise ExecutionError(f"{source.name!r} is no constant")
        mapping[source] = graph.add_initializer(next(fresh), constant)
    for node in nodes:
        for value in clone_node(node, graph, mapping).outputs:
            if value.name:
                value._name = next(fresh)
    return copy, mapping


def _fresh_names(nodes: list[Node]) -> Iterator[str]:
    taken = {value.name for node in nodes for body in node.walk_bodies() for value in body.values()}
    number = 0
    while True:
        number += 1
        if (name := f"c{number}") not in taken:
            yield name
