"""`onnxpress run IN -p PIPELINE [-o OUT]`: the main job. Without -o it is a dry run with the full report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .ir_printer import EVERY
from .options import debug_option, input_options

if TYPE_CHECKING:
    from ..passes.manager.report import Report
    from .job import Job

_PATH = click.Path(path_type=Path)
_PRINT = "--print-ir-after"


class _RunCommand(click.Command):
    """Takes `--print-ir-after` without a value too; a value is joined with `=`, so that the next word is not taken."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f"{_PRINT}={EVERY}" if arg == _PRINT else arg for arg in args])


@click.command("run", cls=_RunCommand, short_help="Run a pipeline over a model: tell its price, write the result.")
@click.argument("source", metavar="IN", type=_PATH)
@click.option("-p", "--pipeline", required=True, metavar="PIPELINE", help="Passes: fold,dce,quantize-insert{form=dq}.")
@click.option("-o", "--output", metavar="OUT", type=_PATH, help="Write the result here; without it this is a dry run.")
@click.option("--in-place", is_flag=True, help="Replace IN by the result.")
@input_options
@click.option("--report", metavar="R.json", type=_PATH, help="Write the whole report as JSON.")
@click.option("--time", "timed", is_flag=True, help="Time the result against IN: interleaved runs, one thread.")
@click.option(_PRINT, metavar="[=PASS]", help="Print the model on stdout after PASS, or after every pass.")
@click.option("--external-above", metavar="SIZE", help="Put weights in a data file beside a larger OUT: 1GB.")
@click.option("--remarks", type=click.Choice(["missed", "all"]), default="missed", help="Which remarks to show.")
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
    report: Path | None,
    timed: bool,
    print_ir_after: str | None,
    external_above: str | None,
    remarks: str,
    quiet: bool,
) -> None:
    """Run PIPELINE over the model IN, tell its price, and write the result to OUT.

    The table and the remarks go to stderr. Nothing is written unless all passes succeed and the result runs as IN does.
    """
    from .job import Request, plan
    from .progress import bars
    from .report_tables import show_report

    job = plan(
        Request(
            source,
            pipeline,
            output,
            in_place,
            data,
            shapes,
            values,
            seed,
            report,
            timed,
            print_ir_after,
            external_above,
        )
    )
    with bars(quiet=quiet or bool(job.printers)) as progress:
        model, found = job.run(progress)
    if not quiet:
        show_report(found, all_remarks=remarks == "all")
    job.write(model, found)
    if not quiet:
        click.echo(_last_line(job, found), err=True)


def _last_line(job: Job, report: Report) -> str:
    from .words import bytes_text, ratio_text

    before, after = report.before.file_bytes, report.after.file_bytes
    sizes = f"{bytes_text(before)} -> {bytes_text(after)}, {ratio_text(after, before)}"
    if job.output is None:
        return f"\nDry run, nothing written (-o OUT writes the result): {sizes}"
    return f"\nWrote {job.output}: {sizes}"
