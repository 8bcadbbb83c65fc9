"""The format `qoperator`: one integer operator in the place of DQ -> op -> Q.

    q = QuantizeLinear(op(DequantizeLinear(a, s_a, z_a), ...) [-> Relu], s, z)
    q = QLinearOp(a, s_a, z_a, ..., s, z) [-> Clip]

It is made of what `Emitter` writes, so that both formats say the same of every number. Rounding to levels is monotone:
Q(clip(x, l, h)) = clip(Q(x), Q(l), Q(h)), so an activation behind the operator is nothing where its limits lie outside
the levels of the type, and Clip on levels elsewhere. Movers move levels. What nobody reads in float is not decoded; the
levels of a value x are called `x_quantized`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ....ir import Graph, Node, Value, tensor
from ...manager.context import Context
from ..targets.profile import Profile
from .affine import Affine
from .units import Unit

DOMAIN = "com.microsoft"
SUFFIX = "_quantized"
Inputs = list[Value | None]
LEFT_OUT = {
    "QGemm": ("beta",),
    "QLinearAveragePool": ("dilations",),
    "QLinearMatMul": ("alpha", "beta", "transA", "transB"),
}
"""Attributes that the integer operator does not have; `why_not` sees that they say nothing."""


@dataclass(frozen=True)
class Pair:
    """The Q and the DQ of a value, the name that it had, and further DQ in bodies."""

    quantize: Node
    decode: Node
    name: str
    near: dict[Graph, Node] = field(default_factory=dict)


def why_not(unit: Unit, profile: Profile) -> str:
    """Why a unit cannot be written as an integer operator; empty if it can."""
    node = unit.node
    if unit.is_mover:
        return ""
    name = profile.qoperators.get(node.op_type)
    if name is None:
        return f"{profile.title} has no integer operator for {node.op_type}"
    if name == "QLinearMatMul" and (unit.bias >= 0 or node.attr("transB", 0)):
        return "QLinearMatMul has no bias and transposes nothing"
    if node.op_type == "AveragePool" and any(step != 1 for step in node.attr("dilations", ())):
        return "QLinearAveragePool has no dilations"
    limits = () if unit.tail is None else unit.tail.inputs[1:]
    if any(value is not None and (value.const is None or np.isnan(value.const.numpy()).any()) for value in limits):
        return "the limits of the activation behind it are computed"
    return ""


@dataclass(frozen=True)
class QOperators:
    """Writes the integer operators of a profile for units between Q and DQ, whose values have the parameters `of`."""

    ctx: Context
    profile: Profile
    of: Mapping[Value, Affine]

    def convert(self, units: Sequence[Unit], pairs: Mapping[Value, Pair]) -> None:
        """Let all of `units` run on levels; `pairs` are what stands around them."""
        rw = self.ctx.rewriter
        for pair in pairs.values():
            rw.rename(pair.quantize.outputs[0], pair.name + SUFFIX, near=True)
        for unit in units:
            if unit.is_mover:
                self._move(unit)
            else:
                self._compute(unit)
        domains = {node.domain for graph in self.ctx.model.walk_graphs() for node in graph.nodes}
        if DOMAIN in domains and DOMAIN not in self.ctx.model.opset:
            rw.set_opset(self.ctx.model, DOMAIN, 1)

    def _move(self, unit: Unit) -> None:
        """Let a mover move levels."""
        node, rw = unit.node, self.ctx.rewriter
        inputs = [_coding(node.inputs[0])[0], *node.inputs[1:]]
        hints = [value.name for value in node.outputs]
        made = rw.insert(node.op_type, inputs, node.attributes, before=node, outputs=hints, origin=[node])
        for old, new in zip(node.outputs, made.outputs, strict=True):
            self._take_over(old, new)
        rw.erase(node)

    def _compute(self, unit: Unit) -> None:
        """Put the integer operator in the place of a unit; in front of its activation if the output stays in float."""
        node, rw, quantize = unit.node, self.ctx.rewriter, _quantizer(unit.outputs[0])
        decoders = [value.producer for value in node.inputs if value is not None and _is_constant(value)]
        made = self._operator(unit, [] if quantize is None else list(quantize.inputs[1:]))
        if quantize is None:
            rw.take_over(node.outputs[0], made)
        else:
            self._take_over(unit.outputs[0], self._clipped(unit, made))
            if unit.tail is not None:
                rw.erase(unit.tail)
        rw.erase(node)
        for decode in decoders:
            if decode is not None and decode.outputs[0].is_dead:
                rw.erase(decode)

    def _operator(self, unit: Unit, output: Inputs) -> Value:
        """The integer operator; its output is in float if no scale and zero point of it are given."""
        node = unit.node
        name = self.profile.qoperators[node.op_type]
        if name == "QLinearMatMul" and not output:
            name = f"{DOMAIN}.MatMulIntegerToFloat"
        domain, _, op_type = name.rpartition(".")
        parts = [_coding(value) for slot, value in enumerate(node.inputs) if slot != unit.bias]
        bias = _coding(node.inputs[unit.bias])[0] if unit.bias >= 0 else None
        attributes: dict[str, Any] = {
            key: one for key, one in node.attributes.items() if key not in LEFT_OUT.get(op_type, ())
        }
        if op_type == "QLinearSoftmax" and node.graph is not None:
            attributes["opset"] = node.graph.opset[""]
        return self.ctx.rewriter.insert(
            op_type, arranged(op_type, parts, bias, output), attributes, before=node,
            outputs=[node.outputs[0].name], domain=domain, origin=[node],
        ).outputs[0]  # fmt: skip

    def _clipped(self, unit: Unit, made: Value) -> Value:
        """The levels, clipped as an activation does; as they are where it lets all levels pass."""
        tail, rw, affine = unit.tail, self.ctx.rewriter, self.of[unit.outputs[0]]
        levels = None if tail is None else _limits(tail, affine)
        if tail is None or levels is None or tail.graph is None:
            return made
        ends = [rw.constant(tail.graph, tensor(np.asarray(one)), "limit", before=tail) for one in levels]
        hint = tail.outputs[0].name
        return rw.insert("Clip", [made, *ends], before=tail, outputs=[hint], origin=[tail]).outputs[0]

    def _take_over(self, value: Value, levels: Value) -> None:
        """What the Q of a value made is `levels` instead."""
        quantize = _quantizer(value)
        assert quantize is not None
        self.ctx.rewriter.take_over(quantize.outputs[0], levels)
        self.ctx.rewriter.erase(quantize)


def arranged(op_type: str, parts: Sequence[Inputs], bias: Value | None, output: Inputs) -> Inputs:
    """The inputs of an integer operator: levels, scale and zero point of each operand, a bias, scale and zero point of
    the output."""
    operands = [value for part in parts for value in part]
    match op_type:
        case "MatMulIntegerToFloat":
            return [part[index] for index in range(3) for part in parts]
        case "QLinearConcat":
            return [*output, *operands]
        case "QGemm":
            return [*operands, *([bias] if bias is not None or output else []), *output]
        case _:
            return [*operands, *output, *([] if bias is None else [bias])]


def _coding(value: Value | None) -> Inputs:
    """Levels, scale and zero point of a value that is decoded from them."""
    assert value is not None
    assert value.producer is not None
    return list(value.producer.inputs)


def _is_constant(value: Value) -> bool:
    """Whether an operand is decoded from a constant."""
    levels = None if value.producer is None else value.producer.input(0)
    return levels is not None and levels.const is not None


def _quantizer(value: Value) -> Node | None:
    """The Q that alone reads a value that a unit makes; None if it is left in float."""
    user = value.uses[0].user if len(value.uses) == 1 else None
    return user if isinstance(user, Node) and user.is_op("QuantizeLinear") else None


def _limits(tail: Node, affine: Affine) -> list[np.generic] | None:
    """The levels that an activation clips to; None if these are all levels of the type."""
    ends = [0.0 if tail.is_op("Relu") else -np.inf, np.inf]
    for slot, value in enumerate(tail.inputs[1:]):
        if value is not None and value.const is not None:
            ends[slot] = float(value.const.numpy().reshape(()))
    levels, info = affine.levels(np.clip(ends, affine.low, affine.high)), np.iinfo(affine.dtype)
    return None if levels[0] == info.min and levels[1] == info.max else list(levels)
