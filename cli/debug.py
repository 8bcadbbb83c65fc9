"""`onnxpress debug A B`: where in B the error is born."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import debug_option, input_options, pins_of, samples_option

if TYPE_CHECKING:
    from ..passes.debug.births import Birth, Births

_PATH = click.Path(path_type=Path)


@click.command("debug", short_help="Compare two models value by value: where is error born, and why?")
@click.argument("a", metavar="IN", type=_PATH)
@click.argument("b", metavar="OUT", type=_PATH)
@input_options
@samples_option(2, 2)
@click.option("--top", type=click.IntRange(min=1), default=10, metavar="N", help="Places to show and explain (10).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@debug_option
def command(
    a: Path,
    b: Path,
    data: tuple[str, ...],
    shapes: tuple[str, ...],
    values: tuple[str, ...],
    seed: int,
    samples: int,
    top: int,
    as_json: bool,
) -> None:
    """Rank the places of OUT by the error that is born there, on inputs that carry none, and name the mechanism.

    Values correspond by name, and by structure where names were lost, in the bodies that each input executes too.
    `born` is the error of a place alone, `total` that with all that is carried to it, `outputs` what the place alone
    costs the outputs; all are rel-l2, in the reference configuration.

    Exit code 1 if the models cannot be compared.
    """
    from ..errors import ExecutionError, LimitError
    from .checks import check_data_files, check_exists
    from .progress import bars

    for path in (a, b):
        check_exists(path)
    check_data_files(data)
    pins = pins_of(shapes, values)
    from ..api import load
    from ..backends.metrics import measure
    from ..passes.debug.births import births
    from .question import Asked, feeds_of, make_lab

    with bars() as progress:
        with progress.working("reading"):
            one, other = load(a), load(b)
        lab = make_lab(seed, progress)
        feeds = feeds_of(one, Asked(a, "", "", data, shapes, values, seed, samples), pins, lab)
        try:
            found = births(one, other, feeds, lab.backend, measure, progress, top=top)
        except ExecutionError as error:
            raise LimitError(f"the models cannot be compared: {error}") from error
    if not found.compared:
        raise LimitError(f"no value of {b} corresponds to one of {a}")
    if as_json:
        from .json_text import json_text

        click.echo(json_text({**vars(found), "places": [vars(birth) for birth in found.places]}))
        return
    _show(found, top, f"{len(feeds)} {'samples' if data else 'generated inputs'}")


def _show(found: Births, top: int, on: str) -> None:
    from .tables import show_table

    renamed = f" ({found.renamed} by structure)" if found.renamed else ""
    click.echo(f"{found.compared} values correspond{renamed}, {found.apart} lie between them; compared on {on}.")
    if found.refuted:
        click.echo(f"Not what they are called in IN, as numbers show: {', '.join(found.refuted)}.")
    if found.unjudged:
        click.echo(f"Not judged, since the region does not run alone: {', '.join(found.unjudged)}.")
    if not found.places:
        click.echo("No error is born anywhere.")
        return
    rows = [_row(rank, birth) for rank, birth in enumerate(found.places[:top], 1)]
    show_table(("rank", "value", "node", "op", "born", "total", "outputs", "mechanism"), rows, text=(1, 2, 3, 7))
    if len(found.places) > top:
        click.echo(f"\n{len(found.places) - top:,} more places (--top shows them).")


def _row(rank: int, birth: Birth) -> tuple[Any, ...]:
    from .words import error_text

    cost = "-" if birth.cost is None else error_text(birth.cost)
    errors = (error_text(birth.born), error_text(birth.total), cost)
    value = f"{birth.value} (was {birth.original})" if birth.original else birth.value
    node = f"{birth.body}/{birth.node}" if birth.body else birth.node
    return (str(rank), value, node, birth.op_type, *errors, birth.mechanism)
