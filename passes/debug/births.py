"""Where error is born: two models compared value by value, each place judged on inputs without error.

Values of the main graphs correspond if they have one name, and one type and shape when they run: rewrites hand names
on. The second model is cut at its corresponding values. What lies between such a value and the nearest ones before it,
its region, is run on the values of the first model: the error that comes out was born there, and not carried there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import ExecutionError
from ...ir import Backend, Model, Node, Session, Value
from ...ir.analysis.shapes import infer_shapes
from ...ir.slice import reads_of, slice_of
from ..manager.context import Progress
from .lab import Feeds
from .mechanism import Place, explain

Measure = Callable[[Any, Any], Mapping[str, float]]


@dataclass(frozen=True)
class Birth:
    """The error at one value: `born` in its region alone, `total` with all that was carried there, and what the region
    alone costs the outputs (None if not asked for). Each is the worst rel-l2 over the feeds."""

    value: str
    node: str
    op_type: str
    born: float
    total: float
    cost: float | None = None
    mechanism: str = ""


@dataclass(frozen=True)
class Births:
    """The places, the worst first: `compared` values correspond, `apart` do not and lie in regions, and `unjudged` are
    those whose region does not run alone."""

    places: Sequence[Birth]
    compared: int
    apart: int
    unjudged: Sequence[str] = ()


def births(
    original: Model,
    result: Model,
    feeds: Feeds,
    backend: Backend,
    measure: Measure,
    progress: Progress,
    *,
    top: int = 10,
) -> Births:
    """Compare `result` with `original` on `feeds`; the `top` worst places are explained and their cost measured.

    ExecutionError if one of the models does not run. Values of one feed are in memory at a time.
    """
    return _Comparison(original, result, feeds, backend, measure, progress).run(top)


@dataclass
class _Region:
    value: Value
    nodes: list[Node]
    born: float = 0.0
    total: float = 0.0
    place: Place | None = None
    feed: Mapping[str, Any] | None = None
    """The feed of the worst error."""


class _Comparison:
    def __init__(
        self, original: Model, result: Model, feeds: Feeds, backend: Backend, measure: Measure, progress: Progress
    ) -> None:
        self.original, self.result, self.feeds = original, result, feeds
        self.backend, self.measure, self.progress = backend, measure, progress
        self.first = {value.name: value for value in original.graph.values() if value.const is None}
        self.common = [v for v in _computed(result) if v.name in self.first and v.const is None]
        self.types, self.original_types = infer_shapes(result), infer_shapes(original)
        self.sessions: dict[Model, Session] = {}
        self.unjudged: dict[str, None] = {}

    def run(self, top: int) -> Births:
        apart: set[Value] = set()
        regions: list[_Region] = []
        for feed in self.feeds:
            before, after = self._values(self.original, feed), self._values(self.result, feed)
            apart |= {v for v in self.common if not _alike(before.get(v.name), after.get(v.name))}
            known = [value for value in self.common if value not in apart]
            regions = regions or [_Region(value, self._region(value, set(known))) for value in known]
            for region in self.progress.track([r for r in regions if r.value not in apart], "regions"):
                self._judge(region, feed, before, after)
        ranked = sorted((r for r in regions if r.value not in apart), key=lambda r: -r.born)
        places = [self._birth(region, explained=rank < top) for rank, region in enumerate(ranked) if region.born > 0]
        inside = sum(1 for _ in _computed(self.result)) - len(regions)
        return Births(places, len(regions), inside, tuple(self.unjudged))

    def _values(self, model: Model, feed: Mapping[str, Any]) -> dict[str, Any]:
        if model not in self.sessions:
            self.sessions[model] = self.backend.prepare(model, outputs=[value.name for value in self.common])
        session = self.sessions[model]
        wanted = {port.name for port in session.inputs}
        return {**feed, **session.run({name: value for name, value in feed.items() if name in wanted})}

    def _region(self, value: Value, known: set[Value]) -> list[Node]:
        """The nodes between a value and the corresponding ones before it."""
        found: dict[Node, None] = {}
        todo = [value.producer]
        while todo:
            node = todo.pop()
            if node is None or node in found or node.graph is not self.result.graph:
                continue
            found[node] = None
            todo += [read.producer for read in reads_of(node) if read not in known]
        return [node for node in self.result.graph.nodes if node in found]

    def _judge(
        self, region: _Region, feed: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        """Run a region on values without error."""
        name = region.value.name
        region.total = max(region.total, self.measure(before[name], after[name])["rel-l2"])
        model = slice_of(self.result, region.nodes, self.types.type, outputs=[region.value])
        try:
            session = self.backend.prepare(model)
            fed = {port.name: before[port.name] for port in session.inputs if port.name in before}
            (found,) = session.run(fed).values()
        except ExecutionError:
            self.unjudged[name] = None
            return
        born = self.measure(before[name], found)["rel-l2"]
        if region.place is None or born > region.born:
            region.born, region.feed = born, feed
            region.place = Place(self.first[name], region.value, region.nodes, dict(fed), before[name], found)

    def _birth(self, region: _Region, *, explained: bool) -> Birth:
        value, node = region.value, region.value.producer
        assert node is not None
        birth = Birth(value.name, node.label, node.op_type, region.born, region.total)
        if not explained or region.place is None or region.feed is None:
            return birth
        return replace(
            birth,
            cost=self._cost(region.place, region.feed),
            mechanism=explain(region.place, self.result, self.backend),
        )

    def _cost(self, place: Place, feed: Mapping[str, Any]) -> float | None:
        """The error of the outputs of the first model when only this region of the second takes part."""
        start = place.before
        behind = _behind(start)
        if not behind:
            return float(self.measure(place.wanted, place.found)["rel-l2"])
        outputs = [value for value in self.original.graph.outputs if value.producer in behind]
        worst: float | None = None
        try:
            model = slice_of(self.original, behind, self.original_types.type, outputs=outputs)
            session = self.backend.prepare(model)
            values = self._values(self.original, feed)
            names = [port.name for port in session.inputs if port.name not in values and port.name != start.name]
            if names:
                more = self.backend.prepare(self.original, outputs=names)
                fed = {port.name: feed[port.name] for port in more.inputs if port.name in feed}
                values |= more.run(fed)
            inputs = {port.name: values[port.name] for port in session.inputs if port.name in values}
            clean = session.run(inputs)
            moved = session.run({**inputs, start.name: place.found})
        except ExecutionError:
            return None
        for name, value in clean.items():
            error = self.measure(value, moved[name])["rel-l2"]
            worst = error if worst is None else max(worst, error)
        return worst


def _computed(model: Model) -> Iterable[Value]:
    for node in model.graph.nodes:
        if node.constant is None:
            yield from (value for value in node.outputs if value.name)


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
        for use in todo.pop().uses:
            user = use.user if isinstance(use.user, Node) else use.user.parent
            while user is not None and user.graph is not graph:
                user = user.graph.parent if user.graph is not None else None
            if user is not None and user not in found:
                found.add(user)
                todo += user.outputs
    return [] if graph is None else [node for node in graph.nodes if node in found]
