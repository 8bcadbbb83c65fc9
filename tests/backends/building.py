"""Models out of nodes, ports and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxpress.backends.files import model_from
from onnxpress.ir import Model


def port(name: str, dtype: int, shape: tuple[object, ...] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, Any] | None = None,
    *,
    opset: int = 21,
    ir_version: int = 10,
) -> Model:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return model_from(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version))
