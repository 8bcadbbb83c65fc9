"""The judge: measures what a pipeline makes of a model against the model that it started from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from ..errors import ExecutionError
from ..ir import Backend, Model, Outputs, Session, clone_model, emit, strip_weights
from ..ir.analysis.purity import Purity
from .generate import PLAIN_KINDS, generate_feeds
from .interface import Pins, first_line
from .metrics import Limit, Values, hopeless, measure, worst

Feed = Mapping[str, Any]


class Judge:
    """Measures on the first `at_most` samples of the data, or on as many generated inputs.

    Only one session lives at a time, and the outputs of the original are computed once. Outputs are compared by name,
    in the reference configuration or in the deployment session (the original's there against the result's there).
    """

    def __init__(
        self,
        original: Model,
        backend: Backend,
        *,
        samples: Iterable[Feed] | None = None,
        source: str = "",
        pins: Pins | None = None,
        seed: int = 0,
        at_most: int = 4,
    ) -> None:
        self._original = clone_model(original)
        self._backend = backend
        self._expected: dict[bool, Outputs] = {}
        self._feeds: list[Feed] = []
        self._open: dict[str, tuple[int | str | None, ...]] = {}
        self.unmeasured = ""
        self.description = "nothing"
        try:
            session = backend.prepare(self._original)
        except ExecutionError as error:
            self.unmeasured = f"{backend.name} refuses the original: {first_line(error)}"
            return
        self._open = {port.name: port.shape for port in session.inputs if port.shape is not None}
        if samples is not None:
            self._feeds = [dict(feed) for feed in islice(samples, at_most)]
            self.description = f"{len(self._feeds)} samples of {source or 'the data'}"
        else:
            bare = emit(self._original, strip_weights())
            made = generate_feeds(bare, session, n=at_most, seed=seed, pins=pins or Pins(), kinds=PLAIN_KINDS)
            self._feeds = list(made.feeds)
            self.description = f"{len(self._feeds)} generated inputs ({made.discarded} discarded)"
            if not self._feeds:
                self.unmeasured = "; ".join(made.reasons) or "no input could be generated"
        self._record(session)
        del session
        if not self.unmeasured and self._is_random():
            self.unmeasured = "the original gives other outputs on every run"

    @property
    def pins(self) -> Mapping[str, tuple[int, ...]] | None:
        """The shapes of the first feed."""
        if not self._feeds:
            return None
        return {name: tuple(value.shape) for name, value in self._feeds[0].items() if hasattr(value, "shape")}

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """The feeds that it measures on."""
        return tuple(self._feeds)

    def original(self, *, deployment: bool = False) -> Outputs:
        """The outputs of the model that it was made with, computed once."""
        if deployment not in self._expected:
            self._expected[deployment] = self.run(self._original, deployment=deployment)
        return self._expected[deployment]

    def run(self, model: Model, *, deployment: bool = False) -> Outputs:
        """The outputs of `model`; or the executor's words if it refuses the model or a feed that the original runs."""
        try:
            session = self._backend.prepare(model, optimize=deployment)
            wanted = {port.name for port in session.inputs}
            runs = [
                {} if self._is_excluded(feed, session) else session.run({n: v for n, v in feed.items() if n in wanted})
                for feed in self._feeds
            ]
        except ExecutionError as error:
            return Outputs(refusal=f"the executor refuses the result: {first_line(error)}")
        return Outputs(tuple(runs))

    def _is_excluded(self, feed: Feed, session: Session) -> bool:
        """Whether a size that the original leaves open is fixed now, to another one than the feed has."""
        return any(
            isinstance(now, int) and not isinstance(then, int) and size != now
            for port in session.inputs
            if port.shape is not None and hasattr(feed.get(port.name), "shape")
            for now, then, size in zip(
                port.shape, self._open.get(port.name, port.shape), feed[port.name].shape, strict=False
            )
        )

    def error(self, before: Outputs, after: Outputs) -> Values:
        """The worst of every metric over outputs and samples; infinitely wrong where an executor refused.

        A sample that the interface excludes by now is left out. Of no sample at all nothing is known: no metrics.
        """
        if before.refusal or after.refusal:
            return hopeless()
        pairs = [(one, other) for one, other in zip(before.runs, after.runs, strict=True) if one and other]
        return worst(_distance(one, other) for one, other in pairs) if pairs or not self._feeds else {}

    def broken(self, error: Mapping[str, float], limits: Mapping[str, float]) -> tuple[str, ...]:
        """The limits that do not hold, in words."""
        asked = (Limit(metric, value) for metric, value in limits.items())
        return tuple(
            f"{limit.metric} {error[limit.metric]:.3g}, allowed {limit.value:g}"
            for limit in asked
            if not limit.holds(error[limit.metric])
        )

    def _record(self, session: Session) -> None:
        """Run the original, and leave out the feeds that it refuses."""
        kept: list[Feed] = []
        outputs: list[Mapping[str, Any]] = []
        for feed in self._feeds:
            try:
                outputs.append(session.run(feed))
            except ExecutionError as error:
                self.unmeasured = f"the original refuses the data: {first_line(error)}"
                continue
            kept.append(feed)
        if kept:
            self.unmeasured = ""
        elif not self.unmeasured:
            self.unmeasured = "there are no samples"
        self._feeds, self._expected[False] = kept, Outputs(tuple(outputs))

    def _is_random(self) -> bool:
        """Whether a second session gives other outputs, asked only of models with operators that may."""
        purity = Purity(self._original)
        if all(purity.is_pure(node) for graph in self._original.walk_graphs() for node in graph.nodes):
            return False
        again = self._backend.prepare(self._original).run(self._feeds[0])
        first = self._expected[False].runs[0]
        return any(measure(first[name], again[name])["unequal"] for name in first)


def _distance(before: Mapping[str, Any], after: Mapping[str, Any]) -> Values:
    return worst(measure(value, after[name]) if name in after else hopeless() for name, value in before.items())
