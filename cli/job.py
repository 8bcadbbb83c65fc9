"""A run from the request to the written file: everything is checked first, and nothing is written before the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from .checks import check_apart, check_data_files, check_exists, check_target, output_of
from .ir_printer import IrPrinter, printer_for
from .options import pins_of, size_of

if TYPE_CHECKING:
    from ..api import PassManager
    from ..backends.interface import Pins
    from ..backends.metrics import Limit
    from ..errors import PassError
    from ..ir import Model
    from ..passes.manager.base import Pass
    from ..passes.manager.instruments import Instrument
    from ..passes.manager.report import Report
    from ..passes.manager.runner import VerifyEach
    from ..passes.manager.text import Pipeline
    from .progress import Bars
    from .question import Asked
    from .supervise import Trail
    from .witness import Witness


class Request(NamedTuple):
    """What `onnxpress run` was asked for, in its own words."""

    source: Path
    pipeline: str
    output: Path | None
    in_place: bool
    data: tuple[str, ...]
    shapes: tuple[str, ...]
    values: tuple[str, ...]
    seed: int
    samples: int | None
    budget: tuple[str, ...]
    over_budget: str
    verify_each: str
    pass_timeout: float | None
    report: Path | None
    timed: bool
    print_ir: Mapping[str, Sequence[str]]
    print_ir_dir: Path | None
    print_ir_diff: bool
    external_above: str | None
    reproducer: Path | None
    """The folder that a failing pass leaves a reproducer in; None for none."""
    synthetic_weights: bool
    provenance: bool
    measure: bool
    """Whether errors are measured."""
    count_prices: bool
    """Whether someone will read what the model costs after each pass."""


class Job(NamedTuple):
    """A request of which everything was checked that can be without reading the model."""

    request: Request
    passes: Pipeline
    budget: Sequence[Limit]
    printer: IrPrinter | None
    pins: Pins
    output: Path | None
    external_above: int | None

    @property
    def prints_models(self) -> bool:
        """Whether models go to stdout."""
        return self.printer is not None and self.printer.writes_stdout

    def run(self, progress: Bars, trail: Trail | None = None) -> tuple[Model, Report]:
        """Read the model, run the pipeline over it, and time the result if that was asked for.

        Crumbs on a `trail` tell a parent process where it is.
        """
        from ..api import load
        from ..errors import PassError
        from ..ir import clone_model
        from ..passes.manager.text import pass_text
        from .supervise import Crumbs
        from .witness import Witness

        asked = self.request
        with progress.working("reading"):
            model = load(asked.source)
        self._check_targets(model)
        original = clone_model(model) if asked.timed else model
        witness = Witness()
        crumbs = [] if trail is None else [Crumbs(trail)]
        printers = [] if self.printer is None else [self.printer]
        manager = self._manager([*crumbs, witness, *printers], progress)
        try:
            report = manager.run(model, data=asked.data or None)
        except PassError as error:
            self._leave_reproducer(error, witness, progress)
            raise
        except KeyboardInterrupt as stop:
            stop.args = () if witness.stopped is None else (f"in pass {pass_text(witness.stopped)!r}",)
            raise
        if asked.timed:
            with progress.working("timing"):
                report.extra["latency"] = self._latency(original, model)
        return model, report

    def model_before(self, number: int, progress: Bars) -> tuple[Pass, Model] | None:
        """The pass that is the `number`th to begin, and the model before it: the pipeline is run once more."""
        from ..api import load
        from ..errors import PassError
        from .catch import Catch, Caught

        catch = Catch(number)
        with suppress(Caught, PassError):  # combinators around the pass make one of the other
            self._manager([catch], progress).run(load(self.request.source), data=self.request.data or None)
        return catch.found

    def _manager(self, instruments: Sequence[Instrument], progress: Bars) -> PassManager:
        from ..api import SAMPLES, PassManager

        asked = self.request
        return PassManager(
            self.passes,
            seed=asked.seed,
            pins=self.pins,
            progress=progress,
            instruments=instruments,
            verify_each=cast("VerifyEach", asked.verify_each),
            budget=self.budget,
            over_budget=cast("Literal['rollback', 'stop']", asked.over_budget),
            idle_limit=_idle_limit(asked),
            samples=asked.samples or SAMPLES,
            provenance=asked.provenance,
            measure=asked.measure,
            count_prices=asked.count_prices,
        )

    def asked(self) -> Asked:
        """What a reproducer needs to know of the request."""
        from ..api import SAMPLES
        from .question import Asked

        one = self.request
        return Asked(one.source, "", "", one.data, one.shapes, one.values, one.seed, one.samples or SAMPLES)

    def _leave_reproducer(self, error: PassError, witness: Witness, progress: Bars) -> None:
        """Add to the error which distribution the pass is of, if it is another's, and where a reproducer lies."""
        from .reproduce import leave_reproducer, others_owner

        asked = self.request
        owner = others_owner(error)
        words = f"{error} (a pass of {owner})" if owner else str(error)
        error.args = (words,)
        if asked.reproducer is None:
            return
        folder = leave_reproducer(
            error,
            witness,
            self.asked(),
            asked.reproducer,
            synthetic=asked.synthetic_weights,
            progress=progress,
            idle_limit=_idle_limit(asked),
            model_before=self.model_before,
        )
        if folder is not None:
            error.args = (f"{words}; onnxpress reproduce {folder} shows it again",)

    def _check_targets(self, model: Model) -> None:
        """UserError if a file would be written over one that the model is read from."""
        from ..backends.files import check_writable

        if self.output is not None:
            check_writable(self.output, model, in_place=self.request.in_place)
        if self.request.report is not None:
            check_writable(self.request.report, model)

    def _latency(self, original: Model, result: Model) -> Mapping[str, Any]:
        from .timing import latency_dict, time_models

        asked = self.request
        return latency_dict(time_models(original, result, data=asked.data or None, pins=self.pins, seed=asked.seed))

    def write(self, model: Model, report: Report) -> None:
        """Write the model, then the report; LimitError, and nothing is written, if the result runs unlike the input, or
        is the input although a pass was to change it."""
        from ..api import save

        _refuse_mismatch(report)
        self._refuse_nothing(report)
        asked = self.request
        if self.output is not None:
            save(model, self.output, external_above=self.external_above, in_place=asked.in_place)
        if asked.report is not None:
            from ..atomic import write_file
            from .json_text import json_text

            write_file([memoryview(f"{json_text(report.as_dict())}\n".encode())], asked.report)

    def _refuse_nothing(self, report: Report) -> None:
        """LimitError if passes ran that were to change the model, and none of them did, whatever others did."""
        from ..errors import LimitError
        from ..passes.manager.base import walk_passes
        from ..passes.manager.report import Fate
        from ..passes.manager.text import pass_text

        must = [pass_text(inner) for outer in self.passes for inner in walk_passes(outer) if inner.must_change]
        ran = all(step.fate is Fate.RAN for step in report.steps)
        did = any(step.changed for outer in report.steps for step in outer.walk() if step.text in must)
        if must and ran and not did:
            others = "only other passes changed something" if report.changed else "nothing changed"
            raise LimitError(f"{others}, and nothing is written: {', '.join(must)} found nothing to do; see remarks")


