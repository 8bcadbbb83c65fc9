"""`onnxpress print MODEL`: a model as text, or what of it goes together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from .options import debug_option

if TYPE_CHECKING:
    from ..ir import Model


@click.command("print", short_help="Print a model as text.")
@click.argument("model", metavar="MODEL")
@click.option("--full", is_flag=True, help="Every field of the source, so that the text can be parsed back.")
@click.option(
    "--groups",
    type=click.Choice(["channel", "head"]),
    help="Instead, which axes `prune` would cut together, what follows, and what stays for which reason.",
)
@debug_option
def command(model: str, full: bool, groups: Literal["channel", "head"] | None) -> None:
    """Print MODEL as text: short, with the types that follow from its inputs; or --full; or its --groups."""
    from ..api import load

    if groups is not None:
        if full:
            raise click.UsageError("--groups and --full do not go together")
        _print_groups(load(model), groups)
        return
    from ..ir.analysis.shapes import infer_shapes
    from ..ir.text import print_model

    loaded = load(model)
    text = print_model(loaded, full=True) if full else print_model(loaded, types=infer_shapes(loaded).type)
    click.echo(text, nl=False)


def _print_groups(model: Model, unit: Literal["channel", "head"]) -> None:
    """The groups of the folded model, as `prune` sees it."""
    from ..api import PassManager
    from ..passes.prune.channels.found import groups_of

    PassManager("fold", measure=False).run(model)
    found = list(groups_of(model, unit))
    for group in found:
        click.echo(f"{group}\n")
    free = sum(len(group.free) for group in found)
    click.echo(f"{len(found)} groups, {free} of {sum(group.count for group in found)} {unit}s can be cut")
