"""The judge: measures what a pipeline makes of a model against the model that it started from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from ..errors import ExecutionError
from ..ir import Backend, Model, Session, clone_model, emit, strip_weights
from ..ir.analysis.purity import Purity
from .generate import PLAIN_KINDS, generate_feeds
from .interface import Pins, first_line
from .metrics import hopeless, measure, worst

Feed = Mapping[str, Any]


class Judge:
    """Measures on the first `at_most` samples of the data, or on as many generated inputs.

    The outputs of the original are computed once and kept, so that only one session lives at a time. Outputs are
    compared by name, in the reference configuration or in the deployment session (the original's there against the
    result's there).
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
        self._expected: dict[bool, list[Mapping[str, Any]]] = {}
        self._feeds: list[Feed] = []
        self._why_not = ""
        try:
            session = backend.prepare(self._original)
        except ExecutionError as error:
            self._why_not = f"{backend.name} refuses the original: {first_line(error)}"
            self.description = "nothing"
            return
        if samples is not None:
            self._feeds = [dict(feed) for feed in islice(samples, at_most)]
            self.description = f"{len(self._feeds)} samples of {source or 'the data'}"
        else:
            bare = emit(self._original, strip_weights())
            made = generate_feeds(bare, session, n=at_most, seed=seed, pins=pins or Pins(), kinds=PLAIN_KINDS)
            self._feeds = list(made.feeds)
            self.description = f"{len(self._feeds)} generated inputs ({made.discarded} discarded)"
            if not self._feeds:
                self._why_not = "; ".join(made.reasons) or "no input could be generated"
        self._record(session)

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

    def error(self, model: Model, *, deployment: bool = False) -> tuple[Mapping[str, float] | None, str]:
        """The worst of every metric over outputs and samples; None and the reason if nothing can be measured.

        A result that the executor refuses, as a whole or for one feed, is infinitely wrong.
        """
        if self._why_not:
            return None, self._why_not
        try:
            expected = self._outputs_of_original(deployment)
            session = self._backend.prepare(model, optimize=deployment)
            values = [self._measured(session, *pair) for pair in zip(self._feeds, expected, strict=True)]
        except ExecutionError as error:
            return hopeless(), f"the executor refuses the result: {first_line(error)}"
        return worst(values), ""

    def _measured(self, session: Session, feed: Feed, expected: Mapping[str, Any]) -> Mapping[str, float]:
        wanted = {port.name for port in session.inputs}
        found = session.run({name: value for name, value in feed.items() if name in wanted})
        return worst(measure(value, found[name]) if name in found else hopeless() for name, value in expected.items())

    def _outputs_of_original(self, deployment: bool) -> list[Mapping[str, Any]]:
        if deployment not in self._expected:
            session = self._backend.prepare(self._original, optimize=deployment)
            self._expected[deployment] = [session.run(feed) for feed in self._feeds]
        return self._expected[deployment]

    def _record(self, session: Session) -> None:
        """Run the original, leave out the feeds that it refuses, and see whether its outputs are a matter of chance."""
        kept: list[Feed] = []
        outputs: list[Mapping[str, Any]] = []
        for feed in self._feeds:
            try:
                outputs.append(session.run(feed))
            except ExecutionError as error:
                self._why_not = f"the original refuses the data: {first_line(error)}"
                continue
            kept.append(feed)
        if kept:
            self._why_not = ""
        elif not self._why_not:
            self._why_not = "there are no samples"
        self._feeds, self._expected[False] = kept, outputs
        if kept and self._is_random():
            self._why_not = "the original gives other outputs on every run"

    def _is_random(self) -> bool:
        """Whether a second session gives other outputs, asked only of models with operators that may."""
        purity = Purity(self._original)
        if all(purity.is_pure(node) for graph in self._original.walk_graphs() for node in graph.nodes):
            return False
        again = self._backend.prepare(self._original).run(self._feeds[0])
        first = self._expected[False][0]
        return any(measure(first[name], again[name])["unequal"] for name in first)
