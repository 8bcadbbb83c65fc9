"""Whether the executor runs an operator, or takes an opset at all: asked of it, with a model of one node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import ModelProto, TensorProto, helper

from ...errors import ExecutionError
from ...ir import Backend, lower
from ...ir.dtypes import name_of


def why_not_run(
    backend: Backend, op_type: str, dtypes: Sequence[int], attributes: Mapping[str, Any], opset: int, ir_version: int
) -> str:
    """Why an executor does not take an operator of the standard domain with inputs of these types; empty if it does."""
    model = _model(op_type, dtypes, attributes, opset, ir_version)
    try:
        backend.prepare(lower(model))
    except ExecutionError as error:
        return f"{backend.name} does not run {op_type} of {name_of(dtypes[0])} in opset {opset}: {_first_line(error)}"
    return ""


def why_not_load(backend: Backend, opset: int, ir_version: int) -> str:
    """Why an executor takes no model of an opset and version of the file format; empty if it does."""
    model = _model("Identity", [TensorProto.FLOAT], {}, opset, ir_version)
    try:
        backend.prepare(lower(model))
    except ExecutionError as error:
        return f"{backend.name} takes no model of opset {opset} and IR version {ir_version}: {_first_line(error)}"
    return ""


def _model(
    op_type: str, dtypes: Sequence[int], attributes: Mapping[str, Any], opset: int, ir_version: int
) -> ModelProto:
    names = [f"i{slot}" for slot in range(len(dtypes))]
    inputs = [helper.make_tensor_value_info(name, dtype, None) for name, dtype in zip(names, dtypes, strict=True)]
    output = helper.make_tensor_value_info("o", dtypes[0], None)
    node = helper.make_node(op_type, names, ["o"], **attributes)
    graph = helper.make_graph([node], "probe", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def _first_line(error: ExecutionError) -> str:
    return str(error).splitlines()[0]
