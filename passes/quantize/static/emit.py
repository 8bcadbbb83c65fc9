"""Emission: Q and DQ nodes around the units that are to run in integers.

    x -> Q -> DQ -> op(DQ(levels of the weight), DQ(int32 bias)) [-> Relu] -> Q -> DQ -> y

Every value has one Q and one DQ, whoever reads it; a value whose producer runs in integers is read behind them by all,
so that runtimes find the producer's output consumed by its Q alone. The int32 bias has the scale s_x s_w of the
products; a channel's weight scale is raised where else its bias would not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....ir import Graph, Node, Value, tensor
from ....ir.links import next_alive
from ...calibrate.ranges import Array
from ...manager.context import Context
from ...manager.weights import Outcome
from ..levels import steps
from ..targets.profile import Profile
from .affine import Affine
from .units import Unit, channel_axis

BIAS_LEVELS = 2.0**30
"""The largest bias in steps of s_x s_w: half of int32, as sums of products come on top."""


@dataclass(frozen=True)
class Coded:
    """A weight in levels with one scale per index of `axis`, and its bias in int32."""

    levels: NDArray[np.int8]
    scales: NDArray[np.float32]
    axis: int

    def decoded(self) -> Array:
        """What the executor multiplies with."""
        return np.asarray(self.levels.astype(np.float32) * self._spread(self.scales, self.levels.ndim))

    def _spread(self, scales: Array, rank: int) -> Array:
        return scales.reshape([-1 if axis == self.axis else 1 for axis in range(rank)])


def coded(weight: Array, axis: int, levels: int, least: Array | float = 0.0) -> Coded:
    """Symmetric levels of a weight, with scales of at least `least`."""
    found = steps(weight, (axis,), np.dtype(np.float32)).array * np.float32(127 / levels)
    shape = found.shape
    scales = np.maximum(found.reshape(-1), least).astype(np.float32)
    made = np.clip(np.rint(weight / scales.reshape(shape)), -levels, levels).astype(np.int8)
    return Coded(made, scales, axis)


@dataclass
class Emitter:
    """Writes Q and DQ for units whose activations have the parameters `of`."""

    ctx: Context
    profile: Profile
    of: Mapping[Value, Affine]
    weights: dict[tuple[Value, Value | None], Coded] = field(default_factory=dict)
    """Weights in levels, by weight and bias; shared by several emissions."""

    def emit(self, units: Sequence[Unit]) -> None:
        """Let these units run in integers."""
        made_by = {value: unit for unit in units for value in unit.outputs}
        reads: dict[Value, list[tuple[Node, int]]] = {}
        self._constants: dict[Value, Value] = {}
        for unit in units:
            for slot, value in unit.inputs:
                reads.setdefault(value, []).append((unit.node, slot))
        for value in self._needed(made_by, reads):
            if value.const is not None:
                for node, slot in reads[value]:
                    self.ctx.rewriter.set_input(node, slot, self._constant(value, node))
            elif value in made_by:
                self._behind(value)
            else:
                self._in_front(value, reads[value])
        for unit in units:
            if unit.weight >= 0:
                self._product(unit)

    def _needed(self, made_by: Mapping[Value, Unit], reads: Mapping[Value, Any]) -> list[Value]:
        """The values that are quantized: what units read, and what they make and cannot leave in float."""
        made = [value for value, unit in made_by.items() if value in reads or not unit.leaves_float]
        return list(dict.fromkeys([*reads, *made]))

    # ---- activations

    def _behind(self, value: Value) -> None:
        """Q and DQ behind a unit: everybody reads what is decoded."""
        node = value.producer
        assert node is not None
        assert node.graph is not None
        rw = self.ctx.rewriter
        uses = value.uses
        decoded = self._pair(value, node.graph, next_alive(node))
        inner = decoded.producer
        assert inner is not None
        quantize = inner.inputs[0]
        assert quantize is not None
        for use in uses:
            if isinstance(use.user, Node):
                rw.set_input(use.user, use.slot, decoded)
        if any(isinstance(use.user, Graph) for use in uses):
            keeper = quantize.producer
            assert keeper is not None
            rw.take_over(value, decoded)
            rw.set_input(keeper, 0, value)

    def _in_front(self, value: Value, reads: Sequence[tuple[Node, int]]) -> None:
        """Q and DQ of a value in float, for the units that read it."""
        graph, node = value.graph, value.producer
        assert graph is not None
        before = next(iter(graph.nodes), None) if node is None else next_alive(node)
        decoded = self._pair(value, graph, before)
        for reader, slot in reads:
            self.ctx.rewriter.set_input(reader, slot, decoded)

    def _pair(self, value: Value, graph: Graph, before: Node | None) -> Value:
        rw, affine = self.ctx.rewriter, self.of[value]
        scale = rw.constant(graph, tensor(np.float32(affine.scale)), "s", before=before)
        zero = rw.constant(graph, tensor(np.asarray(affine.zero, affine.dtype)), "z", before=before)
        origin = [] if value.producer is None else [value.producer]
        levels = rw.insert(
            "QuantizeLinear", [value, scale, zero], before=before, graph=graph, outputs=["q"], origin=origin
        )
        decoded = rw.insert(
            "DequantizeLinear",
            [levels.outputs[0], scale, zero],
            before=before,
            graph=graph,
            outputs=["d"],
            origin=origin,
        )
        return decoded.outputs[0]

    # ---- constants

    def _constant(self, value: Value, node: Node) -> Value:
        """A constant operand, quantized like an activation."""
        if value not in self._constants:
            assert value.const is not None
            assert value.graph is not None
            affine = self.of[value]
            levels = affine.levels(value.const.numpy())
            self._constants[value] = self._decoded(
                node, levels, np.float32(affine.scale), np.asarray(affine.zero, affine.dtype), None
            )
        return self._constants[value]

    def _product(self, unit: Unit) -> None:
        node, rw = unit.node, self.ctx.rewriter
        weight = node.inputs[unit.weight]
        assert weight is not None
        assert weight.const is not None
        bias = node.input(unit.bias) if unit.bias >= 0 else None
        found = self.coded(unit, weight, bias)
        zeros = np.zeros(found.scales.shape, np.int8)
        old = weight.const
        decoded = self._decoded(node, found.levels, found.scales, zeros, found.axis)
        rw.set_input(node, unit.weight, decoded)
        made = [value.const for value in decoded.producer.inputs if value is not None] if decoded.producer else []
        self.ctx.weights.became(old, [one for one in made if one is not None], Outcome.QUANTIZED, form="qdq")
        if bias is not None and bias.const is not None and self.profile.bias_type == "int32":
            scales = found.scales * np.float32(self.of[unit.inputs[0][1]].scale)
            numbers = np.rint(bias.const.numpy().reshape(-1) / scales.astype(np.float64)).astype(np.int32)
            rw.set_input(node, unit.bias, self._decoded(node, numbers, scales, None, 0))

    def coded(self, unit: Unit, weight: Value, bias: Value | None) -> Coded:
        """The weight of a unit in levels."""
        key = (weight, bias)
        if key not in self.weights:
            assert weight.const is not None
            least: Array | float = 0.0
            if bias is not None and bias.const is not None:
                x = self.of[unit.inputs[0][1]].scale
                least = np.abs(bias.const.numpy().reshape(-1).astype(np.float64)) / (x * BIAS_LEVELS)
            self.weights[key] = coded(weight.const.numpy(), channel_axis(unit.node), self.profile.weight_levels, least)
        return self.weights[key]

    def _decoded(self, node: Node, levels: Array, scales: Any, zeros: Any, axis: int | None) -> Value:
        """DequantizeLinear of a constant in front of `node`."""
        graph, rw = node.graph, self.ctx.rewriter
        assert graph is not None
        held = [
            rw.constant(graph, tensor(levels), "q", before=node),
            rw.constant(graph, tensor(scales), "s", before=node),
        ]
        if zeros is not None:
            held.append(rw.constant(graph, tensor(zeros), "z", before=node))
        attributes = None if axis is None else {"axis": axis}
        return rw.insert("DequantizeLinear", held, attributes, before=node, outputs=["w"], origin=[node]).outputs[0]
