"""Statistics: BatchNormalizations take up what a cut did to their inputs, channel by channel.

With m, v the mean and variance of a channel of the input on the sample data, before (m, v) and after (m', v') the cut,

    mean' = m' - (m - mean) r,    var' + eps = (var + eps) r^2,    r^2 = v' / v,

give outputs of the same mean and variance as before (Nagel et al. 2019; Jordan et al. 2022); where nothing changed they
are mean and var. Of a channel that is the same number everywhere only the mean moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ....ir import Model, Node, Value, tensor
from ....ir.analysis.coupling import Axis
from ....ir.tensor import Array
from ...calibrate.stages import in_stages
from ...calibrate.stream import observe_pairs
from ...manager.bounds import LocalBound
from ...manager.context import Context
from ...manager.weights import Outcome
from ...rewriting.layers import put
from .bounds import BY
from .cut import Kept
from .scores import Float64

MEAN, VAR = 3, 4
"""Inputs of BatchNormalization; before them scale and bias."""


@dataclass(frozen=True)
class Norm:
    """A BatchNormalization before the cut (in the copy), and after."""

    old: Node
    new: Node
    where: Array | None
    """Which channels stay; None if all do."""


def norms(ctx: Context, before: Model, copies: Mapping[Value, Value], kept: Kept) -> list[Norm]:
    """Those that the pass may act on, with constant numbers that nothing else reads, in order."""
    olds = {node.outputs[0]: node for graph in before.graph.walk_graphs() for node in graph.nodes}
    found = []
    for graph in ctx.model.graph.walk_graphs():
        for node in graph.nodes:
            several = len([y for y in node.outputs if y.name]) > 1
            if not node.is_op("BatchNormalization") or several or not ctx.selects(node):
                continue
            x, numbers = node.input(0), [node.input(slot) for slot in range(1, 5)]
            is_own = all(value is not None and value.const is not None for value in numbers) and all(
                value is not None and len(value.uses) == 1 for value in numbers[2:]
            )
            if x is not None and is_own:
                found.append(Norm(olds[copies[node.outputs[0]]], node, kept.get(Axis(x, 1))))
    return found


def reestimate(ctx: Context, before: Model, layers: Sequence[Norm]) -> int:
    """Set the statistics in stages, in order; returns how many normalizations changed."""
    done = 0
    for norms_ in in_stages(layers, lambda _: 0):
        seen: dict[tuple[Value, Value], _Pair] = {}
        stage = [(norm, _inputs(norm)) for norm in norms_]
        for norm, pair in stage:
            seen.setdefault(pair, _Pair(norm.where))
        observe_pairs(ctx, before, {pair: [each] for pair, each in seen.items()}, purpose="repair=statistics")
        done += sum(_apply(ctx, norm.new, seen[pair]) for norm, pair in stage)
    return done


def _inputs(norm: Norm) -> tuple[Value, Value]:
    old, new = norm.old.input(0), norm.new.input(0)
    assert old is not None
    assert new is not None
    return old, new


class _Pair:
    """Sums of the channels of a value and their squares, before and after: an observer of pairs."""

    def __init__(self, where: Array | None) -> None:
        self._where = where
        self.counts = [0, 0]
        self.first: list[Float64] = [np.zeros(1), np.zeros(1)]
        self.second: list[Float64] = [np.zeros(1), np.zeros(1)]

    def update(self, before: Array, after: Array) -> None:
        """Take one sample into account."""
        if self._where is not None:
            before = np.take(before, self._where, axis=1)
        for place, array in enumerate((before, after)):
            rows = np.moveaxis(array.astype(np.float64), 1, 0).reshape(array.shape[1], -1)
            self.counts[place] += rows.shape[1]
            self.first[place] = self.first[place] + rows.sum(axis=1)
            self.second[place] = self.second[place] + (rows**2).sum(axis=1)

    def moments(self, place: int) -> tuple[Float64, Float64]:
        """Mean and variance of each channel."""
        count = max(1, self.counts[place])
        mean = self.first[place] / count
        return mean, np.maximum(0, self.second[place] / count - mean**2)


def _apply(ctx: Context, node: Node, seen: _Pair) -> bool:
    if not seen.counts[1]:
        return False
    eps = float(node.attr("epsilon", 1e-5))
    mean, var = _numbers(node, MEAN), _numbers(node, VAR)
    before = _line(node)
    (old_mean, old_var), (new_mean, new_var) = seen.moments(0), seen.moments(1)
    varies = (old_var > 0) & (new_var > 0)
    ratio = np.where(varies, new_var / np.where(varies, old_var, 1), 1.0)
    made = new_mean - (old_mean - mean) * np.sqrt(ratio), np.maximum(0, (var + eps) * ratio - eps)
    if not all(np.isfinite(each).all() for each in made):
        return False
    for slot, array in zip((MEAN, VAR), made, strict=True):
        _set(ctx, node, slot, array)
    ctx.bounds.extend(_bounds(node, before))
    return True


def _numbers(node: Node, slot: int) -> Float64:
    value = node.input(slot)
    assert value is not None
    assert value.const is not None
    return np.asarray(value.const.numpy().astype(np.float64))


def _set(ctx: Context, node: Node, slot: int, array: Float64) -> None:
    value = node.input(slot)
    assert value is not None
    held = value.const
    assert held is not None
    made = tensor(array.astype(held.numpy().dtype))
    ctx.weights.became(held, [made], Outcome.PRUNED, form="statistics")
    put(ctx.rewriter, value, made)


def _line(node: Node) -> tuple[Float64, Float64]:
    """The normalization as a x + c."""
    scale, bias, mean, var = (_numbers(node, slot) for slot in range(1, 5))
    slope = scale / np.sqrt(var + float(node.attr("epsilon", 1e-5)))
    return slope, bias - mean * slope


def _bounds(node: Node, before: tuple[Float64, Float64]) -> Iterator[LocalBound]:
    """abs(dy) <= abs(da) max abs(x) + abs(dc)."""
    graph, y = node.graph, node.outputs[0]
    assert graph is not None
    for form, old, new in zip(("linear", "absolute"), before, _line(node), strict=True):
        if (old != new).any():
            yield LocalBound(BY, graph.label, y.name, form, 1, np.abs(new - old))
