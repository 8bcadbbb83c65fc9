"""Cutting: removes units of coupled axes, in weights and in the numbers that count them.

Cutting a unit equals zeroing its elements wherever they are consumed (contracted with a weight, or summed), up to
rounding: the terms that are left out of a sum are those that would be zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ....ir import DerivedTensor, Node, Rewriter, Tensor, Value, tensor
from ....ir.analysis.coupling import Axis, Fix, Group, rewritten
from ....ir.tensor import Array
from ...manager.context import Context
from ...manager.weights import Outcome
from ...rewriting.layers import put

Gone = NDArray[np.bool_]
Kept = dict[Axis, NDArray[np.int64]]


def cut(ctx: Context, groups: Sequence[Group], gone: Sequence[Gone]) -> Kept:
    """Remove the units `gone[i]` of `groups[i]`; returns which elements stay of every axis that was cut."""
    kept: Kept = {}
    fixes: list[Fix] = []
    for group, units in zip(groups, gone, strict=True):
        if units.any():
            kept |= {axis: group.kept(axis, units) for axis in group.axes if units[group.units[axis]].any()}
            fixes += group.fixes
    _rewrite_numbers(ctx.rewriter, fixes, kept)
    by_value: dict[Value, dict[int, NDArray[np.int64]]] = {}
    for axis, where in kept.items():
        by_value.setdefault(axis.value, {})[axis.axis] = where
    for value, parts in by_value.items():
        held = value.const
        if held is None:
            if value.type is not None:
                ctx.rewriter.set_info(value, None)
            continue
        made = sliced(held, parts)
        ctx.weights.became(held, [made], Outcome.PRUNED, form="cut")
        put(ctx.rewriter, value, made)
    return kept


def sliced(held: Tensor, parts: Mapping[int, NDArray[np.int64]]) -> Tensor:
    """A tensor of the elements `parts[axis]` along some axes; computed when it is asked for."""
    shape = tuple(len(parts[axis]) if axis in parts else size for axis, size in enumerate(held.shape))

    def compute(array: Array) -> Array:
        for axis, where in parts.items():
            array = np.take(array, where, axis=axis)
        return array

    return DerivedTensor("cut", compute, (held,), held.dtype, shape)


def _rewrite_numbers(rewriter: Rewriter, fixes: Sequence[Fix], kept: Kept) -> None:
    sizes: dict[tuple[Node, Value], dict[int, int]] = {}
    for fix in fixes:
        if fix.axis not in kept:
            continue
        where = kept[fix.axis]
        match fix.kind:
            case "dim":
                assert fix.holder is not None
                sizes.setdefault((fix.node, fix.holder), {})[fix.position] = len(where)
            case "group":
                rewriter.set_attribute(fix.node, "group", len(where))
            case "hidden":
                rewriter.set_attribute(fix.node, "hidden_size", len(where))
            case "split":
                _split(rewriter, fix, kept)
            case "slice":
                _slice(rewriter, fix, where)
    for (node, holder), changes in sizes.items():
        rewriter.set_input(node, node.inputs.index(holder), rewritten(rewriter, holder, changes))


def _split(rewriter: Rewriter, fix: Fix, kept: Kept) -> None:
    node, axis = fix.node, fix.axis.axis
    sizes, start = [], 0
    old = _old_sizes(node, fix)
    for size in old:
        sizes.append(int(((kept[fix.axis] >= start) & (kept[fix.axis] < start + size)).sum()))
        start += size
    graph = node.graph
    assert graph is not None
    if graph.opset.get("", 0) < 13:
        rewriter.set_attribute(node, "split", sizes)
        return
    holder = node.input(1)
    if holder is not None:
        rewriter.set_input(node, 1, rewritten(rewriter, holder, dict(enumerate(sizes))))
        return
    constant = rewriter.constant(graph, tensor(np.array(sizes, np.int64)), "split", before=node)
    made = rewriter.insert(
        "Split", [node.input(0), constant], {"axis": axis}, before=node, outputs=[y.name for y in node.outputs],
        origin=[node],
    )  # fmt: skip
    for before, after in zip(node.outputs, made.outputs, strict=True):
        rewriter.take_over(before, after)
    rewriter.erase(node)


def _old_sizes(node: Node, fix: Fix) -> list[int]:
    given = node.attr("split")
    holder = node.input(1)
    if holder is not None and holder.const is not None:
        return [int(size) for size in holder.const.numpy()]
    if given:
        return [int(size) for size in given]
    count = len(node.outputs)
    size = -(-fix.size // count)
    return [min(size, fix.size - place * size) for place in range(count)]


def _slice(rewriter: Rewriter, fix: Fix, where: NDArray[np.int64]) -> None:
    """The bounds that enclose what is left between the old ones."""
    for slot in (1, 2):
        holder = fix.node.input(slot)
        assert holder is not None
        assert holder.const is not None
        bound = int(holder.const.numpy().reshape(-1)[fix.position])
        bound = max(0, bound + fix.size) if bound < 0 else min(bound, fix.size)
        new = int((where < bound).sum())
        rewriter.set_input(fix.node, slot, rewritten(rewriter, holder, {fix.position: new}))
