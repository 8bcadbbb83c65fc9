"""The report accounts for every weight of 1000 bytes or more: one entry each, with its final bytes and the reason.

The weights are listed by a walk over the messages that shares nothing with the package.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, numpy_helper

from onnxpress.passes.manager.weights import Outcome, Reason

LARGE = 1000
WEIGHT_SLOTS = {
    "MatMul": (0, 1),
    "Gemm": (0, 1),
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gather": (0,),
    "LSTM": (1, 2),
    "GRU": (1, 2),
}
CARRIERS = {"Identity", "Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
"""Operators that a weight may pass through on its way."""
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}
JUSTIFIED = {Reason.DONE, Reason.NO_GAIN, Reason.OVERRIDABLE, Reason.NON_FINITE, Reason.OUT_OF_RANGE, Reason.PINNED}
"""Why a weight of one of these operators may be as it is."""
BITS = {TensorProto.UINT4: 4, TensorProto.INT4: 4, TensorProto.FLOAT4E2M1: 4, TensorProto.UINT2: 2, TensorProto.INT2: 2}


class Key(NamedTuple):
    """How the report calls a constant: by its graph and its value there."""

    graph: str
    name: str


class Constant(NamedTuple):
    """A constant of a message: its key, its bytes in the file, and what it holds."""

    key: Key
    nbytes: int
    held: TensorProto | SparseTensorProto

    @property
    def is_float(self) -> bool:
        return isinstance(self.held, TensorProto) and self.held.data_type in FLOATS

    @property
    def is_int8(self) -> bool:
        return isinstance(self.held, TensorProto) and self.held.data_type == TensorProto.INT8

    def content(self) -> tuple[int, tuple[int, ...], bytes]:
        """Type, shape and elements of a dense one."""
        return self.held.data_type, tuple(self.held.dims), numpy_helper.to_array(self.held).tobytes()


class Scope:
    """What names mean in a graph: constants, and nodes that compute; `outer` is the scope around it."""

    def __init__(self, label: str, outer: Scope | None = None) -> None:
        self.label = label
        self.outer = outer
        self.known: dict[str, Constant | NodeProto] = {}

    def origin(self, name: str) -> Constant | None:
        """The constant that a name stands for, directly or through carriers; None if it is computed."""
        if name not in self.known:
            return self.outer.origin(name) if self.outer is not None else None
        found = self.known[name]
        if isinstance(found, Constant):
            return found
        return self.origin(found.input[0]) if found.op_type in CARRIERS else None


class Walk:
    """Every constant in a message, and the keys of those that operators read as weights."""

    def __init__(self, model: ModelProto) -> None:
        self.constants: list[Constant] = []
        self.weights: set[Key] = set()
        self.main = Scope("main")
        self._graph(model.graph, self.main)
        for function in model.functions:
            overload = f":{function.overload}" if function.overload else ""
            self._nodes(function.node, Scope(f"function {function.domain}.{function.name}{overload}"))

    def _graph(self, graph: GraphProto, scope: Scope) -> None:
        for dense in graph.initializer:
            self._add(scope, dense.name, dense)
        for sparse in graph.sparse_initializer:
            self._add(scope, sparse.values.name, sparse)
        self._nodes(graph.node, scope)

    def _nodes(self, nodes: Any, scope: Scope) -> None:
        for node in nodes:
            scope.known.update(dict.fromkeys(node.output, node))
            for attribute in node.attribute:
                self._attribute(node, attribute, scope)
        for node in nodes:
            for slot in WEIGHT_SLOTS.get(node.op_type, ()):
                found = scope.origin(node.input[slot]) if slot < len(node.input) else None
                if found is not None and found.is_float:
                    self.weights.add(found.key)
            for attribute in node.attribute:
                label = f"{scope.label}/{node.name or f'{node.op_type}:{node.output[0]}'}.{attribute.name}"
                if attribute.type == AttributeProto.GRAPH:
                    self._graph(attribute.g, Scope(label, scope))
                for i, body in enumerate(attribute.graphs):
                    self._graph(body, Scope(f"{label}[{i}]" if len(attribute.graphs) > 1 else label, scope))

    def _attribute(self, node: NodeProto, attribute: AttributeProto, scope: Scope) -> None:
        is_constant = node.op_type == "Constant" and node.domain in ("", "ai.onnx")
        name = node.output[0] if is_constant else f"{node.output[0]}.{attribute.name}"
        held = [*attribute.tensors, *attribute.sparse_tensors]
        held += [attribute.t] if attribute.type == AttributeProto.TENSOR else []
        held += [attribute.sparse_tensor] if attribute.type == AttributeProto.SPARSE_TENSOR else []
        if is_constant and not held and not attribute.ref_attr_name:
            dtype = {"f": np.float32, "i": np.int64, "s": object}[attribute.name.removeprefix("value_")[0]]
            value = onnx.helper.get_attribute_value(attribute)
            held = [numpy_helper.from_array(np.asarray(value, dtype))]
        for tensor in held:
            self._add(scope, name, tensor)

    def _add(self, scope: Scope, name: str, held: TensorProto | SparseTensorProto) -> None:
        scope.known[name] = Constant(Key(scope.label, name), bytes_of(held), held)
        self.constants.append(scope.known[name])


def bytes_of(held: TensorProto | SparseTensorProto) -> int:
    """Bytes of the elements in a file."""
    if isinstance(held, SparseTensorProto):
        return bytes_of(held.values) + bytes_of(held.indices)
    if held.data_type == TensorProto.STRING:
        return sum(map(len, held.string_data))
    bits = BITS.get(held.data_type) or 8 * onnx.helper.tensor_dtype_to_np_dtype(held.data_type).itemsize
    return (math.prod(held.dims) * bits + 7) // 8


def test_every_weight_has_exactly_one_entry(compressed: Any) -> None:
    wanted = Counter((c.key, c.nbytes) for c in Walk(compressed.before).constants if c.nbytes >= LARGE)
    assert wanted, "the model has no weight to account for"
    assert Counter((Key(e.graph, e.name), e.nbytes) for e in compressed.report.weights) == wanted


def test_reasons_are_of_the_closed_list(compressed: Any) -> None:
    """In the report's JSON; and they fit the outcome and the bytes."""
    for entry in compressed.report.as_dict()["weights"]:
        outcome, reason = Outcome(entry["outcome"]), Reason(entry["reason"])
        assert (outcome is Outcome.REMOVED) == (reason is Reason.DEAD)
        assert (outcome is Outcome.QUANTIZED) == (reason is Reason.DONE)
        assert outcome is not Outcome.REMOVED or entry["final_nbytes"] == 0
        assert outcome is not Outcome.QUANTIZED or entry["final_nbytes"] < entry["nbytes"]


