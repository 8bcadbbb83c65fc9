"""Reduction: the smallest model found that still shows a condition.

Slices of the main graph are tried: a window found by bisection first, then what delta debugging leaves of it. Where a
node with bodies is left, its body takes the place of the model and is reduced in turn. Then outputs are dropped, and
weights replaced by synthetic ones if that is asked for. A slice is fed what the model that it was cut from computes
there. Every trial is deterministic, and so is their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ...ir import Backend, Model, Node, Value
from ...ir.analysis.view import captured
from ..manager.context import Progress
from .ddmin import ddmin, window
from .lab import Feeds
from .synthetic import Place, weights_of, with_synthetic
from .tap import Tap

Holds = Callable[[Model, Feeds], bool]
TRIALS = 500
"""Trials at most, unless stated otherwise."""
_RADII = (0, 1, 2, 4, 8, 16)
"""How far from the first suspects the first slices reach, in nodes."""
_LONE_CONSTANTS = 20
"""Constant nodes that are tried one by one, in the place of those that read them."""


@dataclass(frozen=True)
class Reduction:
    """The smallest model found, with its feeds, and how it was found."""

    model: Model
    feeds: Feeds
    nodes_before: int
    trials: int
    stopped: str = ""
    """Why the search ended early; empty if it came to its end."""
    real_weights: int = 0
    """Weights that could not be replaced by synthetic ones."""
    synthetic_weights: int = 0

    @property
    def nodes(self) -> int:
        """Nodes of the model, those of bodies and functions included."""
        return count_nodes(self.model)


@dataclass(frozen=True)
class Plan:
    """What a reduction does besides cutting: at most so many trials, seeded weights, and where it looks first."""

    trials: int = TRIALS
    synthetic: bool = False
    seed: int = 0
    suspects: Sequence[Node] = ()
    """Nodes of the main graph around which the first slices are cut."""


def reduce_model(
    model: Model, feeds: Feeds, holds: Holds, backend: Backend, progress: Progress, plan: Plan | None = None
) -> Reduction | None:
    """The smallest model found for which `holds`; None if it does not hold of `model`, which is left as it is.

    An interruption (Ctrl-C) ends the search with the best model so far.
    """
    plan = Plan() if plan is None else plan
    search = _Search(model, feeds, holds, backend, progress, plan)
    return search.result() if search.begin() else None


def count_nodes(model: Model) -> int:
    """The nodes of a model, those of bodies and functions included."""
    return sum(map(len, model.walk_graphs()))


class _Exhausted(Exception):  # noqa: N818  # no error
    """There are no trials left."""


class _Search:
    def __init__(
        self, model: Model, feeds: Feeds, holds: Holds, backend: Backend, progress: Progress, plan: Plan
    ) -> None:
        self.model, self.feeds = model, feeds
        self._holds, self._backend, self._plan = holds, backend, plan
        self._nodes_before = count_nodes(model)
        self._steps: Iterator[int] = iter(progress.track(range(plan.trials), "trials"))
        self._trials = 0
        self._synthetic = self._real = 0
        self._stopped = ""

    def begin(self) -> bool:
        """Whether it holds at all."""
        return self._try(self.model, self.feeds)

    def result(self) -> Reduction:
        """Search until nothing smaller shows it, or until the search is ended."""
        try:
            self._choose_feed()
            self._cut(self._plan.suspects)
            while self._enter_body():
                self._cut(())
            self._drop_outputs()
            if self._plan.synthetic:
                self._replace_weights()
        except _Exhausted:
            self._stopped = f"after {self._trials} trials"
        except KeyboardInterrupt:
            self._stopped = "interrupted"
        return Reduction(
            self.model, self.feeds, self._nodes_before, self._trials, self._stopped, self._real, self._synthetic
        )

    def _try(self, model: Model, feeds: Feeds) -> bool:
        """One trial; what shows the condition is the best from now on."""
        if next(self._steps, None) is None:
            raise _Exhausted
        self._trials += 1
        if not self._holds(model, feeds):
            return False
        self.model, self.feeds = model, feeds
        return True

    def _choose_feed(self) -> None:
        """One feed is enough where it shows the condition alone."""
        feeds = self.feeds
        if len(feeds) > 1:
            any(self._try(self.model, (feed,)) for feed in feeds)

    def _cut(self, suspects: Sequence[Node]) -> None:
        cutter = _Cutter(Tap(self.model, self.feeds, self._backend), self._try)
        kept = cutter.near(suspects)
        if kept is None and cutter.shows(cutter.units):
            kept = window(cutter.one_output(cutter.units), cutter.shows)
        if kept is not None:
            cutter.lone_constant(ddmin(kept, cutter.shows))

    def _enter_body(self) -> bool:
        """Let a body that shows the condition take the place of the model."""
        tap = Tap(self.model, self.feeds, self._backend)
        for node in list(self.model.graph.nodes):
            for body in node.bodies:
                lifted = tap.lift(body)
                if lifted is not None and self._try(*lifted):
                    return True
        return False

    def _drop_outputs(self) -> None:
        tap = Tap(self.model, self.feeds, self._backend)
        nodes = list(tap.model.graph.nodes)

        def shows(outputs: Sequence[Value]) -> bool:
            cut = tap.cut(nodes, outputs)
            return cut is not None and self._try(*cut)

        ddmin(tuple(dict.fromkeys(tap.model.graph.outputs)), shows)

    def _replace_weights(self) -> None:
        """As many weights as possible become synthetic ones; at best all of them at once."""
        model, places = self.model, weights_of(self.model)

        def shows(real: Sequence[Place]) -> bool:
            return self._try(with_synthetic(model, set(places) - set(real), self._plan.seed), self.feeds)

        self._real = len(places)
        if not places:
            return
        kept: Sequence[Place] = () if shows(()) else ddmin(places, shows)
        self._real, self._synthetic = len(kept), len(places) - len(kept)


class _Cutter:
    """Tries slices of one model."""

    def __init__(self, tap: Tap, trial: Callable[[Model, Feeds], bool]) -> None:
        self._tap, self._trial = tap, trial
        self._known: dict[frozenset[Node], bool] = {}
        nodes = list(tap.model.graph.nodes)
        self.units = [node for node in nodes if node.constant is None] or nodes
        """The nodes to choose from; Constant nodes come along with those that read them."""

    def shows(self, nodes: Sequence[Node]) -> bool:
        """Whether the slice of these nodes shows the condition."""
        key = frozenset(nodes)
        if key not in self._known:
            cut = self._tap.cut(nodes)
            self._known[key] = cut is not None and self._trial(*cut)
        return self._known[key]

    def near(self, suspects: Sequence[Node]) -> list[Node] | None:
        """The smallest neighbourhood of the suspects that shows the condition, if one does."""
        if not suspects:
            return None
        allowed = set(self.units)
        for radius in _RADII:
            reached = _around(suspects, radius)
            nodes = [node for node in self.units if node in reached] or list(suspects)
            if self.shows(nodes):
                return nodes
            if allowed <= reached:
                return None
        return None

    def one_output(self, units: list[Node]) -> list[Node]:
        """What computes one output only, found by bisection, where such a part shows the condition."""
        outputs = list(dict.fromkeys(self._tap.model.graph.outputs))
        while len(outputs) > 1:
            middle = len(outputs) // 2
            for half in (outputs[:middle], outputs[middle:]):
                needed = _needed_by(half)
                part = [node for node in units if node in needed]
                if part and self.shows(part):
                    outputs, units = half, part
                    break
            else:
                break
        return units

    def lone_constant(self, kept: Sequence[Node]) -> None:
        """Try the Constant nodes that came along, each alone."""
        constants = [value.producer for node in kept for value in node.inputs if value is not None]
        lone = [node for node in dict.fromkeys(constants) if node is not None and node.constant is not None]
        any(self.shows([node]) for node in lone[:_LONE_CONSTANTS])


def _neighbours(node: Node) -> Iterable[Node]:
    """The nodes of the same graph that it reads from, and that read from it."""
    graph = node.graph
    for value in (*node.inputs, *captured(node)):
        if value is not None and value.producer is not None and value.producer.constant is None:
            yield value.producer
    for value in node.outputs:
        for use in value.uses:
            reader = use.user if isinstance(use.user, Node) else use.user.parent
            while reader is not None and reader.graph is not graph:
                reader = reader.graph.parent if reader.graph is not None else None
            if reader is not None:
                yield reader


def _around(nodes: Iterable[Node], radius: int) -> set[Node]:
    reached = set(nodes)
    edge = reached
    for _ in range(radius):
        edge = {other for node in edge for other in _neighbours(node)} - reached
        reached |= edge
    return reached


def _needed_by(outputs: Iterable[Value]) -> set[Node]:
    """The nodes that some outputs depend on."""
    needed: set[Node] = set()
    todo = [value.producer for value in outputs]
    while todo:
        node = todo.pop()
        if node is not None and node not in needed:
            needed.add(node)
            todo += [value.producer for value in (*node.inputs, *captured(node)) if value is not None]
    return needed
