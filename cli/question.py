"""What `bisect` and `reduce` are asked: does a pipeline do this to that model? And the lab that tries it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UserError
from .checks import check_apart, check_data_files, check_exists, check_target
from .options import pins_of

if TYPE_CHECKING:
    from ..backends.interface import Pins
    from ..ir import Model
    from ..passes.debug.condition import Condition, Finding
    from ..passes.debug.lab import Ending, Feeds, Lab
    from ..passes.debug.reduce import Reduction
    from ..passes.manager.base import Pass
    from ..passes.manager.judging import Judge
    from .progress import Bars

_CHILD = "import sys; from onnxpress.cli.main import main; code = main(sys.argv[1:]); print({!r}); sys.exit(code)"
_AT_THE_END = "onnxpress: at the end"


@dataclass(frozen=True)
class Asked:
    """The question in its own words."""

    source: Path
    pipeline: str
    when: str
    data: tuple[str, ...]
    shapes: tuple[str, ...]
    values: tuple[str, ...]
    seed: int
    samples: int


@dataclass(frozen=True)
class Question:
    """A model, a condition that holds of it, the feeds that it holds on, and what was seen."""

    model: Model
    condition: Condition
    feeds: Feeds
    finding: Finding


def pose(asked: Asked, progress: Bars) -> Question:
    """Read and check all that was asked; LimitError if the condition does not hold of the model."""
    from ..api import load
    from ..backends.metrics import METRICS
    from ..passes.debug.condition import Condition, When
    from ..passes.manager.manager import IDLE_LIMIT
    from ..passes.manager.named import text_of
    from ..passes.manager.text import parse_pipeline

    when = When.parse(asked.when, METRICS)
    passes = parse_pipeline(text_of(asked.pipeline))
    pins = pins_of(asked.shapes, asked.values)
    check_exists(asked.source)
    check_data_files(asked.data)
    with progress.working("reading"):
        model = load(asked.source)
    lab = make_lab(asked.seed, progress, idle_limit=IDLE_LIMIT)
    condition = Condition(when, tuple(passes), lab, gives_data=bool(asked.data))
    with progress.working(str(when)):
        return _answered(condition, model, asked, pins)


def _answered(condition: Condition, model: Model, asked: Asked, pins: Pins) -> Question:
    from ..errors import LimitError

    feeds = feeds_of(model, asked, pins, condition.lab) if condition.runs_models else ()
    finding = condition.examine(model, feeds)
    if not finding.holds and condition.when.kind == "fails" and not condition.measured:
        # a pass that breaks its promise fails only where it is measured
        measured = replace(condition, measured=True)
        return _answered(measured, model, asked, pins)
    if not finding.holds:
        raise LimitError(f"{condition.when} does not hold of {asked.source}: {finding.words}")
    if condition.of(()).examine(model, feeds).holds:
        raise LimitError(f"{condition.when} holds of {asked.source} before any pass: the pipeline has no part in it")
    return Question(model, condition, feeds, finding)


def feeds_of(model: Model, asked: Asked, pins: Pins, lab: Lab) -> Feeds:
    """The first samples of the data, or generated inputs; LimitError if there are none that the model runs."""
    from ..api import samples_for
    from ..backends.judge import Judge
    from ..errors import LimitError

    if asked.data:
        samples = samples_for(model, asked.data, lab.backend, pins, asked.seed)
        return tuple(islice(samples, asked.samples))
    judge = Judge(model, lab.backend, pins=pins, seed=asked.seed, at_most=asked.samples)
    if judge.unmeasured:
        raise LimitError(f"{asked.source} cannot be run: {judge.unmeasured}")
    return judge.feeds


def make_lab(seed: int, progress: Bars, *, idle_limit: float | None = None) -> Lab:
    """The lab with the default executor; a pass without a sign of life for `idle_limit` seconds, if any, is stopped."""
    from ..backends import default_backend
    from ..backends.judge import Judge
    from ..passes.debug.lab import Lab

    backend = default_backend()

    def judge(model: Model, feeds: Feeds) -> Judge:
        samples: Sequence[Mapping[str, Any]] = feeds or ({},)
        return Judge(model, backend, samples=samples, source="the feeds", seed=seed, at_most=len(samples))

    def apart(model: Model, passes: Sequence[Pass], feeds: Feeds) -> Ending:
        return run_apart(model, passes, feeds, seed)

    return Lab(backend, judge, apart, seed=seed, idle_limit=idle_limit, progress=progress)


def run_apart(model: Model, passes: Sequence[Pass], feeds: Feeds, seed: int) -> Ending:
    """Run `onnxpress run` in a process of its own, which sees the modules that this one sees."""
    from ..api import save
    from ..passes.debug.inputs import inputs_npz
    from ..passes.debug.lab import Ending
    from ..passes.manager.text import pass_text

    with tempfile.TemporaryDirectory(prefix="onnxpress-") as folder:
        path, data = Path(folder, "model.onnx"), Path(folder, "inputs.npz")
        save(model, path)
        stored = inputs_npz(feeds)
        if stored is not None:
            data.write_bytes(stored)
        given = ["--data", str(data)] if stored is not None else []
        text = ",".join(map(pass_text, passes))
        call = [sys.executable, "-P", "-c", _CHILD.format(_AT_THE_END), "run", str(path), "-p", text]
        command = [*call, "--quiet", "--no-reproducer", "--seed", str(seed)]
        modules = os.pathsep.join(filter(None, sys.path))
        done = subprocess.run(
            [*command, *given],
            env={**os.environ, "PYTHONPATH": modules},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    return Ending(done.returncode, done.stdout.rstrip().endswith(_AT_THE_END.encode()))


def check_slice(output: Path, others: Sequence[Path]) -> None:
    """UserError if a slice and its inputs cannot be written, or would overwrite one of the other files of the call."""
    for target in (output, inputs_of(output)):
        check_target(target, "-o")
        check_apart(target, "-o", others)
    if inputs_of(output) == output:
        raise UserError(f"-o {output}: the inputs are written to a file of this name; name the model .onnx")


def inputs_of(output: Path) -> Path:
    """Where the inputs of a slice lie."""
    return output.with_suffix(".npz")


def write_slice(found: Reduction, output: Path) -> None:
    """Write a reduced model, and what to feed it into an .npz file beside."""
    from ..api import save
    from ..atomic import write_file
    from ..passes.debug.inputs import inputs_npz

    save(found.model, output)
    inputs = inputs_npz(found.feeds)
    if inputs is not None:
        write_file([memoryview(inputs)], inputs_of(output))
    elif any(found.feeds):
        click.echo(f"{output}: its inputs are not all tensors, and are not written", err=True)
