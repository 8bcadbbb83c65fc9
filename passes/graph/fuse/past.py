"""A scale moved past an addition into the layer that reads the sum, which pads zeros so that it cannot take the shift.

W (s x + t) = (W s) (x + t / s), where s is nowhere 0. The absolute terms are the same: |W s x| and |W t|.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ....ir import Node, Tensor, Value
from ...rewriting.driver import QUIET
from ...rewriting.pattern import const, op, var
from ...rewriting.rule import Builder, Match, Results, Rule
from .absorb import map_before
from .absorbing import LayerPlan, absorb_before
from .affine import Affine
from .constants import ZERO, overflows, rounded
from .kernels import is_part_of_a_kernel
from .layer import layer_of
from .plan import Plan, Planned, rule_parts, size_of, swapped, swapped_bytes
from .room import Room


def past_rules(room: Room) -> Iterator[Rule]:
    """The rule, for convolutions."""
    build, guard = rule_parts(_plan, room)
    inner = op["Mul", "Div"](var(), const()).named("scale")
    for outer in (op["Add", "Sub"](inner, const()).named("shift"), op.Sub(const(), inner).named("shift")):
        pattern = op["Conv", "ConvTranspose"](outer, var(), ...)
        yield Rule("scale-past-shift", pattern, build, guard, since=7)


def _plan(match: Match) -> Planned:
    layer = layer_of(match.root, match.types)
    if isinstance(layer, str):
        return layer
    if not layer.pads:
        return QUIET  # it takes the shift first
    if is_part_of_a_kernel(match.node("shift")) or is_part_of_a_kernel(match.node("scale")):
        return f"{QUIET} the runtime has a kernel for what it belongs to"
    scale, shift = (map_before(layer, match.node(name), match.types) for name in ("scale", "shift"))
    if isinstance(scale, str) or isinstance(shift, str):
        return QUIET
    total = scale.scale * shift.scale
    with np.errstate(all="ignore"):
        moved = shift.shift / total
    if overflows(moved, layer.tensor.dtype):
        return f"{match.node('shift').label} would overflow if the scale before it were moved behind"
    plan = absorb_before(layer, Affine(scale.x, total, ZERO, scale.consts))
    if isinstance(plan, str):
        return plan
    old = shift.consts[0]
    return _Past(plan, rounded(moved.reshape(_shape(moved.size, len(layer.view) - 1)), layer.tensor.dtype), old)


def _shape(count: int, rank: int) -> tuple[int, ...]:
    """Channels on axis 1 of `rank`; a scalar otherwise."""
    return () if count == 1 else (count, *[1] * (rank - 2))


class _Past(Plan):
    """Add `shift`, then the layer."""

    def __init__(self, layer: LayerPlan, shift: Tensor, old: Value) -> None:
        self.layer = layer
        self.shift = shift
        self.old = old

    @property
    def copied(self) -> tuple[Value, ...]:
        return self.layer.copied

    def cost(self, nodes: Sequence[Node]) -> int:
        """The Add is as long as the node that shifted before."""
        layer = self.layer.layer
        graph = layer.node.graph
        assert graph is not None
        changes = [
            (self.layer.weight, layer.weight, layer.weight.name),
            (self.shift, self.old, self.old.name),
        ]
        gone = [node for node in nodes if node is not layer.node and self.old not in node.inputs]
        return swapped_bytes(changes, self.layer.consts, nodes, graph) - size_of(gone)

    def build(self, match: Match, b: Builder) -> Results:
        x = b("Add", self.layer.x, swapped(match, b, self.old, self.shift, self.old.name))
        return LayerPlan(self.layer.layer, x, self.layer.weight, None, ()).build(match, b)
