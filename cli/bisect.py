"""`onnxpress bisect IN -p PIPELINE --when CONDITION`: which pass, which rewrite, which node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import TargetPath, debug_option, input_options, samples_option
from .reduce import WHEN

if TYPE_CHECKING:
    from ..passes.debug.bisect import Guilty

_PATH = click.Path(path_type=Path)


@click.command("bisect", short_help="Find the pass, the rewrite and the node that bring a condition about.")
@click.argument("source", metavar="IN", type=_PATH)
@click.option("-p", "--pipeline", required=True, metavar="PIPELINE", help="The passes, or @FILE.")
@click.option("--when", required=True, metavar="CONDITION", help=WHEN)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=TargetPath(),
    help="Write the smallest model that shows it here, its inputs beside it.",
)
@input_options
@samples_option(4, 4)
@click.option("--trials", type=click.IntRange(min=1), default=200, metavar="N", help="Slices to try at most (200).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@debug_option
def command(
    source: Path,
    pipeline: str,
    when: str,
    output: Path | None,
    data: tuple[str, ...],
    shapes: tuple[str, ...],
    values: tuple[str, ...],
    seed: int,
    samples: int,
    trials: int,
    as_json: bool,
) -> None:
    """Name the first pass of PIPELINE after which CONDITION holds, then the application of a rule, then the node.

    Exit code 1 if it does not hold after the whole pipeline, or holds before it.
    """
    from .progress import bars
    from .question import Asked, check_slice, pose, write_slice

    if output is not None:
        check_slice(output, [source, *map(Path, data)])
    with bars() as progress:
        question = pose(Asked(source, pipeline, when, data, shapes, values, seed, samples), progress)
        from ..passes.debug.bisect import bisect

        guilty = bisect(question.model, question.feeds, question.condition, trials=trials)
    if output is not None and guilty.slice is not None:
        write_slice(guilty.slice, output)
    if as_json:
        from .json_text import json_text

        click.echo(json_text(_as_dict(guilty, output)))
        return
    for line in _lines(guilty, output):
        click.echo(line)


def _lines(guilty: Guilty, output: Path | None) -> list[str]:
    from .words import plural

    lines = [f"pass {guilty.position} of {guilty.passes}: {guilty.text}"]
    if guilty.rule:
        inner = f" of {guilty.by}" if guilty.by and not guilty.text.startswith(guilty.by) else ""
        lines.append(f"application {guilty.application} of {guilty.applications} of rule {guilty.rule!r}{inner}")
    if guilty.node:
        lines.append(f"node {guilty.node}")
    if guilty.slice is None:
        lines.append("slice: none, no part of the model shows it")
    else:
        size = plural(guilty.slice.nodes, "node")
        where = f"{output} ({size})" if output else f"{size} (-o writes it)"
        shown = "" if guilty.slice_pipeline == guilty.text else f", shown by {guilty.slice_pipeline}"
        lines.append(f"slice: {where}{shown}")
    return lines


def _as_dict(guilty: Guilty, output: Path | None) -> dict[str, Any]:
    found = {key: value for key, value in vars(guilty).items() if key not in ("slice", "text")}
    nodes = None if guilty.slice is None else guilty.slice.nodes
    return {"pass": guilty.text, **found, "slice_nodes": nodes, "slice": None if output is None else str(output)}
