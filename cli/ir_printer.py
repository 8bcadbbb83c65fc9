"""`--print-ir-*`: the model as text around passes, on stdout or in a folder, whole or as a diff."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..passes.manager.instruments import Instrument

if TYPE_CHECKING:
    from ..ir import Model
    from ..passes.manager.base import Pass

EVERY = "*"
"""Stands for every pass."""
MOMENTS = ("before", "after", "changed", "failed")
"""When a model can be printed; `changed` is after a pass that changed it."""


class IrPrinter(Instrument):
    """Prints the model at some moments of some passes: `wanted` maps moments to names of passes.

    Into `folder`, one numbered file each, or to stdout; `as_diff` prints what changed since the last print, or since
    the start where nothing is printed before a pass.
    """

    def __init__(
        self, wanted: Mapping[str, Sequence[str]], folder: Path | None = None, *, as_diff: bool = False
    ) -> None:
        self._wanted = wanted
        self._folder = folder
        self._as_diff = as_diff
        self._last: list[str] = []
        self._count = 0

    @property
    def writes_stdout(self) -> bool:
        """Whether the prints go to stdout."""
        return self._folder is None

    def before(self, pass_: Pass, model: Model) -> None:
        """Print the model, with the pass in a comment above."""
        if self._wants("before", pass_):
            self._print("before", pass_, model)
        elif self._as_diff and not self._last and not self._wanted.get("before"):
            self._last = _lines(model)

    def after(self, pass_: Pass, model: Model, changed: bool) -> None:
        """Print the model; of a pass that changed nothing say that alone."""
        if self._wants("after", pass_):
            self._print("after", pass_, model if changed else None)
        elif changed and self._wants("changed", pass_):
            self._print("after", pass_, model)

    def failed(self, pass_: Pass, model: Model, error: BaseException) -> None:
        """Print the model that the pass failed on."""
        if self._wants("failed", pass_):
            self._print("failed", pass_, model)

    def _wants(self, moment: str, pass_: Pass) -> bool:
        names = self._wanted.get(moment, ())
        return EVERY in names or pass_.name in names

    def _print(self, moment: str, pass_: Pass, model: Model | None) -> None:
        from ..passes.manager.text import pass_text

        words = f"# {moment} {pass_text(pass_)}"
        text = f"{words}: unchanged\n" if model is None else f"{words}\n{''.join(self._shown(model))}"
        self._count += 1
        if self._folder is None:
            click.echo(text, nl=False)
        else:
            (self._folder / f"{self._count:03}-{moment}-{pass_.name}.txt").write_text(text, encoding="utf-8")

    def _shown(self, model: Model) -> Iterable[str]:
        lines = _lines(model)
        last, self._last = self._last, lines
        if not self._as_diff or not last:
            return lines
        import difflib

        return difflib.unified_diff(last, lines, "last print", "now", n=2)


def _lines(model: Model) -> list[str]:
    from ..ir.text import print_model

    return print_model(model).splitlines(keepends=True)


def printer_for(
    wanted: Mapping[str, Sequence[str]], passes: Iterable[Pass], folder: Path | None, *, as_diff: bool
) -> IrPrinter | None:
    """The instrument for the `--print-ir-*` options; UserError if a pass is not in the pipeline, or an option is
    without effect."""
    from ..errors import UserError, did_you_mean
    from ..passes.manager.base import walk_passes

    known = list(dict.fromkeys(inner.name for pass_ in passes for inner in walk_passes(pass_)))
    for moment, names in wanted.items():
        for name in names:
            if name not in (EVERY, *known):
                listed = ", ".join(known) or "none"
                hint = did_you_mean(name, known)
                raise UserError(f"--print-ir-{moment}={name}: not a pass of the pipeline (it has {listed}){hint}")
    if not any(wanted.values()):
        if folder is not None or as_diff:
            option = "--print-ir-dir" if folder is not None else "--print-ir-diff"
            raise UserError(f"{option} says how to print: say when with --print-ir-after or another of that kind")
        return None
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--print-ir-dir {folder}: {error.strerror}") from None
    return IrPrinter(wanted, folder, as_diff=as_diff)
