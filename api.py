"""The Python interface: loading, running pipelines, saving and comparing, with the default executor wired in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from onnx import ModelProto

from . import __version__
from .backends import default_backend
from .backends.files import Saved, load_model, model_from, save_model
from .backends.interface import Pins
from .backends.ort import versions
from .errors import ExecutionError
from .ir import Backend, Model, emit, strip_weights
from .ir.ports import input_ports
from .passes.manager import manager
from .passes.manager.base import Pass
from .passes.manager.context import Progress, Silent
from .passes.manager.instruments import Instrument
from .passes.manager.registry import distributions_of, register_pass
from .passes.manager.report import Report
from .passes.manager.runner import VerifyEach

if TYPE_CHECKING:
    from .backends.compare import Comparison
    from .backends.judge import Judge
    from .backends.metrics import Limit
    from .backends.samples import Samples

__all__ = ["Comparison", "PassManager", "Report", "compare", "load", "register_pass", "save"]

Source = str | PathLike[str] | bytes | ModelProto | Model
Feed = Mapping[str, Any]
SAMPLES = 4
"""Samples that errors are measured on."""
Data: TypeAlias = "str | Sequence[str] | Samples | Iterable[Feed]"


def __getattr__(name: str) -> Any:
    if name != "Comparison":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .backends.compare import Comparison

    return Comparison


def load(source: Source) -> Model:
    """A model from a file, its bytes, or a ModelProto (which must not be changed afterwards).

    Raises UserError, one line that says what is wrong, if it is no sound ONNX model.
    """
    if isinstance(source, Model):
        return source
    return load_model(Path(source)) if isinstance(source, str | PathLike) else model_from(source)


def save(
    model: Model, path: str | PathLike[str], *, external_above: int | None = None, in_place: bool = False
) -> Saved:
    """Write a model: atomically, so that a failure leaves what was there.

    Above `external_above` bytes (default: what a protobuf file can hold) weights go to a data file beside it.
    `in_place` allows to replace the file that the model was loaded from.
    """
    if external_above is None:
        return save_model(model, Path(path), in_place=in_place)
    return save_model(model, Path(path), in_place=in_place, external_above=external_above)


class PassManager:
    """Runs a pipeline, given as text or as passes, with onnxruntime as the executor.

    The error is measured after every pass on the first `samples` of `data`, or on generated inputs, which `pins` can
    fix in shape and value; `measure=False` leaves that out, where no pass decides by it. `budget` holds limits of the
    error against the original, like `rel-l2=1e-2`: a pass that breaks one is rolled back, or the run stops.
    `provenance` writes what made each node into the metadata of a model that was changed. `verify_each` says what is
    checked after each pass, those inside combinators too: the structure of the model, also the numbers, or nothing. A
    pass without a sign of life for `idle_limit` seconds is stopped. `count_prices=False` leaves out of the report what
    the model costs after each pass and what became of its weights, which takes a tenth of the time of a small run.
    """

    def __init__(
        self,
        pipeline: str | Sequence[Pass],
        *,
        seed: int = 0,
        measure: bool = True,
        pins: Pins | None = None,
        backend: Backend | None = None,
        progress: Progress | None = None,
        instruments: Sequence[Instrument] = (),
        verify_each: VerifyEach = "structure",
        budget: Sequence[Limit | str] = (),
        over_budget: Literal["rollback", "stop"] = "rollback",
        idle_limit: float | None = manager.IDLE_LIMIT,
        samples: int = SAMPLES,
        provenance: bool = False,
        count_prices: bool = True,
    ) -> None:
        self.provenance = provenance
        limits = _limits(budget)
        self.samples = samples
        self.backend = default_backend() if backend is None else backend
        self.pins = Pins() if pins is None else pins
        self.measure = measure
        self._manager = manager.PassManager(
            pipeline,
            self.backend,
            seed=seed,
            versions={"onnxpress": __version__, **versions()},
            progress=Silent() if progress is None else progress,
            instruments=instruments,
            verify_each=verify_each,
            budget={limit.metric: limit.value for limit in limits},
            over_budget=over_budget,
            idle_limit=idle_limit,
            shapes=self.pins.shapes,
            count_prices=count_prices,
        )

    def run(self, model: Model, *, data: Data | None = None) -> Report:
        """Run the passes over `model`, which is changed in place, and report.

        `data` is what `--data` takes (files, a folder, `module:function`, `random`), or an iterable of feeds. Raises
        UserError if it does not fit the model or a pass is to learn from NaN, PassError if a pass fails: the model is
        then as it was before it.
        """
        samples = None if data is None else samples_for(model, data, self.backend, self.pins, self._manager.seed)
        provenance = self.facts(model, samples) if self.provenance else None
        judge = self._judge(model, samples) if self.measure or self._manager.needs_judge else None
        learnt = None if samples is None else _for_calibration(samples, model)
        return self._manager.run(model, data=learnt, judge=judge, provenance=provenance)

    def facts(self, model: Model, samples: Samples | None) -> dict[str, Any]:
        """What provenance tells of a run on `model` and `samples`: all that the result depends on."""
        from .ir.digests import data_digest, model_digest

        manager = self._manager
        found = {
            "pipeline": str(manager.passes),
            "seed": manager.seed,
            "versions": {**distributions_of(manager.passes), **manager.versions},
            "input": model_digest(model),
            "measure": self.measure,
            "samples": self.samples,
            "verify_each": manager.verify_each,
            "data": None if samples is None else data_digest(samples),
            "shapes": {name: list(shape) for name, shape in self.pins.shapes.items()},
            "values": dict(self.pins.values),
            "budget": dict(manager.budget),
            "over_budget": manager.over_budget if manager.budget else None,
        }
        return {key: value for key, value in found.items() if value not in (None, {})}

    def _judge(self, model: Model, samples: Samples | None) -> Judge:
        from .backends.judge import Judge

        source = samples.source if samples is not None else ""
        seed = self._manager.seed
        return Judge(
            model, self.backend, samples=samples, source=source, pins=self.pins, seed=seed, at_most=self.samples
        )


def _for_calibration(samples: Samples, model: Model) -> Samples:
    from .backends.calibration import for_calibration

    return for_calibration(samples, model)


def samples_for(model: Model, data: Data, backend: Backend, pins: Pins, seed: int) -> Samples:
    """The samples that `data` names, checked against the inputs of `model`."""
    from .backends.samples import Samples, load_samples, samples_from

    def generated() -> Sequence[Feed]:
        from .backends.generate import generate_feeds

        session = backend.prepare(model)
        return generate_feeds(emit(model, strip_weights()), session, n=GENERATED, seed=seed, pins=pins).feeds

    if isinstance(data, Samples):
        return data
    ports = input_ports(model)
    if isinstance(data, str):
        return load_samples(data, ports, pins, generated=generated)
    if isinstance(data, Sequence) and any(isinstance(item, str) for item in data):
        return load_samples([str(item) for item in data], ports, pins, generated=generated)
    feeds = [item for item in data if not isinstance(item, str)]
    return samples_from(lambda: feeds, ports, pins, source="the feeds given")


def _limits(given: Sequence[Limit | str]) -> tuple[Limit, ...]:
    if not given:
        return ()
    from .backends.metrics import Limit

    return tuple(Limit.parse(limit) if isinstance(limit, str) else limit for limit in given)


GENERATED = 16
"""Feeds that `random` data are made of."""


def compare(
    a: Source,
    b: Source,
    *,
    data: Data | None = None,
    limits: Sequence[Limit | str] = (),
    pins: Pins | None = None,
    seed: int = 0,
    optimize: bool = False,
    backend: Backend | None = None,
) -> Comparison:
    """Compare model `b` with model `a`, the original, on `data` or on generated inputs.

    `limits` are like `rel-l2=1e-3`; `optimize` compares deployment sessions instead of reference ones.
    """
    from .backends.compare import Comparison, compare_sessions
    from .backends.generate import generate_feeds

    backend = default_backend() if backend is None else backend
    pins = Pins() if pins is None else pins
    original, other = load(a), load(b)
    wanted = _limits(limits)
    samples = None if data is None else samples_for(original, data, backend, pins, seed)
    try:
        first = backend.prepare(original, optimize=optimize)
    except ExecutionError as error:
        return Comparison((), (), {f"{backend.name} refuses the first model: {error}": 1}, wanted)
    try:
        second = backend.prepare(other, optimize=optimize)
    except ExecutionError as error:
        return Comparison((), (f"{backend.name} refuses the second model: {error}",), {}, wanted)
    if samples is not None:
        return compare_sessions(first, second, samples, wanted)
    made = generate_feeds(emit(original, strip_weights()), first, n=GENERATED, seed=seed, pins=pins)
    return compare_sessions(first, second, made.feeds, wanted, refused=made.reasons)