def _idle_limit(asked: Request) -> float | None:
    """Seconds after which a pass without a sign of life is stopped."""
    from ..passes.manager.manager import IDLE_LIMIT

    return IDLE_LIMIT if asked.pass_timeout is None else asked.pass_timeout or None


def plan(request: Request) -> Job:
    """Check what costs little, in the order in which a person would look; UserError for the first that is wrong."""
    from ..passes.manager.named import text_of
    from ..passes.manager.text import parse_pipeline

    passes = parse_pipeline(text_of(request.pipeline))
    if not request.measure:
        _check_unmeasured(request, passes)
    budget = _budget(request.budget)
    pins = pins_of(request.shapes, request.values)
    external_above = _external_above(request.external_above)
    check_exists(request.source)
    output = output_of(request.source, request.output, in_place=request.in_place)
    if request.report is not None:
        check_target(request.report, "--report")
        used = [request.source, *([output] if output else []), *map(Path, request.data)]
        check_apart(request.report, "--report", used)
    check_data_files(request.data)
    printer = printer_for(request.print_ir, passes, request.print_ir_dir, as_diff=request.print_ir_diff)
    return Job(request, passes, budget, printer, pins, output, external_above)


def _budget(texts: Sequence[str]) -> Sequence[Limit]:
    if not texts:
        return ()
    from ..backends.metrics import Limit

    return [Limit.parse(text) for text in texts]


def _check_unmeasured(request: Request, passes: Pipeline) -> None:
    """UserError if something else that was asked for takes measuring."""
    from ..errors import UserError
    from ..passes.manager.base import walk_passes
    from ..passes.manager.text import pass_text

    judged = (inner for pass_ in passes for inner in walk_passes(pass_) if inner.needs_judge)
    asked = {
        "--budget": bool(request.budget),
        "--verify-each numbers": request.verify_each == "numbers",
        "--samples": request.samples is not None,
        "--time": request.timed,
        **{f"the pass {pass_text(inner)!r}": True for inner in judged},
    }
    for what, needs_inputs in asked.items():
        if needs_inputs:
            raise UserError(f"--no-measure runs the models on no inputs, which {what} needs: leave one of them out")


def _external_above(text: str | None) -> int | None:
    from ..backends.files import EXTERNAL_ABOVE
    from ..errors import UserError

    size = size_of(text, "--external-above")
    if size is not None and size > EXTERNAL_ABOVE:
        raise UserError(f"--external-above {text}: an ONNX file holds less than 2 GiB; give at most {EXTERNAL_ABOVE}")
    return size


def _refuse_mismatch(report: Report) -> None:
    from ..errors import LimitError

    for error, session in ((report.after.error, "reference"), (report.deployment_error, "deployment")):
        if error is not None and math.isinf(error["unequal"]):
            why = report.after.unmeasured or "an output has another shape or type, or NaN or Inf at other places"
            raise LimitError(
                f"the result does not run as the input does ({session} session): {why}; nothing is written"
            )
