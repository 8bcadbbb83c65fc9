"""A Pad in front of a convolution or a pooling: whatever their windows, strides and own padding are, `fuse` keeps the
outputs, on both executors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.backends.reference import ReferenceBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import Backend, emit, lower
from onnxpress.passes.manager.manager import PassManager
from onnxpress.specs.validity import fault_of

SIZE = 6


@st.composite
def padded(draw: Callable[..., Any]) -> ModelProto:
    """x [1, 2, 6, 6], padded, then a layer with windows of up to 3 x 3."""
    opset = draw(st.sampled_from((10, 11, 13, 18, 19)))
    op_type = draw(st.sampled_from(("Conv", "Conv", "AveragePool", "AveragePool", "MaxPool", "ConvTranspose")))
    pads = [0, 0, *draw(_numbers(0, 2)), 0, 0, *draw(_numbers(0, 2))]
    if draw(st.integers(0, 9)) == 0:
        pads[draw(st.sampled_from((0, 1, 2, 7)))] = draw(st.sampled_from((-1, 1)))
    value = draw(st.sampled_from((None, None, 0.0, -0.0, 1.0)))
    mode = draw(st.sampled_from(("constant", "constant", "constant", "reflect", "edge")))
    weights, nodes = _pad(opset, pads, value, mode)
    kernel = draw(_numbers(1, 3))
    attributes: dict[str, Any] = {"strides": draw(_numbers(1, 3))}
    own = draw(st.sampled_from(("none", "none", "pads", "VALID", "SAME_UPPER", "SAME_LOWER", "NOTSET")))
    if own == "pads":
        attributes["pads"] = draw(_numbers(0, 1, 4))
    elif own != "none":
        attributes["auto_pad"] = own
    if op_type.startswith("Conv"):
        weights.append(numpy_helper.from_array(np.arange(1, 1 + 4 * np.prod(kernel)).reshape(2, 2, *kernel), "w"))
        weights[-1].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights[-1]).astype(np.float32), "w"))
        attributes["dilations"] = draw(_numbers(1, 2))
    else:
        attributes["kernel_shape"] = kernel
        if opset >= 11 or op_type == "MaxPool":
            attributes["ceil_mode"] = draw(st.integers(0, 1))
        if op_type == "AveragePool":
            attributes["count_include_pad"] = draw(st.integers(0, 1))
        if opset >= 19:
            attributes["dilations"] = draw(_numbers(1, 2))
    inputs = ["a", "w"] if op_type.startswith("Conv") else ["a"]
    nodes.append(helper.make_node(op_type, inputs, ["y"], **attributes))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    assume(not fault_of(model))
    return model


def _numbers(low: int, high: int, count: int = 2) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=count, max_size=count)


def _pad(opset: int, pads: list[int], value: float | None, mode: str) -> tuple[list[Any], list[Any]]:
    if opset < 11:
        given = {} if value is None else {"value": value}
        return [], [helper.make_node("Pad", ["x"], ["a"], pads=pads, mode=mode, **given)]
    weights = [numpy_helper.from_array(np.array(pads, np.int64), "p")]
    if value is not None:
        weights.append(numpy_helper.from_array(np.array(value, np.float32), "v"))
    return weights, [helper.make_node("Pad", ["x", "p", *(["v"] if value is not None else [])], ["a"], mode=mode)]


@pytest.mark.parametrize("backend", [OrtBackend(), ReferenceBackend()], ids=lambda backend: type(backend).__name__)
def test_padding_is_padding(backend: Backend) -> None:
    fused = 0

    @given(padded(), st.integers(0, 2**16))
    def outputs_are_kept(proto: ModelProto, seed: int) -> None:
        nonlocal fused
        feed = {"x": np.random.default_rng(seed).standard_normal((1, 2, SIZE, SIZE)).astype(np.float32)}
        try:
            expected = backend.prepare(lower(proto)).run(feed)["y"]
        except ExecutionError:
            return
        model = lower(proto)
        fused += PassManager("fuse", backend=backend).run(model).changed
        found = backend.prepare(lower(emit(model))).run(feed)["y"]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(initial=1.0))

    outputs_are_kept()
    assert fused
