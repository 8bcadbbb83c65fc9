"""What becomes of a layer that absorbs an affine map.

After it:   (W x + b) s + t  =  (s W) x + (s b + t)
Before it:  W (s x + t) + b  =  (W s) x + (W t + b), the second term only where nothing is padded
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir import Node, Tensor, Value
from ...manager.weights import Outcome
from ...rewriting.driver import QUIET
from ...rewriting.rule import Builder, Match
from .affine import Affine
from .constants import Array, fault, overflows, rounded
from .layer import Layer
from .plan import Plan, size_of, swapped, swapped_bytes


class LayerPlan(Plan):
    """A layer that reads `x` with another weight and bias (None: as they are); `consts` are no longer read."""

    def __init__(
        self, layer: Layer, x: Value, weight: Tensor | None, bias: Tensor | None, consts: tuple[Value, ...]
    ) -> None:
        self.layer = layer
        self.x = x
        self.weight = weight
        self.bias = bias
        self.consts = consts

    @property
    def op_type(self) -> str:
        """The operator: a MatMul that gets a bias becomes a Gemm."""
        return "Gemm" if self.layer.node.op_type == "MatMul" and self.bias is not None else self.layer.node.op_type

    @property
    def copied(self) -> tuple[Value, ...]:
        """The weight and the bias, if they change."""
        weight = (self.layer.weight,) if self.weight is not None else ()
        return (*weight, self.layer.bias) if self.bias is not None and self.layer.bias is not None else weight

    def cost(self, nodes: Sequence[Node]) -> int:
        """The layer itself stays as long as it is, up to its name."""
        layer, graph = self.layer, self.layer.node.graph
        assert graph is not None
        changes = [(self.weight, layer.weight, layer.weight.name), (self.bias, layer.bias, self._bias_name)]
        gone = size_of([node for node in nodes if node is not layer.node]) + len(layer.node.name.encode())
        return swapped_bytes(changes, self.consts, nodes, graph) - gone

    @property
    def _bias_name(self) -> str:
        return self.layer.bias.name if self.layer.bias is not None else f"{self.layer.weight.name}_bias"

    def build(self, match: Match, b: Builder) -> Value:
        """Make the layer."""
        layer, node = self.layer, self.layer.node
        weight, bias, bias_name = layer.weight, layer.bias, self._bias_name
        if self.weight is not None:
            weight = swapped(match, b, weight, self.weight, weight.name)
            match.ctx.weights.became(layer.tensor, [self.weight], Outcome.FOLDED)
        if self.bias is not None:
            bias = swapped(match, b, bias, self.bias, bias_name)
        inputs = [self.x, weight] + ([bias] if bias is not None else [])
        if self.op_type != node.op_type:
            return b(self.op_type, *inputs)
        return b.copy(node, *inputs, attributes={"beta": None} if self.bias is not None else None)


def absorb_after(layer: Layer, maps: Sequence[Affine]) -> LayerPlan | str:
    """The layer with maps of its output in it, one after the other; or why not."""
    bias = layer.bias_of()
    if bias is None:
        return f"the bias of {layer.node.label} is no constant along its channels"
    weight = _scaled(layer, math.prod(one.scale for one in maps if one.scales), layer.out)
    if isinstance(weight, str):
        return weight
    for one in maps:
        bias = bias * one.scale + one.shift
    consts = tuple(value for one in maps for value in one.consts)
    return _with_bias(layer, layer.node.inputs[0], weight, bias, consts)


def absorb_before(layer: Layer, affine: Affine) -> LayerPlan | str:
    """The layer with a map of its input in it; or why not."""
    shifts = affine.shifts
    if shifts and layer.pads:
        return f"{QUIET} zeros are padded after the addition"
    before = layer.bias_of()
    if before is None and shifts:
        return f"the bias of {layer.node.label} is no constant along its channels"
    weight = _scaled(layer, affine.scale if affine.scales else 1, layer.into)
    if isinstance(weight, str):
        return weight
    if not shifts or before is None:
        return LayerPlan(layer, affine.x, weight, None, affine.consts)
    return _with_bias(layer, affine.x, weight, before + layer.applied_to(affine.shift), affine.consts)


def _scaled(layer: Layer, scale: Array | int, axes: tuple[int, ...]) -> Tensor | str | None:
    """The weight with a scale along some of its axes, None if that is 1; or why it cannot be."""
    if isinstance(scale, int):
        return None
    reason = fault(layer.sizes(axes), scale, layer.tensor.dtype, layer.weight_label)
    return reason or layer.scaled(scale, axes)


def _with_bias(
    layer: Layer, x: Value | None, weight: Tensor | None, numbers: Array, consts: tuple[Value, ...]
) -> LayerPlan | str:
    assert x is not None
    if layer.bias is None and not numbers.any():
        return LayerPlan(layer, x, weight, None, consts)
    if not layer.takes_bias and layer.y.rank != 2:
        return f"{QUIET} a MatMul takes no bias"
    if overflows(numbers, layer.tensor.dtype):
        return f"the bias of {layer.node.label} would overflow"
    whole = np.broadcast_to(numbers, (layer.y.count,))
    return LayerPlan(layer, x, weight, rounded(whole, layer.tensor.dtype), consts)
