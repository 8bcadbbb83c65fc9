"""The local bounds of a cut: what consumers lose with the terms that are left out, and with weights that were refitted.

What reads a cut axis sums over it. Of y = x W the terms of the elements that go are left out, and the weights of those
that stay may have been refitted, so that

    abs(dy_j) <= max abs(x) * (sum over i gone of abs(W_ij) + sum over i that stay of abs(dW_ij)).

Products of two computed matrices lose at most so many products of their greatest elements as elements go, sums that
share of their terms. States of recurrent layers are bounded by their activations, so that two of them differ by at
most twice the bound. Of a value that is cut itself, what stays is what it was, up to the bounds of its own operator.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ....ir import Graph, Node, Tensor, Value
from ....ir.analysis.coupling import Axis, Group
from ....ir.analysis.coupling.known import known_shapes
from ....ir.analysis.shapes import Shapes
from ....ir.tensor import Array
from ...manager.bounds import LocalBound
from ...manager.context import Context
from .cut import Kept

BY = "prune"
RECURRENT = ("LSTM", "GRU", "RNN")
SUMS = ("ReduceSum", "ReduceL1", "ReduceL2")
Float64 = NDArray[np.float64]


@dataclass
class Before:
    """What is needed of the model before the cut: what each consumer read, the constants there, ranks of values."""

    inputs: dict[Node, tuple[Value | None, ...]]
    outputs: dict[Node, tuple[tuple[str, int | None], ...]]
    """Names and ranks."""
    constants: dict[Node, tuple[Tensor | None, ...]]
    groups: dict[Node, int]
    ranks: dict[Value, int]
    added: dict[Node, Float64] = field(default_factory=dict)
    """Biases that layers without one were given."""

    @classmethod
    def of(cls, ctx: Context) -> Before:
        """Take note of the constants of all consumers; none is copied."""
        shapes = known_shapes(ctx.model, ctx.shapes())
        nodes = [node for graph in ctx.model.graph.walk_graphs() for node in graph.nodes if not node.domain]
        read = [node for node in nodes if node.op_type in _RULES]
        return cls(
            {node: tuple(node.inputs) for node in read},
            {node: tuple((y.name, _rank(shapes, y)) for y in node.outputs) for node in read},
            {node: tuple(None if value is None else value.const for value in node.inputs) for node in read},
            {node: node.attr("group", 1) for node in read},
            {
                value: rank
                for node in read
                for value in node.inputs
                if value is not None and (rank := _rank(shapes, value)) is not None
            },
        )

    def follow(self, old: Node, new: Node) -> None:
        """A consumer is another node now."""
        if old is not new:
            self.inputs[new], self.outputs[new] = self.inputs.pop(old), self.outputs.pop(old)
            self.constants[new], self.groups[new] = self.constants.pop(old), self.groups.pop(old)


def _rank(shapes: Shapes, value: Value) -> int | None:
    shape = shapes.shape(value)
    return None if shape is None else len(shape)


def state_cuts(ctx: Context, kept: Kept) -> None:
    """Report which elements of values stay, and narrow what was said of them before; to be called before anything is
    renamed."""
    named = {
        (axis.value.graph.label, axis.value.name, axis.axis): where
        for axis, where in kept.items()
        if axis.value.const is None and axis.value.graph is not None
    }
    if any(bound.axis < 0 for bound in ctx.bounds):
        shapes = known_shapes(ctx.model, ctx.shapes())
        for axis, stays in kept.items():
            value, rank = axis.value, _rank(shapes, axis.value)
            if value.const is None and value.graph is not None and rank is not None:
                named[value.graph.label, value.name, axis.axis - rank] = stays
    for place, bound in enumerate(ctx.bounds):
        where = named.get((bound.graph, bound.value, bound.axis))
        if where is not None and bound.per_channel.size > 1:
            ctx.bounds[place] = replace(bound, per_channel=bound.per_channel[where])
    for axis, where in kept.items():
        graph = axis.value.graph
        if axis.value.const is None and graph is not None:
            ctx.bounds.append(LocalBound(BY, graph.label, axis.value.name, "cut", axis.axis, np.zeros(1), kept=where))


def state(ctx: Context, before: Before, groups: list[Group], kept: Kept) -> None:
    """Report the bounds of everything that sums over what was cut, or was refitted."""
    sizes = {axis: len(group.units[axis]) for group in groups for axis in group.axes if axis in kept}
    for node, constants in before.constants.items():
        if node.graph is not None:
            ctx.bounds += _RULES[node.op_type](_Site(node, node.graph, constants, before, kept, sizes))


def of_values_before(ctx: Context, names: Mapping[str, Container[str]], since: int) -> None:
    """Let bounds that were stated of values which the pass made speak of those that they stand for: a product that a
    step gave a bias has that of the Add behind it, which took its name."""
    made = {
        (graph.label, value.name): value
        for graph in ctx.model.graph.walk_graphs()
        for value in graph.values()
        if value.name not in names[graph.label]
    }
    found = []
    for bound in ctx.bounds[since:]:
        value = made.get((bound.graph, bound.value))
        while value is not None and (bound.graph, value.name) in made:
            add = next(iter(value.uses)).user
            assert isinstance(add, Node)
            value = add.outputs[0]
        if value is None:
            found.append(bound)
        elif bound.form != "cut":  # which was stated of both
            found.append(replace(bound, value=value.name))
    ctx.bounds[since:] = found


@dataclass(frozen=True)
class _Site:
    """One consumer, as it was and as it is."""

    node: Node
    graph: Graph
    constants: tuple[Tensor | None, ...]
    before: Before
    kept: Kept
    sizes: Mapping[Axis, int]

    def was(self, slot: int) -> Value | None:
        """An input as it was: a bias is another value now."""
        inputs = self.before.inputs[self.node]
        return inputs[slot] if slot < len(inputs) else None

    def rank(self, slot: int) -> int | None:
        value = self.was(slot)
        constant = self.constants[slot]
        return len(constant.shape) if constant is not None else None if value is None else self.before.ranks.get(value)

    @property
    def rank_of_output(self) -> int | None:
        return self.before.outputs[self.node][0][1]

    def gone(self, slot: int, axis: int) -> int:
        """How many elements of an axis of an input were cut."""
        value = self.was(slot)
        key = None if value is None else Axis(value, axis)
        return 0 if key is None or key not in self.kept else self.sizes[key] - len(self.kept[key])

    def lost(self, slot: int, contracted: int | None) -> Float64 | None:
        """abs(W) of what went along one axis, abs(dW) of what stays; along the others, only what stays. None if nothing
        of it changed."""
        value, held, now = self.was(slot), self.constants[slot], self.node.input(slot)
        if value is None or held is None or now is None or now.const is None or held is now.const:
            return None
        old = held.numpy().astype(np.float64)
        for axis in range(old.ndim):
            if axis != contracted and (where := self.kept.get(Axis(value, axis))) is not None:
                old = np.take(old, where, axis=axis)
        new = now.const.numpy().astype(np.float64)
        where = None if contracted is None else self.kept.get(Axis(value, contracted))
        found = old.copy()
        place = (slice(None),) * (contracted or 0) + (slice(None) if where is None else where,)
        found[place] = _change(found[place], new.reshape(found[place].shape))
        return np.abs(found)

    def bound(self, form: str, axis: int, per_channel: Array | float, weight: str = "", output: int = 0) -> LocalBound:
        name, _ = self.before.outputs[self.node][output]
        return LocalBound(BY, self.graph.label, name, form, axis, np.atleast_1d(np.float64(per_channel)), weight)

    def weight(self, slot: int) -> str:
        value = self.node.input(slot)
        return "" if value is None else value.name

    def bias(self, slot: int, factor: float = 1.0) -> Iterator[LocalBound]:
        """A bias that was refitted, along the last of its axes."""
        added = self.before.added.get(self.node)
        if added is not None:
            yield self.bound("absolute", 1, np.abs(added))
        if slot < len(self.constants) and (lost := self.lost(slot, None)) is not None and lost.any():
            per_channel = lost.reshape(-1, lost.shape[-1]).max(axis=0) if lost.ndim else lost
            yield self.bound("absolute", 1, factor * per_channel)


def _conv(site: _Site) -> Iterator[LocalBound]:
    """Per output channel: sums over the inputs of its group, and the taps."""
    lost = site.lost(1, 1)
    if lost is not None:
        sums = lost.reshape(lost.shape[0], -1).sum(axis=1)
        if sums.any():
            yield site.bound("linear", 1, sums, site.weight(1))
    yield from site.bias(2)


def _conv_transpose(site: _Site) -> Iterator[LocalBound]:
    """The same; groups that went as a whole give no output any more."""
    value, held = site.was(1), site.constants[1]
    lost = site.lost(1, 0)
    if lost is not None and value is not None and held is not None:
        groups = site.before.groups[site.node]
        stays = np.zeros(held.shape[0], bool)
        stays[site.kept.get(Axis(value, 0), np.arange(held.shape[0]))] = True
        grouped = lost.reshape(groups, -1, lost.shape[1], int(np.prod(lost.shape[2:]))).sum(axis=(1, 3))
        sums = grouped[stays.reshape(groups, -1).any(axis=1)].reshape(-1)
        if sums.any():
            yield site.bound("linear", 1, sums, site.weight(1))
    yield from site.bias(2)


def _matmul(site: _Site) -> Iterator[LocalBound]:
    yield from _product(site, (False, False), 1.0)
    added, y = site.before.added.get(site.node), site.rank_of_output
    if added is not None:
        amounts = np.abs(added)
        yield site.bound("absolute", 0, amounts.max()) if y is None else site.bound("absolute", y - 1, amounts)


def _gemm(site: _Site) -> Iterator[LocalBound]:
    transposed = bool(site.node.attr("transA", 0)), bool(site.node.attr("transB", 0))
    yield from _product(site, transposed, abs(float(site.node.attr("alpha", 1.0))))
    yield from site.bias(2, abs(float(site.node.attr("beta", 1.0))))


def _product(site: _Site, transposed: tuple[bool, bool], factor: float) -> Iterator[LocalBound]:
    ranks = site.rank(0), site.rank(1)
    a, b = (rank or 0 for rank in ranks)
    contracted = (a - 2 if transposed[0] else a - 1), (b - 1 if transposed[1] or b == 1 else b - 2)
    slot = 1 if site.constants[1] is not None else 0
    if site.constants[slot] is None:
        if gone := site.gone(0, contracted[0]):
            yield site.bound("product", 0, factor * gone)
        return
    lost = site.lost(slot, contracted[slot])
    if lost is None or not lost.any():
        return
    sums = lost.sum(axis=contracted[slot])
    y = site.rank_of_output
    if not sums.ndim or y is None:
        yield site.bound("linear", 0, sums.max(), site.weight(slot))
        return
    outputs = 1 if slot or (a > 1 and b == 1) or site.rank(1) == 1 else 2
    yield site.bound("linear", y - outputs, factor * sums.reshape(-1, sums.shape[-1]).max(axis=0), site.weight(slot))


def _recurrent(site: _Site) -> Iterator[LocalBound]:
    """States are bounded by their activations."""
    if any(site.lost(slot, None) is not None for slot in (1, 2) if slot < len(site.constants)):
        for output, (name, _) in enumerate(site.before.outputs[site.node]):
            if name:
                yield site.bound("state", 0, 2.0, output=output)


def _sum(site: _Site) -> Iterator[LocalBound]:
    value = site.was(0)
    rank = site.rank(0) or 0
    given = site.constants[1].numpy().tolist() if len(site.constants) > 1 and site.constants[1] is not None else None
    axes = {axis % rank for axis in (given or site.node.attr("axes") or ())} if rank else set[int]()
    shares = [site.gone(0, axis) / site.sizes[Axis(value, axis)] for axis in axes if value and site.gone(0, axis)]
    if shares:
        yield site.bound("sum", 0, 1 - float(np.prod([1 - share for share in shares])))


_RULES = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "Gemm": _gemm,
    **dict.fromkeys(RECURRENT, _recurrent),
    **dict.fromkeys(SUMS, _sum),
}


def _change(old: Float64, new: Float64) -> Float64:
    """old - new; 0 where they are the same NaN or infinity, infinity where one of them is NaN."""
    with np.errstate(invalid="ignore"):
        change = np.where((old == new) | (np.isnan(old) & np.isnan(new)), 0.0, old - new)
    return np.where(np.isnan(change), np.inf, change)
