"""Moving elements by numpy: the recorded outputs of onnx's own cases, and what is left to the executor."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper
from onnx.backend.test.case.node import collect_testcases

from onnxpress.ir import lower
from onnxpress.passes.graph.moves import _RULES, moved

Array = np.ndarray


def evaluated(node: NodeProto, arrays: Sequence[Array | None]) -> Array | None:
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in dict.fromkeys(node.input) if name
    ]
    outputs = [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)]
    model = helper.make_model(helper.make_graph([node], "g", inputs, outputs))
    return moved(next(lower(model).graph.nodes), arrays)


def call(op_type: str, *arrays: Array, **attributes: object) -> Array | None:
    names = [f"i{place}" for place in range(len(arrays))]
    return evaluated(helper.make_node(op_type, names, ["o"], **attributes), arrays)


def test_recorded_outputs_come_out_bit_by_bit() -> None:
    seen: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the numpy code that makes the recorded outputs
        cases = collect_testcases(None)
    for case in cases:
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type not in _RULES or nodes[0].domain:
            continue
        for inputs, outputs in case.data_sets:
            if not all(isinstance(one, np.ndarray) for one in (*inputs, *outputs)):
                continue
            given = iter(inputs)
            found = evaluated(nodes[0], [next(given) if name else None for name in nodes[0].input])
            if found is not None:
                seen[nodes[0].op_type] += 1
                assert found.dtype == outputs[0].dtype, case.name
                assert found.shape == outputs[0].shape, case.name
                assert found.tobytes() == outputs[0].tobytes(), case.name
    assert seen.keys() >= _RULES.keys() - {"Cast"}
    assert seen.total() >= 50


ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def ints(*items: int) -> Array:
    return np.array(items, np.int64)


@pytest.mark.parametrize("shape", [(0, 3), (3, 130), (130, 3), (65, 64)])
def test_a_matrix_is_transposed_in_parts_of_its_columns(shape: tuple[int, int]) -> None:
    matrix = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = call("Transpose", matrix)
    assert found is not None
    assert found.flags.c_contiguous
    assert np.array_equal(found, matrix.T)


@pytest.mark.parametrize(
    ("data", "to"),
    [
        (ints(-3, 0, 1 << 24), TensorProto.FLOAT),
        (ints(0, 1), TensorProto.BOOL),
        (np.array([True, False]), TensorProto.FLOAT),
        (np.array([1.5, -0.0, np.inf]), TensorProto.FLOAT),
        (np.array([2.0, -7.0], np.float32), TensorProto.INT8),
    ],
)
def test_a_cast_that_changes_no_number_is_a_move(data: Array, to: int) -> None:
    found = call("Cast", data, to=to)
    assert found is not None
    assert found.dtype == helper.tensor_dtype_to_np_dtype(to)
    assert found.tolist() == data.tolist()
    assert np.signbit(found.astype(float)).tolist() == np.signbit(data.astype(float)).tolist()


@pytest.mark.parametrize(
    ("data", "to"),
    [
        (ints((1 << 24) + 1), TensorProto.FLOAT),
        (ints(300), TensorProto.INT8),
        (ints(2), TensorProto.BOOL),
        (np.array([0.1]), TensorProto.FLOAT),
        (np.array([1e300]), TensorProto.FLOAT),
        (np.array([0.5, np.inf], np.float32), TensorProto.INT64),
        (np.array([np.nan], np.float32), TensorProto.DOUBLE),
        (ints(1), TensorProto.STRING),
        (ints(1), TensorProto.BFLOAT16),
    ],
)
def test_any_other_cast_is_left_to_the_executor(data: Array, to: int) -> None:
    assert call("Cast", data, to=to) is None


@pytest.mark.parametrize(
    ("op_type", "arrays", "attributes"),
    [
        ("Reshape", (ROWS, ints(4, 2)), {}),
        ("Reshape", (ROWS, ints(-2, 3)), {}),
        ("Reshape", (ROWS, ints(2, 3, 0)), {}),
        ("Reshape", (ROWS,), {"shape": [6]}),
        ("Slice", (ROWS, ints(0), ints(1), ints(2)), {}),
        ("Slice", (ROWS, ints(0, 0), ints(1, 1), ints(1, -1)), {}),
        ("Slice", (ROWS, ints(0), ints(1), ints(0), ints(0)), {}),
        ("Gather", (ROWS, ints(2)), {}),
        ("Transpose", (ROWS,), {"perm": [0, 0]}),
        ("Squeeze", (ROWS, ints(0)), {}),
        ("Unsqueeze", (ROWS,), {}),
        ("Expand", (ROWS, ints(2)), {}),
        ("Concat", (ROWS, ROWS[:, :2]), {"axis": 0}),
        ("Identity", (np.array(["a"], object),), {}),
        ("Relu", (ROWS,), {}),
    ],
)
def test_what_fails_or_is_not_known_is_left_to_the_executor(
    op_type: str, arrays: tuple[Array, ...], attributes: dict[str, object]
) -> None:
    assert call(op_type, *arrays, **attributes) is None


def test_attributes_of_old_opsets_count() -> None:
    found = call("Slice", ROWS, starts=[-1], ends=[1 << 40], axes=[1])
    assert found is not None
    assert found.tolist() == [[2], [5]]
    assert found.base is None
    found = call("Unsqueeze", ROWS, axes=[-1])
    assert found is not None
    assert found.shape == (2, 3, 1)


def test_nodes_of_other_domains_are_not_looked_at() -> None:
    node = onnx.NodeProto(op_type="Transpose", domain="other", input=["x"], output=["y"])
    assert evaluated(node, [ROWS]) is None
