"""The report of a run: what every pass did and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ...ir.analysis.cost import Cost
    from .bounds import LocalBound
    from .layer_rows import LayerRow
    from .prices import Price
    from .remarks import Remark
    from .weights import WeightEntry


_NOTHING: Mapping[str, int] = MappingProxyType({})


class State(NamedTuple):
    """A model at one moment: its cost, its bytes on disk, and its error against the original.

    `price` is None in a run that counts no prices; its parts then raise RuntimeError. `error` maps names of metrics to
    their worst values in the reference configuration; None where nothing was measured, for the reason in `unmeasured`.
    """

    price: Price | None
    error: Mapping[str, float] | None = None
    unmeasured: str = ""

    @property
    def cost(self) -> Cost:
        """Nodes, parameters and MACs."""
        return self._counted.cost

    @property
    def file_bytes(self) -> int:
        """Bytes on disk."""
        return self._counted.file_bytes

    @property
    def _counted(self) -> Price:
        if self.price is None:
            raise RuntimeError("the run was told to count no prices")
        return self.price

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return {
            **self.cost._asdict(),
            "file_bytes": self.file_bytes,
            "error": None if self.error is None else dict(self.error),
            "unmeasured": self.unmeasured,
        }


class Fate(StrEnum):
    """What became of a pass of the pipeline."""

    RAN = "ran"
    SKIPPED = "skipped"
    ROLLED_BACK = "rolled back"


class Step(NamedTuple):
    """One pass of the pipeline: its text, what it changed, the time it took, and those inside it.

    `seconds` is the time of the pass itself and those inside it; `verify_seconds` and `measure_seconds` came on top.
    `edits` counts primitive changes by kind, `rules` applications by rule, both of those inside too. `after` is the
    model after it, `step_error` the error against the model before it: None inside combinators unless all is measured.
    """

    name: str
    text: str
    effect: str
    seconds: float
    edits: Mapping[str, int] = _NOTHING
    rules: Mapping[str, int] = _NOTHING
    fate: Fate = Fate.RAN
    verify_seconds: float = 0.0
    measure_seconds: float = 0.0
    after: State | None = None
    step_error: Mapping[str, float] | None = None
    children: Sequence[Step] = ()

    @property
    def changed(self) -> bool:
        """Whether the model is another one after it."""
        return bool(self.edits) and self.fate is Fate.RAN

    def walk(self) -> Iterator[Step]:
        """This step and all inside it, at any depth."""
        yield self
        for child in self.children:
            yield from child.walk()

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return {
            "pass": self.text,
            "effect": self.effect,
            "fate": str(self.fate),
            "seconds": self.seconds,
            "verify_seconds": self.verify_seconds,
            "measure_seconds": self.measure_seconds,
            "changed": self.changed,
            "edits": dict(self.edits),
            "rules": dict(self.rules),
            **({} if self.after is None else self.after.as_dict()),
            "step_error": None if self.step_error is None else dict(self.step_error),
            "steps": [child.as_dict() for child in self.children],
        }


@dataclass(eq=False, repr=False)
class Report:
    """Everything a run has to say. `deployment_error` is the final error in the deployment session.

    `overhead_seconds` is what the framework itself took: verifying and accounting, without measuring errors.
    """

    pipeline: str
    seed: int
    data: str
    versions: Mapping[str, str]
    before: State
    steps: Sequence[Step] = ()
    remarks: Sequence[Remark] = ()
    weights: Sequence[WeightEntry] = ()
    bounds: Sequence[LocalBound] = ()
    layers: Sequence[LayerRow] = ()
    deployment_error: Mapping[str, float] | None = None
    overhead_seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
    """What the caller measured besides, e.g. the latency ratio."""

    @property
    def after(self) -> State:
        """The model as it is at the end."""
        known = [step.after for step in self.steps if step.after is not None]
        return known[-1] if known else self.before

    @property
    def changed(self) -> bool:
        """Whether any pass changed anything."""
        return any(step.changed for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """The whole report as plain data, ready for JSON (infinities are floats)."""
        return {
            "pipeline": self.pipeline,
            "seed": self.seed,
            "data": self.data,
            "versions": dict(self.versions),
            "before": self.before.as_dict(),
            "steps": [step.as_dict() for step in self.steps],
            "after": self.after.as_dict(),
            "deployment_error": None if self.deployment_error is None else dict(self.deployment_error),
            "overhead_seconds": self.overhead_seconds,
            "weights": [entry.as_dict() for entry in self.weights],
            "remarks": [remark.as_dict() for remark in self.remarks],
            "bounds": [_bound_as_dict(bound) for bound in self.bounds],
            "layers": [row.as_dict() for row in self.layers],
            **self.extra,
        }


def _bound_as_dict(bound: LocalBound) -> dict[str, Any]:
    """A bound with the extremes of its channels; the API has them all."""
    low, high = (float(bound.per_channel.min()), float(bound.per_channel.max())) if bound.per_channel.size else (0, 0)
    return {
        "by": bound.by,
        "graph": bound.graph,
        "value": bound.value,
        "weight": bound.weight,
        "form": bound.form,
        "axis": bound.axis,
        "channels": int(bound.per_channel.size),
        "least": low,
        "greatest": high,
    }
