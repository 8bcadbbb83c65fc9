"""Convert one node to another opset by onnx's version converter, and check the result by running both."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, shape_inference, version_converter

from ...errors import ExecutionError
from ...ir import Backend, Model, Node, Value, lower
from ...ir.analysis.shapes import Shapes
from ...ir.dtypes import is_float, numpy_dtype
from ..manager.context import Context

KEEP = 1024
"""Bytes of the largest constant input that the converter gets to see; what it converts are shapes and axes."""
LENGTHS = (3, 2, 1)
RANKS = (4, 3, 2, 1)
Feeds = dict[str, np.ndarray[Any, np.dtype[Any]]]


def convert(ctx: Context, node: Node, now: int, target: int) -> Model | str:
    """A model of what the node is in opset `target`, its inputs called i0, i1, ... and its outputs o0, o1, ... by slot
    (of a value that is read twice: the first); or the reason why there is none."""
    if node.bodies:
        return "operators with bodies are not converted"
    if any(attribute.ref for attribute in node.attributes.values()):
        return "it reads an attribute of its function"
    if ctx.backend is None:
        return "there is no executor to check the conversion with"
    before = _alone(node, now, ctx.shapes())
    try:
        after = version_converter.convert_version(before, target)
    except RuntimeError as error:
        return f"onnx's version converter refuses it ({str(error).splitlines()[0]})"
    problem = _newly_invalid(before, after) or _difference(ctx.backend, before, after)
    return problem or lower(after)


def input_names(node: Node) -> dict[Value, str]:
    """The names of the inputs in the model of one node."""
    names: dict[Value, str] = {}
    for slot, value in enumerate(node.inputs):
        if value is not None:
            names.setdefault(value, f"i{slot}")
    return names


def _alone(node: Node, opset: int, shapes: Shapes) -> ModelProto:
    names = input_names(node)
    proto = NodeProto(op_type=node.op_type)
    proto.input.extend("" if value is None else names[value] for value in node.inputs)
    proto.output.extend(f"o{slot}" if value.name else "" for slot, value in enumerate(node.outputs))
    for attribute in node.attributes.values():
        made = proto.attribute.add()
        made.CopyFrom(attribute.proto)
        if attribute.tensor is not None:
            made.t.CopyFrom(attribute.tensor.to_proto(""))
    inputs, constants = [], []
    for value, name in names.items():
        if value.const is not None and value.const.nbytes <= KEEP:
            constants.append(value.const.to_proto(name))
        else:
            inputs.append(_info(name, shapes, value))
    outputs = [_info(f"o{slot}", shapes, value) for slot, value in enumerate(node.outputs) if value.name]
    graph = helper.make_graph([proto], "node", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _info(name: str, shapes: Shapes, value: Value) -> ValueInfoProto:
    dtype = shapes.dtype(value)
    return helper.make_tensor_value_info(name, TensorProto.FLOAT if dtype is None else dtype, shapes.shape(value))


def _newly_invalid(before: ModelProto, after: ModelProto) -> str:
    """What the checker has against `after`, if it has nothing against `before`: the converter may write a constant of
    float beside halves. Empty if nothing."""
    fault = _fault(after)
    return f"the converted node is invalid ({fault})" if fault and not _fault(before) else ""


def _fault(proto: ModelProto) -> str:
    try:
        checker.check_model(proto, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        return str(error).splitlines()[0]
    return ""


def _difference(backend: Backend, before: ModelProto, after: ModelProto) -> str:
    """What is wrong with `after`; empty if it gives what `before` gives, on every feed that `before` takes."""
    tried = 0
    try:
        old, new = backend.prepare(lower(before)), backend.prepare(lower(after))
        for feeds in _feeds(before):
            try:
                expected = old.run(feeds)
            except ExecutionError:
                continue
            found = new.run(feeds)
            tried += 1
            if not all(_equal(expected[name], found[name]) for name in expected):
                return "the converted node gives other numbers"
    except ExecutionError as error:
        return f"the conversion could not be run ({str(error).splitlines()[0]})"
    return "" if tried else "no input was found to check the conversion on"


def _equal(expected: Any, found: Any) -> bool:
    a, b = np.asarray(expected), np.asarray(found)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-7, equal_nan=True) if a.dtype.kind == "f" else (a == b).all())


def _feeds(proto: ModelProto) -> Iterator[Feeds]:
    """Random inputs, of several lengths where dimensions are open and of several ranks where the rank is."""
    rng = np.random.default_rng(0)
    is_open = any(not info.type.tensor_type.HasField("shape") for info in proto.graph.input)
    for rank, length in product(RANKS if is_open else (0,), LENGTHS):
        yield {info.name: _random(info, rank, length, rng) for info in proto.graph.input}


def _random(info: ValueInfoProto, rank: int, length: int, rng: np.random.Generator) -> Any:
    type_ = info.type.tensor_type
    dims = [dim.dim_value or length for dim in type_.shape.dim] if type_.HasField("shape") else [length] * rank
    dtype = numpy_dtype(type_.elem_type)
    numbers = rng.standard_normal(dims) if is_float(type_.elem_type) else rng.integers(0, 2, dims)
    return numbers.astype(dtype)
