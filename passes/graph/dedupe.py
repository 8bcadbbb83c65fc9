"""Dedupe: of equal constants one remains, across bodies too.

Equal are constants of one element type, one shape and the same bits. Readers of a second one read the first: that of
the same graph or of one around it. Where only bodies beside each other hold equal ones, as the branches of an If do,
one goes to the graph around them. Every reader reads the same bits as before, so the pass is EXACT.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ...ir import Graph, Node, Tensor, Value
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.weights import Outcome
from ..rewriting.driver import can_stand_for
from .content import Contents


@dataclass(frozen=True)
class Dedupe(Pass):
    """Let equal constants be one, across bodies too."""

    name: ClassVar[str] = "dedupe"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False
    scope: ClassVar[Literal["graph", "model"]] = "model"

    def run(self, graph: Graph, ctx: Context) -> None:
        """Down the scopes first; then what is left in bodies beside each other."""
        merger = _Merger(ctx)
        for root in list(ctx.model.roots()):
            merger.descend(root)
            merger.lift()
        if merger.merged:
            ctx.remarks.applied(
                "constants", f"{merger.merged} equal to another", rule="merge", bytes_at_stake=merger.saved
            )
        else:
            ctx.remarks.missed("model", "no two constants are equal")


class _Merger:
    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.merged = 0
        self.saved = 0
        self._contents = Contents()
        self._visible: dict[int, Value] = {}
        """The constants of the graph that is being walked and of those around it, by their content."""
        self._seen: dict[int, list[Value]] = defaultdict(list)
        """All constants that remain under this root, by their content."""

    def descend(self, graph: Graph) -> None:
        """Merge the constants of a graph with those that it can see, then those of its bodies."""
        entered: list[int] = []
        for value in graph.initializers:
            self._meet(value, entered)
        for node in graph.nodes:
            if node.constant is not None:
                self._meet(node.outputs[0], entered)
            for body in node.bodies:
                self.descend(body)
        for content in entered:
            del self._visible[content]

    def _meet(self, value: Value, entered: list[int]) -> None:
        content = None if value.const is None or value.is_dead else self._contents.number(value.const)
        if content is None:
            return
        twin = self._visible.get(content)
        if twin is None:
            self._visible[content] = value
            self._seen[content].append(value)
            entered.append(content)
        elif self._may_go(value, twin):
            self._replace(value, twin)

    def _may_go(self, value: Value, twin: Value | None = None) -> bool:
        """Whether readers of `value` can read `twin`, or a constant further out: not where it is an output of a body,
        nor where an `at{...}` leaves a reader out."""
        readers = [use.user for use in value.uses]
        if not all(self.ctx.selects(user) for user in readers if isinstance(user, Node)):
            return False
        return not can_stand_for(value, twin) if twin is not None else not any(isinstance(u, Graph) for u in readers)

    def _replace(self, value: Value, twin: Value) -> None:
        rewriter = self.ctx.rewriter
        old, new = value.const, twin.const
        assert old is not None
        assert new is not None
        with rewriter.apply("merge"):
            rewriter.replace(value, twin, keeps_types=True)
            if value.producer is not None:
                rewriter.erase(value.producer)
            else:
                rewriter.remove_initializer(value)
        if old is not new:
            self.ctx.weights.became(old, [new], Outcome.FOLDED)
        self.merged += 1
        self.saved += old.nbytes

    def lift(self) -> None:
        """Merge what bodies beside each other hold, in the innermost graph around them."""
        for values in self._seen.values():
            group = [value for value in values if self._may_go(value)]
            if len(group) > 1:
                self._lift(group)
        self._seen.clear()

    def _lift(self, group: list[Value]) -> None:
        around = _innermost_around(group)
        first = _tensor(group[0])
        made = self.ctx.rewriter.constant(around, first, group[0].name, before=_holder(group[0], around))
        for value in group:
            self._replace(value, made)
        self.merged -= 1
        self.saved -= first.nbytes


def _tensor(value: Value) -> Tensor:
    assert value.const is not None
    return value.const


def _scopes(value: Value) -> list[Graph]:
    """The graph of a value and those around it, the outermost first."""
    found: list[Graph] = []
    graph = value.graph
    while graph is not None:
        found.insert(0, graph)
        graph = None if graph.parent is None else graph.parent.graph
    return found


def _innermost_around(group: Sequence[Value]) -> Graph:
    """The innermost graph that holds all of them, directly or in bodies."""
    chains: list[tuple[Graph, ...]] = list(zip(*map(_scopes, group), strict=False))
    return [graphs[0] for graphs in chains if len(set(graphs)) == 1][-1]


def _holder(value: Value, graph: Graph) -> Node | None:
    """The node of `graph` whose bodies hold `value`."""
    scopes = _scopes(value)
    return scopes[scopes.index(graph) + 1].parent
