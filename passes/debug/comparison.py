"""Two straight models compared: regions between corresponding values, each run on values without error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ExecutionError
from ...ir import Backend, Model, Node, Session, Value
from ...ir.analysis.shapes import infer_shapes
from ...ir.slice import reads_of, slice_of
from ...ir.straighten import Straight
from ..manager.context import Feed, Progress
from .correspond import Pair, correspond
from .mechanism import Place

Measure = Callable[[Any, Any], Mapping[str, float]]
REFUTED_FROM = 1e-3
"""The error born in a region from which it can refute what it is fed ..."""
REFUTED_BY = 30.0
"""... if the error with its own inputs is so many times smaller."""


@dataclass
class Region:
    """The nodes between a value and the corresponding ones before it, which are its `cuts`."""

    pair: Pair
    nodes: Sequence[Node]
    cuts: frozenset[Value]
    born: float = 0.0
    total: float = 0.0
    place: Place | None = None
    feed: Feed | None = None
    """The feed of the worst error."""

    @property
    def value(self) -> Value:
        """Its value, in the second model."""
        return self.pair.after


class Comparison:
    """Compares `second` with `first`, on feeds that both execute as they stand here."""

    def __init__(
        self, first: Straight, second: Straight, backend: Backend, measure: Measure, progress: Progress
    ) -> None:
        self.first, self.second = first, second
        self.backend, self.measure, self.progress = backend, measure, progress
        self.pairs = correspond(first, second)
        self.unjudged: dict[str, None] = {}
        self.refuted: dict[str, None] = {}
        self._types, self._first_types = infer_shapes(second.model), infer_shapes(first.model)
        self._sessions: dict[tuple[Model, tuple[str, ...]], Session] = {}

    def run(self, feeds: Sequence[Feed]) -> list[Region]:
        """The regions with the errors that are born in them."""
        while True:
            regions = self._judged(feeds)
            if regions is None:
                continue
            refuted = _refuted(regions)
            self.pairs = [pair for pair in self.pairs if pair.after not in refuted]
            if not refuted:
                return regions
            self.refuted |= dict.fromkeys(self.second.name(value).label for value in refuted)

    def apart(self) -> set[tuple[str, str]]:
        """The computed values of the second model that correspond to none, by body and name."""
        paired = {pair.after for pair in self.pairs}
        nodes = (node for node in self.second.model.graph.nodes if node.constant is None)
        return {self.second.name(v) for node in nodes for v in node.outputs if v.name and v not in paired}

    def _judged(self, feeds: Sequence[Feed]) -> list[Region] | None:
        """All regions, judged on all feeds; None if values of a pair turn out unlike, which is then given up."""
        regions = self._regions()
        self.unjudged = {}
        for feed in feeds:
            before = self._values(self.first.model, feed, [pair.before.name for pair in self.pairs])
            after = self._values(self.second.model, feed, [pair.after.name for pair in self.pairs])
            alike = [pair for pair in self.pairs if _alike(before.get(pair.before.name), after.get(pair.after.name))]
            if len(alike) < len(self.pairs):
                self.pairs = alike
                return None
            clean = {pair.after.name: before[pair.before.name] for pair in self.pairs}
            for region in self.progress.track(regions, "regions"):
                self._judge(region, feed, {**feed, **clean}, after)
        return regions

    def _values(self, model: Model, feed: Feed, names: Iterable[str]) -> dict[str, Any]:
        wanted = tuple(dict.fromkeys(names))
        if not wanted:
            return dict(feed)
        if (model, wanted) not in self._sessions:
            self._sessions[model, wanted] = self.backend.prepare(model, outputs=wanted)
        session = self._sessions[model, wanted]
        ports = {port.name for port in session.inputs}
        return {**feed, **session.run({name: value for name, value in feed.items() if name in ports})}

    def _regions(self) -> list[Region]:
        known = {pair.after for pair in self.pairs}
        order = {node: place for place, node in enumerate(self.second.model.graph.nodes)}
        return [_region(pair, known, order) for pair in self.pairs]

    def _judge(self, region: Region, feed: Feed, clean: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Run a region on values without error; one node that does what it did needs no run."""
        name = region.value.name
        region.total = max(region.total, self.measure(clean[name], after[name])["rel-l2"])
        if region.pair.same and len(region.nodes) == 1:
            return
        model = slice_of(self.second.model, region.nodes, self._types.type, outputs=[region.value])
        try:
            session = self.backend.prepare(model)
            fed = {port.name: clean[port.name] for port in session.inputs if port.name in clean}
            (found,) = session.run(fed).values()
        except ExecutionError:
            self.unjudged[self.second.name(region.value).label] = None
            return
        born = self.measure(clean[name], found)["rel-l2"]
        if region.place is None or born > region.born:
            region.born, region.feed = born, feed
            region.place = Place(region.pair.before, region.value, region.nodes, fed, clean[name], found)

    def cost(self, region: Region) -> float | None:
        """The error of the outputs of the first model when only this region of the second takes part."""
        place, feed, model = region.place, region.feed, self.first.model
        if place is None or feed is None:
            return None
        start = place.before
        behind = _behind(start)
        own = self.measure(place.wanted, place.found)["rel-l2"] if _is_output(start) else 0.0
        outputs = [value for value in dict.fromkeys(model.graph.outputs) if value.producer in behind]
        if not outputs:
            return own
        try:
            part = slice_of(model, behind, self._first_types.type, outputs=outputs)
            session = self.backend.prepare(part)
            names = [port.name for port in session.inputs if port.name not in feed and port.name != start.name]
            values = self._values(model, feed, names)
            inputs = {port.name: values[port.name] for port in session.inputs if port.name in values}
            clean = session.run({**inputs, start.name: place.wanted})
            moved = session.run({**inputs, start.name: place.found})
        except ExecutionError:
            return None
        return max(own, *(self.measure(value, moved[name])["rel-l2"] for name, value in clean.items()))


