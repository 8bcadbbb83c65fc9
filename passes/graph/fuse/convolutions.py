"""Two convolutions in a row of which one is pointwise: one does it, where that takes fewer multiplications.

W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2). The first may be any ungrouped convolution if the second is pointwise;
the second may be if the first is, as long as no zeros are padded between them (or the first has no bias). Each sum of
products is computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from ....ir import DerivedTensor, Node, Tensor, tensor
from ...manager.weights import Outcome
from ...rewriting.driver import QUIET
from ...rewriting.pattern import op, var
from ...rewriting.rule import Builder, Match, Results, Rule
from .constants import Array, overflows, rounded
from .layer import Layer, layer_of
from .plan import Plan, Planned, rule_parts, size_of, swapped, swapped_bytes
from .room import Room

_HELD = 1 << 20
"""Bytes up to which a product is kept; a larger one is computed again when it is asked for."""


def convolution_rules(room: Room) -> Iterator[Rule]:
    """The rule."""
    build, guard = rule_parts(_plan, room)
    pattern = op.Conv(op.Conv(var("x"), var(), ...).named("first"), var(), ...)
    yield Rule("merge-convolutions", pattern, build, guard)


def _plan(match: Match) -> Planned:
    first, second = layer_of(match.node("first"), match.types), layer_of(match.root, match.types)
    if isinstance(first, str) or isinstance(second, str):
        return QUIET
    if first.view[0] != 1 or second.view[0] != 1 or len(first.view) != len(second.view):
        return f"{QUIET} it has groups"
    bias = first.bias_of(), second.bias_of()
    if bias[0] is None or bias[1] is None:
        return f"{QUIET} a bias is no constant"
    if _is_pointwise(second):
        node = first.node
    elif _is_pointwise(first) and not (second.pads and bias[0].any()):
        node = second.node
    else:
        return f"{QUIET} none is pointwise, or zeros are padded between them"
    (_, m1, c1, *k1), (_, m2, _, *k2) = first.view, second.view
    if c1 * m2 * prod(k1) * prod(k2) > c1 * m1 * prod(k1) + m1 * m2 * prod(k2):
        return f"{QUIET} one convolution would multiply more"
    shape = (m2, c1, *(b if _is_pointwise(first) else a for a, b in zip(k1, k2, strict=True)))
    return _composed(first, second, node, shape)


def _is_pointwise(layer: Layer) -> bool:
    node = layer.node
    steps_by_one = all(step == 1 for step in node.attr("strides", ()))
    return all(size == 1 for size in layer.view[3:]) and steps_by_one and not layer.pads


def _composed(first: Layer, second: Layer, node: Node, shape: tuple[int, ...]) -> Planned:
    dtype = second.tensor.dtype
    sources = (first.tensor, second.tensor)
    weight = DerivedTensor("compose", _Compose(shape), sources, dtype, shape)
    before, after = first.bias_of(), second.bias_of()
    assert before is not None
    assert after is not None
    bias = np.broadcast_to(second.applied_to(before) + after, (shape[0],))
    array = weight.numpy()
    if overflows(array, dtype):
        return f"the product of {second.weight_label} and {first.weight_label} holds NaN or Inf"
    if overflows(bias, dtype):
        return f"the bias of {second.node.label} would overflow"
    has_bias = first.bias is not None or second.bias is not None
    held = weight if array.nbytes > _HELD else tensor(array)
    return _Composed(first, second, node, held, rounded(bias, dtype) if has_bias else None)


class _Compose:
    """W2 W1 of weights [m1, c, *k1] and [m2, m1, *k2], of which one is pointwise."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __call__(self, first: Array, second: Array) -> Array:
        m1 = first.shape[0]
        a = first.reshape(m1, first.shape[1], -1).astype(np.float64)
        b = second.reshape(second.shape[0], m1, -1).astype(np.float64)
        found = np.tensordot(b, a, axes=(1, 0))  # y, the kernel of the second, x, the kernel of the first
        return np.moveaxis(found, 1, 2).reshape(self.shape).astype(second.dtype)


class _Composed(Plan):
    """One convolution with the attributes of `node`."""

    def __init__(self, first: Layer, second: Layer, node: Node, weight: Tensor, bias: Tensor | None) -> None:
        self.first = first
        self.second = second
        self.node = node
        self.weight = weight
        self.bias = bias

    def cost(self, nodes: Sequence[Node]) -> int:
        graph = self.second.node.graph
        assert graph is not None
        changes = [
            (self.weight, self.second.weight, self.second.weight.name),
            (self.bias, self.second.bias, self._bias_name),
        ]
        also = [self.first.weight] + ([self.first.bias] if self.first.bias is not None else [])
        return swapped_bytes(changes, also, nodes, graph) - size_of([n for n in nodes if n is not self.node])

    @property
    def _bias_name(self) -> str:
        return self.second.bias.name if self.second.bias is not None else f"{self.second.weight.name}_bias"

    def build(self, match: Match, b: Builder) -> Results:
        bias_name = self._bias_name
        inputs = [match["x"], swapped(match, b, self.second.weight, self.weight, self.second.weight.name)]
        if self.bias is not None:
            inputs.append(swapped(match, b, self.second.bias, self.bias, bias_name))
        for source in (self.first.tensor, self.second.tensor):
            match.ctx.weights.became(source, [self.weight], Outcome.FOLDED)
        return b.copy(self.node, *inputs)
