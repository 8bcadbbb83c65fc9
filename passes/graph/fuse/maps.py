"""Chains of elementwise maps by constants: two that one can do, three that two can do.

(x a) b = x (a b),  (x + a) + b = x + (a + b),  (x a + b) c = x (a c) + b c, and so on with Div and Sub: each map is
s x + t, and so is a chain of them. One node does it if s is 1 or -1 everywhere, or t is 0; else Mul and Add do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ....ir import Node, Tensor, Value
from ...rewriting.driver import QUIET, can_stand_for
from ...rewriting.pattern import Pattern, any_of, const, op, var, zeros
from ...rewriting.rule import Builder, Match, Results, Rule
from .constants import Array, exact, fault, is_usable, overflows, rounded
from .kernels import is_part_of_a_kernel
from .plan import Plan, Planned, rule_parts, size_of, swapped_bytes
from .room import Room

_MAPS = op["Mul", "Div", "Add", "Sub"]
_LARGEST = 1 << 20
"""Elements of a constant, above which a chain is left alone: such constants are no scales."""
_ONE, _ZERO, _MINUS_ONE = (np.broadcast_to(float(number), ()) for number in (1, 0, -1))


class _Map(NamedTuple):
    """s x + t; `shape` is what the constants broadcast to."""

    x: Value
    scale: Array
    shift: Array
    dtype: int
    consts: tuple[Value, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return np.broadcast_shapes(self.scale.shape, self.shift.shape)

    def after(self, inner: _Map) -> _Map:
        """This map of what `inner` computes."""
        scale, shift = inner.scale * self.scale, inner.shift * self.scale + self.shift
        return _Map(inner.x, scale, shift, self.dtype, (*inner.consts, *self.consts))


def map_rules(room: Room) -> Iterator[Rule]:
    """The rules for chains."""
    build, guard = rule_parts(_merge, room)
    chain: Pattern = any_of(_MAPS(var(), const()), op.Sub(const(), var()))
    for name in ("merge-maps", "merge-three-maps"):
        longer = (_MAPS(chain, const()), op.Sub(const(), chain))
        for pattern in longer:
            yield Rule(name, pattern, build, guard, since=7)
        chain = any_of(*longer)
    yield Rule("drop-zero", op["Add", "Sub"](var("x"), zeros("c")), lambda m, b: m["x"], _adds_nothing, since=7)


def _merge(match: Match) -> Planned:
    nodes = match.bound.matched[::-1]
    if any(map(is_part_of_a_kernel, nodes[:-1])):
        return f"{QUIET} the runtime has a kernel for what it belongs to"
    whole = _map_of(nodes[0], None)
    for inner, node in pairwise(nodes):
        one = _map_of(node, inner.outputs[0])
        whole = one.after(whole) if one is not None and whole is not None else None
    return f"{QUIET} no map by a constant of numbers" if whole is None else _plan(whole, match)


def _map_of(node: Node, x: Value | None) -> _Map | None:
    """The map that a node applies to `x`, or to what is no constant if that is not given."""
    for slot, value in enumerate(node.inputs):
        other = node.inputs[1 - slot]
        tensor = None if other is None else other.const
        if value is None or other is None or (value is not x if x is not None else value.const is not None):
            continue
        if tensor is None or not is_usable(tensor) or tensor.size > _LARGEST:
            return None
        c = exact(tensor)
        match node.op_type:
            case "Mul":
                scale, shift = c, _ZERO
            case "Div" if slot == 0:
                with np.errstate(all="ignore"):
                    scale, shift = 1 / c, _ZERO
            case "Add":
                scale, shift = _ONE, c
            case "Sub":
                scale, shift = (_ONE, -c) if slot == 0 else (_MINUS_ONE, c)
            case _:
                return None
        return _Map(value, scale, shift, tensor.dtype, (other,))
    return None


def _plan(whole: _Map, match: Match) -> Planned:
    scales, shifts = bool((whole.scale != 1).any()), bool(whole.shift.any())
    if shifts and scales and bool((whole.scale == -1).all()):
        steps: tuple[tuple[str, Array], ...] = (("Sub", whole.shift),)
    else:
        steps = (("Mul", whole.scale),) * scales + (("Add", whole.shift),) * shifts
    if len(steps) >= len(match.bound.matched):
        return f"{QUIET} as many nodes would do it"
    if reason := fault(_ONE, whole.scale, whole.dtype, "the product of constants"):
        return reason
    if overflows(whole.shift, whole.dtype):
        return "the sum of constants would overflow"
    if not steps:
        return _nothing(whole, match)
    if len(steps) == 1:
        steps = ((steps[0][0], np.broadcast_to(steps[0][1], whole.shape)),)
    return _Chain(whole.x, tuple((kind, rounded(numbers, whole.dtype)) for kind, numbers in steps), whole.consts)


def _nothing(whole: _Map, match: Match) -> Planned:
    """A chain that gives back what it got; zero and one must not widen it."""
    shape = match.types.shape(whole.x)
    known = shape is not None and len(whole.shape) <= len(shape)
    if not known or any(size != 1 for size in whole.shape):
        return f"{QUIET} the constants may widen the result"
    reason = can_stand_for(match.root.outputs[0], whole.x)
    return reason or _Chain(whole.x, (), whole.consts)


class _Chain(Plan):
    """Nodes that apply constants to x, one after the other."""

    def __init__(self, x: Value, steps: tuple[tuple[str, Tensor], ...], consts: tuple[Value, ...]) -> None:
        self.x = x
        self.steps = steps
        self.consts = consts

    def cost(self, nodes: Sequence[Node]) -> int:
        """The nodes that stay are as long as those before."""
        graph = nodes[0].graph
        assert graph is not None
        names = (self.consts[0].name, self.consts[-1].name)
        changes = [(content, None, name) for (_, content), name in zip(self.steps, names, strict=False)]
        return swapped_bytes(changes, self.consts, nodes, graph) - size_of(nodes[len(self.steps) :])

    def build(self, match: Match, b: Builder) -> Results:
        """Make the nodes."""
        y = self.x
        for (kind, content), old in zip(self.steps, (self.consts[0], self.consts[-1]), strict=False):
            c = b.constant(content, old.name)
            y = b(kind, c, y) if kind == "Sub" else b(kind, y, c)
        return y


def _adds_nothing(match: Match) -> str:
    """Adding 0 gives x up to the sign of zeros. (x - 0 is x to the bit.)"""
    x, c = match["x"], match["c"]
    tensor, shape = c.const, match.types.shape(x)
    if tensor is None or not is_usable(tensor) or tensor.size > _LARGEST or x.const is not None or exact(tensor).any():
        return QUIET
    if shape is None or len(shape) < len(tensor.shape):
        return f"{QUIET} the constant may widen the result"
    for size, wanted in zip(shape[len(shape) - len(tensor.shape) :], tensor.shape, strict=True):
        if wanted not in (1, size):
            return f"{QUIET} the constant may widen the result"
    return can_stand_for(match.root.outputs[0], x)
