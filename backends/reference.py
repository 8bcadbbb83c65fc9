"""onnx's reference evaluator as the executor: slow, in memory, and independent of onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TypeProto, ValueInfoProto
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from ..errors import ExecutionError
from ..ir import Model, Port
from ..ir.analysis.shapes import infer_shapes, shape_of
from .excerpt import excerpt
from .messages import walk_inside, walk_tensors
from .ort_words import plain
from .skeleton import Skeleton, data_of


class BatchNormalization(OpRun):
    """What opsets 7 to 13 define at inference, where the evaluator (1.23) mixes in the statistics of the input."""

    op_schema = onnx.defs.get_schema("BatchNormalization", 9, "")

    def _run(
        self,
        x: Any,
        scale: Any,
        bias: Any,
        mean: Any,
        var: Any,
        *,
        epsilon: float,
        momentum: float,
        spatial: int = 1,
    ) -> tuple[Any]:
        if not spatial:
            raise NotImplementedError("statistics of every place, not of every channel")
        scale, bias, mean, var = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (scale, bias, mean, var))
        return ((scale * (x - mean) / np.sqrt(var + epsilon) + bias).astype(x.dtype),)


class QuantizeLinear(OpRun):
    """Of opsets 10 to 18, which the evaluator (1.23) does not have."""

    op_schema = onnx.defs.get_schema("QuantizeLinear", 13, "")

    def _run(self, x: Any, scale: Any, zero: Any = None, *, axis: int = 1) -> tuple[Any]:
        zero = np.zeros(1, np.uint8) if zero is None else zero
        ends = np.iinfo(zero.dtype)
        levels = np.rint(x / _spread(scale, x.ndim, axis)) + _spread(zero, x.ndim, axis).astype(np.int32)
        return (np.clip(levels, ends.min, ends.max).astype(zero.dtype),)


class DequantizeLinear(OpRun):
    """Of opsets 10 to 18, which the evaluator (1.23) does not have."""

    op_schema = onnx.defs.get_schema("DequantizeLinear", 13, "")

    def _run(self, x: Any, scale: Any, zero: Any = None, *, axis: int = 1) -> tuple[Any]:
        wide = x.astype(np.int64)
        if zero is not None:
            wide = wide - _spread(zero, x.ndim, axis).astype(np.int64)
        return (np.asarray(wide.astype(scale.dtype) * _spread(scale, x.ndim, axis)),)


def _spread(parameter: Any, rank: int, axis: int) -> Any:
    """One number for all, or one for every index of an axis."""
    if parameter.size == 1:
        return parameter.reshape(())
    return parameter.reshape([-1 if place == axis % rank else 1 for place in range(rank)])


MENDED = {
    "BatchNormalization": (7, 14, BatchNormalization),
    "QuantizeLinear": (10, 19, QuantizeLinear),
    "DequantizeLinear": (10, 19, DequantizeLinear),
}
"""Operators by the opsets from and before which they are mended."""


class Evaluator(ReferenceEvaluator):
    """onnx's evaluator with those operators mended, in bodies and functions too."""

    def _load_impl(self, node: NodeProto, input_types: TypeProto | None = None) -> Any:
        start, end, mended = MENDED.get("" if node.domain else node.op_type, (0, 0, None))
        if mended is not None and start <= self.opsets.get("", 0) < end:
            return mended
        return super()._load_impl(node, input_types)


class ReferenceBackend:
    """Runs models with numpy, node by node."""

    @property
    def name(self) -> str:
        """`onnx reference` and the version of onnx."""
        return f"onnx reference {onnx.__version__}"

    def prepare(
        self, model: Model, *, outputs: Sequence[str] | None = None, optimize: bool = False, threads: int = 1
    ) -> ReferenceSession:
        """Make `model` ready to run; `outputs` may name any values of the main graph.

        There is one configuration, so `optimize` and other `threads` than one are refused. Raises ExecutionError if
        the evaluator refuses the model.
        """
        if optimize or threads != 1:
            raise ValueError("the reference evaluator has no deployment session and no threads")
        skeleton = Skeleton(model, refers=lambda _: False)
        if outputs is not None:
            excerpt(skeleton.proto, tuple(dict.fromkeys(outputs)))
            _declare_outputs(skeleton.proto, model)
        for held in walk_tensors(skeleton.proto):
            weight = skeleton.weight_of(held.tensor)
            if weight is not None:
                held.tensor.raw_data = bytes(data_of(weight))
        adapt(skeleton.proto)
        try:
            evaluator = Evaluator(skeleton.proto)
        except Exception as error:
            raise ExecutionError(f"the reference evaluator refuses the model: {_line(error)}") from error
        unused = {value.name for value in model.graph.inputs} - {info.name for info in skeleton.proto.graph.input}
        return ReferenceSession(evaluator, skeleton.proto, frozenset(unused))


