"""`prune{criterion=zero}`: dead channels go for free, with the constants that they leave absorbed; others stay."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper

import onnxpress
from onnxpress.ir import Model
from onnxpress.passes.manager.base import Effect
from onnxpress.passes.prune.prune import Prune
from onnxpress.specs.check import check_pass
from onnxpress.specs.strategies_coupled import convolutional, transformer


@dataclass(frozen=True)
class PruneZero(Prune):
    """What loses nothing is held to ROUNDING."""

    effect: ClassVar[Effect] = Effect.ROUNDING


@st.composite
def dying(draw: Any, models: st.SearchStrategy[ModelProto]) -> ModelProto:
    """A network in which outputs of layers have zero weights: all that are drawn along the first axis, or the last."""
    model = draw(models)
    random = np.random.default_rng(draw(st.integers(0, 99)))
    nodes = list(model.graph.node)
    kinds = {name: node.op_type for node in nodes for name in node.input[1:2]}
    made_by = {node.output[0]: a.t for node in nodes if node.op_type == "Constant" for a in node.attribute}
    by_name = {t.name: t for t in model.graph.initializer} | made_by
    for name, tensor in by_name.items():
        if kinds.get(name) in ("Conv", "MatMul", "Gemm", "ConvTranspose"):
            array = numpy_helper.to_array(tensor).copy()
            axis = 0 if kinds[name] == "Conv" else 1
            where = random.random(array.shape[axis]) < 0.5
            array[(slice(None),) * axis + (where,)] = 0
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


@pytest.mark.parametrize("models", [convolutional(), transformer()], ids=["convolutional", "transformer"])
def test_dead_channels_go_up_to_rounding(models: st.SearchStrategy[ModelProto]) -> None:
    checked = check_pass(PruneZero(criterion="zero"), models=dying(models), max_examples=15)
    assert checked.changed > 4


def network(activation: str, pads: int, shift: float, norm: bool = False) -> ModelProto:
    """Two convolutions; of the first, channels 1 and 3 have zero weights and the bias `shift`."""
    random = np.random.default_rng(0)
    first = random.standard_normal((4, 3, 1, 1)).astype(np.float32)
    first[[1, 3]] = 0
    bias = np.where(np.arange(4) % 2, shift, 0.5).astype(np.float32)
    ones = np.ones(4, np.float32)
    arrays = {"w1": first, "b1": bias, "w2": random.standard_normal((5, 4, 3, 3)).astype(np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w1"] if norm else ["x", "w1", "b1"], ["h"])]
    if norm:
        arrays |= {"scale": ones, "mean": 0.25 * ones, "var": ones}
        nodes.append(helper.make_node("BatchNormalization", ["h", "scale", "b1", "mean", "var"], ["n"]))
    nodes.append(helper.make_node(activation, ["n" if norm else "h"], ["a"]))
    nodes.append(helper.make_node("Conv", ["a", "w2"], ["y"], pads=[pads] * 4))
    held = [numpy_helper.from_array(array, name) for name, array in arrays.items() if norm or name != "scale"]
    x = helper.make_tensor_value_info("x", 1, ["N", 3, 6, 6])
    y = helper.make_tensor_value_info("y", 1, ["N", 5, "H", "W"])
    graph = helper.make_graph(nodes, "g", [x], [y], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def width(model: Model) -> int:
    return next(v.const.shape[0] for v in model.graph.initializers if v.name == "w1" and v.const is not None)


@pytest.mark.parametrize(
    ("activation", "pads", "shift", "norm", "left"),
    [
        ("Relu", 1, 0.0, False, 2),
        ("Relu", 1, -1.0, False, 2),  # f(bias) = 0
        ("Relu", 1, 1.0, False, 4),  # the constant ends at the border
        ("Relu", 0, 1.0, False, 2),
        ("Sigmoid", 1, 0.0, False, 4),
        ("Sigmoid", 0, 0.0, False, 2),
        ("HardSigmoid", 0, 0.0, False, 2),
        ("Relu", 0, 1.0, True, 2),
        ("Relu", 1, 1.0, True, 4),
        ("Relu", 1, 0.1, True, 2),  # the shift is below the mean
    ],
)
def test_constants_are_absorbed_where_that_is_exact(
    activation: str, pads: int, shift: float, norm: bool, left: int
) -> None:
    proto = network(activation, pads, shift, norm)
    model = onnxpress.load(proto)
    onnxpress.PassManager("prune{criterion=zero}", measure=False).run(model)
    assert width(model) == left
    found = onnxpress.compare(onnxpress.load(proto), model)
    assert found.checked
    assert not found.mismatches
    assert found.worst["rel-l2"].value < 1e-6


def test_a_share_limits_what_goes() -> None:
    model = onnxpress.load(network("Relu", 0, 1.0))
    onnxpress.PassManager("prune{criterion=zero sparsity=0.25}", measure=False).run(model)
    assert width(model) == 3


def test_constants_of_dead_channels_are_absorbed_by_other_criteria() -> None:
    proto = network("Sigmoid", 0, 2.0)
    model = onnxpress.load(proto)
    onnxpress.PassManager("prune{sparsity=0.5}", measure=False).run(model)
    assert width(model) == 2
    assert onnxpress.compare(onnxpress.load(proto), model).worst["rel-l2"].value < 1e-6
