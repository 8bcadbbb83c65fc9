"""What becomes of a layer that absorbs an affine map, and whether that is worth it.

After it:   (W x + b) s + t  =  (s W) x + (s b + t)
Before it:  W (s x + t) + b  =  (W s) x + (W t + b), the second term only where nothing is padded
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ....ir import Node, Tensor, Value
from ....ir.proto import node_size
from ...manager.weights import Outcome
from ...rewriting.driver import QUIET
from ...rewriting.rule import Build, Builder, Guard, Match
from .affine import Affine
from .constants import Array, fault, overflows, rounded
from .layer import Layer
from .room import Room, added_bytes, is_released, released_bytes


@dataclass(frozen=True)
class Plan:
    """A layer that reads `x` with another weight and bias (None: as they are); `consts` are no longer read."""

    layer: Layer
    x: Value
    weight: Tensor | None
    bias: Tensor | None
    consts: tuple[Value, ...]

    @property
    def op_type(self) -> str:
        """The operator: a MatMul that gets a bias becomes a Gemm."""
        return "Gemm" if self.layer.node.op_type == "MatMul" and self.bias is not None else self.layer.node.op_type

    def cost(self, nodes: Sequence[Node]) -> int:
        """Bytes that the file grows by, at most, if it takes the place of `nodes`."""
        layer, graph = self.layer, self.layer.node.graph
        assert graph is not None
        added = -sum(node_size(node) for node in nodes if node is not layer.node) - len(layer.node.name.encode())
        freed: list[Value | None] = [*self.consts]
        for content, old, name in (
            (self.weight, layer.weight, layer.weight.name),
            (self.bias, layer.bias, self.bias_name),
        ):
            if content is not None:
                freed.append(old)
                anew = old is not None and not is_released(old, nodes)
                added += added_bytes(content, name, graph, named_anew=anew)
                added += len(name.encode()) + 2 if old is None else 0
        return added - released_bytes(freed, nodes)

    @property
    def bias_name(self) -> str:
        """A name for the bias, near that of the one before or of the weight."""
        return self.layer.bias.name if self.layer.bias is not None else f"{self.layer.weight.name}_bias"

    def build(self, match: Match, b: Builder) -> Value:
        """Make the layer."""
        layer, node = self.layer, self.layer.node
        nodes = match.bound.matched
        weight, bias = layer.weight, layer.bias
        if self.weight is not None:
            weight = _replacement(match, b, layer.weight, layer.weight.name, self.weight, nodes)
            match.ctx.weights.became(layer.tensor, [self.weight], Outcome.FOLDED)
        if self.bias is not None:
            bias = _replacement(match, b, layer.bias, self.bias_name, self.bias, nodes)
        inputs = [self.x, weight] + ([bias] if bias is not None else [])
        if self.op_type != node.op_type:
            return b(self.op_type, *inputs)
        return b.copy(node, *inputs, attributes={"beta": None} if self.bias is not None else None)


def _replacement(
    match: Match, b: Builder, old: Value | None, name: str, content: Tensor, nodes: Sequence[Node]
) -> Value:
    """A new constant; it takes the name of the one before if that goes."""
    made = b.constant(content, name)
    if old is not None and old.graph is made.graph and is_released(old, nodes):
        match.ctx.rewriter.swap_names(old, made)
    return made


def absorb_after(layer: Layer, affine: Affine) -> Plan | str:
    """The layer with a map of its output in it; or why not."""
    before = layer.bias_of()
    if before is None:
        return f"the bias of {layer.node.label} is no constant along its channels"
    weight: Tensor | None = None
    if affine.scales:
        weight = layer.scaled_out(affine.scale)
        if reason := fault(layer.sizes_out(), affine.scale, weight.dtype, layer.weight_label):
            return reason
    return _with_bias(layer, layer.node.inputs[0], weight, before * affine.scale + affine.shift, affine)


def absorb_before(layer: Layer, affine: Affine) -> Plan | str:
    """The layer with a map of its input in it; or why not."""
    before = layer.bias_of()
    if affine.shifts and layer.pads:
        return f"{QUIET} zeros are padded after the addition"
    if before is None and affine.shifts:
        return f"the bias of {layer.node.label} is no constant along its channels"
    weight: Tensor | None = None
    if affine.scales:
        weight = layer.scaled_in(affine.scale)
        if reason := fault(layer.sizes_in(), affine.scale, weight.dtype, layer.weight_label):
            return reason
    if not affine.shifts or before is None:
        return Plan(layer, affine.x, weight, None, affine.consts)
    return _with_bias(layer, affine.x, weight, before + layer.applied_to(affine.shift), affine)


def _with_bias(layer: Layer, x: Value | None, weight: Tensor | None, numbers: Array, affine: Affine) -> Plan | str:
    assert x is not None
    if layer.bias is None and not numbers.any():
        return Plan(layer, x, weight, None, affine.consts)
    if not layer.takes_bias and layer.y.rank != 2:
        return f"{QUIET} a MatMul takes no bias"
    if overflows(numbers, layer.tensor.dtype):
        return f"the bias of {layer.node.label} would overflow"
    whole = np.broadcast_to(numbers, (layer.y.count,))
    return Plan(layer, x, weight, rounded(whole, layer.tensor.dtype), affine.consts)


class Planner:
    """Makes the guard and the build of a rule from a function that plans; what was planned is not planned again."""

    def __init__(self, plan: Callable[[Match], Plan | str], room: Room) -> None:
        self._plan = plan
        self._room = room
        self._ready: tuple[Match, Plan, int] | None = None

    def guard(self, match: Match) -> str:
        """Why not; empty if the rewrite is good."""
        plan = self._plan(match)
        if isinstance(plan, str):
            return plan
        nodes = match.bound.matched
        cost = plan.cost(nodes)
        self._ready = (match, plan, cost)
        changed = [plan.layer.weight] if plan.weight is not None else []
        changed += [plan.layer.bias] if plan.bias is not None and plan.layer.bias is not None else []
        return self._room.refuses(cost, changed, nodes)

    def build(self, match: Match, b: Builder) -> Value:
        """Do what was planned."""
        assert self._ready is not None
        planned, plan, cost = self._ready
        assert planned is match
        self._room.spare -= cost
        return plan.build(match, b)


def rule_parts(plan: Callable[[Match], Plan | str], room: Room) -> tuple[Build, Guard]:
    """The build and the guard of a rule that plans."""
    planner = Planner(plan, room)
    return planner.build, planner.guard
