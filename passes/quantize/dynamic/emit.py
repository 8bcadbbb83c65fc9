"""Products in integers with activations whose parameters are computed in each run.

    y = x W + b   becomes   q, s, z = DynamicQuantizeLinear(x)
                            y = Cast(MatMulInteger(q, levels, z)) (s scales) + b

onnxruntime fuses that into one operator. One DynamicQuantizeLinear serves all who read x. With M = max|x| a step is at
most 2 M / 255, and an x is off by a step at most (half of it by rounding, half by the rounding of the zero point), so

    abs(dy_j) <= M (sum_i abs(dW_ij) + 2 / 255 sum_i abs(W'_ij)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from ....ir import Node, Value, tensor
from ....ir.links import next_alive
from ...manager.bounds import LocalBound
from ...manager.context import Context
from ...manager.weights import Outcome
from ..static.emit import Coded, coded
from ..static.units import Unit, channel_axis

BY = "quantize-insert"
STEP = 2 / 255
"""The largest step, of max|x|."""


@dataclass
class DynamicEmitter:
    """Writes dynamic products for units; weights get at most `levels` levels on either side of zero."""

    ctx: Context
    levels: int
    _coded: dict[Value, Coded] = field(default_factory=dict)

    def promise(self, units: Sequence[Unit]) -> None:
        """State the local bounds of what `emit` will do."""
        for unit in units:
            y, weight = unit.node.outputs[0], unit.node.inputs[1]
            assert weight is not None
            assert weight.const is not None
            decoded = self.coded(unit).decoded().astype(np.float64)
            off = np.abs(weight.const.numpy().astype(np.float64) - decoded) + STEP * np.abs(decoded)
            sums = off.sum(axis=1 - channel_axis(unit.node))
            label = "" if y.graph is None else y.graph.label
            self.ctx.bounds.append(LocalBound(BY, label, y.name, "linear", -1, sums, weight.name))

    def emit(self, units: Sequence[Unit]) -> None:
        """Let these units run in integers."""
        shared: dict[Value, Node] = {}
        for unit in units:
            x = unit.node.inputs[unit.inputs[0][0]]  # not as it was found: what gave it may be in integers by now
            assert x is not None
            if x not in shared:
                shared[x] = self._quantize(x)
            self._product(unit, shared[x])

    def coded(self, unit: Unit) -> Coded:
        """The weight of a unit in levels."""
        weight = unit.node.inputs[1]
        assert weight is not None
        assert weight.const is not None
        if weight not in self._coded:
            self._coded[weight] = coded(weight.const.numpy(), channel_axis(unit.node), self.levels)
        return self._coded[weight]

    def _quantize(self, x: Value) -> Node:
        graph, node = x.graph, x.producer
        assert graph is not None
        before = next(iter(graph.nodes), None) if node is None else next_alive(node)
        return self.ctx.rewriter.insert(
            "DynamicQuantizeLinear", [x], before=before, graph=graph, outputs=["q", "s", "z"],
            origin=[] if node is None else [node],
        )  # fmt: skip

    def _product(self, unit: Unit, quantized: Node) -> None:
        node, rw, found = unit.node, self.ctx.rewriter, self.coded(unit)
        weight, graph = node.inputs[1], node.graph
        assert weight is not None
        assert weight.const is not None
        assert graph is not None
        levels = found.levels.T if channel_axis(node) == 0 else found.levels
        held = [tensor(np.ascontiguousarray(levels)), tensor(found.scales)]
        stored = [rw.constant(graph, one, hint, before=node) for one, hint in zip(held, "qs", strict=True)]

        def insert(op_type: str, inputs: Sequence[Value | None], **attributes: int) -> Value:
            return rw.insert(op_type, inputs, attributes, before=node, outputs=["d"], origin=[node]).outputs[0]

        q, s, z = quantized.outputs
        scales = insert("Mul", [s, stored[1]])
        sums = insert("Cast", [insert("MatMulInteger", [q, stored[0], z])], to=int(TensorProto.FLOAT))
        y = insert("Mul", [sums, scales])
        bias = node.input(2)
        if bias is not None:
            y = insert("Add", [y, bias])
        old = weight.const
        rw.take_over(node.outputs[0], y)
        rw.erase(node)
        self.ctx.weights.became(old, held, Outcome.QUANTIZED, form="dynamic")