def test_final_bytes_are_those_of_the_result(compressed: Any) -> None:
    """What the entries speak of is in the result; besides it, what was small before, and results that took the place of
    nodes which were longer."""
    before, after = Walk(compressed.before).constants, Walk(compressed.after).constants
    held = {c.key: c for c in before}
    kept = {c.content() for c in after if isinstance(c.held, TensorProto)}
    levels = Counter(math.prod(c.held.dims) for c in after if c.is_int8)
    sizes = {c.nbytes for c in after} | pairs_of_scales(compressed.after.graph, after)
    for entry in compressed.report.weights:
        if entry.outcome is Outcome.KEPT and entry.final_nbytes:
            assert held[Key(entry.graph, entry.name)].content() in kept, entry
        if entry.outcome is Outcome.QUANTIZED and entry.final_nbytes:
            size = math.prod(entry.shape)
            levels[size] -= 1
            assert levels[size] >= 0, entry
            assert entry.final_nbytes - size in sizes, entry
    counted = sum(entry.final_nbytes for entry in compressed.report.weights)
    small = sum(c.nbytes for c in before if c.nbytes < LARGE)
    nodes = structure_bytes(compressed.before, before) - structure_bytes(compressed.after, after)
    assert counted <= sum(c.nbytes for c in after) <= counted + small + max(nodes, 0)


def pairs_of_scales(graph: GraphProto, constants: list[Constant]) -> set[int]:
    """Bytes of the scales of output and of input channels together, where int8 levels are multiplied by both."""
    held = {c.key.name: c for c in constants if c.key.graph == "main"}
    makers = {name: node for node in graph.node for name in node.output}
    found = set()
    for outer in graph.node:
        inner = makers.get(outer.input[0]) if outer.op_type == "Mul" else None
        cast = makers.get(inner.input[0]) if inner is not None and inner.op_type == "Mul" else None
        if inner is None or cast is None or cast.op_type != "Cast" or cast.input[0] not in held:
            continue
        if held[cast.input[0]].is_int8 and {inner.input[1], outer.input[1]} <= held.keys():
            found.add(held[inner.input[1]].nbytes + held[outer.input[1]].nbytes)
    return found


def structure_bytes(model: ModelProto, constants: list[Constant]) -> int:
    """Bytes of all that is no constant."""
    return model.ByteSize() - sum(c.nbytes for c in constants)


def test_no_weight_of_an_operator_is_left_without_need(real_model: Any, compressed_by: Any) -> None:
    result = compressed_by("fold,dce,quantize-insert{mode=weight-only}")
    weights = Walk(result.before).weights
    assert weights
    for entry in result.report.weights:
        assert entry.reason is not Reason.NOT_RECOGNIZED, entry
        assert entry.reason in JUSTIFIED or Key(entry.graph, entry.name) not in weights, entry
