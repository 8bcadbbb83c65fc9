"""Run two sessions on the same feeds and say how far the second is from the first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ExecutionError
from ..ir.dtypes import name_of
from .interface import Refusals, first_line
from .metrics import METRICS, Limit, Values, hopeless, measure, mismatch, perfect, worst

if TYPE_CHECKING:
    from ..ir.backend import Port, Session

Verdict = Literal["equal", "within", "differs", "over", "mismatch", "not checked"]


@dataclass(frozen=True)
class Worst:
    """The worst value of a metric, and where it was found (None if no sample is worse than perfect)."""

    value: float
    output: str | None = None
    sample: int | None = None


@dataclass(frozen=True)
class Comparison:
    """What a comparison found; samples are numbered from 0 in the order of the feeds that A ran.

    Verdicts, the first that applies: `mismatch` (interfaces differ, B refuses a feed that A runs, or an output has
    another kind, shape, dtype, or NaN and Inf elsewhere), `not checked` (A ran no feed), `over` (a limit is broken),
    `equal` (no element differs; 0 equals -0), `within` (all limits hold), `differs` (no limits were given).
    """

    samples: tuple[Mapping[str, Values], ...]
    """Per sample, per output of A: the value of each metric."""
    mismatches: tuple[str, ...]
    """What makes A and B incomparable, one line each."""
    refused: Mapping[str, int]
    """Why A refused feeds, and how many for each reason."""
    limits: tuple[Limit, ...] = ()

    @property
    def checked(self) -> int:
        """Feeds that A ran."""
        return len(self.samples)

    @property
    def discarded(self) -> int:
        """Feeds that A refused."""
        return sum(self.refused.values())

    @cached_property
    def outputs(self) -> dict[str, Values]:
        """Per output, the worst value of each metric over the samples."""
        names = dict.fromkeys(name for sample in self.samples for name in sample)
        return {name: worst(sample[name] for sample in self.samples if name in sample) for name in names}

    @cached_property
    def worst(self) -> dict[str, Worst]:
        """Per metric, its worst value over outputs and samples; empty if nothing was checked."""
        if not self.samples:
            return {}
        found = {name: Worst(value) for name, value in perfect().items()}
        for index, sample in enumerate(self.samples):
            for output, values in sample.items():
                for name, metric in METRICS.items():
                    if metric.worse(values[name], found[name].value) != found[name].value:
                        found[name] = Worst(values[name], output, index)
        return found

    @property
    def broken(self) -> tuple[Limit, ...]:
        """The limits that do not hold; all of them if nothing was checked."""
        found = self.worst
        return tuple(x for x in self.limits if x.metric not in found or not x.holds(found[x.metric].value))

    @property
    def verdict(self) -> Verdict:
        """See the class."""
        if self.mismatches:
            return "mismatch"
        if not self.samples:
            return "not checked"
        if self.broken:
            return "over"
        if self.worst["unequal"].value == 0:
            return "equal"
        return "within" if self.limits else "differs"

    @property
    def passed(self) -> bool:
        """Whether something was checked, nothing mismatches and no limit is broken."""
        return self.verdict in ("equal", "within", "differs")

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for strict JSON: infinities are the strings `inf` and `-inf`."""
        found = self.worst
        return {
            "verdict": self.verdict,
            "checked": self.checked,
            "discarded": self.discarded,
            "discard_reasons": dict(self.refused),
            "mismatches": list(self.mismatches),
            "limits": [{"metric": x.metric, "limit": x.value, "holds": x not in self.broken} for x in self.limits],
            "worst": {
                name: {"value": _plain(w.value), "output": w.output, "sample": w.sample} for name, w in found.items()
            },
            "outputs": {name: _plain_values(values) for name, values in self.outputs.items()},
            "samples": [{name: _plain_values(v) for name, v in sample.items()} for sample in self.samples],
        }


def compare_sessions(
    a: Session,
    b: Session,
    feeds: Iterable[Mapping[str, Any]],
    limits: Sequence[Limit] = (),
    *,
    refused: Mapping[str, int] | None = None,
) -> Comparison:
    """Compare `b` with `a`, the original, on every feed, one feed at a time.

    A feed that `a` refuses is discarded and counted; one that `a` runs and `b` refuses is a mismatch. Outputs are
    compared by name. `refused` are feeds that `a` refused earlier, while they were generated.
    """
    run = _Run(a, b, Refusals(refused), _interface_mismatches(a, b))
    for feed in feeds:
        run.add(feed)
    return Comparison(tuple(run.samples), tuple(dict.fromkeys(run.mismatches)), run.refused.counts, tuple(limits))


@dataclass
class _Run:
    """The state of a comparison under way."""

    a: Session
    b: Session
    refused: Refusals
    mismatches: list[str]
    samples: list[dict[str, Values]] = field(default_factory=list)

    def add(self, feed: Mapping[str, Any]) -> None:
        try:
            reference = self.a.run(feed)
        except ExecutionError as error:
            self.refused.add(error)
            return
        self.samples.append(self._measured(feed, reference))

    def _measured(self, feed: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Values]:
        known = {port.name for port in self.b.inputs}
        try:
            result = self.b.run({name: value for name, value in feed.items() if name in known})
        except ExecutionError as error:
            self.mismatches.append(f"the second model refuses a feed that the first runs: {first_line(error)}")
            return {name: hopeless() for name in reference}
        return {name: self._output(name, value, result) for name, value in reference.items()}

    def _output(self, name: str, value: Any, result: Mapping[str, Any]) -> Values:
        if name not in result:
            return hopeless()
        values = measure(value, result[name])
        if math.isinf(values["unequal"]):
            why = mismatch(value, result[name]) or "NaN or Inf at different places"
            self.mismatches.append(f"output {name!r}: {why}")
        return values


def _interface_mismatches(a: Session, b: Session) -> list[str]:
    return [*_port_mismatches("input", a.inputs, b.inputs), *_port_mismatches("output", a.outputs, b.outputs)]


def _port_mismatches(kind: str, a: Sequence[Port], b: Sequence[Port]) -> list[str]:
    """Differences that a caller of the first model would notice; inputs with a default may come and go."""
    first, second = {p.name: p for p in a}, {p.name: p for p in b}
    found = [f"{kind} {p.name!r} is missing in the second model" for p in a if p.name not in second and not p.optional]
    found += [f"{kind} {p.name!r} is only in the second model" for p in b if p.name not in first and not p.optional]
    both = [name for name in first if name in second]
    for name in both:
        one, other = first[name], second[name]
        if other.dtype != one.dtype:
            found.append(f"{kind} {name!r} is {_type(other)} instead of {_type(one)}")
        if one.optional and not other.optional:
            found.append(f"{kind} {name!r} lost its default in the second model")
    order = [name for name in second if name in first]
    if order != both:
        found.append(f"{kind}s are in another order: {', '.join(order)} instead of {', '.join(both)}")
    return found


def _type(port: Port) -> str:
    return "no tensor" if port.dtype is None else name_of(port.dtype)


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _plain_values(values: Values) -> dict[str, float | str]:
    return {name: _plain(value) for name, value in values.items()}