class ReferenceSession:
    """A model in the reference evaluator."""

    def __init__(self, evaluator: ReferenceEvaluator, proto: ModelProto, unused: frozenset[str]) -> None:
        defaults = {tensor.name for tensor in proto.graph.initializer}
        defaults |= {sparse.values.name for sparse in proto.graph.sparse_initializer}
        self._evaluator = evaluator
        self._unused = unused
        self._inputs = tuple(_port(info, info.name in defaults) for info in proto.graph.input)
        self._absent = {info.name: None for info in proto.graph.input if info.type.HasField("optional_type")}
        self._outputs = tuple(_port(info) for info in proto.graph.output)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The inputs, in the model's order."""
        return self._inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The outputs, in order, as declared or inferred."""
        return self._outputs

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run once; outputs by name: arrays, lists for sequences, None for an absent optional.

        What a feed holds for inputs of the model that the asked outputs do not need is left out. Raises ExecutionError
        if the evaluator refuses the feed.
        """
        known = {port.name for port in self._inputs}
        fed = self._absent | {name: value for name, value in feeds.items() if name not in self._unused}
        for name in fed:
            if name not in known:
                raise ExecutionError(f"the model has no input {name!r}")
        missing = [port.name for port in self._inputs if port.name not in fed and not port.optional]
        if missing:
            raise ExecutionError(f"inputs {missing} are missing in the feed")
        names = [port.name for port in self._outputs]
        try:
            with np.errstate(all="ignore"):
                values = self._evaluator.run(names, fed)
        except Exception as error:
            raise ExecutionError(f"the reference evaluator refuses the feed: {_line(error)}") from error
        return {name: _plain(value) for name, value in zip(names, values, strict=True)}


def adapt(proto: ModelProto) -> None:
    """Say in a message, in place, what the evaluator takes amiss in other words: outputs that a node leaves out, and
    `ai.onnx`, the other name of the standard domain."""
    _name_omitted_outputs(proto)
    for owner in (proto, *proto.functions):
        for entry in owner.opset_import:
            if entry.domain == "ai.onnx":
                entry.domain = ""
    for graph in walk_inside(proto.graph, *proto.functions):
        for node in graph.node:
            if node.domain == "ai.onnx":
                node.domain = ""


def _name_omitted_outputs(proto: ModelProto) -> None:
    """Give every output that a node leaves out a name that nobody reads.

    The evaluator keeps such an output under the empty name, and would hand it to the nodes that leave out an input.
    """
    nodes = [node for graph in walk_inside(proto.graph, *proto.functions) for node in graph.node]
    taken = {name for node in nodes for name in (*node.input, *node.output)}
    fresh = (name for number in count() if (name := f"omitted_{number}") not in taken)
    for node in nodes:
        for slot, name in enumerate(node.output):
            if not name:
                node.output[slot] = next(fresh)


def _declare_outputs(proto: ModelProto, model: Model) -> None:
    shapes = infer_shapes(model)
    values = {value.name: value for value in model.graph.values()}
    for info in proto.graph.output:
        value = values[info.name]
        found, dtype, shape = shapes.type(value), shapes.dtype(value), shapes.shape(value)
        if found is not None:
            info.type.CopyFrom(found)
        elif dtype is not None:
            info.CopyFrom(onnx.helper.make_tensor_value_info(info.name, dtype, shape))


def _port(info: ValueInfoProto, optional: bool = False) -> Port:
    return Port(info.name, _dtype_of(info.type), shape_of(info.type), optional)


def _dtype_of(declared: TypeProto) -> int | None:
    return declared.tensor_type.elem_type if declared.HasField("tensor_type") else None


def _plain(value: Any) -> Any:
    """Scalars as arrays, strings as objects."""
    if value is None or isinstance(value, list | dict):
        return value
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


def _line(error: Exception) -> str:
    return plain(str(error)) or type(error).__name__
