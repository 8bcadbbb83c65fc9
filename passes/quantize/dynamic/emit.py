"""Products in integers with activations whose parameters are computed in each run.

    y = x W + b   becomes   q, s, z = DynamicQuantizeLinear(x)
                            y = Cast(MatMulInteger(q, levels, z)) (s scales) + b

onnxruntime fuses that into one operator. One DynamicQuantizeLinear serves all in a graph who read x. With M = max|x| a
step is at most 2 M / 255, and an x is off by a step at most (half of it by rounding, half by the rounding of the zero
point), so

    abs(dy_j) <= M (sum_i abs(dW_ij) + 2 / 255 sum_i abs(W'_ij)).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto

from ....ir import Graph, Node, Value, tensor
from ....ir.links import next_alive
from ...calibrate.ranges import Array, Range
from ...manager.bounds import LocalBound
from ...manager.context import Context
from ...manager.weights import Outcome
from ..place import Place, Shared
from ..static.affine import TYPES, affine
from ..static.emit import Coded, coded
from ..static.units import Unit, channel_axis

BY = "quantize-insert"
UINT8 = TYPES["uint8"]
STEP = 2 / 255
"""The largest step, of max|x|."""


@dataclass(frozen=True)
class DynamicWriter:
    """Writes dynamic products for units, whose weights in levels `coded` gives."""

    ctx: Context
    coded: Callable[[Unit], Coded]

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
            bias, moved = unit.node.input(2), self.coded(unit).bias
            if moved is not None and bias is not None and bias.const is not None:
                change = np.abs(bias.const.numpy().reshape(-1).astype(np.float64) - moved)
                self.ctx.bounds.append(LocalBound(BY, label, y.name, "absolute", -1, change, bias.name))

    def emit(self, units: Sequence[Unit]) -> None:
        """Let these units run in integers."""
        read = dict.fromkeys((unit.inputs[0][1], unit.node.graph) for unit in units)
        # all of them before a product that makes one is replaced
        quantized = {(x, graph): self._quantize(x, graph) for x, graph in read if graph is not None}
        shared = Shared()
        for unit in units:
            assert unit.node.graph is not None
            self._product(unit, quantized[unit.inputs[0][1], unit.node.graph], shared)

    def _quantize(self, x: Value, graph: Graph) -> Node:
        """In the graph that reads it: runtimes look for it beside the product."""
        node = x.producer
        is_here = node is not None and x.graph is graph
        before = next_alive(node) if node is not None and is_here else next(iter(graph.nodes), None)
        return self.ctx.rewriter.insert(
            "DynamicQuantizeLinear", [x], before=before, graph=graph, outputs=["q", "s", "z"],
            origin=[] if node is None else [node],
        )  # fmt: skip

    def _product(self, unit: Unit, quantized: Node, shared: Shared) -> None:
        node, rw, found = unit.node, self.ctx.rewriter, self.coded(unit)
        weight = node.inputs[1]
        assert weight is not None
        assert weight.const is not None
        assert weight.graph is not None
        levels = found.levels.T if channel_axis(node) == 0 else found.levels
        home = Place(weight.graph, node if weight.graph is node.graph else None, (node,), shared)
        held = [tensor(np.ascontiguousarray(levels)), tensor(found.scales)]
        stored = [home.constant(rw, one, hint) for one, hint in zip(held, "qs", strict=True)]

        def insert(op_type: str, inputs: Sequence[Value | None], **attributes: int) -> Value:
            return rw.insert(op_type, inputs, attributes, before=node, outputs=["d"], origin=[node]).outputs[0]

        q, s, z = quantized.outputs
        scales = insert("Mul", [s, stored[1]])
        sums = insert("Cast", [insert("MatMulInteger", [q, stored[0], z])], to=int(TensorProto.FLOAT))
        y = insert("Mul", [sums, scales])
        bias = node.input(2)
        if found.bias is not None:
            bias = home.constant(rw, tensor(found.bias), "b")
        if bias is not None:
            y = insert("Add", [y, bias])
        old = weight.const
        rw.take_over(node.outputs[0], y)
        rw.erase(node)
        made = [value.const for value in stored if value.const is not None]
        self.ctx.weights.became(old, made, Outcome.QUANTIZED, form="dynamic")


@dataclass
class DynamicEmitter:
    """Holds weights in levels, at most `top` on either side of zero, and writes dynamic products with them."""

    ctx: Context
    top: int
    _coded: dict[tuple[Value, int], Coded] = field(default_factory=dict)
    """By weight and axis of the output channels."""

    def follow(self, old: Value, new: Value) -> None:
        """What units read is quantized whatever it is."""

    def promise(self, units: Sequence[Unit]) -> None:
        """State the local bounds of what `emit` will do."""
        DynamicWriter(self.ctx, self.coded).promise(units)

    def emit(self, units: Sequence[Unit]) -> None:
        """Let these units run in integers."""
        DynamicWriter(self.ctx, self.coded).emit(units)

    def coded(self, unit: Unit) -> Coded:
        """The weight of a unit in levels."""
        key = self._key(unit)
        weight = key[0]
        assert weight.const is not None
        if key not in self._coded:
            self._coded[key] = coded(weight.const.numpy(), key[1], self.top)
        return self._coded[key]

    def recode(self, unit: Unit, coded: Coded) -> None:
        """Take other levels for the weight of a unit."""
        self._coded[self._key(unit)] = coded

    def _key(self, unit: Unit) -> tuple[Value, int]:
        weight = unit.node.inputs[1]
        assert weight is not None
        return weight, channel_axis(unit.node)

    def rounded(self, unit: Unit, x: Array) -> Array:
        """What the input of a unit becomes in a run of its own."""
        return rounded_in_a_run(x)

    def bias_step(self, unit: Unit) -> float | None:
        """None: biases are in float."""
        return None


def rounded_in_a_run(x: Array) -> Array:
    """What an activation becomes in its own range."""
    return affine(Range(float(x.min()), float(x.max())), UINT8, symmetric=False).rounded(x)
