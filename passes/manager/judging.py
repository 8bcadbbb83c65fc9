"""The Judge: how a run measures errors. The implementation that runs models is in `onnxpress.backends`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from ...ir import Model, Outputs

Pins = Mapping[str, tuple[int, ...]]
Metrics = Mapping[str, float]


class Judge(Protocol):
    """Runs models on feeds of its own and measures how far outputs are apart. Holds at most one session at a time."""

    @property
    def description(self) -> str:
        """What it measures on, as the report says it."""
        ...

    @property
    def unmeasured(self) -> str:
        """Why it can measure nothing; empty if it can."""
        ...

    @property
    def pins(self) -> Pins | None:
        """Shapes of inputs at which MACs are counted."""
        ...

    def original(self, *, deployment: bool = False) -> Outputs:
        """The outputs of the model that the run started from, in the reference or in the deployment session."""
        ...

    def run(self, model: Model, *, deployment: bool = False) -> Outputs:
        """The outputs of `model`."""
        ...

    def error(self, before: Outputs, after: Outputs) -> Metrics:
        """The worst value of every metric over outputs and feeds; infinitely wrong where `after` was refused."""
        ...

    def broken(self, error: Metrics, limits: Metrics) -> tuple[str, ...]:
        """The limits that do not hold, in words: `rel-l2 0.31, allowed 0.01`."""
        ...


@dataclass
class Measurements:
    """A judge that remembers the outputs of the model as it is now, so that nobody computes them twice.

    At first it knows none: who knows that the model is the original says so with `remember`.
    """

    judge: Judge
    model: Model
    seconds: float = 0.0
    """What measuring took so far."""
    _version: int = -1
    _outputs: Outputs = Outputs()

    def outputs(self) -> Outputs:
        """The outputs of the model as it is now."""
        if self._version != self.model.version:
            with self._timed():
                self.remember(self.judge.run(self.model))
        return self._outputs

    def remember(self, outputs: Outputs) -> None:
        """The model as it is now gives `outputs`: known without running it, as after a rollback."""
        self._version, self._outputs = self.model.version, outputs

    def since(self, before: Outputs) -> Metrics:
        """The error of the model as it is now against earlier outputs."""
        after = self.outputs()
        with self._timed():
            return self.judge.error(before, after)

    def from_original(self) -> Metrics:
        """The error of the model as it is now against the model that the run started from."""
        return self.since(self.judge.original())

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started
