"""Residual branches go: `y = x + f(x)` becomes `y = x`.

An Identity takes the place of the Add, so that y keeps its name and its bound:

    abs(dy) = abs(f(x)) <= max(max abs(x), max abs(f(x))).

What reads y next, without another layer between, is refitted to what it gave before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice

import numpy as np

from ....ir import Node, Value, clone_model
from ....ir.analysis.cost import node_macs
from ....ir.analysis.linear import all_linear_layers, linear_of
from ...calibrate.stream import samples_of
from ...manager.bounds import LocalBound
from ...manager.context import Context
from ..channels.bounds import BY, Before, state
from ..channels.goals import within_error
from ..channels.repair import Reader, refit
from ..channels.sizes import shapes_at, total
from .agree import Agreement
from .branches import Branch, branches
from .order import in_order
from .plan import DATA_CRITERIA, Plan


def check(ctx: Context, plan: Plan) -> None:
    """UserError unless there are the data that the plan needs."""
    if plan.criterion in DATA_CRITERIA:
        samples_of(ctx, f"criterion={plan.criterion}")
    if plan.repair:
        samples_of(ctx, "repair=refit")
    if plan.error is not None:
        samples_of(ctx, "error")


def prune_layers(ctx: Context, plan: Plan) -> None:
    """Choose, drop and repair; says what went and what stayed."""
    every = list(branches(ctx.model, Agreement(ctx.model, ctx.shapes())))
    found = [branch for branch in every if _is_meant(ctx, plan, branch)]
    if not found:
        ctx.remarks.missed("model", "no residual branch can go", rule="layer")
        return
    order = in_order(ctx, plan.criterion, found, lambda branch: _drop(ctx, branch))
    gone = _within(ctx, plan, list(order)) if plan.error is not None else list(_enough(ctx, plan, found, order))
    inside = {node for branch in gone for node in branch.nodes}
    for branch in found:
        if branch in gone:
            words = f"the branch goes: {branch.add.outputs[0].name} is {branch.skip.name}"
            ctx.remarks.applied(branch.label, words, rule="layer")
        elif branch.add not in inside:
            ctx.remarks.missed(branch.label, "the branch stays: others went first", rule="layer")
    _cut(ctx, plan, gone)


def _is_meant(ctx: Context, plan: Plan, branch: Branch) -> bool:
    pinned = any(value.pinned for value in branch.weights)
    return not pinned and all(_may_change(ctx, plan, node) for node in (branch.add, *branch.nodes))


def _may_change(ctx: Context, plan: Plan, node: Node) -> bool:
    """Whether neither a combinator around the pass nor `exclude` leaves a node, or a constant of it, out."""
    names = [node.label, *(value.name for value in node.inputs if value is not None and value.const is not None)]
    return ctx.selects(node) and not any(fnmatchcase(name, pattern) for name in names for pattern in plan.exclude)


def _enough(ctx: Context, plan: Plan, found: Sequence[Branch], order: Iterator[Branch]) -> Iterator[Branch]:
    """As many of an order as meet every goal."""
    meters = [
        _Meter(ctx, kind, keep) for kind, keep in (("macs", plan.macs), ("bytes", plan.bytes_)) if keep is not None
    ]
    wanted = int((plan.sparsity or 0.0) * len(found) + 1e-9)
    gone: list[Branch] = []
    while _count(gone, found) < wanted or not all(meter.is_met(gone) for meter in meters):
        branch = next(order, None)
        if branch is None:
            for meter in meters:
                meter.tell(gone)
            return
        gone.append(branch)
        yield branch


def _count(gone: Sequence[Branch], found: Sequence[Branch]) -> int:
    """How many branches are gone, those inside others too."""
    inside = {node for branch in gone for node in branch.nodes}
    return sum(branch in gone or branch.add in inside for branch in found)


class _Meter:
    """What is left of the MACs or bytes of the model."""

    def __init__(self, ctx: Context, kind: str, keep: float) -> None:
        feed = next(islice(ctx.feeds(), 1), None)
        self._ctx, self._kind, self._keep = ctx, kind, keep
        self._whole = total(ctx.model, kind, feed)
        self._shapes = shapes_at(ctx.model, feed)

    def _share(self, gone: Sequence[Branch]) -> float:
        nodes = {node for branch in gone for node in branch.nodes}
        weights = {value: value.const for branch in gone for value in branch.weights}
        if self._kind == "macs":
            saved = float(sum(node_macs(node, self._shapes) or 0 for node in nodes))
        else:
            saved = float(sum(held.nbytes for held in weights.values() if held is not None))
        return 1 - saved / self._whole if self._whole else 1.0

    def is_met(self, gone: Sequence[Branch]) -> bool:
        """Whether no more than was asked for is left."""
        return self._share(gone) <= self._keep

    def tell(self, gone: Sequence[Branch]) -> None:
        """Say that the goal is not met."""
        if not self.is_met(gone):
            words = f"{self._share(gone):.3f} of the {self._kind} stay, not {self._keep:.3g}: no more branches can go"
            self._ctx.remarks.missed("model", words, rule="goal")


def _within(ctx: Context, plan: Plan, order: Sequence[Branch]) -> list[Branch]:
    """As many from the start of an order as the limit on the error allows."""
    assert plan.error is not None

    def first(share: float) -> list[Branch]:
        return list(order[: int(share * len(order) + 1e-9)])

    share = within_error(ctx, plan.error, lambda share: _cut(ctx, plan, first(share)))
    if not first(share):
        ctx.remarks.missed("model", f"no branch can go within an error of {plan.error:g}", rule="goal")
    return first(share)


def _cut(ctx: Context, plan: Plan, gone: Sequence[Branch]) -> None:
    """Drop, refit what reads them next, and state the bounds."""
    copies: dict[Value, Value] = {}
    before = clone_model(ctx.model, copies)
    constants = Before.of(ctx)
    left = [_drop(ctx, branch) for branch in gone]
    if plan.repair and gone:
        olds = {layer.node.outputs[0]: layer for layer in all_linear_layers(before)}
        dead = {node for branch in gone for node in branch.nodes}
        near = {node for value in left for node in _next_layers(value)} - dead
        every = [layer for layer in all_linear_layers(ctx.model) if layer.node in near]
        layers = [layer for layer in every if _may_change(ctx, plan, layer.node)]
        pairs = [Reader(olds[copies[layer.node.outputs[0]]], layer, None) for layer in layers]
        done = refit(ctx, before, pairs, constants, ridge=plan.ridge)
        ctx.remarks.applied("model", f"{done} layers refitted", rule="refit")
    state(ctx, constants, [], {})


def _drop(ctx: Context, branch: Branch) -> Value:
    """Let what is passed by be the sum; returns the value that stands for it."""
    add, graph = branch.add, branch.add.graph
    assert graph is not None
    y = add.outputs[0]
    ctx.bounds.append(LocalBound(BY, graph.label, y.name, "linear", 0, np.ones(1), branch.skip.name))
    with ctx.rewriter.apply("drop", add):
        made = ctx.rewriter.insert("Identity", [branch.skip], before=add, outputs=[y.name], origin=[add])
        ctx.rewriter.take_over(y, made.outputs[0])
        ctx.rewriter.erase(add)
    return made.outputs[0]


def _next_layers(value: Value) -> set[Node]:
    """The layers of the graph that a value comes to without meeting another; recurrent ones are not refitted."""
    todo, seen, found = [value], set[Node](), set[Node]()
    while todo:
        for use in todo.pop().uses:
            node = use.user
            if not isinstance(node, Node) or node in seen or node.graph is not value.graph:
                continue
            seen.add(node)
            layer = linear_of(node)
            if layer is None:
                todo += node.outputs
            elif layer.op_type not in ("LSTM", "GRU", "RNN"):
                found.add(node)
    return found
