"""The cost meter: what it says after changes is what a fresh one says, though it does not infer after each."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress.ir import Model, Rewriter, lower, tensor
from onnxpress.ir.analysis.cost import CostMeter, cost
from onnxpress.ir.analysis.shapes import infer_shapes


@pytest.fixture
def model() -> Model:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("ReduceSum", ["y"], ["s"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("s", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((4, 8), np.float32), "w")],
    )
    return lower(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.mark.parametrize(("width", "inferred"), [(8, False), (6, True)])
def test_another_constant_of_the_same_shape_costs_no_inference(
    model: Model, width: int, inferred: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, rewriter = CostMeter(model), Rewriter(model)
    matmul = next(iter(model.graph.nodes))
    rewriter.set_input(matmul, 1, rewriter.constant(model.graph, tensor(np.zeros((4, width), np.float32)), "v"))
    inference = Mock(wraps=infer_shapes)
    monkeypatch.setattr("onnxpress.ir.analysis.cost.infer_shapes", inference)
    meter.update(rewriter.journal, same_values=True)
    assert inference.called is inferred
    assert meter.cost() == cost(model)
    assert meter.cost().macs == 2 * 4 * width


@pytest.mark.parametrize(("scales", "inferred"), [((1, 8), False), ((3, 4, 1), True)])
def test_a_weight_that_is_stored_smaller_costs_no_inference(
    model: Model, scales: tuple[int, ...], inferred: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, rewriter = CostMeter(model), Rewriter(model)
    matmul = next(iter(model.graph.nodes))
    levels = rewriter.constant(model.graph, tensor(np.zeros((4, 8), np.int8)), "q")
    scale = rewriter.constant(model.graph, tensor(np.ones(scales, np.float32)), "s")
    cast = rewriter.insert("Cast", [levels], {"to": TensorProto.FLOAT}, before=matmul)
    product = rewriter.insert("Mul", [cast.outputs[0], scale], before=matmul)
    rewriter.set_input(matmul, 1, product.outputs[0])
    inference = Mock(wraps=infer_shapes)
    monkeypatch.setattr("onnxpress.ir.analysis.cost.infer_shapes", inference)
    meter.update(rewriter.journal, same_values=False)
    assert inference.called is inferred
    assert meter.cost() == cost(model)
