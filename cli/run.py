"""`onnxpress run IN -p PIPELINE [-o OUT]`: the main job. Without -o it is a dry run with the full report."""

from __future__ import annotations

import gc
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .ir_printer import EVERY, MOMENTS
from .options import Settings, TargetPath, debug_option, input_options, samples_option

if TYPE_CHECKING:
    from ..passes.manager.report import Report
    from .job import Job, Request
    from .supervise import Trail

_YOUNG = 100_000
"""New objects after which the garbage collector looks at them; by default it does after 700. A model of 500 nodes makes
half as many, nearly all of which are there to the end."""
_PATH = click.Path(path_type=Path)
_PRINTS = tuple(f"--print-ir-{moment}" for moment in MOMENTS)


class _RunCommand(click.Command):
    """Takes `--print-ir-after` without a value too; a value is joined with `=`, so that the next word is not taken."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f"{arg}={EVERY}" if arg in _PRINTS else arg for arg in args])


def _print_options(command: Any) -> Any:
    helps = {
        "before": "Print the model on stdout before PASS, or before every pass.",
        "after": "The same after it.",
        "changed": "The same after it, where it changed something.",
        "failed": "The model that a pass failed on.",
    }
    command = click.option("--print-ir-diff", is_flag=True, help="Print what changed since the last print.")(command)
    command = click.option("--print-ir-dir", metavar="DIR", type=_PATH, help="Print into numbered files in DIR.")(
        command
    )
    for moment in reversed(MOMENTS):
        option = click.option(f"--print-ir-{moment}", multiple=True, metavar="[=PASS]", help=helps[moment])
        command = option(command)
    return command


@click.command("run", cls=_RunCommand, short_help="Run a pipeline over a model: tell its price, write the result.")
@click.argument("source", metavar="IN", type=_PATH)
@click.option(
    "-p",
    "--pipeline",
    required=True,
    metavar="PIPELINE",
    help="Passes: fold,dce,quantize-insert{form=dq}; or @FILE, which holds them.",
)
@click.option(
    "-o", "--output", metavar="OUT", type=TargetPath(), help="Write the result here; without it this is a dry run."
)
@click.option("--in-place", is_flag=True, help="Replace IN by the result.")
@input_options
@samples_option(None, 4)
@click.option(
    "--budget",
    multiple=True,
    metavar="METRIC=X",
    help="Limit of the error against IN: max-abs, rel-l2 and unequal at most X; sqnr, cosine and argmax at least X.",
)
@click.option(
    "--over-budget",
    type=click.Choice(["rollback", "stop"]),
    default="rollback",
    help="What becomes of a pass that breaks the budget: taken back (the default), or the run ends with exit code 1.",
)
@click.option(
    "--verify-each",
    type=click.Choice(["structure", "numbers", "off"]),
    default="structure",
    help="Checked after every pass, inside combinators too: the graph (the default), also errors, or nothing.",
)
@click.option(
    "--pass-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop a pass that shows no sign of life for so long (1800); 0 waits for ever.",
)
@click.option(
    "--no-measure",
    is_flag=True,
    help="Measure no errors: the models are not run on inputs, only the structure is verified.",
)
@click.option("--provenance", is_flag=True, help="Write into OUT what made each node, and how to run it again.")
@click.option("--report", metavar="R.json", type=TargetPath(), help="Write the whole report as JSON.")
@click.option("--time", "timed", is_flag=True, help="Time the result against IN: interleaved runs, one thread.")
@click.option("--timing", is_flag=True, help="Show where the time went, as a tree.")
@click.option("--statistics", is_flag=True, help="Show how often each rule of each pass was applied.")
@_print_options
@click.option("--external-above", metavar="SIZE", help="Put weights in a data file beside a larger OUT: 1GB.")
@click.option(
    "--remarks",
    type=click.Choice(["missed", "failed", "applied", "all"]),
    default="missed",
    help="Which remarks to show; missed (the default) shows failed ones too.",
)
@click.option("--reproducer", metavar="DIR", type=_PATH, help="Where a failing pass leaves a reproducer (beside OUT).")
@click.option("--no-reproducer", is_flag=True, help="Leave none.")
@click.option("--synthetic-weights", is_flag=True, help="Put seeded weights in a reproducer where it still fails.")
@click.option("--quiet", is_flag=True, help="Nothing on stderr but errors.")
@debug_option
def command(
    source: Path,
    pipeline: str,
    output: Path | None,
    in_place: bool,
    data: tuple[str, ...],
    shapes: tuple[str, ...],
    values: tuple[str, ...],
    seed: int,
    samples: int | None,
    budget: tuple[str, ...],
    over_budget: str,
    verify_each: str,
    pass_timeout: float | None,
    no_measure: bool,
    provenance: bool,
    report: Path | None,
    timed: bool,
    timing: bool,
    statistics: bool,
    external_above: str | None,
    remarks: str,
    reproducer: Path | None,
    no_reproducer: bool,
    synthetic_weights: bool,
    quiet: bool,
    print_ir_dir: Path | None,
    print_ir_diff: bool,
    print_ir_before: tuple[str, ...],
    print_ir_after: tuple[str, ...],
    print_ir_changed: tuple[str, ...],
    print_ir_failed: tuple[str, ...],
) -> None:
    """Run PIPELINE over the model IN, tell its price, and write the result to OUT.

    The table and the remarks go to stderr. Nothing is written unless all passes succeed and the result runs as IN does
    (with --no-measure the latter is not tried).
    """
    from .job import Request

    prints = (print_ir_before, print_ir_after, print_ir_changed, print_ir_failed)
    request = Request(
        source,
        pipeline,
        output,
        in_place,
        data,
        shapes,
        values,
        seed,
        samples,
        budget,
        over_budget,
        verify_each,
        pass_timeout,
        report,
        timed,
        dict(zip(MOMENTS, prints, strict=True)),
        print_ir_dir,
        print_ir_diff,
        external_above,
        None if no_reproducer else reproducer or (output.parent if output is not None else Path()),
        synthetic_weights,
        provenance,
        not no_measure,
        not quiet or report is not None,
    )
    trail = _supervised(request, quiet=quiet)
    from .blas import Threads
    from .job import plan
    from .progress import bars

    threads = None if trail is None else Threads()
    job = plan(request)
    if threads is not None:
        _keep_imports()
        threads.start_for(job.passes)
    with bars(quiet=quiet or job.prints_models) as progress:
        model, found = job.run(progress, trail)
    if not quiet or timing or statistics:
        from .report_tables import show_report, show_statistics, show_timing

        if not quiet:
            show_report(found, remarks=remarks)
        if timing:
            show_timing(found)
        if statistics:
            show_statistics(found)
    job.write(model, found)
    if not quiet:
        click.echo(_last_line(job, found), err=True)


def _supervised(request: Request, *, quiet: bool) -> Trail | None:
    """Go on in a child process, and return the trail that it leaves; the parent waits, and ends here. None where the
    call shares the process with others, or cannot be supervised."""
    from .supervise import Ending, Trail, can_supervise, supervise

    settings = click.get_current_context().find_object(Settings)
    if settings is None or not settings.is_process or not can_supervise():
        return None
    trail = Trail()
    gc.freeze()  # what was imported stays, in both: neither looks through it at its end
    death = supervise(trail)
    if death is None:
        settings.at_end = Ending(trail)
        gc.disable()
        return trail
    if death.came_to_end and death.code >= 0:
        raise click.exceptions.Exit(death.code)
    from .death import report_death

    raise click.exceptions.Exit(report_death(death, trail.read()[1], request, quiet=quiet))


def _keep_imports() -> None:
    """Import what every run needs, and let the garbage collector begin only then, and leave out what imports made: it
    stays until the end, as does most of what passes make, so the collector need not look often."""
    import_module("..api", __package__)
    gc.freeze()
    gc.set_threshold(_YOUNG)
    gc.enable()


def _last_line(job: Job, report: Report) -> str:
    from .words import bytes_text, ratio_text

    before, after = report.before.file_bytes, report.after.file_bytes
    sizes = f"{bytes_text(before)} -> {bytes_text(after)}, {ratio_text(after, before)}"
    if job.output is None:
        return f"\nDry run, nothing written (-o OUT writes the result): {sizes}"
    return f"\nWrote {job.output}: {sizes}"
