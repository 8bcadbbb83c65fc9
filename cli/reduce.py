"""`onnxpress reduce IN -p PIPELINE --when CONDITION -o OUT`: the smallest model that still shows something."""

from __future__ import annotations

from pathlib import Path

import click

from .options import TargetPath, debug_option, input_options, samples_option

_PATH = click.Path(path_type=Path)
WHEN = (
    "What to look for: a metric of the result against IN, as rel-l2>1e-3 or sqnr<30dB; fails or fails=TEXT; "
    "invalid (for onnx's checker); refused (by the executor); crash (of the process)."
)


@click.command("reduce", short_help="Shrink a model to the smallest that still shows a condition.")
@click.argument("source", metavar="IN", type=_PATH)
@click.option("-p", "--pipeline", required=True, metavar="PIPELINE", help="The passes that bring it about, or @FILE.")
@click.option("--when", required=True, metavar="CONDITION", help=WHEN)
@click.option(
    "-o", "--output", required=True, metavar="OUT", type=TargetPath(), help="Write the smallest model found here."
)
@input_options
@samples_option(4, 4)
@click.option("--trials", type=click.IntRange(min=1), default=500, metavar="N", help="Models to try at most (500).")
@click.option("--synthetic-weights", is_flag=True, help="Replace weights by seeded ones where it still holds.")
@debug_option
def command(
    source: Path,
    pipeline: str,
    when: str,
    output: Path,
    data: tuple[str, ...],
    shapes: tuple[str, ...],
    values: tuple[str, ...],
    seed: int,
    samples: int,
    trials: int,
    synthetic_weights: bool,
) -> None:
    """Cut IN down to the smallest model found of which CONDITION still holds, with the inputs that show it beside OUT.

    Exit code 1, and nothing is written, if it does not hold of IN. Ctrl-C ends the search with the best so far.
    """
    from .progress import bars
    from .question import Asked, check_slice, pose

    check_slice(output, [source, *map(Path, data)])
    with bars() as progress:
        question = pose(Asked(source, pipeline, when, data, shapes, values, seed, samples), progress)
        from ..passes.debug.reduce import Plan, reduce_model

        lab, condition = question.condition.lab, question.condition
        plan = Plan(trials, synthetic_weights, seed)
        found = reduce_model(question.model, question.feeds, condition.holds, lab.backend, progress, plan)
    from ..errors import LimitError
    from .question import write_slice

    if found is None:
        raise LimitError(f"{when} held of {source} once and then no more: it is a matter of chance")
    write_slice(found, output)
    stopped = f", stopped {found.stopped}" if found.stopped else ""
    click.echo(f"{output}: {found.nodes} of {found.nodes_before} nodes, {found.trials} trials{stopped}")
