"""A Mul before layers whose input takes no factor in: SmoothQuant where there is nothing to fold into.

    x W = (x / s) (s W)

The Mul costs a walk over x whenever the model runs. All layers of a graph that read x share one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...ir import Node, Value, tensor
from ...ir.analysis.coupling.axes import Axis
from ..manager.context import Context
from .apply import losing, scale
from .choose import LIMIT, Balance, offsets, to_powers
from .expected import Reach, best
from .scales import Role, Touch

Int64 = NDArray[np.int64]
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def insert_factors(ctx: Context, balance: Balance) -> dict[Axis, Reach]:
    """Insert a Mul wherever channels of a held input of layers lie apart; how far what they give reaches."""
    found: dict[Axis, Reach] = {}
    for touches in list(_candidates(ctx, balance)):
        powers = _powers(balance, touches)
        if powers.any():
            made = _insert(ctx, touches, powers)
            axis = touches[0].axis
            found[Axis(made, axis.axis)] = balance.reach[axis].scaled(powers)
    return found


def _candidates(ctx: Context, balance: Balance) -> Iterator[Sequence[Touch]]:
    """What reads one axis of one value in one graph, by weights that nothing else reads."""
    found: dict[object, list[Touch]] = {}
    for touch in balance.units.touches:
        if touch.role is not Role.READS or touch.axis not in balance.reach:
            continue
        held = [balance.units.frozen[unit] for unit in balance.units.numbers[touch.axis]]
        if touch.node.is_op(*LAYERS) and all(held) and ctx.selects(touch.node):
            found.setdefault((touch.axis, touch.node.graph), []).append(touch)
    for touches in found.values():
        nodes = {touch.node for touch in touches}
        own = [touch for touch in touches if touch.constant.is_read_only_by(nodes)]
        if own:
            yield own


def _powers(balance: Balance, touches: Sequence[Touch]) -> Int64:
    """The powers of two by element of the axis; 0 if no error is expected to be saved."""
    first = touches[0]
    reach = balance.reach[first.axis]
    _, read = balance.ranges(touches)
    read = read[balance.units.numbers[first.axis]]

    def powers_for(alpha: float) -> Int64:
        return _possible(touches, to_powers(offsets(reach.logs, read, alpha)))

    alpha = balance.alpha
    if alpha is None:
        layers = balance.expected(touches)
        found = best(layers, lambda alpha: dict.fromkeys(layers, powers_for(alpha)))
        alpha = None if found is None else found[0]
    return np.zeros(len(read), np.int64) if alpha is None else powers_for(alpha)


def _possible(touches: Sequence[Touch], powers: Int64) -> Int64:
    """The powers, 0 where one of the constants would leave its range."""
    powers[np.abs(powers) > LIMIT] = 0
    for touch in touches:
        places = np.broadcast_to(touch.index, touch.tensor.shape)
        powers[places[losing(touch.constant, powers[touch.index])]] = 0
    return powers


def _insert(ctx: Context, touches: Sequence[Touch], powers: Int64) -> Value:
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
    return made.outputs[0]


def _first(nodes: Sequence[Node]) -> Node:
    """The one that comes first in its graph."""
    graph = nodes[0].graph
    assert graph is not None
    return next(node for node in graph.nodes if node in nodes)
