"""Plans: what a rule is going to make, so that its price is known before anything is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from ....ir import Graph, Node, Tensor, Value
from ....ir.proto import node_size
from ...rewriting.rule import Build, Builder, Guard, Match, Results
from .room import Room, added_bytes, is_released, released_bytes


class Plan(ABC):
    """A rewrite that is decided on, but not done."""

    @abstractmethod
    def cost(self, nodes: Sequence[Node]) -> int:
        """Bytes that the file grows by, at most, if what is planned takes the place of `nodes`."""

    @abstractmethod
    def build(self, match: Match, b: Builder) -> Results:
        """Make it."""

    @property
    def copied(self) -> tuple[Value, ...]:
        """The constants of which it needs others: they stay beside them if somebody else reads them."""
        return ()


Planned = Plan | str
"""A plan, or why there is none."""


class Planner:
    """Makes the guard and the build of a rule from a function that plans; what was planned is not planned again."""

    def __init__(self, plan: Callable[[Match], Planned], room: Room) -> None:
        self._plan = plan
        self._room = room
        self._ready: tuple[Match, Plan, int] | None = None

    def guard(self, match: Match) -> str:
        """Why not; empty if the rewrite is good."""
        plan = self._plan(match)
        if isinstance(plan, str):
            return plan
        nodes = match.going
        cost = plan.cost(nodes)
        self._ready = (match, plan, cost)
        return self._room.refuses(cost, plan.copied, nodes)

    def build(self, match: Match, b: Builder) -> Results:
        """Do what was planned."""
        assert self._ready is not None
        planned, plan, cost = self._ready
        assert planned is match
        self._room.spare -= cost
        return plan.build(match, b)


def rule_parts(plan: Callable[[Match], Planned], room: Room) -> tuple[Build, Guard]:
    """The build and the guard of a rule that plans."""
    planner = Planner(plan, room)
    return planner.build, planner.guard


def size_of(nodes: Sequence[Node]) -> int:
    """Bytes of nodes."""
    return sum(map(node_size, nodes))


def swapped_bytes(
    changes: Sequence[tuple[Tensor | None, Value | None, str]],
    also: Sequence[Value],
    nodes: Sequence[Node],
    graph: Graph,
) -> int:
    """Bytes that the file grows by where constants (None: as it is) take the place of others.

    Those others, and the ones in `also`, go if only `nodes` read them; where there was none before, the new one's name
    among the inputs of a node counts.
    """
    added, freed = 0, list[Value | None](also)
    for content, old, name in changes:
        if content is not None:
            freed.append(old)
            anew = old is not None and not is_released(old, nodes)
            added += added_bytes(content, name, graph, named_anew=anew)
            added += len(name.encode()) + 2 if old is None else 0
    return added - released_bytes(freed, nodes)


def swapped(match: Match, b: Builder, old: Value | None, content: Tensor, name: str) -> Value:
    """A new constant; it takes the name of the one before if that goes."""
    made = b.constant(content, name)
    if old is not None and old.graph is made.graph and is_released(old, match.going):
        match.ctx.rewriter.swap_names(old, made)
    return made
