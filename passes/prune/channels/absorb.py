"""Dead channels: units that can go without a loss, because what consumes them gets the same from them in every run.

A unit is dead if for everything that sums over it, its elements are 0, or meet weights that are 0, or are constants
(what zero weights leave: a bias behind an activation, the shift of a normalization) that the consumer's bias can take
over: b_j + sum over i of c_i W_ij. A convolution with padding cannot, since there the constant ends at the border.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....ir import Node, Value
from ....ir.analysis.coupling import Axis, Group
from ....ir.analysis.coupling.known import known_shapes
from ....ir.analysis.linear import Linear, linear_of
from ...manager.context import Context
from ...rewriting.layers import add_to_bias, bias_of, output_axis
from .bounds import RECURRENT, SUMS, Before
from .constants import Constants, Float64, contracted_axis, is_unpadded, rows_of
from .cut import Kept

Units = NDArray[np.bool_]


@dataclass(frozen=True)
class Shift:
    """What the bias of a layer has to take over, for all outputs that it had."""

    layer: Linear
    amounts: Float64


class Dead:
    """Which units of groups are dead, and what is absorbed if they go."""

    def __init__(self, ctx: Context, groups: Sequence[Group]) -> None:
        self._ctx, self._groups = ctx, groups
        self._shapes = known_shapes(ctx.model, ctx.shapes())
        """As the coupling knows them: every axis in a group belongs to a value of known rank."""
        self._constants = Constants(ctx, self._shapes)
        self._owner = {axis: number for number, group in enumerate(groups) for axis in group.axes}
        self.units: list[Units] = []
        for group in groups:
            dead = np.zeros(group.count, bool)
            dead[group.free] = True
            self.units.append(dead)
        for graph in ctx.model.graph.walk_graphs():
            for node in graph.nodes:
                if not node.domain:
                    self._consume(node)

    def _rank(self, value: Value | None) -> int | None:
        shape = None if value is None else self._shapes.shape(value)
        return None if shape is None else len(shape)

    def _consume(self, node: Node) -> None:
        layer = linear_of(node)
        if layer is not None and node.op_type not in RECURRENT:
            self._layer(layer)
        elif node.op_type in RECURRENT:
            self._recurrent(node)
        elif node.op_type in SUMS:
            x = node.input(0)
            for axis in range(self._rank(x) or 0):
                if self._is_summed(node, axis):
                    self._require(x, axis, self._zero(x, axis))
        elif node.op_type in ("MatMul", "Gemm"):
            self._product(node)

    def _is_summed(self, node: Node, axis: int) -> bool:
        x, given = node.input(0), node.input(1)
        axes = given.const.numpy().tolist() if given is not None and given.const is not None else node.attr("axes")
        rank = self._rank(x) or 1
        return axes is None or axis in {each % rank for each in axes}

    def _zero(self, value: Value | None, axis: int) -> Units | None:
        found = None if value is None else self._constants.at(value, axis)
        return None if found is None else found.zero

    def _require(self, value: Value | None, axis: int, holds: Units | None) -> None:
        """Units with an element along an axis of which something does not hold are not dead."""
        key = None if value is None else Axis(value, axis)
        if key is None or key not in self._owner:
            return
        number = self._owner[key]
        units = self._groups[number].units[key]
        self.units[number][units if holds is None else units[~holds]] = False

    def _layer(self, layer: Linear) -> None:
        rank = self._rank(layer.x)
        axis = contracted_axis(layer, rank)
        if axis is None or layer.weight.const is None or Axis(layer.x, axis) not in self._owner:
            return
        if Axis(layer.weight, 1 - output_axis(layer)) not in self._owner:
            return  # depthwise: nothing is summed over, or only what belongs to one group
        numbers, known = rows_of(layer, self._constants.contracted(layer))
        weights = layer.matrices(layer.weight.const.numpy())
        idle = (known & (numbers == 0)) | (weights == 0).all(axis=2)
        if is_unpadded(layer) and can_shift(layer):
            idle |= known
        width = len(self._groups[self._owner[Axis(layer.x, axis)]].units[Axis(layer.x, axis)])
        taps = idle.size // width
        self._require(layer.x, axis, idle.reshape(width, taps).all(axis=1))

    def _recurrent(self, node: Node) -> None:
        """Features: zeros, or zero weights. Hidden units: nothing reads them inside."""
        x, w, r = node.input(0), node.input(1), node.input(2)
        for value, weight, axis in ((x, w, 2), (r, r, 2)):
            if value is None or weight is None or weight.const is None:
                continue
            idle = (weight.const.numpy() == 0).all(axis=(0, 1))
            zero = self._zero(value, axis) if value is x else None
            self._require(value, axis, idle if zero is None else idle | zero)

    def _product(self, node: Node) -> None:
        """Of two computed matrices: one of the two is 0."""
        a, b = node.input(0), node.input(1)
        first, second = self._rank(a), self._rank(b)
        if a is None or b is None or first is None or second is None:
            return
        transposed = [node.op_type == "Gemm" and bool(node.attr(name, 0)) for name in ("transA", "transB")]
        i = first - 2 if transposed[0] else first - 1
        j = second - 1 if transposed[1] or second == 1 else second - 2
        zeros = [zero for zero in (self._zero(a, i), self._zero(b, j)) if zero is not None]
        for value, axis in ((a, i), (b, j)):
            self._require(value, axis, np.any(zeros, axis=0) if zeros else None)

    def shifts(self, gone: Sequence[Units]) -> Iterator[Shift]:
        """What layers have to absorb when units go, of which only dead ones count."""
        for graph in self._ctx.model.graph.walk_graphs():
            for layer in map(linear_of, graph.nodes):
                if layer is None or layer.op_type in RECURRENT or not is_unpadded(layer) or not can_shift(layer):
                    continue
                axis = contracted_axis(layer, self._rank(layer.x))
                elements = self._constants.contracted(layer)
                if axis is None or elements is None or Axis(layer.x, axis) not in self._owner:
                    continue
                number = self._owner[Axis(layer.x, axis)]
                going = (gone[number] & self.units[number])[self._groups[number].units[Axis(layer.x, axis)]]
                shift = self._shift(layer, np.where(going & elements.known, elements.numbers, 0))
                if shift.any():
                    yield Shift(layer, shift)

    @staticmethod
    def _shift(layer: Linear, numbers: Float64) -> Float64:
        assert layer.weight.const is not None
        weights = layer.matrices(layer.weight.const.numpy()).astype(np.float64)
        rows = np.repeat(numbers, layer.groups * layer.k // len(numbers)).reshape(layer.groups, layer.k)
        factor = float(layer.node.attr("alpha", 1.0)) if layer.op_type == "Gemm" else 1.0
        return np.asarray(factor * np.einsum("gkn,gk->gn", weights, rows).reshape(-1))


def can_shift(layer: Linear) -> bool:
    """Whether something can be added to every output channel of a layer."""
    match layer.op_type:
        case "Conv":
            return bias_of(layer) is not None
        case "Gemm":
            return layer.slot == 1 and bias_of(layer) is not None
        case "MatMul":
            return layer.slot == 1
    return False


def absorb(ctx: Context, shifts: Sequence[Shift], kept: Kept, before: Before) -> None:
    """Add what has to be absorbed to the biases, of the outputs that stay."""
    for shift in shifts:
        where = kept.get(Axis(shift.layer.weight, output_axis(shift.layer)))
        amounts = shift.amounts if where is None else shift.amounts[where]
        if amounts.size:
            before.follow(shift.layer.node, add_to_bias(ctx, shift.layer.node, shift.layer.bias, amounts))
