"""BatchNormalization that no layer can take in: maps after it go into its gain and bias.

g (x - m) / d + b, times s, plus t  =  (g s) (x - m) / d + (b s + t)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ....ir import Node, Tensor, Value
from ...rewriting.driver import QUIET
from ...rewriting.pattern import const, op, var
from ...rewriting.rule import Builder, Match, Results, Rule
from .affine import Channels, affine_of, why_it_trains
from .constants import exact, fault, is_usable, overflows, rounded
from .plan import Plan, Planned, rule_parts, size_of, swapped, swapped_bytes
from .room import Room


def normalization_rules(room: Room) -> Iterator[Rule]:
    """The rules for maps after a BatchNormalization, another one included."""
    inner = op.BatchNormalization(var(), const("g"), const("b"), const(), const()).named("norm")
    build, guard = rule_parts(_plan, room)
    yield Rule("scale-after-normalization", op["Mul", "Div", "Add", "Sub"](inner, const()), build, guard, since=7)
    yield Rule("negate-after-normalization", op.Sub(const(), inner), build, guard, since=7)
    yield Rule("merge-normalizations", op.BatchNormalization(inner, ...), build, guard, since=7)


def _plan(match: Match) -> Planned:
    node = match.node("norm")
    gain, bias = match["g"].const, match["b"].const
    rank = match.types.rank(node.outputs[0])
    if not is_usable(gain) or not is_usable(bias) or gain is None or bias is None or rank is None or rank < 2:
        return QUIET
    if reason := why_it_trains(node):
        return reason
    slot = match.root.inputs.index(node.outputs[0])
    affine = affine_of(match.root, slot, Channels(1 - rank, gain.size, rank))
    if isinstance(affine, str):
        return affine
    if reason := fault(np.abs(exact(gain)), affine.scale, gain.dtype, f"the gain of {node.label}"):
        return reason
    moved = exact(bias) * affine.scale + affine.shift
    if overflows(moved, bias.dtype):
        return f"the bias of {node.label} would overflow"
    consts = tuple(value for value in affine.consts if value not in node.inputs)
    return _Norm(node, rounded(exact(gain) * affine.scale, gain.dtype), rounded(moved, bias.dtype), consts)


class _Norm(Plan):
    """The normalization with another gain and bias."""

    def __init__(self, node: Node, gain: Tensor, bias: Tensor, consts: tuple[Value, ...]) -> None:
        self.node = node
        self.gain = gain
        self.bias = bias
        self.consts = consts

    @property
    def copied(self) -> tuple[Value, ...]:
        return tuple(value for value in self.node.inputs[1:3] if value is not None)

    def cost(self, nodes: Sequence[Node]) -> int:
        graph = self.node.graph
        assert graph is not None
        old = self.copied
        changes = [(new, value, value.name) for new, value in zip((self.gain, self.bias), old, strict=True)]
        return swapped_bytes(changes, self.consts, nodes, graph) - size_of([n for n in nodes if n is not self.node])

    def build(self, match: Match, b: Builder) -> Results:
        gain, bias = (
            swapped(match, b, value, new, value.name)
            for new, value in zip((self.gain, self.bias), self.copied, strict=True)
        )
        return b.copy(self.node, self.node.inputs[0], gain, bias, *self.node.inputs[3:])
