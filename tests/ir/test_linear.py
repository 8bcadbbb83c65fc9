"""The matrix view of linear layers: rows times matrices is what the executor computes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import lower
from onnxpress.ir.analysis.linear import Linear, linear_layers

FLOAT = TensorProto.FLOAT


def model_of(
    op_type: str, x: list[int], w: np.ndarray, attributes: dict[str, Any], *, left: bool = False
) -> ModelProto:
    names = ["w", "x"] if left else ["x", "w"]
    node = helper.make_node(op_type, names, ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, x)],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(w, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def layer_and_run(proto: ModelProto, x: np.ndarray) -> tuple[Linear, np.ndarray]:
    model = lower(proto)
    (layer,) = linear_layers(model.graph)
    try:
        return layer, OrtBackend().prepare(model).run({"x": x})["y"]
    except ExecutionError:
        assume(False)
        raise


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)  # whole: sums are exact


def holds(layer: Linear, w: np.ndarray, x: np.ndarray) -> np.ndarray:
    matrices = layer.matrices(w)
    assert matrices.shape == (layer.groups, layer.k, layer.n)
    assert np.array_equal(layer.weight_of(np.array(matrices)), w)
    rows = layer.rows(x)
    for at_most in (1, 3, 7, 1000):
        assert np.array_equal(layer.rows(x, at_most), rows[:, :: max(1, -(-rows.shape[1] // at_most))])
    return rows @ matrices


@given(st.data(), st.integers(0, 99))
def test_convolutions(data: st.DataObject, seed: int) -> None:
    draw, rank = data.draw, data.draw(st.integers(1, 3))
    groups, per_group, outs = (draw(st.integers(1, 3)) for _ in range(3))
    kernel, strides, dilations = ([draw(st.integers(1, 3)) for _ in range(rank)] for _ in range(3))
    sizes = [draw(st.integers(3, 8)) for _ in range(rank)]
    attributes: dict[str, Any] = {"group": groups, "strides": strides, "dilations": dilations}
    mode = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if mode != "NOTSET":
        assume(mode == "VALID" or max(dilations) == 1)
        attributes["auto_pad"] = mode
    elif draw(st.booleans()):
        attributes["pads"] = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    w, x = numbers(seed, groups * outs, per_group, *kernel), numbers(seed + 1, 2, groups * per_group, *sizes)
    layer, y = layer_and_run(model_of("Conv", list(x.shape), w, attributes), x)
    found = holds(layer, w, x)
    expected = y.reshape(2, groups, outs, -1).transpose(1, 0, 3, 2).reshape(groups, -1, outs)
    assert np.array_equal(found, expected)


@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_transposed_convolutions_of_one_tap(groups: int, per_group: int, outs: int, seed: int) -> None:
    w, x = numbers(seed, groups * per_group, outs, 1, 1), numbers(seed + 1, 2, groups * per_group, 3, 4)
    layer, y = layer_and_run(model_of("ConvTranspose", list(x.shape), w, {"group": groups}), x)
    expected = y.reshape(2, groups, outs, -1).transpose(1, 0, 3, 2).reshape(groups, -1, outs)
    assert np.array_equal(holds(layer, w, x), expected)


@given(st.booleans(), st.booleans(), st.booleans(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_gemm(left: bool, trans_x: bool, trans_w: bool, m: int, k: int, n: int) -> None:
    x = numbers(1, *((k, m) if trans_x != left else (m, k)))
    w = numbers(2, *((n, k) if trans_w != left else (k, n)))
    attributes = {"transA": int(trans_w if left else trans_x), "transB": int(trans_x if left else trans_w)}
    layer, y = layer_and_run(model_of("Gemm", list(x.shape), w, attributes, left=left), x)
    assert (layer.k, layer.n, layer.bias) == (k, n, 2)
    assert np.array_equal(holds(layer, w, x)[0], y.T if left else y)


@given(st.booleans(), st.lists(st.integers(1, 3), max_size=2), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_matmul(left: bool, batch: list[int], m: int, k: int, n: int) -> None:
    w = numbers(1, *((n, k) if left else (k, n)))
    x = numbers(2, *batch, *((k, m) if left else (m, k)))
    layer, y = layer_and_run(model_of("MatMul", list(x.shape), w, {}, left=left), x)
    expected = (y.swapaxes(-1, -2) if left else y).reshape(-1, n)
    assert np.array_equal(holds(layer, w, x)[0], expected)


def test_a_vector_is_one_row() -> None:
    for left, shape in ((False, (3, 2)), (True, (2, 3))):
        w, x = numbers(1, *shape), numbers(2, 3)
        layer, y = layer_and_run(model_of("MatMul", [3], w, {}, left=left), x)
        assert np.array_equal(holds(layer, w, x)[0, 0], y)


def test_the_input_matrices_of_recurrent_layers() -> None:
    w, x = numbers(1, 2, 4 * 5, 3), numbers(2, 6, 1, 3)
    r = numbers(3, 2, 4 * 5, 5)
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=5, direction="bidirectional")
    infos = [helper.make_tensor_value_info("x", FLOAT, [6, 1, 3])], [helper.make_tensor_value_info("y", FLOAT, None)]
    weights = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(r, "r")]
    (layer,) = linear_layers(lower(helper.make_model(helper.make_graph([node], "g", *infos, weights))).graph)
    assert (layer.groups, layer.k, layer.n, layer.bias) == (2, 3, 20, None)
    assert np.array_equal(holds(layer, w, x), np.einsum("tbi,dgi->dtg", x, w))


def test_what_is_no_linear_layer_has_no_view() -> None:
    w = numbers(1, 2, 3, 3)
    assert not list(linear_layers(lower(model_of("MatMul", [2, 3, 3], w, {})).graph))
    assert not list(linear_layers(lower(model_of("Add", [2, 3, 3], w, {})).graph))
