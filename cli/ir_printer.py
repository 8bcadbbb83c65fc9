"""`--print-ir-after`: the model as text on stdout, after one pass or after every pass that changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..passes.manager.instruments import Instrument

if TYPE_CHECKING:
    from ..ir import Model
    from ..passes.manager.base import Pass

EVERY = "*"
"""Stands for every pass."""


class IrPrinter(Instrument):
    """Prints the model behind each pass called `name` that changed it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def after(self, pass_: Pass, model: Model, changed: bool) -> None:
        """Print the model, with the pass in a comment above; of a pass that changed nothing say that alone."""
        from ..ir.text import print_model
        from ..passes.manager.text import pass_text

        if self._name in (EVERY, pass_.name):
            click.echo(f"# after {pass_text(pass_)}{'' if changed else ': unchanged'}")
            if changed:
                click.echo(print_model(model), nl=False)


def printers_for(wanted: str | None, passes: tuple[str, ...]) -> list[IrPrinter]:
    """The instruments for `--print-ir-after`; UserError if the pass is not in the pipeline."""
    if wanted is None:
        return []
    if wanted not in (EVERY, *passes):
        from ..errors import UserError, did_you_mean

        listed = ", ".join(dict.fromkeys(passes)) or "none"
        hint = did_you_mean(wanted, passes)
        raise UserError(f"--print-ir-after={wanted}: not a pass of the pipeline (it has {listed}){hint}")
    return [IrPrinter(wanted)]
