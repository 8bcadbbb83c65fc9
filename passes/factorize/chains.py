"""Chains: convolutions that follow each other with nothing between and are one that was factorized before.

| method | chain |
| --- | --- |
| `spatial` | a x 1, then 1 x b |
| `tucker` | 1 x 1, k x k, 1 x 1 |
| `cp` | 1 x 1, depthwise a x 1, depthwise 1 x b, 1 x 1 |

The one convolution has the strides, dilations and pads of those that move along each axis, and the product of the
weights: it is factorized anew instead of each of its factors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ...ir import Node, Value
from ...ir.analysis.linear import Linear, linear_of
from ...ir.attribute import Attribute
from .factors import SPECS, Float64


@dataclass(frozen=True)
class Chain:
    """The nodes in order, their weights, and the view of the one convolution that they are."""

    method: str
    nodes: tuple[Node, ...]
    weights: tuple[Value, ...]
    layer: Linear

    def kernel(self) -> Float64:
        """The kernel array [g, n, c, a, b] of the one convolution."""
        g, n = self.layer.groups, self.layer.n
        c, a, b = self.layer.shape[1], self.layer.kernel[0], prod(self.layer.kernel[1:])
        arrays = [value.const.numpy().astype(np.float64) for value in self.weights if value.const is not None]
        shaped: list[Float64]
        match self.method:
            case "spatial":
                shaped = [arrays[0].reshape(g, -1, c, a), arrays[1].reshape(g, n, -1, b)]
            case "tucker":
                core = arrays[1].reshape(g, -1, arrays[1].shape[1], a, b)
                shaped = [arrays[0].reshape(g, -1, c), core, arrays[2].reshape(g, n, -1)]
            case _:
                lines: list[Float64] = [arrays[1].reshape(g, -1, a), arrays[2].reshape(g, -1, b)]
                shaped = [arrays[0].reshape(g, -1, c), *lines, arrays[3].reshape(g, n, -1)]
        return np.asarray(np.einsum(SPECS[self.method], *shaped, optimize=True))


def chain_of(last: Node) -> Chain | None:
    """The longest chain that ends with a node."""
    for method, count, fits in (("cp", 4, _is_cp), ("tucker", 3, _is_tucker), ("spatial", 2, _is_spatial)):
        layers = _before(last, count)
        if layers and fits(layers):
            movers = {"cp": layers[1:3], "tucker": [layers[1]] * 2}.get(method, layers)
            settings = _merged(*movers)
            if settings is not None:
                nodes, weights = (tuple(layer.node for layer in layers), tuple(layer.weight for layer in layers))
                return Chain(method, nodes, weights, _whole(layers, movers, settings))
    return None


def _before(last: Node, count: int) -> list[Linear]:
    """So many convolutions that end with a node, each read by the next alone; none if there are fewer."""
    found: list[Linear] = []
    node: Node | None = last
    while node is not None and len(found) < count:
        layer = linear_of(node)
        if layer is None or not node.is_op("Conv") or len(layer.weight.uses) > 1 or node.graph is not last.graph:
            return []
        uses = node.outputs[0].uses
        if node is not last and (len(uses) != 1 or uses[0].user is not found[0].node or node.input(2) is not None):
            return []
        found.insert(0, layer)
        node = layer.x.producer
    return found if len(found) == count else []


def _is_cp(layers: Sequence[Linear]) -> bool:
    first, down, across, last = layers
    are_lines = _moves_along(down, first=True) and _moves_along(across, first=False)
    is_depthwise = all(layer.k == prod(layer.kernel) and layer.n == 1 for layer in (down, across))
    return are_lines and is_depthwise and is_pointwise(first) and is_pointwise(last) and first.groups == last.groups


def _is_tucker(layers: Sequence[Linear]) -> bool:
    first, core, last = layers
    are_points = is_pointwise(first) and is_pointwise(last) and prod(core.kernel) > 1
    return are_points and first.groups == core.groups == last.groups


def _is_spatial(layers: Sequence[Linear]) -> bool:
    down, across = layers
    return down.groups == across.groups and _moves_along(down, first=True) and _moves_along(across, first=False)


def is_pointwise(layer: Linear) -> bool:
    """Whether a convolution is 1 x 1 and moves nowhere."""
    return all(size == 1 for size in layer.kernel) and _rests(layer.node, range(len(layer.kernel)))


def _moves_along(layer: Linear, *, first: bool) -> bool:
    """Whether a convolution extends along the first axis alone, or along others alone, and rests elsewhere."""
    own = range(1) if first else range(1, len(layer.kernel))
    others = [axis for axis in range(len(layer.kernel)) if axis not in own]
    is_flat = all(layer.kernel[axis] == 1 for axis in others)
    return is_flat and any(layer.kernel[axis] > 1 for axis in own) and _rests(layer.node, others)


def _rests(node: Node, axes: Sequence[int]) -> bool:
    strides, pads = node.attr("strides", ()), node.attr("pads", ())
    moved = [strides[axis] - 1 for axis in axes] if strides else []
    return not any(moved) and not any(pads[axis] or pads[axis + len(pads) // 2] for axis in axes if pads)


def _merged(down: Linear, across: Linear) -> dict[str, Any] | None:
    """The attributes of both: those of the first axis from `down`, of the others from `across`; None if they clash."""
    one, other, rank = down.node, across.node, len(down.kernel)
    modes = {node.attr("auto_pad", "NOTSET") for node in (one, other)}
    if len(modes) > 1:
        return None
    found: dict[str, Any] = {"auto_pad": modes.pop()}
    neutral: tuple[tuple[str, int, Callable[[int], bool]], ...] = (
        ("strides", 1, bool), ("dilations", 1, bool), ("pads", 0, lambda axis: axis % rank != 0),
    )  # fmt: skip
    for name, usual, is_across in neutral:
        size = 2 * rank if name == "pads" else rank
        if one.attr(name) is not None or other.attr(name) is not None:
            first, rest = (node.attr(name) or [usual] * size for node in (one, other))
            found[name] = [rest[axis] if is_across(axis) else first[axis] for axis in range(size)]
    return found


def _whole(layers: Sequence[Linear], movers: Sequence[Linear], settings: dict[str, Any]) -> Linear:
    first, last = layers[0], layers[-1]
    kernel = (movers[0].kernel[0], *movers[1].kernel[1:])
    given = {**settings, "group": first.groups, "kernel_shape": list(kernel)}
    node = Node("Conv", [first.x, last.weight], [], {name: Attribute.of(name, value) for name, value in given.items()})
    shape = (last.shape[0], first.shape[1], *kernel)
    return Linear(node, 1, first.x, last.weight, shape, first.groups, prod(shape[1:]), last.n, 2)
