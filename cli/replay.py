"""`onnxpress replay OUT --input IN [--data D]`: run again what made OUT, and see whether the same bytes come out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import TargetPath, debug_option
from .versions import missing, other_versions

if TYPE_CHECKING:
    from ..ir import Model

_PATH = click.Path(path_type=Path)
_INLINE_BELOW = 2**31 - 2**24
"""Bytes of a message that protobuf can still write."""


@click.command("replay", short_help="Run again what made a model, from its provenance.")
@click.argument("result", metavar="OUT", type=_PATH)
@click.option("--input", "source", required=True, metavar="IN", type=_PATH, help="The model that OUT was made from.")
@click.option("--data", multiple=True, metavar="D", help="The sample data of the run, if it had any.")
@click.option("--any-version", is_flag=True, help="Try it with other versions than those of the run.")
@click.option("-o", "--output", metavar="NEW", type=TargetPath(), help="Write what comes out.")
@debug_option
def command(result: Path, source: Path, data: tuple[str, ...], any_version: bool, output: Path | None) -> int:
    """Run the pipeline that OUT's provenance tells of, with its seed and settings, on IN.

    Exit code 0 if the same bytes come out, 1 if others do, 2 if the input, the data or a version is missing or another.
    """
    from ..api import load, save
    from ..errors import UserError
    from ..passes.manager.provenance import read_runs
    from .checks import check_apart, check_data_files, check_exists, check_target
    from .progress import bars

    check_exists(result)
    check_exists(source)
    check_data_files(data)
    if output is not None:
        check_target(output, "-o")
        check_apart(output, "-o", [result, source, *map(Path, data)])
    wanted, model = load(result), load(source)
    runs = read_runs(wanted)
    if not runs:
        raise UserError(f"{result} has no provenance: write it with onnxpress run --provenance")
    with bars() as progress, progress.working("replaying"):
        differences = _run_again(model, runs[-1], data, any_version=any_version)
    if differences:
        raise UserError(f"{result} cannot be replayed: {'; '.join(differences)}")
    if output is not None:
        save(model, output)
    return _verdict(wanted, model)


def _run_again(model: Model, run: dict[str, Any], data: tuple[str, ...], *, any_version: bool) -> list[str]:
    """What is not as it was; if nothing, `model` is what the pipeline makes of it."""
    from .. import api
    from ..backends import default_backend
    from ..backends.interface import Pins
    from ..errors import UserError
    from ..passes.manager.text import parse_pipeline

    shapes = {name: tuple(shape) for name, shape in run.get("shapes", {}).items()}
    pins = Pins(shapes, run.get("values", {}))
    differences = [] if any_version else other_versions(run["versions"])
    try:
        passes = parse_pipeline(run["pipeline"])
    except UserError as error:
        if not (absent := missing(run["versions"])):
            raise
        return differences or [f"{str(error).partition(chr(10))[0]}, and {', '.join(absent)} is not installed here"]
    manager = api.PassManager(
        passes,
        seed=run["seed"],
        pins=pins,
        measure=run.get("measure", True),
        budget=[f"{metric}={value!r}" for metric, value in run.get("budget", {}).items()],
        over_budget=run.get("over_budget", "rollback"),
        verify_each=run.get("verify_each", "structure"),
        samples=run.get("samples", api.SAMPLES),
        provenance=True,
    )
    samples = api.samples_for(model, data, default_backend(), pins, run["seed"]) if data else None
    here = manager.facts(model, samples)
    if here["input"] != run["input"]:
        differences.append("--input is another model than the one of the run")
    if run.get("data") and not data:
        differences.append("the run had sample data, and there is no --data")
    elif here.get("data") != run.get("data"):
        differences.append("--data holds other samples than those of the run" if data else "the run had no --data")
    if not differences:
        manager.run(model, data=samples)
    return differences


def _verdict(wanted: Model, model: Model) -> int:
    if _same_bytes(wanted, model):
        click.echo("the same bytes")
        return 0
    first, second = (list(one.graph.nodes) for one in (wanted, model))
    here = (pair for pair in zip(first, second, strict=False) if repr(pair[0]) != repr(pair[1]))
    place = next((f"node {one.label!r}" for one, _ in here), "")
    if not place:
        place = "the number of nodes" if len(first) != len(second) else "constants or metadata"
    click.echo(f"other bytes: they first differ in {place}")
    return 1


def _same_bytes(wanted: Model, model: Model) -> bool:
    """Whether both are written as the same bytes; with weights in other files, which are named by their content,
    whether they hold the same."""
    from ..ir import ExternalTensor, emit
    from ..ir.digests import model_digest
    from ..ir.proto import file_size

    outside = any(isinstance(v.tensor, ExternalTensor) for graph in wanted.walk_graphs() for v in graph.initializers)
    if outside or file_size(model) >= _INLINE_BELOW:
        return model_digest(wanted) == model_digest(model)
    first, second = (emit(one).SerializeToString(deterministic=True) for one in (wanted, model))
    return bool(first == second)
