"""A Mul before layers whose input takes no factor in: SmoothQuant where there is nothing to fold into.

    x W = (x / s) (s W)

The Mul costs a walk over x whenever the model runs. All layers of a graph that read x share one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...ir import Node, Value, tensor
from ...ir.analysis.coupling.axes import Axis
from ..manager.context import Context
from .apply import losing, scale
from .choose import LIMIT, Balance, offsets, to_powers
from .expected import ALPHAS, Reach, best
from .scales import Role, Touch

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
CUTS = (1, 2, 3, 4, 5)
"""By how many powers of two channels that stand out may be brought down."""


@dataclass(frozen=True)
class Inserted:
    """A Mul that scales channels of `value` for the layers of `touches`."""

    node: Node
    value: Value
    touches: Sequence[Touch]

    @property
    def scaled(self) -> Value:
        """What it gives."""
        return self.node.outputs[0]

    @property
    def layers(self) -> frozenset[Node]:
        """Who reads it."""
        return frozenset(touch.node for touch in self.touches)

    @property
    def powers(self) -> Int64:
        """It multiplies by 2^-powers: what it was inserted with, and what it has taken in since."""
        factors = self.node.inputs[1]
        assert factors is not None
        assert factors.const is not None
        return np.asarray(1 - np.frexp(factors.const.numpy().reshape(-1))[1], np.int64)

    def take_back(self, ctx: Context) -> None:
        """Let the layers read what they read before, by the weights that they had."""
        back: dict[Value, Int64] = {}
        for touch in self.touches:
            constant = touch.node.inputs[touch.slot]
            assert constant is not None
            back[constant] = -self.powers[touch.index]
            ctx.rewriter.set_input(touch.node, touch.node.inputs.index(self.scaled), self.value)
        scale(ctx, back)
        ctx.rewriter.erase(self.node)


def insert_factors(
    ctx: Context, balance: Balance, selects: Callable[[Node], bool]
) -> tuple[list[Inserted], dict[Axis, Reach]]:
    """Insert a Mul wherever channels of a held input of layers lie apart; how far what they give reaches."""
    inserted: list[Inserted] = []
    found: dict[Axis, Reach] = {}
    for touches in list(_candidates(balance, selects)):
        powers = _powers(balance, touches)
        if powers.any():
            inserted.append(_insert(ctx, touches, powers))
            axis = touches[0].axis
            found[Axis(inserted[-1].scaled, axis.axis)] = balance.reach[axis].scaled(powers)
    return inserted, found


def _candidates(balance: Balance, selects: Callable[[Node], bool]) -> Iterator[Sequence[Touch]]:
    """What reads one axis of one value in one graph, by weights that nothing else reads."""
    found: dict[object, list[Touch]] = {}
    for touch in balance.units.touches:
        if touch.role is not Role.READS or touch.axis not in balance.reach:
            continue
        held = [balance.units.frozen[unit] for unit in balance.units.numbers[touch.axis]]
        if touch.node.is_op(*LAYERS) and all(held) and selects(touch.node):
            found.setdefault((touch.axis, touch.node.graph), []).append(touch)
    for touches in found.values():
        nodes = {touch.node for touch in touches}
        own = [touch for touch in touches if touch.constant.is_read_only_by(nodes)]
        if own:
            yield own


def _powers(balance: Balance, touches: Sequence[Touch]) -> Int64:
    """The powers of two by element of the axis, none below 0; 0 if no error is expected to be saved."""
    first = touches[0]
    reach = balance.reach[first.axis]
    _, read = balance.ranges(touches)
    read = read[balance.units.numbers[first.axis]]

    def balanced(alpha: float) -> Int64:
        powers = to_powers(offsets(reach.logs, read, alpha))
        return _possible(touches, powers - powers.min(initial=0))

    if balance.alpha is not None:
        return balanced(balance.alpha)
    layers = balance.expected(touches)
    choices = [balanced(alpha) for alpha in ALPHAS] + [_possible(touches, cut(reach.logs, by)) for by in CUTS]
    found = best(layers, choices, lambda powers: dict.fromkeys(layers, powers))
    return np.zeros(len(read), np.int64) if found is None else found[0]


def cut(logs: Float64, by: int) -> Int64:
    """The powers that bring down what reaches further than 2^-by of the furthest, and nothing else."""
    end = logs.max(initial=-np.inf) - by
    return to_powers(np.maximum(0, logs - end) if np.isfinite(end) else np.zeros_like(logs))


def _possible(touches: Sequence[Touch], powers: Int64) -> Int64:
    """The powers, 0 where one of the constants would leave its range."""
    powers[np.abs(powers) > LIMIT] = 0
    for touch in touches:
        places = np.broadcast_to(touch.index, touch.tensor.shape)
        powers[places[losing(touch.constant, powers[touch.index])]] = 0
    return powers


def _insert(ctx: Context, touches: Sequence[Touch], powers: Int64) -> Inserted:
    value, axis = touches[0].axis
    first = _first([touch.node for touch in touches])
    graph = first.graph
    assert graph is not None
    behind = len(ctx.shapes().shape(value) or ()) - axis - 1
    factors = tensor(np.ldexp(1.0, -powers).reshape(-1, *[1] * behind), touches[0].tensor.dtype)
    constant = ctx.rewriter.constant(graph, factors, f"{value.name}_factors", before=first)
    made = ctx.rewriter.insert("Mul", [value, constant], before=first, outputs=[f"{value.name}_scaled"], origin=[first])
    for touch in touches:
        ctx.rewriter.set_input(touch.node, touch.node.inputs.index(value), made.outputs[0])
    scale(ctx, {touch.constant: powers[touch.index] for touch in touches})
    words = f"a Mul scales {np.count_nonzero(powers)} of {len(powers)} channels for {len(touches)} layers"
    ctx.remarks.applied(value.name, words, rule="insert")
    return Inserted(made, value, touches)


def _first(nodes: Sequence[Node]) -> Node:
    """The one that comes first in its graph."""
    graph = nodes[0].graph
    assert graph is not None
    return next(node for node in graph.nodes if node in nodes)
