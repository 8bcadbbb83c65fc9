"""Fold constants: what depends on constants alone is evaluated once, by the executor.

A node is constant if it is pure, all that it reads is constant (what its bodies capture included), and it reads no
attribute of a function. All constant regions of the model are evaluated together, normally in one run; the results
replace the nodes. Sizes are inferred first: what would make the file grow by more than `limit` stays computed, and so
does a value of unknown size. The pass is EXACT in the reference configuration of the executor that evaluated, and
ROUNDING elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from ...ir import Graph, Node, SparseTensor, Tensor, Value
from ...ir.analysis.facts import find_facts
from ...ir.analysis.purity import Purity
from ...ir.proto import initializer_size, node_size
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option
from ..manager.sweep import sweep
from ..manager.units import Size
from ..manager.weights import Outcome
from .evaluate import evaluate, region_sizes
from .inline_body import inline_all
from .moves import can_move
from .region import Choice, Region, Sizes, find_region
from .shape_arithmetic import simplify, store_known


@dataclass(frozen=True)
class Fold(Pass):
    """Evaluate what depends on constants alone, and turn Constant nodes into initializers."""

    name: ClassVar[str] = "fold"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False

    limit: Size = option(0, "bytes that the file may grow by", low=0)

    def run(self, graph: Graph, ctx: Context) -> None:
        """Fold in rounds: one makes known what the next one needs, until nothing is left to evaluate."""
        counts = Counter(lifted=_lift_constants(ctx))
        rounds = _Rounds(ctx, int(self.limit))
        left: dict[Node, str] = {}
        mark = ctx.rewriter.mark()
        counts["evaluated"] += rounds.run(can_move)  # first what needs neither shapes nor the executor
        if not ctx.is_narrowed:
            sweep(ctx.rewriter, mark)  # or bodies that are inlined would bring along what it freed
        while True:
            _use_shapes(ctx, counts, left)
            evaluated = rounds.run()
            counts["evaluated"] += evaluated
            if not evaluated:
                break
        rounds.region.explain(rounds.sizes, ctx.remarks)
        for node, reason in left.items():
            ctx.remarks.missed(node.label, f"one body is always run, once or never, but {reason}", rule="inline-branch")
        if not counts.total():
            ctx.remarks.missed("model", "nothing is constant that is not stored as a constant already")
            return
        if stored := counts["lifted"] + counts["evaluated"] + counts["known"]:
            ctx.remarks.applied("model", f"{stored} values are now stored constants", rule="fold")
        if counts["simpler"]:
            ctx.remarks.applied("model", f"{counts['simpler']} nodes need no computed shape any more", rule="shapes")
        if counts["inlined"]:
            ctx.remarks.applied(
                "model",
                f"{counts['inlined']} Ifs that always take one branch, or Loops of one turn or none, are gone",
                rule="body",
            )


class _Rounds:
    """Evaluation of constant regions, until nothing is left to evaluate."""

    def __init__(self, ctx: Context, room: int) -> None:
        self._ctx = ctx
        self._room = room
        self._blocked = set[Node]()
        self.region = Region([])
        self.sizes: Sizes = {}

    def run(self, wanted: Callable[[Node], bool] = lambda _: True) -> int:
        """Evaluate what is constant now of the nodes that are wanted; returns how many values were stored."""
        done, ctx = 0, self._ctx
        while True:
            self.region = find_region(ctx.model, lambda node: ctx.selects(node) and wanted(node), self._blocked)
            self.sizes = region_sizes(self.region, ctx.model)
            choice = self.region.choose(self.sizes, self._room)
            values = choice.values
            if not values:
                return done
            self._room -= choice.grown
            tensors, faults = evaluate(self.region.nodes, values, ctx)
            self._blocked |= faults
            _account(choice, tensors, ctx)
            for value, tensor in tensors.items():
                with ctx.rewriter.apply("evaluate", *filter(None, [value.producer])):
                    ctx.rewriter.replace_by_constant(value, tensor)
            done += len(tensors)
            _erase_dead(choice, ctx)


def _use_shapes(ctx: Context, counts: Counter[str], left: dict[Node, str]) -> None:
    """Do what symbolic shapes allow, until nothing is left to do."""
    while any(node.is_op(*_SHAPED) for graph in ctx.model.walk_graphs() for node in graph.nodes):
        mark = ctx.rewriter.mark()
        facts = find_facts(ctx.model, ctx.shapes())
        simpler = simplify(facts, ctx)
        before = _holders(ctx)
        left |= inline_all(facts, ctx.selects, left, ctx.rewriter, Purity(ctx.model))
        inlined = before - _holders(ctx)
        if not ctx.is_narrowed:
            sweep(ctx.rewriter, mark)
        # What was inlined has other facts, and its Constant nodes may be initializers now.
        lifted = _lift_constants(ctx) if inlined else 0
        known = 0 if inlined else store_known(facts, ctx)
        if known and not ctx.is_narrowed:
            sweep(ctx.rewriter, mark)
        counts.update(simpler=simpler, known=known, inlined=inlined, lifted=lifted)
        if not simpler + known + inlined:
            break


def _holders(ctx: Context) -> int:
    return sum(node.is_op("If", "Loop") for graph in ctx.model.walk_graphs() for node in graph.nodes)


_SHAPED = ("CastLike", "Expand", "If", "Loop", "Pad", "Reshape", "Shape", "Size", "Slice", "Tile")
"""Operators without which shapes have nothing to say."""


def _account(choice: Choice, tensors: Mapping[Value, Tensor], ctx: Context) -> None:
    """Tell the account of weights which constants went into which results."""
    for source in choice.freed():
        into = [tensors[value] for value in choice.reached(source) if value in tensors]
        if source.const is not None and into:
            ctx.weights.became(source.const, into, Outcome.FOLDED)


def _erase_dead(choice: Choice, ctx: Context) -> None:
    for node in reversed(list(choice.nodes)):
        if node.graph is not None and all(value.is_dead for value in node.outputs):
            ctx.rewriter.erase(node)


def _lift_constants(ctx: Context) -> int:
    """Turn Constant nodes into initializers, where they can be; returns how many."""
    count = 0
    for graph in ctx.model.walk_graphs():
        for node in graph.nodes:
            tensor = node.constant
            if tensor is None or not (
                ctx.selects(node) and _can_be_lifted(node.outputs[0]) and _lift_pays(node, tensor)
            ):
                continue
            with ctx.rewriter.apply("lift-constant", node):
                ctx.rewriter.lift_constant(node)
            count += 1
    return count


def _can_be_lifted(value: Value) -> bool:
    return not (value.is_dead or value.pinned or value.needs_constant_node)


def _lift_pays(node: Node, tensor: Tensor) -> bool:
    """Whether the initializer is no larger than the node: lists of small integers are shorter as attributes. A sparse
    constant stays one."""
    if isinstance(tensor, SparseTensor):
        return False
    if "value" in node.attributes:
        return True
    return initializer_size(tensor, node.outputs[0].name) <= node_size(node)
