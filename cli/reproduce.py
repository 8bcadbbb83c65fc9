"""`onnxpress reproduce FOLDER`: run a reproducer, and what writes one when a pass of a run fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import debug_option
from .versions import missing, other_versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import PassError
    from ..ir import Model
    from ..passes.debug.failure import Failure
    from ..passes.debug.lab import Feeds, Lab
    from ..passes.debug.reproducer import Reproducer
    from ..passes.manager.base import Pass
    from ..passes.manager.text import Pipeline
    from .progress import Bars
    from .question import Asked
    from .witness import Witness

_PATH = click.Path(path_type=Path)
_TRIALS, _DEATH_TRIALS = 200, 100
"""Models that are tried at most; where the process dies each trial is a process."""


@click.command("reproduce", short_help="Run a reproducer, which a failing pass left.")
@click.argument("folder", metavar="FOLDER", type=_PATH)
@debug_option
def command(folder: Path) -> int:
    """Run what FOLDER holds, and say whether the pass fails as it did.

    Exit code 0 if it does, 1 if it does not, 2 if the folder is no reproducer or its pass is not installed.
    """
    from ..passes.debug.failure import Failure
    from ..passes.debug.reproducer import read_reproducer

    kept = read_reproducer(folder)
    if kept.failure.is_death:
        return _run_apart(folder, kept)
    found = _run(folder, kept)
    for line in other_versions(kept.versions):
        click.echo(line, err=True)
    if found is None:
        click.echo(f"not reproduced: no pass fails; it was: {kept.failure.message}")
        return 1
    seen = Failure.of(found)
    if not seen.same_as(kept.failure, to_the_line=False):
        click.echo(f"not reproduced: it fails in another way: {seen.message}; it was: {kept.failure.message}")
        return 1
    click.echo(f"reproduced: {seen.message}")
    return 0


def _run_apart(folder: Path, kept: Reproducer) -> int:
    """The same for a failure that ends the process: it runs in another one."""
    from ..api import load, samples_for
    from ..backends import default_backend
    from ..backends.interface import Pins
    from ..passes.debug.reproducer import INPUTS, MODEL
    from .question import run_apart

    passes, model = _passes(kept), load(folder / MODEL)
    feeds: Feeds = ()
    if (folder / INPUTS).is_file() and (kept.gives_data or kept.measured):
        feeds = tuple(samples_for(model, str(folder / INPUTS), default_backend(), Pins(), kept.seed))
    ending = run_apart(model, passes, feeds, kept.seed)
    for line in other_versions(kept.versions):
        click.echo(line, err=True)
    if ending.came_to_end:
        click.echo(f"not reproduced: the run comes to its end, with {ending.kind}; it was: {kept.failure.message}")
        return 1
    if ending.kind != kept.failure.kind:
        click.echo(f"not reproduced: {ending.kind} ended the process; it was: {kept.failure.message}")
        return 1
    click.echo(f"reproduced: {kept.failure.message}")
    return 0


def _run(folder: Path, kept: Reproducer) -> Exception | None:
    """The failure, None if there is none."""
    from ..api import PassManager, load
    from ..errors import PassError
    from ..passes.debug.reproducer import INPUTS, MODEL

    passes = _passes(kept)
    data = str(folder / INPUTS) if (folder / INPUTS).is_file() else None
    model = load(folder / MODEL)
    manager = PassManager(passes, seed=kept.seed, measure=kept.measured, idle_limit=kept.idle_limit)
    try:
        manager.run(model, data=data if kept.gives_data or kept.measured else None)
    except PassError as error:
        return error
    return None


def _passes(kept: Reproducer) -> Pipeline:
    """The pipeline; UserError with the distribution to install if its pass is not known here."""
    from ..errors import UserError
    from ..passes.manager.text import parse_pipeline

    try:
        return parse_pipeline(kept.pipeline)
    except UserError as error:
        absent = missing(kept.versions)
        if not absent:
            raise
        raise UserError(f"{error}\n  the reproducer was made with {', '.join(absent)}, not installed here") from error


NOT_AGAIN = "the pass does not fail again on the same model"


def others_owner(error: PassError) -> str:
    """The distribution, with its version, that a failed pass is of; empty if that is onnxpress itself, or unknown."""
    from ..passes.manager.base import Pass

    return owner_of_others(error.failed_pass) if isinstance(error.failed_pass, Pass) else ""


def owner_of_others(pass_: Pass) -> str:
    """The same for a pass, with the class."""
    from ..passes.manager.registry import distribution_of

    owners = [f"{name} {version}" for name, version in distribution_of(pass_).items() if name != "onnxpress"]
    return ", ".join([*owners, f"{type(pass_).__module__}:{type(pass_).__qualname__}"]) if owners else ""


def leave_reproducer(
    error: Exception,
    witness: Witness,
    asked: Asked,
    parent: Path,
    *,
    synthetic: bool,
    progress: Bars,
    idle_limit: float | None,
    model_before: Callable[[int, Bars], tuple[Pass, Model] | None],
) -> Path | None:
    """Write a reproducer of a failed run below `parent`; None, and a line on stderr that says why, if there is none.

    What a pass did past the rewriter nothing can undo: then `model_before` makes the model before it once more.
    """
    from ..passes.debug.failure import Failure
    from .question import make_lab

    if witness.seen is None:
        return None
    failure, lab = Failure.of(error), make_lab(asked.seed, progress, idle_limit=idle_limit)
    left = leave(failure, *witness.seen, asked, parent, lab, synthetic=synthetic)
    if left is NOT_AGAIN and (found := model_before(witness.number, progress)) is not None:
        left = leave(failure, *found, asked, parent, lab, synthetic=synthetic)
    if isinstance(left, Path):
        return left
    click.echo(f"onnxpress: no reproducer: {left}", err=True)
    return None


def leave(
    failure: Failure, pass_: Pass, model: Model, asked: Asked, parent: Path, lab: Lab, *, synthetic: bool
) -> Path | str:
    """Write a reproducer of a pass that failed on a model below `parent`; words that say why if there is none."""
    from .. import __version__
    from ..api import save
    from ..backends.ort import versions
    from ..errors import OnnxpressError
    from ..passes.debug.reproducer import Case, reduce_case, write_reproducer
    from .options import pins_of
    from .question import feeds_of

    try:
        feeds = feeds_of(model, asked, pins_of(asked.shapes, asked.values), lab)
    except OnnxpressError:
        feeds = ()  # a model that does not run has none; the pass may fail all the same
    case = Case(pass_, model, failure, feeds, gives_data=bool(asked.data) and bool(feeds))
    found = reduce_case(case, lab, synthetic=synthetic, trials=_DEATH_TRIALS if failure.is_death else _TRIALS)
    if found is None:
        return NOT_AGAIN
    reduction, measured = found
    facts = {"onnxpress": __version__, **versions()}
    try:
        return write_reproducer(parent, case, reduction, measured=measured, seed=asked.seed, versions=facts, save=save)
    except OSError as problem:
        return str(problem)
