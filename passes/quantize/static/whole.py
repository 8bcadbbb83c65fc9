"""The whole model timed as chosen and in float: what makes it slower is taken back.

Times of units alone do not add up to that of the model: an executor fuses and lays out what lies side by side, and
knows nothing of it when it sees one unit. So the choice is timed as a whole, on the sample data, in pairs of runs with
the model in float. If it is slower beyond doubt, time in integers and at crossings is counted d times, for d from
`DOUBTS`: the choice among what was chosen then keeps what pays most, and the first that is not slower is taken; at
last none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ....errors import ExecutionError
from ....ir import Backend, Session, Value
from ...manager.context import Context
from ...manager.deployed import deployed
from .choose import Choice
from .cut import Costs, chosen
from .timing import Comparison, comparison, interleaved
from .trial import Emits, Trials
from .units import Unit

DOUBTS = (1.1, 1.25, 1.5, 2.0, 3.0)
SAMPLES = 3
"""Samples that are run in turns: they may differ in size."""
SECONDS = 1.5
_LEAST, _MOST = 21, 300


@dataclass(frozen=True)
class Doubtful:
    """Costs whose times in integers and at crossings count `times`."""

    costs: Costs
    times: float

    def unit(self, unit: Unit) -> tuple[float, float]:
        """Of a unit in float and in integers."""
        in_float, in_integers = self.costs.unit(unit)
        return in_float, in_integers * self.times

    def quantize(self, value: Value) -> float:
        """Of quantizing a value."""
        return self.costs.quantize(value) * self.times

    def decode(self, value: Value) -> float:
        """Of decoding a value."""
        return self.costs.decode(value) * self.times

    def apart(self, unit: Unit) -> float:
        """Of a unit in integers without the layout of integer convolutions."""
        return self.costs.apart(unit) * self.times

    def spells(self, unit: Unit) -> bool:
        """Whether a unit in float is faster spelled out."""
        return self.costs.spells(unit)


@dataclass
class Whole:
    """Compares the model as it is when this is made, in float, with choices of units."""

    ctx: Context
    backend: Backend

    def __post_init__(self) -> None:
        """Make the model in float ready."""
        self._feeds: list[Mapping[str, Any]] = list(islice(self.ctx.feeds(), SAMPLES))
        self._in_float = deployed(self.backend, self.ctx.model)

    def compared(self, units: Sequence[Unit], emitter: Emits) -> Comparison | None:
        """The choice `units` beside float; None if the executor does not run it."""
        before = self.ctx.checkpoint()
        emitter.emit(units)
        try:
            in_integers = deployed(self.backend, self.ctx.model)
            runs = [self._runs(session) for session in (self._in_float, in_integers)]
            return comparison(*interleaved(runs, seconds=SECONDS, least=_LEAST, most=_MOST))
        except ExecutionError:
            return None
        finally:
            self.ctx.rollback(before)

    def _runs(self, session: Session) -> Callable[[], object]:
        """Runs the session on the next sample, over and over."""
        fed = {port.name for port in session.inputs}
        turns = _over_and_over([{name: x for name, x in feed.items() if name in fed} for feed in self._feeds])

        def run() -> object:
            self.ctx.progress.ticks += 1  # a sign of life
            return session.run(next(turns))

        return run


def not_slower(whole: Whole, choice: Choice, costs: Costs, emitter: Emits, trials: Trials, limit: float) -> Choice:
    """The choice, or the part of it with which the model is not slower than in float and errs by no more than `limit`.
    A remark says what was measured, and what was taken back."""
    first: Comparison | None = None
    remarks = whole.ctx.remarks
    for units, error in _narrower(choice, costs, trials):
        found = whole.compared(units, emitter)
        first = found if first is None else first
        if found is None or found.is_slower or error > limit:
            continue
        remarks.applied("model", f"measured as a whole: {found}", rule="latency")
        if len(units) < len(choice.units):
            back = f"{len(choice.units) - len(units)} units are taken back, with which the model would be slower"
            remarks.missed("model", f"{back} than in float: {first}", rule="latency")
        return Choice(units, error, choice.sensitivity)
    if choice.units:
        why = "the executor does not run it" if first is None else f"the model would be slower than in float: {first}"
        remarks.missed("model", f"nothing runs in integers: {why}", rule="latency")
    return Choice([], 0.0, choice.sensitivity)


def _narrower(choice: Choice, costs: Costs, trials: Trials) -> Iterator[tuple[Sequence[Unit], float]]:
    """The choice, then smaller parts of it, with their errors."""
    units = choice.units
    if not units:
        return
    yield units, choice.error
    for times in DOUBTS:
        kept = chosen(units, Doubtful(costs, times))
        if not kept:
            return
        if len(kept) < len(units):
            units = kept
            yield units, trials.error(units)


def _over_and_over(feeds: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    while True:
        yield from feeds
