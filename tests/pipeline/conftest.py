"""Small models and passes that do one thing, for tests of the pass manager."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxpress.ir import Graph, Model, lower, tensor
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.context import Context
from onnxpress.passes.manager.options import option


def chain_proto(length: int = 4) -> onnx.ModelProto:
    """y = ((x * w0) * w1) ...: nodes `scale0`, `scale1`, ..., each with a weight of 16 elements."""
    nodes, weights, here = [], [], "x"
    for index in range(length):
        nodes.append(helper.make_node("Mul", [here, f"w{index}"], [f"v{index}"], name=f"scale{index}"))
        values = np.random.default_rng(index).uniform(1, 2, 16).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{index}"))
        here = f"v{index}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 16])],
        [helper.make_tensor_value_info(here, TensorProto.FLOAT, [2, 16])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def chain() -> Model:
    return lower(chain_proto())


class Idle:
    """What passes begin with that are parsed and never run."""

    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Stretch(Pass):
    """Multiply the weights of the nodes that may be acted on."""

    name: ClassVar[str] = "stretch"
    effect: ClassVar[Effect] = Effect.LEARNED
    idempotent: ClassVar[bool] = False

    by: float = option(1.01, "the factor")
    asks: bool = option(True, "whether it asks which nodes it may act on")
    jitter: bool = option(False, "whether chance moves the factor")

    def run(self, graph: Graph, ctx: Context) -> None:
        for node in graph.nodes:
            weight = node.inputs[1] if node.is_op("Mul") else None
            if weight is None or weight.tensor is None or (self.asks and not ctx.selects(node)):
                continue
            factor = self.by + (float(ctx.rng.uniform(0, 0.01)) if self.jitter else 0.0)
            with ctx.rewriter.apply("stretch", node):
                stretched = tensor((weight.tensor.numpy() * np.float32(factor)).astype(np.float32))
                ctx.rewriter.set_tensor(weight, stretched)