def _region(pair: Pair, known: set[Value], order: Mapping[Node, int]) -> Region:
    found: set[Node] = set()
    cuts: set[Value] = set()
    todo = [pair.after.producer]
    while todo:
        node = todo.pop()
        if node is None or node in found or node.constant is not None:
            continue
        found.add(node)
        for read in reads_of(node):
            if read in known:
                cuts.add(read)
            elif read.producer in order:
                todo.append(read.producer)
    return Region(pair, sorted(found, key=order.__getitem__), frozenset(cuts))


def _refuted(regions: Sequence[Region]) -> set[Value]:
    """Values whose correspondence a region refutes: right with its own inputs, it is wrong with those of the first."""
    totals = {region.value: region.total for region in regions}
    found: set[Value] = set()
    for region in regions:
        if region.born >= REFUTED_FROM and region.born > REFUTED_BY * region.total:
            found |= {cut for cut in region.cuts if totals[cut] > region.total and not _is_output(cut)}
    return found


def _is_output(value: Value) -> bool:
    return any(use.user is value.graph for use in value.uses)


def _alike(before: Any, after: Any) -> bool:
    if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray):
        return False
    return bool(before.shape == after.shape and before.dtype == after.dtype)


def _behind(value: Value) -> list[Node]:
    """The nodes of the main graph that depend on a value, in order."""
    graph = value.graph
    found: set[Node] = set()
    todo = [value]
    while todo:
        for user in _users(todo.pop()):
            if user not in found:
                found.add(user)
                todo += user.outputs
    return [] if graph is None else [node for node in graph.nodes if node in found]


def _users(value: Value) -> Iterator[Node]:
    """The nodes of the value's own graph that read it, in bodies too."""
    for use in value.uses:
        user = use.user if isinstance(use.user, Node) else use.user.parent
        while user is not None and user.graph is not value.graph:
            user = user.graph.parent if user.graph is not None else None
        if user is not None:
            yield user
