"""`onnxpress print MODEL`: a model as text."""

from __future__ import annotations

import click

from .options import debug_option


@click.command("print", short_help="Print a model as text.")
@click.argument("model", metavar="MODEL")
@click.option("--full", is_flag=True, help="Every field of the source, so that the text can be parsed back.")
@debug_option
def command(model: str, full: bool) -> None:
    """Print MODEL as text: short, with the types that follow from its inputs; or --full."""
    from ..api import load
    from ..ir.analysis.shapes import infer_shapes
    from ..ir.text import print_model

    loaded = load(model)
    text = print_model(loaded, full=True) if full else print_model(loaded, types=infer_shapes(loaded).type)
    click.echo(text, nl=False)
